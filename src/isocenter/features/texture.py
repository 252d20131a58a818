"""Texture: how grey levels lie beside each other, by slice or in space.

Source: IBSI reference manual, arXiv:1612.07003v11, sections 3.6 to 3.11; how directions and slices are joined: Table
3.1 there. A number that has no answer is NaN; averages leave those out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from isocenter.features.catalogue import Aggregation
from isocenter.ops import texture as matrices
from isocenter.ops import texture_features as formulas
from isocenter.types import Array, Mask

Rows = dict[tuple[str, Aggregation], Array]
"""Family and aggregation -> numbers in the order of the family's names."""


@dataclass(frozen=True, eq=False)
class Levels:
    """Grey levels of a region, laid flat with a margin.

    Args:
        flat: levels, 0 outside.
        shape: of the padded grid.
        inside: flat indices of the region's voxels, rising.
        slices: where each slice that holds voxels begins in `inside`, and the end.
        shape_flat: the region's whole shape, laid flat in the same way.
        highest: largest level.
        number: levels of the region.
    """

    flat: Array
    shape: tuple[int, int, int]
    inside: Array
    slices: tuple[int, ...]
    shape_flat: Array
    highest: int
    number: int

    def offsets(self, steps: Array) -> Array:
        """Flat offsets of steps (d, h, w)."""
        return np.asarray(steps @ matrices.strides(self.shape))

    @property
    def parts(self) -> list[Array]:
        """Voxels of each slice."""
        return [self.inside[a:b] for a, b in zip(self.slices[:-1], self.slices[1:], strict=True)]


