"""A data set as a network sees it: prepared once, kept in memory (or in mapped files where it does not fit)."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from isocenter.data.dataset import Dataset, Loaded, Sample
from isocenter.errors import InputError, IsocenterError
from isocenter.training.images.plan import Plan
from isocenter.training.images.store import Item, Store
from isocenter.training.images.tasks import task_of
from isocenter.types import Progress

Read = Callable[[Sample], Loaded]
"""Reads a case; handed in, since reading is acquisition's."""


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
        if item.objects is not None:
            failed += [f"{sample.case}: {text}" for text in item.objects.left_out]
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
    loaded = read(sample)
    return task_of(plan).item(sample, loaded, plan)


def _mapped(item: Item, path: Path) -> Item:
    np.save(path, item.image)
    return replace(item, image=np.load(path, mmap_mode="r"))
