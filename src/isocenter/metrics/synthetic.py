"""How like real images made ones are, and whether they are copies."""

import numpy as np
from scipy.spatial.distance import cdist

from isocenter.errors import InputError
from isocenter.types import Array

_LEAST = 0.05
"""Share of the median deviation of features below which none is scaled up."""
_COPY = 0.5
"""A made image is a copy if it lies nearer to a training image than this share of the least distance at which any
other real image lies."""


def frechet(real: Array, made: Array) -> float:
    """Squared Fréchet distance of two normal distributions, fitted to features in units of their real deviation.

    Source: M. Heusel et al., NIPS 2017; D. Dowson, B. Landau, J. Multivar. Anal. 12:450-455, 1982, equation 4.

    Args:
        real: `n f`.
        made: `m f`.
    Raises: InputError for fewer than 2 of either.
    """
    if len(real) < 2 or len(made) < 2:
        raise InputError("the distance of distributions needs 2 images or more of each kind")
    spread = real.std(axis=0)
    scale = np.maximum(spread, _LEAST * np.median(spread)) + 1e-12  # a feature that real images lack says little
    a, b = (np.asarray(x, np.float64) / scale for x in (real, made))
    one, other = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    values, vectors = np.linalg.eigh(one)
    root = vectors @ np.diag(np.sqrt(np.clip(values, 0, None))) @ vectors.T
    shared = np.sqrt(np.clip(np.linalg.eigvalsh(root @ other @ root), 0, None)).sum()
    apart = float(((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum())
    return max(0.0, float(apart + np.trace(one) + np.trace(other) - 2 * shared))


def nearest(images: Array, among: Array) -> tuple[Array, Array]:
    """Distance (root mean square over values) of each image to the nearest of others, and its number.

    Args:
        images: `n *s`.
        among: `m *s`.
    """
    a, b = (np.asarray(x, np.float32).reshape(len(x), -1) for x in (images, among))
    far = np.empty(len(a))
    which = np.empty(len(a), np.int64)
    for begin in range(0, len(a), 256):
        table = cdist(a[begin : begin + 256], b)
        which[begin : begin + 256] = table.argmin(axis=1)
        far[begin : begin + 256] = table.min(axis=1)
    return far / np.sqrt(a.shape[1]), which


def variety(made: Array, real: Array, *, most: int = 500) -> float:
    """How varied made images are beside real ones: the median distance to the nearest other image of their kind, as a
    share of that of as many real images; 1: alike, 0: a maker that makes one image again and again.

    Args:
        made: `n *s`.
        real: `m *s`.
        most: images of each that are looked at.
    Raises: InputError for fewer than 2 of either.
    """
    count = min(len(made), len(real), most)
    if count < 2:
        raise InputError("variety needs 2 images or more of each kind")
    found = []
    for images in (made, real):
        some = np.linspace(0, len(images) - 1, count).round().astype(int)
        flat = np.asarray(images, np.float32)[some].reshape(count, -1)
        table = cdist(flat, flat)
        np.fill_diagonal(table, np.inf)
        found.append(float(np.median(table.min(axis=1))))
    return found[0] / max(found[1], 1e-12)


def copies(made: Array, training: Array, others: Array) -> tuple[Array, Array]:
    """Which made images are copies of training images, and of which.

    A copy lies less than half as far from a training image as the nearest of the other real images does (those that
    are training images themselves left out).

    Args:
        made: `n *s`.
        training: `m *s`.
        others: `k *s`, real images that nothing was learnt from.
    Returns: True for copies (`n`); number of the nearest training image (`n`).
    """
    usual, _ = nearest(others, training)
    usual = usual[usual > 1e-6]
    least = float(usual.min()) if len(usual) else 0.0
    far, which = nearest(made, training)
    return np.asarray(far < max(_COPY * least, 1e-6)), which
