"""Classes and values of whole images: promises, rows, judgement."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from isocenter.data.card import ModelCard
from isocenter.data.dataset import Dataset, Sample
from isocenter.data.design import Design
from isocenter.data.evaluation import Evaluation, Predictions
from isocenter.data.message import Message
from isocenter.errors import InputError
from isocenter.evaluation.judge import judge
from isocenter.evaluation.point import point_of
from isocenter.inference.model import NetworkModel, Spec
from isocenter.inference.predictor import CaseAnswer, Predictor, decided
from isocenter.metrics import reliability as rel
from isocenter.pipeline.image_material import Material
from isocenter.pipeline.outcomes.outcome import Judging, Outcome, Pictures, note_concerns, of_validation
from isocenter.report.gallery import drawn, shown
from isocenter.training.assemble import Promises, promise
from isocenter.training.images.course import Course
from isocenter.training.images.division import person_of
from isocenter.training.images.plan import Plan
from isocenter.training.images.store import Item, Store
from isocenter.types import Array


class Whole(Outcome):
    """What classes and values share."""

    def promised(
        self, card: ModelCard, found: Material, course: Course, wanted: Promises, source: str
    ) -> tuple[ModelCard, Evaluation]:
        """Calibration, operating point and prediction sets or intervals."""
        plan = course.plan
        design = _design(found, course.judged, plan)
        scores = np.asarray(course.final.scores, np.float64)
        calibration, conformal, point = promise(design, scores, wanted, seed=plan.seed, source=source)
        card = replace(card, calibration=calibration, conformal=conformal, operating_point=point)
        return card, _validation(design, scores, card, source, seed=plan.seed)

    def examples(self, course: Course, card: ModelCard) -> Pictures:
        """The cases that are judged worst, midway and best, with what is stated and what is said."""
        good, words = self._goodness(course, card)
        order = np.argsort(good, kind="stable")
        found = []
        for i in dict.fromkeys(int(order[round(q * (len(order) - 1))]) for q in (0, 0.05, 0.25, 0.5, 0.75, 1)):
            item = course.judged.items[i]
            found.append((f"{item.sample.case}: {words[i]}", self._picture(item)))
        return found

    def _picture(self, item: Item) -> bytes:
        return drawn(shown(item.image, item.image.shape[1] // 2), None, None)

    @abstractmethod
    def _goodness(self, course: Course, card: ModelCard) -> tuple[Array, list[str]]:
        """How good the answer of each case is, and stated and said in words."""

    def judged(self, predictor: Predictor, data: Dataset, how: Judging) -> Evaluation | Predictions:
        """Answers, as predictions."""
        found = self._answers(predictor, data, how)
        result = as_predictions(found, predictor.model)
        wanted = {name: values for name, values in result.groups.items() if name in how.subgroups}
        return replace(result, groups=wanted)

    def _require_known(self, data: Dataset, spec: Spec) -> None:
        """Refuse a truth that the model cannot say.

        Raises: InputError.
        """

    def _answers(self, predictor: Predictor, data: Dataset, how: Judging) -> list["Answered"]:
        from isocenter.pipeline.image_prediction import answers

        self._require_known(data, predictor.model.spec)
        everything = list(answers(predictor, data, on_progress=how.on_progress))
        rows: list[Answered] = []
        failed: list[CaseAnswer] = []
        for answer, sample in zip(everything, data.samples, strict=True):
            try:
                own = [] if answer.failed else answered(answer, sample)
                for row in own:
                    _require_said(row, predictor.model.spec)
            except InputError as error:
                answer = replace(answer, failed=str(error))  # noqa: PLW2901 - it has an answer, and no truth
            if answer.failed:
                failed.append(answer)
            else:
                rows += own
        if len(failed) == len(everything):
            raise InputError(f"no case could be predicted; the first: {failed[0].failed}")
        if failed:
            text = "{failed} of {all} cases have no answer and are not judged; the first: {why}"
            how.notes.append(Message(text, {"failed": len(failed), "all": len(everything), "why": failed[0].failed}))
        note_concerns(everything, how.notes)
        if not rows:
            raise InputError(f"{data.path}: no case states what is to be judged by")
        _note_measured(rows, predictor.model, how.notes)
        return rows


@dataclass(frozen=True, eq=False)
class Answered:
    """What is said and what is stated, of a case or of one of its frames."""

    name: str
    sample: Sample
    scores: Array
    stated: str
    frame: int | None = None

    @property
    def measured(self) -> bool:
        """Whether it is one of the frames that a scanner measured, of a loop whose others were made."""
        return str(self.frame) in self.sample.groups.get("real_frames", "").split(";")


def _note_measured(rows: Sequence[Answered], model: NetworkModel, notes: list[Message]) -> None:
    """How far off answers are at the measured frames of simulated loops, which alone tell something about patients."""
    real = [row for row in rows if row.measured]
    if not real:
        return
    if model.spec.task == "regress":
        error = float(np.mean([abs(float(row.scores[0]) - float(row.stated)) for row in real]))
        text = "At the {count} frames that were measured the mean absolute error is {error:.4g}; the others were made."
        notes.append(Message(text, {"count": len(real), "error": error}))
        return
    classes = model.spec.classes
    share = float(np.mean([classes[decided(row.scores, model)[0]] == row.stated for row in real]))
    text = "At the {count} frames that were measured {share:.0%} of the answers are right; the others were made."
    notes.append(Message(text, {"count": len(real), "share": share}))


def _require_said(row: Answered, spec: Spec) -> None:
    """Refuse a truth that is none.

    Raises: InputError.
    """
    if spec.task != "regress":
        return
    try:
        known = np.isfinite(float(row.stated))
    except ValueError:
        known = False
    if not known:
        raise InputError(f"{row.name}: states {row.stated!r}, which is no number")


def answered(answer: CaseAnswer, sample: Sample) -> list[Answered]:
    """An answer beside what is stated; of frames each that is labelled.

    Raises: InputError for labels of another number than frames.
    """
    assert answer.scores is not None, "an answer has scores"
    if answer.frames is None or answer.scores.ndim == 1:
        return [Answered(sample.case, sample, answer.scores, sample.target)]
    if len(sample.targets) != answer.count:
        raise InputError(f"{sample.case}: states {len(sample.targets)} labels for its {answer.count} frames")
    return [
        Answered(f"{sample.case}#{number}", sample, scores, sample.targets[number], int(number))
        for number, scores in zip(answer.frames, answer.scores, strict=True)
        if sample.targets[number]
    ]


class Classified(Whole):
    """One class of each image."""

    target, main = "class", ("auc", "accuracy")

    def columns(self, spec: Spec) -> tuple[str, ...]:
        """A probability of each class, the class that is decided for, the set."""
        return (*(f"p_{name}" for name in spec.classes), "predicted", "set")

    def cells(self, answer: CaseAnswer, model: NetworkModel) -> tuple[object, ...]:
        """The same of a case."""
        assert answer.scores is not None, "a class has scores"
        best, inside = decided(answer.scores, model)
        return (*(f"{p:.6f}" for p in answer.scores), model.spec.classes[best], "|".join(inside))

    def _goodness(self, course: Course, card: ModelCard) -> tuple[Array, list[str]]:
        classes, truth = course.plan.classes, [int(row.target) for row in course.judged.stated()]
        scores = rel.calibrated(np.asarray(course.final.scores, np.float64), card.calibration)
        words = [
            f"{classes[k]}; said: {classes[int(row.argmax())]} {row.max():.2f}"
            for row, k in zip(scores, truth, strict=True)
        ]
        return scores[np.arange(len(truth)), truth], words

    def _require_known(self, data: Dataset, spec: Spec) -> None:
        odd = sorted(set(data.classes()) - set(spec.classes))
        if odd:
            raise InputError(
                f"{data.path}: holds the class {odd[0]!r}, which the model does not know: {', '.join(spec.classes)}"
            )


class Valued(Whole):
    """One number of each image."""

    target, main = "value", ("mae",)

    def columns(self, spec: Spec) -> tuple[str, ...]:
        """The value and its interval."""
        return ("predicted", "low", "high")

    def cells(self, answer: CaseAnswer, model: NetworkModel) -> tuple[object, ...]:
        """The same of a case."""
        assert answer.scores is not None, "a value has a score"
        value, reach = float(answer.scores[0]), model.card.conformal.get("reach")
        ends = ("", "") if reach is None else (f"{value - float(reach):.6g}", f"{value + float(reach):.6g}")
        return (f"{value:.6g}", *ends)

    def _goodness(self, course: Course, card: ModelCard) -> tuple[Array, list[str]]:
        scores = np.asarray(course.final.scores, np.float64)
        truth = np.asarray([row.target for row in course.judged.stated()])
        return -np.abs(scores - truth), [f"{t:g}; said: {s:.4g}" for t, s in zip(truth, scores, strict=True)]


def _design(found: Material, val: Store, plan: Plan) -> Design:
    rows = val.stated()
    samples = [row.item.sample for row in rows]
    known = found.data.known_patients
    return Design(
        plan.task,
        tuple(row.name for row in rows),
        tuple(person_of(s) for s in samples),
        (),
        np.zeros((len(samples), 0)),
        np.asarray([row.target for row in rows]),
        tuple(plan.classes),
        known,
        groups={name: tuple(s.groups.get(name, "") for s in samples) for name in samples[0].groups},
    )


def _validation(design: Design, scores: Any, card: ModelCard, source: str, *, seed: int) -> Evaluation:
    """The validation cases; calibration was fitted on them, so calibration is not judged."""
    shown = rel.calibrated(scores, card.calibration) if design.task == "classify" else scores
    found = Predictions(
        design.task,
        design.cases,
        design.patients,
        design.known_patients,
        design.target.astype(int) if design.task == "classify" else design.target,
        shown,
        design.classes,
        name=card.model,
    )
    evaluation = judge(found, point=point_of(card.operating_point), seed=seed)
    told = of_validation(evaluation, card, source, "calibration and threshold were chosen on them")
    return replace(told, data={**told.data, "calibrated": False})


def as_predictions(found: Sequence[Answered], model: NetworkModel) -> Predictions:
    """Answers of classes or values as the judges take them; every one must have been given."""
    card, spec = model.card, model.spec
    samples = [row.sample for row in found]
    scores = np.stack([np.asarray(row.scores) for row in found])
    sets: object = None
    if spec.task == "classify":
        quantiles = card.conformal.get("quantiles")
        if quantiles:
            sets = rel.prediction_sets(scores, [float("inf") if q is None else float(q) for q in quantiles])
        truth: Array = np.asarray([spec.classes.index(row.stated) for row in found])
    else:
        scores = scores[:, 0]
        reach = card.conformal.get("reach")
        if reach is not None:
            sets = np.column_stack((scores - float(reach), scores + float(reach)))
        truth = np.asarray([float(row.stated) for row in found])
    known = all(s.patient for s in samples)
    groups = {name: tuple(s.groups.get(name, "") for s in samples) for name in samples[0].groups}
    return Predictions(
        spec.task,
        tuple(row.name for row in found),
        tuple(s.patient or f"case {s.case}" for s in samples),
        known,
        truth,
        scores,
        spec.classes,
        sets=sets,
        groups=groups,
        name=card.model,
    )
