"""Filters: less noise, or more edge. All take `d h w` of any real type and give float32; edges repeat."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from isocenter.ops.slabs import by_slab
from isocenter.types import Array, FloatGrid, Grid, Triple


def gaussian(grid: Grid, *, sigma: Triple, out: FloatGrid | None = None) -> FloatGrid:
    """Convolve with a Gaussian of standard deviation `sigma` voxels along (d, h, w).

    The kernel is cut at four standard deviations. An axis of one voxel is left alone. The answer goes into `out` if
    one is given.
    """
    spread = [0.0 if n == 1 else s for n, s in zip(grid.shape, sigma, strict=True)]
    halo = [int(4 * s + 0.5) for s in spread]
    out = np.empty(grid.shape, np.float32) if out is None else out
    return by_slab(lambda part: _gaussian(part, spread), grid, halo=halo, out=out, threaded=True)


def _gaussian(part: Array, spread: Sequence[float]) -> Array:
    return np.asarray(ndimage.gaussian_filter(part, spread, output=np.float32, mode="nearest"))


def mean(grid: Grid, *, radius: tuple[int, int, int]) -> FloatGrid:
    """Mean over the box of `2 radius + 1` voxels along (d, h, w)."""
    reach = _flat_axes(grid, radius)
    size = [2 * r + 1 for r in reach]

    def box(part: Array) -> Array:
        return np.asarray(ndimage.uniform_filter(part, size, output=np.float32, mode="nearest"))

    return by_slab(box, grid, halo=reach, threaded=True)


def median(grid: Grid, *, radius: tuple[int, int, int], out: Grid | None = None) -> Grid:
    """Median over the box of `2 radius + 1` voxels along (d, h, w), in the grid's own type. Into `out` if given."""
    from isocenter.ops.itk import array_of, image_of, sitk

    reach = _flat_axes(grid, radius)
    if not any(reach):
        if out is None:
            return grid
        out[...] = grid
        return out

    def whole(part: Array) -> Array:
        return array_of(sitk.Median(image_of(part), list(reach[::-1])))

    return by_slab(whole, grid, halo=reach, out=out)


def bilateral(grid: Grid, *, sigma: float, spacing: Triple, contrast: float) -> FloatGrid:
    """Gaussian smoothing in which a neighbour counts less the more its intensity differs.

    Args:
        grid: intensities.
        sigma: standard deviation of the neighbourhood, in the unit of `spacing`.
        spacing: distances along (d, h, w).
        contrast: standard deviation of the intensities that are mixed, in their own unit.
    Source: C. Tomasi, R. Manduchi, ICCV 1998, eq. (4) and (5).
    """
    from isocenter.ops.itk import array_of, sitk

    halo = [int(np.ceil(2.5 * sigma / s)) + 1 for s in spacing]

    def whole(part: Array) -> Array:
        done = array_of(sitk.Bilateral(_image(part, spacing), float(sigma), float(contrast), 200))
        return done.reshape(part.shape)

    return by_slab(whole, grid, halo=halo)


def diffuse(grid: Grid, *, spacing: Triple, iterations: int, conductance: float) -> FloatGrid:
    """Smooth along edges and not across them: curvature-driven anisotropic diffusion.

    The time step is the largest that is stable on this spacing.

    Args:
        grid: intensities.
        spacing: distances along (d, h, w), in the unit of the geometry.
        iterations: how long.
        conductance: how strong an edge, relative to the mean gradient of the image, stops the flow.
    Source: R. Whitaker, X. Xue, ICIP 2001 (modified curvature diffusion equation); P. Perona, J. Malik,
        IEEE Trans. PAMI 12(7):629-639, 1990.
    """
    from isocenter.ops.itk import array_of, sitk

    flat = grid.shape[0] == 1
    d, h, w = (s / min(spacing[flat:]) for s in spacing)  # the smallest is 1: one stable step for all
    step = 0.9 / 2 ** (3 if flat else 4)
    image = _image(grid, (d, h, w))
    done = array_of(sitk.CurvatureAnisotropicDiffusion(image, step, float(conductance), 1, iterations))
    return done.reshape(grid.shape)


def laplacian(grid: Grid, *, spacing: Triple) -> FloatGrid:
    """Sum of second differences, per squared unit of `spacing`; axes of one voxel add nothing."""
    axes = [axis for axis in range(3) if grid.shape[axis] > 1]

    def whole(part: Array) -> Array:
        total = np.zeros(part.shape, np.float32)
        term = np.empty(part.shape, np.float32)
        for axis in axes:
            ndimage.correlate1d(part, np.asarray([1.0, -2.0, 1.0]) / spacing[axis] ** 2, axis, term, mode="nearest")
            total += term
        return total

    return by_slab(whole, grid, halo=1, threaded=True)


def gradient_magnitude(grid: Grid, *, spacing: Triple, sobel: bool = False) -> FloatGrid:
    """Length of the gradient, per unit of `spacing`, by central differences; axes of one voxel add nothing.

    With `sobel`, each difference is averaged across its direction with the weights 1 2 1.
    """
    axes = [axis for axis in range(3) if grid.shape[axis] > 1]

    def whole(part: Array) -> Array:
        total = np.zeros(part.shape, np.float32)
        term, other = np.empty(part.shape, np.float32), np.empty(part.shape, np.float32)
        for axis in axes:
            ndimage.correlate1d(part, np.asarray([-0.5, 0.0, 0.5]) / spacing[axis], axis, term, mode="nearest")
            for across in axes if sobel else ():
                if across != axis:
                    ndimage.correlate1d(term, [0.25, 0.5, 0.25], across, other, mode="nearest")
                    term, other = other, term
            np.multiply(term, term, out=term)
            total += term
        return np.asarray(np.sqrt(total, out=total))

    return by_slab(whole, grid, halo=1, threaded=True)


def noise(grid: Grid) -> float:
    """Standard deviation of the noise, from the differences that a smooth image would not have.

    In each slice the mask (1 -2 1) x (1 -2 1) wipes out planes and edges along the axes; the median of its absolute
    answer, over 0.6745 and over the mask's norm 6, is robust against the edges that are left. Voxels in patches that
    are exactly flat (padding) are left out.

    Source: J. Immerkaer, Comput. Vis. Image Underst. 64(2):300-302, 1996, with the median for the mean.
    """
    step = max(1, grid.shape[0] // 24)
    answers = []
    for plane in grid[::step]:
        if min(plane.shape) < 3:
            continue
        rows = np.diff(plane.astype(np.float32), 2, axis=0)
        answer = np.abs(np.diff(rows, 2, axis=1)).ravel()
        answers.append(answer[answer > 0])
    values = np.concatenate(answers) if answers else np.empty(0, np.float32)
    return float(np.median(values)) / 0.6745 / 6 if values.size else 0.0


def _flat_axes(grid: Grid, radius: Sequence[int]) -> tuple[int, int, int]:
    d, h, w = (0 if n == 1 else int(r) for n, r in zip(grid.shape, radius, strict=True))
    return d, h, w


def _image(grid: Grid, spacing: Triple) -> Any:
    """A float image, of two dimensions where there is one slice: a filter must not look for neighbours across it."""
    from isocenter.ops.itk import image_of

    values = np.asarray(grid, dtype=np.float32)
    return image_of(values, spacing=spacing) if grid.shape[0] > 1 else image_of(values[0], spacing=spacing[1:])
