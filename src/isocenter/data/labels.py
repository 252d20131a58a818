"""Which class each voxel belongs to."""

from dataclasses import dataclass, field, replace

import numpy as np

from isocenter.data.geometry import Geometry
from isocenter.data.notebook import html_table
from isocenter.data.provenance import Step
from isocenter.data.volume import frozen_array
from isocenter.errors import GeometryError
from isocenter.types import Array, LabelGrid, Mask


@dataclass(frozen=True)
class Label:
    """One class of a label map; `data.concepts` knows the coded concept of its name."""

    value: int
    name: str


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Integer voxels on a grid with the table that names them. 0 is background and needs no name.

    Overlapping segments are several label maps; fractional ones are a Volume with Quantity.PROBABILITY.

    Raises: GeometryError for voxels that are not integers, that differ from the grid, or that the table does not name.
    """

    voxels: LabelGrid = field(repr=False)
    geometry: Geometry
    labels: tuple[Label, ...]
    history: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        voxels = np.asarray(self.voxels)
        if voxels.dtype.kind not in "iu":
            raise GeometryError(f"label maps hold integers; got {voxels.dtype}: threshold or round it on purpose first")
        if voxels.shape != self.geometry.shape:
            raise GeometryError(f"a label map on this grid has shape {self.geometry.shape}; got {voxels.shape}")
        values = [label.value for label in self.labels]
        if len(set(values)) != len(values) or 0 in values:
            raise GeometryError(f"each label needs a value of its own that is not 0 (background); got {values}")
        unknown = sorted(present_values(voxels) - {0, *values})
        if unknown:
            raise GeometryError(
                f"voxels hold the values {unknown[:8]} that the label table does not name (it names {values}); "
                "name them, or remap them to 0"
            )
        if max(values, default=0) <= 255:
            voxels = voxels.astype(np.uint8, copy=False)
        object.__setattr__(self, "voxels", frozen_array(voxels))

    @classmethod
    def of_mask(cls, mask: Mask, geometry: Geometry, *, name: str, history: tuple[Step, ...] = ()) -> "LabelMap":
        """A label map of one class, value 1."""
        return cls(mask.view(np.uint8), geometry, (Label(1, name),), history)

    def mask(self, name: str) -> Mask:
        """Voxels of the label called `name`.

        Raises: GeometryError with the names that exist.
        """
        for label in self.labels:
            if label.name == name:
                return np.asarray(self.voxels == label.value)
        raise GeometryError(f"no label is called {name!r}; there are {[label.name for label in self.labels]}")

    def within(self, geometry: Geometry) -> Mask:
        """Voxels of any label, for an image on this grid.

        Raises: GeometryError where the image lies on another grid.
        """
        self.geometry.require_same(geometry, what="the image and the mask to stay within")
        return self.foreground

    @property
    def foreground(self) -> Mask:
        """Voxels of any label."""
        return np.asarray(self.voxels != 0)

    def then(self, step: Step, *, voxels: LabelGrid | None = None, geometry: Geometry | None = None) -> "LabelMap":
        """A new label map, one step longer."""
        return replace(
            self,
            voxels=self.voxels if voxels is None else voxels,
            geometry=geometry or self.geometry,
            history=(*self.history, step),
        )

    def _repr_html_(self) -> str:
        rows = [(lb.value, lb.name, int(np.count_nonzero(self.voxels == lb.value))) for lb in self.labels]
        return html_table(f"LabelMap {self.geometry.shape}", rows, head=("value", "name", "voxels"))


def present_values(voxels: Array) -> set[int]:
    """The values that occur; slice by slice, so that memory stays flat."""
    found: set[int] = set()
    for plane in voxels:
        if voxels.dtype == np.uint8:
            found.update(np.flatnonzero(np.bincount(plane.ravel(), minlength=1)).tolist())
        else:
            found.update(np.unique(plane).tolist())
    return found
