"""Pictures that have no place in the patient: projections, ultrasound, captures; one of them, or many in time."""

from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from isocenter.acquire.codes import mended, noted
from isocenter.data.case import Defect
from isocenter.data.geometry import Geometry, Space
from isocenter.data.message import Message
from isocenter.formats.dicom_decode import channels_of
from isocenter.formats.dicom_frames import Frame
from isocenter.formats.dicom_header import Header
from isocenter.formats.dicom_image import Stack

IMPLAUSIBLE_MM = (1e-4, 50.0)
_CENTIMETRES, _TISSUE = 3, (1, 2)  # PS3.3 C.8.5.5.1: physical units; 2-D and colour flow regions


@dataclass(frozen=True)
class Flat:
    """A picture, or a cine of pictures.

    Args:
        stack: its frames.
        times_s: when each frame of a cine was taken; None where unknown.
        defects: what must be known of it.
    """

    stack: Stack
    times_s: tuple[float, ...] | None
    defects: tuple[Defect, ...]


def picture(frames: tuple[Frame, ...], *, kind: str) -> Flat:
    """A file's frames as a picture or a cine.

    Args:
        frames: of one file.
        kind: `projection`, `ultrasound` or `picture`.
    """
    header = frames[0].header
    spacing, space, defects = {"projection": _projection, "ultrasound": _ultrasound, "picture": _capture}[kind](header)
    rows, columns = frames[0].shape
    if spacing is None:
        geometry = Geometry.regular((len(frames), rows, columns), space=Space.PIXELS)
    else:
        geometry = Geometry.regular((len(frames), rows, columns), spacing_mm=(1.0, *spacing), space=space)
    stack = Stack(frames, geometry)
    if header.text("PhotometricInterpretation") == "MONOCHROME1" and channels_of(header) == 1:
        stack = replace(stack, inverted=True, said={"inverted": "MONOCHROME1"})
        text = "MONOCHROME1: the smallest value is meant to be shown white"
        defects = (*defects, mended("monochrome1", text, "inverted, so that larger is brighter"))
    times, wrong = _times(header, len(frames))
    return Flat(stack, times, (*defects, *wrong))


Spacing = tuple[float, float]
Placed = tuple[Spacing | None, Space, tuple[Defect, ...]]


def _two(header: Header, keyword: str) -> Spacing | None:
    numbers = header.numbers(keyword)
    if len(numbers) != 2 or not all(IMPLAUSIBLE_MM[0] <= n <= IMPLAUSIBLE_MM[1] for n in numbers):
        return None
    return numbers[0], numbers[1]


def _none(why: str) -> Placed:
    return None, Space.PIXELS, (noted("no-millimetres", "no millimetres: {why}", why=Message(why)),)


def _projection(header: Header) -> Placed:
    """Millimetres of a projection radiograph (PS3.3 10.7.1.3): at the detector, unless they were calibrated."""
    at_detector, stated = _two(header, "ImagerPixelSpacing"), _two(header, "PixelSpacing")
    how = header.text("PixelSpacingCalibrationType").upper()
    differs = at_detector is not None and stated is not None and stated != at_detector
    if stated and (how in ("GEOMETRY", "FIDUCIAL") or differs):
        text = "millimetres are calibrated ({how}): they hold in the plane that was calibrated for"
        by = Message(how or "PixelSpacing differs from ImagerPixelSpacing")
        return stated, Space.DETECTOR, (noted("projection", text, how=by),)
    if at_detector or stated:
        text = "millimetres are at the detector: what lies before it is magnified, and smaller than it measures"
        return at_detector or stated, Space.DETECTOR, (noted("projection", text),)
    return _none("neither ImagerPixelSpacing nor PixelSpacing is stated")


def _ultrasound(header: Header) -> Placed:
    """Millimetres of an ultrasound picture: of its calibrated regions, where they agree (PS3.3 C.8.5.5)."""
    if not header.has("SequenceOfUltrasoundRegions"):
        return _none("the ultrasound states no calibrated region")
    found: set[Spacing] = set()
    boxes = []
    for region in header.dataset().get("SequenceOfUltrasoundRegions") or []:
        spacing = _region_spacing(region)
        if spacing is not None:
            found.add(spacing)
            boxes.append([int(region.get(f"RegionLocation{k}", 0) or 0) for k in ("MinX0", "MinY0", "MaxX1", "MaxY1")])
    rows, columns = header.number("Rows", 0), header.number("Columns", 0)
    if any(c >= columns or d >= rows for _, _, c, d in boxes):
        return _none("a calibrated region of the ultrasound lies outside the picture: it was cut or resized since")
    if not found:
        return _none("no region of the ultrasound is calibrated in centimetres")
    if len(found) > 1:
        return _none("the regions of the ultrasound are calibrated differently")
    where = "; ".join(f"columns {a} to {c}, rows {b} to {d}" for a, b, c, d in boxes)
    text = "millimetres hold only within the calibrated region: {where}"
    return found.pop(), Space.PLANE, (noted("projection", text, where=where),)


def _region_spacing(region: Any) -> Spacing | None:
    """Rows and columns in millimetres of a 2-D region in centimetres."""
    try:
        units = int(region.PhysicalUnitsXDirection), int(region.PhysicalUnitsYDirection)
        spatial = int(region.RegionSpatialFormat)
        rows, columns = abs(float(region.PhysicalDeltaY)) * 10, abs(float(region.PhysicalDeltaX)) * 10
    except (AttributeError, TypeError, ValueError):
        return None
    fits = all(IMPLAUSIBLE_MM[0] <= s <= IMPLAUSIBLE_MM[1] for s in (rows, columns))
    if units != (_CENTIMETRES, _CENTIMETRES) or spatial not in _TISSUE or not fits:
        return None
    return round(rows, 9), round(columns, 9)


def _capture(header: Header) -> Placed:
    if header.has("PixelSpacing") or header.has("NominalScannedPixelSpacing"):
        return _none("the spacing of a capture says nothing sure of what it shows")
    return _none("the picture states no pixel size")


def _times(header: Header, count: int) -> tuple[tuple[float, ...] | None, tuple[Defect, ...]]:
    """Seconds of each frame after the first (PS3.3 C.7.6.5), and what is wrong with those that are stated."""
    if count == 1:
        return None, ()
    steps = header.numbers("FrameTimeVector")
    defects: tuple[Defect, ...] = ()
    if any(steps):  # all zero: nobody filled it in
        if len(steps) == count and min(steps) >= 0 and sum(steps[1:]) > 0:
            return tuple(accumulate((0.0, *steps[1:]), lambda total, step: total + step / 1000)), ()
        text = "FrameTimeVector states {given} times for {count} frames, or steps back: it is not used"
        defects = (noted("time-inconsistent", text, given=len(steps), count=count),)
    between = header.number("FrameTime", 0) / 1000
    if between <= 0:
        rate = header.number("CineRate", 0) or header.number("RecommendedDisplayFrameRate", 0)
        between = 1 / rate if rate > 0 else 0.0
    return (tuple(i * between for i in range(count)) if between > 0 else None), defects
