"""Tables of patients: spreadsheets and delimited text, read as text and nothing else."""

import csv
import io
import re
import unicodedata
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal

from isocenter.errors import InputError, UnreadableFile, UnsupportedFormat, cause_of

Role = Literal["id", "name", "accession", "date", "study"]

ENDINGS = (".xlsx", ".xlsm", ".csv", ".tsv", ".txt")
_MOST_BYTES = 64 * 2**20
_MOST_UNPACKED = 512 * 2**20
_MOST_ROWS, _MOST_COLUMNS = 200_000, 20_000

USUAL: dict[Role, tuple[str, ...]] = {
    "id": (
        "patientid", "patient", "pid", "mrn", "patientnumber", "patientno", "subjectid", "id",
        "病人id", "患者id", "病人编号", "患者编号", "病人号", "患者号", "病历号", "病案号", "住院号", "编号",
    ),
    "name": ("patientname", "name", "病人姓名", "患者姓名", "姓名"),
    "accession": (
        "accessionnumber", "accession", "accessionno", "accno", "acc",
        "检查号", "检查编号", "影像号", "登记号", "检查流水号",
    ),
    "date": (
        "studydate", "date", "scandate", "examdate", "examinationdate",
        "检查日期", "扫描日期", "检查时间", "日期",
    ),
    "study": ("studyinstanceuid", "studyuid", "检查uid", "检查实例uid"),
}  # fmt: skip
"""How the columns are usually called; spaces, case and signs do not matter."""


@dataclass(frozen=True)
class Row:
    """One row below the header.

    Args:
        number: as the sheet numbers it; the header is row 1.
        values: by role; empty text where the cell is empty.
        hidden: not to be seen in the sheet.
        trouble: why a value of it cannot be used.
    """

    number: int
    values: Mapping[Role, str]
    hidden: bool = False
    trouble: str = ""


@dataclass(frozen=True)
class Table:
    """A table of patients.

    Args:
        path: the file.
        columns: the header of each role that was found.
        rows: all but empty ones.
        encoding: of a text: `utf-8`, `utf-16` or `gb18030`.
    """

    path: Path
    columns: Mapping[Role, str]
    rows: tuple[Row, ...] = field(repr=False)
    encoding: str = ""


def is_table(path: Path) -> bool:
    """Whether a file's name is that of a table."""
    return path.suffix.lower() in ENDINGS and path.is_file()


def read_table(path: Path, columns: Mapping[str, str] | None = None) -> Table:
    """Read a table: `.xlsx` (one visible sheet), or CSV / TSV in UTF-8, UTF-16 or GB18030.

    Formulas are not evaluated, and what a spreadsheet remembers as their result is not believed.

    Args:
        path: the file.
        columns: role (`id`, `name`, `accession`, `date`, `study`) -> header, where they have other names.
    Raises: InputError for a table without a column to match by, or with two for one role; UnreadableFile.
    """
    sheet = path.suffix.lower() in (".xlsx", ".xlsm")
    raw = raw_cells(path)
    filled = [i for i, (_, cells, _) in enumerate(raw) if any(c.text for c in cells)]
    if not filled:
        raise UnreadableFile(f"{path.name}: the table is empty")
    header_at = next((i for i in filled[:10] if _is_header([c.text for c in raw[i][1]], columns or {})), filled[0])
    header = [cell.text for cell in raw[header_at][1]]
    found = _roles(path, header, columns or {})
    rows = [_row(number, cells, hidden, found) for number, cells, hidden in raw[header_at + 1 :]]
    if not any(row is not None for row in rows):
        raise UnreadableFile(f"{path.name}: the table has a header and no rows")
    for role, at in found.items():
        if role not in (columns or {}) and raw[header_at][1][at].trouble == _HIDDEN:
            raise InputError(
                f"{path.name}: the column {header[at]!r} is hidden: show it, or name a column with --columns {role}=..."
            )
    names: dict[Role, str] = {role: header[at] for role, at in found.items()}
    encoding = "" if sheet else _decoded(path, path.read_bytes())[1]
    return Table(path, names, tuple(row for row in rows if row is not None), encoding)


