"""Files of a data set by their names: which are images, and what stands in a folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from isocenter.errors import InputError

SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
IMAGE_ENDINGS = (
    ".nii.gz",
    ".nii",
    ".seg.nrrd",
    ".nrrd",
    ".nhdr",
    ".mha",
    ".mhd",
    ".png",
    ".jpg",
    ".jpeg",
    ".tif",
    ".tiff",
    ".bmp",
    ".dcm",
    ".h5",
    ".hdf5",
)


def stem_of(path: Path) -> str | None:
    """The name without the ending of an image; None for what is none."""
    name = path.name
    ending = next((e for e in IMAGE_ENDINGS if name.lower().endswith(e)), None)
    return None if ending is None or name.startswith(".") else name[: -len(ending)]


def files_of(folder: Path) -> dict[str, Path]:
    """Images of a folder by their stem.

    Raises: InputError where one stem stands in two files.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        stem = stem_of(path) if path.is_file() else None
        if stem is None:
            continue
        if stem in found:
            raise InputError(f"{folder}: {found[stem].name} and {path.name} are one case in two files")
        found[stem] = path
    return found


def folders_of(folder: Path) -> list[Path]:
    """Folders in a folder, but for hidden ones."""
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def split_named(text: str, table: Path, row: int) -> str:
    """The split that a cell states; empty where it is.

    Args:
        text: of the cell.
        table: for the message.
        row: counted from 0, below the head.
    Raises: InputError for one of another name.
    """
    part = text.strip().lower()
    if part and part not in SPLITS:
        raise InputError(f"{table.name}: row {row + 2}: the split {part!r} is none of train, val, test")
    return SPLITS.get(part, "")


def require_columns(cells: Mapping[str, Any], names: Sequence[str | None], table: Path) -> None:
    """Refuse columns that were named and are not there.

    Raises: InputError.
    """
    absent = next((name for name in names if name is not None and name not in cells), None)
    if absent is not None:
        raise InputError(f"{table.name}: has no column {absent!r}; it has {', '.join(list(cells)[:12])}")


def column_of(cells: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """The first column that is called one of these names, in small letters."""
    return next((own for own in cells if own.strip().lower() in names), None)
