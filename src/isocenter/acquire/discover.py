"""Which files a path holds, and what each of them is, by its content rather than its name."""

import os
from collections.abc import Iterator
from pathlib import Path

from isocenter.errors import UnreadableFile

_SKIPPED = {"DICOMDIR", "Thumbs.db", "desktop.ini"}
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_NIFTI = {b"n+1\0": 344, b"ni1\0": 344, b"n+2\0": 4, b"ni2\0": 4}


def files_below(path: Path) -> Iterator[Path]:
    """The file itself, or all files below a folder in a fixed order.

    Symbolic links inside the folder are not followed and hidden files are skipped: a folder is what it holds.

    Raises: UnreadableFile if the path does not exist or cannot be listed.
    """
    if not path.exists():
        raise UnreadableFile(f"{path}: there is no such file or folder")
    if path.is_file():
        yield path
        return

    def fail(error: OSError) -> None:
        raise UnreadableFile(f"{error.filename}: the folder cannot be listed ({error.strerror})") from error

    for folder, subfolders, names in os.walk(path, onerror=fail):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(names):
            file = Path(folder) / name
            if not name.startswith(".") and name not in _SKIPPED and not file.is_symlink():
                yield file


def kind_of(file: Path) -> str:
    """`dicom`, `nifti`, `nrrd` or `raster`.

    Raises: UnreadableFile with what the file seems to be instead.
    """
    try:
        with file.open("rb") as stream:
            head = stream.read(512)
    except OSError as error:
        raise UnreadableFile(f"{file.name}: cannot be opened ({error.strerror})") from error
    if not head:
        raise UnreadableFile(f"{file.name}: the file is empty")
    if head[128:132] == b"DICM" or _headless_dicom(head):
        return "dicom"
    if head.startswith(b"NRRD"):
        return "nrrd"
    if head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", *_TIFF)):
        return "raster"
    name = file.name.lower()
    plain_nifti = any(head[at : at + 4] == magic for magic, at in _NIFTI.items())
    if plain_nifti or (head[:2] == b"\x1f\x8b" and name.endswith(".nii.gz")):
        return "nifti"
    raise UnreadableFile(
        f"{file.name}: not an image that is read here (DICOM, NIfTI, NRRD, PNG, JPEG, TIFF): "
        f"it starts with {head[:8]!r}"
    )


def _headless_dicom(head: bytes) -> bool:
    """A data set without preamble: its first element is (0002,xxxx) or (0008,xxxx), little endian."""
    if len(head) < 8 or head[0] not in (2, 8) or head[1] != 0 or head[3] != 0:
        return False
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    implicit = int.from_bytes(head[4:8], "little") <= 64
    return explicit or implicit
