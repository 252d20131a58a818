"""The brain in a T1-weighted head: the registered MNI152 mask, refined by the image itself."""

from dataclasses import dataclass

import numpy as np
from pydantic import Field

from isocenter.data.geometry import Geometry, Space
from isocenter.data.labels import LabelMap
from isocenter.data.provenance import Json, Step
from isocenter.data.step import Settings
from isocenter.data.volume import Volume
from isocenter.errors import DegenerateImage, UnitError
from isocenter.types import Affine, Array, Float64, Grid, Mask, Triple

_WORKING_MM = 3.0
_BAND_MM = 6.0  # of surroundings in which template and head are compared: dark fluid and skull on a T1


class Brain(Settings):
    """Settings of `brain`."""

    reach_mm: float = Field(6.0, ge=0, le=20)
    """How far the brain may lie outside the registered template mask, in millimetres."""
    core_mm: float = Field(4.0, ge=0, le=20)
    """How deep inside the template mask everything is brain, ventricles included, in millimetres."""
    closing_mm: float = Field(5.0, ge=0, le=20)
    """Radius that closes the sulci, in millimetres."""


def brain(volume: Volume, settings: Brain) -> LabelMap:
    """Find the brain (with the fluid in its ventricles and sulci) in a T1-weighted head.

    The MNI152 brain is registered to the head (affine, mutual information within its mask and a band around it); the
    mask follows. Bright enough tissue attached to it within `reach_mm` is added, dark tissue at its rim removed,
    sulci are closed. An image whose background is one value and whose foreground agrees with the registered mask
    is taken as already extracted.

    `history[-1].results` tells how well it went: `mutual_information`, `matrix` (template -> head, LPS mm), `scales`,
    `outside_field` (share of the template brain that lies beyond the image), `template_dice`, `already_extracted`.

    Raises: UnitError outside patient space; DegenerateImage where nothing can be registered.
    """
    geometry = volume.geometry
    if geometry.space is not Space.PATIENT:
        raise UnitError(f"brain extraction needs an image in patient space; this one lies in {geometry.space} space")
    grid = volume.grid
    prior = _registered(grid, geometry)
    inside = prior.mask.sum()
    if not inside:
        raise DegenerateImage("the registered template brain lies outside the image: is this a head?")
    extracted = _already_extracted(grid, prior.mask)
    mask = extracted if extracted is not None else _refined(grid, prior.mask, geometry.spacing_mm, settings)
    both = int(np.count_nonzero(mask & prior.mask))
    results: dict[str, Json] = {
        "method": "already extracted" if extracted is not None else "registered template, refined",
        "already_extracted": extracted is not None,
        "mutual_information": prior.mutual_information,
        "scales": list(prior.scales),
        "matrix": prior.matrix.tolist(),
        "outside_field": prior.outside_field,
        "template_dice": 2 * both / int(mask.sum() + inside),
    }
    step = Step("segment.brain", settings.model_dump(), results)
    return LabelMap.of_mask(mask, geometry, name="brain", history=(*volume.history, step))


@dataclass(frozen=True)
class _Prior:
    mask: Mask
    matrix: Affine
    mutual_information: float
    scales: Triple
    outside_field: float


def _registered(grid: Grid, geometry: Geometry) -> _Prior:
    """The template's brain mask on the image's grid."""
    from isocenter.formats import mni152
    from isocenter.ops.morphology import signed_distance
    from isocenter.ops.register import align_template
    from isocenter.ops.resample import resample

    template = mni152.t1()
    full_mask = mni152.brain_mask(template)
    small = _axis_aligned(template.geometry, margin_mm=24.0)
    fixed = _onto(template.grid, template.geometry, small)
    mask = np.asarray(_onto(full_mask.astype(np.float32), template.geometry, small) > 0.5)
    band = np.asarray(signed_distance(mask, spacing=small.spacing_mm) <= _BAND_MM)
    working = _axis_aligned(geometry, margin_mm=0.0)
    moving = _onto(grid, geometry, working)
    found = align_template(
        fixed,
        small.affine,
        band,
        moving,
        working.affine,
        shifts_mm=_starts(moving, working, mask, small),
    )
    inverse = np.linalg.inv(found.matrix)
    registered = resample(
        full_mask.view(np.uint8),
        affine=template.geometry.affine,
        to_shape=geometry.shape,
        to_affine=inverse @ geometry.affine,
        interpolation="nearest",
    )
    brain_voxels = np.argwhere(full_mask)[::97].astype(np.float64)
    world = template.geometry.index_to_world(brain_voxels) @ found.matrix[:3, :3].T + found.matrix[:3, 3]
    index = geometry.world_to_index(world)
    beyond = np.any((index < -0.5) | (index > np.asarray(geometry.shape) - 0.5), axis=1)
    return _Prior(
        np.asarray(registered > 0), found.matrix, found.mutual_information, found.scales, float(beyond.mean())
    )


