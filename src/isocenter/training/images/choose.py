"""Fingerprint -> plan: defaults that follow from the data, from the machine, and from how long it may take."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from isocenter.data.dataset import Answers
from isocenter.data.volume import Quantity
from isocenter.errors import InputError
from isocenter.inference.prepare import Preparation
from isocenter.networks.catalogue import NETWORKS, Network, network
from isocenter.training.images.defaults import DEFAULTS, SEQUENCES
from isocenter.training.images.defaults.defaults import Basis, Defaults
from isocenter.training.images.fingerprint import Fingerprint
from isocenter.training.images.plan import Plan, plan_of
from isocenter.training.images.trials import put

_DROPPED = 0.15
"""Chance that a modality is left out while learning, so that a model can do without."""


@dataclass(frozen=True)
class Wish:
    """What the user fixes; None: chosen.

    Args:
        network: its name.
        settings: of the network.
        laterality: `fixed`, `free`; None: by the task.
        seed: of everything random; None: the plan's, or 0.
        plan: fields of the plan that are set by hand, as `schedule.learning_rate`.
    """

    network: str | None = None
    settings: Mapping[str, Any] | None = None
    laterality: str | None = None
    seed: int | None = None
    plan: Mapping[str, Any] | None = None


def first_plan(seen: Fingerprint, task: Answers, wish: Wish, *, channels: tuple[str, ...]) -> Plan:
    """A plan without steps: everything that follows from the data alone.

    Raises: InputError for wishes that do not fit.
    """
    own, wished = (seen.frames and SEQUENCES.get(task)) or DEFAULTS[task], wish.plan or {}
    dims = own.dims(seen)
    preparation = _preparation(seen, own, dims)
    name = wish.network or own.network(seen, preparation)
    row = _fitting(name, task, own)
    if dims not in row.dims:
        raise InputError(f"{name} exists in {row.dims[0]} dimensions; this data has {dims}")
    if preparation.size is not None and min(preparation.size) < row.least:
        preparation = preparation.model_copy(update={"size": tuple(max(n, row.least) for n in preparation.size)})
    preparation = _on_wished_grid(preparation, wished.get("preparation.spacing_mm"))
    patch = own.patch(seen, preparation, row)
    settings = _settings(own, Basis(seen, preparation, patch, name, wished), wish.settings or {})
    data: dict[str, Any] = {
        "task": task, "classes": tuple(seen.classes), "labels": dict(seen.labels), "channels": channels,
        "preparation": preparation.model_dump(), "patch": patch, "value_scale": seen.scale,
        "network": {"name": name, "settings": settings},
        "loss": {"name": own.loss}, "laterality": wish.laterality or own.laterality(seen), "seed": wish.seed or 0,
        "augmentation": own.augmentation(seen, preparation), "schedule": own.schedule(seen, preparation),
    }  # fmt: skip
    data |= own.more(seen, wished)
    if len(channels) > 1 and seen.channels == len(channels):
        data["preparation"]["may_lack"] = True
        data["augmentation"]["drop_modality"] = _DROPPED
    for key, value in wished.items():
        put(data, key, value)
    if "preparation.may_lack" not in wished and not data["augmentation"].get("drop_modality"):
        data["preparation"]["may_lack"] = False  # what was never left out while learning cannot be lacked
    if own.sized and wished.get("preparation.size") and "patch" not in wished:
        data["patch"] = wished["preparation.size"]  # whole images are seen at once
    return plan_of(data, "the plan")


def _on_wished_grid(preparation: Preparation, spacing: object) -> Preparation:
    """The same on a grid of the spacing that is wished for, which windows then fit; the plan refuses bad ones."""
    try:
        own = np.asarray(spacing, np.float64)
    except (TypeError, ValueError):
        return preparation
    if own.shape != (3,) or not np.all(np.isfinite(own) & (own > 0)):
        return preparation
    return preparation.model_copy(update={"spacing_mm": tuple(own.tolist())})


def _settings(own: Defaults, basis: Basis, given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that follow from the data, below those that are wished for."""
    if basis.name == "dynamic_unet" and "widths" in given:  # stages come in one piece
        steps = tuple((1 if i == 0 else 2,) * len(basis.patch) for i in range(len(given["widths"])))
        return dict(given) if {"strides", "blocks"} & set(given) else {**given, "strides": steps}
    return {**own.settings(basis), **given}


def _fitting(name: str, task: Answers, own: Defaults) -> Network:
    """The row of the catalogue.

    Raises: InputError for a network that answers otherwise.
    """
    row, wanted = network(name), own.answers
    if row.answers != wanted:
        fitting = ", ".join(n for n, r in NETWORKS.items() if r.answers == wanted)
        raise InputError(f"{name} answers for each {row.answers}, which does not fit {task}; there are {fitting}")
    return row


def _preparation(seen: Fingerprint, own: Defaults, dims: int) -> Preparation:
    """Spacing, size and intensities."""
    how: dict[str, Any] = {"dims": dims, "channels": seen.channels, **own.layout(seen, dims)}
    scaled = own.intensity(seen)
    if scaled is not None:
        return Preparation.model_validate({**how, **scaled})
    units = {str(Quantity.HU), str(Quantity.SUV)}
    if seen.quantity in units:
        how |= _foreground(seen, "low", "high")
    elif seen.whole_numbers:
        how |= _foreground(seen, "least", "most")
    else:
        how["intensity"] = "zscore"
    return Preparation.model_validate(how)


def _foreground(seen: Fingerprint, low: str, high: str) -> dict[str, Any]:
    return {
        "intensity": "foreground",
        "low": tuple(one[low] for one in seen.intensity), "high": tuple(one[high] for one in seen.intensity),
        "mean": tuple(one["mean"] for one in seen.intensity),
        "deviation": tuple(one["deviation"] or 1.0 for one in seen.intensity),
    }  # fmt: skip
