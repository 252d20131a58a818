"""What was written is read back with a library that did not write it, and compared in millimetres."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset

from isocenter.data.geometry import Geometry, Space
from isocenter.data.labels import LabelMap
from isocenter.data.volume import Volume
from isocenter.errors import ReadBackMismatch, cause_of
from isocenter.formats.quiet import quiet
from isocenter.types import Affine, Array, Float64, Mask

CENTROID_MM = 0.05
EXTENT_MM = 0.05
VOLUME_SHARE = 1e-4


@dataclass(frozen=True)
class Extent:
    """One label as a place: how much, where its centre is, and the corners (LPS) of the boxes around its planes."""

    volume_ml: float
    centroid_mm: Float64[Array, "3"]
    low_mm: Float64[Array, "3"]
    high_mm: Float64[Array, "3"]


Plane = tuple[int, Affine, float, Mask]
"""Label value, the plane's index (0, h, w) -> LPS mm, volume of a voxel in mm3, and the plane's mask `h w`."""


def prove_nifti_labels(labels: LabelMap, path: Path) -> dict[str, float]:
    """Read a label map written as NIfTI with SimpleITK and compare it with what was meant.

    Returns: the largest deviations found.
    Raises: ReadBackMismatch.
    """
    voxels, affine = _read_again(path)
    if labels.geometry.space is not Space.PIXELS:
        _same_directions(path, affine, labels.geometry)
    found = _extents(_planes(voxels, affine, [lb.value for lb in labels.labels]))
    return _compare(path, labels, found)


def prove_volume(volume: Volume, path: Path) -> None:
    """Read a volume (NIfTI, NRRD) with SimpleITK: same grid, same values.

    Raises: ReadBackMismatch.
    """
    back, affine = _read_again(path)
    if volume.geometry.space is not Space.PIXELS:
        _same_directions(path, affine, volume.geometry)
    back = back[None] if volume.channels == 1 else np.moveaxis(back, -1, 0)
    finite = np.isfinite(volume.voxels)  # ITK reads what is not finite as it likes
    if back.shape != volume.voxels.shape or not np.allclose(back[finite], volume.voxels[finite], rtol=1e-6, atol=0):
        raise ReadBackMismatch(f"{path.name}: the values read back are not those written; nothing was kept")


def prove_segments(layers: Sequence[LabelMap], path: Path) -> dict[str, float]:
    """Read a `.seg.nrrd` with SimpleITK, and its names from the header's text, and compare both with what was meant.

    Raises: ReadBackMismatch.
    """
    voxels, affine = _read_again(path)
    if layers[0].geometry.space is not Space.PIXELS:
        _same_directions(path, affine, layers[0].geometry)
    head = path.read_bytes()[: 1 << 20].split(b"\n\n", 1)[0].decode("utf-8", "replace").splitlines()
    worst: dict[str, float] = {}
    at = 0
    for layer, labels in enumerate(layers):
        plane = voxels[..., layer] if len(layers) > 1 else voxels
        found = _extents(_planes(plane, affine, [lb.value for lb in labels.labels]))
        for key, off in _compare(path, labels, found).items():
            worst[key] = max(off, worst.get(key, 0.0))
        for label in labels.labels:
            name = "".join(c for c in label.name if c.isprintable())
            wanted = (f"Segment{at}_Name:={name}", f"Segment{at}_LabelValue:={label.value}")
            if any(line not in head for line in wanted):
                raise ReadBackMismatch(f"{path.name}: read back, it does not name {label.name}; nothing was kept")
            at += 1
    return worst


def prove_picture(image: Volume | LabelMap, path: Path) -> None:
    """Read a PNG with SimpleITK: the same values.

    Raises: ReadBackMismatch.
    """
    back = _read_picture(path)
    meant = image.voxels[:, 0] if isinstance(image, Volume) else image.voxels
    found = np.moveaxis(back, -1, 0) if len(meant) == 3 else back.reshape(meant.shape[-2:])[None]
    if found.shape != meant.shape or not np.array_equal(found, meant):
        raise ReadBackMismatch(f"{path.name}: the values read back are not those written; nothing was kept")


@quiet()
def prove_seg(labels: LabelMap, path: Path) -> dict[str, float]:
    """Read a DICOM SEG frame by frame from its bits and functional groups, without the library that wrote it.

    Raises: ReadBackMismatch.
    """
    return _compare(path, labels, _extents(_seg_planes(labels, path)))


def _read_picture(path: Path) -> Array:
    """Pixels `h w` or `h w 3` as SimpleITK reads them."""
    from isocenter.ops.itk import array_of, sitk

    try:
        return array_of(sitk.ReadImage(str(path)))
    except RuntimeError as error:
        raise ReadBackMismatch(f"{path.name}: a second library cannot read it ({cause_of(error)})") from error


def _read_again(path: Path) -> tuple[Array, Affine]:
    """Voxels and affine as SimpleITK reads them."""
    from isocenter.ops.itk import affine_of, array_of, sitk

    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        why = "its grid is sheared" if "orthonormal" in str(error) else cause_of(error)
        raise ReadBackMismatch(f"{path.name}: a second library cannot read it ({why}); nothing was kept") from error
    return array_of(image), affine_of(image)


def _planes(voxels: Array, affine: Affine, values: list[int]) -> Iterator[Plane]:
    size = float(abs(np.linalg.det(affine[:3, :3])))
    for index, plane in enumerate(voxels):
        here = affine.copy()
        here[:3, 3] += affine[:3, 0] * index
        for value in values:
            yield value, here, size, plane == value


def _seg_planes(labels: LabelMap, path: Path) -> Iterator[Plane]:
    dataset = dcmread(path)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    if "PlaneOrientationSequence" not in shared:
        yield from _placeless_planes(labels, dataset)
        return
    cosines = [float(v) for v in shared.PlaneOrientationSequence[0].ImageOrientationPatient]
    measures = shared.PixelMeasuresSequence[0]
    row_mm, column_mm = (float(v) for v in measures.PixelSpacing)
    between = float(measures.SliceThickness)
    pixels = int(dataset.Rows) * int(dataset.Columns)
    data = np.frombuffer(dataset.PixelData, np.uint8)
    for frame, groups in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        # What all frames have in common stands in the shared groups: with one segment, its number does.
        identified = groups if "SegmentIdentificationSequence" in groups else shared
        number = int(identified.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        affine = np.eye(4)
        affine[:3, 1] = np.asarray(cosines[3:]) * row_mm  # rows run along the second cosine
        affine[:3, 2] = np.asarray(cosines[:3]) * column_mm
        affine[:3, 3] = [float(v) for v in groups.PlanePositionSequence[0].ImagePositionPatient]
        plane = _bits(data, frame * pixels, (int(dataset.Rows), int(dataset.Columns)))
        yield labels.labels[number - 1].value, affine, row_mm * column_mm * between, plane


def _placeless_planes(labels: LabelMap, dataset: Dataset) -> Iterator[Plane]:
    """Frames of a SEG of one picture without a frame of reference: they lie where the picture does."""
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    data = np.frombuffer(dataset.PixelData, np.uint8)
    size = float(abs(np.linalg.det(labels.geometry.affine[:3, :3])))
    for frame, groups in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        shared = dataset.SharedFunctionalGroupsSequence[0]
        identified = groups if "SegmentIdentificationSequence" in groups else shared
        number = int(identified.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        plane = _bits(data, frame * rows * columns, (rows, columns))
        yield labels.labels[number - 1].value, labels.geometry.affine, size, plane


def _bits(data: Array, start: int, shape: tuple[int, int]) -> Array:
    """A plane of bits that begins at bit `start`."""
    pixels = shape[0] * shape[1]
    bits = np.unpackbits(data[start // 8 : (start + pixels + 7) // 8], bitorder="little")
    return np.asarray(bits[start % 8 :][:pixels].reshape(shape), dtype=np.bool_)


def _extents(planes: Iterator[Plane]) -> dict[int, Extent]:
    """Place of each label, from its planes."""
    gathered: dict[int, list[tuple[float, Array, Array, Array]]] = {}
    for value, affine, size, plane in planes:
        rows, columns = np.count_nonzero(plane, axis=1), np.count_nonzero(plane, axis=0)
        count = int(rows.sum())
        if not count:
            continue
        h, w = np.flatnonzero(rows), np.flatnonzero(columns)
        middle = [rows @ np.arange(len(rows)) / count, columns @ np.arange(len(columns)) / count]
        corners = [(a, b) for a in (h[0], h[-1]) for b in (w[0], w[-1])]
        world = np.asarray([middle, *corners], dtype=np.float64) @ affine[:3, 1:3].T + affine[:3, 3]
        gathered.setdefault(value, []).append((size * count, world[0], world[1:].min(axis=0), world[1:].max(axis=0)))
    return {
        value: Extent(
            sum(p[0] for p in parts) / 1000,
            np.asarray(np.average([p[1] for p in parts], axis=0, weights=[p[0] for p in parts])),
            np.asarray(np.min([p[2] for p in parts], axis=0)),
            np.asarray(np.max([p[3] for p in parts], axis=0)),
        )
        for value, parts in gathered.items()
    }


def _same_directions(path: Path, affine: Affine, geometry: Geometry) -> None:
    back = Geometry(geometry.shape, affine)
    apart = back.distance_to(Geometry(geometry.shape, geometry.affine))
    if apart > CENTROID_MM:
        raise ReadBackMismatch(
            f"{path.name}: read back, its corners lie up to {apart:.3g} mm from where they were meant "
            f"(axes {''.join(back.axis_letters)} instead of {''.join(geometry.axis_letters)}); nothing was kept"
        )


def _compare(path: Path, labels: LabelMap, found: dict[int, Extent]) -> dict[str, float]:
    values = [label.value for label in labels.labels]
    meant = _extents(_planes(labels.voxels, labels.geometry.affine, values))
    names = {label.value: label.name for label in labels.labels}
    if set(meant) != set(found):
        lost = [names.get(v, str(v)) for v in set(meant) ^ set(found)]
        raise ReadBackMismatch(f"{path.name}: read back, these labels came or went: {lost}; nothing was kept")
    worst = {"centroid_mm": 0.0, "extent_mm": 0.0, "volume_share": 0.0}
    for value, extent in meant.items():
        back = found[value]
        off = {
            "centroid_mm": float(np.linalg.norm(back.centroid_mm - extent.centroid_mm)),
            "extent_mm": float(
                max(np.abs(back.low_mm - extent.low_mm).max(), np.abs(back.high_mm - extent.high_mm).max())
            ),
            "volume_share": abs(back.volume_ml / extent.volume_ml - 1),
        }
        if off["centroid_mm"] > CENTROID_MM or off["extent_mm"] > EXTENT_MM or off["volume_share"] > VOLUME_SHARE:
            raise ReadBackMismatch(
                f"{path.name}: read back, {names[value]} has its centre {off['centroid_mm']:.3g} mm off, its box "
                f"{off['extent_mm']:.3g} mm off and {back.volume_ml:.4g} mL instead of {extent.volume_ml:.4g} mL; "
                "nothing was kept"
            )
        worst = {key: max(worst[key], off[key]) for key in worst}
    return worst
