"""ITK-SNAP's label descriptions: names and colours for a label map that its own file cannot hold."""

import re
from collections.abc import Sequence
from pathlib import Path

from isocenter.data.labels import Label
from isocenter.data.palette import rgb_of
from isocenter.errors import UnreadableFile

ENDING = ".label.txt"
_HEAD = """\
################################################
# ITK-SnAP Label Description File
# File format:
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
# Where:
#    IDX:   Zero-based index
#    -R-:   Red color component (0..255)
#    -G-:   Green color component (0..255)
#    -B-:   Blue color component (0..255)
#    -A-:   Label transparency (0.00 .. 1.00)
#    VIS:   Label visibility (0 or 1)
#    IDX:   Label mesh visibility (0 or 1)
#  LABEL:   Label description
################################################
"""
_LINE = re.compile(r'\s*(\d+)\s+\d+\s+\d+\s+\d+\s+[\d.]+\s+[01]\s+[01]\s+"(.*)"\s*')


def write(labels: Sequence[Label], path: Path) -> None:
    """Write names and colours of labels."""
    lines = [f'{0:5}{0:6}{0:5}{0:5}{0:9}{0:3}{0:3}    "Clear Label"']
    for at, label in enumerate(labels):
        r, g, b = rgb_of(at)
        name = "".join(c for c in label.name if c.isprintable()).replace('"', "'")
        lines.append(f'{label.value:5}{r:6}{g:5}{b:5}{1:9}{1:3}{1:3}    "{name}"')
    path.write_text(_HEAD + "\n".join(lines) + "\n", "utf-8")


def read(path: Path) -> tuple[Label, ...]:
    """Labels of a description file, without the background.

    Raises: UnreadableFile for a line that is none.
    """
    found = []
    for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise UnreadableFile(f"{path.name}: line {number} is no label description")
        if int(match[1]):
            found.append(Label(int(match[1]), match[2]))
    return tuple(found)
