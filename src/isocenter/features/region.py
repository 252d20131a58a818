"""From an image and a mask to the region that features are computed on.

The order is the standard's: resample, round, part the mask into where the region lies (morphology) and whose
intensities count (re-segmentation), then discretise.

Source: IBSI reference manual, arXiv:1612.07003v11, chapter 2.
"""

from dataclasses import dataclass
from math import ceil, prod

import numpy as np

from isocenter.errors import GeometryError
from isocenter.features.filters import reach_of
from isocenter.features.settings import Radiomics
from isocenter.types import Affine, Array, Bool, Grid, Mask, Real, Triple

_MOST_LEVELS = 1024
_MOST_VOXELS = 2**28
MARGIN_MM = 6.5
"""Beyond the region, for the peak's sphere of 1 cm3 (radius 6.2 mm)."""


@dataclass(frozen=True, eq=False)
class Region:
    """One region, cropped.

    Args:
        values: the image about the region, `d h w`.
        shape_mask: voxels of the region (the standard's morphological mask).
        mask: those of them whose intensities count (the intensity mask).
        spacing_mm: between voxel centres.
        core: where the region's own box lies in these arrays.
    """

    values: Grid
    shape_mask: Mask
    mask: Mask
    spacing_mm: Triple
    core: tuple[slice, slice, slice]


def region_of(values: Grid, mask: Mask, spacing_mm: Triple, settings: Radiomics, *, hounsfield: bool) -> Region:
    """The region that `settings` describe.

    Args:
        values: the whole image.
        mask: the region on its grid, not empty.
        spacing_mm: of that grid.
        settings: resampling, rounding, re-segmentation.
        hounsfield: the intensities are HU, which are whole numbers.
    """
    reach = [ceil(MARGIN_MM / s) for s in spacing_mm]
    target = settings.spacing_for(spacing_mm)
    for chosen in settings.filters:
        far = reach_of(chosen, target or spacing_mm) or mask.shape
        scale = [t / s for t, s in zip(target or spacing_mm, spacing_mm, strict=True)]
        reach = [max(r, ceil(f * k)) for r, f, k in zip(reach, far, scale, strict=True)]
    if target is not None:
        # A cubic spline's weights fade within a dozen voxels.
        reach = [max(r, 12) + ceil(t / s) for r, t, s in zip(reach, target, spacing_mm, strict=True)]
    box = bounding_box(mask)
    outer = tuple(
        slice(max(0, b.start - r), min(n, b.stop + r)) for b, r, n in zip(box, reach, mask.shape, strict=True)
    )
    near, inside = values[outer], mask[outer]
    if target is not None:
        begin = tuple(s.start for s in outer)
        near, inside = resampled(near, inside, settings, spacing_mm=spacing_mm, whole=mask.shape, begin=begin)
        spacing_mm = target
        if settings.rounds(hounsfield=hounsfield):
            near = np.round(near)
    if not inside.any():
        return Region(near, inside, inside, spacing_mm, (slice(0, 0),) * 3)
    counted = resegmented(near, inside, settings)
    return Region(near, inside, counted, spacing_mm, bounding_box(inside))


def bounding_box(mask: Mask) -> tuple[slice, slice, slice]:
    """The smallest box that holds a mask that is not empty."""
    found = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        at = np.flatnonzero(mask.any(axis=others))
        found.append(slice(int(at[0]), int(at[-1]) + 1))
    return found[0], found[1], found[2]


def resampled_grid(
    shape: tuple[int, ...], spacing_mm: Triple, target_mm: Triple
) -> tuple[tuple[int, int, int], Triple]:
    """Shape of the grid with `target_mm`, and the place of its first voxel as an index of the old one.

    The centres of both grids agree (section 2.4).
    """
    new = [ceil(round(n * s / t, 6)) for n, s, t in zip(shape, spacing_mm, target_mm, strict=True)]
    first = [(n - 1) / 2 - (m - 1) / 2 * t / s for n, m, s, t in zip(shape, new, spacing_mm, target_mm, strict=True)]
    return (new[0], new[1], new[2]), (first[0], first[1], first[2])


