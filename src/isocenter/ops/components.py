"""Connected parts of a mask."""

import numpy as np
from scipy import ndimage

from isocenter.ops.morphology import bounding_box
from isocenter.types import Mask


def largest_components(mask: Mask, *, keep: int = 1, at_least: int = 1, corners: bool = False) -> Mask:
    """The `keep` largest connected parts of at least `at_least` voxels.

    Args:
        mask: which voxels belong.
        keep: how many parts; of two equal ones the first in array order wins.
        at_least: smaller parts are dropped all the same.
        corners: voxels that touch at an edge or a corner are connected too (26 neighbours instead of 6).
    """
    box = bounding_box(mask)
    out = np.zeros_like(mask)
    if not mask[box].size:
        return out
    structure = ndimage.generate_binary_structure(3, 3 if corners else 1)
    parts = np.empty(mask[box].shape, np.int32)
    count = ndimage.label(mask[box], structure=structure, output=parts)
    sizes = np.zeros(int(count) + 1, np.int64)
    for plane in parts:
        sizes += np.bincount(plane.ravel(), minlength=int(count) + 1)
    sizes[0] = 0
    order = np.argsort(-sizes, kind="stable")[:keep]
    kept = np.zeros(int(count) + 1, np.bool_)
    kept[[i for i in order if sizes[i] >= at_least]] = True
    out[box] = kept[parts]
    return out
