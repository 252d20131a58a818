"""Columns of a table beside an image: as channels that hold one number each."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from isocenter.data.dataset import LARGEST
from isocenter.errors import InputError
from isocenter.inference.prepare import Prepared


class Column(BaseModel):
    """A column of numbers, scaled by the training cases; a case without a value counts as their mean."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(min_length=1, description="In the table.")
    mean: float = Field(description="Of the training cases.")
    deviation: float = Field(gt=0, description="Of the training cases.")


_MOST = 8.0
"""Deviations beyond which a value is cut off: a typing error shall not decide."""


def with_columns(
    ready: Prepared, row: Mapping[str, str], columns: Sequence[Column]
) -> tuple[Prepared, tuple[str, ...]]:
    """The prepared image with a channel for each column, and the columns that the case has no value for.

    Raises: InputError for a value that is no number.
    """
    if not columns:
        return ready, ()
    values = [value_of(row, column.name) for column in columns]
    scaled = [
        0.0 if v is None else float(np.clip((v - c.mean) / c.deviation, -_MOST, _MOST))
        for v, c in zip(values, columns, strict=True)
    ]
    beside = np.asarray(scaled, np.float32)[:, None, None, None] * np.ones((1, *ready.array.shape[1:]), np.float32)
    lacking = tuple(c.name for v, c in zip(values, columns, strict=True) if v is None)
    return replace(ready, array=np.concatenate((ready.array, beside))), lacking


def value_of(row: Mapping[str, str], name: str) -> float | None:
    """A case's value in a column; None where it has none.

    Raises: InputError for a text that is no number.
    """
    text = str(row.get(name, "")).strip()
    if text.lower() in ("", "na", "n/a", "nan", "null"):
        return None
    try:
        value = float(text)
    except ValueError as error:
        raise InputError(f"{name}: {text!r} is no number: write categories as numbers, such as 0 and 1") from error
    if not abs(value) <= LARGEST:
        raise InputError(f"{name}: {text!r} is no number that can be computed with (up to {LARGEST:g})")
    return value


def fitted(rows: Sequence[Mapping[str, str]], names: Sequence[str]) -> tuple[Column, ...]:
    """Columns scaled by these cases.

    Raises: InputError for a column that no case has, or that holds one value only.
    """
    found = []
    for name in names:
        values = [v for row in rows if (v := value_of(row, name)) is not None]
        if not values:
            there = ", ".join(dict.fromkeys(key for row in rows for key in row)) or "none"
            raise InputError(f"--with {name}: no case has a number there; columns beside images are {there}")
        deviation = float(np.std(values))
        if not deviation > 0:
            raise InputError(f"--with {name}: every case has {values[0]:g}: nothing can be learnt from it")
        found.append(Column(name=name, mean=float(np.mean(values)), deviation=deviation))
    return tuple(found)
