"""Errors of a partition into cells: Rand error, and warping error, as the ISBI 2012 challenge defined them."""

from collections import deque

import numpy as np

from isocenter.errors import GeometryError
from isocenter.types import Array, Bool


def rand_error(predicted: Bool[Array, "h w"], reference: Bool[Array, "h w"]) -> float:
    """1 - the F-score of the Rand index of cells, over the pixels that the reference calls interior.

    Cells are the 4-connected parts of the interior; predicted membranes count as parts of one pixel each.

    Args:
        predicted: True inside cells.
        reference: the same.
    Raises: GeometryError for other shapes, or a reference without interior.
    Source: I. Arganda-Carreras et al., Front. Neuroanat. 9:142, 2015 (adapted Rand error, foreground-restricted).
    """
    from scipy import ndimage

    if predicted.shape != reference.shape or predicted.ndim != 2:
        raise GeometryError(f"two pictures of one size are compared; got {predicted.shape} and {reference.shape}")
    if not reference.any():
        raise GeometryError("the reference has no cell: a Rand error has no meaning")
    truth, cells = ndimage.label(reference)
    said, parts = ndimage.label(predicted)
    inside = truth > 0
    one, other = truth[inside].astype(np.int64), said[inside].astype(np.int64)
    alone = float((other == 0).sum())
    joint = np.bincount(one * (parts + 1) + other, minlength=(cells + 1) * (parts + 1)).reshape(cells + 1, parts + 1)
    count = float(len(one))
    shared = float((joint[:, 1:].astype(np.float64) ** 2).sum()) + alone  # each lone pixel agrees with itself
    of_truth = float((joint.sum(axis=1).astype(np.float64) ** 2).sum())
    of_said = float((joint[:, 1:].sum(axis=0).astype(np.float64) ** 2).sum()) + alone
    if count == 0:
        return 1.0
    precision, recall = shared / of_said, shared / of_truth
    return 1 - 2 * precision * recall / (precision + recall)


def warping_error(predicted: Bool[Array, "h w"], reference: Bool[Array, "h w"]) -> float:
    """Share of pixels that still differ after the reference was bent onto the prediction without changing its topology.

    Only simple points are flipped (interior 4-connected, membrane 8-connected), nearest to the prediction first.

    Raises: GeometryError for other shapes.
    Source: V. Jain et al., CVPR 2010, section 3.
    """
    if predicted.shape != reference.shape or predicted.ndim != 2:
        raise GeometryError(f"two pictures of one size are compared; got {predicted.shape} and {reference.shape}")
    warped = np.pad(reference.astype(np.uint8), 1, mode="edge")
    target = np.pad(predicted.astype(np.uint8), 1, mode="edge")
    warped[[0, -1]] = target[[0, -1]] = 0
    warped[:, [0, -1]] = target[:, [0, -1]] = 0
    queue = deque(map(tuple, np.argwhere(warped != target).tolist()))
    waiting = set(queue)
    while queue:
        h, w = queue.popleft()
        waiting.discard((h, w))
        if warped[h, w] == target[h, w] or not _SIMPLE[_code(warped, h, w)]:
            continue
        warped[h, w] = target[h, w]
        for dh, dw in _RING:
            at = (h + dh, w + dw)
            inside = 0 < at[0] < warped.shape[0] - 1 and 0 < at[1] < warped.shape[1] - 1
            if inside and warped[at] != target[at] and at not in waiting:
                queue.append(at)
                waiting.add(at)
    return float((warped[1:-1, 1:-1] != target[1:-1, 1:-1]).mean())


_RING = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))


def _code(grid: Array, h: int, w: int) -> int:
    return sum(int(grid[h + dh, w + dw]) << bit for bit, (dh, dw) in enumerate(_RING))


def _is_simple(code: int) -> bool:
    """One 4-connected part of the interior beside the pixel, and one 8-connected part of the rest."""
    ring = [bool(code >> bit & 1) for bit in range(8)]
    return _parts(ring, only_edges=True) == 1 and _parts([not r for r in ring], only_edges=False) == 1


def _parts(ring: list[bool], *, only_edges: bool) -> int:
    """Connected parts of set neighbours in the ring; of 4-connected ones, those that touch the middle by an edge."""
    near = {i: {j for j in range(8) if i != j and _touch(i, j, edges=only_edges)} for i in range(8)}
    left = {i for i in range(8) if ring[i]}
    count = 0
    while left:
        stack, part = [left.pop()], set()
        while stack:
            i = stack.pop()
            part.add(i)
            found = near[i] & left
            left -= found
            stack += found
        count += any(i % 2 for i in part) if only_edges else 1
    return count


def _touch(i: int, j: int, *, edges: bool) -> bool:
    dh, dw = abs(_RING[i][0] - _RING[j][0]), abs(_RING[i][1] - _RING[j][1])
    return dh + dw == 1 if edges else max(dh, dw) == 1


_SIMPLE = tuple(_is_simple(code) for code in range(256))
