"""Clustering of intensities, on their histogram: exact to a bin, and as fast for a big image as for a small one."""

import itertools
from dataclasses import dataclass

import numpy as np

from isocenter.errors import DegenerateImage
from isocenter.types import Array, Float64, Int64

Counts = Int64[Array, "bins"]
Centres = Float64[Array, "bins"]


def k_means(counts: Counts, centres: Centres, *, classes: int) -> Float64[Array, "classes"]:
    """Means of the partition into intervals with the least within-class variance, darkest first.

    In one dimension the best k-means partition is found exactly by dynamic programming: no random starts.

    Args:
        counts: voxels in each bin.
        centres: the bins' intensities, increasing.
        classes: how many.
    Raises: DegenerateImage if fewer than `classes` bins hold anything.
    Source: H. Wang, M. Song, The R Journal 3(2):29-33, 2011, eq. (1).
    """
    full = counts > 0
    weight, value = counts[full].astype(np.float64), centres[full]
    n = len(weight)
    if n < classes:
        raise DegenerateImage(f"cannot part {n} distinct intensities into {classes} classes: ask for fewer")
    shifted = value - np.average(value, weights=weight)  # keeps the sums of squares small
    w0 = np.concatenate(([0.0], np.cumsum(weight)))
    w1 = np.concatenate(([0.0], np.cumsum(weight * shifted)))
    w2 = np.concatenate(([0.0], np.cumsum(weight * shifted**2)))
    cost = w2[1:] - w1[1:] ** 2 / w0[1:]  # of bins 0..j in one class
    starts = np.zeros((classes, n), np.int64)
    for k in range(1, classes):
        best = np.full(n, np.inf)
        for j in range(k, n):
            i = np.arange(k, j + 1)  # the last class is i..j
            mass = w0[j + 1] - w0[i]
            within = cost[i - 1] + (w2[j + 1] - w2[i]) - (w1[j + 1] - w1[i]) ** 2 / mass
            at = int(np.argmin(within))
            best[j], starts[k, j] = within[at], i[at]
        cost = best
    edges = [n]
    for k in range(classes - 1, -1, -1):
        edges.append(int(starts[k, edges[-1] - 1]) if k else 0)
    edges.reverse()
    return np.asarray([np.average(value[a:b], weights=weight[a:b]) for a, b in itertools.pairwise(edges)])


def interval_cuts(counts: Counts, centres: Centres, means: Float64[Array, "classes"]) -> Float64[Array, "cuts"]:
    """Upper ends of the intervals around `means`: between the last bin of one class and the first of the next."""
    full = centres[counts > 0]
    middles = (means[1:] + means[:-1]) / 2
    last = np.searchsorted(full, middles, side="right") - 1
    return np.asarray((full[last] + full[np.minimum(last + 1, len(full) - 1)]) / 2)


def fuzzy_c_means(
    counts: Counts, centres: Centres, *, classes: int, fuzziness: float = 2.0, max_iterations: int = 1000
) -> tuple[Float64[Array, "classes"], Float64[Array, "classes bins"]]:
    """Means of classes to which every intensity belongs in part, darkest first, and how much each bin belongs.

    Starts from `k_means`.

    Args:
        counts: voxels in each bin.
        centres: the bins' intensities.
        classes: how many.
        fuzziness: the exponent; near 1 is k-means.
        max_iterations: at most.
    Raises: DegenerateImage where two classes coincide.
    Source: J. Bezdek, R. Ehrlich, W. Full, Comput. Geosci. 10(2-3):191-203, 1984, eq. (11).
    """
    means = k_means(counts, centres, classes=classes)
    span = float(centres[-1] - centres[0])
    member = np.zeros((classes, len(centres)))
    for _ in range(max_iterations):
        distance = np.maximum(np.abs(centres - means[:, None]), 1e-12 * span)
        power = distance ** (-2 / (fuzziness - 1))
        member = power / power.sum(axis=0)
        weight = counts * member**fuzziness
        before, means = means, (weight @ centres) / weight.sum(axis=1)
        if np.abs(means - before).max() < 1e-7 * span:
            break
    if not np.all(np.diff(means) > 1e-6 * span):
        raise DegenerateImage(f"no {classes} separate classes of intensity were found (means {means.round(3)})")
    return means, member


@dataclass(frozen=True)
class Mixture:
    """Pure classes of a Gaussian mixture: means (darkest first), common standard deviation, shares.

    `shares` sums to 1 together with the mixed classes' shares, which are not listed.
    """

    means: Float64[Array, "classes"]
    deviation: float
    shares: Float64[Array, "classes"]
    cuts: Float64[Array, "classes_less_one"]


def gaussian_mixture(
    counts: Counts, centres: Centres, *, classes: int, partial_volume: bool = True, max_iterations: int = 2000
) -> Mixture:
    """Fit Gaussians of one common variance by expectation maximisation, starting from `k_means`.

    With `partial_volume`, voxels that two neighbouring classes share half and half form classes of their own, whose
    means lie midway: without them a broad pure class would swallow the boundary voxels. The cut between two classes
    is then the intensity at which a voxel holds as much of one as of the other; without `partial_volume` it is where
    the two posteriors are equal.

    Raises: DegenerateImage where a class dies out or two classes coincide.
    Source: A. Dempster et al., J. R. Stat. Soc. B 39(1):1-38, 1977; mixed classes: P. Santago, H. D. Gage,
        IEEE Trans. Med. Imaging 12(3):566-574, 1993, with the mixing proportion fixed at one half.
    """
    weight = counts / counts.sum()
    means = k_means(counts, centres, classes=classes)
    parts = _mixing(classes, partial_volume=partial_volume)
    shares = np.full(len(parts), 1 / len(parts))
    deviation = float(centres[-1] - centres[0]) / classes / 4
    score = -np.inf
    for _ in range(max_iterations):
        log = (
            np.log(shares)[:, None] - 0.5 * ((centres - (parts @ means)[:, None]) / deviation) ** 2 - np.log(deviation)
        )
        top = log.max(axis=0)
        given = np.exp(log - top)
        total = given.sum(axis=0)
        given *= weight / total  # joint probability of class and bin
        before, score = score, float(weight @ (top + np.log(total)))
        shares = np.maximum(given.sum(axis=1), 1e-12)
        means = np.linalg.solve(parts.T @ (shares[:, None] * parts), parts.T @ (given @ centres))
        deviation = float(np.sqrt(np.sum(given * (centres - (parts @ means)[:, None]) ** 2)))
        if deviation <= 0 or not np.all(np.diff(means) > 0):
            raise DegenerateImage(f"no {classes} separate classes of intensity were found (means {means.round(3)})")
        if score - before < 1e-9:
            break
    pure = shares[:: 2 if partial_volume else 1]
    if pure.min() < 1e-6:
        raise DegenerateImage(f"one of {classes} classes died out (shares {pure.round(6)}): ask for fewer")
    cuts = (means[1:] + means[:-1]) / 2
    if not partial_volume:
        cuts = cuts + deviation**2 / np.diff(means) * np.log(pure[:-1] / pure[1:])
    return Mixture(means, deviation, pure, cuts)


def _mixing(classes: int, *, partial_volume: bool) -> Float64[Array, "parts classes"]:
    """Row: a class, pure or mixed; column: how much of each pure class it holds."""
    if not partial_volume:
        return np.eye(classes)
    parts = np.zeros((2 * classes - 1, classes))
    parts[np.arange(0, 2 * classes, 2), np.arange(classes)] = 1
    for i in range(classes - 1):
        parts[2 * i + 1, i : i + 2] = 0.5
    return parts
