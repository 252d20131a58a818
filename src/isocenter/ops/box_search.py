"""The loop of non-maximum suppression: a box is compared with those that were kept in the cells about it."""

import numpy as np

from isocenter.ops.compiled import compiled
from isocenter.types import Array


@compiled
def _exceeds(one: Array, other: Array, overlap: float) -> bool:
    shared, own, others = 1.0, 1.0, 1.0
    for axis in range(one.shape[1]):
        shared *= max(min(one[1, axis], other[1, axis]) - max(one[0, axis], other[0, axis]), 0.0)
        if shared <= 0.0:
            return False
        own *= one[1, axis] - one[0, axis]
        others *= other[1, axis] - other[0, axis]
    return bool(shared / (own + others - shared) > overlap)


@compiled
def kept(  # noqa: C901, PLR0912, PLR0917  one loop, compiled
    boxes: Array, classes: Array, cells: Array, near: Array, counts: Array, overlap: float, most: int
) -> Array:
    """Numbers of the boxes that stay.

    Args:
        boxes: `n 2 a`, the best first.
        classes: of each.
        cells: `n 3`: where the centre of each lies in a grid.
        near: `n 2 3`: first and last cell in which the centre of a box can lie that overlaps it so much.
        counts: cells along each axis.
        overlap: above which the worse of two goes.
        most: so many stay.
    """
    size = len(boxes)
    first = np.full(counts[0] * counts[1] * counts[2], -1, np.int64)  # of each cell, the last box that was kept in it
    following = np.full(size, -1, np.int64)  # the one before it in the same cell
    found = np.empty(min(size, most), np.int64)
    count = 0
    for i in range(size):
        if count == most:
            break
        out = False
        looks = 1
        for axis in range(3):
            looks *= near[i, 1, axis] - near[i, 0, axis] + 1
        if looks > count:
            for k in range(count):
                if classes[i] == classes[found[k]] and _exceeds(boxes[i], boxes[found[k]], overlap):
                    out = True
                    break
        else:
            for a in range(near[i, 0, 0], near[i, 1, 0] + 1):
                for b in range(near[i, 0, 1], near[i, 1, 1] + 1):
                    for c in range(near[i, 0, 2], near[i, 1, 2] + 1):
                        if out:
                            break
                        j = first[(a * counts[1] + b) * counts[2] + c]
                        while j >= 0:
                            if classes[i] == classes[j] and _exceeds(boxes[i], boxes[j], overlap):
                                out = True
                                break
                            j = following[j]
        if not out:
            found[count] = i
            count += 1
            cell = (cells[i, 0] * counts[1] + cells[i, 1]) * counts[2] + cells[i, 2]
            following[i] = first[cell]
            first[cell] = i
    return found[:count]
