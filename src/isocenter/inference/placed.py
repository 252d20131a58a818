"""Boxes between the image's grid and the network's."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from isocenter.data.dataset import Marked
from isocenter.data.geometry import Geometry
from isocenter.data.objects import Boxed
from isocenter.errors import GeometryError, InputError
from isocenter.inference.prepare import Prepared
from isocenter.types import Affine, Array

_LEAST_INSIDE, _LEAST_EDGE = 0.1, 0.1
"""Share of a box that its image must hold, and voxels along an edge: below, it is of something else."""


class OutsideImage(GeometryError):
    """A box that lies beyond its image, or is none in it."""


def moved(boxes: Float[Array, "n 2 3"], *, source: Affine, target: Affine) -> Float[Array, "n 2 3"]:
    """Boxes on another grid: the box about the eight corners, where the grids are turned against each other.

    Args:
        boxes: in voxels; voxel i covers i to i + 1.
        source: index -> world of their grid; an index is the centre of its voxel.
        target: the same of the other grid.
    """
    if not len(boxes):
        return np.zeros((0, 2, 3))
    change = np.linalg.solve(target, source)
    picks = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), axis=-1).reshape(-1, 3)
    corners = np.stack([boxes[:, picks[:, axis], axis] for axis in range(3)], axis=2) - 0.5  # n 8 3
    there = corners @ change[:3, :3].T + change[:3, 3] + 0.5
    return np.stack((there.min(axis=1), there.max(axis=1)), axis=1)


def to_network(boxes: Float[Array, "n 2 3"], ready: Prepared) -> Float[Array, "n 2 3"]:
    """From the image's grid to the network's."""
    return moved(boxes, source=ready.onto.affine, target=ready.affine)


def to_image(boxes: Float[Array, "n 2 3"], ready: Prepared) -> Float[Array, "n 2 3"]:
    """From the network's grid to the image's; some may reach beyond it."""
    return moved(boxes, source=ready.affine, target=ready.onto.affine)


def in_voxels(marked: Marked, geometry: Geometry) -> Float[Array, "2 3"]:
    """The box of an object in voxels of its image.

    Raises: GeometryError for one in millimetres of an image that has none; OutsideImage for one outside it (or for the
        most part), or much smaller than a voxel.
    """
    box = np.asarray((marked.low, marked.high), np.float64)
    if marked.frame == "mm":
        geometry.spacing_mm  # noqa: B018  refuses an image without millimetres
        world = np.eye(4)[:, [2, 1, 0, 3]]  # (z, y, x) -> LPS (x, y, z)
        box = moved(box[None] + 0.5, source=world, target=geometry.affine)[0]
    shape = np.asarray(geometry.shape, np.float64)
    kept = np.clip(box, 0, shape)
    ends = [", ".join(f"{v:.4g}" for v in corner) for corner in box]
    said = f"the box of a {marked.name} ({ends[0]} to {ends[1]})"
    if np.any(box[1] <= 0) or np.any(box[0] >= shape):
        raise OutsideImage(f"{said} lies outside its image")
    if np.any(box[1] - box[0] < _LEAST_EDGE):
        raise OutsideImage(f"{said} is much smaller than a voxel")
    flat = shape == 1  # a slice of a volume has no depth to lie in
    inside = np.where(flat, 1.0, (kept[1] - kept[0]) / (box[1] - box[0])).prod()
    if inside < _LEAST_INSIDE:
        raise OutsideImage(f"{said} lies outside its image, but for {inside:.1%}")
    return np.asarray(kept)


def boxed(marked: Sequence[Marked], classes: Sequence[str], geometry: Geometry) -> Boxed:
    """The objects that a data set states of an image, in its voxels.

    Raises: InputError for a class that is not among these; see `in_voxels`.
    """
    odd = next((m.name for m in marked if m.name not in classes), None)
    if odd is not None:
        raise InputError(f"holds the class {odd!r}, which is not known here: {', '.join(classes)}")
    kept, wrong = within(marked, geometry)
    return Boxed(
        np.asarray([box for _, box in kept], np.float64).reshape(-1, 2, 3),
        np.asarray([classes.index(m.name) for m, _ in kept], np.int64),
        np.asarray([m.ignored for m, _ in kept], np.bool_), left_out=wrong,
    )  # fmt: skip


def within(marked: Sequence[Marked], geometry: Geometry) -> tuple[list[tuple[Marked, Array]], tuple[str, ...]]:
    """Objects that lie in the image, each with its box in voxels (`2 3`), and what is wrong with the others.

    Raises: GeometryError for one in millimetres of an image that has none.
    """
    kept, wrong = [], []
    for one in marked:
        try:
            kept.append((one, in_voxels(one, geometry)))
        except OutsideImage as error:
            wrong.append(str(error))
    return kept, tuple(wrong)
