"""Objects through `train`, `predict` and `evaluate`: what a card promises of them, files of boxes, judgement."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from isocenter.data.card import ModelCard
from isocenter.data.dataset import Dataset, Sample
from isocenter.data.evaluation import Evaluation
from isocenter.data.geometry import Geometry, Space
from isocenter.data.message import Message
from isocenter.data.objects import Boxed, components_of
from isocenter.data.provenance import Json
from isocenter.data.volume import Volume
from isocenter.errors import DegenerateImage, InputError
from isocenter.evaluation.objects import Judged, best_score, calibration_pairs, judge_objects
from isocenter.evaluation.point import OperatingPoint, point_of
from isocenter.formats.delimited import csv_text
from isocenter.inference.model import NetworkModel, Spec
from isocenter.inference.placed import boxed
from isocenter.inference.predictor import CaseAnswer, Predictor
from isocenter.metrics import reliability as rel
from isocenter.metrics.detection import Scan
from isocenter.networks.detector import Found
from isocenter.ops.boxes import overlaps
from isocenter.pipeline.image_material import Material
from isocenter.pipeline.images import read_case
from isocenter.pipeline.outcomes.outcome import (
    PICTURES,
    Judging,
    Outcome,
    Pictures,
    each_judged,
    of_validation,
)
from isocenter.report.gallery import Worst, boxes_picture
from isocenter.training.assemble import Promises
from isocenter.training.images.course import Course
from isocenter.training.images.store import Store
from isocenter.training.images.tasks.objects import OBJECT, scan_of
from isocenter.types import Array, Triple

DETECTIONS = "detections.json"
_LEAST_ANSWERS = 30


class FoundObjects(Outcome):
    """Boxes (and masks) of what is in each image."""

    target, main = "objects", ("map50",)

    def promised(
        self, card: ModelCard, found: Material, course: Course, wanted: Promises, source: str
    ) -> tuple[ModelCard, Evaluation]:
        """Calibrated scores, and the one from which an object counts."""
        judged = judged_validation(course, course.judged)
        calibration, point, evaluation = promised_objects(judged, seed=course.plan.seed, source=source)
        card = replace(card, calibration=calibration, operating_point=point)
        return card, of_validation(evaluation, card, source, "threshold and calibration were chosen on them")

    def examples(self, course: Course, card: ModelCard) -> Pictures:
        """Some cases with the boxes that are stated and the surer half of those that are found."""
        val = course.judged
        chosen = dict.fromkeys(np.linspace(0, len(val) - 1, min(6, len(val))).round().astype(int).tolist())
        found = []
        for i in chosen:
            item, said = val.items[i], course.final.found[i]
            assert item.objects is not None, "a detection has objects"
            boxes = said.boxes[said.scores >= 0.5]
            picture = boxes_picture(np.asarray(item.image), item.objects.boxes, boxes)
            found.append((f"{item.sample.case}: {len(item.objects)} stated (dashed), {len(boxes)} found", picture))
        return found

    def columns(self, spec: Spec) -> tuple[str, ...]:
        """How many of each class are decided for."""
        return tuple(f"n_{name}" for name in spec.classes)

    def cells(self, answer: CaseAnswer, model: NetworkModel) -> tuple[object, ...]:
        """The same of a case."""
        assert answer.found is not None, "a detector finds objects"
        kinds = answer.found.classes[decided_objects(answer.found, model.card)]
        return tuple(int((kinds == k).sum()) for k in range(len(model.spec.classes)))

    def keep_together(self, answers: Sequence[CaseAnswer], model: NetworkModel, folder: Path, data: Dataset) -> None:
        """`detections.json` of pictures, `<case>.csv` of volumes."""
        write_objects(answers, model.spec, model.card, folder, data=data)

    def judged(self, predictor: Predictor, data: Dataset, how: Judging) -> Evaluation:
        """Objects beside those that are stated, case by case."""
        spec, card = predictor.model.spec, predictor.model.card
        plan: dict[str, Any] = dict(card.lineage.get("plan") or {})
        worst = Worst(PICTURES)
        rows: list[tuple[Sample, Scan, Array]] = []
        least = float(card.operating_point.get("threshold", 0.5))
        spacings: list[Triple | None] = []

        def one(sample: Sample) -> tuple[CaseAnswer, tuple[Volume, Boxed]]:
            volume, stated = stated_objects(sample, plan, spec)
            how.notes.extend(Message("{case}: {why}", {"case": sample.case, "why": text}) for text in stated.left_out)
            return predictor(volume, sample.case, sample.groups), (volume, stated)

        for sample, answer, (volume, stated) in each_judged(data, how, one):
            assert answer.found is not None, "a detector finds objects"
            spacing = None if volume.geometry.space is Space.PIXELS else volume.geometry.spacing_mm
            spacings.append(spacing)
            scan = scan_of(stated, answer.found)
            rows.append((sample, scan, sizes_of(scan, spacing, flat=spec.flat)))
            wrong = _wrong(scan, least)
            worst.offer(
                sample.case, -float(wrong),
                lambda v=volume, s=stated, f=answer.found: boxes_picture(v, s.boxes, f.boxes[f.scores >= least]),  # type: ignore[misc]
            )  # fmt: skip
        judged = Judged(
            tuple(s.case for s, _, _ in rows), tuple(s.patient for s, _, _ in rows), tuple(scan for _, scan, _ in rows),
            spec.classes, tuple(size for _, _, size in rows), "voxels" if None in spacings else "mm", spec.flat,
            () if None in spacings else tuple(s for s in spacings if s is not None),
        )  # fmt: skip
        found = judge_objects(judged, model=card.model, point=point_of(card.operating_point), seed=how.seed)
        return replace(found, pictures=_titled(worst))


def judged_validation(course: Course, val: Store) -> Judged:
    """What the networks found in the validation cases, on their own grid."""
    plan = course.plan
    spacing = plan.preparation.spacing_mm
    scans = tuple(scan_of(item.objects, found) for item, found in zip(val.items, course.final.found, strict=True))
    sizes = tuple(sizes_of(scan, spacing, flat=plan.preparation.dims == 2) for scan in scans)
    samples = [item.sample for item in val.items]
    return Judged(
        tuple(s.case for s in samples), tuple(s.patient for s in samples), scans, tuple(plan.classes), sizes,
        "voxels" if spacing is None else "mm", plan.preparation.dims == 2,
        () if spacing is None or len(spacing) != 3 else (spacing,) * len(scans),
    )  # fmt: skip


def promised_objects(judged: Judged, *, seed: int, source: str) -> tuple[dict[str, Json], dict[str, Json], Evaluation]:
    """Calibration of the scores, the score that decides, and the judgement of the validation cases."""
    scores, truth = calibration_pairs(judged)
    calibration: dict[str, Json] = {"method": "none"}
    point: dict[str, Json] = {}
    chosen = None
    if len(scores) >= _LEAST_ANSWERS and 0 < truth.sum() < len(truth):
        try:
            calibration = {"method": "platt", **rel.platt(truth, scores), "chosen_on": source}
        except DegenerateImage:
            calibration = {"method": "none"}
    sure = replace(judged, scans=tuple(calibrated_scan(scan, calibration) for scan in judged.scans))
    if truth.any():
        chosen = OperatingPoint(best_score(sure), "largest F1", source)
        point = chosen.as_json()
    return calibration, point, judge_objects(sure, model="", point=chosen, seed=seed)


def calibrated_scan(scan: Scan, how: dict[str, Json]) -> Scan:
    """The same with calibrated scores."""
    if not len(scan.scores):
        return scan
    pairs = np.column_stack((1 - scan.scores, scan.scores))
    return replace(scan, scores=rel.calibrated(pairs, how)[:, 1])


def sizes_of(scan: Scan, spacing_mm: Sequence[float] | None, *, flat: bool) -> Array:
    """Edge (geometric mean) of each object that counts, in mm, or in voxels; of pictures (`flat`), in their plane."""
    edges = (scan.boxes[:, 1] - scan.boxes[:, 0])[~scan.ignored]
    edges = edges * np.asarray(spacing_mm) if spacing_mm is not None else edges
    own = edges[:, 1:] if flat else edges
    return np.asarray(np.exp(np.log(np.maximum(own, 1e-6)).mean(axis=1)))


# ---- predict ------------------------------------------------------------------------------------------------------


def decided_objects(found: Found, card: ModelCard) -> Array:
    """Numbers of the objects that are decided for."""
    return np.flatnonzero(found.scores >= float(card.operating_point.get("threshold", 0.5)))


def write_objects(
    answers: Sequence[CaseAnswer], spec: Spec, card: ModelCard, folder: Path, *, data: Dataset | None = None
) -> None:
    """`detections.json` in COCO's form for pictures, a CSV of boxes in mm (or voxels) for each volume.

    Args:
        answers: with what was found.
        spec: of the model.
        card: of the model.
        folder: exists.
        data: whose numbers of images and categories are used, where it has them; else cases and the classes from 1 on.
    """
    numbers = {} if data is None else _image_numbers(data)
    categories = _category_numbers(spec, {} if data is None else data.categories)
    rows: list[dict[str, Json]] = []
    for answer in answers:
        if answer.found is None or answer.geometry is None:
            continue
        if spec.flat:
            rows += _coco_rows(answer, spec, numbers.get(answer.case, answer.case), categories)
        else:
            path = folder / f"{answer.case}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(boxes_text(answer.found, answer.geometry, spec, card), "utf-8")
    if spec.flat:
        (folder / DETECTIONS).write_text(json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False), "utf-8")


def _image_numbers(data: Dataset) -> dict[str, int | str]:
    """The data set's own number of each case; none where one number stands for several, as in splits of their own."""
    numbers = {s.case: s.number for s in data.samples if s.number is not None}
    return numbers if len(set(numbers.values())) == len(data.samples) else {}


