"""Body, lungs and airways in a CT of the chest."""

from dataclasses import dataclass

import numpy as np
from pydantic import Field

from isocenter.data.geometry import Geometry, Space
from isocenter.data.labels import Label, LabelMap
from isocenter.data.provenance import Json, Step
from isocenter.data.step import Settings
from isocenter.data.volume import Quantity, Volume
from isocenter.errors import DegenerateImage, InputError, UnitError
from isocenter.types import Array, Grid, Mask, Triple

_PLAIN_AIR_HU = -960.0
"""Denser on average is lung, even with emphysema; air in the room, the stomach or the bowel lies near -1000."""


class Body(Settings):
    """Settings of `body`."""

    above_hu: float = -500.0
    """Denser than this is body; the air around it is about -1000 HU, fat about -100."""
    opening_mm: float = Field(4.0, ge=0, le=30)
    """What is thinner than twice this (the table, clothes, tubes) is left out."""


def body(volume: Volume, settings: Body) -> LabelMap:
    """Find the body in a CT, with everything inside it, air too.

    Use it to keep the table and the room out of what follows. The largest dense part counts; arms that do not touch
    it are left out. Each axial slice is filled by itself, since lungs and bowels may be open at the volume's ends.

    Raises: UnitError where the image is not in HU, or has no patient directions; DegenerateImage without a body.
    """
    from isocenter.ops.components import largest_components
    from isocenter.ops.morphology import opening
    from isocenter.ops.region import between

    volume.require_quantity(Quantity.HU)
    volume.require_finite()
    across = axial_axis(volume.geometry)
    dense = between(volume.grid, settings.above_hu, np.inf)
    if settings.opening_mm:
        dense = opening(dense, radius=settings.opening_mm, spacing=volume.geometry.spacing_mm)
    dense = largest_components(dense)
    if not dense.any():
        raise DegenerateImage(f"no body was found: nothing in the image is denser than {settings.above_hu:g} HU")
    planes, values = np.moveaxis(dense, across, 0), np.moveaxis(volume.grid, across, 0)
    for index, plane in enumerate(planes):
        planes[index] = _filled(plane, values[index])
    step = Step("segment.body", settings.model_dump())
    return LabelMap.of_mask(dense, volume.geometry, name="body", history=(*volume.history, step))


def _filled(plane: Array, values: Array) -> Array:
    """Background that does not reach the plane's edge becomes foreground; so does lung that the edge cuts.

    Lung at the edge lies between two parts of the body there, touches no other edge, and is no plain air.
    """
    from scipy import ndimage

    parts, _ = ndimage.label(~plane)
    sides = (parts[0], parts[-1], parts[:, 0], parts[:, -1])
    open_parts = np.zeros(int(parts.max()) + 1, np.bool_)
    for side in sides:
        open_parts[side[side > 0]] = True
    for part in np.flatnonzero(open_parts).tolist():
        touched = [side for side in sides if np.any(side == part)]
        if len(touched) != 1:
            continue
        where, body_at = np.flatnonzero(touched[0] == part), np.flatnonzero(touched[0] == 0)
        bounded = body_at.size and body_at[0] < where[0] and body_at[-1] > where[-1]
        if bounded and float(np.mean(values[parts == part])) > _PLAIN_AIR_HU:
            open_parts[part] = False
    return ~open_parts[parts]


class Lungs(Settings):
    """Settings of `lungs`."""

    below_hu: float = -400.0
    """Air and lung: midway between lung and soft tissue, so that the surface lies where they share a voxel."""
    least_ml: float = Field(150.0, gt=0)
    """A smaller air space is no lung (stomach, bowel)."""
    closing_mm: float = Field(4.0, ge=0, le=20)
    """Vessels and small nodules up to twice this are taken in, in millimetres."""
    wall_mm: float = Field(1.5, ge=0, le=5)
    """Thickness of the airways' wall, which goes with them, in millimetres."""
    most_airway_ml: float = Field(150.0, gt=0)
    """Airways that grow beyond this have leaked into the lung."""


