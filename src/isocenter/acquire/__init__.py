"""Acquire: a path becomes a case, or is refused with a sentence."""

from isocenter.acquire.case import open_case, open_cases
from isocenter.acquire.inspection import inspect
from isocenter.acquire.policy import Policy

__all__ = ["Policy", "inspect", "open_case", "open_cases"]
