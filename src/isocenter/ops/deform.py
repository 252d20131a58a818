"""A dense map between two images of one grid, and images half way along it."""

import numpy as np

from isocenter.types import Array, Float32


def displacement(
    fixed: Float32[Array, "*s"], moving: Float32[Array, "*s"], *, iterations: int = 60, smoothing: float = 1.5
) -> Float32[Array, "n *s"]:
    """Displacements u in voxels with `moving(x + u(x)) ~ fixed(x)`, coarse to fine.

    Args:
        fixed: two or three axes; intensities as those of `moving`.
        moving: the same shape.
        iterations: of each resolution.
        smoothing: deviation in voxels by which each update and the whole field are smoothed.

    Source: T. Vercauteren et al., NeuroImage 45:S61-S72, 2009 (diffeomorphic demons, symmetric forces).
    """
    from isocenter.ops.itk import WORK_UNITS, sitk

    images = [sitk.GetImageFromArray(np.ascontiguousarray(v, np.float32)) for v in (fixed, moving)]
    field = None
    for shrink in (4, 2, 1):
        factors = [shrink if n >= 16 * shrink else 1 for n in images[0].GetSize()]
        one, other = (sitk.Shrink(sitk.SmoothingRecursiveGaussian(v, max(0.5, shrink / 2)), factors) for v in images)
        demons = sitk.FastSymmetricForcesDemonsRegistrationFilter()
        demons.SetNumberOfWorkUnits(WORK_UNITS)
        demons.SetNumberOfIterations(iterations)
        demons.SmoothUpdateFieldOn()
        demons.SetUpdateFieldStandardDeviations(smoothing)
        demons.SmoothDisplacementFieldOn()
        demons.SetStandardDeviations(smoothing)
        start = () if field is None else (sitk.Resample(field, one),)
        field = demons.Execute(one, other, *start)
    vectors = sitk.GetArrayFromImage(field)  # *s n, x first
    return np.ascontiguousarray(np.moveaxis(vectors[..., ::-1], -1, 0), np.float32)


def pulled(image: Float32[Array, "*s"], along: Float32[Array, "n *s"]) -> Float32[Array, "*s"]:
    """The image at x + u(x), linearly interpolated; beyond its edge its nearest values."""
    from scipy import ndimage

    places = np.indices(image.shape, dtype=np.float32) + along
    return np.asarray(ndimage.map_coordinates(image, places, order=1, mode="nearest"), np.float32)


def between(
    first: Float32[Array, "*s"],
    last: Float32[Array, "*s"],
    onward: Float32[Array, "n *s"],
    back: Float32[Array, "n *s"],
    share: float,
) -> Float32[Array, "*s"]:
    """An image between two: both moved toward each other, and mixed; at 0 the first itself, at 1 the last.

    Args:
        first: at share 0.
        last: at share 1.
        onward: `displacement(last, first)`: brings the first onto the last.
        back: `displacement(first, last)`.
        share: of the way.
    """
    return np.asarray(
        (1 - share) * pulled(first, share * onward) + share * pulled(last, (1 - share) * back), np.float32
    )
