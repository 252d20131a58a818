"""Intensities, where they lie, what they measure, and how they came to be."""

from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np

from isocenter.data.geometry import Geometry, Space
from isocenter.data.notebook import html_table
from isocenter.data.provenance import Step
from isocenter.errors import DegenerateImage, GeometryError, UnitError
from isocenter.types import Array, Grid, Mask, Voxels


class Quantity(StrEnum):
    """What an intensity measures."""

    ARBITRARY = "arbitrary"
    HU = "HU"
    SUV = "SUV"
    ACTIVITY = "Bq/mL"
    OPTICAL_DENSITY = "optical density"
    PROBABILITY = "probability"


def frozen_array(array: Array) -> Array:
    """`array` in native byte order, C-contiguous and read-only; copied only where that needs it."""
    array = np.asarray(array)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    array = np.ascontiguousarray(array).view()
    array.flags.writeable = False
    return array


@dataclass(frozen=True, eq=False)
class Volume:
    """Intensities on a grid.

    Args:
        voxels: `c d h w`, any real number type; made native-endian, contiguous and read-only.
        geometry: where they lie; its shape is the last three of `voxels`.
        quantity: what they measure. A step that breaks the unit sets ARBITRARY.
        history: what was done, first to last.
        not_measured: voxels that no scanner measured: interpolated over a missing slice, or outside the field of view.

    Raises: GeometryError where voxels and grid differ, or voxels are not real numbers.
    """

    voxels: Voxels = field(repr=False)
    geometry: Geometry
    quantity: Quantity = Quantity.ARBITRARY
    history: tuple[Step, ...] = ()
    not_measured: Mask | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        voxels = np.asarray(self.voxels)
        if voxels.dtype.kind not in "iuf":
            raise GeometryError(
                f"voxels are real numbers; got {voxels.dtype}"
                + (": take its magnitude or its phase first" if voxels.dtype.kind == "c" else "")
            )
        if voxels.ndim != 4 or voxels.shape[0] < 1 or voxels.shape[1:] != self.geometry.shape:
            raise GeometryError(
                f"voxels are (channels, *{self.geometry.shape}) on this grid; got an array of shape {voxels.shape}"
            )
        if voxels.dtype in (np.float16, np.longdouble):  # libraries know neither
            voxels = voxels.astype(np.float32 if voxels.dtype == np.float16 else np.float64)
        object.__setattr__(self, "voxels", frozen_array(voxels))
        if self.not_measured is not None:
            mask = np.asarray(self.not_measured)
            if mask.dtype != np.bool_ or mask.shape != self.geometry.shape:
                raise GeometryError(
                    f"the mask of what was not measured is boolean on the grid {self.geometry.shape}; "
                    f"got {mask.dtype} of shape {mask.shape}"
                )
            object.__setattr__(self, "not_measured", frozen_array(mask))

    @property
    def channels(self) -> int:
        """How many numbers each voxel holds."""
        return int(self.voxels.shape[0])

    @property
    def grid(self) -> Grid:
        """The voxels `d h w` of a one-channel volume.

        Raises: GeometryError for colour.
        """
        if self.channels != 1:
            raise GeometryError(
                f"this step works on one channel, the image has {self.channels} (colour?): convert it to grey first"
            )
        return np.asarray(self.voxels[0])

    def then(
        self,
        step: Step,
        *,
        voxels: Voxels | Grid | None = None,
        geometry: Geometry | None = None,
        quantity: Quantity | None = None,
        not_measured: Mask | None = None,
    ) -> "Volume":
        """A new volume, one step longer. A three-dimensional `voxels` is taken as one channel.

        Raises: GeometryError for a step onto another grid that forgets which voxels were not measured.
        """
        moved = geometry is not None and self.geometry.distance_to(geometry) > 1e-6
        if self.not_measured is not None and not_measured is None and moved:
            raise GeometryError(f"{step.name} changes the grid and must say where its voxels were not measured")
        if voxels is not None and voxels.ndim == 3:
            voxels = voxels[None]
        if quantity is not None and quantity is not self.quantity:
            step = replace(step, results={**step.results, "unit": f"{self.quantity} -> {quantity}"})
        return replace(
            self,
            voxels=self.voxels if voxels is None else voxels,
            geometry=geometry or self.geometry,
            quantity=quantity or self.quantity,
            history=(*self.history, step),
            not_measured=self.not_measured if not_measured is None else not_measured,
        )

    def require_finite(self) -> None:
        """Refuse values on which filters have no answer.

        Raises: DegenerateImage for NaN, infinity, and numbers beyond single precision.
        """
        if self.voxels.dtype.kind != "f":
            return
        if not all(float(np.abs(plane).max()) < 1e37 for channel in self.voxels for plane in channel):
            odd = int(np.count_nonzero(~(np.abs(self.voxels) < 1e37)))
            raise DegenerateImage(
                f"{odd} of {self.voxels.size} voxels are not finite (NaN, infinity, beyond 1e37): repair the file first"
            )

    def require_quantity(self, quantity: Quantity) -> None:
        """Refuse a threshold in a unit that the voxels no longer have.

        Raises: UnitError that names the step that broke the unit, if one did.
        """
        if self.quantity is quantity:
            return
        done = ", ".join(s.name for s in self.history) or "nothing was done to it"
        if self.quantity is Quantity.ARBITRARY and not any("unit" in s.results for s in self.history):
            raise UnitError(
                f"this needs intensities in {quantity}, and the file states no unit (only DICOM does): take the DICOM "
                "series, or write `unit: arbitrary` if you know what its numbers mean"
            )
        broke = next((s for s in self.history if str(s.results.get("unit", "")).startswith(f"{quantity} -> ")), None)
        why = f"{broke.name} turned {broke.results['unit']}; " if broke else ""
        raise UnitError(
            f"this needs intensities in {quantity}, but the image is in {self.quantity} units ({why}so far: {done}); "
            f"put the step before those that change the unit, or use a method that needs no unit (otsu, k_means)"
        )

    def _repr_html_(self) -> str:
        low, high = self.voxels.min(), self.voxels.max()
        unit = "" if self.geometry.space is Space.PIXELS else " mm"
        rows = [
            ("channels, slices, rows, columns", " x ".join(map(str, self.voxels.shape))),
            ("spacing (d, h, w)", " x ".join(f"{s:.4g}" for s in self.geometry.steps) + unit),
            ("axes grow towards", " ".join(self.geometry.axis_letters)),
            ("space", self.geometry.space.value),
            ("values", f"{low:g} to {high:g} ({self.quantity}, {self.voxels.dtype})"),
            ("not measured", "-" if self.not_measured is None else f"{self.not_measured.mean():.2%} of the voxels"),
            ("history", " > ".join(s.name for s in self.history) or "-"),
        ]
        return html_table("Volume", rows)
