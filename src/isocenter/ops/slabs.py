"""Work on a big grid in slabs of slices, so that libraries that copy do not copy all of it."""

from collections.abc import Callable, Iterator

import numpy as np

from isocenter.types import Array

SLAB_VOXELS = 8_000_000
"""Voxels in a slab; two float32 copies of it are 64 MB."""


def slabs(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices of the first axis, each about `SLAB_VOXELS` voxels."""
    plane = int(np.prod(shape[1:]))
    thick = max(1, SLAB_VOXELS // plane)
    for start in range(0, shape[0], thick):
        yield slice(start, min(start + thick, shape[0]))


def by_slab(function: Callable[[Array], Array], grid: Array, *, halo: int, out: Array | None = None) -> Array:
    """`function(grid)` for a local function that sees `halo` slices to either side.

    The function must give an array of its input's shape and treat the outer border as it would on the whole. The
    answer goes into `out` if one is given.
    """
    result = out
    for part in slabs(grid.shape):
        start, stop = max(0, part.start - halo), min(grid.shape[0], part.stop + halo)
        done = function(grid[start:stop])[part.start - start : part.stop - start]
        if result is None:
            result = np.empty(grid.shape, done.dtype)
        result[part] = done
    assert result is not None
    return result
