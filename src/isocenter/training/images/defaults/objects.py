"""Defaults of detection: size of pictures, levels of the pyramid, anchors, augmentation."""

from typing import Any

import numpy as np

from isocenter.errors import InputError
from isocenter.inference.prepare import Preparation
from isocenter.networks.anchors import fitted
from isocenter.networks.detector import DetectorSettings
from isocenter.networks.detr import DETRSettings
from isocenter.networks.mask_rcnn import MaskRCNNSettings
from isocenter.training.images.defaults.defaults import Basis, Defaults, volume_dims, without_sides
from isocenter.training.images.fingerprint import Fingerprint
from isocenter.types import Array

_LARGEST, _LEAST = 640, 320
_SMALL_OBJECT = 20.0
"""Pixels that the small ones of the objects keep, where pictures are made smaller."""
_ANCHORS, _BASE, _WIDEST = 3, 24, 192


class Objects(Defaults):
    """Objects of each image."""

    answers, loss = "object", "own"

    def dims(self, seen: Fingerprint) -> int:
        """2 where images are pictures."""
        return volume_dims(seen)

    def layout(self, seen: Fingerprint, dims: int) -> dict[str, Any]:
        """Pictures of one size; volumes of one spacing."""
        if dims == 2:
            return {"size": picture_size(seen)}
        return {"orient": seen.spacing is not None, "spacing_mm": seen.spacing}

    def network(self, seen: Fingerprint, preparation: Preparation) -> str:
        """With masks where objects are drawn."""
        return "mask_rcnn" if seen.masks else "retinanet"

    def settings(self, basis: Basis) -> dict[str, Any]:
        """Levels and anchors that fit the objects, and room for twice as many as the fullest image has."""
        return {**levels(basis.seen, basis.preparation, basis.patch, basis.name), **room(basis.seen, basis.name)}

    def laterality(self, seen: Fingerprint) -> str:
        """Free in pictures of what has no sides."""
        return without_sides(seen)

    def augmentation(self, seen: Fingerprint, preparation: Preparation) -> dict[str, Any]:
        """Movements that boxes can follow: no elastic ones; small turns, unless the objects are drawn."""
        pictures = preparation.dims == 2 and seen.spacing is None
        return {
            "flip": (False, pictures, True) if preparation.dims == 2 else (False, False, True),
            "rotate": 0.3, "rotate_degrees": 15.0, "scale": 0.6, "scale_range": (0.7, 1.4), "shift": 0.08,
            "elastic": 0.0, "noise": 0.15, "blur": 0.15, "contrast": 0.3, "gamma": 0.3, "low_resolution": 0.1,
        }  # fmt: skip

    def schedule(self, seen: Fingerprint, preparation: Preparation) -> dict[str, Any]:
        """Few volumes, more pictures at a time."""
        batch = 8 if preparation.dims == 2 else 2
        return {"learning_rate": 1e-3, "weight_decay": 1e-2, "batch": batch, "ema": 0.998}


def room(seen: Fingerprint, network: str) -> dict[str, Any]:
    """How many objects a network may answer with, where the usual number is too small."""
    most = int(np.bincount(np.asarray(seen.owners, np.int64)).max()) if seen.owners else 0
    if network == "detr":
        return {"queries": min(1000, 2 * most)} if 2 * most > DETRSettings().queries else {}
    found: dict[str, Any] = {"most": min(5000, 2 * most)} if 2 * most > DetectorSettings().most else {}
    if network in ("mask_rcnn", "faster_rcnn") and 2 * most > MaskRCNNSettings().proposals:
        found["proposals"] = min(2000, 2 * most)
    return found


def picture_size(seen: Fingerprint) -> tuple[int, int]:
    """The size to which pictures are brought: so small that small objects (the tenth part) keep about 20 pixels."""
    height, width = seen.shape[1:]
    longest = max(height, width)
    scale = min(1.0, _LARGEST / longest)
    if seen.edges:
        small = float(np.quantile(np.sqrt(np.prod(np.asarray(seen.edges)[:, 1:], axis=1)), 0.1))
        scale = min(scale, max(_SMALL_OBJECT / small, _LEAST / longest))
    size = [max(64, round(n * scale / 32) * 32) for n in (height, width)]
    return size[0], size[1]


def network_edges(seen: Fingerprint, preparation: Preparation) -> Array:
    """Edges of every object along the network's axes, in its voxels (`n a`).

    Axes that a preparation turns round are not followed: on the whole, objects are as long one way as another.
    """
    edges = np.asarray(seen.edges, np.float64).reshape(-1, 3)
    owner = np.asarray(seen.owners, np.int64)
    if preparation.size is not None:
        shapes = np.asarray(seen.shapes, np.float64)[owner]
        wanted = np.asarray(preparation.size, np.float64)
        return np.asarray((edges / shapes)[:, -len(wanted) :] * wanted)
    if preparation.spacing_mm is not None:
        steps = np.asarray(seen.spacings, np.float64)[owner]
        edges = edges * steps / np.asarray(preparation.spacing_mm)
    return np.asarray(edges[:, 3 - preparation.dims :])


def levels(seen: Fingerprint, preparation: Preparation, patch: tuple[int, ...], network: str) -> dict[str, Any]:
    """Stages, levels and anchors of a detector: the finest level has the small objects about four voxels wide.

    Raises: InputError where no object is marked.
    """
    edges = network_edges(seen, preparation)
    if not len(edges):
        raise InputError("no object is marked in any case: there is nothing to learn to find")
    size = np.exp(np.log(np.maximum(edges, 0.5)).mean(axis=1))
    small, large = (float(v) for v in np.quantile(size, (0.05, 0.95)))
    most = int(np.log2(min(32, min(patch) // 2)))
    first = int(np.clip(np.floor(np.log2(max(small, 1.0) / 4)), 1, max(1, most - 1)))
    last = int(np.clip(np.ceil(np.log2(large / 6)), first + 1, max(most, first + 1)))
    stages = max(last, 3) + 1
    widths = tuple(min(_BASE * 2**i, _WIDEST) for i in range(stages))
    if network == "detr":
        return {"widths": widths}
    dims = len(patch)
    scales = tuple((2**i,) * dims for i in range(first, stages))
    shapes, _ = fitted(np.maximum(edges, 0.5), scales, count=_ANCHORS)
    blocks = tuple(1 if i < 2 else 2 for i in range(stages))
    return {"widths": widths, "blocks": blocks, "first": first, "channels": 96, "anchors": shapes}
