"""The slow drift of brightness that a coil adds."""

import numpy as np
from pydantic import Field

from isocenter.data.labels import LabelMap
from isocenter.data.provenance import Step
from isocenter.data.step import Settings
from isocenter.data.volume import Quantity, Volume


class N4(Settings):
    """Settings of `n4`."""

    working_mm: float = Field(4.0, ge=1, le=20)
    """Spacing of the shrunken grid on which the field is estimated, in millimetres."""
    levels: int = Field(2, ge=1, le=4)
    """Fitting levels: more follow finer drifts, and take contrast from the tissues."""
    iterations: int = Field(50, ge=1, le=500)
    """At most, on each level."""


def n4(volume: Volume, settings: N4, *, within: LabelMap | None = None) -> Volume:
    """Divide an MR image by its estimated coil sensitivity (N4 bias field). Breaks the unit.

    Use it on MR before intensities are compared across the image. Its memory is eight times the volume in float32.
    Without `within`, the foreground is what Otsu's threshold parts from the air.

    Raises: DegenerateImage where there is too little to estimate from.
    """
    from isocenter.ops.bias import n4_field
    from isocenter.ops.histogram import histogram, otsu_cut

    grid = volume.grid
    mask = within.within(volume.geometry) if within else np.asarray(grid > otsu_cut(*histogram(grid, bins=256)))
    field = n4_field(
        grid,
        mask,
        spacing=volume.geometry.spacing_mm,
        working_mm=settings.working_mm,
        levels=settings.levels,
        iterations=settings.iterations,
    )
    inside = field[mask]
    found = {"field_low": float(inside.min()), "field_high": float(inside.max())}
    np.divide(grid, field, out=field)
    step = Step("preprocess.n4", settings.model_dump(), found)
    return volume.then(step, voxels=field, quantity=Quantity.ARBITRARY)
