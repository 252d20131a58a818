"""Reading one case of a data set: its images on one grid, and its label map on theirs."""

from dataclasses import replace
from os.path import commonpath
from pathlib import Path

import numpy as np

from isocenter.acquire.case import open_case, open_cases
from isocenter.acquire.given import raw_labels, require_on
from isocenter.data.case import Case, Series
from isocenter.data.cine import Cine
from isocenter.data.dataset import Sample, Source
from isocenter.data.geometry import Geometry, Space
from isocenter.data.labels import Label, LabelMap
from isocenter.data.provenance import Step
from isocenter.data.volume import Volume
from isocenter.errors import GeometryError, InputError, UnreadableFile
from isocenter.ops.resample import resample

_SAME_MM, _COVERED = 0.01, 0.25
"""Millimetres within which grids are the same; share of the first image that another must cover."""
_NEARLY, _LEAST_SURE = 40, 0.97
"""Grey values that count as black or white in a JPEG, and the share of pixels that must."""


def read_image(source: Source) -> Volume:
    """One image, however it is stored.

    Raises: InputError, UnreadableFile, with what is wrong.
    """
    if source.inside.startswith("series "):
        return _series(source.path, source.inside.removeprefix("series ")).volume()
    if source.path.suffix.lower() == ".npz":
        return _of_array(source)
    if source.inside:
        from isocenter.formats import hdf5

        return hdf5.read_dataset(source.path, source.inside)
    case = open_case(source.path)
    if source.index is None:
        return case.volume()
    if len(case.series) != 1:
        raise InputError(f"{source.path}: holds {len(case.series)} series; one of several modalities was wanted")
    cine = case.series[0].cine()
    if source.index >= len(cine):
        raise InputError(f"{source.path}: holds {len(cine)} modalities, and number {source.index + 1} was wanted")
    return cine.frame(source.index)


def frames_as_channels(cine: Cine) -> Volume:
    """Every frame at once, by which a sequence is known again."""
    frames = np.asarray(cine.frames)
    return Volume(frames.reshape(-1, *frames.shape[2:]), cine.geometry, cine.quantity, cine.history)


def read_cine(sample: Sample) -> Cine:
    """Every frame of a case, with the times that its data set states, or its file.

    Raises: InputError for other times than frames, and for a case of several images.
    """
    if len(sample.images) != 1 or sample.images[0].absent:
        raise InputError("is a sequence of several images: one file with all frames is read")
    source = sample.images[0]
    if source.inside.startswith("series "):
        cine = _series(source.path, source.inside.removeprefix("series ")).cine()
    elif source.inside or source.path.suffix.lower() == ".npz":
        raise InputError("is an array among others: frames in time are read from files of their own")
    else:
        cine = open_case(source.path).one().cine()
    if not sample.times:
        return cine
    if len(sample.times) != len(cine):
        raise InputError(f"has {len(cine)} frames, and {len(sample.times)} times are stated")
    return replace(cine, times_s=sample.times)


def series_source(case: Case, series: Series) -> Source:
    """Where one series of a study lies: the folder of its files, or the archive or file that was given."""
    given = case.path
    folder = given if given.is_file() else Path(commonpath([file.parent for file in series.files]))
    return Source(folder, f"series {series.key}")


def _series(path: Path, key: str) -> Series:
    """A series below a path, whatever other studies lie there.

    Raises: InputError where it is not there any more.
    """
    for case in open_cases(path):
        for series in case.series:
            if series.key == key:
                return series
    raise InputError(f"{path}: the series {key} is not there any more")


def read_images(sample: Sample) -> Volume:
    """All images of a case as the channels of one volume, on the grid of the first; an absent one is not a number.

    Images on other grids of the same patient space are resampled, and must cover most of it. They are not registered:
    a recipe does that, and checks it.

    Raises: GeometryError where they cannot be brought together; InputError where all are absent.
    """
    if sample.sequence:
        return frames_as_channels(read_cine(sample))
    there = [(source, read_image(source)) for source in sample.images if not source.absent]
    if not there:
        raise InputError("lacks every image")
    first = there[0][1]
    found = {source: _on_grid(volume, first, source) for source, volume in there}
    if len(sample.images) == 1:
        return first
    blank = np.full((1, *first.geometry.shape), np.nan, np.float32)
    parts = [blank if s.absent else np.asarray(found[s].voxels, np.float32) for s in sample.images]
    voxels = np.concatenate(parts)
    masks = [v.not_measured for v in found.values() if v.not_measured is not None]
    lost = np.logical_or.reduce(masks) if masks else None
    return Volume(voxels, first.geometry, history=first.history, not_measured=lost)


