"""Both hippocampi on a T1-weighted head: the shipped network on a crop about each."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from isocenter.data.geometry import Geometry
from isocenter.data.labels import Label, LabelMap
from isocenter.data.provenance import Json, Step
from isocenter.data.step import Settings
from isocenter.data.volume import Volume
from isocenter.errors import DegenerateImage, InputError
from isocenter.types import Affine, Array, Float64

if TYPE_CHECKING:
    from isocenter.inference.predictor import Predictor

_CENTRES_MM = {"left": (25.0, 20.7, -10.1), "right": (-29.2, 19.8, -10.3)}
"""Of the structure in MNI space, as LPS."""
_SHAPE = (36, 50, 36)
"""Of the crop (d, h, w) in voxels of 1 mm: the median of the training images."""
_OFFSET = np.asarray((-2.1, 1.2, -2.3))
"""Where the structure's centre lies in the training images, from the middle of the crop."""
_ROUNDS = 3
_SETTLED_MM = 1.0
LABELS = tuple(
    Label(1 + 2 * i + j, f"{side} {part} hippocampus")
    for i, side in enumerate(_CENTRES_MM)
    for j, part in enumerate(("anterior", "posterior"))
)


class Hippocampus(Settings):
    """Settings of `hippocampus`."""

    model: str = "hippocampus"
    """The model: of crops of the left side, with the labels anterior and posterior."""
    most_shift_mm: float = Field(20.0, gt=0, le=60)
    """Refused beyond: how far the structure lies from where the registered template has it."""


def hippocampus(volume: Volume, labels: LabelMap, settings: Hippocampus) -> LabelMap:
    """Find both hippocampi, anterior and posterior parts, in a head whose brain `segment: brain` has found.

    The map of that step says where the template's hippocampi lie and how the head is turned. About each a crop like
    those of the training is taken, the right one mirrored, since the network has seen left ones only; the crop is
    moved until what is found lies where it lay in the training.

    `history[-1].results` tells for each side how far the structure lies from the template's (`shift_mm`) and what of
    the crop the network was not trained for (`concerns`).

    Source of the template's centres: N. Tzourio-Mazoyer et al., NeuroImage 15(1):273-289, 2002 (AAL).
    Raises: InputError for labels of another step; DegenerateImage where nothing is found, or too far away.
    """
    from isocenter.inference.predictor import Predictor
    from isocenter.zoo import model_path

    matrix = _template_to_head(labels)
    predictor = Predictor(model_path(settings.model))
    card = predictor.model.card
    if len(predictor.model.spec.labels) != 2:
        raise InputError(f"{settings.model}: a model with the labels anterior and posterior is wanted")
    out = np.zeros(volume.geometry.shape, np.uint8)
    results: dict[str, Json] = {"weights_sha256": card.weights_sha256}
    for i, side in enumerate(_CENTRES_MM):
        found = _one_side(volume, matrix, side, predictor, settings)
        drawn = _onto(found, volume.geometry)
        first = min(predictor.model.spec.labels)
        out[(drawn > 0) & (out == 0)] = (drawn[(drawn > 0) & (out == 0)] != first) + 1 + 2 * i
        results[side] = {"shift_mm": round(found.shift_mm, 2), "concerns": list(found.concerns)}
    results["coverage"] = card.conformal.get("coverage")
    results["log_volume_reach"] = card.conformal.get("log_volume_reach")
    step = Step("segment.hippocampus", settings.model_dump(), results)
    return LabelMap(out, volume.geometry, LABELS, (*volume.history, step))


def _template_to_head(labels: LabelMap) -> Affine:
    """The map that `segment: brain` found.

    Raises: InputError if another step made the labels.
    """
    for done in reversed(labels.history):
        if done.name == "segment.brain":
            return np.asarray(done.results["matrix"], np.float64)
    raise InputError("hippocampus works on labels made by segment: brain")


@dataclass(frozen=True, eq=False)
class _Side:
    """What was found on one side, on the grid of its crop."""

    voxels: Array
    affine: Affine
    shift_mm: float
    concerns: tuple[str, ...]


