"""Regions that grow from seeds: connected intensities, watershed, random walker, and the Chan-Vese contour."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from isocenter.errors import DegenerateImage
from isocenter.ops.slabs import by_slab
from isocenter.types import Array, FloatGrid, Grid, LabelGrid, Mask, Triple


def connected_to(mask: Mask, seeds: Sequence[tuple[int, int, int]], *, corners: bool = False) -> Mask:
    """The parts of the mask that hold a seed (d, h, w)."""
    structure = ndimage.generate_binary_structure(3, 3 if corners else 1)
    parts = np.empty(mask.shape, np.int32)
    count = int(ndimage.label(mask, structure=structure, output=parts))
    kept = np.zeros(count + 1, np.bool_)
    kept[[int(parts[seed]) for seed in seeds]] = True
    kept[0] = False
    return np.asarray(kept[parts])


def between(grid: Grid, low: float, high: float) -> Mask:
    """Voxels from `low` to `high`, both included."""

    def chosen(part: Array) -> Array:
        return np.asarray((part >= low) & (part <= high))

    return by_slab(chosen, grid, halo=0, threaded=True)


def confidence_connected(
    grid: Grid, seeds: Sequence[tuple[int, int, int]], *, radius: int, multiplier: float, iterations: int
) -> tuple[Mask, float, float]:
    """Grow from seeds over intensities within `multiplier` standard deviations of the region's mean.

    The first mean and deviation are of the cubes around the seeds; each round takes those of the region grown so far.

    Returns: the region, and the ends of its last interval.
    Raises: DegenerateImage where the seeds' surroundings are all equal.
    Source: ITK Software Guide, 2nd book, section 4.1.4 (ConfidenceConnectedImageFilter).
    """
    around = [
        grid[tuple(slice(max(0, s - radius), s + radius + 1) for s in seed)].astype(np.float64).ravel()
        for seed in seeds
    ]
    values = np.concatenate(around)
    region = np.zeros(grid.shape, np.bool_)
    low = high = 0.0
    for _ in range(iterations + 1):
        mean, deviation = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
        if deviation == 0:
            raise DegenerateImage(
                f"all voxels around the seeds equal {mean:g}: there is no spread to grow by; use a larger radius, or "
                "region_growing with low and high"
            )
        low, high = mean - multiplier * deviation, mean + multiplier * deviation
        before = region
        region = connected_to(between(grid, low, high), seeds)
        if not region.any():
            raise DegenerateImage("the seeds lie outside the interval that they define: place them inside the object")
        if np.array_equal(before, region):
            break
        values = grid[region]
    return region, low, high


def watershed(relief: Grid, markers: LabelGrid, *, mask: Mask | None = None) -> LabelGrid:
    """Flood a relief from markers; basins meet at the ridges.

    Args:
        relief: height of each voxel: a gradient magnitude, or minus a distance.
        markers: the labels to flood from; 0 is unclaimed.
        mask: nothing is flooded outside; whole grid without.
    Source: S. Beucher, F. Meyer, in: Mathematical Morphology in Image Processing, 1993, chapter 12 (ITK's flooding).
    """
    from isocenter.ops.itk import array_of, sitk

    heights = np.asarray(relief, dtype=np.float32)
    top = float(heights.max())
    wall = int(markers.max()) + 1
    seeds = markers.astype(np.uint8 if wall < 256 else np.uint16 if wall < 65536 else np.uint32)
    if mask is not None:
        heights = np.where(mask, heights, np.float32(top + 1))
        seeds = np.where(mask, seeds, wall).astype(seeds.dtype)  # the outside is a basin of its own
    images = [_image(heights), _image(seeds)]
    flooded = array_of(sitk.MorphologicalWatershedFromMarkers(*images, markWatershedLine=False, fullyConnected=False))
    flooded = flooded.reshape(relief.shape)
    return np.where(flooded == wall, 0, flooded).astype(seeds.dtype)


def _image(grid: Array) -> Any:
    """Two-dimensional where there is one slice."""
    from isocenter.ops.itk import image_of

    return image_of(grid if grid.shape[0] > 1 else grid[0])


def random_walker(
    grid: Grid, markers: LabelGrid, *, spacing: Triple, noise: float, tolerance: float = 1e-3
) -> LabelGrid:
    """The label that a random walker from each voxel most likely meets first; steps over edges are unlikely.

    The weight between neighbours is exp(-(difference / noise)^2 / 2), over the squared distance. The Dirichlet
    problem of each label is solved by conjugate gradients with the diagonal as preconditioner, without a matrix.

    Args:
        grid: intensities.
        markers: labels of the seeds; 0 is to be found.
        spacing: distances along (d, h, w).
        noise: difference of intensities that still counts as none.
        tolerance: relative residual at which the solver ends.
    Raises: DegenerateImage with fewer than two labels.
    Source: L. Grady, IEEE Trans. PAMI 28(11):1768-1783, 2006, eq. (1) and (10).
    """
    names = [int(v) for v in np.unique(markers) if v]
    if len(names) < 2:
        raise DegenerateImage(f"a random walker needs at least two labels of seeds; got {len(names)}")
    axes = [axis for axis in range(3) if grid.shape[axis] > 1]
    closest = min(spacing[a] for a in axes)
    weights = {axis: _similarity(grid, axis, noise) * np.float32((closest / spacing[axis]) ** 2) for axis in axes}
    free = markers == 0
    degree = np.full(grid.shape, 1e-12, np.float32)
    for axis, weight in weights.items():
        d, w = np.moveaxis(degree, axis, 0), np.moveaxis(weight, axis, 0)
        d[:-1] += w
        d[1:] += w
    best = np.full(grid.shape, -1.0, np.float32)
    label = markers.copy()
    for name in names:
        chance = _chances(weights, degree, free, np.asarray(markers == name), tolerance)
        better = free & (chance > best)
        label[better] = name
        best[better] = chance[better]
    return label


def _similarity(grid: Grid, axis: int, noise: float) -> Array:
    values = np.moveaxis(grid, axis, 0)
    difference = np.subtract(values[1:], values[:-1], dtype=np.float32)
    difference /= np.float32(noise)
    np.multiply(difference, difference, out=difference)
    difference *= np.float32(-0.5)
    np.exp(difference, out=difference)
    np.maximum(difference, np.float32(1e-6), out=difference)  # no voxel is cut off altogether
    return np.moveaxis(difference, 0, axis)


def _chances(weights: dict[int, Array], degree: Array, free: Mask, seeds: Mask, tolerance: float) -> Array:
    """Probability of meeting `seeds` first: the Laplacian's solution on the free voxels, 1 on the seeds."""
    x = seeds.astype(np.float32)
    product = np.empty_like(x)

    def laplacian(values: Array) -> Array:
        np.multiply(degree, values, out=product)
        for axis, weight in weights.items():
            p, v, w = (np.moveaxis(array, axis, 0) for array in (product, values, weight))
            p[:-1] -= w * v[1:]
            p[1:] -= w * v[:-1]
        return product

    residual = np.where(free, -laplacian(x), 0).astype(np.float32)
    x_free = np.zeros_like(x)
    scaled = residual / degree
    direction = scaled.copy()
    score = float(np.vdot(residual, scaled))
    goal = tolerance**2 * max(score, 1e-30)
    for _ in range(2000):
        if score <= goal:
            break
        turned = laplacian(direction)
        turned[~free] = 0
        step = np.float32(score / float(np.vdot(direction, turned)))
        x_free += step * direction
        residual -= step * turned
        np.divide(residual, degree, out=scaled)
        before, score = score, float(np.vdot(residual, scaled))
        direction *= np.float32(score / before)
        direction += scaled
    return x + x_free


def chan_vese(
    grid: Grid,
    start: Mask,
    *,
    spacing: Triple,
    sigma: float,
    smoothness: float,
    iterations: int,
    within: Mask | None = None,
) -> tuple[Mask, float, float, int]:
    """Two regions of even intensity with a short boundary between them (Chan-Vese), by threshold dynamics.

    In turn: the two means; then each voxel goes inside if its squared distance to the inner mean, less that to the
    outer, plus `smoothness` times (1 - 2 G * u) is negative, G being a Gaussian and u the region. Every round lowers
    the energy; no step size is to be chosen.

    Args:
        grid: intensities.
        start: a region that holds more of the object than of the ground.
        spacing: distances along (d, h, w).
        sigma: of the Gaussian, in the unit of `spacing`: details smaller than it go.
        smoothness: weight of the boundary, in units of the squared difference of the two means.
        iterations: at most.
        within: only these voxels count and can be inside.
    Returns: the region, its mean, the mean outside, and the rounds that it took.
    Raises: DegenerateImage where one of the regions dies out.
    Source: T. Chan, L. Vese, IEEE Trans. Image Process. 10(2):266-277, 2001, eq. (3); D. Wang et al., J. Comput.
        Phys. 350:657-667, 2017, algorithm 1.
    """
    from isocenter.ops.filter import gaussian

    spread = (sigma / spacing[0], sigma / spacing[1], sigma / spacing[2])
    region = start if within is None else start & within
    inner = outer = 0.0
    for count in range(1, iterations + 1):
        outside = ~region if within is None else within & ~region
        if not region.any() or not outside.any():
            raise DegenerateImage("one of the two regions died out: start from a better mask, or lower smoothness")
        inner, outer = (_mean_of(grid, m) for m in (region, outside))
        if inner == outer:
            raise DegenerateImage(f"inside and outside have one mean ({inner:g}): there is nothing to part")
        blurred = gaussian(region.view(np.uint8).astype(np.float32), sigma=spread)
        pull = np.float32(smoothness * (inner - outer) ** 2)
        a, b = np.float32(inner), np.float32(outer)

        def inside(part: Array, blur: Array, a: Any = a, b: Any = b, pull: Any = pull) -> Array:
            values = part.astype(np.float32, copy=False)
            return np.asarray((values - a) ** 2 - (values - b) ** 2 + pull * (1 - 2 * blur) < 0)

        new = by_slab(inside, grid, blurred, halo=0, threaded=True)
        if within is not None:
            new &= within
        changed = int(np.count_nonzero(new != region))
        region = new
        if not changed:
            return region, inner, outer, count
    return region, inner, outer, iterations


def _mean_of(grid: Grid, mask: Mask) -> float:
    total = sum(float(plane[inside].sum(dtype=np.float64)) for plane, inside in zip(grid, mask, strict=True))
    return total / int(np.count_nonzero(mask))


def local_maxima(relief: FloatGrid, *, depth: float) -> LabelGrid:
    """Peaks that rise by at least `depth` above the passes to higher ones, numbered from 1.

    Source: P. Soille, Morphological Image Analysis, 2nd ed. 2003, section 6.3.4 (h-maxima).
    """
    from isocenter.ops.itk import array_of, sitk

    cut = sitk.HMaxima(_image(relief), float(depth))
    peaks = sitk.RegionalMaxima(cut, backgroundValue=0.0, foregroundValue=1.0, fullyConnected=True, flatIsMaxima=True)
    mask = array_of(sitk.Cast(peaks, sitk.sitkUInt8)).reshape(relief.shape) > 0
    mask &= relief > 0
    numbered = np.empty(relief.shape, np.int32)
    ndimage.label(mask, structure=np.ones((3, 3, 3)), output=numbered)
    return numbered
