"""SimpleITK with types: the one module that imports it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import SimpleITK

from isocenter.ops import threads
from isocenter.types import Affine, Array

sitk: Any = SimpleITK
VERSION: str = SimpleITK.Version.VersionString()
WORK_UNITS = 8
"""Parts into which iterative methods split their sums: fixed, so that results do not depend on the machine's cores."""


class _Lent:
    """The memory of an image, lent to an array that keeps the image alive."""

    def __init__(self, image: Any) -> None:
        view = sitk.GetArrayViewFromImage(image)
        self.image = image
        self.typestr, self.shape = view.dtype.str, view.shape
        address = int(view.__array_interface__["data"][0])
        self.__array_interface__ = {
            "version": 3,
            "shape": self.shape,
            "typestr": self.typestr,
            "data": (address, False),
        }


_LENT: WeakValueDictionary[int, _Lent] = WeakValueDictionary()
"""Address of an array's memory -> the image that owns it: the next step takes the image back instead of a copy."""


def image_of(grid: Array, *, spacing: Sequence[float] | None = None, affine: Affine | None = None) -> Any:
    """A SimpleITK image of a `d h w` or `h w` array; `affine` (index d h w -> LPS mm) beats `spacing`.

    An array that came from `array_of` gives back its image, uncopied, where place and spacing agree.
    """
    array = grid.view(np.uint8) if grid.dtype == np.bool_ else grid
    place = _place(spacing or (1.0,) * array.ndim, affine)
    lent = _LENT.get(array.__array_interface__["data"][0]) if array.flags.c_contiguous else None
    if lent is not None and (lent.typestr, lent.shape) == (array.dtype.str, array.shape) and _at(lent.image, place):
        return lent.image
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(place[0])
    image.SetDirection(place[1])
    image.SetOrigin(place[2])
    return image


def _place(spacing: Sequence[float], affine: Affine | None) -> tuple[list[float], list[float], list[float]]:
    """Spacing, direction and origin as SimpleITK takes them."""
    if affine is None:
        size = len(spacing)
        return [float(s) for s in spacing[::-1]], np.eye(size).ravel().tolist(), [0.0] * size
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    return steps[::-1].tolist(), (affine[:3, :3] / steps)[:, ::-1].ravel().tolist(), affine[:3, 3].tolist()


def _at(image: Any, place: tuple[list[float], list[float], list[float]]) -> bool:
    return (list(image.GetSpacing()), list(image.GetDirection()), list(image.GetOrigin())) == place


def array_of(image: Any) -> Array:
    """The voxels `d h w` of an image that nobody else changes: its own memory, kept alive by the array."""
    lent = _Lent(image)
    lent = _LENT.setdefault(lent.__array_interface__["data"][0], lent)
    return np.asarray(lent)


def affine_of(image: Any) -> Affine:
    """Index (d, h, w) -> LPS mm of an image."""
    affine = np.eye(4)
    direction = np.asarray(image.GetDirection(), dtype=np.float64).reshape(3, 3)
    affine[:3, :3] = direction[:, ::-1] * np.asarray(image.GetSpacing(), dtype=np.float64)[::-1]
    affine[:3, 3] = image.GetOrigin()
    return affine


@contextmanager
def limited_threads(count: int) -> Iterator[None]:
    """Let SimpleITK, and what else asks `ops.threads`, use at most `count` threads inside."""
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(max(1, count))
    threads.limit(count)
    try:
        yield
    finally:
        threads.limit(None)
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
