"""Where a box lies and how large it is, in numbers and in words."""

import numpy as np

from isocenter.data.geometry import Geometry, Space
from isocenter.data.message import Message
from isocenter.types import Array

_IN_PATIENT = (
    (Message("patient's right"), Message("middle between the sides"), Message("patient's left")),
    (Message("front"), Message("middle between front and back"), Message("back")),
    (Message("lower third"), Message("middle third of the height"), Message("upper third")),
)
"""Thirds of the image along the patient's x, y and z (LPS)."""
_IN_PICTURE = (
    (Message("upper third"), Message("middle third of the height"), Message("lower third")),
    (Message("left in the picture"), Message("middle of the width"), Message("right in the picture")),
)
"""Thirds of the rows and of the columns."""


def size_words(box: Array, geometry: Geometry) -> str:
    """Edges of a box: width, height and (of a volume) depth.

    Args:
        box: `2 3`, edges in voxels (d, h, w); voxel i reaches from i to i + 1.
        geometry: of the image.
    """
    edges = box[1] - box[0]
    pixels = geometry.space is Space.PIXELS
    edges = edges if pixels else edges * np.asarray(geometry.spacing_mm)
    shown = edges[::-1] if geometry.shape[0] > 1 else edges[:0:-1]
    return " x ".join(f"{v:.0f}" if pixels else f"{v:.1f}" for v in shown) + (" px" if pixels else " mm")


def place_words(box: Array, geometry: Geometry) -> str:
    """Middle of a box: column, row and slice from 1 on; and patient millimetres by their letters, if there are any."""
    d, h, w = (np.floor(box.mean(axis=0)) + 1).astype(int).tolist()
    place = f"({w}, {h})" if geometry.shape[0] == 1 else f"({w}, {h}, {d})"
    if geometry.space is not Space.PATIENT:
        return place
    x, y, z = geometry.index_to_world(box.mean(axis=0)[None] - 0.5)[0]
    axes = ((x, "L", "R"), (y, "P", "A"), (z, "S", "I"))
    letters = [f"{abs(v):.0f} {plus if v >= 0 else minus}" for v, plus, minus in axes]
    return f"{place}, {' '.join(letters)} mm"


def part_of_image(box: Array, geometry: Geometry) -> Message:
    """In which third of the image the middle of a box lies, along each axis of the patient, or of a picture.

    It tells where in the image, not in which organ. Of a slice, the axis across it is left out.
    """
    middle = box.mean(axis=0)
    if geometry.space is not Space.PATIENT:
        thirds = np.clip(3 * middle[1:] / np.asarray(geometry.shape[1:]), 0, 2).astype(int)
        words = [row[third] for row, third in zip(_IN_PICTURE, thirds, strict=True)]
        return Message("{height}, {side}", {"height": words[0], "side": words[1]})
    corners = np.asarray(np.meshgrid(*[(0.0, n) for n in geometry.shape], indexing="ij")).reshape(3, 8).T
    reach = geometry.index_to_world(corners - 0.5)
    low, high = reach.min(axis=0), reach.max(axis=0)
    here = geometry.index_to_world(middle[None] - 0.5)[0]
    thirds = np.clip(3 * (here - low) / (high - low), 0, 2).astype(int)
    side, depth, height = (row[third] for row, third in zip(_IN_PATIENT, thirds, strict=True))
    if geometry.shape[0] > 1:
        return Message("{height}, {side}, {depth}", {"height": height, "side": side, "depth": depth})
    across = int(np.argmax(np.abs(geometry.affine[:3, 0])))
    one, other = [word for axis, word in ((2, height), (0, side), (1, depth)) if axis != across]
    return Message("{height}, {side}", {"height": one, "side": other})
