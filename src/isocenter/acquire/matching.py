"""Rows of a table and studies on disk, matched exactly; what is not exact is listed and never guessed."""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from isocenter.acquire.discover import files_below, kind_of
from isocenter.acquire.table import Row, Table, dated
from isocenter.errors import InputError, NothingReadable
from isocenter.formats.dicom_image import read_header
from isocenter.types import Progress

Status = Literal["matched", "unmatched", "ambiguous", "near", "conflict", "duplicate", "hidden", "unlisted"]


@dataclass(frozen=True)
class Study:
    """One study on disk, as its headers name it.

    Args:
        uid: Study Instance UID.
        patient_id, name, accession, date: what its files say; several different values make it unusable.
        folder: the deepest folder that holds it.
        files: all of its files.
        trouble: its files contradict each other about who was examined.
    """

    uid: str
    patient_id: str
    name: str
    accession: str
    date: str
    folder: Path
    files: tuple[Path, ...] = field(repr=False)
    trouble: str = ""


@dataclass(frozen=True)
class Match:
    """What became of a row, or of a study without one.

    Args:
        row: as the sheet numbers it; None for a study without a row.
        status: see `Status`.
        study: the study, where there is one.
        message: why.
    """

    row: int | None
    status: Status
    study: Study | None
    message: str


def index_studies(
    root: Path, *, without: Path | None = None, on_progress: Progress | None = None
) -> tuple[tuple[Study, ...], tuple[str, ...]]:
    """Every DICOM study below a folder, and a sentence for each file that names no study.

    Raises: NothingReadable if there is no study at all.
    """
    groups: dict[str, list[tuple[Path, tuple[str, ...]]]] = defaultdict(list)
    others: list[str] = []
    if not root.is_dir():
        raise NothingReadable(f"{root}: is no folder; --studies names the folder that holds the studies")
    for done, file in enumerate(files_below(root, without=without)):
        if on_progress and done % 64 == 0:
            on_progress("reading headers", done, 0)
        try:
            header = read_header(file, marked=True)
            if header is None and kind_of(file) == "dicom":
                header = read_header(file)
        except InputError as error:
            others.append(str(error))
            continue
        if header is None:
            others.append(f"{file.relative_to(root)}: names no patient, so no row can be matched to it")
            continue
        said = tuple(header.text(key).strip() for key in _KEYS)
        groups[header.text("StudyInstanceUID")].append((file, said))
    studies = tuple(_study(uid, found) for uid, found in groups.items() if uid)
    others += [f"{f.name}: states no StudyInstanceUID" for uid, found in groups.items() if not uid for f, _ in found]
    if not studies:
        raise NothingReadable(f"{root}: holds no DICOM study that a row could be matched to")
    return studies, tuple(others)


_KEYS = ("PatientID", "PatientName", "AccessionNumber", "StudyDate")


def _study(uid: str, found: Sequence[tuple[Path, tuple[str, ...]]]) -> Study:
    values = [Counter(said[i] for _, said in found if said[i]) for i in range(len(_KEYS))]
    patient_id, name, accession, date = (c.most_common(1)[0][0] if c else "" for c in values)
    names = {folded(n) for n in values[1]}
    odd = [k for k, c in zip(_KEYS, values, strict=True) if len(c) > 1 and not (k == "PatientName" and len(names) == 1)]
    trouble = f"its files state several values of {', '.join(odd)}" if odd else ""
    folder = Path(os.path.commonpath([file.parent for file, _ in found]))
    return Study(uid, patient_id, name, accession, date, folder, tuple(f for f, _ in found), trouble)


