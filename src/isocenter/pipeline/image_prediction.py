"""`predict` on images: a file, a study, a folder or a data set -> label maps on the inputs' own grids, or classes."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from isocenter.acquire.dataset_files import stem_of
from isocenter.acquire.datasets import open_dataset
from isocenter.acquire.labelled import read_images, series_source
from isocenter.data.dataset import Dataset, Sample, Source, natural
from isocenter.data.evaluation import Predictions
from isocenter.data.volume import Volume
from isocenter.errors import InputError, IsocenterError
from isocenter.formats.delimited import csv_text
from isocenter.inference.model import NetworkModel
from isocenter.inference.predictor import CaseAnswer, Predictor, Running, decided
from isocenter.metrics import reliability as rel
from isocenter.pipeline.objects import DETECTIONS, decided_objects, write_objects
from isocenter.pipeline.output import whole_folder
from isocenter.types import Array

if TYPE_CHECKING:
    from isocenter.types import Progress

PREDICTIONS, DOUBT = "predictions.csv", "uncertainty"


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
        tell: told how the first image is walked over, and what that takes.
    Raises: InputError for an input without images, or where every case fails.
    """
    predictor = Predictor(model, running, tell=tell)
    cases = with_channels(cases_of(Path(data)), predictor.model)
    if out is None:
        return list(answers(predictor, cases, on_progress=on_progress))
    folder = Path(out)
    _require_own(folder, cases)
    from isocenter.formats import nifti

    found: list[CaseAnswer] = []
    with whole_folder(folder) as empty:
        for answer in answers(predictor, cases, on_progress=on_progress):
            if answer.labels is not None:
                target = empty / f"{answer.case}.nii.gz"
                target.parent.mkdir(parents=True, exist_ok=True)
                nifti.write(answer.labels, target)
                if answer.doubt is not None:
                    (empty / DOUBT / answer.case).parent.mkdir(parents=True, exist_ok=True)
                    nifti.write(answer.doubt, empty / DOUBT / f"{answer.case}.nii.gz")
                answer = replace(answer, labels=None, doubt=None)  # written: not kept in memory  # noqa: PLW2901
            found.append(answer)
        if all(a.failed for a in found):
            raise InputError(f"no case could be predicted; the first: {found[0].failed}")
        if predictor.model.spec.task == "detect":
            write_objects(found, predictor.model.spec, predictor.model.card, empty, data=cases)
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
            yield predictor(read(sample), sample.case)
        except (IsocenterError, OSError) as error:
            yield CaseAnswer(sample.case, failed=str(error))


def cases_of(path: Path) -> Dataset:
    """Images of an input, whether they are labelled or not.

    Raises: InputError for an input without images.
    """
    if path.is_file() and stem_of(path) is not None and path.suffix.lower() != ".npz":
        return Dataset(path, "one image", (Sample(stem_of(path) or path.stem, (Source(path),)),))
    try:
        return open_dataset(path, labelled=False)
    except InputError:
        if not path.is_dir():
            raise
    return loose_images(path)


def loose_images(folder: Path) -> Dataset:
    """Every study and image below a folder, each a case of its own.

    Raises: InputError where there is none.
    """
    from isocenter.acquire.case import open_cases

    samples: list[Sample] = []
    opened: set[Path] = set()
    try:
        cases = open_cases(folder)
    except InputError:
        cases = ()
    for case in cases:
        for series in case.series:
            opened.update(file.resolve() for file in series.files)
            if series.format != "dicom":
                samples.append(_loose(series.files[0], folder))
            elif series.usable:
                several = sum(s.usable for s in case.series) > 1
                name = f"{case.name}-{series.key}" if several else case.name
                samples.append(Sample(name, (series_source(case, series),), patient=case.identity.patient_id))
    samples += [_loose(p, folder) for p in _pictures_below(folder) if p.resolve() not in opened]  # told why, one by one
    names = Counter(sample.case for sample in samples)
    samples = [replace(s, case=_with_ending(s, folder)) if names[s.case] > 1 else s for s in samples]
    if not samples:
        raise InputError(f"{folder}: holds no image that can be read")
    return Dataset(folder, "images", tuple(sorted(samples, key=lambda s: natural(s.case))))


_NO_PICTURES = (".dcm", ".h5", ".hdf5")
"""Endings of what a study or a data set of its own is made of."""


def _pictures_below(folder: Path) -> list[Path]:
    return [p for p in sorted(folder.rglob("*")) if p.is_file() and stem_of(p) and p.suffix.lower() not in _NO_PICTURES]


