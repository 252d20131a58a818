"""Edges, and the regions that closed edges enclose."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy import ndimage

from isocenter.ops import threads
from isocenter.ops.filter import gaussian, gradient_magnitude
from isocenter.ops.histogram import histogram, value_range
from isocenter.ops.slabs import slabs
from isocenter.types import Array, Grid, Mask, Triple

_AT_ONCE = 1_000_000  # voxels whose neighbours are looked up together


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

    candidates = _ridges(smooth, strength, spacing, weak)
    certain = np.asarray(strength >= strong)
    del smooth, strength  # linking wants memory of its own
    return linked(candidates, certain), weak, strong


def sobel(grid: Grid, *, spacing: Triple, sigma: float, low: float, high: float) -> tuple[Mask, float, float]:
    """Thick edges: where Sobel's gradient is strong, linked by two thresholds; arguments as for `canny`.

    Source: I. Sobel, An Isotropic 3x3 Image Gradient Operator, 1968/2014.
    """
    smooth = gaussian(grid, sigma=(sigma / spacing[0], sigma / spacing[1], sigma / spacing[2]))
    strength = gradient_magnitude(smooth, spacing=spacing, sobel=True)
    weak, strong = _thresholds(strength, low, high)
    candidates, certain = np.asarray(strength >= weak), np.asarray(strength >= strong)
    del smooth, strength
    return linked(candidates, certain), weak, strong


def _thresholds(strength: Grid, low: float, high: float) -> tuple[float, float]:
    from isocenter.errors import DegenerateImage

    strongest = value_range(strength)[1]
    if strongest <= 0:
        raise DegenerateImage("the image is flat: it has no edges")
    counts, centres = histogram(strength, bins=65536)
    top = float(centres[np.searchsorted(np.cumsum(counts), 0.999 * strength.size)])
    if top <= 1e-3 * strongest:  # nearly all is flat: what edges there are decide
        top = strongest
    return low * top, high * top


def _ridges(smooth: Grid, strength: Grid, spacing: Triple, weak: float) -> Mask:
    """Voxels of at least `weak` gradient that is not smaller than a step onwards and back along its direction.

    A step goes to the next line along the axis to which the gradient is nearest, and sidewards in proportion; there the
    strength is taken linearly between neighbours.
    """
    axes = [axis for axis in range(3) if smooth.shape[axis] > 1]
    keep = np.zeros(smooth.shape, np.bool_)

    def judge(part: slice) -> None:
        at = np.nonzero(strength[part] >= weak)
        at = (at[0] + part.start, at[1], at[2])
        if not at[0].size:
            return
        slope = np.zeros((3, at[0].size), np.float32)
        for axis in axes:
            ahead, behind = (_moved(at, axis, sign, smooth.shape[axis]) for sign in (1, -1))
            slope[axis] = (smooth[ahead] - smooth[behind]) / spacing[axis] ** 2  # in voxels of each axis
        slope /= np.maximum(np.abs(slope).max(axis=0), 1e-12)
        place = np.asarray(at, dtype=np.float32)
        left = np.arange(at[0].size)
        for sign in (1.0, -1.0):  # the second look is for what the first one left
            there = place[:, left] + sign * slope[:, left]
            beside = ndimage.map_coordinates(strength, there, np.float32, order=1, mode="nearest", prefilter=False)
            left = left[strength[tuple(index[left] for index in at)] >= beside * (1 - 1e-6)]
        keep[tuple(index[left] for index in at)] = True

    crew = threads.allowed()
    pieces = slabs(smooth.shape, parts=max(2 * crew, smooth.size // _AT_ONCE))
    with ThreadPoolExecutor(crew) as pool:
        list(pool.map(judge, pieces))
    return keep


def _moved(at: tuple[Array, Array, Array], axis: int, sign: int, size: int) -> tuple[Array, ...]:
    """The neighbours of voxels along one axis; at the edge, themselves."""
    return tuple(np.clip(index + sign, 0, size - 1) if i == axis else index for i, index in enumerate(at))


def linked(weak: Mask, strong: Mask) -> Mask:
    """The parts of `weak` (touching at corners too) that hold some of `strong`."""
    parts = np.empty(weak.shape, np.int32)
    count = int(ndimage.label(weak, structure=np.ones((3, 3, 3)), output=parts))
    kept = np.zeros(count + 1, np.bool_)
    kept[parts[strong & weak]] = True
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
