"""A data set as a network sees it: prepared once, kept in memory (or in mapped files where it does not fit)."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from isocenter.data.dataset import Dataset, Sample
from isocenter.data.labels import LabelMap
from isocenter.data.volume import Volume
from isocenter.errors import InputError, IsocenterError
from isocenter.inference.prepare import prepare, prepare_labels
from isocenter.training.images.plan import Plan
from isocenter.types import Array, Progress

Read = Callable[[Sample], tuple[Volume, LabelMap | None]]
"""Reads a case; handed in, since reading is acquisition's."""
_PLACES = 4000
"""Voxels of each label that are remembered as centres of patches."""


@dataclass(frozen=True, eq=False)
class Item:
    """One case, prepared.

    Args:
        sample: what it is.
        image: `c d h w`.
        target: class number or value; NaN for a segmentation.
        mask: `d h w`, numbered as the network's outputs; None but for a segmentation.
        places: for each label, some of its voxels (`n 3`).
    """

    sample: Sample
    image: Array = field(repr=False)
    target: float
    mask: Array | None = field(default=None, repr=False)
    places: tuple[Array, ...] = field(default=(), repr=False)


@dataclass(frozen=True, eq=False)
class Store:
    """Every case of a split.

    Args:
        items: cases.
        failed: cases that could not be read, each with the reason.
        keep: what must live as long as the items.
    """

    items: tuple[Item, ...]
    failed: tuple[str, ...] = ()
    keep: object = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.items)

    def only(self, index: Sequence[int]) -> "Store":
        """Some of the cases."""
        return Store(tuple(self.items[i] for i in index), self.failed, self.keep)


def load(data: Dataset, plan: Plan, read: Read, *, memory: int, on_progress: Progress | None = None) -> Store:
    """Read and prepare every case.

    Args:
        data: cases.
        plan: how they are prepared.
        read: reads one.
        memory: bytes that the images may take; beyond it they lie in a mapped file.
        on_progress: told each case.
    Raises: InputError where no case can be read.
    """
    items: list[Item] = []
    failed: list[str] = []
    taken = 0
    folder: tempfile.TemporaryDirectory[str] | None = None
    for number, sample in enumerate(data.samples):
        if on_progress and number % 16 == 0:
            on_progress("reading cases", number, len(data.samples))
        try:
            item = prepared_item(sample, plan, read)
        except IsocenterError as error:
            failed.append(f"{sample.case}: {error}")
            continue
        taken += item.image.nbytes
        if taken > memory:
            folder = folder or tempfile.TemporaryDirectory(prefix="isocenter-")
            item = _mapped(item, Path(folder.name) / f"{number}.npy")
        items.append(item)
    if not items:
        raise InputError(f"no case can be read: {failed[0] if failed else 'there is none'}")
    return Store(tuple(items), tuple(failed), folder)


def prepared_item(sample: Sample, plan: Plan, read: Read) -> Item:
    """One case as the network sees it.

    Raises: InputError for a label or class that the plan does not know; see `inference.prepare.prepare`.
    """
    volume, labels = read(sample)
    ready = prepare(volume, plan.preparation)
    if plan.task == "segment":
        if labels is None:
            raise InputError("has no label map")
        _require_known(labels, plan)
        mask = prepare_labels(labels, plan.preparation, tuple(plan.labels))
        return Item(sample, ready.array, np.nan, mask, _places(mask, len(plan.labels)))
    if plan.task == "classify":
        if sample.target not in plan.classes:
            raise InputError(
                f"is of the class {sample.target!r}, which the plan does not know: {', '.join(plan.classes)}"
            )
        return Item(sample, _whole(ready.array, plan), float(plan.classes.index(sample.target)))
    try:
        value = float(sample.target)
    except ValueError as error:
        raise InputError(f"its value {sample.target!r} is no number") from error
    if not np.isfinite(value):
        raise InputError(f"its value {sample.target!r} is not finite")
    return Item(sample, _whole(ready.array, plan), value)


def _require_known(labels: LabelMap, plan: Plan) -> None:
    values = {label.value for label in labels.labels if np.any(labels.voxels == label.value)}
    odd = sorted(values - set(plan.labels))
    if odd:
        raise InputError(
            f"holds the label value {odd[0]}, which the plan does not know: {', '.join(map(str, plan.labels))}"
        )


def _whole(array: Array, plan: Plan) -> Array:
    """An image for a classifier.

    Raises: InputError for several slices where it looks at one.
    """
    if plan.preparation.dims == 2 and array.shape[1] != 1:
        raise InputError(f"has {array.shape[1]} slices, and a classifier of pictures looks at one")
    return array


def _places(mask: Array, labels: int) -> tuple[Array, ...]:
    rng = np.random.default_rng(0)  # a subset of the same voxels each time
    found = []
    for number in range(1, labels + 1):
        at = np.flatnonzero(mask == number)
        some = at if len(at) <= _PLACES else rng.choice(at, _PLACES, replace=False)
        found.append(np.stack(np.unravel_index(some, mask.shape), axis=1).astype(np.int32))
    return tuple(found)


def _mapped(item: Item, path: Path) -> Item:
    np.save(path, item.image)
    return Item(item.sample, np.load(path, mmap_mode="r"), item.target, item.mask, item.places)
