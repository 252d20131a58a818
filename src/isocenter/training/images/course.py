"""The course of a training: one network, or several that share the time (settings, seeds, folds, a learning curve)."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from isocenter.data.dataset import Sample
from isocenter.data.provenance import Json
from isocenter.errors import DegenerateImage, InputError
from isocenter.metrics.intervals import Z
from isocenter.training.images.checkpoint import Row
from isocenter.training.images.division import fold_of, some_patients
from isocenter.training.images.loop import Learnt, fresh_network, learn, some_of
from isocenter.training.images.plan import Plan
from isocenter.training.images.start import Freeze, Start, Taken, take_over
from isocenter.training.images.store import Store
from isocenter.training.images.tasks import task_of
from isocenter.training.images.trials import halved, read_trials, variant
from isocenter.training.images.validation import Validated
from isocenter.types import Array, Progress

_TRIED_SHARE = 0.5
"""Of the time, for trying settings; the other half trains the best."""
_LEAST_JUDGED = 5
_FOR_LOOKS = 0.9
"""Of each part's time, where several networks share it; the rest is for their last looks."""
_MEASURES = {
    "segment": "Dice", "classify": "log-likelihood", "regress": "- error", "detect": "- objects missed or false",
    "enhance": "dB", "generate": "- distance", "anomaly": "- error", "forecast": "dB",
}  # fmt: skip
"""Of each case, in a learning curve."""
_CURVE = ((0.25, 0.2), (0.5, 0.4), (1.0, 0.4))
"""Share of the patients, and of the time: half and all have the same, so that they differ in their patients alone."""


@dataclass(frozen=True)
class Ways:
    """What is trained beside, or instead of, one network.

    Args:
        trials: as `lr=1e-3,3e-4`; see `training.images.trials.read_trials`.
        seeds: trainings from other seeds.
        folds: of a cross-validation; 0: none.
        curve: smaller shares of the patients too.
        ensemble: all networks are kept; None: of folds, not of seeds.
    Raises: InputError for several at once.
    """

    trials: Sequence[str] = ()
    seeds: int = 1
    folds: int = 0
    curve: bool = False
    ensemble: bool | None = None

    def __post_init__(self) -> None:
        if (self.seeds > 1) + (self.folds > 0) + self.curve > 1:
            raise InputError("--seeds, --folds and --learning-curve share one budget: ask for one of them at a time")


@dataclass(frozen=True, eq=False)
class Course:
    """What a training leaves.

    Args:
        networks: with averaged weights, in evaluation; more than one are averaged.
        plan: of the first.
        log: of the first.
        final: the last look at the judged cases, by networks that never learnt from them.
        judged: those cases.
        judges: the network that judged each of them.
        own: the same look at as many training cases.
        learnt: the cases that the first network learnt from.
        seconds: of all networks.
        told: what was tried, seeds, folds, the learning curve, weights taken over.
    """

    networks: tuple[nn.Module, ...]
    plan: Plan
    log: tuple[Row, ...]
    final: Validated
    judged: Store
    judges: tuple[nn.Module, ...]
    own: Validated
    seconds: float
    told: dict[str, Json] = field(default_factory=dict)
    learnt: Store | None = None


@dataclass(frozen=True, eq=False)
class Means:
    """With what it is trained.

    Args:
        device: `cpu`, `cuda` or `mps`.
        processes: that learn together.
        checkpoint: folder of the unfinished course.
        deadline_s: seconds for all networks together; None: each makes the plan's steps, or its share of them.
        start: weights to start from.
        teachers: networks whose answers are learnt, instead of the labels; see `training.images.teacher`.
        freeze: how much of them does not learn.
        logs: folder for TensorBoard and CSV.
        twins: cases that hold one image.
        on_progress: told each step.
        tell: told what was decided.
    """

    device: str = "cpu"
    processes: int = 1
    checkpoint: Path | None = None
    deadline_s: float | None = None
    start: Start | None = None
    teachers: Sequence[nn.Module] = ()
    freeze: Freeze = "none"
    logs: Path | None = None
    twins: Sequence[tuple[str, str]] = ()
    on_progress: Progress | None = None
    tell: Callable[[str], None] = print


