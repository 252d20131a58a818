"""The step that computes radiomic features of every label."""

import numpy as np

from isocenter.data.features import Feature, FeatureTable
from isocenter.data.geometry import Space
from isocenter.data.labels import LabelMap
from isocenter.data.volume import Quantity, Volume
from isocenter.errors import GeometryError
from isocenter.features.beyond import beyond, families_for
from isocenter.features.catalogue import catalogue
from isocenter.features.compute import Measured, compute, unit_of
from isocenter.features.settings import Radiomics
from isocenter.types import Grid, Voxels

UNITS = {Quantity.HU: "[hnsf'U]", Quantity.SUV: "g/mL", Quantity.ACTIVITY: "Bq/mL", Quantity.ARBITRARY: "[arb'U]"}
"""UCUM units of intensities; others are 1."""


def radiomics(image: Volume, labels: LabelMap, settings: Radiomics) -> FeatureTable:
    """Radiomic features of each label, by the standard of the Image Biomarker Standardisation Initiative.

    A feature that has no answer (an empty or flat region, one voxel) is missing with its reason.

    Raises: GeometryError where image and labels lie on different grids, or the grid is sheared.
    Source: IBSI reference manual, arXiv:1612.07003v11; A. Zwanenburg et al., Radiology 295(2):328-338, 2020.
    """
    geometry = image.geometry
    geometry.require_same(labels.geometry, what="the image and the mask")
    coloured = image.channels == 3
    grid = image.grid if not coloured else luminance(image.voxels)
    axes = geometry.directions
    if geometry.space is not Space.PIXELS and np.abs(axes.T @ axes - np.eye(3)).max() > 1e-3:
        raise GeometryError("this grid is sheared, and features are defined on boxes: resample it first")
    rows: list[Feature] = []
    unit = UNITS.get(image.quantity, "1")
    for label in labels.labels:
        mask = labels.voxels == label.value
        found = compute(
            grid,
            mask,
            geometry.steps,
            settings,
            quantity=image.quantity,
            metric=geometry.space is not Space.PIXELS,
        )
        joined = settings.aggregation is not None and len(settings.aggregation) > 1
        rows += [as_feature(row, label.name, unit, joined=joined) for row in found]
        for family in families_for(settings, flat=mask.shape[0] == 1, coloured=coloured):
            rows += beyond(
                family,
                grid,
                mask,
                colours=image.voxels if coloured else None,
                steps=geometry.steps[1:],
                length="px" if geometry.space is Space.PIXELS else "mm",
                label=label.name,
            )
    return FeatureTable(tuple(rows))


def luminance(voxels: Voxels) -> Grid:
    """Brightness of a colour picture (ITU-R BT.601)."""
    red, green, blue = (channel.astype(np.float32) for channel in voxels)
    return np.asarray(0.299 * red + 0.587 * green + 0.114 * blue)


def as_feature(row: Measured, label: str, unit: str, *, joined: bool = False) -> Feature:
    """A measured number as a feature; `joined`: its name says how slices and directions were joined."""
    name = row.name if not joined or row.aggregation == "none" else f"{row.name}_{row.aggregation}"
    known = catalogue()[row.family, row.name]
    if row.filtered:
        name, unit = f"{row.filtered}_{name}", "[arb'U]"
    return Feature(
        name,
        row.value,
        unit_of(row.family, row.name, unit),
        known.definition,
        label,
        row.missing,
        family=row.family,
    )
