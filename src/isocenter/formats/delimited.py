"""Tables as CSV that no spreadsheet runs as formulas."""

import csv
import re
from collections.abc import Sequence
from io import StringIO


def csv_text(rows: Sequence[Sequence[object]]) -> str:
    """CSV in which no cell is a formula when a spreadsheet opens it."""
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for row in rows:
        writer.writerow([_tame(cell) for cell in row])
    return out.getvalue()


def _tame(cell: object) -> object:
    if not isinstance(cell, str):
        return cell
    text = (
        re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "?", re.sub(r"\s*[\r\n]+\s*", " ", cell))
        .encode("utf-8", "replace")
        .decode("utf-8")
    )
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text):
        return text  # a number is no formula
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t")) else text
