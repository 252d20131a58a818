"""Less noise."""

import numpy as np
from pydantic import Field

from isocenter.data.provenance import Step
from isocenter.data.step import Settings
from isocenter.data.volume import Volume
from isocenter.errors import DegenerateImage

_MOST_VOXELS = 5


class Gaussian(Settings):
    """Settings of `gaussian`."""

    sigma_mm: float = Field(gt=0, le=50)
    """Standard deviation of the kernel in millimetres."""


def gaussian(volume: Volume, settings: Gaussian) -> Volume:
    """Smooth with a Gaussian; blurs edges, keeps the mean.

    Raises: UnitError in PIXELS space.
    """
    from isocenter.ops import filter as filters

    d, h, w = (settings.sigma_mm / s for s in volume.geometry.spacing_mm)
    voxels = np.empty(volume.voxels.shape, np.float32)
    for index, channel in enumerate(volume.voxels):
        filters.gaussian(channel, sigma=(d, h, w), out=np.asarray(voxels[index]))
    return volume.then(Step("preprocess.gaussian", settings.model_dump()), voxels=voxels)


class Median(Settings):
    """Settings of `median`."""

    radius_mm: float = Field(gt=0, le=20)
    """The box reaches to every neighbour whose distance along its axis is at most this."""


def median(volume: Volume, settings: Median) -> Volume:
    """Replace each voxel by the median of a box; removes specks, keeps edges.

    Along an axis whose voxels lie farther apart than `radius_mm`, nothing is mixed.

    Raises: UnitError in PIXELS space.
    """
    from isocenter.ops import filter as filters

    d, h, w = (int(settings.radius_mm / s + 1e-6) for s in volume.geometry.spacing_mm)
    if max(d, h, w) > _MOST_VOXELS:
        raise DegenerateImage(
            f"a median over {2 * max(d, h, w) + 1} voxels along an axis takes hours; lower radius_mm to at most "
            f"{_MOST_VOXELS * min(volume.geometry.spacing_mm):.3g}, or resample first"
        )
    voxels = np.empty_like(volume.voxels)
    for index, channel in enumerate(volume.voxels):
        filters.median(channel, radius=(d, h, w), out=np.asarray(voxels[index]))
    step = Step("preprocess.median", settings.model_dump(), {"radius_voxels": [d, h, w]})
    return volume.then(step, voxels=voxels)
