"""Single-frame DICOM images: headers, and the voxels of slices whose order is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, MediaStorageDirectoryStorage

from isocenter.data.geometry import Geometry
from isocenter.data.provenance import Json, Step
from isocenter.data.volume import Quantity, Volume
from isocenter.errors import UnreadableFile, UnsupportedFormat, cause_of
from isocenter.formats.header import within_budget
from isocenter.formats.quiet import quiet
from isocenter.types import Array

ATTRIBUTES = (
    "ImageType", "SeriesDescription", "ProtocolName", "SequenceName", "ScanningSequence", "SequenceVariant",
    "ScanOptions", "MRAcquisitionType", "RepetitionTime", "EchoTime", "InversionTime", "EchoTrainLength", "FlipAngle",
    "MagneticFieldStrength", "SliceThickness", "ConvolutionKernel", "KVP", "ContrastBolusAgent", "BodyPartExamined",
    "Manufacturer", "ManufacturerModelName", "SoftwareVersions", "SeriesNumber", "AcquisitionDate", "PatientPosition",
)  # fmt: skip
"""What a series is chosen by and judged by; by DICOM keyword, from its first slice."""

IDENTITY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "PatientAge", "StudyInstanceUID", "StudyDate",
    "AccessionNumber", "StudyDescription",
)  # fmt: skip

_GRID = (
    "SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality",
    "InstanceNumber", "Rows", "Columns", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient",
    "RescaleSlope", "RescaleIntercept", "RescaleType", "PhotometricInterpretation", "SamplesPerPixel", "BitsAllocated",
    "BitsStored", "PixelRepresentation", "NumberOfFrames",
)  # fmt: skip
_WANTED = [Tag(keyword) for keyword in (*ATTRIBUTES, *IDENTITY, *_GRID)]


@dataclass(frozen=True)
class SliceHeader:
    """One image file before its pixels: the elements that geometry, selection and reading need."""

    file: Path
    elements: Dataset
    transfer_syntax: UID
    size_bytes: int

    def text(self, keyword: str) -> str:
        """The element as text, several values joined by a backslash; empty if absent."""
        value = self._value(keyword)
        if isinstance(value, (MultiValue, list)):
            return "\\".join(str(v) for v in value)
        return "" if value is None else str(value).strip()

    def numbers(self, keyword: str) -> tuple[float, ...]:
        """The element as numbers; empty if absent.

        Raises: UnreadableFile where it is not numbers.
        """
        value = self._value(keyword)
        if value is None or value == "":
            return ()
        try:
            many = value if isinstance(value, (MultiValue, list)) else [value]
            numbers = tuple(float(v) for v in many)
        except (TypeError, ValueError) as error:
            raise UnreadableFile(f"{self.file.name}: {keyword} is {value!r}, not numbers") from error
        if not np.all(np.isfinite(numbers)):
            raise UnreadableFile(f"{self.file.name}: {keyword} is {value!r}, not finite")
        return numbers

    def number(self, keyword: str, default: float) -> float:
        """The element's first number, or `default` if absent."""
        return next(iter(self.numbers(keyword)), default)

    def _value(self, keyword: str) -> Any:
        try:
            with quiet():
                return self.elements.get(keyword)
        except Exception as error:  # pydicom converts on access and raises what its parts raise
            raise UnreadableFile(
                f"{self.file.name}: the element {keyword} cannot be read ({cause_of(error)})"
            ) from error


@quiet()
def read_header(path: Path) -> SliceHeader:
    """Header of one DICOM file, pixels untouched.

    Raises: UnreadableFile where it is not DICOM, truncated before its pixels, or not an image.
    """
    _refuse_deflated(path)
    try:
        with path.open("rb") as stream:
            dataset = dcmread(stream, stop_before_pixels=True, specific_tags=_WANTED, force=True)
            rest = path.stat().st_size - stream.tell()
        meta = dataset.__dict__.get("file_meta", {})
        syntax, kind = meta.get("TransferSyntaxUID"), meta.get("MediaStorageSOPClassUID")
    except Exception as error:
        raise UnreadableFile(f"{path.name}: not a readable DICOM file ({cause_of(error)})") from error
    header = SliceHeader(path, dataset, UID(syntax or "1.2.840.10008.1.2"), path.stat().st_size)
    if kind == MediaStorageDirectoryStorage:
        raise UnsupportedFormat(f"{path.name}: a DICOMDIR is a table of contents; give the folder with the images")
    if not header.text("SOPClassUID") or not header.text("SeriesInstanceUID"):
        raise UnreadableFile(f"{path.name}: not a DICOM image (no SOP Class or Series Instance UID); is it truncated?")
    _require_pixels(header, rest)
    return header


def _refuse_deflated(path: Path) -> None:
    """A deflated data set is inflated whole when it is opened, however large it claims to be."""
    with path.open("rb") as stream:
        meta = stream.read(1024)[128:]
    if DeflatedExplicitVRLittleEndian.encode() in meta:
        raise UnsupportedFormat(f"{path.name}: deflated DICOM is not read; inflate it first (dcmtk: dcmconv +te)")


def _require_pixels(header: SliceHeader, rest: int) -> None:
    """Refuse an image that is cut off before or in its pixels, before it is taken for a slice.

    `rest` is how many bytes of the file follow the last element read. Compressed pixels are judged when decoded.
    """
    rows, columns = (header.number(keyword, 0) for keyword in ("Rows", "Columns"))
    if not rows or not columns or not header.transfer_syntax.is_transfer_syntax:
        return
    stored = rows * columns * header.number("BitsAllocated", 16) / 8 * header.number("SamplesPerPixel", 1)
    if rest < (1 if header.transfer_syntax.is_compressed else stored):
        raise UnreadableFile(f"{header.file.name}: truncated: {rest} bytes follow its header; copy the file again")


