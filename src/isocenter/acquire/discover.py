"""Which files a path holds, and what each of them is, by its content rather than its name."""

import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from isocenter.errors import UnreadableFile

_SKIPPED = {"DICOMDIR", "Thumbs.db", "desktop.ini"}
_DIRECTORY = b"1.2.840.10008.1.3.10"
_METAIMAGE = re.compile(rb"\s*(ObjectType\s*=\s*Image|NDims\s*=)")
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_NIFTI = {b"n+1\0": 344, b"n+2\0": 4}
_NIFTI_PAIR = {b"ni1\0": 344, b"ni2\0": 4}


def files_below(
    path: Path, *, without: Path | None = None, on_unlisted: Callable[[Path, str], None] = lambda *_: None
) -> Iterator[Path]:
    """The file itself, or all files below a folder in a fixed order.

    Symbolic links inside the folder are not followed and hidden files are skipped: a folder is what it holds.

    Args:
        path: file or folder.
        without: a folder that is left out: a run's own output is no input.
        on_unlisted: told of subfolders that cannot be listed, and why.
    Raises: UnreadableFile if the path does not exist or cannot be listed.
    """
    try:
        if not path.exists():
            raise UnreadableFile(f"{path}: there is no such file or folder")
        if path.is_file():
            yield path
            return
        if not path.is_dir():
            raise UnreadableFile(f"{path}: not a regular file (a pipe or a device?)")
        os.scandir(path).close()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UnreadableFile(f"{str(path)[:200]}: cannot be opened ({why})") from error

    yield from _below(path, without.resolve() if without else None, on_unlisted)


def _below(folder: Path, without: Path | None, on_unlisted: Callable[[Path, str], None]) -> Iterator[Path]:
    """Files of a folder in the order of their names, then those of its subfolders; as deep as the disk goes."""
    left = [folder]
    while left:
        here = left.pop()
        try:
            with os.scandir(here) as listing:
                entries = sorted((e for e in listing if not e.name.startswith(".")), key=lambda e: e.name)
        except OSError as error:
            on_unlisted(here, f"the folder cannot be listed ({error.strerror})")
            continue
        folders = [e for e in entries if not e.is_symlink() and e.is_dir()]
        for entry in entries:
            if not entry.is_symlink() and entry.name not in _SKIPPED and not entry.is_dir():
                yield here / entry.name
        inner = [here / e.name for e in folders]
        left += [each for each in reversed(inner) if without is None or each.resolve() != without]


def kind_of(file: Path) -> str:
    """`dicom`, `nifti`, `nrrd`, `metaimage`, `hdf5` or `raster`.

    Raises: UnreadableFile with what the file seems to be instead.
    """
    try:
        regular = stat.S_ISREG(file.stat().st_mode)  # a pipe would never end
        head = b""
        if regular:
            with file.open("rb", buffering=0) as stream:
                head = stream.read(512)
    except OSError as error:
        raise UnreadableFile(f"{file.name}: cannot be opened ({error.strerror})") from error
    if not regular:
        raise UnreadableFile(f"{file.name}: not a regular file (a pipe or a device?)")
    if not head:
        raise UnreadableFile(f"{file.name}: the file is empty")
    if head[128:132] == b"DICM" or _headless_dicom(head):
        return "dicom"
    kinds = {
        "nrrd": (b"NRRD",),
        "hdf5": (b"\x89HDF\r\n\x1a\n",),
        "raster": (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", *_TIFF),
    }
    for kind, starts in kinds.items():
        if head.startswith(starts):
            return kind
    if _METAIMAGE.match(head):
        return "metaimage"
    if _is_nifti(file, head):
        return "nifti"
    raise UnreadableFile(
        f"{file.name}: not an image that is read here (DICOM, NIfTI, NRRD, MetaImage, HDF5, PNG, JPEG, TIFF): "
        f"it starts with {_shown(head)}"
    )


def _is_nifti(file: Path, head: bytes) -> bool:
    """Whether it is one NIfTI file.

    Raises: UnreadableFile for one in two files, or one that its name hides.
    """
    name = file.name.lower()
    if any(head[at : at + 4] == magic for magic, at in _NIFTI_PAIR.items()):
        raise UnreadableFile(f"{file.name}: a NIfTI pair (.hdr and .img) is not read; convert it to one .nii first")
    plain = any(head[at : at + 4] == magic for magic, at in _NIFTI.items())
    if plain and not name.endswith(".nii"):
        raise UnreadableFile(f"{file.name}: holds a NIfTI image; rename it to end in .nii")
    if head[:4] == b"PK\x03\x04":
        raise UnreadableFile(f"{file.name}: a zip within a folder is not opened; open it by itself")
    return plain or (head[:2] == b"\x1f\x8b" and name.endswith(".nii.gz"))


def is_dicomdir(file: Path) -> bool:
    """The file is a DICOM directory, whatever it is called."""
    with file.open("rb") as stream:
        head = stream.read(1024)
    return head[128:132] == b"DICM" and _DIRECTORY in head


def _shown(head: bytes) -> str:
    """The first bytes as a person may read them."""
    text = head[:12].decode("ascii", "replace")
    return f"{text!r}" if text.isprintable() else head[:8].hex(" ")


def _headless_dicom(head: bytes) -> bool:
    """A data set without preamble: its first element is (0002,xxxx) or (0008,xxxx)."""
    if len(head) < 8:
        return False
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    if head[:2] == b"\0\x08":
        return head[2] == 0 and explicit  # most significant byte first
    if head[0] not in (2, 8) or head[1] != 0 or head[3] != 0:
        return False
    implicit = int.from_bytes(head[4:8], "little") <= 64
    return explicit or implicit
