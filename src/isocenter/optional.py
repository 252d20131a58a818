"""Packages that not every installation has."""

import importlib
from types import ModuleType

from isocenter.errors import MissingExtra


def require(module: str, *, extra: str) -> ModuleType:
    """Import an optional package, or say how to get it.

    Args:
        module: the importable name, `"torch"`.
        extra: the extra of isocenter that brings it, `"learn"`.
    Raises: MissingExtra with the line to type.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra(
            f"this needs the package {module!r}, which is not installed: pip install 'isocenter[{extra}]'"
        ) from error
