"""The slow intensity drift of an MR coil."""

import numpy as np

from isocenter.errors import DegenerateImage
from isocenter.types import FloatGrid, Grid, Mask, Triple


def n4_field(
    grid: Grid, mask: Mask, *, spacing: Triple, working_mm: float = 4.0, levels: int = 2, iterations: int = 50
) -> FloatGrid:
    """The multiplicative bias field, with geometric mean 1 over the mask.

    Estimated on a grid shrunken to about `working_mm`, then evaluated on the full one.

    Args:
        grid: intensities of an MR image.
        mask: where to look; background must be out.
        spacing: millimetres along (d, h, w).
        working_mm: spacing on which the field is estimated.
        levels: fitting levels; the last has 2^(levels - 1) spline spans along each axis. Two keep to the coil's slow
            drift; four follow the anatomy and take contrast away from the tissues (docs/decisions/0005).
        iterations: at most, on each level.
    Raises: DegenerateImage for a mask too small to hold a field.
    Source: N. Tustison et al., IEEE Trans. Med. Imaging 29(6):1310-1320, 2010.
    """
    from isocenter.ops.itk import WORK_UNITS, array_of, image_of, sitk

    shrink = [max(1, min(n, round(working_mm / s))) for n, s in zip(grid.shape, spacing, strict=True)]
    image = image_of(grid.astype(np.float32, copy=False), spacing=spacing)
    small = sitk.Shrink(image, shrink[::-1])
    small_mask = sitk.Shrink(image_of(mask, spacing=spacing), shrink[::-1])
    if array_of(small_mask).sum() < 64 or min(small.GetSize()) < 4:
        raise DegenerateImage(
            f"a bias field cannot be estimated: {int(mask.sum())} voxels of mask on a grid of {grid.shape} "
            f"leave too little at {working_mm:g} mm; skip the step or lower working_mm"
        )
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetNumberOfWorkUnits(WORK_UNITS)
    n4.SetMaximumNumberOfIterations([iterations] * levels)
    n4.SetConvergenceThreshold(1e-3)
    n4.Execute(small, small_mask)
    log_field = array_of(n4.GetLogBiasFieldAsImage(image))
    del image
    log_field -= log_field[mask].mean()
    return np.asarray(np.exp(log_field, out=log_field))
