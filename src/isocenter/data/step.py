"""What every step has: settings that are a typed model, and a row in its stage's visible table."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

Input = Literal["volume", "labels", "region", "pair", "case"]
"""What a step eats: a volume; a label map; a volume and a label map that names its regions; a volume and another
one; the whole case."""

USUAL_MEMORY = 4.0
"""Most memory of a step, above what it is given, in volumes of float32."""


class Settings(BaseModel):
    """Base of all steps' settings: frozen, and a key that is not a field is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    label_maps: ClassVar[tuple[str, ...]] = ()
    """Settings of a step on the whole case that name label maps."""


@dataclass(frozen=True)
class StepKind:
    """One row of a stage's table `STEPS`.

    Args:
        settings: the model of its parameters.
        run: the function; its first arguments are what `takes` says, then the settings.
        takes: what it eats.
        within: it also accepts a mask as `within=`.
        memory: most memory that it takes, in volumes of float32; a step that takes more than the usual is refused
            where that exceeds what may be used.
    """

    settings: type[Settings]
    run: Callable[..., Any]
    takes: Input
    within: bool = False
    memory: float = USUAL_MEMORY

    @property
    def summary(self) -> str:
        """First line of the function's docstring."""
        return (self.run.__doc__ or "").strip().split("\n")[0]
