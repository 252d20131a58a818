"""From a volume to what a network eats, and back: one preparation for training and prediction alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from isocenter.data.geometry import Geometry, Space
from isocenter.data.labels import LabelMap
from isocenter.data.volume import Volume
from isocenter.errors import DegenerateImage, GeometryError
from isocenter.ops.resample import resample
from isocenter.types import Affine, Array, Float32, Integer, LabelGrid

Intensity = Literal["zscore", "foreground", "percentile", "range", "none"]


class Preparation(BaseModel):
    """How an image is laid out and scaled before a network sees it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    dims: Literal[2, 3] = Field(default=3, description="2: each slice by itself; 3: the volume.")
    orient: bool = Field(
        default=False, description="Axes are turned to inferior-superior, anterior-posterior, right-left first."
    )
    spacing_mm: tuple[float, float, float] | None = Field(
        default=None, description="Grid of the network (d, h, w); None: the image's own."
    )
    size: tuple[int, ...] | None = Field(
        default=None, description="Whole images are brought to this size; classifiers only."
    )
    channels: int = Field(default=1, ge=1, description="Channels of the input.")
    may_lack: bool = Field(default=False, description="Modalities may be absent: their channels are 0 then.")
    intensity: Intensity = Field(
        default="zscore",
        description="zscore: mean 0, deviation 1 of each image. foreground: clipped and scaled by the training set's "
        "own foreground (units such as HU). percentile: 0.5 % to 99.5 % of each image become 0 to 1. range: `low` to "
        "`high` become 0 to 1.",
    )
    low: tuple[float, ...] = Field(default=(), description="foreground, range: lower bound of each channel.")
    high: tuple[float, ...] = Field(default=(), description="foreground, range: upper bound of each channel.")
    mean: tuple[float, ...] = Field(default=(), description="foreground: mean of each channel.")
    deviation: tuple[float, ...] = Field(default=(), description="foreground: deviation of each channel.")

    @model_validator(mode="after")
    def _fits(self) -> "Preparation":
        if self.spacing_mm is not None and not all(0 < s < 1e4 for s in self.spacing_mm):
            raise ValueError(f"spacing_mm is above 0 along each axis; got {self.spacing_mm}")
        if self.size is not None and (len(self.size) != self.dims or not all(0 < n <= 4096 for n in self.size)):
            raise ValueError(f"size has {self.dims} edges of 1 to 4096; got {self.size}")
        if not all(d >= 1e-12 for d in self.deviation):
            raise ValueError(f"deviation is above 0; got {self.deviation}")
        if any(low > high for low, high in zip(self.low, self.high, strict=False)):
            raise ValueError(f"low lies below high; got {self.low} and {self.high}")
        wanted = {"range": ("low", "high"), "foreground": ("low", "high", "mean", "deviation")}.get(self.intensity, ())
        for name in wanted:
            if len(getattr(self, name)) != self.channels:
                raise ValueError(
                    f"intensity {self.intensity} needs {name}: one number for each of {self.channels} channels"
                )
        return self


