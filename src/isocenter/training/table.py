"""Reading a table for learning: which columns are features, and what each row's target is."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import numpy as np

from isocenter.data.card import ModelCard, Task
from isocenter.data.dataset import LARGEST, PATIENT_COLUMNS
from isocenter.data.design import Design
from isocenter.errors import InputError
from isocenter.types import Array

SPLITS = ("train", "val", "test")
_CASE = ("case", "id", "lesion", "image", "name")
_MOST_CLASSES = 50
_MISSING = {"", "na", "n/a", "nan", "null", "none", "-", ".", "?", "缺失", "无"}
"""What people and programs write where there is no value."""


@dataclass(frozen=True)
class Columns:
    """What the columns of a table are for.

    Args:
        target: class or value; empty for survival.
        time: to event or end of follow-up.
        event: 1 where the event was observed.
        group: patient; None: a column with a usual name, if there is one.
        site: institution, for harmonisation.
        split: of each row; None: a column called `split`, if there is one.
        features: patterns of feature columns (`*` and `?`); empty: every column that holds numbers.
        drop: patterns of columns that are none.
        subgroups: columns by which results are broken down.
        positive: the class whose probability is judged; None: the last in order.
    """

    target: str = ""
    time: str = ""
    event: str = ""
    group: str | None = None
    site: str | None = None
    split: str | None = None
    features: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    subgroups: tuple[str, ...] = ()
    positive: str | None = None


@dataclass(frozen=True, eq=False)
class Read:
    """A design, and which columns did not become features, with the reason."""

    design: Design
    left_out: Mapping[str, str] = field(default_factory=dict)


def read_design(cells: Mapping[str, Sequence[str]], where: str, columns: Columns, *, task: Task | None = None) -> Read:
    """Make a table's columns features and target.

    Columns of numbers are features; those of few words become one feature a word; others are left out and named.
    An empty cell is a missing value.

    Args:
        cells: texts by column.
        where: the table's name, for messages.
        columns: what they are for.
        task: None: survival where a time is named, regression where the target has many different numbers, else
            classification.
    Raises: InputError for a column that is absent, a target that is empty, or a table without features.
    """
    time, event = columns.time, columns.event
    if bool(time) != bool(event):
        raise InputError("survival needs both --time and --event")
    if bool(time) == bool(columns.target):
        raise InputError("name what is predicted: --target COLUMN, or --time COLUMN and --event COLUMN")
    for name in filter(
        None, (columns.target, time, event, columns.group, columns.site, columns.split, *columns.subgroups)
    ):
        _require(cells, name, where)
    chosen = task or ("survive" if time else _guessed(cells[columns.target]))
    target, classes = _target(cells, where, columns, chosen)
    group = columns.group or patient_column(cells)
    split = columns.split or ("split" if "split" in cells else None)
    case = _case_column(cells)
    used = {columns.target, time, event, group, columns.site, split, case, "image", "mask", "label"} - {None, ""}
    names, values, left = _features(cells, columns, {name for name in used if name})
    if not names:
        raise InputError(f"{where}: no column holds numbers to learn from; left out: {_some(left)}")
    rows = case_names(cells)
    design = Design(
        chosen,
        rows,
        tuple(cells[group]) if group else rows,
        names,
        values,
        target,
        classes,
        known_patients=group is not None,
        split=_splits(cells[split], where) if split else (),
        site=tuple(cells[columns.site]) if columns.site else (),
        groups={name: tuple(cells[name]) for name in columns.subgroups},
        image=tuple(cells["image"]) if "image" in cells else (),
    )
    if group and any(not name for name in design.patients):
        raise InputError(f"{where}: column {group!r}: row {design.patients.index('') + 2} states no patient")
    return Read(design, left)


def _case_column(cells: Mapping[str, Sequence[str]]) -> str | None:
    return next((name for name in cells if name.strip().lower() in _CASE), None)


def case_names(cells: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """A name for each row: its case, or its number; with a number behind those that stand several times."""
    column = _case_column(cells)
    patient = patient_column(cells)
    count = len(next(iter(cells.values())))
    if column is None and patient is not None and len(set(cells[patient])) == count:
        column = patient
    return _distinct(tuple(cells[column]) if column else tuple(f"row-{i + 2}" for i in range(count)))


def patient_column(cells: Mapping[str, Sequence[str]]) -> str | None:
    """The column that names patients, where it has a usual name."""
    return next((name for name in cells if name.strip().lower() in PATIENT_COLUMNS), None)


def features_of(cells: Mapping[str, Sequence[str]], where: str, card: ModelCard) -> Array:
    """The matrix that a model needs, from a table.

    Raises: InputError for features that the table lacks, or cells that are no numbers.
    """
    count = len(next(iter(cells.values())))
    matrix = np.empty((count, len(card.features)))
    lacking: dict[str, None] = {}
    for index, name in enumerate(card.features):
        source, sign, word = name.partition(" = ")
        if name in cells:
            matrix[:, index] = _numbers(cells[name], where, name)
        elif sign and source in cells:
            matrix[:, index] = [1.0 if text == word else 0.0 if text else np.nan for text in cells[source]]
        else:
            lacking[source] = None
    if lacking:
        some = ", ".join(list(lacking)[:5])
        raise InputError(f"{where}: the model needs {len(lacking)} columns that are not there: {some}")
    return matrix


def _require(cells: Mapping[str, Sequence[str]], name: str, where: str) -> None:
    from difflib import get_close_matches

    if name not in cells:
        near = get_close_matches(name, cells, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise InputError(f"{where}: has no column {name!r}{hint}; it has {', '.join(list(cells)[:12])}")


def _guessed(texts: Sequence[str]) -> Task:
    numbers = [text for text in texts if text]
    whole = all(re.fullmatch(r"[+-]?\d+", text) for text in numbers)
    numeric = all(_is_number(text) for text in numbers)
    return "regress" if numeric and not (whole and len(set(numbers)) <= 20) else "classify"


def _target(
    cells: Mapping[str, Sequence[str]], where: str, columns: Columns, task: Task
) -> tuple[Array, tuple[str, ...]]:
    names = (columns.time, columns.event) if task == "survive" else (columns.target,)
    for name in names:
        empty = next((i for i, text in enumerate(cells[name]) if not text), None)
        if empty is not None:
            raise InputError(f"{where}: row {empty + 2} has no {name!r}: complete it, or leave the row away")
    if task == "survive":
        from isocenter.metrics.survival import require_events

        time, raw = (_numbers(cells[name], where, name) for name in names)
        if not np.all(raw == raw.astype(np.int64)):
            raise InputError(f"{where}: {columns.event!r} is 1 (observed) or 0 (not)")
        event = raw.astype(np.int64)
        require_events(time, event)
        return np.column_stack((time, event)), ()
    if task == "regress":
        return _numbers(cells[columns.target], where, columns.target), ()
    found = sorted(
        set(cells[columns.target]), key=lambda t: (not _is_number(t), float(t) if _is_number(t) else 0, t.casefold(), t)
    )
    if len(found) < 2:
        raise InputError(f"{where}: every row of {columns.target!r} says {found[0]!r}: there is nothing to tell apart")
    if len(found) > _MOST_CLASSES:
        raise InputError(
            f"{where}: {columns.target!r} has {len(found)} different values, more than {_MOST_CLASSES} classes: is it "
            "a number (--task regress)?"
        )
    if columns.positive is not None:
        if columns.positive not in found:
            raise InputError(f"{where}: no row of {columns.target!r} says {columns.positive!r}; there are {found[:8]}")
        found = [name for name in found if name != columns.positive] + [columns.positive]
    index = {name: i for i, name in enumerate(found)}
    return np.asarray([index[text] for text in cells[columns.target]], np.int64), tuple(found)


def _features(
    cells: Mapping[str, Sequence[str]], columns: Columns, used: set[str]
) -> tuple[tuple[str, ...], Array, dict[str, str]]:
    names: list[str] = []
    values: list[Array] = []
    left: dict[str, str] = {}
    for name, column in cells.items():
        wanted = not columns.features or any(fnmatchcase(name, pattern) for pattern in columns.features)
        if name in used or not wanted or any(fnmatchcase(name, pattern) for pattern in columns.drop):
            continue
        texts = ["" if text.strip().lower() in _MISSING else text for text in column]
        there = [text for text in texts if text]
        odd = [(row, text) for row, text in enumerate(texts) if text and not _is_number(text)]
        if not there:
            left[name] = "is empty"
        elif all(_is_number(text) for text in there):
            names.append(name)
            values.append(np.asarray([float(text) if text else np.nan for text in texts]))
        else:
            words = sorted(set(there))
            if len(odd) < 0.2 * len(there) or {w.lstrip("+-").lower() for w in words} & {"inf", "infinity"}:
                left[name] = f"is no number in row {odd[0][0] + 2}: {odd[0][1][:30]!r}"
                continue
            if len(words) > 12 or any(_is_number(word) for word in words):
                left[name] = f"holds {len(words)} different texts" if len(words) > 12 else "mixes numbers and texts"
                continue
            for word in words[1:] if len(words) == 2 else words:
                names.append(f"{name} = {word}")
                values.append(np.asarray([1.0 if text == word else 0.0 if text else np.nan for text in texts]))
    matrix = np.column_stack(values) if values else np.zeros((len(next(iter(cells.values()))), 0))
    huge = np.abs(np.nan_to_num(matrix, nan=0.0, posinf=np.inf)) > LARGEST
    if huge.any():
        row, at = (int(i) for i in np.argwhere(huge)[0])
        raise InputError(f"column {names[at]!r}, row {row + 2}: a number beyond {LARGEST:g} is none: correct it")
    return tuple(names), matrix, left


def _splits(texts: Sequence[str], where: str) -> tuple[str, ...]:
    usual = {"validation": "val", "valid": "val", "dev": "val", "training": "train", "testing": "test"}
    found = tuple(usual.get(text.strip().lower(), text.strip().lower()) for text in texts)
    odd = sorted(set(found) - set(SPLITS))
    if odd:
        raise InputError(f"{where}: a split is train, val or test; some rows say {odd[0]!r}")
    return found


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names, with a number behind those that stand several times."""
    seen: dict[str, int] = {}
    out = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        out.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return tuple(out)


def _numbers(texts: Sequence[str], where: str, name: str) -> Array:
    for row, text in enumerate(texts):
        if text.strip().lower() not in _MISSING and not _is_number(text):
            raise InputError(f"{where}: column {name!r}, row {row + 2}: {text[:40]!r} is no number")
    found = np.asarray([float(text) if _is_number(text) else np.nan for text in texts])
    if np.any(np.abs(np.nan_to_num(found, nan=0.0, posinf=np.inf)) > LARGEST):
        raise InputError(f"{where}: column {name!r} holds a number beyond {LARGEST:g}: correct it")
    return found


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text.strip()) is not None


def _some(left: Mapping[str, str]) -> str:
    return "; ".join(f"{name} {why}" for name, why in list(left.items())[:4]) or "none"
