"""A small XML file without declarations of its own, and so without entities."""

import math
from pathlib import Path
from xml.etree import ElementTree as ET

from isocenter.errors import UnreadableFile, cause_of

_MOST_BYTES = 8 * 2**20


def read_xml(path: Path) -> ET.Element:
    """The root of the file; names of elements have lost their namespaces.

    Raises: UnreadableFile for what is no XML, declares a document type, or is too large.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UnreadableFile(f"{path.name}: is larger than {_MOST_BYTES >> 20} MiB")
        data = path.read_bytes()
        if b"<!" in data.replace(b"<!--", b"") or b"\x00" in data:
            raise UnreadableFile(f"{path.name}: declares a document type or is no plain XML, which is not read")
        root = ET.fromstring(data)  # noqa: S314  no declarations, and so no entities
    except (OSError, ET.ParseError, ValueError, LookupError, RecursionError) as error:
        raise UnreadableFile(f"{path.name}: is no XML that can be read ({cause_of(error)})") from error
    for item in root.iter():
        item.tag = str(item.tag).rpartition("}")[2]
    return root


def number_in(item: ET.Element, name: str) -> float:
    """The number in a child element; NaN where there is none."""
    try:
        return float(item.findtext(name) or "nan")
    except ValueError:
        return math.nan
