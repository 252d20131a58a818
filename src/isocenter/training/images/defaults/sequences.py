"""Defaults of sequences of frames."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from isocenter.inference.prepare import Preparation
from isocenter.networks.catalogue import Kind
from isocenter.training.images.defaults.defaults import Basis
from isocenter.training.images.defaults.whole import Classes, Values
from isocenter.training.images.fingerprint import Fingerprint

FRAMES = 48
"""Of a sequence, at most."""
_LARGEST = {2: 96, 3: 48}


class SequenceValues(Values):
    """A value of each sequence, or of each frame."""

    answers: Kind = "sequence"

    def layout(self, seen: Fingerprint, dims: int) -> dict[str, Any]:
        """Small frames of one size: there are many of them."""
        shape, orient = seen.laid(dims)
        scale = min(1.0, _LARGEST[dims] / max(shape))
        return {"size": tuple(max(8, round(n * scale / 8) * 8) if n > 8 else n for n in shape), "orient": orient}

    def network(self, seen: Fingerprint, preparation: Preparation) -> str:
        """A CNN and a recurrent layer."""
        return "recurrent"

    def settings(self, basis: Basis) -> dict[str, Any]:
        """Whether each frame has an answer."""
        return {"each_frame": basis.seen.each_frame}

    def augmentation(self, seen: Fingerprint, preparation: Preparation) -> dict[str, Any]:
        """As of images, the same for every frame; nothing is mixed or erased."""
        own = super().augmentation(seen, preparation)
        return {**own, "erase": 0.0, "mixup": 0.0, "cutmix": 0.0, "elastic": 0.0}

    def schedule(self, seen: Fingerprint, preparation: Preparation) -> dict[str, Any]:
        """Few sequences at a time."""
        return {"learning_rate": 1e-3, "weight_decay": 1e-2, "batch": 8, "ema": 0.998, "clip": 5.0}

    def more(self, seen: Fingerprint, wished: Mapping[str, Any]) -> dict[str, Any]:
        """As many frames as there are, up to a limit."""
        most = int(np.clip(max(seen.frames), 2, FRAMES))
        return {"frames": most, "each_frame": seen.each_frame, "loss": {"name": self.loss}}


class SequenceClasses(SequenceValues):
    """A class of each sequence, or of each frame."""

    loss, scaled = Classes.loss, Classes.scaled