def _category_numbers(spec: Spec, stated: Mapping[str, int]) -> dict[str, int]:
    """The data set's own number of each class; of one that it does not know, the next that is free."""
    found = {name: stated[name] for name in spec.classes if name in stated}
    free = (n for n in count(1) if n not in {*stated.values()})
    return {name: found[name] if name in found else next(free) for name in spec.classes}


def _coco_rows(
    answer: CaseAnswer, spec: Spec, number: int | str, categories: Mapping[str, int]
) -> list[dict[str, Json]]:
    found = answer.found
    assert found is not None, "asked for only with objects"
    rows: list[dict[str, Json]] = []
    for box, score, kind in zip(found.boxes, found.scores, found.classes, strict=True):
        (_, y0, x0), (_, y1, x1) = box.tolist()
        rows.append({
            "image_id": number, "case": answer.case,
            "category_id": categories[spec.classes[int(kind)]], "category": spec.classes[int(kind)],
            "bbox": [round(x0, 2), round(y0, 2), round(x1 - x0, 2), round(y1 - y0, 2)], "score": round(float(score), 6),
        })  # fmt: skip
    return rows


def boxes_text(found: Found, geometry: Geometry, spec: Spec, card: ModelCard) -> str:
    """A row an object: class, score, whether it is decided for, middle and edges in patient mm (or voxels)."""
    units = "voxel" if geometry.space is Space.PIXELS else "mm"
    head = ("class", "score", "decided", *(f"{axis}_{units}" for axis in "xyz"),
            *(f"{edge}_{units}" for edge in ("depth", "height", "width")))  # fmt: skip
    sure = set(decided_objects(found, card).tolist())
    rows: list[tuple[object, ...]] = [head]
    for number, (box, score, kind) in enumerate(zip(found.boxes, found.scores, found.classes, strict=True)):
        middle, edges = box.mean(axis=0), box[1] - box[0]
        if units == "mm":
            place = (geometry.affine @ np.append(middle - 0.5, 1.0))[:3]
            edges = edges * np.asarray(geometry.spacing_mm)
        else:
            place = middle[::-1]
        rows.append((
            spec.classes[int(kind)], f"{score:.6f}", "yes" if number in sure else "no",
            *(f"{v:.2f}" for v in place), *(f"{v:.2f}" for v in edges),
        ))  # fmt: skip
    return csv_text(rows)


