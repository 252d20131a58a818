"""`predict` on images: a file, a study, a folder or a data set -> label maps on the inputs' own grids, or classes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from isocenter.acquire.labelled import read_cine, read_images
from isocenter.data.dataset import ABSENT, Dataset, Sample
from isocenter.data.volume import Volume
from isocenter.errors import InputError, IsocenterError
from isocenter.formats.delimited import csv_text
from isocenter.inference.model import NetworkModel
from isocenter.inference.predictor import CaseAnswer, Predictor, Running
from isocenter.pipeline.inputs import cases_of
from isocenter.pipeline.outcomes import outcome_of
from isocenter.pipeline.own_folder import own_folder

if TYPE_CHECKING:
    from isocenter.types import Progress

PREDICTIONS = "predictions.csv"


def predict_images(
    model: str | Path,
    data: str | Path,
    out: str | Path | None = None,
    *,
    running: Running | None = None,
    on_progress: "Progress | None" = None,
    tell: Callable[[str], None] | None = None,
) -> list[CaseAnswer]:
    """Predict every image of an input, and write what is found.

    Args:
        model: the model's folder.
        data: an image, a DICOM study, a folder of images, or a data set in any known shape.
        out: folder: `<case>.nii.gz` (and `uncertainty/<case>.nii.gz`) on the input's own grid; objects as
            `detections.json` of pictures and `<case>.csv` of volumes; and `predictions.csv`. None: nothing is written.
        running: how.
        on_progress: told each case.
        tell: told how the first image is walked over, and what that takes; and what is wrong with the input as a whole.
    Raises: InputError for an input without images, or where every case fails.
    """
    predictor = Predictor(model, running, tell=tell)
    cases = with_channels(cases_of(Path(data)), predictor.model)
    lost = _lost(cases)
    for one in cases.problems:
        if tell and not one.case:
            tell(str(one))
    if out is None:
        return [*answers(predictor, cases, on_progress=on_progress), *lost]
    folder = Path(out)
    _require_apart(folder, cases)
    outcome = outcome_of(predictor.model.spec)
    with own_folder(folder, "predictions") as empty:
        found = [
            answer if answer.failed else outcome.keep(answer, predictor.model, empty)
            for answer in answers(predictor, cases, on_progress=on_progress)
        ]
        if all(a.failed for a in found):
            raise InputError(f"no case could be predicted; the first: {found[0].failed}")
        outcome.keep_together(found, predictor.model, empty, cases)
        found += lost
        (empty / PREDICTIONS).write_text(predictions_text(found, predictor.model), "utf-8")
    return found


def answers(
    predictor: Predictor,
    cases: Dataset,
    *,
    on_progress: "Progress | None" = None,
    read: Callable[[Sample], Volume] = read_images,
) -> Iterator[CaseAnswer]:
    """The answer for each case; a case that fails says why, and the others go on."""
    for number, sample in enumerate(cases.samples):
        if on_progress:
            on_progress(
                f"predicting {sample.case}" if len(cases.samples) < 50 else "predicting", number, len(cases.samples)
            )
        try:
            if predictor.model.spec.frames:
                stated = [i for i, text in enumerate(sample.targets) if text]
                cine = read_cine(sample)
                yield predictor.follow(cine, sample.case, keep=[i for i in stated if i < len(cine)])
            else:
                yield predictor(read(sample), sample.case, sample.groups)
        except (IsocenterError, OSError) as error:
            yield CaseAnswer(sample.case, failed=str(error))


def with_channels(cases: Dataset, model: NetworkModel) -> Dataset:
    """The cases with their images in the order of the model's channels, by name.

    Raises: InputError for cases of fewer, more or other images than the model takes.
    """
    wanted = model.spec.channels
    own = {len(s.images) for s in cases.samples}
    if model.spec.preparation.may_lack and set(cases.channels) < set(wanted):
        return _filled_up(cases, wanted)
    if len(wanted) > 1 and own != {len(wanted)}:
        raise InputError(
            f"the model takes {len(wanted)} images a case ({', '.join(wanted)}): give a table with these columns, or "
            "nnU-Net's layout"
        )
    if len(wanted) < 2 or len(cases.channels) != len(wanted):
        return cases
    theirs, ours = ([name.strip().lower() for name in names] for names in (cases.channels, wanted))
    if theirs == ours:
        return cases
    if sorted(theirs) != sorted(ours):
        raise InputError(
            f"{cases.path}: holds {', '.join(cases.channels)}; the model takes {', '.join(wanted)}: name them so"
        )
    order = [theirs.index(name) for name in ours]
    samples = tuple(replace(s, images=tuple(s.images[i] for i in order)) for s in cases.samples)
    return replace(cases, samples=samples, channels=wanted)


def _filled_up(cases: Dataset, wanted: tuple[str, ...]) -> Dataset:
    """The cases with the images that a table lacks a column for as absent ones."""
    there = {name: i for i, name in enumerate(cases.channels)}
    samples = tuple(
        replace(s, images=tuple(s.images[there[name]] if name in there else ABSENT for name in wanted))
        for s in cases.samples
    )
    return replace(cases, samples=samples, channels=wanted)


def _lost(cases: Dataset) -> list[CaseAnswer]:
    """Cases that the input names and does not hold, with the reason."""
    there = {sample.case for sample in cases.samples}
    lost: dict[str, str] = {}
    for one in cases.problems:
        if one.case and one.case not in there:
            lost.setdefault(one.case, one.what)
    return [CaseAnswer(case, failed=why) for case, why in lost.items()]


def _require_apart(folder: Path, cases: Dataset) -> None:
    """Refuse a folder that holds the input, and a case that is called as the table of all.

    Raises: InputError.
    """
    inside = [source.path for s in cases.samples for source in s.images]
    if any(folder.resolve() in (p.resolve(), *p.resolve().parents) for p in inside):
        raise InputError(f"{folder}: holds the input itself; name another folder")
    taken = [s.case for s in cases.samples if f"{s.case}.csv".lower() == PREDICTIONS]
    if taken:
        raise InputError(f"{cases.path}: the case {taken[0]!r} is called as {PREDICTIONS}, the table of all: rename it")


def predictions_text(found: Sequence[CaseAnswer], model: NetworkModel) -> str:
    """A row a case (or frame): what is said of it, and what must be known."""
    outcome = outcome_of(model.spec)
    columns = outcome.columns(model.spec)
    rows: list[tuple[object, ...]] = [("case", *columns, "note")]
    for answer in found:
        note = answer.failed or "; ".join(f"{c.level}: {c.text}" for c in answer.concerns)
        every = [("",) * len(columns)] if answer.failed else outcome.rows(answer, model)
        rows += [(answer.case, *cells, note) for cells in every]
    return csv_text(rows)
