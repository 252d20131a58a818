"""How far a small model's numbers lie from those of the model that it was made of: paired, on the same cases."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from isocenter.data.evaluation import Evaluation, Predictions
from isocenter.data.provenance import Json
from isocenter.errors import InputError
from isocenter.evaluation.shared import resampled
from isocenter.metrics import decision as d
from isocenter.types import Array

_LESS_IS_BETTER = ("mae", "rmse", "rand_error", "warping_error")
_IN_UNITS = ("mae", "rmse", "psnr")
"""Metrics that have a unit: how much worse they got is a share of what they were."""
_OVERLAPS = ("dice", "surface_dice", "iou")
_JUDGED = ("dice", "surface_dice", "psnr", "ssim", "iou")


@dataclass(frozen=True)
class Drift:
    """One metric before and after.

    Args:
        metric: its name.
        before: of the model.
        after: of the small one.
        low: lower end of the difference's interval of 95 %, by patient; None: too few patients.
        high: its upper end.
    """

    metric: str
    before: float
    after: float
    low: float | None
    high: float | None

    @property
    def difference(self) -> float:
        """After less before."""
        return self.after - self.before

    @property
    def loss(self) -> float:
        """By how much it got worse, of metrics with a unit as a share of what they were; below 0: it got better."""
        name = self.metric.partition("/")[0]
        worse = self.difference if name in _LESS_IS_BETTER else -self.difference
        return worse / (abs(self.before) or 1.0) if name in _IN_UNITS else worse

    def as_json(self) -> dict[str, Json]:
        """Plain data."""
        return {
            "metric": self.metric, "before": self.before, "after": self.after, "difference": self.difference,
            "low": self.low, "high": self.high,
        }  # fmt: skip


def drifts(
    one: Evaluation | Predictions,
    other: Evaluation | Predictions,
    *,
    thresholds: tuple[float, float] = (0.5, 0.5),
    seed: int,
) -> tuple[Drift, ...]:
    """Every metric of both.

    Args:
        one: of the model.
        other: of the small one, on the same cases.
        thresholds: of the second of two classes, of both.
        seed: of resampling.

    Raises: InputError where the cases differ.
    """
    if isinstance(one, Predictions) and isinstance(other, Predictions):
        return _of_predictions(one, other, thresholds, seed)
    assert isinstance(one, Evaluation), "both are of one kind"
    assert isinstance(other, Evaluation), "both are of one kind"
    return _of_rows(one, other, seed)


def _of_rows(one: Evaluation, other: Evaluation, seed: int) -> tuple[Drift, ...]:
    """Means over the rows of cases: Dice of each label, PSNR."""
    head = [str(name) for name in one.rows[0]]
    tables = [
        {str(row[0]): dict(zip(map(str, e.rows[0]), row, strict=True)) for row in e.rows[1:]} for e in (one, other)
    ]
    cases = list(tables[0])
    if set(cases) != set(tables[1]):
        raise InputError("both models are judged on the same cases; one of them has no answer for some")
    groups = np.asarray([str(tables[0][c].get("patient") or f"case {c}") for c in cases])
    found = []
    for name in head:
        kind, _, rest = name.partition("/")
        if kind not in _JUDGED or (kind == "psnr" and rest) or (kind == "ssim" and rest):
            continue
        both = np.asarray([[_number(t[c].get(name)) for c in cases] for t in tables])
        if kind in _OVERLAPS:  # no number: rightly nothing, which a structure where none is must count against
            one_sided = np.isfinite(both).any(axis=0)
            both[:, one_sided] = np.where(np.isfinite(both[:, one_sided]), both[:, one_sided], 1.0)
        known = np.isfinite(both).all(axis=0)
        if known.any():
            found.append(_mean_drift(name, both[:, known], groups[known], seed))
    return tuple(found)


def _mean_drift(name: str, both: Array, groups: Array, seed: int) -> Drift:
    away = both[1] - both[0]
    interval = resampled(lambda i: float(away[i].mean()), groups, None, seed)
    return Drift(name, float(both[0].mean()), float(both[1].mean()), interval.low, interval.high)


def _areas_apart(own: Array, scores: list[Array], k: int) -> Callable[[Array], float]:
    return lambda i: d.auc(own[i], scores[1][i, k]) - d.auc(own[i], scores[0][i, k])


def _decided(scores: Array, threshold: float) -> Array:
    """The class that is decided for: of two by the threshold."""
    if scores.shape[1] == 2:
        return np.asarray(scores[:, 1] >= threshold).astype(np.int64)
    return np.asarray(scores.argmax(axis=1))


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _of_predictions(
    one: Predictions, other: Predictions, thresholds: tuple[float, float], seed: int
) -> tuple[Drift, ...]:
    """Area under the curve and accuracy of each class; or the mean error."""
    if one.cases != other.cases:
        raise InputError("both models are judged on the same cases; one of them has no answer for some")
    groups = np.asarray(one.patients)
    if one.task == "regress":
        truth = np.asarray(one.truth, np.float64)
        both = np.stack([np.abs(np.asarray(p.scores, np.float64) - truth) for p in (one, other)])
        return (_mean_drift("mae", both, groups, seed),)
    truth = np.asarray(one.truth, np.int64)
    scores = [np.asarray(p.scores, np.float64) for p in (one, other)]
    found = []
    for k, name in enumerate(one.classes):
        own = (truth == k).astype(np.int64)
        if 0 < own.sum() < len(own) and (len(one.classes) > 2 or k == 1):
            areas = [d.auc(own, s[:, k]) for s in scores]
            interval = resampled(_areas_apart(own, scores, k), groups, own, seed)
            found.append(Drift(f"auc/{name}", areas[0], areas[1], interval.low, interval.high))
    for k, name in enumerate(one.classes):
        rows = truth == k
        if rows.any():
            pairs = zip(scores, thresholds, strict=True)
            right = np.stack([(_decided(s[rows], least) == k).astype(np.float64) for s, least in pairs])
            found.append(_mean_drift(f"recall/{name}", right, groups[rows], seed))
    return tuple(found)
