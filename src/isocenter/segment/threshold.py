"""One intensity parts object from background."""

import numpy as np
from pydantic import Field, field_validator, model_validator

from isocenter.data.labels import Label, LabelMap
from isocenter.data.length import Lengths
from isocenter.data.provenance import Step
from isocenter.data.step import Settings
from isocenter.data.volume import Quantity, Volume

_LI_BINS = 4096


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

    mask = within.within(volume.geometry) if within else None
    cut = otsu_cut(*histogram(volume.grid, bins=settings.bins, within=mask))
    found = np.asarray(volume.grid > cut)
    if mask is not None:
        found &= mask
    step = Step("segment.otsu", settings.model_dump(), {"threshold": cut})
    return LabelMap.of_mask(found, volume.geometry, name=settings.name, history=(*volume.history, step))


class MultiOtsu(Settings):
    """Settings of `multi_otsu`."""

    classes: tuple[str, ...] = Field(min_length=2, max_length=16)
    """Names of the classes, darkest first; `background` is left out of the label map."""
    bins: int = Field(256, ge=2, le=4096)
    """The thresholds are exact to the range of the image over this."""

    @field_validator("classes")
    @classmethod
    def _distinct(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return distinct(names)


def multi_otsu(volume: Volume, settings: MultiOtsu, *, within: LabelMap | None = None) -> LabelMap:
    """Part intensities into several classes of least variance (Otsu's criterion for many classes; exact).

    Use it where an image holds more than object and ground, each of about even brightness.

    Raises: DegenerateImage where there are fewer distinct intensities than classes.
    """
    from isocenter.ops.cluster import interval_cuts, k_means
    from isocenter.ops.histogram import histogram
    from isocenter.ops.label import classes_by_cuts

    mask = within.within(volume.geometry) if within else None
    counts, centres = histogram(volume.grid, bins=settings.bins, within=mask)
    means = k_means(counts, centres, classes=len(settings.classes))
    cuts = interval_cuts(counts, centres, means)
    voxels = classes_by_cuts(volume.grid, cuts, within=mask)
    labels = tuple(Label(value, name) for value, name in enumerate(settings.classes, start=1))
    if "background" in settings.classes:
        value = settings.classes.index("background") + 1
        voxels[voxels == value] = 0
        labels = tuple(label for label in labels if label.value != value)
    step = Step("segment.multi_otsu", settings.model_dump(mode="json"), {"thresholds": cuts.tolist()})
    return LabelMap(voxels, volume.geometry, labels, (*volume.history, step))


class Li(Settings):
    """Settings of `li`."""

    name: str = "foreground"
    """Name of the label."""


def li(volume: Volume, settings: Li, *, within: LabelMap | None = None) -> LabelMap:
    """Take what is brighter than Li's threshold (least cross-entropy).

    Use it where the object is small or faint: Otsu's threshold then lies too high.

    Raises: DegenerateImage for a flat image.
    """
    from isocenter.ops.histogram import histogram, li_cut

    mask = within.within(volume.geometry) if within else None
    cut = li_cut(*histogram(volume.grid, bins=_LI_BINS, within=mask))
    found = np.asarray(volume.grid > cut)
    if mask is not None:
        found &= mask
    step = Step("segment.li", settings.model_dump(), {"threshold": cut})
    return LabelMap.of_mask(found, volume.geometry, name=settings.name, history=(*volume.history, step))


class Adaptive(Lengths):
    """Settings of `adaptive`."""

    sigma_mm: float | None = Field(None, gt=0, le=200)
    """Size of the neighbourhood (standard deviation of a Gaussian) in millimetres; larger than the objects."""
    sigma_px: float | None = Field(None, gt=0, le=1000)
    """The same in voxels, for images without millimetres."""
    offset: float = 0.0
    """How much brighter than its neighbourhood a voxel must be, in the image's unit; negative: may be darker."""
    name: str = "foreground"
    """Name of the label."""


def adaptive(volume: Volume, settings: Adaptive, *, within: LabelMap | None = None) -> LabelMap:
    """Take what is brighter than its neighbourhood's Gaussian mean.

    Use it under uneven light, for objects smaller than the neighbourhood; without an offset, even ground is split in
    halves by its noise.

    Raises: UnitError in PIXELS space for millimetres.
    """
    from isocenter.ops import filter as filters
    from isocenter.ops.slabs import by_slab

    around = filters.gaussian(volume.grid, sigma=settings.voxels("sigma", volume.geometry))
    offset = np.float32(settings.offset)
    found = by_slab(lambda part, mean: np.asarray(part > mean + offset), volume.grid, around, halo=0, threaded=True)
    if within is not None:
        found &= within.within(volume.geometry)
    step = Step("segment.adaptive", settings.model_dump(exclude_none=True))
    return LabelMap.of_mask(found, volume.geometry, name=settings.name, history=(*volume.history, step))


def distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names, if each stands once.

    Raises: ValueError otherwise.
    """
    if len(set(names)) != len(names):
        raise ValueError(f"every class needs a name of its own; got {list(names)}")
    return names


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
    found = np.ones(grid.shape, np.bool_) if within is None else within.within(volume.geometry)
    if settings.low is not None:
        found &= grid >= settings.low
    if settings.high is not None:
        found &= grid <= settings.high
    step = Step("segment.threshold", settings.model_dump(mode="json"))
    return LabelMap.of_mask(found, volume.geometry, name=settings.name, history=(*volume.history, step))
