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
from isocenter.training.images import detection
from isocenter.training.images.fingerprint import Fingerprint
from isocenter.training.images.plan import Plan, plan_of
from isocenter.training.images.trials import put

_MOST_VOXELS_3D, _MOST_VOXELS_2D = 96**3 // 2, 256**2
_LARGEST_PICTURE = 224


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
    dims = _dims(seen, task)
    preparation = _preparation(seen, task, dims)
    name = wish.network or _network(seen, task, preparation)
    row = _fitting(name, task)
    if dims not in row.dims:
        raise InputError(f"{name} exists in {row.dims[0]} dimensions; this data has {dims}")
    if preparation.size is not None and min(preparation.size) < row.least:
        preparation = preparation.model_copy(update={"size": tuple(max(n, row.least) for n in preparation.size)})
    patch = preparation.size or _patch(seen, preparation, row.multiple, row.least)
    settings = dict(wish.settings or {})
    if name == "dynamic_unet" and "widths" not in settings:
        settings |= _stages(patch, preparation, base=32)
    if name == "dynamic_unet" and not {"strides", "blocks"} & set(settings):
        settings |= {"strides": tuple((1 if i == 0 else 2,) * dims for i in range(len(settings["widths"])))}
    if task == "detect":
        settings = {**detection.levels(seen, preparation, patch, name), **settings}
    data: dict[str, Any] = {
        "task": task, "classes": tuple(seen.classes), "labels": dict(seen.labels), "channels": channels,
        "preparation": preparation.model_dump(), "patch": patch, "network": {"name": name, "settings": settings},
        "loss": {"name": _LOSS[task]},
        "laterality": wish.laterality or _laterality(seen, task),
        "seed": wish.seed or 0,
    }  # fmt: skip
    data["augmentation"] = _augmentation(seen, task, preparation)
    data["schedule"] = _schedule(seen, task, preparation)
    if task == "classify":
        data["loss"]["label_smoothing"] = 0.05
        counts = list(seen.classes.values())
        data["balance"] = max(counts) > 10 * min(counts)
    wished = wish.plan or {}
    for key, value in wished.items():
        put(data, key, value)
    if task != "segment" and wished.get("preparation.size") and "patch" not in wished:
        data["patch"] = wished["preparation.size"]  # a classifier sees whole images
    return plan_of(data, "the plan")


def _fitting(name: str, task: Answers) -> Network:
    """The row of the catalogue.

    Raises: InputError for a network that answers otherwise.
    """
    row, wanted = network(name), {"segment": "voxel", "detect": "object"}.get(task, "image")
    if row.answers != wanted:
        fitting = ", ".join(n for n, r in NETWORKS.items() if r.answers == wanted)
        raise InputError(f"{name} answers for each {row.answers}, which does not fit {task}; there are {fitting}")
    return row


_LOSS = {"classify": "cross_entropy", "regress": "huber", "segment": "dice_ce", "detect": "own"}


def _laterality(seen: Fingerprint, task: Answers) -> str:
    """Left and right are alike in pictures of what has no sides, unless a name says otherwise."""
    named = any(side in name.lower() for name in (*seen.classes, *seen.labels.values()) for side in ("left", "right"))
    return "free" if task in ("segment", "detect") and seen.spacing is None and not named else "fixed"


def _dims(seen: Fingerprint, task: Answers) -> int:
    """2 where images are pictures, or volumes of few thick slices; else 3."""
    depth, height, width = seen.shape
    if max(shape[0] for shape in seen.shapes) == 1:
        return 2
    if task != "segment":
        return 3
    spacing = seen.spacing
    thick = spacing is not None and spacing[0] > 3 * min(spacing[1:])
    few = depth * 6 <= min(height, width) and spacing is None
    return 2 if (thick and depth < 30) or few or depth < 4 else 3


def _preparation(seen: Fingerprint, task: Answers, dims: int) -> Preparation:
    """Spacing, size and intensities."""
    how: dict[str, Any] = {"dims": dims, "channels": seen.channels}
    spacing = seen.spacing
    if task == "detect" and dims == 2:
        how["size"] = detection.picture_size(seen)
    one_size = len(set(seen.shapes)) == 1
    if task == "segment":
        if spacing is not None:
            how |= {"orient": dims == 3, "spacing_mm": spacing}
    elif task == "detect":
        how |= {"orient": spacing is not None, "spacing_mm": spacing} if dims == 3 else {}
    elif not (one_size and max(seen.shape) <= _LARGEST_PICTURE):
        shape = seen.shape[1:] if dims == 2 else seen.shape
        most = _LARGEST_PICTURE if dims == 2 else 96
        scale = min(1.0, most / max(shape))
        how["size"] = tuple(max(16, round(n * scale / 8) * 8) if n > 16 else n for n in shape)
        how["orient"] = dims == 3 and spacing is not None
    else:
        how["size"] = seen.shape[1:] if dims == 2 else seen.shape
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


