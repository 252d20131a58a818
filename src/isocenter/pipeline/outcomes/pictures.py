"""Better images: files on the answer's grid, judgement beside classical filters."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from isocenter.data.card import ModelCard
from isocenter.data.dataset import Dataset, Loaded, Sample
from isocenter.data.evaluation import Evaluation
from isocenter.data.message import Message
from isocenter.data.provenance import Step
from isocenter.data.volume import Volume
from isocenter.errors import InputError
from isocenter.evaluation.enhanced import MODEL, Compared, judge_enhanced
from isocenter.evaluation.rivals import chosen_strengths, made_by_rivals
from isocenter.formats import nifti, raster
from isocenter.inference.answers import enhanced, windows_of
from isocenter.inference.degradation import (
    Degradation,
    coarser_grid,
    degraded,
    finer,
    noise_of,
    own_factor,
    whole_blocks,
)
from isocenter.inference.model import NetworkModel, Spec
from isocenter.inference.predictor import CaseAnswer, Predictor
from isocenter.inference.torch_runtime import TorchRuntime
from isocenter.metrics.similarity import psnr, ssim
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
from isocenter.report.gallery import Worst, beside
from isocenter.training.assemble import Promises
from isocenter.training.images.course import Course
from isocenter.training.images.tasks.pictures import poor_and_good
from isocenter.types import Array

_FOR_RIVALS = 12
"""Validation cases on which the strengths of classical filters are chosen."""
BEFORE = "input"


class Enhanced(Outcome):
    """A better image of each image."""

    target, main, gap = "image", ("psnr",), 2.0

    def promised(
        self, card: ModelCard, found: Material, course: Course, wanted: Promises, source: str
    ) -> tuple[ModelCard, Evaluation]:
        """How strong the classical filters have to be, and how the network compares with them."""
        plan, items = course.plan, course.judged.items
        some = [poor_and_good(item, plan) for item in items[:: -(-len(items) // _FOR_RIVALS)]]
        rivals = chosen_strengths(some)
        card = replace(card, training={**card.training, "rivals": rivals})
        rows = []
        for item, reached in zip(items, course.final.each, strict=True):
            poor, good = poor_and_good(item, plan)
            row = _rivals_row(item.sample, poor, good, rivals, plan.spec)
            rows.append(replace(row, psnr={MODEL: reached, **row.psnr}))
        evaluation = judge_enhanced(rows, model=card.model, how=_words(plan.degradation), seed=plan.seed)
        chosen = "the strengths of the classical filters were chosen on them"
        return card, of_validation(evaluation, card, source, chosen)

    def examples(self, course: Course, card: ModelCard) -> Pictures:
        """Cases from the least to the largest PSNR: poor, made better, good, and what is still wrong."""
        plan, items = course.plan, course.judged.items
        order = np.argsort(course.final.each)
        found = []
        for i in dict.fromkeys(int(order[round(q * (len(order) - 1))]) for q in (0, 0.25, 0.5, 0.75, 1)):
            poor, good = poor_and_good(items[i], plan)
            run = TorchRuntime(course.judges[i], precision=plan.precision)
            better = enhanced(run, poor, plan.spec, windows_of(plan.spec, overlap=0.25, flips=False))
            title = f"{items[i].sample.case}: PSNR {course.final.each[i]:.2f} dB, before {psnr(poor, good):.2f}"
            found.append((title, beside(poor, better, good)))
        return found

    def keep(self, answer: CaseAnswer, model: NetworkModel, folder: Path) -> CaseAnswer:
        """`<case>.nii.gz`, in the unit of the image; a picture in colour as `<case>.png`."""
        assert answer.image is not None, "a better image was made"
        image, colour = answer.image, answer.image.channels > 1
        target = folder / f"{answer.case}{'.png' if colour else '.nii.gz'}"
        target.parent.mkdir(parents=True, exist_ok=True)
        if colour:
            grey = np.clip(np.rint(image.voxels), 0, 255).astype(np.uint8)
            raster.write(Volume(grey, image.geometry, image.quantity, image.history), target)
        else:
            nifti.write(image, target)
        return replace(answer, image=None)

    def judged(self, predictor: Predictor, data: Dataset, how: Judging) -> Evaluation:
        """Better images beside the good ones, case by case."""
        card, spec = predictor.model.card, predictor.model.spec
        rivals: dict[str, Any] = dict(card.training.get("rivals") or {})
        rows: list[Compared] = []
        worst = Worst(PICTURES)

        def one(sample: Sample) -> tuple[CaseAnswer, tuple[Array, Array, Compared]]:
            poor, good = poor_image(sample, read_case(sample), spec.degradation)
            answer = predictor(poor, sample.case)
            assert answer.image is not None, "a better image was made"
            made, truth = answer.image.voxels, np.asarray(good.voxels, np.float32)
            grown = finer(np.asarray(poor.voxels, np.float32), _grown(spec, truth))
            row = _rivals_row(sample, grown, truth, rivals, spec)
            own = replace(row, psnr={MODEL: psnr(made, truth), **row.psnr}, ssim={**row.ssim, MODEL: ssim(made, truth)})
            return answer, (grown, truth, own)

        for sample, answer, (grown, truth, row) in each_judged(data, how, one):
            assert answer.image is not None, "a better image was made"
            rows.append(row)
            shown = grown, answer.image.voxels, truth
            worst.offer(sample.case, row.psnr[MODEL], lambda s=shown: beside(*s))  # type: ignore[misc]
        if spec.degradation is not None:
            how.notes.append(
                Message(
                    "The images were made poor here, by a stated rule ({how}): scanners have other ways, too.",
                    {"how": spec.degradation.words},
                )
            )
        found = judge_enhanced(rows, model=card.model, how=_words(spec.degradation), seed=how.seed)
        titled = tuple((f"{case}: PSNR {value:.2f} dB (before, after, truth, error)", png)
                       for value, case, png in worst.kept)  # fmt: skip
        return replace(found, pictures=titled)


def poor_image(sample: Sample, loaded: Loaded, how: Degradation | None) -> tuple[Volume, Volume]:
    """The poor image of a case and the good one: both as stated, or the one made from the other by the rule.

    The noise of a case is the same each time.

    Raises: InputError for a case without a better image, or one that is too small for coarse voxels.
    """
    if how is None:
        if loaded.goal is None:
            raise InputError("has no better image beside it")
        loaded.image.geometry.require_same(loaded.goal.geometry, what="the image and the better one")
        return loaded.image, loaded.goal
    volume = loaded.image
    whole = whole_blocks(np.asarray(volume.voxels, np.float32), how)
    factor = own_factor(how, whole.shape)
    step = Step("enhance.made_poor", {"how": how.words})
    grid = replace(volume.geometry, shape=(whole.shape[1], whole.shape[2], whole.shape[3]))
    made = degraded(whole, how, noise_of(sample.case), deviation=float(whole.std()) or 1.0)
    poor = Volume(made, coarser_grid(grid, factor), volume.quantity, (*volume.history, step))
    return poor, Volume(whole, grid, volume.quantity, volume.history)


def _grown(spec: Spec, truth: Array) -> tuple[int, int, int]:
    return (1, 1, 1) if spec.degradation is None else own_factor(spec.degradation, truth.shape)


def _words(how: Degradation | None) -> str:
    return "pairs of images" if how is None else how.words


def _rivals_row(sample: Sample, poor: Array, good: Array, chosen: Mapping[str, Any], spec: Spec) -> Compared:
    """PSNR and SSIM of the image as it was (interpolated onto the finer grid), and of what each filter makes of it."""
    before = "bicubic" if spec.degradation is not None and spec.degradation.finer else BEFORE
    made = {before: poor, **(made_by_rivals(poor, chosen) if chosen else {})}
    return Compared(
        sample.case, sample.patient, {name: psnr(image, good) for name, image in made.items()},
        {name: ssim(image, good) for name, image in made.items()},
    )  # fmt: skip
