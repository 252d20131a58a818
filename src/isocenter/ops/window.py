"""Windows of an image that may reach beyond it."""

from collections.abc import Sequence

import numpy as np

from isocenter.types import Array


def spans(
    start: Sequence[int] | Array, size: Sequence[int] | Array, shape: Sequence[int] | Array
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where a window lies in an image, and what of the window that is.

    Args:
        start: first voxel of the window; below 0 where it reaches beyond.
        size: of the window.
        shape: of the image.
    """
    inside = tuple(slice(max(0, int(a)), int(min(a + n, m))) for a, n, m in zip(start, size, shape, strict=True))
    onto = tuple(slice(s.start - int(a), s.stop - int(a)) for s, a in zip(inside, start, strict=True))
    return inside, onto


def cut(image: Array, start: Sequence[int] | Array, size: Sequence[int] | Array) -> Array:
    """A window of `c *s`; what lies outside the image is 0."""
    inside, onto = spans(start, size, image.shape[1:])
    if all(s.stop - s.start == n for s, n in zip(inside, size, strict=True)):
        return np.asarray(image[(slice(None), *inside)])
    out = np.zeros((image.shape[0], *(int(n) for n in size)), np.float32)
    out[(slice(None), *onto)] = image[(slice(None), *inside)]
    return out
