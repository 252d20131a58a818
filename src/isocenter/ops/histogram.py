"""Histograms of big grids, and Otsu's threshold."""

from collections.abc import Sequence

import numpy as np

from isocenter.errors import DegenerateImage
from isocenter.ops.slabs import above, by_slab, slabs
from isocenter.types import Array, Float64, FloatGrid, Grid, Int64, Mask, Values


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


def li_cut(counts: Int64[Array, "bins"], centres: Float64[Array, "bins"]) -> float:
    """Li's threshold of a histogram: the cut with the least cross-entropy between the image and its two means.

    Intensities are counted from the lower edge of the first bin, since the method needs positive ones.

    Source: C. H. Li, P. K. S. Tam, Pattern Recognit. Lett. 18(8):771-776, 1998, eq. (9).
    """
    step = float(centres[1] - centres[0])
    origin = float(centres[0]) - step / 2
    values, mass = centres - origin, np.cumsum(counts)
    moment = np.cumsum(counts * values)
    cut = moment[-1] / mass[-1]
    for _ in range(1000):
        below = int(np.clip(np.searchsorted(values, cut, side="right") - 1, 0, len(values) - 2))
        dark, rest = moment[below] / max(1, mass[below]), mass[-1] - mass[below]
        bright = (moment[-1] - moment[below]) / max(1, rest)
        if not mass[below] or not rest:
            break
        before, cut = cut, (bright - dark) / (np.log(bright) - np.log(dark))
        if abs(cut - before) < step / 2:
            break
    return origin + float(cut)


def percentiles(grid: Grid, shares: Sequence[float], *, within: Mask | None = None) -> list[float]:
    """Exact percentiles (0 to 100, linear between neighbours) of all voxels, or of a mask's.

    Raises: DegenerateImage if there is no voxel, or one that is not finite.
    """
    value_range(grid, within=within)
    values = grid.flatten() if within is None else grid[within]
    return [float(p) for p in np.percentile(values, shares, overwrite_input=True)]


_FINE = 65536


def equalised(grid: Grid, *, within: Mask | None = None) -> FloatGrid:
    """Each intensity's share of voxels that are darker, half of the equally bright ones counted: 0..1.

    Args:
        grid: intensities.
        within: whose histogram counts; the mapping is applied to all voxels.
    Source: R. C. Gonzalez, R. E. Woods, Digital Image Processing, 4th ed. 2018, eq. (3-15).
    """
    counts, centres = histogram(grid, bins=_FINE, within=within)
    share = (np.cumsum(counts) - counts / 2) / counts.sum()
    return mapped(grid, centres, share)


def matched(grid: Grid, other: Grid) -> FloatGrid:
    """Intensities moved so that their histogram becomes that of `other`: equal shares of voxels are darker.

    Source: R. C. Gonzalez, R. E. Woods, Digital Image Processing, 4th ed. 2018, eq. (3-21).
    """
    counts, centres = histogram(grid, bins=_FINE)
    others, values = histogram(other, bins=_FINE)
    share = (np.cumsum(counts) - counts / 2) / counts.sum()
    full = others > 0
    target = ((np.cumsum(others) - others / 2) / others.sum())[full]
    return mapped(grid, centres, np.interp(share, target, values[full]))


def mapped(grid: Grid, centres: Float64[Array, "bins"], values: Float64[Array, "bins"]) -> FloatGrid:
    """Each intensity replaced by the value of its bin; beyond the bins, by the first or last."""
    table = values.astype(np.float32)
    scale = 1 / (centres[1] - centres[0])
    low = float(centres[0]) - 0.5 / scale

    def look_up(part: Array) -> Array:
        index = (above(part, low) * np.float32(scale)).astype(np.int32)
        return np.asarray(np.take(table, index, mode="clip"))

    return by_slab(look_up, grid, halo=0, threaded=True)