def match(table: Table, studies: Sequence[Study]) -> tuple[Match, ...]:
    """Match rows to studies by all that a row states: id, accession number, date, study UID; exactly.

    Returns: a match for each row in the table's order, then one for each study without a row.
    """
    exact = {row.number: _exact(row, studies) for row in table.rows}
    claims = Counter(found[0].uid for row in table.rows if not row.hidden and len(found := exact[row.number]) == 1)
    matches = [_judged(row, exact[row.number], claims, studies) for row in table.rows]
    taken = {m.study.uid for m in matches if m.study is not None}
    named = {m.row: m.status for m in matches}
    named_by: dict[str, list[str]] = defaultdict(list)
    for row in table.rows:
        for study in exact[row.number]:
            named_by[study.uid].append(f"row {row.number} ({named[row.number]})")
    for study in studies:
        if study.uid in taken:
            continue
        rows = named_by[study.uid]
        why = f"named only by {', '.join(rows[:6])}" if rows else "no row names this study"
        why += f" ({_described(study)})"
        matches.append(Match(None, "unlisted", study, why))
    return tuple(matches)


def _exact(row: Row, studies: Sequence[Study]) -> list[Study]:
    """Studies that agree with everything that the row states."""
    if row.trouble or not _keys(row) or _date_alone(row):
        return []
    return [s for s in studies if all(_value(s, key) == text for key, text in _keys(row).items())]


def _date_alone(row: Row) -> bool:
    """Whether a row of a table with ids or accession numbers states nothing but a date."""
    return set(_keys(row)) == {"date"} and bool({"id", "accession", "study"} & set(row.values))


def _keys(row: Row) -> dict[str, str]:
    return {k: row.values[k] for k in ("id", "accession", "date", "study") if row.values.get(k)}


def _value(study: Study, key: str) -> str:
    value = {"id": study.patient_id, "accession": study.accession, "date": study.date, "study": study.uid}[key]
    if key == "date":
        value = dated(value)[0] or value
    return unicodedata.normalize("NFKC", value).strip()


def _judged(row: Row, found: list[Study], claims: Mapping[str, int], studies: Sequence[Study]) -> Match:
    """One row's status."""
    if row.hidden:
        return Match(row.number, "hidden", None, "the row is hidden in the sheet: show it to include it")
    if row.trouble:
        return Match(row.number, "unmatched", None, row.trouble)
    if not _keys(row):
        return Match(row.number, "unmatched", None, "the row states no PatientID, AccessionNumber, date or study")
    if _date_alone(row):
        return Match(
            row.number, "unmatched", None, "the row states only a date: its PatientID or AccessionNumber is empty"
        )
    if len(found) > 1:
        listed = "; ".join(_described(s) for s in found[:6])
        wanted = "state the date or the AccessionNumber too"
        return Match(row.number, "ambiguous", None, f"{len(found)} studies agree with the row ({listed}): {wanted}")
    if not found:
        return _inexact(row, studies, claims)
    study = found[0]
    if claims[study.uid] > 1:
        text = f"{claims[study.uid]} rows name the study {study.uid}: keep one of them"
        return Match(row.number, "duplicate", None, text)
    if study.trouble:
        return Match(row.number, "conflict", None, f"study {study.uid}: {study.trouble}")
    if _other_name(row.values.get("name", ""), study.name):
        text = f"the row and the study {study.uid} agree, but name the patient differently"
        return Match(row.number, "conflict", None, text)
    return Match(row.number, "matched", study, "by " + ", ".join(_keys(row)))


def _inexact(row: Row, studies: Sequence[Study], claimed: Mapping[str, int]) -> Match:
    """A row without an exact study: in conflict, near, or unmatched."""
    keys = _keys(row)
    hits = {k: [s for s in studies if _value(s, k) == text] for k, text in keys.items() if k != "date"}
    found = [k for k in hits if hits[k]]
    if len(found) > 1 and not any(all(s in hits[k] for k in found) for s in hits[found[0]]):
        said = "; ".join(f"its {k} is that of {_described(hits[k][0])}" for k in found)
        return Match(row.number, "conflict", None, said)
    near = [(study, text) for study in studies if (text := _near(row, study))]
    free = [text for study, text in near if study.uid not in claimed]
    if free:
        return Match(
            row.number, "near", None, "; ".join(free[:4]) + ": mend the table or the study, nothing is guessed"
        )
    partly = []
    for key in found:
        others = [k for k in keys if all(_value(s, k) != keys[k] for s in hits[key])]
        described = _described(hits[key][0])
        partly.append(f"its {key} is that of {described}, which differs in {', '.join(others) or 'the rest'}")
    if partly:
        return Match(row.number, "conflict", None, "; ".join(partly))
    stated = ", ".join(f"{k} {v}" for k, v in keys.items())
    taken = "".join(f"; {text} (another row names it)" for _, text in near[:3])
    return Match(row.number, "unmatched", None, f"no study has {stated}{taken}")


