"""What a detector looked at to find one object: what becomes of it where parts of the image are blurred away."""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from isocenter.networks.detector import Found
from isocenter.ops.boxes import overlaps
from isocenter.types import Array

Finder = Callable[[Array], Found]
"""A prepared image (`c d h w`) -> objects, boxes in its voxels."""
_CELLS, _LEAST_CELL, _SHOWN = 12, 4, 0.5
"""Cells of a mask along an axis at most, voxels of one at least, and the share of them that is shown."""


def likeness(found: Found, box: Array, kind: int) -> float:
    """How far an object is still found: the largest product of overlap and score among the answers of its class.

    Args:
        found: answers.
        box: of the object, `2 3`.
        kind: number of its class.
    """
    own = np.flatnonzero(found.classes == kind)
    if not len(own):
        return 0.0
    return float((overlaps(found.boxes[own], box[None])[:, 0] * found.scores[own]).max())


def object_heat(find: Finder, image: Array, box: Array, kind: int, *, count: int = 200, seed: int = 0) -> Array:
    """By how much more an object is found where a voxel is shown than on the average of random masks (`d h w`, from 0).

    Source: V. Petsiuk et al., CVPR 2021 (D-RISE); what is hidden is blurred here, not black.

    Args:
        find: the detector.
        image: prepared, `c d h w`.
        box: of the object, `2 3` in voxels.
        kind: number of its class.
        count: of masks.
        seed: of the masks.
    """
    rng = np.random.default_rng(seed)
    shape = image.shape[1:]
    blurred = np.asarray(ndimage.gaussian_filter(image, [0.0, *(n / 8 if n > 1 else 0.0 for n in shape)]), np.float32)
    weighed, seen, total = np.zeros(shape), np.full(shape, 1e-9), 0.0
    for _ in range(count):
        mask = _mask(shape, rng)
        weight = likeness(find(blurred + (image - blurred) * mask), box, kind)
        weighed += weight * mask
        seen += mask
        total += weight
    return np.asarray(np.maximum(weighed / seen - total / count, 0), np.float32)


def _mask(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """A smooth mask from 0 to 1: random cells, shifted at random."""
    counts = [1 if n == 1 else int(np.clip(n // _LEAST_CELL, 2, _CELLS)) for n in shape]
    cells = (rng.random([1 if n == 1 else n + 1 for n in counts]) < _SHOWN).astype(np.float32)
    edges = [-(-n // count) for n, count in zip(shape, counts, strict=True)]
    starts = [0.0 if n == 1 else float(rng.uniform(0, 1)) for n in shape]
    places = [
        start + np.arange(n) / edge if n > 1 else np.zeros(1)
        for n, edge, start in zip(shape, edges, starts, strict=True)
    ]
    grid = np.meshgrid(*places, indexing="ij")
    return np.asarray(ndimage.map_coordinates(cells, grid, order=1, mode="nearest"), np.float32)
