"""LIDC-IDRI's marks: XML in which up to four readers each drew the nodules of a chest CT, beside its DICOM series."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np

from isocenter.acquire.labelled import series_source
from isocenter.data.case import Case, Series
from isocenter.data.dataset import Dataset, Marked, Problem, Sample
from isocenter.errors import IsocenterError, UnreadableFile
from isocenter.formats.xml_file import number_in, read_xml
from isocenter.ops.boxes import overlaps
from isocenter.types import Array

NODULE = "nodule"
_ROOT = "LidcReadMessage"
_AGREED, _SAME = 3, 0.1
"""Readers that must have drawn a nodule (LUNA16's rule), and the overlap from which two drew the same one."""
_SMALL_MM = 3.0
"""Edge of what was marked as a point: nodules below 3 mm, and what is none."""


@dataclass(frozen=True, eq=False)
class _Drawn:
    """What one reader marked: box in patient mm (`2 3`, z y x), and whether it was drawn as a nodule of 3 mm."""

    reader: int
    box: Array
    nodule: bool


def lidc(folder: Path, labelled: bool) -> Dataset | None:
    """CT series with LIDC's XML beside them.

    A nodule that three readers or more drew is an object; what fewer drew, what is smaller than 3 mm, and what they
    marked as no nodule counts neither as missed nor as found.

    Source: S. Armato et al., Med. Phys. 38(2):915-931, 2011; A. Setio et al., Med. Image Anal. 42:1-13, 2017 (3.1).
    """
    papers = [path for path in sorted(folder.rglob("*.xml")) if _is_lidc(path)]
    if not papers:
        return None
    from isocenter.acquire.case import open_cases

    try:
        every = [(case, one) for case in open_cases(folder) for one in case.series]
    except IsocenterError:
        return None
    series = {one.uid: (case, one) for case, one in every if one.format == "dicom"}
    samples: list[Sample] = []
    problems: list[Problem] = []
    for path in papers:
        try:
            root = read_xml(path)
            uid = (root.findtext("ResponseHeader/SeriesInstanceUid") or "").strip()
            if uid not in series:
                problems.append(Problem(f"is of a series that is not there ({uid or 'unnamed'})", path.name))
                continue
            case, own = series.pop(uid)
            samples.append(_sample(case, own, list(_marks(root, own))))
        except UnreadableFile as error:
            problems.append(Problem(str(error)))
    if labelled:
        problems += [Problem(f"its series {uid} has no marks", c.name) for uid, (c, s) in series.items() if s.usable]
    else:
        samples += [Sample(case.name, (series_source(case, one),)) for case, one in series.values() if one.usable]
    times = Counter(sample.case for sample in samples)
    samples = [
        replace(s, case=f"{s.case}-{s.images[0].inside.removeprefix('series ')}") if times[s.case] > 1 else s
        for s in samples
    ]  # some patients were scanned twice
    return Dataset(folder, "LIDC-IDRI's marks", tuple(samples), problems=tuple(problems))


def _is_lidc(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return _ROOT.encode() in file.read(4096)
    except OSError:
        return False


def _sample(case: Case, series: Series, drawn: list[_Drawn]) -> Sample:
    marked = tuple(
        Marked(NODULE, _corner(box[0]), _corner(box[1]), frame="mm", ignored=not agreed)
        for box, agreed in _agreed(drawn)
    )
    patient = case.identity.patient_id
    return Sample(patient or case.name, (series_source(case, series),), patient=patient, objects=marked)


def _corner(values: Array) -> tuple[float, float, float]:
    z, y, x = (float(v) for v in values)
    return z, y, x


def _marks(root: ET.Element, series: Series) -> Iterator[_Drawn]:
    """Everything that the readers marked, in patient millimetres."""
    to_mm = _plane(series)
    for reader, session in enumerate(root.iter("readingSession")):
        for nodule in session.iter("unblindedReadNodule"):
            points = [p for roi in nodule.iter("roi") for p in _edge(roi, to_mm)]
            if points:
                drawn = len(points) > 1
                yield _Drawn(reader, _box(points, _half_slice(series) if drawn else 0.0), drawn)
        for other in session.iter("nonNodule"):
            points = [
                to_mm(number_in(place, "xCoord"), number_in(place, "yCoord"), number_in(other, "imageZposition"))
                for place in other.iter("locus")
            ]
            if points and np.isfinite(points).all():
                yield _Drawn(reader, _box(points), nodule=False)


def _edge(roi: ET.Element, to_mm: "_Plane") -> list[Array]:
    """Points of a contour, if it is drawn about a nodule and not about a hole in one."""
    if (roi.findtext("inclusion") or "TRUE").strip().upper() != "TRUE":
        return []
    z = number_in(roi, "imageZposition")
    points = [to_mm(number_in(edge, "xCoord"), number_in(edge, "yCoord"), z) for edge in roi.iter("edgeMap")]
    return [p for p in points if np.isfinite(p).all()]


def _half_slice(series: Series) -> float:
    """Half of what a slice stands for: a contour lies in its middle."""
    return 0.5 * series.spacing_mm[0] if series.spacing_mm is not None else 0.0


def _box(points: Sequence[Array], half_slice: float = 0.0) -> Array:
    """The box about points (z y x), with an edge of 3 mm at least."""
    reach = np.asarray((half_slice, 0.0, 0.0))
    low, high = np.min(points, axis=0) - reach, np.max(points, axis=0) + reach
    short = np.maximum(_SMALL_MM - (high - low), 0) / 2
    return np.stack((low - short, high + short))


@dataclass(frozen=True, eq=False)
class _Plane:
    """Column and row of a slice -> patient millimetres (z, y, x); the slice's own z is stated beside them."""

    origin: Array
    column: Array
    row: Array

    def __call__(self, x: float, y: float, z: float) -> Array:
        place = self.origin + x * self.column + y * self.row
        return np.asarray((z, place[1], place[0]))


def _plane(series: Series) -> _Plane:
    """From the header of one slice.

    Raises: UnreadableFile for a slice without position, orientation or spacing.
    """
    from pydicom import dcmread

    head = dcmread(series.files[0], stop_before_pixels=True)
    try:
        origin = np.asarray([float(v) for v in head.ImagePositionPatient])
        directions = np.asarray([float(v) for v in head.ImageOrientationPatient])
        down, across = (float(v) for v in head.PixelSpacing)
    except (AttributeError, TypeError, ValueError) as error:
        raise UnreadableFile(f"{series.files[0].name}: states no place in the patient, which marks need") from error
    return _Plane(origin, directions[:3] * across, directions[3:] * down)


def _agreed(drawn: Sequence[_Drawn]) -> list[tuple[Array, bool]]:
    """One box for each finding, the mean of those that readers drew, and whether enough of them drew a nodule there."""
    left = sorted(drawn, key=lambda d: (not d.nodule, -float(np.prod(d.box[1] - d.box[0]))))
    found: list[tuple[Array, bool]] = []
    while left:
        first = left[0]
        shared = overlaps(first.box[None], np.stack([d.box for d in left]))[0]
        group = [d for i, d in enumerate(left) if i == 0 or shared[i] > _SAME]
        left = [d for i, d in enumerate(left) if i and shared[i] <= _SAME]
        nodules = [d for d in group if d.nodule]
        readers = {d.reader for d in nodules}
        found.append((np.mean([d.box for d in nodules or group], axis=0), len(readers) >= _AGREED))
    return found
