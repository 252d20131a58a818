"""More contrast, for the eye and for methods that need no unit. Every step but the two sharpenings breaks the unit."""

from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from isocenter.data.geometry import Space
from isocenter.data.labels import LabelMap
from isocenter.data.length import Lengths
from isocenter.data.provenance import Step
from isocenter.data.step import Settings
from isocenter.data.volume import Quantity, Volume
from isocenter.errors import DegenerateImage
from isocenter.types import Array

Preset = Literal["soft_tissue", "lung", "bone", "brain", "stroke", "mediastinum", "liver", "angiography"]
PRESETS: dict[Preset, tuple[float, float]] = {
    "soft_tissue": (40, 400),
    "lung": (-600, 1500),
    "bone": (400, 1800),
    "brain": (40, 80),
    "stroke": (32, 8),
    "mediastinum": (50, 350),
    "liver": (60, 160),
    "angiography": (300, 600),
}
"""Level and width in HU, as radiologists use them (M. Hofer, CT Teaching Manual, 4th ed. 2010, and Radiopaedia,
"Windowing (CT)")."""


class NoSettings(Settings):
    """A step without settings."""


def histogram_equalization(volume: Volume, settings: NoSettings, *, within: LabelMap | None = None) -> Volume:
    """Spread intensities so that all of 0..1 is used equally. Breaks the unit.

    Use it to look at an image whose contrast hides in a few intensities. It also spreads noise.

    Raises: DegenerateImage for a flat image.
    """
    from isocenter.ops.histogram import equalised

    mask = within.within(volume.geometry) if within else None
    step = Step("preprocess.histogram_equalization")
    return volume.then(step, voxels=equalised(volume.grid, within=mask), quantity=Quantity.ARBITRARY)


class Clahe(Settings):
    """Settings of `clahe`."""

    tiles: int = Field(8, ge=1, le=64)
    """Neighbourhoods along the longest axis; as many millimetres along the others."""
    clip: float = Field(3.0, ge=1, le=100)
    """Largest gain in contrast; 1 changes nothing."""


def clahe(volume: Volume, settings: Clahe) -> Volume:
    """Equalise each neighbourhood, with limited gain (CLAHE). Breaks the unit.

    Use it on X-rays and microscopy with uneven light. Intensities of different places can no longer be compared.

    Raises: DegenerateImage for a flat image.
    """
    from isocenter.ops.clahe import clahe as enhanced

    d, h, w = volume.geometry.shape
    steps = (1.0, 1.0, 1.0) if volume.geometry.space is Space.PIXELS else volume.geometry.steps
    side = max(n * s for n, s in zip((d, h, w), steps, strict=True)) / settings.tiles
    shape = [max(1, min(n, round(n * s / side))) for n, s in zip((d, h, w), steps, strict=True)]
    tiles = (shape[0], shape[1], shape[2])
    step = Step("preprocess.clahe", settings.model_dump(), {"tiles": shape})
    voxels = enhanced(volume.grid, tiles=tiles, clip=settings.clip)
    return volume.then(step, voxels=voxels, quantity=Quantity.ARBITRARY)


class ContrastStretching(Settings):
    """Settings of `contrast_stretching`."""

    low_percentile: float = Field(1.0, ge=0, le=100)
    """This share of the voxels becomes 0."""
    high_percentile: float = Field(99.0, ge=0, le=100)
    """What lies above it becomes 1."""

    @model_validator(mode="after")
    def _ordered(self) -> "ContrastStretching":
        if not self.low_percentile < self.high_percentile:
            raise ValueError("low_percentile must lie below high_percentile")
        return self


def contrast_stretching(volume: Volume, settings: ContrastStretching, *, within: LabelMap | None = None) -> Volume:
    """Map two percentiles to 0 and 1 and cut what lies outside. Breaks the unit.

    Use it to show any image, and before methods that expect 0..1.

    Raises: DegenerateImage where the percentiles are equal.
    """
    from isocenter.ops.histogram import percentiles

    mask = within.within(volume.geometry) if within else None
    low, high = percentiles(volume.grid, (settings.low_percentile, settings.high_percentile), within=mask)
    if not low < high:
        raise DegenerateImage(
            f"both percentiles equal {low:g}: the image has too few intensities to stretch; take others, or a mask"
        )
    step = Step("preprocess.contrast_stretching", settings.model_dump(), {"low": low, "high": high})
    return volume.then(step, voxels=_to_unit_range(volume.voxels, low, high), quantity=Quantity.ARBITRARY)


class Gamma(Settings):
    """Settings of `gamma`."""

    gamma: float = Field(gt=0, le=10)
    """Below 1 brightens the dark parts, above 1 darkens them."""


def gamma(volume: Volume, settings: Gamma) -> Volume:
    """Raise intensities, as shares of their range, to a power; keeps the range. Breaks the unit.

    Use it to open dark parts of a picture without cutting bright ones.

    Raises: DegenerateImage for a flat image.
    """
    from isocenter.ops.histogram import value_range
    from isocenter.ops.slabs import above, by_slab

    low, high = value_range(volume.grid)
    if low == high:
        raise DegenerateImage(f"all voxels equal {low:g}: a power changes nothing")

    def power(part: Array) -> Array:
        share = above(part, low)
        share /= np.float32(high - low)
        np.power(share, np.float32(settings.gamma), out=share)
        share *= np.float32(high - low)
        share += np.float32(low)
        return np.asarray(share)

    voxels = by_slab(power, volume.grid, halo=0, threaded=True)
    return volume.then(Step("preprocess.gamma", settings.model_dump()), voxels=voxels, quantity=Quantity.ARBITRARY)


