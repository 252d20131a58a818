"""`train` on images: data set -> fingerprint -> plan -> run -> a model's folder."""

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from isocenter.data.dataset import Answers, Source
from isocenter.errors import InputError
from isocenter.inference.columns import fitted
from isocenter.inference.runner import device_of
from isocenter.networks.catalogue import settings_of
from isocenter.pipeline.image_material import Effort, Material, Tell, material, require_fitting
from isocenter.pipeline.image_model import written
from isocenter.pipeline.inputs import UNLABELLED
from isocenter.pipeline.learn import PLAN, Model, require_free, require_kinds
from isocenter.training.assemble import Promises
from isocenter.training.images.budget import fitted_to
from isocenter.training.images.choose import Wish, first_plan
from isocenter.training.images.course import Means, run
from isocenter.training.images.loading import load
from isocenter.training.images.plan import Plan, plan_text, read_plan, share_of
from isocenter.training.images.start import Start, read_start
from isocenter.training.images.store import Store
from isocenter.training.images.tasks import task_of
from isocenter.training.images.trials import variant
from isocenter.types import Progress
from isocenter.version import __version__

_MEMORY_SHARE = 0.4
_LEAST_BUDGET_S = 20.0
_NOTE = "asked.json"


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
        task: None: by the labels, or by the plan where labels cannot tell.
        wish: network, seed, fields of the plan.
        effort: budget, device, splits.
        promises: calibration, coverage, operating point.
        on_progress: told what is done.
        tell: told what was decided, in words.
    Raises: InputError for data sets, plans and wishes that cannot be.
    """
    folder, how, wanted = Path(out), effort or Effort(), wish or Wish()
    promised = _promised(promises or Promises())
    begun = time.monotonic() if how.begun is None else how.begun
    say: Tell = tell or (lambda _text: None)
    require_free(folder, force=how.force)
    require_kinds(how.allow_leaks)
    device = device_of(how.device)
    given = _given(how, wanted)
    found = _found(data, task, how, wanted, given, say=say, on_progress=on_progress)
    start = read_start(how.start) if isinstance(how.start, str) else how.start
    checkpoint = folder.with_name(f".{folder.name}.unfinished")
    asked = _asked(found, how, wanted, start)
    left_off = _left_off(checkpoint, asked, force=how.force)
    if left_off is not None:
        say(f"going on with the unfinished training of {checkpoint}")
    plan, deadline = left_off or (_planned(found, how, wanted, given, start), None)
    require_fitting(plan, found)
    memory = _memory()
    stores = [
        load(part, plan, found.reader.case, memory=memory, on_progress=on_progress) for part in (found.train, found.val)
    ]
    found.reader.forget()
    for text in (*stores[0].failed, *stores[1].failed):
        say(f"left out: {text}")
    lacking = "" if how.ways.folds else task_of(plan).lacking(stores[1], plan)
    if lacking:
        raise InputError(
            f"{found.data.path}: none of the {len(stores[1])} validation cases {lacking}: divide them otherwise (--set "
            "validation=0.3, --resplit, --seed)"
        )
    if left_off is None:
        plan, deadline = _with_steps(plan, stores, how, _as_started(wanted, start), device=device, begun=begun, say=say)
        _keep(checkpoint, plan, asked, deadline)
    say(f"plan: {checkpoint / PLAN}")
    means = Means(
        device, how.processes, checkpoint, deadline, start, how.teachers, how.freeze, how.logs, found.twins,
        on_progress,
        say,
    )  # fmt: skip
    try:
        course = run(plan, stores[0], stores[1], how.ways, means)
    except InputError:
        if left_off is None and not any(checkpoint.rglob("unfinished.json")):
            shutil.rmtree(checkpoint, ignore_errors=True)  # refused before the first step: nothing to go on with
        raise
    model = written(folder, found, stores[0], course, promised=promised, how=how)
    shutil.rmtree(checkpoint, ignore_errors=True)
    return model


def _found(
    data: str | Path, task: Answers | None, how: Effort, wanted: Wish, given: Plan | None, *, say: Tell,
    on_progress: Progress | None,
) -> Material:  # fmt: skip
    """The cases of each side, as the plan or the wish divides them."""
    fields = wanted.plan or {}
    seed = wanted.seed if wanted.seed is not None else given.seed if given else 0
    share = given.validation if given else share_of(fields.get("validation"))
    if task is None and given is not None and given.task in UNLABELLED:
        task = given.task  # which no label could tell
    normal = str(fields.get("normal") or (given.normal if given else "")) if task == "anomaly" else ""
    return material(data, task, how, share=share, seed=seed, normal=normal, say=say, on_progress=on_progress)


def _planned(found: Material, how: Effort, wanted: Wish, given: Plan | None, start: Start | None) -> Plan:
    """The given plan, or one that follows from the data; with the columns that are wished for."""
    wish = _as_started(_with_network(wanted, how, found.task), start)
    return _with_columns(given or first_plan(found.seen, found.task, wish, channels=found.data.channels), found, how)


def _promised(wanted: Promises) -> Promises:
    """The operating point of images is Youden's by itself: data sets of images seldom hold each class as often as the
    patients to come, and a probability of one half takes their shares for true.
    """
    return replace(wanted, criterion=wanted.criterion or "youden")


def _given(how: Effort, wish: Wish) -> Plan | None:
    """The plan of a file, with the fields and the seed that are wished for beside it.

    Raises: InputError for a wish that a plan answers already, and for frozen weights without any to start from.
    """
    if how.freeze != "none" and how.start is None:
        raise InputError(f"--freeze {how.freeze}: there are no weights to keep; give some with --from")
    if how.plan is None:
        return None
    if wish.network is not None:
        raise InputError("--plan names its network: leave --network away, or change it with --set network.name=...")
    plan = variant(how.plan if isinstance(how.plan, Plan) else read_plan(how.plan), wish.plan or {})
    return plan if wish.seed is None else plan.changed(seed=wish.seed)


def _as_started(wish: Wish, start: Start | None) -> Wish:
    """The wish for the network to which given weights belong, where none is wished for."""
    if start is None or start.spec is None or wish.network is not None:
        return wish
    own = start.spec.network
    return replace(wish, network=own.name, settings={**own.settings, **(wish.settings or {})})


def _with_network(wish: Wish, how: Effort, task: Answers) -> Wish:
    """Where columns stand beside whole images, a network that joins both, if none is wished for."""
    if not how.beside or wish.network is not None or task not in ("classify", "regress"):
        return wish
    return replace(wish, network="fusion")


def _with_columns(plan: Plan, found: Material, how: Effort) -> Plan:
    """The plan with columns of the table, scaled by the training cases.

    Raises: InputError for columns that no case has, and for tasks that take none.
    """
    if not how.beside:
        return plan
    if plan.task not in ("classify", "regress", "segment"):
        raise InputError(f"--with: columns stand beside images to classify, regress or segment, not to {plan.task}")
    twice = next((name for name in how.beside if list(how.beside).count(name) > 1), None)
    if twice is not None:
        raise InputError(f"--with {twice}: is named twice")
    columns = fitted([sample.groups for sample in found.train.samples], how.beside)
    settings = dict(plan.network.settings)
    if "columns" in type(settings_of(plan.network.name, {})).model_fields:
        settings["columns"] = len(columns)
    told = [column.model_dump() for column in columns]
    return plan.changed(columns=told, network={"name": plan.network.name, "settings": settings})


def _with_steps(
    plan: Plan, stores: Sequence[Store], how: Effort, wish: Wish, *, device: str, begun: float, say: Tell
) -> tuple[Plan, float | None]:
    """The plan with its steps, and the seconds that they may take; None where the plan itself says how many.

    Raises: InputError where nobody says how long it may take, or the time is over already.
    """
    if how.budget_s is None:
        if not plan.schedule.steps:
            raise InputError("how long may it take? Give --budget (20m, 2h), or a plan with schedule.steps")
        return plan, None
    if plan.schedule.steps:
        raise InputError("schedule.steps are stated (--plan, or --set): leave --budget away, or set the steps to 0")
    left = how.budget_s - (time.monotonic() - begun)
    if left < _LEAST_BUDGET_S:
        raise InputError(
            f"--budget: reading the data took {how.budget_s - left:.0f} s of {how.budget_s:.0f} s, and training wants "
            f"{_LEAST_BUDGET_S:.0f} s or more: give more time"
        )
    left -= _afterwards(how.budget_s)
    fitted, last_s = fitted_to(
        plan, stores[0], stores[1], left, wish, given=how.plan is not None, device=device, tell=say
    )
    return fitted, how.budget_s - (time.monotonic() - begun) - _afterwards(how.budget_s) - last_s


def _asked(found: Material, how: Effort, wish: Wish, start: Start | None) -> str:
    """A hash of everything that a training is asked for: an unfinished one is gone on with only if it was the same."""
    cases = [
        (
            s.case, s.split, s.target, s.targets, s.times, [s.groups.get(name) for name in how.beside],
            _stamp(s.mask), _stamp(s.goal), repr(s.objects),
        )
        for s in (*found.train.samples, *found.val.samples)
    ]  # fmt: skip
    contents = sorted(item.content for item in found.items)
    plan = (
        None if how.plan is None else how.plan.read_text("utf-8") if isinstance(how.plan, Path) else plan_text(how.plan)
    )
    told = [
        cases, contents, found.task, repr(wish), plan, how.budget_s, how.hold_out, how.resplit, repr(how.ways),
        how.freeze, tuple(how.beside), how.target, None if start is None else start.origin, __version__,
    ]  # fmt: skip
    return sha256(json.dumps(told).encode()).hexdigest()


def _stamp(source: Source | None) -> list[object] | None:
    """By what a file of the truth is known again: its place, size and time; of a folder, its place."""
    if source is None:
        return None
    path = Path(source.path)
    known = path.stat() if path.is_file() else None
    return [str(source), None if known is None else (known.st_size, known.st_mtime_ns)]


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
    """Seconds kept for promises, pages and writing."""
    return max(3.0, 0.02 * budget_s)
