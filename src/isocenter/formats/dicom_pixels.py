"""Stored pixels of DICOM frames: read straight into their place, or decoded, in several processes where that pays."""

import json
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import UID, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from isocenter.errors import IsocenterError, TruncatedPixels, UnreadableFile, UnsupportedFormat, cause_of
from isocenter.formats.dicom_frames import Frame
from isocenter.formats.dicom_header import BIG, DEFLATED, UNDEFINED, Header, inflated, syntax_name, tag_of
from isocenter.formats.header import LIMIT_BYTES
from isocenter.formats.quiet import quiet
from isocenter.ops import threads
from isocenter.types import Array

JPEG_LOSSLESS = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
RLE = "1.2.840.10008.1.2.5"
_MOST_GROWTH = {RLE: 128}
"""No codec is believed to grow more than this; others than RLE may run long on one value."""
_GROWTH = 20_000
_PAYS_PIXELS = 24_000_000
"""Below this, starting processes costs more than they save (measured on JPEG-LS)."""
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT", "PALETTE COLOR")


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


def require_pixels(header: Header) -> None:
    """Refuse an image that is cut off before or in its pixels, or whose sizes claim what its file cannot hold.

    Raises: UnreadableFile.
    """
    name = header.file.name
    claimed = _claimed(tuple(map(header.raw, _SIZES)), header.syntax)
    if claimed is None:
        claimed = _claim(header)  # says what is no number
    if header.pixels_at < 0:
        raise TruncatedPixels(f"{name}: truncated or without pixels: nothing follows its header; copy the file again")
    rest = header.size_bytes - header.pixels_at
    if claimed > LIMIT_BYTES:
        raise UnreadableFile(f"{name}: the header claims {claimed / 2**30:.1f} GiB of pixels: refused")
    if header.cut_off:
        raise TruncatedPixels(f"{name}: truncated: its compressed pixels end too early; copy the file again")
    if header.compressed:
        if rest < 16 or claimed > rest * _MOST_GROWTH.get(header.syntax, _GROWTH):
            raise UnreadableFile(
                f"{name}: the header claims {claimed:.0f} bytes of pixels, {rest} compressed ones follow: it is "
                "truncated or lies; copy it again"
            )
        return
    claimed = int(claimed + 0.999)
    if rest < claimed:
        raise TruncatedPixels(f"{name}: truncated: {rest} of {claimed} bytes of pixels are there; copy the file again")
    length = header.pixels_length
    if length not in (UNDEFINED, claimed, claimed + claimed % 2):
        raise UnreadableFile(f"{name}: {claimed} bytes of pixels were announced, {length} are stored")


_SIZES = ("Rows", "Columns", "NumberOfFrames", "BitsAllocated", "SamplesPerPixel", "PhotometricInterpretation")


@lru_cache(maxsize=1024)
def _claimed(raw: tuple[bytes, ...], syntax: str) -> float | None:
    """Bytes of pixels by the raw sizes of a header; None where one is no number. Slices repeat them."""
    elements = dict(zip(map(tag_of, _SIZES), raw, strict=True))
    try:
        return _claim(Header(Path(), syntax, elements, {}, 0, 0, 0))
    except UnreadableFile:
        return None


def _claim(header: Header) -> float:
    rows, columns, bits = (header.number(keyword, 0) for keyword in ("Rows", "Columns", "BitsAllocated"))
    frames = max(1.0, header.number("NumberOfFrames", 1))
    samples = header.number("SamplesPerPixel", 1)
    halved = header.text("PhotometricInterpretation") == "YBR_FULL_422" and not header.compressed
    return rows * columns * frames * (bits or 16) * samples * (2 / 3 if halved else 1) / 8


def read_planes(frames: Sequence[Frame], out: Array, then: Callable[[int], None] | None = None) -> None:
    """Stored pixels of frames, one after the other.

    Args:
        frames: of one type, size and number of channels.
        out: `n c h w` in the frames' stored type (`stored_dtype`); filled.
        then: done with each index once its pixels are in place, and still in the processor's cache.
    Raises: UnreadableFile for pixels that are truncated or cannot be decoded; UnsupportedFormat where a decoder is
        missing.
    """
    if all(_is_plain(frame) for frame in frames):
        _read_plain(frames, out, then)
        return
    pixels = sum(frame.shape[0] * frame.shape[1] for frame in frames)
    cores = min(threads.allowed(), 8)
    if cores > 1 and len(frames) > cores and pixels >= _PAYS_PIXELS and any(f.header.compressed for f in frames):
        _decode_in_processes(frames, out, cores, then)
        return
    for at, planes in _decoded(frames):
        out[at] = planes
        if then:
            then(at)