# ---- evaluate -----------------------------------------------------------------------------------------------------


def stated_objects(sample: Sample, plan: dict[str, Any], spec: Spec) -> tuple[Any, Boxed]:
    """The image of a case and the objects that are stated of it, in its own voxels.

    Raises: InputError for a class that the model does not know, or a case that nobody marked.
    """
    loaded = read_case(sample)
    volume, labels = loaded.image, loaded.labels
    if labels is not None:
        named = {int(value): str(name) for value, name in (plan.get("labels") or {}).items()}
        there = sorted({int(v) for v in np.unique(labels.voxels) if v})
        kinds = {value: named.get(value, OBJECT) for value in there}
        odd = next((value for value, kind in kinds.items() if kind not in spec.classes), None)
        if odd is not None:
            raise InputError(f"its reference holds the label value {odd}, which the model does not know")
        boxes, classes, pieces = components_of(labels.voxels, {v: spec.classes.index(k) for v, k in kinds.items()})
        return volume, Boxed(boxes, classes, np.zeros(len(classes), np.bool_), pieces)
    if sample.objects is None:
        raise InputError("has no objects marked, and is not marked as empty")
    return volume, boxed(sample.objects, spec.classes, volume.geometry)


def _titled(worst: Worst) -> tuple[tuple[str, bytes], ...]:
    return tuple((f"{case}: {-value:.0f} missed or false", png) for value, case, png in worst.kept)


def _wrong(scan: Scan, least: float) -> int:
    """Objects that are missed and answers that are false, whatever their class."""
    sure = np.flatnonzero(scan.scores >= least)
    shared = (
        overlaps(scan.found[sure], scan.boxes)
        if len(sure) and len(scan.boxes)
        else np.zeros((len(sure), len(scan.boxes)))
    )
    same = scan.found_classes[sure][:, None] == scan.classes[None] if shared.size else shared.astype(bool)
    good = (shared >= 0.1) & same
    missed = int((~good.any(axis=0) & ~scan.ignored).sum()) if len(scan.boxes) else 0
    return missed + int((~good.any(axis=1)).sum()) if len(sure) else missed
