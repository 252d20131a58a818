"""A folder of results that may be made anew, as long as nothing lies in it that was not made here."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isocenter.data.provenance import Json
from isocenter.errors import InputError, UnreadableFile
from isocenter.formats.json_file import read_mapping
from isocenter.pipeline.output import whole_folder
from isocenter.version import __version__

FILES = "files.json"
"""Names what was written, so that a later run replaces that alone."""


@contextmanager
def own_folder(target: Path, holds: str) -> Iterator[Path]:
    """A folder to fill, as `pipeline.output.whole_folder`, with a list of what was written into it.

    Args:
        target: absent, empty, or filled this way before.
        holds: what, for the refusal.
    Raises: InputError for a folder in which anything else lies.
    """
    require_own(target, holds)
    with whole_folder(target) as empty:
        yield empty
        told: dict[str, Json] = {"holds": holds, "isocenter": __version__, "files": [*sorted(_inside(empty)), FILES]}
        (empty / FILES).write_text(json.dumps(told, indent=1, ensure_ascii=False), "utf-8")


def require_own(folder: Path, holds: str) -> None:
    """Refuse a folder in which anything lies that its list does not name.

    Raises: InputError.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder}: is a file; {holds} need a folder")
    try:
        listed = read_mapping(folder / FILES).get("files")
    except UnreadableFile:
        listed = None
    own = {str(name) for name in listed} if isinstance(listed, list) else set()
    other = next((name for name in sorted(_inside(folder)) if name not in own), None)
    if other is not None:
        raise InputError(f"{folder}: holds {other}, which is none of the {holds} written before; name another folder")


def _inside(folder: Path) -> list[str]:
    return [p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir() or p.is_symlink()]
