"""A small YAML file of plain data: no anchors, no tags, bounded in size and depth."""

from pathlib import Path
from typing import Any

import yaml

from isocenter.errors import UnreadableFile, cause_of

_MOST_BYTES, _DEEPEST = 2**20, 12


def read_plain(path: Path) -> Any:
    """What the file says.

    Raises: UnreadableFile for what is no YAML, or holds more than plain data.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UnreadableFile(f"{path}: is larger than {_MOST_BYTES >> 20} MiB")
        text = path.read_text("utf-8")
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) or getattr(event, "tag", None):
                raise UnreadableFile(f"{path}: anchors (&, *) and tags (!) are not read; write it out")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise UnreadableFile(f"{path}: is nested more than {_DEEPEST} levels deep")
        return yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise UnreadableFile(f"{path}: is no YAML that can be read ({cause_of(error)})") from error
