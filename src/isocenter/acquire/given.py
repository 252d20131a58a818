"""What the user brings beside a study: masks, and other images."""

from pathlib import Path

import numpy as np

from isocenter.acquire.case import open_case
from isocenter.acquire.policy import REPAIR, Policy
from isocenter.acquire.select import Select, choose
from isocenter.data.case import Case, Series
from isocenter.data.geometry import Geometry, Space
from isocenter.data.labels import Label, LabelMap
from isocenter.data.provenance import Step
from isocenter.data.volume import Volume
from isocenter.errors import AmbiguousSelection, GeometryError, InputError, UnsupportedFormat
from isocenter.types import Array

_MOST_LABELS = 1000


def given_volume(path: Path, select: Select, *, policy: Policy = REPAIR) -> tuple[Case, Series]:
    """The one series of another study that fits.

    Raises: InputError that says why none does, or several do.
    """
    case = open_case(path, policy=policy)
    candidates, refusal = choose(case, select)
    if refusal is not None:
        raise AmbiguousSelection(f"{path}: {refusal}")
    return case, next(c.series for c in candidates if c.chosen)


def given_labels(path: Path, name: str, image: Geometry, *, series_uid: str = "") -> tuple[LabelMap, ...]:
    """The label maps in a file, on the image's grid; segments that overlap come in several.

    Read are NIfTI, NRRD, MetaImage, PNG and TIFF of whole numbers, `.seg.nrrd`, DICOM SEG and RTSTRUCT. A file without
    names (ITK-SNAP's `.label.txt` beside it gives some) has the label `name`, or `name 1`, `name 2` for several values.
    A mask on another grid of the same patient is brought onto the image's by nearest neighbour, and says so in its
    history, as a result does that was drawn on another series; a picture of the image's size lies on the image.

    Raises: InputError for a file that holds no labels; GeometryError for a mask that cannot lie on the image.
    """
    maps = raw_labels(path, name, image, series_uid=series_uid)
    return tuple(_placed(labels, image, path) for labels in maps)


def raw_labels(path: Path, name: str, image: Geometry, *, series_uid: str = "") -> tuple[LabelMap, ...]:
    """The label maps in a file on the grid that the file states; see `given_labels`.

    Raises: InputError for a file that holds no labels.
    """
    from isocenter.formats import hdf5, nrrd

    if path.name.lower().endswith(".seg.nrrd"):
        return tuple(nrrd.read_segments(path))
    case = open_case(path)
    if case.results and not case.series:
        if len(case.results) > 1:
            names = ", ".join(r.file.name for r in case.results)
            raise AmbiguousSelection(f"{path}: holds {len(case.results)} results ({names}); name one of the files")
        result = case.results[0]
        maps = result.read(image)
        if series_uid and result.series_uid and result.series_uid != series_uid:
            done = Step("acquire.other_series", {"drawn_on": result.series_uid})
            return tuple(labels.then(done) for labels in maps)
        return maps
    if case.series and case.series[0].format == "hdf5":
        return (_labels(hdf5.read_labels(path), name, path),)
    return (_labels(case.volume(), name, path),)


def require_on(labels: LabelMap, image: Geometry, path: Path, *, resample: bool) -> LabelMap:
    """Labels that lie on the image's grid already, or, if `resample`, are brought there.

    Raises: GeometryError that says how far apart the grids are and what resolves it.
    """
    own = labels.geometry
    pictures = own.space is Space.PIXELS and own.shape == image.shape
    if resample or pictures or own.distance_to(image) <= 0.01:
        return _placed(labels, image, path)
    if own.shape != image.shape:
        steps = [" x ".join(f"{s:.3g}" for s in grid.steps) for grid in (image, own)]
        far = f"the image has {image.shape} voxels of {steps[0]}, the mask {own.shape} of {steps[1]}"
    elif own.space is not image.space:
        far = f"the image lies in {image.space} space, the mask in {own.space} space"
    else:
        far = f"their corners are up to {own.distance_to(image):.3g} mm apart"
    raise GeometryError(
        f"{path.name}: the mask does not lie on the image's grid: {far}; take the mask that was drawn on this image, "
        "or bring it onto the image's grid with --resample-mask"
    )