def run(plan: Plan, train: Store, val: Store, ways: Ways, means: Means) -> Course:
    """Train what the ways ask for, within the time of the means.

    Settings are chosen, and everything is judged, on validation cases alone.

    Args:
        plan: with `schedule.steps` set.
        train: cases to learn from.
        val: cases to judge by; with folds, both are divided anew.
        ways: what is trained.
        means: with what.
    Raises: InputError for settings that cannot be.
    """
    _require_possible(plan, ways)
    return replace(_in_its_way(plan, train, val, ways, means), learnt=train)


def _require_possible(plan: Plan, ways: Ways) -> None:
    """Refuse what a task has no meaning for.

    Raises: InputError.
    """
    asked = {"--folds": bool(ways.folds), "--ensemble": bool(ways.ensemble), "--learning-curve": ways.curve}
    odd = [name for name, on in asked.items() if on]
    if odd and not task_of(plan).several:
        raise InputError(f"{odd[0]}: a model of {plan.task} is one network, judged over all cases together")
    if ways.curve and plan.task == "detect":
        raise InputError("--learning-curve: a detection is judged over all cases together; compare models by evaluate")


def _in_its_way(plan: Plan, train: Store, val: Store, ways: Ways, means: Means) -> Course:
    told: dict[str, Json] = {}
    whole = 1.0
    if ways.trials:
        plan, told["tried"] = _chosen(plan, train, val, ways.trials, means)
        whole = 1 - _TRIED_SHARE
    if ways.folds:
        return _over_folds(plan, train, val, ways, means, whole, told)
    if ways.curve:
        found, told["learning_curve"] = _over_shares(plan, train, val, means, whole)
        return _alone(found, val, told)
    if ways.seeds > 1:
        return _over_seeds(plan, train, val, ways, means, whole, told)
    return _alone(_trained(plan, train, val, means, whole, "one", told), val, told)


def _alone(found: Learnt, val: Store, told: dict[str, Json]) -> Course:
    judges = (found.network,) * len(val)
    own = found.train_goodness
    return Course((found.network,), found.plan, found.log, found.final, val, judges, own, found.seconds, told)


def _trained(
    plan: Plan, train: Store, val: Store, means: Means, share: float, name: str, told: dict[str, Json] | None = None
) -> Learnt:
    """One network, in a share of the time.

    Args:
        plan: of the whole time.
        train: cases to learn from.
        val: cases to judge by.
        means: with what.
        share: of the time and the steps.
        name: of its checkpoint.
        told: where it is written what of given weights was taken over.
    """
    own = plan if share == 1 else plan.changed(schedule={"steps": max(1, round(share * plan.schedule.steps))})
    network: nn.Module | None = None
    if means.start is not None:
        network = fresh_network(own)
        taken = take_over(network, means.start, freeze=means.freeze)
        own = own.changed(frozen=taken.frozen)
        if told is not None:
            means.tell(taken.words)
            told["start"] = _origin(means.start, taken)
    return learn(
        own, train, val, network=network,
        checkpoint=None if means.checkpoint is None else means.checkpoint / name,
        deadline_s=None if means.deadline_s is None else share * means.deadline_s * (1 if share == 1 else _FOR_LOOKS),
        device=means.device, processes=means.processes, teachers=means.teachers,
        logs=None if means.logs is None else means.logs if name == "one" else means.logs / name,
        on_progress=_named(means.on_progress, name),
    )  # fmt: skip


def _named(tell: Progress | None, name: str) -> Progress | None:
    if tell is None or name == "one":
        return tell
    return lambda what, done, total: tell(f"{name}: {what}", done, total)