def _on_grid(volume: Volume, first: Volume, source: Source) -> Volume:
    """The volume on the grid of the case's first image.

    Raises: GeometryError where no place in the patient is known, or too little of the first image is covered.
    """
    onto, own = first.geometry, volume.geometry
    if onto.distance_to(own) <= _SAME_MM and onto.shape == own.shape:
        return volume
    if onto.space is not Space.PATIENT or own.space is not Space.PATIENT:
        onto.require_same(own, what=f"{source.path.name} and the case's first image")
    frames = {g.frame_uid for g in (onto, own) if g.frame_uid}
    if len(frames) > 1:
        raise GeometryError(
            f"{source.path.name} and the case's first image lie in two frames of reference: register them by a recipe"
        )
    ones = np.ones(own.shape, np.float32)
    inside = resample(ones, affine=own.affine, to_shape=onto.shape, to_affine=onto.affine) > 0.5
    share = float(inside.mean())
    if share < _COVERED:
        raise GeometryError(
            f"{source.path.name} covers {share:.0%} of the case's first image; {_COVERED:.0%} are wanted: crop that "
            "image to what both show, or register them by a recipe"
        )
    moved = [
        resample(np.asarray(c, np.float32), affine=own.affine, to_shape=onto.shape, to_affine=onto.affine,
                 outside=float(c.min()))
        for c in volume.voxels
    ]  # fmt: skip
    if volume.not_measured is not None:
        lost = resample(
            volume.not_measured.astype(np.float32), affine=own.affine, to_shape=onto.shape, to_affine=onto.affine
        )
        inside &= lost <= 0.0  # what touches a filled voxel was not measured either
    step = Step("acquire.onto_first_image", {"covered": round(share, 4)})
    return Volume(np.stack(moved), onto, volume.quantity, (*volume.history, step), not_measured=~inside)


def read_mask(source: Source, image: Geometry) -> LabelMap:
    """The label map of a case, on its image's grid.

    Raises: GeometryError where it lies on another grid; InputError where it is none.
    """
    if source.inside and not source.inside.startswith("series "):
        volume = read_image(source)
        voxels = volume.voxels[0]
        if np.any(voxels != np.rint(voxels)):
            raise InputError(f"{source}: labels are whole numbers, and this holds others")
        values = sorted({int(v) for v in np.unique(voxels) if v})
        if volume.geometry.shape != image.shape:
            raise GeometryError(f"{source}: the mask has {volume.geometry.shape} voxels, its image {image.shape}")
        return LabelMap(voxels.astype(np.int32), image, tuple(Label(v, str(v)) for v in values) or (Label(1, "1"),))
    path = Path(source.path)
    if path.suffix.lower() in (".jpg", ".jpeg"):
        return require_on(_two_valued(path), image, path, resample=False)
    maps = raw_labels(path, "label", image)
    if len(maps) != 1:
        raise InputError(f"{path.name}: its {len(maps)} label maps overlap; one value a voxel is trained")
    return require_on(maps[0], image, path, resample=False)


def _two_valued(path: Path) -> LabelMap:
    """A mask that was kept as JPEG: black and white, blurred at its edges; parted half-way.

    Raises: InputError for a picture of other values.
    """
    volume = open_case(path).volume()
    grey = np.asarray(volume.voxels, np.float32).mean(axis=0)
    sure = float(np.mean((grey < _NEARLY) | (grey > 255 - _NEARLY)))
    if sure < _LEAST_SURE:
        raise InputError(
            f"{path.name}: JPEG changes values, and only {sure:.0%} of its pixels are black or white: it is no mask of "
            "two values; save label maps as PNG or NIfTI"
        )
    step = Step("acquire.labels", {"from": "JPEG, parted at half of white", "black_or_white": round(sure, 4)})
    return LabelMap((grey >= 127.5).astype(np.uint8), volume.geometry, (Label(1, "label"),), (step,))


def _of_array(source: Source) -> Volume:
    """An image of a stack: `n h w`, `n h w 3`, `n d h w` or `n d h w 3`."""
    from isocenter.formats import arrays

    stack = arrays.read(source.path, source.inside)
    if source.index is None or not 0 <= source.index < len(stack):
        raise InputError(f"{source}: the array holds {len(stack)} images; name one as file.npz:array[0]")
    image = stack[source.index]
    if image.dtype.kind not in "iufb":
        raise UnreadableFile(f"{source}: holds {image.dtype}; images are numbers")
    if image.dtype.kind == "b":
        image = image.astype(np.uint8)
    colour = image.ndim > 2 and image.shape[-1] == 3
    planes = np.moveaxis(image, -1, 0) if colour else image[None]
    voxels = planes[:, None] if planes.ndim == 3 else planes
    if voxels.ndim != 4:
        raise UnreadableFile(f"{source}: an image of shape {image.shape} is neither 2-D nor 3-D")
    d, h, w = (int(n) for n in voxels.shape[1:])
    return Volume(
        voxels, Geometry.regular((d, h, w), space=Space.PIXELS), history=(Step("acquire.read", {"format": "npz"}),)
    )
