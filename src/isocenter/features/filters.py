"""Filters whose response maps are described beside the image itself (IBSI 2)."""

from math import ceil, pi
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, field_validator

from isocenter.data.step import Settings
from isocenter.errors import UnitError
from isocenter.features.catalogue import Family
from isocenter.types import Array, Triple


class _Filter(Settings):
    features: tuple[Family, ...] = ("statistics",)
    """Families computed on the response; statistics are what the standard compares."""
    boundary: Literal["zero", "nearest", "periodic", "mirror"] = "mirror"
    """How the image goes on beyond its edges."""


class MeanFilter(_Filter):
    """Mean over a cube."""

    filter: Literal["mean"] = "mean"
    """Its name."""
    size: int = Field(15, ge=3, le=201)
    """Voxels along each side, odd."""
    flat: bool = False
    """Within slices."""

    @field_validator("size")
    @classmethod
    def _odd(cls, size: int) -> int:
        if size % 2 == 0:
            raise ValueError(f"a mean is about a voxel: its size is odd; got {size}")
        return size


class LogFilter(_Filter):
    """Laplacian of a Gaussian."""

    filter: Literal["log"] = "log"
    """Its name."""
    sigma_mm: float = Field(gt=0, le=100)
    """Standard deviation of the Gaussian."""
    truncate: float = Field(4.0, ge=1, le=10)
    """Where the kernel ends, in sigmas."""
    flat: bool = False
    """Within slices."""


class LawsFilter(_Filter):
    """Laws' texture kernels."""

    filter: Literal["laws"] = "laws"
    """Its name."""
    kernels: str = Field("L5E5E5", pattern=r"^([LESWR]5|[LES]3){2,3}$")
    """Along x, y and z; two for slices."""
    rotations: bool = True
    """Pool over all right-angled rotations."""
    pooling: Literal["max", "mean"] = "max"
    """How responses are pooled."""
    energy: int = Field(7, ge=0, le=50)
    """Mean absolute response over so many voxels each way; 0: the response itself."""


class GaborFilter(_Filter):
    """Modulus of Gabor responses in slices."""

    filter: Literal["gabor"] = "gabor"
    """Its name."""
    sigma_mm: float = Field(gt=0, le=100)
    """Width of the Gaussian."""
    wavelength_mm: float = Field(gt=0, le=400)
    """Of the wave."""
    gamma: float = Field(1.0, ge=0.1, le=10)
    """How much shorter the kernel is across the wave."""
    theta_degrees: float = 0.0
    """Angle of the wave, from columns towards rows; not used with several orientations."""
    orientations: int = Field(1, ge=1, le=72)
    """Mean over so many angles, a full turn."""
    orthogonal: bool = False
    """Mean over slices along all three axes."""


class WaveletFilter(_Filter):
    """Undecimated separable wavelet."""

    filter: Literal["wavelet"] = "wavelet"
    """Its name."""
    wavelet: str = Field("coif1", pattern=r"^(haar|db([1-9]|[12]\d|3[0-8])|coif([1-9]|1[0-7])|sym([2-9]|1\d|20))$")
    """Haar, Daubechies, Coiflet or Symlet, as `db2`."""
    kernel: str = Field(pattern=r"^[LH]{2,3}$")
    """L (low) or H (high) along x, y and z; two letters for slices."""
    level: int = Field(1, ge=1, le=6)
    """1 is the finest."""
    rotations: bool = False
    """Mean over all right-angled rotations."""


class SimoncelliFilter(_Filter):
    """Isotropic Simoncelli wavelet, and its Riesz transform."""

    filter: Literal["simoncelli"] = "simoncelli"
    """Its name."""
    boundary: Literal["zero", "nearest", "periodic", "mirror"] = "periodic"
    """Only periodic: the filter lives in the frequency domain."""
    level: int = Field(1, ge=1, le=8)
    """1 is the finest."""
    riesz: tuple[int, int, int] = (0, 0, 0)
    """Order of the Riesz transform along x, y, z."""


