"""Classes and values of sequences, or of each of their frames: a row a frame, and curves over time."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from isocenter.data.card import ModelCard
from isocenter.inference.model import NetworkModel, Spec
from isocenter.inference.predictor import CaseAnswer
from isocenter.metrics import reliability as rel
from isocenter.pipeline.outcomes.outcome import Pictures
from isocenter.pipeline.outcomes.whole import Classified, Valued, Whole
from isocenter.report.gallery import curve_picture, strip
from isocenter.training.images.course import Course
from isocenter.training.images.store import Item
from isocenter.types import Array

_SHARES = (0, 0.25, 0.5, 0.75, 1)


class _Followed(Whole):
    """What classes and values of sequences share: where frames are answered, a row and a point of a curve each."""

    def columns(self, spec: Spec) -> tuple[str, ...]:
        """As of images; of each frame its number and time before."""
        return (*_PLACE, *super().columns(spec)) if spec.each_frame else super().columns(spec)

    def rows(self, answer: CaseAnswer, model: NetworkModel) -> Sequence[tuple[object, ...]]:
        """Of each sequence one, or one of each frame."""
        if answer.frames is None or answer.times is None or answer.scores is None or not model.spec.each_frame:
            return super().rows(answer, model)
        return [
            (int(number), f"{time:.6g}", *self.cells(replace(answer, scores=scores), model))
            for number, time, scores in zip(answer.frames, answer.times, answer.scores, strict=True)
        ]

    def examples(self, course: Course, card: ModelCard) -> Pictures:
        """Sequences as strips of frames; where frames are answered, curves of what is stated and said."""
        if not course.plan.each_frame:
            return super().examples(course, card)
        return _curves(course, *self._said(course, card))

    @abstractmethod
    def _said(self, course: Course, card: ModelCard) -> tuple[Array, str]:
        """A number of each frame, and what it is."""

    def _picture(self, item: Item) -> bytes:
        return strip(item.image)


class FollowedValues(_Followed, Valued):
    """One number of each sequence, or of each frame."""

    def _said(self, course: Course, card: ModelCard) -> tuple[Array, str]:
        return np.asarray(course.final.scores, np.float64), "value"


class FollowedClasses(_Followed, Classified):
    """One class of each sequence, or of each frame: how sure the network is of what is stated."""

    def _said(self, course: Course, card: ModelCard) -> tuple[Array, str]:
        scores = rel.calibrated(np.asarray(course.final.scores, np.float64), card.calibration)
        truth = [int(row.target) for row in course.judged.stated()]
        return scores[np.arange(len(truth)), truth], "probability of the stated class"


_PLACE = ("frame", "time_s")


def _curves(course: Course, said: Array, what: str) -> Pictures:
    """Sequences from the one that is judged worst to the best: stated and said over time."""
    rows = course.judged.stated()
    own: dict[int, list[int]] = {}
    for number, row in enumerate(rows):
        own.setdefault(id(row.item), []).append(number)
    regress = course.plan.task == "regress"

    def good(numbers: list[int]) -> float:
        stated = np.asarray([rows[i].target for i in numbers])
        return -float(np.abs(said[numbers] - stated).mean()) if regress else float(said[numbers].mean())

    order = sorted(own.values(), key=good)
    found = []
    for numbers in (order[i] for i in dict.fromkeys(round(q * (len(order) - 1)) for q in _SHARES)):
        item = rows[numbers[0]].item
        assert item.times is not None, "a sequence has times"
        times = item.times[[at for i in numbers if (at := rows[i].at) is not None]]
        lines = {"said": said[numbers]}
        if regress:
            lines = {"stated": np.asarray([rows[i].target for i in numbers]), **lines}
        words = f"mean error {-good(numbers):.4g}" if regress else f"mean {good(numbers):.2f}"
        found.append((f"{item.sample.case}: {words}", curve_picture(times, lines, y=what)))
    return found
