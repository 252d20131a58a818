"""Defaults of making images, and of learning what is usual: small whole images between 0 and 1."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from isocenter.errors import InputError
from isocenter.inference.prepare import Preparation
from isocenter.networks.catalogue import Kind, settings_of
from isocenter.training.images.defaults.defaults import Basis, Defaults, volume_dims
from isocenter.training.images.fingerprint import Fingerprint

_LARGEST_PICTURE, _LARGEST_VOLUME = 64, 32
_WIDEST = 256


class Makers(Defaults):
    """New images like those that are shown."""

    answers: Kind = "sample"
    loss = "own"
    base = 48

    def dims(self, seen: Fingerprint) -> int:
        """2 where images are pictures."""
        return volume_dims(seen)

    def layout(self, seen: Fingerprint, dims: int) -> dict[str, Any]:
        """Small images: their own size, or at most 64 pixels (32 voxels) along an edge."""
        shape = seen.shape[1:] if dims == 2 else seen.shape
        most = _LARGEST_PICTURE if dims == 2 else _LARGEST_VOLUME
        scale = min(1.0, most / max(shape))
        return {
            "size": tuple(max(8, round(n * scale)) for n in shape),
            "orient": dims == 3 and seen.spacing is not None,
        }

    def intensity(self, seen: Fingerprint) -> dict[str, Any]:
        """0 to 1: of what can be where intensities have a fixed scale; else of each image by itself."""
        if seen.whole_numbers:
            return {"intensity": "range", "low": (0.0,) * seen.channels, "high": (255.0,) * seen.channels}
        if seen.quantity in ("HU", "SUV"):
            lows, highs = (tuple(one[end] for one in seen.intensity) for end in ("low", "high"))
            return {"intensity": "range", "low": lows, "high": highs}
        return {"intensity": "percentile"}

    def network(self, seen: Fingerprint, preparation: Preparation) -> str:
        """Two players."""
        return "dcgan"

    def settings(self, basis: Basis) -> dict[str, Any]:
        """The size, and as many levels as leave 6 to 12 voxels along an edge."""
        levels = max(1, int(np.log2(min(basis.patch) / 6)))
        widths = tuple(min(self.base * 2**i, _WIDEST) for i in range(levels))
        own: dict[str, Any] = {"size": basis.patch}
        if "widths" in type(settings_of(basis.name, {})).model_fields:
            own["widths"] = tuple(reversed(widths)) if basis.name == "dcgan" else widths
        return own

    def augmentation(self, seen: Fingerprint, preparation: Preparation) -> dict[str, Any]:
        """Small movements: images that are made shall look like those that are shown."""
        return {
            "rotate": 0.0, "scale": 0.0, "shift": 0.0, "elastic": 0.0, "noise": 0.0, "blur": 0.0, "contrast": 0.0,
            "gamma": 0.0, "low_resolution": 0.0,
        }  # fmt: skip

    def schedule(self, seen: Fingerprint, preparation: Preparation) -> dict[str, Any]:
        """As Radford et al. have it: a short memory of the gradient."""
        return {
            "learning_rate": 2e-4, "weight_decay": 0.0, "batch": 64 if preparation.dims == 2 else 16, "ema": 0.999,
            "beta": 0.5, "beta_square": 0.99, "optimiser": "adam", "clip": 100.0,
        }  # fmt: skip


class Normal(Makers):
    """What is usual."""

    answers: Kind = "normal"
    base = 32

    def intensity(self, seen: Fingerprint) -> dict[str, Any]:
        """Each image by itself: exposure is nothing that is unusual."""
        return {"intensity": "percentile"}

    def network(self, seen: Fingerprint, preparation: Preparation) -> str:
        """A variational autoencoder."""
        return "vae_normal"

    def settings(self, basis: Basis) -> dict[str, Any]:
        """Few numbers, so that only what is usual can be said with them."""
        return {**super().settings(basis), "latent": 16}

    def augmentation(self, seen: Fingerprint, preparation: Preparation) -> dict[str, Any]:
        """Small shifts and turns."""
        return {**super().augmentation(seen, preparation), "shift": 0.06, "rotate": 0.5, "rotate_degrees": 6.0}

    def schedule(self, seen: Fingerprint, preparation: Preparation) -> dict[str, Any]:
        """One player, or three."""
        return {
            "learning_rate": 1e-3, "weight_decay": 1e-4, "batch": 64 if preparation.dims == 2 else 8, "ema": 0.998,
        }  # fmt: skip

    def more(self, seen: Fingerprint, wished: Mapping[str, Any]) -> dict[str, Any]:
        """Which class is normal.

        Raises: InputError where classes are stated, and nobody says which is normal.
        """
        if len(seen.targets) > 1 and not wished.get("normal"):
            raise InputError(
                f"--task anomaly: name the class that is normal, as --normal {min(seen.targets)}; there are "
                f"{', '.join(seen.targets)}"
            )
        if wished.get("normal") and str(wished["normal"]) not in seen.targets:
            raise InputError(
                f"--normal {wished['normal']}: no case is of this class; there are {', '.join(seen.targets) or 'none'}"
            )
        return {"classes": ()}
