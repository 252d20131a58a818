"""Survival: curves, concordance, time-dependent discrimination and error.

A larger risk means an earlier event. `event` is 1 where it was observed, 0 where follow-up ended before.
"""

from dataclasses import dataclass

import numpy as np

from isocenter.errors import DegenerateImage, InputError
from isocenter.types import Array, Float64, Integer

Times = Float64[Array, "n"]
Events = Integer[Array, "n"]


@dataclass(frozen=True, eq=False)
class Curve:
    """A step function: at `times` it falls to `values`; before the first it is 1.

    Args:
        times: rising.
        values: from there on.
        low: lower end of the interval of 95 %.
        high: upper end.
        at_risk: followed until then.
    """

    times: Array
    values: Array
    low: Array
    high: Array
    at_risk: Array

    def at(self, times: Array, *, before: bool = False) -> Array:
        """Values at times; `before`: just before them."""
        index = np.searchsorted(self.times, times, side="left" if before else "right")
        return np.append(1.0, self.values)[index]


def require_events(time: Times, event: Events) -> None:
    """Refuse what is no survival data.

    Raises: InputError for negative times or other events; DegenerateImage where no event was observed.
    """
    if np.any(~np.isfinite(time)) or np.any(time < 0):
        raise InputError("times to event are numbers from 0 on")
    if not set(np.unique(event)) <= {0, 1}:
        raise InputError(
            f"an event is 1 (observed) or 0 (not); got {sorted(set(np.unique(event).tolist()))[:6]}: competing events "
            "need a column of their own, and are counted as not observed here"
        )
    if not event.any():
        raise DegenerateImage("no event was observed: nothing can be learnt or judged")


def kaplan_meier(time: Times, event: Events) -> Curve:
    """Share still without an event; interval by Greenwood on the log-log scale.

    Source: E. Kaplan and P. Meier, JASA 53:457-481, 1958; J. Kalbfleisch and R. Prentice, 1980 (interval).
    """
    times, values, variance, risk = [], [], [], []
    share, spread = 1.0, 0.0
    for t in np.unique(time[event == 1]):
        at_risk = int((time >= t).sum())
        died = int(((time == t) & (event == 1)).sum())
        share *= 1 - died / at_risk
        spread += died / (at_risk * (at_risk - died)) if at_risk > died else np.inf
        times.append(t)
        values.append(share)
        variance.append(spread)
        risk.append(at_risk)
    s, v = np.asarray(values), np.asarray(variance)
    with np.errstate(divide="ignore", invalid="ignore"):
        half = 1.959963984540054 * np.sqrt(v) / np.abs(np.log(s))
        low, high = s ** np.exp(half), s ** np.exp(-half)
    inside = (s > 0) & (s < 1)
    return Curve(np.asarray(times), s, np.where(inside, low, s), np.where(inside, high, s), np.asarray(risk))


def censoring_curve(time: Times, event: Events) -> Curve:
    """Kaplan-Meier of the censoring, for inverse weights; at equal times events come first."""
    times, values = [], []
    share = 1.0
    for t in np.unique(time[event == 0]):
        at_risk = int((time >= t).sum()) - int(((time == t) & (event == 1)).sum())
        share *= 1 - int(((time == t) & (event == 0)).sum()) / at_risk
        times.append(t)
        values.append(share)
    s = np.asarray(values)
    return Curve(np.asarray(times), s, s, s, np.zeros(len(s)))


def log_rank(time: Times, event: Events, group: Array) -> tuple[float, float]:
    """Chi-squared and p-value that curves of groups are one (N. Mantel, Cancer Chemother. Rep. 50:163-170, 1966)."""
    from scipy.stats import chi2

    names = np.unique(group)
    if len(names) < 2:
        raise DegenerateImage("a log-rank test compares at least two groups")
    observed, expected = np.zeros(len(names)), np.zeros(len(names))
    covariance = np.zeros((len(names), len(names)))
    for t in np.unique(time[event == 1]):
        risk = np.asarray([((time >= t) & (group == g)).sum() for g in names], np.float64)
        died = np.asarray([((time == t) & (event == 1) & (group == g)).sum() for g in names], np.float64)
        total, all_died = risk.sum(), died.sum()
        observed += died
        expected += all_died * risk / total
        if total > 1:
            share = risk / total
            factor = all_died * (total - all_died) / (total - 1)
            covariance += factor * (np.diag(share) - np.outer(share, share))
    away = (observed - expected)[:-1]
    statistic = float(away @ np.linalg.pinv(covariance[:-1, :-1]) @ away)
    return statistic, float(chi2.sf(statistic, len(names) - 1))