def raw_cells(path: Path) -> "_Raw":
    """Every row of a table: its number, its cells, and whether it is hidden.

    Raises: UnreadableFile, UnsupportedFormat.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise UnreadableFile(f"{path}: the table cannot be read ({error.strerror})") from error
    if size > _MOST_BYTES:
        raise UnreadableFile(f"{path.name}: a table is at most {_MOST_BYTES >> 20} MB; this has {size >> 20}")
    if path.suffix.lower() == ".xls":
        raise UnsupportedFormat(f"{path.name}: the old .xls is not read: save it as .xlsx or CSV")
    sheet = path.suffix.lower() in (".xlsx", ".xlsm")
    return _from_sheet(path) if sheet else _from_text(path)


@dataclass(frozen=True)
class Cell:
    """One cell: its text, and why it cannot be used."""

    text: str
    trouble: str = ""
    is_date: bool = False


_HIDDEN = "stands in a hidden column"
_Raw = list[tuple[int, list[Cell], bool]]


def _row(number: int, cells: list[Cell], hidden: bool, found: Mapping[Role, int]) -> Row | None:
    if not any(cell.text or cell.trouble for cell in cells):
        return None
    values: dict[Role, str] = {}
    trouble = ""
    for role, at in found.items():
        cell = cells[at] if at < len(cells) else Cell("")
        text = unicodedata.normalize("NFKC", cell.text).strip()
        values[role] = text
        if cell.trouble and cell.trouble != _HIDDEN:
            trouble = f"its {role} {cell.trouble}"
        elif "\n" in text or "\r" in text:
            trouble = f"its {role} goes over several lines: is a quotation mark missing?"
        elif cell.is_date and role != "date":
            trouble = f"its {role} is a date to the spreadsheet: format the column as text and type it again"
        elif role == "date" and text:
            day, why = dated(text)
            values[role] = day
            trouble = trouble or why
    return Row(number, values, hidden, trouble)


def dated(text: str) -> tuple[str, str]:
    """A date as YYYYMMDD, or why it is none.

    Read are YYYYMMDD, and year, month, day with signs between (`-`, `/`, `.`, 年月日), with or without a time behind
    it. Day first or month first cannot be told apart and is refused.
    """
    body = re.split(r"[T ]", text.strip(), maxsplit=1)[0]
    match = re.fullmatch(r"(\d{4})(\d{2})(\d{2})", body) or re.fullmatch(
        r"(\d{4})[-/.年](\d{1,2})[-/.月](\d{1,2})日?", body
    )
    if match is None:
        return "", f"its date {text[:30]!r} is not written as year, month, day"
    try:
        return f"{date(int(match[1]), int(match[2]), int(match[3])):%Y%m%d}", ""
    except ValueError:
        return "", f"its date {text[:30]!r} is no day of the calendar"


def _is_header(cells: Sequence[str], named: Mapping[str, str]) -> bool:
    """Whether a row holds the header of some column that is looked for."""
    wanted = {word for usual in USUAL.values() for word in usual}
    return any(plain(cell) in wanted or cell.strip() in named.values() for cell in cells if cell)


def plain(header: str) -> str:
    """A header without case, spaces and signs."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", header)).casefold()


