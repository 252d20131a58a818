"""How much two masks overlap."""

import numpy as np

from isocenter.errors import GeometryError
from isocenter.types import Mask


def dice(a: Mask, b: Mask, *, empty: float = 1.0) -> float:
    """Dice coefficient, `2 |a and b| / (|a| + |b|)`.

    Args:
        a: a mask.
        b: a mask of the same shape.
        empty: the answer where both are empty.
    Raises: GeometryError if the shapes differ.
    Source: L. R. Dice, Ecology 26(3):297-302, 1945.
    """
    if a.shape != b.shape:
        raise GeometryError(f"masks to compare lie on one grid; got shapes {a.shape} and {b.shape}")
    total = int(np.count_nonzero(a)) + int(np.count_nonzero(b))
    return 2 * int(np.count_nonzero(a & b)) / total if total else empty
