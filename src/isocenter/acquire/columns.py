"""Tables of numbers: one row a patient, lesion or image, by column."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from isocenter.acquire.table import raw_cells
from isocenter.errors import InputError, UnreadableFile, cause_of
from isocenter.optional import require


@dataclass(frozen=True)
class Columns:
    """A table by column.

    Args:
        path: the file.
        cells: header -> text of each row; empty where the cell is.
    """

    path: Path
    cells: Mapping[str, tuple[str, ...]] = field(repr=False)

    @property
    def rows(self) -> int:
        """Rows below the header."""
        return len(next(iter(self.cells.values()), ()))

    def column(self, name: str) -> tuple[str, ...]:
        """The cells of one column.

        Raises: InputError with the columns there are, nearest first.
        """
        from difflib import get_close_matches

        if name in self.cells:
            return self.cells[name]
        near = get_close_matches(name, self.cells, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        some = ", ".join(list(self.cells)[:12])
        raise InputError(f"{self.path.name}: has no column {name!r}{hint}; it has {len(self.cells)}: {some}")


def read_columns(path: Path) -> Columns:
    """Read a table: `.xlsx` (one visible sheet), CSV or TSV (UTF-8, UTF-16, GB18030), or Parquet.

    Formulas are not evaluated; hidden rows and columns are refused, since nobody sees what they say.

    Raises: InputError for a column without a name or a name that stands twice; UnreadableFile.
    """
    if path.suffix.lower() in (".parquet", ".pq"):
        return _from_parquet(path)
    raw = [row for row in raw_cells(path) if any(cell.text or cell.trouble for cell in row[1])]
    if len(raw) < 2:
        raise UnreadableFile(f"{path.name}: a table has a header and rows; this has {len(raw)} lines")
    header = [cell.text.strip() for cell in raw[0][1]]
    while header and not header[-1]:
        header.pop()
    _require_names(path, header)
    rows = []
    for number, cells, hidden in raw[1:]:
        texts = [cell.text.strip() for cell in cells]
        if hidden:
            raise InputError(f"{path.name}: row {number} is hidden: show it or delete it, so that all see what counts")
        trouble = next((cell.trouble for cell in cells[: len(header)] if cell.trouble), "")
        if trouble:
            raise InputError(f"{path.name}: row {number}: a cell {trouble}")
        if any(texts[len(header) :]):
            raise InputError(f"{path.name}: row {number} has {len(texts)} cells and the header {len(header)}")
        rows.append((*texts[: len(header)], *[""] * (len(header) - len(texts))))
    return Columns(path, dict(zip(header, zip(*rows, strict=True), strict=True)))


def _require_names(path: Path, header: list[str]) -> None:
    if not all(header):
        raise InputError(f"{path.name}: column {header.index('') + 1} has no name")
    twice = sorted({name for name in header if header.count(name) > 1}) if len(set(header)) < len(header) else []
    if twice:
        raise InputError(f"{path.name}: the column {twice[0]!r} stands {header.count(twice[0])} times: rename one")


def _from_parquet(path: Path) -> Columns:
    parquet = require("pyarrow.parquet", extra="data")
    try:
        table = parquet.read_table(path)
        names = [str(name) for name in table.column_names]
        cells = {
            name: tuple("" if value is None else _plain(value) for value in table.column(i).to_pylist())
            for i, name in enumerate(names)
        }
    except (OSError, ValueError, TypeError) as error:
        raise UnreadableFile(f"{path.name}: is no Parquet table that can be read ({cause_of(error)})") from error
    _require_names(path, names)
    if not cells or not next(iter(cells.values())):
        raise UnreadableFile(f"{path.name}: the table is empty")
    return Columns(path, cells)


def _plain(value: object) -> str:
    return repr(value) if isinstance(value, float) else str(value)
