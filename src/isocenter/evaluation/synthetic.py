"""Made images beside real ones: how like them they are, whether they are copies, and what they teach."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from isocenter.data.evaluation import Evaluation, Predictions
from isocenter.data.message import Message
from isocenter.data.provenance import Json
from isocenter.evaluation.comparison import compare
from isocenter.evaluation.judge import judge
from isocenter.metrics.synthetic import copies, frechet, variety
from isocenter.types import Array

SCHEMA = 1
_COLLAPSED = 0.5
_ALIKE = (
    "Made images are alike: they differ {value:.0%} as much as real ones. The maker shows a few images again and again "
    "(mode collapse): a larger network.settings.seek, or more time."
)


@dataclass(frozen=True, eq=False)
class MadeImages:
    """Images `n c *s` between 0 and 1, and features of each (`n f`).

    Args:
        images: made ones.
        features: of them.
        real: that nothing was learnt from.
        real_features: of them.
        training: that the maker learnt from; None: they are not there.
        training_features: of them.
        names: of the training images.
    """

    images: Array
    features: Array
    real: Array
    real_features: Array
    training: Array | None = None
    training_features: Array | None = None
    names: Sequence[str] = ()


def judge_made(
    found: MadeImages, *, model: str, taught: Mapping[str, Predictions] | None = None, seed: int = 0
) -> Evaluation:
    """Numbers of made images.

    Args:
        found: images.
        model: name of the maker.
        taught: `synthetic`, `real`, `both`: what classifiers that learnt from these say of the same real cases.
        seed: of resampling.
    """
    metrics: dict[str, Json] = {
        "frechet": _row(_distance(found.real_features, found.features), "features of random weights")
    }
    notes: tuple[Message, ...] = ()
    if min(len(found.images), len(found.real)) > 1:
        varied = variety(found.images, found.real)
        metrics["variety"] = _row(varied, "distance to the nearest other made image; of real ones: 1")
        if varied < _COLLAPSED:
            notes += (Message(_ALIKE, {"value": varied}),)
    rows: list[tuple[object, ...]] = [("made", "nearest training image", "copy")]
    data: dict[str, Json] = {}
    if found.training is not None and found.training_features is not None:
        between = _distance(found.real_features, found.training_features)
        metrics["frechet_real"] = _row(between, "real images that it learnt from, beside the others")
        same, which = copies(found.images, found.training, found.real)
        metrics["copies"] = _row(float(same.mean()), f"{int(same.sum())} of {len(same)} made images")
        rows += [
            (i + 1, found.names[int(w)] if len(found.names) else int(w), "yes" if c else "no")
            for i, (w, c) in enumerate(zip(which, same, strict=True))
        ]
    for name, predictions in (taught or {}).items():
        judged = judge(predictions, seed=seed).data["metrics"]
        for metric in ("auc", "accuracy"):
            if metric in judged:
                metrics[f"{metric}_{name}"] = {**judged[metric], "note": judged[metric]["note"] or _TAUGHT[name]}
    if taught and {"both", "real"} <= set(taught):
        data["comparison"] = compare(taught["both"], taught["real"], seed=seed)
        said = verdict_of(data["comparison"])
        notes += (said,)
        data["verdict"] = str(said)
    data |= {
        "schema_version": SCHEMA, "task": "generate", "model": model, "n_cases": len(found.real),
        "n_patients": None, "split": None, "unit_of_interval": "case (no patient is known)", "classes": [],
        "metrics": metrics, "operating_point": None, "subgroups": [], "exchangeable": None,
        "not_for_clinical_use": True, "n_made": len(found.images),
    }  # fmt: skip
    return Evaluation(data, {}, tuple(rows), notes=notes)


_TAUGHT = {
    "synthetic": "learnt from made images alone", "real": "learnt from real images alone",
    "both": "learnt from real and made images",
}  # fmt: skip


def verdict_of(comparison: Mapping[str, Json]) -> Message:
    """Whether made images help a classifier beside real ones, by the first (paired) test."""
    first = comparison["comparisons"][0]
    if first["p_holm"] >= 0.05:
        text = "Made images beside the real ones do not help: no difference can be told (corrected p = {p:.2g})."
        return Message(text, {"p": float(first["p_holm"])})
    helps = "help" if first["difference"] > 0 else "harm"
    text = f"Made images beside the real ones {helps}: {{metric}} {{difference:+.3f}}."
    return Message(text, {"metric": str(first["metric"]), "difference": float(first["difference"])})


def _distance(real: Array, made: Array) -> float:
    """Fréchet distance; no number for a single image."""
    return frechet(real, made) if min(len(real), len(made)) > 1 else float("nan")


def _row(value: float, note: str) -> dict[str, Json]:
    return {"value": value if np.isfinite(value) else None, "low": None, "high": None, "note": note}
