"""Two predictions of the same cases, and whether sets cover."""

from collections.abc import Callable, Mapping
from math import sqrt
from typing import Any

import numpy as np

from isocenter.data.evaluation import Predictions
from isocenter.data.provenance import Json
from isocenter.errors import InputError
from isocenter.evaluation.point import OperatingPoint
from isocenter.evaluation.shared import plain
from isocenter.metrics import decision as d
from isocenter.metrics import intervals as iv
from isocenter.metrics import survival as sv
from isocenter.types import Array

Difference = Callable[[Array, Array], float]


def compare(
    one: Predictions, other: Predictions, *, point: OperatingPoint | None = None, seed: int = 0
) -> dict[str, Json]:
    """Two predictions, paired: differences, p-values with Holm's correction, and what could have been seen.

    Raises: InputError where the cases differ.
    """
    if one.cases != other.cases or one.task != other.task or one.classes != other.classes:
        raise InputError("two models are compared on the same cases and classes; these differ")
    rows: list[dict[str, Any]] = []
    binary = one.task == "classify" and len(one.classes) == 2
    hard = all(set(np.unique(np.asarray(x.scores))) <= {0.0, 1.0} for x in (one, other))
    if binary and not hard:
        rows.append(_areas(one, other))
    groups = np.asarray(one.patients)
    metric, statistic, outputs = _difference(one, other, (point or OperatingPoint()).threshold)
    draws = 500 if one.task == "survive" else 5000
    observed, value = iv.paired_permutation(statistic, outputs[0], outputs[1], groups, seed=seed, draws=draws)
    test = "paired permutation of patients"
    rows.append({"metric": metric, "difference": observed, "p": value, "test": test})
    if binary:
        truth = np.asarray(one.truth, np.int64)
        for name, kind in (("recall", 1), ("specificity", 0)):
            own = truth == kind
            observed, value = iv.paired_permutation(
                statistic, outputs[0][own], outputs[1][own], groups[own], seed=seed, draws=draws
            )
            rows.append({"metric": name, "difference": observed, "p": value, "test": test})
    for row, p_value in zip(rows, iv.holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = p_value
        row["verdict"] = "distinguishable" if p_value < 0.05 else "not distinguishable"
    return {"models": [one.name, other.name], "comparisons": rows}


def _areas(one: Predictions, other: Predictions) -> dict[str, Any]:
    """DeLong's test of two AUCs."""
    from scipy.stats import norm

    truth = np.asarray(one.truth, np.int64)
    several = len(set(one.patients)) < len(one.cases)
    scores = [np.asarray(x.scores, np.float64)[:, 1] for x in (one, other)]
    areas, covariance = d.auc_covariance(truth, scores, np.asarray(one.patients) if several else None)
    error = sqrt(max(1e-300, covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]))
    difference = float(areas[0] - areas[1])
    return {
        "metric": "auc",
        "difference": difference,
        "low": difference - iv.Z * error,
        "high": difference + iv.Z * error,
        "p": float(2 * norm.sf(abs(difference) / error)) if difference else 1.0,
        "smallest_visible": iv.smallest_visible(error),
        "test": "DeLong, clustered by patient" if several else "DeLong",
    }


def _difference(one: Predictions, other: Predictions, threshold: float) -> tuple[str, Difference, list[Array]]:
    """What is compared by exchanging patients: its name, how, and what of each model."""
    scores = [np.asarray(x.scores, np.float64) for x in (one, other)]

    def means(a: Array, b: Array) -> float:
        return float(a.mean() - b.mean())

    if one.task == "regress":
        return "mae", means, [np.abs(s - np.asarray(one.truth, np.float64)) for s in scores]
    if one.task == "survive":
        pairs = np.asarray(one.truth, np.float64)
        time, event = pairs[:, 0], pairs[:, 1].astype(np.int64)

        def concordances(a: Array, b: Array) -> float:
            return sv.harrell_c(time, event, a) - sv.harrell_c(time, event, b)

        return "c_index", concordances, [np.argsort(np.argsort(s)).astype(np.float64) for s in scores]
    truth = np.asarray(one.truth, np.int64)
    decided = [s[:, 1] >= threshold if len(one.classes) == 2 else s.argmax(axis=1) for s in scores]
    return "accuracy", means, [(choice == truth).astype(np.float64) for choice in decided]


def coverage(found: Predictions) -> Mapping[str, Json] | None:
    """Share of cases whose prediction set or interval holds the truth, overall and by class, and how large they are."""
    if found.sets is None:
        return None
    groups = np.asarray(found.patients) if len(set(found.patients)) < len(found.cases) else None
    if found.task == "classify":
        truth, sets = np.asarray(found.truth, np.int64), np.asarray(found.sets, np.bool_)
        inside = sets[np.arange(len(truth)), truth].astype(np.float64)
        by_class = {
            name: plain(iv.proportion(inside[truth == k], groups[truth == k] if groups is not None else None))
            for k, name in enumerate(found.classes)
            if (truth == k).any()
        }
        size = float(sets.sum(axis=1).mean())
        return {"overall": plain(iv.proportion(inside, groups)), "by_class": by_class, "mean_size": size}
    ends, value = np.asarray(found.sets, np.float64), np.asarray(found.truth, np.float64)
    within = ((value >= ends[:, 0]) & (value <= ends[:, 1])).astype(np.float64)
    width = float((ends[:, 1] - ends[:, 0]).mean())
    return {"overall": plain(iv.proportion(within, groups)), "mean_width": width}
