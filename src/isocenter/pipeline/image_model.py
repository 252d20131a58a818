"""From a finished training on images to a model's folder: judged on validation, with promises, card and pages."""

import inspect
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from isocenter.data.card import ModelCard
from isocenter.data.provenance import Json
from isocenter.formats import model_folder
from isocenter.formats.delimited import csv_text
from isocenter.inference.gate import gate_of, gate_of_frames, gate_of_objects
from isocenter.metrics import reliability as rel
from isocenter.networks.catalogue import network
from isocenter.networks.described import forward_code, layer_kinds
from isocenter.networks.detector import Detector
from isocenter.ops.boxes import mean_edges
from isocenter.pipeline.image_material import Effort, Material
from isocenter.pipeline.images import case_key
from isocenter.pipeline.learn import LOG, PLAN, TRAINING_PAGE, Model
from isocenter.pipeline.outcomes import outcome_of
from isocenter.pipeline.output import whole_folder
from isocenter.pipeline.page import write_evaluation
from isocenter.report.training import NetworkCode, render_training
from isocenter.training.assemble import Promises, doubts_of_calibration
from isocenter.training.images.course import Course
from isocenter.training.images.losses import LOSSES
from isocenter.training.images.plan import Plan, plan_text
from isocenter.training.images.store import Store
from isocenter.training.images.tasks import task_of
from isocenter.training.leaks import hashes_of
from isocenter.version import __version__

_DOUBTED = 20


def written(folder: Path, found: Material, train: Store, course: Course, *, promised: Promises, how: Effort) -> Model:
    """Judge on validation, state promises, and write everything."""
    plan, val = course.plan, course.judged
    spec = plan.spec.model_copy(update={"members": len(course.networks)})
    source = "out-of-fold" if "folds" in course.told else "validation"
    outcome = outcome_of(plan)
    bare = ModelCard(
        plan.task,
        plan.network.name,
        (found.data.answer or outcome.target,),
        tuple(plan.classes),
        (),
        network=spec.model_dump(mode="json"),
        gate=_gate(found, train, plan),
        preparation=plan.preparation.model_dump(mode="json"),
        training=_told(found, train, course, how),
        metrics=_metrics(course),
        lineage=_lineage(plan, how),
    )
    card, evaluation = outcome.promised(bare, found, course, promised, source)
    warnings = (*doubts_of_calibration(card), *_warnings(found, course))
    with whole_folder(folder) as empty:
        model_folder.write_tensors(_tensors(course), card, empty, half=plan.stored == "float16")
        (empty / PLAN).write_text(plan_text(plan), "utf-8")
        (empty / LOG).write_text(_log(course), "utf-8")
        write_evaluation(evaluation, empty, language="en")
        told = [{"step": r.step, "loss": r.loss, "rate": r.rate, **r.validation} for r in course.log]
        page = render_training(
            card, told, plan=plan_text(plan), warnings=warnings, pictures=outcome.examples(course, card),
            doubted=_doubted(course, val, card), network=_code(course),
        )  # fmt: skip
        (empty / TRAINING_PAGE).write_text(page, "utf-8")
    return Model(folder, model_folder.read_card(folder), evaluation, warnings)


def _tensors(course: Course) -> dict[str, Any]:
    """Weights by name; several networks with their number before."""
    if len(course.networks) == 1:
        return dict(course.networks[0].state_dict())
    return {f"{i}.{name}": v for i, net in enumerate(course.networks) for name, v in net.state_dict().items()}


def _code(course: Course) -> NetworkCode:
    """Layers and code of the network and of its loss."""
    module = course.networks[0]
    loss = type(module).losses if isinstance(module, Detector) else LOSSES.get(course.plan.loss.name)
    return NetworkCode(
        layer_kinds(module), forward_code(module), network(course.plan.network.name).source, course.plan.loss.name,
        inspect.getsource(loss) if loss else "",
    )  # fmt: skip


def _doubted(course: Course, val: Store, card: ModelCard) -> list[tuple[str, str, float]]:
    """Validation cases whose stated class got the least (calibrated) probability."""
    if course.plan.task != "classify" or course.final.scores is None:
        return []
    scores = rel.calibrated(np.asarray(course.final.scores, np.float64), card.calibration)
    stated, classes = val.stated(), course.plan.classes
    chances = [float(said[int(row.target)]) for said, row in zip(scores, stated, strict=True)]
    order = np.argsort(chances)[:_DOUBTED]
    return [(stated[i].name, classes[int(stated[i].target)], chances[i]) for i in order if chances[i] < 0.5]


