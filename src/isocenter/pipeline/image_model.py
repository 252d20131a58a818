"""From a finished training on images to a model's folder: judged on validation, with promises, card and pages."""

import inspect
import secrets
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from isocenter.data.card import ModelCard
from isocenter.data.design import Design
from isocenter.data.evaluation import Evaluation, Predictions
from isocenter.data.provenance import Json
from isocenter.evaluation.judge import judge
from isocenter.evaluation.point import point_of
from isocenter.formats import model_folder
from isocenter.formats.delimited import csv_text
from isocenter.inference.answers import segmented, windows_of
from isocenter.inference.gate import gate_of
from isocenter.inference.torch_runtime import TorchRuntime
from isocenter.metrics import reliability as rel
from isocenter.networks.catalogue import network
from isocenter.networks.described import forward_code, layer_kinds
from isocenter.networks.detector import Detector
from isocenter.pipeline.image_material import Effort, Material
from isocenter.pipeline.images import case_key
from isocenter.pipeline.learn import LOG, PLAN, TRAINING_PAGE, Model
from isocenter.pipeline.objects import judged_validation, promised_objects
from isocenter.pipeline.output import whole_folder
from isocenter.pipeline.page import CASES, write_evaluation
from isocenter.report.gallery import boxes_picture, drawn, shown
from isocenter.report.training import NetworkCode, render_training
from isocenter.training.assemble import ALL_LABELS, Promises, promise, promised_volumes
from isocenter.training.images.course import Course
from isocenter.training.images.division import person_of
from isocenter.training.images.losses import LOSSES
from isocenter.training.images.plan import Plan, plan_text
from isocenter.training.images.store import Store
from isocenter.training.leaks import hashes_of
from isocenter.version import __version__

_DOUBTED = 20
_TARGETS = {"classify": "class", "regress": "value", "segment": "labels", "detect": "objects"}


def written(folder: Path, found: Material, train: Store, course: Course, *, promised: Promises, how: Effort) -> Model:
    """Judge on validation, state promises, and write everything."""
    plan, val = course.plan, course.judged
    spec = plan.spec.model_copy(update={"members": len(course.networks)})
    source = "out-of-fold" if "folds" in course.told else "validation"
    card = ModelCard(
        plan.task,
        plan.network.name,
        (_TARGETS[plan.task],),
        tuple(plan.classes),
        (),
        network=spec.model_dump(mode="json"),
        gate=_gate(found, train),
        preparation=plan.preparation.model_dump(mode="json"),
        training=_told(found, train, course, how.hold_out),
        metrics=_metrics(course),
        lineage=_lineage(plan, how),
    )
    if plan.task == "segment":
        volumes, people = course.final.volumes, [person_of(item.sample) for item in val.items]
        assert volumes is not None, "a segmentation has volumes"
        names = (*plan.labels.values(), ALL_LABELS)
        reach = promised_volumes(volumes, names, people, coverage=promised.coverage, seed=plan.seed, source=source)
        card = replace(card, conformal=reach)
        evaluation = _segmentation_summary(course, val, card, source)
    elif plan.task == "detect":
        judged = judged_validation(course, val)
        calibration, point, evaluation = promised_objects(judged, seed=plan.seed, source=source)
        card = replace(card, calibration=calibration, operating_point=point)
        evaluation = _described(evaluation, card, source, "threshold and calibration were chosen on them")
    else:
        design = _design(found, val, plan)
        scores = np.asarray(course.final.scores, np.float64)
        calibration, conformal, point = promise(design, scores, promised, seed=plan.seed, source=source)
        card = replace(card, calibration=calibration, conformal=conformal, operating_point=point)
        evaluation = _validation(design, scores, card, source, seed=plan.seed)
    warnings = tuple(_warnings(found, course))
    with whole_folder(folder) as empty:
        model_folder.write_tensors(_tensors(course), card, empty, half=plan.stored == "float16")
        (empty / PLAN).write_text(plan_text(plan), "utf-8")
        (empty / LOG).write_text(_log(course), "utf-8")
        write_evaluation(evaluation, empty, language="en")
        told = [{"step": r.step, "loss": r.loss, "rate": r.rate, **r.validation} for r in course.log]
        page = render_training(
            card, told, plan=plan_text(plan), warnings=warnings, pictures=_examples(course, val, card),
            doubted=_doubted(course, val, card), network=_code(course),
        )  # fmt: skip
        (empty / TRAINING_PAGE).write_text(page, "utf-8")
    return Model(folder, model_folder.read_card(folder), evaluation, warnings)


