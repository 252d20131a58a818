"""Intensities on another scale. These break the unit: the quantity becomes ARBITRARY."""

import numpy as np
from pydantic import Field, model_validator

from isocenter.data.labels import LabelMap
from isocenter.data.provenance import Step
from isocenter.data.step import Settings
from isocenter.data.volume import Quantity, Volume
from isocenter.errors import DegenerateImage
from isocenter.types import Array, Grid


class ZScore(Settings):
    """Settings of `z_score`: none."""


def z_score(volume: Volume, settings: ZScore, *, within: LabelMap | None = None) -> Volume:
    """Subtract the mean and divide by the standard deviation of the image, or of the mask. Breaks the unit.

    Use it to compare MR images, within a mask of the tissue: air would count too.

    Raises: DegenerateImage for a flat image or an empty mask.
    """
    volume.require_finite()
    grid = volume.grid
    values = grid[within.within(volume.geometry)] if within else grid
    if not values.size:
        raise DegenerateImage("the mask is empty: there is no mean to subtract")
    mean, deviation = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
    if deviation == 0:
        raise DegenerateImage(f"all voxels equal {mean:g}: there is no standard deviation to divide by")
    step = Step("preprocess.z_score", settings.model_dump(), {"mean": mean, "standard_deviation": deviation})
    return volume.then(step, voxels=_linear(grid, mean, deviation), quantity=Quantity.ARBITRARY)


def min_max(volume: Volume, settings: ZScore, *, within: LabelMap | None = None) -> Volume:
    """Map the smallest and largest intensity of the image, or of the mask, to 0 and 1. Breaks the unit.

    Use it where a method wants 0..1 and single extreme voxels do no harm; otherwise `percentile`.

    Raises: DegenerateImage for a flat image or an empty mask.
    """
    from isocenter.ops.histogram import value_range

    low, high = value_range(volume.grid, within=within.within(volume.geometry) if within else None)
    if low == high:
        raise DegenerateImage(f"all voxels equal {low:g}: there is no range to map")
    step = Step("preprocess.min_max", {}, {"low": low, "high": high})
    return volume.then(step, voxels=_linear(volume.grid, low, high - low), quantity=Quantity.ARBITRARY)


class Percentile(Settings):
    """Settings of `percentile`."""

    low: float = Field(1.0, ge=0, le=100)
    """This percentile becomes 0."""
    high: float = Field(99.0, ge=0, le=100)
    """This percentile becomes 1; nothing is cut."""

    @model_validator(mode="after")
    def _ordered(self) -> "Percentile":
        if not self.low < self.high:
            raise ValueError("low must lie below high")
        return self


def percentile(volume: Volume, settings: Percentile, *, within: LabelMap | None = None) -> Volume:
    """Map two percentiles of the image, or of the mask, to 0 and 1; nothing is cut. Breaks the unit.

    Use it to compare MR images where single voxels are extreme.

    Raises: DegenerateImage where the percentiles are equal, or the mask is empty.
    """
    from isocenter.ops.histogram import percentiles

    mask = within.within(volume.geometry) if within else None
    low, high = percentiles(volume.grid, (settings.low, settings.high), within=mask)
    if not low < high:
        raise DegenerateImage(f"both percentiles equal {low:g}: there is no range to map; take others, or a mask")
    step = Step("preprocess.percentile", settings.model_dump(), {"low": low, "high": high})
    return volume.then(step, voxels=_linear(volume.grid, low, high - low), quantity=Quantity.ARBITRARY)


def histogram_matching(volume: Volume, other: Volume, settings: ZScore) -> Volume:
    """Give the image the histogram of another one. Breaks the unit.

    Use it to bring MR images of one sequence to a common scale; the two must show about the same parts of the
    body, or tissues take each other's intensity.

    Raises: DegenerateImage where either is flat.
    """
    from isocenter.ops.histogram import matched

    step = Step("preprocess.histogram_matching")
    return volume.then(step, voxels=matched(volume.grid, other.grid), quantity=Quantity.ARBITRARY)


def _linear(grid: Grid, origin: float, scale: float) -> Array:
    from isocenter.ops.slabs import above, by_slab

    def moved(part: Array) -> Array:
        out = above(part, origin)
        out /= np.float32(scale)
        return np.asarray(out)

    return by_slab(moved, grid, halo=0, threaded=True)
