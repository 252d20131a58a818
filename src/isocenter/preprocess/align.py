"""Two images brought onto each other, with the map kept."""

import numpy as np
from pydantic import Field

from isocenter.data.geometry import Geometry
from isocenter.data.labels import LabelMap
from isocenter.data.provenance import Json, Step
from isocenter.data.step import Settings
from isocenter.data.transform import Transform
from isocenter.data.volume import Volume
from isocenter.errors import GeometryError
from isocenter.ops.register import Kind
from isocenter.ops.resample import Interpolation
from isocenter.preprocess.grid import filtered, require_one_space
from isocenter.types import Array, Mask, Points

_MOST_WORKING_VOXELS = 12_000_000


class Register(Settings):
    """Settings of `register`."""

    kind: Kind = "rigid"
    """`rigid` (turn and shift), `affine` (stretch and shear too), or `deformable` (B-splines after an affine map)."""
    working_mm: float | None = Field(None, gt=0, le=50)
    """Spacing on which the two are compared, in the unit of the images; none: a 128th of the field."""
    control_mm: float = Field(40.0, gt=0, le=500)
    """Distance between the control points of a deformable map: smaller bends more, and needs more to go by."""
    interpolation: Interpolation = "linear"
    """Of the result: `nearest`, `linear` or `cubic`."""
    seed: int = Field(1, ge=0, le=2**31 - 1)
    """Of the voxels on which the two are compared; a second run with the next seed tells how repeatable the map is."""


def register(volume: Volume, other: Volume, settings: Register) -> tuple[Volume, Transform]:
    """Bring the image onto another image of the same body part (Mattes mutual information, coarse to fine).

    Use rigid for a head or one patient on one day, affine for other sizes, deformable for breathing and bowels; the
    modalities may differ. The map goes from the other (fixed) image to this (moving) one and is kept; `history` tells
    the mutual information before and after, how far two runs differ (`repeat_mm`), and the share of the fixed image
    that the moving one covers. Its memory is up to twelve times the larger volume in float32.

    Returns: the image on the other's grid, and the map.
    Raises: GeometryError where the two do not share a space; DegenerateImage where they cannot be brought to meet.
    """
    from isocenter.ops.register import register as find

    moving, fixed = volume, other
    require_one_space(moving.geometry, fixed.geometry)
    for one in (moving, fixed):
        one.require_finite()
        if min(n for n in one.geometry.shape[one.geometry.shape[0] == 1 :]) < 4:
            raise GeometryError(f"an image of {one.geometry.shape} voxels is too small to register")
    if (moving.geometry.shape[0] == 1) != (fixed.geometry.shape[0] == 1):
        raise GeometryError("one image is a single slice and the other a stack: they cannot be registered")
    spacing = _working(settings, fixed.geometry, moving.geometry)
    small = [_shrunk(v, spacing) for v in (fixed, moving)]
    found = [
        find(
            small[0].grid,
            small[0].geometry.affine,
            small[1].grid,
            small[1].geometry.affine,
            kind="affine" if again and settings.kind == "deformable" else settings.kind,
            control_mm=settings.control_mm,
            seed=settings.seed + again,
        )
        for again in (0, 1)
    ]
    best = found[0]
    grid = small[0].geometry if best.displacements is not None else None
    transform = Transform(best.matrix, best.displacements, grid)
    corners = fixed.geometry.corners()
    ends = [corners @ f.matrix[:3, :3].T for f in found]
    shifts = [e + f.matrix[:3, 3] for e, f in zip(ends, found, strict=True)]
    moved, seen = apply(transform, moving, fixed.geometry, interpolation=settings.interpolation)
    results: dict[str, Json] = {
        "frame_uid": moving.geometry.frame_uid,
        "matrix": best.matrix.tolist(),
        "working_mm": spacing,
        "mutual_information_before": best.before,
        "mutual_information": best.after,
        "repeat_mm": float(np.linalg.norm(shifts[0] - shifts[1], axis=1).max()),
        "covered": float(seen.mean()),
        "largest_move_mm": float(np.linalg.norm(shifts[0] - corners, axis=1).max()),
        "smallest_volume_change": transform.smallest_volume_change,
    }
    step = Step("preprocess.register", settings.model_dump(exclude_none=True), results)
    return moved.then(step), transform


