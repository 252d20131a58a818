"""Linear filters whose responses are described by features.

Kernels are stated in the order in which the standard writes them, (x, y, z): columns, rows, slices. Filtering is
convolution; the image is continued beyond its edges as asked.

Source: IBSI 2 reference manual, arXiv:2006.05470v8 (A. Depeursinge et al.); P. Whybra et al., Radiology
310(2):e231319, 2024.
"""

from itertools import permutations, product
from math import factorial, pi, prod, sqrt
from typing import Literal

import numpy as np

from isocenter.types import Array, Triple

Boundary = Literal["zero", "nearest", "periodic", "mirror"]

_PAD = {"zero": "constant", "nearest": "edge", "periodic": "wrap", "mirror": "symmetric"}
_LAWS = {
    "L5": (1, 4, 6, 4, 1), "E5": (-1, -2, 0, 2, 1), "S5": (-1, 0, 2, 0, -1), "W5": (-1, 2, 0, -2, 1),
    "R5": (1, -4, 6, -4, 1), "L3": (1, 2, 1), "E3": (-1, 0, 1), "S3": (-1, 2, -1),
}  # fmt: skip
"""K. I. Laws, Proc. SPIE 238:376-381, 1980; divided by their norm."""


def mean(grid: Array, size: int, *, flat: bool, boundary: Boundary) -> Array:
    """Mean over a cube of `size` voxels along each axis; `flat`: over a square in each slice."""
    kernel = np.full(size, 1 / size)
    return _separable(grid, [np.ones(1) if flat else kernel, kernel, kernel], boundary)


def laplacian_of_gaussian(
    grid: Array, sigma: Triple, *, truncate: float = 4.0, flat: bool, boundary: Boundary
) -> Array:
    """Laplacian of a Gaussian with `sigma` in voxels along (d, h, w), cut off at `truncate` sigma."""
    axes = (1, 2) if flat else (0, 1, 2)
    gaussians, curved = [np.ones(1)] * 3, [np.ones(1)] * 3
    for axis in axes:
        reach = int(truncate * sigma[axis] + 0.5)
        at = np.arange(-reach, reach + 1)
        bell = np.exp(-(at**2) / (2 * sigma[axis] ** 2)) / (sqrt(2 * pi) * sigma[axis])
        gaussians[axis], curved[axis] = bell, bell * (at**2 / sigma[axis] ** 2 - 1) / sigma[axis] ** 2
    parts = [[curved[a] if a == axis else gaussians[a] for a in range(3)] for axis in axes]
    return np.asarray(sum(_separable(grid, part, boundary) for part in parts))


def laws(
    grid: Array,
    kernels: str,
    *,
    rotations: bool = False,
    pooling: Literal["max", "mean"] = "max",
    energy: int = 0,
    boundary: Boundary,
) -> Array:
    """Response to Laws' kernels such as `"E5L5S5"` (along x, y, z) or `"L5S5"` (in slices).

    Args:
        grid: `d h w`.
        kernels: two or three of L5 E5 S5 W5 R5 L3 E3 S3.
        rotations: pool the responses over all right-angled rotations.
        pooling: how.
        energy: mean absolute response over so many voxels each way; 0: the response itself.
        boundary: how the image goes on beyond its edges.
    """
    names = [kernels[i : i + 2] for i in range(0, len(kernels), 2)]
    along = [np.asarray(_LAWS[name], np.float64) / np.linalg.norm(_LAWS[name]) for name in names]
    return _pooled(grid, [along], rotations=rotations, pooling=pooling, boundary=boundary, energy=energy)


