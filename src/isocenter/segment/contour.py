"""Contours that settle between two regions."""

import numpy as np
from pydantic import Field

from isocenter.data.labels import LabelMap
from isocenter.data.length import Lengths
from isocenter.data.provenance import Step
from isocenter.data.volume import Volume


class ChanVese(Lengths):
    """Settings of `chan_vese`."""

    sigma_mm: float | None = Field(2.0, gt=0, le=50)
    """Details of the contour smaller than this go, in millimetres."""
    sigma_px: float | None = Field(None, gt=0, le=100)
    """The same in voxels, for images without millimetres."""
    smoothness: float = Field(0.3, ge=0, le=10)
    """Weight of a short contour against even regions."""
    iterations: int = Field(50, ge=1, le=1000)
    """At most."""
    name: str = "region"
    """Name of the label."""


def chan_vese(volume: Volume, settings: ChanVese, *, within: LabelMap | None = None) -> LabelMap:
    """Part the image into two regions of even brightness with a smooth contour between (Chan-Vese level set).

    It starts from Otsu's threshold; the label is the brighter region. Use it where noise makes a threshold ragged and
    edges are weak; it wants two regions of even brightness, so mask out the rest.

    Raises: DegenerateImage for a flat image, or where one region dies out.
    """
    from isocenter.ops.histogram import histogram, otsu_cut
    from isocenter.ops.region import chan_vese as settle

    mask = within.within(volume.geometry) if within else None
    grid = volume.grid
    start = np.asarray(grid > otsu_cut(*histogram(grid, bins=256, within=mask)))
    found, inner, outer, rounds = settle(
        grid,
        start,
        spacing=settings.spacing_for("sigma", volume.geometry),
        sigma=settings.length("sigma"),
        smoothness=settings.smoothness,
        iterations=settings.iterations,
        within=mask,
    )
    results = {"mean_inside": inner, "mean_outside": outer, "rounds": rounds}
    step = Step("segment.chan_vese", settings.model_dump(exclude_none=True), results)
    return LabelMap.of_mask(found, volume.geometry, name=settings.name, history=(*volume.history, step))