def _is_plain(frame: Frame) -> bool:
    """Its pixels lie in the file as they will in memory, but for the order of bytes and unused bits."""
    header = frame.header
    plain = not header.compressed and header.syntax != DEFLATED and frame.tile is None
    return plain and channels_of(header) == 1


def _read_plain(frames: Sequence[Frame], out: Array, then: Callable[[int], None] | None) -> None:
    """Read uncompressed grey frames at their offsets, in threads: reading gives the interpreter free."""

    def one(at: int) -> None:
        frame = frames[at]
        plane = out[at, 0]
        count = plane.nbytes
        offset = frame.header.pixels_at + (0 if frame.tile else frame.index) * count
        fd = os.open(frame.header.file, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            got = _read_into(fd, memoryview(plane).cast("B"), offset)
        finally:
            os.close(fd)
        if got != count:
            raise UnreadableFile(f"{frame.name}: {got} of {count} bytes of pixels are there; copy the file again")
        if frame.header.syntax == BIG:
            plane.byteswap(inplace=True)
        clean_unused_bits(plane, frame.header)
        if then:
            then(at)

    try:
        in_threads(one, len(frames))
    except OSError as error:
        raise UnreadableFile(f"{error.filename}: cannot be read ({error.strerror})") from error


def in_threads(work: Callable[[int], None], count: int) -> None:
    """Do `work` for each index, in as many threads as are allowed: numpy and files free the interpreter meanwhile."""
    shares = min(threads.allowed(), count)

    def share(first: int) -> None:
        for at in range(first, count, shares):
            work(at)

    if shares < 2:
        share(0) if count else None
        return
    with ThreadPoolExecutor(shares) as pool:
        for done in [pool.submit(share, first) for first in range(shares)]:
            done.result()


def _read_into(fd: int, view: memoryview, offset: int) -> int:
    """Fill `view` from an offset; how many bytes there were."""
    if hasattr(os, "preadv"):
        done = 0
        while done < len(view):
            got = os.preadv(fd, [view[done:]], offset + done)
            if not got:
                break
            done += got
        return done
    os.lseek(fd, offset, os.SEEK_SET)
    with os.fdopen(os.dup(fd), "rb") as stream:
        return stream.readinto(view) or 0


def clean_unused_bits(plane: Array, header: Header) -> None:
    """Set bits above Bits Stored as the sign says: old files keep overlays there (PS3.5 8.1.1)."""
    allocated, stored = 8 * plane.dtype.itemsize, int(header.number("BitsStored", 8 * plane.dtype.itemsize))
    if not 1 <= stored < allocated:
        return
    if plane.dtype.kind == "u":
        if int(plane.max()) >> stored:
            np.bitwise_and(plane, (1 << stored) - 1, out=plane)
    elif int(plane.max()) >= 1 << (stored - 1) or int(plane.min()) < -(1 << (stored - 1)):
        np.left_shift(plane, allocated - stored, out=plane)
        np.right_shift(plane, allocated - stored, out=plane)


def _decoded(frames: Sequence[Frame]) -> Iterator[tuple[int, Array]]:
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


_CHUNK = 8
"""Planes that a process is given at a time: few enough to share the work evenly, enough to hide the asking."""


def _decode_in_processes(frames: Sequence[Frame], out: Array, cores: int, then: Callable[[int], None] | None) -> None:
    """Decode in this process and in others beside it; each takes the next few planes when it is done with its own.

    The others hand their pixels over in a file of their own, so that this one is asked for little while it works.
    """
    chunks = iter([range(at, min(at + _CHUNK, len(frames))) for at in range(0, len(frames), _CHUNK)])
    lock = Lock()

    def taken() -> range | None:
        with lock:
            return next(chunks, None)

    def put(at: int, plane: Array) -> None:
        out[at] = plane
        if then:
            then(at)

    with ThreadPoolExecutor(cores - 1) as pool:
        others = [pool.submit(_other_process, frames, out, taken, then) for _ in range(cores - 1)]
        try:
            while (chunk := taken()) is not None:
                for at, plane in _decoded([frames[i] for i in chunk]):
                    put(chunk[0] + at, plane)
        finally:
            with lock:
                chunks = iter(())
        for done in others:
            done.result()


def _other_process(
    frames: Sequence[Frame], out: Array, taken: Callable[[], range | None], then: Callable[[int], None] | None
) -> None:
    """Feed one decoding process and put its planes in place.

    Raises: what the process found wrong with a plane.
    """
    command = [sys.executable, "-c", "from isocenter.formats.dicom_pixels import serve; serve()"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([p or os.curdir for p in sys.path])}
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryDirectory(prefix="isocenter-pixels-") as folder,
        subprocess.Popen(  # noqa: S603 - our own command
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=environment, text=True
        ) as process,
    ):
        pixels = Path(folder) / "pixels"
        try:
            while (chunk := taken()) is not None:
                _ask(process, {"pixels": str(pixels), "frames": _as_job([frames[i] for i in chunk])})
                with pixels.open("rb", buffering=0) as stream:
                    for at in chunk:
                        stream.readinto(memoryview(out[at]).cast("B"))
                        if then:
                            then(at)
        finally:
            process.kill()


