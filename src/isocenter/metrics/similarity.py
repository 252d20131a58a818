"""How close an image comes to the one that it should be."""

import numpy as np
from scipy import ndimage

from isocenter.errors import DegenerateImage, InputError
from isocenter.types import Array

_SIGMA, _REACH = 1.5, 3.5
_K1, _K2 = 0.01, 0.03


def psnr(image: Array, truth: Array, *, reach: float | None = None) -> float:
    """Peak signal-to-noise ratio in dB: 10 log10(reach^2 / mean squared error); infinite where both are equal.

    Args:
        image: any shape.
        truth: the same shape.
        reach: between the least and the largest value that can be; None: that of the truth.
    Raises: InputError for other shapes; DegenerateImage for a truth of one value.
    """
    span = _span(image, truth, reach)
    error = float(np.mean((np.asarray(image, np.float64) - np.asarray(truth, np.float64)) ** 2))
    return float("inf") if error == 0 else float(10 * np.log10(span**2 / error))


def ssim(image: Array, truth: Array, *, reach: float | None = None) -> float:
    """Structural similarity, mean over the voxels at which the Gaussian window (deviation 1.5) lies inside.

    Source: Z. Wang et al., IEEE Trans. Image Process. 13:600-612, 2004, equation 13; K1 .01, K2 .03.

    Args:
        image: `c *s`; axes of one voxel are left out, channels are averaged.
        truth: the same shape.
        reach: see `psnr`.
    Raises: see `psnr`.
    """
    span = _span(image, truth, reach)
    found = [_similar(np.squeeze(a), np.squeeze(b), span) for a, b in zip(image, truth, strict=True)]
    return float(np.mean(found))


def _similar(image: Array, truth: Array, span: float) -> float:
    x, y = np.asarray(image, np.float64), np.asarray(truth, np.float64)

    def mean(values: Array) -> Array:
        return np.asarray(ndimage.gaussian_filter(values, _SIGMA, truncate=_REACH, mode="reflect"))

    mx, my = mean(x), mean(y)
    vx, vy, vxy = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = (_K1 * span) ** 2, (_K2 * span) ** 2
    each = (2 * mx * my + c1) * (2 * vxy + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    edge = int(_REACH * _SIGMA + 0.5)
    inside = tuple(slice(edge, n - edge) if n > 2 * edge else slice(None) for n in each.shape)
    return float(each[inside].mean())


def _span(image: Array, truth: Array, reach: float | None) -> float:
    if np.shape(image) != np.shape(truth):
        raise InputError(f"an image of {np.shape(image)} is compared with one of {np.shape(truth)}")
    span = float(np.ptp(truth)) if reach is None else reach
    if not span > 0:
        raise DegenerateImage("the true image holds one value only: nothing can be compared with it")
    return span
