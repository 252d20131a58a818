"""Finding where a template lies in an image, and where one image lies in another."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from isocenter.errors import DegenerateImage
from isocenter.types import Affine, Array, Float32, Float64, Grid, Mask, Real

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


def _refine(fixed: Any, moving: Any, method: Any, start: Any, *, shrink: list[int], smooth: Sequence[float]) -> Any:
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 150, relaxationFactor=0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(shrink)
    method.SetSmoothingSigmasPerLevel(smooth)
    method.SetInitialTransform(start, inPlace=False)
    found = method.Execute(fixed, moving)
    found = found.GetNthTransform(0) if found.GetName() == "CompositeTransform" else found
    return found.Downcast()


def _matrix(transform: Any) -> Float64[Array, "n n"]:
    """World -> world matrix (4 x 4, or 3 x 3 in a plane) of a transform that has a centre."""
    size = transform.GetDimension()
    matrix = np.eye(size + 1)
    matrix[:size, :size] = np.asarray(transform.GetMatrix()).reshape(size, size)
    centre = np.asarray(transform.GetCenter())
    matrix[:size, size] = np.asarray(transform.GetTranslation()) + centre - matrix[:size, :size] @ centre
    return matrix


Kind = Literal["rigid", "affine", "deformable"]


@dataclass(frozen=True)
class Registration:
    """A map from the fixed image's world to the moving image's, and how well they agree under it.

    Args:
        matrix: 4 x 4, millimetres.
        displacements: `3 d h w`, world millimetres (x, y, z) added after the matrix, on `grid_affine`; None if affine.
        grid_affine: index (d, h, w) -> world of the displacements.
        before: Mattes' mutual information in nats where the two lie by their own coordinates; None where they do not
            meet.
        after: the same under the map.
    """

    matrix: Affine
    displacements: Float32[Array, "3 gd gh gw"] | None
    grid_affine: Affine | None
    before: float | None
    after: float


def register(
    fixed: Grid,
    fixed_affine: Affine,
    moving: Real[Array, "moving_d moving_h moving_w"],
    moving_affine: Affine,
    *,
    kind: Kind,
    control_mm: float = 40.0,
    seed: int = 1,
) -> Registration:
    """Find where the moving image lies, coarse to fine, by Mattes' mutual information.

    Starts from the coordinates of the files, from the centres of the fields and from the centres of mass, and goes on
    from the best. Rigid comes before affine, affine before deformable (cubic B-splines).

    Args:
        fixed: intensities; both images have a like spacing and are smoothed already.
        fixed_affine: its index -> world.
        moving: intensities.
        moving_affine: its index -> world.
        kind: how the image may be bent.
        control_mm: distance between the control points of a deformable map.
        seed: of the voxels that the metric samples.
    Raises: DegenerateImage where the two cannot be brought to meet.
    Source: D. Mattes et al., IEEE Trans. Med. Imaging 22(1):120-128, 2003; D. Rueckert et al., ibid. 18(8):712-721,
        1999.
    """
    flat = fixed.shape[0] == 1 and moving.shape[0] == 1
    a, b = _plain(fixed, fixed_affine, flat=flat), _plain(moving, moving_affine, flat=flat)
    levels = _levels(fixed, moving, flat=flat)
    starts = _guesses(a, b)
    values = [_evaluate(_sampled(0.3, seed, start), a, b) for start in starts]
    if not np.isfinite(min(values)):
        raise DegenerateImage("the two images do not meet, however they are laid on each other: is it one body part?")
    linear = _climb(a, b, starts[int(np.argmin(values))], levels, seed)
    if kind != "rigid":
        linear = _climb(a, b, _affine_of(linear), levels, seed)
    judged = [_evaluate(_sampled(0.5, seed, found), a, b) for found in (*starts, linear)]
    best = int(np.argmin(judged))
    linear = [*starts, linear][best]  # never worse than what it started from
    before = judged[0] if np.isfinite(judged[0]) else None
    displacements = grid_affine = None
    after = judged[best]
    if kind == "deformable":
        field, bent = _bend(a, b, linear, control_mm, seed)
        if bent < after:
            after = bent
            displacements, grid_affine = _in_world(field, fixed_affine, flat=flat)
    matrix = _lifted(_matrix(linear), fixed_affine, moving_affine) if flat else _matrix(linear)
    return Registration(matrix, displacements, grid_affine, None if before is None else -before, -after)


def _plain(grid: Grid, affine: Affine, *, flat: bool) -> Any:
    """A float image in world millimetres; a single slice in millimetres of its own plane."""
    from isocenter.ops.itk import image_of

    values = np.asarray(grid, dtype=np.float32)
    if not flat:
        return image_of(values, affine=affine)
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    return image_of(values[0], spacing=steps[1:].tolist())


def _levels(fixed: Grid, moving: Grid, *, flat: bool) -> list[tuple[int, float]]:
    """Shrink factor and smoothing (voxels) of each resolution; a small image is smoothed where it cannot be shrunk."""
    smallest = min(*fixed.shape[flat:], *moving.shape[flat:])
    return [(max(1, min(shrink, smallest // 16)), sigma) for shrink, sigma in ((4, 3.0), (2, 1.5), (1, 0.0))]


def _guesses(fixed: Any, moving: Any) -> list[Any]:
    """Rigid maps to start from: as the files say, centre on centre, mass on mass."""
    from isocenter.ops.itk import sitk

    fresh = sitk.Euler2DTransform if fixed.GetDimension() == 2 else sitk.Euler3DTransform
    middle = fixed.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in fixed.GetSize()])
    as_filed = fresh()
    as_filed.SetCenter(middle)
    found = [as_filed]
    for how in (sitk.CenteredTransformInitializerFilter.GEOMETRY, sitk.CenteredTransformInitializerFilter.MOMENTS):
        try:
            found.append(sitk.CenteredTransformInitializer(fixed, moving, fresh(), how).Downcast())
        except RuntimeError:  # an image without mass has no centre of it
            continue
    return [guess if hasattr(guess, "SetAngle") or hasattr(guess, "SetRotation") else as_filed for guess in found]


def _sampled(share: float, seed: int, start: Any) -> Any:
    from isocenter.ops.itk import WORK_UNITS, sitk

    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfWorkUnits(WORK_UNITS)
    method.SetMetricAsMattesMutualInformation(_BINS)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(share, seed=seed)
    method.SetInitialTransform(start, inPlace=False)
    return method


def _climb(fixed: Any, moving: Any, start: Any, levels: list[tuple[int, float]], seed: int) -> Any:
    method = _sampled(0.25, seed, start)
    shrink, smooth = [level[0] for level in levels], [level[1] for level in levels]
    return _refine(fixed, moving, method, start, shrink=shrink, smooth=smooth)


def _affine_of(rigid: Any) -> Any:
    from isocenter.ops.itk import sitk

    affine = sitk.AffineTransform(rigid.GetDimension())
    affine.SetCenter(rigid.GetCenter())
    affine.SetMatrix(rigid.GetMatrix())
    affine.SetTranslation(rigid.GetTranslation())
    return affine


def _bend(fixed: Any, moving: Any, linear: Any, control_mm: float, seed: int) -> tuple[Any, float]:
    """What B-splines add to the linear map, as a displacement field on the fixed grid, and the metric's value."""
    from isocenter.ops.itk import sitk

    extent = [n * s for n, s in zip(fixed.GetSize(), fixed.GetSpacing(), strict=True)]
    spans = [max(1, min(64, round(e / control_mm))) for e in extent]
    spline = sitk.BSplineTransformInitializer(fixed, [max(1, round(n / 2)) for n in spans])
    method = _sampled(0.25, seed, linear)
    method.SetMovingInitialTransform(linear)
    method.SetInitialTransformAsBSpline(spline, inPlace=False, scaleFactors=[1, 2])
    method.SetShrinkFactorsPerLevel([2, 1])
    method.SetSmoothingSigmasPerLevel([1, 0])
    method.SetOptimizerAsGradientDescentLineSearch(
        5.0, 60, convergenceMinimumValue=1e-4, convergenceWindowSize=5, maximumStepSizeInPhysicalUnits=control_mm / 4
    )
    method.SetOptimizerScalesFromPhysicalShift()
    bent = method.Execute(fixed, moving)
    bent = bent.GetNthTransform(bent.GetNumberOfTransforms() - 1) if bent.GetName() == "CompositeTransform" else bent
    whole = sitk.CompositeTransform([linear, bent])
    value = _evaluate(_sampled(0.5, seed, whole), fixed, moving)
    to_field = sitk.TransformToDisplacementFieldFilter()
    to_field.SetReferenceImage(fixed)
    to_field.SetOutputPixelType(sitk.sitkVectorFloat64)
    return to_field.Execute(whole) - to_field.Execute(linear), value


