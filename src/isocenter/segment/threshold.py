"""One intensity parts object from background."""

import numpy as np
from pydantic import Field, model_validator

from isocenter.data.labels import LabelMap
from isocenter.data.provenance import Step
from isocenter.data.step import Settings
from isocenter.data.volume import Quantity, Volume


class Otsu(Settings):
    """Settings of `otsu`."""

    name: str = "foreground"
    """Name of the label."""
    bins: int = Field(256, ge=2, le=65536)
    """The threshold is exact to the range of the image over this."""


def otsu(volume: Volume, settings: Otsu, *, within: LabelMap | None = None) -> LabelMap:
    """Take what is brighter than Otsu's threshold.

    Raises: DegenerateImage for a flat image.
    """
    from isocenter.ops.histogram import histogram, otsu_cut

    mask = within.foreground if within else None
    cut = otsu_cut(*histogram(volume.grid, bins=settings.bins, within=mask))
    found = np.asarray(volume.grid > cut)
    if mask is not None:
        found &= mask
    step = Step("segment.otsu", settings.model_dump(), {"threshold": cut})
    return LabelMap.of_mask(found, volume.geometry, name=settings.name, history=(*volume.history, step))


class Threshold(Settings):
    """Settings of `threshold`."""

    low: float | None = None
    """Darkest intensity that belongs; none: no lower end."""
    high: float | None = None
    """Brightest intensity that belongs; none: no upper end."""
    unit: Quantity
    """Unit of `low` and `high`; an image in another unit is refused."""
    name: str = "foreground"
    """Name of the label."""

    @model_validator(mode="after")
    def _some_end(self) -> "Threshold":
        if self.low is None and self.high is None:
            raise ValueError("give low, high, or both")
        if self.low is not None and self.high is not None and not self.low <= self.high:
            raise ValueError(f"low must not lie above high; got {self.low:g} and {self.high:g}")
        return self


def threshold(volume: Volume, settings: Threshold, *, within: LabelMap | None = None) -> LabelMap:
    """Take what lies between two intensities of a stated unit, both ends included.

    Raises: UnitError where the image is not, or no longer, in that unit.
    """
    volume.require_quantity(settings.unit)
    grid = volume.grid
    found = np.ones(grid.shape, np.bool_) if within is None else within.foreground
    if settings.low is not None:
        found &= grid >= settings.low
    if settings.high is not None:
        found &= grid <= settings.high
    step = Step("segment.threshold", settings.model_dump(mode="json"))
    return LabelMap.of_mask(found, volume.geometry, name=settings.name, history=(*volume.history, step))
