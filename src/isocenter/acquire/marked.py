"""Data sets of marked objects: Pascal VOC, COCO, and tables of boxes or points."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isocenter.acquire.columns import read_columns
from isocenter.acquire.dataset_files import (
    SPLITS,
    column_of,
    files_of,
    folders_of,
    require_columns,
    split_named,
    stem_of,
)
from isocenter.data.dataset import PATIENT_COLUMNS, Dataset, Marked, Sample, Source
from isocenter.errors import InputError, UnreadableFile
from isocenter.formats.json_file import read_mapping
from isocenter.formats.xml_file import number_in, read_xml

_MOST_JSON = 512 * 2**20
_ANNOTATIONS = ("annotations", "annotation", "labels_voc", "xml")
_PICTURES = ("jpegimages", "images", "image", "imgs", "img")
_CASE = ("seriesuid", "series_uid", "image", "filename", "file_name", "file", "image_id", "case", "id")
_POINT = (("coordx", "x_mm", "x"), ("coordy", "y_mm", "y"), ("coordz", "z_mm", "z"))
_DIAMETER = ("diameter_mm", "diameter")
_CORNERS = (("xmin", "x_min", "x1"), ("ymin", "y_min", "y1"), ("xmax", "x_max", "x2"), ("ymax", "y_max", "y2"))
_DEEP = (("zmin", "z_min", "z1"), ("zmax", "z_max", "z2"))
_NAME = ("class", "class_name", "label", "name", "category", "finding")


# ---- Pascal VOC --------------------------------------------------------------------------------------------------


def voc(folder: Path, labelled: bool) -> Dataset | None:
    """XML files of the Visual Object Classes, beside pictures; splits from `train.txt`, `val.txt`, `test.txt`."""
    papers = _voc_files(folder)
    if not papers:
        return None
    pictures = _pictures(folder)
    splits = _voc_splits(folder)
    samples, problems = [], []
    for stem, path in papers.items():
        picture = pictures.pop(stem, None)
        if picture is None:
            problems.append(f"{stem}: has boxes and no image")
            continue
        try:
            marked, odd = _voc_objects(path)
        except UnreadableFile as error:
            problems.append(f"{stem}: {error}")
            continue
        problems += [f"{stem}: {text}" for text in odd]
        samples.append(Sample(stem, (Source(picture),), objects=marked, split=splits.get(stem, "")))
    if labelled:
        problems += [f"{stem}: has an image and no boxes" for stem in pictures]
    else:
        samples += [Sample(stem, (Source(path),), split=splits.get(stem, "")) for stem, path in pictures.items()]
    lost = sorted(set(splits) - {s.case for s in samples})
    problems += [f"{stem}: stands in the list of the split {splits[stem]} and is not there" for stem in lost]
    return Dataset(folder, "Pascal VOC", tuple(samples), problems=tuple(problems))


def _voc_files(folder: Path) -> dict[str, Path]:
    places = [folder, *(p for p in folders_of(folder) if p.name.lower() in _ANNOTATIONS)]
    return {p.stem: p for place in places for p in sorted(place.glob("*.xml")) if p.is_file()}


def _pictures(folder: Path) -> dict[str, Path]:
    """Images of the folder of that name, or of the folder itself."""
    own = next((p for name in _PICTURES for p in folders_of(folder) if p.name.lower() == name), folder)
    return files_of(own)


def _voc_splits(folder: Path) -> dict[str, str]:
    """The split of each case, as lists of names say it."""
    found: dict[str, str] = {}
    for place in (folder, folder / "ImageSets" / "Main"):
        for path in sorted(place.glob("*.txt")) if place.is_dir() else ():
            split = SPLITS.get(path.stem.lower())
            if split is None:
                continue
            for line in path.read_text("utf-8", errors="replace").split("\n"):
                name = line.strip().partition(" ")[0]
                if not name:
                    continue
                if found.setdefault(name, split) != split:
                    raise InputError(f"{path}: {name} stands in the lists of {found[name]} and of {split}")
    return found


def _voc_objects(path: Path) -> tuple[tuple[Marked, ...], list[str]]:
    """Objects of one file, and what is wrong with those that are left out.

    Corners are counted from 1 and both belong to the box (VOC development kit, section 3): 1 to 640 is a whole row.

    Raises: UnreadableFile.
    """
    root = read_xml(path)
    size = root.find("size")
    shape = None if size is None else (number_in(size, "height"), number_in(size, "width"))
    kept: list[Marked] = []
    odd: list[str] = []
    for number, item in enumerate(root.iter("object")):
        name = (item.findtext("name") or "").strip()
        place = item.find("bndbox")
        ends = [math.nan] * 4 if place is None else [number_in(place, k) for k in ("ymin", "xmin", "ymax", "xmax")]
        low, high = (0.0, ends[0] - 1, ends[1] - 1), (1.0, ends[2], ends[3])
        wrong = "states no class" if not name else _wrong(low, high, shape, inclusive=True)
        if wrong:
            odd.append(f"the box {number + 1} ({name or 'unnamed'}) {wrong}: left out")
            continue
        difficult = (item.findtext("difficult") or "0").strip() == "1"
        kept.append(Marked(name, low, high, ignored=difficult))
    return tuple(kept), odd


def _wrong(
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
    if any(b - a <= least for a, b in zip(low[1:], high[1:], strict=True)):
        return f"has no area ({low[2]:g}, {low[1]:g} to {high[2]:g}, {high[1]:g})"
    if shape is not None and all(math.isfinite(n) and n > 0 for n in shape):
        outside = any(b <= 0 or a >= n for a, b, n in zip(low[1:], high[1:], shape, strict=True))
        if outside:
            return f"lies outside the image ({low[2]:g}, {low[1]:g} to {high[2]:g}, {high[1]:g})"
    return ""


# ---- COCO ---------------------------------------------------------------------------------------------------------


def coco(folder: Path, labelled: bool) -> Dataset | None:
    """A JSON of images, annotations and categories: in the folder, in `annotations`, or in each split's folder."""
    papers = list(_coco_files(folder))
    if not papers:
        return None
    samples: list[Sample] = []
    problems: list[str] = []
    categories: dict[str, int] = {}
    for path, split, pictures in papers:
        data = _coco_data(path)
        before = f"{split}/" if split and len(papers) > 1 else ""
        own, odd = _coco_samples(data, pictures, split, before, labelled=labelled)
        samples += own
        problems += odd
        categories |= {str(row.get("name")): row["id"] for row in data["categories"] if isinstance(row.get("id"), int)}
    return Dataset(folder, "COCO", tuple(samples), problems=tuple(problems), categories=categories)