def lungs(volume: Volume, settings: Lungs, *, within: LabelMap | None = None) -> LabelMap:
    """Find the lungs and the airways in a CT of the chest: air inside the body, without trachea and bronchi.

    It needs the body as `within`. Labels are `right lung` and `left lung` where two separate lungs lie in the field and
    neither is cut off by the volume's edge; otherwise `lung`. What is as dense as soft tissue (consolidation,
    effusion, large tumours at the wall) is not air and is missed.

    `history[-1].results` tells `cut_off` (edges of the volume that lung touches), `airways_ml`, `fused` (the two
    lungs touched and were parted at the thinnest place) and `largest_air_ml`.

    Raises: UnitError where the image is not in HU; InputError without a body; DegenerateImage without a lung.
    """
    from isocenter.ops.morphology import bounding_box

    volume.require_quantity(Quantity.HU)
    if within is None:
        raise InputError(
            "lungs are looked for within the body: give a label map of it (made by `segment: body`) as `within` in a "
            "recipe, as --mask with `try`"
        )
    geometry = volume.geometry
    across = axial_axis(geometry)
    inside = within.within(volume.geometry)
    box = bounding_box(inside)
    grid, hull = volume.grid[box], inside[box]
    air = np.asarray(grid < settings.below_hu) & hull
    airways = _airways(grid, air, hull, geometry.crop([b.start for b in box], [b.stop for b in box]), settings)
    found = _lungs(air & ~airways.thick, grid, geometry.spacing_mm, settings)
    if not found.parts:
        raise DegenerateImage(
            f"no lung was found: the largest air space within the body holds {found.largest_ml:.1f} mL, a lung at "
            f"least {settings.least_ml:g}; is this a CT of the chest?"
        )
    voxels = np.zeros(geometry.shape, np.uint8)
    inner = voxels[box]
    for value, part in enumerate(found.parts, start=1):
        inner[part & (inner == 0)] = value
    inner[airways.lumen & (inner == 0)] = 3
    edges = _cut_off(np.asarray((voxels == 1) | (voxels == 2)), geometry)
    sides = [_side(np.asarray(voxels == i + 1), geometry) for i in range(len(found.parts))]
    middle = _middle(box, geometry)
    two = len(sides) == 2 and min(sides) < middle < max(sides) and not edges
    if two:
        if sides[0] > sides[1]:
            voxels = np.asarray([0, 2, 1, 3], np.uint8)[voxels]  # the patient's right has the smaller x
        table: tuple[Label, ...] = (Label(1, "right lung"), Label(2, "left lung"), Label(3, "airways"))
    else:
        voxels = np.asarray([0, 1, 1, 3], np.uint8)[voxels]
        table = (Label(1, "lung"), Label(3, "airways"))
    size = geometry.voxel_volume_mm3 / 1000
    results: dict[str, Json] = {
        "cut_off": edges,
        "lungs": len(found.parts),
        "both_sides": len(sides) == 2 and min(sides) < middle < max(sides),
        "fused": found.fused,
        "airways_ml": int(np.count_nonzero(voxels == 3)) * size,
        "airway_threshold_hu": airways.threshold,
        "largest_air_ml": found.largest_ml,
        "axial_axis": across,
    }
    step = Step("segment.lungs", settings.model_dump(), results)
    return LabelMap(voxels, geometry, table, (*volume.history, step))


def axial_axis(geometry: Geometry) -> int:
    """The array axis that runs along the body.

    Raises: UnitError outside patient space.
    """
    if geometry.space is not Space.PATIENT:
        raise UnitError(f"an image in {geometry.space} space has no patient directions: body and lungs need a CT")
    return next(i for i, letter in enumerate(geometry.axis_letters) if letter in "SI")