def study_labels(case: Case, series: Series, image: Geometry) -> tuple[LabelMap, ...]:
    """The segmentations of the study itself that were made on a series; empty if there is none."""
    found = [r for r in case.results if r.series_uid == series.uid]
    return tuple(labels for result in found for labels in result.read(image))


def _labels(volume: Volume, name: str, path: Path) -> LabelMap:
    """A volume of whole numbers as labels."""
    if path.suffix.lower() in (".jpg", ".jpeg"):
        raise UnsupportedFormat(
            f"{path.name}: JPEG changes values, so it holds no labels; save the mask as PNG or NIfTI"
        )
    if volume.channels > 1 and any(np.any(volume.voxels[0] != other) for other in volume.voxels[1:]):
        raise UnsupportedFormat(f"{path.name}: a mask has one channel; this is a colour picture")
    voxels = volume.voxels[0]
    if voxels.dtype.kind == "f":
        if not np.all(np.isfinite(voxels)) or np.any(voxels != np.rint(voxels)) or float(np.abs(voxels).max()) >= 2**31:
            raise UnsupportedFormat(f"{path.name}: labels are whole numbers, and this holds others: is it an image?")
        voxels = voxels.astype(np.int32)
    values = [int(v) for v in np.unique(voxels) if v]
    if len(values) > _MOST_LABELS or any(v < 0 for v in values):
        raise UnsupportedFormat(
            f"{path.name}: {len(values)} different values, {min(values, default=0)} to {max(values, default=0)}: "
            "that is an image, not a label map"
        )
    names = _names_beside(path)
    single = len(values) == 1
    table = tuple(Label(v, names.get(v, name if single else f"{name} {v}")) for v in values)
    doubled = len({label.name for label in table}) < len(table)
    if doubled:
        raise InputError(f"{path.name}: two of its labels have one name: {[label.name for label in table]}")
    table = table or (Label(1, name),)
    return LabelMap(voxels, volume.geometry, table, (Step("acquire.labels", {"file_labels": values}),))


def _names_beside(path: Path) -> dict[int, str]:
    from isocenter.formats import itksnap

    stem = path.name.removesuffix(".gz").rsplit(".", 1)[0]
    beside = path.with_name(stem + itksnap.ENDING)
    return {label.value: label.name for label in itksnap.read(beside)} if beside.is_file() else {}


def _placed(labels: LabelMap, image: Geometry, path: Path) -> LabelMap:
    """The labels on the image's grid."""
    own = labels.geometry
    if own.distance_to(image) <= 0.01:
        return labels
    if own.space is Space.PIXELS and own.shape == image.shape:
        return labels.then(Step("acquire.placed", {"why": "a picture of the image's size"}), geometry=image)
    if own.space is not image.space or own.space is Space.PIXELS:
        raise GeometryError(
            f"{path.name}: a mask of {own.shape} in {own.space} space does not lie on an image of {image.shape} in "
            f"{image.space} space; give a mask of the image's size"
        )
    from isocenter.ops.resample import resample

    voxels: Array = resample(
        labels.voxels, affine=own.affine, to_shape=image.shape, to_affine=image.affine, interpolation="nearest"
    )
    lost = [lb.name for lb in labels.labels if np.any(labels.voxels == lb.value) and not np.any(voxels == lb.value)]
    if lost:
        raise GeometryError(f"{path.name}: {', '.join(lost)} lies outside the image, or is finer than its voxels")
    cut = 1 - _volume(voxels, image) / max(1e-12, _volume(labels.voxels, own))
    step = Step("acquire.resampled", {"from_mm": list(own.steps)}, {"volume_lost": float(cut)})
    return labels.then(step, voxels=voxels, geometry=image)


def _volume(voxels: Array, geometry: Geometry) -> float:
    return float(np.count_nonzero(voxels)) * float(abs(np.linalg.det(geometry.affine[:3, :3])))
