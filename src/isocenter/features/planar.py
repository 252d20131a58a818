"""Shape of a region in the plane: the slice in which it is largest.

Source: perimeter, area and axes are the two-dimensional counterparts of IBSI's morphology (arXiv:1612.07003v11, 3.1):
the outline runs half-way between pixels inside and outside. J. C. Russ, The Image Processing Handbook, for the ratios.
"""

from math import pi, sqrt

import numpy as np

from isocenter.features.first_order import Numbers
from isocenter.types import Array, Mask

NAMES = {
    "area": "2", "perimeter": "1", "circularity": "", "rectangularity": "", "eccentricity": "", "solidity": "",
    "elongation": "", "major_axis_length": "1", "minor_axis_length": "1", "maximum_feret_diameter": "1",
    "minimum_feret_diameter": "1", "equivalent_diameter": "1",
}  # fmt: skip
"""Features, and to which power of a length each is."""


def shape_2d(mask: Mask, steps: tuple[float, float]) -> Numbers:
    """Size and shape of a region in its largest slice.

    Args:
        mask: `d h w`, not empty.
        steps: between rows and between columns.
    """
    slice_ = mask[int(np.argmax(mask.sum(axis=(1, 2))))]
    padded = np.pad(slice_, 1)
    area, perimeter = _outlined(padded, steps)
    corners = _hull(padded, steps)
    hull_area = _polygon_area(corners)
    widths = _widths(corners)
    places = np.argwhere(padded) * np.asarray(steps)
    away = places - places.mean(axis=0)
    spread = np.linalg.eigvalsh(away.T @ away / max(1, len(places) - 1))[::-1]
    major, minor = (4 * sqrt(max(0.0, float(s))) for s in spread)
    box = _smallest_rectangle(corners)
    out = {
        "area": area,
        "perimeter": perimeter,
        "circularity": 4 * pi * area / perimeter**2,
        "rectangularity": area / box,
        "solidity": area / hull_area,
        "major_axis_length": major,
        "minor_axis_length": minor,
        "maximum_feret_diameter": float(np.linalg.norm(corners[:, None] - corners, axis=2).max()),
        "minimum_feret_diameter": widths,
        "equivalent_diameter": 2 * sqrt(area / pi),
    }
    if major > 0:
        out["elongation"] = minor / major
        out["eccentricity"] = sqrt(max(0.0, 1 - (minor / major) ** 2))
    return out


def _outlined(mask: Array, steps: tuple[float, float]) -> tuple[float, float]:
    """Area and perimeter within the outline half-way between pixels (marching squares)."""
    a, b, c, d = mask[:-1, :-1], mask[:-1, 1:], mask[1:, :-1], mask[1:, 1:]
    count = a.astype(np.int8) + b + c + d
    diagonal = (a == d) & (b == c) & (a != b)
    across = (count == 2) & ~diagonal
    rows, columns = steps
    slanted = sqrt(rows**2 + columns**2) / 2
    corners = int((count == 1).sum() + (count == 3).sum() + 2 * diagonal.sum())
    upright = int((across & (a == c)).sum())  # the outline runs along rows of the grid's columns
    perimeter = corners * slanted + upright * rows + int((across & (a == b)).sum()) * columns
    cell = rows * columns
    # Two inside corners on a diagonal are kept apart, as in space.
    shares = (count == 1).sum() / 8 + across.sum() / 2 + diagonal.sum() / 4 + (count == 3).sum() * 7 / 8
    return float((shares + (count == 4).sum()) * cell), float(perimeter)


def _hull(mask: Array, steps: tuple[float, float]) -> Array:
    """Corners of the outline's convex hull, in order."""
    from scipy.spatial import ConvexHull

    halves = np.asarray([(0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5)])
    places = np.argwhere(mask)
    ends = np.concatenate(
        [places[np.r_[True, np.diff(places[:, 0]) > 0]], places[np.r_[np.diff(places[:, 0]) > 0, True]]]
    )
    points = ((ends[:, None] + halves) * np.asarray(steps)).reshape(-1, 2)
    return np.asarray(points[ConvexHull(points).vertices])


def _polygon_area(corners: Array) -> float:
    x, y = corners.T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def _along_edges(corners: Array) -> tuple[Array, Array]:
    """Extents of the hull along each of its edges, and across it."""
    edges = np.roll(corners, -1, axis=0) - corners
    unit = edges / np.linalg.norm(edges, axis=1)[:, None]
    along = corners @ unit.T
    across = corners @ np.stack((-unit[:, 1], unit[:, 0]))
    return np.ptp(along, axis=0), np.ptp(across, axis=0)


def _widths(corners: Array) -> float:
    """Smallest distance between two parallel lines around the hull: one lies on an edge."""
    return float(_along_edges(corners)[1].min())


def _smallest_rectangle(corners: Array) -> float:
    """Area of the smallest rectangle around the hull: one side lies on an edge (Freeman and Shapira, 1975)."""
    along, across = _along_edges(corners)
    return float((along * across).min())
