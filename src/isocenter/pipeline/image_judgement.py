"""`evaluate` on images: a model on cases whose truth is known, or folders of masks beside a reference."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from isocenter.data.dataset import Dataset
from isocenter.data.evaluation import Evaluation, Predictions
from isocenter.data.message import Message
from isocenter.data.provenance import Json
from isocenter.errors import InputError
from isocenter.evaluation.point import OperatingPoint, point_of
from isocenter.inference.predictor import Predictor, Running
from isocenter.pipeline.image_prediction import with_channels
from isocenter.pipeline.images import case_key, image_items, known_images
from isocenter.pipeline.inputs import open_for
from isocenter.pipeline.outcomes import outcome_of
from isocenter.pipeline.outcomes.outcome import Judging
from isocenter.training.images.division import divided_as
from isocenter.training.leaks import Item
from isocenter.types import Progress

_PICTURES = 6


def test_cases(data: Dataset, training: Mapping[str, Any], split: str | None, notes: list[Message]) -> Dataset:
    """The cases that may judge a model: those of the split, or `test` where there is one, and none of its training.

    Raises: InputError where the model was trained on some of them.
    """
    rule = int(training.get("hold_out") or 0)
    plain = data.without_splits() if training.get("resplit") else data
    anew = split is None and not plain.splits and (rule > 0 or plain is not data)
    every = image_items(plain) if anew else None
    own = every is not None and bool(known_images(training, every, plain))
    every = every if own or plain is data else None
    try:
        data = divided_as(data, training) if own else data  # the data that it learnt from: others are judged whole
    except InputError:
        own, every = False, None
    wanted = split or ("test" if "test" in data.splits else None)
    chosen = data if wanted is None else data.of(wanted)
    items = image_items(chosen) if every is None else _among(every, chosen)
    known = known_images(training, items, chosen)
    if known and split == "val" and len(known_images(_judging(training), items, chosen)) == len(chosen.samples):
        told = {"chosen": "threshold and calibration were chosen on them"}
        notes.append(Message("Validation cases: the network never learnt from them; {chosen}.", told))
        known = set()
    if known:
        beside = " (--split val: those that chose its threshold)" if split is None and "val" in data.splits else ""
        raise InputError(
            f"{data.path}: the model was trained on {len(known)} of these {len(chosen.samples)} cases, or on their "
            f"patients (such as {min(known)}), so they cannot judge it; give others, or a split{beside}"
        )
    if own and rule and wanted == "test":
        text = "Test cases: one patient of every {rule}, held back when the model was trained."
        notes.append(Message(text, {"rule": rule}))
    return chosen


def _among(items: Sequence[Item], chosen: Dataset) -> list[Item]:
    """The items of some cases, by the splits that these have now."""
    found = {item.name: item for item in items}
    keys = [(s, *case_key(s)) for s in chosen.samples if s.case in found]
    return [replace(found[sample.case], split=split, name=name) for sample, split, name in keys]


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
    notes: list[Message],
    on_progress: Progress | None = None,
) -> tuple[Evaluation | Predictions, OperatingPoint | None, dict[str, Json]]:
    """A model of images on a data set: an evaluation of a segmentation, or predictions that are still to be judged.

    Raises: InputError for cases that cannot judge the model, and where none can be predicted.
    """
    predictor = Predictor(model, running)
    card, spec = predictor.model.card, predictor.model.spec
    everything = open_for(spec.task, data, group=group, target=target or card.own_target, split=split_column)
    everything = with_channels(everything, predictor.model)  # images are known again by the order of their channels
    chosen = test_cases(everything, card.training, split, notes)
    absent = [name for name in subgroups if name not in chosen.samples[0].groups]
    if absent:
        raise InputError(f"{chosen.path}: has no column {absent[0]!r} for --subgroup")
    if everything.problems:
        text = "{count} entries of the data set are wrong and not judged; the first: {why}"
        notes.append(Message(text, {"count": len(everything.problems), "why": str(everything.problems[0])}))
    made = [s.groups["made"] for s in chosen.samples if s.groups.get("made")]
    if made:
        text = (
            "{count} of {all} cases are marked as made ({what}): what is measured on them is not measured on patients."
        )
        notes.append(Message(text, {"count": len(made), "all": len(chosen.samples), "what": made[0]}))
    more: dict[str, Json] = {
        "split": split or ("test" if "test" in chosen.splits else None),
        "model_sha256": card.weights_sha256,
    }
    judging = Judging(notes, seed, subgroups, everything, on_progress)
    result = outcome_of(spec).judged(predictor, chosen, judging)
    if isinstance(result, Evaluation):
        return replace(result, data={**result.data, **more}), None, more
    more |= {
        "calibrated": card.calibration.get("method") not in (None, "none"),
        "promised_coverage": card.conformal.get("coverage"),
    }
    return result, point_of(card.operating_point), more