def _tensors(course: Course) -> dict[str, Any]:
    """Weights by name; several networks with their number before."""
    if len(course.networks) == 1:
        return dict(course.networks[0].state_dict())
    return {f"{i}.{name}": v for i, net in enumerate(course.networks) for name, v in net.state_dict().items()}


def _examples(course: Course, val: Store, card: ModelCard) -> list[tuple[str, bytes]]:
    """Validation cases as the network sees them: the worst, the middle and the best, with both label maps."""
    if course.plan.task == "detect":
        return _boxed_examples(course, val)
    if course.plan.task != "segment":
        return _whole_examples(course, val, card)
    order = np.argsort(course.final.each)
    chosen = dict.fromkeys(int(order[round(q * (len(order) - 1))]) for q in (0, 0.1, 0.35, 0.5, 0.75, 1))
    spec = course.plan.spec
    found = []
    for i in chosen:
        item, forward = val.items[i], TorchRuntime(course.judges[i], precision=course.plan.precision)
        said = segmented(forward, np.asarray(item.image), spec, windows_of(spec, overlap=0.25, flips=False))
        assert item.mask is not None, "a segmentation has masks"
        slice_number = int((item.mask != said).sum(axis=(1, 2)).argmax())
        grey = shown(item.image[:1], slice_number)
        title = f"{item.sample.case}: Dice {course.final.each[i]:.3f}"
        found.append((title, drawn(grey, item.mask[slice_number], said[slice_number])))
    return found


