"""Objects as a label map: each with a value of its own, the surer ones on top."""

import numpy as np

from isocenter.data.labels import Label
from isocenter.data.provenance import Json
from isocenter.errors import InputError
from isocenter.networks.detector import Found
from isocenter.types import Array, LabelGrid

_MOST = 2000


def painted(
    found: Found, shape: tuple[int, int, int], classes: tuple[str, ...], *, least: float
) -> tuple[LabelGrid, tuple[Label, ...], list[dict[str, Json]]]:
    """The grid, a label for each object from the surest on, and what is known of each.

    Args:
        found: boxes in voxels of the grid; a mask covers its box.
        shape: of the grid.
        classes: names.
        least: score from which an object is painted.
    Raises: InputError for more objects than a report can hold.
    """
    grid = np.zeros(shape, np.int32)
    chosen = np.flatnonzero(found.scores >= least)
    if len(chosen) > _MOST:
        raise InputError(
            f"{len(chosen)} objects were found, and {_MOST} can be drawn: crop the image, or raise `least`"
        )
    rows: list[dict[str, Json]] = []
    labels: list[Label] = []
    for number, i in enumerate(chosen, start=1):
        name = classes[int(found.classes[i])]
        labels.append(Label(number, f"{name} {number}"))
        rows.append({
            "value": number, "class": name, "score": round(float(found.scores[i]), 6),
            "low": [round(v, 2) for v in found.boxes[i, 0].tolist()],
            "high": [round(v, 2) for v in found.boxes[i, 1].tolist()],
        })  # fmt: skip
    for number, i in reversed(list(enumerate(chosen, start=1))):
        _paint(grid, number, found.boxes[i], None if found.masks is None else found.masks[i])
    return grid, tuple(labels), rows


def _paint(grid: Array, number: int, box: Array, mask: Array | None) -> None:
    """Set the voxels whose centres lie in the box, and in its mask from one half on."""
    low = np.maximum(np.ceil(box[0] - 0.5), 0).astype(int)
    high = np.minimum(np.ceil(box[1] - 0.5), grid.shape).astype(int)
    if np.any(high <= low):
        return
    place = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    if mask is None:
        grid[place] = number
        return
    shape = mask.shape if mask.ndim == 3 else (1, *mask.shape)
    where = []
    for axis in range(3):
        share = (np.arange(low[axis], high[axis]) + 0.5 - box[0, axis]) / (box[1, axis] - box[0, axis])
        where.append(share * shape[axis] - 0.5)
    from scipy import ndimage

    at = np.meshgrid(*where, indexing="ij")
    inside = ndimage.map_coordinates(mask.reshape(shape), at, order=1, mode="nearest") >= 0.5
    grid[place][inside] = number