def _gate(found: Material, train: Store, plan: Plan) -> dict[str, Json]:
    """What the images were like that the network saw: of one that makes them better, the poor ones."""
    items = train.items
    some = items[:: max(1, len(items) // 200)]
    task, f = task_of(plan), plan.spec.factor
    shapes = [(max(1, d // f[0]), max(1, h // f[1]), max(1, w // f[2])) for d, h, w in found.seen.shapes]
    spacings = [(d * f[0], h * f[1], w * f[2]) for d, h, w in found.seen.spacings]
    gate = gate_of(
        shapes, spacings, found.seen.quantity, [task.seen(item, plan)[: plan.preparation.channels] for item in some]
    )
    gate["colour"] = gate["colour"] and len(plan.channels) == 1  # three modalities are no colours
    times = [item.times for item in items if item.times is not None]
    if times:
        gate |= gate_of_frames(times)
    marked = [item.objects for item in items if item.objects is not None]
    if marked:
        edges = [(one.classes, mean_edges(one.boxes, plan.preparation.dims)) for one in marked]
        sizes = {name: [e[kind == k] for kind, e in edges] for k, name in enumerate(plan.classes)}
        gate |= gate_of_objects(sizes)
    return gate


def _told(found: Material, train: Store, course: Course, how: Effort) -> dict[str, Json]:
    """What the card says of the training cases, and by which they are known again."""
    salt = secrets.token_hex(8)
    used = {s.case for s in (*found.train.samples, *found.val.samples)}
    keys = {case_key(s) for s in found.data.samples if s.case in used}
    people = sorted({s.patient for s in found.data.samples if s.case in used and s.patient})
    return {
        "data": found.data.path.name,
        "kind": found.data.kind,
        "cases": len(train),
        "validation_cases": len(found.val.samples),
        "patients": len(people) or None,
        "fingerprint": found.seen.as_json(),
        "salt": salt,
        "image_hashes": hashes_of([i.content for i in found.items if (i.split, i.name) in keys], salt),
        "patient_hashes": hashes_of(people, salt),
        "judged_hashes": [] if "folds" in course.told else hashes_of(_judged_only(found), salt),
        "splits": {
            "train": len(found.train.samples),
            "val": len(found.val.samples),
            **({"test": found.data.splits["test"]} if "test" in found.data.splits else {}),
        },
        "dropped_for_leaks": found.dropped,
        "hold_out": how.hold_out,
        "resplit": how.resplit,
        "failed": [*dict.fromkeys((*map(str, found.data.problems), *train.failed, *course.judged.failed))],
        **course.told,
        "seconds": round(course.seconds, 1),
    }


def _judged_only(found: Material) -> list[str]:
    """Contents of validation images that, like their patients, the network never learnt from."""
    fitted = {case_key(s) for s in found.train.samples}
    people = {s.patient for s in found.train.samples if s.patient}
    learnt = {i.content for i in found.items if (i.split, i.name) in fitted}
    own = {case_key(s) for s in found.val.samples if s.patient not in people}
    return [i.content for i in found.items if (i.split, i.name) in own and i.content not in learnt]


def _metrics(course: Course) -> dict[str, Json]:
    """Of the validation cases, and of as many training cases."""
    return {
        "validation": {k: round(v, 6) for k, v in course.final.metrics.items() if np.isfinite(v)},
        "training": {k: round(v, 6) for k, v in course.own.metrics.items() if np.isfinite(v)},
    }


def _lineage(plan: Plan, how: Effort) -> dict[str, Json]:
    from importlib.metadata import version

    return {
        "isocenter": __version__, "versions": {name: version(name) for name in ("numpy", "torch", "safetensors")},
        "plan": plan.model_dump(mode="json"), "budget_s": how.budget_s, "device": how.device,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip


def _log(course: Course) -> str:
    names = sorted({name for row in course.log for name in row.validation})
    head = ("step", "seconds", "learning_rate", "loss", *(f"val_{n}" for n in names))
    rows = [
        (
            r.step,
            r.seconds,
            f"{r.rate:.6g}",
            f"{r.loss:.6g}",
            *(f"{r.validation[n]:.6g}" if n in r.validation else "" for n in names),
        )
        for r in course.log
    ]
    return csv_text([head, *rows])


def _warnings(found: Material, course: Course) -> list[str]:
    texts = list(found.seen.failed[:5])
    gap = course.own.goodness - course.final.goodness
    first = next(iter(course.final.metrics))
    main = next((name for name in outcome_of(course.plan).main if name in course.final.metrics), first)
    own, held = course.own.metrics.get(main), course.final.metrics.get(main)
    if own is not None and held is not None and main != "mae" and own - held > outcome_of(course.plan).gap and gap > 0:
        texts.append(
            f"{main} {own:.3f} on training cases and {held:.3f} on validation cases: the network knows the "
            "training by heart. More cases help most; then augmentation (rotate, elastic, mixup), "
            "schedule.weight_decay and the network's dropout"
        )
    return texts
