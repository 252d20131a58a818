"""Local patterns: binary patterns around each voxel, and directions of gradients."""

import numpy as np

from isocenter.features.first_order import Numbers
from isocenter.types import Array, Grid, Mask

_POINTS = 8
_CELLS, _DIRECTIONS = 4, 9


def binary_patterns(values: Grid, mask: Mask) -> Numbers:
    """Histogram of rotation-invariant uniform patterns of 8 neighbours at radius 1, over the voxels of a region.

    In a volume, in planes along all three axes (`TOP`); in one slice, in it. Patterns 0 to 8 count the brighter
    neighbours of a uniform pattern, 9 are all others.

    Source: T. Ojala, M. Pietikainen and T. Maenpaa, IEEE TPAMI 24(7):971-987, 2002 (LBP riu2); G. Zhao and
    M. Pietikainen, IEEE TPAMI 29(6):915-928, 2007 (three orthogonal planes).
    """
    planes = {"": (0, 1, 2)} if mask.shape[0] == 1 else {"hw_": (0, 1, 2), "dw_": (1, 0, 2), "dh_": (2, 0, 1)}
    out: Numbers = {}
    for prefix, order in planes.items():
        grid, inside = values.transpose(order), mask.transpose(order)
        patterns = _patterns(grid)[inside]
        counts = np.bincount(patterns, minlength=_POINTS + 2) / len(patterns)
        out |= {f"{prefix}pattern_{n}": float(share) for n, share in enumerate(counts)}
    return out


def _patterns(grid: Grid) -> Array:
    """Pattern of every voxel in its slice; beyond the edges the nearest pixel answers."""
    values = grid.astype(np.float64)
    padded = np.pad(values, ((0, 0), (2, 2), (2, 2)), mode="edge")
    angles = 2 * np.pi * np.arange(_POINTS) / _POINTS
    brighter = []
    for row, column in zip(np.round(-np.sin(angles), 5), np.round(np.cos(angles), 5), strict=True):
        r, c = int(np.floor(row)), int(np.floor(column))
        dr, dc = row - r, column - c
        neighbour = sum(
            weight * padded[:, 2 + r + i : 2 + r + i + grid.shape[1], 2 + c + j : 2 + c + j + grid.shape[2]]
            for i, j, weight in (
                (0, 0, (1 - dr) * (1 - dc)),
                (0, 1, (1 - dr) * dc),
                (1, 0, dr * (1 - dc)),
                (1, 1, dr * dc),
            )
            if weight
        )
        # Interpolation rounds: where all four pixels equal the centre, the neighbour does.
        brighter.append(neighbour - values >= -1e-9 * np.abs(values))
    ring = np.stack(brighter)
    changes = (ring != np.roll(ring, 1, axis=0)).sum(axis=0)
    return np.where(changes <= 2, ring.sum(axis=0), _POINTS + 1)


def oriented_gradients(values: Grid, mask: Mask) -> Numbers:
    """Directions of gradients in 4 x 4 cells of the region's box, in the slice in which the region is largest.

    Nine unsigned directions a cell, weighted by the gradient's length and shared between the two nearest; the whole is
    divided by its length, cut off at 0.2 and divided again.

    Source: N. Dalal and B. Triggs, Proc. CVPR 1:886-893, 2005 (one block over the whole box).
    """
    d = int(np.argmax(mask.sum(axis=(1, 2))))
    rows, columns = (np.flatnonzero(mask[d].any(axis=axis)) for axis in (1, 0))
    box = values[d, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float64)
    if min(box.shape) < _CELLS:
        return {}
    down, right = np.gradient(box)
    length = np.hypot(down, right)
    place = np.mod(np.arctan2(down, right), np.pi) / np.pi * _DIRECTIONS - 0.5
    low = np.floor(place)
    share = place - low
    cell = [np.minimum(np.arange(n) * _CELLS // n, _CELLS - 1) for n in box.shape]
    index = (cell[0][:, None] * _CELLS + cell[1]) * _DIRECTIONS
    counts = np.zeros(_CELLS * _CELLS * _DIRECTIONS)
    np.add.at(counts, index + np.mod(low, _DIRECTIONS).astype(int), length * (1 - share))
    np.add.at(counts, index + np.mod(low + 1, _DIRECTIONS).astype(int), length * share)
    total = np.linalg.norm(counts)
    if total == 0:
        return {}
    counts = np.minimum(counts / total, 0.2)
    counts /= np.linalg.norm(counts)
    return {
        f"cell_{n // _DIRECTIONS // _CELLS}{n // _DIRECTIONS % _CELLS}_direction_{n % _DIRECTIONS}": float(c)
        for n, c in enumerate(counts)
    }


def gradient_names() -> tuple[str, ...]:
    """Names of `oriented_gradients`, where there are none."""
    return tuple(f"cell_{r}{c}_direction_{n}" for r in range(_CELLS) for c in range(_CELLS) for n in range(_DIRECTIONS))


def pattern_names(*, flat: bool) -> tuple[str, ...]:
    """Names of `binary_patterns`."""
    prefixes = ("",) if flat else ("hw_", "dw_", "dh_")
    return tuple(f"{prefix}pattern_{n}" for prefix in prefixes for n in range(_POINTS + 2))
