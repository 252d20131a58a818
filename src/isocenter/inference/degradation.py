"""How a good image becomes a poor one: what a network that makes images better has to undo."""

from math import prod
from zlib import crc32

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator
from scipy import ndimage

from isocenter.data.geometry import Geometry
from isocenter.errors import InputError
from isocenter.types import Array

Steps = tuple[int, int, int]


class Degradation(BaseModel):
    """What makes an image poorer: coarser voxels, blur, noise, in this order."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    factor: Steps = Field(
        default=(1, 1, 1), description="Voxels (d, h, w) that become one, by their mean; one number: of each axis."
    )
    blur: float = Field(default=0.0, ge=0, le=10, description="Deviation of a Gaussian, in voxels of the good image.")
    noise: float = Field(
        default=0.0, ge=0, le=5, description="Deviation of Gaussian noise, as a share of the good image's deviation."
    )

    @field_validator("factor", mode="before")
    @classmethod
    def _each_axis(cls, value: object) -> object:
        return (value,) * 3 if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("factor")
    @classmethod
    def _is_small(cls, value: Steps) -> Steps:
        if not all(1 <= n <= 8 for n in value):
            raise ValueError(f"a factor is from 1 to 8; got {value}")
        return value

    @property
    def finer(self) -> bool:
        """An answer has a finer grid than its image."""
        return prod(self.factor) > 1

    @property
    def words(self) -> str:
        """What is done, as `2 x 2 x 2 voxels become one, noise of 0.3`."""
        parts = []
        if self.blur:
            parts.append(f"blur of {self.blur:g} voxels")
        if self.finer:
            parts.append(f"{' x '.join(map(str, self.factor))} voxels become one")
        if self.noise:
            parts.append(f"noise of {self.noise:g} deviations")
        return ", ".join(parts) or "nothing"


def degraded(image: Array, how: Degradation, rng: np.random.Generator, *, deviation: float = 1.0) -> Array:
    """A poor image from a good one.

    Args:
        image: `c d h w`; what does not fill a coarse voxel at the end of an axis is cut off.
        how: what is done.
        rng: of the noise.
        deviation: of the good image: of this the noise is a share.
    """
    found = np.asarray(image, np.float32)
    if how.blur:
        sigmas = (0.0, *(how.blur if n > 1 else 0.0 for n in found.shape[1:]))
        found = ndimage.gaussian_filter(found, sigmas, mode="nearest")
    found = coarser(found, own_factor(how, found.shape))
    if how.noise:
        found = found + rng.normal(0, how.noise * deviation, found.shape).astype(np.float32)
    return np.asarray(found, np.float32)


def noise_of(case: str) -> np.random.Generator:
    """The noise of a case: the same each time, in training and in judgement."""
    return np.random.default_rng(crc32(case.encode()))


def whole_blocks(image: Array, how: Degradation) -> Array:
    """`c d h w` without what does not fill a coarse voxel at the end of an axis.

    Raises: InputError for an image that is smaller than two coarse voxels.
    """
    factor = own_factor(how, image.shape)
    counts = [n // f for n, f in zip(image.shape[1:], factor, strict=True)]
    if prod(counts) < 2:
        raise InputError(f"has {image.shape[1:]} voxels, too few for coarse ones of {factor}")
    return image[(slice(None), *(slice(0, n * f) for n, f in zip(counts, factor, strict=True)))]


def own_factor(how: Degradation, shape: tuple[int, ...]) -> Steps:
    """The factor along each axis of a `c d h w` image: 1 where there is one voxel only."""
    d, h, w = (f if n > 1 else 1 for f, n in zip(how.factor, shape[1:], strict=True))
    return d, h, w


def coarser(image: Array, factor: Steps) -> Array:
    """Means over blocks of `c d h w`: what a scanner with larger voxels measures."""
    if prod(factor) == 1:
        return image
    counts = [n // f for n, f in zip(image.shape[1:], factor, strict=True)]
    inside = image[(slice(None), *(slice(0, n * f) for n, f in zip(counts, factor, strict=True)))]
    shape = [image.shape[0]]
    for n, f in zip(counts, factor, strict=True):
        shape += [n, f]
    return np.asarray(inside.reshape(shape).mean(axis=(2, 4, 6)))


def finer(image: Array, factor: Steps) -> Array:
    """Cubic interpolation of `c d h w` onto voxels that are smaller by a factor, over the same extent.

    Source: M. Unser, IEEE Signal Process. Mag. 16(6):22-38, 1999 (splines; `scipy.ndimage.zoom` in grid mode).
    """
    if prod(factor) == 1:
        return image
    grown = [ndimage.zoom(channel, factor, order=3, mode="nearest", grid_mode=True) for channel in image]
    return np.asarray(np.stack(grown), np.float32)


def finer_grid(geometry: Geometry, factor: Steps) -> Geometry:
    """The grid of voxels that are smaller by a factor, over the same extent."""
    return _scaled(geometry, tuple(n * f for n, f in zip(geometry.shape, factor, strict=True)), factor, inverse=True)


def coarser_grid(geometry: Geometry, factor: Steps) -> Geometry:
    """The grid of blocks of voxels; what does not fill one at the end of an axis is cut off."""
    return _scaled(geometry, tuple(n // f for n, f in zip(geometry.shape, factor, strict=True)), factor, inverse=False)


def _scaled(geometry: Geometry, shape: tuple[int, ...], factor: Steps, *, inverse: bool) -> Geometry:
    scale = np.asarray(factor, np.float64)
    scale = 1 / scale if inverse else scale
    change = np.eye(4)
    change[:3, :3] = np.diag(scale)
    change[:3, 3] = (scale - 1) / 2  # the corner stays where it is
    return Geometry((shape[0], shape[1], shape[2]), geometry.affine @ change, geometry.space, geometry.frame_uid)