def wavelet(
    grid: Array,
    name: str,
    *,
    kernel: str,
    level: int = 1,
    rotations: bool = False,
    pooling: Literal["max", "mean"] = "mean",
    boundary: Boundary,
) -> Array:
    """Undecimated wavelet response, such as `"LLH"` (low, low, high along x, y, z) at a level.

    Args:
        grid: `d h w`.
        name: of the wavelet, as PyWavelets calls it.
        kernel: L or H along each of x, y, z; two letters for slices.
        level: 1 is the finest; coarser ones filter the low band again with zeros between the coefficients.
        rotations: pool the responses over all right-angled rotations.
        pooling: how.
        boundary: how the image goes on beyond its edges.
    """
    import pywt

    found = pywt.Wavelet(name)
    # A zero more makes an even kernel odd: rotations then turn it about its centre, the coefficient after its middle.
    bands = {"L": np.asarray([*found.dec_lo, 0.0]), "H": np.asarray([*found.dec_hi, 0.0])}
    stages = [["L"] * len(kernel)] * (level - 1) + [list(kernel)]
    chain = [[_dilated(bands[letter], 2**n) for letter in stage] for n, stage in enumerate(stages)]
    return _pooled(grid, chain, rotations=rotations, pooling=pooling, boundary=boundary, energy=0)


def _dilated(kernel: Array, step: int) -> Array:
    out = np.zeros((len(kernel) - 1) * step + 1)
    out[::step] = kernel
    return out


def gabor(
    grid: Array,
    *,
    sigma: float,
    wavelength: float,
    gamma: float,
    theta: float,
    steps: int = 1,
    orthogonal: bool = False,
    boundary: Boundary,
) -> Array:
    """Modulus of the response to Gabor kernels in slices.

    Args:
        grid: `d h w`, of cubes where `orthogonal`.
        sigma: width of the Gaussian in voxels.
        wavelength: in voxels.
        gamma: how much shorter the kernel is across its wave.
        theta: angle in radians, from columns towards rows.
        steps: the mean over so many angles, a full turn.
        orthogonal: the mean over slices along all three axes.
        boundary: how the image goes on beyond its edges.
    """
    if orthogonal:
        turned = [(0, 1, 2), (1, 0, 2), (2, 0, 1)]
        found = []
        for order in turned:
            part = gabor(
                np.ascontiguousarray(grid.transpose(order)), sigma=sigma, wavelength=wavelength, gamma=gamma,
                theta=theta, steps=steps, boundary=boundary,
            )  # fmt: skip
            found.append(part.transpose(np.argsort(order)))
        return np.asarray(np.mean(found, axis=0))
    total = np.zeros(grid.shape)
    angles = [theta] if steps == 1 else [2 * pi * k / steps for k in range(steps)]
    for angle in angles:
        total += np.abs(_convolved(grid, _gabor_kernel(sigma, wavelength, gamma, angle)[None], boundary))
    return total / len(angles)


def _gabor_kernel(sigma: float, wavelength: float, gamma: float, theta: float) -> Array:
    reach = int(np.ceil(4.5 * sigma * max(1.0, 1 / gamma)))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    along, across = x * np.cos(theta) + y * np.sin(theta), y * np.cos(theta) - x * np.sin(theta)
    bell = np.exp(-(along**2 + gamma**2 * across**2) / (2 * sigma**2))
    return np.asarray(bell * np.exp(2j * pi * along / wavelength))


def simoncelli(grid: Array, *, level: int = 1, riesz: tuple[int, int, int] = (0, 0, 0)) -> Array:
    """Isotropic wavelet of E. Simoncelli and J. Portilla (Proc. ICIP 1:62-66, 1998), with a Riesz transform.

    Periodic beyond its edges: it is a product in the frequency domain.

    Args:
        grid: `d h w`.
        level: 1 is the finest band, up to the highest frequency; each next one lies an octave below.
        riesz: order of the Riesz transform along x, y, z; zeros: none.
    """
    frequency = np.sqrt(sum(f**2 for f in _frequencies(grid.shape))) * 2 ** (level - 1)
    inside = (frequency > 0.25) & (frequency <= 1)
    band = np.where(inside, np.cos(pi / 2 * np.log2(2 * np.where(inside, frequency, 1))), 0)
    return _filtered(grid, band, riesz)


def riesz_transform(grid: Array, order: tuple[int, int, int]) -> Array:
    """Riesz transform of an order along x, y, z (M. Unser and D. Van De Ville, IEEE TIP 19(3):636-652, 2010)."""
    return _filtered(grid, np.ones(()), order)


