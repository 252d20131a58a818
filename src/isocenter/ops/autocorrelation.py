"""Whether near voxels are alike: Moran's I and Geary's C, every pair weighted by the inverse of its distance."""

import numpy as np

from isocenter.ops.compiled import compiled
from isocenter.types import Array, Triple


def memory_bytes(shape: tuple[int, ...]) -> int:
    """Most memory of `moran_and_geary` on a box."""
    d, h, w = (_half(n) for n in shape)
    return 2 * 8 * shape[0] * 2 * h * (w + 1) + 3 * 4 * (d + 1) * (h + 1) * (w + 1)


def moran_and_geary(values: Array, mask: Array, spacing_mm: Triple) -> tuple[float, float]:
    """Moran's I and Geary's C of the values in `mask`, over all pairs of voxels.

    Sums over pairs are sums over frequencies (Parseval), so nothing is transformed back.

    Args:
        values: `d h w`.
        mask: of the region, not empty; its values differ.
        spacing_mm: between voxel centres.
    Source: IBSI reference manual, arXiv:1612.07003v11, N365 and NPT7.
    """
    count = int(np.count_nonzero(mask))
    inside = values[mask].astype(np.float64)
    centred = np.zeros(values.shape, np.float32)
    centred[mask] = inside - inside.mean()
    squares = float(np.sum((inside - inside.mean()) ** 2))
    weights = _weights(values.shape, spacing_mm)
    products, _ = _pairs(_transform(centred), None, values.shape, weights)
    total, own = _pairs(_transform(mask.astype(np.float32)), _transform(centred**2), values.shape, weights)
    return count / total * products / squares, (count - 1) / total * (own - products) / squares


def _half(n: int) -> int:
    from scipy.fft import next_fast_len

    return int(next_fast_len(n, real=True))


def _weights(shape: tuple[int, ...], spacing_mm: Triple) -> Array:
    """Transform of 1/distance on the doubled grid; even along each axis, so a cosine transform of an eighth of it."""
    from scipy.fft import dctn

    axes = [(np.arange(_half(n) + 1) * s).astype(np.float32) ** 2 for n, s in zip(shape, spacing_mm, strict=True)]
    squared = axes[0][:, None, None] + axes[1][:, None] + axes[2]
    squared[0, 0, 0] = np.inf
    return np.asarray(dctn(1 / np.sqrt(squared), type=1, overwrite_x=True))


def _transform(grid: Array) -> Array:
    """Spectrum along rows and columns of the doubled grid; along slices still in space."""
    from scipy import fft

    _, h, w = (_half(n) for n in grid.shape)
    rows = fft.rfft(grid, n=2 * w, axis=2)
    return np.asarray(fft.fft(rows, n=2 * h, axis=1))


def _pairs(one: Array, other: Array | None, shape: tuple[int, ...], weights: Array) -> tuple[float, float]:
    """Sums over pairs of voxels: weight times one times one, and weight times one times other."""
    from scipy import fft

    d, h, w = (_half(n) for n in shape)
    step = max(1, (1 << 20) // (2 * d * (w + 1)))
    total = mixed = 0.0
    for begin in range(0, 2 * h, step):
        part = fft.fft(one[:, begin : begin + step], n=2 * d, axis=0)
        total += _weighted(part, part, weights, begin)
        if other is not None:
            beside = fft.fft(other[:, begin : begin + step], n=2 * d, axis=0)
            mixed += _weighted(part, beside, weights, begin)
    return total / (8.0 * d * h * w), mixed / (8.0 * d * h * w)


@compiled
def _weighted(one: Array, other: Array, weights: Array, begin: int) -> float:
    """Sum of weights times the real part of one times the other's conjugate, over the whole spectrum."""
    total = 0.0
    depth, height, width = weights.shape
    for d in range(one.shape[0]):
        fold_d = min(d, 2 * (depth - 1) - d)
        for h in range(one.shape[1]):
            fold_h = min(begin + h, 2 * (height - 1) - begin - h)
            row = 0.0
            for w in range(width):
                twice = 2.0 if 0 < w < width - 1 else 1.0  # the other half of the spectrum is its conjugate
                a, b = one[d, h, w], other[d, h, w]
                row += twice * weights[fold_d, fold_h, w] * (a.real * b.real + a.imag * b.imag)
            total += row
    return total
