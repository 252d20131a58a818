"""Intensities and labels onto another grid."""

from typing import Any, Literal

import numpy as np

from isocenter.types import Affine, Array, Float32

Interpolation = Literal["nearest", "linear", "cubic"]


def resample(
    grid: Array,
    *,
    affine: Affine,
    to_shape: tuple[int, int, int],
    to_affine: Affine,
    interpolation: Interpolation = "linear",
    outside: float = 0.0,
) -> Array:
    """Values of `grid` at the voxel centres of another grid.

    Args:
        grid: `d h w`, any number type; nearest keeps it, the others give float32.
        affine: index -> world of `grid`.
        to_shape: the new grid's shape.
        to_affine: the new grid's index -> world.
        interpolation: nearest for labels; cubic is a B-spline of order 3.
        outside: value where the new grid leaves the old one.
    """
    from isocenter.ops.itk import array_of, image_of, sitk

    methods = {"nearest": sitk.sitkNearestNeighbor, "linear": sitk.sitkLinear, "cubic": sitk.sitkBSpline}
    source = grid if interpolation == "nearest" else grid.astype(np.float32, copy=False)
    # Both grids in the index space of the old one: sheared and left-handed affines need no special case,
    # which an image with an orthonormal direction could not hold.
    relative = np.linalg.solve(affine, to_affine)
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(relative[:3, :3][::-1, ::-1].ravel().tolist())
    transform.SetTranslation(relative[:3, 3][::-1].tolist())
    result = sitk.Resample(
        image_of(source),
        list(to_shape[::-1]),
        transform,
        methods[interpolation],
        (0.0, 0.0, 0.0),
        (1.0, 1.0, 1.0),
        (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
        float(outside),
    )
    return array_of(result)


def resample_displaced(
    grid: Array,
    *,
    affine: Affine,
    to_shape: tuple[int, int, int],
    to_affine: Affine,
    matrix: Affine,
    displacements: Float32[Array, "3 gd gh gw"],
    grid_affine: Affine,
    interpolation: Interpolation = "linear",
    outside: float = 0.0,
) -> Array:
    """Values of `grid` at `matrix` p plus the displacement at p, for the world place p of each voxel of another grid.

    Slice by slice, so that the places never stand in memory all at once.

    Args:
        grid: `d h w`, any number type; nearest keeps it, the others give float32.
        affine: index -> world of `grid`.
        to_shape: the new grid's shape.
        to_affine: the new grid's index -> world.
        matrix: world of the new grid -> world of `grid`.
        displacements: world millimetres (x, y, z), on a grid of their own in the new grid's world; the nearest
            beyond it.
        grid_affine: index -> world of the displacements.
        interpolation: nearest for labels; cubic is a B-spline of order 3.
        outside: value where the new grid leaves the old one.
    """
    from scipy import ndimage

    order: Any = {"nearest": 0, "linear": 1, "cubic": 3}[interpolation]
    source: Array = grid if interpolation == "nearest" else grid.astype(np.float32, copy=False)
    if order == 3:
        source = ndimage.spline_filter(source, 3, output=np.float32, mode="mirror")
    out = np.empty(to_shape, source.dtype)
    rows, columns = np.indices(to_shape[1:], dtype=np.float64)
    to_field = np.linalg.inv(grid_affine) @ to_affine
    to_source = np.linalg.inv(affine) @ matrix @ to_affine
    turn = np.linalg.inv(affine)[:3, :3]
    for d in range(to_shape[0]):
        index = np.stack((np.full(rows.shape, float(d)), rows, columns))
        at = np.tensordot(to_field[:3, :3], index, axes=1) + to_field[:3, 3, None, None]
        moved = np.stack([ndimage.map_coordinates(part, at, order=1, mode="nearest") for part in displacements])
        place = np.tensordot(to_source[:3, :3], index, axes=1) + to_source[:3, 3, None, None]
        place += np.tensordot(turn, moved, axes=1)
        ndimage.map_coordinates(
            source, place, output=out[d], order=order, mode="grid-constant", cval=outside, prefilter=False
        )
        beyond = np.zeros(rows.shape, np.bool_)
        for axis, n in enumerate(source.shape):
            beyond |= (place[axis] < -0.5) | (place[axis] > n - 0.5)
        out[d][beyond] = outside
    return out
