"""Intensities and labels onto another grid."""

from typing import Literal

import numpy as np

from isocenter.types import Affine, Array

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
