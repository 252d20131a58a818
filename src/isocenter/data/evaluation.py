"""What an evaluation finds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from isocenter.data.message import Message
from isocenter.data.notebook import html_table
from isocenter.data.provenance import Json
from isocenter.types import Array


@dataclass(frozen=True, eq=False)
class Predictions:
    """What was predicted for each case, and what was true.

    Args:
        task: `classify`, `regress` or `survive`.
        cases: names.
        patients: patient of each.
        known_patients: they were stated.
        truth: class numbers, values, or (time, event) pairs.
        scores: probability of each class (`n k`), a value, or a risk (`n`).
        classes: names.
        survival: share without event at `times` (`n m`), where the model states it.
        times: of `survival`.
        groups: columns for subgroups.
        images: path of each case's image, where known.
        decided: class decided by the reader or model itself, where no score decides.
        sets: prediction sets as `n k` booleans, or intervals `n 2`, where the model gives them.
        name: of whoever predicted.
    """

    task: str
    cases: tuple[str, ...]
    patients: tuple[str, ...]
    known_patients: bool
    truth: object
    scores: object
    classes: tuple[str, ...] = ()
    survival: object = None
    times: object = None
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    images: tuple[str, ...] = ()
    sets: object = None
    name: str = "model"

    def rows(self, index: Array) -> "Predictions":
        """Some of the cases."""

        def some(values: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(values[i] for i in index) if values else ()

        def part(values: object) -> object:
            return None if values is None else np.asarray(values)[index]

        return replace(
            self, cases=some(self.cases), patients=some(self.patients), truth=part(self.truth),
            scores=part(self.scores), survival=part(self.survival), sets=part(self.sets), images=some(self.images),
            groups={name: some(values) for name, values in self.groups.items()},
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Numbers of one set of predictions.

    Args:
        data: what `evaluation.json` says.
        curves: points of the page's figures by name.
        rows: per-case table: header and rows.
        pictures: title and PNG of cases that the page shows.
        notes: what must be known before the numbers are believed; `data` has them in English.
    """

    data: Mapping[str, Json]
    curves: Mapping[str, Json] = field(default_factory=dict)
    rows: tuple[tuple[object, ...], ...] = ()
    pictures: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)
    notes: tuple[Message, ...] = ()

    def noted(self, notes: Sequence[Message]) -> "Evaluation":
        """The same with these notes."""
        return replace(self, data={**self.data, "notes": [str(note) for note in notes]}, notes=tuple(notes))

    def _repr_html_(self) -> str:
        metrics = self.data["metrics"]
        rows = [
            (name, f"{m['value']:.3f}", "" if m["low"] is None else f"{m['low']:.3f} to {m['high']:.3f}")
            for name, m in metrics.items()
            if m["value"] is not None
        ]
        return html_table("Evaluation", rows, head=("metric", "value", "95 %"))
