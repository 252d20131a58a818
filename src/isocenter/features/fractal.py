"""How a region's border fills the space it lies in."""

import numpy as np

from isocenter.features.first_order import Numbers
from isocenter.types import Mask

NAMES = ("box_counting_dimension", "box_counting_fit")


def fractal(mask: Mask) -> Numbers:
    """Box-counting dimension of a region's border: 1 is a smooth outline in a slice, 2 a smooth surface in space.

    The border's voxels are those with a neighbour outside. `box_counting_fit` is R squared of the line through the
    counts at box sides of 1, 2, 4 ... voxels.

    Source: K. Falconer, Fractal Geometry, chapter 3; A. Lopes and N. Betrouni, Med. Image Anal. 13:634-649, 2009.
    """
    from scipy import ndimage

    flat = mask.shape[0] == 1
    structure = np.ones((1, 3, 3) if flat else (3, 3, 3), np.bool_)
    border = mask & ~ndimage.binary_erosion(mask, structure, border_value=0)
    sizes, counts = [], []
    side = 1
    while side <= max(mask.shape) // 2:
        sizes.append(side)
        counts.append(_boxes(border, side, flat=flat))
        side *= 2
    if len(sizes) < 3:
        return {}
    x, y = np.log(1 / np.asarray(sizes)), np.log(counts)
    slope, offset = np.polyfit(x, y, 1)
    left = y - (slope * x + offset)
    spread = float(np.sum((y - y.mean()) ** 2))
    if spread == 0:
        return {}
    return {"box_counting_dimension": float(slope), "box_counting_fit": 1 - float(left @ left) / spread}


def _boxes(border: Mask, side: int, *, flat: bool) -> int:
    """Boxes of a side that hold a voxel of the border."""
    steps = (1, side, side) if flat else (side,) * 3
    places = np.argwhere(border) // np.asarray(steps)
    return len(np.unique(places, axis=0))
