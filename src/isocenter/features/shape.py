"""How large a region is."""

import numpy as np

from isocenter.data.features import Feature, FeatureTable
from isocenter.data.geometry import Space
from isocenter.data.labels import LabelMap
from isocenter.data.step import Settings
from isocenter.data.volume import Volume


class VolumeSize(Settings):
    """Settings of `volume`: none."""


def volume(image: Volume, labels: LabelMap, settings: VolumeSize) -> FeatureTable:
    """Volume of each label: voxels times the volume of one (IBSI YEKZ, approximate volume).

    On a flat picture it is the area: in square millimetres, or in pixels where there are none. An absent label has 0.

    Raises: UnitError for a stack without millimetres; GeometryError where image and labels lie on different grids.
    Source: IBSI reference manual, arXiv:1612.07003v11, section 3.1.
    """
    image.geometry.require_same(labels.geometry, what="the image and the label map")
    place = labels.geometry
    if place.shape[0] == 1 and place.space is not Space.PATIENT:
        metric = place.space is not Space.PIXELS
        size = place.steps[1] * place.steps[2] if metric else 1.0
        unit, words = ("mm2", "pixels times the area of one") if metric else ("px", "pixels")
        return FeatureTable(
            tuple(
                Feature("area", int(np.count_nonzero(labels.voxels == lb.value)) * size, unit, words, lb.name)
                for lb in labels.labels
            )
        )
    size_ml = labels.geometry.voxel_volume_mm3 / 1000
    return FeatureTable(
        tuple(
            Feature("volume", int(np.count_nonzero(labels.voxels == lb.value)) * size_ml, "mL", "IBSI:YEKZ", lb.name)
            for lb in labels.labels
        )
    )
