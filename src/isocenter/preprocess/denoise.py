"""Less noise. Every step keeps the unit."""

from collections.abc import Callable

import numpy as np
from pydantic import Field

from isocenter.data.geometry import Geometry, Space
from isocenter.data.length import Lengths
from isocenter.data.provenance import Json, Step
from isocenter.data.step import Settings
from isocenter.data.volume import Volume
from isocenter.errors import DegenerateImage
from isocenter.types import Array, Grid, Triple

_MOST_VOXELS = 5


class Gaussian(Lengths):
    """Settings of `gaussian`."""

    sigma_mm: float | None = Field(None, gt=0, le=50)
    """Standard deviation of the kernel in millimetres."""
    sigma_px: float | None = Field(None, gt=0, le=100)
    """The same in voxels, for images without millimetres."""


def gaussian(volume: Volume, settings: Gaussian) -> Volume:
    """Smooth with a Gaussian; blurs edges, keeps the mean.

    Use it before thresholds and derivatives, and where the noise is even and edges need not stay sharp.

    Raises: UnitError in PIXELS space.
    """
    from isocenter.ops import filter as filters

    sigma = settings.voxels("sigma", volume.geometry)
    return _each(volume, lambda grid: filters.gaussian(grid, sigma=sigma), Step("preprocess.gaussian", _said(settings)))


class Box(Lengths):
    """Settings of `mean` and `median`."""

    radius_mm: float | None = Field(None, gt=0, le=20)
    """The box reaches to every neighbour whose distance along its axis is at most this."""
    radius_px: int | None = Field(None, gt=0, le=20)
    """The same in voxels, for images without millimetres."""


def mean(volume: Volume, settings: Box) -> Volume:
    """Replace each voxel by the mean of a box; the fastest smoothing, blurs most.

    Along an axis whose voxels lie farther apart than the radius, nothing is mixed. Use it for local averages, not
    for pictures: a Gaussian of a like width leaves fewer artefacts.

    Raises: UnitError in PIXELS space.
    """
    from isocenter.ops import filter as filters

    radius = settings.reach("radius", volume.geometry)
    step = Step("preprocess.mean", _said(settings), _reached(radius))
    return _each(volume, lambda grid: filters.mean(grid, radius=radius), step)


def median(volume: Volume, settings: Box) -> Volume:
    """Replace each voxel by the median of a box; removes specks, keeps edges.

    Along an axis whose voxels lie farther apart than the radius, nothing is mixed. Use it against impulse noise
    and single bright voxels; it rounds corners and removes lines thinner than the box.

    Raises: UnitError in PIXELS space.
    """
    from isocenter.ops import filter as filters

    radius = settings.reach("radius", volume.geometry)
    if max(radius) > _MOST_VOXELS:
        most = _MOST_VOXELS * min(settings.spacing_for("radius", volume.geometry))
        raise DegenerateImage(
            f"a median over {2 * max(radius) + 1} voxels along an axis takes hours; lower the radius to at most "
            f"{most:.3g}, or resample first"
        )
    step = Step("preprocess.median", _said(settings), _reached(radius))
    return _each(volume, lambda grid: filters.median(grid, radius=radius), step)


def _reached(radius: tuple[int, int, int]) -> dict[str, Json]:
    """The box, and that it changes nothing where it reaches no neighbour."""
    note = {} if any(radius) else {"note": "the radius reaches no neighbour: nothing was changed"}
    return {"radius_voxels": list(radius), **note}


class Bilateral(Lengths):
    """Settings of `bilateral`."""

    sigma_mm: float | None = Field(None, gt=0, le=10)
    """Standard deviation of the neighbourhood in millimetres."""
    sigma_px: float | None = Field(None, gt=0, le=10)
    """The same in voxels, for images without millimetres."""
    contrast: float | None = Field(None, gt=0)
    """Standard deviation of the intensities that are mixed, in the image's unit; none: 2.5 times the noise."""


def bilateral(volume: Volume, settings: Bilateral) -> Volume:
    """Smooth within regions: a neighbour counts less the more its intensity differs.

    Use it for small, noisy pictures with clear edges. It is slow where the neighbourhood is large.

    Raises: UnitError in PIXELS space; DegenerateImage where no noise can be estimated, or it would take hours.
    """
    from isocenter.ops import filter as filters

    spacing = settings.spacing_for("sigma", volume.geometry)
    sigma = settings.length("sigma")
    count = np.prod([2 * np.ceil(2.5 * s) + 1 for s in settings.voxels("sigma", volume.geometry)])
    if count > 20_000:
        raise DegenerateImage(f"a neighbourhood of {count:.0f} voxels takes hours; lower sigma, or resample first")
    contrast = settings.contrast or 2.5 * _noise(volume)
    step = Step("preprocess.bilateral", _said(settings), {"contrast": contrast})
    return _each(volume, lambda grid: filters.bilateral(grid, sigma=sigma, spacing=spacing, contrast=contrast), step)


