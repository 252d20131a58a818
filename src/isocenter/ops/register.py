"""Finding where a template lies in an image."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from isocenter.types import Affine, Array, Float64, Grid, Mask, Real

_BINS = 32


@dataclass(frozen=True)
class Alignment:
    """An affine map from template world to image world (LPS mm), and how well the two agree under it.

    `mutual_information` is Mattes' estimate in nats over the template's mask; higher is better.
    """

    matrix: Affine
    mutual_information: float

    @property
    def scales(self) -> tuple[float, float, float]:
        """Singular values of the linear part: how much the template was stretched, largest first."""
        a, b, c = np.linalg.svd(self.matrix[:3, :3], compute_uv=False)
        return float(a), float(b), float(c)


def align_template(
    template: Grid,
    template_affine: Affine,
    mask: Mask,
    image: Real[Array, "image_d image_h image_w"],
    image_affine: Affine,
    *,
    shifts_mm: Sequence[Float64[Array, "3"]],
    pitches_deg: Sequence[float] = (-20.0, -10.0, 0.0, 10.0, 20.0),
    seed: int = 1,
) -> Alignment:
    """Place a template in an image: the best of many starts, then rigid, then affine.

    Args:
        template: intensities `d h w` on a grid of some millimetres.
        template_affine: its index -> world.
        mask: the part of the template where the two are compared.
        image: intensities of a like spacing; smoothed already.
        image_affine: its index -> world.
        shifts_mm: translations to start from.
        pitches_deg: turns about the left-right axis to start from.
        seed: of the voxels that the metric samples.
    Source: D. Mattes et al., IEEE Trans. Med. Imaging 22(1):120-128, 2003.
    """
    from isocenter.ops.itk import image_of, sitk

    fixed = image_of(template.astype(np.float32), affine=template_affine)
    moving = image_of(image.astype(np.float32), affine=image_affine)
    where = image_of(mask, affine=template_affine)
    centre = template_affine[:3, :3] @ np.argwhere(mask).mean(axis=0) + template_affine[:3, 3]

    coarse = _method(where, sampling=0.2, seed=seed)
    start, best = None, np.inf
    for pitch in pitches_deg:
        for shift in shifts_mm:
            guess = sitk.Euler3DTransform()
            guess.SetCenter(centre.tolist())
            guess.SetRotation(float(np.deg2rad(pitch)), 0.0, 0.0)
            guess.SetTranslation(np.asarray(shift).tolist())
            coarse.SetInitialTransform(guess, inPlace=False)
            value = _evaluate(coarse, fixed, moving)
            if value < best:
                start, best = guess, value
    if start is None:  # the template leaves the image everywhere
        return Alignment(np.eye(4), 0.0)
    rigid = _refine(fixed, moving, _method(where, sampling=0.3, seed=seed), start, shrink=[2, 1], smooth=[1, 0])
    affine = sitk.AffineTransform(3)
    affine.SetCenter(rigid.GetCenter())
    affine.SetMatrix(rigid.GetMatrix())
    affine.SetTranslation(rigid.GetTranslation())
    final_method = _method(where, sampling=0.5, seed=seed)
    final = _refine(fixed, moving, final_method, affine, shrink=[1], smooth=[0])
    return Alignment(_matrix(final), -float(final_method.GetMetricValue()))


def _method(where: Any, *, sampling: float, seed: int) -> Any:
    from isocenter.ops.itk import WORK_UNITS, sitk

    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfWorkUnits(WORK_UNITS)
    method.SetMetricAsMattesMutualInformation(_BINS)
    method.SetMetricFixedMask(where)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(sampling, seed=seed)
    return method


def _evaluate(method: Any, fixed: Any, moving: Any) -> float:
    try:
        return float(method.MetricEvaluate(fixed, moving))
    except RuntimeError:  # ITK's word for "no sample falls into the image"
        return float("inf")


def _refine(fixed: Any, moving: Any, method: Any, start: Any, *, shrink: list[int], smooth: list[int]) -> Any:
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 150, relaxationFactor=0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(shrink)
    method.SetSmoothingSigmasPerLevel(smooth)
    method.SetInitialTransform(start, inPlace=False)
    found = method.Execute(fixed, moving)
    found = found.GetNthTransform(0) if found.GetName() == "CompositeTransform" else found
    return found.Downcast()


def _matrix(transform: Any) -> Affine:
    """World -> world matrix of a transform that has a centre."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.asarray(transform.GetMatrix()).reshape(3, 3)
    centre = np.asarray(transform.GetCenter())
    matrix[:3, 3] = np.asarray(transform.GetTranslation()) + centre - matrix[:3, :3] @ centre
    return matrix
