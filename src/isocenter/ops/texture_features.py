"""Numbers that describe a texture matrix. Each function returns them in the order of its names below.

Source: IBSI reference manual, arXiv:1612.07003v11, sections 3.6 to 3.11. Logarithms are to base 2.
"""

import math

import numpy as np

from isocenter.ops.compiled import compiled
from isocenter.types import Array

COOCCURRENCE = (
    "joint_maximum", "joint_average", "joint_variance", "joint_entropy", "difference_average", "difference_variance",
    "difference_entropy", "sum_average", "sum_variance", "sum_entropy", "angular_second_moment", "contrast",
    "dissimilarity", "inverse_difference", "normalised_inverse_difference", "inverse_difference_moment",
    "normalised_inverse_difference_moment", "inverse_variance", "correlation", "autocorrelation", "cluster_tendency",
    "cluster_shade", "cluster_prominence", "first_information_correlation", "second_information_correlation",
)  # fmt: skip

EMPHASIS = (
    "short", "long", "low_grey", "high_grey", "short_low_grey", "short_high_grey", "long_low_grey", "long_high_grey",
    "grey_non_uniformity", "normalised_grey_non_uniformity", "length_non_uniformity",
    "normalised_length_non_uniformity", "percentage", "grey_variance", "length_variance", "entropy", "energy",
)  # fmt: skip
"""Of a matrix of grey level against length, size, distance or dependence."""

TONE = ("coarseness", "contrast", "busyness", "complexity", "strength")


@compiled
def cooccurrence_features(counts: Array, n_levels: int) -> Array:
    """Features of a grey level co-occurrence matrix; NaN where there is no pair.

    Args:
        counts: one-sided counts, levels from 0; made symmetric here.
        n_levels: number of grey levels of the region.
    """
    out = np.full(25, np.nan)
    size = counts.shape[0]
    total = 0.0
    for i in range(size):
        for j in range(size):
            total += 2.0 * counts[i, j]
    if total == 0.0:
        return out
    margin = np.zeros(size)
    differences = np.zeros(size)
    sums = np.zeros(2 * size)
    largest = mean = energy = entropy = auto = 0.0
    for i in range(1, size):
        for j in range(i, size):
            both = counts[i, j] + counts[j, i]
            if both == 0:
                continue
            p = both / total  # of (i, j), and the same again of (j, i)
            times = 1.0
            if i != j:
                times = 2.0
                margin[j] += p
            margin[i] += p
            largest = max(largest, p)
            energy += times * p * p
            entropy -= times * p * math.log2(p)
            differences[j - i] += times * p
            sums[i + j] += times * p
            auto += times * p * i * j
    for i in range(1, size):
        mean += i * margin[i]
    variance = margin_entropy = 0.0
    for i in range(1, size):
        if margin[i] > 0.0:
            variance += (i - mean) ** 2 * margin[i]
            margin_entropy -= margin[i] * math.log2(margin[i])
    out[0], out[1], out[2], out[3] = largest, mean, variance, entropy
    _of_differences(differences, n_levels, out)
    _of_sums(sums, mean, out)
    out[10], out[19] = energy, auto
    if variance > 0.0:
        out[18] = (auto - mean * mean) / variance
    # The matrix is symmetric, so both entropies of independent margins (HXY1, HXY2) are twice the margin's.
    if margin_entropy > 0.0:
        out[23] = (entropy - 2.0 * margin_entropy) / margin_entropy
        out[24] = math.sqrt(max(0.0, 1.0 - math.exp(-2.0 * (2.0 * margin_entropy - entropy))))
    return out


@compiled
def _of_differences(differences: Array, n_levels: int, out: Array) -> None:
    """What the distribution of differences of levels gives."""
    mean = entropy = contrast = inverse = inverse_norm = moment = moment_norm = inverse_variance = 0.0
    for k in range(len(differences)):
        p = differences[k]
        if p == 0.0:
            continue
        mean += k * p
        contrast += k * k * p
        entropy -= p * math.log2(p)
        inverse += p / (1.0 + k)
        inverse_norm += p / (1.0 + k / n_levels)
        moment += p / (1.0 + k * k)
        moment_norm += p / (1.0 + k * k / (n_levels * n_levels))
        if k:
            inverse_variance += p / (k * k)
    variance = 0.0
    for k in range(len(differences)):
        variance += (k - mean) ** 2 * differences[k]
    out[4], out[5], out[6], out[11], out[12] = mean, variance, entropy, contrast, mean
    out[13], out[14], out[15], out[16], out[17] = inverse, inverse_norm, moment, moment_norm, inverse_variance


