"""Which files a path holds, and what each of them is, by its content rather than its name."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from isocenter.errors import UnreadableFile

_SKIPPED = {"DICOMDIR", "Thumbs.db", "desktop.ini"}
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
        os.scandir(path).close()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UnreadableFile(f"{str(path)[:200]}: cannot be opened ({why})") from error

    def fail(error: OSError) -> None:
        on_unlisted(Path(error.filename), f"the folder cannot be listed ({error.strerror})")

    own = without.resolve() if without else None
    for folder, subfolders, names in os.walk(path, onerror=fail):
        subfolders[:] = sorted(
            name for name in subfolders if not name.startswith(".") and (Path(folder) / name).resolve() != own
        )
        for name in sorted(names):
            file = Path(folder) / name
            if not name.startswith(".") and name not in _SKIPPED and not file.is_symlink():
                yield file


def kind_of(file: Path) -> str:
    """`dicom`, `nifti`, `nrrd` or `raster`.

    Raises: UnreadableFile with what the file seems to be instead.
    """
    if not file.is_file():
        raise UnreadableFile(f"{file.name}: not a regular file (a pipe or a device?)")
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
    if any(head[at : at + 4] == magic for magic, at in _NIFTI_PAIR.items()):
        raise UnreadableFile(f"{file.name}: a NIfTI pair (.hdr and .img) is not read; convert it to one .nii first")
    if plain_nifti and not name.endswith(".nii"):
        raise UnreadableFile(f"{file.name}: holds a NIfTI image; rename it to end in .nii")
    if plain_nifti or (head[:2] == b"\x1f\x8b" and name.endswith(".nii.gz")):
        return "nifti"
    raise UnreadableFile(
        f"{file.name}: not an image that is read here (DICOM, NIfTI, NRRD, PNG, JPEG, TIFF): "
        f"it starts with {_shown(head)}"
    )


def _shown(head: bytes) -> str:
    """The first bytes as a person may read them."""
    text = head[:12].decode("ascii", "replace")
    return f"{text!r}" if text.isprintable() else head[:8].hex(" ")


def _headless_dicom(head: bytes) -> bool:
    """A data set without preamble: its first element is (0002,xxxx) or (0008,xxxx), little endian."""
    if len(head) < 8 or head[0] not in (2, 8) or head[1] != 0 or head[3] != 0:
        return False
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    implicit = int.from_bytes(head[4:8], "little") <= 64
    return explicit or implicit
