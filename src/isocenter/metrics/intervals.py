"""Intervals of 95 %: for proportions, by resampling patients, and for differences."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt

import numpy as np

from isocenter.errors import DegenerateImage, InputError, IsocenterError
from isocenter.types import Array

Z = 1.959963984540054
LEAST_PATIENTS = 20
"""Of each class, below which a bootstrap interval is not stated."""


@dataclass(frozen=True)
class Estimate:
    """A number with its interval of 95 %, or with the reason why there is none."""

    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""


def too_few(value: float, patients: int) -> Estimate:
    """The number, with the reason why so few patients carry no interval."""
    return Estimate(value, note=f"no interval: {patients} patients, {LEAST_PATIENTS} are needed")


def wilson(hits: float, of: float) -> tuple[float, float]:
    """Interval of a proportion (E. Wilson, JASA 22:209-212, 1927); `of` may be an effective number.

    Raises: InputError for no cases.
    """
    if of <= 0:
        raise InputError("a proportion of no cases has no interval")
    p = hits / of
    middle = (p + Z**2 / (2 * of)) / (1 + Z**2 / of)
    half = Z / (1 + Z**2 / of) * sqrt(p * (1 - p) / of + Z**2 / (4 * of**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def proportion(hits: Array, groups: Array | None) -> Estimate:
    """A proportion with Wilson's interval; where patients have several cases, with the number that they are worth.

    Args:
        hits: True or False for each case.
        groups: patient of each case; None: each case is a patient of its own.
    Source: cluster-adjusted by the design effect of the ratio estimator, J. Rao and A. Scott, Biometrics
        48(2):577-585, 1992.
    """
    n = len(hits)
    if not n:
        raise InputError("a proportion of no cases has no value")
    p = float(np.mean(hits))
    worth = float(n)
    if groups is not None:
        _, index = np.unique(groups, return_inverse=True)
        patients = int(index.max()) + 1
        if patients < n and patients > 1 and 0 < p < 1:
            away = np.bincount(index, weights=hits - p)
            variance = patients / (patients - 1) * float(np.sum(away**2)) / n**2
            worth = min(n, p * (1 - p) / variance) if variance > 0 else float(patients)
        elif patients < n:
            worth = float(patients)
    low, high = wilson(p * worth, worth)
    return Estimate(p, low, high)


def bootstrap(
    statistic: Callable[[Array], float],
    groups: Array,
    strata: Array | None,
    *,
    seed: int = 0,
    draws: int = 2000,
) -> tuple[Estimate, Array]:
    """A statistic with the percentile interval over resampled patients.

    Args:
        statistic: takes the indices of cases.
        groups: patient of each case.
        strata: class of each patient's first case, within which patients are drawn; None: all together.
        seed: of the draws.
        draws: how many.
    Returns: the estimate, and the draws that had a value.
    Source: B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13; patients as the unit: C.
        Field and A. Welsh, JRSS B 69(3):369-390, 2007.
    """
    names, index = np.unique(groups, return_inverse=True)
    order = np.argsort(index, kind="stable")
    ends = np.searchsorted(index[order], np.arange(len(names) + 1))
    members = [order[a:b] for a, b in pairwise(ends)]
    kinds = np.zeros(len(names), np.int64) if strata is None else np.asarray([strata[m[0]] for m in members])
    value = statistic(np.arange(len(groups)))
    pools = [np.flatnonzero(kinds == kind) for kind in np.unique(kinds)]
    if strata is not None and min(len(pool) for pool in pools) < LEAST_PATIENTS:
        fewest = min(len(pool) for pool in pools)
        note = f"no interval: {fewest} patients of a class, and at least {LEAST_PATIENTS} are needed"
        return Estimate(value, note=note), np.zeros(0)
    if len(names) < LEAST_PATIENTS:
        return too_few(value, len(names)), np.zeros(0)
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        drawn = np.concatenate([rng.choice(pool, len(pool)) for pool in pools])
        try:
            one = statistic(np.concatenate([members[d] for d in drawn]))
        except (IsocenterError, ZeroDivisionError):
            continue
        if np.isfinite(one):
            found.append(one)
    if len(found) < 0.95 * draws:
        return Estimate(value, note="no interval: too many resamples have no value"), np.asarray(found)
    low, high = (float(q) for q in np.percentile(found, (2.5, 97.5)))
    return Estimate(value, low, high), np.asarray(found)


def holm(values: list[float]) -> list[float]:
    """P-values adjusted for so many comparisons (S. Holm, Scand. J. Statist. 6:65-70, 1979)."""
    order = np.argsort(values)
    adjusted = [0.0] * len(values)
    most = 0.0
    for rank, at in enumerate(order):
        most = max(most, min(1.0, (len(values) - rank) * values[at]))
        adjusted[at] = most
    return adjusted


def paired_permutation(
    statistic: Callable[[Array, Array], float], one: Array, other: Array, groups: Array, *, seed: int = 0,
    draws: int = 5000,
) -> tuple[float, float]:  # fmt: skip
    """Difference of a statistic between two models on the same cases, and its p-value when patients are exchanged.

    Args:
        statistic: takes the two models' outputs and gives the difference.
        one: outputs of a model, one a case.
        other: of the other.
        groups: patient of each case.
        seed: of the exchanges.
        draws: how many.
    Source: E. Edgington and P. Onghena, Randomization Tests, 2007; (b + 1) / (m + 1) of B. Phipson and G. Smyth, 2010.
    """
    observed = statistic(one, other)
    _, index = np.unique(groups, return_inverse=True)
    rng = np.random.default_rng(seed)
    beyond = 0
    for _ in range(draws):
        swap = rng.random(int(index.max()) + 1)[index] < 0.5
        flip = swap.reshape([-1] + [1] * (one.ndim - 1))
        try:
            drawn = statistic(np.where(flip, other, one), np.where(flip, one, other))
        except DegenerateImage:
            continue
        beyond += abs(drawn) >= abs(observed) - 1e-12
    return observed, (beyond + 1) / (draws + 1)


def smallest_visible(standard_error: float, *, power: float = 0.8) -> float:
    """Smallest true difference that a two-sided test at 5 % would have seen with a chance of `power`."""
    from scipy.stats import norm

    return float((norm.ppf(0.975) + norm.ppf(power)) * standard_error)
