"""Polygons on a grid."""

from collections.abc import Sequence

import numpy as np

from isocenter.types import Array


def inside(polygons: Sequence[Array], shape: tuple[int, int]) -> Array:
    """Pixels `h w` whose centre has an odd number of edges to its left.

    Args:
        polygons: corners `n 2` (row, column); pixel i has its centre at i.
        shape: of the grid.

    Source: the even-odd rule; an edge counts for rows from its lower end (in) to its upper end (out).
    """
    rows, columns = shape
    toggles = np.zeros((rows, columns + 1), np.int32)
    for polygon in polygons:
        ends = np.roll(polygon, -1, axis=0)
        for (y0, x0), (y1, x1) in zip(polygon, ends, strict=True):
            if y0 == y1:
                continue
            low, high = (y0, y1) if y0 < y1 else (y1, y0)
            crossed = np.arange(max(0, int(np.ceil(low))), min(rows, int(np.ceil(high))))
            x = x0 + (crossed - y0) * (x1 - x0) / (y1 - y0)
            np.add.at(toggles, (crossed, np.clip(np.ceil(x), 0, columns).astype(int)), 1)
    return np.asarray(np.cumsum(toggles[:, :columns], axis=1) & 1, dtype=np.bool_)
