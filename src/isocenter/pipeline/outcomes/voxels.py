"""Label maps: promised volumes, files on the input's own grid, judgement by case."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from isocenter.data.card import ModelCard
from isocenter.data.dataset import Dataset, Sample
from isocenter.data.evaluation import Evaluation
from isocenter.data.geometry import Space
from isocenter.data.labels import LabelMap
from isocenter.data.message import Message
from isocenter.data.provenance import Json
from isocenter.data.volume import Volume
from isocenter.errors import InputError
from isocenter.evaluation.segmented import Compared, compare_labels, judge_segmentations
from isocenter.formats import nifti
from isocenter.inference.answers import segmented, windows_of
from isocenter.inference.model import NetworkModel, Spec
from isocenter.inference.predictor import CaseAnswer, Predictor
from isocenter.inference.torch_runtime import TorchRuntime
from isocenter.pipeline.image_material import Material
from isocenter.pipeline.images import read_case
from isocenter.pipeline.masks import MISSING_MM, TOLERANCE_MM
from isocenter.pipeline.outcomes.outcome import (
    PICTURES,
    Judging,
    Outcome,
    Pictures,
    each_judged,
)
from isocenter.pipeline.page import CASES
from isocenter.report.gallery import Worst, contours, drawn, shown, worst_pictures
from isocenter.training.assemble import ALL_LABELS, Promises, promised_volumes
from isocenter.training.images.course import Course
from isocenter.training.images.division import person_of
from isocenter.training.images.store import Store
from isocenter.types import Triple
from isocenter.version import __version__

DOUBT = "uncertainty"
"""Folder of the maps of uncertainty."""


class Segmented(Outcome):
    """A label of each voxel."""

    target, main = "labels", ("dice",)

    def promised(
        self, card: ModelCard, found: Material, course: Course, wanted: Promises, source: str
    ) -> tuple[ModelCard, Evaluation]:
        """How far volumes may be off."""
        volumes, val, plan = course.final.volumes, course.judged, course.plan
        people = [person_of(item.sample) for item in val.items]
        assert volumes is not None, "a segmentation has volumes"
        names = (*plan.labels.values(), ALL_LABELS)
        reach = promised_volumes(volumes, names, people, coverage=wanted.coverage, seed=plan.seed, source=source)
        card = replace(card, conformal=reach)
        return card, _summary(course, val, card, source)

    def examples(self, course: Course, card: ModelCard) -> Pictures:
        """Cases as the network sees them: the worst, the middle and the best, with both label maps."""
        order = np.argsort(course.final.each)
        chosen = dict.fromkeys(int(order[round(q * (len(order) - 1))]) for q in (0, 0.1, 0.35, 0.5, 0.75, 1))
        spec = course.plan.spec
        found = []
        for i in chosen:
            item, forward = course.judged.items[i], TorchRuntime(course.judges[i], precision=course.plan.precision)
            said = segmented(forward, np.asarray(item.image), spec, windows_of(spec, overlap=0.25, flips=False))
            assert item.mask is not None, "a segmentation has masks"
            slice_number = int((item.mask != said).sum(axis=(1, 2)).argmax())
            grey = shown(item.image[:1], slice_number)
            title = f"{item.sample.case}: Dice {course.final.each[i]:.3f}"
            found.append((title, drawn(grey, item.mask[slice_number], said[slice_number])))
        return found

    def keep(self, answer: CaseAnswer, model: NetworkModel, folder: Path) -> CaseAnswer:
        """`<case>.nii.gz`, and `uncertainty/<case>.nii.gz` where it was asked for."""
        assert answer.labels is not None, "a segmentation has labels"
        target = folder / f"{answer.case}.nii.gz"
        target.parent.mkdir(parents=True, exist_ok=True)
        nifti.write(answer.labels, target)
        if answer.doubt is not None:
            (folder / DOUBT / answer.case).parent.mkdir(parents=True, exist_ok=True)
            nifti.write(answer.doubt, folder / DOUBT / f"{answer.case}.nii.gz")
        return replace(answer, labels=None, doubt=None)

    def judged(self, predictor: Predictor, data: Dataset, how: Judging) -> Evaluation:
        """Label maps beside those that are stated, case by case."""
        spec = predictor.model.spec
        _require_same_names(data, spec)
        stated = predictor.model.card.lineage.get("plan") or {}
        missing_mm = float(stated.get("missing_mm", MISSING_MM))
        tolerance_mm = float(stated.get("tolerance_mm", TOLERANCE_MM))
        compared: list[Compared] = []
        worst = Worst(PICTURES)
        partition = spec.flat and len(spec.labels) == 1 and all(len(s.images) == 1 for s in data.samples)

        def one(sample: Sample) -> tuple[CaseAnswer, tuple[Volume, LabelMap]]:
            loaded = read_case(sample)
            if loaded.labels is None:
                raise InputError("has no label map")
            _require_known(loaded.labels, spec)
            return predictor(loaded.image, sample.case, sample.groups), (loaded.image, loaded.labels)

        for sample, answer, (volume, truth) in each_judged(data, how, one):
            assert answer.labels is not None, "a segmentation has labels"
            row = compare_labels(
                answer.labels.voxels,
                truth.voxels,
                spec.labels,
                spacing_mm=spacing_of(volume),
                tolerance_mm=tolerance_mm,
                case=sample.case,
                patient=sample.patient,
                partition=partition and volume.geometry.shape[0] == 1,
            )
            compared.append(row)
            worst.offer(
                sample.case,
                row.dice,
                lambda v=volume, p=answer.labels, t=truth: contours(v, p.voxels, t.voxels),  # type: ignore[misc]
            )
        evaluation = judge_segmentations(
            compared,
            tuple(spec.labels.values()),
            model=predictor.model.card.model,
            missing_mm=missing_mm,
            tolerance_mm=tolerance_mm,
            seed=how.seed,
        )
        return replace(evaluation, pictures=worst_pictures(worst))


def _require_known(truth: LabelMap, spec: Spec) -> None:
    """Refuse a reference with a label that the model cannot say.

    Raises: InputError.
    """
    odd = sorted({lb.value for lb in truth.labels if (truth.voxels == lb.value).any()} - set(spec.labels))
    if odd:
        raise InputError(f"its reference holds the label value {odd[0]}, which the model does not know")


def _require_same_names(data: Dataset, spec: Spec) -> None:
    """Refuse a data set that calls a label otherwise than the model does.

    Raises: InputError.
    """
    for value, name in data.labels.items():
        own = spec.labels.get(value)
        if own is not None and own.strip().lower() != name.strip().lower() and own != str(value):
            raise InputError(
                f"{data.path}: calls the label {value} {name!r}, and the model {own!r}: bring the values into one order"
            )


def spacing_of(volume: Volume | LabelMap) -> Triple | None:
    """Spacing in mm; None where there are no millimetres."""
    return None if volume.geometry.space is Space.PIXELS else volume.geometry.spacing_mm


def _summary(course: Course, val: Store, card: ModelCard, source: str) -> Evaluation:
    over = "folds" if source == "out-of-fold" else "validation cases"
    metrics: dict[str, Json] = {
        name: {"value": value, "low": None, "high": None, "note": f"mean over {over}"}
        for name, value in course.final.metrics.items() if np.isfinite(value)
    }  # fmt: skip
    assert course.final.volumes is not None, "a segmentation has volumes"
    names = [f"volume_difference/{name}" for name in course.plan.labels.values()]
    rows: list[tuple[object, ...]] = [("case", "dice", *names)]
    for item, own, sizes in zip(val.items, course.final.each, course.final.volumes, strict=True):
        away = [round((said - stated) / stated, 5) if stated else "" for stated, said in sizes[:-1].tolist()]
        rows.append((item.sample.case, round(own, 5), *away))
    data: dict[str, Json] = {
        "schema_version": 1,
        "task": "segment",
        "model": card.model,
        "n_cases": len(val),
        "n_patients": None,
        "split": source,
        "unit_of_interval": "none",
        "classes": [],
        "metrics": metrics,
        "operating_point": None,
        "subgroups": [],
        "exchangeable": None,
        "not_for_clinical_use": True,
        "cases": CASES,
        "isocenter": __version__,
    }
    note = "Validation cases, on the network's own grid; `isocenter evaluate` judges test cases on theirs."
    return Evaluation(data, {}, tuple(rows)).noted([Message(note)])
