"""Augmentation by batch, in two steps: what is drawn is a value; applying it has no randomness left but named seeds.

Images and masks are moved together. Tensors are `b c *s` with `s` = (h, w) or (d, h, w).
"""

from dataclasses import dataclass, replace
from math import log
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from isocenter.training.images.plan import AugmentationPlan, Plan
from isocenter.types import Array

_COARSE = 4
"""Control points of elastic and bias fields along each axis, plus the edges."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """What is done to each image of a batch.

    Args:
        flips: `b dims`, True where an axis is turned round.
        theta: `b dims dims+1`: output index -> input index, both from -1 to 1, in the order of `s`.
        moves: any of `theta` or `elastic` is no identity.
        elastic: `b dims *coarse` displacements, in halves of the edge; None: none.
        noise: deviation of each image's noise; 0: none.
        blur: images that are blurred, and the deviation in voxels.
        low_resolution: images that lose resolution, and the factor.
        gamma: exponent of each image; 1: none.
        invert_gamma: images whose exponent is applied upside down.
        factor: contrast of each image.
        offset: brightness of each image.
        bias: `b 1 *coarse` logarithm of a smooth factor; None: none.
        erased: boxes `b dims 2` of noise; empty boxes erase nothing.
        mix: weight of each image beside its partner; 1: none.
        partner: index of the partner in the batch.
        box: `dims 2` that is exchanged with the partner; None: none.
        seed: of noise.
        dropped: `b c`, modalities that are left out; None: none.
        constants: channels at the end that hold one number each, and are left as they are.
        frames: channels are those of so many frames, one after the other; what brightens over time stays brighter.
    """

    flips: Array
    theta: Array
    moves: bool
    elastic: Array | None
    noise: Array
    blur: tuple[Array, float]
    low_resolution: tuple[Array, float]
    gamma: Array
    invert_gamma: Array
    factor: Array
    offset: Array
    bias: Array | None
    erased: Array
    mix: Array
    partner: Array
    box: Array | None
    seed: int
    dropped: Array | None = None
    constants: int = 0
    frames: int = 1


def draw(plan: Plan, size: tuple[int, ...], count: int, rng: np.random.Generator) -> Drawn:
    """Draw what is done to a batch of `count` images of this size."""
    how, dims = plan.augmentation, len(size)
    flips = np.zeros((count, dims), np.bool_)
    for axis in plan.flips:
        own = axis - (3 - dims)
        if own >= 0:
            flips[:, own] = rng.random(count) < 0.5
    theta, moved = _affine(how, size, count, rng, in_plane=_flat(plan))
    elastic = None
    if how.elastic and (chosen := rng.random(count) < how.elastic).any():
        coarse = (_COARSE,) * dims
        scale = np.array([2 * how.elastic_voxels / max(n, 2) for n in size]).reshape(1, dims, *(1,) * dims)
        elastic = rng.normal(size=(count, dims, *coarse)) * scale * chosen.reshape(count, 1, *(1,) * dims)
    bias = None
    if how.bias_field and (chosen := rng.random(count) < how.bias_field).any():
        bias = rng.normal(0, 0.25, (count, 1, *(_COARSE,) * dims)) * chosen.reshape(count, 1, *(1,) * dims)
    gamma = np.where(
        rng.random(count) < how.gamma, rng.uniform(log(how.gamma_range[0]), log(how.gamma_range[1]), count), 0.0
    )
    contrast = rng.random(count) < how.contrast
    return Drawn(
        flips, theta, moved or elastic is not None, elastic,
        np.where(rng.random(count) < how.noise, rng.uniform(0, how.noise_deviation, count), 0.0),
        (rng.random(count) < how.blur, float(rng.uniform(0.5, 1.2))),
        (rng.random(count) < how.low_resolution, float(rng.uniform(0.5, 1.0))),
        np.exp(gamma), rng.random(count) < 0.3,
        np.where(contrast, rng.uniform(*how.contrast_range, count), 1.0),
        np.where(contrast, rng.uniform(-how.brightness, how.brightness, count), 0.0),
        bias, _boxes(how.erase, size, count, rng), *_mixture(how, size, count, rng), int(rng.integers(2**31)),
        _dropped(plan, count, rng), len(plan.columns),
    )  # fmt: skip


def _dropped(plan: Plan, count: int, rng: np.random.Generator) -> Array | None:
    """Modalities that are left out of each image, never all."""
    if not plan.augmentation.drop_modality or len(plan.channels) < 2:
        return None
    found = rng.random((count, plan.preparation.channels)) < plan.augmentation.drop_modality
    for row in np.flatnonzero(found.all(axis=1)):
        found[row, rng.integers(found.shape[1])] = False
    return np.asarray(found)


def _flat(plan: Plan) -> bool:
    """Slices are so thick that volumes are turned within them only."""
    spacing = plan.preparation.spacing_mm
    thick = spacing is not None and spacing[0] > 2 * min(spacing[1:])
    return plan.preparation.dims == 3 and (thick or min(plan.patch[1:]) >= 3 * plan.patch[0])


def _affine(
    how: AugmentationPlan, size: tuple[int, ...], count: int, rng: np.random.Generator, *, in_plane: bool
) -> tuple[Array, bool]:
    """Rotation, scale and shift about the middle, between indices from -1 to 1."""
    dims = len(size)
    half = np.asarray(size, np.float64) / 2
    theta = np.zeros((count, dims, dims + 1))
    turned = rng.random(count) < how.rotate
    scaled = rng.random(count) < how.scale
    for i in range(count):
        matrix = np.eye(dims)
        if turned[i]:
            planes = [(dims - 2, dims - 1)] if dims == 2 or in_plane else [(0, 1), (0, 2), (1, 2)]
            for one, other in planes:
                angle = np.deg2rad(rng.uniform(-how.rotate_degrees, how.rotate_degrees))
                turn = np.eye(dims)
                turn[[one, other], [one, other]] = np.cos(angle)
                turn[one, other], turn[other, one] = -np.sin(angle), np.sin(angle)
                matrix = matrix @ turn
        if scaled[i]:
            matrix = matrix / np.exp(rng.uniform(log(how.scale_range[0]), log(how.scale_range[1])))
        theta[i, :, :dims] = matrix * half[None, :] / half[:, None]
        theta[i, :, dims] = rng.uniform(-2 * how.shift, 2 * how.shift, dims) if how.shift else 0.0
    return theta, bool(turned.any() or scaled.any() or how.shift)


def _boxes(chance: float, size: tuple[int, ...], count: int, rng: np.random.Generator) -> Array:
    boxes = np.zeros((count, len(size), 2), np.int64)
    for i in np.flatnonzero(rng.random(count) < chance):
        for axis, n in enumerate(size):
            edge = max(1, round(n * rng.uniform(0.1, 0.4)))
            start = rng.integers(0, n - edge + 1)
            boxes[i, axis] = start, start + edge
    return boxes


def _mixture(
    how: AugmentationPlan, size: tuple[int, ...], count: int, rng: np.random.Generator
) -> tuple[Array, Array, Array | None]:
    """Weights, partners and the box of mixup or cutmix; at most one of them.

    Source: H. Zhang et al., ICLR 2018 (alpha 0.2); S. Yun et al., ICCV 2019 (alpha 1).
    """
    partner = rng.permutation(count)
    chance = rng.random()
    if chance < how.mixup:
        return np.full(count, max(share := rng.beta(0.2, 0.2), 1 - share)), partner, None
    if chance < how.mixup + how.cutmix:
        share = rng.beta(1.0, 1.0)
        box = np.zeros((len(size), 2), np.int64)
        for axis, n in enumerate(size):
            edge = round(n * (1 - share) ** (1 / len(size)))
            start = rng.integers(0, n - edge + 1)
            box[axis] = start, start + edge
        taken = float(np.prod((box[:, 1] - box[:, 0]) / np.asarray(size)))
        return np.full(count, 1 - taken), partner, box
    return np.ones(count), partner, None


def apply(
    drawn: Drawn, images: Float[Tensor, "b c *s"], masks: Int[Tensor, "b *s"] | None
) -> tuple[Float[Tensor, "b c *s"], Int[Tensor, "b *s"] | None]:
    """Apply what was drawn; the mixture is applied to images only, its weights belong to the loss."""
    images, masks = _flip(drawn, images, masks)
    if drawn.moves:
        images, masks = _move(drawn, images, masks)
    images = _intensities_of_images(drawn, images)
    if not np.all(drawn.mix == 1):
        partner = torch.from_numpy(drawn.partner)
        if drawn.box is None:
            weight = _each(drawn.mix, images)
            images = weight * images + (1 - weight) * images[partner]
        else:
            inside: Any = (..., *(slice(int(a), int(b)) for a, b in drawn.box))
            images = images.clone()
            images[inside] = images[partner][inside]
    return images, masks


def flipped(drawn: Drawn, images: Float[Tensor, "b c *s"]) -> Float[Tensor, "b c *s"]:
    """The flips alone: for images whose intensities are what is learnt."""
    return _flip(drawn, images, None)[0]


def moved_boxes(
    drawn: Drawn, number: int, boxes: Float[Array, "n 2 a"], size: tuple[int, ...]
) -> Float[Array, "n 2 a"]:
    """Boxes of one image of the batch after its flips and its affine movement.

    A turned box would hold much that is not the object: the box about the ellipse that it holds is taken. An elastic
    movement is not followed; without masks it is kept small.

    Source: A. Kalra et al., ICCV 2021 (Towards rotation invariance in object detection).
    """
    edge = np.asarray(size, np.float64)
    found = np.array(boxes, np.float64)
    for axis in np.flatnonzero(drawn.flips[number]):
        found[:, :, axis] = edge[axis] - found[:, ::-1, axis]
    dims = len(size)
    matrix, shift = drawn.theta[number, :, :dims], drawn.theta[number, :, dims]
    back = np.linalg.inv(matrix)  # theta says where an output lies in the input
    centre = (2 * found.mean(axis=1) / edge - 1 - shift) @ back.T
    half = (found[:, 1] - found[:, 0]) / edge
    reach = np.sqrt((half**2) @ (back**2).T)
    return np.stack((centre - reach + 1, centre + reach + 1), axis=1) / 2 * edge


def without_mixture(drawn: Drawn) -> Drawn:
    """The same without mixup or cutmix."""
    return replace(drawn, mix=np.ones_like(drawn.mix), box=None)


def _each(values: Array, like: Tensor) -> Tensor:
    return torch.from_numpy(np.asarray(values, np.float32)).view(-1, *(1,) * (like.ndim - 1))


def _flip(drawn: Drawn, images: Tensor, masks: Tensor | None) -> tuple[Tensor, Tensor | None]:
    if not drawn.flips.any():
        return images, masks
    images = images.clone()
    masks = None if masks is None else masks.clone()
    for axis in range(drawn.flips.shape[1]):
        rows = torch.from_numpy(np.flatnonzero(drawn.flips[:, axis]))
        if len(rows):
            images[rows] = images[rows].flip(2 + axis)
            if masks is not None:
                masks[rows] = masks[rows].flip(1 + axis)
    return images, masks


def _move(drawn: Drawn, images: Tensor, masks: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Affine and elastic movement by one interpolation."""
    dims = images.ndim - 2
    order = list(range(dims))[::-1]  # grid_sample wants x first
    theta = drawn.theta[:, order][:, :, [*order, dims]]
    grid = F.affine_grid(
        torch.from_numpy(np.ascontiguousarray(theta, np.float32)), list(images.shape), align_corners=False
    )
    mode = "bilinear" if dims == 2 else "trilinear"
    if drawn.elastic is not None:
        coarse = torch.from_numpy(np.asarray(drawn.elastic, np.float32))
        field = F.interpolate(coarse, size=images.shape[2:], mode="bicubic" if dims == 2 else mode, align_corners=True)
        grid = grid + field[:, order].movedim(1, -1)
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    if masks is None:
        return moved, None
    near = F.grid_sample(masks[:, None].float(), grid, mode="nearest", padding_mode="border", align_corners=False)
    return moved, near[:, 0].to(masks.dtype)


