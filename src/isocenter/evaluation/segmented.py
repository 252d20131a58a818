"""Label maps beside reference label maps: overlap, surfaces, and what is missed or invented."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from isocenter.data.evaluation import Evaluation
from isocenter.data.provenance import Json
from isocenter.errors import InputError
from isocenter.evaluation.shared import plain
from isocenter.metrics import intervals as iv
from isocenter.metrics.membranes import rand_error, warping_error
from isocenter.metrics.overlap import dice
from isocenter.metrics.surface import surface_distances
from isocenter.types import Array, LabelGrid, Triple

OVERLAP = ("dice", "iou", "precision", "recall", "volume_difference")
SURFACE = ("hd", "hd95", "assd", "surface_dice")
_SIGNIFICANT = 5


@dataclass(frozen=True, eq=False)
class Compared:
    """One case.

    Args:
        case: its name.
        patient: empty where unknown.
        rows: label -> metric -> value; absent where it has none. `present` and `found` are 1 or 0.
        whole: metrics of the picture as a whole (`rand_error`, `warping_error`).
    """

    case: str
    patient: str
    rows: Mapping[str, Mapping[str, float]]
    whole: Mapping[str, float] = field(default_factory=dict)

    @property
    def dice(self) -> float:
        """Mean over the labels that either map holds; NaN where both are empty."""
        values = [row["dice"] for name, row in self.rows.items() if "dice" in row and name != BACKGROUND]
        return float(np.mean(values)) if values else float("nan")


BACKGROUND = "background"


def compare_labels(
    predicted: LabelGrid,
    reference: LabelGrid,
    labels: Mapping[int, str],
    *,
    spacing_mm: Triple | None,
    tolerance_mm: float,
    case: str,
    patient: str = "",
    partition: bool = False,
) -> Compared:
    """Compare two label maps on one grid.

    Args:
        predicted: `d h w`.
        reference: the same grid.
        labels: value -> name.
        spacing_mm: of the grid; None: it states none, and there are no millimetres.
        tolerance_mm: of the surface Dice.
        case: its name.
        patient: empty where unknown.
        partition: pictures of one label, whose gaps part cells: Rand and warping error are taken, and the background
            is judged as a label.
    """
    rows: dict[str, dict[str, float]] = {}
    for value, name in labels.items():
        rows[name] = _of_label(predicted == value, reference == value, spacing_mm, tolerance_mm)
    whole: dict[str, float] = {}
    if partition:
        rows[BACKGROUND] = _of_label(predicted == 0, reference == 0, None, tolerance_mm)
        errors = [
            (rand_error(p != 0, r != 0), warping_error(p != 0, r != 0))
            for p, r in zip(predicted, reference, strict=True)
            if r.any()
        ]
        if errors:
            whole = {
                "rand_error": float(np.mean([e[0] for e in errors])),
                "warping_error": float(np.mean([e[1] for e in errors])),
            }
    return Compared(case, patient, rows, whole)


def _of_label(said: Array, true: Array, spacing_mm: Triple | None, tolerance_mm: float) -> dict[str, float]:
    """Metrics of one label; where both lack it, there are none, and that is right."""
    has, got = bool(true.any()), bool(said.any())
    row: dict[str, float] = {"present": float(has), "found": float(got)}
    if not has and not got:
        return row
    both = int(np.count_nonzero(said & true))
    a, b = int(np.count_nonzero(said)), int(np.count_nonzero(true))
    row |= {"dice": dice(said, true), "iou": both / (a + b - both)}
    if a:
        row["precision"] = both / a
    if b:
        row["recall"] = both / b
        row["volume_difference"] = (a - b) / b
    if spacing_mm is not None:
        apart = surface_distances(said, true, spacing_mm)
        if apart is not None:
            row |= {"hd": apart.hausdorff(), "hd95": apart.hausdorff(95), "assd": apart.average(),
                    "surface_dice": apart.dice(tolerance_mm)}  # fmt: skip
        else:
            row["surface_dice"] = 0.0
    return row


def judge_segmentations(
    cases: Sequence[Compared], labels: Sequence[str], *, model: str, missing_mm: float, tolerance_mm: float, seed: int
) -> Evaluation:
    """Means with intervals by patient; surfaces over the cases where both exist, and misses counted beside them.

    Args:
        cases: compared.
        labels: names in order.
        model: whose predictions they are.
        missing_mm: distance that counts for a structure that one side lacks, in `hd95_penalised`.
        tolerance_mm: of the surface Dice.
        seed: of resampling.
    Raises: InputError where no case holds a label.
    """
    if not any(np.isfinite(c.dice) for c in cases):
        raise InputError("no case holds a voxel of any label, in prediction or reference")
    known = all(c.patient for c in cases)
    groups = np.asarray([c.patient or f"case {c.case}" for c in cases])
    means = np.asarray([c.dice for c in cases])
    metrics: dict[str, Json] = {"dice": plain(_mean(means, groups, seed))}
    everything = [*labels, *([BACKGROUND] if any(BACKGROUND in c.rows for c in cases) else [])]
    for name in everything:
        metrics |= _label_metrics(cases, name, groups, missing_mm=missing_mm, seed=seed)
    for name in ("rand_error", "warping_error"):
        values = np.asarray([c.whole.get(name, np.nan) for c in cases])
        if np.isfinite(values).any():
            metrics[name] = plain(_mean(values, groups, seed))
    data: dict[str, Json] = {
        "schema_version": 1,
        "task": "segment",
        "model": model,
        "n_cases": len(cases),
        "n_patients": len(set(groups)) if known else None,
        "unit_of_interval": "patient" if known else "case (no patient is known)",
        "classes": list(labels),
        "metrics": metrics,
        "operating_point": None,
        "subgroups": [],
        "exchangeable": None,
        "not_for_clinical_use": True,
        "surface_tolerance_mm": tolerance_mm,
        "missing_mm": missing_mm,
    }
    return Evaluation(data, {}, _table(cases, everything))


def _label_metrics(
    cases: Sequence[Compared], name: str, groups: Array, *, missing_mm: float, seed: int
) -> dict[str, Json]:
    found: dict[str, Json] = {}
    rows = [c.rows.get(name, {}) for c in cases]
    for metric in (*OVERLAP, "surface_dice"):
        values = np.asarray([row.get(metric, np.nan) for row in rows])
        if np.isfinite(values).any():
            found[f"{metric}/{name}"] = plain(_mean(values, groups, seed))
    missed = [row.get("present") == 1 and row.get("found") == 0 for row in rows]
    false = [row.get("present") == 0 and row.get("found") == 1 for row in rows]
    with_it = sum(row.get("present") == 1 for row in rows)
    for metric in ("hd", "hd95", "assd"):
        values = np.asarray([row[metric] for row in rows if metric in row])
        if len(values):
            low, high = (float(q) for q in np.percentile(values, (25, 75)))
            note = f"median in mm over the {len(values)} cases where both exist; quartiles {low:.3g} to {high:.3g}"
            found[f"{metric}/{name}"] = {
                "value": float(np.median(values)),
                "low": None,
                "high": None,
                "note": note,
                "quartiles": [low, high],
            }
            if metric == "hd95":
                punished = np.asarray([*values, *[missing_mm] * (sum(missed) + sum(false))])
                found[f"hd95_penalised/{name}"] = {
                    "value": float(punished.mean()), "low": None, "high": None,
                    "note": f"mean in mm; a structure that one side lacks counts {missing_mm:g} mm",
                }  # fmt: skip
    found[f"missed/{name}"] = {
        "value": float(sum(missed)),
        "low": None,
        "high": None,
        "note": f"of {with_it} cases that have it",
    }
    found[f"false/{name}"] = {
        "value": float(sum(false)),
        "low": None,
        "high": None,
        "note": f"of {len(rows) - with_it} cases that do not have it",
    }
    return found


def _mean(values: Array, groups: Array, seed: int) -> iv.Estimate:
    """Mean over the cases that have a value, with its interval by patient."""
    there = np.flatnonzero(np.isfinite(values))
    own, people = values[there], groups[there]
    statistic: Callable[[Array], float] = lambda i: float(own[i].mean())  # noqa: E731
    return iv.bootstrap(statistic, people, None, seed=seed, draws=2000)[0]


def _table(cases: Sequence[Compared], labels: Sequence[str]) -> tuple[tuple[object, ...], ...]:
    """A row a case: every metric of every label that some case has."""
    columns = [
        (label, metric)
        for label in labels
        for metric in (*OVERLAP, *SURFACE)
        if any(metric in c.rows.get(label, {}) for c in cases)
    ]
    wholes = sorted({name for c in cases for name in c.whole})
    head = ("case", "patient", "dice", *wholes, *(f"{metric}/{label}" for label, metric in columns))
    rows: list[tuple[object, ...]] = [head]
    for c in cases:
        cells = [c.rows.get(label, {}).get(metric) for label, metric in columns]
        mean = "" if not np.isfinite(c.dice) else round(c.dice, _SIGNIFICANT)
        rows.append((
            c.case, c.patient, mean, *(round(c.whole[n], _SIGNIFICANT) if n in c.whole else "" for n in wholes),
            *("" if v is None else round(v, _SIGNIFICANT) for v in cells),
        ))  # fmt: skip
    return tuple(rows)
