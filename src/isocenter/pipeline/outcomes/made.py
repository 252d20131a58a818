"""New images: judged by likeness, by copies, and by what a classifier learns from them."""

from collections.abc import Sequence
from dataclasses import replace

from isocenter.data.card import ModelCard
from isocenter.data.dataset import Dataset
from isocenter.data.evaluation import Evaluation
from isocenter.data.message import Message
from isocenter.evaluation.synthetic import MadeImages, judge_made
from isocenter.inference.making import classes_for, features_of, made
from isocenter.inference.predictor import Predictor
from isocenter.metrics.synthetic import copies
from isocenter.ops.memory import free_bytes
from isocenter.pipeline.image_material import Material
from isocenter.pipeline.images import read_case
from isocenter.pipeline.lessons import School, taught
from isocenter.pipeline.outcomes.outcome import (
    Judging,
    Outcome,
    Pictures,
    of_validation,
    require_some,
)
from isocenter.pipeline.page import UNKNOWN_PATIENTS
from isocenter.report.gallery import sheet
from isocenter.training.assemble import Promises
from isocenter.training.images.course import Course
from isocenter.training.images.loading import load
from isocenter.training.images.plan import plan_of
from isocenter.training.images.store import Store
from isocenter.training.images.tasks.makers import shares_of, stacked
from isocenter.types import Array

_COUNT = 1000
_KEPT_SHARE = 0.3
"""Of the free memory, for images as the maker sees them."""
_NOTE = Message("Made images: none of them is of a patient, and none may be used as if it were.")


class Made(Outcome):
    """New images."""

    target, main = "images", ("frechet",)

    def promised(
        self, card: ModelCard, found: Material, course: Course, wanted: Promises, source: str
    ) -> tuple[ModelCard, Evaluation]:
        """Likeness to the validation cases, and copies of training cases."""
        plan, learnt = course.plan, course.learnt
        assert learnt is not None, "a training has cases"
        shares = shares_of(learnt, plan)
        card = replace(card, training={**card.training, "class_shares": shares})
        images = made(course.networks[0], _COUNT, classes=classes_for(shares, _COUNT), seed=plan.seed + 1)
        seen = _seen(images, stacked(course.judged), stacked(learnt), [i.sample.case for i in learnt.items])
        evaluation = judge_made(seen, model=card.model, seed=plan.seed)
        told = of_validation(evaluation, card, source, "steps and settings may have been chosen on them")
        return card, told.noted((*told.notes, _NOTE))

    def examples(self, course: Course, card: ModelCard) -> Pictures:
        """Made images, and below them the training images that come nearest."""
        plan, learnt = course.plan, course.learnt
        assert learnt is not None, "a training has cases"
        images = made(course.networks[0], 24, classes=classes_for(shares_of(learnt, plan), 24), seed=plan.seed + 2)
        real = stacked(learnt)
        _, which = copies(images, real, stacked(course.judged))
        return [("Made images", sheet(images)), ("The training image that is nearest to each", sheet(real[which]))]

    def judged(self, predictor: Predictor, data: Dataset, how: Judging) -> Evaluation:
        """Made images beside real test cases; where the data set holds the training cases too, what they teach."""
        model = predictor.model
        spec, card = model.spec, model.card
        real = _read(data, card, how)
        rest = how.everything.of("train") if how.everything and "train" in how.everything.splits else None
        training = None if rest is None else _read(rest, card, how)
        shares = [float(v) for v in (card.training.get("class_shares") or [])]
        count = max(_COUNT, 0 if training is None else len(training))
        kinds = classes_for(shares, count)
        images = made(model.modules[0], count, classes=kinds, seed=how.seed, device=predictor.runner.device)
        names = () if training is None else [i.sample.case for i in training.items]
        seen = _seen(images, stacked(real), None if training is None else stacked(training), names)
        lessons = None
        if training is not None and len(spec.classes) > 1 and kinds is not None:
            lessons = taught(School(spec, training, real, how.seed, how.on_progress), images, kinds)
        elif spec.classes:
            how.notes.append(
                Message("What made images teach is judged where the data set holds the split `train` too.")
            )
        if not all(item.sample.patient for item in real.items):
            how.notes.append(UNKNOWN_PATIENTS)
        how.notes.append(_NOTE)
        found = judge_made(seen, model=card.model, taught=lessons, seed=how.seed)
        how.notes.extend(found.notes)
        pictures: Pictures = [("Made images", sheet(images[:: max(1, count // 24)][:24]))]
        return replace(found, pictures=tuple(pictures))


def _seen(images: Array, real: Array, training: Array | None, names: Sequence[str]) -> MadeImages:
    return MadeImages(
        images, features_of(images), real, features_of(real), training,
        None if training is None else features_of(training), names,
    )  # fmt: skip


def _read(data: Dataset, card: ModelCard, how: Judging) -> Store:
    """Cases as the maker saw them while it learnt.

    Raises: InputError where none can be read.
    """
    plan = plan_of(card.lineage.get("plan"), "the plan in the model's card")
    store = load(data, plan, read_case, memory=int(_KEPT_SHARE * free_bytes()), on_progress=how.on_progress)
    require_some(store.items, store.failed, data, how.notes)
    return store
