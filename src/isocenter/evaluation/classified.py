"""Classifiers beside the truth."""

from collections.abc import Callable
from math import sqrt

import numpy as np

from isocenter.data.evaluation import Predictions
from isocenter.data.provenance import Json
from isocenter.errors import DegenerateImage
from isocenter.evaluation.point import OperatingPoint
from isocenter.evaluation.shared import Judged, resampled, thin
from isocenter.metrics import decision as d
from isocenter.metrics import intervals as iv
from isocenter.types import Array


def classified(found: Predictions, point: OperatingPoint, prevalence: float | None, seed: int) -> Judged:
    """Metrics of a classifier; of several classes, one against the rest."""
    truth = np.asarray(found.truth, np.int64)
    scores = np.asarray(found.scores, np.float64)
    if len(found.classes) > 2:
        return _many_classes(found, truth, scores, seed)
    d.require_both(truth)
    p = scores[:, 1]
    groups = np.asarray(found.patients)
    several = len(set(found.patients)) < len(truth)
    metrics: dict[str, iv.Estimate] = {}
    perfect = "no interval: the scores part the classes without a fault, and DeLong's variance is 0 there"
    try:
        areas, covariance = d.auc_covariance(truth, [p], groups if several else None)
        half = iv.Z * sqrt(max(0.0, float(covariance[0, 0])))
        area = float(areas[0])
        inside = iv.Estimate(area, max(0.0, area - half), min(1.0, area + half))
        metrics["auc"] = inside if half else iv.Estimate(area, note=perfect)
    except DegenerateImage as error:
        metrics["auc"] = iv.Estimate(d.auc(truth, p), note=f"no interval: {error}")
    decided = (p >= point.threshold).astype(np.int64)
    hit = decided == truth
    parts = {
        "accuracy": np.ones(len(truth), np.bool_), "precision": decided == 1, "recall": truth == 1,
        "specificity": truth == 0, "negative_predictive_value": decided == 0,
    }  # fmt: skip
    for name, rows in parts.items():
        if rows.any():
            metrics[name] = iv.proportion(hit[rows].astype(np.float64), groups[rows] if several else None)
    statistics: dict[str, Callable[[Array], float]] = {
        "balanced_accuracy": lambda i: d.Confusion.of(truth[i], decided[i]).metrics()["balanced_accuracy"],
        "f1": lambda i: d.Confusion.of(truth[i], decided[i]).metrics().get("f1", float("nan")),
        "mcc": lambda i: d.Confusion.of(truth[i], decided[i]).metrics().get("mcc", float("nan")),
        "pr_auc": lambda i: d.average_precision(truth[i], p[i]),
        "brier": lambda i: d.brier(truth[i], p[i]),
        "calibration_intercept": lambda i: d.calibration_line(truth[i], p[i])[0],
        "calibration_slope": lambda i: d.calibration_line(truth[i], p[i])[1],
    }
    if set(np.unique(p)) <= {0.0, 1.0}:  # a reader decides; nobody stated a probability
        for name in ("pr_auc", "brier", "calibration_intercept", "calibration_slope"):
            del statistics[name]
        del metrics["auc"]
    for name, statistic in statistics.items():
        metrics[name] = resampled(statistic, groups, truth, seed)
    more: dict[str, Json] = {
        "prevalence": float(truth.mean()),
        "brier_parts": d.brier_parts(truth, p),
        "confusion": d.Confusion.of(truth, decided).__dict__,
    }
    if prevalence is not None:
        ppv, npv = d.at_prevalence(metrics["recall"].value, metrics["specificity"].value, prevalence)
        more["at_prevalence"] = {"prevalence": prevalence, "ppv": ppv, "npv": npv}
    return metrics, _curves(truth, p), more


def _curves(truth: Array, p: Array) -> dict[str, Json]:
    false, true, _ = d.roc_curve(truth, p)
    recall, precision = d.precision_recall(truth, p)
    low, high = np.quantile(p, (0.01, 0.99))
    at = np.linspace(low, high, 41)
    thresholds = np.linspace(0.01, 0.99, 99)
    model, everybody = d.net_benefit(truth, p, thresholds)
    order = np.argsort(p, kind="stable")
    bins = [(float(p[b].mean()), float(truth[b].mean()), len(b)) for b in np.array_split(order, 10) if len(b)]
    return {
        "roc": thin(false, true),
        "pr": thin(recall, precision),
        "calibration": [[float(x), float(y)] for x, y in zip(at, d.smoothed_rate(truth, p, at), strict=True)],
        "calibration_bins": [list(b) for b in bins],
        "decision": [[float(t), float(m), float(e)] for t, m, e in zip(thresholds, model, everybody, strict=True)],
        "histogram": [np.histogram(p[truth == k], bins=20, range=(0, 1))[0].tolist() for k in (0, 1)],
    }


def _many_classes(found: Predictions, truth: Array, scores: Array, seed: int) -> Judged:
    classes = found.classes
    groups = np.asarray(found.patients)
    several = len(set(found.patients)) < len(truth)
    decided = scores.argmax(axis=1)
    there = [k for k in range(len(classes)) if 0 < (truth == k).sum() < len(truth)]
    if len(there) < 2:
        raise DegenerateImage("all cases are of one class: nothing can be told apart")

    def macro_auc(i: Array) -> float:
        return float(np.mean([d.auc((truth[i] == k).astype(np.int64), scores[i, k]) for k in there]))

    def balanced(i: Array) -> float:
        return float(np.mean([np.mean(decided[i][truth[i] == k] == k) for k in there if (truth[i] == k).any()]))

    def macro_f1(i: Array) -> float:
        each = [d.Confusion.of((truth[i] == k).astype(np.int64), (decided[i] == k).astype(np.int64)) for k in there]
        return float(np.mean([c.metrics().get("f1", 0.0) for c in each]))

    metrics = {"accuracy": iv.proportion((decided == truth).astype(np.float64), groups if several else None)}
    for name, statistic in {"auc": macro_auc, "balanced_accuracy": balanced, "f1": macro_f1}.items():
        metrics[name] = resampled(statistic, groups, truth, seed)
    one_hot = np.eye(len(classes))[truth]
    metrics["brier"] = resampled(
        lambda i: float(((scores[i] - one_hot[i]) ** 2).sum(axis=1).mean()), groups, truth, seed
    )
    for k in there:
        rows = truth == k
        metrics[f"recall_{classes[k]}"] = iv.proportion(
            (decided[rows] == k).astype(np.float64), groups[rows] if several else None
        )
    matrix = [[int(((truth == a) & (decided == b)).sum()) for b in range(len(classes))] for a in range(len(classes))]
    return metrics, {}, {"confusion_matrix": matrix, "averaging": "one class against the rest, mean over classes"}
