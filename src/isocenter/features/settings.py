"""Settings of radiomic features."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from isocenter.data.step import Settings
from isocenter.features.catalogue import Aggregation, Beyond, Family
from isocenter.features.filters import Filter
from isocenter.types import Triple

_Spacing = float | tuple[float, float, float]


class Radiomics(Settings):
    """Settings of `radiomics`: how a region is prepared and which features are computed.

    Source: IBSI reference manual, arXiv:1612.07003v11, chapter 2.
    """

    families: tuple[Family | Beyond, ...] | None = None
    """Families of features. Where none is stated: all of the standard, of a flat picture `shape_2d` instead of the
    morphology, and of a colour picture `colour` as well."""
    spacing_mm: _Spacing | None = None
    """Voxel spacing to resample to: one number, or (slices, rows, columns) where 0 keeps what there is."""
    interpolation: Literal["nearest", "linear", "cubic"] = "linear"
    """How intensities are resampled; masks are interpolated linearly and cut at one half."""
    round_intensities: bool | None = None
    """Round resampled intensities to whole numbers; where not stated, HU are rounded and others are not."""
    range: tuple[float | None, float | None] | None = None
    """Only intensities between these two count (re-segmentation); the shape stays."""
    outliers_sigma: float | None = Field(None, gt=0)
    """Intensities further than so many standard deviations from the region's mean do not count."""
    bin_width: float | None = Field(None, gt=0)
    """Width of a grey level, in the image's unit."""
    bin_count: int | None = Field(None, ge=2, le=1024)
    """Number of grey levels between the region's smallest and largest intensity. Where neither is stated: bins of 25
    for HU, of 0.5 for SUV, and 32 bins for all other images."""
    bin_origin: float | Literal["minimum", "multiple"] | None = None
    """Lower edge of the first grey level of a stated width: a number, the region's smallest intensity, or the multiple
    of the width below it. Where not stated: the lower end of `range`, else -1000 for HU, 0 for SUV, else the region's
    smallest intensity."""
    aggregation: tuple[Literal["2D_avg", "2D_comb", "2_5D_avg", "2_5D_comb", "3D_avg", "3D_comb"], ...] | None = None
    """How texture joins slices and directions. Several give each feature a suffix. Where not stated: 3D_comb, and
    2D_comb for a region of one slice."""
    distance: int = Field(1, ge=1, le=20)
    """Voxels between the two of a pair (GLCM), and reach of a neighbourhood (NGTDM, NGLDM)."""
    coarseness: int = Field(0, ge=0, le=1024)
    """NGLDM: largest difference of grey levels that still depend on each other."""
    ivh_bin_width: float | None = Field(None, gt=0)
    """Width of the bins of the intensity-volume histogram."""
    ivh_bin_count: int | None = Field(None, ge=2)
    """Number of bins of the intensity-volume histogram. Where neither is stated: steps of 1 for whole numbers (HU), of
    0.1 for SUV, and 1000 bins for all others."""
    grey_levels: bool = False
    """The intensities are grey levels already (1, 2, ...): nothing is discretised."""
    filters: tuple[Filter, ...] = ()
    """Filters whose responses are described as well, under names that begin with the filter's."""
    normalise: float | None = Field(None, gt=0)
    """Scale the image's intensities to a mean of 0 and this standard deviation first; its unit is then gone."""
    enclosing: bool = False
    """Also the oriented box and the enclosing ellipsoid, which have no reference values and take long."""

    @field_validator("spacing_mm")
    @classmethod
    def _positive(cls, value: _Spacing | None) -> _Spacing | None:
        steps = value if isinstance(value, tuple) else (value,)
        if value is not None and (any(s is None or s < 0 or s > 1000 for s in steps) or not any(steps)):
            raise ValueError(f"a spacing lies above 0 and up to 1000 mm (0 keeps an axis of three); got {value}")
        return value

    @field_validator("range")
    @classmethod
    def _ordered(cls, ends: tuple[float | None, float | None] | None) -> tuple[float | None, float | None] | None:
        if ends is not None and None not in ends and not ends[0] < ends[1]:  # type: ignore[operator]
            raise ValueError(f"the lower end must lie below the upper one; got {ends[0]} and {ends[1]}")
        return ends

    @model_validator(mode="after")
    def _one_of_each(self) -> "Radiomics":
        if self.bin_width is not None and self.bin_count is not None:
            raise ValueError("state bin_width or bin_count, not both")
        if self.ivh_bin_width is not None and self.ivh_bin_count is not None:
            raise ValueError("state ivh_bin_width or ivh_bin_count, not both")
        if self.bin_origin is not None and self.bin_width is None:
            raise ValueError("bin_origin is for bins of a stated bin_width")
        if self.grey_levels and (self.bin_width is not None or self.bin_count is not None):
            raise ValueError("grey_levels says that nothing is discretised: leave bin_width and bin_count away")
        return self

    def spacing_for(self, own_mm: Triple) -> Triple | None:
        """The spacing to resample to, of an image with `own_mm`; None: none is asked for."""
        if self.spacing_mm is None:
            return None
        wanted = self.spacing_mm if isinstance(self.spacing_mm, tuple) else (self.spacing_mm,) * 3
        d, h, w = (t or s for t, s in zip(wanted, own_mm, strict=True))
        return float(d), float(h), float(w)

    def rounds(self, *, hounsfield: bool) -> bool:
        """Whether resampled intensities become whole numbers."""
        return hounsfield if self.round_intensities is None else self.round_intensities

    @property
    def bins(self) -> int:
        """Number of bins where no width is stated."""
        return self.bin_count or 32

    def origin(self, lowest: float, default: float | None) -> float:
        """Lower edge of the first bin, of a region whose smallest intensity is `lowest`."""
        assert self.bin_width is not None, "bins of a fixed number begin at the smallest intensity"
        if self.bin_origin == "multiple":
            return float(lowest // self.bin_width * self.bin_width)
        if self.bin_origin == "minimum":
            return lowest
        if self.bin_origin is not None:
            return float(self.bin_origin)
        if self.range is not None and self.range[0] is not None:
            return self.range[0]
        return lowest if default is None else default

    def resolved(self, aggregations: tuple[Aggregation, ...]) -> tuple[Aggregation, ...]:
        """The aggregations asked for, else the given ones."""
        return self.aggregation or aggregations