def _network(seen: Fingerprint, task: Answers, preparation: Preparation) -> str:
    if task == "segment":
        return "dynamic_unet"
    if task == "detect":
        return "mask_rcnn" if seen.masks else "retinanet"
    return "resnet" if preparation.size is not None and max(preparation.size) <= 64 else "resnet18"


def prepared_shape(seen: Fingerprint, preparation: Preparation) -> tuple[int, int, int]:
    """Median shape on the network's grid."""
    shape = np.asarray(seen.shape, np.float64)
    if preparation.spacing_mm is not None and seen.spacing is not None:
        shape *= np.asarray(seen.spacing) / np.asarray(preparation.spacing_mm)
    found = np.maximum(1, np.rint(shape)).astype(int)
    return int(found[0]), int(found[1]), int(found[2])


def _patch(seen: Fingerprint, preparation: Preparation, multiple: int, least: int) -> tuple[int, ...]:
    """The median image, rounded up to what can be halved; cut down evenly where it is too large."""
    dims = preparation.dims
    shape = np.asarray(prepared_shape(seen, preparation)[3 - dims :], np.float64)
    most = _MOST_VOXELS_2D if dims == 2 else _MOST_VOXELS_3D
    while np.prod(shape) > most:
        axis = int(np.argmax(shape))
        shape[axis] *= 0.95
    step = max(multiple, 8)
    return tuple(int(max(least, step, np.ceil(n / step) * step)) if n > step / 2 else step for n in shape)


def _stages(patch: tuple[int, ...], preparation: Preparation, *, base: int) -> dict[str, Any]:
    """Strides that halve the axes until 4 voxels are left; thick axes are halved later, as nnU-Net does."""
    dims = len(patch)
    size = np.asarray(patch, np.float64)
    step = np.asarray(preparation.spacing_mm or (1.0, 1.0, 1.0), np.float64)[3 - dims :]
    strides, kernels, widths = [(1,) * dims], [_kernel(step, dims)], [base]
    while len(widths) < 6:
        can = (size >= 8) & (size % 2 == 0) & (step <= 2 * step[size >= 8].min(initial=np.inf))
        if not can.any():
            break
        stride = tuple(2 if yes else 1 for yes in can)
        size, step = size / np.asarray(stride), step * np.asarray(stride)
        strides.append(stride)
        kernels.append(_kernel(step, dims))
        widths.append(min(2 * widths[-1], 320 if dims == 3 else 512))
    # Batch normalisation, where nnU-Net has instances: folded into the convolutions it costs a prediction nothing.
    return {"widths": tuple(widths), "strides": tuple(strides), "kernels": tuple(kernels), "norm": "batch"}


def _kernel(step: Any, dims: int) -> tuple[int, ...]:
    """3 along each axis, 1 along one that is more than twice as coarse as the finest."""
    finest = float(np.min(step))
    return tuple(1 if s > 2 * finest else 3 for s in step[:dims])


def _augmentation(seen: Fingerprint, task: Answers, preparation: Preparation) -> dict[str, Any]:
    if task == "detect":
        return detection.augmentation(seen, preparation)
    if task == "segment":
        pictures = preparation.dims == 2 and seen.spacing is None and max(s[0] for s in seen.shapes) == 1
        how: dict[str, Any] = {
            "flip": (preparation.dims == 3, True, True),
            "rotate_degrees": 180.0 if pictures else 20.0,
        }
        if preparation.dims == 3:
            how["flip"] = (False, False, True)
        elif not pictures:
            how["flip"] = (False, False, False)
        how["bias_field"] = 0.15 if seen.quantity == str(Quantity.ARBITRARY) and not seen.whole_numbers else 0.0
        return how
    edge = max(preparation.size or (28,))
    return {
        "rotate": 0.7,
        "rotate_degrees": 12.0,
        "scale": 0.7,
        "scale_range": (0.85, 1.2),
        "shift": 0.08,
        "elastic": 0.15,
        "elastic_voxels": max(0.5, edge / 56),
        "noise": 0.2,
        "blur": 0.2,
        "contrast": 0.6,
        "contrast_range": (0.6, 1.5),
        "brightness": 0.4,
        "gamma": 0.5,
        "gamma_range": (0.5, 2.0),
        "low_resolution": 0.2,
        "erase": 0.2,
        "mixup": 0.2,
        "cutmix": 0.0 if task == "regress" else 0.2,
    }


def _schedule(seen: Fingerprint, task: Answers, preparation: Preparation) -> dict[str, Any]:
    if task == "detect":
        return {"learning_rate": 1e-3, "weight_decay": 1e-2, "batch": 8 if preparation.dims == 2 else 2, "ema": 0.998}
    if task == "segment":
        return {"learning_rate": 2e-3, "weight_decay": 1e-2, "batch": 4, "ema": 0.998}
    batch = int(np.clip(2 ** round(np.log2(max(8, seen.cases / 40))), 8, 64))
    return {"learning_rate": 2e-3, "weight_decay": 5e-2, "batch": batch, "ema": 0.998}
