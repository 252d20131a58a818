"""How good a network is on cases that it does not learn from."""

from dataclasses import dataclass, field

import numpy as np

from isocenter.inference.answers import scored, segmented, windows_of
from isocenter.inference.sliding import Forward
from isocenter.metrics.decision import auc
from isocenter.metrics.overlap import dice
from isocenter.training.images.plan import Plan
from isocenter.training.images.store import Store
from isocenter.types import Array


@dataclass(frozen=True, eq=False)
class Validated:
    """One look at the validation cases.

    Args:
        goodness: larger is better; by it trainings are compared.
        metrics: by name.
        scores: probabilities `n k`, or values `n`; None for a segmentation.
        each: mean Dice of each case; empty but for a segmentation.
        volumes: voxels `n k 2` of each label and, last, of all together: stated and found; None but for a segmentation.
    """

    goodness: float
    metrics: dict[str, float]
    scores: Array | None = field(default=None, repr=False)
    each: tuple[float, ...] = ()
    volumes: Array | None = field(default=None, repr=False)

    @property
    def told(self) -> str:
        """The main metric, in words."""
        name = next(n for n in ("dice", "auc", "accuracy", "mae") if n in self.metrics)
        return f"{name} {self.metrics[name]:.3f}"


def validate(forward: Forward, store: Store, plan: Plan, *, thorough: bool = False) -> Validated:
    """Judge a network on these cases; the last time thoroughly: with overlap and flips."""
    if plan.task == "segment":
        return _voxels(forward, store, plan, thorough=thorough)
    scores = scored(forward, [item.image for item in store.items], plan.spec, flips=thorough)
    truth = np.asarray([item.target for item in store.items])
    if plan.task == "regress":
        error = scores - truth
        spread = float(((truth - truth.mean()) ** 2).mean()) or 1.0
        r2 = 1 - float((error**2).mean()) / spread
        return Validated(r2, {"mae": float(np.abs(error).mean()), "r2": r2}, scores)
    labels = truth.astype(int)
    loss = -float(np.log(np.maximum(scores[np.arange(len(labels)), labels], 1e-12)).mean())
    there = [k for k in range(len(plan.classes)) if 0 < (labels == k).sum() < len(labels)]
    metrics = {"accuracy": float((scores.argmax(axis=1) == labels).mean()), "loss": loss}
    if there:
        positive = there[-1:] if len(plan.classes) == 2 else there
        metrics["auc"] = float(np.mean([auc((labels == k).astype(np.int64), scores[:, k]) for k in positive]))
    return Validated(-loss, metrics, scores)


def _voxels(forward: Forward, store: Store, plan: Plan, *, thorough: bool) -> Validated:
    spec = plan.spec
    windows = windows_of(spec, overlap=0.5 if thorough else 0.25, flips=thorough)
    rows, counts = [], []
    for item in store.items:
        assert item.mask is not None, "a segmentation has masks"
        found = segmented(forward, np.asarray(item.image), spec, windows)
        row = []
        counts.append([[(m == k).sum() for m in (item.mask, found)] for k in range(1, plan.outputs)])
        counts[-1].append([(m > 0).sum() for m in (item.mask, found)])
        for number in range(1, plan.outputs):
            true, said = item.mask == number, found == number
            row.append(dice(true, said) if true.any() or said.any() else np.nan)
        rows.append(row)
    table = np.asarray(rows, np.float64)
    known = [column[np.isfinite(column)] for column in table.T]
    metrics = {
        f"dice/{name}": float(k.mean()) if len(k) else float("nan")
        for name, k in zip(plan.labels.values(), known, strict=True)
    }
    stated = [value for value in metrics.values() if np.isfinite(value)]
    metrics["dice"] = float(np.mean(stated)) if stated else 0.0
    each = tuple(float(np.nanmean(row)) if np.isfinite(row).any() else 1.0 for row in table)
    return Validated(metrics["dice"], metrics, None, each, np.asarray(counts, np.int64))
