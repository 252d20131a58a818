"""Values over time."""

from dataclasses import dataclass

import numpy as np

from isocenter.data.message import Message
from isocenter.errors import InputError


@dataclass(frozen=True)
class Curve:
    """A number at each frame of a sequence.

    Args:
        statement: what it is.
        unit: UCUM.
        times_s: seconds of each frame after the first; never falling.
        values: as many.
        timed: the file states those times; else frames count as one second apart.

    Raises: InputError where they differ, or a number is none.
    """

    statement: Message
    unit: str
    times_s: tuple[float, ...]
    values: tuple[float, ...]
    timed: bool = True

    def __post_init__(self) -> None:
        if len(self.times_s) != len(self.values) or not self.values:
            raise InputError(f"a curve has a value for each time; got {len(self.values)} for {len(self.times_s)} times")
        if not np.isfinite([*self.times_s, *self.values]).all():
            raise InputError("a curve holds a value or a time that is no number")