@compiled
def _of_sums(sums: Array, level_mean: float, out: Array) -> None:
    """What the distribution of sums of levels gives."""
    mean = entropy = tendency = shade = prominence = 0.0
    for k in range(len(sums)):
        p = sums[k]
        if p == 0.0:
            continue
        mean += k * p
        entropy -= p * math.log2(p)
        away = k - 2.0 * level_mean
        tendency += away**2 * p
        shade += away**3 * p
        prominence += away**4 * p
    out[7], out[8], out[9], out[20], out[21], out[22] = mean, tendency, entropy, tendency, shade, prominence


@compiled
def emphasis_features(counts: Array, values: Array, n_voxels: float) -> Array:
    """Features of a matrix of grey level (rows, from 0) against `values` (columns): runs, zones, dependences.

    Args:
        counts: how often each occurs.
        values: length, size, distance or dependence of each column.
        n_voxels: voxels that could have begun one, for the percentage.
    Returns: in the order of `EMPHASIS`; NaN where the matrix is empty.
    """
    out = np.full(17, np.nan)
    rows, columns = counts.shape
    total = 0.0
    for i in range(rows):
        for j in range(columns):
            total += counts[i, j]
    if total == 0.0:
        return out
    by_level = np.zeros(rows)
    by_value = np.zeros(columns)
    low = high = short_low = short_high = long_low = long_high = entropy = energy = 0.0
    for i in range(rows):
        square = float(i * i)
        for j in range(columns):
            n = counts[i, j]
            if n == 0:
                continue
            p = n / total
            v2 = float(values[j]) ** 2
            by_level[i] += p
            by_value[j] += p
            short_low += p / (square * v2)
            short_high += p * square / v2
            long_low += p * v2 / square
            long_high += p * square * v2
            entropy -= p * math.log2(p)
            energy += p * p
    grey_mean = grey_nonuniform = 0.0
    for i in range(1, rows):
        p = by_level[i]
        grey_mean += p * i
        grey_nonuniform += p * p
        low += p / (i * i)
        high += p * i * i
    short = long = value_mean = value_nonuniform = 0.0
    for j in range(columns):
        p = by_value[j]
        v = float(values[j])
        value_mean += p * v
        value_nonuniform += p * p
        if p > 0.0:
            short += p / (v * v)
            long += p * v * v
    grey_variance = value_variance = 0.0
    for i in range(1, rows):
        grey_variance += by_level[i] * (i - grey_mean) ** 2
    for j in range(columns):
        value_variance += by_value[j] * (values[j] - value_mean) ** 2
    out[0], out[1], out[2], out[3] = short, long, low, high
    out[4], out[5], out[6], out[7] = short_low, short_high, long_low, long_high
    out[8], out[9] = grey_nonuniform * total, grey_nonuniform
    out[10], out[11] = value_nonuniform * total, value_nonuniform
    out[12], out[13], out[14], out[15], out[16] = total / n_voxels, grey_variance, value_variance, entropy, energy
    return out


@compiled
def tone_features(counted: Array, tones: Array) -> Array:
    """Features of a neighbourhood grey tone difference matrix, by level from 0; NaN where no voxel has a neighbour."""
    out = np.full(5, np.nan)
    total = counted.sum()
    if total == 0:
        return out
    present = np.flatnonzero(counted)
    weighted = pairs = strength = busyness_base = complexity = 0.0
    all_tones = 0.0
    for n in range(len(present)):
        i = present[n]
        weighted += counted[i] / total * tones[i]
        all_tones += tones[i]
    for a in range(len(present)):
        i = present[a]
        p_i = counted[i] / total
        for b in range(len(present)):
            j = present[b]
            p_j = counted[j] / total
            pairs += p_i * p_j * (i - j) ** 2
            strength += (p_i + p_j) * (i - j) ** 2
            busyness_base += abs(i * p_i - j * p_j)
            complexity += abs(i - j) * (p_i * tones[i] + p_j * tones[j]) / (p_i + p_j)
    kinds = len(present)
    out[0] = min(1e6, 1.0 / weighted) if weighted > 0.0 else 1e6
    out[1] = pairs / (kinds * (kinds - 1)) * all_tones / total if kinds > 1 else 0.0
    out[2] = weighted / busyness_base if kinds > 1 and busyness_base > 0.0 else 0.0
    out[3] = complexity / total
    out[4] = strength / all_tones if all_tones > 0.0 else 0.0
    return out
