"""Fitting: nested cross-validation by patient, then the model that ships."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

from isocenter.data.card import Task
from isocenter.data.design import Design
from isocenter.errors import DegenerateImage, InputError
from isocenter.training.models import Kind, kinds_for
from isocenter.types import Array, Progress


@dataclass(frozen=True)
class Plan:
    """How a model is made.

    Args:
        model: its kind, or `auto`.
        folds: outer folds, by patient.
        inner: folds in which settings are chosen.
        selector: `mrmr`, `lasso` or `rfe`.
        select: how many features are kept; `None`: chosen in the inner folds; 0: all.
        correlation: above which two features are one.
        harmonise: ComBat over the table's sites.
        covariates: features whose effect ComBat keeps.
        unseen_site: `refuse` or `keep`.
        seed: of folds and models.
    """

    model: str = "auto"
    folds: int = 5
    inner: int = 4
    select: int | None = None
    selector: str = "mrmr"
    correlation: float = 0.95
    harmonise: bool = False
    covariates: tuple[str, ...] = ()
    unseen_site: str = "refuse"
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Fitted:
    """What training gives.

    Args:
        model: fitted on all of the training rows.
        kind: which it is.
        settings: chosen in cross-validation.
        out_of_fold: score of each training row by models that had not seen its patient.
        fold: which outer fold each row was in.
        chosen: kind and settings of each outer fold.
    """

    model: Any
    kind: str
    settings: Mapping[str, Any]
    out_of_fold: Array
    fold: Array
    chosen: tuple[str, ...] = field(default=())


def fit(design: Design, plan: Plan, *, on_progress: Progress | None = None) -> Fitted:
    """Choose by inner folds, judge by outer ones, fit on all.

    Raises: InputError for too few patients; see `folds_of`.
    Source: nested cross-validation: S. Varma and R. Simon, BMC Bioinformatics 7:91, 2006.
    """
    kinds = kinds_for(plan.model, design.task)
    if plan.selector not in {"mrmr", "lasso", "rfe"}:
        raise InputError(f"--selector {plan.selector}: there are mrmr, lasso and rfe")
    matrix = site_matrix(design, plan, design)
    fold = folds_of(design, plan.folds, seed=plan.seed)
    shape = (len(design), len(design.classes)) if design.task == "classify" else (len(design),)
    scores = np.full(shape, np.nan)
    chosen = []
    for number in range(plan.folds):
        if on_progress:
            on_progress(f"outer fold {number + 1} of {plan.folds}", number, plan.folds + 1)
        train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        name, settings = _chosen(design.rows(train), matrix[train], kinds, plan)
        chosen.append(f"{name} {_words(settings)}".strip())
        model = _fitted(design, kinds[name], settings, plan, matrix[train], design.target[train])
        scores[test] = score(model, matrix[test], design.task)
    if on_progress:
        on_progress("the model on all training data", plan.folds, plan.folds + 1)
    name, settings = _chosen(design, matrix, kinds, plan)
    model = _fitted(design, kinds[name], settings, plan, matrix, design.target)
    return Fitted(model, name, settings, scores, fold, tuple(chosen))


def doubtful_hazards(model: Any, design: Design, matrix: Array) -> list[str]:
    """Features of a Cox model whose hazards do not look proportional (p < 0.05 with Bonferroni's correction)."""
    step = model.named_steps["model"]
    if not hasattr(step, "proportional"):
        return []
    names = list(design.features)
    for name in ("thin", "select"):
        if name in model.named_steps:
            names = [names[i] for i in model.named_steps[name].kept_]
    with _quiet():
        p_values = step.proportional(model[:-1].transform(matrix), design.target)
    limit = 0.05 / max(1, int(np.isfinite(p_values).sum()))
    return [name for name, p in zip(names, p_values, strict=True) if p < limit]


def folds_of(design: Design, count: int, *, seed: int) -> Array:
    """Fold of each row: a patient lies in one, and classes (or events) are spread evenly.

    Raises: InputError where a class has fewer patients than there are folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    kinds = _strata(design)
    patients = np.asarray(design.patients)
    for kind in np.unique(kinds):
        there = len(np.unique(patients[kinds == kind]))
        if there < count:
            what = {"classify": "the class", "survive": "the event state", "regress": "the quarter"}[design.task]
            name = design.classes[kind] if design.task == "classify" else str(kind)
            raise InputError(
                f"{what} {name!r} has {there} patients, and {count} folds need one in each: use --folds {max(2, there)}"
            )
    out = np.zeros(len(design), np.int64)
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    for number, (_, test) in enumerate(splitter.split(kinds, kinds, patients)):
        out[test] = number
    return out


def _strata(design: Design) -> Array:
    if design.task == "classify":
        return design.target
    if design.task == "survive":
        return design.target[:, 1].astype(np.int64)
    return np.searchsorted(np.quantile(design.target, (0.25, 0.5, 0.75)), design.target)


def score(model: Any, matrix: Array, task: Task) -> Array:
    """What a model says: a score for each class, a value, or a log relative hazard.

    Scores of a classifier without probabilities are squeezed decision values; calibration makes them probabilities.
    """
    with _quiet():
        if task != "classify":
            return np.asarray(model.predict(matrix), np.float64)
        if hasattr(model, "predict_proba"):
            return np.asarray(model.predict_proba(matrix), np.float64)
        values = np.asarray(model.decision_function(matrix), np.float64)
    if values.ndim == 1:
        p = 1 / (1 + np.exp(-np.clip(values, -30, 30)))
        return np.column_stack((1 - p, p))
    away = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(away / away.sum(axis=1, keepdims=True))


def _chosen(design: Design, matrix: Array, kinds: Mapping[str, Kind], plan: Plan) -> tuple[str, dict[str, Any]]:
    """The kind and settings with the best mean score over inner folds; the first listed of equals."""
    candidates = [(name, settings) for name, kind in kinds.items() for settings in _grid(kind, design, plan)]
    if len(candidates) == 1:
        return candidates[0]
    most = min(plan.inner, _fewest(design))
    if most < 2:
        return candidates[len(candidates) // 2]
    fold = folds_of(design, most, seed=plan.seed + 1)
    best, best_score = candidates[0], -np.inf
    why = ""
    for name, settings in candidates:
        found = []
        for number in range(most):
            train, test = fold != number, fold == number
            try:
                model = _fitted(design, kinds[name], settings, plan, matrix[train], design.target[train])
                said = score(model, matrix[test], design.task)
                found.append(goodness(design.task, design.classes, design.target[test], said))
            except (DegenerateImage, InputError) as error:
                why = f" ({error})"
        mean = float(np.mean(found)) if len(found) == most else -np.inf
        if mean > best_score + 1e-9:
            best, best_score = (name, settings), mean
    if best_score == -np.inf:
        raise InputError(f"no model could be fitted in every inner fold{why}: more cases, fewer features or folds help")
    return best


def _fewest(design: Design) -> int:
    kinds, patients = _strata(design), np.asarray(design.patients)
    return min(len(np.unique(patients[kinds == kind])) for kind in np.unique(kinds))


def goodness(task: Task, classes: tuple[str, ...], target: Array, scores: Array) -> float:
    """Larger is better: AUC (mean of one against the rest), minus the squared error, or Harrell's C."""
    from isocenter.metrics.decision import auc
    from isocenter.metrics.survival import harrell_c

    if task == "regress":
        return -float(np.mean((scores - target) ** 2))
    if task == "survive":
        return harrell_c(target[:, 0], target[:, 1].astype(np.int64), scores)
    if len(classes) == 2:
        return auc(target, scores[:, 1])
    found = [
        auc((target == k).astype(np.int64), scores[:, k])
        for k in range(len(classes))
        if 0 < (target == k).sum() < len(target)
    ]
    if not found:
        raise DegenerateImage("a fold of one class")
    return float(np.mean(found))


def _grid(kind: Kind, design: Design, plan: Plan) -> Iterator[dict[str, Any]]:
    """Every combination of a kind's settings and of how many features are kept."""
    count = design.matrix.shape[1]
    if plan.select is not None:
        sizes = [min(plan.select, count) if plan.select else count]
    else:
        sizes = [size for size in (5, 15) if size < count] + ([count] if count <= 60 else [])
    for size in sizes or [count]:
        for values in product(*kind.grid.values()):
            yield {"select": size, **dict(zip(kind.grid, values, strict=True))}


def _fitted(design: Design, kind: Kind, settings: Mapping[str, Any], plan: Plan, matrix: Array, target: Array) -> Any:
    """A pipeline fitted on some rows: fill, harmonise, scale, thin out, select, model."""
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    from isocenter.training.steps import ComBat, CorrelationFilter, RelevantFeatures

    estimator = kind.build(design.task, plan.seed)
    estimator.set_params(**{key: value for key, value in settings.items() if key != "select"})
    steps: list[tuple[str, Any]] = [("fill", SimpleImputer(strategy="median", keep_empty_features=True))]
    if plan.harmonise:
        at = tuple(design.features.index(name) for name in plan.covariates)
        steps.append(("harmonise", ComBat(at, plan.unseen_site)))
    steps += [("scale", StandardScaler()), ("thin", CorrelationFilter(plan.correlation))]
    if settings["select"] < design.matrix.shape[1]:
        steps.append(("select", RelevantFeatures(settings["select"], design.task, plan.selector)))
    pipeline = Pipeline([*steps, ("model", estimator)])
    with _quiet():
        return pipeline.fit(matrix, target)


def site_matrix(design: Design, plan: Plan, trained_on: Design) -> Array:
    """The matrix that the model takes: where it is harmonised, with the number of the site among those of training.

    Raises: InputError for a table without sites.
    """
    if not plan.harmonise:
        return design.matrix
    if not design.site:
        raise InputError("harmonisation needs to know the institution of each case: name its column with --site")
    return with_sites(design.matrix, design.site, sorted(set(trained_on.site)))


def with_sites(matrix: Array, sites: Sequence[str], known: Sequence[str]) -> Array:
    """A matrix with the number of each row's site as its last column; a site that is not known is one more."""
    number = {name: i for i, name in enumerate(known)}
    return np.column_stack((matrix, [number.get(site, len(known)) for site in sites]))


def _words(settings: Mapping[str, Any]) -> str:
    return " ".join(
        f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in settings.items()
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without scikit-learn's asides about convergence: what matters is judged by the outer folds.

    On one thread: tables are small, and threads that wait for each other take longer than the work.
    """
    from threadpoolctl import threadpool_limits

    with warnings.catch_warnings(), np.errstate(all="ignore"), threadpool_limits(1):
        warnings.simplefilter("ignore")
        yield
