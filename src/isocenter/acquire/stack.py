"""Slices of one orientation and size, one at each place: the grid that they form, or can be brought onto.

| tolerance | value |
|---|---|
| slice spacing | 0.01 mm or 1 % of it, the larger |
| position across the slices | 0.01 mm or 1 % of the pixel size, the larger |
| orientation | 0.1 degree |
"""

from collections.abc import Sequence

import numpy as np

from isocenter.acquire.codes import Value, mended, noted, refused
from isocenter.acquire.policy import Policy
from isocenter.data.case import Defect
from isocenter.data.geometry import Geometry
from isocenter.data.provenance import Json
from isocenter.errors import GeometryError
from isocenter.formats.dicom_frames import Frame
from isocenter.formats.dicom_image import Stack
from isocenter.types import Array, Float64

SPACING_MM = 0.01
SPACING_SHARE = 0.01
ORIENTATION_DEG = 0.1
IMPLAUSIBLE_MM = (0.01, 50.0)
_TOO_CLOSE = 0.1
"""Share of the usual distance below which two slices are two versions of one."""
_MOST_NAMED = 12
_WIDE = 2.0
"""Times its thickness that slices may lie apart before it is asked whether some are missing."""
_MOST_GROWTH = 4
"""A repaired grid of more than so many times the measured slices is refused: the usual distance cannot be told."""

Laid = tuple[Stack | None, tuple[Defect, ...]]


def axes_of(orientation: Sequence[float]) -> Float64[Array, "3 3"]:
    """Unit directions in which slices, rows and columns of the array grow.

    Raises: GeometryError for cosines that are not two perpendicular unit vectors.
    """
    row, column = np.asarray(orientation[:3]), np.asarray(orientation[3:])
    if abs(np.linalg.norm(row) - 1) > 1e-2 or abs(np.linalg.norm(column) - 1) > 1e-2 or abs(row @ column) > 1e-2:
        raise GeometryError(f"ImageOrientationPatient {list(orientation)} is not two perpendicular unit vectors")
    row = row / np.linalg.norm(row)
    column = column - row * (row @ column)
    column /= np.linalg.norm(column)
    return np.stack((np.cross(row, column), column, row), axis=1)


def lay(frames: Sequence[Frame], policy: Policy) -> Laid:
    """Order slices along their normal and bring them onto one regular grid.

    Args:
        frames: at different places, of one size, spacing and orientation.
        policy: which gaps are filled.
    Returns: the stack, or None with a fatal defect.
    """
    orientation, spacing = frames[0].orientation, frames[0].spacing
    assert orientation is not None, "slices without a place are set aside before"
    assert spacing is not None, "slices without a place are set aside before"
    low, high = IMPLAUSIBLE_MM
    if not all(low <= s <= high for s in spacing):
        a, b = spacing
        return None, (refused("implausible-spacing", "a pixel spacing of {a:g} x {b:g} mm", a=a, b=b),)
    try:
        axes = axes_of(orientation)
    except GeometryError as error:
        return None, (refused("malformed-geometry", "{error}", error=str(error)),)
    positions = np.asarray([f.position for f in frames], dtype=np.float64)
    order = np.argsort(positions @ axes[:, 0], kind="stable")
    ordered = tuple(frames[i] for i in order)
    if len(ordered) == 1:
        return _lone(ordered[0], axes)
    return _many(ordered, positions[order], axes, policy)


def _lone(frame: Frame, axes: Float64[Array, "3 3"]) -> Laid:
    thickness = _thickness(frame)
    if not 0 <= thickness <= IMPLAUSIBLE_MM[1]:
        return None, (refused("implausible-spacing", "a lone slice {a:g} mm thick", a=thickness),)
    assumed = noted("implausible-spacing", "a lone slice that does not state its thickness: 1 mm is assumed")
    stack = Stack((frame,), _grid(frame, (1, *frame.shape), thickness or 1.0, axes, np.asarray(frame.position)))
    return stack, () if thickness else (assumed,)


def _thickness(frame: Frame) -> float:
    if "SliceThickness" in frame.keys:
        return float(frame.keys["SliceThickness"])
    return frame.header.number("SliceThickness", 0.0)