def _intensities_of_images(drawn: Drawn, x: Tensor) -> Tensor:
    """Intensities of the channels that are images; what is absent stays absent, and some are left out."""
    count = x.shape[1] - drawn.constants
    images, beside = x[:, :count], x[:, count:]
    there = images.flatten(2).abs().amax(dim=2) > 0 if count > 1 and drawn.frames == 1 else None
    images = _intensities(drawn, images)
    if drawn.dropped is not None and there is not None:
        kept = there & ~torch.from_numpy(drawn.dropped)
        there = torch.where(kept.any(dim=1, keepdim=True), kept, there)
    if there is not None:
        images = images * there.view(*there.shape, *(1,) * (x.ndim - 2))
    return torch.cat((images, beside), dim=1) if drawn.constants else images


def _intensities(drawn: Drawn, x: Tensor) -> Tensor:
    """Noise, blur, contrast, bias field, low resolution, gamma, erased boxes."""
    dims = x.ndim - 2
    mode = "bilinear" if dims == 2 else "trilinear"
    generator = torch.Generator().manual_seed(drawn.seed)
    if drawn.noise.any():
        x = x + _each(drawn.noise, x) * torch.randn(x.shape, generator=generator)
    chosen, sigma = drawn.blur
    if chosen.any():
        x = _put(x, chosen, _blurred(x[torch.from_numpy(chosen)], sigma))
    if np.any(drawn.factor != 1):
        middle = _middle(drawn, x)
        x = (x - middle) * _each(drawn.factor, x) + middle + _each(drawn.offset, x)
    if drawn.bias is not None:
        coarse = torch.from_numpy(np.asarray(drawn.bias, np.float32))
        low = x.amin(dim=tuple(range(1, x.ndim)), keepdim=True)
        field = torch.exp(F.interpolate(coarse, size=x.shape[2:], mode=mode, align_corners=True))
        x = (x - low) * field + low
    chosen, factor = drawn.low_resolution
    if chosen.any():
        some = x[torch.from_numpy(chosen)]
        small = F.interpolate(some, size=[max(1, round(n * factor)) for n in x.shape[2:]], mode="nearest")
        x = _put(x, chosen, F.interpolate(small, size=x.shape[2:], mode=mode, align_corners=False))
    if np.any(drawn.gamma != 1):
        x = _gamma(drawn, x)
    if drawn.erased.any():
        x = x.clone()
    for i, box in enumerate(drawn.erased):
        if box.any():
            inside: Any = (i, slice(None), *(slice(int(a), int(b)) for a, b in box))
            x[inside] = torch.randn(x[inside].shape, generator=generator)
    return x


