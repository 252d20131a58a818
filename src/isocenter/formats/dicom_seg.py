"""DICOM Segmentation, written with highdicom on the grid of the series it was made from."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from isocenter.data.concepts import CodedConcept, concepts_of
from isocenter.data.geometry import Space
from isocenter.data.labels import LabelMap, present_values
from isocenter.errors import UnsupportedFormat, cause_of
from isocenter.formats.quiet import quiet

_CLUSTER = Code("123107", "DCM", "Cluster Analysis")
_HISTOGRAM = Code("123105", "DCM", "Histogram Analysis")
_FAMILIES = {
    "segment.gaussian_mixture": _CLUSTER,
    "segment.k_means": _CLUSTER,
    "segment.otsu": _HISTOGRAM,
    "segment.threshold": _HISTOGRAM,
}


@dataclass(frozen=True)
class Origin:
    """Who made a segmentation: stands in its header, and decides its UIDs.

    The same input, recipe and version give the same UIDs, so that an archive sees a repetition, not a second result.
    """

    recipe: str
    version: str
    key: str
    """Hash over input, recipe and version."""

    def uid(self, purpose: str) -> str:
        """A UID under 2.25 (ITU-T X.667) for one purpose."""
        digest = sha256(f"{self.key}/{purpose}".encode()).digest()
        return f"2.25.{int.from_bytes(digest[:16], 'big')}"


@quiet()
def write(
    labels: LabelMap, path: Path, *, name: str, sources: Sequence[Path], origin: Origin, slice_by_slice: bool = True
) -> None:
    """Write a label map as a binary DICOM SEG.

    Args:
        labels: on the grid of the source series, or on the regular grid that the series was brought onto.
        path: the file to write.
        name: of the label map; becomes the series description.
        sources: the source series' files in slice order.
        origin: recipe and version.
        slice_by_slice: each slice of the grid is one of the sources; else frames are placed by position, and the
            header says that the grid is not the source's own.
    Raises: UnsupportedFormat with the reason where the standard or the source does not allow it.
    """
    if not present_values(labels.voxels) - {0}:
        raise UnsupportedFormat("no voxel is labelled, and an empty DICOM SEG is not allowed")
    datasets = [dcmread(file, stop_before_pixels=True, force=True) for file in sources]
    if "FrameOfReferenceUID" not in datasets[0] and labels.geometry.shape[0] > 1:
        raise UnsupportedFormat("the source has no frame of reference, without which a DICOM SEG has no place")
    for dataset in datasets:
        _complete(dataset, labels)
    note = "not for clinical use" if slice_by_slice else "on a repaired grid, not for clinical use"
    placed: dict[str, Any] = {"pixel_measures": _measures(labels)} if labels.geometry.space is Space.PATIENT else {}
    try:
        segmentation = hd.seg.Segmentation(
            source_images=datasets,
            pixel_array=_renumbered(labels),
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=_descriptions(labels, name, origin),
            series_instance_uid=origin.uid(f"series/{name}"),
            series_number=_series_number(datasets[0]),
            sop_instance_uid=origin.uid(f"instance/{name}"),
            instance_number=1,
            manufacturer="isocenter",
            manufacturer_model_name=f"isocenter {origin.recipe}",
            software_versions=origin.version,
            device_serial_number="1",
            series_description=f"{name} ({note})"[:64],
            content_description=f"{name}, {note}"[:64],
            content_label=_code_string(name),
            **placed,
            **({} if slice_by_slice else _places(labels)),
        )
        if placed:  # highdicom takes the source's thickness back where the pixel spacing agrees
            segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence = _measures(labels)
        segmentation.save_as(path)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UnsupportedFormat(f"no DICOM SEG can be derived from this source ({cause_of(error)})") from error


def _places(labels: LabelMap) -> dict[str, Any]:
    """Position of each slice and their orientation, by the label map's own grid."""
    affine = labels.geometry.affine
    turn = labels.geometry.directions
    system = hd.CoordinateSystemNames.PATIENT
    return {
        "plane_positions": [
            hd.PlanePositionSequence(system, (affine[:3, 3] + affine[:3, 0] * at).tolist())
            for at in range(labels.geometry.shape[0])
        ],
        "plane_orientation": hd.PlaneOrientationSequence(system, [*turn[:, 2].tolist(), *turn[:, 1].tolist()]),
    }


def _descriptions(labels: LabelMap, name: str, origin: Origin) -> list[hd.seg.SegmentDescription]:
    """One for each label, numbered from 1."""
    algorithm = hd.AlgorithmIdentificationSequence(
        name=origin.recipe,
        family=_family(labels),
        version=origin.version,
        source="isocenter",
    )
    found = []
    for number, label in enumerate(labels.labels, start=1):
        category, kind = concepts_of(label.name)
        found.append(
            hd.seg.SegmentDescription(
                segment_number=number,
                segment_label=label.name[:64],
                segmented_property_category=_code(category),
                segmented_property_type=_code(kind),
                algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
                algorithm_identification=algorithm,
                tracking_uid=origin.uid(f"tracking/{name}/{label.value}"),
                tracking_id=f"{name} {label.name}"[:64],
            )
        )
    return found


def _family(labels: LabelMap) -> Code:
    """Kind of algorithm (PS3.16 CID 7162) of the step that made the labels."""
    made_by = [step.name for step in labels.history if step.name in _FAMILIES]
    return _FAMILIES[made_by[-1]] if made_by else Code("123104", "DCM", "Morphological Operations")


def _renumbered(labels: LabelMap) -> np.ndarray:
    """Label values as segment numbers 1..n."""
    table = np.zeros(int(labels.voxels.max()) + 1, np.uint8)
    for number, label in enumerate(labels.labels, start=1):
        if label.value < len(table):
            table[label.value] = number
    return table[labels.voxels]


def _measures(labels: LabelMap) -> hd.PixelMeasuresSequence:
    """The grid's own spacing: a source's slice thickness may differ from the distance between its slices."""
    between, rows, columns = labels.geometry.spacing_mm
    return hd.PixelMeasuresSequence(
        pixel_spacing=(rows, columns), slice_thickness=between, spacing_between_slices=between
    )


def _complete(dataset: Dataset, labels: LabelMap) -> None:
    """Give the header what highdicom asks of it and a careless scanner left out; the SEG states its own measures."""
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [None])[0]
    each = (dataset.get("PerFrameFunctionalGroupsSequence") or [None])[0]
    for keyword in ("PixelMeasuresSequence", "PlaneOrientationSequence"):
        if shared is not None and each is not None and keyword not in shared and keyword in each:
            shared[keyword] = each[keyword]
    if shared is None and not dataset.get("SliceThickness") and labels.geometry.space is Space.PATIENT:
        dataset.SliceThickness = f"{labels.geometry.spacing_mm[0]:.6g}"
    for keyword in (
        "PatientID",
        "PatientName",
        "PatientBirthDate",
        "PatientSex",
        "StudyID",
        "StudyDate",
        "StudyTime",
    ):
        if keyword not in dataset:
            setattr(dataset, keyword, "")
    for keyword in ("AccessionNumber", "ReferringPhysicianName"):
        if keyword not in dataset:
            setattr(dataset, keyword, None)


def _series_number(dataset: Dataset) -> int:
    number = dataset.get("SeriesNumber")
    return 1000 + (int(number) if number is not None else 0)


def _code(concept: CodedConcept) -> Code:
    return Code(concept.value, concept.scheme, concept.meaning)


def _code_string(name: str) -> str:
    """`name` as a DICOM CS value: capitals, digits, underscore, at most 16."""
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in name.upper())[:16]
