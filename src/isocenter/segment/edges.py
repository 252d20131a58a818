"""Regions that closed edges enclose."""

from typing import Literal

from pydantic import Field, model_validator

from isocenter.data.labels import LabelMap
from isocenter.data.length import Lengths
from isocenter.data.provenance import Step
from isocenter.data.volume import Volume


class Edges(Lengths):
    """Settings of `edges`."""

    method: Literal["canny", "sobel"] = "canny"
    """`canny`: thin edges where the gradient peaks; `sobel`: thick edges where it is strong."""
    give: Literal["enclosed", "edges"] = "enclosed"
    """`enclosed`: what closed edges surround; `edges`: the edges themselves."""
    sigma_mm: float | None = Field(1.0, gt=0, le=20)
    """Smoothing before the gradient, in millimetres: edges of finer things are not seen."""
    sigma_px: float | None = Field(None, gt=0, le=50)
    """The same in voxels, for images without millimetres."""
    gap_mm: float | None = Field(2.0, ge=0, le=50)
    """Gaps in an edge up to this width are bridged, in millimetres."""
    gap_px: float | None = Field(None, ge=0, le=100)
    """The same in voxels."""
    low: float = Field(0.1, gt=0, lt=1)
    """Edges weaker than this share of the strongest gradient (99.9th percentile) are dropped."""
    high: float = Field(0.3, gt=0, le=1)
    """So are those that hold nothing stronger than this share."""
    name: str = "object"
    """Name of the label."""

    @model_validator(mode="after")
    def _consistent(self) -> "Edges":
        if not self.low <= self.high:
            raise ValueError(f"low must not lie above high; got {self.low:g} and {self.high:g}")
        if (self.sigma_px is None) != (self.gap_px is None):
            raise ValueError("give both sigma and gap in millimetres, or both in voxels")
        return self


def edges(volume: Volume, settings: Edges) -> LabelMap:
    """Find edges, close their gaps, and take what they enclose.

    Use it for objects with a clear rim whose inside is as bright as the ground. Bounds that run out of the image stay
    open and enclose nothing.

    Raises: UnitError in PIXELS space for millimetres; DegenerateImage for a flat image.
    """
    from isocenter.ops import edges as ops

    spacing = settings.spacing_for("sigma", volume.geometry)
    find = ops.canny if settings.method == "canny" else ops.sobel
    found, weak, strong = find(
        volume.grid, spacing=spacing, sigma=settings.length("sigma"), low=settings.low, high=settings.high
    )
    if settings.give == "enclosed":
        found = ops.enclosed(found, gap=settings.length("gap"), spacing=spacing)
    results = {"weakest_gradient": weak, "strongest_needed": strong}
    step = Step("segment.edges", settings.model_dump(exclude_none=True), results)
    return LabelMap.of_mask(found, volume.geometry, name=settings.name, history=(*volume.history, step))