def _ask(process: "subprocess.Popen[str]", job: dict[str, Any]) -> None:
    """Have a decoding process do a job.

    Raises: UnreadableFile or UnsupportedFormat with what it found wrong, or where it died.
    """
    assert process.stdin is not None, "the pipe was asked for"
    assert process.stdout is not None, "the pipe was asked for"
    try:
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
    except OSError:
        answer = ""
    if not answer:
        first = Path(job["frames"][0]["file"]).name
        raise UnreadableFile(f"{first}: the process that decoded it, or the next ones, died; is the file broken?")
    said = json.loads(answer)
    if "message" in said:
        raise (UnsupportedFormat if said["unsupported"] else UnreadableFile)(said["message"])


def _as_job(frames: Sequence[Frame]) -> list[dict[str, Any]]:
    """Frames as plain data: what a decoding process needs of them."""
    jobs: list[dict[str, Any]] = []
    told: set[Path] = set()
    for frame in frames:
        header = frame.header
        jobs.append({"file": str(header.file), "index": frame.index, "shape": frame.shape, "tile": frame.tile})
        if header.file not in told:
            told.add(header.file)
            elements = {str(t): v.hex() for t, v in header.elements.items() if t >> 16 == _IMAGE_GROUP}
            vrs = {str(t): vr for t, vr in header.vrs.items()}
            at = [header.pixels_at, header.pixels_length, header.size_bytes]
            jobs[-1] |= {"syntax": header.syntax, "at": at, "elements": elements, "vrs": vrs}
    return jobs


_IMAGE_GROUP = 0x28


def serve() -> None:
    """A decoding process: a line of JSON in for each few frames, their pixels into the file it names, a line back."""
    for line in sys.stdin:
        job = json.loads(line)
        headers: dict[str, Header] = {}
        frames = []
        for said in job["frames"]:
            if said["file"] not in headers:
                elements = {int(t): bytes.fromhex(v) for t, v in said["elements"].items()}
                vrs = {int(t): vr for t, vr in said["vrs"].items()}
                headers[said["file"]] = Header(Path(said["file"]), said["syntax"], elements, vrs, *said["at"])
            tile = tuple(said["tile"]) if said["tile"] else None
            frames.append(Frame(headers[said["file"]], said["index"], tuple(said["shape"]), tile=tile))
        answer: dict[str, Any] = {}
        try:
            with Path(job["pixels"]).open("wb") as stream:
                for at, planes in _decoded(frames):
                    plane = np.ascontiguousarray(planes, stored_dtype(frames[at].header))
                    plane.tofile(stream)
        except IsocenterError as error:
            answer = {"unsupported": isinstance(error, UnsupportedFormat), "message": str(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
