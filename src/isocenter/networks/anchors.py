"""Anchors: boxes of fitted shapes about every voxel of a pyramid, and which of them answer for which object."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from isocenter.errors import InputError
from isocenter.networks import boxes as bx
from isocenter.types import Array

Shapes = tuple[tuple[float, ...], ...]
"""Edges of each anchor along the axes, in voxels of its level."""
_NEAREST, _ROUNDS = 9, 100
_UNIT = 4.0
"""Edge of the objects that a level is made for, in its own voxels."""


def laid(
    sizes: list[tuple[int, ...]], scales: tuple[tuple[int, ...], ...], shapes: Shapes
) -> list[Float[Tensor, "n 2 a"]]:
    """Anchors of each level, in the order of its voxels; those of one voxel stand together.

    Args:
        sizes: of each level.
        scales: voxels of the image in one of each level.
        shapes: of the anchors.
    """
    found = []
    for size, scale in zip(sizes, scales, strict=True):
        axes = [(torch.arange(n, dtype=torch.float32) + 0.5) * s for n, s in zip(size, scale, strict=True)]
        centres = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 1, len(size))
        half = torch.tensor(shapes, dtype=torch.float32) * torch.tensor(scale, dtype=torch.float32) / 2
        found.append(torch.stack((centres - half, centres + half), dim=2).reshape(-1, 2, len(size)))
    return found


def matched(anchors: list[Float[Tensor, "_ 2 a"]], boxes: Float[Tensor, "m 2 a"], *, each: int) -> Int[Tensor, "n"]:
    """The object that each anchor answers for; -1: none.

    Candidates of an object are the anchors whose centres lie nearest to its own on each level; those are taken that
    overlap it more than the candidates' mean and deviation together, with their centre within. Its best always is.

    Args:
        anchors: of each level.
        boxes: objects.
        each: anchors about one voxel.
    Source: S. Zhang et al., CVPR 2020 (adaptive training sample selection), algorithm 1.
    """
    together = torch.cat(anchors)
    count = len(together)
    answer = torch.full((count,), -1, dtype=torch.int64, device=together.device)
    if not len(boxes):
        return answer
    centres, goals = together.mean(dim=1), boxes.mean(dim=1)
    near, begin = [], 0
    for level in anchors:
        away = torch.cdist(goals, centres[begin : begin + len(level)])
        near.append(begin + away.topk(min(_NEAREST * each, len(level)), largest=False).indices)
        begin += len(level)
    candidates = torch.cat(near, dim=1)  # m q
    shared = bx.overlaps(together, boxes)  # n m
    own = shared.gather(0, candidates.T).T  # m q
    bound = own.mean(dim=1) + own.std(dim=1, unbiased=False)
    at = centres[candidates]  # m q a
    inside = ((at > boxes[:, None, 0]) & (at < boxes[:, None, 1])).all(dim=-1)
    good = (own >= bound[:, None]) & inside & (own > 0)
    best = torch.zeros(count, device=together.device)
    for number in range(len(boxes)):  # of two objects, an anchor answers for the one that it overlaps more
        mine = candidates[number][good[number]]
        better = shared[mine, number] > best[mine]
        mine = mine[better]
        answer[mine], best[mine] = number, shared[mine, number]
    top = shared.argmax(dim=0)
    for number in range(len(boxes)):
        if shared[top[number], number] > 0 and not (answer == number).any():
            answer[top[number]] = number
    return answer


def fitted(edges: Float[Array, "n a"], scales: tuple[tuple[int, ...], ...], *, count: int) -> tuple[Shapes, float]:
    """Anchor shapes for objects of these edges, and the mean overlap of an object with its best anchor, centred alike.

    Each object belongs to the level whose voxels make it about four of them wide; shapes are the means of clusters of
    objects that overlap each other most.

    Args:
        edges: of every object along the axes, in voxels of the image.
        scales: of the levels.
        count: anchors about one voxel.
    Raises: InputError for no object.
    Source: J. Redmon, A. Farhadi, CVPR 2017 (YOLO9000), section 2: k-means with 1 - IoU as distance.
    """
    if not len(edges):
        raise InputError("anchors follow from objects, and there is none")
    steps = np.asarray(scales, np.float64)
    size = np.exp(np.log(edges).mean(axis=1))
    level = np.abs(np.log(size[:, None] / (_UNIT * np.exp(np.log(steps).mean(axis=1))))).argmin(axis=1)
    own = edges / steps[level]
    order = np.argsort(np.prod(own, axis=1), kind="stable")
    middle = own[order[np.linspace(0, len(own) - 1, count + 2).round().astype(int)[1:-1]]]
    for _ in range(_ROUNDS):
        nearest = _alike(own, middle).argmax(axis=1)
        moved = np.stack([
            np.median(own[nearest == k], axis=0) if (nearest == k).any() else middle[k] for k in range(count)
        ])  # fmt: skip
        if np.allclose(moved, middle):
            break
        middle = moved
    shapes = tuple(tuple(round(float(v), 4) for v in row) for row in middle[np.argsort(np.prod(middle, axis=1))])
    return shapes, float(_alike(own, middle).max(axis=1).mean())


def _alike(one: Array, other: Array) -> Array:
    """Overlap of boxes about one centre: `n k`."""
    shared = np.prod(np.minimum(one[:, None], other[None]), axis=2)
    return np.asarray(shared / (np.prod(one, axis=1)[:, None] + np.prod(other, axis=1)[None] - shared))
