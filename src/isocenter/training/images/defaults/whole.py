"""Defaults of classes and values of whole images."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from isocenter.inference.prepare import Preparation
from isocenter.networks.catalogue import Kind
from isocenter.training.images.defaults.defaults import Defaults, volume_dims
from isocenter.training.images.fingerprint import Fingerprint

_LARGEST_PICTURE, _LARGEST_VOLUME = 224, 96


class Values(Defaults):
    """A value of each image."""

    answers: Kind = "image"
    loss = "huber"
    cutmix, scaled = 0.0, False

    def dims(self, seen: Fingerprint) -> int:
        """2 where images are pictures."""
        return volume_dims(seen)

    def layout(self, seen: Fingerprint, dims: int) -> dict[str, Any]:
        """Whole images of one size: their own where it is small, and one and the same."""
        shape, orient = seen.laid(dims)
        if len(set(seen.oriented if orient else seen.shapes)) == 1 and max(shape) <= _LARGEST_PICTURE:
            return {"size": shape, "orient": orient}
        scale = min(1.0, (_LARGEST_PICTURE if dims == 2 else _LARGEST_VOLUME) / max(shape))
        size = tuple(max(16, round(n * scale / 8) * 8) if n > 16 else n for n in shape)
        return {"size": size, "orient": orient}

    def network(self, seen: Fingerprint, preparation: Preparation) -> str:
        """A small ResNet for small images."""
        return "resnet" if preparation.size is not None and max(preparation.size) <= 64 else "resnet18"

    def augmentation(self, seen: Fingerprint, preparation: Preparation) -> dict[str, Any]:
        """Sound for small sets of whole images."""
        own = self.augmentation_for(max(preparation.size or (28,)))
        return own if self.scaled else {**own, "scale": 0.0}  # a value may be a size

    def augmentation_for(self, edge: int) -> dict[str, Any]:
        """The same, for images of this edge."""
        return {
            "rotate": 0.7, "rotate_degrees": 12.0, "scale": 0.7, "scale_range": (0.85, 1.2), "shift": 0.08,
            "elastic": 0.15, "elastic_voxels": max(0.5, edge / 56), "noise": 0.2, "blur": 0.2, "contrast": 0.6,
            "contrast_range": (0.6, 1.5), "brightness": 0.4, "gamma": 0.5, "gamma_range": (0.5, 2.0),
            "low_resolution": 0.2, "erase": 0.2, "mixup": 0.2, "cutmix": self.cutmix,
        }  # fmt: skip

    def schedule(self, seen: Fingerprint, preparation: Preparation) -> dict[str, Any]:
        """Batches that grow with the cases."""
        batch = int(np.clip(2 ** round(np.log2(max(8, seen.cases / 40))), 8, 64))
        return {"learning_rate": 2e-3, "weight_decay": 5e-2, "batch": batch, "ema": 0.998}


class Classes(Values):
    """A class of each image."""

    loss = "cross_entropy"
    cutmix, scaled = 0.2, True

    def more(self, seen: Fingerprint, wished: Mapping[str, Any]) -> dict[str, Any]:
        """Smoothed labels; classes are drawn alike where one is rare."""
        counts = list(seen.classes.values())
        return {
            "loss": {"name": self.loss, "label_smoothing": 0.05},
            "balance": bool(counts) and max(counts) > 10 * min(counts),
        }
