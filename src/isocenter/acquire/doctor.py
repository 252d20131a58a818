"""The series doctor: do these slices form one regular grid?

| tolerance | value |
|---|---|
| slice spacing | 0.01 mm or 1 % of it, the larger |
| position across the slices | 0.01 mm or 1 % of the pixel size, the larger |
| orientation | 0.1 degree |
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isocenter.data.case import Defect
from isocenter.data.geometry import Geometry
from isocenter.data.message import Message
from isocenter.errors import GeometryError, UnreadableFile
from isocenter.formats.dicom_image import SliceHeader
from isocenter.types import Array, Float64

SPACING_MM = 0.01
SPACING_SHARE = 0.01
ORIENTATION_DEG = 0.1
_IMPLAUSIBLE_MM = (0.01, 50.0)


@dataclass(frozen=True)
class Diagnosis:
    """Slices in the order of the grid, the grid (None if there is none), and the defects."""

    headers: tuple[SliceHeader, ...]
    geometry: Geometry | None
    defects: tuple[Defect, ...]


def examine(headers: Sequence[SliceHeader]) -> Diagnosis:
    """Order one series' slices by position and say whether they form a regular grid.

    Position and orientation come from the patient coordinates, never from InstanceNumber or SliceThickness.
    """
    ordered = tuple(headers)
    try:
        defects = _kind(headers) or _sizes(headers) or _orientation(headers)
        if defects:
            return Diagnosis(ordered, None, defects)
        positions = np.asarray([_exactly(h, "ImagePositionPatient", 3) for h in headers])
        axes = _axes(headers[0])
        along = positions @ axes[:, 0]
        order = np.argsort(along, kind="stable")
        ordered = tuple(headers[i] for i in order)
        spacing = _exactly(headers[0], "PixelSpacing", 2)
        defects = _stack(ordered, positions[order], along[order], axes, spacing)
        if any(d.fatal for d in defects):
            return Diagnosis(ordered, None, defects)
        between = float(np.diff(along[order]).mean()) if len(headers) > 1 else _thickness(headers[0])
        shape = (len(headers), int(headers[0].number("Rows", 0)), int(headers[0].number("Columns", 0)))
        first = positions[order[0]]
        geometry = Geometry.regular(
            shape,
            spacing_mm=(between, spacing[0], spacing[1]),
            origin_mm=(float(first[0]), float(first[1]), float(first[2])),
            directions=axes,
            frame_uid=headers[0].text("FrameOfReferenceUID") or None,
        )
    except (UnreadableFile, GeometryError) as error:
        return Diagnosis(ordered, None, (Defect("malformed-geometry", Message("{error}", {"error": str(error)})),))
    return Diagnosis(ordered, geometry, defects)


def _kind(headers: Sequence[SliceHeader]) -> tuple[Defect, ...]:
    """What is not a plain CT or MR slice."""
    first = headers[0]
    modality = first.text("Modality")
    if modality not in ("CT", "MR"):
        return (
            _refuse(
                "unsupported",
                "{modality} images are not read yet; CT and MR are",
                modality=modality or "unnamed",
            ),
        )
    for header in headers:
        name = header.file.name
        if header.number("NumberOfFrames", 1) != 1 or header.number("Rows", 0) < 1 or header.number("Columns", 0) < 1:
            return (_refuse("unsupported", "{file}: not a single-frame image (enhanced multi-frame?)", file=name),)
        if header.number("SamplesPerPixel", 1) != 1:
            return (
                _refuse(
                    "unsupported",
                    "{file}: colour, where a {modality} slice is grey",
                    file=name,
                    modality=modality,
                ),
            )
        if header.text("PhotometricInterpretation") not in ("MONOCHROME2", ""):
            kind = header.text("PhotometricInterpretation")
            return (_refuse("monochrome1", "{file}: {kind} is not read; MONOCHROME2 is", file=name, kind=kind),)
        if modality == "CT" and len(header.numbers("RescaleSlope") + header.numbers("RescaleIntercept")) != 2:
            return (
                _refuse("missing-rescale", "{file}: a CT slice without rescale has no Hounsfield units", file=name),
            )
        slope, shift = header.number("RescaleSlope", 1.0), header.number("RescaleIntercept", 0.0)
        if not (0 < slope <= 1e4 and abs(shift) <= 1e6) or header.number("BitsStored", 16) > 32:
            text = "{file}: rescale slope {slope:g} and intercept {shift:g} cannot be right"
            return (_refuse("invalid-value", text, file=name, slope=slope, shift=shift),)
        if modality == "CT" and header.text("RescaleType") not in ("", "HU"):
            kind = header.text("RescaleType")
            return (
                _refuse("missing-rescale", "{file}: rescaled to {kind}, where a CT is in HU", file=name, kind=kind),
            )
    return ()


def _sizes(headers: Sequence[SliceHeader]) -> tuple[Defect, ...]:
    """Slices that differ from the others where all must be alike."""
    same = (
        ("mixed-size", "sizes", lambda h: (h.number("Rows", 0), h.number("Columns", 0))),
        ("mixed-spacing", "pixel spacings", lambda h: tuple(round(s, 5) for s in h.numbers("PixelSpacing"))),
        ("frame-of-reference", "frames of reference", lambda h: h.text("FrameOfReferenceUID")),
        ("several-volumes", "echo times", lambda h: h.text("EchoTime")),
    )
    for code, what, value in same:
        found = Counter(value(h) for h in headers)
        if len(found) > 1:
            usual = found.most_common(1)[0][0]
            odd = next(h for h in headers if value(h) != usual)
            return (
                _refuse(
                    code,
                    "slices of different {what}: most have {usual}, {file} has {odd}",
                    what=what, usual=str(usual), file=odd.file.name, odd=str(value(odd)),
                ),
            )  # fmt: skip
    return ()


def _orientation(headers: Sequence[SliceHeader]) -> tuple[Defect, ...]:
    """Slices turned against the first (a localizer in the series, say)."""
    turns = np.asarray([_exactly(h, "ImageOrientationPatient", 6) for h in headers])
    usual = np.median(turns, axis=0)
    chord = 2 * np.sin(np.deg2rad(ORIENTATION_DEG) / 2)
    off = np.maximum(np.linalg.norm(turns[:, :3] - usual[:3], axis=1), np.linalg.norm(turns[:, 3:] - usual[3:], axis=1))
    if np.all(off <= chord):
        return ()
    odd = headers[int(np.argmax(off))]
    count = int(np.sum(off > chord))
    text = "{count} of {all} slices are turned against the others ({file} by {degrees:.3g} degrees); a localizer?"
    degrees = float(np.rad2deg(2 * np.arcsin(min(1.0, off.max() / 2))))
    return (_refuse("mixed-orientation", text, count=count, all=len(headers), file=odd.file.name, degrees=degrees),)


def _axes(header: SliceHeader) -> Float64[Array, "3 3"]:
    """Unit directions in which slices, rows and columns of the array grow.

    Raises: UnreadableFile for cosines that are not two perpendicular unit vectors.
    """
    cosines = np.asarray(_exactly(header, "ImageOrientationPatient", 6))
    row, column = cosines[:3], cosines[3:]
    if abs(np.linalg.norm(row) - 1) > 1e-2 or abs(np.linalg.norm(column) - 1) > 1e-2 or abs(row @ column) > 1e-2:
        raise UnreadableFile(f"ImageOrientationPatient {cosines.tolist()} is not two perpendicular unit vectors")
    row = row / np.linalg.norm(row)
    column = column - row * (row @ column)
    column /= np.linalg.norm(column)
    return np.stack((np.cross(row, column), column, row), axis=1)


def _stack(
    ordered: Sequence[SliceHeader],
    positions: Float64[Array, "n 3"],
    along: Float64[Array, "n"],
    axes: Float64[Array, "3 3"],
    spacing: tuple[float, ...],
) -> tuple[Defect, ...]:
    """What is wrong with slices sorted along their normal: implausible sizes, duplicates, gaps, drift, tilt."""
    low, high = _IMPLAUSIBLE_MM
    if not all(low <= s <= high for s in spacing):
        return (_refuse("implausible-spacing", "a pixel spacing of {a:g} x {b:g} mm", a=spacing[0], b=spacing[1]),)
    if len(ordered) == 1:
        thickness = ordered[0].number("SliceThickness", 0.0)
        if thickness > high or thickness < 0:
            return (_refuse("implausible-spacing", "a lone slice {a:g} mm thick", a=thickness),)
        assumed = Message("a lone slice that does not state its thickness: 1 mm is assumed")
        return () if thickness else (Defect("implausible-spacing", assumed, fatal=False),)
    return _gaps(ordered, along) or _drift(ordered, positions, along, axes, min(spacing))


def _gaps(ordered: Sequence[SliceHeader], along: Float64[Array, "n"]) -> tuple[Defect, ...]:
    """Slices at one place, and distances that differ."""
    gaps = np.diff(along)
    usual = float(np.median(gaps))
    tolerance = max(SPACING_MM, SPACING_SHARE * usual)
    twice = np.flatnonzero(gaps <= SPACING_MM)
    if twice.size:
        at = int(twice[0])
        text = "slice {b} ({fb}) repeats the place of slice {a} ({fa}), {z:.2f} mm along the stack; {n} such pairs"
        return (
            _refuse(
                "duplicate-slice", text, a=at + 1, b=at + 2, fa=ordered[at].file.name, fb=ordered[at + 1].file.name,
                z=float(along[at]), n=len(twice),
            ),
        )  # fmt: skip
    off = np.flatnonzero(np.abs(gaps - usual) > tolerance)
    if off.size:
        at = int(off[np.argmax(np.abs(gaps[off] - usual))])
        ratio = gaps[at] / usual
        whole = abs(ratio - round(ratio)) * usual <= tolerance and round(ratio) > 1
        code = "missing-slice" if whole else "uneven-spacing"
        text = (
            "{n} slice(s) missing between slice {a} ({fa}) and {b} ({fb}): {gap:.2f} mm apart, {usual:.2f} mm is usual"
            if whole
            else "uneven spacing: slices {a} ({fa}) and {b} ({fb}) are {gap:.3f} mm apart, {usual:.3f} mm is usual"
        )
        values = {"n": max(0, round(ratio) - 1)} if whole else {}
        return (
            _refuse(
                code, text, a=at + 1, b=at + 2, fa=ordered[at].file.name, fb=ordered[at + 1].file.name,
                gap=float(gaps[at]), usual=usual, **values,
            ),
        )  # fmt: skip
    if not _IMPLAUSIBLE_MM[0] <= usual <= _IMPLAUSIBLE_MM[1]:
        return (_refuse("implausible-spacing", "slices {a:g} mm apart", a=usual),)
    return ()


def _drift(
    ordered: Sequence[SliceHeader],
    positions: Float64[Array, "n 3"],
    along: Float64[Array, "n"],
    axes: Float64[Array, "3 3"],
    pixel: float,
) -> tuple[Defect, ...]:
    """Slices that do not lie one above the other: one beside the line, or all along a tilted line."""
    drift = (positions - positions[0]) @ axes[:, 1:]
    line = np.outer(along - along[0], drift[-1] / (along[-1] - along[0]))
    across = max(SPACING_MM, SPACING_SHARE * pixel)
    if np.abs(drift - line).max() > across:
        at = int(np.abs(drift - line).max(axis=1).argmax())
        return (
            _refuse(
                "malformed-geometry", "slice {a} ({f}) lies {mm:.2f} mm beside the line of the others",
                a=at + 1, f=ordered[at].file.name, mm=float(np.abs(drift - line).max()),
            ),
        )  # fmt: skip
    if np.abs(drift).max() > across:
        tilt = float(np.rad2deg(np.arctan2(np.linalg.norm(drift[-1]), along[-1] - along[0])))
        return (_refuse("gantry-tilt", "the slices are sheared by {tilt:.1f} degrees (gantry tilt)", tilt=tilt),)
    return ()


def _thickness(header: SliceHeader) -> float:
    """Extent of a lone slice."""
    return header.number("SliceThickness", 1.0) or 1.0


def _exactly(header: SliceHeader, keyword: str, count: int) -> tuple[float, ...]:
    numbers = header.numbers(keyword)
    if len(numbers) != count:
        said = header.text(keyword) or "absent"
        raise UnreadableFile(f"{header.file.name}: {keyword} needs {count} numbers; it is {said}")
    return numbers


def _refuse(code: str, template: str, **values: str | float) -> Defect:
    return Defect(code, Message(template, values))
