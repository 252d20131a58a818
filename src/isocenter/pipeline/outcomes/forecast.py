"""The next frame of sequences: a file each, judged beside the frame that came."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from isocenter.acquire.labelled import read_cine
from isocenter.data.card import ModelCard
from isocenter.data.dataset import Dataset, Sample
from isocenter.data.evaluation import Evaluation
from isocenter.errors import InputError
from isocenter.evaluation.enhanced import MODEL, Compared, judge_enhanced
from isocenter.formats import nifti
from isocenter.inference.frames import foretold
from isocenter.inference.model import NetworkModel
from isocenter.inference.predictor import CaseAnswer, Predictor
from isocenter.inference.torch_runtime import TorchRuntime
from isocenter.metrics.similarity import psnr, ssim
from isocenter.pipeline.image_material import Material
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
from isocenter.training.images.plan import Plan
from isocenter.training.images.store import Item
from isocenter.training.images.tasks.forecast import places
from isocenter.training.images.tasks.sequences import frames_of
from isocenter.types import Array

LAST, STRAIGHT = "last frame", "straight on"
_HOW = "each frame from all before it"
_MOST = 8
"""Frames of a sequence that are foretold in a judgement."""


class Foretold(Outcome):
    """The frame that follows a sequence."""

    target, main, gap = "frame", ("psnr",), 2.0

    def promised(
        self, card: ModelCard, found: Material, course: Course, wanted: Promises, source: str
    ) -> tuple[ModelCard, Evaluation]:
        """The network beside the last frame, and beside going straight on."""
        plan, run = course.plan, TorchRuntime(course.networks[0], precision=course.plan.precision)
        rows = []
        for item in course.judged.items:
            frames, times = frames_of(item, plan), _times(item)
            every = [
                _row(foretold(run, frames[:at], times[:at], float(times[at])), frames, times, at)
                for at in places(frames, _MOST)
            ]
            rows.append(_mean(item.sample.case, item.sample.patient, every))
        evaluation = judge_enhanced(rows, model=card.model, how=_HOW, seed=plan.seed)
        return card, of_validation(evaluation, card, source, "when to stop was chosen on them")

    def examples(self, course: Course, card: ModelCard) -> Pictures:
        """The last frame of cases: the one before, foretold, as it came, and what is wrong."""
        plan, run = course.plan, TorchRuntime(course.networks[0], precision=course.plan.precision)
        order = np.argsort(course.final.each)
        found = []
        for i in dict.fromkeys(int(order[round(q * (len(order) - 1))]) for q in (0, 0.5, 1)):
            item = course.judged.items[i]
            frames, times = frames_of(item, plan), _times(item)
            said = foretold(run, frames[:-1], times[:-1], float(times[-1]))
            title = f"{item.sample.case}: PSNR {course.final.each[i]:.2f} dB (the frame before, foretold, as it came)"
            found.append((title, beside(*(_deep(v, plan) for v in (frames[-2], said, frames[-1])))))
        return found

    def keep(self, answer: CaseAnswer, model: NetworkModel, folder: Path) -> CaseAnswer:
        """`<case>.nii.gz`, in the unit of the sequence."""
        assert answer.image is not None, "a frame was foretold"
        target = folder / f"{answer.case}.nii.gz"
        target.parent.mkdir(parents=True, exist_ok=True)
        nifti.write(answer.image, target, intent="foretold")
        return replace(answer, image=None)

    def judged(self, predictor: Predictor, data: Dataset, how: Judging) -> Evaluation:
        """Frames on the sequence's own grid, each foretold from all before it."""
        rows: list[Compared] = []
        worst = Worst(PICTURES)

        def one(sample: Sample) -> tuple[CaseAnswer, tuple[Compared, tuple[Array, Array, Array]]]:
            cine = read_cine(sample)
            if len(cine) < 3:
                raise InputError(f"has {len(cine)} frames: one beyond two is foretold")
            every = []
            for at in places(cine.frames, _MOST):
                answer = predictor.follow(cine.first(at), sample.case, at=float(cine.clock[at]))
                assert answer.image is not None, "a frame was foretold"
                frames = np.asarray(cine.frames[: at + 1], np.float32)
                every.append(_row(np.asarray(answer.image.voxels), frames, cine.clock, at))
                shown = frames[at - 1], np.asarray(answer.image.voxels), frames[at]
            return answer, (_mean(sample.case, sample.patient, every), shown)

        for sample, _, (row, shown) in each_judged(data, how, one):
            rows.append(row)
            worst.offer(sample.case, row.psnr[MODEL], lambda s=shown: beside(*s))  # type: ignore[misc]
        found = judge_enhanced(rows, model=predictor.model.card.model, how=_HOW, seed=how.seed)
        titled = tuple((f"{case}: PSNR {value:.2f} dB (the frame before, foretold, as it came, error)", png)
                       for value, case, png in worst.kept)  # fmt: skip
        return replace(found, pictures=titled)


def _times(item: Item) -> Array:
    assert item.times is not None, "a sequence has times"
    return item.times


def _deep(frame: Array, plan: Plan) -> Array:
    return frame[:, None] if plan.preparation.dims == 2 else frame


def _row(said: Array, frames: Array, times: Array, at: int) -> Compared:
    """Of one frame: the network, the frame before it, and the change of the last two gone on with."""
    before = at - 2 if at > 1 else at - 1  # of one frame, nothing is known of where it goes
    truth, last, one = frames[at], frames[at - 1], frames[before]
    gap = float(times[at - 1] - times[before])
    ahead = float(times[at] - times[at - 1]) / gap if gap > 0 else 1.0
    made = {MODEL: said, LAST: last, STRAIGHT: last + ahead * (last - one)}
    deep = {name: v[:, None] if v.ndim == 3 else v for name, v in made.items()}
    good = truth[:, None] if truth.ndim == 3 else truth
    return Compared(
        "", "", {name: min(psnr(v, good), 99.0) for name, v in deep.items()},
        {name: ssim(v, good) for name, v in deep.items()},
    )  # fmt: skip


def _mean(case: str, patient: str, every: list[Compared]) -> Compared:
    """The mean over the frames of a case."""
    return Compared(
        case, patient, {name: float(np.mean([row.psnr[name] for row in every])) for name in every[0].psnr},
        {name: float(np.mean([row.ssim[name] for row in every])) for name in every[0].ssim},
    )  # fmt: skip