def _coco_files(folder: Path) -> Iterator[tuple[Path, str, Path]]:
    """Each annotation file, the split it is of, and the folder of its images."""
    for place in (folder, *folders_of(folder)):
        for path in sorted(place.glob("*.json")):
            if not _is_coco(path):
                continue
            words = path.stem.lower().replace("_", " ").replace("-", " ").rstrip("0123456789").split()
            named = next((SPLITS[w.rstrip("0123456789")] for w in words if w.rstrip("0123456789") in SPLITS), "")
            split = SPLITS.get(place.name.lower(), named)
            yield path, split, _coco_pictures(path, folder)


def _coco_pictures(path: Path, folder: Path) -> Path:
    """`annotations/instances_val2017.json` speaks of `val2017/`; others of pictures beside them, or of `images/`."""
    named = folder / path.stem.rpartition("_")[2]
    if path.parent != folder and path.parent.name.lower() in _ANNOTATIONS:
        return next((p for p in (named, folder / "images" / named.name, folder / "images") if p.is_dir()), folder)
    return path.parent / "images" if (path.parent / "images").is_dir() else path.parent


def _is_coco(path: Path) -> bool:
    if path.stat().st_size > _MOST_JSON:
        return False
    with path.open("rb") as file:
        start = file.read(1 << 16)
    if not start.lstrip().startswith(b"{"):
        return False
    return any(word in start for word in (b'"annotations"', b'"categories"', b'"images"', b'"licenses"'))


def _coco_data(path: Path) -> dict[str, Any]:
    data = read_mapping(path, most=_MOST_JSON)
    for key in ("images", "annotations", "categories"):
        rows = data.get(key)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise UnreadableFile(f"{path}: lacks the list {key!r} of a COCO file")
    return data


def _coco_samples(
    data: Mapping[str, Any], pictures: Path, split: str, before: str, *, labelled: bool
) -> tuple[list[Sample], list[str]]:
    names = {row.get("id"): str(row.get("name", row.get("id"))) for row in data["categories"]}
    rows: dict[Any, list[Mapping[str, Any]]] = {}
    for row in data["annotations"]:
        rows.setdefault(row.get("image_id"), []).append(row)
    samples: list[Sample] = []
    problems: list[str] = []
    stems = Counter(Path(str(image.get("file_name", ""))).stem for image in data["images"])
    for image in data["images"]:
        file = str(image.get("file_name", ""))
        path = pictures / file
        stem = stem_of(Path(file)) or Path(file).stem
        name = f"{before}{stem if stems[Path(file).stem] == 1 else Path(file).with_suffix('').as_posix()}"
        if not file or Path(file).is_absolute() or ".." in Path(file).parts or not path.is_file():
            problems.append(f"{name}: its image {file!r} is not there")
            continue
        shape = (_plain(image.get("height")), _plain(image.get("width")))
        marked, odd = _coco_objects(rows.pop(image.get("id"), ()), names, shape)
        problems += [f"{name}: {text}" for text in odd]
        samples.append(Sample(name, (Source(path),), objects=marked, split=split, number=_id(image.get("id"))))
    if rows and labelled:
        problems.append(f"{sum(map(len, rows.values()))} boxes are of images that are not listed")
    return samples, problems