def harrell_c(time: Times, event: Events, risk: Times) -> float:
    """Share of comparable pairs in which the earlier event has the higher risk; tied risks count half.

    Raises: DegenerateImage where no pair can be compared.
    Source: F. Harrell et al., Stat. Med. 15:361-387, 1996.
    """
    return _concordance(time, event, risk, np.ones(len(time)))


def uno_c(
    time: Times, event: Events, risk: Times, *, until: float | None = None, training: tuple[Times, Events] | None = None
) -> float:
    """Concordance weighted by the inverse of the censoring, which does not depend on how long patients were followed.

    Args:
        time: to event or end of follow-up.
        event: 1 where observed.
        risk: larger for earlier events.
        until: only events before it count.
        training: times and events from which the censoring is estimated; None: these.
    Source: H. Uno et al., Stat. Med. 30(10):1105-1117, 2011.
    """
    curve = censoring_curve(*(training or (time, event)))
    share = curve.at(time)
    weights = np.where((event == 1) & (share > 0), 1 / np.where(share > 0, share, 1) ** 2, 0.0)
    if until is not None:
        weights = np.where(time < until, weights, 0.0)
    return _concordance(time, event, risk, weights)


def _concordance(time: Times, event: Events, risk: Times, weights: Times) -> float:
    order = np.argsort(time, kind="stable")
    t, e, r, w = time[order], event[order], risk[order], weights[order]
    above = total = 0.0
    for i in np.flatnonzero((e == 1) & (w > 0)):
        later = slice(i + 1, None)
        comparable = (t[later] > t[i]) | ((t[later] == t[i]) & (e[later] == 0))
        if i and t[i - 1] == t[i]:  # a censored case at the same time may stand before it
            same = np.flatnonzero((t[:i] == t[i]) & (e[:i] == 0))
            above += w[i] * float(np.sum(r[same] < r[i]) + 0.5 * np.sum(np.abs(r[same] - r[i]) < 1e-8))
            total += w[i] * len(same)
        other = r[later][comparable]
        tied = np.abs(other - r[i]) < 1e-8
        above += w[i] * float(np.sum((other < r[i]) & ~tied) + 0.5 * np.sum(tied))
        total += w[i] * len(other)
    if not total:
        raise DegenerateImage("no two patients can be compared: too few events")
    return above / total


def dynamic_auc(
    time: Times, event: Events, risk: Times, at: float, *, training: tuple[Times, Events] | None = None
) -> float:
    """AUC of the risk for an event until `at` against none until then, weighted by the inverse of the censoring.

    Source: cumulative cases, dynamic controls: H. Uno et al., JASA 102(478):527-537, 2007.
    """
    curve = censoring_curve(*(training or (time, event)))
    case = (time <= at) & (event == 1)
    control = time > at
    if not case.any() or not control.any():
        raise DegenerateImage(
            f"at {at:g} there are {int(case.sum())} events before and {int(control.sum())} patients after"
        )
    share = curve.at(time[case])
    weight = np.where(share > 0, 1 / np.where(share > 0, share, 1), 0)
    order = np.sort(risk[control])
    below = np.searchsorted(order, risk[case], side="left")
    same = np.searchsorted(order, risk[case], side="right") - below
    return float(np.sum(weight * (below + 0.5 * same)) / (weight.sum() * len(order)))


def brier_at(
    time: Times, event: Events, survival: Times, at: float, *, training: tuple[Times, Events] | None = None
) -> float:
    """Squared error of the predicted survival at a time, weighted by the inverse of the censoring.

    Args:
        time: to event or end of follow-up.
        event: 1 where observed.
        survival: predicted share without event at `at`.
        at: the time.
        training: times and events from which the censoring is estimated; None: these.
    Source: E. Graf et al., Stat. Med. 18:2529-2545, 1999.
    """
    curve = censoring_curve(*(training or (time, event)))
    own, there = curve.at(time), float(curve.at(np.asarray([at]))[0])
    died = (time <= at) & (event == 1) & (own > 0)
    alive = time > at
    total = float(np.sum(survival[died] ** 2 / own[died]))
    if there > 0:
        total += float(np.sum((1 - survival[alive]) ** 2 / there))
    return total / len(time)


def integrated_brier(
    time: Times, event: Events, survival: Float64[Array, "n m"], at: Float64[Array, "m"], *,
    training: tuple[Times, Events] | None = None,
) -> float:  # fmt: skip
    """Mean of `brier_at` over a range of times (trapezoids)."""
    errors = [brier_at(time, event, survival[:, i], float(t), training=training) for i, t in enumerate(at)]
    return float(np.trapezoid(errors, at) / (at[-1] - at[0]))
