"""Boxes as tensors (`2 a`: low and high corner), for losses: what `ops.boxes` says of arrays, where gradients flow."""

from math import log

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

_MOST = log(1000 / 16)


def volumes(boxes: Float[Tensor, "*n 2 a"]) -> Float[Tensor, "*n"]:
    """Product of the edges."""
    return (boxes[..., 1, :] - boxes[..., 0, :]).clamp_min(0).prod(dim=-1)


def overlaps(one: Float[Tensor, "n 2 a"], other: Float[Tensor, "m 2 a"]) -> Float[Tensor, "n m"]:
    """Intersection over union of every pair."""
    shared = _shared(one[:, None], other[None, :])
    return shared / (volumes(one)[:, None] + volumes(other)[None, :] - shared).clamp_min(1e-9)


def generalised(one: Float[Tensor, "n 2 a"], other: Float[Tensor, "n 2 a"]) -> Float[Tensor, "n"]:
    """Intersection over union of each pair, less the share of their hull that is empty; -1 to 1.

    Source: H. Rezatofighi et al., CVPR 2019, algorithm 1.
    """
    shared = _shared(one, other)
    union = (volumes(one) + volumes(other) - shared).clamp_min(1e-9)
    low, high = torch.minimum(one[:, 0], other[:, 0]), torch.maximum(one[:, 1], other[:, 1])
    hull = (high - low).clamp_min(0).prod(dim=-1).clamp_min(1e-9)
    return shared / union - (hull - union) / hull


def edge_losses(
    deltas: Float[Tensor, "n b"], anchors: Float[Tensor, "n 2 a"], goals: Float[Tensor, "n 2 a"]
) -> Float[Tensor, "n"]:
    """How far boxes are from their objects: 1 - generalised overlap, and the distance of their codes.

    The overlap alone has no slope where a box has grown far beyond its object; the distance brings it back.
    """
    apart = F.smooth_l1_loss(deltas, encoded(goals, anchors), beta=0.1, reduction="none").mean(dim=1)
    return 1 - generalised(decoded(deltas, anchors), goals) + apart


def _shared(one: Tensor, other: Tensor) -> Tensor:
    low = torch.maximum(one[..., 0, :], other[..., 0, :])
    high = torch.minimum(one[..., 1, :], other[..., 1, :])
    return (high - low).clamp_min(0).prod(dim=-1)


def encoded(boxes: Float[Tensor, "n 2 a"], anchors: Float[Tensor, "n 2 a"]) -> Float[Tensor, "n b"]:
    """Boxes as seen from anchors; see `ops.boxes.encoded`."""
    own = anchors[:, 1] - anchors[:, 0]
    shift = (boxes.mean(dim=1) - anchors.mean(dim=1)) / own
    return torch.cat((shift, torch.log((boxes[:, 1] - boxes[:, 0]).clamp_min(1e-6) / own)), dim=1)


def decoded(deltas: Float[Tensor, "*n b"], anchors: Float[Tensor, "*n 2 a"]) -> Float[Tensor, "*n 2 a"]:
    """What `encoded` tells, as boxes again."""
    axes = anchors.shape[-1]
    own = anchors[..., 1, :] - anchors[..., 0, :]
    centre = anchors.mean(dim=-2) + deltas[..., :axes] * own
    half = own * torch.exp(deltas[..., axes:].clamp_max(_MOST)) / 2
    return torch.stack((centre - half, centre + half), dim=-2)


def clipped(boxes: Float[Tensor, "*n 2 a"], shape: tuple[int, ...]) -> Float[Tensor, "*n 2 a"]:
    """Boxes within an image of this shape."""
    most = torch.tensor(shape, dtype=boxes.dtype, device=boxes.device)
    return torch.minimum(boxes.clamp_min(0), most)