def invert(volume: Volume, settings: NoSettings) -> Volume:
    """Exchange bright and dark: the largest plus the smallest intensity, less each. Breaks the unit.

    Use it where the object is darker than the ground and a step wants it brighter.

    Raises: DegenerateImage for an image that is not finite.
    """
    from isocenter.ops.histogram import value_range
    from isocenter.ops.slabs import by_slab

    low, high = value_range(volume.grid)
    total = np.float32(low + high)
    voxels = by_slab(lambda part: np.asarray(total - part.astype(np.float32)), volume.grid, halo=0, threaded=True)
    return volume.then(Step("preprocess.invert"), voxels=voxels, quantity=Quantity.ARBITRARY)


class UnsharpMask(Lengths):
    """Settings of `unsharp_mask`."""

    sigma_mm: float | None = Field(None, gt=0, le=50)
    """Standard deviation of the Gaussian whose details are enhanced, in millimetres."""
    sigma_px: float | None = Field(None, gt=0, le=100)
    """The same in voxels, for images without millimetres."""
    amount: float = Field(1.0, gt=0, le=10)
    """How much of the details is added."""


def unsharp_mask(volume: Volume, settings: UnsharpMask) -> Volume:
    """Add what a Gaussian takes away; sharpens details of a chosen size. Keeps the unit, overshoots at edges.

    Use it to look at X-rays and bones, not before measuring intensities.

    Raises: UnitError in PIXELS space.
    """
    from isocenter.ops import filter as filters

    grid = volume.grid
    sharp = filters.gaussian(grid, sigma=settings.voxels("sigma", volume.geometry))
    np.subtract(grid, sharp, out=sharp)
    sharp *= np.float32(settings.amount)
    sharp += grid
    step = Step("preprocess.unsharp_mask", settings.model_dump(exclude_none=True))
    return volume.then(step, voxels=sharp)


class LaplacianSharpening(Settings):
    """Settings of `laplacian_sharpening`."""

    amount: float = Field(0.5, gt=0, le=10)
    """How much of the Laplacian is subtracted, in squares of the smallest voxel step."""


def laplacian_sharpening(volume: Volume, settings: LaplacianSharpening) -> Volume:
    """Subtract the Laplacian; sharpens the finest details, and the noise. Keeps the unit, overshoots at edges.

    Use it on smooth images only; `unsharp_mask` lets the size of the details be chosen.
    """
    from isocenter.ops import filter as filters

    grid, geometry = volume.grid, volume.geometry
    steps = geometry.steps
    smallest = min(s for s, n in zip(steps, geometry.shape, strict=True) if n > 1) if max(geometry.shape) > 1 else 1.0
    relative = (steps[0] / smallest, steps[1] / smallest, steps[2] / smallest)
    sharp = filters.laplacian(grid, spacing=relative)
    sharp *= np.float32(-settings.amount)
    sharp += grid
    return volume.then(Step("preprocess.laplacian_sharpening", settings.model_dump()), voxels=sharp)


class Window(Settings):
    """Settings of `window`: `low` and `high`, or `level` and `width`, or a named `preset` (HU)."""

    low: float | None = None
    """Becomes 0, like everything below it; in the image's unit."""
    high: float | None = None
    """Becomes 1, like everything above it."""
    level: float | None = None
    """Middle of the window; with `width`, instead of `low` and `high`."""
    width: float | None = Field(None, gt=0)
    """Width of the window."""
    preset: Preset | None = None
    """A usual window of a CT in HU; an image in another unit is refused."""

    @model_validator(mode="after")
    def _one_way(self) -> "Window":
        given = [name for name in ("low", "high", "level", "width", "preset") if getattr(self, name) is not None]
        if given not in (["low", "high"], ["level", "width"], ["preset"]):
            raise ValueError(f"give low and high, or level and width, or preset; got {', '.join(given) or 'none'}")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"low must lie below high; got {self.low:g} and {self.high:g}")
        return self

    @property
    def ends(self) -> tuple[float, float]:
        """Low and high."""
        if self.low is not None and self.high is not None:
            return self.low, self.high
        level, width = (self.level, self.width) if self.preset is None else PRESETS[self.preset]
        assert level is not None
        assert width is not None
        return level - width / 2, level + width / 2


def window(volume: Volume, settings: Window) -> Volume:
    """Map a range of intensities to 0..1 and cut what lies outside. Breaks the unit.

    Presets, as level and width in HU: soft_tissue 40/400, lung -600/1500, bone 400/1800, brain 40/80, stroke 32/8,
    mediastinum 50/350, liver 60/160, angiography 300/600.

    Raises: UnitError for a preset on an image that is not in HU.
    """
    if settings.preset is not None:
        volume.require_quantity(Quantity.HU)
    low, high = settings.ends
    step = Step("preprocess.window", settings.model_dump(exclude_none=True), {"low": low, "high": high})
    return volume.then(step, voxels=_to_unit_range(volume.voxels, low, high), quantity=Quantity.ARBITRARY)


def _to_unit_range(voxels: Array, low: float, high: float) -> Array:
    """`low`..`high` as 0..1, the rest cut, channel by channel."""
    from isocenter.ops.slabs import above, by_slab

    def cut(part: Array) -> Array:
        out = above(part, low)
        out /= np.float32(high - low)
        return np.asarray(np.clip(out, 0, 1, out=out))

    if len(voxels) == 1:
        return by_slab(cut, voxels[0], halo=0, threaded=True)
    return np.stack([by_slab(cut, channel, halo=0, threaded=True) for channel in voxels])
