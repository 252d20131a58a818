"""Objects that were found beside those that are there: average precision, free response, by size, by patient."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from isocenter.data.evaluation import Evaluation
from isocenter.data.provenance import Json
from isocenter.errors import InputError
from isocenter.evaluation.point import OperatingPoint
from isocenter.evaluation.shared import plain, thin
from isocenter.metrics import detection as det
from isocenter.metrics import intervals as iv
from isocenter.metrics.detection import Matches, Scan
from isocenter.types import Array, Triple

_SHARED_2D, _SHARED_3D = 0.5, 0.1
"""Overlap from which an answer is of an object, in pictures and in volumes, where small ones overlap badly."""
_DRAWS = 300
_SIZES = ("small", "middle", "large")


@dataclass(frozen=True, eq=False)
class Judged:
    """Cases with their objects and answers.

    Args:
        cases: names.
        patients: of each; empty texts where unknown.
        scans: truth and answers, in voxels of each image.
        classes: names.
        sizes: of each case: edge (geometric mean) of each object that counts, in mm, or in voxels.
        unit: of the sizes.
        flat: the images are pictures.
        spacings: of each case, in mm; empty: lengths are voxels.
    """

    cases: tuple[str, ...]
    patients: tuple[str, ...]
    scans: tuple[Scan, ...] = field(repr=False)
    classes: tuple[str, ...] = ()
    sizes: tuple[Array, ...] = field(default=(), repr=False)
    unit: str = "voxels"
    flat: bool = True
    spacings: tuple[Triple, ...] = ()

    def placed(self) -> tuple[Scan, ...]:
        """The same in lengths: mm, where they are known, and of pictures in their plane."""
        steps = self.spacings or ((1.0, 1.0, 1.0),) * len(self.scans)
        first = 1 if self.flat else 0
        found = []
        for scan, step in zip(self.scans, steps, strict=True):
            boxes, answers = (part * np.asarray(step) for part in (scan.boxes, scan.found))
            found.append(replace(scan, boxes=boxes[..., first:], found=answers[..., first:]))
        return tuple(found)


def hits_of(judged: Judged, kind: int) -> Matches:
    """Answers of a class and the objects that they find, by the overlap that suits the images."""
    return det.boxed(judged.scans, kind, overlap=_SHARED_2D if judged.flat else _SHARED_3D)


def judge_objects(judged: Judged, *, model: str, point: OperatingPoint | None, seed: int) -> Evaluation:
    """Average precision and free response with intervals by patient; sensitivity by size.

    Args:
        judged: cases.
        model: whose answers they are.
        point: score from which an answer is decided for; None: none was chosen.
        seed: of resampling.
    Raises: InputError where no object is stated.
    """
    if not any((~scan.ignored).any() for scan in judged.scans):
        raise InputError("no case has an object: there is nothing to be found, and nothing to be judged")
    known = all(judged.patients)
    groups = np.asarray([p or f"case {c}" for p, c in zip(judged.patients, judged.cases, strict=True)])
    metrics = _precision(judged, groups, seed) | _free_response(judged, groups, seed)
    if point is not None:
        metrics |= _decided(judged, groups, point.threshold)
    data: dict[str, Json] = {
        "schema_version": 1, "task": "detect", "model": model, "n_cases": len(judged.cases),
        "n_patients": len(set(groups)) if known else None,
        "unit_of_interval": "patient" if known else "case (no patient is known)",
        "classes": list(judged.classes), "metrics": metrics,
        "operating_point": None if point is None else point.as_json(),
        "subgroups": _by_size(judged, groups), "exchangeable": None, "not_for_clinical_use": True,
        "hit": f"overlap {_SHARED_2D if judged.flat else _SHARED_3D:g}",
    }  # fmt: skip
    return Evaluation(data, _curves(judged), _rows(judged, None if point is None else point.threshold))


def _precision(judged: Judged, groups: Array, seed: int) -> dict[str, Json]:
    """COCO's numbers."""
    found = [det.matched(judged.scans, k) for k in range(len(judged.classes))]

    def table(weights: Array) -> Array:
        return np.asarray([det.average_precision(one, weights) for one in found])

    chosen: dict[str, Callable[[Array], Array]] = {
        "map50": lambda t: t[:, 0], "map75": lambda t: t[:, 5], "map": lambda t: t.mean(axis=1),
        **{f"ap50/{name}": partial(_of_class, k) for k, name in enumerate(judged.classes)},
    }  # fmt: skip

    def values(weights: Array) -> Array:
        whole = table(weights)
        return np.asarray([_mean(pick(whole)) for pick in chosen.values()])

    found_here = _with_intervals(values, groups, seed)
    return {
        name: plain(one if np.isfinite(one.value) else replace(one, note="no object of this class"))
        for name, one in zip(chosen, found_here, strict=True)
    }


