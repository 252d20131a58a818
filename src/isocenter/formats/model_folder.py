"""A model as a folder: `card.json`, and the fitted model in a format that runs no code when it is read."""

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from isocenter.data.card import ModelCard
from isocenter.errors import InputError, UnreadableFile, cause_of

CARD, WEIGHTS = "card.json", "model.skops"
_MOST_BYTES = 2 * 2**30

TRUSTED = (
    "isocenter.training.cox.CoxElasticNet",
    "isocenter.training.steps.ComBat",
    "isocenter.training.steps.CorrelationFilter",
    "isocenter.training.steps.RelevantFeatures",
    "numpy.dtype",
    "sklearn._loss.link.IdentityLink",
    "sklearn._loss.link.Interval",
    "sklearn._loss.link.LogitLink",
    "sklearn._loss.link.MultinomialLogit",
    "sklearn._loss.loss.HalfBinomialLoss",
    "sklearn._loss.loss.HalfMultinomialLoss",
    "sklearn._loss.loss.HalfSquaredError",
    "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.neighbors._kd_tree.KDTree",
)
"""Types that a model may hold beside those that skops trusts by itself. A file never adds to this list."""


def write(model: Any, card: ModelCard, folder: Path) -> None:
    """Write a fitted model and its card into an empty folder, and read it back."""
    import skops.io as skops

    data = skops.dumps(model)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS).write_bytes(data)
    card = replace(card, weights_sha256=sha256(data).hexdigest())
    (folder / CARD).write_text(json.dumps(card.as_json(), indent=2, ensure_ascii=False, allow_nan=False), "utf-8")
    read(folder)


def read(folder: Path) -> tuple[Any, ModelCard]:
    """The fitted model and its card.

    Raises: InputError for a folder that holds no model; UnreadableFile for one that was tampered with, or whose model
        holds a type that none of ours does.
    """
    card = read_card(folder)
    path = folder / WEIGHTS
    if not path.is_file():
        raise InputError(f"{folder}: has a card and no {WEIGHTS}: the model is not whole")
    if path.stat().st_size > _MOST_BYTES:
        raise UnreadableFile(f"{path}: a model of this kind is at most {_MOST_BYTES >> 30} GiB")
    data = path.read_bytes()
    if sha256(data).hexdigest() != card.weights_sha256:
        raise UnreadableFile(f"{path}: does not match the hash in its card: it was changed; take the original")
    import skops.io as skops

    try:
        return skops.loads(data, trusted=list(TRUSTED)), card
    except Exception as error:  # skops and zipfile raise many kinds; whatever it is, the file is not ours
        raise UnreadableFile(
            f"{path}: is no model that isocenter wrote, and is not loaded ({cause_of(error)})"
        ) from error


def read_card(folder: Path) -> ModelCard:
    """The card alone.

    Raises: InputError for a folder without one.
    """
    path = folder / CARD
    if not path.is_file():
        raise InputError(f"{folder}: is no model: a folder with {CARD} is wanted")
    try:
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UnreadableFile(f"{path}: cannot be read ({cause_of(error)})") from error
    try:
        return ModelCard.from_json(data)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
