"""How far the surfaces of two masks lie apart, each surface element weighed by its area.

Source: the surface elements of S. Nikolov et al., J. Med. Internet Res. 23(7):e26151, 2021 (and its published code): a
surface passes between voxel centres, where the eight voxels around a corner are not all of one side; its area there is
that of marching cubes. Distances are taken between these corners.
"""

from dataclasses import dataclass, field

import numpy as np

from isocenter.errors import GeometryError
from isocenter.ops.surface import shape_areas, shape_codes
from isocenter.types import Array, Mask, Triple


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """Distances from each surface to the other, with the area of each element.

    Args:
        to_reference: mm from each element of the prediction, ascending.
        area: mm2 of those elements, in the same order.
        to_prediction: mm from each element of the reference, ascending.
        reference_area: mm2 of those.
    """

    to_reference: Array = field(repr=False)
    area: Array = field(repr=False)
    to_prediction: Array = field(repr=False)
    reference_area: Array = field(repr=False)

    def hausdorff(self, percent: float = 100) -> float:
        """The larger of the two percentiles of distance, over area (HD at 100, HD95 at 95)."""
        return max(
            _percentile(self.to_reference, self.area, percent),
            _percentile(self.to_prediction, self.reference_area, percent),
        )

    def average(self) -> float:
        """Average symmetric surface distance: over both surfaces together."""
        total = float(self.area.sum() + self.reference_area.sum())
        return float(self.to_reference @ self.area + self.to_prediction @ self.reference_area) / total

    def dice(self, tolerance_mm: float) -> float:
        """Share of both surfaces that lies within a tolerance of the other."""
        total = float(self.area.sum() + self.reference_area.sum())
        near = (
            self.area[self.to_reference <= tolerance_mm].sum()
            + self.reference_area[self.to_prediction <= tolerance_mm].sum()
        )
        return float(near) / total


def surface_distances(predicted: Mask, reference: Mask, spacing_mm: Triple) -> SurfaceDistances | None:
    """Distances between two surfaces; None where one of the masks is empty.

    Args:
        predicted: `d h w`; a mask of one slice is judged in its plane.
        reference: on the same grid.
        spacing_mm: of the grid.
    Raises: GeometryError if the shapes differ.
    """
    if predicted.shape != reference.shape:
        raise GeometryError(f"masks to compare lie on one grid; got shapes {predicted.shape} and {reference.shape}")
    if not predicted.any() or not reference.any():
        return None
    crop = _box(predicted | reference)
    flat = predicted.shape[0] == 1
    codes = [_codes(mask[crop], flat=flat) for mask in (predicted, reference)]
    areas = _line_lengths(spacing_mm) if flat else shape_areas(spacing_mm)
    surfaces = [(code != 0) & (code != 255) for code in codes]
    fields = [_distance_to(surface, spacing_mm) for surface in surfaces]
    one = _sorted(fields[1][surfaces[0]], areas[codes[0][surfaces[0]]])
    other = _sorted(fields[0][surfaces[1]], areas[codes[1][surfaces[1]]])
    return SurfaceDistances(*one, *other)


def _box(mask: Mask) -> tuple[slice, ...]:
    spans = []
    for axis in range(mask.ndim):
        at = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        spans.append(slice(int(at[0]), int(at[-1]) + 1))
    return tuple(spans)


def _codes(mask: Mask, *, flat: bool) -> Array:
    """Which of the eight (four) voxels around each corner are inside."""
    padded = np.pad(mask, 1)
    codes = shape_codes(padded)
    if not flat:
        return codes
    one = codes[0]  # the slice above is outside: only the bits of this slice are set
    return np.where(one == _FLAT_FULL, np.uint8(255), one)[None]


_FLAT_FULL = 0b11110000
"""Corner bits of the later slice of a cell; see `ops.surface`."""


def _line_lengths(spacing_mm: Triple) -> Array:
    """Length of the contour within a cell of four pixels (marching squares), by its code."""
    _, h, w = spacing_mm
    slanted = float(np.hypot(h, w)) / 2
    lengths = np.zeros(256)
    for code in range(16):
        a, b, c, d = (bool(code >> i & 1) for i in range(4))  # (0, 0), (0, 1), (1, 0), (1, 1)
        count = a + b + c + d
        if count in (1, 3):
            length = slanted
        elif count == 2:
            length = 2 * slanted if (a and d) or (b and c) else w if a == b else h
        else:
            length = 0.0
        lengths[code << 4] = length
    return lengths


def _distance_to(surface: Mask, spacing_mm: Triple) -> Array:
    from scipy import ndimage

    return np.asarray(ndimage.distance_transform_edt(~surface, sampling=spacing_mm), np.float64)


def _sorted(distances: Array, areas: Array) -> tuple[Array, Array]:
    order = np.argsort(distances, kind="stable")
    return distances[order], areas[order]


def _percentile(distances: Array, areas: Array, percent: float) -> float:
    if percent >= 100:
        return float(distances[-1])
    shares = np.cumsum(areas) / areas.sum()
    return float(distances[min(int(np.searchsorted(shares, percent / 100)), len(distances) - 1)])
