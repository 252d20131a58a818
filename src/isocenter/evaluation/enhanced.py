"""Images made better beside the good ones, and beside what classical methods make of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from isocenter.data.evaluation import Evaluation
from isocenter.data.provenance import Json
from isocenter.evaluation.shared import plain, resampled
from isocenter.metrics.intervals import Estimate
from isocenter.types import Array

SCHEMA = 1


@dataclass(frozen=True)
class Compared:
    """One case.

    Args:
        case: its name.
        patient: empty where unknown.
        psnr: method -> dB; `model` is the network.
        ssim: method -> structural similarity.
    """

    case: str
    patient: str
    psnr: dict[str, float]
    ssim: dict[str, float]


MODEL = "model"
_WORDS = {
    "input": "the image as it was", "bicubic": "interpolated by cubic splines", "gaussian": "Gaussian filter",
    "nlm": "non-local means", "tv": "total variation",
}  # fmt: skip
"""Of methods; others are named as they are called."""


def judge_enhanced(rows: Sequence[Compared], *, model: str, how: str, seed: int) -> Evaluation:
    """Mean PSNR and SSIM of a network and of classical methods, and by how much it is better than the best of them.

    Intervals are by patient; the gain is paired: of each case, the network less that classical method whose mean is
    largest.

    Args:
        rows: cases.
        model: its name.
        how: what made the images poor, in words.
        seed: of resampling.
    """
    groups = np.asarray([row.patient or f"case {row.case}" for row in rows])
    known = all(row.patient for row in rows)
    methods = [name for name in rows[0].psnr if name != MODEL]

    def column(values: Sequence[float]) -> Array:
        finite = np.asarray(values, np.float64)
        return np.where(np.isfinite(finite), finite, 99.0)  # an image that is met exactly

    tables: dict[str, Array] = {"psnr": column([r.psnr[MODEL] for r in rows])}
    if all(MODEL in row.ssim for row in rows):
        tables["ssim"] = column([r.ssim[MODEL] for r in rows])
    for name in methods:
        tables[f"psnr/{name}"] = column([r.psnr[name] for r in rows])
        tables[f"ssim/{name}"] = column([r.ssim[name] for r in rows])
    best = max(methods, key=lambda name: float(tables[f"psnr/{name}"].mean())) if methods else None
    if best is not None:
        tables["psnr_gain"] = tables["psnr"] - tables[f"psnr/{best}"]
    metrics: dict[str, Json] = {
        name: _said(name, best, resampled(lambda i, v=values: float(v[i].mean()), groups, None, seed))  # type: ignore[misc]
        for name, values in tables.items()
    }
    data: dict[str, Json] = {
        "schema_version": SCHEMA, "task": "enhance", "model": model, "n_cases": len(rows),
        "n_patients": len(set(groups.tolist())) if known else None, "split": None,
        "unit_of_interval": "patient" if known else "case (no patient is known)", "classes": [], "metrics": metrics,
        "operating_point": None, "subgroups": [], "exchangeable": None, "not_for_clinical_use": True,
        "made_poor_by": how, "best_classical_method": best,
    }  # fmt: skip
    head = ("case", "patient", *tables)
    cells = [
        (row.case, row.patient, *(round(float(values[i]), 4) for values in tables.values()))
        for i, row in enumerate(rows)
    ]
    return Evaluation(data, {}, (head, *cells))


def _said(name: str, best: str | None, estimate: Estimate) -> dict[str, Json]:
    """An estimate with its unit and whose it is."""
    metric, _, method = name.partition("/")
    of = _WORDS.get(method, method)
    unit = {"psnr": "dB", "ssim": "1: alike", "psnr_gain": f"dB over {_WORDS.get(best or '', best)}"}[metric]
    return plain(replace(estimate, note="; ".join(text for text in (unit, of, estimate.note) if text)))
