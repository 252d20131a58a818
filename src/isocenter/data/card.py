"""What a model states about itself: what it eats and gives, how it was made, how well it did, and for whom."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any, Literal, get_args

from isocenter.data.provenance import Json
from isocenter.errors import InputError

Task = Literal["classify", "regress", "survive", "segment", "detect", "enhance", "generate", "anomaly", "forecast"]
SCHEMA = 1
VALIDATED = "validated"
"""Where metrics stand that an evaluation of the validation cases found; they are no test."""
NAMELESS = ("class", "value")
"""What models of images call classes and values that no column names."""


def _hash(data: Mapping[str, Any]) -> str:
    text = json.dumps(data, sort_keys=True, ensure_ascii=True, default=list)
    return sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class ModelCard:
    """One model.

    Args:
        task: what it answers.
        model: its kind, as `forest`.
        target: the column that it predicts; of survival, the time's and the event's.
        classes: of a classifier, in the order of its probabilities.
        features: columns that it needs, in order; of a model of images, none.
        network: of a model of images: what it eats and gives; see `inference.model.Spec`.
        gate: of a model of images: what its training images were like; others are marked or refused.
        preparation: what is done to them, and their units where they are known.
        operating_point: threshold of the positive class, and the criterion by which it was chosen.
        calibration: how scores become probabilities.
        conformal: quantiles of prediction sets or intervals.
        training: data: hash, cases, patients, dates.
        metrics: by cross-validation on the training data: name -> value and interval.
        lineage: versions, settings, seed.
        intended_use: what it is for, and what not.
        limits: where it is known to fail, and what was never tested.
        licence: of the weights.
        weights_sha256: of the file with the fitted model.
    """

    task: Task
    model: str
    target: tuple[str, ...]
    classes: tuple[str, ...]
    features: tuple[str, ...]
    network: Mapping[str, Json] = field(default_factory=dict)
    gate: Mapping[str, Json] = field(default_factory=dict)
    preparation: Mapping[str, Json] = field(default_factory=dict)
    operating_point: Mapping[str, Json] = field(default_factory=dict)
    calibration: Mapping[str, Json] = field(default_factory=dict)
    conformal: Mapping[str, Json] = field(default_factory=dict)
    training: Mapping[str, Json] = field(default_factory=dict)
    metrics: Mapping[str, Json] = field(default_factory=dict)
    lineage: Mapping[str, Json] = field(default_factory=dict)
    intended_use: str = "Research only; not for clinical use. No claim beyond data like those it was trained on."
    limits: str = "Not stated."
    licence: str = "unspecified: state one before sharing"
    weights_sha256: str = ""

    @property
    def own_target(self) -> str | None:
        """The column that a model of images learnt from; None where it had no name of its own."""
        plain = self.task not in ("classify", "regress") or self.features or self.target[0] in NAMELESS
        return None if plain else self.target[0]

    def as_json(self) -> dict[str, Json]:
        """Plain data, with a hash of it that tells an edited card."""
        plain = {"schema": SCHEMA, **asdict(self)}
        return {**plain, "sha256": _hash(plain)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ModelCard":
        """A card from plain data.

        Raises: InputError for what is no card of this version.
        """
        if not isinstance(data, Mapping) or data.get("schema") != SCHEMA:
            raise InputError("this is no model card of this version of isocenter")
        if data.get("sha256") != _hash({key: value for key, value in data.items() if key != "sha256"}):
            raise InputError("the model card was edited after it was written: its hash does not fit; take the original")
        known = {key: value for key, value in data.items() if key not in ("schema", "sha256")}
        wanted = set(cls.__dataclass_fields__)
        if set(known) != wanted:
            odd = sorted(set(known) ^ wanted)
            raise InputError(f"the model card has other fields than it should: {', '.join(odd)[:200]}")
        for key in ("target", "classes", "features"):
            if not isinstance(known[key], list) or not all(isinstance(item, str) for item in known[key]):
                raise InputError(f"the model card's {key} is no list of texts")
            known[key] = tuple(known[key])
        if known["task"] not in get_args(Task):
            raise InputError("the model card's task is none that is known")
        return cls(**known)
