"""Boxes in any number of dimensions: overlap, suppression, clustering, and the way networks state them.

A box array is `n 2 a`: low and high corner along `a` axes, in the order of the image's. Voxel i covers i to i + 1, so
that a box of one voxel has an edge of 1, and box and mask agree.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from isocenter.errors import InputError
from isocenter.types import Array


def volumes(boxes: Float[Array, "n 2 a"]) -> Float[Array, "n"]:
    """Product of the edges; 0 for a box that is turned inside out."""
    return np.asarray(np.prod(np.maximum(boxes[:, 1] - boxes[:, 0], 0), axis=1), np.float64)


def mean_edges(boxes: Float[Array, "n 2 a"], dims: int) -> Float[Array, "n"]:
    """Geometric mean of the edges: edge of the square or cube of the same volume.

    Args:
        boxes: of a picture, the edge along the first of three axes is 1.
        dims: 2 for pictures, 3 for volumes.
    """
    return np.asarray(volumes(boxes) ** (1 / dims))


def overlaps(one: Float[Array, "n 2 a"], other: Float[Array, "m 2 a"]) -> Float[Array, "n m"]:
    """Intersection over union of every pair; 0 where neither has a volume."""
    shared = intersections(one, other)
    union = volumes(one)[:, None] + volumes(other)[None, :] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def intersections(one: Float[Array, "n 2 a"], other: Float[Array, "m 2 a"]) -> Float[Array, "n m"]:
    """Volume that every pair shares."""
    low = np.maximum(one[:, None, 0], other[None, :, 0])
    high = np.minimum(one[:, None, 1], other[None, :, 1])
    return np.asarray(np.prod(np.maximum(high - low, 0), axis=2), np.float64)


def clipped(boxes: Float[Array, "n 2 a"], shape: tuple[int, ...]) -> Float[Array, "n 2 a"]:
    """Boxes within an image of this shape."""
    return np.asarray(np.clip(boxes, 0, np.asarray(shape, boxes.dtype)))


def box_of(mask: Bool[Array, "*s"]) -> Float[Array, "2 a"]:
    """The tightest box about a mask.

    Raises: InputError for an empty mask.
    """
    sides = []
    for axis in range(mask.ndim):
        at = np.flatnonzero(mask.any(axis=tuple(i for i in range(mask.ndim) if i != axis)))
        if not len(at):
            raise InputError("an empty mask has no box")
        sides.append((at[0], at[-1] + 1))
    return np.asarray(sides, np.float64).T


def encoded(boxes: Float[Array, "n 2 a"], anchors: Float[Array, "n 2 a"]) -> Float[Array, "n b"]:
    """Boxes as seen from anchors: shift of the centre in edges, then logarithm of the edges' ratio.

    Source: S. Ren et al., NIPS 2015, equation 2.
    """
    edges, own = boxes[:, 1] - boxes[:, 0], anchors[:, 1] - anchors[:, 0]
    shift = (boxes.mean(axis=1) - anchors.mean(axis=1)) / own
    return np.asarray(np.concatenate((shift, np.log(edges / own)), axis=1))


def decoded(deltas: Float[Array, "n b"], anchors: Float[Array, "n 2 a"]) -> Float[Array, "n 2 a"]:
    """What `encoded` tells, as boxes again; edges grow at most 62-fold, so that no number overflows."""
    axes = anchors.shape[2]
    own = anchors[:, 1] - anchors[:, 0]
    centre = anchors.mean(axis=1) + deltas[:, :axes] * own
    half = own * np.exp(np.minimum(deltas[:, axes:], np.log(1000 / 16))) / 2
    return np.stack((centre - half, centre + half), axis=1)


def suppressed(
    boxes: Float[Array, "n 2 a"],
    scores: Float[Array, "n"],
    *,
    overlap: float,
    classes: Int[Array, "n"] | None = None,
    most: int | None = None,
) -> Int[Array, "k"]:
    """Indices of the boxes that are kept, from the highest score down (non-maximum suppression).

    A box is left out where its overlap with a better one of its class, itself kept, exceeds `overlap`. Of equal scores
    the earlier box is better.

    Args:
        boxes: finite.
        scores: finite.
        overlap: intersection over union, 0 to 1.
        classes: of each box; None: all are alike.
        most: so many are kept; None: all.
    Raises: InputError for numbers that are not finite.
    """
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise InputError("boxes and scores must be finite numbers: the network's weights or its input are damaged")
    if not len(boxes):
        return np.zeros(0, np.int64)
    from isocenter.ops.box_search import kept

    order = np.argsort(-scores, kind="stable")
    kinds = np.zeros(len(boxes), np.int64) if classes is None else np.asarray(classes, np.int64)
    ordered = np.ascontiguousarray(boxes[order], np.float64)
    centres, reach = _reach(ordered, overlap)
    low, step, counts = _grid(centres, reach)
    cells = np.clip(np.floor((centres - low) / step), 0, counts - 1).astype(np.int64)
    near = np.stack(
        [np.clip(np.floor((centres + sign * reach - low) / step), 0, counts - 1).astype(np.int64) for sign in (-1, 1)],
        1,
    )
    found = kept(ordered, kinds[order], cells, near, counts, float(overlap), len(boxes) if most is None else most)
    return np.asarray(order[found])


def _reach(boxes: Array, overlap: float) -> tuple[Array, Array]:
    """Centres (`n 3`), and how far along each axis the centre of a box that overlaps so much can lie.

    Along one axis, too, two boxes must share more than `overlap`: so their edges L and M differ at most by that factor,
    and their centres by (L + M) / 2 (1 - t) / (1 + t).
    """
    edges = np.maximum(boxes[:, 1] - boxes[:, 0], 0)[:, :3]
    longest = np.minimum(edges / max(overlap, 1e-6), edges.max(axis=0))
    far = (edges + longest) / 2 * (1 - overlap) / (1 + overlap)
    spare = ((0, 0), (0, 3 - edges.shape[1]))
    return np.pad(boxes.mean(axis=1)[:, :3], spare), np.pad(far, spare) * (1 + 1e-9) + 1e-9


def _grid(centres: Array, reach: Array) -> tuple[Array, Array, Array]:
    """Lowest corner, steps and counts of cells about as wide as boxes reach; at most a few for each box."""
    low, high = centres.min(axis=0), centres.max(axis=0)
    extent = np.maximum(high - low, 1e-9)
    counts = np.clip(extent / np.median(reach, axis=0), 1, 1 << 20)
    most = 4.0 * len(centres)
    if counts.prod() > most:
        counts = np.maximum(counts * (most / counts.prod()) ** (1 / max(1, (counts > 1).sum())), 1)
    counts = np.maximum(np.floor(counts), 1).astype(np.int64)
    return low, extent / counts, counts


@dataclass(frozen=True, eq=False)
class Clustered:
    """Boxes that stand for clusters of them.

    Args:
        boxes: `n 2 a`.
        scores: of each, from the highest down.
        classes: of each.
        counts: boxes in each cluster.
        best: number of the best box of each.
    """

    boxes: Float[Array, "n 2 a"]
    scores: Float[Array, "n"]
    classes: Int[Array, "n"]
    counts: Int[Array, "n"]
    best: Int[Array, "n"]


def clustered(
    boxes: Float[Array, "n 2 a"],
    scores: Float[Array, "n"],
    classes: Int[Array, "n"],
    *,
    overlap: float,
    weights: Float[Array, "n"] | None = None,
    expected: Float[Array, "n"] | None = None,
) -> Clustered:
    """Weighted box clustering: what several views (patches, flips, networks) say of one object becomes one box.

    The best box gathers those of its class that overlap it; corners are means by score and weight. A view that should
    have seen the object and did not lowers the score.

    Args:
        boxes: of all views together.
        scores: 0 to 1.
        classes: of each.
        overlap: intersection over union from which boxes are of one object.
        weights: of each, as how near the middle of its patch it lies; None: 1.
        expected: views that see the place of each box; None: 1.
    Source: P. Jaeger et al., ML4H 2020 (Retina U-Net), equations 1 and 2.
    """
    factor = np.ones(len(boxes)) if weights is None else np.asarray(weights, np.float64)
    views = np.ones(len(boxes)) if expected is None else np.asarray(expected, np.float64)
    left = np.argsort(-scores, kind="stable")
    rows: list[tuple[Array, float, int, int, int]] = []
    while len(left):
        best = left[0]
        near = overlaps(boxes[best : best + 1], boxes[left])[0]
        mine = (near > overlap) & (classes[left] == classes[best])
        mine[0] = True
        group, near = left[mine], near[mine]
        near[0] = 1.0
        weight = near * np.maximum(volumes(boxes[group]), 1e-12) * factor[group]
        weight = weight / weight.sum()
        by_score = weight * np.maximum(scores[group], 1e-12)
        corners = np.tensordot(by_score / by_score.sum(), boxes[group], axes=1)
        missing = max(0.0, float(views[group].mean()) - len(group))
        score = float((scores[group] * weight).sum() / (1 + missing * weight.mean()))
        rows.append((corners, score, int(classes[best]), len(group), int(best)))
        left = left[~mine]
    rows.sort(key=lambda row: -row[1])
    middle = np.asarray([row[0] for row in rows], np.float64).reshape(-1, 2, boxes.shape[2])
    kinds, counts, best = (np.asarray([row[i] for row in rows], np.int64) for i in (2, 3, 4))
    return Clustered(middle, np.asarray([row[1] for row in rows], np.float64), kinds, counts, best)