def _many(ordered: tuple[Frame, ...], positions: Float64[Array, "n 3"], axes: Float64[Array, "3 3"],
          policy: Policy) -> Laid:  # fmt: skip
    along = positions @ axes[:, 0]
    gaps = np.diff(along)
    usual = float(np.sort(gaps)[(len(gaps) - 1) // 2])
    if not IMPLAUSIBLE_MM[0] <= usual <= IMPLAUSIBLE_MM[1]:
        return None, (refused("implausible-spacing", "slices {a:g} mm apart", a=usual),)
    close = int(np.argmin(gaps))
    if gaps[close] < _TOO_CLOSE * usual:
        text = (
            "{fa} and {fb} lie only {gap:.3f} mm apart, {usual:.2f} mm is usual: which of them is right cannot be told"
        )
        names = {"fa": ordered[close].name, "fb": ordered[close + 1].name}
        return None, (refused("duplicate-slice", text, gap=float(gaps[close]), usual=usual, **names),)
    spacing = ordered[0].spacing
    assert spacing is not None, "checked by lay"
    shifts, tilted, beside = _drift(ordered, positions, along, axes, spacing)
    if beside:
        return None, (beside,)
    found = list(tilted)
    uneven, wide = _gaps(ordered, gaps, usual, policy)
    if wide:
        return None, (*found, wide)
    found += uneven
    step = usual
    if any(d.code == "uneven-spacing" for d in uneven):
        step = max(float(gaps.min()), usual / 2)
    count = round(float(along[-1] - along[0]) / step) + 1 if uneven else len(ordered)
    if count > _MOST_GROWTH * len(ordered) + 1:
        text = "slices from {a:.3f} to {b:.3f} mm apart: no usual distance can be told"
        return None, (*found, refused("uneven-spacing", text, a=float(gaps.min()), b=float(gaps.max())))
    between = float(along[-1] - along[0]) / (count - 1)
    rows, columns = ordered[0].shape
    first = positions[0]
    if shifts is not None:
        rows, columns = rows + int(np.ceil(shifts[:, 0].max())), columns + int(np.ceil(shifts[:, 1].max()))
        first = first - axes[:, 1] * spacing[0] * shifts[0, 0] - axes[:, 2] * spacing[1] * shifts[0, 1]
    weights, empty = _weights(along, between, count, usual) if uneven else (None, ())
    try:
        geometry = _grid(ordered[0], (count, rows, columns), between, axes, first)
    except GeometryError as error:
        return None, (*found, refused("malformed-geometry", "{error}", error=str(error)))
    said: dict[str, Json] = {}
    if found:
        said = {"repaired": [d.code for d in found], "measured_slices": len(ordered), "filled_slices": list(empty)}
    return Stack(ordered, geometry, weights, shifts, empty, said=said), (*found, *_sparse(ordered[0], usual))


def _sparse(frame: Frame, usual: float) -> tuple[Defect, ...]:
    """A note where slices lie far apart for how thick they are, and the header does not say that they should."""
    thickness, stated = _thickness(frame), frame.header.number("SpacingBetweenSlices", 0.0)
    if stated > 0 and abs(stated - usual) > max(SPACING_MM, SPACING_SHARE * usual):
        text = "slices lie {usual:.2f} mm apart, SpacingBetweenSlices says {stated:g}: every second one missing?"
        return (noted("missing-slice", text, usual=usual, stated=stated),) if usual > stated * 1.5 else ()
    if stated > 0 or not 0 < thickness * _WIDE < usual:
        return ()
    text = "slices of {thickness:g} mm lie {usual:.2f} mm apart: are some missing throughout?"
    return (noted("missing-slice", text, usual=usual, thickness=thickness),)


def _grid(frame: Frame, size: tuple[int, int, int], between: float, axes: Float64[Array, "3 3"],
          first: Float64[Array, "3"]) -> Geometry:  # fmt: skip
    assert frame.spacing is not None, "checked by lay"
    return Geometry.regular(
        size,
        spacing_mm=(between, frame.spacing[0], frame.spacing[1]),
        origin_mm=(float(first[0]), float(first[1]), float(first[2])),
        directions=axes,
        frame_uid=frame.header.text("FrameOfReferenceUID") or None,
    )


def _drift(
    ordered: Sequence[Frame],
    positions: Float64[Array, "n 3"],
    along: Float64[Array, "n"],
    axes: Float64[Array, "3 3"],
    spacing: Sequence[float],
) -> tuple[Float64[Array, "n 2"] | None, tuple[Defect, ...], Defect | None]:
    """Shifts (rows, columns) of slices along a tilted line; a defect where one lies beside the line."""
    drift = (positions - positions[0]) @ axes[:, 1:]
    line = np.outer(along - along[0], drift[-1] / (along[-1] - along[0]))
    across = max(SPACING_MM, SPACING_SHARE * min(spacing))
    off = np.abs(drift - line).max(axis=1)
    if off.max() > across:
        at = int(off.argmax())
        text = "slice {a} ({f}) lies {mm:.2f} mm beside the line of the others"
        return None, (), refused("malformed-geometry", text, a=at + 1, f=ordered[at].name, mm=float(off.max()))
    if np.abs(drift).max() <= across:
        return None, (), None
    tilt = float(np.rad2deg(np.arctan2(np.linalg.norm(drift[-1]), along[-1] - along[0])))
    if tilt > 60:
        text = "the slices are sheared by {tilt:.1f} degrees: no gantry tilts so far"
        return None, (), refused("malformed-geometry", text, tilt=tilt)
    shifts = line / np.asarray(spacing)
    shifts -= shifts.min(axis=0)
    shifts[np.abs(shifts) < 1e-6] = 0.0
    text = "the slices are sheared by {tilt:.1f} degrees (gantry tilt), {mm:.1f} mm over the stack"
    remedy = "resampled onto an upright grid, whose corners outside the slices are marked as not measured"
    return shifts, (mended("gantry-tilt", text, remedy, tilt=tilt, mm=float(np.linalg.norm(drift[-1]))),), None


def _gaps(ordered: Sequence[Frame], gaps: Float64[Array, "n"], usual: float,
          policy: Policy) -> tuple[tuple[Defect, ...], Defect | None]:  # fmt: skip
    """Distances that are not the usual one, mended; or one too wide to be."""
    tolerance = max(SPACING_MM, SPACING_SHARE * usual)
    off = np.flatnonzero(np.abs(gaps - usual) > tolerance)
    if not off.size:
        return (), None
    ratio = np.round(gaps[off] / usual)
    whole = (np.abs(gaps[off] - ratio * usual) <= np.maximum(tolerance, tolerance * ratio)) & (ratio > 1)
    at = int(off[np.argmax(gaps[off])])
    where: dict[str, Value] = {
        "a": at + 1, "b": at + 2, "fa": ordered[at].name, "fb": ordered[at + 1].name, "gap": float(gaps[at]),
        "usual": usual,
    }  # fmt: skip
    missing = (
        "{n} slice(s) missing between slice {a} ({fa}) and {b} ({fb}): {gap:.2f} mm apart, {usual:.2f} mm is usual"
    )
    if gaps[at] > (policy.fill + 1) * usual + tolerance * (policy.fill + 1):
        count = max(1, round(float(gaps[at]) / usual) - 1)
        return (), refused("missing-slice", missing, n=count, **where)
    if np.all(whole):
        total = int(ratio.sum() - len(ratio))
        text = missing
        if len(off) > 1:
            text = "{total} slices missing, after the slices {after}: {gap:.2f} mm apart, {usual:.2f} mm is usual"
        after = ", ".join(f"{i + 1} ({ordered[i].name})" for i in off[:_MOST_NAMED])
        after += f" and {len(off) - _MOST_NAMED} more" if len(off) > _MOST_NAMED else ""
        remedy = "filled by interpolation and marked as not measured"
        n = round(float(gaps[at]) / usual) - 1
        return (mended("missing-slice", text, remedy, n=n, total=total, after=after, **where),), None
    text = "uneven spacing: slices {a} ({fa}) and {b} ({fb}) are {gap:.3f} mm apart, {usual:.3f} mm is usual"
    remedy = "resampled onto a regular grid; slices far from a measured one are marked as not measured"
    return (mended("uneven-spacing", text, remedy, **where),), None


def _weights(
    along: Float64[Array, "n"], between: float, count: int, usual: float
) -> tuple[Float64[Array, "d n"], tuple[int, ...]]:
    """How much of each measured slice goes into each slice of the grid, and which grid slices are far from any."""
    target = along[0] + between * np.arange(count)
    upper = np.clip(np.searchsorted(along, target), 1, len(along) - 1)
    lower = upper - 1
    part = np.clip((target - along[lower]) / (along[upper] - along[lower]), 0.0, 1.0)
    tolerance = max(SPACING_MM, SPACING_SHARE * usual)
    part = np.where(np.abs(target - along[lower]) <= tolerance, 0.0, part)
    part = np.where(np.abs(target - along[upper]) <= tolerance, 1.0, part)
    weights = np.zeros((count, len(along)))
    weights[np.arange(count), lower] = 1 - part
    weights[np.arange(count), upper] += part
    nearest = np.minimum(np.abs(target - along[lower]), np.abs(target - along[upper]))
    return weights, tuple(int(i) for i in np.flatnonzero(nearest > usual / 2 + tolerance))
