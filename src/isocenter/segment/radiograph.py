"""The lung fields and the thorax on a frontal radiograph."""

import numpy as np
from pydantic import Field

from isocenter.data.labels import Label, LabelMap
from isocenter.data.provenance import Json, Step
from isocenter.data.step import Settings
from isocenter.data.volume import Volume
from isocenter.errors import DegenerateImage
from isocenter.types import Array


class ThoraxField(Settings):
    """Settings of `thorax_field`."""

    least_share: float = Field(0.03, gt=0, lt=0.5)
    """A lung field takes at least this share of the picture."""


def thorax_field(volume: Volume, settings: ThoraxField) -> LabelMap:
    """Find the thorax on a frontal chest radiograph: the hull of the two lung fields.

    Lung fields are what is darker than its wide neighbourhood, lies off the picture's edge, and is large, one on each
    side. Labels are `lung fields` and `rest of the thorax`. Use it to crop, not to measure: opaque lung is
    missed, and stomach air may be taken in.

    Raises: DegenerateImage where two lung fields are not found.
    """
    from isocenter.ops import filter as filters
    from isocenter.ops.histogram import histogram, otsu_cut

    if volume.geometry.shape[0] != 1:
        raise DegenerateImage(f"a radiograph is one slice; this image has {volume.geometry.shape[0]}")
    grid = volume.grid.astype(np.float32)
    rows, columns = grid.shape[1:]
    fine, wide = min(rows, columns) / 100, min(rows, columns) / 7
    smooth = filters.gaussian(grid, sigma=(0, fine, fine))
    relief = smooth - filters.gaussian(grid, sigma=(0, wide, wide))
    cut = otsu_cut(*histogram(relief, bins=256))
    dark = np.asarray(relief[0] < min(cut, 0))
    sides = _two_fields(dark, settings.least_share)
    hull = _hull(sides[0] | sides[1])
    voxels = np.where(sides[0] | sides[1], 1, np.where(hull, 2, 0)).astype(np.uint8)[None]
    found: dict[str, Json] = {"share": float(hull.mean())}
    step = Step("segment.thorax_field", settings.model_dump(), found)
    table = (Label(1, "lung fields"), Label(2, "rest of the thorax"))
    return LabelMap(voxels, volume.geometry, table, (*volume.history, step))


def _two_fields(dark: Array, least: float) -> tuple[Array, Array]:
    """The largest dark part on each side of the picture's middle that does not touch its edge.

    Raises: DegenerateImage where one of them is absent.
    """
    from scipy import ndimage

    reach = max(1, min(dark.shape) // 64)
    parts, count = ndimage.label(ndimage.binary_erosion(dark, iterations=reach))  # narrow bridges to the edge break
    rim = set(np.unique(np.concatenate((parts[0], parts[-1], parts[:, 0], parts[:, -1]))).tolist())
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    middle = dark.shape[1] / 2
    found: list[Array | None] = [None, None]
    for number in np.argsort(-sizes).tolist():
        if not number or number in rim or sizes[number] < least * dark.size:
            continue
        part = ndimage.binary_fill_holes(ndimage.binary_dilation(parts == number, iterations=reach))
        side = int(np.argwhere(part)[:, 1].mean() > middle)
        if found[side] is None:
            found[side] = np.asarray(part)
    if found[0] is None or found[1] is None:
        raise DegenerateImage(
            "two dark lung fields, one on each side and off the picture's edge, were not found: is this a frontal "
            "chest radiograph with dark lungs (MONOCHROME1 is inverted on reading)?"
        )
    return found[0], found[1]


def _hull(mask: Array) -> Array:
    """Convex hull of a flat mask, filled."""
    from scipy import ndimage
    from scipy.spatial import ConvexHull, Delaunay

    points = np.argwhere(mask ^ ndimage.binary_erosion(mask))
    corners = points[ConvexHull(points).vertices]
    inside = Delaunay(corners).find_simplex(np.argwhere(np.ones(mask.shape, np.bool_))) >= 0
    return np.asarray(inside.reshape(mask.shape))
