"""Defaults of better images: small windows, flips, and what makes images poor."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from isocenter.errors import InputError
from isocenter.inference.prepare import Preparation
from isocenter.networks.catalogue import Network
from isocenter.training.images.defaults.defaults import Basis, Defaults, fitting_patch, slice_dims
from isocenter.training.images.fingerprint import Fingerprint

_EDGES = {2: 96, 3: 48}
"""Of windows: detail is local, and many small windows teach more than few large ones."""


class Pictures(Defaults):
    """A better image of each image."""

    answers, loss, sized = "picture", "l1", False

    def dims(self, seen: Fingerprint) -> int:
        """2 where images are pictures or volumes of few thick slices."""
        return slice_dims(seen)

    def layout(self, seen: Fingerprint, dims: int) -> dict[str, Any]:
        """The image's own grid, on which its answer lies."""
        return {}

    def intensity(self, seen: Fingerprint) -> dict[str, Any] | None:
        """Where intensities have a fixed scale, in deviations from the mean; nothing is cut off: it comes back."""
        if not seen.whole_numbers and seen.quantity not in ("HU", "SUV"):
            return None
        means = tuple(one["mean"] for one in seen.intensity)
        highs = tuple(one["mean"] + (one["deviation"] or 1.0) for one in seen.intensity)
        return {"intensity": "range", "low": means, "high": highs}

    def network(self, seen: Fingerprint, preparation: Preparation) -> str:
        """A residual U-Net that says what is missing."""
        return "restorer"

    def patch(self, seen: Fingerprint, preparation: Preparation, row: Network) -> tuple[int, ...]:
        """The image, rounded up to what can be halved, or the largest edge."""
        multiple = max(row.multiple, 8)
        whole = fitting_patch(seen, preparation, multiple, row.least)
        return tuple(min(_EDGES[len(whole)], -(-n // multiple) * multiple) for n in whole)

    def settings(self, basis: Basis) -> dict[str, Any]:
        """Where noise is to go, normalised features, and no more of the input in the answer than is worth keeping.

        What is worth keeping is the slope of the best linear estimate of an image from itself with noise of s of its
        deviations, 1 / (1 + s^2) (T. Karras et al., NeurIPS 2022, table 1, `c_skip`): a network that had to take away
        strong noise number by number would learn the noise first. Batch normalisation as K. Zhang et al. (2017) have
        it for noise; detail is learnt without (B. Lim et al., CVPR Workshops 2017).
        """
        noise = basis.wished.get("degradation.noise")
        if basis.name != "restorer" or not isinstance(noise, int | float) or not 0 < noise < np.inf:
            return {}  # where it is no number, the plan says so
        return {"norm": "batch", "keeps": round(1 / (1 + noise**2), 4)}

    def laterality(self, seen: Fingerprint) -> str:
        """Noise has no sides."""
        return "free"

    def augmentation(self, seen: Fingerprint, preparation: Preparation) -> dict[str, Any]:
        """Flips: whatever else changes an image would change what is to be learnt."""
        return {
            "flip": (preparation.dims == 3, True, True), "rotate": 0.0, "scale": 0.0, "elastic": 0.0, "noise": 0.0,
            "blur": 0.0, "gamma": 0.0, "contrast": 0.0, "low_resolution": 0.0,
        }  # fmt: skip

    def schedule(self, seen: Fingerprint, preparation: Preparation) -> dict[str, Any]:
        """No decay of weights: what is missing is small."""
        batch = 16 if preparation.dims == 2 else 4
        return {"learning_rate": 1e-3, "weight_decay": 0.0, "batch": batch, "ema": 0.998, "clip": 1.0}

    def more(self, seen: Fingerprint, wished: Mapping[str, Any]) -> dict[str, Any]:
        """What makes good images poor; nothing where the data set pairs them.

        Raises: InputError where nobody says it, or pairs are made poor once more.
        """
        asked = any(key.partition(".")[0] == "degradation" for key in wished)
        if seen.paired:
            if asked:
                raise InputError("the data set states pairs of images: leave --degrade away")
            return {"degradation": None}
        if not asked:
            raise InputError(
                "--task enhance: the data set pairs no images; say what makes them poor (--degrade noise=0.3, "
                "--degrade factor=2), or bring folders `images` and `targets`"
            )
        return {"degradation": {}}
