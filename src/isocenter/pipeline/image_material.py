"""What a training on images starts from: the cases of each side, what they are like, and what was asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from isocenter.data.dataset import Answers, Dataset, Sample
from isocenter.data.provenance import Json
from isocenter.errors import InputError
from isocenter.ops.memory import free_bytes
from isocenter.pipeline.images import Reader, image_items, twins_of, without_image_leaks
from isocenter.pipeline.inputs import UNLABELLED, open_for
from isocenter.training.images.course import Ways
from isocenter.training.images.division import divide, held_out
from isocenter.training.images.fingerprint import Fingerprint, answers_of, fingerprint
from isocenter.training.images.plan import Plan
from isocenter.training.images.start import Freeze, Start
from isocenter.training.leaks import Item, check
from isocenter.types import Progress

if TYPE_CHECKING:
    from torch import nn

Tell = Callable[[str], None]

_TOLD = 5
"""What is wrong with the data set, as far as it is told while training begins; the card names all."""
_KEPT_SHARE = 0.15
"""Of the free memory, for images as they were read."""


@dataclass(frozen=True)
class Effort:
    """How long, on what, and from where.

    Args:
        budget_s: seconds that the training may take in all; None: the plan's own steps.
        device: `auto`, `cpu`, `cuda`, `mps`.
        processes: that learn together, each from its share of every batch.
        logs: folder for TensorBoard and CSV while it runs.
        plan: a plan, or its file; None: made from the data.
        hold_out: every so-many-th patient becomes a test case; None: as the data set says.
        resplit: set the splits aside that the data set states.
        group: a table's column of patients.
        target: a table's column of the class or value.
        split: a table's column of splits.
        beside: columns of the table that the network sees beside the image.
        drop_leaks: remove the training side of each leak.
        allow_leaks: kinds of leaks with which training goes on.
        force: replace a model that stands there.
        begun: when the budget began to run (`time.monotonic`); None: now.
        start: trained weights to start from: a model, a bundle, a .safetensors file, or read already; None: fresh ones.
        freeze: how much of them does not learn; see `training.images.start.take_over`.
        teachers: trained networks whose answers are learnt.
        ways: what is trained beside, or instead of, one network, in the same time.
    """

    budget_s: float | None = None
    device: str = "auto"
    processes: int = 1
    logs: Path | None = None
    plan: Path | Plan | None = None
    hold_out: int | None = None
    resplit: bool = False
    group: str | None = None
    target: str | None = None
    split: str | None = None
    beside: Sequence[str] = ()
    drop_leaks: bool = False
    allow_leaks: Sequence[str] = field(default=())
    force: bool = False
    begun: float | None = None
    start: str | Start | None = None
    freeze: Freeze = "none"
    ways: Ways = field(default_factory=Ways)
    teachers: Sequence["nn.Module"] = ()


@dataclass(frozen=True, eq=False)
class Material:
    """What a training starts from."""

    data: Dataset
    task: Answers
    seen: Fingerprint
    train: Dataset
    val: Dataset
    items: Sequence[Item]
    dropped: list[Json]
    twins: Sequence[tuple[str, str]]
    reader: Reader


def material(
    path: str | Path,
    task: Answers | None,
    how: Effort,
    *,
    share: float,
    seed: int,
    normal: str = "",
    say: Tell,
    on_progress: Progress | None,
) -> Material:
    """Open a data set, take away what leaks, and part it.

    Args:
        path: of the data set.
        task: None: by its labels.
        how: splits, leaks, columns.
        share: of the patients that are held back for validation where no split says it.
        seed: of the choice of validation patients.
        normal: the class that alone is learnt from; empty: all.
        say: told what was decided.
        on_progress: told what is done.
    Raises: InputError for data sets that cannot be learnt from.
    """
    opened = open_for(task, path, group=how.group, target=how.target, split=how.split)
    data = held_out(opened.without_splits() if how.resplit else opened, how.hold_out)
    for text in (*data.notes, *map(str, data.problems[:_TOLD])):
        say(text)
    if len(data.problems) > _TOLD:
        say(f"and {len(data.problems) - _TOLD} more that are wrong: `isocenter data check` lists all")
    answers = task or answers_of(data)
    lacking = [s.case for s in data.samples if not _labelled(s, answers)]
    if len(lacking) == len(data.samples):
        what = {"segment": "label map", "detect": "objects marked"}.get(answers, "class or value")
        raise InputError(
            f"{data.path}: no case has {what}" if answers == "detect" else f"{data.path}: no case has a {what}"
        )
    data = data.only([s.case for s in data.samples if s.case not in set(lacking)]) if lacking else data
    reader = Reader(int(_KEPT_SHARE * free_bytes()))
    items = image_items(data, read=reader.images, on_progress=on_progress)
    dropped: list[Json] = []
    if len({sample.split for sample in data.samples}) > 1:
        # Two patients of one kind look alike: of parts that nobody but we made, copies alone are leaks.
        allowed = how.allow_leaks if how.hold_out is None else (*how.allow_leaks, "near-image")
        data, dropped = without_image_leaks(data, items, drop=how.drop_leaks, allowed=allowed)
        if dropped:
            say(f"{len(dropped)} leaks removed from the training side")
    twins = twins_of(check(items, kind="image", near=False), data.samples)
    train, val = divide(data, share, seed=seed, twins=twins)
    if normal:
        train = _of_class(train, normal)
    _require_judgeable(train, val, answers)
    pool = replace(data, samples=(*train.samples, *val.samples))
    seen = fingerprint(pool, answers, reader.case, on_progress=on_progress)
    unknown = sum(not sample.patient for sample in data.samples)
    if unknown == len(data.samples):
        say("no patient is stated: each case counts as one patient; name them with --group if that is not so")
    elif unknown:
        say(f"{unknown} of {len(data.samples)} cases state no patient: each of them counts as one")
    say(f"{data.kind}: {len(train.samples)} cases to learn from, {len(val.samples)} to judge by"
        + (f", {data.splits['test']} not looked at" if "test" in data.splits else ""))  # fmt: skip
    return Material(data, answers, seen, train, val, items, dropped, twins, reader)


def _require_judgeable(train: Dataset, val: Dataset, task: Answers) -> None:
    """Refuse sides of a division that can teach or judge nothing, before the time is spent.

    Raises: InputError.
    """
    if task not in ("classify", "regress"):
        return
    for data, side in ((train, "to learn from"), (val, "to judge by (validation)")):
        kinds = {text for sample in data.samples for text in (sample.targets or (sample.target,)) if text}
        if len(kinds) < 2:
            what = "class" if task == "classify" else "value"
            raise InputError(
                f"{data.path}: the {len(data.samples)} cases {side} are all of one {what} ({next(iter(kinds), '')}): "
                "nothing can be told apart; divide them otherwise, or --set validation=0.2 to choose among all patients"
            )


def _of_class(data: Dataset, name: str) -> Dataset:
    """The cases of one class.

    Raises: InputError where there is none.
    """
    some = tuple(sample for sample in data.samples if sample.target == name)
    if not some:
        raise InputError(f"--normal {name}: no case is of this class; there are {', '.join(data.classes()) or 'none'}")
    return replace(data, samples=some)


def _labelled(sample: Sample, task: Answers) -> bool:
    """The case can be learnt from."""
    if task in UNLABELLED:
        return True
    if task == "detect":
        return sample.objects is not None or sample.mask is not None
    return sample.mask is not None if task == "segment" else bool(sample.target or any(sample.targets))


def require_fitting(plan: Plan, found: Material) -> None:
    """Refuse a plan for other data.

    Raises: InputError.
    """
    if plan.task != found.task:
        raise InputError(f"the plan is for {plan.task}, the data set is labelled for {found.task}")
    if plan.network.name == "mask_rcnn" and not found.seen.masks:
        raise InputError("mask_rcnn learns from objects that are drawn, and here not all are: take faster_rcnn")
    if plan.preparation.channels != found.seen.channels and (plan.preparation.channels, found.seen.channels) not in {
        (1, 3),
        (3, 1),
    }:
        raise InputError(f"the plan takes {plan.preparation.channels} channels, the images have {found.seen.channels}")
