"""Contrast limited adaptive histogram equalisation, in two and three dimensions."""

import numpy as np

from isocenter.ops.histogram import value_range
from isocenter.ops.slabs import above, by_slab
from isocenter.types import Array, Float32, FloatGrid, Grid

BINS = 256


def clahe(grid: Grid, *, tiles: tuple[int, int, int], clip: float) -> FloatGrid:
    """Equalise each neighbourhood to 0..1, with the slope of the mapping limited.

    The grid is cut into tiles; each has its own mapping, the cumulated histogram in which no bin counts more than
    `clip` times the average bin (what is cut off is spread over all bins). A voxel's mapping is interpolated between
    the nearest tiles' centres.

    Args:
        grid: intensities.
        tiles: how many along (d, h, w).
        clip: largest slope, as a multiple of the slope of a mapping that changes nothing; 1 changes nothing.
    Raises: DegenerateImage for a flat image.
    Source: K. Zuiderveld, Graphics Gems IV, 1994, pages 474-485.
    """
    low, high = value_range(grid)
    if low == high:
        from isocenter.errors import DegenerateImage

        raise DegenerateImage(f"all {grid.size} voxels equal {low:g}: there is no contrast to enhance")
    scale = np.float32((BINS - 1e-3) / (high - low))

    def binned(part: Array) -> Array:
        return np.asarray((above(part, low) * scale).astype(np.uint8))

    bins = by_slab(binned, grid, halo=0, threaded=True)
    table = _mappings(bins, tiles, clip)
    places = [_between(n, t) for n, t in zip(grid.shape, tiles, strict=True)]
    out = np.empty(grid.shape, np.float32)
    by_slab(lambda part, at: _mapped(part, at, table, places), bins, _slices_of(grid.shape), halo=0, out=out)
    return out


def _slices_of(shape: tuple[int, int, int]) -> Array:
    """The slice and row of each voxel, as an array that takes no memory: parts of a slab know where they lie."""
    number = np.arange(shape[0] * shape[1], dtype=np.int64).reshape(shape[0], shape[1], 1)
    return np.broadcast_to(number, shape)


def _mappings(bins: Array, tiles: tuple[int, int, int], clip: float) -> Float32[Array, "td th tw bins"]:
    """Each tile's mapping from bin to 0..1."""
    edges = [np.linspace(0, n, t + 1).round().astype(int) for n, t in zip(bins.shape, tiles, strict=True)]
    table = np.empty((*tiles, BINS), np.float32)
    for i, j, k in np.ndindex(*tiles):
        tile = bins[edges[0][i] : edges[0][i + 1], edges[1][j] : edges[1][j + 1], edges[2][k] : edges[2][k + 1]]
        counts = np.bincount(tile.ravel(), minlength=BINS).astype(np.float64)
        most = clip * tile.size / BINS
        for _ in range(8):  # what is spread over all bins can lift some over the limit again
            over = np.maximum(counts - most, 0).sum()
            if over < 1e-6 * tile.size:
                break
            counts = np.minimum(counts, most) + over / BINS
        total = np.cumsum(counts)
        table[i, j, k] = (total - counts / 2) / total[-1]
    return table


def _between(size: int, tiles: int) -> tuple[Array, Array, Array]:
    """For each voxel along an axis: the tile before and after it, and the share of the one after."""
    centre = (np.arange(size) + 0.5) * tiles / size - 0.5
    place = np.clip(centre, 0, tiles - 1)
    before = np.minimum(place.astype(np.intp), max(0, tiles - 2))
    return before, np.minimum(before + 1, tiles - 1), (place - before).astype(np.float32)


def _mapped(bins: Array, at: Array, table: Array, places: list[tuple[Array, Array, Array]]) -> Array:
    """The bins of a slab put through the interpolated mappings."""
    rows = len(places[1][0])
    out = np.empty(bins.shape, np.float32)
    start, stop, share = places[2]
    for d, plane in enumerate(bins):
        first = int(at[d, 0, 0])
        a, b, f = (values[first // rows] for values in places[0])
        layer = (1 - f) * table[a] + f * table[b] if f else table[a]
        for h, row in enumerate(plane):
            c, e, g = (values[first % rows + h] for values in places[1])
            line = (1 - g) * layer[c] + g * layer[e] if g else layer[c]
            left, right = line[start, row], line[stop, row]
            right -= left
            right *= share
            np.add(left, right, out=out[d, h])
    return out