def _coco_objects(
    rows: Sequence[Mapping[str, Any]], names: Mapping[Any, str], shape: tuple[float, float]
) -> tuple[tuple[Marked, ...], list[str]]:
    """Objects of one image. A box is `x, y, width, height` from the corner of the first pixel."""
    kept: list[Marked] = []
    odd: list[str] = []
    for row in rows:
        name = names.get(row.get("category_id"))
        box = row.get("bbox")
        ends = [_plain(v) for v in box] if isinstance(box, list) and len(box) == 4 else [math.nan] * 4
        low, high = (0.0, ends[1], ends[0]), (1.0, ends[1] + ends[3], ends[0] + ends[2])
        wrong = "is of no category that is listed" if name is None else _wrong(low, high, shape)
        if wrong or name is None:
            odd.append(f"the box {row.get('id', len(odd))} ({name or 'unnamed'}) {wrong}: left out")
            continue
        kept.append(Marked(name, low, high, ignored=bool(row.get("iscrowd", 0)), outline=_outline(row)))
    return tuple(kept), odd


def _outline(row: Mapping[str, Any]) -> tuple[tuple[float, ...], ...]:
    """Polygons of a mask; masks in run lengths keep their box only."""
    given = row.get("segmentation")
    if not isinstance(given, list):
        return ()
    found = [tuple(_plain(v) for v in one) for one in given if isinstance(one, list) and len(one) >= 6]
    return tuple(one for one in found if len(one) % 2 == 0 and all(math.isfinite(v) for v in one))


def _id(value: object) -> int | str | None:
    return value if isinstance(value, int | str) else None


def _plain(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


# ---- tables -------------------------------------------------------------------------------------------------------


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
    samples, problems = [], []
    for text, own in rows.items():
        picture = _image_of(text, path.parent, listed)
        if picture is None:
            problems.append(f"{text}: has {len(own)} rows and no image")
            continue
        marked, odd = _rows_objects(cells, how, own)
        problems += [f"row {number + 2} ({text}): {why}" for number, why in odd]
        of = split_named(cells[parts][own[0]], path, own[0]) if parts else ""
        samples.append(Sample(stem_of(picture) or picture.stem, (Source(picture),), objects=marked, split=of,
                              patient=cells[person][own[0]].strip() if person else ""))  # fmt: skip
    rest, note, odd_ones = _without_rows(samples, listed, divided=bool(parts))
    samples += [Sample(stem_of(p) or p.stem, (Source(p),), objects=() if labelled else None) for p in rest]
    return Dataset(path, "a table of boxes", tuple(samples), problems=(*problems, *odd_ones), notes=note)


def _rows_objects(
    cells: Mapping[str, Sequence[str]], how: _Layout, rows: Sequence[int]
) -> tuple[tuple[Marked, ...], list[tuple[int, str]]]:
    """Objects of one image, and the rows that are left out, each with its reason."""
    found = [(number, _row_object(cells, how, number)) for number in rows]
    kept = tuple(one for _, one in found if isinstance(one, Marked))
    return kept, [(number, one) for number, one in found if isinstance(one, str)]


def _without_rows(
    samples: Sequence[Sample], listed: Mapping[str, Path | None], *, divided: bool
) -> tuple[list[Path], tuple[str, ...], list[str]]:
    """Images that no row names: those that hold nothing, what is taken for granted, and what is wrong.

    Args:
        samples: of the rows.
        listed: images by stem.
        divided: rows state splits, which these images then lack.
    """
    used = {s.images[0].path for s in samples}
    rest = [p for p in listed.values() if p is not None and p not in used]
    problems = []
    named = {stem_of(path) for path in used}
    twice = sorted(stem for stem, p in listed.items() if p is None and stem not in named)
    if twice:
        problems.append(f"{len(twice)} names stand for several images ({twice[0]} is the first): give their paths")
    if rest and divided:
        problems.append(
            f"{len(rest)} images have no row, and so no split ({rest[0].name} is the first): left out; a row without a "
            "box says that nothing is there"
        )
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
        wrong = _wrong(low, high, None)
        return f"its point {wrong}: left out" if wrong else Marked(name, low, high, frame="mm")
    x0, y0, x1, y1, *deep = values
    z0, z1 = deep or (0.0, 1.0)
    wrong = _wrong((z0, y0, x0), (z1, y1, x1), None)
    return f"its box {wrong}: left out" if wrong or z1 <= z0 else Marked(name, (z0, y0, x0), (z1, y1, x1))
