"""Ways in which scanners, archives and programs spoil a CT series, each with the code that must name it."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
from pydicom import config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedCTImageStorage, ExplicitVRLittleEndian
from pydicom.valuerep import DSfloat

from tests.phantoms import slice_dataset

Slices = list[Dataset]
Spoil = Callable[[Slices], Slices]


def renamed(ds: Dataset, suffix: str = ".7") -> Dataset:
    twin = deepcopy(ds)
    twin.SOPInstanceUID = ds.SOPInstanceUID + suffix
    twin.file_meta.MediaStorageSOPInstanceUID = twin.SOPInstanceUID
    return twin


def moved(slices: Slices, at: int, *, x: float = 0, z: float = 0) -> Slices:
    a, b, c = slices[at].ImagePositionPatient
    slices[at].ImagePositionPatient = [a + x, b, c + z]
    return slices


def turn(ds: Dataset, cosines: list[float]) -> None:
    del ds.ImageOrientationPatient  # it may hold strings that are too long
    ds.ImageOrientationPatient = cosines


def tilted(slices: Slices, degrees: float) -> Slices:
    """A gantry tilted by so many degrees: slices turn, and the table goes on along z."""
    t = np.deg2rad(degrees)
    for i, ds in enumerate(slices):
        turn(ds, [1, 0, 0, 0, float(np.cos(t)), float(np.sin(t))])
        ds.ImagePositionPatient = [0.0, 0.0, 2.5 * i]
    return slices


def localizer(ds: Dataset) -> Dataset:
    other = renamed(ds)
    turn(other, [0, 1, 0, 0, 0, -1])
    other.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    return other


def resized(slices: Slices, at: int) -> Slices:
    small = np.zeros((8, 8), np.int16)
    ds = slice_dataset(small, slices[at].ImagePositionPatient, 99, spacing=(0.8, 0.8), thickness=2.5)
    slices[at] = ds
    return slices


def every(slices: Slices, **values: Any) -> Slices:
    for ds in slices:
        for keyword, value in values.items():
            setattr(ds, keyword, value)
    return slices


def one(slices: Slices, at: int, **values: Any) -> Slices:
    every([slices[at]], **values)
    return slices


def without(slices: Slices, at: int, keyword: str) -> Slices:
    delattr(slices[at], keyword)
    return slices


def other_pixels(ds: Dataset) -> Dataset:
    twin = renamed(ds)
    twin.PixelData = bytes(reversed(ds.PixelData))
    return twin


def long_strings(slices: Slices) -> Slices:
    """Decimal strings of more than the 16 characters that the standard allows."""
    cosines = ("1.00000000000000000", "0.00000000000000000")
    row = [cosines[0], cosines[1], cosines[1], cosines[1], cosines[0], cosines[1]]
    numbers = [DSfloat(text, validation_mode=config.IGNORE) for text in row]  # written as they were read
    for ds in slices:
        ds["ImageOrientationPatient"] = DataElement(0x00200037, "DS", numbers, validation_mode=config.IGNORE)
    return slices


ROWS: dict[str, tuple[str, Spoil]] = {
    "one slice missing": ("missing-slice", lambda s: s[:5] + s[6:]),
    "duplicated slice": ("duplicate-slice", lambda s: [*s, renamed(s[4])]),
    "localizer in the same UID": ("localizer", lambda s: [*s, localizer(s[0])]),
    "gantry tilt 15 degrees": ("gantry-tilt", lambda s: tilted(s, 15)),
    "every InstanceNumber = 1": ("instance-number", lambda s: every(s, InstanceNumber=1)),
    "MONOCHROME1": ("monochrome1", lambda s: every(s, PhotometricInterpretation="MONOCHROME1")),
    "orientation string over 16 characters": ("malformed-geometry", long_strings),
}
"""The defects that readers are compared by."""


def enhanced(slices: Slices) -> Dataset:
    """The same slices as one enhanced multi-frame CT."""
    first = slices[0]
    ds = deepcopy(first)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "SliceThickness",
                    "RescaleIntercept"):  # fmt: skip
        if keyword in ds:
            delattr(ds, keyword)
    ds.SOPClassUID = EnhancedCTImageStorage
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.NumberOfFrames = len(slices)
    shared = Dataset()
    kind = Dataset()
    kind.FrameType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    shared.CTImageFrameTypeSequence = Sequence([kind])
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    ds.PerFrameFunctionalGroupsSequence = Sequence([_groups(s) for s in slices])
    ds.PixelData = b"".join(s.PixelData for s in slices)
    return ds


def _groups(s: Dataset) -> Dataset:
    groups, position, turn, measures, values = (Dataset() for _ in range(5))
    position.ImagePositionPatient = s.ImagePositionPatient
    turn.ImageOrientationPatient = [float(v) for v in s.ImageOrientationPatient]
    measures.PixelSpacing, measures.SliceThickness = s.PixelSpacing, s.SliceThickness
    values.RescaleSlope, values.RescaleIntercept, values.RescaleType = s.RescaleSlope, s.RescaleIntercept, "HU"
    groups.PlanePositionSequence, groups.PlaneOrientationSequence = Sequence([position]), Sequence([turn])
    groups.PixelMeasuresSequence = Sequence([measures])
    groups.PixelValueTransformationSequence = Sequence([values])
    return groups