@dataclass(frozen=True)
class _Airways:
    lumen: Mask
    thick: Mask
    threshold: float | None


def _airways(grid: Grid, air: Mask, hull: Mask, geometry: Geometry, settings: Lungs) -> _Airways:
    """Trachea and bronchi: grown from the trachea at the highest threshold that does not leak into the lung."""
    from isocenter.ops.morphology import dilate
    from isocenter.ops.region import connected_to

    seed = _trachea(air, hull, geometry)
    nothing = np.zeros_like(air)
    if seed is None:
        return _Airways(nothing, nothing, None)
    size = geometry.voxel_volume_mm3 / 1000
    best, chosen, before = nothing, None, 0.0
    for cut in range(-1000, int(settings.below_hu), 25):
        dark = np.asarray(grid < cut) & hull
        if not dark[seed]:
            continue
        grown = connected_to(dark, [seed])
        volume = int(np.count_nonzero(grown)) * size
        if volume > settings.most_airway_ml or (before > 20 and volume > 1.6 * before):
            break
        best, chosen, before = grown, float(cut), volume
    spacing = geometry.spacing_mm
    thick = dilate(best, radius=settings.wall_mm, spacing=spacing) if chosen is not None else nothing
    return _Airways(best & air, thick, chosen)


def _trachea(air: Mask, hull: Mask, geometry: Geometry) -> tuple[int, int, int] | None:
    """A voxel in the trachea: from the top down, the first round air space near the body's middle that goes on."""
    axis = axial_axis(geometry)
    letters = geometry.axis_letters
    planes, bodies = np.moveaxis(air, axis, 0), np.moveaxis(hull, axis, 0)
    others = [a for a in range(3) if a != axis]
    lateral = next(i for i, a in enumerate(others) if letters[a] in "LR")
    steps = [geometry.spacing_mm[a] for a in others]
    order = range(len(planes) - 1, -1, -1) if letters[axis] == "S" else range(len(planes))
    last: tuple[float, float] | None = None
    kept = 0
    for index in list(order)[: int(0.7 * len(planes))]:
        found = _round_air(planes[index], bodies[index], steps, lateral)
        near = found is not None and last is not None and np.hypot(*(np.subtract(found[:2], last) * steps)) < 8
        kept = kept + 1 if near else 0
        last = None if found is None else (found[0], found[1])
        if found is not None and kept * geometry.spacing_mm[axis] >= 15:
            place = [index, 0, 0]
            place[1:] = [int(v) for v in found[2]]
            whole = [0, 0, 0]
            whole[axis], whole[others[0]], whole[others[1]] = place
            return whole[0], whole[1], whole[2]
    return None


def _round_air(
    plane: Array, hull: Array, steps: list[float], lateral: int
) -> tuple[float, float, tuple[int, int]] | None:
    """Centre of the air space of a trachea's size and shape nearest to the middle, and a voxel in it."""
    from scipy import ndimage

    parts, count = ndimage.label(plane)
    if not count or not hull.any():
        return None
    area = steps[0] * steps[1]
    sizes = np.bincount(parts.ravel())[1:] * area
    extent = np.flatnonzero(hull.any(axis=1 - lateral))
    middle = (extent[0] + extent[-1]) / 2
    best = None
    for number, box in enumerate(ndimage.find_objects(parts), start=1):
        if not 60 <= sizes[number - 1] <= 900 or box is None:
            continue
        sides = [(b.stop - b.start) * s for b, s in zip(box, steps, strict=True)]
        if max(sides) > 2.2 * min(sides) or sizes[number - 1] < 0.5 * sides[0] * sides[1]:
            continue
        where = np.argwhere(parts[box] == number)
        centre = where.mean(axis=0) + [b.start for b in box]
        off = abs(centre[lateral] - middle) * steps[lateral]
        if off > 40 or (best is not None and off >= best[0]):
            continue
        inner = where[np.argmin(((where - where.mean(axis=0)) ** 2).sum(axis=1))] + [b.start for b in box]
        best = (off, float(centre[0]), float(centre[1]), (int(inner[0]), int(inner[1])))
    return None if best is None else (best[1], best[2], best[3])


