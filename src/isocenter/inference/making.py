"""Images from noise, by a trained maker."""

from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
import torch
from torch import nn

from isocenter.errors import UnreadableFile
from isocenter.inference.prepare import Preparation
from isocenter.networks.maker import Maker
from isocenter.networks.random_features import RandomFeatures
from isocenter.types import Array

_BATCH = 64


def made(module: nn.Module, count: int, *, classes: Sequence[int] | None, seed: int, device: str = "cpu") -> Array:
    """Images (`n c *s`, 0 to 1), all at once; see `made_in_parts`."""
    return np.concatenate(list(made_in_parts(module, count, classes=classes, seed=seed, device=device)))


def made_in_parts(
    module: nn.Module, count: int, *, classes: Sequence[int] | None, seed: int, device: str = "cpu"
) -> Iterator[Array]:
    """Images (`n c *s`, 0 to 1), some at a time.

    Args:
        module: a `Maker`.
        count: how many.
        classes: of each; None: it knows none.
        seed: of the noise.
        device: on which it is run.
    Raises: UnreadableFile for a network that makes what is no number.
    """
    maker = cast("Maker", module.eval().to(device))
    generator = torch.Generator().manual_seed(seed)
    for begin in range(0, count, _BATCH):
        size = min(_BATCH, count - begin)
        noise = torch.randn(size, maker.latent, generator=generator).to(device)
        own = None if classes is None else torch.as_tensor(list(classes[begin : begin + size])).to(device)
        with torch.inference_mode():
            images = maker.sample(noise, own).float().cpu().numpy()
        if not np.isfinite(images).all():
            raise UnreadableFile("the network makes images of what is no number: its weights are damaged")
        yield np.clip(images, 0, 1)


def classes_for(shares: Sequence[float], count: int) -> list[int] | None:
    """Classes of so many images, each by its share; None where there are no classes."""
    if not shares:
        return None
    ends = np.round(np.cumsum(shares) / sum(shares) * count).astype(int)
    found: list[int] = np.repeat(np.arange(len(shares)), np.diff(ends, prepend=0)).tolist()
    return found


def features_of(images: Array) -> Array:
    """Random features (`n f`) of images (`n c *s`, 0 to 1)."""
    network = RandomFeatures(images.shape[1], images.ndim - 2)
    parts = [
        network(torch.from_numpy(np.ascontiguousarray(images[i : i + _BATCH], np.float32))).numpy()
        for i in range(0, len(images), _BATCH)
    ]
    return np.concatenate(parts)


def in_units(images: Array, how: Preparation) -> Array:
    """Images in the unit of those that the maker learnt from; 0 to 1 where each of them was scaled by itself."""
    if how.intensity != "range":
        return images
    low, high = (np.asarray(v, np.float32).reshape(1, -1, *(1,) * (images.ndim - 2)) for v in (how.low, how.high))
    return np.asarray(images * (high - low) + low)
