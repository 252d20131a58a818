"""Where a probability becomes a decision."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from isocenter.data.provenance import Json
from isocenter.errors import InputError
from isocenter.metrics import decision as d
from isocenter.types import Array


@dataclass(frozen=True)
class OperatingPoint:
    """Where a probability becomes a decision.

    Args:
        threshold: the positive class is decided from here on.
        criterion: how it was chosen: `probability 0.5`, `sensitivity=0.95`.
        chosen_on: the data on which: `validation`, `out-of-fold`, or `stated`.
    """

    threshold: float = 0.5
    criterion: str = "probability 0.5"
    chosen_on: str = "stated"

    def as_json(self) -> dict[str, Json]:
        """Plain data."""
        return {"threshold": self.threshold, "criterion": self.criterion, "chosen_on": self.chosen_on}


def point_of(stated: Mapping[str, Json]) -> OperatingPoint | None:
    """The operating point that a model's card states; None where it states none."""
    if not stated:
        return None
    return OperatingPoint(float(stated["threshold"]), str(stated["criterion"]), str(stated["chosen_on"]))


def choose_threshold(truth: Array, probability: Array, criterion: str) -> float:
    """The threshold that meets a criterion on these (validation) data.

    Args:
        truth: 0 or 1.
        probability: of class 1.
        criterion: `sensitivity=.95`, `specificity=.9` (the best other side that reaches it), `cost=5` (a missed case
            costs five false alarms), `youden` (see `youden_point`).
    Raises: InputError for a criterion that is none, or cannot be met.
    """
    name, _, text = criterion.partition("=")
    try:
        wanted = float(text) if text else None
    except ValueError as error:
        raise InputError(f"--at {criterion}: {text!r} is no number") from error
    false, true, thresholds = d.roc_curve(truth, probability)
    if name in {"sensitivity", "specificity"} and wanted is not None and 0 < wanted <= 1:
        side, other = (true, 1 - false) if name == "sensitivity" else (1 - false, true)
        good = np.flatnonzero(side >= wanted - 1e-12)
        best = good[np.argmax(other[good])]
    elif name == "cost" and wanted is not None and 0 < wanted < 1e9:
        rate = float(truth.mean())
        best = np.argmin(wanted * rate * (1 - true) + (1 - rate) * false)
    elif name == "youden" and wanted is None:
        return youden_point(truth, probability)
    else:
        raise InputError(f"--at {criterion}: there are sensitivity=SHARE, specificity=SHARE, cost=RATIO and youden")
    # Half-way to the next lower score, so that rounding cannot turn a case.
    lower = thresholds[best + 1] if best + 1 < len(thresholds) else 0.0
    at = thresholds[best]
    return float(1.0 if np.isinf(at) else (at + lower) / 2 if lower < at else at)


def youden_point(truth: Array, probability: Array) -> float:
    """The threshold at which sensitivity + specificity - 1 is largest, steadied against chance.

    Where classes are nearly parted, many thresholds do equally well on the cases at hand, and the very best of them is
    a matter of luck. Of all that lie within one standard error of the best, the one nearest to the share of positives
    is taken: there, for a calibrated probability, Youden's index is largest.

    Args:
        truth: 0 or 1.
        probability: of class 1, calibrated.
    Source: W. Youden, Cancer 3:32-35, 1950; one standard error: L. Breiman et al., Classification and Regression
        Trees, 1984, section 3.4.3.
    """
    false, true, thresholds = d.roc_curve(truth, probability)
    index, positives = true - false, int(truth.sum())
    best, share = int(np.argmax(index)), positives / len(truth)
    # A case is added on either side (Laplace), so that a perfect rate has an error too.
    hits, passes = true[best] * positives, (1 - false[best]) * (len(truth) - positives)
    error = np.sqrt(_variance(hits, positives) + _variance(passes, len(truth) - positives))
    good = index >= index[best] - error
    at = int(np.flatnonzero(thresholds >= share)[-1]) if np.any(thresholds >= share) else 0
    if good[at]:
        return share  # decides as the threshold above it
    lower = np.append(thresholds[1:], 0.0)
    middles = np.where(np.isinf(thresholds), 1.0, (thresholds + lower) / 2)[good]
    return float(middles[np.argmin(np.abs(middles - share))])


def _variance(count: float, of: int) -> float:
    rate = (count + 1) / (of + 2)
    return float(rate * (1 - rate) / (of + 2))
