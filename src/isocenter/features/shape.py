"""How large a region is."""

import numpy as np

from isocenter.data.features import Feature, FeatureTable
from isocenter.data.labels import LabelMap
from isocenter.data.step import Settings
from isocenter.data.volume import Volume


class VolumeSize(Settings):
    """Settings of `volume`: none."""


def volume(image: Volume, labels: LabelMap, settings: VolumeSize) -> FeatureTable:
    """Volume of each label: voxels times the volume of one (IBSI YEKZ, approximate volume).

    An absent label has volume 0.

    Raises: UnitError in PIXELS space; GeometryError where image and labels lie on different grids.
    Source: IBSI reference manual, arXiv:1612.07003v11, section 3.1.
    """
    image.geometry.require_same(labels.geometry, what="the image and the label map")
    size_ml = labels.geometry.voxel_volume_mm3 / 1000
    return FeatureTable(
        tuple(
            Feature("volume", int(np.count_nonzero(labels.voxels == lb.value)) * size_ml, "mL", "IBSI:YEKZ", lb.name)
            for lb in labels.labels
        )
    )
