"""A JSON file of bounded size that holds a mapping."""

import json
from pathlib import Path
from typing import Any

from isocenter.errors import UnreadableFile, cause_of

_MOST_BYTES = 64 * 2**20


def read_mapping(path: Path, *, most: int = _MOST_BYTES) -> dict[str, Any]:
    """The mapping that a JSON file holds.

    Args:
        path: of the file, in UTF-8.
        most: bytes beyond which it is not opened.
    Raises: UnreadableFile for what is no JSON, no mapping, or too large.
    """
    try:
        if path.stat().st_size > most:
            raise UnreadableFile(f"{path}: is larger than {most >> 20} MiB")
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UnreadableFile(f"{path}: is no JSON that can be read ({cause_of(error)})") from error
    if not isinstance(data, dict):
        raise UnreadableFile(f"{path}: holds no mapping")
    return data
