"""`train` on images: data set -> fingerprint -> plan -> run -> a model's folder."""

import json
import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from isocenter.acquire.datasets import open_dataset
from isocenter.data.card import ModelCard
from isocenter.data.dataset import Answers, Dataset
from isocenter.data.design import Design
from isocenter.data.evaluation import Evaluation, Predictions
from isocenter.data.provenance import Json
from isocenter.errors import InputError
from isocenter.evaluation.judge import judge
from isocenter.formats import model_folder
from isocenter.formats.delimited import csv_text
from isocenter.inference.answers import segmented, windows_of
from isocenter.inference.gate import gate_of
from isocenter.inference.runner import device_of
from isocenter.inference.torch_runtime import TorchRuntime
from isocenter.metrics import reliability as rel
from isocenter.pipeline.images import hashes_of, image_items, read_case, twins_of, without_image_leaks
from isocenter.pipeline.learn import LOG, PLAN, TRAINING_PAGE, Model, require_free, require_kinds
from isocenter.pipeline.output import whole_folder
from isocenter.pipeline.page import CASES, write_evaluation
from isocenter.report.gallery import drawn
from isocenter.report.training import render_training
from isocenter.training.assemble import Promises, promise
from isocenter.training.images.choose import Wish, first_plan, fitted_to
from isocenter.training.images.division import divide, held_out, person_of
from isocenter.training.images.fingerprint import Fingerprint, answers_of, fingerprint
from isocenter.training.images.loop import Learnt, learn
from isocenter.training.images.plan import Plan, plan_text, read_plan
from isocenter.training.images.store import Progress, Store, load
from isocenter.training.leaks import Item, check
from isocenter.version import __version__

Tell = Callable[[str], None]
_MEMORY_SHARE = 0.4
_LEAST_BUDGET_S = 20.0
_NOTE = "asked.json"
_DOUBTED = 20


@dataclass(frozen=True)
class Effort:
    """How long, on what, and from where.

    Args:
        budget_s: seconds that the training may take in all; None: the plan's own steps.
        device: `auto`, `cpu`, `cuda`, `mps`.
        plan: a plan's file; None: made from the data.
        hold_out: every so-many-th patient becomes a test case; None: as the data set says.
        group: a table's column of patients.
        target: a table's column of the class or value.
        split: a table's column of splits.
        drop_leaks: remove the training side of each leak.
        allow_leaks: kinds of leaks with which training goes on.
        force: replace a model that stands there.
        begun: when the budget began to run (`time.monotonic`); None: now.
    """

    budget_s: float | None = None
    device: str = "auto"
    plan: Path | None = None
    hold_out: int | None = None
    group: str | None = None
    target: str | None = None
    split: str | None = None
    drop_leaks: bool = False
    allow_leaks: Sequence[str] = field(default=())
    force: bool = False
    begun: float | None = None


@dataclass(frozen=True, eq=False)
class _Material:
    """What a training starts from."""

    data: Dataset
    task: Answers
    seen: Fingerprint
    train: Dataset
    val: Dataset
    items: Sequence[Item]
    dropped: list[Json]


def train_images(
    data: str | Path,
    out: str | Path,
    *,
    task: Answers | None = None,
    wish: Wish | None = None,
    effort: Effort | None = None,
    promises: Promises | None = None,
    on_progress: Progress | None = None,
    tell: Tell | None = None,
) -> Model:
    """Train a network on a data set of images.

    Args:
        data: see `acquire.datasets.open_dataset`.
        out: the model's folder.
        task: classify, regress or segment; None: by the labels.
        wish: network, seed, fields of the plan.
        effort: budget, device, splits.
        promises: calibration, coverage, operating point.
        on_progress: told what is done.
        tell: told what was decided, in words.
    Raises: InputError for data sets, plans and wishes that cannot be.
    """
    folder, how, wanted, promised = Path(out), effort or Effort(), wish or Wish(), promises or Promises()
    begun = time.monotonic() if how.begun is None else how.begun
    say: Tell = tell or (lambda _text: None)
    require_free(folder, force=how.force)
    require_kinds(how.allow_leaks)
    device = device_of(how.device)
    found = _material(data, task, how, seed=wanted.seed, say=say, on_progress=on_progress)
    checkpoint = folder.with_name(f".{folder.name}.unfinished")
    asked = _asked(found, how, wanted)
    left_off = _left_off(checkpoint, asked, force=how.force)
    if left_off is not None:
        plan, deadline = left_off
        say(f"going on with the unfinished training of {checkpoint}")
    else:
        given = read_plan(how.plan) if how.plan else None
        plan = given or first_plan(found.seen, found.task, wanted, channels=found.data.channels)
        deadline = None
    _require_fitting(plan, found)
    memory = _memory()
    stores = [load(part, plan, read_case, memory=memory, on_progress=on_progress) for part in (found.train, found.val)]
    for text in (*stores[0].failed, *stores[1].failed):
        say(f"left out: {text}")
    if left_off is None:
        plan, deadline = _with_steps(plan, stores[0], how, wanted, device=device, begun=begun, say=say)
        _keep(checkpoint, plan, asked, deadline)
    say(f"plan: {checkpoint / PLAN}")
    learnt = learn(
        plan, stores[0], stores[1], checkpoint=checkpoint, deadline_s=deadline, device=device, on_progress=on_progress
    )
    model = _written(folder, found, stores, learnt, promised=promised, how=how)
    shutil.rmtree(checkpoint, ignore_errors=True)
    return model


