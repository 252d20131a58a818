"""Histograms of big grids, and Otsu's threshold."""

import numpy as np

from isocenter.errors import DegenerateImage
from isocenter.ops.slabs import slabs
from isocenter.types import Array, Float64, Grid, Int64, Mask, Values


def value_range(grid: Grid, *, within: Mask | None = None) -> tuple[float, float]:
    """Smallest and largest value; slab by slab.

    Raises: DegenerateImage if there is no voxel, or one that is not finite.
    """
    lows, highs = [], []
    for part in slabs(grid.shape):
        values = grid[part] if within is None else grid[part][within[part]]
        if values.size:
            lows.append(float(values.min()))
            highs.append(float(values.max()))
    if not lows:
        raise DegenerateImage("there is no voxel to look at: the mask is empty")
    low, high = min(lows), max(highs)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise DegenerateImage("the image holds values that are not finite (NaN or infinity): repair the file first")
    return low, high


def histogram(
    grid: Grid, *, bins: int, within: Mask | None = None
) -> tuple[Int64[Array, "bins"], Float64[Array, "bins"]]:
    """Counts and centres of `bins` equal bins from the smallest to the largest value.

    Raises: DegenerateImage if all values are equal, or there is none.
    """
    low, high = value_range(grid, within=within)
    if low == high:
        raise DegenerateImage(f"all {grid.size if within is None else int(within.sum())} voxels equal {low:g}")
    counts = np.zeros(bins, np.int64)
    scale = bins / (high - low)
    for part in slabs(grid.shape):
        for plane, mask in zip(grid[part], [None] * grid.shape[0] if within is None else within[part], strict=False):
            values = plane.ravel() if mask is None else plane[mask]
            index = ((values.astype(np.float64) - low) * scale).astype(np.int64)
            counts += np.bincount(np.minimum(index, bins - 1), minlength=bins)
    centres = low + (np.arange(bins) + 0.5) / scale
    return counts, centres


def otsu_threshold(values: Values, *, bins: int = 256) -> float:
    """Intensity that best parts `values` into a dark and a bright class.

    Maximises the between-class variance over the cuts of a histogram. An empty gap scores the same
    throughout: its middle is the answer.

    Args:
        values: intensities, any unit, any order.
        bins: the answer is exact to (max - min) / bins.
    Returns: threshold in the unit of `values`; bright is `> threshold`.
    Raises: DegenerateImage if all values are equal.
    Source: N. Otsu, IEEE Trans. SMC 9(1):62-66, 1979.
    """
    return otsu_cut(*histogram(values.reshape(1, 1, -1), bins=bins))


def otsu_cut(counts: Int64[Array, "bins"], centres: Float64[Array, "bins"]) -> float:
    """Otsu's threshold of a histogram; see `otsu_threshold`."""
    weight = counts / counts.sum()
    below = np.cumsum(weight)[:-1]  # probability of the dark class for each cut, eq. (2)
    moment = np.cumsum(weight * centres)
    total = moment[-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        between = (total * below - moment[:-1]) ** 2 / (below * (1 - below))  # eq. (18)
    between = np.nan_to_num(between)
    best = np.flatnonzero(between >= between.max() * (1 - 1e-9))
    step = centres[1] - centres[0]
    return float((centres[best[0]] + centres[best[-1]]) / 2 + step / 2)
