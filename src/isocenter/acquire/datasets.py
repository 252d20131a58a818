"""Data sets in the field's own shapes: which cases a folder, archive or table holds."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from isocenter.acquire.coco import coco
from isocenter.acquire.dataset_files import SPLITS, files_of, folders_of, stem_of
from isocenter.acquire.labelled import series_source
from isocenter.acquire.lidc import lidc
from isocenter.acquire.manifest import manifest
from isocenter.acquire.marked import boxes_in
from isocenter.acquire.medmnist import medmnist
from isocenter.acquire.table import is_table
from isocenter.acquire.voc import voc
from isocenter.data.dataset import Dataset, Problem, Sample, Source, natural
from isocenter.errors import InputError, IsocenterError, UnreadableFile
from isocenter.formats.json_file import read_mapping

_BESIDE = ("-mask", "_mask", "_seg", "_label")
_ORDER = ("", "train", "val", "test")
_IMAGES = ("images", "image", "imagestr", "img", "imgs")
_LABELS = ("labels", "label", "labelstr", "masks", "mask", "gt", "annotations")
_POOR = ("input", "inputs", "images", "image", "noisy")
_GOOD = ("target", "targets", "clean")
_PATIENT_IN_NAME = re.compile(r"^((?:patient|pat|sub|subject|subj|case|pt)[-_]?[A-Za-z]*\d+)[-_.](.+)$", re.IGNORECASE)
_LOOKED_AT = 40


def open_dataset(
    path: str | Path,
    *,
    group: str | None = None,
    target: str | None = None,
    split: str | None = None,
    labelled: bool = True,
) -> Dataset:
    """Say which cases a data set holds, by its shape.

    Args:
        path: a folder of a class each (perhaps inside `train`, `val`, `test`), a MedMNIST `.npz`, the layout of the
            Medical Segmentation Decathlon or nnU-Net, paired `images` and `labels`, HDF5 files that hold both, a
            table (patient, image, label or mask, split, site), or DICOM studies with SEG or RTSTRUCT.
        group: a table's column of patients; of other shapes, a regular expression whose first group, in the name of a
            case, is its patient.
        target: a table's column of the class or value.
        split: a table's column of splits.
        labelled: images without a label are problems, not cases.
    Raises: InputError for what is no data set, with the shapes that are known.
    """
    given = Path(path)
    if not given.exists():
        raise InputError(f"{given}: is not there")
    found = None
    if given.is_dir():
        for reader in _FOLDERS:
            found = reader(given, labelled)
            if found is not None:
                break
    elif given.suffix.lower() == ".npz":
        found = medmnist(given)
    elif is_table(given) or given.suffix.lower() in (".parquet", ".pq"):
        found = boxes_in(given, group=group, split=split, labelled=labelled) or manifest(
            given, group=group, target=target, split=split, labelled=labelled
        )
    if found is None:
        raise InputError(
            f"{given}: is no data set of a known shape: a folder of a class each, a MedMNIST .npz, imagesTr and "
            "labelsTr with dataset.json, images and labels, HDF5 files with both, a table with the columns image and "
            "label or mask, or DICOM studies with SEG or RTSTRUCT; of images alone, say what shall be learnt: --task "
            "enhance, generate, anomaly or forecast"
        )
    if not found.samples:
        raise InputError(f"{given}: looks like {found.kind}, and holds no labelled case" + _first(found.problems))
    ordered = sorted(found.samples, key=lambda s: (_ORDER.index(s.split), natural(s.case)))
    _require_names([sample.case for sample in ordered], given)
    found = _with_splits(replace(found, samples=tuple(ordered)))
    return _patients_by(found, group) if group is not None and given.is_dir() else _with_patients(found)


def _require_names(cases: Sequence[str], where: Path) -> None:
    """Refuse names that are no names for files, or stand twice.

    Raises: InputError.
    """
    odd = next((case for case in cases if not _is_inside(case)), None)
    if odd is not None:
        raise InputError(
            f"{where}: the case {odd!r} is no name for a file: predictions would land outside their folder"
        )
    twice = [name for name, count in Counter(cases).items() if count > 1]
    if twice:
        raise InputError(f"{where}: the case {twice[0]!r} stands twice")


def _is_inside(name: str) -> bool:
    """A case's name that is a path below a folder, in letters that a file can have."""
    path = PurePosixPath(name.replace("\\", "/"))
    plain = name.isprintable() and name == name.strip() and ":" not in name
    return bool(name) and plain and not path.is_absolute() and ".." not in path.parts and path.parts[-1:] != (".",)


