"""Unusual images: distances and maps, judgement beside what is stated to be normal."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from isocenter.data.card import ModelCard
from isocenter.data.dataset import Dataset
from isocenter.data.evaluation import Evaluation, Predictions
from isocenter.data.message import Message
from isocenter.data.provenance import Json
from isocenter.errors import DegenerateImage, InputError
from isocenter.evaluation.judge import judge
from isocenter.evaluation.point import OperatingPoint
from isocenter.formats import nifti
from isocenter.inference.model import NetworkModel, Spec
from isocenter.inference.predictor import CaseAnswer, Predictor
from isocenter.inference.unusual import SHARE, as_score, distances, learn_usual, quantiles_of, rebuilt, threshold_of
from isocenter.pipeline.image_material import Material
from isocenter.pipeline.outcomes.outcome import (
    Judging,
    Outcome,
    Pictures,
    note_concerns,
    of_validation,
    require_some,
)
from isocenter.pipeline.page import UNKNOWN_PATIENTS
from isocenter.report.gallery import beside
from isocenter.training.assemble import Promises
from isocenter.training.images.course import Course
from isocenter.training.images.division import person_of
from isocenter.training.images.plan import Plan
from isocenter.training.images.tasks.makers import stacked
from isocenter.training.images.tasks.normal import unusual_of
from isocenter.types import Array

HEAT = "heat"
"""Folder of the maps."""
_KINDS = ("usual", "unusual")
_METRICS = ("auc", "recall", "specificity", "precision", "negative_predictive_value", "balanced_accuracy", "f1", "mcc",
            "pr_auc", "accuracy")  # fmt: skip


class Unusual(Outcome):
    """How unusual each image is."""

    target, main = "unusual", ("normal_loss",)

    def promised(
        self, card: ModelCard, found: Material, course: Course, wanted: Promises, source: str
    ) -> tuple[ModelCard, Evaluation]:
        """What is usual, by the training cases; from where on an image is not, by normal validation cases."""
        plan, val, learnt = course.plan, course.judged, course.learnt
        assert learnt is not None, "a training has cases"
        for network in course.networks:
            learn_usual(network, stacked(learnt))
        far, odd = distances(course.networks[0], stacked(val)), unusual_of(val, plan)
        if odd.all():
            raise InputError("no validation case is normal: from where on a case is unusual cannot be chosen")
        usual = quantiles_of(far[~odd])
        card = replace(
            card, training={**card.training, "usual_distances": usual, "normal": _normal(plan, found.train)},
            operating_point={
                "threshold": SHARE, "criterion": f"{SHARE:.0%} of normal cases are usual", "chosen_on": source,
            },
        )  # fmt: skip
        samples = [item.sample for item in val.items]
        names = tuple(s.case for s in samples), tuple(person_of(s) for s in samples)
        known = all(s.patient for s in samples)
        evaluation = _judged(names, known, odd, far, card, seed=plan.seed)
        chosen = "the threshold was chosen on the normal ones among them"
        return card, of_validation(evaluation, card, source, chosen)

    def examples(self, course: Course, card: ModelCard) -> Pictures:
        """The least unusual cases, the most unusual, and some between: the image, built again, and itself."""
        images = stacked(course.judged)
        far = distances(course.networks[0], images)
        order = np.argsort(far)
        found = []
        for i in dict.fromkeys(int(order[round(q * (len(order) - 1))]) for q in (0, 0.25, 0.5, 0.75, 0.95, 1)):
            image = images[i]
            again = rebuilt(course.networks[0], image[None])[0]
            shown = [np.asarray(v if v.ndim == 4 else v[:, None]) for v in (image, again, image)]
            sample = course.judged.items[i].sample
            found.append(
                (f"{sample.case}: {sample.target} distance {far[i]:.3g}", beside(shown[0], shown[1], shown[2]))
            )
        return found

    def columns(self, spec: Spec) -> tuple[str, ...]:
        """The distance, the share of normal validation images that are less unusual, and what is decided."""
        return ("distance", "share_less_unusual", "predicted")

    def cells(self, answer: CaseAnswer, model: NetworkModel) -> tuple[object, ...]:
        """The same of a case."""
        assert answer.scores is not None, "an image has a distance"
        far, share = (float(v) for v in answer.scores)
        return (f"{far:.6g}", f"{share:.4f}", _KINDS[int(far > threshold_of(model.card))])

    def keep(self, answer: CaseAnswer, model: NetworkModel, folder: Path) -> CaseAnswer:
        """`heat/<case>.nii.gz`, on the image's own grid."""
        assert answer.heat is not None, "an image has a map"
        target = folder / HEAT / f"{answer.case}.nii.gz"
        target.parent.mkdir(parents=True, exist_ok=True)
        nifti.write(answer.heat, target)
        return replace(answer, heat=None)

    def judged(self, predictor: Predictor, data: Dataset, how: Judging) -> Evaluation:
        """Distances beside what is stated to be normal.

        Raises: InputError where no class is stated.
        """
        from isocenter.pipeline.image_prediction import answers

        card = predictor.model.card
        normal = str(card.training.get("normal") or "")
        if not normal:
            raise InputError(
                "the model's card names no normal class, so nothing can be judged: train it on a folder named after "
                "that class, or name the class with --normal"
            )
        unnamed = [s.case for s in data.samples if not s.target]
        if unnamed:
            raise InputError(f"{data.path}: {unnamed[0]} states no class: what is normal must be known to judge by it")
        everything = list(answers(predictor, data, on_progress=how.on_progress))
        rows = [(a, s) for a, s in zip(everything, data.samples, strict=True) if a.scores is not None]
        require_some(rows, [f"{a.case}: {a.failed}" for a in everything if a.failed], data, how.notes)
        note_concerns(everything, how.notes)
        samples = [s for _, s in rows]
        if not all(s.patient for s in samples):
            how.notes.append(UNKNOWN_PATIENTS)
        odd = np.asarray([s.target != normal for s in samples])
        far = np.asarray([float(np.asarray(a.scores)[0]) for a, _ in rows])
        how.notes.append(
            Message("A distance is no probability: it tells how unlike the normal training images an image is.")
        )
        names = tuple(s.case for s in samples), tuple(person_of(s) for s in samples)
        return _judged(names, all(s.patient for s in samples), odd, far, card, seed=how.seed)