def _one_side(volume: Volume, matrix: Affine, side: str, predictor: "Predictor", settings: Hippocampus) -> _Side:
    """Crop, predict, and move the crop until it lies as those of the training did.

    Raises: DegenerateImage where nothing is found, or too far away.
    """
    from isocenter.ops.components import largest_components

    u, _, vt = np.linalg.svd(matrix[:3, :3])
    turn = u @ vt
    mirror = np.diag([-1.0 if side == "right" else 1.0, 1.0, 1.0])
    expected = matrix[:3, :3] @ np.asarray(_CENTRES_MM[side]) + matrix[:3, 3]
    pretended = _crop(np.zeros(3), np.eye(3))
    # Where the structure's centre is thought to be; the crop is laid so that it comes where the training had it.
    centre = expected
    for _ in range(_ROUNDS):
        affine = _crop(centre, turn @ mirror)
        crop = Volume(_sampled(volume, affine)[None], Geometry(_SHAPE, pretended), volume.quantity)
        answer = predictor(crop, f"the {side} hippocampus")
        assert answer.labels is not None, "a segmentation has labels"
        one = largest_components(answer.labels.foreground)
        voxels, concerns = np.where(one, answer.labels.voxels, 0), tuple(c.text for c in answer.concerns)
        at = np.argwhere(one)
        if not len(at):
            raise DegenerateImage(f"no {side} hippocampus was found where the registered template has it")
        found = affine[:3, :3] @ at.mean(axis=0) + affine[:3, 3]
        moved, centre = float(np.linalg.norm(found - centre)), found
        if moved < _SETTLED_MM:
            break
    else:
        concerns += (f"the crop did not settle: it still moved by {moved:.1f} mm",)
    shift = float(np.linalg.norm(centre - expected))
    if shift > settings.most_shift_mm:
        raise DegenerateImage(
            f"what looks like the {side} hippocampus lies {shift:.0f} mm from the registered template's (at most "
            f"{settings.most_shift_mm:g}): the registration or the image is not what this step is for"
        )
    return _Side(voxels, affine, shift, concerns)


def _crop(centre: Float64[Array, "3"], axes: Float64[Array, "3 3"]) -> Affine:
    """Index -> world of a crop whose structure lies at `centre`: slices up, rows forward, columns to the right.

    Args:
        centre: world, LPS mm.
        axes: turn (and mirroring) of the patient's axes.
    """
    affine = np.eye(4)
    affine[:3, :3] = axes @ np.asarray([[0.0, 0.0, -1.0], [0.0, -1.0, 0.0], [1.0, 0.0, 0.0]])
    middle = (np.asarray(_SHAPE) - 1) / 2 + _OFFSET
    affine[:3, 3] = centre - affine[:3, :3] @ middle
    return affine


def _sampled(volume: Volume, affine: Affine) -> Array:
    """The image on a crop's grid; finer voxels are smoothed first. Beyond the image lies its darkest value."""
    from isocenter.ops import filter as filters
    from isocenter.ops.resample import resample

    own = volume.geometry
    reach = np.asarray([[d, h, w] for d in (0, _SHAPE[0]) for h in (0, _SHAPE[1]) for w in (0, _SHAPE[2])], np.float64)
    corners = own.world_to_index(reach @ affine[:3, :3].T + affine[:3, 3])
    low = np.clip(np.floor(corners.min(axis=0)).astype(int) - 6, 0, np.asarray(own.shape) - 1)
    high = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 7, low + 1, own.shape)
    part = volume.grid[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    d, h, w = (0.5 / s if s < 0.75 else 0.0 for s in own.spacing_mm)
    moved = own.affine.copy()
    moved[:3, 3] = own.index_to_world(low[None].astype(np.float64))[0]
    smooth = filters.gaussian(part, sigma=(d, h, w)) if max(d, h, w) > 0 else part
    darkest = float(volume.grid.min())
    return np.asarray(resample(smooth, affine=moved, to_shape=_SHAPE, to_affine=affine, outside=darkest), np.float32)


def _onto(found: _Side, geometry: Geometry) -> Array:
    """Labels of a crop on the head's grid."""
    from isocenter.ops.resample import resample

    return resample(
        found.voxels, affine=found.affine, to_shape=geometry.shape, to_affine=geometry.affine, interpolation="nearest"
    )