def _with_splits(found: Dataset) -> Dataset:
    """Cases that state no split, where others do, are learnt from; it is told."""
    blank = sum(not sample.split for sample in found.samples)
    if not blank or blank == len(found.samples):
        return found
    samples = tuple(replace(s, split=s.split or "train") for s in found.samples)
    ordered = tuple(sorted(samples, key=lambda s: (_ORDER.index(s.split), natural(s.case))))
    note = f"{blank} cases state no split and count as `train`"
    return replace(found, samples=ordered, notes=(*found.notes, note))


def _first(problems: Sequence[Problem]) -> str:
    return f": {problems[0]}" if problems else ""


def _patients_by(found: Dataset, pattern: str) -> Dataset:
    """Patients by a regular expression on the names of the cases.

    Raises: InputError for one that is none, that has no group, or that no name matches.
    """
    try:
        rule = re.compile(pattern)
    except re.error as error:
        raise InputError(f"--group {pattern!r}: is no regular expression ({error})") from error
    if rule.groups < 1:
        raise InputError(f"--group {pattern!r}: put the patient in parentheses, as in '--([A-Z]+-[0-9]+)'")
    matches = [rule.search(sample.case) for sample in found.samples]
    people = ["" if match is None else match[1] or "" for match in matches]
    unknown = sum(not person for person in people)
    if unknown == len(people):
        raise InputError(f"--group {pattern!r}: matches no name of a case, such as {found.samples[0].case}")
    if unknown:
        odd = found.samples[people.index("")].case
        raise InputError(
            f"--group {pattern!r}: matches {len(people) - unknown} of {len(people)} names of cases, and not {odd}: a "
            "patient who is not known cannot be kept on one side"
        )
    note = f"patients by --group: {found.samples[0].case} is of {people[0]} ({len(set(people))} patients)"
    samples = tuple(replace(s, patient=p) for s, p in zip(found.samples, people, strict=True))
    return replace(found, samples=samples, notes=(*found.notes, note))


def _with_patients(found: Dataset) -> Dataset:
    """Patients from file names such as `patient004_frame01` or `sub-03_T1w`, where several cases share one."""
    if any(sample.patient for sample in found.samples):
        return found
    named = [_PATIENT_IN_NAME.match(sample.case.rpartition("/")[2]) for sample in found.samples]
    if not all(named):
        return found
    people = [match[1] for match in named if match]
    if len(set(people)) == len(people):
        return found
    count = len(set(people))
    note = f"patients are read from the file names: {found.samples[0].case} is of {people[0]} ({count} patients)"
    samples = tuple(replace(s, patient=p) for s, p in zip(found.samples, people, strict=True))
    return replace(found, samples=samples, notes=(*found.notes, note))


