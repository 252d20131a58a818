"""The digital phantom of the Image Biomarker Standardisation Initiative.

Source: IBSI reference manual, arXiv:1612.07003v11, section 5.1: 5 x 4 x 4 voxels of 2 mm along x, y and z; grey
levels as they are; a voxel that does not belong to the region is marked with a dot.
"""

import numpy as np

from isocenter.types import Grid, Mask, Triple

SPACING_MM: Triple = (2.0, 2.0, 2.0)

_SLICES = """
1 4 4 1 1
1 4 6 1 1
4 1 6 4 1
4 4 6 4 1

1 4 4 1 1
1 1 6 1 1
1. 1 3 1 1
4 4 6 1 1

1 4 4 1. 1.
1 1 1 1 1
1 1 9. 1 1
1 1 6 1 1

1 4 4 1. 1.
1 1 1 1 1
1 1 1 1 1
1 1 6 1 1
"""


def digital_phantom() -> tuple[Grid, Mask]:
    """Grey levels and region, `4 4 5`."""
    slices = [block.split("\n") for block in _SLICES.strip().split("\n\n")]
    cells = np.asarray([[row.split() for row in block] for block in slices])
    outside = np.char.endswith(cells, ".")
    levels = np.char.rstrip(cells, ".").astype(np.int64)
    return levels, np.asarray(~outside)