def _frequencies(shape: tuple[int, ...]) -> list[Array]:
    """Frequencies along (d, h, w) of a half spectrum; 1 is the highest that a grid holds."""
    whole = [np.fft.fftfreq(n) * 2 for n in shape[:2]] + [np.fft.rfftfreq(shape[2]) * 2]
    return [f.reshape([-1 if a == i else 1 for a in range(3)]) for i, f in enumerate(whole)]


def _filtered(grid: Array, band: Array, riesz: tuple[int, int, int]) -> Array:
    from scipy import fft

    from isocenter.ops import threads

    spectrum = fft.rfftn(grid.astype(np.float64), workers=threads.allowed()) * band
    total = sum(riesz)
    if total:
        axes = _frequencies(grid.shape)
        size = np.sqrt(sum(f**2 for f in axes))
        size[0, 0, 0] = 1
        factor = (-1j) ** total * sqrt(factorial(total) / prod(factorial(n) for n in riesz))
        for axis, power in zip(axes, reversed(riesz), strict=True):
            spectrum = spectrum * (axis / size) ** power
        spectrum = spectrum * factor
        spectrum[0, 0, 0] = 0
    return np.asarray(fft.irfftn(spectrum, grid.shape, workers=threads.allowed()))


def _rotations(count: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Right-angled rotations as (which kernel each axis takes, its sign): 24 in space, 4 in a plane."""
    found = []
    for order in permutations(range(count)):
        parity = np.linalg.det(np.eye(count)[list(order)])
        found += [(order, signs) for signs in product((1, -1), repeat=count) if parity * prod(signs) > 0]
    return found


def _pooled(
    grid: Array,
    stages: list[list[Array]],
    *,
    rotations: bool,
    pooling: Literal["max", "mean"],
    boundary: Boundary,
    energy: int,
) -> Array:
    """Response to kernels along x, y(, z), stage after stage, pooled over rotations, and its energy."""
    count = len(stages[0])
    flat = count == 2
    pooled: Array | None = None
    turns = _rotations(count) if rotations else [(tuple(range(count)), (1,) * count)]
    for order, signs in turns:
        response = grid
        for along in stages:
            turned = [along[k][::sign] for k, sign in zip(order, signs, strict=True)]
            kernels = [np.ones(1) if flat else turned[2], turned[1], turned[0]]
            response = _separable(response, kernels, boundary)
        if pooled is None:
            pooled = response
        elif pooling == "max":
            np.maximum(pooled, response, out=pooled)
        else:
            pooled += response
    assert pooled is not None, "there is always one rotation"
    if pooling == "mean":
        pooled /= len(turns)
    if energy:
        size = 2 * energy + 1
        pooled = mean(np.abs(pooled), size, flat=flat, boundary=boundary)
    return pooled


def _separable(grid: Array, kernels: list[Array], boundary: Boundary) -> Array:
    """Convolution with one kernel along each of (d, h, w), of odd lengths."""
    out = grid.astype(np.float64)
    for axis, kernel in enumerate(kernels):
        if len(kernel) == 1 and kernel[0] == 1:
            continue
        out = _along(out, kernel, axis, boundary)
    return out


def _along(grid: Array, kernel: Array, axis: int, boundary: Boundary) -> Array:
    from scipy import ndimage

    reach = len(kernel)
    padding = [(0, 0)] * 3
    padding[axis] = (reach, reach)
    padded = np.pad(grid, padding, mode=_PAD[boundary])  # type: ignore[call-overload]
    found = ndimage.convolve1d(padded, kernel, axis=axis, mode="constant")
    keep = [slice(None)] * 3
    keep[axis] = slice(reach, reach + grid.shape[axis])
    return np.asarray(found[tuple(keep)])


def _convolved(grid: Array, kernel: Array, boundary: Boundary) -> Array:
    """Convolution with a dense kernel of odd sizes, by the fast Fourier transform."""
    from scipy.signal import fftconvolve

    reach = [n // 2 for n in kernel.shape]
    padded = np.pad(grid.astype(np.float64), [(r, r) for r in reach], mode=_PAD[boundary])  # type: ignore[call-overload]
    return np.asarray(fftconvolve(padded, kernel, mode="valid", axes=(0, 1, 2)))
