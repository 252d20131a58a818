"""What every step has: settings that are a typed model, and a row in its stage's visible table."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Input = Literal["volume", "labels", "region", "case"]
"""What a step eats: a volume; a label map; a volume and a label map that names its regions; the whole case."""


class Settings(BaseModel):
    """Base of all steps' settings: frozen, and a key that is not a field is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


@dataclass(frozen=True)
class StepKind:
    """One row of a stage's table `STEPS`.

    Args:
        settings: the model of its parameters.
        run: the function; its first arguments are what `takes` says, then the settings.
        takes: what it eats.
        within: it also accepts a mask as `within=`.
    """

    settings: type[Settings]
    run: Callable[..., Any]
    takes: Input
    within: bool = False

    @property
    def summary(self) -> str:
        """First line of the function's docstring."""
        return (self.run.__doc__ or "").strip().split("\n")[0]
