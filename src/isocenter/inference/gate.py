"""What a model was trained on, as ranges; what lies outside is marked for review, or refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from isocenter.data.geometry import Space
from isocenter.data.provenance import Json
from isocenter.data.volume import Quantity, Volume
from isocenter.types import Array

_QUANTILES = (0.05, 0.5, 0.95)
_MOST_VALUES = 50_000
_SOME = 2
"""Objects of a class, or images that hold it, whose middle size says something."""
_MOST_IMAGES = (0.02, 0.98)
"""Of the training: in the others, objects are cut by the edge."""
_SIZE_ROOM = 1.25
_COLOUR = 0.01
"""Mean difference between channels, as a share of the image's range, from which it is coloured."""


@dataclass(frozen=True)
class Concern:
    """One thing about an image that the model was not trained for.

    Args:
        level: `review`: the answer needs a look; `refuse`: there is none.
        text: what came, and what the model knows.
    """

    level: Literal["review", "refuse"]
    text: str


def gate_of(
    shapes: Sequence[tuple[int, int, int]],
    spacings: Sequence[tuple[float, float, float]],
    quantity: str,
    prepared: Sequence[Array],
) -> dict[str, Json]:
    """Ranges of the training images.

    Args:
        shapes: of each image (d, h, w).
        spacings: of each image, in mm; empty where there is none.
        quantity: what intensities measure.
        prepared: some of the images as the network saw them (`c d h w`).
    """
    found: dict[str, Any] = {"quantity": quantity, "shape": _range(np.asarray(shapes, np.float64))}
    if spacings:
        found["spacing_mm"] = _range(np.asarray(spacings))
        if len(spacings) == len(shapes):
            found["extent_mm"] = _range(np.asarray(spacings) * np.asarray(shapes))
    rows = np.asarray([_quantiles(array) for array in prepared])
    found["colour"] = bool(np.mean([_is_coloured(array) for array in prepared]) > 0.5)
    found["prepared"] = {
        "quantiles": list(_QUANTILES),
        "low": rows.min(axis=0).tolist(),
        "high": rows.max(axis=0).tolist(),
    }
    return found


def gate_of_frames(times: Sequence[Array]) -> dict[str, Json]:
    """Ranges of the training sequences: seconds between their frames (the median of each), and how many there were.

    Args:
        times: seconds of the frames of each.
    """
    gaps = [float(np.median(np.diff(own))) for own in times]
    counts = [len(own) for own in times]
    return {"frame_gap_s": [round(min(gaps), 6), round(max(gaps), 6)], "frames": [min(counts), max(counts)]}


def gate_of_objects(sizes: Mapping[str, Sequence[Array]]) -> dict[str, Json]:
    """Ranges of how large objects are and how many: of the median of each training image that holds some, but for the
    odd ones; and of the number in each.

    Args:
        sizes: of each class, the edges of its objects in each image, in voxels as the network sees them.
    """
    found: dict[str, Json] = {}
    for name, images in sizes.items():
        middles = [float(np.median(own)) for own in images if len(own)]
        if len(middles) >= _SOME:
            found[name] = np.quantile(middles, _MOST_IMAGES).round(2).tolist()
    counts = np.sum([[len(own) for own in images] for images in sizes.values()], axis=0)
    return {"object_edge": found, "objects": np.quantile(counts, _MOST_IMAGES).round(1).tolist()}


def object_concerns(sizes: Mapping[str, Array], gate: Mapping[str, Any]) -> list[Concern]:
    """Classes whose objects are of another size than those of the training: another magnification, or other things.

    Args:
        sizes: of each class, the edges of the objects that were found, in voxels as the network sees them.
        gate: of the model's card.
    """
    found = []
    count, known = sum(map(len, sizes.values())), gate.get("objects")
    if known and known[0] >= _SOME and count < known[0]:
        text = (
            f"{count} {'object was' if count == 1 else 'objects were'} found; images of the training "
            f"hold {known[0]:.3g} to {known[1]:.3g}: the magnification is another, or it shows something else"
        )
        found.append(Concern("review", text))
    for name, (low, high) in (gate.get("object_edge") or {}).items():
        own = sizes.get(name, np.zeros(0))
        if len(own) < _SOME:
            continue
        middle = float(np.median(own))
        if low / _SIZE_ROOM <= middle <= high * _SIZE_ROOM:
            continue
        text = (
            f"the {len(own)} {name} are about {middle:.3g} voxels wide as the network sees them; in its training "
            f"{low:.3g} to {high:.3g}: the magnification is another, or they are something else"
        )
        found.append(Concern("review", text))
    return found