@quiet()
def attributes_of(header: SliceHeader) -> dict[str, Json]:
    """Acquisition parameters as plain data: numbers, text, or lists of them."""
    found: dict[str, Json] = {}
    for keyword in ATTRIBUTES:
        value = header._value(keyword)  # noqa: SLF001
        if value is None or value == "":
            continue
        if isinstance(value, (MultiValue, list)):
            found[keyword] = [_plain(v) for v in value]
        else:
            found[keyword] = _plain(value)
    return found


def value_dtype(headers: Sequence[SliceHeader]) -> np.dtype[Any]:
    """The smallest type that holds all rescaled values exactly; float32 where the rescale is no integer shift."""
    lows, highs = [], []
    for header in headers:
        slope, shift = header.number("RescaleSlope", 1.0), header.number("RescaleIntercept", 0.0)
        if slope != 1.0 or not float(shift).is_integer():
            return np.dtype(np.float32)
        bits = int(header.number("BitsStored", header.number("BitsAllocated", 16)))
        signed = header.number("PixelRepresentation", 0) == 1
        lows.append((-(2 ** (bits - 1)) if signed else 0) + shift)
        highs.append((2 ** (bits - 1) if signed else 2**bits) - 1 + shift)
    low, high = min(lows), max(highs)
    for kind in (np.uint8, np.int16, np.uint16, np.int32):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return np.dtype(kind)
    return np.dtype(np.float32)


@quiet()
def read(headers: Sequence[SliceHeader], geometry: Geometry) -> Volume:
    """Voxels of slices in the order given, rescaled.

    Args:
        headers: one for each slice, first slice of the grid first.
        geometry: where they lie.
    Raises: UnreadableFile for pixels that are truncated or cannot be decoded; UnsupportedFormat where a decoder is
        missing.
    """
    dtype = value_dtype(headers)
    within_budget(
        int(np.prod(geometry.shape)) * dtype.itemsize, 2**62, what=headers[0].file.parent.name, compressed=False
    )
    voxels = np.empty(geometry.shape, dtype)
    for index, header in enumerate(headers):
        stored = _stored_pixels(header, geometry.shape[1:])
        slope, shift = header.number("RescaleSlope", 1.0), header.number("RescaleIntercept", 0.0)
        if dtype.kind == "f":
            np.multiply(stored, slope, out=voxels[index], casting="unsafe")
            voxels[index] += shift
        else:
            np.add(stored, int(shift), out=voxels[index], casting="unsafe", dtype=np.int64)
    voxels = _narrowed(voxels)
    first = headers[0]
    is_ct = first.text("Modality") == "CT"
    step = Step(
        "acquire.dicom",
        {"slices": len(headers), "rescale": bool(first.numbers("RescaleSlope"))},
        {"transfer_syntax": first.transfer_syntax.name},
    )
    return Volume(voxels[None], geometry, Quantity.HU if is_ct else Quantity.ARBITRARY, (step,))


def _narrowed(voxels: Array) -> Array:
    """In 16 bits where the values allow it: headers announce more than scanners use."""
    if voxels.dtype == np.int32 and np.iinfo(np.int16).min <= voxels.min() and voxels.max() <= np.iinfo(np.int16).max:
        return voxels.astype(np.int16)
    return voxels


def _stored_pixels(header: SliceHeader, shape: tuple[int, int]) -> Array:
    claimed = shape[0] * shape[1] * int(header.number("BitsAllocated", 16)) // 8
    if not header.transfer_syntax.is_compressed:
        within_budget(claimed, header.size_bytes, what=header.file.name, compressed=False)
    try:
        dataset = dcmread(header.file, force=True)
        if "file_meta" in dataset.__dict__ and "TransferSyntaxUID" not in dataset.file_meta:
            dataset.file_meta.TransferSyntaxUID = header.transfer_syntax
        _require_length(header, dataset)
        stored = np.asarray(dataset.pixel_array)
    except RuntimeError as error:  # pydicom: "Unable to decompress ... because all plugins are missing dependencies"
        if "missing dependencies" in str(error):
            raise UnsupportedFormat(
                f"{header.file.name}: no installed package decodes {header.transfer_syntax.name}; decompress it first "
                f"(dcmtk: dcmdjpeg), or install one that does: {cause_of(error)}"
            ) from error
        raise UnreadableFile(f"{header.file.name}: its pixels cannot be decoded ({cause_of(error)})") from error
    except UnreadableFile:
        raise
    except Exception as error:
        raise UnreadableFile(
            f"{header.file.name}: its pixels cannot be read ({cause_of(error)}); is the file truncated? copy it again"
        ) from error
    if stored.shape != shape:
        raise UnreadableFile(f"{header.file.name}: {shape} pixels were announced, {stored.shape} were stored")
    return stored


def _require_length(header: SliceHeader, dataset: Dataset) -> None:
    """Refuse uncompressed pixels that are more or fewer than the header says: its sizes are then wrong."""
    if header.transfer_syntax.is_compressed:
        return
    announced = int(dataset.Rows) * int(dataset.Columns) * int(dataset.BitsAllocated) // 8
    if len(dataset.PixelData) not in (announced, announced + announced % 2):
        raise UnreadableFile(
            f"{header.file.name}: {announced} bytes of pixels were announced, {len(dataset.PixelData)} are stored"
        )


def _plain(value: Any) -> Json:
    if isinstance(value, (int, float)) and np.isfinite(float(value)):
        return int(value) if float(value).is_integer() else float(value)
    return str(value)
