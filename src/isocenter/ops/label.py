"""From intensities to classes."""

import numpy as np

from isocenter.types import Array, Float64, Grid, LabelGrid, Mask, Triple


def classes_by_cuts(grid: Grid, cuts: Float64[Array, "k"], *, within: Mask | None = None) -> LabelGrid:
    """Class 1 up to the first cut (inclusive), 2 up to the second, ...; 0 outside `within`."""
    labels = np.empty(grid.shape, np.uint8)
    for index, plane in enumerate(grid):
        labels[index] = np.searchsorted(cuts, plane.ravel(), side="left").reshape(plane.shape) + 1
        if within is not None:
            labels[index][~within[index]] = 0
    return labels


def smooth_classes(
    grid: Grid,
    labels: LabelGrid,
    *,
    means: Float64[Array, "k"],
    deviation: float,
    smoothness: float,
    spacing: Triple,
    iterations: int = 6,
) -> LabelGrid:
    """Let each voxel weigh its intensity against its six neighbours' classes (iterated conditional modes).

    Minimises `(x - mean_k)^2 / (2 deviation^2) - smoothness * sum of w_n [neighbour n is k]` voxel by voxel on a Potts
    field; a neighbour's weight w_n is the smallest spacing over the spacing towards it. Voxels of class 0 stay 0.

    Source: J. Besag, J. R. Stat. Soc. B 48(3):259-302, 1986, eq. (8).
    """
    kinds = np.arange(1, len(means) + 1, dtype=np.uint8)
    weights = [smoothness * min(spacing) / s for s in spacing]
    for _ in range(iterations):
        new = np.empty_like(labels)
        for d in range(grid.shape[0]):
            plane = grid[d].astype(np.float32)
            best = np.full(plane.shape, np.inf, np.float32)
            for kind in kinds:
                energy = 0.5 * ((plane - np.float32(means[kind - 1])) / np.float32(deviation)) ** 2
                energy -= _agreement(labels, d, kind, weights)
                better = energy < best
                new[d][better] = kind
                best[better] = energy[better]
            new[d][labels[d] == 0] = 0
        changed = int(np.count_nonzero(new != labels))
        labels = new
        if changed <= 1e-4 * labels.size:
            break
    return labels


def _agreement(labels: LabelGrid, d: int, kind: np.uint8, weights: list[float]) -> Float64[Array, "h w"]:
    """Weighted count of the six neighbours in class `kind`, for slice `d`."""
    total = np.zeros(labels.shape[1:])
    for other in (d - 1, d + 1):
        if 0 <= other < len(labels):
            total += weights[0] * (labels[other] == kind)
    same = labels[d] == kind
    total[1:] += weights[1] * same[:-1]
    total[:-1] += weights[1] * same[1:]
    total[:, 1:] += weights[2] * same[:, :-1]
    total[:, :-1] += weights[2] * same[:, 1:]
    return total
