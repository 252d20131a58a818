"""DICOM series made for tests, and ways to break them."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

ROOT = "1.2.826.0.1.3680043.8.498."
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def slice_dataset(
    plane: np.ndarray,
    position: Sequence[float],
    number: int,
    *,
    spacing: tuple[float, float],
    thickness: float,
    modality: str = "CT",
    orientation: Sequence[float] = AXIAL,
    series: str = "1",
    study: str = "1",
) -> Dataset:
    """One slice; `plane` holds Hounsfield units for CT, any non-negative numbers for MR."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage if modality == "CT" else MRImageStorage
    meta.MediaStorageSOPInstanceUID = UID(f"{ROOT}{study}.{series}.{number}")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = Dataset()
    ds.file_meta = meta
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = meta.MediaStorageSOPClassUID
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID = f"{ROOT}{study}", f"{ROOT}{study}.{series}"
    ds.FrameOfReferenceUID = f"{ROOT}{study}.9"
    ds.Modality, ds.SeriesDescription = modality, "phantom"
    ds.PatientID, ds.PatientName, ds.PatientSex, ds.PatientBirthDate = "P-1", "Zhang^San", "O", "19700101"
    ds.StudyDate, ds.StudyTime, ds.StudyID, ds.AccessionNumber = "20260102", "101500", "1", "A-1"
    ds.ReferringPhysicianName, ds.SeriesNumber, ds.InstanceNumber = "", int(series), number
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.Manufacturer, ds.PatientPosition = "phantom", "HFS"
    ds.ImagePositionPatient = [float(p) for p in position]
    ds.ImageOrientationPatient = list(orientation)
    ds.PixelSpacing, ds.SliceThickness = list(spacing), thickness
    ds.Rows, ds.Columns = plane.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    if modality == "CT":
        ds.RescaleSlope, ds.RescaleIntercept, ds.KVP = 1, -1024, 120
    else:
        ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions = ["GR", "IR"], "MP", ""
        ds.EchoTime, ds.RepetitionTime, ds.MRAcquisitionType, ds.EchoTrainLength = 3.0, 2000.0, "3D", 1
    stored = plane.astype(np.int32) + (1024 if modality == "CT" else 0)
    ds.PixelData = stored.astype("<u2").tobytes()
    return ds


def thorax(shape: tuple[int, int, int] = (300, 512, 512)) -> np.ndarray:
    """A body with two lungs in air, in HU, with a little noise."""
    d, h, w = np.ogrid[: shape[0], : shape[1], : shape[2]]
    body = ((h - 256) / 180.0) ** 2 + ((w - 256) / 230.0) ** 2 < 1
    lungs = ((h - 256) / 90.0) ** 2 + ((abs(w - 256) - 100) / 70.0) ** 2 + ((d - 150) / 120.0) ** 2 < 1
    noise = np.random.default_rng(0).integers(-20, 20, shape)
    return (np.where(lungs, -850, np.where(body, 40, -1000)) + noise).astype(np.int16)


def write_series(
    folder: Path,
    voxels: np.ndarray,
    *,
    spacing: tuple[float, float, float] = (2.5, 0.8, 0.8),
    origin: tuple[float, float, float] = (-100.0, -80.0, 50.0),
    change: Callable[[list[Dataset]], list[Dataset]] = lambda slices: slices,
    **more: object,
) -> list[Path]:
    """Write an axial series `d h w`; `change` may spoil the slices before they are written."""
    slices = [
        slice_dataset(
            plane, (origin[0], origin[1], origin[2] + i * spacing[0]), i + 1,
            spacing=spacing[1:], thickness=spacing[0], **more,
        )
        for i, plane in enumerate(voxels)
    ]  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    with careless():
        for i, ds in enumerate(change(slices)):
            # names in an order that is not that of the slices
            file = folder / f"IM{(i * 7) % 101:03d}_{ds.SeriesInstanceUID[-2:]}_{i}.dcm"
            ds.save_as(file, enforce_file_format=True)
            files.append(file)
    return files


@contextmanager
def careless() -> Iterator[None]:
    """Let pydicom write what the standard does not allow, as scanners do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
