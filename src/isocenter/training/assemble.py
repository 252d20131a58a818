"""From a table's design to a model that states its probabilities, its operating point and its coverage."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from isocenter.data.card import ModelCard
from isocenter.data.design import Design
from isocenter.data.evaluation import Predictions
from isocenter.errors import DegenerateImage, InputError
from isocenter.metrics import reliability as rel
from isocenter.metrics.decision import auc
from isocenter.metrics.intervals import LEAST_PATIENTS
from isocenter.metrics.survival import harrell_c
from isocenter.training.fit import Fitted, Plan, doubtful_hazards, fit, score, site_matrix
from isocenter.types import Array, Progress

_HALF = "probability 0.5"

ALL_LABELS = "all labels"
"""What the union of a model's labels is called among its promises."""


@dataclass(frozen=True)
class Promises:
    """What a model shall state beside its scores.

    Args:
        calibration: `platt`, `temperature`, `isotonic`, `none`, or `auto` (Platt for two classes, else temperature).
        coverage: of prediction sets and intervals.
        criterion: of the operating point; see `evaluation.point.choose_threshold`.
    """

    calibration: str = "auto"
    coverage: float = 0.9
    criterion: str | None = None


@dataclass(frozen=True, eq=False)
class Trained:
    """A fitted model, its card without hashes, and predictions of its rows by models that had not seen them."""

    fitted: Fitted
    card: ModelCard
    internal: Predictions


def assemble(
    design: Design,
    plan: Plan,
    promises: Promises,
    *,
    shared_patients: bool = False,
    on_progress: Progress | None = None,
) -> Trained:
    """Train on the split `train` (or all rows), calibrate on `val` (or on out-of-fold scores).

    Rows of the split `test` are never looked at. Calibration, threshold and conformal quantiles come from patients that
    the model which scored them had not seen; each patient counts once.

    Raises: InputError for a split without its parts, or too few cases.
    """
    train = design.part("train") if design.split else design
    lost = [name for k, name in enumerate(design.classes) if not np.any(train.target == k)]
    if lost:
        raise InputError(f"no training row is of the class {lost[0]!r}: add some, or leave its rows away")
    held = design.part("val") if "val" in design.split else None
    if held is not None:
        shared = sorted(set(held.patients) & set(train.patients)) if design.known_patients else []
        shared = [] if shared_patients else shared
        if shared:
            raise InputError(
                f"{len(shared)} patients stand in both train and val ({shared[0]}): calibration needs others; "
                "see `isocenter data check`"
            )
    fitted = fit(train, plan, on_progress=on_progress)
    if held is not None:
        other, scores = held, score(fitted.model, site_matrix(held, plan, train), held.task)
        source = "validation"
    else:
        other, scores, source = train, fitted.out_of_fold, "out-of-fold"
    how, conformal, point = promise(other, scores, promises, seed=plan.seed, source=source)
    card = ModelCard(
        design.task,
        fitted.kind,
        (),
        design.classes,
        design.features,
        preparation=_preparation(fitted, plan, train)
        | {"not_proportional": doubtful_hazards(fitted.model, train, site_matrix(train, plan, train))},
        operating_point=point,
        calibration=how,
        conformal=conformal,
        metrics=_within_folds(train, fitted),
    )
    internal = Predictions(
        design.task, train.cases, train.patients, train.known_patients, train.target,
        rel.calibrated(fitted.out_of_fold, how) if design.task == "classify" else fitted.out_of_fold,
        train.classes, groups=train.groups, images=train.image, name=fitted.kind,
    )  # fmt: skip
    return Trained(fitted, card, internal)


