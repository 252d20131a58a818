"""A model as a folder: `card.json`, and the fitted model in a format that runs no code when it is read."""

import json
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from isocenter.data.card import ModelCard
from isocenter.errors import InputError, UnreadableFile, cause_of
from isocenter.formats.json_file import read_mapping
from isocenter.optional import require

_LEAF = -1
CARD, WEIGHTS, TENSORS, GRAPH = "card.json", "model.skops", "model.safetensors", "model.onnx"
_MOST_BYTES = 2 * 2**30

TRUSTED = (
    "isocenter.training.boosted_hazards.BoostedHazards",
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
    "sklearn.tree._tree.Tree",
)
"""Types that a model may hold beside those that skops trusts by itself. A file never adds to this list."""


def write(model: Any, card: ModelCard, folder: Path) -> None:
    """Write a fitted model and its card into an empty folder, and read it back."""
    import skops.io as skops

    data = skops.dumps(model)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS).write_bytes(data)
    write_card(replace(card, weights_sha256=sha256(data).hexdigest()), folder)
    read(folder)


def read(folder: Path) -> tuple[Any, ModelCard]:
    """The fitted model and its card.

    Raises: InputError for a folder that holds no model; UnreadableFile for one that was tampered with, or whose model
        holds a type that none of ours does.
    """
    card = read_card(folder)
    path, data = folder / WEIGHTS, _unchanged(folder / WEIGHTS, card)
    import skops.io as skops

    try:
        model = skops.loads(data, trusted=list(TRUSTED))
        _require_sound_trees(model)
        wanted = len(card.features) + bool(card.preparation.get("harmonised"))
        if model.n_features_in_ != wanted or (card.task == "classify" and len(model.classes_) != len(card.classes)):
            raise ValueError("model and card are not of one another")  # noqa: TRY301
    except Exception as error:  # skops and zipfile raise many kinds; whatever it is, the file is not ours
        raise UnreadableFile(
            f"{path}: is no model that isocenter wrote, and is not loaded ({cause_of(error)})"
        ) from error
    return model, card


def write_tensors(tensors: Mapping[str, Any], card: ModelCard, folder: Path, *, half: bool = False) -> ModelCard:
    """Write a network's weights (torch tensors) and its card into an empty folder, and read them back.

    Args:
        tensors: by name.
        card: without the hash of the weights.
        folder: empty, or not there yet.
        half: numbers of 32 bits are written with 16.
    """
    import torch
    from safetensors.torch import save

    kept = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    data = save({n: v.half() if half and v.dtype == torch.float32 else v for n, v in kept.items()})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TENSORS).write_bytes(data)
    done = replace(card, weights_sha256=sha256(data).hexdigest())
    write_card(done, folder)
    read_tensors(folder, read_card(folder))
    return done


def read_tensors(folder: Path, card: ModelCard) -> dict[str, Any]:
    """A network's weights; numbers of 16 bits are widened.

    Raises: InputError for a folder without them; UnreadableFile for a file that was changed.
    """
    path, data = folder / TENSORS, _unchanged(folder / TENSORS, card)
    safetensors = require("safetensors.torch", extra="learn")
    try:
        found = safetensors.load(data)
        return {name: value.float() if value.is_floating_point() else value for name, value in found.items()}
    except Exception as error:  # whatever the reader says, the file is not ours
        raise UnreadableFile(f"{path}: holds no weights that can be read ({cause_of(error)})") from error


def write_graph(data: bytes, card: ModelCard, folder: Path) -> None:
    """Write an ONNX network and its card into an empty folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / GRAPH).write_bytes(data)
    write_card(replace(card, weights_sha256=sha256(data).hexdigest()), folder)


def read_graph(folder: Path, card: ModelCard) -> bytes:
    """An ONNX network.

    Raises: InputError for a folder without it; UnreadableFile for a file that was changed.
    """
    return _unchanged(folder / GRAPH, card)


def write_card(card: ModelCard, folder: Path) -> None:
    """Write a card, whole or not at all."""
    partial = folder / f".{CARD}.partial"
    partial.write_text(json.dumps(card.as_json(), indent=2, ensure_ascii=False, allow_nan=False), "utf-8")
    partial.replace(folder / CARD)


def _unchanged(path: Path, card: ModelCard) -> bytes:
    """The weights, if they are those that the card means.

    Raises: InputError where they lack; UnreadableFile where they were changed.
    """
    if not path.is_file():
        raise InputError(f"{path.parent}: has a card and no {path.name}: the model is not whole")
    if path.stat().st_size > _MOST_BYTES:
        raise UnreadableFile(f"{path}: a model of this kind is at most {_MOST_BYTES >> 30} GiB")
    data = path.read_bytes()
    if sha256(data).hexdigest() != card.weights_sha256:
        raise UnreadableFile(f"{path}: does not match the hash in its card: it was changed; take the original")
    return data


def _require_sound_trees(model: Any) -> None:
    """Refuse a tree whose nodes point outside it, which compiled code would follow.

    Raises: ValueError.
    """
    last = model.named_steps["model"]
    if hasattr(last, "require_sound"):
        last.require_sound()
    found: list[tuple[Any, Any, Any]] = []
    members = [last, *(list(np.ravel(last.estimators_)) if hasattr(last, "estimators_") else ())]
    trees = [one.tree_ for one in members if hasattr(one, "tree_")]
    found += [(tree.children_left, tree.children_right, tree.feature) for tree in trees]
    for row in getattr(last, "_predictors", ()):
        for one in row:
            leaf = one.nodes["is_leaf"].astype(bool)
            if not len(one.nodes) or one.nodes["is_categorical"].any():
                raise ValueError("a tree without nodes, or with questions that ours do not ask")
            sides = [np.where(leaf, -1, one.nodes[side].astype(np.int64)) for side in ("left", "right")]
            found.append((sides[0], sides[1], np.where(leaf, -2, one.nodes["feature_idx"].astype(np.int64))))
    _require_sound_support(last)
    for left, right, feature in found:
        here = np.arange(len(left))
        inner = left != _LEAF
        ends = [(side > here) & (side < len(left)) for side in (left, right)]
        if not (np.all(ends[0][inner]) and np.all(ends[1][inner]) and np.all(right[~inner] == _LEAF) and len(left)):
            raise ValueError("a tree's nodes point outside it")
        if np.any(feature[inner] < 0) or np.any(feature[inner] >= last.n_features_in_):
            raise ValueError("a tree asks for a feature that is not there")


def _require_sound_support(last: Any) -> None:
    """Refuse a support vector machine whose arrays do not fit each other.

    Raises: ValueError.
    """
    if not hasattr(last, "support_vectors_"):
        return
    count, width = last.support_vectors_.shape
    fits = (
        last._dual_coef_.shape[1] == count == len(last.support_)
        and int(np.sum(last._n_support)) in {count, 0}  # noqa: SLF001
        and width == last.n_features_in_ == last.shape_fit_[1]
    )
    if not fits:
        raise ValueError("a support vector machine whose arrays do not fit each other")


def read_card(folder: Path) -> ModelCard:
    """The card alone.

    Raises: InputError for a folder without one.
    """
    path = folder / CARD
    if not path.is_file():
        raise InputError(f"{folder}: is no model: a folder with {CARD} is wanted")
    data = read_mapping(path)
    try:
        return ModelCard.from_json(data)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