def _with_steps(
    plan: Plan, train: Store, how: Effort, wish: Wish, *, device: str, begun: float, say: Tell
) -> tuple[Plan, float | None]:
    """The plan with its steps, and the seconds that they may take; None where the plan itself says how many.

    Raises: InputError where nobody says how long it may take, or the time is over already.
    """
    if how.budget_s is None:
        if not plan.schedule.steps:
            raise InputError("how long may it take? Give --budget (20m, 2h), or a plan with schedule.steps")
        return plan, None
    if plan.schedule.steps and how.plan:
        raise InputError("--plan states schedule.steps: leave --budget away, or set the steps to 0")
    left = how.budget_s - (time.monotonic() - begun)
    if left < _LEAST_BUDGET_S:
        raise InputError(
            f"--budget: reading the data took {how.budget_s - left:.0f} s of {how.budget_s:.0f} s; give more time"
        )
    fitted = fitted_to(plan, train, left, wish, device=device, tell=say)
    return fitted, how.budget_s - (time.monotonic() - begun) - _afterwards(how.budget_s)


def _asked(found: _Material, how: Effort, wish: Wish) -> str:
    """A hash of everything that a training is asked for: an unfinished one is gone on with only if it was the same."""
    cases = [(s.case, s.split, s.target) for s in (*found.train.samples, *found.val.samples)]
    contents = sorted(item.content for item in found.items)
    plan = how.plan.read_text("utf-8") if how.plan else None
    told = [cases, contents, found.task, repr(wish), plan, how.budget_s, how.hold_out, __version__]
    return sha256(json.dumps(told).encode()).hexdigest()


def _left_off(checkpoint: Path, asked: str, *, force: bool) -> tuple[Plan, float | None] | None:
    """Plan and seconds of a training that was killed; None where there is none.

    Raises: InputError for one that was asked for other things.
    """
    note = checkpoint / _NOTE
    if not note.is_file():
        return None
    try:
        told = json.loads(note.read_text("utf-8"))
        same, deadline = told["asked"] == asked, told["deadline_s"]
    except (OSError, ValueError, KeyError, TypeError):
        same, deadline = False, None
    if same:
        return read_plan(checkpoint / PLAN), None if deadline is None else float(deadline)
    if force:
        shutil.rmtree(checkpoint)
        return None
    raise InputError(
        f"{checkpoint}: holds an unfinished training that was asked for other things; go on with the same command, "
        "remove the folder, or --force"
    )


def _keep(checkpoint: Path, plan: Plan, asked: str, deadline_s: float | None) -> None:
    checkpoint.mkdir(parents=True, exist_ok=True)
    (checkpoint / PLAN).write_text(plan_text(plan), "utf-8")
    (checkpoint / _NOTE).write_text(json.dumps({"asked": asked, "deadline_s": deadline_s}), "utf-8")


def _memory() -> int:
    from isocenter.ops.memory import free_bytes

    return int(_MEMORY_SHARE * free_bytes())


def _afterwards(budget_s: float) -> float:
    """Seconds kept for the last look and for writing."""
    return max(3.0, 0.05 * budget_s)


def _material(
    path: str | Path, task: Answers | None, how: Effort, *, seed: int, say: Tell, on_progress: Progress | None
) -> _Material:
    data = held_out(open_dataset(path, group=how.group, target=how.target, split=how.split), how.hold_out)
    for text in (*data.notes, *data.problems[:5]):
        say(text)
    answers = task or answers_of(data)
    lacking = [s.case for s in data.samples if (s.mask is None if answers == "segment" else not s.target)]
    if len(lacking) == len(data.samples):
        raise InputError(f"{data.path}: no case has a {'label map' if answers == 'segment' else 'class or value'}")
    data = data.only([s.case for s in data.samples if s.case not in set(lacking)]) if lacking else data
    items = image_items(data, on_progress=on_progress)
    dropped: list[Json] = []
    if len(data.splits) > 1:
        data, dropped = without_image_leaks(data, items, drop=how.drop_leaks, allowed=how.allow_leaks)
        if dropped:
            say(f"{len(dropped)} leaks removed from the training side")
    twins = twins_of(check(items, kind="image", near=False))
    train, val = divide(data, 0.15, seed=seed, twins=twins)
    pool = replace(data, samples=(*train.samples, *val.samples))
    seen = fingerprint(pool, answers, read_case, on_progress=on_progress)
    if not data.known_patients:
        say("no patient is stated: each case counts as one patient; name them with --group if that is not so")
    say(f"{data.kind}: {len(train.samples)} cases to learn from, {len(val.samples)} to judge by"
        + (f", {data.splits['test']} not looked at" if "test" in data.splits else ""))  # fmt: skip
    return _Material(data, answers, seen, train, val, items, dropped)


