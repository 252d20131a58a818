"""Masks of objects between grids: a small map over each box, turned and cut as the box is."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from isocenter.data.dataset import Marked
from isocenter.inference.prepare import Prepared
from isocenter.ops.polygon import inside
from isocenter.types import Array, LabelGrid


def turned(masks: Float[Array, "k *m"], ready: Prepared) -> Float[Array, "k *m"]:
    """Masks along the network's axes, along those of the image."""
    change = np.linalg.solve(ready.onto.affine, ready.affine)[:3, :3]  # network's index -> image's
    order = np.abs(change).argmax(axis=1)
    back = change[np.arange(3), order] < 0
    if masks.ndim == 3:  # of pictures: without an axis of slices
        order, back = order[1:] - 1, back[1:]
    there = np.transpose(masks, (0, *(1 + order)))
    return np.ascontiguousarray(np.flip(there, tuple(1 + np.flatnonzero(back))))


def cut(
    masks: Float[Array, "k *m"], before: Float[Array, "k 2 3"], after: Float[Array, "k 2 3"]
) -> Float[Array, "k *m"]:
    """Masks over the parts of their boxes that are left, on as many cells.

    Args:
        masks: over `before`.
        before: boxes.
        after: boxes within those.
    """
    from scipy import ndimage

    skip = 4 - masks.ndim  # of pictures, boxes have an axis more than masks
    out = np.array(masks)
    edge = np.maximum(before[:, 1] - before[:, 0], 1e-9)
    shares = (after - before[:, :1]) / edge[:, None]
    for i in np.flatnonzero(np.abs(after - before).max(axis=(1, 2)) > 1e-6):
        places = []
        for axis, count in enumerate(masks.shape[1:]):
            low, high = shares[i, :, axis + skip]
            places.append((low + (high - low) * (np.arange(count) + 0.5) / count) * count - 0.5)
        grid = np.meshgrid(*places, indexing="ij")
        out[i] = ndimage.map_coordinates(masks[i], grid, order=1, mode="nearest")
    return out


def outlined(marked: Sequence[Marked], ready: Prepared) -> LabelGrid | None:
    """Pictures' outlines on the network's grid: i + 1 where object i is, small ones on top.

    None where one of them that counts has no outline, or the image is a volume.
    """
    if ready.array.shape[1] != 1 or not all(m.outline for m in marked if not m.ignored):
        return None
    change = np.linalg.solve(ready.affine, ready.onto.affine)
    out = np.zeros(ready.array.shape[1:], np.int32)
    sizes = [(m.high[1] - m.low[1]) * (m.high[2] - m.low[2]) for m in marked]
    for i in np.argsort(sizes)[::-1]:
        polygons = []
        for flat in marked[i].outline:
            x, y = np.asarray(flat[::2]) - 0.5, np.asarray(flat[1::2]) - 0.5
            index = np.stack((np.zeros(len(x)), y, x, np.ones(len(x))))
            polygons.append((change @ index)[1:3].T)
        out[0][inside(polygons, (out.shape[1], out.shape[2]))] = i + 1
    return out
