"""Tables of marked objects, one row a box or a point; and what is wrong with a box, whoever states it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isocenter.acquire.columns import read_columns
from isocenter.acquire.dataset_files import column_of, require_columns, split_named, stem_of
from isocenter.data.dataset import PATIENT_COLUMNS, Dataset, Marked, Problem, Sample, Source
from isocenter.errors import InputError

ANNOTATIONS = ("annotations", "annotation", "labels_voc", "xml")
"""Names of folders of VOC's and COCO's files."""
_CASE = ("seriesuid", "series_uid", "image", "filename", "file_name", "file", "image_id", "case", "id")
_POINT = (("coordx", "x_mm", "x"), ("coordy", "y_mm", "y"), ("coordz", "z_mm", "z"))
_DIAMETER = ("diameter_mm", "diameter")
_CORNERS = (("xmin", "x_min", "x1"), ("ymin", "y_min", "y1"), ("xmax", "x_max", "x2"), ("ymax", "y_max", "y2"))
_DEEP = (("zmin", "z_min", "z1"), ("zmax", "z_max", "z2"))
_NAME = ("class", "class_name", "label", "name", "category", "finding")


def wrong_box(
    low: Sequence[float], high: Sequence[float], shape: tuple[float, float] | None, *, inclusive: bool = False
) -> str:
    """What is wrong with a box; empty where nothing is.

    Args:
        low: corner.
        high: the other.
        shape: (h, w) of the picture, where known.
        inclusive: corners were counted so that a box of one point still has a width: it is none.
    """
    if not all(math.isfinite(v) for v in (*low, *high)):
        return "has corners that are no numbers"
    least = 1.0 if inclusive else 0.0
    if high[0] <= low[0]:
        return f"has no depth ({low[0]:g} to {high[0]:g})"
    if any(b - a <= least for a, b in zip(low[1:], high[1:], strict=True)):
        return f"has no area ({low[2]:g}, {low[1]:g} to {high[2]:g}, {high[1]:g})"
    if shape is not None and all(math.isfinite(n) and n > 0 for n in shape):
        outside = any(b <= 0 or a >= n for a, b, n in zip(low[1:], high[1:], shape, strict=True))
        if outside:
            return f"lies outside the image ({low[2]:g}, {low[1]:g} to {high[2]:g}, {high[1]:g})"
    return ""


@dataclass(frozen=True)
class _Layout:
    """Columns of a table of boxes: corners in pixels, or points with a diameter in mm."""

    case: str
    name: str | None
    point: tuple[str, ...] = ()
    diameter: str | None = None
    corners: tuple[str, ...] = ()


def _layout(cells: Mapping[str, Any]) -> _Layout | None:
    case, name = column_of(cells, _CASE), column_of(cells, _NAME)
    if case is None:
        return None
    point = [column_of(cells, names) for names in _POINT]
    diameter = column_of(cells, _DIAMETER)
    if all(point) and diameter:
        return _Layout(case, name, tuple(p for p in point if p), diameter)
    wanted = [column_of(cells, names) for names in _CORNERS]
    if all(wanted):
        deep = [column_of(cells, names) for names in _DEEP]
        return _Layout(
            case, name, corners=tuple(c for c in (*wanted, *deep) if c) if all(deep) else tuple(c for c in wanted if c)
        )
    return None


def is_table_of_boxes(cells: Mapping[str, Any]) -> bool:
    """Whether each row of a table is a box or a point of an image."""
    return _layout(cells) is not None


def boxes_in(
    path: Path, *, group: str | None = None, split: str | None = None, labelled: bool = True
) -> Dataset | None:
    """A table of one row a box: image, then `xmin ymin xmax ymax` in pixels (and `zmin zmax` in voxels), or a point in
    patient millimetres with its diameter (as LUNA16 writes `seriesuid coordX coordY coordZ diameter_mm`). Images are
    named by path, or by their stem anywhere below the table's folder; those without a row hold no object.

    Raises: InputError.
    """
    cells = read_columns(path).cells
    how = _layout(cells)
    if how is None:
        return None
    require_columns(cells, (group, split), path)
    rows: dict[str, list[int]] = {}
    for number, text in enumerate(cells[how.case]):
        rows.setdefault(text.strip(), []).append(number)
    listed = _images_below(path.parent)
    if not any(_image_of(text, path.parent, listed) for text in rows):
        return None
    person = group or column_of(cells, PATIENT_COLUMNS)
    parts = split or column_of(cells, ("split", "set"))
    samples: list[Sample] = []
    problems: list[Problem] = []
    for text, own in rows.items():
        picture = _image_of(text, path.parent, listed)
        if picture is None:
            problems.append(Problem(f"has {len(own)} rows and no image", text))
            continue
        marked, odd = _rows_objects(cells, how, own)
        problems += [Problem(why, text, number + 2) for number, why in odd]
        of = split_named(_one(cells, parts, own, text, path), path, own[0])
        samples.append(Sample(stem_of(picture) or picture.stem, (Source(picture),), objects=marked, split=of,
                              patient=_one(cells, person, own, text, path)))  # fmt: skip
    rest, note, odd_ones = _without_rows(samples, listed, divided=bool(parts))
    samples += [Sample(stem_of(p) or p.stem, (Source(p),), objects=() if labelled else None) for p in rest]
    return Dataset(path, "a table of boxes", tuple(samples), problems=(*problems, *odd_ones), notes=note)


def _one(cells: Mapping[str, Sequence[str]], column: str | None, rows: Sequence[int], image: str, path: Path) -> str:
    """What all rows of an image say of it; empty without the column.

    Raises: InputError where they say different things.
    """
    if column is None:
        return ""
    said = list(dict.fromkeys(cells[column][number].strip() for number in rows))
    if len(said) > 1:
        raise InputError(
            f"{path.name}: the rows of {image} say {said[0]!r} and {said[1]!r} in the column {column!r}: an image is "
            "of one patient and one split"
        )
    return said[0]


def _rows_objects(
    cells: Mapping[str, Sequence[str]], how: _Layout, rows: Sequence[int]
) -> tuple[tuple[Marked, ...], list[tuple[int, str]]]:
    """Objects of one image, and the rows that are left out, each with its reason."""
    found = [(number, _row_object(cells, how, number)) for number in rows]
    kept = tuple(one for _, one in found if isinstance(one, Marked))
    return kept, [(number, one) for number, one in found if isinstance(one, str)]


def _without_rows(
    samples: Sequence[Sample], listed: Mapping[str, Path | None], *, divided: bool
) -> tuple[list[Path], tuple[str, ...], list[Problem]]:
    """Images that no row names: those that hold nothing, what is taken for granted, and what is wrong.

    Args:
        samples: of the rows.
        listed: images by stem.
        divided: rows state splits, which these images then lack.
    """
    used = {s.images[0].path for s in samples}
    rest = [p for p in listed.values() if p is not None and p not in used]
    problems: list[Problem] = []
    named = {stem_of(path) for path in used}
    twice = sorted(stem for stem, p in listed.items() if p is None and stem not in named)
    if twice:
        text = f"{len(twice)} names stand for several images ({twice[0]} is the first): give their paths"
        problems.append(Problem(text))
    if rest and divided:
        text = f"{len(rest)} images have no row, and so no split ({rest[0].name} is the first): left out"
        problems.append(Problem(f"{text}; a row without a box says that nothing is there"))
        return [], (), problems
    note = (f"{len(rest)} images have no row: nothing is marked in them",) if rest else ()
    return rest, note, problems


def _images_below(folder: Path) -> dict[str, Path | None]:
    """Images by stem; None for a stem that several have."""
    found: dict[str, Path | None] = {}
    for path in sorted(folder.rglob("*")):
        stem = stem_of(path) if path.is_file() else None
        if stem is not None and path.suffix.lower() not in (".zraw", ".raw"):
            found[stem] = None if stem in found else path
    return found


def _image_of(text: str, folder: Path, listed: Mapping[str, Path | None]) -> Path | None:
    if not text:
        return None
    given = folder / text
    if stem_of(given) is not None and given.is_file():
        return given
    return listed.get(stem_of(Path(text)) or text)


def _row_object(cells: Mapping[str, Sequence[str]], how: _Layout, row: int) -> Marked | str | None:
    """The object of a row, what is wrong with it, or None for a row that says that nothing is there."""
    name = (cells[how.name][row].strip() if how.name else "") or "object"
    columns = (*how.point, how.diameter) if how.diameter else how.corners
    texts = [cells[c][row].strip() for c in columns if c]
    if not any(texts):
        return None
    try:
        values = [float(t) for t in texts]
    except ValueError:
        return "its corners are no numbers: left out"
    if how.diameter:
        x, y, z, across = values
        low, high = (z - across / 2, y - across / 2, x - across / 2), (z + across / 2, y + across / 2, x + across / 2)
        wrong = wrong_box(low, high, None)
        return f"its point {wrong}: left out" if wrong else Marked(name, low, high, frame="mm")
    x0, y0, x1, y1, *deep = values
    z0, z1 = deep or (0.0, 1.0)
    wrong = wrong_box((z0, y0, x0), (z1, y1, x1), None)
    return f"its box {wrong}: left out" if wrong else Marked(name, (z0, y0, x0), (z1, y1, x1))