_MOST_VALUES = 2_000_000
"""Voxels from which percentiles are taken."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """What a network eats.

    Args:
        array: `c d h w`.
        affine: index -> world of its grid.
        onto: the image's own grid, on which answers are given.
        absent: numbers of the channels that the case lacks.
        scales: what was subtracted from each channel, and what it was divided by.
    """

    array: Float32[Array, "c d h w"]
    affine: Affine
    onto: Geometry
    scales: tuple[tuple[float, float], ...]
    absent: tuple[int, ...] = ()

    def in_units(self, values: Float32[Array, "c *s"]) -> Float32[Array, "c *s"]:
        """Numbers of the network in the unit of the image."""
        return np.stack([v * np.float32(b) + np.float32(a) for v, (a, b) in zip(values, self.scales, strict=True)])

    def back(self, labels: LabelGrid) -> Integer[Array, "od oh ow"]:
        """A label map on the network's grid, brought onto the image's own."""
        if labels.shape == self.onto.shape and np.allclose(self.affine, self.onto.affine):
            return labels
        return _moved(labels, self.affine, self.onto.shape, self.onto.affine, nearest=True)

    def field(self, values: Float32[Array, "d h w"]) -> Float32[Array, "od oh ow"]:
        """Numbers on the network's grid (a probability, a map), brought onto the image's own."""
        if values.shape == self.onto.shape and np.allclose(self.affine, self.onto.affine):
            return values
        return _moved(values, self.affine, self.onto.shape, self.onto.affine, nearest=False)


def _moved(grid: Array, affine: Affine, shape: tuple[int, int, int], to: Affine, *, nearest: bool) -> Array:
    """`grid` on another grid; beyond its edge its nearest voxels."""
    edge = [(2, 2)] * 3
    padded = np.pad(grid, edge, mode="edge")  # centres of an edge voxel's outer half lie outside the old grid
    shifted = affine @ np.array([[1, 0, 0, -2.0], [0, 1, 0, -2.0], [0, 0, 1, -2.0], [0, 0, 0, 1]])
    return resample(
        padded, affine=shifted, to_shape=shape, to_affine=to, interpolation="nearest" if nearest else "linear"
    )


def prepare(volume: Volume, how: Preparation) -> Prepared:
    """Lay out and scale a volume as the network was trained to see it.

    Raises: GeometryError for channels that differ, or an image without millimetres where the network works in them;
        DegenerateImage for an image of one value, or with values that are no numbers.
    """
    absent = absent_channels(volume)
    if absent and not how.may_lack:
        raise GeometryError(f"image {absent[0] + 1} of the case is absent, and the model was not trained to do without")
    if len(absent) == volume.channels:
        raise GeometryError("every image of the case is absent")
    if not absent:
        volume.require_finite()
    voxels = volume.voxels
    if voxels.shape[0] != how.channels:
        if voxels.shape[0] == 3 and how.channels == 1 and not np.any(voxels != voxels[:1]):
            voxels = voxels[:1]  # grey in three equal channels
        elif voxels.shape[0] == 1 and how.channels == 3:
            voxels = np.repeat(voxels, 3, axis=0)
        else:
            raise GeometryError(f"the model takes {how.channels} channels, the image has {voxels.shape[0]}")
    measured = None if volume.not_measured is None else ~volume.not_measured
    array, scales = _scaled(np.asarray(voxels), measured, how, absent)
    shape, affine = target_grid(volume.geometry, how)
    if shape != volume.geometry.shape or not np.allclose(affine, volume.geometry.affine):
        array = np.stack(
            [
                _moved(_smoothed(c, volume.geometry, affine), volume.geometry.affine, shape, affine, nearest=False)
                for c in array
            ]
        )
    return Prepared(np.ascontiguousarray(array, np.float32), affine, volume.geometry, scales, absent)


def prepare_labels(labels: LabelMap, how: Preparation, values: Sequence[int]) -> LabelGrid:
    """A label map on the network's grid; `values[i]` becomes `i + 1`.

    Each label is resampled linearly by itself and the strongest wins, so that thin structures keep their width.
    """
    grid = labels.voxels
    shape, affine = target_grid(labels.geometry, how)
    same = shape == labels.geometry.shape and np.allclose(affine, labels.geometry.affine)
    numbers = np.zeros(grid.shape, np.uint8)
    for i, value in enumerate(values):
        numbers[grid == value] = i + 1
    if same:
        return numbers
    if affine_is_axis_permutation(labels.geometry.affine, affine):
        return _moved(numbers, labels.geometry.affine, shape, affine, nearest=True)
    best = np.full(shape, 0.5, np.float32)
    out = np.zeros(shape, np.uint8)
    for number in range(1, len(values) + 1):
        share = _moved((numbers == number).astype(np.float32), labels.geometry.affine, shape, affine, nearest=False)
        won = share >= best
        out[won], best[won] = number, share[won]
    return out


def affine_is_axis_permutation(one: Affine, other: Affine) -> bool:
    """The two grids share their voxel centres' spacing and directions, up to order and sign of the axes."""
    relative = np.abs(np.linalg.solve(one, other)[:3, :3])
    return bool(
        np.allclose(np.sort(relative, axis=0)[:2], 0, atol=1e-4) and np.allclose(relative.max(axis=0), 1, atol=1e-4)
    )


def target_grid(geometry: Geometry, how: Preparation) -> tuple[tuple[int, int, int], Affine]:
    """Shape and affine of the network's grid over an image.

    Raises: GeometryError for an image without millimetres where the network works in them.
    """
    own = oriented(geometry) if how.orient and geometry.space is Space.PATIENT else geometry
    if how.size is not None:
        wanted = (own.shape[0], *how.size) if how.dims == 2 else how.size
        return _regrid(own, (int(wanted[0]), int(wanted[1]), int(wanted[2])))
    if how.spacing_mm is None:
        return own.shape, own.affine
    steps = own.spacing_mm
    keep = 1 if how.dims == 2 else 0
    shape = [max(1, round(n * s / t)) for n, s, t in zip(own.shape, steps, how.spacing_mm, strict=True)]
    if keep:
        shape[0] = own.shape[0]
    for axis, (n, s, t) in enumerate(zip(own.shape, steps, how.spacing_mm, strict=True)):
        if abs(s / t - 1) < 0.01:
            shape[axis] = n  # within a percent it is the same spacing
    return _regrid(own, (shape[0], shape[1], shape[2]))


def _regrid(own: Geometry, shape: tuple[int, int, int]) -> tuple[tuple[int, int, int], Affine]:
    """A grid of another shape over the same extent."""
    scale = np.array([n / m for n, m in zip(own.shape, shape, strict=True)])
    change = np.eye(4)
    change[:3, :3] = np.diag(scale)
    change[:3, 3] = (scale - 1) / 2
    return shape, own.affine @ change


