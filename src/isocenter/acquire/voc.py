"""Data sets of marked objects as the Visual Object Classes challenge wrote them: an XML beside each picture."""

import math
from pathlib import Path

from isocenter.acquire.dataset_files import SPLITS, files_of, folders_of
from isocenter.acquire.marked import ANNOTATIONS, wrong_box
from isocenter.data.dataset import Dataset, Marked, Problem, Sample, Source
from isocenter.errors import InputError, UnreadableFile
from isocenter.formats.xml_file import number_in, read_xml

_PICTURES = ("jpegimages", "images", "image", "imgs", "img")


def voc(folder: Path, labelled: bool) -> Dataset | None:
    """XML files of the Visual Object Classes, beside pictures; splits from `train.txt`, `val.txt`, `test.txt`."""
    papers = _voc_files(folder)
    if not papers:
        return None
    pictures = _pictures(folder)
    splits = _voc_splits(folder)
    samples: list[Sample] = []
    problems: list[Problem] = []
    for stem, path in papers.items():
        picture = pictures.pop(stem, None)
        if picture is None:
            problems.append(Problem("has boxes and no image", stem))
            continue
        try:
            marked, odd = _voc_objects(path)
        except UnreadableFile as error:
            problems.append(Problem(str(error), stem))
            continue
        problems += [Problem(text, stem) for text in odd]
        samples.append(Sample(stem, (Source(picture),), objects=marked, split=splits.get(stem, "")))
    if labelled:
        problems += [Problem("has an image and no boxes", stem) for stem in pictures]
    else:
        samples += [Sample(stem, (Source(path),), split=splits.get(stem, "")) for stem, path in pictures.items()]
    lost = sorted(set(splits) - {s.case for s in samples})
    problems += [Problem(f"stands in the list of the split {splits[stem]} and is not there", stem) for stem in lost]
    return Dataset(folder, "Pascal VOC", tuple(samples), problems=tuple(problems))


def _voc_files(folder: Path) -> dict[str, Path]:
    places = [folder, *(p for p in folders_of(folder) if p.name.lower() in ANNOTATIONS)]
    found: dict[str, Path] = {}
    for path in (p for place in places for p in sorted(place.glob("*.xml")) if p.is_file()):
        if found.setdefault(path.stem, path) != path:
            raise InputError(f"{folder}: {found[path.stem]} and {path} both speak of {path.stem}: keep one of them")
    return found


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
    if root.tag.lower() != "annotation":
        raise UnreadableFile(f"{path.name} is no annotation of VOC: its root is <{root.tag[:40]}>")
    size = root.find("size")
    shape = None if size is None else (number_in(size, "height"), number_in(size, "width"))
    kept: list[Marked] = []
    odd: list[str] = []
    for number, item in enumerate(root.iter("object")):
        name = (item.findtext("name") or "").strip()
        place = item.find("bndbox")
        ends = [math.nan] * 4 if place is None else [number_in(place, k) for k in ("ymin", "xmin", "ymax", "xmax")]
        low, high = (0.0, ends[0] - 1, ends[1] - 1), (1.0, ends[2], ends[3])
        wrong = "states no class" if not name else wrong_box(low, high, shape, inclusive=True)
        if wrong:
            odd.append(f"the box {number + 1} ({name or 'unnamed'}) {wrong}: left out")
            continue
        difficult = (item.findtext("difficult") or "0").strip() == "1"
        kept.append(Marked(name, low, high, ignored=difficult))
    return tuple(kept), odd