def _roles(path: Path, header: Sequence[str], named: Mapping[str, str]) -> dict[Role, int]:
    """Which column has which role.

    Raises: InputError where a named column is absent, two would do, or nothing to match by is there.
    """
    unknown = [role for role in named if role not in USUAL]
    if unknown:
        raise InputError(f"--columns: there is no {unknown[0]!r}; columns are {', '.join(USUAL)}")
    found: dict[Role, int] = {}
    shown = ", ".join(repr(h) for h in header if h)
    for role, usual in USUAL.items():
        if role in named:
            hits = [i for i, h in enumerate(header) if h.strip() == named[role].strip()]
            if not hits:
                raise InputError(f"{path.name}: no column is called {named[role]!r}; its columns are {shown}")
        else:
            best = min((usual.index(plain(h)) for h in header if plain(h) in usual), default=None)
            hits = [] if best is None else [i for i, h in enumerate(header) if plain(h) == usual[best]]
        if len(hits) > 1:
            raise InputError(
                f"{path.name}: {len(hits)} columns are called {header[hits[0]]!r}; rename one, or name another with "
                f"--columns {role}=..."
            )
        if hits:
            found[role] = hits[0]
    doubled = [role for role in found if list(found.values()).count(found[role]) > 1]
    if doubled:
        raise InputError(f"--columns: {header[found[doubled[0]]]!r} is named for {' and '.join(doubled)}")
    if not set(found) & {"id", "accession", "date", "study"}:
        raise InputError(
            f"{path.name}: no column holds a PatientID, AccessionNumber or StudyDate; its columns are {shown}; name "
            "them: --columns id=...,accession=...,date=..."
        )
    return found


def _from_text(path: Path) -> _Raw:
    """Rows of a delimited text."""
    data = path.read_bytes()
    text, _ = _decoded(path, data)
    if "\0" in text:
        raise UnreadableFile(f"{path.name}: holds zero bytes: this is no text; save the table as CSV or .xlsx")
    lines = [line for line in text.splitlines()[:20] if line.strip()]
    stated = re.fullmatch(r"sep=(.)", lines[0].strip()) if lines else None  # Excel's own first line
    usual = max(",;\t", key=lambda s: (sum(line.count(s) > 0 for line in lines), lines[0].count(s) if lines else 0))
    delimiter = stated[1] if stated else "\t" if path.suffix.lower() == ".tsv" else usual
    found: _Raw = []
    try:
        for number, cells in enumerate(
            csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), start=1
        ):
            if number > _MOST_ROWS or len(cells) > _MOST_COLUMNS:
                raise UnreadableFile(f"{path.name}: more than {_MOST_ROWS} rows or {_MOST_COLUMNS} columns")
            told = number == 1 and stated is not None
            found.append((number, [] if told else [_text_cell(c) for c in cells], False))
    except csv.Error as error:
        why = "a quotation mark is opened and never closed" if "end of data" in str(error) else cause_of(error)
        raise UnreadableFile(f"{path.name}: is no table ({why}, near row {len(found) + 1})") from error
    return found


def _text_cell(text: str) -> Cell:
    """A cell of text; the `="00123"` by which some programs keep zeros is the text within."""
    kept = re.fullmatch(r'="([^"]*)"', text.strip())
    if kept:
        return Cell(kept[1])
    if text.startswith("="):
        return Cell("", "is a formula: save its value")
    return Cell(text.strip())


def _decoded(path: Path, data: bytes) -> tuple[str, str]:
    """The text, and the encoding in which it could be read."""
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    encodings = ["utf-16"] if wide else ["utf-8-sig", "gb18030"]
    for encoding in encodings:
        try:
            return data.decode(encoding), encoding.removesuffix("-sig")
        except UnicodeDecodeError:
            continue
    raise UnreadableFile(f"{path.name}: is neither UTF-8 nor GB18030 text; save it as UTF-8")


def _from_sheet(path: Path) -> _Raw:
    """Rows of the one visible sheet that holds any."""
    _require_sound(path)
    from openpyxl import load_workbook

    try:
        book = load_workbook(path, data_only=False, keep_links=False, keep_vba=False)
        sheets = [s for s in book.worksheets if s.sheet_state == "visible" and s.max_row and _any_value(s)]
    except Exception as error:
        raise UnreadableFile(f"{path.name}: is no spreadsheet that can be read ({cause_of(error)})") from error
    if len(sheets) != 1:
        names = ", ".join(repr(s.title) for s in sheets) or "none"
        raise InputError(f"{path.name}: one visible sheet with rows is wanted, and there are {len(sheets)} ({names})")
    sheet = sheets[0]
    if sheet.max_row > _MOST_ROWS or sheet.max_column > _MOST_COLUMNS:
        raise UnreadableFile(f"{path.name}: more than {_MOST_ROWS} rows or {_MOST_COLUMNS} columns")
    inside = {cell for area in sheet.merged_cells.ranges for cell in list(area.cells)[1:]}
    columns = _hidden_columns(sheet)
    found: _Raw = []
    for number, cells in enumerate(sheet.iter_rows(), start=1):
        row = [
            Cell("", "is part of a merged cell: write it out in every row")
            if (number, at) in inside
            else _sheet_cell(c)
            for at, c in enumerate(cells, start=1)
        ]
        row = [Cell(c.text, c.trouble or _HIDDEN, c.is_date) if i in columns else c for i, c in enumerate(row, start=1)]
        found.append((number, row, _is_hidden(sheet, number)))
    return found


