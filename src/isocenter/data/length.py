"""Lengths in settings: millimetres where the image has them, voxels where it has none."""

from collections.abc import Mapping
from math import ceil
from typing import Any

from pydantic import model_validator

from isocenter.data.geometry import Geometry, Space
from isocenter.data.step import Settings
from isocenter.errors import UnitError
from isocenter.types import Triple


class Lengths(Settings):
    """Settings that state lengths: of each pair of fields `x_mm` and `x_px` exactly one is given.

    A length in voxels is the same number of voxels along every axis; it is meant for images without millimetres.
    """

    @model_validator(mode="before")
    @classmethod
    def _other_unit_replaces_default(cls, given: Any) -> Any:
        """`x_px` alone switches the default of `x_mm` off."""
        if not isinstance(given, Mapping):
            return given
        filled = dict(given)
        for name in [n.removesuffix("_px") for n in cls.model_fields if n.endswith("_px")]:
            if filled.get(f"{name}_px") is not None and f"{name}_mm" not in filled:
                filled[f"{name}_mm"] = None
        return filled

    @model_validator(mode="after")
    def _one_unit(self) -> "Lengths":
        for name in [n.removesuffix("_px") for n in type(self).model_fields if n.endswith("_px")]:
            mm, px = getattr(self, f"{name}_mm"), getattr(self, f"{name}_px")
            if (mm is None) == (px is None):
                raise ValueError(f"give {name}_mm, or {name}_px for an image without millimetres, and not both")
        return self

    def spacing_for(self, name: str, geometry: Geometry) -> Triple:
        """Distances along (d, h, w) in the unit in which the length `name` is given: mm, or 1 for voxels.

        Raises: UnitError for millimetres of an image that has none.
        """
        if getattr(self, f"{name}_mm") is None:
            return 1.0, 1.0, 1.0
        if geometry.space is Space.PIXELS:
            raise UnitError(f"this image has no millimetres (its file states no pixel size): give {name}_px, in voxels")
        return geometry.spacing_mm

    def length(self, name: str) -> float:
        """The number given for `name`, in the unit in which it is given."""
        mm = getattr(self, f"{name}_mm")
        return float(getattr(self, f"{name}_px") if mm is None else mm)

    def voxels(self, name: str, geometry: Geometry) -> Triple:
        """The length `name` in voxels along (d, h, w).

        Raises: UnitError for millimetres of an image that has none.
        """
        d, h, w = (self.length(name) / s for s in self.spacing_for(name, geometry))
        return d, h, w

    def reach(self, name: str, geometry: Geometry) -> tuple[int, int, int]:
        """How many neighbours along (d, h, w) lie within the length `name`; rounded down."""
        d, h, w = (int(v + 1e-6) for v in self.voxels(name, geometry))
        return d, h, w

    def margin(self, name: str, geometry: Geometry) -> tuple[int, int, int]:
        """The length `name` in voxels along (d, h, w), rounded up."""
        d, h, w = (ceil(v - 1e-6) for v in self.voxels(name, geometry))
        return d, h, w
