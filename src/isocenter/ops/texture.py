"""Counts of grey levels among neighbours: the matrices behind texture features.

Grey levels stand in a grid with a margin of 0 on every side, laid flat; a level is 1 or more inside the region and 0
outside. An offset is the difference of two flat indices, so a neighbour is one addition away and the margin answers
for everything beyond.

Source: IBSI reference manual, arXiv:1612.07003v11, sections 3.6 to 3.11.
"""

import numpy as np

from isocenter.ops.compiled import compiled
from isocenter.types import Array


def half_offsets(*, flat: bool) -> Array:
    """The 13 directions in space, or the 4 in a plane, as steps (d, h, w); the other half are their negatives."""
    steps = [(d, h, w) for d in (0, 1) for h in (-1, 0, 1) for w in (-1, 0, 1)]
    return np.asarray([s for s in steps if s > (0, 0, 0) and not (flat and s[0])], np.int64)


def ball_offsets(distance: int, *, flat: bool) -> Array:
    """All steps (d, h, w) within a Chebyshev distance, without the centre."""
    reach = range(-distance, distance + 1)
    steps = [(d, h, w) for d in ((0,) if flat else reach) for h in reach for w in reach]
    return np.asarray([s for s in steps if any(s)], np.int64)


def strides(shape: tuple[int, ...]) -> Array:
    """Flat index of a step along each axis."""
    return np.asarray((shape[1] * shape[2], shape[2], 1), np.int64)


@compiled
def cooccurrences(levels: Array, inside: Array, offsets: Array, counts: Array) -> None:
    """Add to `counts[direction, level, level of the neighbour]` (one-sided) for the voxels `inside`."""
    for n in range(len(inside)):
        at = inside[n]
        own = levels[at]
        for k in range(len(offsets)):
            other = levels[at + offsets[k]]
            if other:
                counts[k, own, other] += 1


@compiled
def tones_and_dependences(
    levels: Array, inside: Array, offsets: Array, alpha: int, tones: Array, counted: Array, dependence: Array
) -> None:
    """Add to the neighbourhood grey tone differences and to the neighbouring grey level dependences.

    Args:
        levels: the grid, flat.
        inside: flat indices of the region's voxels.
        offsets: of all neighbours.
        alpha: largest difference of levels that still depend on each other.
        tones: by level, the sum of differences from the neighbours' mean.
        counted: by level, the voxels that have a neighbour.
        dependence: by level and number of dependent voxels (the centre is one).
    """
    for n in range(len(inside)):
        at = inside[n]
        own = int(levels[at])
        total, there, alike = 0, 0, 1
        for k in range(len(offsets)):
            other = int(levels[at + offsets[k]])
            if other:
                there += 1
                total += other
                if abs(other - own) <= alpha:
                    alike += 1
        dependence[own, alike] += 1
        if there:
            counted[own] += 1
            tones[own] += abs(own - total / there)


@compiled
def runs(levels: Array, inside: Array, offsets: Array, counts: Array) -> None:
    """Add to `counts[direction, level, length]` for the runs that begin at a voxel of `inside`."""
    for k in range(len(offsets)):
        step = offsets[k]
        for n in range(len(inside)):
            at = inside[n]
            own = levels[at]
            if levels[at - step] == own:
                continue
            length = 1
            at += step
            while levels[at] == own:
                length += 1
                at += step
            counts[k, own, length] += 1


@compiled
def _root(parent: Array, at: int) -> int:
    while parent[at] != at:
        parent[at] = parent[parent[at]]
        at = parent[at]
    return at


@compiled
def zones(levels: Array, inside: Array, before: Array, distance: Array, place: Array) -> tuple[Array, Array, Array]:
    """Connected voxels of one level.

    Args:
        levels: the grid, flat.
        inside: flat indices of the region's voxels, rising.
        before: offsets of the neighbours that come earlier in the grid (negative).
        distance: to the region's border, on the flat grid.
        place: on the flat grid, overwritten with each voxel's number in `inside`.
    Returns: first voxel (number in `inside`), size and smallest distance of each zone.
    """
    count = len(inside)
    parent = np.empty(count, np.int32)
    for n in range(count):
        at = inside[n]
        place[at] = n
        parent[n] = n
        own = levels[at]
        root = n
        for k in range(len(before)):
            other = at + before[k]
            if levels[other] == own:
                there = _root(parent, place[other])
                if there < root:
                    parent[root] = there
                    root = there
                elif there > root:
                    parent[there] = root
    sizes = np.zeros(count, np.int32)
    near = np.full(count, np.iinfo(np.int32).max, np.int32)
    for n in range(count):
        root = _root(parent, n)
        sizes[root] += 1
        near[root] = min(near[root], distance[inside[n]])
    first = np.flatnonzero(sizes)
    return first, sizes[first], near[first]


@compiled
def border_distance(mask: Array, shape: tuple[int, int, int], *, flat: bool) -> Array:
    """City-block distance of each voxel of the flat `mask` to the nearest voxel outside it; within its slice if `flat`.

    The mask has a margin outside the region on every side.
    """
    _, height, width = shape
    distance = np.zeros(mask.size, np.int32)
    row, slab = width, height * width
    for at in range(mask.size):
        if mask[at]:
            low = min(distance[at - 1], distance[at - row])
            if not flat:
                low = min(low, distance[at - slab])
            distance[at] = low + 1
    for at in range(mask.size - 1, -1, -1):
        if mask[at]:
            low = min(distance[at + 1], distance[at + row])
            if not flat:
                low = min(low, distance[at + slab])
            distance[at] = min(distance[at], low + 1)
    return distance


@compiled
def table(rows: Array, values: Array, n_rows: int) -> tuple[Array, Array]:
    """How often each pair (row, value) occurs, as a matrix whose columns are the values that occur, rising.

    Returns: counts `n_rows x columns`, and the columns' values.
    """
    most = 0
    for n in range(len(values)):
        most = max(most, values[n])
    column = np.zeros(most + 1, np.int64)
    for n in range(len(values)):
        column[values[n]] = 1
    kept = np.flatnonzero(column)
    for n in range(len(kept)):
        column[kept[n]] = n
    counts = np.zeros((n_rows, len(kept)), np.int64)
    for n in range(len(values)):
        counts[rows[n], column[values[n]]] += 1
    return counts, kept