def _is_coloured(image: Array) -> bool:
    """Three channels that differ."""
    if image.shape[0] != 3:
        return False
    reach = float(np.ptp(image)) or 1.0
    return float(np.abs(np.asarray(image[1:], np.float32) - np.asarray(image[:1], np.float32)).mean()) > _COLOUR * reach


def frame_concerns(times: Array, gate: Mapping[str, Any]) -> list[Concern]:
    """What of the times of a sequence lies outside the training range: half of it, or twice.

    Args:
        times: seconds of its frames.
        gate: of the model's card.
    """
    gap, known = float(np.median(np.diff(times))), gate.get("frame_gap_s")
    if not known or 0.5 * known[0] <= gap <= 2 * known[1]:
        return []
    text = f"frames lie {gap:.3g} s apart; the model was trained on {known[0]:.3g} to {known[1]:.3g} s"
    return [Concern("review", text)]


def _range(rows: Array) -> list[list[float]]:
    return [np.round(rows.min(axis=0), 4).tolist(), np.round(rows.max(axis=0), 4).tolist()]


def _quantiles(array: Array) -> Array:
    flat = np.asarray(array, np.float32).reshape(array.shape[0], -1)
    step = max(1, flat.shape[1] // _MOST_VALUES)
    return np.quantile(flat[:, ::step], _QUANTILES, axis=1).T  # c q


def concerns(
    volume: Volume, gate: Mapping[str, Any], prepared: Array | None = None, *, absent: Sequence[int] = ()
) -> list[Concern]:
    """What of an image lies outside the training range.

    Args:
        volume: as it came.
        gate: of the model's card.
        prepared: the image as the network sees it, where intensities are to be judged.
        absent: channels of modalities that the case lacks. Without the first, which states the grid of a case, its
            grid is another modality's, and sizes alone refuse nothing.
    """
    found: list[Concern] = []
    if gate.get("colour") and not _is_coloured(volume.voxels):
        found.append(Concern("refuse", "the model was trained on images in colour, and this one is grey"))
    wanted = str(gate.get("quantity", ""))
    if wanted in (str(Quantity.HU), str(Quantity.SUV)) and str(volume.quantity) != wanted:
        found.append(Concern("refuse", f"the model was trained on {wanted}, the image is in {volume.quantity} units"))
    spacing = None if volume.geometry.space is Space.PIXELS else volume.geometry.spacing_mm
    known = gate.get("spacing_mm")
    if known and spacing is None:
        found.append(Concern("review", "the model was trained on images with millimetres, and this one states none"))
    if known and spacing is not None:
        found += _outside("voxels", spacing, known, unit="mm", soft=1.5, hard=float("inf") if 0 in absent else 4.0)
    if not known and gate.get("shape"):
        own = tuple(float(n) for n in volume.geometry.shape)
        found += _outside("a size", own, gate["shape"], unit="pixels", soft=2.0, hard=float("inf"))
    extent = gate.get("extent_mm")
    if extent and spacing is not None:
        own = tuple(n * s for n, s in zip(volume.geometry.shape, spacing, strict=True))
        found += _outside("a field of view", own, extent, unit="mm", soft=1.5, hard=float("inf"))
    if prepared is not None and "prepared" in gate:
        found += _intensities(prepared, gate["prepared"], absent)
    return found


def _outside(what: str, own: Sequence[float], known: Any, *, unit: str, soft: float, hard: float) -> list[Concern]:
    """How far sizes, sorted so that the axes' order does not count, lie beyond what was seen."""
    low, high = sorted(known[0]), sorted(known[1])
    factor = max(max(lo / v, v / hi) for v, lo, hi in zip(sorted(own), low, high, strict=True))
    if factor <= soft:
        return []
    words = [" x ".join(f"{v:.3g}" for v in values) for values in (own, low, high)]
    text = f"the image has {what} of {words[0]} {unit}; the model was trained on {words[1]} to {words[2]} (sorted)"
    return [Concern("refuse" if factor > hard else "review", text)]


def _intensities(prepared: Array, known: Mapping[str, Any], absent: Sequence[int]) -> list[Concern]:
    own, low, high = _quantiles(prepared), np.asarray(known["low"]), np.asarray(known["high"])
    if own.shape != low.shape:
        return []
    reach = np.maximum(high[:, -1:] - low[:, :1], 1e-6)
    beyond = np.maximum(low - own, own - high) / reach
    beyond[list(absent)] = 0
    if float(beyond.max()) <= 0.25:
        return []
    c, q = np.unravel_index(int(beyond.argmax()), beyond.shape)
    share = known["quantiles"][int(q)]
    text = (
        f"the image is brighter or darker than those of the training: its {share:.0%} quantile, scaled, is "
        f"{own[c, q]:.2f}, theirs {low[c, q]:.2f} to {high[c, q]:.2f}"
    )
    return [Concern("review", text)]