def _require_fitting(plan: Plan, found: _Material) -> None:
    """Refuse a plan for other data.

    Raises: InputError.
    """
    if plan.task != found.task:
        raise InputError(f"the plan is for {plan.task}, the data set is labelled for {found.task}")
    if plan.preparation.channels != found.seen.channels and (plan.preparation.channels, found.seen.channels) not in {
        (1, 3),
        (3, 1),
    }:
        raise InputError(f"the plan takes {plan.preparation.channels} channels, the images have {found.seen.channels}")


def _written(
    folder: Path, found: _Material, stores: Sequence[Store], learnt: Learnt, *, promised: Promises, how: Effort
) -> Model:
    """Judge on validation, state promises, and write everything."""
    plan, val = learnt.plan, stores[1]
    spec = plan.spec
    card = ModelCard(
        plan.task,
        plan.network.name,
        ("class",) if plan.task == "classify" else ("value",) if plan.task == "regress" else ("labels",),
        tuple(plan.classes),
        (),
        network=spec.model_dump(mode="json"),
        gate=_gate(found, stores),
        preparation=plan.preparation.model_dump(mode="json"),
        training=_told(found, stores[0], learnt, how.hold_out),
        metrics=_metrics(learnt),
        lineage=_lineage(plan, how),
    )
    if plan.task == "segment":
        evaluation = _segmentation_summary(learnt, val, card)
    else:
        design = _design(found, val, plan)
        scores = np.asarray(learnt.final.scores, np.float64)
        calibration, conformal, point = promise(design, scores, promised, seed=plan.seed, source="validation")
        card = replace(card, calibration=calibration, conformal=conformal, operating_point=point)
        evaluation = _validation(design, scores, card, seed=plan.seed)
    warnings = tuple(_warnings(found, learnt))
    with whole_folder(folder) as empty:
        model_folder.write_tensors(learnt.network.state_dict(), card, empty)
        (empty / PLAN).write_text(plan_text(plan), "utf-8")
        (empty / LOG).write_text(_log(learnt), "utf-8")
        write_evaluation(evaluation, empty, language="en")
        told = [{"step": r.step, "loss": r.loss, "rate": r.rate, **r.validation} for r in learnt.log]
        page = render_training(
            card, told, plan=plan_text(plan), warnings=warnings, pictures=_examples(learnt, val),
            doubted=_doubted(learnt, val),
        )  # fmt: skip
        (empty / TRAINING_PAGE).write_text(page, "utf-8")
    return Model(folder, model_folder.read_card(folder), evaluation, warnings)


def _examples(learnt: Learnt, val: Store) -> list[tuple[str, bytes]]:
    """Validation cases as the network sees them: the worst, the middle and the best, with both label maps."""
    if learnt.plan.task != "segment":
        return []
    order = np.argsort(learnt.final.each)
    chosen = dict.fromkeys(int(order[round(q * (len(order) - 1))]) for q in (0, 0.1, 0.35, 0.5, 0.75, 1))
    spec = learnt.plan.spec
    forward = TorchRuntime(learnt.network, precision=learnt.plan.precision)
    found = []
    for i in chosen:
        item = val.items[i]
        said = segmented(forward, np.asarray(item.image), spec, windows_of(spec, overlap=0.25, flips=False))
        assert item.mask is not None, "a segmentation has masks"
        slice_number = int((item.mask != said).sum(axis=(1, 2)).argmax())
        grey = np.asarray(item.image[0, slice_number], np.float32)
        low, high = (float(v) for v in np.percentile(grey, (0.5, 99.5)))
        shown = np.clip((grey - low) / ((high - low) or 1.0), 0, 1)
        title = f"{item.sample.case}: Dice {learnt.final.each[i]:.3f}"
        found.append((title, drawn(shown, item.mask[slice_number], said[slice_number])))
    return found


