"""Calibration, threshold and prediction sets of a network whose scores moved: made again as they were made before."""

from dataclasses import replace

import numpy as np

from isocenter.data.card import ModelCard
from isocenter.data.dataset import Dataset
from isocenter.data.design import Design
from isocenter.data.evaluation import Predictions
from isocenter.inference.model import NetworkModel
from isocenter.inference.predictor import Predictor
from isocenter.pipeline.outcomes import outcome_of
from isocenter.pipeline.outcomes.outcome import Judging
from isocenter.training.assemble import Promises, promise
from isocenter.training.images.division import divided_as
from isocenter.types import Progress


def recalibrated(model: NetworkModel, data: Dataset, *, seed: int, on_progress: Progress | None = None) -> ModelCard:
    """The card with calibration, operating point and prediction sets by the same rules, from what this network says.

    Args:
        model: a classifier, of which only the weights changed since its card was made.
        data: that it learnt from; where it states no split `val`, the card stays as it is.
        seed: of the choice of one case a patient.
        on_progress: told each case.
    """
    card = model.card
    cases = tuple(s for s in divided_as(data, card.training).samples if s.split == "val")
    if model.spec.task != "classify" or not cases:
        return card
    bare = replace(model, card=replace(card, calibration={"method": "none"}, operating_point={}, conformal={}))
    judging = Judging([], seed, everything=data, on_progress=on_progress)
    said = outcome_of(model.spec).judged(Predictor(bare), replace(data, samples=cases), judging)
    assert isinstance(said, Predictions), "classes are said, not judged yet"
    truth, scores = np.asarray(said.truth), np.asarray(said.scores, np.float64)
    design = Design(
        "classify", said.cases, said.patients, (), np.zeros((len(truth), 0)), truth, said.classes, said.known_patients
    )
    calibration, conformal, point = promise(design, scores, promises_of(card), seed=seed, source="validation")
    return replace(card, calibration=calibration, conformal=conformal, operating_point=point)


def promises_of(card: ModelCard) -> Promises:
    """What the card's promises were made of; a calibration that could not be made is tried again."""
    point, coverage = card.operating_point, card.conformal.get("coverage")
    chosen = point.get("chosen_on") not in (None, "stated")
    return Promises(
        calibration="auto" if "why" in card.calibration else str(card.calibration.get("method", "auto")),
        coverage=0.9 if coverage is None else float(coverage),
        criterion=str(point["criterion"]) if chosen else None,
    )