@dataclass(frozen=True)
class _Found:
    parts: list[Mask]
    fused: bool
    largest_ml: float


def _lungs(air: Mask, grid: Grid, spacing: Triple, settings: Lungs) -> _Found:
    """One or two lungs: the two largest air spaces that are no plain gas, or one that is parted at its waist."""
    from isocenter.ops.components import largest_components
    from isocenter.ops.morphology import closing, fill_holes

    size = float(np.prod(spacing)) / 1000
    least = max(1, int(settings.least_ml / size))
    largest = int(np.count_nonzero(largest_components(air))) * size
    spaces: list[Mask] = []
    while len(spaces) < 2:
        part = largest_components(air, at_least=least)
        if not part.any():
            break
        air = air & ~part
        if float(np.median(grid[part])) > _PLAIN_AIR_HU - 10:
            spaces.append(part)
    if not spaces:
        return _Found([], fused=False, largest_ml=largest)
    first, second = spaces[0], spaces[1] if len(spaces) > 1 else np.zeros_like(air)
    fused = False
    parts = [first, second] if second.any() else [first]
    if len(parts) == 1 or np.count_nonzero(second) < 0.15 * np.count_nonzero(first):
        split = _parted(first, spacing)
        if split is not None:
            parts, fused = split, True
    whole = [fill_holes(closing(part, radius=settings.closing_mm, spacing=spacing)) for part in parts]
    return _Found(whole, fused, largest)


def _parted(mask: Mask, spacing: Triple) -> list[Mask] | None:
    """Two lungs that touch: eroded until they come apart, then each voxel goes to the nearer one."""
    from isocenter.ops.components import largest_components
    from isocenter.ops.morphology import bounding_box, depth_inside
    from isocenter.ops.region import watershed

    box = bounding_box(mask, margin=(1, 1, 1))
    depth = depth_inside(mask[box], spacing=spacing)
    for radius in (1.5, 3.0, 4.5, 6.0, 8.0, 10.0):
        core = np.asarray(depth > radius)
        one = largest_components(core)
        two = largest_components(core & ~one)
        if np.count_nonzero(two) > 0.3 * np.count_nonzero(one):
            markers = one.astype(np.uint8)
            markers[two] = 2
            np.negative(depth, out=depth)
            flooded = watershed(depth, markers, mask=mask[box])
            parts = []
            for value in (1, 2):
                part = np.zeros_like(mask)
                part[box] = flooded == value
                parts.append(part)
            return parts
    return None


def _cut_off(mask: Mask, geometry: Geometry) -> list[str]:
    """Directions in which the mask touches the volume's edge."""
    opposite = dict(zip("LRAPSI", "RLPAIS", strict=True))
    found = []
    for axis, letter in enumerate(geometry.axis_letters):
        planes = np.moveaxis(mask, axis, 0)
        for plane, towards in ((planes[-1], letter), (planes[0], opposite[letter])):
            if np.count_nonzero(plane) > 4:
                found.append(towards)
    return found


def _side(mask: Mask, geometry: Geometry) -> float:
    """World x of the mask's centre; it grows towards the patient's left."""
    axes = [np.arange(n) for n in mask.shape]
    total = max(1, int(np.count_nonzero(mask)))
    centre = [float((mask.sum(axis=tuple(b for b in range(3) if b != a)) * axes[a]).sum()) / total for a in range(3)]
    return float(geometry.index_to_world(np.asarray([centre]))[0, 0])


def _middle(box: tuple[slice, slice, slice], geometry: Geometry) -> float:
    """World x of the body's middle."""
    inner = geometry.crop([b.start for b in box], [b.stop for b in box])
    return float(inner.corners()[:, 0].mean())
