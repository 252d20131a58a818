"""Networks that were trained elsewhere, with a card that somebody writes: ONNX, MONAI bundles, bare weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from isocenter.data.card import ModelCard
from isocenter.data.dataset import Answers
from isocenter.errors import InputError, UnreadableFile, cause_of
from isocenter.formats.yaml_file import read_plain
from isocenter.inference.model import NetworkSpec, Spec, build_of, with_weights
from isocenter.inference.onnx_network import Layout, OnnxNetwork, Output
from isocenter.inference.prepare import Preparation

_MOST_VOXELS = 2**27
ONNX = "onnx"
"""Name of the network in the card of a model that is an ONNX file."""


T = TypeVar("T", bound=BaseModel)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class About(_Part):
    """What a card says in words."""

    name: str | None = Field(default=None, description="What the model is called.")
    intended_use: str | None = Field(default=None, description="What it is for, and what not.")
    limits: str | None = Field(default=None, description="Where it is known to fail, and what was never tested.")
    licence: str | None = Field(default=None, description="Of the weights.")
    data: str | None = Field(default=None, description="What it was trained on.")
    data_licence: str | None = Field(default=None, description="Of that data.")


class OnnxPart(_Part):
    """How an ONNX network is spoken to."""

    layout: Layout = "channels_first"
    output: Output = "logits"


class ForeignCard(_Part):
    """What must be known of a network before it may answer."""

    task: Answers
    classes: tuple[str, ...] = Field(default=(), description="classify: in the order of the outputs.")
    labels: dict[int, str] = Field(default_factory=dict, description="segment: value -> name, in the outputs' order.")
    channels: tuple[str, ...] = ("image",)
    preparation: Preparation
    patch: tuple[int, ...] = Field(description="What the network sees at once, by axis.")
    answer: str | None = Field(default=None, description="softmax, sigmoid or value; by the task without.")
    value_scale: tuple[float, float] = Field(
        default=(0.0, 1.0), description="regress: a value is the network's number times the second, and the first more."
    )
    flips: tuple[int, ...] = ()
    network: NetworkSpec | None = Field(default=None, description="Weights alone: a network of the catalogue.")
    onnx: OnnxPart = OnnxPart()
    gate: dict[str, Any] = Field(default_factory=dict, description="quantity, spacing_mm, extent_mm: of its training.")
    about: About = About()


def read_foreign_card(path: Path) -> ForeignCard:
    """A card from YAML or JSON.

    Raises: InputError that names the field; UnreadableFile for what is neither.
    """
    return _validated(ForeignCard, read_plain(path), path)


def read_about(path: Path) -> About:
    """What a card says in words, from YAML.

    Raises: InputError that names the field; UnreadableFile for what is no YAML.
    """
    return _validated(About, read_plain(path), path)


def _validated(kind: type[T], data: object, path: Path) -> T:
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "as a whole"
        known = ", ".join(kind.model_fields)
        raise InputError(f"{path}: {field}: {first['msg']}; a card has {known}") from error


def _require_sense(card: ForeignCard, network: NetworkSpec, path: Path) -> None:
    """Refuse a card that contradicts itself, before anything is run.

    Raises: InputError.
    """
    allowed = {"classify": ("softmax", "sigmoid"), "regress": ("value",), "segment": ("softmax",)}[card.task]
    if card.answer is not None and card.answer not in allowed:
        raise InputError(f"{path}: answer: {card.answer} does not fit {card.task}; there is {', '.join(allowed)}")
    if card.answer == "sigmoid" and network.name == ONNX and (len(card.classes) == 2 or card.onnx.output != "logits"):
        raise InputError(
            f"{path}: answer: sigmoid is for logits of several classes; for two classes, and for probabilities, leave "
            "it away"
        )
    if any(not 1 <= n <= 2048 for n in card.patch) or np.prod([float(n) for n in card.patch]) > _MOST_VOXELS:
        raise InputError(f"{path}: patch: {card.patch} is no size that a network sees at once")
    if any(value < 1 for value in card.labels):
        raise InputError(f"{path}: labels: values are 1 or more; 0 is background, and needs no name")
    if len(card.channels) not in (1, card.preparation.channels):
        raise InputError(
            f"{path}: channels: {len(card.channels)} are named, and preparation.channels says "
            f"{card.preparation.channels}"
        )


def spec_of_foreign(card: ForeignCard, network: NetworkSpec, path: Path) -> Spec:
    """What the network eats and gives.

    Raises: InputError for a card that contradicts itself.
    """
    usual = "value" if card.task == "regress" else "softmax"
    _require_sense(card, network, path)
    try:
        spec = Spec.model_validate({
            "task": card.task, "classes": card.classes, "labels": card.labels, "channels": card.channels,
            "preparation": card.preparation, "patch": card.patch, "network": network,
            "answer": card.answer or usual, "flips": card.flips, "value_scale": card.value_scale,
        })  # fmt: skip
    except ValidationError as error:
        raise InputError(f"{path}: {cause_of(error)}") from error
    if len(spec.patch) != spec.preparation.dims:
        raise InputError(f"{path}: patch has {len(spec.patch)} axes, preparation {spec.preparation.dims} dimensions")
    if card.task == "classify" and len(card.classes) < 2:
        raise InputError(f"{path}: classes: a classifier has two or more")
    if card.task == "segment" and not card.labels:
        raise InputError(f"{path}: labels: a segmentation has one or more, as {{1: liver}}")
    _require_ranges(card.gate, path)
    if card.task != "segment" and spec.preparation.size != spec.patch:
        raise InputError(f"{path}: preparation.size: whole images are looked at, so it equals patch ({spec.patch})")
    return spec


def onnx_model(path: Path, card: ForeignCard, where: Path) -> tuple[bytes, ModelCard]:
    """An ONNX file that answers as its card says: it is run once.

    Raises: InputError, UnreadableFile, with what does not fit.
    """
    spec = spec_of_foreign(card, NetworkSpec(name=ONNX, settings=card.onnx.model_dump()), where)
    data = path.read_bytes()
    _require_answer(OnnxNetwork(data, path, outputs=spec.outputs, **card.onnx.model_dump()), spec, path)
    return data, _card(card, spec, "ONNX", path)


def weights_model(
    tensors: Mapping[str, Tensor], card: ForeignCard, where: Path, origin: Path
) -> tuple[dict[str, Tensor], ModelCard]:
    """Weights of a network of the catalogue, every one of which must fit.

    Raises: InputError, UnreadableFile, with what does not fit.
    """
    if card.network is None:
        raise InputError(f"{where}: network: weights alone do not say what they belong to; name it, as "
                         "{name: segresnet, settings: {}}; see `isocenter networks`")  # fmt: skip
    spec = spec_of_foreign(card, card.network, where)
    module = with_weights(build_of(spec), tensors, origin)
    _require_answer(module, spec, origin)
    return dict(tensors), _card(card, spec, card.network.name, origin)


def _require_answer(module: torch.nn.Module, spec: Spec, path: Path) -> None:
    """Run the network once on zeros.

    Raises: UnreadableFile where it answers with another shape, or with what is no number.
    """
    try:
        with torch.inference_mode():
            found = module(torch.zeros((1, spec.inputs, *spec.patch)))
    except RuntimeError as error:
        raise UnreadableFile(f"{path}: does not run on windows of {spec.patch} ({cause_of(error)})") from error
    wanted = (1, spec.outputs, *(spec.patch if spec.task == "segment" else ()))
    if tuple(found.shape) != wanted or not bool(torch.isfinite(found).all()):
        raise UnreadableFile(f"{path}: answers with {tuple(found.shape)}; the card says {wanted}")


def _card(card: ForeignCard, spec: Spec, kind: str, path: Path) -> ModelCard:
    target = {"classify": "class", "regress": "value", "segment": "labels"}[card.task]
    made = ModelCard(
        card.task, card.about.name or path.stem, (target,), card.classes, (), network=spec.model_dump(mode="json"),
        gate=card.gate, preparation=spec.preparation.model_dump(mode="json"),
        training={"kind": f"trained elsewhere ({kind})", "data": "not stated"}, lineage={"from": path.name},
        intended_use="Research only; not for clinical use. Brought from elsewhere: nothing was measured here.",
    )  # fmt: skip
    return said_by(made, card.about)


def said_by(card: ModelCard, about: About) -> ModelCard:
    """The card with what its user says of it."""
    from dataclasses import replace

    training = dict(card.training)
    if about.data is not None:
        training["data"] = about.data
    if about.data_licence is not None:
        training["licence"] = about.data_licence
    words = {key: getattr(about, key) for key in ("intended_use", "limits", "licence") if getattr(about, key)}
    return replace(card, training=training, model=about.name or card.model, **words)


def _require_ranges(gate: Mapping[str, Any], path: Path) -> None:
    """Refuse a gate whose ranges are none.

    Raises: InputError.
    """
    for name, value in gate.items():
        if name == "quantity" and isinstance(value, str):
            continue
        if name not in ("spacing_mm", "extent_mm", "shape"):
            raise InputError(f"{path}: gate: {name!r} is none of quantity, spacing_mm, extent_mm, shape")
        try:
            low, high = np.asarray(value, np.float64)
            good = low.shape == (3,) and bool((low > 0).all() and (high >= low).all())
        except (ValueError, TypeError):
            good = False
        if not good:
            raise InputError(
                f"{path}: gate.{name}: two rows are wanted, smallest and largest, as [[1, 1, 1], [3, 1, 1]]"
            )