def _mean(values: Array) -> float:
    """Mean of what is a number; NaN of nothing."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _with_intervals(values: Callable[[Array], Array], groups: Array, seed: int) -> list[iv.Estimate]:
    """Several numbers and their intervals, from one set of resampled patients.

    Args:
        values: how often each case counts -> the numbers.
        groups: patient of each case.
        seed: of the draws.
    """
    rows: list[Array] = []

    def keep(index: Array) -> float:
        rows.append(values(np.bincount(index, minlength=len(groups)).astype(np.float64)))
        return 0.0

    note = iv.bootstrap(keep, groups, None, seed=seed, draws=_DRAWS)[0].note
    found = []
    for value, column in zip(rows[0], np.asarray(rows[1:]).reshape(-1, len(rows[0])).T, strict=True):
        drawn = column[np.isfinite(column)]
        ends = np.percentile(drawn, (2.5, 97.5)).tolist() if len(drawn) > 0.9 * _DRAWS else (None, None)
        found.append(iv.Estimate(float(value), ends[0], ends[1], note))
    return found


def _of_class(kind: int, table: Array) -> Array:
    return np.asarray(table[kind : kind + 1, 0])


def _free_response(judged: Judged, groups: Array, seed: int) -> dict[str, Json]:
    """Sensitivity at rates of false positives a scan, mean over the classes that have objects."""
    found = [one for k in range(len(judged.classes)) if (one := hits_of(judged, k)).objects.sum()]
    placed = judged.placed()
    centres = [one for k in range(len(judged.classes)) if (one := det.candidates(placed, k)).objects.sum()]

    def values(weights: Array) -> Array:
        curves, by_centre = (
            [det.free_response(one, weights) for one in some if (weights * one.objects).sum() > 0]
            for some in (found, centres)
        )
        rates = [_mean(np.asarray([curve.at(rate) for curve in curves])) for rate in det.RATES]
        return np.asarray([*rates, _mean(np.asarray([curve.mean for curve in by_centre]))])

    *rates, cpm = _with_intervals(values, groups, seed)
    answer = {f"sensitivity@{rate:g}": plain(one) for rate, one in zip(det.RATES, rates, strict=True)}
    note = cpm.note or "mean over 1/8 to 8 false positives a scan; a centre within the radius is a hit (LUNA16)"
    return {**answer, "froc_cpm": plain(replace(cpm, note=note))}


def _decided(judged: Judged, groups: Array, threshold: float) -> dict[str, Json]:
    """Sensitivity, precision and false positives a scan from the chosen score on."""
    hits: list[Array] = []
    owners: list[Array] = []
    right = wrong = 0
    for k in range(len(judged.classes)):
        found = hits_of(judged, k)
        sure = found.scores >= threshold
        right += int((found.hit[0] & sure).sum())
        wrong += int((sure & ~found.hit[0] & ~found.dropped[0]).sum())
        hits.append(found.found_at[0] >= threshold)
        owners.append(np.repeat(groups, found.objects))
    sensitivity = iv.proportion(np.concatenate(hits), np.concatenate(owners))
    answer = {"sensitivity": plain(_of_enough(sensitivity, groups))}
    if right + wrong:
        low, high = iv.wilson(right, right + wrong)
        one = iv.Estimate(right / (right + wrong), low, high, "each answer counts as one")
        answer["precision"] = plain(_of_enough(one, groups))
    answer["false_positives_per_scan"] = plain(iv.Estimate(wrong / len(judged.cases)))
    return answer


def _of_enough(found: iv.Estimate, groups: Array) -> iv.Estimate:
    """The same, without an interval where patients are too few for one: their objects are like each other."""
    count = len(set(groups))
    return found if count >= iv.LEAST_PATIENTS else iv.too_few(found.value, count)


def _by_size(judged: Judged, groups: Array) -> list[dict[str, Json]]:
    """Sensitivity at one false positive a scan for the small, middle and large thirds of the objects."""
    sizes, found = [], []
    for k in range(len(judged.classes)):
        one = hits_of(judged, k)
        if not one.objects.sum():
            continue
        least = det.free_response(one).score_at(1.0)
        found.append(one.found_at[0] >= least)
        sizes.append(
            np.concatenate([
                s[scan.classes[~scan.ignored] == k] for s, scan in zip(judged.sizes, judged.scans, strict=True)
            ])
        )  # fmt: skip
    every, hit = np.concatenate(sizes), np.concatenate(found)
    ends = np.quantile(every, (1 / 3, 2 / 3))
    third = np.searchsorted(ends, every, side="left")
    rows: list[dict[str, Json]] = []
    for number, name in enumerate(_SIZES):
        own = hit[third == number]
        if not len(own):
            continue
        rated = _of_enough(iv.Estimate(float(own.mean()), *iv.wilson(float(own.sum()), len(own))), groups)
        reach = every[third == number]
        rows.append({
            "column": "size", "level": f"{name} ({reach.min():.3g} to {reach.max():.3g} {judged.unit})",
            "n_cases": len(own), "metric": "sensitivity@1", "value": rated.value, "low": rated.low, "high": rated.high,
            "note": rated.note,
        })  # fmt: skip
    return rows


def _curves(judged: Judged) -> dict[str, Json]:
    """Free response and precision over recall of each class."""
    response, precision = [], []
    for k, name in enumerate(judged.classes):
        found = hits_of(judged, k)
        if not found.objects.sum():
            continue
        curve = det.free_response(found)
        response.append([name, thin(curve.rate, curve.sensitivity)])
        pairs = det.matched(judged.scans, k, thresholds=(0.5,))
        right, wrong = np.cumsum(pairs.hit[0]), np.cumsum(~pairs.hit[0] & ~pairs.dropped[0])
        precision.append([name, thin(right / pairs.objects.sum(), right / np.maximum(right + wrong, 1))])
    return {"free_response": response, "precision_recall": precision}


def _rows(judged: Judged, threshold: float | None) -> tuple[tuple[object, ...], ...]:
    """A row a case: objects, how many are found, and false answers from the chosen score on."""
    least = 0.5 if threshold is None else threshold
    rows: list[tuple[object, ...]] = [("case", "patient", "objects", "found", "missed", "false")]
    shared = _SHARED_2D if judged.flat else _SHARED_3D
    for case, patient, scan in zip(judged.cases, judged.patients, judged.scans, strict=True):
        objects = found = false = 0
        for k in range(len(judged.classes)):
            one = det.boxed([scan], k, overlap=shared)
            sure = one.scores >= least
            objects += int(one.objects[0])
            found += int((one.found_at[0] >= least).sum())
            false += int((sure & ~one.hit[0] & ~one.dropped[0]).sum())
        rows.append((case, patient, objects, found, objects - found, false))
    return tuple(rows)


def calibration_pairs(judged: Judged) -> tuple[Array, Array]:
    """Scores of all answers, and whether each is of an object; answers that count neither way are left out."""
    scores, truth = [], []
    for k in range(len(judged.classes)):
        found = hits_of(judged, k)
        counts = ~found.dropped[0]
        scores.append(found.scores[counts])
        truth.append(found.hit[0][counts])
    return np.concatenate(scores), np.concatenate(truth).astype(np.int64)


def best_score(judged: Judged) -> float:
    """The score at which twice the hits over answers and objects together is largest (F1), all classes as one.

    Raises: InputError where nothing is found.
    """
    scores, truth = calibration_pairs(judged)
    objects = sum(int((~scan.ignored).sum()) for scan in judged.scans)
    if not len(scores) or not truth.any():
        raise InputError("no object of the validation cases is found")
    order = np.argsort(-scores, kind="stable")
    right = np.cumsum(truth[order])
    f1 = 2 * right / (np.arange(1, len(order) + 1) + objects)
    best = int(np.argmax(f1))
    lower = scores[order][best + 1] if best + 1 < len(order) else 0.0
    return float((scores[order][best] + lower) / 2)