def _whole_examples(course: Course, val: Store, card: ModelCard) -> list[tuple[str, bytes]]:
    """The validation cases that are judged worst, midway and best, with what is stated and what is said."""
    scores = np.asarray(course.final.scores, np.float64)
    spec = course.plan.spec
    if course.plan.task == "classify":
        scores = rel.calibrated(scores, card.calibration)
        good = np.asarray([row[int(item.target)] for row, item in zip(scores, val.items, strict=True)])
    else:
        good = -np.abs(scores - np.asarray([item.target for item in val.items]))
    order = np.argsort(good, kind="stable")
    found = []
    for i in dict.fromkeys(int(order[round(q * (len(order) - 1))]) for q in (0, 0.05, 0.25, 0.5, 0.75, 1)):
        item = val.items[i]
        if course.plan.task == "classify":
            best = int(scores[i].argmax())
            words = f"{spec.classes[int(item.target)]}; said: {spec.classes[best]} {scores[i, best]:.2f}"
        else:
            words = f"{item.target:g}; said: {scores[i]:.4g}"
        found.append((f"{item.sample.case}: {words}", drawn(shown(item.image, item.image.shape[1] // 2), None, None)))
    return found


def _boxed_examples(course: Course, val: Store) -> list[tuple[str, bytes]]:
    """Some validation cases with the boxes that are stated and the surer half of those that are found."""
    chosen = dict.fromkeys(np.linspace(0, len(val) - 1, min(6, len(val))).round().astype(int).tolist())
    found = []
    for i in chosen:
        item, said = val.items[i], course.final.found[i]
        assert item.objects is not None, "a detection has objects"
        boxes = said.boxes[said.scores >= 0.5]
        picture = boxes_picture(np.asarray(item.image), item.objects.boxes, boxes)
        found.append((f"{item.sample.case}: {len(item.objects)} objects", picture))
    return found


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
    chances = [float(row[int(item.target)]) for row, item in zip(scores, val.items, strict=True)]
    order = np.argsort(chances)[:_DOUBTED]
    return [(val.items[i].sample.case, val.items[i].sample.target, chances[i]) for i in order if chances[i] < 0.5]


def _gate(found: Material, train: Store) -> dict[str, Json]:
    items = train.items
    some = items[:: max(1, len(items) // 200)]
    return gate_of(found.seen.shapes, found.seen.spacings, found.seen.quantity, [np.asarray(i.image) for i in some])


def _told(found: Material, train: Store, course: Course, hold_out: int | None) -> dict[str, Json]:
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
        "hold_out": hold_out,
        "failed": [*dict.fromkeys((*train.failed, *course.judged.failed))],
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


def _design(found: Material, val: Store, plan: Plan) -> Design:
    samples = [item.sample for item in val.items]
    known = found.data.known_patients
    return Design(
        plan.task,
        tuple(s.case for s in samples),
        tuple(person_of(s) for s in samples),
        (),
        np.zeros((len(samples), 0)),
        np.asarray([item.target for item in val.items]),
        tuple(plan.classes),
        known,
        groups={name: tuple(s.groups.get(name, "") for s in samples) for name in samples[0].groups},
    )


def _validation(design: Design, scores: Any, card: ModelCard, source: str, *, seed: int) -> Evaluation:
    """The validation cases; calibration was fitted on them, so calibration is not judged."""
    shown = rel.calibrated(scores, card.calibration) if design.task == "classify" else scores
    found = Predictions(
        design.task,
        design.cases,
        design.patients,
        design.known_patients,
        design.target.astype(int) if design.task == "classify" else design.target,
        shown,
        design.classes,
        name=card.model,
    )
    evaluation = judge(found, point=point_of(card.operating_point), seed=seed)
    notes = ["Validation cases: the network never learnt from them; calibration and threshold were chosen on them."]
    if not design.known_patients:
        notes.append("No patient is known: each case counts as one patient.")
    data = {
        **evaluation.data,
        "split": source,
        "cases": CASES,
        "isocenter": __version__,
        "calibrated": False,
        "notes": notes,
    }
    return replace(evaluation, data=data)


def _described(evaluation: Evaluation, card: ModelCard, source: str, chosen: str) -> Evaluation:
    """A judgement of the validation cases, with what must be known of it."""
    notes = [f"Validation cases: the network never learnt from them; {chosen}."]
    if evaluation.data["n_patients"] is None:
        notes.append("No patient is known: each case counts as one patient.")
    more: dict[str, Json] = {
        "model": card.model, "split": source, "cases": CASES, "isocenter": __version__, "notes": notes,
    }  # fmt: skip
    return replace(evaluation, data={**evaluation.data, **more})


def _segmentation_summary(course: Course, val: Store, card: ModelCard, source: str) -> Evaluation:
    over = "folds" if source == "out-of-fold" else "validation cases"
    metrics: dict[str, Json] = {
        name: {"value": value, "low": None, "high": None, "note": f"mean over {over}"}
        for name, value in course.final.metrics.items() if np.isfinite(value)
    }  # fmt: skip
    rows: list[tuple[object, ...]] = [("case", "dice")]
    rows += [(item.sample.case, round(d, 5)) for item, d in zip(val.items, course.final.each, strict=True)]
    data: dict[str, Json] = {
        "schema_version": 1,
        "task": "segment",
        "model": card.model,
        "n_cases": len(val),
        "n_patients": None,
        "split": source,
        "unit_of_interval": "none",
        "classes": [],
        "metrics": metrics,
        "operating_point": None,
        "subgroups": [],
        "exchangeable": None,
        "not_for_clinical_use": True,
        "cases": CASES,
        "isocenter": __version__,
        "notes": ["Validation cases, on the network's own grid; `isocenter evaluate` judges test cases on theirs."],
    }
    return Evaluation(data, {}, tuple(rows))


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
    mains = {"segment": "dice", "detect": "map50"}
    main = mains.get(found.task, "auc" if "auc" in course.final.metrics else first)
    own, held = course.own.metrics.get(main), course.final.metrics.get(main)
    if own is not None and held is not None and main != "mae" and own - held > 0.08 and gap > 0:
        texts.append(
            f"{main} {own:.3f} on training cases and {held:.3f} on validation cases: the network knows the "
            "training by heart. More cases help most; then augmentation (rotate, elastic, mixup), "
            "schedule.weight_decay and the network's dropout"
        )
    return texts
