"""Noise taken out with the image's own structure: non-local means, total variation."""

import itertools

import numpy as np
from scipy import ndimage

from isocenter.ops.slabs import by_slab
from isocenter.types import Array, FloatGrid, Grid, Triple


def non_local_means(
    grid: Grid, *, patch: tuple[int, int, int], search: tuple[int, int, int], strength: float, noise: float
) -> FloatGrid:
    """Mean over voxels whose surroundings look alike, weighted by how alike.

    The weight of two voxels is exp(-max(D - 2 noise^2, 0) / strength^2), with D the mean squared difference of their
    patches. Patches are boxes, so D of all pairs at one offset is one box filter; each offset serves both voxels.

    Args:
        grid: intensities.
        patch: radius of the surroundings, in voxels along (d, h, w).
        search: radius in which alike voxels are looked for.
        strength: the difference at which a weight falls to 1/e, in the unit of the image.
        noise: standard deviation of the noise, in the unit of the image.
    Source: A. Buades, B. Coll, J.-M. Morel, IPOL 1:208-212, 2011, eq. (3); one filter an offset: J. Darbon et al.,
        ISBI 2008:1331-1334.
    """
    size = [2 * r + 1 for r in patch]
    half = [o for o in itertools.product(*[range(-r, r + 1) for r in search]) if o > (0, 0, 0)]
    scale, floor = np.float32(-1 / strength**2), np.float32(2 * noise**2)

    def whole(part: Array) -> Array:
        values = np.asarray(part, dtype=np.float32)
        total, weights = values.copy(), np.ones(values.shape, np.float32)
        work, weight, moved = (np.empty(values.shape, np.float32) for _ in range(3))
        for offset in half:
            here = tuple(slice(max(0, -o), n - max(0, o)) for o, n in zip(offset, values.shape, strict=True))
            there = tuple(slice(max(0, o), n - max(0, -o)) for o, n in zip(offset, values.shape, strict=True))
            a, b, w = values[here], values[there], weight[here]
            if not a.size:
                continue
            difference = work[here]
            np.subtract(a, b, out=difference)
            np.multiply(difference, difference, out=difference)
            ndimage.uniform_filter(difference, size, output=w, mode="nearest")
            w -= floor
            np.maximum(w, 0, out=w)
            w *= scale
            np.exp(w, out=w)
            product = moved[here]
            total[here] += np.multiply(w, b, out=product)
            total[there] += np.multiply(w, a, out=product)
            weights[here] += w
            weights[there] += w
        total /= weights
        return total

    halo = [p + s for p, s in zip(patch, search, strict=True)]
    return by_slab(whole, grid, halo=halo, threaded=True)


def total_variation(grid: Grid, *, spacing: Triple, weight: float, iterations: int, tolerance: float) -> FloatGrid:
    """The image u that minimises half the squared distance to `grid` plus `weight` times the total variation of u.

    Differences are taken per unit of `spacing` (in smallest steps), so that a thick slice binds less. The dual is
    solved by fast gradient projection; it ends when the image moves by less than `tolerance` times the weight.

    Source: L. Rudin, S. Osher, E. Fatemi, Physica D 60:259-268, 1992; A. Beck, M. Teboulle, IEEE Trans. Image
        Process. 18(11):2419-2434, 2009, algorithm FGP.
    """
    axes = [axis for axis in range(3) if grid.shape[axis] > 1]
    inverse = {axis: np.float32(min(spacing[a] for a in axes) / spacing[axis]) for axis in axes}
    values = np.asarray(grid, dtype=np.float32)
    step = np.float32(1 / (4 * weight * sum(float(i) ** 2 for i in inverse.values())))
    dual = {axis: np.zeros(values.shape, np.float32) for axis in axes}
    ahead = {axis: np.zeros(values.shape, np.float32) for axis in axes}
    image, before, moment = values.copy(), values.copy(), 1.0
    work = np.empty(values.shape, np.float32)
    for count in range(iterations):
        np.copyto(image, values)
        for axis in axes:  # u = f + weight * div(ahead)
            _add_divergence(image, ahead[axis], axis, np.float32(weight) * inverse[axis], work)
        following = (1 + np.sqrt(1 + 4 * moment**2)) / 2
        pull = np.float32((moment - 1) / following)
        moment = following
        for axis in axes:  # ahead becomes the new dual point
            _add_difference(ahead[axis], image, axis, step * inverse[axis], work)
        _project(list(ahead.values()), work)
        for axis in axes:
            new, old = ahead[axis], dual[axis]
            np.subtract(new, old, out=work)
            np.copyto(old, new)
            work *= pull
            new += work
        if count % 5 == 4:
            np.subtract(image, before, out=work)
            moved = float(np.abs(work, out=work).mean())
            if moved < tolerance * weight:
                break
            np.copyto(before, image)
    return image


def _add_divergence(image: Array, field: Array, axis: int, factor: np.float32, work: Array) -> None:
    """`image += factor * backward difference of field`; the field beyond its last voxel is 0."""
    f, o, w = (np.moveaxis(x, axis, 0) for x in (field, image, work))
    np.multiply(f, factor, out=w)
    o[:-1] += w[:-1]
    o[1:] -= w[:-1]


def _add_difference(field: Array, image: Array, axis: int, factor: np.float32, work: Array) -> None:
    """`field += factor * forward difference of image`."""
    f, i, w = (np.moveaxis(x, axis, 0) for x in (field, image, work))
    np.subtract(i[1:], i[:-1], out=w[:-1])
    w[:-1] *= factor
    f[:-1] += w[:-1]


def _project(fields: list[Array], work: Array) -> None:
    """Shorten vectors that are longer than 1."""
    np.multiply(fields[0], fields[0], out=work)
    for field in fields[1:]:
        for index, plane in enumerate(field):
            work[index] += plane * plane
    np.sqrt(work, out=work)
    np.maximum(work, 1, out=work)
    for field in fields:
        np.divide(field, work, out=field)