def _decathlon(folder: Path, labelled: bool) -> Dataset | None:
    """`dataset.json` beside `imagesTr` and `labelsTr`: the Decathlon's layout, or nnU-Net's."""
    images, labels = folder / "imagesTr", folder / "labelsTr"
    if not (images.is_dir() and labels.is_dir()):
        return None
    data = read_mapping(folder / "dataset.json") if (folder / "dataset.json").is_file() else {}
    names = data.get("labels", {})
    if not isinstance(names, dict):
        raise UnreadableFile(f"{folder / 'dataset.json'}: its labels are no mapping")
    table: dict[int, str] = {}
    for key, value in names.items():  # the Decathlon writes "1": "liver", nnU-Net "liver": 1
        if isinstance(value, list):
            raise InputError(f"{folder}: the label {key!r} is a region of several values, which is not trained yet")
        number, name = (value, key) if isinstance(value, int) else (key, value)
        if not str(number).lstrip("-").isdecimal():
            raise UnreadableFile(f"{folder / 'dataset.json'}: the label {key!r}: {value!r} has no number")
        if int(number):
            table[int(number)] = str(name)
    channels = data.get("channel_names", data.get("modality", {"0": "image"}))
    channels = _by_number(channels) if isinstance(channels, dict) and channels else {"0": "image"}
    truth = files_of(labels)
    pictures = files_of(images)
    numbered = not set(truth) & set(pictures)  # nnU-Net: case_0000, case_0001
    samples: list[Sample] = []
    problems: list[Problem] = []
    for case in truth:
        own = [pictures.get(f"{case}_{i:04d}") for i in range(len(channels))] if numbered else [pictures.get(case)]
        there = [one for one in own if one is not None]
        if len(there) < len(own):
            problems.append(Problem("has a label map and not all of its images", case))
            continue
        samples.append(Sample(case, _modalities(there, len(channels)), mask=Source(truth[case])))
    known = set(truth) if not numbered else {f"{c}_{i:04d}" for c in truth for i in range(len(channels))}
    alone = [stem for stem in pictures if stem not in known]
    if labelled or (numbered and len(channels) > 1):
        problems += [Problem("has an image and no label map", stem) for stem in alone]
    else:
        samples += [
            Sample(stem.removesuffix("_0000") if numbered else stem, _modalities([pictures[stem]], len(channels)))
            for stem in alone
        ]
    kind = "nnU-Net's layout" if numbered else "the Medical Segmentation Decathlon's layout"
    several = numbered or any(len(s.images) > 1 for s in samples)
    many = tuple(channels.values()) if several else (next(iter(channels.values())),)
    return Dataset(folder, kind, tuple(samples), table, many, tuple(problems))


def _by_number(channels: Mapping[str, Any]) -> dict[str, str]:
    """Names of channels in the order of their numbers, however the file lists them."""
    try:
        order = sorted(channels, key=int)
    except ValueError:
        order = list(channels)
    return {str(key): str(channels[key]) for key in order}


def _modalities(files: Sequence[Path], count: int) -> tuple[Source, ...]:
    """Each file an image; of one file of several modalities (the Decathlon's fourth axis), each by its number."""
    if len(files) == 1 and count > 1 and files[0].name.lower().endswith((".nii", ".nii.gz")):
        return tuple(Source(files[0], index=i) for i in range(count))
    return tuple(Source(path) for path in files)


def _paired(folder: Path, labelled: bool) -> Dataset | None:
    """Folders `images` and `labels`, matched by name; perhaps inside `train`, `val`, `test`."""
    parts = {SPLITS[p.name.lower()]: p for p in folders_of(folder) if p.name.lower() in SPLITS}
    inner = {split: pair for split, part in parts.items() if (pair := _pair_of(part)) is not None}
    own = _pair_of(folder)
    if own is None and not inner:
        return None
    samples: list[Sample] = []
    problems: list[Problem] = []
    for split, (images, labels) in (inner or {"": own or (folder, folder)}).items():
        pictures, truth = files_of(images), files_of(labels)
        before = f"{split}/" if len(inner) > 1 else ""
        for stem, path in pictures.items():
            mask = truth.get(stem) or next(
                (truth[f"{stem}{e}"] for e in ("_mask", "-mask", "_label", "_seg") if f"{stem}{e}" in truth), None
            )
            if mask is None and labelled:
                problems.append(Problem("has an image and no label map", f"{before}{stem}"))
                continue
            samples.append(Sample(f"{before}{stem}", (Source(path),), mask=Source(mask) if mask else None, split=split))
        used = {sample.mask.path for sample in samples if sample.mask}
        problems += [Problem("has a label map and no image", f"{before}{s}") for s, p in truth.items() if p not in used]
    lossy = sum(s.mask is not None and s.mask.path.suffix.lower() in (".jpg", ".jpeg") for s in samples)
    notes = (f"{lossy} label maps are JPEG pictures: black and white are parted half-way",) if lossy else ()
    return Dataset(folder, "paired images and labels", tuple(samples), problems=tuple(problems), notes=notes)


def _pair_of(folder: Path) -> tuple[Path, Path] | None:
    return _two_folders(folder, _IMAGES, _LABELS)


