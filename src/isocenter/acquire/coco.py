"""Data sets of marked objects as Common Objects in Context wrote them: a JSON of images, boxes and classes."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from isocenter.acquire.dataset_files import SPLITS, folders_of, stem_of
from isocenter.acquire.marked import ANNOTATIONS, wrong_box
from isocenter.data.dataset import Dataset, Marked, Problem, Sample, Source
from isocenter.errors import UnreadableFile
from isocenter.formats.json_file import read_mapping

_MOST_JSON = 512 * 2**20
_LONGEST_NAME, _SHOWN = 200, 60
_LEAST_SHARED = 0.5
"""Of a stated box and the box of its outline: below, one of them is of something else."""


def coco(folder: Path, labelled: bool) -> Dataset | None:
    """A JSON of images, annotations and categories: in the folder, in `annotations`, or in each split's folder.

    Raises: UnreadableFile for one whose images or categories cannot be told apart.
    """
    papers = list(_papers(folder))
    if not papers:
        return None
    samples: list[Sample] = []
    problems: list[Problem] = []
    numbered: list[dict[str, int | str]] = []
    for path, split, pictures in papers:
        data = _read(path)
        before = f"{split}/" if split and len(papers) > 1 else ""
        names = _categories(data, path)
        own, odd = _samples(data, names, pictures, split, before, labelled=labelled)
        samples += own
        problems += odd
        numbered.append({name: number for number, name in names.items()})
    categories = {name: number for one in numbered for name, number in one.items()}
    notes: tuple[str, ...] = ()
    if any(one[name] != categories[name] for one in numbered for name in one):
        notes = ("its files number the same class differently: answers are numbered anew",)
        categories = {}
    whole = {name: number for name, number in categories.items() if isinstance(number, int)}
    return Dataset(folder, "COCO", tuple(samples), problems=tuple(problems), notes=notes, categories=whole)


def _papers(folder: Path) -> Iterator[tuple[Path, str, Path]]:
    """Each annotation file, the split it is of, and the folder of its images."""
    for place in (folder, *folders_of(folder)):
        for path in sorted(place.glob("*.json")):
            if not _is_coco(path):
                continue
            words = path.stem.lower().replace("_", " ").replace("-", " ").rstrip("0123456789").split()
            named = next((SPLITS[w.rstrip("0123456789")] for w in words if w.rstrip("0123456789") in SPLITS), "")
            split = SPLITS.get(place.name.lower(), named)
            yield path, split, _pictures(path, folder)


def _pictures(path: Path, folder: Path) -> Path:
    """`annotations/instances_val2017.json` speaks of `val2017/`; others of pictures beside them, or of `images/`."""
    named = folder / path.stem.rpartition("_")[2]
    if path.parent != folder and path.parent.name.lower() in ANNOTATIONS:
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


def _read(path: Path) -> dict[str, Any]:
    """The three lists, in which every image has a number of its own.

    Raises: UnreadableFile.
    """
    data = read_mapping(path, most=_MOST_JSON)
    for key in ("images", "annotations", "categories"):
        rows = data.get(key)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise UnreadableFile(f"{path}: lacks the list {key!r} of a COCO file")
    for row in data["images"]:
        if _id(row.get("id")) is None:
            raise UnreadableFile(f"{path}: an image has the id {_short(row.get('id'))}; a number or a text is wanted")
    twice = next((n for n, count in Counter(row["id"] for row in data["images"]).items() if count > 1), None)
    if twice is not None:
        raise UnreadableFile(f"{path}: several images have the id {twice!r}: whose boxes are whose cannot be told")
    return data


def _categories(data: Mapping[str, Any], path: Path) -> dict[int | str, str]:
    """Names of the classes by their numbers.

    Raises: UnreadableFile for a number of two classes, and for what is no name.
    """
    found: dict[int | str, str] = {}
    for row in data["categories"]:
        number, name = _id(row.get("id")), row.get("name", str(row.get("id")))
        if number is None:
            raise UnreadableFile(f"{path}: a category has the id {_short(row.get('id'))}; a number or a text is wanted")
        if not isinstance(name, str) or not name.strip().isprintable() or not 0 < len(name.strip()) <= _LONGEST_NAME:
            raise UnreadableFile(f"{path}: the category {number!r} is called {_short(name)}, which is no name")
        if found.setdefault(number, name.strip()) != name.strip():
            raise UnreadableFile(f"{path}: the category {number!r} is {found[number]!r} and {name.strip()!r} at once")
    return found


def _samples(
    data: Mapping[str, Any], names: Mapping[int | str, str], pictures: Path, split: str, before: str, *, labelled: bool
) -> tuple[list[Sample], list[Problem]]:
    rows: dict[int | str | None, list[Mapping[str, Any]]] = {}
    for row in data["annotations"]:
        rows.setdefault(_id(row.get("image_id")), []).append(row)
    samples: list[Sample] = []
    problems: list[Problem] = []
    stems = Counter(Path(_file(image)).stem for image in data["images"])
    for image in data["images"]:
        file = _file(image)
        if not _is_there(pictures, file):
            problems.append(Problem("its image is not there", f"{before}{_short(file)}"))
            continue
        stem = stem_of(Path(file)) or Path(file).stem
        name = f"{before}{stem if stems[Path(file).stem] == 1 else Path(file).with_suffix('').as_posix()}"
        shape = (_plain(image.get("height")), _plain(image.get("width")))
        marked, odd = _objects(rows.pop(image["id"], ()), names, shape)
        problems += [Problem(text, name) for text in odd]
        samples.append(Sample(name, (Source(pictures / file),), objects=marked, split=split, number=image["id"]))
    if rows and labelled:
        count = sum(map(len, rows.values()))
        problems.append(Problem(f"{count} boxes are of images that are not listed, or not there"))
    return samples, problems


def _file(image: Mapping[str, Any]) -> str:
    name = image.get("file_name")
    return name if isinstance(name, str) else ""


def _is_there(folder: Path, file: str) -> bool:
    """A file inside the folder, by a name that can be one."""
    if not Path(file).name or Path(file).is_absolute() or ".." in Path(file).parts:
        return False
    try:
        return (folder / file).is_file()
    except (OSError, ValueError):  # too long a name; a zero byte
        return False


def _objects(
    rows: Sequence[Mapping[str, Any]], names: Mapping[int | str, str], shape: tuple[float, float]
) -> tuple[tuple[Marked, ...], list[str]]:
    """Objects of one image. A box is `x, y, width, height` from the corner of the first pixel."""
    kept: list[Marked] = []
    odd: list[str] = []
    for row in rows:
        kind = _id(row.get("category_id"))
        name = None if kind is None else names.get(kind)
        box = row.get("bbox")
        ends = [_plain(v) for v in box] if isinstance(box, list) and len(box) == 4 else [math.nan] * 4
        low, high = (0.0, ends[1], ends[0]), (1.0, ends[1] + ends[3], ends[0] + ends[2])
        outline = _outline(row)
        wrong = "is of no category that is listed" if name is None else wrong_box(low, high, shape)
        if not wrong and outline and _shared(outline, low, high) < _LEAST_SHARED:
            wrong = "does not lie where its outline does"
        if wrong or name is None:
            odd.append(f"the box {_short(row.get('id', len(odd)))} ({name or 'unnamed'}) {wrong}: left out")
            continue
        kept.append(Marked(name, low, high, ignored=bool(row.get("iscrowd", 0)), outline=outline))
    return tuple(kept), odd


def _outline(row: Mapping[str, Any]) -> tuple[tuple[float, ...], ...]:
    """Polygons of a mask; masks in run lengths keep their box only."""
    given = row.get("segmentation")
    if not isinstance(given, list):
        return ()
    found = [tuple(_plain(v) for v in one) for one in given if isinstance(one, list) and len(one) >= 6]
    return tuple(one for one in found if len(one) % 2 == 0 and all(math.isfinite(v) for v in one))


def _shared(outline: Sequence[Sequence[float]], low: Sequence[float], high: Sequence[float]) -> float:
    """Overlap (intersection over union) of a box with that of its outline; 0 for an outline without area."""
    x, y = [v for one in outline for v in one[::2]], [v for one in outline for v in one[1::2]]
    own = ((min(y), max(y)), (min(x), max(x)))
    if any(b <= a for a, b in own):
        return 0.0
    both = math.prod(
        max(0.0, min(b, stop) - max(a, start)) for (a, b), start, stop in zip(own, low[1:], high[1:], strict=True)
    )
    areas = math.prod(b - a for a, b in own) + math.prod(b - a for a, b in zip(low[1:], high[1:], strict=True))
    return both / (areas - both)


def _id(value: object) -> int | str | None:
    return value if isinstance(value, int | str) and not isinstance(value, bool) else None


def _plain(value: object) -> float:
    """The number; NaN for what is none, or beyond every picture."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e9:
        return math.nan
    return float(value)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