def _origin(start: Start, taken: Taken) -> dict[str, Json]:
    return {
        **start.origin, "taken_over": len(taken.names), "fresh": list(taken.fresh), "unused": list(taken.unused),
        "frozen": len(taken.frozen),
    }  # fmt: skip


def _chosen(
    plan: Plan, train: Store, val: Store, texts: Sequence[str], means: Means
) -> tuple[Plan, list[dict[str, Any]]]:
    """The plan with the best of the tried settings, and what each reached on the validation cases."""
    trials = read_trials(texts)
    plans = {trial.name: variant(plan, trial.changes) for trial in trials}  # a wrong one is refused before the first

    def one(trial: Any, share: float, number: int) -> float:
        name = f"try {list(plans).index(trial.name) + 1} of {len(plans)}, round {number + 1}"
        try:
            return _trained(plans[trial.name], train, val, means, share * _TRIED_SHARE, name).final.goodness
        except DegenerateImage as error:
            means.tell(f"{trial.name}: {error}")
            return float("-inf")

    best, rows = halved(trials, one)
    if all(row["goodness"] is None for row in rows):
        raise InputError("none of the tried settings learnt anything: lower the learning rates")
    means.tell(f"best of {len(trials)} settings on validation cases: {best.name}")
    return plans[best.name], rows


def _over_seeds(
    plan: Plan, train: Store, val: Store, ways: Ways, means: Means, whole: float, told: dict[str, Json]
) -> Course:
    """The same training from several seeds: how much of a result is luck."""
    found = [
        _trained(plan.changed(seed=plan.seed + i), train, val, means, whole / ways.seeds, f"seed {plan.seed + i}", told)
        for i in range(ways.seeds)
    ]
    told["seeds"] = [{"seed": one.plan.seed, **_rounded(one.final.metrics)} for one in found]
    told["spread"] = _spread([one.final.metrics for one in found])
    first = replace(found[0], seconds=sum(one.seconds for one in found))
    if not ways.ensemble:
        return _alone(first, val, told)
    networks, task = tuple(one.network for one in found), task_of(plan)
    final, own = (
        task.validate(task.run([copy.deepcopy(n) for n in networks], plan, means.device), store, plan, thorough=True)
        for store in (val, some_of(train, len(val), plan.seed))
    )
    judges = (networks[0],) * len(val)
    return Course(networks, first.plan, first.log, final, val, judges, own, first.seconds, told)


def _over_folds(
    plan: Plan, train: Store, val: Store, ways: Ways, means: Means, whole: float, told: dict[str, Json]
) -> Course:
    """Cross-validation by patient: each case is judged by the network that never learnt from it."""
    pool = Store((*train.items, *val.items), (*train.failed, *val.failed), (train.keep, val.keep))
    samples: list[Sample] = [item.sample for item in pool.items]
    numbers = np.asarray(fold_of(samples, ways.folds, seed=plan.seed, twins=means.twins))
    found = []
    for fold in range(ways.folds):
        sides = [pool.only(np.flatnonzero(side).tolist()) for side in (numbers != fold, numbers == fold)]
        found.append(
            _trained(plan, sides[0], sides[1], means, whole / ways.folds, f"fold {fold + 1} of {ways.folds}", told)
        )
    order = np.concatenate([np.flatnonzero(numbers == fold) for fold in range(ways.folds)])
    final = _joined([one.final for one in found])
    told["folds"] = [_rounded(one.final.metrics) for one in found]
    told["spread"] = _spread([one.final.metrics for one in found])
    networks = tuple(one.network for one in found) if ways.ensemble is not False else (found[0].network,)
    seconds = sum(one.seconds for one in found)
    own = found[0].train_goodness
    judges = tuple(one.network for fold, one in enumerate(found) for _ in range(int((numbers == fold).sum())))
    judged = pool.only(order.tolist())
    return Course(networks, found[0].plan, found[0].log, final, judged, judges, own, seconds, told)


