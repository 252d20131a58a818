"""What a card states beside its network, as far as predictions lean on it: a card is a file, and may hold anything."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

_Positive = Annotated[float, Field(gt=0)]
_Whole = Annotated[float, Field(ge=0)]
_Sides = tuple[_Positive, _Positive, _Positive]


class _Told(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)


class _Point(_Told):
    threshold: float = Field(default=0.5, ge=0, le=1)


class _Calibration(_Told):
    method: Literal["none", "platt", "temperature", "isotonic"] = "none"
    slope: float | None = None
    intercept: float | None = None
    temperature: _Positive | None = None
    scores: tuple[float, ...] | None = None
    rates: tuple[float, ...] | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> "_Calibration":
        wanted = {"platt": ("slope", "intercept"), "temperature": ("temperature",), "isotonic": ("scores", "rates")}
        lacking = next((name for name in wanted.get(self.method, ()) if getattr(self, name) is None), None)
        if lacking:
            raise ValueError(f"a calibration by {self.method} states {lacking}")
        if self.method == "isotonic" and not len(self.scores or ()) == len(self.rates or ()) > 0:
            raise ValueError("an isotonic calibration states a rate for each score")
        return self


class _Conformal(_Told):
    quantiles: tuple[float | None, ...] | None = None
    reach: float | dict[str, float | None] | None = None
    coverage: float | None = None


class _Prepared(_Told):
    quantiles: tuple[_Whole, ...] = Field(min_length=1)
    low: tuple[tuple[float, ...], ...] = Field(min_length=1)
    high: tuple[tuple[float, ...], ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _fits(self) -> "_Prepared":
        counts = {len(row) for row in (*self.low, *self.high)}
        if len(self.low) != len(self.high) or counts != {len(self.quantiles)}:
            raise ValueError("low and high hold a number of each quantile for each channel")
        return self


class _Gate(_Told):
    quantity: str | None = None
    shape: tuple[_Sides, _Sides] | None = None
    spacing_mm: tuple[_Sides, _Sides] | None = None
    extent_mm: tuple[_Sides, _Sides] | None = None
    prepared: _Prepared | None = None
    frame_gap_s: tuple[_Whole, _Whole] | None = None
    colour: bool = False
    objects: tuple[_Whole, _Whole] | None = None
    object_edge: dict[str, tuple[_Positive, _Positive]] | None = None


class _Training(_Told):
    usual_distances: tuple[_Whole, ...] | None = Field(default=None, min_length=2)
    class_shares: tuple[_Whole, ...] | None = None


class Stated(BaseModel):
    """What a card states beside the network, as far as a prediction uses it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    operating_point: _Point
    calibration: _Calibration
    conformal: _Conformal
    gate: _Gate
    training: _Training

    def require_for(self, task: str, classes: int) -> None:
        """Refuse what a prediction of this task would miss.

        Raises: ValueError.
        """
        shares = self.training.class_shares
        if task == "generate" and classes and (shares is None or len(shares) != classes or not sum(shares) > 0):
            raise ValueError(f"training.class_shares holds a share of each of the {classes} classes")
        if task == "anomaly" and self.training.usual_distances is None:
            raise ValueError("training.usual_distances says how far normal images lie")
