"""SimpleITK with types: the one module that imports it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import SimpleITK

from isocenter.ops import threads
from isocenter.types import Affine, Array, Triple

sitk: Any = SimpleITK
VERSION: str = SimpleITK.Version.VersionString()
WORK_UNITS = 8
"""Parts into which iterative methods split their sums: fixed, so that results do not depend on the machine's cores."""


def image_of(grid: Array, *, spacing: Triple = (1.0, 1.0, 1.0), affine: Affine | None = None) -> Any:
    """A SimpleITK image of a `d h w` array; `affine` (index d h w -> LPS mm) beats `spacing`."""
    array = grid.view(np.uint8) if grid.dtype == np.bool_ else grid
    image = sitk.GetImageFromArray(array)
    if affine is None:
        image.SetSpacing(tuple(reversed(spacing)))
        return image
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(steps[::-1].tolist())
    image.SetDirection((affine[:3, :3] / steps)[:, ::-1].ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    return image


def array_of(image: Any) -> Array:
    """The voxels `d h w` of an image, as an array of its own."""
    return np.asarray(sitk.GetArrayFromImage(image))


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
