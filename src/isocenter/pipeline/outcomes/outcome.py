"""What a task decides around a network: what its card promises, its pictures, its rows and files, how it is judged."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from isocenter.data.card import ModelCard
from isocenter.data.dataset import Dataset, Sample
from isocenter.data.evaluation import Evaluation, Predictions
from isocenter.data.message import Message
from isocenter.data.provenance import Json
from isocenter.errors import InputError, IsocenterError
from isocenter.inference.model import NetworkModel, Spec
from isocenter.inference.predictor import CaseAnswer, Predictor
from isocenter.pipeline.image_material import Material
from isocenter.pipeline.page import CASES, UNKNOWN_PATIENTS
from isocenter.training.assemble import Promises
from isocenter.training.images.course import Course
from isocenter.types import Progress
from isocenter.version import __version__

_Beside = TypeVar("_Beside")
Pictures = list[tuple[str, bytes]]
"""Titles and PNGs."""
PICTURES = 6
"""Cases that a page shows."""


@dataclass(frozen=True)
class Judging:
    """How cases are judged.

    Args:
        notes: what must be known; more is added.
        seed: of resampling.
        subgroups: columns by which results are broken down.
        everything: the whole data set, of which the judged cases are a part.
        on_progress: told each case.
    """

    notes: list[Message]
    seed: int = 0
    subgroups: Sequence[str] = ()
    everything: Dataset | None = None
    on_progress: Progress | None = field(default=None, repr=False)


class Outcome(ABC):
    """One of the tasks.

    `target` is what its cards name as theirs; of `main`, the first metric that is there speaks for it. By more than
    `gap` better on training cases than on others, a network knows its training by heart.
    """

    target: str
    main: tuple[str, ...]
    gap: float = 0.08

    @abstractmethod
    def promised(
        self, card: ModelCard, found: Material, course: Course, wanted: Promises, source: str
    ) -> tuple[ModelCard, Evaluation]:
        """The card with what was chosen on the judged cases, and their evaluation.

        Args:
            card: without promises.
            found: what the training started from.
            course: what it left.
            wanted: what the promises are asked to be.
            source: of the judged cases: `validation` or `out-of-fold`.
        """

    @abstractmethod
    def examples(self, course: Course, card: ModelCard) -> Pictures:
        """Judged cases, bad and good ones."""

    def columns(self, spec: Spec) -> tuple[str, ...]:
        """Columns of `predictions.csv` between `case` and `note`; none where answers are files alone."""
        return ()

    def cells(self, answer: CaseAnswer, model: NetworkModel) -> tuple[object, ...]:
        """Those columns of a case that has an answer."""
        return ()

    def rows(self, answer: CaseAnswer, model: NetworkModel) -> Sequence[tuple[object, ...]]:
        """The rows of a case that has an answer: one, where it has no frames."""
        return (self.cells(answer, model),)

    @abstractmethod
    def judged(self, predictor: Predictor, data: Dataset, how: Judging) -> Evaluation | Predictions:
        """An evaluation; or predictions that are judged like those of a table.

        Raises: InputError where no case can be judged.
        """

    def keep(self, answer: CaseAnswer, model: NetworkModel, folder: Path) -> CaseAnswer:
        """Write the files of a case; what is left of the answer is kept in memory."""
        return answer

    def keep_together(self, answers: Sequence[CaseAnswer], model: NetworkModel, folder: Path, data: Dataset) -> None:
        """Write what is about every case."""
        return


def each_judged(
    data: Dataset, how: Judging, one: Callable[[Sample], tuple[CaseAnswer, _Beside]]
) -> Iterator[tuple[Sample, CaseAnswer, _Beside]]:
    """Every case that can be judged, its answer, and what it is judged by; one after the other, for images are large.

    At the end it is noted how many could not be judged, how many are unlike the training, and whether patients are
    known.

    Args:
        data: cases.
        how: told each case.
        one: answers a case.
    Raises: InputError where no case could be judged.
    """
    failed: list[str] = []
    marked: list[CaseAnswer] = []
    done: list[Sample] = []
    for number, sample in enumerate(data.samples):
        if how.on_progress:
            how.on_progress("judging", number, len(data.samples))
        try:
            answer, beside = one(sample)
        except (IsocenterError, OSError) as error:
            failed.append(f"{sample.case}: {error}")
            continue
        done.append(sample)
        if answer.concerns:
            marked.append(CaseAnswer(sample.case, concerns=answer.concerns))
        yield sample, answer, beside
    require_some(done, failed, data, how.notes)
    note_concerns(marked, how.notes, of=len(done))
    if not all(sample.patient for sample in done):
        how.notes.append(UNKNOWN_PATIENTS)


def require_some(rows: Sequence[object], failed: Sequence[str], data: Dataset, notes: list[Message]) -> None:
    """Say which cases could not be judged.

    Raises: InputError where none could.
    """
    if not rows:
        raise InputError(f"no case could be judged; the first: {failed[0]}")
    if failed:
        text = "{failed} of {all} cases could not be judged; the first: {why}"
        notes.append(Message(text, {"failed": len(failed), "all": len(data.samples), "why": failed[0]}))


def note_concerns(found: Sequence[CaseAnswer], notes: list[Message], of: int | None = None) -> None:
    """Say how many images lie outside the training range; of so many, where not all are given."""
    marked = [a for a in found if a.concerns]
    if marked:
        text = "{marked} of {all} images lie outside the training range; the first: {why}"
        count = len(found) if of is None else of
        notes.append(Message(text, {"marked": len(marked), "all": count, "why": marked[0].concerns[0].text}))


def of_validation(evaluation: Evaluation, card: ModelCard, source: str, chosen: str) -> Evaluation:
    """A judgement of the validation cases, with what must be known of it.

    Args:
        evaluation: of them.
        card: of the model.
        source: `validation` or `out-of-fold`.
        chosen: what was chosen on them, as the end of a sentence.
    """
    notes = [Message("Validation cases: the network never learnt from them; {chosen}.", {"chosen": chosen})]
    if evaluation.data["n_patients"] is None:
        notes.append(Message("No patient is known: each case counts as one patient."))
    more: dict[str, Json] = {
        "model": card.model, "split": source, "cases": CASES, "isocenter": __version__,
    }  # fmt: skip
    return replace(evaluation, data={**evaluation.data, **more}).noted(notes)