class NonLocalMeans(Lengths):
    """Settings of `non_local_means`."""

    patch_mm: float | None = Field(1.0, gt=0, le=10)
    """Radius of the surroundings that are compared, in millimetres; at least one voxel along each axis."""
    patch_px: int | None = Field(None, gt=0, le=5)
    """The same in voxels, for images without millimetres."""
    search_mm: float | None = Field(3.0, gt=0, le=30)
    """Radius in which alike voxels are looked for, in millimetres; at least one voxel along each axis."""
    search_px: int | None = Field(None, gt=0, le=15)
    """The same in voxels, for images without millimetres."""
    strength: float = Field(1.0, gt=0, le=10)
    """Differences of this many standard deviations of the noise still count as alike."""


def non_local_means(volume: Volume, settings: NonLocalMeans) -> Volume:
    """Average voxels whose surroundings look alike; keeps texture and edges best, and is slow.

    Use it on MR and CT with even noise. The noise is estimated from the image.

    Raises: UnitError in PIXELS space; DegenerateImage where no noise can be estimated, or the search is too large.
    """
    from isocenter.ops import denoise

    geometry = volume.geometry
    patch, search = (_at_least_one(settings.reach(name, geometry), geometry) for name in ("patch", "search"))
    if np.prod([2 * r + 1 for r in search]) > 8000:
        raise DegenerateImage(f"a search over {search} voxels to either side takes hours; lower search, or resample")
    noise = _noise(volume)
    found: dict[str, Json] = {"noise": noise, "patch_voxels": list(patch), "search_voxels": list(search)}

    def one(grid: Grid) -> Array:
        return denoise.non_local_means(
            grid, patch=patch, search=search, strength=settings.strength * noise, noise=noise
        )

    return _each(volume, one, Step("preprocess.non_local_means", _said(settings), found))


class TotalVariation(Settings):
    """Settings of `total_variation`."""

    strength: float = Field(1.0, gt=0, le=100)
    """Weight of the total variation, in standard deviations of the noise."""
    iterations: int = Field(100, ge=1, le=2000)
    """At most."""


def total_variation(volume: Volume, settings: TotalVariation) -> Volume:
    """Flatten regions and keep the edges between them (total variation).

    Use it before thresholds on images of even regions (CT at low dose, phantoms); it turns gradients into
    stairs. Its memory is eleven times the volume in float32.

    Raises: DegenerateImage where no noise can be estimated.
    """
    from isocenter.ops import denoise

    noise = _noise(volume)
    steps = _steps(volume.geometry)

    def one(grid: Grid) -> Array:
        return denoise.total_variation(
            grid, spacing=steps, weight=settings.strength * noise, iterations=settings.iterations, tolerance=1e-3
        )

    return _each(volume, one, Step("preprocess.total_variation", _said(settings), {"noise": noise}))


class AnisotropicDiffusion(Settings):
    """Settings of `anisotropic_diffusion`."""

    iterations: int = Field(10, ge=1, le=500)
    """How long it flows; more is smoother."""
    conductance: float = Field(2.0, gt=0, le=50)
    """How strong an edge, relative to the image's mean gradient, stops the flow; more is smoother."""


def anisotropic_diffusion(volume: Volume, settings: AnisotropicDiffusion) -> Volume:
    """Let intensities flow along edges, not across them (curvature-driven diffusion).

    Use it on MR and ultrasound before gradients are taken; thin structures last longer than under a median.
    Its memory is five times the volume in float32.
    """
    from isocenter.ops import filter as filters

    steps = _steps(volume.geometry)

    def one(grid: Grid) -> Array:
        return filters.diffuse(grid, spacing=steps, iterations=settings.iterations, conductance=settings.conductance)

    return _each(volume, one, Step("preprocess.anisotropic_diffusion", _said(settings)))


def _steps(geometry: Geometry) -> Triple:
    """Distances along (d, h, w): in millimetres, or all alike where there are none."""
    return (1.0, 1.0, 1.0) if geometry.space is Space.PIXELS else geometry.spacing_mm


def _noise(volume: Volume) -> float:
    """Standard deviation of the noise, averaged over channels.

    Raises: DegenerateImage where there is none to be seen.
    """
    from isocenter.ops import filter as filters

    noise = float(np.mean([filters.noise(channel) for channel in volume.voxels]))
    if not np.isfinite(noise) or noise <= 0:
        raise DegenerateImage(
            "no noise can be estimated (the image is flat, smaller than 3 x 3, or not finite): there is nothing to do"
        )
    return noise


def _at_least_one(radius: tuple[int, int, int], geometry: Geometry) -> tuple[int, int, int]:
    d, h, w = (0 if n == 1 else max(1, r) for r, n in zip(radius, geometry.shape, strict=True))
    return d, h, w


def _said(settings: Settings) -> dict[str, Json]:
    return settings.model_dump(exclude_none=True)


def _each(volume: Volume, one: Callable[[Grid], Array], step: Step) -> Volume:
    """A step on every channel by itself; without channels there is no copy."""
    volume.require_finite()
    if volume.channels == 1:
        return volume.then(step, voxels=one(volume.grid))
    return volume.then(step, voxels=np.stack([one(channel) for channel in volume.voxels]))