def _near(row: Row, study: Study) -> str:
    """How a row nearly names a study; empty if it does not."""
    keys = _keys(row)
    differing = [k for k, text in keys.items() if _value(study, k) != text]
    same = [k for k in keys if k not in differing and k != "date"]
    where = f"study {study.uid}"
    if differing == ["date"] and same:
        why = _near_date(keys["date"], _value(study, "date"))
        return f"{where}: {why}" if why else ""
    name = row.values.get("name", "")
    same_name = bool(name) and folded(name) == folded(study.name)
    for key in ("id", "accession"):
        if key in differing and all(k in (key, "date") for k in differing):
            have = _value(study, key)
            close = "date" not in differing or _near_date(keys["date"], _value(study, "date")) != ""
            if close and one_edit(keys[key], have):
                return f"{where}: its {key} {have!r} is one edit away from {keys[key]!r}"
            if close and have and keys[key].lstrip("0") == have.lstrip("0"):
                return f"{where}: its {key} {have!r} differs in leading zeros from {keys[key]!r}"
            if key == "id" and same_name:
                return f"{where}: the same name, but PatientID {have!r} where the row has {keys[key]!r}"
    if same_name and "id" not in keys and differing:
        return f"{where}: the same name, but other {', '.join(differing)}"
    return ""


def _near_date(one: str, other: str) -> str:
    """Why two dates (YYYYMMDD) nearly agree; empty if they do not."""
    try:
        a, b = (datetime.strptime(text, "%Y%m%d") for text in (one, other))  # noqa: DTZ007 - days have no zone
    except ValueError:
        return ""
    if abs((a - b).days) == 1:
        return f"its date {other} is a day off {one}"
    if a.year == b.year and a.day == b.month and a.month == b.day:
        return f"its date {other} has day and month of {one} exchanged"
    return ""


def one_edit(one: str, other: str) -> bool:
    """Whether one character inserted, deleted or replaced, or two neighbours exchanged, make one text the other."""
    if not one or not other or one == other or abs(len(one) - len(other)) > 1:
        return False
    start = _alike(one, other)
    a, b = one[start:], other[start:]
    end = _alike(a[::-1], b[::-1])
    a, b = a[: len(a) - end], b[: len(b) - end]
    return max(len(a), len(b)) == 1 or (len(a) == len(b) == 2 and a == b[::-1])


def _alike(one: str, other: str) -> int:
    """How many characters both begin with."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def folded(name: str) -> str:
    """A name without case, order of its parts, and signs; its first component group (PS3.5 6.2.1.2)."""
    group = next((g for g in name.split("=") if g.strip("^ ")), "")
    return _folded(group)


def _folded(group: str) -> str:
    parts = [p for p in re.split(r"[\W_]+", unicodedata.normalize("NFKC", group).casefold()) if p]
    return "".join(parts) if any(ord(c) > 0x2E7F for p in parts for c in p) else " ".join(sorted(parts))


def _other_name(one: str, other: str) -> bool:
    """Whether no component groups of two names that are of one script share a part."""
    compared = False
    for a in one.split("="):
        for b in other.split("="):
            first, second = _folded(a), _folded(b)
            if not first or not second or first.isascii() != second.isascii():
                continue
            compared = True
            if set(first.split()) & set(second.split()):
                return False
    return compared


def _described(study: Study) -> str:
    said = (("PatientID", study.patient_id), ("AccessionNumber", study.accession), ("date", study.date))
    return f"study {study.uid}: " + ", ".join(f"{k} {v}" for k, v in said if v)
