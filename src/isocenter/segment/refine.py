"""Label maps made cleaner. Each label is treated on its own; a voxel that two would claim stays with the first."""

from collections.abc import Callable

import numpy as np
from pydantic import Field

from isocenter.data.labels import LabelMap
from isocenter.data.length import Lengths
from isocenter.data.provenance import Step
from isocenter.data.step import Settings
from isocenter.errors import InputError
from isocenter.types import Array, Mask


class Components(Settings):
    """Settings of `components`."""

    keep: int = Field(1, ge=1, le=100_000)
    """How many connected parts to keep, largest first."""
    at_least_ml: float = Field(0.0, ge=0)
    """Parts smaller than this are dropped all the same, in millilitres."""
    at_least_px: int = Field(1, ge=1)
    """Parts of fewer voxels are dropped all the same."""
    corners: bool = False
    """Voxels that touch at an edge or corner are connected too."""


def components(labels: LabelMap, settings: Components) -> LabelMap:
    """Keep the largest connected parts of each label.

    Raises: UnitError for `at_least_ml` in PIXELS space.
    """
    from isocenter.ops.components import largest_components

    least = settings.at_least_px
    if settings.at_least_ml:
        least = max(least, int(np.ceil(settings.at_least_ml * 1000 / labels.geometry.voxel_volume_mm3)))
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


class Pick(Settings):
    """Settings of `pick`."""

    labels: tuple[str, ...] = Field(min_length=1)
    """Names of the labels to keep; the others become background."""


def pick(labels: LabelMap, settings: Pick) -> LabelMap:
    """Keep some of the labels. Use it to go on with one class of a threshold or a clustering.

    Raises: InputError for a name that the label map does not have.
    """
    there = [label.name for label in labels.labels]
    absent = [name for name in settings.labels if name not in there]
    if absent:
        raise InputError(f"no label is called {absent[0]!r}; there are {there}")
    kept = tuple(label for label in labels.labels if label.name in settings.labels)
    voxels = np.where(np.isin(labels.voxels, [label.value for label in kept]), labels.voxels, 0)
    step = Step("segment.pick", settings.model_dump(mode="json"))
    return LabelMap(voxels, labels.geometry, kept, (*labels.history, step))


class Morphology(Lengths):
    """Settings of `opening`, `closing`, `dilation` and `erosion`."""

    radius_mm: float | None = Field(None, gt=0, le=100)
    """Radius of the ball in millimetres, whatever the voxels' shape."""
    radius_px: float | None = Field(None, gt=0, le=1000)
    """The same in voxels, for images without millimetres."""


def opening(labels: LabelMap, settings: Morphology) -> LabelMap:
    """Remove what a ball does not fit into.

    Raises: UnitError in PIXELS space.
    """
    from isocenter.ops import morphology

    return _by_ball(labels, settings, morphology.opening, "opening")


def closing(labels: LabelMap, settings: Morphology) -> LabelMap:
    """Fill what a ball outside does not reach.

    Raises: UnitError in PIXELS space.
    """
    from isocenter.ops import morphology

    return _by_ball(labels, settings, morphology.closing, "closing")


def dilation(labels: LabelMap, settings: Morphology) -> LabelMap:
    """Grow each label by a ball; it takes background only. Use it for a margin around an object.

    Raises: UnitError in PIXELS space for millimetres.
    """
    from isocenter.ops import morphology

    return _by_ball(labels, settings, morphology.dilate, "dilation")


def erosion(labels: LabelMap, settings: Morphology) -> LabelMap:
    """Shrink each label by a ball; the image's edge is not a boundary. Use it to stay clear of partial voxels.

    Raises: UnitError in PIXELS space for millimetres.
    """
    from isocenter.ops import morphology

    return _by_ball(labels, settings, morphology.erode, "erosion")


def _by_ball(labels: LabelMap, settings: Morphology, change: Callable[..., Mask], name: str) -> LabelMap:
    spacing = settings.spacing_for("radius", labels.geometry)
    step = Step(f"segment.{name}", settings.model_dump(exclude_none=True))
    return _each(labels, lambda mask: change(mask, radius=settings.length("radius"), spacing=spacing), step)


class Smooth(Lengths):
    """Settings of `smooth`."""

    sigma_mm: float | None = Field(None, gt=0, le=50)
    """Standard deviation of the Gaussian in millimetres: details smaller than it go."""
    sigma_px: float | None = Field(None, gt=0, le=100)
    """The same in voxels, for images without millimetres."""


def smooth(labels: LabelMap, settings: Smooth) -> LabelMap:
    """Round the surfaces: each voxel goes to the label (or background) that a Gaussian of it finds most of.

    Use it after thresholds of noisy images. Flat surfaces stay where they are; thin parts go.

    Raises: UnitError in PIXELS space for millimetres.
    """
    from isocenter.ops import filter as filters
    from isocenter.ops.slabs import by_slab

    sigma = settings.voxels("sigma", labels.geometry)

    def rounded(part: Array) -> Array:
        most = filters.gaussian(np.asarray(part == 0).view(np.uint8), sigma=sigma)
        out = np.zeros_like(part)
        for label in labels.labels:
            share = filters.gaussian(np.asarray(part == label.value).view(np.uint8), sigma=sigma)
            out[share > most] = label.value
            np.maximum(most, share, out=most)
        return out

    voxels = by_slab(rounded, labels.voxels, halo=[int(np.ceil(4 * v)) + 1 for v in sigma])
    return labels.then(Step("segment.smooth", settings.model_dump(exclude_none=True)), voxels=voxels)


def _each(labels: LabelMap, change: Callable[[Mask], Mask], step: Step) -> LabelMap:
    voxels = np.zeros_like(labels.voxels)
    for label in labels.labels:
        changed = change(np.asarray(labels.voxels == label.value))
        # A grown label takes background only: what another label holds, it keeps.
        voxels[changed & ((labels.voxels == 0) | (labels.voxels == label.value)) & (voxels == 0)] = label.value
    return labels.then(step, voxels=voxels)
