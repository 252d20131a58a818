"""Size of lesions and its change between two dates."""

from dataclasses import dataclass
from datetime import date, datetime
from math import log, log2, sqrt

import numpy as np
from pydantic import Field

from isocenter.analyse.subject import Subject, labels_of
from isocenter.data.examination import Analysis
from isocenter.data.finding import Check, Finding, Verdict
from isocenter.data.labels import LabelMap
from isocenter.data.message import Message
from isocenter.data.step import Settings
from isocenter.errors import InputError
from isocenter.types import Mask


class Diameters(Settings):
    """Settings of `diameters`."""

    label_maps = ("of",)

    of: str = "masks"
    """The label map of lesions, one label each."""
    thickest_mm: float = Field(5.0, gt=0)
    """Thicker slices make a diameter of 10 mm unmeasurable (RECIST)."""


@dataclass(frozen=True)
class InPlane:
    """Diameters of a lesion in one slice.

    Args:
        long_mm: the longest line between two points of its outline.
        short_mm: the longest extent at right angles to it.
        slice: where that is.
    """

    long_mm: float
    short_mm: float
    slice: int


def in_plane_diameters(mask: Mask, steps_mm: tuple[float, float]) -> InPlane:
    """Long and short axis of a lesion, in the slice in which the long one is longest.

    Outline points lie half-way between pixels inside and outside. The line may leave a lesion that is not convex, as a
    ruler does.

    Args:
        mask: `d h w`, not empty.
        steps_mm: between rows and between columns.
    Source: E. Eisenhauer et al., Eur. J. Cancer 45(2):228-247, 2009 (RECIST 1.1); short axis: H. Schwartz et al.,
        ibid. 261-267.
    """
    best = InPlane(0.0, 0.0, 0)
    halves = np.asarray([(0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5)])
    for index, plane in enumerate(mask):
        places = np.argwhere(plane)
        if not len(places):
            continue
        first = np.r_[True, np.diff(places[:, 0]) > 0]
        ends = np.concatenate((places[first], places[np.r_[first[1:], True]]))
        points = ((ends[:, None] + halves) * np.asarray(steps_mm)).reshape(-1, 2)
        far = np.linalg.norm(points[:, None] - points, axis=2)
        a, b = np.unravel_index(int(np.argmax(far)), far.shape)
        if far[a, b] > best.long_mm:
            along = (points[b] - points[a]) / far[a, b]
            across = points @ np.asarray((-along[1], along[0]))
            best = InPlane(float(far[a, b]), float(np.ptp(across)), index)
    return best


def diameters(subject: Subject, settings: Diameters) -> Analysis:
    """State the long and the short axis of each lesion in axial slices.

    Raises: InputError for a label map without a voxel.
    Source: see `in_plane_diameters`.
    """
    labels = labels_of(subject, settings.of)
    geometry = labels.geometry
    slice_mm, row_mm, column_mm = geometry.spacing_mm
    if not labels.foreground.any():
        raise InputError(f"{settings.of} holds no voxel: there is no lesion to measure")
    findings = []
    for label in labels.labels:
        mask = labels.voxels == label.value
        if not mask.any():
            continue
        found = in_plane_diameters(mask, (row_mm, column_mm))
        text = "RECIST 1.1, in slice {slice}; pixels of {mm:.2g} mm, slices of {thick:g} mm."
        method = Message(text, {"slice": found.slice, "mm": max(row_mm, column_mm), "thick": slice_mm})
        name = {"name": label.name}
        findings += [
            Finding(Message("Long axis of {name}", name), found.long_mm, "mm", None, method, (settings.of,)),
            Finding(Message("Short axis of {name}", name), found.short_mm, "mm", None, method, (settings.of,)),
        ]
    axial = geometry.axis_letters[0] in "SI"
    text = "Diameters were measured in axial slices." if axial else "The slices are not axial: diameters are theirs."
    checks = [Check("axial", axial, Verdict.ACCEPTED if axial else Verdict.REVIEW, Message(text))]
    if slice_mm > settings.thickest_mm + 0.01:
        text = "Slices of {mm:g} mm: RECIST asks for at most {most:g} mm, or lesions of twice their thickness."
        values = {"mm": slice_mm, "most": settings.thickest_mm}
        checks.append(Check("slices_mm", slice_mm, Verdict.REVIEW, Message(text, values)))
    return Analysis(tuple(findings), tuple(checks))


class Growth(Settings):
    """Settings of `growth`."""

    label_maps = ("of", "before")

    of: str = "masks"
    """Lesions today."""
    before: str = "earlier_masks"
    """The same lesions earlier; labels with one name are one lesion, and single labels are whatever they are called."""
    earlier: str = "earlier"
    """The earlier study's volume."""
    days: float | None = Field(None, gt=0)
    """Between the two studies, where their files do not state it."""
    repeatability_percent: float = Field(25.0, gt=0)
    """Change that repeated measurements show in 95 of 100 without any growth: 25 % for solid lung nodules."""


