"""Which images an input holds, whether they are labelled or not."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from isocenter.acquire.case import open_case
from isocenter.acquire.dataset_files import stem_of
from isocenter.acquire.datasets import open_dataset
from isocenter.acquire.labelled import series_source
from isocenter.data.dataset import Answers, Dataset, Sample, Source, natural
from isocenter.errors import InputError, IsocenterError

UNLABELLED: tuple[Answers, ...] = ("enhance", "generate", "anomaly", "forecast")
"""Tasks that learn from images alone."""


def open_for(
    task: Answers | None, path: str | Path, *, group: str | None, target: str | None, split: str | None
) -> Dataset:
    """A data set as a task needs it: with labels, or whatever images there are; frames in time as sequences.

    Raises: InputError; see `acquire.datasets.open_dataset`.
    """
    return as_sequences(_opened(task, path, group=group, target=target, split=split), task)


def _opened(
    task: Answers | None, path: str | Path, *, group: str | None, target: str | None, split: str | None
) -> Dataset:
    if task not in UNLABELLED:
        return open_dataset(path, group=group, target=target, split=split)
    try:
        return open_dataset(path, group=group, target=target, split=split, labelled=False)
    except InputError:
        if not Path(path).is_dir() or group is not None:
            raise
    return loose_images(Path(path))


def as_sequences(data: Dataset, task: Answers | None) -> Dataset:
    """The data set with its cases as sequences, where their files hold frames in time or their tables say so.

    Raises: InputError where the next frame is to be foretold and there are none.
    """
    if task not in (None, "classify", "regress", "forecast"):
        return data
    first = data.samples[0]
    stated = any(s.targets or s.times for s in data.samples)
    plain = len(first.images) == 1 and first.images[0].index is None and not first.images[0].inside
    if not stated and not (plain and first.mask is None and _frames_of(first.images[0].path) > 1):
        if task == "forecast":
            raise InputError(f"{data.path}: {first.case} is no sequence of frames, of which the next could be foretold")
        return data
    return replace(data, samples=tuple(replace(s, sequence=True) for s in data.samples))


def _frames_of(path: Path) -> int:
    """Frames of the only series of a file; 1 where it cannot be read, which its reader will say."""
    try:
        series = open_case(path).series
    except (IsocenterError, OSError):
        return 1
    return series[0].frames if len(series) == 1 else 1


def cases_of(path: Path) -> Dataset:
    """Images of an input, whether they are labelled or not.

    Raises: InputError for an input without images.
    """
    if path.is_file() and stem_of(path) is not None and path.suffix.lower() != ".npz":
        return Dataset(path, "one image", (Sample(stem_of(path) or path.stem, (Source(path),)),))
    try:
        return open_dataset(path, labelled=False)
    except InputError:
        if not path.is_dir():
            raise
    return loose_images(path)


def loose_images(folder: Path) -> Dataset:
    """Every study and image below a folder, each a case of its own.

    Raises: InputError where there is none.
    """
    from isocenter.acquire.case import open_cases

    samples: list[Sample] = []
    opened: set[Path] = set()
    try:
        cases = open_cases(folder)
    except InputError:
        cases = ()
    for case in cases:
        for series in case.series:
            opened.update(file.resolve() for file in series.files)
            if series.format != "dicom":
                samples.append(_loose(series.files[0], folder))
            elif series.usable:
                several = sum(s.usable for s in case.series) > 1
                name = f"{case.name}-{series.key}" if several else case.name
                samples.append(Sample(name, (series_source(case, series),), patient=case.identity.patient_id))
    samples += [_loose(p, folder) for p in _pictures_below(folder) if p.resolve() not in opened]  # told why, one by one
    names = Counter(sample.case for sample in samples)
    samples = [replace(s, case=_with_ending(s, folder)) if names[s.case] > 1 else s for s in samples]
    if not samples:
        raise InputError(f"{folder}: holds no image that can be read")
    return Dataset(folder, "images", tuple(sorted(samples, key=lambda s: natural(s.case))))


_NO_PICTURES = (".dcm", ".h5", ".hdf5")
"""Endings of what a study or a data set of its own is made of."""


def _pictures_below(folder: Path) -> list[Path]:
    return [p for p in sorted(folder.rglob("*")) if p.is_file() and stem_of(p) and p.suffix.lower() not in _NO_PICTURES]


def _loose(file: Path, folder: Path) -> Sample:
    return Sample(file.relative_to(folder).with_name(stem_of(file) or file.stem).as_posix(), (Source(file),))


def _with_ending(sample: Sample, folder: Path) -> str:
    """The name of one of several files that differ by their ending alone."""
    path = sample.images[0].path
    return path.relative_to(folder).as_posix() if path.is_file() else sample.case
