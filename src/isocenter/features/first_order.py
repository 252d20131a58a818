"""What intensities a region holds: statistics, histogram, intensity-volume histogram, and its peak.

Source: IBSI reference manual, arXiv:1612.07003v11, sections 3.2 to 3.5. Every function returns numbers by name; one
that has no answer is absent.
"""

import numpy as np

from isocenter.features.region import Region
from isocenter.types import Array, Float64

Numbers = dict[str, float]


def statistics(inside: Array) -> Numbers:
    """Intensity statistics (section 3.3); variance divides by n."""
    values, counts = _counted(inside)
    out = _shared(values, counts)
    out["energy"] = float(np.sum(counts * values**2))
    out["root_mean_square"] = float(np.sqrt(out["energy"] / len(inside)))
    return out


def _counted(inside: Array) -> tuple[Array, Array]:
    """Values, rising, and how often each occurs. Whole numbers are counted; others are only sorted."""
    if inside.dtype.kind in "iu" and int(inside.max()) - int(inside.min()) < 1 << 16:
        low = int(inside.min())
        counts = np.bincount(inside.astype(np.int64) - low)
        there = np.flatnonzero(counts)
        return (there + low).astype(np.float64), counts[there].astype(np.float64)
    return np.sort(inside).astype(np.float64), np.ones(len(inside))


def _shared(values: Float64[Array, "n"], counts: Float64[Array, "n"]) -> Numbers:
    """What statistics and histogram have in common."""
    ends = np.cumsum(counts)
    total = ends[-1]

    def percentile(share: float) -> float:
        place = (total - 1) * share  # linear between order statistics
        low = values[np.searchsorted(ends, np.floor(place), side="right")]
        high = values[np.searchsorted(ends, np.ceil(place), side="right")]
        return float(low + (high - low) * (place - np.floor(place)))

    mean = float(values @ counts / total)
    away = values - mean
    square = away * away
    variance = float(square @ counts / total)
    p10, p25, p50, p75, p90 = (percentile(q) for q in (0.1, 0.25, 0.5, 0.75, 0.9))
    robust = slice(int(np.searchsorted(values, p10)), int(np.searchsorted(values, p90, side="right")))
    kept, weights = values[robust], counts[robust]
    low, high = float(values[0]), float(values[-1])
    out = {
        "mean": mean,
        "variance": variance,
        "median": p50,
        "minimum": low,
        "percentile_10": p10,
        "percentile_90": p90,
        "maximum": high,
        "interquartile_range": p75 - p25,
        "range": high - low,
        "mean_absolute_deviation": float(np.abs(away) @ counts / total),
        "median_absolute_deviation": float(np.abs(values - p50) @ counts / total),
    }
    if weights.sum():
        centre = kept @ weights / weights.sum()
        out["robust_mean_absolute_deviation"] = float(np.abs(kept - centre) @ weights / weights.sum())
    if low < high:
        out["skewness"] = float((square * away) @ counts / total) / variance**1.5
        out["excess_kurtosis"] = float((square * square) @ counts / total) / variance**2 - 3
    if mean:
        out["coefficient_of_variation"] = float(np.sqrt(variance)) / mean
    if p75 + p25:
        out["quartile_coefficient_of_dispersion"] = (p75 - p25) / (p75 + p25)
    return out


def histogram(levels: Array) -> Numbers:
    """Intensity histogram features (section 3.4) of grey levels from 1."""
    counts = np.bincount(levels)[1:].astype(np.float64)
    there = np.flatnonzero(counts)
    out = _shared(there + 1.0, counts[there])
    mode = np.flatnonzero(counts == counts.max()) + 1
    out["mode"] = float(mode[np.argmin(np.abs(mode - out["mean"]))])  # the one nearest to the mean
    shares = counts[there] / counts.sum()
    out["entropy"] = float(-np.sum(shares * np.log2(shares))) + 0.0
    out["uniformity"] = float(np.sum(shares**2))
    if len(counts) > 1:
        gradient = np.gradient(counts)
        out["maximum_gradient"] = float(gradient.max())
        out["maximum_gradient_level"] = float(gradient.argmax() + 1)
        out["minimum_gradient"] = float(gradient.min())
        out["minimum_gradient_level"] = float(gradient.argmin() + 1)
    return out


def intensity_volume_histogram(inside: Array, *, low: float, high: float, step: float) -> Numbers:
    """Which share of the volume has at least an intensity (section 3.5).

    Args:
        inside: intensities, or the middles of their bins.
        low: smallest intensity of the axis.
        high: largest intensity of the axis.
        step: between the intensities of the axis.
    """
    axis = low + step * np.arange(round((high - low) / step) + 1)
    counts = np.bincount(
        np.clip(np.round((inside - low) / step).astype(np.int64), 0, len(axis) - 1), minlength=len(axis)
    )
    volume = 1 - np.concatenate(((0,), np.cumsum(counts)[:-1])) / len(inside)
    fraction = (axis - low) / (high - low)
    out = {}
    for percent in (10, 90):
        out[f"volume_at_intensity_{percent}"] = float(volume[np.argmax(fraction >= percent / 100 - 1e-12)])
        below = volume <= percent / 100 + 1e-12
        out[f"intensity_at_volume_{percent}"] = float(axis[np.argmax(below)]) if below.any() else float(axis[-1] + step)
    out["volume_difference_10_90"] = out["volume_at_intensity_10"] - out["volume_at_intensity_90"]
    out["intensity_difference_10_90"] = out["intensity_at_volume_10"] - out["intensity_at_volume_90"]
    out["area_under_curve"] = float(np.trapezoid(volume, fraction))
    return out


def local_intensity(region: Region) -> Numbers:
    """Mean intensity in a sphere of 1 cm3 (section 3.2): about the brightest voxel, and the highest about any."""
    from isocenter.ops.peak import ball_means

    radius = (3000 / (4 * np.pi)) ** (1 / 3)
    local, peak = ball_means(region.values, region.mask, region.spacing_mm, radius_mm=radius)
    return {"local_peak": local, "global_peak": peak}
