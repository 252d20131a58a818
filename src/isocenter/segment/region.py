"""Regions that grow from seeds."""

import numpy as np
from pydantic import Field, model_validator

from isocenter.data.geometry import Geometry, Space
from isocenter.data.labels import Label, LabelMap
from isocenter.data.length import Lengths
from isocenter.data.provenance import Step
from isocenter.data.step import Settings
from isocenter.data.volume import Quantity, Volume
from isocenter.errors import DegenerateImage, InputError
from isocenter.types import Triple

Point = tuple[float, float, float]


class Seeds(Lengths):
    """Settings of steps that start from points."""

    seeds_mm: tuple[Point, ...] | None = Field(None, min_length=1, max_length=1000)
    """Points inside the object: x, y, z in the image's world (the patient's LPS millimetres)."""
    seeds_px: tuple[Point, ...] | None = Field(None, min_length=1, max_length=1000)
    """Points as voxel numbers: slice, row, column, counted from 0."""
    name: str = "region"
    """Name of the label."""

    def index(self, geometry: Geometry) -> list[tuple[int, int, int]]:
        """The seeds' voxels.

        Raises: UnitError for millimetres where there are none; InputError for a point outside the image.
        """
        if self.seeds_mm is not None:
            _ = geometry.spacing_mm
            places = geometry.world_to_index(np.asarray(self.seeds_mm, dtype=np.float64))
        else:
            places = np.asarray(self.seeds_px, dtype=np.float64)
        given = self.seeds_mm or self.seeds_px or ()
        found = []
        for point, place in zip(given, np.rint(places).astype(int).tolist(), strict=True):
            if any(not 0 <= i < n for i, n in zip(place, geometry.shape, strict=True)):
                raise InputError(
                    f"the seed {list(point)} lies outside the image (voxel {place} of {list(geometry.shape)}); "
                    "seeds_mm are x, y, z, seeds_px are slice, row, column"
                )
            found.append((place[0], place[1], place[2]))
        return found


class RegionGrowing(Seeds):
    """Settings of `region_growing`."""

    low: float
    """Darkest intensity that belongs."""
    high: float
    """Brightest intensity that belongs."""
    unit: Quantity
    """Unit of `low` and `high`; an image in another unit is refused."""
    corners: bool = False
    """Voxels that touch at an edge or corner are connected too."""

    @model_validator(mode="after")
    def _ordered(self) -> "RegionGrowing":
        if not self.low <= self.high:
            raise ValueError(f"low must not lie above high; got {self.low:g} and {self.high:g}")
        return self


def region_growing(volume: Volume, settings: RegionGrowing, *, within: LabelMap | None = None) -> LabelMap:
    """Take what is connected to the seeds and lies between two intensities, both included.

    Use it for one object of known intensity: a vessel, the airways, a cyst. It leaks through any gap.

    Raises: UnitError where the image is not in that unit; InputError for a seed outside the image or the interval.
    """
    from isocenter.ops.region import between, connected_to

    volume.require_quantity(settings.unit)
    seeds = settings.index(volume.geometry)
    mask = between(volume.grid, settings.low, settings.high)
    if within is not None:
        mask &= within.within(volume.geometry)
    for seed in seeds:
        if not mask[seed]:
            raise InputError(
                f"the seed at voxel {list(seed)} has the intensity {volume.grid[seed]:g}, which is not within "
                f"{settings.low:g} to {settings.high:g}{' and the mask' if within else ''}: nothing would grow from it"
            )
    found = connected_to(mask, seeds, corners=settings.corners)
    step = Step("segment.region_growing", settings.model_dump(mode="json", exclude_none=True))
    return LabelMap.of_mask(found, volume.geometry, name=settings.name, history=(*volume.history, step))


class ConfidenceConnected(Seeds):
    """Settings of `confidence_connected`."""

    multiplier: float = Field(2.5, gt=0, le=20)
    """How many standard deviations around the region's mean belong."""
    iterations: int = Field(4, ge=0, le=100)
    """Rounds in which mean and deviation are taken anew, at most."""
    radius: int = Field(2, ge=1, le=20)
    """Voxels around each seed from which the first mean and deviation come."""


def confidence_connected(volume: Volume, settings: ConfidenceConnected) -> LabelMap:
    """Grow from seeds over intensities like those of the region so far.

    Use it for one object of unknown but even intensity. Smooth the image first; it leaks through any gap.

    Raises: InputError for a seed outside the image; DegenerateImage where the seeds' surroundings are all equal.
    """
    from isocenter.ops.region import confidence_connected as grow

    seeds = settings.index(volume.geometry)
    found, low, high = grow(
        volume.grid,
        seeds,
        radius=settings.radius,
        multiplier=settings.multiplier,
        iterations=settings.iterations,
    )
    step = Step(
        "segment.confidence_connected", settings.model_dump(mode="json", exclude_none=True), {"low": low, "high": high}
    )
    return LabelMap.of_mask(found, volume.geometry, name=settings.name, history=(*volume.history, step))


