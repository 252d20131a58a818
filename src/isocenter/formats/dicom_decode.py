"""Images of a DICOM file through whatever decoder takes them: pydicom's, or SimpleITK's GDCM where those have none."""

import struct
import tempfile
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import UID, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from isocenter.errors import IsocenterError, UnreadableFile, UnsupportedFormat, cause_of
from isocenter.formats.dicom_frames import Frame
from isocenter.formats.dicom_header import DEFLATED, Header, inflated, syntax_name
from isocenter.formats.quiet import quiet
from isocenter.types import Array

JPEG_LOSSLESS = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"


def channels_of(header: Header) -> int:
    """Numbers per pixel once it is read: 3 for colour, a palette too."""
    samples = int(header.number("SamplesPerPixel", 1))
    return 3 if samples == 3 or header.text("PhotometricInterpretation") == "PALETTE COLOR" else samples


def stored_dtype(header: Header) -> np.dtype[Any]:
    """Type of a stored pixel in native order.

    Raises: UnsupportedFormat for widths that no image here has.
    """
    if header.text("PhotometricInterpretation") == "PALETTE COLOR":
        entries = header.numbers("RedPaletteColorLookupTableDescriptor")
        return np.dtype("u2" if entries[2:] == (16.0,) else "u1")
    bits = int(header.number("BitsAllocated", 16))
    if bits not in (8, 16, 32):
        raise UnsupportedFormat(f"{header.file.name}: {bits} bits a pixel are not read; 8, 16 and 32 are")
    return np.dtype(f"{'i' if header.number('PixelRepresentation', 0) == 1 else 'u'}{bits // 8}")


def decoded(frames: Sequence[Frame]) -> Iterator[tuple[int, Array]]:
    """Index of each frame and its pixels `c h w`; a file is opened once for consecutive frames of it."""
    numbered = list(enumerate(frames))
    for _, group in groupby(numbered, key=lambda item: id(item[1].header)):
        members = list(group)
        header = members[0][1].header
        if members[0][1].tile is not None:
            whole = _checked(header, next(_images(header, [0])))
            for at, frame in members:
                assert frame.tile is not None, "all planes of a mosaic are tiles"
                (row, column), (rows, columns) = frame.tile, frame.shape
                yield at, whole[:, row : row + rows, column : column + columns]
            continue
        for (at, _), image in zip(members, _images(header, [f.index for _, f in members]), strict=True):
            yield at, _checked(header, image)


def _checked(header: Header, image: Array) -> Array:
    """`c h w` of a decoded image of `h w` or `h w c`.

    Raises: UnreadableFile where it is not what its header announced.
    """
    announced = (channels_of(header), int(header.number("Rows", 0)), int(header.number("Columns", 0)))
    planes = image[None] if image.ndim == 2 else np.moveaxis(image, -1, 0)
    if planes.shape != announced:
        raise UnreadableFile(f"{header.file.name}: {announced} pixels were announced, {planes.shape} were stored")
    return planes


@quiet()
def _images(header: Header, indices: Sequence[int]) -> Iterator[Array]:
    """Images of one file, colour as RGB.

    Raises: UnreadableFile, UnsupportedFormat.
    """
    try:
        if header.syntax == DEFLATED:
            yield from _deflated_images(header, indices)
            return
        dataset = dcmread(header.file, force=True)
        if "TransferSyntaxUID" not in dataset.__dict__.get("file_meta", {}):
            dataset.file_meta = FileMetaDataset()
            dataset.file_meta.TransferSyntaxUID = UID(header.syntax)
        if header.compressed:
            _require_codestreams(header, dataset, indices)
        if header.syntax in (*JPEG_LOSSLESS, JPEG_EXTENDED) and not _has_decoder(header.syntax, dataset):
            yield from _by_gdcm(header, dataset, indices)
            return
        for image in iter_pixels(dataset, indices=list(indices)):
            yield _colour(dataset, image)
    except IsocenterError:
        raise
    except (RuntimeError, NotImplementedError) as error:
        if "missing dependencies" in str(error) or isinstance(error, NotImplementedError):
            raise UnsupportedFormat(_no_decoder(header)) from error
        raise UnreadableFile(f"{header.file.name}: its pixels cannot be decoded ({cause_of(error)})") from error
    except Exception as error:
        raise UnreadableFile(
            f"{header.file.name}: its pixels cannot be read ({cause_of(error)}); is the file truncated? copy it again"
        ) from error


