"""Defaults of label maps."""

from typing import Any

import numpy as np

from isocenter.data.volume import Quantity
from isocenter.inference.prepare import Preparation
from isocenter.training.images.defaults.defaults import Basis, Defaults, slice_dims, without_sides
from isocenter.training.images.fingerprint import Fingerprint


class Voxels(Defaults):
    """A label of each voxel."""

    answers, loss, sized = "voxel", "dice_ce", False

    def dims(self, seen: Fingerprint) -> int:
        """2 where images are pictures or volumes of few thick slices."""
        return slice_dims(seen)

    def layout(self, seen: Fingerprint, dims: int) -> dict[str, Any]:
        """One spacing and, in 3-D, one orientation."""
        return {} if seen.spacing is None else {"orient": dims == 3, "spacing_mm": seen.spacing}

    def network(self, seen: Fingerprint, preparation: Preparation) -> str:
        """nnU-Net's."""
        return "dynamic_unet"

    def settings(self, basis: Basis) -> dict[str, Any]:
        """Stages of nnU-Net's network for this window."""
        return _stages(basis.patch, basis.preparation, base=32) if basis.name == "dynamic_unet" else {}

    def laterality(self, seen: Fingerprint) -> str:
        """Free in pictures of what has no sides."""
        return without_sides(seen)

    def augmentation(self, seen: Fingerprint, preparation: Preparation) -> dict[str, Any]:
        """Pictures are turned all round; a bias field for MR."""
        pictures = preparation.dims == 2 and seen.spacing is None and max(s[0] for s in seen.shapes) == 1
        flip = (False, pictures, pictures) if preparation.dims == 2 else (False, False, True)
        bias = 0.15 if seen.quantity == str(Quantity.ARBITRARY) and not seen.whole_numbers else 0.0
        return {"flip": flip, "rotate_degrees": 180.0 if pictures else 20.0, "bias_field": bias}

    def schedule(self, seen: Fingerprint, preparation: Preparation) -> dict[str, Any]:
        """Small batches of windows."""
        return {"learning_rate": 2e-3, "weight_decay": 1e-2, "batch": 4, "ema": 0.998}


def _stages(patch: tuple[int, ...], preparation: Preparation, *, base: int) -> dict[str, Any]:
    """Strides that halve the axes until 4 voxels are left; thick axes are halved later, as nnU-Net does."""
    dims = len(patch)
    size = np.asarray(patch, np.float64)
    step = np.asarray(preparation.spacing_mm or (1.0, 1.0, 1.0), np.float64)[3 - dims :]
    strides, kernels, widths = [(1,) * dims], [_kernel(step, dims)], [base]
    while len(widths) < 6:
        can = (size >= 8) & (size % 2 == 0) & (step <= 2 * step[size >= 8].min(initial=np.inf))
        if not can.any():
            break
        stride = tuple(2 if yes else 1 for yes in can)
        size, step = size / np.asarray(stride), step * np.asarray(stride)
        strides.append(stride)
        kernels.append(_kernel(step, dims))
        widths.append(min(2 * widths[-1], 320 if dims == 3 else 512))
    # Batch normalisation, where nnU-Net has instances: folded into the convolutions it costs a prediction nothing.
    return {"widths": tuple(widths), "strides": tuple(strides), "kernels": tuple(kernels), "norm": "batch"}


def _kernel(step: Any, dims: int) -> tuple[int, ...]:
    """3 along each axis, 1 along one that is more than twice as coarse as the finest."""
    finest = float(np.min(step))
    return tuple(1 if s > 2 * finest else 3 for s in step[:dims])
