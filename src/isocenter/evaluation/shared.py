"""What the judges of all tasks share."""

from collections.abc import Callable

import numpy as np

from isocenter.data.provenance import Json
from isocenter.errors import IsocenterError
from isocenter.metrics import intervals as iv
from isocenter.types import Array

Judged = tuple[dict[str, iv.Estimate], dict[str, Json], dict[str, Json]]
"""Metrics, points of curves, and what else `evaluation.json` says."""


def plain(estimate: iv.Estimate) -> dict[str, Json]:
    """An estimate as plain data; a value that is no number is null."""
    value = estimate.value if np.isfinite(estimate.value) else None
    return {"value": value, "low": estimate.low, "high": estimate.high, "note": estimate.note}


def resampled(statistic: Callable[[Array], float], groups: Array, truth: Array | None, seed: int) -> iv.Estimate:
    """A statistic with its bootstrap interval by patient; where it has no value, why."""
    try:
        return iv.bootstrap(statistic, groups, truth, seed=seed, draws=1000)[0]
    except (IsocenterError, KeyError) as error:
        return iv.Estimate(float("nan"), note=str(error))


def thin(x: Array, y: Array, most: int = 400) -> list[list[float]]:
    """At most so many points of a curve."""
    keep = np.unique(np.linspace(0, len(x) - 1, min(most, len(x))).round().astype(int))
    return [[float(x[i]), float(y[i])] for i in keep]
