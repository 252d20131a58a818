"""DICOM RT Structure Set: contours in millimetres become masks on an image's grid."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from isocenter.data.geometry import Geometry, Space
from isocenter.data.labels import Label, LabelMap
from isocenter.data.provenance import Step
from isocenter.errors import GeometryError, UnreadableFile, cause_of
from isocenter.formats.dicom_header import Header
from isocenter.formats.quiet import quiet
from isocenter.ops.polygon import inside
from isocenter.types import Array, Mask

_log = logging.getLogger(__name__)
_FILLED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR", "")
_OFF_PLANE = 0.5
"""Slices by which a contour may lie beside the image's slice; more, and it was drawn on another image."""


@dataclass(frozen=True)
class Structures:
    """What a structure set holds.

    Args:
        file: where it is.
        names: of its regions, by number.
        series_uid: of the image that the contours were drawn on; empty where it is not stated.
        frame_uids: Frames of Reference that it names.
        contours: points (n x 3, LPS mm) of each closed contour, by region number.
        skipped: numbers of regions without a closed contour.
    """

    file: Path
    names: dict[int, str]
    series_uid: str
    frame_uids: frozenset[str]
    contours: dict[int, list[Array]]
    skipped: tuple[int, ...]


@quiet()
def read(header: Header) -> Structures:
    """The regions and contours of a structure set.

    Raises: UnreadableFile.
    """
    dataset = header.dataset()
    try:
        names = {int(roi.ROINumber): str(roi.get("ROIName") or f"region {roi.ROINumber}")
                 for roi in dataset.get("StructureSetROISequence") or []}  # fmt: skip
        numbers = [int(roi.ROINumber) for roi in dataset.get("StructureSetROISequence") or []]
        contours: dict[int, list[Array]] = {}
        for roi in dataset.get("ROIContourSequence") or []:
            drawn = contours.setdefault(int(roi.ReferencedROINumber), [])
            drawn += [
                _points(contour, f"{header.file.name}: {names.get(int(roi.ReferencedROINumber), 'a region')}")
                for contour in roi.get("ContourSequence") or []
                if str(contour.get("ContourGeometricType", "")) in _FILLED
            ]
    except UnreadableFile:
        raise
    except Exception as error:
        raise UnreadableFile(f"{header.file.name}: not a readable structure set ({cause_of(error)})") from error
    if len(set(numbers)) != len(numbers):
        raise UnreadableFile(
            f"{header.file.name}: two regions have one number: whose contours are whose cannot be told"
        )
    contours = {number: found for number, found in contours.items() if found}
    names |= {number: f"region {number}" for number in contours if number not in names}
    skipped = tuple(n for n in names if n not in contours)
    frames = {str(f.FrameOfReferenceUID) for f in dataset.get("ReferencedFrameOfReferenceSequence") or []
              if f.get("FrameOfReferenceUID")}  # fmt: skip
    return Structures(header.file, names, _series_of(dataset), frozenset(frames), contours, skipped)


def _points(contour: Dataset, what: str) -> Array:
    numbers = np.asarray([float(v) for v in contour.ContourData or []], dtype=np.float64)
    if numbers.size % 3:
        raise UnreadableFile(f"{what}: a contour has {numbers.size} numbers, not three for each point")
    if not np.all(np.isfinite(numbers)):
        raise UnreadableFile(f"{what}: a contour has numbers that are not finite")
    return numbers.reshape(-1, 3)


def _series_of(dataset: Dataset) -> str:
    """Series that the structures refer to; empty where none or several are named."""
    found = {
        str(series.SeriesInstanceUID)
        for frame in dataset.get("ReferencedFrameOfReferenceSequence") or []
        for study in frame.get("RTReferencedStudySequence") or []
        for series in study.get("RTReferencedSeriesSequence") or []
        if "SeriesInstanceUID" in series
    }
    return found.pop() if len(found) == 1 else ""