class RieszFilter(_Filter):
    """Riesz transform of a Laplacian of a Gaussian."""

    filter: Literal["riesz_log"] = "riesz_log"
    """Its name."""
    sigma_mm: float = Field(gt=0, le=100)
    """Standard deviation of the Gaussian."""
    riesz: tuple[int, int, int] = (1, 0, 0)
    """Order along x, y, z."""


Filter = Annotated[
    MeanFilter | LogFilter | LawsFilter | GaborFilter | WaveletFilter | SimoncelliFilter | RieszFilter,
    Field(discriminator="filter"),
]
"""One filter; `filter` says which."""


def name_of(chosen: Filter) -> str:
    """What its features' names begin with: the filter and what was stated of it."""
    stated = chosen.model_dump(exclude={"filter", "features", "boundary"}, exclude_defaults=True)
    parts = [f"{key.removesuffix('_mm')}_{_short(value)}" for key, value in stated.items()]
    return "_".join([chosen.filter, *parts])


def _short(value: object) -> str:
    if isinstance(value, tuple):
        return "".join(str(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def reach_of(chosen: Filter, spacing_mm: Triple) -> tuple[int, int, int] | None:
    """How many voxels away along (d, h, w) its response still depends on; None: on the whole image."""
    if chosen.filter == "mean":
        return (chosen.size,) * 3
    if chosen.filter == "log":
        d, h, w = (ceil(chosen.truncate * chosen.sigma_mm / s) + 1 for s in spacing_mm)
        return d, h, w
    if chosen.filter == "laws":
        return (6 + 2 * chosen.energy,) * 3
    if chosen.filter == "gabor":
        d, h, w = (ceil(4.5 * chosen.sigma_mm * max(1, 1 / chosen.gamma) / s) + 2 for s in spacing_mm)
        return d, h, w
    if chosen.filter == "wavelet":
        import pywt

        return (pywt.Wavelet(chosen.wavelet).dec_len * 2**chosen.level,) * 3
    return None


def response(grid: Array, chosen: Filter, spacing_mm: Triple) -> Array:
    """The response map of one filter.

    Raises: UnitError for a Gabor filter on voxels that are no squares (cubes, with orthogonal slices).
    """
    from isocenter.ops import response as ops

    if chosen.filter == "mean":
        return ops.mean(grid, chosen.size, flat=chosen.flat, boundary=chosen.boundary)
    if chosen.filter == "log":
        d, h, w = (chosen.sigma_mm / s for s in spacing_mm)
        return ops.laplacian_of_gaussian(
            grid, (d, h, w), truncate=chosen.truncate, flat=chosen.flat, boundary=chosen.boundary
        )
    if chosen.filter == "laws":
        return ops.laws(
            grid, chosen.kernels, rotations=chosen.rotations, pooling=chosen.pooling, energy=chosen.energy,
            boundary=chosen.boundary,
        )  # fmt: skip
    if chosen.filter == "wavelet":
        return ops.wavelet(
            grid, chosen.wavelet, kernel=chosen.kernel, level=chosen.level, rotations=chosen.rotations,
            boundary=chosen.boundary,
        )  # fmt: skip
    if chosen.filter == "simoncelli":
        return ops.simoncelli(grid, level=chosen.level, riesz=chosen.riesz)
    if chosen.filter == "riesz_log":
        d, h, w = (chosen.sigma_mm / s for s in spacing_mm)
        smooth = ops.laplacian_of_gaussian(grid, (d, h, w), flat=False, boundary=chosen.boundary)
        return ops.riesz_transform(smooth, chosen.riesz)
    sides = spacing_mm if chosen.orthogonal else spacing_mm[1:]
    if np.ptp(sides) > 1e-3 * max(sides):
        raise UnitError(
            f"a Gabor filter needs voxels with equal sides, and these have {spacing_mm} mm: state spacing_mm"
        )
    return ops.gabor(
        grid, sigma=chosen.sigma_mm / sides[0], wavelength=chosen.wavelength_mm / sides[0], gamma=chosen.gamma,
        theta=chosen.theta_degrees * pi / 180, steps=chosen.orientations, orthogonal=chosen.orthogonal,
        boundary=chosen.boundary,
    )  # fmt: skip
