"""A table as numbers: what is known of each case, and what is to be predicted."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from isocenter.data.card import Task
from isocenter.errors import InputError
from isocenter.types import Array


@dataclass(frozen=True, eq=False)
class Design:
    """Cases by features, with their target.

    Args:
        task: what is predicted.
        cases: name of each row.
        patients: patient of each row; the row itself where none is stated.
        features: name of each column.
        matrix: rows by columns; NaN where a value is missing.
        target: class numbers, values, or (time, event).
        classes: names of the classes.
        known_patients: a column of patients was stated.
        split: `train`, `val` or `test` of each row; empty where the table has none.
        site: institution of each row; empty where none is stated.
        groups: columns for subgroups.
        image: path of each row's image, for links; empty where none is stated.
    """

    task: Task
    cases: tuple[str, ...]
    patients: tuple[str, ...]
    features: tuple[str, ...]
    matrix: Array = field(repr=False)
    target: Array = field(repr=False)
    classes: tuple[str, ...] = ()
    known_patients: bool = False
    split: tuple[str, ...] = ()
    site: tuple[str, ...] = ()
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    image: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.cases)

    def rows(self, index: Array) -> "Design":
        """Some of the rows."""

        def some(values: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(values[i] for i in index) if values else ()

        return replace(
            self, cases=some(self.cases), patients=some(self.patients), matrix=self.matrix[index],
            target=self.target[index], split=some(self.split), site=some(self.site), image=some(self.image),
            groups={name: some(values) for name, values in self.groups.items()},
        )  # fmt: skip

    def part(self, name: str) -> "Design":
        """The rows of a split.

        Raises: InputError where there is none.
        """
        index = np.flatnonzero(np.asarray(self.split) == name) if self.split else np.zeros(0, np.int64)
        if not len(index):
            there = ", ".join(sorted(set(self.split))) or "none is stated"
            raise InputError(f"the table has no rows of the split {name!r}; there are: {there}")
        return self.rows(index)
