"""Files that hold files: a zip of images, a DICOMDIR that lists them."""

import shutil
import tempfile
import weakref
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from pydicom import dcmread

from isocenter.errors import UnreadableFile, cause_of
from isocenter.formats.header import LIMIT_BYTES
from isocenter.formats.quiet import quiet

MOST_MEMBERS = 200_000
_RATIO = 1032  # no deflate stream grows more (zlib's technical notes)
_BLOCK = 1 << 20

Refuse = Callable[[Path, str], None]
"""Told of a member that is left out, and why."""


def is_zip(path: Path) -> bool:
    """The file's content, not its name, is a zip archive's."""
    with path.open("rb") as stream:
        return stream.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


class Unpacked:
    """A folder of unpacked files; it vanishes with the last that holds this."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="isocenter-zip-"))
        self.remove = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)


def unpacked(path: Path, on_refused: Refuse) -> Unpacked:
    """The members of a zip in a folder that vanishes with the value returned.

    Members with names that lead elsewhere, links, encrypted ones, and what grows beyond its own announcement are left
    out and told.

    Raises: UnreadableFile for a broken archive, or one that claims more than can be.
    """
    kept = Unpacked()
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
            _require_bounded(path, members, kept.folder)
            for info in members:
                why = _unsafe(info)
                if why is None:
                    why = _extract(archive, info, kept.folder)
                if why is not None:
                    on_refused(Path(info.filename).parent / Path(info.filename).name, why)
    except UnreadableFile:
        kept.remove()
        raise
    except Exception as error:
        kept.remove()
        raise UnreadableFile(f"{path.name}: not a readable zip archive ({cause_of(error)})") from error
    return kept


def _require_bounded(path: Path, members: list[zipfile.ZipInfo], folder: Path) -> None:
    """Refuse an archive that claims more files or bytes than can be.

    Raises: UnreadableFile.
    """
    claimed = sum(info.file_size for info in members)
    if len(members) > MOST_MEMBERS or claimed > LIMIT_BYTES or claimed > path.stat().st_size * _RATIO:
        raise UnreadableFile(
            f"{path.name}: claims {len(members)} files of {claimed / 2**30:.1f} GiB in all: refused; unpack it"
        )
    if claimed > shutil.disk_usage(folder).free:
        raise UnreadableFile(f"{path.name}: {claimed / 2**30:.1f} GiB do not fit on the disk; unpack it elsewhere")


def _unsafe(info: zipfile.ZipInfo) -> str | None:
    """Why a member is not unpacked."""
    posix, windows = PurePosixPath(info.filename), PureWindowsPath(info.filename)
    if posix.is_absolute() or windows.is_absolute() or windows.drive or ".." in (*posix.parts, *windows.parts):
        return "its name leads out of the archive"
    if info.external_attr >> 28 == 0xA:
        return "a symbolic link in an archive is not followed"
    if info.flag_bits & 1:
        return "encrypted; unpack the archive first"
    if any(len(part.encode("utf-8", "replace")) > 200 for part in posix.parts) or len(posix.parts) > 40:
        return "its name is too long"
    return None


def _extract(archive: zipfile.ZipFile, info: zipfile.ZipInfo, folder: Path) -> str | None:
    """Unpack one member, never more than it announces; why it could not be."""
    target = folder / info.filename
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        left = info.file_size
        with archive.open(info) as source, target.open("xb") as out:
            while block := source.read(min(_BLOCK, left + 1)):
                left -= len(block)
                if left < 0:
                    break
                out.write(block)
    except Exception as error:  # noqa: BLE001 - zipfile raises what its parts raise; one member must not stop the rest
        if isinstance(error, FileExistsError):
            return "a second file of this name; the first was taken"
        target.unlink(missing_ok=True)
        return f"cannot be unpacked ({getattr(error, 'strerror', None) or cause_of(error)})"
    if left < 0:
        target.unlink()
        return "grows beyond what it announces"
    return None


@quiet()
def listed(path: Path, on_refused: Refuse) -> list[Path]:
    """The files that a DICOMDIR lists; what is absent or leads out of its folder is told.

    Raises: UnreadableFile.
    """
    root = path.parent.resolve()
    try:
        records: Any = dcmread(path, force=True).get("DirectoryRecordSequence") or []
        names = [
            [str(part) for part in ([said] if isinstance(said, str) else said)]
            for said in (record.get("ReferencedFileID") for record in records)
            if said
        ]
    except Exception as error:
        raise UnreadableFile(f"{path.name}: not a readable DICOMDIR ({cause_of(error)})") from error
    found: list[Path] = []
    for parts in names:
        shown = "/".join(parts)[:120]
        file = path.parent.joinpath(*parts)
        inside = all(part not in ("", ".", "..") and "/" not in part and "\\" not in part for part in parts)
        if not inside or not file.resolve().is_relative_to(root):
            on_refused(Path(shown), f"{shown}: the DICOMDIR points out of its folder; refused")
        elif not file.is_file():
            on_refused(Path(shown), f"{shown}: the DICOMDIR lists it, but it is not there; copy the whole medium")
        else:
            found.append(file)
    return list(dict.fromkeys(found))
