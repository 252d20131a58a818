"""Intensities on another scale. These break the unit: the quantity becomes ARBITRARY."""

import numpy as np
from pydantic import model_validator

from isocenter.data.labels import LabelMap
from isocenter.data.provenance import Step
from isocenter.data.step import Settings
from isocenter.data.volume import Quantity, Volume
from isocenter.errors import DegenerateImage


class ZScore(Settings):
    """Settings of `z_score`: none."""


def z_score(volume: Volume, settings: ZScore, *, within: LabelMap | None = None) -> Volume:
    """Subtract the mean and divide by the standard deviation of the image, or of the mask.

    Raises: DegenerateImage for a flat image or an empty mask.
    """
    grid = volume.grid
    values = grid[within.foreground] if within else grid
    if not values.size:
        raise DegenerateImage("the mask is empty: there is no mean to subtract")
    mean, deviation = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
    if deviation == 0:
        raise DegenerateImage(f"all voxels equal {mean:g}: there is no standard deviation to divide by")
    voxels = (grid - np.float32(mean)).astype(np.float32, copy=False)
    voxels /= np.float32(deviation)
    step = Step("preprocess.z_score", settings.model_dump(), {"mean": mean, "standard_deviation": deviation})
    return volume.then(step, voxels=voxels, quantity=Quantity.ARBITRARY)


class Window(Settings):
    """Settings of `window`."""

    low: float
    """Becomes 0, like everything below it; in the image's unit."""
    high: float
    """Becomes 1, like everything above it."""

    @model_validator(mode="after")
    def _ordered(self) -> "Window":
        if not self.low < self.high:
            raise ValueError(f"low must lie below high; got {self.low:g} and {self.high:g}")
        return self


def window(volume: Volume, settings: Window) -> Volume:
    """Map `low`..`high` to 0..1 and cut what lies outside."""
    voxels = np.clip(volume.voxels, settings.low, settings.high).astype(np.float32, copy=False)
    voxels -= np.float32(settings.low)
    voxels /= np.float32(settings.high - settings.low)
    np.clip(voxels, 0, 1, out=voxels)
    step = Step("preprocess.window", settings.model_dump())
    return volume.then(step, voxels=voxels, quantity=Quantity.ARBITRARY)
