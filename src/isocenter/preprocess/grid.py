"""The same image on another grid."""

from math import prod

import numpy as np
from pydantic import Field, field_validator

from isocenter.data.geometry import Geometry, Space
from isocenter.data.labels import LabelMap
from isocenter.data.length import Lengths
from isocenter.data.provenance import Step
from isocenter.data.step import Settings
from isocenter.data.volume import Volume
from isocenter.errors import DegenerateImage, GeometryError, UnitError
from isocenter.ops.resample import Interpolation
from isocenter.types import Array

_MOST_BYTES = 8 * 2**30
_WORLD_AXIS = {"L": 0, "R": 0, "P": 1, "A": 1, "S": 2, "I": 2}


class Orient(Settings):
    """Settings of `orient`."""

    to: str = "SPL"
    """Directions in which slices, rows and columns shall grow: one letter each of L/R, A/P, S/I. SPL is axial."""

    @field_validator("to")
    @classmethod
    def _three_axes(cls, letters: str) -> str:
        letters = letters.upper()
        if len(letters) != 3 or {_WORLD_AXIS.get(x) for x in letters} != {0, 1, 2}:
            raise ValueError(f"name each axis once with a letter of L/R, A/P and S/I, such as SPL; got {letters!r}")
        return letters


def orient(volume: Volume, settings: Orient) -> Volume:
    """Turn the axes by exchanges and flips only: no voxel changes its value or its place.

    Raises: UnitError outside patient space.
    """
    if volume.geometry.space is not Space.PATIENT:
        raise UnitError(f"an image in {volume.geometry.space} space has no patient directions to turn to")
    have = volume.geometry.axis_letters
    order = [next(i for i in range(3) if _WORLD_AXIS[have[i]] == _WORLD_AXIS[x]) for x in settings.to]
    geometry = volume.geometry.permute((order[0], order[1], order[2]))
    voxels: Array = volume.voxels.transpose(0, *(i + 1 for i in order))
    mask = None if volume.not_measured is None else volume.not_measured.transpose(order)
    for axis, letter in enumerate(settings.to):
        if have[order[axis]] != letter:
            geometry = geometry.flip(axis)
            voxels = np.flip(voxels, axis + 1)
            mask = None if mask is None else np.flip(mask, axis)
    step = Step("preprocess.orient", settings.model_dump(), {"from": "".join(have)})
    return volume.then(step, voxels=voxels, geometry=geometry, not_measured=mask)


class Resample(Settings):
    """Settings of `resample`."""

    spacing_mm: tuple[float, float, float] | float
    """New distance between voxel centres along (d, h, w), or one number for all."""
    interpolation: Interpolation = "linear"
    """`nearest`, `linear` or `cubic`."""

    @field_validator("spacing_mm")
    @classmethod
    def _sensible(cls, value: tuple[float, float, float] | float) -> tuple[float, float, float] | float:
        for s in value if isinstance(value, tuple) else (value,):
            if not 0.01 <= s <= 100:
                raise ValueError(f"a spacing lies between 0.01 and 100 mm; got {s:g}")
        return value


