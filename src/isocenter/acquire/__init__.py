"""Acquire: a path becomes a case, or is refused with a sentence."""

from isocenter.acquire.case import open_case, open_cases

__all__ = ["open_case", "open_cases"]