def _is_hidden(sheet: Any, number: int) -> bool:
    """Whether a row is not to be seen: hidden, filtered away, or of no height."""
    if number not in sheet.row_dimensions:
        return bool(sheet.sheet_format.zeroHeight)
    row = sheet.row_dimensions[number]
    return bool(row.hidden or row.height == 0 or (sheet.sheet_format.zeroHeight and row.height is None))


def _hidden_columns(sheet: Any) -> set[int]:
    """Numbers, from 1, of columns that are not to be seen."""
    found: set[int] = set()
    for column in sheet.column_dimensions.values():
        if column.hidden or column.width == 0:
            found.update(range(column.min or 1, min(column.max or 1, _MOST_COLUMNS) + 1))
    return found


def _any_value(sheet: Any) -> bool:
    return any(value is not None for row in sheet.iter_rows(values_only=True) for value in row)


def _sheet_cell(cell: Any) -> Cell:
    value = cell.value
    if value is None:
        return Cell("")
    if cell.data_type == "f":
        return Cell("", "is a formula: save its value")
    if cell.data_type == "e":
        return Cell("", f"is an error ({value})")
    if isinstance(value, datetime | date):
        return Cell(f"{value:%Y%m%d}", is_date=True)
    if not isinstance(value, (str, int, float)) or isinstance(value, bool):
        return Cell("", f"is {value!s:.40}, neither text nor a number")
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    if isinstance(value, int) and re.fullmatch(r"0+", str(cell.number_format)):
        return Cell(str(value).zfill(len(cell.number_format)))  # shown with leading zeros
    if isinstance(value, float) or (isinstance(value, int) and abs(value) >= 10**15):
        return Cell("", f"is the number {value}, whose digits a spreadsheet does not keep: format the column as text")
    return Cell(str(value))


def _require_plain_xml(path: Path, stream: zipfile.ZipExtFile) -> None:
    """Refuse XML that declares entities, wherever, or that is not in an encoding in which that can be seen.

    Raises: UnreadableFile.
    """
    tail, first = b"", True
    while block := stream.read(1 << 20):
        if first and (block[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in block[:200]):
            raise UnreadableFile(f"{path.name}: its XML is not UTF-8; save it again, or as CSV")
        seen = tail + block
        if b"<!DOCTYPE" in seen or b"<!ENTITY" in seen:
            raise UnreadableFile(f"{path.name}: its XML declares entities, which a spreadsheet never does")
        tail, first = seen[-16:], False


def _require_sound(path: Path) -> None:
    """Refuse what is no zip of bounded XML without document types.

    Raises: UnreadableFile.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(info.file_size for info in archive.infolist()) > _MOST_UNPACKED:
                raise UnreadableFile(f"{path.name}: unpacks to more than {_MOST_UNPACKED >> 20} MB; save it as CSV")
            for info in archive.infolist():
                if info.filename.lower().endswith((".xml", ".rels")):
                    with archive.open(info) as stream:
                        assert isinstance(stream, zipfile.ZipExtFile), "what ZipFile.open gives for reading"
                        _require_plain_xml(path, stream)
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, ValueError) as error:
        raise UnreadableFile(f"{path.name}: is no .xlsx ({cause_of(error)}); save it again, or as CSV") from error
