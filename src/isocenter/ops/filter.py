"""Smoothing."""

import numpy as np
from scipy import ndimage

from isocenter.ops.slabs import by_slab
from isocenter.types import Array, FloatGrid, Grid, Triple


def gaussian(grid: Grid, *, sigma: Triple, out: FloatGrid | None = None) -> FloatGrid:
    """Convolve with a Gaussian of standard deviation `sigma` voxels along (d, h, w); edges repeat.

    The kernel is cut at four standard deviations. An axis of one voxel is left alone. The answer goes into `out` if
    one is given.
    """
    spread = [0.0 if n == 1 else s for n, s in zip(grid.shape, sigma, strict=True)]
    out = np.empty(grid.shape, np.float32) if out is None else out
    ndimage.gaussian_filter(grid, spread, output=out, mode="nearest")
    return out


def median(grid: Grid, *, radius: tuple[int, int, int], out: Grid | None = None) -> Grid:
    """Median over the box of `2 radius + 1` voxels along (d, h, w); edges repeat. Into `out` if one is given."""
    from isocenter.ops.itk import array_of, image_of, sitk

    reach = [0 if n == 1 else r for n, r in zip(grid.shape, radius, strict=True)]
    if not any(reach):
        if out is None:
            return grid
        out[...] = grid
        return out

    def whole(part: Array) -> Array:
        return array_of(sitk.Median(image_of(part), reach[::-1]))

    return by_slab(whole, grid, halo=reach[0], out=out)