def _loose(file: Path, folder: Path) -> Sample:
    return Sample(file.relative_to(folder).with_name(stem_of(file) or file.stem).as_posix(), (Source(file),))


def _with_ending(sample: Sample, folder: Path) -> str:
    """The name of one of several files that differ by their ending alone."""
    path = sample.images[0].path
    return path.relative_to(folder).as_posix() if path.is_file() else sample.case


def with_channels(cases: Dataset, model: NetworkModel) -> Dataset:
    """The cases with their images in the order of the model's channels, by name.

    Raises: InputError for cases of fewer, more or other images than the model takes.
    """
    wanted = model.spec.channels
    own = {len(s.images) for s in cases.samples}
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


def _require_own(folder: Path, cases: Dataset) -> None:
    """Refuse a folder that holds anything but predictions of before, or the input.

    Raises: InputError.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder}: is a file; predictions of images need a folder")
    inside = [source.path for s in cases.samples for source in s.images]
    if any(folder.resolve() in (p.resolve(), *p.resolve().parents) for p in inside):
        raise InputError(f"{folder}: holds the input itself; name another folder")
    own, ends = (PREDICTIONS, DETECTIONS), (".nii.gz", ".csv")
    odd = [p for p in folder.rglob("*") if p.is_file() and p.name not in own and not p.name.endswith(ends)]
    if odd or (any(folder.iterdir()) and not (folder / PREDICTIONS).is_file()):
        raise InputError(f"{folder}: holds other things than predictions; name another folder")


def predictions_text(found: Sequence[CaseAnswer], model: NetworkModel) -> str:
    """A row a case: classes with their probabilities and sets, values with intervals, or what was segmented."""
    card, spec = model.card, model.spec
    rows: list[tuple[object, ...]] = []
    if spec.task == "classify":
        head = ("case", *(f"p_{name}" for name in spec.classes), "predicted", "set", "note")
    elif spec.task == "regress":
        head = ("case", "predicted", "low", "high", "note")
    elif spec.task == "detect":
        head = ("case", *(f"n_{name}" for name in spec.classes), "note")
    else:
        head = ("case", "note")
    blank = ("",) * (len(head) - 2)
    for answer in found:
        note = answer.failed or "; ".join(f"{c.level}: {c.text}" for c in answer.concerns)
        if answer.found is not None:
            kinds = answer.found.classes[decided_objects(answer.found, card)]
            rows.append((answer.case, *(int((kinds == k).sum()) for k in range(len(spec.classes))), note))
        elif answer.failed or answer.scores is None:
            rows.append((answer.case, *blank, note))
        elif spec.task == "classify":
            best, inside = decided(answer.scores, model)
            rows.append((answer.case, *(f"{p:.6f}" for p in answer.scores), spec.classes[best], "|".join(inside), note))
        else:
            value, reach = float(answer.scores[0]), card.conformal.get("reach")
            ends = ("", "") if reach is None else (f"{value - float(reach):.6g}", f"{value + float(reach):.6g}")
            rows.append((answer.case, f"{value:.6g}", *ends, note))
    return csv_text([head, *rows])


def as_predictions(found: Sequence[CaseAnswer], samples: Sequence[Sample], model: NetworkModel) -> Predictions:
    """Answers of classes or values as the judges take them; every one must have been given."""
    card, spec = model.card, model.spec
    scores = np.stack([np.asarray(a.scores) for a in found])
    sets: object = None
    if spec.task == "classify":
        quantiles = card.conformal.get("quantiles")
        if quantiles:
            sets = rel.prediction_sets(scores, [float("inf") if q is None else float(q) for q in quantiles])
        truth: Array = np.asarray([spec.classes.index(s.target) for s in samples])
    else:
        scores = scores[:, 0]
        reach = card.conformal.get("reach")
        if reach is not None:
            sets = np.column_stack((scores - float(reach), scores + float(reach)))
        truth = np.asarray([float(s.target) for s in samples])
    known = all(s.patient for s in samples)
    groups = {name: tuple(s.groups.get(name, "") for s in samples) for name in samples[0].groups}
    return Predictions(
        spec.task,
        tuple(s.case for s in samples),
        tuple(s.patient or f"case {s.case}" for s in samples),
        known,
        truth,
        scores,
        spec.classes,
        sets=sets,
        groups=groups,
        name=card.model,
    )
