"""Stored pixels of DICOM frames: read straight into their place, or decoded, in several processes where that pays."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from isocenter.errors import IsocenterError, TruncatedPixels, UnreadableFile, UnsupportedFormat
from isocenter.formats.dicom_decode import channels_of, decoded, stored_dtype
from isocenter.formats.dicom_frames import Frame
from isocenter.formats.dicom_header import DEFLATED, Header
from isocenter.formats.dicom_walk import BIG, UNDEFINED, tag_of
from isocenter.formats.header import LIMIT_BYTES
from isocenter.ops import threads
from isocenter.types import Array

RLE = "1.2.840.10008.1.2.5"
_MOST_GROWTH = {RLE: 128}
"""No codec is believed to grow more than this; others than RLE may run long on one value."""
_GROWTH = 20_000
_PAYS_PIXELS = 24_000_000
"""Below this, starting processes costs more than they save (measured on JPEG-LS)."""


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
    for at, planes in decoded(frames):
        out[at] = planes
        if then:
            then(at)


def _is_plain(frame: Frame) -> bool:
    """Its pixels lie in the file as they will in memory, but for the order of bytes and unused bits."""
    header = frame.header
    plain = not header.compressed and header.syntax != DEFLATED and frame.tile is None
    swapped = header.syntax == BIG and stored_dtype(header).itemsize == 1  # bytes may be stored as words (PS3.5 A.3)
    return plain and not swapped and channels_of(header) == 1


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
                for at, plane in decoded([frames[i] for i in chunk]):
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
                for at, planes in decoded(frames):
                    plane = np.ascontiguousarray(planes, stored_dtype(frames[at].header))
                    plane.tofile(stream)
        except IsocenterError as error:
            answer = {"unsupported": isinstance(error, UnsupportedFormat), "message": str(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
