"""Classes of intensity."""

import numpy as np
from pydantic import Field, field_validator

from isocenter.data.geometry import Space
from isocenter.data.labels import Label, LabelMap
from isocenter.data.provenance import Step
from isocenter.data.step import Settings
from isocenter.data.volume import Volume
from isocenter.segment.threshold import distinct

_BINS = 1024


class KMeans(Settings):
    """Settings of `k_means`."""

    classes: tuple[str, ...] = Field(min_length=2, max_length=16)
    """Names of the classes, darkest first."""

    @field_validator("classes")
    @classmethod
    def _distinct(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return distinct(names)


def k_means(volume: Volume, settings: KMeans, *, within: LabelMap | None = None) -> LabelMap:
    """Part intensities into classes of least variance; exact, no random start.

    Raises: DegenerateImage where there are fewer distinct intensities than classes.
    """
    from isocenter.ops.cluster import k_means as means_of
    from isocenter.ops.histogram import histogram
    from isocenter.ops.label import classes_by_cuts

    mask = within.within(volume.geometry) if within else None
    means = means_of(*histogram(volume.grid, bins=_BINS, within=mask), classes=len(settings.classes))
    cuts = (means[1:] + means[:-1]) / 2
    voxels = classes_by_cuts(volume.grid, cuts, within=mask)
    step = Step("segment.k_means", settings.model_dump(mode="json"), {"means": means.tolist(), "cuts": cuts.tolist()})
    return LabelMap(voxels, volume.geometry, _table(settings.classes), (*volume.history, step))


class FuzzyCMeans(KMeans):
    """Settings of `fuzzy_c_means`."""

    fuzziness: float = Field(2.0, gt=1, le=5)
    """Exponent of the memberships; near 1 is k-means."""


def fuzzy_c_means(volume: Volume, settings: FuzzyCMeans, *, within: LabelMap | None = None) -> LabelMap:
    """Part intensities into classes to which each belongs in part; a voxel gets the class it belongs to most.

    Use it as k_means where classes blend into each other: means are drawn less by what lies between them.

    Raises: DegenerateImage where the classes cannot be told apart.
    """
    from isocenter.ops.cluster import fuzzy_c_means as fit
    from isocenter.ops.histogram import histogram
    from isocenter.ops.label import classes_by_cuts

    mask = within.within(volume.geometry) if within else None
    counts, centres = histogram(volume.grid, bins=_BINS, within=mask)
    means, member = fit(counts, centres, classes=len(settings.classes), fuzziness=settings.fuzziness)
    cuts = (means[1:] + means[:-1]) / 2
    voxels = classes_by_cuts(volume.grid, cuts, within=mask)
    sure = float(np.average(member.max(axis=0), weights=counts))
    found = {"means": means.tolist(), "cuts": cuts.tolist(), "mean_membership": sure}
    step = Step("segment.fuzzy_c_means", settings.model_dump(mode="json"), found)
    return LabelMap(voxels, volume.geometry, _table(settings.classes), (*volume.history, step))


class GaussianMixture(KMeans):
    """Settings of `gaussian_mixture`."""

    partial_volume: bool = True
    """Model voxels that two neighbouring classes share; without it a broad class swallows the boundary voxels."""
    smoothness: float = Field(0.2, ge=0, le=10)
    """How much a voxel listens to its six neighbours (Potts weight); 0 looks at each voxel alone."""


def gaussian_mixture(volume: Volume, settings: GaussianMixture, *, within: LabelMap | None = None) -> LabelMap:
    """Part intensities into Gaussian classes of one common variance.

    Raises: DegenerateImage where the classes cannot be told apart.
    """
    from isocenter.ops.cluster import gaussian_mixture as fit
    from isocenter.ops.histogram import histogram
    from isocenter.ops.label import classes_by_cuts, smooth_classes

    grid, mask = volume.grid, within.within(volume.geometry) if within else None
    counts, centres = histogram(grid, bins=_BINS, within=mask)
    mixture = fit(counts, centres, classes=len(settings.classes), partial_volume=settings.partial_volume)
    voxels = classes_by_cuts(grid, mixture.cuts, within=mask)
    if settings.smoothness:
        metric = volume.geometry.space is not Space.PIXELS
        voxels = smooth_classes(
            grid,
            voxels,
            means=mixture.means,
            deviation=mixture.deviation,
            smoothness=settings.smoothness,
            spacing=volume.geometry.spacing_mm if metric else (1.0, 1.0, 1.0),
        )
    found = {
        "means": mixture.means.tolist(),
        "standard_deviation": mixture.deviation,
        "cuts": mixture.cuts.tolist(),
    }
    step = Step("segment.gaussian_mixture", settings.model_dump(mode="json"), found)
    return LabelMap(voxels, volume.geometry, _table(settings.classes), (*volume.history, step))


def _table(names: tuple[str, ...]) -> tuple[Label, ...]:
    return tuple(Label(value, name) for value, name in enumerate(names, start=1))