def resampled(
    values: Grid,
    mask: Mask,
    settings: Radiomics,
    *,
    spacing_mm: Triple,
    whole: tuple[int, ...],
    begin: tuple[int, ...],
) -> tuple[Real[Array, "e i x"], Bool[Array, "e i x"]]:
    """A part of an image and its mask on the resampled grid of the whole image.

    Args:
        values: the part.
        mask: the region in it.
        settings: the new spacing, and how intensities are interpolated.
        spacing_mm: of the image.
        whole: shape of the whole image.
        begin: index at which the part begins.
    """
    from isocenter.ops.resample import resample

    target_mm = settings.spacing_for(spacing_mm) or spacing_mm
    grown = prod(n * s / t for n, s, t in zip(values.shape, spacing_mm, target_mm, strict=True))
    if grown > _MOST_VOXELS:
        raise GeometryError(f"a spacing of {target_mm} mm makes {grown:.2g} voxels of this region: use a coarser one")
    shape, first = resampled_grid(whole, spacing_mm, target_mm)
    ratio = [t / s for s, t in zip(spacing_mm, target_mm, strict=True)]
    low = [max(0, ceil((b - f) / r - 1e-6)) for b, f, r in zip(begin, first, ratio, strict=True)]
    high = [
        min(m, int((b + n - 1 - f) / r + 1e-6) + 1)
        for b, n, f, r, m in zip(begin, values.shape, first, ratio, shape, strict=True)
    ]
    # A grid may reach half a voxel beyond the old one, where the nearest voxel answers.
    low = [0 if b == 0 else lo for b, lo in zip(begin, low, strict=True)]
    high = [m if b + n == w else h for b, n, w, m, h in zip(begin, values.shape, whole, shape, high, strict=True)]
    affine: Affine = np.eye(4)
    affine[:3, :3] = np.diag(ratio)
    affine[:3, 3] = [f + lo * r - b + 1 for f, lo, r, b in zip(first, low, ratio, begin, strict=True)]
    to_shape = tuple(max(1, h - lo) for lo, h in zip(low, high, strict=True))
    grids = {"values": np.pad(values, 1, mode="edge"), "mask": np.pad(mask, 1).astype(np.float32)}
    methods = {"values": settings.interpolation, "mask": "linear" if settings.interpolation != "nearest" else "nearest"}
    out = {
        name: resample(grid, affine=np.eye(4), to_shape=to_shape, to_affine=affine, interpolation=methods[name])  # type: ignore[arg-type]
        for name, grid in grids.items()
    }
    return out["values"], np.asarray(out["mask"] >= 0.5 - 1e-6)


def resegmented(values: Grid, mask: Mask, settings: Radiomics) -> Mask:
    """The voxels of a region whose intensities count: within the range, and no outliers of it."""
    counted = mask
    if settings.range is not None:
        low, high = settings.range
        if low is not None:
            counted = counted & (values >= low)
        if high is not None:
            counted = counted & (values <= high)
    if settings.outliers_sigma is not None and counted.any():
        inside = values[mask].astype(np.float64)
        if settings.range is not None:
            inside = values[counted].astype(np.float64)
        reach = settings.outliers_sigma * inside.std()
        counted = counted & (np.abs(values - inside.mean()) <= reach)
    return np.asarray(counted)


def discretised(inside: Array, settings: Radiomics, *, default_origin: float | None) -> tuple[Array, str]:
    """Grey levels from 1, or why there are none.

    Args:
        inside: the intensities that count.
        settings: bins of a width, or a number of them.
        default_origin: lower edge of the first bin where the settings state none; None: at the smallest intensity.
    """
    low, high = float(inside.min()), float(inside.max())
    if settings.bin_width is None:
        count = settings.bins
        if low == high:
            return inside, "all voxels of the region are equal, and bins of a fixed number need a range"
        levels = np.floor(count * ((inside - low) / (high - low))).astype(np.int64) + 1
        return np.minimum(levels, count), ""
    width = settings.bin_width
    origin = settings.origin(low, default_origin)
    if low < origin:
        return inside, (
            f"the region reaches down to {low:g}, below the first bin at {origin:g}: state a `range`, or a `bin_origin`"
        )
    levels = np.floor((inside - origin) / width).astype(np.int64) + 1
    if settings.range is not None and settings.range[1] is not None and high == settings.range[1]:
        # The upper end of a range belongs to its last bin.
        levels = np.minimum(levels, max(1, ceil(round((high - origin) / width, 9))))
    if levels.max() > _MOST_LEVELS:
        return inside, (
            f"bins of {width:g} give {int(levels.max())} grey levels and at most {_MOST_LEVELS} are counted: choose a "
            "wider `bin_width`, or a `bin_count`"
        )
    return levels, ""
