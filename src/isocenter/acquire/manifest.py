"""Tables of images: a row a case, columns of images, labels, masks, splits, patients and times."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
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
    mask, better = column_of(cells, _MASK), column_of(cells, _GOAL)
    clock = column_of(cells, _TIMES)
    goal = target or column_of(cells, _TARGET)
    columns = {
        "patient": group or column_of(cells, PATIENT_COLUMNS),
        "split": split or column_of(cells, _SPLIT),
        "site": column_of(cells, _SITE),
    }
    case = column_of(cells, _CASE)
    samples: list[Sample] = []
    problems: list[Problem] = []
    lines: list[int] = []
    rest = [name for name in cells if name not in {*images, mask, better, clock, goal, case, *columns.values()}]
    for row in range(len(cells[images[0]])):

        def text(name: str | None, row: int = row) -> str:
            return cells[name][row].strip() if name else ""

        own = [text(name) for name in images]
        shown = next((one for one in own if one), "")
        name = text(case) or (stem_of(Path(shown.split(":")[0])) or shown if shown else f"row-{row + 2}")
        several = len(own) > 1 and any(own)  # a case may lack a modality
        if not all(own) and not several:
            problems.append(Problem(f"states no {images[own.index('')]}", name, row + 2))
            continue
        answer = "" if text(goal).lower() in _MISSING else text(goal)
        if labelled and not (answer or text(mask) or text(better)):
            problems.append(Problem("has an image and no label", name, row + 2))
            continue
        part = split_named(text(columns["split"]), path, row)
        lines.append(row + 2)
        samples.append(
            Sample(
                name,
                tuple(_cell(path, one) if one else ABSENT for one in own),
                patient=text(columns["patient"]),
                target="" if ";" in answer else answer,
                targets=tuple(part.strip() for part in answer.split(";")) if ";" in answer else (),
                times=_numbers(text(clock), path, row),
                mask=_cell(path, text(mask)) if text(mask) else None,
                goal=_cell(path, text(better)) if text(better) else None,
                split=part,
                site=text(columns["site"]),
                groups={name: text(name) for name in rest},
            )
        )
    names = Counter(sample.case for sample in samples)
    samples = [
        replace(s, case=f"{s.case} ({i})") if names[s.case] > 1 else s for s, i in zip(samples, lines, strict=True)
    ]
    named = goal if goal and goal.lower() not in _TARGET else ""
    return Dataset(
        path, "a table of images", tuple(samples), channels=tuple(images), problems=tuple(problems), answer=named
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
