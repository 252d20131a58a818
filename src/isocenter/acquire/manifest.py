"""Tables of images: a row a case, columns of images, labels, masks, splits, patients and times."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from isocenter.acquire.columns import read_columns
from isocenter.acquire.dataset_files import column_of, require_columns, split_named, stem_of
from isocenter.acquire.marked import is_table_of_boxes
from isocenter.data.dataset import ABSENT, PATIENT_COLUMNS, Dataset, Problem, Sample, Source
from isocenter.errors import InputError

_TARGET = ("label", "target", "class", "diagnosis", "category", "value", "类别", "诊断")
_TIMES = ("times", "times_s", "frame_times", "时间")
_GOAL = ("target_image", "better", "clean", "目标影像")
_MASK = ("mask", "seg", "segmentation", "label_map", "labels", "掩模")
_SPLIT, _SITE, _CASE = ("split", "set"), ("site", "institution", "center", "centre"), ("case", "id", "name")
_MISSING = ("na", "n/a", "nan", "#n/a", "null")
"""Words of spreadsheets for a cell without a value, in small letters."""


def image_columns(cells: Mapping[str, Any]) -> list[str]:
    """Columns of images: `image`, `image2`, `image_T1`, `image:T1`; and those called 图像."""
    return [name for name in cells if re.fullmatch(r"(?:images?|影像|图像)(?:[ _:-]?\w+)?", name.strip().lower())]


def names_only_images(cells: Mapping[str, Sequence[str]]) -> bool:
    """Whether a table names images and holds no other column of numbers that could be a feature; or boxes in images."""
    if is_table_of_boxes(cells):
        return True
    images = image_columns(cells)
    if not images or column_of(cells, _TIMES) or column_of(cells, _MASK) or column_of(cells, _GOAL):
        return bool(images)
    known = {*images, *(column_of(cells, names) for names in (_TARGET, _SPLIT, _SITE, _CASE, PATIENT_COLUMNS))}
    return not any(_numeric(values) for name, values in cells.items() if name not in known)


def _numeric(values: Sequence[str]) -> bool:
    try:
        return bool([float(v) for v in values if v.strip()])
    except ValueError:
        return False


@dataclass(frozen=True)
class _Columns:
    """Which column of a table holds what; None where none does."""

    images: tuple[str, ...]
    mask: str | None
    better: str | None
    times: str | None
    answer: str | None
    case: str | None
    patient: str | None
    split: str | None
    site: str | None

    @property
    def named(self) -> set[str | None]:
        """All of them; what stands beside may be a group or a column that a network sees."""
        return {*self.images, *(getattr(self, field.name) for field in fields(self) if field.name != "images")}


def manifest(path: Path, *, group: str | None, target: str | None, split: str | None, labelled: bool) -> Dataset | None:
    """A table of one row a case; None where no column names images.

    Args:
        path: CSV, TSV or .xlsx.
        group: column of patients.
        target: column of the class or value.
        split: column of splits.
        labelled: rows without a label are problems, not cases.
    Raises: InputError for columns that are not there, and for splits and times that are none.
    """
    cells = read_columns(path).cells
    images = image_columns(cells)
    if not images:
        return None
    require_columns(cells, (group, target, split), path)
    columns = _Columns(
        tuple(images), column_of(cells, _MASK), column_of(cells, _GOAL), column_of(cells, _TIMES),
        target or column_of(cells, _TARGET), column_of(cells, _CASE), group or column_of(cells, PATIENT_COLUMNS),
        split or column_of(cells, _SPLIT), column_of(cells, _SITE),
    )  # fmt: skip
    rows = [{name: values[row].strip() for name, values in cells.items()} for row in range(len(cells[images[0]]))]
    read = [_case(path, row, number, columns, labelled=labelled) for number, row in enumerate(rows)]
    found = [(case, number + 2) for number, case in enumerate(read) if isinstance(case, Sample)]
    names = Counter(sample.case for sample, _ in found)
    samples = tuple(
        replace(sample, case=f"{sample.case} ({line})") if names[sample.case] > 1 else sample for sample, line in found
    )
    named = columns.answer if columns.answer and columns.answer.lower() not in _TARGET else ""
    problems = tuple(case for case in read if isinstance(case, Problem))
    return Dataset(path, "a table of images", samples, channels=tuple(images), problems=problems, answer=named)


def _case(path: Path, row: Mapping[str, str], number: int, columns: _Columns, *, labelled: bool) -> Sample | Problem:
    """The case of a row, or what is wrong with it.

    Raises: InputError for splits and times that are none.
    """
    line = number + 2

    def text(name: str | None) -> str:
        return row[name] if name else ""

    own = [row[name] for name in columns.images]
    shown = next((one for one in own if one), "")
    name = text(columns.case) or (stem_of(Path(shown.split(":")[0])) or shown if shown else f"row-{line}")
    several = len(own) > 1 and any(own)  # a case may lack a modality
    if not all(own) and not several:
        return Problem(f"states no {columns.images[own.index('')]}", name, line)
    stated = text(columns.answer)
    answer = "" if stated.lower() in _MISSING else stated
    mask, better = text(columns.mask), text(columns.better)
    if labelled and not (answer or mask or better):
        return Problem("has an image and no label", name, line)
    return Sample(
        name,
        tuple(_cell(path, one) if one else ABSENT for one in own),
        patient=text(columns.patient),
        target="" if ";" in answer else answer,
        targets=tuple(part.strip() for part in answer.split(";")) if ";" in answer else (),
        times=_numbers(text(columns.times), path, number),
        mask=_cell(path, mask) if mask else None,
        goal=_cell(path, better) if better else None,
        split=split_named(text(columns.split), path, number),
        site=text(columns.site),
        groups={other: value for other, value in row.items() if other not in columns.named},
    )


def _numbers(text: str, table: Path, row: int) -> tuple[float, ...]:
    """Numbers parted by semicolons.

    Raises: InputError for what is none.
    """
    try:
        return tuple(float(part) for part in text.split(";")) if text else ()
    except ValueError as error:
        raise InputError(f"{table.name}: row {row + 2}: times are numbers in seconds, as 0;0.04;0.08") from error


def _cell(table: Path, text: str) -> Source:
    """`scan.nii.gz`, or `file.h5:dataset`; relative to the table."""
    name, _, inside = text.rpartition(":") if re.search(r"\.(h5|hdf5|npz):[^\\/]", text) else (text, "", "")
    inside, _, index = inside.partition("[")
    return Source(
        table.parent / (name or text), inside, int(index.rstrip("]")) if index.rstrip("]").isdigit() else None
    )
