"""Edges, and the regions that closed edges enclose."""

import numpy as np
from scipy import ndimage

from isocenter.ops.filter import gaussian, gradient_magnitude
from isocenter.ops.histogram import percentiles
from isocenter.ops.slabs import by_slab
from isocenter.types import Array, Grid, Mask, Triple


def canny(grid: Grid, *, spacing: Triple, sigma: float, low: float, high: float) -> tuple[Mask, float, float]:
    """Thin edges: maxima of the smoothed gradient along its direction, linked by two thresholds.

    Args:
        grid: intensities.
        spacing: distances along (d, h, w).
        sigma: of the Gaussian, in the unit of `spacing`.
        low: edges weaker than this share of the image's strongest (99.9th percentile) gradient are dropped,
        high: and those that hold nothing stronger than this share.
    Returns: the edges, and the two thresholds as gradients.
    Raises: DegenerateImage for a flat image.
    Source: J. Canny, IEEE Trans. PAMI 8(6):679-698, 1986.
    """
    smooth = gaussian(grid, sigma=(sigma / spacing[0], sigma / spacing[1], sigma / spacing[2]))
    strength = gradient_magnitude(smooth, spacing=spacing)
    weak, strong = _thresholds(strength, low, high)

    def ridges(values: Array, height: Array) -> Array:
        return _ridges(values, height, spacing) & (height >= weak)

    candidates = by_slab(ridges, smooth, strength, halo=2, threaded=True)
    return linked(candidates, np.asarray(strength >= strong)), weak, strong


def sobel(grid: Grid, *, spacing: Triple, sigma: float, low: float, high: float) -> tuple[Mask, float, float]:
    """Thick edges: where Sobel's gradient is strong, linked by two thresholds; arguments as for `canny`.

    Source: I. Sobel, An Isotropic 3x3 Image Gradient Operator, 1968/2014.
    """
    smooth = gaussian(grid, sigma=(sigma / spacing[0], sigma / spacing[1], sigma / spacing[2]))
    strength = gradient_magnitude(smooth, spacing=spacing, sobel=True)
    weak, strong = _thresholds(strength, low, high)
    return linked(np.asarray(strength >= weak), np.asarray(strength >= strong)), weak, strong


def _thresholds(strength: Grid, low: float, high: float) -> tuple[float, float]:
    from isocenter.errors import DegenerateImage

    (top,) = percentiles(strength, (99.9,))
    if top <= 0:
        (top,) = percentiles(strength, (100,))
    if top <= 0:
        raise DegenerateImage("the image is flat: it has no edges")
    return low * top, high * top


def _ridges(smooth: Array, strength: Array, spacing: Triple) -> Array:
    """Voxels whose gradient is not smaller than half a step onwards and back along its direction.

    The neighbours' strength is taken along the axis to which the gradient is nearest, moved sidewards in proportion
    (linear between the two nearest voxels of the next line).
    """
    axes = [axis for axis in range(3) if smooth.shape[axis] > 1]
    slope = {axis: np.gradient(smooth, axis=axis) / np.float32(spacing[axis]) for axis in axes}
    size = np.stack([np.abs(slope[axis]) / spacing[axis] for axis in axes])  # in voxels of each axis
    main = np.argmax(size, axis=0)
    index = np.indices(smooth.shape, dtype=np.float32)
    most = np.maximum(size.max(axis=0), 1e-12)
    keep = np.ones(smooth.shape, np.bool_)
    for sign in (1.0, -1.0):
        at = index.copy()
        for number, axis in enumerate(axes):
            at[axis] += sign * np.sign(slope[axis]) * np.where(main == number, 1, size[number] / most)
        keep &= strength >= ndimage.map_coordinates(strength, at, order=1, mode="nearest") * (1 - 1e-6)
    return keep


def linked(weak: Mask, strong: Mask) -> Mask:
    """The parts of `weak` (touching at corners too) that hold some of `strong`."""
    parts = np.empty(weak.shape, np.int32)
    count = int(ndimage.label(weak, structure=np.ones((3, 3, 3)), output=parts))
    kept = np.zeros(count + 1, np.bool_)
    kept[np.unique(parts[strong & weak])] = True
    kept[0] = False
    return np.asarray(kept[parts])


def enclosed(edges: Mask, *, gap: float, spacing: Triple) -> Mask:
    """What closed edges surround: gaps up to `gap` are bridged, inner edges included, loose ends dropped."""
    from isocenter.ops.morphology import closing, dilate, fill_holes

    joined = closing(edges, radius=gap / 2, spacing=spacing) | edges if gap else edges
    filled = fill_holes(joined)
    inside = filled & ~joined
    rim = max(s for s, n in zip(spacing, edges.shape, strict=True) if n > 1)
    return dilate(inside, radius=max(rim, gap / 2), spacing=spacing) & filled