def _no_decoder(header: Header) -> str:
    """Which package brings a decoder, as far as pydicom knows one."""
    try:
        missing = "; ".join(get_decoder(header.syntax).missing_dependencies)
    except NotImplementedError:
        missing = ""
    known = f" or install one that does: {missing}" if missing else ""
    return (
        f"{header.file.name}: no installed package decodes {syntax_name(header.syntax)}; decompress it first "
        f"(dcmtk: dcmdjpeg, gdcm: gdcmconv --raw){known}"
    )


def _colour(dataset: Dataset, image: Array) -> Array:
    """RGB of a palette's indices; other images as they are (pydicom has turned YBR into RGB)."""
    if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
        return np.asarray(apply_color_lut(image, dataset))
    return np.asarray(image)


def _has_decoder(syntax: str, dataset: Dataset) -> bool:
    """Whether an installed decoder takes it; Pillow's takes JPEG extended of 8 bits only."""
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        return False
    return available and not (syntax == JPEG_EXTENDED and int(dataset.get("BitsStored", 8)) > 8)


def _deflated_images(header: Header, indices: Sequence[int]) -> Iterator[Array]:
    dataset = header.dataset()
    data = inflated(header)
    stored = data[header.pixels_at : header.pixels_at + header.pixels_length]
    dataset.PixelData = stored
    dataset["PixelData"].VR = "OW" if dataset.BitsAllocated > 8 else "OB"
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for image in iter_pixels(dataset, indices=list(indices)):
        yield _colour(dataset, image)


def _require_codestreams(header: Header, dataset: Dataset, indices: Sequence[int]) -> None:
    """Refuse a frame whose own header claims other sizes than the file's: it would be decoded at its own.

    Raises: UnreadableFile.
    """
    if "PixelData" not in dataset:
        raise UnreadableFile(f"{header.file.name}: no pixels follow its header; is it truncated?")
    last, rows, columns = max(indices), int(header.number("Rows", 0)), int(header.number("Columns", 0))
    count = int(max(1.0, header.number("NumberOfFrames", 1)))
    at = -1
    for at, data in enumerate(generate_frames(dataset.PixelData, number_of_frames=count)):
        said = _codestream_size(data)
        if said is not None and said != (rows, columns):
            raise UnreadableFile(
                f"{header.file.name}: frame {at + 1} holds {said[0]} x {said[1]} pixels, "
                f"its header says {rows} x {columns}"
            )
        if at >= last:
            return
    raise UnreadableFile(f"{header.file.name}: {at + 1} frames are there, {count} were announced; is it truncated?")


def _codestream_size(data: bytes) -> tuple[int, int] | None:
    """Rows and columns in a JPEG, JPEG-LS (SOF) or JPEG 2000 (SIZ) header; None for other codecs."""
    if data[:4] == b"\xff\x4f\xff\x51" and len(data) >= 24:
        width, height, left, top = struct.unpack(">4I", data[8:24])
        return height - top, width - left
    at = 2
    while data[:2] == b"\xff\xd8" and at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7:
            rows, columns = struct.unpack(">HH", data[at + 5 : at + 9])
            return rows, columns
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _by_gdcm(header: Header, dataset: Dataset, indices: Sequence[int]) -> Iterator[Array]:
    """JPEG lossless and 12-bit JPEG, which only SimpleITK's GDCM decodes: the bare pixels in a file of our own."""
    from isocenter.ops.itk import sitk

    bare = Dataset()
    for keyword in (
        "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel",
        "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "PixelData",
    ):  # fmt: skip
        if keyword in dataset:
            bare[keyword] = dataset[keyword]
    if bare.PhotometricInterpretation == "MONOCHROME1":
        bare.PhotometricInterpretation = "MONOCHROME2"  # GDCM would invert
    bare.SOPClassUID, bare.SOPInstanceUID = SecondaryCaptureImageStorage, UID("2.25.1")
    bare.file_meta = FileMetaDataset()
    bare.file_meta.TransferSyntaxUID = UID(header.syntax)
    bare.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    bare.file_meta.MediaStorageSOPInstanceUID = UID("2.25.1")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "bare.dcm"
        bare.save_as(file, enforce_file_format=True)
        image = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
    dtype = stored_dtype(header)
    for index in indices:
        plane = image[index]
        if plane.dtype.itemsize > 4 or plane.dtype.kind not in "iu":
            raise UnreadableFile(f"{header.file.name}: its pixels were decoded to {plane.dtype}; refused")
        yield np.asarray(plane).astype(dtype)