def _normal(plan: Plan, learnt: Dataset) -> str:
    """The class that was learnt from: the one that the plan names, or the only one there."""
    there = learnt.classes()
    return plan.normal or (there[0] if len(there) == 1 else "")


def _judged(
    names: tuple[tuple[str, ...], tuple[str, ...]], known: bool, odd: Array, far: Array, card: ModelCard, *, seed: int
) -> Evaluation:
    """What a distance is worth as a test of what is normal."""
    scores = as_score(far, threshold_of(card))
    found = Predictions(
        "classify", *names, known, odd.astype(np.int64), np.column_stack((1 - scores, scores)), _KINDS, name=card.model
    )
    try:
        evaluation = judge(found, point=OperatingPoint(0.5, f"{SHARE:.0%} of normal cases", "validation"), seed=seed)
    except DegenerateImage:
        return _of_one_kind(names, odd, far, card)
    data: dict[str, Json] = {
        **evaluation.data, "task": "anomaly",
        "metrics": {k: v for k, v in evaluation.data["metrics"].items() if k in _METRICS},
    }  # fmt: skip
    data.pop("brier_parts", None)
    curves = {k: v for k, v in evaluation.curves.items() if k in ("roc", "pr")}
    rows = [(*evaluation.rows[0], "distance"), *((*r, float(f)) for r, f in zip(evaluation.rows[1:], far, strict=True))]
    return replace(evaluation, data=data, curves=curves, rows=tuple(rows))


def _of_one_kind(names: tuple[tuple[str, ...], tuple[str, ...]], odd: Array, far: Array, card: ModelCard) -> Evaluation:
    """Only normal cases are there, or none: how many of them are called unusual."""
    share = float(np.mean(far > threshold_of(card)))
    name, note = ("recall", "no normal case is there") if odd.all() else (
        "false_alarms", "no class but the normal one is there"
    )  # fmt: skip
    data: dict[str, Json] = {
        "schema_version": 1, "task": "anomaly", "model": card.model, "n_cases": len(far), "n_patients": None,
        "split": None, "unit_of_interval": "none", "classes": [], "operating_point": None, "subgroups": [],
        "exchangeable": None, "not_for_clinical_use": True,
        "metrics": {name: {"value": share, "low": None, "high": None, "note": note}},
    }  # fmt: skip
    rows = [("case", "patient", "distance"), *zip(names[0], names[1], far.tolist(), strict=True)]
    return Evaluation(data, {}, tuple(rows))
