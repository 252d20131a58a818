"""Whether a data set leaks between its splits."""

import zipfile
from collections.abc import Iterator
from math import prod
from pathlib import Path

import numpy as np

from isocenter.acquire.columns import read_columns
from isocenter.acquire.table import is_table
from isocenter.data.design import Design
from isocenter.errors import InputError, IsocenterError, UnreadableFile, cause_of
from isocenter.training.leaks import Checked, Item, check, content_of, thumbnail_of
from isocenter.training.table import case_names, patient_column

_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
_MOST_PIXELS = 2**31


def data_check(data: str | Path, *, group: str | None = None, split: str | None = None, near: bool = True) -> Checked:
    """Find what stands on both sides of a split, and what is repeated within one.

    Args:
        data: a table with a column `split`; an `.npz` with `train_images`, `val_images`, `test_images`; or a folder
            with `train`, `val` or `valid`, and `test` inside, that hold images.
        group: column of patients in a table; None: a usual name.
        split: column of splits in a table; None: `split`.
        near: look for near images as well.
    Raises: InputError for a data set without splits.
    """
    path = Path(data)
    archives = list(path.glob("*.npz")) if path.is_dir() else []
    if len(archives) == 1 and not any(p.is_dir() and p.name.lower() in _SPLITS for p in path.iterdir()):
        path = archives[0]
    if path.is_dir():
        items, kind = list(_folder(path)), "image"
    elif path.suffix.lower() == ".npz":
        items, kind = list(_npz(path)), "image"
    elif is_table(path) or path.suffix.lower() in (".parquet", ".pq"):
        cells = read_columns(path).cells
        name = split or "split"
        if name not in cells:
            raise InputError(
                f"{path.name}: has no column {name!r}; name the one that says train, val or test with --split"
            )
        items, kind = list(_table(path, dict(cells), name, group)), "row"
    else:
        raise InputError(f"{path}: a table, an .npz of images, or a folder with train, val and test is wanted")
    if len({item.split for item in items}) < 2:
        raise InputError(
            f"{path}: holds one split only ({next(iter(items)).split if items else 'none'}): nothing can leak"
        )
    return check(items, kind=kind, near=near and kind == "image")


def check_design(design: Design, folder: Path) -> Checked:
    """Leaks between the splits of a table's rows, and of the images that it names, if it does."""
    items = []
    for i, case in enumerate(design.cases):
        patient = design.patients[i] if design.known_patients else ""
        row = np.append(np.nan_to_num(design.matrix[i], nan=1e300), np.atleast_1d(design.target[i]))
        items.append(Item(case, design.split[i], patient, content_of(row)))
    found = check(items, kind="row", near=False)
    pictures = [
        Item(item.name, item.split, "", content_of(grid), thumbnail_of(grid))
        for item, image in zip(items, design.image, strict=False)
        if image and (grid := _picture(folder / image)) is not None
    ]
    if not pictures:
        return found
    images = check(pictures, kind="image")
    return Checked(found.leaks + images.leaks, found.repeats + images.repeats, found.items, found.splits)


def _npz(path: Path) -> Iterator[Item]:
    """Images of `train_images` and the like, without loading any pickled object."""
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _MOST_PIXELS:
                raise UnreadableFile(f"{path.name}: unpacks to more than {_MOST_PIXELS >> 30} GiB")
            for entry in archive.infolist():
                _require_honest(archive, entry)
        with np.load(path, allow_pickle=False) as arrays:
            names = {
                name: _SPLITS.get(name.removesuffix("_images")) for name in arrays.files if name.endswith("_images")
            }
            if not any(names.values()):
                raise InputError(f"{path.name}: holds no train_images; it has {', '.join(arrays.files)[:200]}")
            for name, split in names.items():
                if split is not None:
                    if (
                        arrays[name].ndim not in (3, 4, 5)
                        or arrays[name].dtype.kind not in "iufb"
                        or not arrays[name].size
                    ):
                        raise UnreadableFile(f"{path.name}: {name} is {arrays[name].shape}: images in a row are wanted")
                    for index, image in enumerate(arrays[name]):
                        grey = image.mean(axis=-1) if image.ndim == 3 and image.shape[-1] in (3, 4) else image
                        yield Item(str(index), split, "", content_of(image), thumbnail_of(grey))
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UnreadableFile(f"{path.name}: is no archive of arrays that can be read ({cause_of(error)})") from error


def _require_honest(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Refuse an array whose header claims more than it holds.

    Raises: ValueError.
    """
    with archive.open(entry) as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    if dtype.hasobject or prod(shape) * dtype.itemsize > entry.file_size:
        raise ValueError(f"{entry.filename} claims {shape} of {dtype}, and does not hold that")


def _folder(path: Path) -> Iterator[Item]:
    """Images in `train`, `val`, `test`; the patient is not known."""
    for folder in sorted(p for p in path.iterdir() if p.is_dir()):
        split = _SPLITS.get(folder.name.lower())
        if split is None:
            continue
        for file in sorted(folder.rglob("*")):
            if file.suffix.lower() in _PICTURES or file.name.lower().endswith((".nii", ".nii.gz", ".dcm", ".nrrd")):
                grid = _picture(file)
                if grid is not None:
                    yield Item(str(file.relative_to(folder)), split, "", content_of(grid), thumbnail_of(grid))


def _picture(path: Path) -> np.ndarray | None:
    """The grey values of an image, or None for what is none."""
    from isocenter.acquire.case import open_case

    try:
        volume = open_case(path).volume()
    except (IsocenterError, OSError):
        return None
    return np.asarray(volume.voxels.mean(axis=0) if volume.channels > 1 else volume.voxels[0])


def _canonical(text: str) -> str:
    """A number however it is written."""
    try:
        return repr(float(text))
    except ValueError:
        return text.strip()


def _table(path: Path, cells: dict[str, tuple[str, ...]], split: str, group: str | None) -> Iterator[Item]:
    """Rows of a table."""
    column = group or patient_column(cells)
    patients = cells.get(column or "")
    if group is not None and patients is None:
        raise InputError(f"{path.name}: has no column {group!r}; it has {', '.join(list(cells)[:12])}")
    names = case_names(cells)
    compared = [name for name in cells if name not in (split, column) and cells[name] != names]
    for row, text in enumerate(cells[split]):
        content = content_of(np.asarray([_canonical(cells[name][row]) for name in compared]))
        yield Item(names[row], _SPLITS.get(text.strip().lower(), text), patients[row] if patients else "", content)