def _two_folders(folder: Path, one: Sequence[str], other: Sequence[str]) -> tuple[Path, Path] | None:
    """The first folder with one of these names, and the first with one of those."""
    below = {p.name.lower(): p for p in folders_of(folder)}
    first = next((below[name] for name in one if name in below), None)
    second = next((below[name] for name in other if name in below), None)
    return (first, second) if first and second else None


def _better(folder: Path, _labelled: bool) -> Dataset | None:
    """Folders `images` and `targets`, matched by name: each image and the better one that it shall become."""
    parts = {SPLITS[p.name.lower()]: p for p in folders_of(folder) if p.name.lower() in SPLITS}
    inner = {split: pair for split, part in parts.items() if (pair := _two_folders(part, _POOR, _GOOD)) is not None}
    own = _two_folders(folder, _POOR, _GOOD)
    if own is None and not inner:
        return None
    samples: list[Sample] = []
    problems: list[Problem] = []
    for split, (poor, good) in (inner or {"": own or (folder, folder)}).items():
        images, goals = files_of(poor), files_of(good)
        before = f"{split}/" if len(inner) > 1 else ""
        both = [stem for stem in images if stem in goals]
        samples += [Sample(f"{before}{s}", (Source(images[s]),), goal=Source(goals[s]), split=split) for s in both]
        problems += [Problem("has no better image of its name", f"{before}{s}") for s in images if s not in goals]
        problems += [
            Problem("is a better image without one that it is of", f"{before}{s}") for s in goals if s not in images
        ]
    return Dataset(folder, "images and what they shall become", tuple(samples), problems=tuple(problems))


def _beside(folder: Path, labelled: bool) -> Dataset | None:
    """Images with `name-mask.png` or `name_seg.nii.gz` in the same folder."""
    files = files_of(folder)
    found = {stem: next((f"{stem}{e}" for e in _BESIDE if f"{stem}{e}" in files), None) for stem in files}
    masks = {name for name in found.values() if name}
    if not masks:
        return None
    samples = [
        Sample(stem, (Source(files[stem]),), mask=Source(files[mask]) if mask else None)
        for stem, mask in found.items()
        if mask or (stem not in masks and not labelled)
    ]
    alone = [stem for stem, mask in found.items() if not mask and stem not in masks]
    problems = [Problem("has an image and no label map", stem) for stem in alone] if labelled else []
    return Dataset(folder, "images with their label maps beside them", tuple(samples), problems=tuple(problems))


def _hdf5_pairs(folder: Path, _labelled: bool) -> Dataset | None:
    """HDF5 files that each hold an image and a label map."""
    files = {stem: p for stem, p in files_of(folder).items() if p.suffix.lower() in (".h5", ".hdf5")}
    if not files:
        return None
    from isocenter.formats import hdf5

    samples: list[Sample] = []
    problems: list[Problem] = []
    for stem, path in files.items():
        try:
            image, label = hdf5.pair_names(path)
        except IsocenterError as error:
            problems.append(Problem(str(error), stem))
            continue
        samples.append(Sample(stem, (Source(path, image),), mask=Source(path, label)))
    return Dataset(folder, "HDF5 files of image and label map", tuple(samples), problems=tuple(problems))


def _class_folders(folder: Path, _labelled: bool) -> Dataset | None:
    """A folder for each class; perhaps inside `train`, `val`, `test`."""
    parts = _split_folders(folder)
    samples: list[Sample] = []
    problems: list[Problem] = []
    for part in parts or [folder]:
        split = SPLITS[part.name.lower()] if parts else ""
        for group in folders_of(part):
            if group.name.lower() in _IMAGES:
                return None
            for path in sorted(group.rglob("*")):
                stem = stem_of(path) if path.is_file() else None
                if stem is None:
                    if path.is_file() and not path.name.startswith("."):
                        problems.append(Problem("is no image", path.relative_to(folder).as_posix()))
                    continue
                name = path.relative_to(folder).with_name(stem).as_posix()
                samples.append(Sample(name, (Source(path),), target=group.name, split=split))
    if (
        len({s.target for s in samples}) < 2
        or _are_slices([s.images[0].path for s in samples])
        or _are_studies(samples)
    ):
        return None
    if Counter(s.case for s in samples).most_common(1)[0][1] > 1:  # a.png beside a.jpg
        samples = [replace(s, case=s.images[0].path.relative_to(folder).as_posix()) for s in samples]
    return Dataset(folder, "a folder of images for each class", tuple(samples), problems=tuple(problems))


