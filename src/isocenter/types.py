"""Shapes by name, and the axis doctrine.

Arrays are `c d h w`: channel, slice, row, column; C-contiguous. Colour is c = 3, a 2-D image has d = 1.
World points are the patient's LPS millimetres (DICOM PS3.3 C.7.6.2): +x left, +y posterior, +z superior.
Index points are `(d, h, w)` in that order, and an integer index is the centre of its voxel.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, Integer, Num, Real

if TYPE_CHECKING:
    Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
else:
    Array = np.ndarray

Voxels: TypeAlias = Num[Array, "c d h w"]
"""Intensities of any number type, all channels."""
Grid: TypeAlias = Real[Array, "d h w"]
"""Intensities of one channel."""
FloatGrid: TypeAlias = Float32[Array, "d h w"]
"""Intensities of one channel, as filters give them."""
Mask: TypeAlias = Bool[Array, "d h w"]
"""Which voxels belong."""
LabelGrid: TypeAlias = Integer[Array, "d h w"]
"""Which class each voxel belongs to; 0 is background."""
Values: TypeAlias = Real[Array, "n"]
"""A bag of intensities."""
Affine: TypeAlias = Float64[Array, "4 4"]
"""Index (d, h, w) -> LPS mm."""
Points: TypeAlias = Float64[Array, "n 3"]
"""Points, index or world."""
Triple: TypeAlias = tuple[float, float, float]
"""One number for each axis (d, h, w)."""
Progress: TypeAlias = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""

__all__ = [
    "Affine", "Array", "Bool", "Float32", "Float64", "FloatGrid", "Grid", "Int64", "Integer", "LabelGrid", "Mask",
    "Num", "Points", "Progress", "Real", "Triple", "Values", "Voxels",
]  # fmt: skip
