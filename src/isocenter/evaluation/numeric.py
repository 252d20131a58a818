"""Predicted values and predicted risks beside the truth."""

from collections.abc import Callable
from math import sqrt

import numpy as np

from isocenter.data.evaluation import Predictions
from isocenter.data.provenance import Json
from isocenter.errors import DegenerateImage
from isocenter.evaluation.shared import Judged, resampled, thin
from isocenter.metrics import intervals as iv
from isocenter.metrics import survival as sv
from isocenter.types import Array


def regressed(found: Predictions, seed: int) -> Judged:
    """Metrics of predicted values."""
    truth, value = np.asarray(found.truth, np.float64), np.asarray(found.scores, np.float64)
    groups = np.asarray(found.patients)
    if np.ptp(truth) == 0:
        raise DegenerateImage("all true values are equal: nothing can be explained")
    statistics: dict[str, Callable[[Array], float]] = {
        "mae": lambda i: float(np.abs(value[i] - truth[i]).mean()),
        "rmse": lambda i: float(np.sqrt(((value[i] - truth[i]) ** 2).mean())),
        "r2": lambda i: 1 - float(((value[i] - truth[i]) ** 2).sum() / ((truth[i] - truth[i].mean()) ** 2).sum()),
    }
    metrics = {name: resampled(statistic, groups, None, seed) for name, statistic in statistics.items()}
    away = value - truth
    bias, spread = float(away.mean()), float(away.std(ddof=1))
    n = len(set(found.patients))
    reach = iv.Z * spread / sqrt(n)
    few = n < iv.LEAST_PATIENTS
    metrics["bias"] = iv.too_few(bias, n) if few else iv.Estimate(bias, bias - reach, bias + reach)
    more: dict[str, Json] = {
        "limits_of_agreement": [bias - 1.96 * spread, bias + 1.96 * spread],
        "limits_source": "Bland and Altman, Lancet 1:307-310, 1986",
    }
    curves: dict[str, Json] = {
        "agreement": thin((value + truth) / 2, away, 2000),
        "scatter": thin(truth, value, 2000),
    }
    return metrics, curves, more


def survived(found: Predictions, seed: int) -> Judged:
    """Metrics of predicted risks."""
    pairs = np.asarray(found.truth, np.float64)
    time, event = pairs[:, 0], pairs[:, 1].astype(np.int64)
    sv.require_events(time, event)
    risk = np.asarray(found.scores, np.float64)
    groups = np.asarray(found.patients)
    horizon = float(np.quantile(time[event == 1], 0.75))
    statistics: dict[str, Callable[[Array], float]] = {
        "c_index": lambda i: sv.harrell_c(time[i], event[i], risk[i]),
        "uno_c": lambda i: sv.uno_c(time[i], event[i], risk[i], until=horizon),
        "auc_at_horizon": lambda i: sv.dynamic_auc(time[i], event[i], risk[i], horizon),
    }
    metrics = {name: resampled(statistic, groups, event, seed) for name, statistic in statistics.items()}
    high = risk > np.median(risk)
    more: dict[str, Json] = {"horizon": horizon, "events": int(event.sum()), "competing_events": "none were stated"}
    if high.any() and (~high).any():
        chi, p = sv.log_rank(time, event, high)
        more["log_rank_halves"] = {"chi2": chi, "p": p}
    curves: dict[str, Json] = {}
    for name, rows in (("low", ~high), ("high", high)):
        if event[rows].any():
            curve = sv.kaplan_meier(time[rows], event[rows])
            points = zip(curve.times, curve.values, curve.low, curve.high, strict=True)
            curves[f"survival_{name}"] = [[0.0, 1.0, 1.0, 1.0], *[[float(v) for v in row] for row in points]]
    if found.survival is not None and found.times is not None:
        survival, times = np.asarray(found.survival, np.float64), np.asarray(found.times, np.float64)
        metrics["integrated_brier"] = resampled(
            lambda i: sv.integrated_brier(time[i], event[i], survival[i], times), groups, event, seed
        )
        more["calibration_at_horizon"] = _calibration_at(time, event, survival, times, horizon)
    return metrics, curves, more


def _calibration_at(time: Array, event: Array, survival: Array, times: Array, horizon: float) -> Json:
    """Predicted and observed (Kaplan-Meier) event shares at the horizon, in fifths of the prediction."""
    column = int(np.argmin(np.abs(times - horizon)))
    predicted = 1 - survival[:, column]
    order = np.argsort(predicted, kind="stable")
    rows = []
    for part in np.array_split(order, 5):
        if event[part].any():
            curve = sv.kaplan_meier(time[part], event[part])
            observed = 1 - float(curve.at(np.asarray([times[column]]))[0])
        else:
            observed = 0.0
        rows.append({"predicted": float(predicted[part].mean()), "observed": observed, "n": len(part)})
    return rows
