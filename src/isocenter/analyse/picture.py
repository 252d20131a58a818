"""What is counted and measured on flat pictures: X-ray, ultrasound, microscopy."""

import numpy as np
from pydantic import Field

from isocenter.analyse.subject import Subject, labels_of, text_of
from isocenter.data.examination import Analysis
from isocenter.data.finding import Check, Finding, Verdict
from isocenter.data.geometry import Space
from isocenter.data.labels import LabelMap
from isocenter.data.message import Message
from isocenter.data.step import Settings
from isocenter.errors import InputError


class CardiothoracicRatio(Settings):
    """Settings of `cardiothoracic_ratio`."""

    heart: str = "heart"
    """Label map of the heart."""
    lungs: str = "lungs"
    """Label map of both lungs."""


def cardiothoracic_ratio(subject: Subject, settings: CardiothoracicRatio) -> Analysis:
    """State the widest heart over the widest thorax between the outer edges of the lungs, from given masks.

    The interval is what a shift of each edge by one pixel makes of it. A view from front to back (AP) or lying down
    makes the heart look wider: such a view, and one that is not stated, is for review.

    Source: C. S. Danzer, Am. J. Med. Sci. 157:513-521, 1919.
    """
    maps = subject.case.label_maps
    absent = [name for name in (settings.heart, settings.lungs) if name not in maps]
    if absent:
        text = "The cardiothoracic ratio needs masks of the heart and of the lungs; not given: {names}."
        message = Message(text, {"names": ", ".join(absent)})
        verdict = Verdict.ACCEPTED if len(absent) == 2 else Verdict.REVIEW
        return Analysis(checks=(Check("cardiothoracic_ratio", "not measured", verdict, message),))
    heart, thorax = _width(maps[settings.heart]), _width(maps[settings.lungs])
    checks = [_view(text_of(subject.series, "ViewPosition").upper())]
    if heart is None or thorax is None or heart[1] >= thorax[1]:
        text = "The masks give no cardiothoracic ratio: heart {heart} and thorax {thorax} pixels wide."
        values = {"heart": 0 if heart is None else heart[1], "thorax": 0 if thorax is None else thorax[1]}
        return Analysis(checks=(Check("cardiothoracic_ratio", None, Verdict.REFUSED, Message(text, values)),))
    if not thorax[0] <= heart[0] or not heart[0] + heart[1] <= thorax[0] + thorax[1]:
        text = "The heart's mask reaches beyond the lungs' outer edges."
        checks.append(Check("heart_within_thorax", "outside", Verdict.REVIEW, Message(text)))
    value = heart[1] / thorax[1]
    interval = ((heart[1] - 2) / (thorax[1] + 2), (heart[1] + 2) / (thorax[1] - 2))
    method = Message("Widest heart over widest thorax of the given masks; range: each edge moved by one pixel.")
    finding = Finding(Message("Cardiothoracic ratio"), value, "1", interval, method, (settings.heart, settings.lungs))
    return Analysis((finding,), tuple(checks))


def _width(labels: LabelMap) -> tuple[int, int] | None:
    """First column and width in pixels of the widest span: outermost to outermost column of all rows together."""
    columns = np.flatnonzero(labels.foreground.any(axis=(0, 1)))
    return (int(columns[0]), int(columns[-1] - columns[0] + 1)) if columns.size else None


def _view(view: str) -> Check:
    if view == "PA":
        return Check("view", view, Verdict.ACCEPTED, Message("Taken from back to front (PA)."))
    text = (
        "Taken from front to back (AP): the heart looks wider than it is."
        if view == "AP"
        else "The file does not say that it was taken from back to front (PA): the heart may look wider than it is."
    )
    return Check("view", view or "not stated", Verdict.REVIEW, Message(text))


class Count(Settings):
    """Settings of `count`."""

    label_maps = ("of",)

    of: str
    """Label map whose labels are objects (segment: split)."""
    name: str = "objects"
    """What is counted."""
    smallest_share: float = Field(0.0, ge=0, lt=1)
    """Objects smaller than this share of the median one are not counted."""
    typical_px: tuple[float, float] | None = None
    """Review where the median object has fewer or more pixels: the recipe's lengths are for another scale."""


def count(subject: Subject, settings: Count) -> Analysis:
    """Count the objects of a label map; those at the picture's edge count too, and how many they are is said."""
    labels = labels_of(subject, settings.of)
    sizes = np.bincount(labels.voxels.ravel().astype(np.int64))[1:]
    median = float(np.median(sizes[sizes > 0])) if np.any(sizes > 0) else 0.0
    counted = set((np.flatnonzero((sizes > 0) & (sizes >= settings.smallest_share * median)) + 1).tolist())
    grid = labels.voxels
    edges = [grid[:, 0], grid[:, -1], grid[:, :, 0], grid[:, :, -1]]
    at_edge = counted & set(np.unique(np.concatenate([edge.ravel() for edge in edges])).tolist())
    method = Message(
        "Parts of {of}; {edge} of them touch the picture's edge; parts under {share:.0%} of the median size left out.",
        {"of": settings.of, "edge": len(at_edge), "share": settings.smallest_share},
    )
    statement = Message("Number of {name}", {"name": settings.name})
    findings = [Finding(statement, float(len(counted)), "1", None, method, (settings.of,))]
    if counted:
        sizes_in = [int(sizes[i - 1]) for i in counted]
        place = labels.geometry
        metric = place.space is not Space.PIXELS
        factor = place.spacing_mm[1] * place.spacing_mm[2] if metric else 1.0
        words = Message("Median size of {name}", {"name": settings.name})
        value = float(np.median(sizes_in)) * factor
        findings.append(Finding(words, value, "mm2" if metric else "px", None, method, (settings.of,)))
    return Analysis(tuple(findings), _typical(settings, median, len(counted)))


