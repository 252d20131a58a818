"""Numbers of predictions: with intervals by patient, at a stated operating point, in subgroups."""

from dataclasses import replace
from typing import Any

import numpy as np

from isocenter.data.evaluation import Evaluation, Predictions
from isocenter.data.provenance import Json
from isocenter.errors import DegenerateImage
from isocenter.evaluation.classified import classified
from isocenter.evaluation.numeric import regressed, survived
from isocenter.evaluation.point import OperatingPoint
from isocenter.evaluation.shared import plain


def judge(
    found: Predictions,
    *,
    point: OperatingPoint | None = None,
    prevalence: float | None = None,
    seed: int = 0,
) -> Evaluation:
    """Every metric of the task with its interval.

    Args:
        found: predictions and truth.
        point: of a classifier; without one, a probability of one half.
        prevalence: for predictive values in another population.
        seed: of the resampling.
    Raises: DegenerateImage for a truth of one class or without an event.
    """
    if found.task == "classify":
        metrics, curves, more = classified(found, point or OperatingPoint(), prevalence, seed)
    else:
        metrics, curves, more = (regressed if found.task == "regress" else survived)(found, seed)
    patients = len(set(found.patients))
    data: dict[str, Json] = {
        "schema_version": 1,
        "task": found.task,
        "model": found.name,
        "n_cases": len(found.cases),
        "n_patients": patients if found.known_patients else None,
        "unit_of_interval": "patient" if found.known_patients else "case (no patient is known)",
        "classes": list(found.classes),
        "metrics": {name: plain(estimate) for name, estimate in metrics.items()},
        "operating_point": (point or OperatingPoint()).as_json() if len(found.classes) == 2 else None,
        "subgroups": _subgroups(found, point, seed),
        "exchangeable": None,
        "not_for_clinical_use": True,
        **more,
    }
    return Evaluation(data, curves, tuple(_cases(found, point or OperatingPoint())))


def _subgroups(found: Predictions, point: OperatingPoint | None, seed: int) -> list[Json]:
    """The main metric in each level of each column, with its size."""
    out: list[Json] = []
    for name, values in found.groups.items():
        for level in sorted(set(values)):
            index = np.flatnonzero(np.asarray(values) == level)
            part = replace(found.rows(index), groups={}, sets=None)
            row: dict[str, Any] = {
                "column": name, "level": level, "n_cases": len(index), "n_patients": len(set(part.patients))
            }  # fmt: skip
            try:
                main = judge(part, point=point, seed=seed).data["metrics"]
                key = next(k for k in ("auc", "c_index", "mae") if k in main)
                row |= {"metric": key, **main[key]}
            except DegenerateImage as error:
                row |= {"metric": None, "note": str(error)}
            out.append(row)
    return out


def _cases(found: Predictions, point: OperatingPoint) -> list[tuple[object, ...]]:
    """The per-case table."""
    head: list[object] = ["case", "patient", "truth"]
    truth, scores = np.asarray(found.truth), np.asarray(found.scores)
    rows: list[tuple[object, ...]] = []
    if found.task == "classify":
        head += [f"probability {name}" for name in found.classes] + ["decided", "right"]
        binary = len(found.classes) == 2
        decided = (scores[:, 1] >= point.threshold).astype(int) if binary else scores.argmax(axis=1)
        if found.sets is not None:
            head.append("set")
    elif found.task == "survive":
        head = ["case", "patient", "time", "event", "risk"]
    else:
        head += ["predicted", "error"]
    head += ["image"] if found.images else []
    for i, case in enumerate(found.cases):
        row: list[object] = [case, found.patients[i]]
        if found.task == "classify":
            row += [found.classes[truth[i]], *(round(float(s), 6) for s in scores[i]), found.classes[decided[i]]]
            row.append("yes" if decided[i] == truth[i] else "no")
            if found.sets is not None:
                row.append(
                    " ".join(n for n, inside in zip(found.classes, np.asarray(found.sets)[i], strict=True) if inside)
                )
        elif found.task == "survive":
            row += [float(truth[i][0]), int(truth[i][1]), round(float(scores[i]), 6)]
        else:
            row += [float(truth[i]), round(float(scores[i]), 6), round(float(scores[i] - truth[i]), 6)]
        rows.append((*row, *((found.images[i],) if found.images else ())))
    return [tuple(head), *rows]