def apply(
    transform: Transform, volume: Volume, onto: Geometry, *, interpolation: Interpolation = "linear"
) -> tuple[Volume, Mask]:
    """The moving image on a grid in the fixed image's world; and which of its voxels the moving image covers.

    Voxels beyond the moving image get its darkest value and count as not measured.
    """
    channels = [
        _sampled(transform, channel, volume.geometry, onto, how=interpolation, outside=float(channel.min()))
        for channel in volume.voxels
    ]
    known = np.ones(volume.geometry.shape, np.uint8)
    how: Interpolation = "nearest"
    if volume.not_measured is not None:
        known, how = (~volume.not_measured).view(np.uint8), "linear"  # what touches a filled voxel counts
    seen = np.asarray(_sampled(transform, known, volume.geometry, onto, how=how) > 0.999)
    step = Step("preprocess.apply_transform", {"interpolation": interpolation})
    voxels = channels[0] if len(channels) == 1 else np.stack(channels)
    return volume.then(step, voxels=voxels, geometry=onto, not_measured=~seen), seen


def apply_to_labels(transform: Transform, labels: LabelMap, onto: Geometry) -> LabelMap:
    """Labels of the moving image on a grid in the fixed image's world, by nearest neighbour; 0 beyond them."""
    voxels = _sampled(transform, labels.voxels, labels.geometry, onto, how="nearest")
    return labels.then(Step("preprocess.apply_transform"), voxels=voxels, geometry=onto)


def apply_to_points(transform: Transform, points: Points) -> Points:
    """Points of the moving image, in LPS mm, in the fixed image's world.

    Raises: GeometryError where the map folds.
    """
    return transform.inverse_points(points)


def _sampled(
    transform: Transform, grid: Array, geometry: Geometry, onto: Geometry, *, how: Interpolation, outside: float = 0.0
) -> Array:
    """Values of a moving grid at the places of the fixed grid's voxels."""
    from isocenter.ops.resample import resample, resample_displaced

    if transform.displacements is None or transform.geometry is None:
        to_affine = transform.matrix @ onto.affine
        return resample(
            grid, affine=geometry.affine, to_shape=onto.shape, to_affine=to_affine, interpolation=how, outside=outside
        )
    return resample_displaced(
        grid,
        affine=geometry.affine,
        to_shape=onto.shape,
        to_affine=onto.affine,
        matrix=transform.matrix,
        displacements=transform.displacements,
        grid_affine=transform.geometry.affine,
        interpolation=how,
        outside=outside,
    )


def _working(settings: Register, fixed: Geometry, moving: Geometry) -> float:
    """Spacing of the comparison."""
    finest = min(min(_true_steps(g)) for g in (fixed, moving))
    extent = max(n * s for n, s in zip(fixed.shape, fixed.steps, strict=True) if n > 1)
    return max(settings.working_mm or extent / 128, finest)


def _true_steps(geometry: Geometry) -> list[float]:
    return [s for s, n in zip(geometry.steps, geometry.shape, strict=True) if n > 1] or [1.0]


def _shrunk(volume: Volume, spacing: float) -> Volume:
    """Smoothed and sampled about `spacing` apart; axes that are coarser already stay.

    Raises: GeometryError where that is still too large to compare.
    """
    from isocenter.ops.resample import resample

    old = volume.geometry
    factor = [1 if n == 1 else max(1, round(spacing / s)) for n, s in zip(old.shape, old.steps, strict=True)]
    shape = tuple(max(1, n // f) for n, f in zip(old.shape, factor, strict=True))
    if np.prod(shape) > _MOST_WORKING_VOXELS:
        raise GeometryError(f"comparing {shape} voxels takes hours: give a larger working_mm than {spacing:.3g}")
    affine = old.affine.copy()
    affine[:3, :3] *= factor
    affine[:3, 3] = old.index_to_world((np.asarray([factor], dtype=np.float64) - 1) / 2)[0]
    geometry = Geometry((shape[0], shape[1], shape[2]), affine, old.space, old.frame_uid)
    source = filtered(volume.grid, [0.5 * f if f > 1 else 0.0 for f in factor])
    voxels = resample(source, affine=old.affine, to_shape=geometry.shape, to_affine=affine, outside=float(source.min()))
    return Volume(voxels[None], geometry, volume.quantity)