def _middle(drawn: Drawn, x: Tensor) -> Tensor:
    """Mean of each channel, over all frames of a sequence."""
    parts = x.reshape(x.shape[0], drawn.frames, -1, x[0, 0].numel())
    each = parts.mean(dim=(1, 3), keepdim=True).expand(-1, drawn.frames, -1, 1)
    return each.reshape(x.shape[0], -1, *(1,) * (x.ndim - 2))


def _put(x: Tensor, chosen: Array, some: Tensor) -> Tensor:
    x = x.clone()
    x[torch.from_numpy(chosen)] = some
    return x


def _gamma(drawn: Drawn, x: Tensor) -> Tensor:
    """Exponents on 0 to 1, with mean and deviation kept; upside down for some."""
    axes = tuple(range(1, x.ndim))
    sign = torch.where(torch.from_numpy(drawn.invert_gamma), -1.0, 1.0).view(-1, *(1,) * (x.ndim - 1))
    turned = x * sign
    low, high = turned.amin(dim=axes, keepdim=True), turned.amax(dim=axes, keepdim=True)
    reach = (high - low).clamp_min(1e-6)
    changed = ((turned - low) / reach).clamp(0, 1) ** _each(drawn.gamma, x) * reach + low
    mean, deviation = turned.mean(dim=axes, keepdim=True), turned.std(dim=axes, keepdim=True)
    new_mean, new_deviation = changed.mean(dim=axes, keepdim=True), changed.std(dim=axes, keepdim=True)
    kept = (changed - new_mean) / new_deviation.clamp_min(1e-6) * deviation + mean
    return torch.where(_each(drawn.gamma, x) == 1, x, kept * sign)


def _blurred(x: Tensor, sigma: float) -> Tensor:
    """Separable Gaussian."""
    reach = max(1, round(3 * sigma))
    at = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-(at**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    channels, dims = x.shape[1], x.ndim - 2
    convolve = F.conv2d if dims == 2 else F.conv3d
    for axis in range(dims):
        if x.shape[2 + axis] <= reach:
            continue
        shape = [1] * dims
        shape[axis] = len(kernel)
        weight = kernel.view(1, 1, *shape).expand(channels, 1, *shape)
        pad = [0] * (2 * dims)
        pad[2 * (dims - 1 - axis)] = pad[2 * (dims - 1 - axis) + 1] = reach
        x = convolve(F.pad(x, pad, mode="replicate"), weight, groups=channels)
    return x
