"""What colours a region has."""

import numpy as np

from isocenter.features.first_order import Numbers
from isocenter.types import Array

_BINS = 8
SPACES = {"rgb": ("red", "green", "blue"), "hsv": ("hue", "saturation", "value"), "lab": ("lightness", "a", "b")}


def colour(inside: Array) -> Numbers:
    """Histogram of 8 bins a channel (RGB, HSV), and mean, deviation and skewness of each channel in RGB, HSV and Lab.

    Args:
        inside: red, green and blue of each pixel of the region, `3 n`, 0 to 255.
    Source: M. Swain and D. Ballard, IJCV 7:11-32, 1991 (histograms); M. Stricker and M. Orengo, Proc. SPIE
        2420:381-392, 1995 (moments; hue is taken as an angle); CIE 15 (Lab, D65, sRGB primaries of IEC 61966-2-1).
    """
    rgb = inside.astype(np.float64) / 255
    spaces = {"rgb": rgb, "hsv": _hsv(rgb), "lab": _lab(rgb)}
    out: Numbers = {}
    for space, channels in spaces.items():
        for name, values in zip(SPACES[space], channels, strict=True):
            if space != "lab":
                counts = np.histogram(values, bins=_BINS, range=(0, 1))[0] / len(values)
                out |= {f"{space}_{name}_bin_{n}": float(share) for n, share in enumerate(counts)}
            out |= {f"{space}_{name}_{key}": value for key, value in _moments(values, angle=name == "hue").items()}
    return out


def names() -> tuple[str, ...]:
    """Names of `colour`."""
    return tuple(colour(np.zeros((3, 1))))


def _moments(values: Array, *, angle: bool) -> Numbers:
    """Mean, deviation, and the cube root of the third central moment (in the channel's own unit)."""
    if angle:
        middle = np.angle(np.exp(2j * np.pi * values).mean()) / (2 * np.pi)
        away = np.mod(values - middle + 0.5, 1) - 0.5
        mean = float(np.mod(middle, 1))
    else:
        mean = float(values.mean())
        away = values - mean
    return {"mean": mean, "deviation": float(np.sqrt((away**2).mean())), "skewness": float(np.cbrt((away**3).mean()))}


def _hsv(rgb: Array) -> Array:
    """Hue, saturation, value, each 0 to 1 (A. R. Smith, SIGGRAPH 1978)."""
    red, green, blue = rgb
    top, bottom = rgb.max(axis=0), rgb.min(axis=0)
    spread = top - bottom
    safe = np.where(spread > 0, spread, 1)
    hue = np.where(
        top == red, (green - blue) / safe, np.where(top == green, 2 + (blue - red) / safe, 4 + (red - green) / safe)
    )
    hue = np.where(spread > 0, np.mod(hue / 6, 1), 0)
    return np.stack((hue, np.where(top > 0, spread / np.where(top > 0, top, 1), 0), top))


def _lab(rgb: Array) -> Array:
    """CIE Lab of sRGB colours: lightness 0 to 100."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    matrix = np.asarray(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    xyz = matrix @ linear / np.asarray([0.95047, 1.0, 1.08883])[:, None]
    root = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack((116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])))