def _split_folders(folder: Path) -> list[Path]:
    """Folders of splits; none where every folder is of a class.

    Raises: InputError where some are of splits and others are not.
    """
    below = [p for p in folders_of(folder) if any(stem_of(f) for f in p.rglob("*"))]
    parts = [p for p in below if p.name.lower() in SPLITS]
    if parts and len(parts) < len(below):
        other = next(p.name for p in below if p not in parts)
        raise InputError(
            f"{folder}: {parts[0].name} is the name of a split, and {other} beside it is none: rename the folders, or "
            "give a table with the columns image and label"
        )
    return parts


def _are_studies(samples: Sequence[Sample]) -> bool:
    """Each folder holds the same few names, as `ct`, `pet`, `mask`: patients, and no classes."""
    names: dict[str, set[str]] = {}
    for sample in samples:
        names.setdefault(sample.target, set()).add(sample.case.rpartition("/")[2])
    kinds = list(names.values())
    return (
        len(kinds) > 1
        and len(kinds[0]) > 1
        and all(one == kinds[0] for one in kinds)
        and not any(name.isdecimal() for name in kinds[0])
    )


def _are_slices(files: Sequence[Path]) -> bool:
    """DICOM files of which several make one series: folders of studies, not of pictures of a class."""
    some = [path for path in files if path.suffix.lower() == ".dcm"][:_LOOKED_AT]
    if len(some) < 2:
        return False
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    uids = []
    for path in some:
        try:
            found = dcmread(path, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
        except (InvalidDicomError, OSError, ValueError, KeyError, NotImplementedError):
            continue
        uids.append(str(found.get("SeriesInstanceUID", "")))
    return len(set(uids)) < len(uids)


def _archive_inside(folder: Path, _labelled: bool) -> Dataset | None:
    archives = [p for p in folder.glob("*.npz") if p.is_file()]
    return medmnist(archives[0]) if len(archives) == 1 and not folders_of(folder) else None


def _dicom_studies(folder: Path, labelled: bool) -> Dataset | None:
    """Studies that hold a SEG or RTSTRUCT of one of their series; where labels are not wanted, all series are cases."""
    if not labelled:
        return None
    from isocenter.acquire.case import open_cases

    try:
        cases = open_cases(folder)
    except IsocenterError:
        return None
    samples: list[Sample] = []
    problems: list[Problem] = []
    for case in cases:
        own = {series.uid: series for series in case.series}
        drawn = [r for r in case.results if r.series_uid in own]
        if not drawn:
            if case.series and case.series[0].format == "dicom":
                problems.append(Problem("has no SEG or RTSTRUCT of its series", case.name))
            continue
        for result in drawn:
            name = case.name if len(drawn) == 1 else _named_apart(case.name, result.file, folder)
            samples.append(Sample(
                name, (series_source(case, own[result.series_uid]),), patient=case.identity.patient_id,
                mask=Source(result.file, f"series {result.series_uid}"),
            ))  # fmt: skip
    return (
        Dataset(folder, "DICOM studies with their segmentations", tuple(samples), problems=tuple(problems))
        if samples
        else None
    )


def _named_apart(study: str, file: Path, folder: Path) -> str:
    """A name for one of several results of a study: its path below the data set, as one word."""
    inside = file.relative_to(folder) if file.is_relative_to(folder) else Path(file.parent.name) / file.name
    return f"{study}-{'-'.join(inside.with_suffix('').parts)}"


_FOLDERS: tuple[Callable[[Path, bool], Dataset | None], ...] = (
    _decathlon, lidc, voc, coco, _archive_inside, _paired, _better, _hdf5_pairs, _beside, _class_folders,
    _dicom_studies,
)  # fmt: skip
"""Shapes of folders, in the order in which they are tried."""
