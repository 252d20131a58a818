"""Cases of a data set of images: reading them, and whether they repeat or leak."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from isocenter.acquire.labelled import read_cine, read_image, read_images, read_mask
from isocenter.data.dataset import Dataset, Loaded, Sample
from isocenter.data.provenance import Json
from isocenter.data.volume import Volume
from isocenter.errors import InputError, IsocenterError
from isocenter.training.leaks import Checked, Item, Leak, check, content_of, hashes_of, thumbnail_of
from isocenter.types import Progress

MOST_NEAR = 20_000
"""Images among which near ones are looked for: the time grows with the square."""


def read_case(sample: Sample) -> Loaded:
    """A case, with its label map and its better image, if it has them."""
    return _beside(sample, read_images(sample))


def _beside(sample: Sample, volume: Volume) -> Loaded:
    if sample.sequence:
        return Loaded(volume, cine=read_cine(sample))
    labels = None if sample.mask is None else read_mask(sample.mask, volume.geometry)
    return Loaded(volume, labels, None if sample.goal is None else read_image(sample.goal))


class Reader:
    """Reads cases, and keeps so many bytes of their images: a training looks at each three times.

    Args:
        most: bytes that are kept.
    """

    def __init__(self, most: int) -> None:
        self.left = most
        self._kept: dict[str, Volume] = {}

    def images(self, sample: Sample) -> Volume:
        """The image of a case."""
        if sample.case in self._kept:
            return self._kept[sample.case]
        volume = read_images(sample)
        if volume.voxels.nbytes <= self.left:
            self.left -= volume.voxels.nbytes
            self._kept[sample.case] = volume
        return volume

    def case(self, sample: Sample) -> Loaded:
        """A case, with its label map and its better image, if it has them."""
        return _beside(sample, self.images(sample))

    def forget(self) -> None:
        """Give the memory back."""
        self._kept.clear()
        self.left = 0


def image_items(
    data: Dataset, *, read: Callable[[Sample], Volume] = read_images, on_progress: Progress | None = None
) -> list[Item]:
    """Every image by its content; what cannot be read is left out, and named by whoever reads it."""
    items = []
    for number, sample in enumerate(data.samples):
        if on_progress and number % 64 == 0:
            on_progress("comparing images", number, len(data.samples))
        try:
            volume = read(sample)
        except (IsocenterError, OSError):
            continue
        there = [c for c in volume.voxels if not np.isnan(c.flat[0])] or list(volume.voxels)
        grey = np.asarray(np.mean(there, axis=0) if len(there) > 1 else there[0])
        split, name = case_key(sample)
        items.append(Item(name, split, sample.patient, content_of(np.squeeze(volume.voxels)), thumbnail_of(grey)))
    return items


def check_images(data: Dataset, *, near: bool = True, on_progress: Progress | None = None) -> Checked:
    """Leaks between splits, and repeats."""
    return check(image_items(data, on_progress=on_progress), kind="image", near=near)


def twins_of(checked: Checked, samples: Sequence[Sample]) -> list[tuple[str, str]]:
    """Pairs of cases that hold one image, where no split parts them."""
    case = {"/".join(part for part in case_key(s) if part): s.case for s in samples}
    pairs = [(case.get(leak.left), case.get(leak.right)) for leak in checked.repeats if leak.kind == "image"]
    return [(one, other) for one, other in pairs if one is not None and other is not None]


def without_image_leaks(
    data: Dataset, items: Sequence[Item], *, drop: bool, allowed: Sequence[str]
) -> tuple[Dataset, list[Json]]:
    """The data set without the training side of each leak; of a patient, without all of its cases there.

    Raises: InputError with the leaks, where they are not to be dropped.
    """
    dropped: list[Json] = []
    while True:  # what is left may repeat what was removed
        there = {case_key(s) for s in data.samples}
        checked = check([i for i in items if (i.split, i.name) in there], kind="image", near=len(items) <= MOST_NEAR)
        leaks = [leak for leak in checked.leaks if leak.kind not in allowed]
        if not leaks:
            return data, dropped
        if not drop:
            some = "; ".join(f"{leak.kind}: {leak.left} and {leak.right}" for leak in leaks[:4])
            raise InputError(
                f"{data.path}: {len(leaks)} leaks between splits ({some}): results would flatter. --drop-leaks removes "
                "the training side, --resplit parts the patients anew, --allow-leak KIND goes on; "
                "`isocenter data check` lists them all"
            )
        gone = _training_sides(data, leaks)
        data = replace(data, samples=tuple(s for s in data.samples if s.case not in gone))
        if not any(sample.split in ("", "train") for sample in data.samples):
            raise InputError(
                f"{data.path}: every training case leaks into another split: --drop-leaks leaves none to learn "
                "from; --resplit parts the patients anew"
            )
        dropped += [leak.as_json() for leak in leaks]


def case_key(sample: Sample) -> tuple[str, str]:
    """Split and name within it, as leaks are stated."""
    return sample.split, sample.case.removeprefix(f"{sample.split}/") if sample.split else sample.case


def _training_sides(data: Dataset, leaks: Sequence[Leak]) -> set[str]:
    worse = {"train": 0, "val": 1, "test": 2}
    said = {"/".join(part for part in case_key(s) if part): s for s in data.samples}
    gone: set[str] = set()
    for leak in leaks:
        side = said[min((leak.left, leak.right), key=lambda text: worse.get(text.partition("/")[0], 0))]
        gone.add(side.case)
        if leak.kind == "patient":
            gone |= {s.case for s in data.samples if s.patient == side.patient and s.split == side.split}
    return gone


def known_images(training: Mapping[str, object], items: Sequence[Item], data: Dataset) -> set[str]:
    """Cases whose very image, or whose patient, a model was trained on."""
    salt = str(training.get("salt", ""))
    images = set(_texts(training.get("image_hashes")))
    people = set(_texts(training.get("patient_hashes")))
    found = set()
    content = {(item.split, item.name): item.content for item in items}
    for sample in data.samples:
        text = content.get(case_key(sample))
        if text is not None and hashes_of([text], salt)[0] in images:
            found.add(sample.case)
        if sample.patient and hashes_of([sample.patient], salt)[0] in people:
            found.add(sample.case)
    return found


def _texts(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list | tuple) else []