def _doubted(learnt: Learnt, val: Store) -> list[tuple[str, str, float]]:
    """Validation cases whose stated class got the least probability."""
    if learnt.plan.task != "classify" or learnt.final.scores is None:
        return []
    chances = [float(row[int(item.target)]) for row, item in zip(learnt.final.scores, val.items, strict=True)]
    order = np.argsort(chances)[:_DOUBTED]
    return [(val.items[i].sample.case, val.items[i].sample.target, chances[i]) for i in order if chances[i] < 0.5]


def _gate(found: _Material, stores: Sequence[Store]) -> dict[str, Json]:
    items = stores[0].items
    some = items[:: max(1, len(items) // 200)]
    return gate_of(found.seen.shapes, found.seen.spacings, found.seen.quantity, [np.asarray(i.image) for i in some])


def _told(found: _Material, train: Store, learnt: Learnt, hold_out: int | None) -> dict[str, Json]:
    """What the card says of the training cases, and by which they are known again."""
    salt = secrets.token_hex(8)
    used = {s.case for s in (*found.train.samples, *found.val.samples)}
    from isocenter.pipeline.images import case_key

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
        "splits": {
            "train": len(found.train.samples),
            "val": len(found.val.samples),
            **({"test": found.data.splits["test"]} if "test" in found.data.splits else {}),
        },
        "dropped_for_leaks": found.dropped,
        "hold_out": hold_out,
        "failed": [*train.failed],
        "seconds": round(learnt.seconds, 1),
    }


def _metrics(learnt: Learnt) -> dict[str, Json]:
    """Of the validation cases, and of as many training cases."""
    return {
        "validation": {k: round(v, 6) for k, v in learnt.final.metrics.items() if np.isfinite(v)},
        "training": {k: round(v, 6) for k, v in learnt.train_goodness.metrics.items() if np.isfinite(v)},
    }


def _lineage(plan: Plan, how: Effort) -> dict[str, Json]:
    from importlib.metadata import version

    return {
        "isocenter": __version__, "versions": {name: version(name) for name in ("numpy", "torch", "safetensors")},
        "plan": plan.model_dump(mode="json"), "budget_s": how.budget_s, "device": how.device,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip


def _design(found: _Material, val: Store, plan: Plan) -> Design:
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


def _validation(design: Design, scores: Any, card: ModelCard, *, seed: int) -> Evaluation:
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
    evaluation = judge(found, seed=seed)
    notes = ["Validation cases: the network never learnt from them; calibration and threshold were chosen on them."]
    if not design.known_patients:
        notes.append("No patient is known: each case counts as one patient.")
    data = {
        **evaluation.data,
        "split": "validation",
        "cases": CASES,
        "isocenter": __version__,
        "calibrated": False,
        "notes": notes,
    }
    return replace(evaluation, data=data)


def _segmentation_summary(learnt: Learnt, val: Store, card: ModelCard) -> Evaluation:
    metrics: dict[str, Json] = {
        name: {"value": value, "low": None, "high": None, "note": "mean over validation cases"}
        for name, value in learnt.final.metrics.items() if np.isfinite(value)
    }  # fmt: skip
    rows: list[tuple[object, ...]] = [("case", "dice")]
    rows += [(item.sample.case, round(d, 5)) for item, d in zip(val.items, learnt.final.each, strict=True)]
    data: dict[str, Json] = {
        "schema_version": 1,
        "task": "segment",
        "model": card.model,
        "n_cases": len(val),
        "n_patients": None,
        "split": "validation",
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


def _log(learnt: Learnt) -> str:
    names = sorted({name for row in learnt.log for name in row.validation})
    head = ("step", "seconds", "learning_rate", "loss", *(f"val_{n}" for n in names))
    rows = [
        (
            r.step,
            r.seconds,
            f"{r.rate:.6g}",
            f"{r.loss:.6g}",
            *(f"{r.validation[n]:.6g}" if n in r.validation else "" for n in names),
        )
        for r in learnt.log
    ]
    return csv_text([head, *rows])


def _warnings(found: _Material, learnt: Learnt) -> list[str]:
    texts = list(found.seen.failed[:5])
    gap = learnt.train_goodness.goodness - learnt.final.goodness
    first = next(iter(learnt.final.metrics))
    main = "dice" if found.task == "segment" else "auc" if "auc" in learnt.final.metrics else first
    own, held = learnt.train_goodness.metrics.get(main), learnt.final.metrics.get(main)
    if own is not None and held is not None and main != "mae" and own - held > 0.08 and gap > 0:
        texts.append(
            f"{main} {own:.3f} on training cases and {held:.3f} on validation cases: the network knows the "
            "training by heart. More cases help most; then augmentation (rotate, elastic, mixup), "
            "schedule.weight_decay and the network's dropout"
        )
    return texts
