"""Means over a ball about each voxel of a region."""

import numpy as np

from isocenter.ops.compiled import compiled
from isocenter.types import Array, Triple


def ball_means(values: Array, mask: Array, spacing_mm: Triple, *, radius_mm: float) -> tuple[float, float]:
    """Highest mean over a ball about a brightest voxel of `mask`, and highest about any voxel of it.

    Args:
        values: `d h w`; voxels beyond its edges do not count.
        mask: the region, not empty.
        spacing_mm: between voxel centres.
        radius_mm: of the ball; a voxel belongs to it with its centre.
    """
    reach = [int(radius_mm / s) for s in spacing_mm[:2]]
    rows = [(d, h, (d * spacing_mm[0]) ** 2 + (h * spacing_mm[1]) ** 2)
            for d in range(-reach[0], reach[0] + 1) for h in range(-reach[1], reach[1] + 1)]  # fmt: skip
    ball = [(d, h, int(np.sqrt(radius_mm**2 - far) / spacing_mm[2])) for d, h, far in rows if far <= radius_mm**2]
    # Sums along rows, so that a row of the ball is one difference of two.
    width = values.shape[2] + 1
    sums = np.zeros((*values.shape[:2], width))
    np.cumsum(values, axis=2, dtype=np.float64, out=sums[:, :, 1:])
    return _peaks(values, mask, sums, np.asarray(ball, np.int64))


@compiled
def _add_difference(total: Array, plus: Array, minus: Array) -> None:
    for w in range(len(total)):
        total[w] += plus[w] - minus[w]


@compiled
def _peaks(values: Array, mask: Array, sums: Array, ball: Array) -> tuple[float, float]:
    depth, height, width = values.shape
    brightest = -np.inf
    at_brightest = -np.inf
    highest = -np.inf
    total = np.empty(width)
    cut = np.empty(width)
    for d in range(depth):
        for h in range(height):
            first, last = width, -1
            for w in range(width):
                if mask[d, h, w]:
                    first, last = min(first, w), w
            if last < 0:
                continue
            whole = 0  # voxels of the ball's rows that no edge cuts
            for w in range(width):
                total[w] = 0.0
                cut[w] = 0.0
            for k in range(len(ball)):
                dd, hh, reach = d + ball[k, 0], h + ball[k, 1], ball[k, 2]
                if dd < 0 or dd >= depth or hh < 0 or hh >= height:
                    continue
                row = sums[dd, hh]
                if first - reach >= 0 and last + reach < width:
                    _add_difference(total[first : last + 1], row[first + reach + 1 :], row[first - reach :])
                    whole += 2 * reach + 1
                else:
                    for w in range(first, last + 1):
                        low, high = max(0, w - reach), min(width, w + reach + 1)
                        total[w] += row[high] - row[low]
                        cut[w] += high - low
            for w in range(first, last + 1):
                if mask[d, h, w]:
                    mean = total[w] / (whole + cut[w])
                    highest = max(highest, mean)
                    if values[d, h, w] > brightest:
                        brightest = values[d, h, w]
                        at_brightest = mean
                    elif values[d, h, w] == brightest:
                        at_brightest = max(at_brightest, mean)
    return at_brightest, highest
