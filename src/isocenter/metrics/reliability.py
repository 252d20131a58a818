"""Probabilities that mean something: calibration, and sets and intervals that cover (conformal prediction)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from isocenter.errors import DegenerateImage, InputError
from isocenter.metrics.decision import logit, require_both
from isocenter.types import Array, Float64

LEAST_ISOTONIC = 1000
"""Cases from which isotonic calibration is offered: below, it follows noise."""


def platt(truth: Array, probability: Array) -> dict[str, float]:
    """Slope and intercept on the log odds, fitted to targets drawn in from 0 and 1.

    Raises: DegenerateImage for one class, and where higher scores were right less often, so that every answer would be
        turned round.
    Source: J. Platt, Advances in Large Margin Classifiers, 61-74, 1999; H. Lin et al., Mach. Learn. 68:267-276, 2007.
    """
    from scipy.optimize import minimize

    require_both(truth)
    hits, rest = float((truth == 1).sum()), float((truth == 0).sum())
    target = np.where(truth == 1, (hits + 1) / (hits + 2), 1 / (rest + 2))
    odds = logit(probability)

    def loss(line: Array) -> tuple[float, Array]:
        z = line[0] * odds + line[1]
        p = 1 / (1 + np.exp(-z))
        value = float(np.sum(np.logaddexp(0, z) - target * z))
        return value, np.asarray([np.sum((p - target) * odds), np.sum(p - target)])

    slope, intercept = minimize(loss, np.asarray([1.0, 0.0]), jac=True, method="BFGS").x
    if not slope > 0:
        raise DegenerateImage("higher scores were right less often: no calibration turns them round")
    return {"slope": float(slope), "intercept": float(intercept)}


def temperature(truth: Array, probability: Float64[Array, "n k"]) -> dict[str, float]:
    """One number by which the log probabilities of all classes are divided.

    Source: C. Guo et al., Proc. ICML, PMLR 70:1321-1330, 2017.
    """
    from scipy.optimize import minimize_scalar

    logs = np.log(np.clip(probability, 1e-6, 1))

    def loss(log_temperature: float) -> float:
        z = logs / np.exp(log_temperature)
        z = z - z.max(axis=1, keepdims=True)
        return float(-np.mean(z[np.arange(len(truth)), truth] - np.log(np.exp(z).sum(axis=1))))

    found = minimize_scalar(loss, bounds=(-3, 3), method="bounded")
    return {"temperature": float(np.exp(found.x))}


def isotonic(truth: Array, probability: Array) -> dict[str, list[float]]:
    """Steps that rise with the score (pool adjacent violators).

    Raises: InputError for fewer than a thousand cases.
    Source: B. Zadrozny and C. Elkan, Proc. KDD 694-699, 2002.
    """
    if len(truth) < LEAST_ISOTONIC:
        raise InputError(
            f"isotonic calibration follows noise below {LEAST_ISOTONIC} cases, and there are {len(truth)}: use Platt's"
        )
    from scipy.optimize import isotonic_regression

    order = np.argsort(probability, kind="stable")
    found = isotonic_regression(truth[order].astype(np.float64)).x
    _, first = np.unique(probability[order], return_index=True)
    return {"scores": probability[order][first].tolist(), "rates": np.asarray(found)[first].tolist()}


def calibrated(probability: Float64[Array, "n k"], how: Mapping[str, Any]) -> Float64[Array, "n k"]:
    """Probabilities put through a fitted calibration; unchanged where `how` has none."""
    kind = how.get("method", "none")
    if kind == "none":
        return probability
    if kind == "temperature":
        z = np.log(np.clip(probability, 1e-6, 1)) / float(how["temperature"])
        away = np.exp(z - z.max(axis=1, keepdims=True))
        return np.asarray(away / away.sum(axis=1, keepdims=True))
    if kind == "platt":
        p = 1 / (1 + np.exp(-(float(how["slope"]) * logit(probability[:, 1]) + float(how["intercept"]))))
    elif kind == "isotonic":
        p = np.interp(probability[:, 1], how["scores"], how["rates"])
    else:
        raise InputError(f"a calibration by {kind!r} is not known")
    return np.column_stack((1 - p, p))


def one_per_patient(patients: Array, *, seed: int) -> Array:
    """Index of one case of each patient, drawn at random: a patient counts once."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(patients))
    _, first = np.unique(patients[order], return_index=True)
    return np.sort(order[first])