def resample(volume: Volume, settings: Resample) -> Volume:
    """Sample the image at another spacing over the same extent.

    Where the new spacing is coarser, a Gaussian of half the new spacing goes first, against aliasing (not for
    `nearest`). The field of view is kept to within half a new voxel; its centre stays.

    Raises: UnitError in PIXELS space.
    """
    from isocenter.ops import filter as filters
    from isocenter.ops.resample import resample as onto

    old = volume.geometry.spacing_mm
    wanted = settings.spacing_mm
    new = wanted if isinstance(wanted, tuple) else (wanted, wanted, wanted)
    shape = tuple(max(1, round(n * a / b)) for n, a, b in zip(volume.geometry.shape, old, new, strict=True))
    needed = prod(shape) * volume.channels * 4
    if needed > _MOST_BYTES:
        raise GeometryError(
            f"{shape} voxels would take {needed / 2**30:.1f} GiB, more than {_MOST_BYTES / 2**30:.0f}: "
            "use a coarser spacing"
        )
    geometry = _same_field(volume.geometry, (shape[0], shape[1], shape[2]), new)
    coarser = [0.5 * b / a if b > a * 1.01 else 0.0 for a, b in zip(old, new, strict=True)]
    channels = []
    for channel in volume.voxels:
        smooth = any(coarser) and settings.interpolation != "nearest"
        source = filters.gaussian(channel, sigma=(coarser[0], coarser[1], coarser[2])) if smooth else channel
        low = float(source.min())
        channels.append(
            onto(
                source,
                affine=volume.geometry.affine,
                to_shape=geometry.shape,
                to_affine=geometry.affine,
                interpolation=settings.interpolation,
                outside=low,
            )
        )
    step = Step("preprocess.resample", settings.model_dump(mode="json"), {"from_mm": list(old), "shape": list(shape)})
    mask = None
    if volume.not_measured is not None:
        touched = onto(
            volume.not_measured.view(np.uint8),
            affine=volume.geometry.affine,
            to_shape=geometry.shape,
            to_affine=geometry.affine,
        )
        mask = np.asarray(touched > 1e-3)
    return volume.then(step, voxels=np.stack(channels), geometry=geometry, not_measured=mask)