def _axis_aligned(geometry: Geometry, *, margin_mm: float) -> Geometry:
    """A coarse axial grid over the same field."""
    corners = geometry.corners()
    low, high = corners.min(axis=0) - margin_mm, corners.max(axis=0) + margin_mm
    x, y, z = (int(n) for n in np.ceil((high - low) / _WORKING_MM) + 1)
    step = (_WORKING_MM,) * 3
    return Geometry.regular((z, y, x), spacing_mm=step, origin_mm=(float(low[0]), float(low[1]), float(low[2])))


def _onto(grid: Array, geometry: Geometry, other: Geometry) -> Array:
    """Smoothed for the coarser grid, then sampled on it."""
    from isocenter.ops import filter as filters
    from isocenter.ops.resample import resample

    d, h, w = (0.5 * _WORKING_MM / s if s < _WORKING_MM else 0.0 for s in geometry.spacing_mm)
    smooth = filters.gaussian(grid, sigma=(d, h, w))
    return resample(smooth, affine=geometry.affine, to_shape=other.shape, to_affine=other.affine)


def _starts(moving: Array, geometry: Geometry, mask: Mask, template: Geometry) -> list[Float64[Array, "3"]]:
    """Translations to try: template top to a little below the top of the head, and centre to centre of the field."""
    from isocenter.ops.components import largest_components
    from isocenter.ops.histogram import histogram, otsu_cut
    from isocenter.ops.morphology import bounding_box, opening

    spacing = geometry.spacing_mm
    head = np.asarray(moving > otsu_cut(*histogram(moving, bins=256)))
    head = largest_components(opening(head, radius=2 * _WORKING_MM, spacing=spacing))
    if not head.any():
        raise DegenerateImage("no head was found in the image: it holds no large bright part")
    top = int(np.flatnonzero(np.count_nonzero(head, axis=(1, 2)) > 20)[-1:].sum())
    upper = head.copy()
    upper[: max(0, top - int(150 / _WORKING_MM))] = False  # the neck does not say where the middle is
    box, template_box = bounding_box(upper), bounding_box(mask)

    def point(of: Geometry, b: tuple[slice, slice, slice], z: float) -> Float64[Array, "3"]:
        middle = [z, (b[1].start + b[1].stop - 1) / 2, (b[2].start + b[2].stop - 1) / 2]
        return np.asarray(of.index_to_world(np.asarray([middle], dtype=np.float64))[0])

    to_top = point(geometry, box, top) - point(template, template_box, template_box[0].stop - 1)
    centre = (np.asarray([geometry.shape], dtype=np.float64) - 1) / 2
    brain_centre = point(template, template_box, (template_box[0].start + template_box[0].stop - 1) / 2)
    to_centre = geometry.index_to_world(centre)[0] - brain_centre
    shifts = [np.asarray([0.0, dy, dz]) for dz in (-24.0, -12.0, 0.0) for dy in (-10.0, 0.0, 10.0)]
    return [base + shift for base in (to_top, to_centre) for shift in shifts]


def _already_extracted(grid: Grid, prior: Mask) -> Mask | None:
    """The foreground, if the background is one value and the foreground is where the brain should be."""
    from isocenter.metrics.overlap import dice
    from isocenter.ops.morphology import fill_holes

    foreground = np.asarray(grid > grid.min())
    if np.count_nonzero(foreground) > 0.7 * foreground.size:
        return None
    foreground = fill_holes(foreground)
    return foreground if dice(foreground, prior) >= 0.93 else None


def _refined(grid: Grid, prior: Mask, spacing: Triple, settings: Brain) -> Mask:
    """The registered mask, moved to where the tissue ends."""
    from isocenter.ops import filter as filters
    from isocenter.ops.cluster import k_means
    from isocenter.ops.components import largest_components
    from isocenter.ops.histogram import histogram
    from isocenter.ops.morphology import (
        bounding_box,
        closing,
        dilate,
        erode,
        fill_holes,
        opening,
        signed_distance,
    )

    margin = [int(np.ceil((settings.reach_mm + settings.closing_mm) / s)) + 2 for s in spacing]
    box = bounding_box(prior, margin=(margin[0], margin[1], margin[2]))
    depth = signed_distance(prior[box], spacing=spacing)
    d, h, w = (int(1.0 / s + 1e-6) for s in spacing)
    near = filters.median(grid[box], radius=(d, h, w))
    core = np.asarray(depth < -settings.core_mm)
    fluid, grey, white = k_means(*histogram(near, bins=512, within=core), classes=3)
    tissue = np.asarray((near > (fluid + grey) / 2) & (near < 2 * white - grey) & (depth <= settings.reach_mm))
    thick = opening(tissue, radius=1.6, spacing=spacing)  # drops dura and vessels, which are thinner than gyri
    attached = largest_components((tissue & (depth <= 1)) | thick | core)
    body = largest_components(erode(attached, radius=1.0, spacing=spacing))
    attached = dilate(body, radius=2.0, spacing=spacing) & attached
    filled = (closing(attached, radius=settings.closing_mm, spacing=spacing) | core) & (depth <= settings.reach_mm)
    filled = fill_holes(largest_components(filled))
    out = np.zeros_like(prior)
    out[box] = largest_components(opening(filled, radius=2.0, spacing=spacing))
    return out
