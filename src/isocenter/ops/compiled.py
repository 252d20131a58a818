"""Loops over voxels that numpy cannot say: compiled to machine code when first called, and kept on disk.

Modules that define such loops are imported inside the functions that use them: loading the compiler takes half a
second.
"""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """`function` as machine code that other threads may run beside; the code is cached for the next process."""
    plain = inspect.unwrap(function)
    try:
        return cast("F", njit(cache=True, nogil=True)(plain))
    except RuntimeError:  # neither the package's folder nor the user's cache can be written: compile in every process
        return cast("F", njit(nogil=True)(plain))
