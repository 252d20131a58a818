"""What classical filters make of a poor image: a network that makes images better has to beat the best of them."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy import ndimage

from isocenter.metrics.similarity import psnr
from isocenter.ops import denoise
from isocenter.types import Array

Filter = Callable[[Array, float, float], Array]
"""Image `c d h w`, noise in its unit, strength -> image."""

_STEPS = (1.0, 1.0, 1.0)


def _gaussian(image: Array, _noise: float, strength: float) -> Array:
    sigmas = (0.0, *(strength if n > 1 else 0.0 for n in image.shape[1:]))
    return np.asarray(ndimage.gaussian_filter(image, sigmas, mode="nearest"))


def _nlm(image: Array, noise: float, strength: float) -> Array:
    deep = image.shape[1] > 1
    patch, search = ((1, 1, 1), (2, 2, 2)) if deep else ((0, 2, 2), (0, 6, 6))
    parts = [
        denoise.non_local_means(c, patch=patch, search=search, strength=strength * noise, noise=noise) for c in image
    ]
    return np.stack(parts)


def _tv(image: Array, noise: float, strength: float) -> Array:
    parts = [
        denoise.total_variation(c, spacing=_STEPS, weight=strength * noise, iterations=200, tolerance=1e-3)
        for c in image
    ]
    return np.stack(parts)


_FILTERS: Mapping[str, tuple[Filter, tuple[float, ...]]] = {
    "gaussian": (_gaussian, (0.3, 0.45, 0.6, 0.8, 1.1, 1.5, 2.0, 2.8)),
    "nlm": (_nlm, (0.3, 0.5, 0.8, 1.2, 1.8)),
    "tv": (_tv, (0.1, 0.2, 0.35, 0.6, 0.9, 1.4, 2.0)),
}
"""Each with the strengths among which one is chosen on validation cases: voxels, or shares of the noise."""

RIVALS = tuple(_FILTERS)


def chosen_strengths(pairs: Sequence[tuple[Array, Array]]) -> dict[str, float]:
    """The strength of each filter with the largest mean PSNR, and the noise, as a share of the poor image's deviation.

    Args:
        pairs: poor and good images (`c d h w`) of validation cases.
    """
    noise = float(np.mean([np.sqrt(np.mean((p - g) ** 2)) / (p.std() or 1.0) for p, g in pairs]))
    found = {"noise": max(noise, 1e-3)}
    for name, (run, strengths) in _FILTERS.items():
        means = [
            np.mean([psnr(run(p, found["noise"] * float(p.std() or 1.0), s), g) for p, g in pairs]) for s in strengths
        ]
        found[name] = strengths[int(np.argmax(means))]
    return found


def made_by_rivals(poor: Array, chosen: Mapping[str, float]) -> dict[str, Array]:
    """What each filter, as strong as it was chosen, makes of an image.

    Args:
        poor: `c d h w`, on the answer's grid.
        chosen: of `chosen_strengths`.
    """
    image = np.asarray(poor, np.float32)
    noise = float(chosen["noise"]) * float(image.std() or 1.0)
    return {name: run(image, noise, float(chosen[name])) for name, (run, _) in _FILTERS.items() if name in chosen}
