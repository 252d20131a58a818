"""`evaluate` on images: a model on cases whose truth is known, or folders of masks beside a reference."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from isocenter.acquire.datasets import open_dataset
from isocenter.data.dataset import Dataset, Sample
from isocenter.data.evaluation import Evaluation, Predictions
from isocenter.data.geometry import Space
from isocenter.data.labels import LabelMap
from isocenter.data.provenance import Json
from isocenter.data.volume import Volume
from isocenter.errors import InputError, IsocenterError
from isocenter.evaluation.point import OperatingPoint, point_of
from isocenter.evaluation.segmented import Compared, compare_labels, judge_segmentations
from isocenter.inference.model import Spec
from isocenter.inference.predictor import CaseAnswer, Predictor, Running
from isocenter.pipeline.image_prediction import as_predictions, with_channels
from isocenter.pipeline.images import image_items, known_images, read_case
from isocenter.pipeline.masks import MISSING_MM, TOLERANCE_MM
from isocenter.pipeline.objects import judged_objects
from isocenter.report.gallery import Worst, contours, worst_pictures
from isocenter.training.images.division import held_out
from isocenter.types import Progress, Triple

_PICTURES = 6


def test_cases(data: Dataset, training: Mapping[str, Any], split: str | None, notes: list[str]) -> Dataset:
    """The cases that may judge a model: those of the split, or `test` where there is one, and none of its training.

    Raises: InputError where the model was trained on some of them.
    """
    rule = training.get("hold_out")
    if rule and not data.splits and split is None:
        try:
            data = held_out(data, int(rule))
        except InputError:
            rule = None
    wanted = split or ("test" if "test" in data.splits else None)
    chosen = data if wanted is None else data.of(wanted)
    items = image_items(chosen)
    known = known_images(training, items, chosen)
    if known and split == "val" and len(known_images(_judging(training), items, chosen)) == len(chosen.samples):
        notes.append(
            "Validation cases: the network never learnt from them, but threshold and calibration were chosen on them."
        )
        known = set()
    if known:
        raise InputError(
            f"{data.path}: the model was trained on {len(known)} of these {len(chosen.samples)} cases, or on their "
            f"patients (such as {min(known)}), so they cannot judge it; give others, or a split"
        )
    if rule and wanted == "test":
        notes.append(f"Test cases: every {rule}th patient, held back when the model was trained.")
    return chosen


def _judging(training: Mapping[str, Any]) -> dict[str, Any]:
    """What the card says of the cases that the network was only judged by."""
    return {"salt": training.get("salt"), "image_hashes": training.get("judged_hashes")}


def judged_by_image(
    model: str | Path,
    data: str | Path,
    *,
    split: str | None,
    running: Running | None,
    group: str | None,
    target: str | None,
    split_column: str | None,
    subgroups: Sequence[str],
    seed: int,
    notes: list[str],
    on_progress: Progress | None = None,
) -> tuple[Evaluation | Predictions, OperatingPoint | None, dict[str, Json]]:
    """A model of images on a data set: an evaluation of a segmentation, or predictions that are still to be judged.

    Raises: InputError for cases that cannot judge the model, and where none can be predicted.
    """
    predictor = Predictor(model, running)
    card, spec = predictor.model.card, predictor.model.spec
    chosen = test_cases(open_dataset(data, group=group, target=target, split=split_column), card.training, split, notes)
    chosen = with_channels(chosen, predictor.model)
    _require_same_names(chosen, spec)
    absent = [name for name in subgroups if name not in chosen.samples[0].groups]
    if absent:
        raise InputError(f"{chosen.path}: has no column {absent[0]!r} for --subgroup")
    more: dict[str, Json] = {
        "split": split or ("test" if "test" in chosen.splits else None),
        "model_sha256": card.weights_sha256,
    }
    if spec.task == "segment":
        evaluation = _segmentation(predictor, chosen, seed=seed, notes=notes, on_progress=on_progress)
        return replace(evaluation, data={**evaluation.data, **more}), None, more
    if spec.task == "detect":
        evaluation = judged_objects(
            predictor, chosen, seed=seed, notes=notes, pictures=_PICTURES, on_progress=on_progress
        )
        return replace(evaluation, data={**evaluation.data, **more}), None, more
    found, samples = _answers(predictor, chosen, notes, on_progress)
    result = as_predictions(found, samples, predictor.model)
    if subgroups:
        result = replace(result, groups={name: values for name, values in result.groups.items() if name in subgroups})
    else:
        result = replace(result, groups={})
    point = point_of(card.operating_point)
    more |= {
        "calibrated": card.calibration.get("method") not in (None, "none"),
        "promised_coverage": card.conformal.get("coverage"),
    }
    return result, point, more


def _require_same_names(data: Dataset, spec: Spec) -> None:
    """Refuse a data set that calls a label otherwise than the model does.

    Raises: InputError.
    """
    if spec.task != "segment":
        return
    for value, name in data.labels.items():
        own = spec.labels.get(value)
        if own is not None and own.strip().lower() != name.strip().lower() and own != str(value):
            raise InputError(
                f"{data.path}: calls the label {value} {name!r}, and the model {own!r}: bring the values into one order"
            )


def _answers(
    predictor: Predictor, data: Dataset, notes: list[str], on_progress: Progress | None
) -> tuple[list[CaseAnswer], list[Sample]]:
    from isocenter.pipeline.image_prediction import answers

    spec = predictor.model.spec
    if spec.task == "classify":
        odd = sorted({s.target for s in data.samples} - set(spec.classes))
        if odd:
            raise InputError(
                f"{data.path}: holds the class {odd[0]!r}, which the model does not know: {', '.join(spec.classes)}"
            )
    everything = list(answers(predictor, data, on_progress=on_progress))
    failed = [a for a in everything if a.failed]
    if len(failed) == len(everything):
        raise InputError(f"no case could be predicted; the first: {failed[0].failed}")
    if failed:
        notes.append(
            f"{len(failed)} of {len(everything)} cases have no answer and are not judged; the first: {failed[0].failed}"
        )
    _note_concerns(everything, notes)
    kept = [(a, s) for a, s in zip(everything, data.samples, strict=True) if not a.failed]
    return [a for a, _ in kept], [s for _, s in kept]


def _note_concerns(found: Sequence[CaseAnswer], notes: list[str]) -> None:
    marked = [a for a in found if a.concerns]
    if marked:
        first = marked[0].concerns[0].text
        notes.append(f"{len(marked)} of {len(found)} images lie outside the training range; the first: {first}")


def _segmentation(
    predictor: Predictor, data: Dataset, *, seed: int, notes: list[str], on_progress: Progress | None
) -> Evaluation:
    spec = predictor.model.spec
    stated = predictor.model.card.lineage.get("plan") or {}
    missing_mm = float(stated.get("missing_mm", MISSING_MM))
    tolerance_mm = float(stated.get("tolerance_mm", TOLERANCE_MM))
    compared: list[Compared] = []
    worst = Worst(_PICTURES)
    failed: list[str] = []
    marked: list[CaseAnswer] = []
    partition = spec.flat and len(spec.labels) == 1 and all(len(s.images) == 1 for s in data.samples)
    for number, sample in enumerate(data.samples):
        if on_progress:
            on_progress("judging", number, len(data.samples))
        try:
            volume, truth = read_case(sample)
            if truth is None:
                raise InputError("has no label map")
            answer = predictor(volume, sample.case)
            assert answer.labels is not None, "a segmentation has labels"
            odd = sorted({lb.value for lb in truth.labels if (truth.voxels == lb.value).any()} - set(spec.labels))
            if odd:
                raise InputError(f"its reference holds the label value {odd[0]}, which the model does not know")
        except (IsocenterError, OSError) as error:
            failed.append(f"{sample.case}: {error}")
            continue
        row = compare_labels(
            answer.labels.voxels, truth.voxels, spec.labels, spacing_mm=spacing_of(volume), tolerance_mm=tolerance_mm,
            case=sample.case, patient=sample.patient, partition=partition and volume.geometry.shape[0] == 1,
        )  # fmt: skip
        compared.append(row)
        if answer.concerns:
            marked.append(answer)
        worst.offer(sample.case, row.dice, lambda v=volume, p=answer.labels, t=truth: contours(v, p.voxels, t.voxels))  # type: ignore[misc]
    if not compared:
        raise InputError(f"no case could be judged; the first: {failed[0]}")
    if failed:
        notes.append(f"{len(failed)} of {len(data.samples)} cases could not be judged; the first: {failed[0]}")
    _note_concerns([*marked, *[CaseAnswer(c.case) for c in compared[len(marked) :]]], notes)
    if not all(c.patient for c in compared):
        notes.append(
            "No patient is known: intervals count each case as one patient, and are too narrow if that is wrong."
        )
    evaluation = judge_segmentations(
        compared,
        tuple(spec.labels.values()),
        model=predictor.model.card.model,
        missing_mm=missing_mm,
        tolerance_mm=tolerance_mm,
        seed=seed,
    )
    return replace(evaluation, pictures=worst_pictures(worst))


def spacing_of(volume: Volume | LabelMap) -> Triple | None:
    """Spacing in mm; None where there are no millimetres."""
    return None if volume.geometry.space is Space.PIXELS else volume.geometry.spacing_mm