def smallest_change(labels: LabelMap, value: int) -> float:
    """Relative standard deviation of a volume because its border runs through voxels.

    Each voxel of the border belongs to the lesion with a share that could be any: a variance of 1/12 voxel each, taken
    as independent.
    """
    from scipy import ndimage

    mask = labels.voxels == value
    border = int(np.count_nonzero(mask & ~ndimage.binary_erosion(mask)))
    return sqrt(border / 12) / max(1, int(np.count_nonzero(mask)))


def doubling_days(before: float, now: float, days: float) -> float | None:
    """Volume doubling time under exponential growth; negative: halving. None where nothing changed.

    Source: M. Schwartz, Cancer 14(6):1272-1294, 1961.
    """
    return None if before == now else days / log2(now / before)


def growth(subject: Subject, settings: Growth) -> Analysis:
    """State each lesion's change of volume, its doubling time, and the smallest change that is not noise.

    A change below that is said to be none that could be told. Both masks are measured on their own grids.

    Raises: InputError where a lesion is absent on one date, or the time between the studies is not known.
    Source: repeatability: H. Gietema et al., Radiology 241(1):251-257, 2006 (-21 to 24 % between two scans of lung
        nodules); doubling time: see `doubling_days`.
    """
    now, earlier = (_native(subject, name) for name in (settings.of, settings.before))
    days = settings.days or _days_between(subject, settings)
    findings, checks = [], []
    for name, one, other in _pairs(now, earlier):
        volume, past = (_volume_ml(labels, value) for labels, value in ((now, one), (earlier, other)))
        change = volume / past - 1
        border = 1.96 * sqrt(smallest_change(now, one) ** 2 + smallest_change(earlier, other) ** 2)
        least = max(settings.repeatability_percent / 100, border)
        grown = abs(log(volume / past)) > log(1 + least)
        what = {"name": name}
        values = {"past": past, "volume": volume, "days": days, "least": least}
        method = Message(
            "{past:.3g} to {volume:.3g} mL in {days:g} days; a change of less than {least:.0%} is not told from noise.",
            values,
        )
        words = Message("Change of volume of {name}", what)
        findings.append(Finding(words, 100 * change, "%", None, method, (settings.of,)))
        doubling = doubling_days(past, volume, days)
        if grown and doubling is not None:
            words = Message("Doubling time of {name}" if doubling > 0 else "Halving time of {name}", what)
            findings.append(Finding(words, abs(doubling), "d", None, method, (settings.of,)))
            text = "{name} changed by {change:+.0%}, more than the {least:.0%} that repeated measurements differ by."
        else:
            text = "{name} changed by {change:+.0%}: a change of less than {least:.0%} cannot be told from noise."
        said = Message(text, {"name": name, "change": change, "least": least})
        checks.append(Check(f"changed_{name}", bool(grown), Verdict.ACCEPTED, said))
    return Analysis(tuple(findings), tuple(checks))


def _native(subject: Subject, name: str) -> LabelMap:
    """A label map on the grid on which it was drawn."""
    if name not in subject.native:
        raise InputError(f"growth needs {name}, which was not given: add --with {name}=FILE")
    return subject.native[name]


def _pairs(now: LabelMap, earlier: LabelMap) -> list[tuple[str, int, int]]:
    """Lesions of both dates: name, value today, value earlier."""
    there = [[lb for lb in labels.labels if np.any(labels.voxels == lb.value)] for labels in (now, earlier)]
    if len(there[0]) == len(there[1]) == 1:
        return [(there[0][0].name, there[0][0].value, there[1][0].value)]
    names = [{lb.name: lb.value for lb in side} for side in there]
    if set(names[0]) != set(names[1]) or not names[0]:
        only = sorted(set(names[0]) ^ set(names[1])) or ["none"]
        raise InputError(f"each lesion is wanted on both dates under one name; on one date only: {', '.join(only)}")
    return [(name, value, names[1][name]) for name, value in names[0].items()]


def _volume_ml(labels: LabelMap, value: int) -> float:
    return int(np.count_nonzero(labels.voxels == value)) * labels.geometry.voxel_volume_mm3 / 1000


def _days_between(subject: Subject, settings: Growth) -> float:
    """Days from the earlier study to this one.

    Raises: InputError where a file does not state its date, or the earlier one is not earlier.
    """
    dates = [subject.case.identity.study_date, subject.case.dates.get(settings.earlier, "")]
    try:
        now, past = (_date(text) for text in dates)
    except ValueError as error:
        raise InputError("a study does not state its date: state `days` between the two in the recipe") from error
    if now <= past:
        raise InputError(f"the earlier study ({past}) is not earlier than this one ({now}): exchange them")
    return float((now - past).days)


def _date(text: str) -> date:
    return datetime.strptime(text.replace("-", "")[:8], "%Y%m%d").date()  # noqa: DTZ007 - a date has no zone
