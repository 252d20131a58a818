"""Work on a big grid in slabs: libraries that copy do not copy all of it, and several threads share the work."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from isocenter.ops import threads
from isocenter.types import Array

SLAB_VOXELS = 8_000_000
"""Voxels in a slab; two float32 copies of it are 64 MB."""
_WORTH_A_THREAD = 200_000


def above(part: Array, origin: float) -> Array:
    """`part - origin` in single precision; subtracted in double where single could not hold the values themselves."""
    if part.dtype.itemsize > 2 and part.dtype != np.float32:
        return (part - np.float64(origin)).astype(np.float32)
    out = part.astype(np.float32)
    out -= np.float32(origin)
    return out


def slabs(shape: tuple[int, ...], *, parts: int = 1, axis: int = 0) -> Iterator[slice]:
    """Slices of one axis, each of at most about `SLAB_VOXELS` voxels, and at least `parts` of them if they can be."""
    plane = int(np.prod(shape)) // max(1, shape[axis])
    thick = max(1, min(SLAB_VOXELS // max(1, plane), -(-shape[axis] // parts)))
    for start in range(0, shape[axis], thick):
        yield slice(start, min(start + thick, shape[axis]))


def by_slab(
    function: Callable[..., Array],
    grid: Array,
    *others: Array,
    halo: int | Sequence[int],
    out: Array | None = None,
    threaded: bool = False,
) -> Array:
    """`function(grid, *others)` for a local function that sees `halo` voxels to either side.

    The function must give an array of its input's shape and treat the outer border as it would on the whole. Slabs are
    cut across slices, or across rows where there is one slice.

    Args:
        function: of the grid's part, and of the others' parts.
        grid: `d h w`.
        others: arrays of the same shape, cut alike.
        halo: voxels along (d, h, w), or one number for all.
        out: where the answer goes, if given; it may be none of the inputs unless the halo is 0.
        threaded: the function releases the interpreter: run slabs in as many threads as may be used.
    """
    axis = 0 if grid.shape[0] > 1 else 1
    reach = halo if isinstance(halo, int) else int(halo[axis])
    crew = min(threads.allowed(), max(1, grid.size // _WORTH_A_THREAD)) if threaded else 1
    pieces = list(slabs(grid.shape, parts=crew, axis=axis))

    def one(part: slice) -> Array:
        start, stop = max(0, part.start - reach), min(grid.shape[axis], part.stop + reach)
        seen = (slice(None),) * axis + (slice(start, stop),)
        done = function(*(np.asarray(array[seen]) for array in (grid, *others)))
        return done[(slice(None),) * axis + (slice(part.start - start, part.stop - start),)]

    result = out

    def keep(part: slice, done: Array) -> None:
        nonlocal result
        if result is None:
            result = np.empty(grid.shape, done.dtype)
        result[(slice(None),) * axis + (part,)] = done

    if crew == 1 or len(pieces) == 1:
        for part in pieces:
            keep(part, one(part))
    else:
        with ThreadPoolExecutor(crew) as pool:
            waiting = deque(pool.submit(one, part) for part in pieces[:crew])
            for part, following in zip(pieces, [*pieces[crew:], *[None] * crew], strict=True):
                done = waiting.popleft().result()
                if following is not None:
                    waiting.append(pool.submit(one, following))
                keep(part, done)
    assert result is not None
    return result
