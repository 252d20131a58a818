"""What intensities a region holds: statistics, histogram, intensity-volume histogram, and its peak.

Source: IBSI reference manual, arXiv:1612.07003v11, sections 3.2 to 3.5. Every function returns numbers by name; one
that has no answer is absent.
"""

import numpy as np

from isocenter.features.region import Region
from isocenter.ops import threads
from isocenter.types import Array, Float64

Numbers = dict[str, float]


def statistics(inside: Array) -> Numbers:
    """Intensity statistics (section 3.3); variance divides by n."""
    out = _shared(inside.astype(np.float64))
    out["energy"] = float(np.square(inside, dtype=np.float64).sum())
    out["root_mean_square"] = float(np.sqrt(out["energy"] / len(inside)))
    return out


def _shared(values: Float64[Array, "n"]) -> Numbers:
    """What statistics and histogram have in common."""
    mean = float(values.mean())
    away = values - mean
    square = away * away
    variance = float(square.mean())
    p10, p25, p50, p75, p90 = (float(p) for p in np.percentile(values, (10, 25, 50, 75, 90), method="linear"))
    low, high = float(values.min()), float(values.max())
    within = values[(values >= p10) & (values <= p90)]
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
        "mean_absolute_deviation": float(np.abs(away).mean()),
        "robust_mean_absolute_deviation": float(np.abs(within - within.mean()).mean()),
        "median_absolute_deviation": float(np.abs(values - p50).mean()),
    }
    if low < high:
        out["skewness"] = float((square * away).mean()) / variance**1.5
        out["excess_kurtosis"] = float((square * square).mean()) / variance**2 - 3
    if mean:
        out["coefficient_of_variation"] = float(np.sqrt(variance)) / mean
    if p75 + p25:
        out["quartile_coefficient_of_dispersion"] = (p75 - p25) / (p75 + p25)
    return out



def histogram(levels: Array) -> Numbers:
    """Intensity histogram features (section 3.4) of grey levels from 1."""
    counts = np.bincount(levels)[1:].astype(np.float64)
    out = _shared(levels.astype(np.float64))
    mode = np.flatnonzero(counts == counts.max()) + 1
    out["mode"] = float(mode[np.argmin(np.abs(mode - out["mean"]))])  # the one nearest to the mean
    shares = counts[counts > 0] / counts.sum()
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
    counts = np.bincount(np.clip(np.round((inside - low) / step).astype(np.int64), 0, len(axis) - 1), minlength=len(axis))
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
    from scipy import fft

    radius = (3000 / (4 * np.pi)) ** (1 / 3)
    reach = [int(radius / s) for s in region.spacing_mm]
    axes = [np.arange(-r, r + 1) * s for r, s in zip(reach, region.spacing_mm, strict=True)]
    ball = axes[0][:, None, None] ** 2 + axes[1][:, None] ** 2 + axes[2] ** 2 <= radius**2
    whole = region.mask.shape
    box = tuple(slice(max(0, c.start - r), min(n, c.stop + r)) for c, r, n in zip(region.core, reach, whole, strict=True))
    mask = region.mask[box]
    values = region.values[box].astype(np.float64)
    base = float(values[mask].mean())  # near 0 the transform rounds least
    shape = [fft.next_fast_len(n + b - 1, real=True) for n, b in zip(values.shape, ball.shape, strict=True)]
    spectrum = fft.rfftn(ball.astype(np.float64), shape, workers=threads.allowed())

    def in_ball(grid: Array) -> Array:
        """Sum over the ball about each voxel of the region."""
        crop = tuple(slice(r, r + n) for r, n in zip(reach, grid.shape, strict=True))
        product = fft.rfftn(grid, shape, workers=threads.allowed()) * spectrum
        return np.asarray(fft.irfftn(product, shape, workers=threads.allowed())[crop][mask])

    cut = any(c.start < r or c.stop + r > n for c, r, n in zip(region.core, reach, whole, strict=True))
    members = np.round(in_ball(np.ones(values.shape))) if cut else float(ball.sum())
    means = in_ball(values - base) / members + base
    inside = values[mask]
    return {"local_peak": float(means[inside == inside.max()].max()), "global_peak": float(means.max())}