def _typical(settings: Count, median: float, number: int) -> tuple[Check, ...]:
    """Whether objects are as large as the recipe's lengths suppose."""
    if settings.typical_px is None:
        return ()
    low, high = settings.typical_px
    values: dict[str, str | float] = {"name": settings.name, "median": median, "low": low, "high": high}
    text = (
        "The median of {name} has {median:.0f} pixels (typical {low:.0f} to {high:.0f}): is the magnification another?"
    )
    good = number > 0 and low <= median <= high
    if good:
        text = "The median of {name} has {median:.0f} pixels (typical {low:.0f} to {high:.0f})."
    verdict = Verdict.ACCEPTED if good else Verdict.REVIEW
    return (Check(f"size_of_{settings.name.replace(' ', '_')}", round(median, 1), verdict, Message(text, values)),)


class Distances(Settings):
    """Settings of `distances`."""

    between: tuple[tuple[tuple[float, float, float], tuple[float, float, float]], ...] = Field(min_length=1)
    """Pairs of points, each as slice, row, column, counted from 0."""


def distances(subject: Subject, settings: Distances) -> Analysis:
    """Measure distances between pairs of points in millimetres.

    Raises: UnitError for an image without millimetres; InputError for a point outside it.
    """
    geometry = subject.case.volumes["original"].geometry
    steps = geometry.spacing_mm
    findings = []
    for number, pair in enumerate(settings.between, start=1):
        for point in pair:
            if any(not -0.5 <= p <= n - 0.5 for p, n in zip(point, geometry.shape, strict=True)):
                raise InputError(f"the point {list(point)} lies outside the image of {list(geometry.shape)} voxels")
        ends = geometry.index_to_world(np.asarray(pair, dtype=np.float64))
        value = float(np.linalg.norm(ends[1] - ends[0]))
        half = float(np.hypot(*steps[1:])) / 2
        method = Message("Between two given points; range: each end within its pixel.")
        statement = Message("Distance {number}", {"number": number})
        findings.append(Finding(statement, value, "mm", (max(0.0, value - 2 * half), value + 2 * half), method))
    return Analysis(tuple(findings))


class UltrasoundField(Settings):
    """Settings of `ultrasound_field`."""

    label_maps = ("of",)

    of: str = "field"
    """Label map of the imaged field."""
    before: str = "original"
    """Volume before the speckle filter."""
    after: str = "image"
    """Volume after it."""


def ultrasound_field(subject: Subject, settings: UltrasoundField) -> Analysis:
    """State the width and depth of the imaged field, and how much speckle the filter took out.

    Speckle is the median, over patches of 15 x 15 pixels within the field, of standard deviation over mean. A picture
    without a calibrated region has no millimetres: its field is given in pixels, for review.
    """
    labels = labels_of(subject, settings.of)
    geometry = labels.geometry
    rows = np.flatnonzero(labels.foreground.any(axis=(0, 2)))
    columns = np.flatnonzero(labels.foreground.any(axis=(0, 1)))
    if not rows.size:
        text = Message("No imaged field was found.")
        return Analysis(checks=(Check("ultrasound_field", None, Verdict.REFUSED, text),))
    metric = geometry.space is not Space.PIXELS
    steps = geometry.steps if metric else (1.0, 1.0, 1.0)
    unit = "mm" if metric else "px"
    method = Message("Outermost rows and columns of the field; range: each end within one pixel.")
    findings = []
    for words, ends, step in (("Depth of the field", rows, steps[1]), ("Width of the field", columns, steps[2])):
        value = float(ends[-1] - ends[0] + 1) * step
        interval = (value - step, value + step)
        findings.append(Finding(Message(words), value, unit, interval, method, (settings.of,)))
    before, after = (_speckle(subject, name, labels) for name in (settings.before, settings.after))
    if before is not None and after is not None:
        words = "Speckle (deviation over mean), before and after the filter: {before:.2f}, {after:.2f}."
        message = Message(words, {"before": before, "after": after})
        speckle = Check("speckle", round(after, 3), Verdict.ACCEPTED if after < before else Verdict.REVIEW, message)
    else:
        speckle = Check("speckle", None, Verdict.REVIEW, Message("The field is too small to judge its speckle."))
    calibrated = (
        Check("calibrated", "yes", Verdict.ACCEPTED, Message("The file states its pixels' size: distances are in mm."))
        if metric
        else Check("calibrated", "no", Verdict.REVIEW, Message("The file states no pixel size: nothing is in mm."))
    )
    return Analysis(tuple(findings), (calibrated, speckle))


def _speckle(subject: Subject, name: str, labels: LabelMap) -> float | None:
    """Median of deviation over mean of the patches that lie within the field."""
    volume = subject.case.volumes.get(name)
    if volume is None or volume.geometry.shape != labels.geometry.shape:
        return None
    side, found = 15, []
    image, inside = volume.grid[0].astype(np.float64), labels.foreground[0]
    for i in range(0, image.shape[0] - side + 1, side):
        for j in range(0, image.shape[1] - side + 1, side):
            if inside[i : i + side, j : j + side].all():
                patch = image[i : i + side, j : j + side]
                if patch.mean() > 0:
                    found.append(float(patch.std() / patch.mean()))
    return float(np.median(found)) if len(found) >= 4 else None