def laid_out(levels: Array, mask: Mask, shape_mask: Mask, *, number: int, margin: int) -> Levels:
    """Levels of the voxels of `mask` as the texture functions take them."""
    padded = np.pad(mask, margin)
    shape: tuple[int, int, int] = padded.shape
    flat = np.zeros(padded.size, np.uint16)
    inside = np.flatnonzero(padded)
    flat[inside] = levels
    in_plane = shape[1] * shape[2]
    starts = np.flatnonzero(np.diff(inside // in_plane, prepend=-1))
    slices = (*(int(s) for s in starts), len(inside))
    return Levels(flat, shape, inside, slices, np.pad(shape_mask, margin).ravel(), int(levels.max()), number)


def glcm(levels: Levels, aggregations: Sequence[str], *, distance: int) -> Rows:
    """Grey level co-occurrence: pairs of voxels at a distance along each direction."""
    size = levels.highest + 1

    def features(counts: Array, _voxels: int) -> Array:
        return formulas.cooccurrence_features(counts, levels.number)

    def counted(voxels: Array, offsets: Array) -> Array:
        counts = np.zeros((len(offsets), size, size), np.int32)
        matrices.cooccurrences(levels.flat, voxels, offsets, counts)
        return counts

    return _directional("glcm", levels, aggregations, counted, features, distance=distance)


def glrlm(levels: Levels, aggregations: Sequence[str]) -> Rows:
    """Grey level run lengths: how many voxels of one level follow each other along each direction."""
    size = levels.highest + 1
    longest = max(levels.shape)

    def features(counts: Array, voxels: int) -> Array:
        used = int(np.flatnonzero(counts.any(axis=0))[-1]) + 1
        return formulas.emphasis_features(counts[:, 1:used], np.arange(1, used), float(voxels))[:16]

    def counted(voxels: Array, offsets: Array) -> Array:
        counts = np.zeros((len(offsets), size, longest + 1), np.int32)
        matrices.runs(levels.flat, voxels, offsets, counts)
        return counts

    return _directional("glrlm", levels, aggregations, counted, features)


def _directional(
    family: str,
    levels: Levels,
    aggregations: Sequence[str],
    counted: Callable[[Array, Array], Array],
    features: Callable[[Array, int], Array],
    *,
    distance: int = 1,
) -> Rows:
    """Features of matrices that are counted by direction."""
    out: Rows = {}
    count = len(levels.inside)
    if _any_of(aggregations, {"3D_avg", "3D_comb"}):
        offsets = levels.offsets(distance * matrices.half_offsets(flat=False))
        out[family, "3D_avg"], out[family, "3D_comb"] = _joined(counted(levels.inside, offsets), features, count)
    if _any_of(aggregations, {"2D_avg", "2D_comb", "2_5D_avg", "2_5D_comb"}):
        offsets = levels.offsets(distance * matrices.half_offsets(flat=True))
        total: Array | int = 0
        rows = []
        for voxels in levels.parts:
            here = counted(voxels, offsets)
            total = total + here
            if _any_of(aggregations, {"2D_avg", "2D_comb"}):
                rows.append(([features(one, len(voxels)) for one in here], _merged(here, features, len(voxels))))
        if rows:
            out[family, "2D_avg"] = _mean(np.asarray([row for each, _ in rows for row in each]))
            out[family, "2D_comb"] = _mean(np.asarray([merged for _, merged in rows]))
        out[family, "2_5D_avg"], out[family, "2_5D_comb"] = _joined(np.asarray(total), features, count)
    return {key: row for key, row in out.items() if key[1] in aggregations}


def _joined(counts: Array, features: Callable[[Array, int], Array], voxels: int) -> tuple[Array, Array]:
    """Mean over directions, and features of all directions together."""
    return _mean(np.asarray([features(one, voxels) for one in counts])), _merged(counts, features, voxels)


def _merged(counts: Array, features: Callable[[Array, int], Array], voxels: int) -> Array:
    return features(counts.sum(axis=0), voxels * len(counts))


def zones(levels: Levels, aggregations: Sequence[str], families: set[str]) -> Rows:
    """Size zones and distance zones: connected voxels of one level, by size and by distance to the border."""
    out: Rows = {}
    for flat in (True, False):
        wanted = set(aggregations) & ({"2D", "2_5D"} if flat else {"3D"})
        if not wanted:
            continue
        before = np.sort(-levels.offsets(matrices.half_offsets(flat=flat)))
        distance = matrices.border_distance(levels.shape_flat, levels.shape, flat=flat)
        place = np.zeros(len(levels.flat), np.int32)
        first, sizes, near = matrices.zones(levels.flat, levels.inside, before, distance, place)
        grey = levels.flat[levels.inside[first]].astype(np.int64)
        for family, extents in (("glszm", sizes), ("gldzm", near)):
            if family not in families:
                continue
            if wanted & {"3D", "2_5D"}:
                aggregation: Aggregation = "2_5D" if flat else "3D"
                out[family, aggregation] = _zone_features(levels, grey, extents, len(levels.inside))
            if "2D" in wanted:
                edges = np.searchsorted(first, levels.slices)
                rows = [
                    _zone_features(levels, grey[a:b], extents[a:b], len(part))
                    for a, b, part in zip(edges[:-1], edges[1:], levels.parts, strict=True)
                ]
                out[family, "2D"] = _mean(np.asarray(rows))
    return {key: row for key, row in out.items() if key[1] in aggregations}


def _zone_features(levels: Levels, grey: Array, extents: Array, voxels: int) -> Array:
    counts, values = matrices.table(grey, extents, levels.highest + 1)
    return formulas.emphasis_features(counts, values, float(voxels))[:16]


def neighbourhoods(
    levels: Levels, aggregations: Sequence[str], families: set[str], *, distance: int, coarseness: int
) -> Rows:
    """Grey tone differences from the neighbours' mean, and how many neighbours depend on each voxel."""
    out: Rows = {}
    size = levels.highest + 1

    def counted(voxels: Array, offsets: Array) -> tuple[Array, Array, Array]:
        tones, there = np.zeros(size), np.zeros(size, np.int64)
        dependence = np.zeros((size, len(offsets) + 2), np.int64)
        matrices.tones_and_dependences(levels.flat, voxels, offsets, coarseness, tones, there, dependence)
        return tones, there, dependence

    def features(tones: Array, there: Array, dependence: Array, voxels: int) -> dict[str, Array]:
        used = np.arange(1, dependence.shape[1])
        return {
            "ngtdm": formulas.tone_features(there, tones),
            "ngldm": formulas.emphasis_features(dependence[:, 1:], used, float(voxels)),
        }

    if "3D" in aggregations:
        found = counted(levels.inside, levels.offsets(matrices.ball_offsets(distance, flat=False)))
        for family, row in features(*found, len(levels.inside)).items():
            out[family, "3D"] = row
    if _any_of(aggregations, {"2D", "2_5D"}):
        offsets = levels.offsets(matrices.ball_offsets(distance, flat=True))
        each = [counted(voxels, offsets) for voxels in levels.parts]
        rows = [features(*one, len(voxels)) for one, voxels in zip(each, levels.parts, strict=True)]
        tones, there, dependence = (np.sum([one[i] for one in each], axis=0) for i in range(3))
        whole = features(tones, there, dependence, len(levels.inside))
        for family in ("ngtdm", "ngldm"):
            out[family, "2D"] = _mean(np.asarray([row[family] for row in rows]))
            out[family, "2_5D"] = whole[family]
    return {key: row for key, row in out.items() if key[0] in families and key[1] in aggregations}


def _any_of(aggregations: Sequence[str], some: set[str]) -> bool:
    return not some.isdisjoint(aggregations)


def _mean(rows: Array) -> Array:
    """Mean of each column over the rows that have a number."""
    there = np.isfinite(rows)
    count = there.sum(axis=0)
    return np.asarray(np.where(count > 0, np.where(there, rows, 0).sum(axis=0) / np.maximum(count, 1), np.nan))
