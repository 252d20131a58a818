"""Defaults of foretelling the next frame."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from isocenter.inference.prepare import Preparation
from isocenter.networks.catalogue import Kind
from isocenter.training.images.defaults.defaults import Basis
from isocenter.training.images.defaults.sequences import FRAMES, SequenceValues
from isocenter.training.images.fingerprint import Fingerprint


class Forecast(SequenceValues):
    """The next frame of a sequence."""

    answers: Kind = "next"
    loss, scaled = "charbonnier", True

    def network(self, seen: Fingerprint, preparation: Preparation) -> str:
        """One that remembers in place."""
        return "convlstm"

    def settings(self, basis: Basis) -> dict[str, Any]:
        """Small kernels in volumes."""
        return {"kernel": 3, "hidden": (16,)} if basis.preparation.dims == 3 else {}

    def augmentation(self, seen: Fingerprint, preparation: Preparation) -> dict[str, Any]:
        """Turned and scaled as a whole; intensities are what is learnt."""
        own = super().augmentation(seen, preparation)
        return {**own, "noise": 0.0, "blur": 0.0, "low_resolution": 0.0, "gamma": 0.0, "contrast": 0.0,
                "brightness": 0.0}  # fmt: skip

    def more(self, seen: Fingerprint, wished: Mapping[str, Any]) -> dict[str, Any]:
        """As many frames as there are, up to a limit."""
        if not seen.frames:
            return {}  # which the plan refuses
        return {"frames": int(np.clip(max(seen.frames), 2, FRAMES))}
