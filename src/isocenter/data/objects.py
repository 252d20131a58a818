"""Objects in an image: boxes with a class, and what is known of their shape."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int

from isocenter.errors import InputError
from isocenter.types import Array, Integer


@dataclass(frozen=True, eq=False)
class Boxed:
    """Objects that are stated of an image.

    Args:
        boxes: `n 2 3`, low and high corner (d, h, w) in voxels, where voxel i covers i to i + 1.
        classes: number of each one's class.
        ignored: objects that count neither as missed nor as found.
        instances: `d h w`, i + 1 where object i is; None: only boxes are known.
        left_out: what is wrong with objects that were stated, and are none of these.
    """

    boxes: Float[Array, "n 2 3"]
    classes: Int[Array, "n"]
    ignored: Bool[Array, "n"]
    instances: Integer[Array, "d h w"] | None = field(default=None, repr=False)
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (len(self.boxes) == len(self.classes) == len(self.ignored)):
            raise InputError(f"{len(self.boxes)} boxes have {len(self.classes)} classes")
        if not np.isfinite(self.boxes).all():
            raise InputError("a box has corners that are no finite numbers")

    def __len__(self) -> int:
        return len(self.classes)


def components_of(
    grid: Integer[Array, "d h w"], values: Mapping[int, int], *, connectivity: int = 3
) -> tuple[Float[Array, "n 2 3"], Int[Array, "n"], Integer[Array, "d h w"]]:
    """Every connected piece of every label as an object: boxes, classes, and the pieces numbered from 1.

    Args:
        grid: label map.
        values: label value -> class.
        connectivity: 1: faces, 3: corners too.
    """
    from scipy import ndimage

    pieces = np.zeros(grid.shape, np.int32)
    boxes: list[Sequence[Sequence[float]]] = []
    classes: list[int] = []
    structure = ndimage.generate_binary_structure(3, connectivity)
    for value, kind in values.items():
        numbered, count = ndimage.label(grid == value, structure)
        for i, place in enumerate(ndimage.find_objects(numbered)):
            pieces[place][numbered[place] == i + 1] = len(boxes) + 1
            boxes.append(([s.start for s in place], [s.stop for s in place]))
            classes.append(kind)
        assert count <= len(boxes), "every piece has a box"
    return np.asarray(boxes, np.float64).reshape(-1, 2, 3), np.asarray(classes, np.int64), pieces