def _same_field(old: Geometry, shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Geometry:
    """A grid of another spacing with the same centre."""
    affine = np.eye(4)
    affine[:3, :3] = old.directions * np.asarray(spacing)
    centre = old.index_to_world((np.asarray([old.shape], dtype=np.float64) - 1) / 2)[0]
    affine[:3, 3] = centre - affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    return Geometry(shape, affine, old.space, old.frame_uid)


class Onto(Settings):
    """Settings of `onto`."""

    interpolation: Interpolation = "linear"
    """`nearest`, `linear` or `cubic`."""


def onto(volume: Volume, other: Volume, settings: Onto) -> Volume:
    """Sample the image on the grid of another volume.

    Where the other grid leaves this image, voxels get the darkest value and count as not measured.

    Raises: GeometryError where the two do not share a space.
    """
    from isocenter.ops.resample import resample as sampled

    require_one_space(volume.geometry, other.geometry)
    old, new = volume.geometry, other.geometry
    coarser = [0.5 * b / a if b > a * 1.01 else 0.0 for a, b in zip(old.steps, new.steps, strict=True)]
    smooth = any(coarser) and settings.interpolation != "nearest"
    channels = []
    for channel in volume.voxels:
        source = filtered(channel, coarser) if smooth else channel
        channels.append(
            sampled(
                source,
                affine=old.affine,
                to_shape=new.shape,
                to_affine=new.affine,
                interpolation=settings.interpolation,
                outside=float(source.min()),
            )
        )
    del source
    known = np.ones(old.shape, np.uint8) if volume.not_measured is None else (~volume.not_measured).view(np.uint8)
    how: Interpolation = "nearest" if volume.not_measured is None else "linear"  # what touches a filled voxel counts
    seen = sampled(known, affine=old.affine, to_shape=new.shape, to_affine=new.affine, interpolation=how)
    step = Step("preprocess.onto", settings.model_dump(), {"from_mm": list(old.steps), "shape": list(new.shape)})
    mask = np.asarray(seen < 0.999)
    voxels = channels[0] if len(channels) == 1 else np.stack(channels)
    return volume.then(step, voxels=voxels, geometry=new, not_measured=mask)


def filtered(channel: Array, sigma: list[float]) -> Array:
    """Smoothed against aliasing; `sigma` in voxels."""
    from isocenter.ops import filter as filters

    return filters.gaussian(channel, sigma=(sigma[0], sigma[1], sigma[2]))


def require_one_space(one: Geometry, other: Geometry) -> None:
    """Refuse two images whose coordinates mean different things.

    Raises: GeometryError.
    """
    if one.space is not other.space:
        raise GeometryError(
            f"one image lies in {one.space} space, the other in {other.space} space: no point of one is a point of "
            "the other; give two images of the same kind"
        )


class Crop(Lengths):
    """Settings of `crop`."""

    margin_mm: float | None = Field(0.0, ge=0, le=500)
    """Kept around the content, in millimetres."""
    margin_px: int | None = Field(None, ge=0, le=10_000)
    """The same in voxels, for images without millimetres."""


def crop(volume: Volume, settings: Crop, *, within: LabelMap | None = None) -> Volume:
    """Cut the grid to the mask, or to what is not background (the darkest value).

    Raises: DegenerateImage if there is nothing to keep.
    """
    from isocenter.ops.morphology import bounding_box

    grid = volume.grid
    content = within.within(volume.geometry) if within else np.asarray(grid > grid.min())
    none = settings.length("margin") == 0
    margin = (0, 0, 0) if none else settings.margin("margin", volume.geometry)
    box = bounding_box(content, margin=margin)
    if not grid[box].size:
        raise DegenerateImage("there is nothing to crop to: the mask is empty or the image is flat")
    start, stop = [b.start for b in box], [b.stop for b in box]
    step = Step("preprocess.crop", settings.model_dump(exclude_none=True), {"start": start, "stop": stop})
    mask = None if volume.not_measured is None else volume.not_measured[box]
    geometry = volume.geometry.crop(start, stop)
    return volume.then(step, voxels=volume.voxels[(slice(None), *box)], geometry=geometry, not_measured=mask)


class Pad(Lengths):
    """Settings of `pad`."""

    margin_mm: float | None = Field(None, ge=0, le=500)
    """Added on every side, in millimetres; an axis of one voxel stays."""
    margin_px: int | None = Field(None, ge=0, le=1000)
    """The same in voxels, for images without millimetres."""
    value: float | None = None
    """Of the new voxels, in the image's unit; none: the darkest value."""


def pad(volume: Volume, settings: Pad) -> Volume:
    """Add voxels around the image; they count as not measured.

    Raises: UnitError in PIXELS space for a margin in millimetres; GeometryError for a grid that becomes too big.
    """
    margin = settings.margin("margin", volume.geometry)
    wide = [(0, 0) if n == 1 else (m, m) for n, m in zip(volume.geometry.shape, margin, strict=True)]
    shape = [n + a + b for n, (a, b) in zip(volume.geometry.shape, wide, strict=True)]
    needed = prod(shape) * volume.channels * volume.voxels.dtype.itemsize
    if needed > _MOST_BYTES:
        raise GeometryError(f"{tuple(shape)} voxels would take {needed / 2**30:.1f} GiB: use a smaller margin")
    kind = volume.voxels.dtype
    value = volume.voxels.min() if settings.value is None else settings.value
    limits = np.finfo(kind) if kind.kind == "f" else np.iinfo(kind)
    if not float(limits.min) <= float(value) <= float(limits.max) or (kind.kind != "f" and value != int(value)):
        raise GeometryError(f"the value {value:g} cannot stand in an image of {volume.voxels.dtype}")
    voxels = np.pad(volume.voxels, [(0, 0), *wide], constant_values=value)
    known = np.zeros(volume.geometry.shape, np.bool_) if volume.not_measured is None else volume.not_measured
    mask = np.pad(known, wide, constant_values=True)
    start = [-a for a, _ in wide]
    geometry = volume.geometry.crop(start, [n + a for n, a in zip(shape, start, strict=True)])
    step = Step("preprocess.pad", settings.model_dump(exclude_none=True), {"voxels": [list(w) for w in wide]})
    return volume.then(step, voxels=voxels, geometry=geometry, not_measured=mask)