def label_maps(structures: Structures, geometry: Geometry) -> tuple[LabelMap, ...]:
    """Masks of all regions on an image's grid; regions that overlap go into different label maps.

    A voxel belongs where its centre lies inside: contours of one plane count by parity, so that an inner one cuts a
    hole. Of several planes within one slice the nearest to its middle counts.

    Args:
        structures: as `read` gives them.
        geometry: of the image that they were drawn on.
    Raises: GeometryError where contours do not lie on the image's slices.
    """
    if geometry.space is not Space.PATIENT:
        raise GeometryError(f"{structures.file.name}: contours in the patient need an image in the patient")
    require_same_frame(structures.frame_uids, geometry, structures.file.name)
    masks = []
    for number, contours in structures.contours.items():
        name = structures.names[number]
        masks.append((name, mask_of(contours, geometry, what=f"{structures.file.name}: {name}")))
    said = {"without_contours": [structures.names[n] for n in structures.skipped]}
    said["empty"] = [name for name, mask in masks if not mask.any()]
    said["slices_left_out_between"] = [name for name, mask in masks if _has_gaps(mask)]
    for why, names in said.items():
        if names:
            _log.warning("%s: %s: %s", structures.file.name, why.replace("_", " "), ", ".join(names))
    return stacked(masks, geometry, Step("acquire.rtstruct", {"file": structures.file.name}, said))


def _has_gaps(mask: Mask) -> bool:
    """Slices without the region between slices with it: drawn on every second slice, or two parts."""
    at = np.flatnonzero(mask.any(axis=(1, 2)))
    return bool(at.size) and int(at[-1] - at[0]) + 1 != at.size


def require_same_frame(frame_uids: frozenset[str], geometry: Geometry, name: str) -> None:
    """Refuse a result whose world is not the image's.

    Raises: GeometryError where both name a Frame of Reference and they differ.
    """
    if frame_uids and geometry.frame_uid and geometry.frame_uid not in frame_uids:
        raise GeometryError(
            f"{name}: lies in another frame of reference than the image: the same millimetres are another place there; "
            "register the two first"
        )


def stacked(masks: Sequence[tuple[str, Mask]], geometry: Geometry, step: Step) -> tuple[LabelMap, ...]:
    """Named masks as few label maps as overlaps allow."""
    layers: list[tuple[Array, list[Label]]] = []
    for value, (name, mask) in enumerate(masks, start=1):
        free = next((layer for layer in layers if not np.any(layer[0][mask])), None)
        if free is None:
            free = (np.zeros(geometry.shape, np.uint8 if len(masks) < 256 else np.uint16), [])
            layers.append(free)
        free[0][mask] = value
        free[1].append(Label(value, name))
    return tuple(LabelMap(voxels, geometry, tuple(labels), (step,)) for voxels, labels in layers)


def mask_of(contours: Sequence[Array], geometry: Geometry, *, what: str) -> Mask:
    """Voxels whose centre lies inside the contours, by parity, slice by slice.

    Raises: GeometryError for a contour that lies across or outside the slices.
    """
    mask = np.zeros(geometry.shape, np.bool_)
    planes: dict[int, dict[float, list[Array]]] = {}
    for points in contours:
        if len(points) < 3:
            continue
        index = geometry.world_to_index(points)
        middle = float(np.median(index[:, 0]))
        at = round(middle)
        off = float(np.abs(index[:, 0] - at).max())
        if off > _OFF_PLANE + 1e-6 or not 0 <= at < geometry.shape[0]:
            raise GeometryError(
                f"{what}: a contour lies {off:.2f} slices off slice {at + 1} of {geometry.shape[0]}: it was drawn on "
                "another image, or in another direction; open that image with it"
            )
        rows, columns = index[:, 1], index[:, 2]
        if rows.max() < -1 or columns.max() < -1 or rows.min() > geometry.shape[1] or columns.min() > geometry.shape[2]:
            raise GeometryError(f"{what}: a contour on slice {at + 1} lies outside the image: it was drawn on another")
        drawn = planes.setdefault(at, {}).setdefault(round(middle, 2), [])
        if not any(np.array_equal(index[:, 1:], other) for other in drawn):  # a copy would cut itself out
            drawn.append(index[:, 1:])
    for at, by_plane in planes.items():
        _, nearest = min((abs(middle - at), middle) for middle in by_plane)  # contours may be finer than slices
        mask[at] = inside(by_plane[nearest], geometry.shape[1:])
    return mask


def require(structures: Structures) -> None:
    """Refuse a structure set without one closed contour.

    Raises: UnreadableFile.
    """
    if not structures.contours:
        raise UnreadableFile(f"{structures.file.name}: holds no closed contour (regions: {len(structures.names)})")