def conformal_quantile(scores: Array, coverage: float) -> float:
    """The score below which a new case of the same kind lies with at least the chance `coverage`.

    Infinite where there are too few cases to promise it.

    Source: V. Vovk, A. Gammerman and G. Shafer, Algorithmic Learning in a Random World, 2005, with the finite-sample
        rank ceil((n + 1) coverage).
    """
    rank = int(np.ceil((len(scores) + 1) * coverage))
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else float("inf")


def class_quantiles(truth: Array, probability: Float64[Array, "n k"], coverage: float) -> list[float]:
    """A quantile of 1 - probability of the true class for each class, so that every class is covered.

    Source: label-conditional conformal prediction, V. Vovk, Mach. Learn. 92:349-376, 2013.
    """
    found = []
    for k in range(probability.shape[1]):
        own = truth == k
        found.append(conformal_quantile(1 - probability[own, k], coverage) if own.any() else float("inf"))
    return found


def prediction_sets(probability: Float64[Array, "n k"], quantiles: list[float]) -> Array:
    """Which classes belong to each case's set, `n k`."""
    return np.asarray(1 - probability <= np.asarray(quantiles) + 1e-12)


def log_odds(probability: Float64[Array, "n k"]) -> Array:
    """Log odds of each class against the first, and their squares: a shift and a spread can both be told by them."""
    inside = np.clip(probability, 1e-6, 1)
    logs = np.log(inside[:, 1:] / inside[:, :1])
    return np.column_stack((logs, logs**2))


def looks_exchangeable(
    one: Float64[Array, "n k"], other: Float64[Array, "m k"], labels: tuple[Array, Array] | None, *, seed: int = 0
) -> dict[str, Any] | None:
    """Whether two sets of cases could come from one population: class shares, and a classifier that tells them apart.

    Args:
        one: features or scores of calibration cases.
        other: of test cases.
        labels: class of each, where known.
        seed: of folds and exchanges.
    Returns: `exchangeable`, the classifier's AUC and p-value, and the p-value of the class shares; None for fewer than
        ten cases on a side, which cannot tell.
    Source: two-sample classifier: D. Lopez-Paz and M. Oquab, Proc. ICLR, 2017; its null by exchange of the labels.
    """
    from scipy.stats import chi2_contingency, norm
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from isocenter.metrics.decision import placements

    if min(len(one), len(other)) < 10:
        return None
    matrix = np.nan_to_num(np.concatenate((one, other)))
    which = np.r_[np.zeros(len(one), np.int64), np.ones(len(other), np.int64)]
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    scores = cross_val_predict(model, matrix, which, cv=folds, method="decision_function")
    above, below = placements(which, scores)
    area = float(above.mean())
    error = float(np.sqrt(above.var(ddof=1) / len(above) + below.var(ddof=1) / len(below)))
    tellable = float(norm.sf((area - 0.5) / max(error, 1e-12)))
    out: dict[str, Any] = {"classifier_auc": area, "classifier_p": tellable, "classes_p": None}
    p_values = [tellable]
    if labels is not None:
        kinds = np.unique(np.concatenate(labels))
        counts = np.asarray([[(side == k).sum() for k in kinds] for side in labels])
        if len(kinds) > 1:
            out["classes_p"] = float(chi2_contingency(counts)[1])
            p_values.append(out["classes_p"])
    out["exchangeable"] = bool(min(p_values) * len(p_values) >= 0.05)
    return out