def promise(
    other: Design, scores: Array, promises: Promises, *, seed: int, source: str
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Calibration, conformal quantiles and operating point, from cases that the model had not seen.

    Args:
        other: those cases; their matrix is not looked at.
        scores: of each, `n k` or `n`.
        promises: what is wanted.
        seed: of the choice of one case a patient.
        source: what those cases are called: `validation` or `out-of-fold`.
    Raises: InputError for a calibration that does not fit.
    """
    how: dict[str, Any] = {}
    conformal: dict[str, Any] = {}
    point: dict[str, Any] = {}
    if other.task == "classify":
        how, conformal, point = _classified(other, scores, promises, seed=seed)
        if point:
            point["chosen_on"] = "stated" if point["criterion"] == _HALF else source
    elif other.task == "regress":
        once = rel.one_per_patient(np.asarray(other.patients), seed=seed)
        reach = rel.conformal_quantile(np.abs(scores - other.target)[once], promises.coverage)
        conformal = {"coverage": promises.coverage, "reach": reach if isfinite(reach) else None, "n": len(once)}
    if conformal:
        conformal = {**conformal, "calibrated_on": source, "sample": _sample(other, scores, seed=seed)}
    return how, conformal, point


def doubts_of_calibration(card: ModelCard) -> list[str]:
    """What the user must know of a calibration that could not be made."""
    why = card.calibration.get("why")
    return [f"not calibrated: {why}"] if why else []


def _classified(
    other: Design, scores: Array, promises: Promises, *, seed: int
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Calibration, conformal quantiles and operating point of a classifier."""
    from isocenter.evaluation.point import choose_threshold

    once = rel.one_per_patient(np.asarray(other.patients), seed=seed)
    truth, own = other.target[once].astype(np.int64), scores[once]
    two = len(other.classes) == 2
    method = {"auto": "platt" if two else "temperature"}.get(promises.calibration, promises.calibration)
    alike = len(np.unique(truth)) < 2  # one case a patient: they can be of one class though the cases are of two
    if alike:
        why = f"the {len(once)} patients that could calibrate count once each, and are of one class: 0.5 decides"
        how: dict[str, Any] = {"method": "none", "why": why}
    elif method == "platt" and two:
        try:
            how = {"method": method, **rel.platt(truth, own[:, 1])}
        except DegenerateImage:
            how = {
                "method": "none",
                "why": f"of {len(once)} patients, those with higher scores were less often {other.classes[1]}",
            }
    elif method == "temperature":
        how = {"method": method, **rel.temperature(truth, own)}
    elif method == "isotonic" and two:
        how = {"method": method, **rel.isotonic(truth, own[:, 1])}
    elif method == "none":
        how = {"method": method}
    else:
        raise InputError(f"--calibrate {method}: for {len(other.classes)} classes there are "
                         f"{'platt, isotonic, ' if two else ''}temperature and none")  # fmt: skip
    how["n"] = len(once)
    probability = rel.calibrated(own, how)
    quantiles = rel.class_quantiles(truth, probability, promises.coverage)
    together = rel.conformal_quantile(1 - probability[np.arange(len(truth)), truth], promises.coverage)
    conformal = {
        "coverage": promises.coverage,
        "quantiles": [q if isfinite(q) else None for q in quantiles],
        "overall": together if isfinite(together) else None,
        "n": len(once),
    }
    point: dict[str, Any] = {}
    if two:
        if promises.criterion is None or alike:
            point = {"threshold": 0.5, "criterion": _HALF}
        else:
            threshold = choose_threshold(truth, probability[:, 1], promises.criterion)
            point = {"threshold": threshold, "criterion": promises.criterion}
    return how, conformal, point


def promised_volumes(
    volumes: Array, names: Sequence[str], patients: Sequence[str], *, coverage: float, seed: int, source: str
) -> dict[str, Any]:
    """How far a segmented volume may lie from the true one: a conformal quantile of the logarithm of their ratio.

    Args:
        volumes: `n k 2`, stated and found, of cases that the network never learnt from.
        names: of the `k` regions.
        patients: of each case; each counts once.
        coverage: share of new patients whose true volume the interval holds, if they are like these.
        seed: of the choice of one case a patient.
        source: what those cases are called: `validation` or `out-of-fold`.
    """
    once = rel.one_per_patient(np.asarray(patients), seed=seed)
    reach: dict[str, Any] = {}
    for k, name in enumerate(names):
        both = volumes[once, k][(volumes[once, k] > 0).all(axis=1)]
        found = rel.conformal_quantile(np.abs(np.log(both[:, 1] / both[:, 0])), coverage) if len(both) else np.inf
        reach[name] = float(found) if isfinite(found) else None
    return {"coverage": coverage, "log_volume_reach": reach, "n": len(once), "calibrated_on": source}


def _sample(other: Design, scores: Array, *, seed: int) -> dict[str, Any]:
    """Scores and classes of at most 500 calibration patients, beside which test data are later laid."""
    once = rel.one_per_patient(np.asarray(other.patients), seed=seed)
    rng = np.random.default_rng(seed)
    some = np.sort(rng.permutation(once)[:500])
    labels = other.target[some].astype(int).tolist() if other.task == "classify" else None
    rows = np.atleast_2d(scores[some].T).T
    return {"scores": np.round(rows, 6).tolist(), "classes": labels}


def _preparation(fitted: Fitted, plan: Plan, train: Design) -> dict[str, Any]:
    return {
        "missing_values": "median of the training rows",
        "harmonised": plan.harmonise,
        "sites": sorted(set(train.site)) if plan.harmonise else [],
        "unseen_site": plan.unseen_site,
        "scaled": "mean 0, deviation 1",
        "correlation_limit": plan.correlation,
        "settings": dict(fitted.settings),
    }


def _within_folds(design: Design, fitted: Fitted) -> dict[str, Any]:
    """The main metric as its mean over the outer folds, never pooled; its spread says nothing about other hospitals."""
    values = []
    name = {"classify": "auc", "regress": "mae", "survive": "c_index"}[design.task]
    for number in np.unique(fitted.fold):
        rows = fitted.fold == number
        target, scores = design.target[rows], fitted.out_of_fold[rows]
        try:
            values.append(_main(design, target, scores))
        except DegenerateImage:
            continue
    if not values:
        return {}
    mean, n = float(np.mean(values)), len(values)
    half = 0.0
    if n > 1:
        from scipy.stats import t

        half = float(t.ppf(0.975, n - 1)) * float(np.std(values, ddof=1)) * np.sqrt(1 / n + 1 / (n - 1))
    low, high = mean - half, mean + half
    kinds = design.target if design.task == "classify" else np.zeros(len(design))
    fewest = min(
        len({p for p, k in zip(design.patients, kinds, strict=True) if k == kind}) for kind in np.unique(kinds)
    )
    if fewest < LEAST_PATIENTS or half == 0:
        note = f"no interval: {fewest} patients of a class, and at least {LEAST_PATIENTS} are needed"
        note = note if half else "no interval: all folds are equal"
        return {
            name: {"value": mean, "low": None, "high": None, "folds": values},
            "interval": note,
            "chosen_in_folds": list(fitted.chosen),
        }
    if name != "mae":
        low, high = max(0.0, low), min(1.0, high)
    return {
        name: {"value": mean, "low": low, "high": high, "folds": values},
        "interval": "corrected resampled t (Nadeau and Bengio, Mach. Learn. 52:239-281, 2003); for new patients of the "
        "same source, and ignores that the choice of settings was made on the same patients",
        "chosen_in_folds": list(fitted.chosen),
    }


def _main(design: Design, target: Array, scores: Array) -> float:
    if design.task == "regress":
        return float(np.abs(scores - target).mean())
    if design.task == "survive":
        return harrell_c(target[:, 0], target[:, 1].astype(np.int64), scores)
    if len(design.classes) == 2:
        return auc(target, scores[:, 1])
    there = [k for k in range(len(design.classes)) if 0 < (target == k).sum() < len(target)]
    if not there:
        raise DegenerateImage("a fold of one class")
    return float(np.mean([auc((target == k).astype(np.int64), scores[:, k]) for k in there]))