class Watershed(Lengths):
    """Settings of `watershed`."""

    sigma_mm: float | None = Field(1.0, ge=0, le=50)
    """The image is smoothed this much before its gradient is taken, in millimetres; 0: not at all."""
    sigma_px: float | None = Field(None, ge=0, le=100)
    """The same in voxels, for images without millimetres."""


def watershed(volume: Volume, markers: LabelMap, settings: Watershed) -> LabelMap:
    """Flood the gradient from markers, so that labels meet at the edges of the image.

    Use it where each object, and the ground, has a marker that surely lies inside. Every voxel gets a label: mark the
    ground too. Its memory is fifteen times the volume in float32.

    Raises: GeometryError where image and markers lie on different grids; DegenerateImage without markers.
    """
    from isocenter.ops import filter as filters
    from isocenter.ops import region

    volume.geometry.require_same(markers.geometry, what="the image and the markers")
    _require_markers(markers, 1)
    grid = volume.grid
    sigma = settings.voxels("sigma", volume.geometry) if settings.length("sigma") else None
    relief = filters.gradient_magnitude(
        filters.gaussian(grid, sigma=sigma) if sigma else grid, spacing=settings.spacing_for("sigma", volume.geometry)
    )
    voxels = region.watershed(relief, markers.voxels)
    step = Step("segment.watershed", settings.model_dump(exclude_none=True))
    return LabelMap(voxels, volume.geometry, markers.labels, (*volume.history, *markers.history, step))


class RandomWalker(Settings):
    """Settings of `random_walker`."""

    difference: float | None = Field(None, gt=0)
    """Step in intensity that counts as an edge, in the image's unit; none: three times the noise."""


def random_walker(volume: Volume, markers: LabelMap, settings: RandomWalker) -> LabelMap:
    """Give each voxel the label of the markers that a random walker, who avoids edges, meets first.

    Use it where edges are weak or broken: the boundary closes gaps that region growing leaks through. Every voxel
    gets a label: mark the ground too. Its memory is eleven times the volume in float32.

    Raises: GeometryError where image and markers lie on different grids; DegenerateImage with fewer than two markers.
    """
    from isocenter.ops import filter as filters
    from isocenter.ops import region

    volume.geometry.require_same(markers.geometry, what="the image and the markers")
    _require_markers(markers, 2)
    grid = volume.grid
    difference = settings.difference or 3 * filters.noise(grid)
    if not np.isfinite(difference) or difference <= 0:
        raise DegenerateImage("no noise can be estimated to tell an edge by: give `difference` in the image's unit")
    voxels = region.random_walker(grid, markers.voxels, spacing=_steps(volume.geometry), noise=difference)
    step = Step("segment.random_walker", settings.model_dump(exclude_none=True), {"difference": difference})
    return LabelMap(voxels, volume.geometry, markers.labels, (*volume.history, *markers.history, step))


class Split(Lengths):
    """Settings of `split`."""

    depth_mm: float | None = Field(1.0, gt=0, le=100)
    """How much narrower the waist between two objects must be than the smaller one, in radius, in millimetres."""
    depth_px: float | None = Field(None, gt=0, le=1000)
    """The same in voxels, for images without millimetres."""
    name: str | None = None
    """What the objects are called, with a number behind it; none: as the label."""


def split(labels: LabelMap, settings: Split) -> LabelMap:
    """Part touching round objects at their waists, and number them (watershed of the distance to the ground).

    Use it to count cells or nodules after a threshold. Objects that are not round fall apart, or stay together.

    Raises: UnitError in PIXELS space for a depth in millimetres; InputError for more than 65535 objects.
    """
    from isocenter.ops import region
    from isocenter.ops.morphology import depth_inside

    spacing = settings.spacing_for("depth", labels.geometry)
    voxels = np.zeros(labels.geometry.shape, np.uint16)
    table: list[Label] = []
    for label in labels.labels:
        mask = np.asarray(labels.voxels == label.value)
        if not mask.any():
            continue
        depth = depth_inside(mask, spacing=spacing)
        peaks = region.local_maxima(depth, depth=settings.length("depth"))
        np.negative(depth, out=depth)
        parts = region.watershed(depth, peaks, mask=mask)
        count = int(parts.max())
        if len(table) + count > 65535:
            raise InputError("more than 65535 objects: remove specks first (segment: components, with at_least)")
        voxels[mask] = parts[mask].astype(np.uint16) + len(table)
        name, first = settings.name or label.name, len(table) + 1
        table += [Label(value, f"{name} {value}") for value in range(first, first + count)]
    step = Step("segment.split", settings.model_dump(exclude_none=True), {"objects": len(table)})
    return LabelMap(voxels, labels.geometry, tuple(table), (*labels.history, step))


def _require_markers(markers: LabelMap, least: int) -> None:
    there = [label.name for label in markers.labels if bool(np.any(markers.voxels == label.value))]
    if len(there) < least:
        raise DegenerateImage(f"at least {least} label(s) of markers are needed; got {there or 'none'}")


def _steps(geometry: Geometry) -> Triple:
    return (1.0, 1.0, 1.0) if geometry.space is Space.PIXELS else geometry.spacing_mm
