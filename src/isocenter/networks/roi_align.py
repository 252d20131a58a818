"""RoIAlign: features of a box, on a grid of its own, by linear interpolation in any number of dimensions."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from isocenter.networks import boxes as bx


def roi_align(
    features: Float[Tensor, "c *s"], boxes: Float[Tensor, "n 2 a"], *, size: int, samples: int = 2
) -> Float[Tensor, "n c *m"]:
    """Means of `samples` points along each axis in every cell of a grid of `size` cells over each box.

    Args:
        features: of one image; voxel i covers i to i + 1, and its value stands in its middle.
        boxes: in voxels of the features; beyond their edge the nearest voxels count.
        size: cells along each axis.
        samples: points along each axis of a cell.
    Source: K. He et al., ICCV 2017 (Mask R-CNN), section 3.
    """
    dims, fine = features.ndim - 1, size * samples
    if not len(boxes):
        return features.new_zeros((0, features.shape[0], *(size,) * dims))
    share = (torch.arange(fine, device=features.device, dtype=torch.float32) + 0.5) / fine
    places = []
    for axis in range(dims):
        low, high = boxes[:, 0, axis, None], boxes[:, 1, axis, None]
        at = 2 * (low + (high - low) * share) / features.shape[1 + axis] - 1  # n fine
        places.append(at.view(len(boxes), *(fine if i == axis else 1 for i in range(dims))).expand(-1, *(fine,) * dims))
    grid = torch.stack(places[::-1], dim=-1)  # n *fine a, x first
    joined = grid.reshape(1, -1, *grid.shape[2:])  # the boxes one below the other, so that features are read once
    values = F.grid_sample(features[None].float(), joined.float(), padding_mode="border", align_corners=False)[0]
    values = values.reshape(values.shape[0], len(boxes), *(fine,) * dims).movedim(0, 1)
    return (F.avg_pool2d if dims == 2 else F.avg_pool3d)(values, samples)


def level_of(
    boxes: Float[Tensor, "n 2 a"], scales: tuple[tuple[int, ...], ...], *, cells: float = 8.0
) -> Int[Tensor, "n"]:
    """The level on which each box is about so many voxels wide."""
    steps = torch.tensor(scales, dtype=torch.float32, device=boxes.device).log().mean(dim=1)
    size = bx.volumes(boxes).clamp_min(1e-6).log() / boxes.shape[-1]
    return (size[:, None] - steps - torch.tensor(cells).log()).abs().argmin(dim=1)


def pooled(
    levels: list[Tensor], image: int, boxes: Float[Tensor, "n 2 a"], scales: tuple[tuple[int, ...], ...], *, size: int
) -> Float[Tensor, "n c *m"]:
    """Features of each box from the level that suits its size.

    Args:
        levels: each `b c *s`.
        image: number in the batch.
        boxes: in voxels of the image.
        scales: voxels of the image in one of each level.
        size: cells along each axis.
    """
    own = level_of(boxes, scales)
    dims = boxes.shape[-1]
    out = torch.zeros((len(boxes), levels[0].shape[1], *(size,) * dims), device=boxes.device)
    for number, (level, scale) in enumerate(zip(levels, scales, strict=True)):
        rows = torch.nonzero(own == number)[:, 0]
        if len(rows):
            step = torch.tensor(scale, dtype=torch.float32, device=boxes.device)
            out = out.index_copy(0, rows, roi_align(level[image], boxes[rows] / step, size=size))
    return out
