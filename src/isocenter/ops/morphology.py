"""Masks grown, shrunk and closed by distances in millimetres."""

import numpy as np
from scipy import ndimage

from isocenter.ops.slabs import by_slab
from isocenter.types import Array, Mask, Triple


def bounding_box(mask: Mask, *, margin: tuple[int, int, int] = (0, 0, 0)) -> tuple[slice, slice, slice]:
    """The smallest box around the mask, grown by `margin` voxels and cut at the grid; empty if the mask is."""
    box = []
    for axis, (size, extra) in enumerate(zip(mask.shape, margin, strict=True)):
        others = tuple(a for a in range(3) if a != axis)
        hit = np.flatnonzero(mask.any(axis=others))
        if not hit.size:
            return slice(0, 0), slice(0, 0), slice(0, 0)
        box.append(slice(max(0, int(hit[0]) - extra), min(size, int(hit[-1]) + 1 + extra)))
    return box[0], box[1], box[2]


def signed_distance(mask: Mask, *, spacing: Triple) -> Array:
    """Distance (in the unit of `spacing`) to the surface voxels, negative inside; float32.

    Surface voxels are those of the mask that touch its outside; they have distance 0.
    Source: C. Maurer et al., IEEE Trans. PAMI 25(2):265-270, 2003.
    """
    from isocenter.ops.itk import array_of, image_of, sitk

    image = image_of(mask, spacing=spacing)
    return array_of(sitk.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=True))


def depth_inside(mask: Mask, *, spacing: Triple) -> Array:
    """Distance of each voxel of the mask to the nearest voxel outside, 0 outside; float32. The grid's edge is inside.

    Source: C. Maurer et al., IEEE Trans. PAMI 25(2):265-270, 2003.
    """
    depth = signed_distance(~mask, spacing=spacing) if not mask.all() else np.full(mask.shape, np.inf, np.float32)
    return np.where(mask, depth, np.float32(0))


def dilate(mask: Mask, *, radius: float, spacing: Triple) -> Mask:
    """Voxels whose centre lies within `radius` of a mask voxel's centre."""
    out = np.zeros_like(mask)
    margin = tuple(int(np.ceil(radius / s)) for s in spacing)
    box = bounding_box(mask, margin=(margin[0], margin[1], margin[2]))
    if not mask[box].size or radius <= 0:
        return mask.copy()

    def near(part: Array) -> Array:
        if not part.any():
            return np.zeros_like(part)
        return np.asarray(signed_distance(part, spacing=spacing) <= radius * (1 + 1e-6))

    out[box] = by_slab(near, mask[box], halo=margin[0])
    return out


def erode(mask: Mask, *, radius: float, spacing: Triple) -> Mask:
    """Voxels whose centre lies farther than `radius` from every voxel outside; the outside of the grid counts as mask.

    The complement's dilation, not a cut through the mask's own distances: those start at its surface voxels and would
    take one voxel too many.
    """
    margin = tuple(int(np.ceil(radius / s)) + 1 for s in spacing)
    box = bounding_box(mask, margin=(margin[0], margin[1], margin[2]))
    out = np.zeros_like(mask)
    if mask[box].size:
        out[box] = ~dilate(~mask[box], radius=radius, spacing=spacing)
    return out


def opening(mask: Mask, *, radius: float, spacing: Triple) -> Mask:
    """Remove what a ball of `radius` does not fit into."""
    return dilate(erode(mask, radius=radius, spacing=spacing), radius=radius, spacing=spacing) & mask


def closing(mask: Mask, *, radius: float, spacing: Triple) -> Mask:
    """Fill what a ball of `radius` outside the mask does not reach; the grid is padded, so edges do not fill up."""
    pad = [(int(np.ceil(radius / s)) + 1 if n > 1 else 0) for n, s in zip(mask.shape, spacing, strict=True)]
    box = bounding_box(mask, margin=(pad[0], pad[1], pad[2]))
    if not mask[box].size:
        return mask.copy()
    padded = np.pad(mask[box], [(p, p) for p in pad])
    closed = erode(dilate(padded, radius=radius, spacing=spacing), radius=radius, spacing=spacing)
    inner = tuple(slice(p, n - p) for p, n in zip(pad, padded.shape, strict=True))
    out = mask.copy()
    out[box] |= closed[inner]
    return out


def fill_holes(mask: Mask) -> Mask:
    """Fill background that is not connected (by faces) to the grid's edge; a one-slice grid is filled in 2-D."""
    if mask.shape[0] == 1:
        return np.asarray(ndimage.binary_fill_holes(mask[0]))[None]
    box = bounding_box(mask, margin=(1, 1, 1))
    out = mask.copy()
    if mask[box].size:
        out[box] = ndimage.binary_fill_holes(mask[box])
    return out
