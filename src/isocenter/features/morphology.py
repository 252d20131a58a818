"""How large a region is, what shape it has, and how its intensities lie in it.

Source: IBSI reference manual, arXiv:1612.07003v11, section 3.1.
"""

from math import comb, pi, sqrt

import numpy as np

from isocenter.features.first_order import Numbers
from isocenter.features.region import Region, bounding_box
from isocenter.types import Array, Triple

_MOST_PAIRS_BYTES = 1_500_000_000


def shape(region: Region, *, enclosing: bool) -> Numbers:
    """Size and shape from the region's mask.

    Args:
        region: not empty.
        enclosing: also the oriented box and the smallest ellipsoid around the region.
    """
    from isocenter.ops import hull as hulls
    from isocenter.ops.surface import mesh_volume_and_area

    mask = np.pad(region.shape_mask[region.core], 1)
    steps = region.spacing_mm
    volume, area = mesh_volume_and_area(mask, steps)
    count = int(np.count_nonzero(mask))
    hull = hulls.hull_of(mask, steps)
    out = {
        "volume": volume,
        "approximate_volume": count * steps[0] * steps[1] * steps[2],
        "surface_area": area,
        "surface_to_volume_ratio": area / volume,
        "compactness_1": volume / (sqrt(pi) * area**1.5),
        "compactness_2": 36 * pi * volume**2 / area**3,
        "spherical_disproportion": area / (36 * pi * volume**2) ** (1 / 3),
        "sphericity": (36 * pi * volume**2) ** (1 / 3) / area,
        "asphericity": (area**3 / (36 * pi * volume**2)) ** (1 / 3) - 1,
        "maximum_3d_diameter": float(hulls.diameter(hull.points)),
        "hull_volume_density": volume / hull.volume_mm3,
        "hull_area_density": area / hull.area_mm2,
    }
    a, b, c = (float(np.ptp(hull.points[:, i])) for i in range(3))
    out["bounding_box_volume_density"] = volume / (a * b * c)
    out["bounding_box_area_density"] = area / (2 * (a * b + b * c + c * a))
    out |= _principal(mask, steps, volume, area)
    if enclosing:
        box_volume, box_area = hulls.oriented_box(hull)
        out |= {"oriented_box_volume_density": volume / box_volume, "oriented_box_area_density": area / box_area}
        axes = hulls.enclosing_ellipsoid(hull.points)
        out["enclosing_ellipsoid_volume_density"] = volume / (4 / 3 * pi * float(np.prod(axes)))
        out["enclosing_ellipsoid_area_density"] = area / ellipsoid_area(*(float(s) for s in axes))
    return out


def _principal(mask: Array, steps: Triple, volume: float, area: float) -> Numbers:
    """Axes of the ellipsoid with the region's second moments; absent where the region has no width along one."""
    spread = np.linalg.eigvalsh(_covariance(mask, steps))[::-1]
    major, minor, least = (4 * sqrt(max(0.0, float(s))) for s in spread)
    out = {"major_axis_length": major, "minor_axis_length": minor, "least_axis_length": least}
    if major > 0:
        out |= {"elongation": minor / major, "flatness": least / major}
    if least > 1e-6 * major:
        out["ellipsoid_volume_density"] = volume / (pi / 6 * major * minor * least)
        out["ellipsoid_area_density"] = area / ellipsoid_area(major / 2, minor / 2, least / 2)
    return out


def _covariance(mask: Array, steps: Triple) -> Array:
    """Covariance (by n - 1, as in the standard's reference values) of the places of a mask's voxels in mm."""
    planes = [mask.sum(axis=axis, dtype=np.int64) for axis in range(3)]  # onto hw, dw, dh
    count = int(planes[0].sum())
    free = max(1, count - 1)
    along = [planes[2].sum(1), planes[2].sum(0), planes[0].sum(0)]
    away = [np.arange(n) * s - m for n, s, m in zip(mask.shape, steps, _centre(mask, steps), strict=True)]
    out = np.diag([float(a**2 @ n) / free for a, n in zip(away, along, strict=True)])
    for i, j, other in ((0, 1, 2), (0, 2, 1), (1, 2, 0)):
        out[i, j] = out[j, i] = float(away[i] @ planes[other] @ away[j]) / free
    return out


def _centre(weights: Array, steps: Triple) -> Array:
    """Weighted mean place (mm) of a grid's voxels."""
    by_depth = weights.sum(axis=(1, 2), dtype=np.float64)
    rest = weights.sum(axis=0, dtype=np.float64)
    along = (by_depth, rest.sum(axis=1), rest.sum(axis=0))
    return np.asarray([np.arange(len(a)) @ a * s / a.sum() for a, s in zip(along, steps, strict=True)])


def ellipsoid_area(a: float, b: float, c: float) -> float:
    """Surface of an ellipsoid with semi-axes a >= b >= c: the standard's Legendre series, to its twentieth term."""
    alpha, beta = sqrt(max(0.0, 1 - (b / a) ** 2)), sqrt(max(0.0, 1 - (c / a) ** 2))
    if alpha * beta == 0:  # an ellipsoid of revolution: only the leading term of each polynomial remains
        terms = [_leading(n) * ((alpha**2 + beta**2) / 2) ** n for n in range(21)]
    else:
        middle = (alpha**2 + beta**2) / (2 * alpha * beta)
        terms = [(alpha * beta) ** n * _legendre(n, middle) for n in range(21)]
    return 4 * pi * a * b * sum(term / (1 - 4 * n**2) for n, term in enumerate(terms))


def _legendre(n: int, x: float) -> float:
    """Legendre polynomial P_n."""
    before, now = 1.0, x
    if n == 0:
        return before
    for k in range(2, n + 1):
        before, now = now, ((2 * k - 1) * x * now - (k - 1) * before) / k
    return now


def _leading(n: int) -> float:
    """Coefficient of x^n in P_n: (2n)! / (2^n n!^2)."""
    return comb(2 * n, n) / float(2**n)


def placed_intensity(region: Region, volume_mm3: float) -> Numbers:
    """Where the intensities of the region lie: their centre, their integral."""
    counted = region.mask[region.core]
    weights = np.where(counted, region.values[region.core], 0)
    total = float(weights.sum(dtype=np.float64))
    out = {"integrated_intensity": total / int(np.count_nonzero(counted)) * volume_mm3}
    if total:
        centres = [_centre(grid, region.spacing_mm) for grid in (weights, region.shape_mask[region.core])]
        out["centre_of_mass_shift"] = float(np.linalg.norm(centres[0] - centres[1]))
    return out


def autocorrelation(region: Region) -> tuple[Numbers, str]:
    """Moran's I and Geary's C, or why there is none."""
    from isocenter.ops.autocorrelation import memory_bytes, moran_and_geary

    box = bounding_box(region.mask)
    mask, values = region.mask[box], region.values[box]
    inside = values[mask]
    if len(inside) < 2 or inside.min() == inside.max():
        return {}, "all voxels of the region are equal"
    needed = memory_bytes(mask.shape)
    if needed > _MOST_PAIRS_BYTES:
        return {}, f"pairs of voxels in a box of {mask.shape} take {needed / 2**30:.1f} GiB: resample first"
    moran, geary = moran_and_geary(values, mask, region.spacing_mm)
    return {"moran_i": moran, "geary_c": geary}, ""
