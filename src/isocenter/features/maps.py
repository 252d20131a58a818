"""Features about each voxel of a region, in a ball, as maps."""

from math import ceil

import numpy as np

from isocenter.data.volume import Quantity
from isocenter.errors import DegenerateImage, InputError
from isocenter.features.catalogue import names_of
from isocenter.features.compute import default_origin, with_defaults
from isocenter.features.region import bounding_box, discretised, region_of
from isocenter.features.settings import Radiomics
from isocenter.types import Array, Grid, Mask, Triple

STATISTICS = ("mean", "variance", "skewness", "excess_kurtosis", "minimum", "maximum", "range", "energy", "entropy")
"""Of the intensities in the ball; `entropy` is of their grey levels."""
MAPPED: dict[str, tuple[str, ...]] = {"statistics": STATISTICS} | {
    family: names_of(family) for family in ("glcm", "glrlm", "glszm", "ngtdm", "ngldm")
}
"""Families that are mapped, and their features."""


def feature_maps(
    values: Grid,
    mask: Mask,
    spacing_mm: Triple,
    settings: Radiomics,
    *,
    radius_mm: float,
    quantity: Quantity,
) -> dict[tuple[str, str], Array]:
    """Features of the ball about each voxel of `mask`: only voxels of the mask count.

    Grey levels are those of the whole region; directions are merged (3D_comb).

    Args:
        values: intensities.
        mask: the region.
        spacing_mm: between voxel centres.
        settings: bins, range and families; the image is not resampled, so that maps lie on it.
        radius_mm: of the ball.
        quantity: what intensities measure.
    Returns: family and name -> grid, NaN outside the region and where there is no answer.
    Raises: InputError for settings that have no maps; DegenerateImage for a region without grey levels.
    """
    from isocenter.ops import voxelwise

    if settings.spacing_mm is not None or settings.filters:
        raise InputError("maps lie on the image's own voxels: leave spacing_mm and filters away")
    families = [str(f) for f in settings.families or MAPPED if f in MAPPED]
    if not mask.any():
        raise DegenerateImage("the region is empty: there is nothing to map")
    settings = with_defaults(settings, quantity)
    region = region_of(values, mask, spacing_mm, settings, hounsfield=quantity is Quantity.HU)
    if not region.mask.any():
        raise DegenerateImage("no voxel of the region has an intensity within the range: there is nothing to map")
    core = region.core
    inside = region.values[core][region.mask[core]]
    levels, reason = discretised(inside, settings, default_origin=default_origin(quantity))
    if reason:
        raise DegenerateImage(reason)
    reach = [ceil(radius_mm / s) for s in spacing_mm]
    axes = [np.arange(-r, r + 1) * s for r, s in zip(reach, spacing_mm, strict=True)]
    ball = axes[0][:, None, None] ** 2 + axes[1][:, None] ** 2 + axes[2] ** 2 <= radius_mm**2
    found = voxelwise.features(
        region.values[core].astype(np.float64), region.mask[core], levels, ball, families, settings.coarseness
    )
    box = bounding_box(mask)
    maps: dict[tuple[str, str], Array] = {}
    for family in families:
        for name, numbers in zip(MAPPED[family], found[family], strict=True):
            grid = np.full(mask.shape, np.nan, np.float32)
            part = grid[box]
            part[region.mask[core]] = numbers
            maps[family, name] = grid
    return maps