def _over_shares(plan: Plan, train: Store, val: Store, means: Means, whole: float) -> tuple[Learnt, dict[str, Json]]:
    """Smaller shares of the patients too, each with its share of the time: would more data help?"""
    found = []
    for share, time in _CURVE:
        part = train.only(some_patients([item.sample for item in train.items], share, seed=plan.seed))
        name = f"{share:.0%} of the patients" if share < 1 else "one"
        found.append((share, len(part), _trained(plan, part, val, means, whole * time, name)))
    half, full = found[-2][2].final, found[-1][2].final
    gain = each_case(full, val) - each_case(half, val)
    mean = float(np.nanmean(gain))
    low = high = None
    verdict = f"{len(gain)} validation cases are too few to tell whether more would help"
    if len(gain) >= _LEAST_JUDGED:
        reach = Z * float(np.nanstd(gain, ddof=1)) / float(np.sqrt(len(gain)))
        low, high = mean - reach, mean + reach
        verdict = "more cases would help" if low > 0 else "that more cases would help was not seen"
    rows = [{"share": share, "cases": count, **_rounded(one.final.metrics)} for share, count, one in found]
    told: dict[str, Json] = {
        "rows": rows, "gain_of_doubling": mean, "low": low, "high": high, "verdict": verdict,
        "measure": _MEASURES[plan.task],
    }  # fmt: skip
    ends = "" if low is None or high is None else f", {low:+.4f} to {high:+.4f}"
    means.tell(
        f"learning curve: {verdict} ({told['measure']} {mean:+.4f} a case{ends}, from half of the patients to all)"
    )
    return found[-1][2], told


def each_case(found: Validated, store: Store) -> Array:
    """How good each case is: Dice, logarithm of its class's probability, minus its error; of frames, their mean."""
    if found.scores is None:
        return np.asarray(found.each)
    stated = store.stated()
    truth = np.asarray([row.target for row in stated])
    if found.scores.ndim == 1:
        good = -np.abs(found.scores - truth)
    else:
        good = np.log(np.maximum(found.scores[np.arange(len(truth)), truth.astype(int)], 1e-12))
    numbers = {id(item): i for i, item in enumerate(store.items)}
    owner = np.asarray([numbers[id(row.item)] for row in stated])
    counts = np.bincount(owner, minlength=len(store))
    return np.asarray(np.bincount(owner, good, minlength=len(store)) / counts)


def _joined(parts: Sequence[Validated]) -> Validated:
    """The looks of several folds as one; metrics are means over folds, never pooled."""
    metrics = {}
    for name in dict.fromkeys(name for p in parts for name in p.metrics):
        known = [p.metrics[name] for p in parts if np.isfinite(p.metrics.get(name, np.nan))]
        if known:
            metrics[name] = float(np.mean(known))
    scores = None if parts[0].scores is None else np.concatenate([np.asarray(p.scores) for p in parts])
    volumes = None if parts[0].volumes is None else np.concatenate([np.asarray(p.volumes) for p in parts])
    each = tuple(value for p in parts for value in p.each)
    found = tuple(one for p in parts for one in p.found)
    return Validated(float(np.mean([p.goodness for p in parts])), metrics, scores, each, volumes, found=found)


def _rounded(metrics: dict[str, float]) -> dict[str, Json]:
    return {name: round(value, 5) for name, value in metrics.items() if np.isfinite(value)}


def _spread(rows: Sequence[dict[str, float]]) -> dict[str, Json]:
    """Mean and standard deviation of each metric."""
    found: dict[str, Json] = {}
    for name in rows[0]:
        values = [row[name] for row in rows if np.isfinite(row.get(name, np.nan))]
        if len(values) > 1:
            found[name] = {
                "mean": round(float(np.mean(values)), 5),
                "deviation": round(float(np.std(values, ddof=1)), 5),
            }
    return found
