"""Label maps made cleaner. Each label is treated on its own; a voxel that two would claim stays with the first."""

from collections.abc import Callable

import numpy as np
from pydantic import Field

from isocenter.data.labels import LabelMap
from isocenter.data.provenance import Step
from isocenter.data.step import Settings
from isocenter.types import Mask


class Components(Settings):
    """Settings of `components`."""

    keep: int = Field(1, ge=1)
    """How many connected parts to keep, largest first."""
    at_least_ml: float = Field(0.0, ge=0)
    """Parts smaller than this are dropped all the same, in millilitres."""
    corners: bool = False
    """Voxels that touch at an edge or corner are connected too."""


def components(labels: LabelMap, settings: Components) -> LabelMap:
    """Keep the largest connected parts of each label.

    Raises: UnitError for `at_least_ml` in PIXELS space.
    """
    from isocenter.ops.components import largest_components

    least = 1
    if settings.at_least_ml:
        least = max(1, int(np.ceil(settings.at_least_ml * 1000 / labels.geometry.voxel_volume_mm3)))
    return _each(
        labels,
        lambda mask: largest_components(mask, keep=settings.keep, at_least=least, corners=settings.corners),
        Step("segment.components", settings.model_dump()),
    )


class NoSettings(Settings):
    """A step without settings."""


def fill_holes(labels: LabelMap, settings: NoSettings) -> LabelMap:
    """Fill background that a label encloses."""
    from isocenter.ops import morphology

    return _each(labels, morphology.fill_holes, Step("segment.fill_holes", settings.model_dump()))


class Morphology(Settings):
    """Settings of `opening` and `closing`."""

    radius_mm: float = Field(gt=0, le=100)
    """Radius of the ball in millimetres, whatever the voxels' shape."""


def opening(labels: LabelMap, settings: Morphology) -> LabelMap:
    """Remove what a ball does not fit into.

    Raises: UnitError in PIXELS space.
    """
    from isocenter.ops import morphology

    spacing = labels.geometry.spacing_mm
    step = Step("segment.opening", settings.model_dump())
    return _each(labels, lambda m: morphology.opening(m, radius=settings.radius_mm, spacing=spacing), step)


def closing(labels: LabelMap, settings: Morphology) -> LabelMap:
    """Fill what a ball outside does not reach.

    Raises: UnitError in PIXELS space.
    """
    from isocenter.ops import morphology

    spacing = labels.geometry.spacing_mm
    step = Step("segment.closing", settings.model_dump())
    return _each(labels, lambda m: morphology.closing(m, radius=settings.radius_mm, spacing=spacing), step)


def _each(labels: LabelMap, change: Callable[[Mask], Mask], step: Step) -> LabelMap:
    voxels = np.zeros_like(labels.voxels)
    for label in labels.labels:
        changed = change(np.asarray(labels.voxels == label.value))
        # A grown label takes background only: what another label holds, it keeps.
        voxels[changed & ((labels.voxels == 0) | (labels.voxels == label.value)) & (voxels == 0)] = label.value
    return labels.then(step, voxels=voxels)