def _in_world(field: Any, fixed_affine: Affine, *, flat: bool) -> tuple[Float32[Array, "3 gd gh gw"], Affine]:
    """A field of vectors as `3 d h w` world millimetres; in a plane, its vectors turned into the world."""
    from isocenter.ops.itk import sitk

    vectors = sitk.GetArrayFromImage(field)
    if not flat:
        return np.ascontiguousarray(np.moveaxis(vectors, -1, 0), dtype=np.float32), fixed_affine
    steps = np.linalg.norm(fixed_affine[:3, :3], axis=0)
    axes = fixed_affine[:3, :3] / steps
    world = vectors[..., 0, None] * axes[:, 2] + vectors[..., 1, None] * axes[:, 1]
    return np.ascontiguousarray(np.moveaxis(world, -1, 0)[:, None], dtype=np.float32), fixed_affine


def _lifted(plane: Float64[Array, "3 3"], fixed_affine: Affine, moving_affine: Affine) -> Affine:
    """A map between two planes' millimetres (x, y) as a map between the worlds that they lie in."""

    def to_plane(affine: Affine) -> Affine:
        """World -> (d in voxels, y in mm, x in mm) of the plane."""
        steps = np.linalg.norm(affine[:3, :3], axis=0)
        return np.asarray(np.diag([1.0, steps[1], steps[2], 1.0]) @ np.linalg.inv(affine))

    between = np.eye(4)
    between[1:3, 1:3] = plane[:2, :2][::-1, ::-1]
    between[1:3, 3] = plane[:2, 2][::-1]
    return np.asarray(np.linalg.inv(to_plane(moving_affine)) @ between @ to_plane(fixed_affine))