def oriented(geometry: Geometry) -> Geometry:
    """The same grid with its axes in the order and sense of the patient: superior, posterior, left."""
    directions = geometry.directions
    order = [0, 0, 0]
    free = [0, 1, 2]
    for world in (2, 1, 0):
        best = max(free, key=lambda axis: abs(directions[world, axis]))
        order[2 - world] = best
        free.remove(best)
    found = geometry.permute((order[0], order[1], order[2]))
    for axis, world in enumerate((2, 1, 0)):
        if found.directions[world, axis] < 0:
            found = found.flip(axis)
    return found


def _smoothed(grid: Array, geometry: Geometry, affine: Affine) -> Array:
    """A grid blurred along each axis on which fewer voxels are taken, so that nothing finer folds back."""
    from scipy import ndimage

    relative = np.linalg.solve(geometry.affine, affine)[:3, :3]
    steps = np.abs(relative).max(axis=1)
    sigmas = [0.0 if s <= 1.05 else float(np.sqrt(max(0.0, s**2 - 1)) / 2.355) for s in steps]
    return np.asarray(ndimage.gaussian_filter(grid, sigmas)) if any(sigmas) else grid


def absent_channels(volume: Volume) -> tuple[int, ...]:
    """Channels of modalities that the case lacks: nothing in them is a number."""
    if volume.channels == 1 or volume.voxels.dtype.kind != "f":
        return ()
    return tuple(i for i, c in enumerate(volume.voxels) if np.isnan(c.flat[0]) and bool(np.isnan(c).all()))


def scales_again(array: Float32[Array, "c d h w"], how: Preparation) -> tuple[tuple[float, float], ...]:
    """What is subtracted from, and divides, each channel of a prepared image that was changed since.

    Nothing, and 1, where the preparation does not look at the image itself.
    """
    if how.intensity not in ("zscore", "percentile"):
        return ((0.0, 1.0),) * len(array)
    return tuple(_scale_of(channel, None, how, i)[2:] for i, channel in enumerate(array))


def _scaled(
    array: Array, measured: Array | None, how: Preparation, absent: Sequence[int] = ()
) -> tuple[Float32[Array, "c d h w"], tuple[tuple[float, float], ...]]:
    """Intensities as the network was trained to see them, slice by slice, so that memory stays flat."""
    out = np.empty(array.shape, np.float32)
    scales = []
    for i, channel in enumerate(array):
        if i in absent:
            out[i] = 0
            scales.append((0.0, 1.0))
            continue
        if absent and not np.isfinite(channel).all():
            raise DegenerateImage(f"image {i + 1} of the case holds values that are no numbers")
        low, high, offset, scale = _scale_of(channel, measured, how, i)
        scales.append((offset, scale))
        for plane, target in zip(channel, out[i], strict=True):
            np.copyto(target, plane, casting="unsafe")
            if low is not None:
                np.clip(target, low, high, out=target)
            np.subtract(target, offset, out=target)
            np.multiply(target, 1 / scale, out=target)
            if how.intensity == "percentile":
                np.clip(target, -0.5, 1.5, out=target)
    return out, tuple(scales)


def _scale_of(
    channel: Array, measured: Array | None, how: Preparation, i: int
) -> tuple[float | None, float | None, float, float]:
    """Bounds to clip at, then what is subtracted and divided by.

    Raises: DegenerateImage for one value only.
    """
    if how.intensity == "none":
        return None, None, 0.0, 1.0
    if how.intensity == "range":
        return None, None, how.low[i], (how.high[i] - how.low[i]) or 1.0
    if how.intensity == "foreground":
        return how.low[i], how.high[i], how.mean[i], how.deviation[i] or 1.0
    planes = list(channel) if measured is None else [p[keep] for p, keep in zip(channel, measured, strict=True)]
    there = [plane for plane in planes if plane.size]
    least, most = (float(f(g(p) for p in there)) if there else 0.0 for f, g in ((min, np.min), (max, np.max)))
    if least == most:
        raise DegenerateImage("the image holds one value only: there is nothing to scale by, and nothing to see")
    if how.intensity == "zscore":
        count = sum(p.size for p in there)
        mean = sum(float(p.sum(dtype=np.float64)) for p in there) / count
        square = sum(float(np.square(p.astype(np.float64) - mean).sum()) for p in there) / count
        return None, None, mean, float(np.sqrt(square)) or 1.0
    step = max(1, sum(p.size for p in there) // _MOST_VALUES)
    some = np.concatenate([p.ravel()[::step] for p in there])
    low, high = (float(v) for v in np.percentile(some, (0.5, 99.5)))
    return None, None, low, (high - low) or 1.0
