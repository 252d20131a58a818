"""The version, in one place, below everything that states it."""

__version__ = "0.1.0"
