"""A DICOM file before its pixels, read fast: the elements that are wanted, everything else stepped over.

A general reader builds every element; a series of hundreds of slices then spends its time there. This one walks the
encoding (PS3.5 chapter 7), keeps the raw bytes of what is asked for, and never holds what it does not need. What it
does not understand is handed to pydicom.
"""

import os
import stat
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.charset import convert_encodings, decode_bytes
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pydicom.valuerep import PN_DELIMS, TEXT_VR_DELIMS

from isocenter.errors import UnreadableFile, cause_of
from isocenter.formats.dicom_walk import (
    BIG,
    EXPLICIT,
    IMPLICIT,
    LITTLE_INT,
    LITTLE_SHORT,
    LONG,
    LONGEST_VALUE,
    MOST_ELEMENTS,
    SHORT,
    UNDEFINED,
    WINDOW,
    Odd,
    Read,
    Refused,
    Walk,
    Wanted,
    tag_of,
    vr_of,
)
from isocenter.formats.header import LIMIT_BYTES
from isocenter.formats.quiet import quiet

DEFLATED, DEFLATED_FRAMES = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.8.1"
_GB2312_ESCAPE = "\x1b$)A"
"""Escape sequence of ISO 2022 IR 58, which pydicom 3.0 leaves in the text."""
_BINARY = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "UV": "Q", "SV": "q"}
_TEXT = frozenset(("SH", "LO", "ST", "LT", "UC", "UT", "PN"))


@dataclass(frozen=True, slots=True)
class Header:
    """One DICOM file before its pixels.

    Args:
        file: where it is.
        syntax: Transfer Syntax UID.
        elements: raw values of the wanted elements, by tag.
        vrs: value representations that differ from the dictionary's, by tag.
        pixels_at: offset of the first byte of the pixel data; -1 without pixels.
        pixels_length: stated bytes of it; `UNDEFINED` for encapsulated frames.
        size_bytes: of the file, or of what it inflates to.
        cut_off: its compressed pixels run beyond the file's end.
    """

    file: Path
    syntax: str
    elements: Mapping[int, bytes] = field(repr=False)
    vrs: Mapping[int, str] = field(repr=False)
    pixels_at: int
    pixels_length: int
    size_bytes: int
    cut_off: bool = False

    @property
    def compressed(self) -> bool:
        """The pixels are encapsulated frames of a codec."""
        return self.syntax not in (IMPLICIT, EXPLICIT, BIG, DEFLATED)

    def raw(self, keyword: str) -> bytes:
        """The element's bytes as stored; empty if absent."""
        return self.elements.get(tag_of(keyword), b"")

    def vr(self, keyword: str) -> str:
        """Value representation of the element, as the file states it or the dictionary knows it."""
        tag = tag_of(keyword)
        return self.vrs.get(tag) or vr_of(tag)

    def has(self, keyword: str) -> bool:
        """The element is present and not empty."""
        return bool(self.raw(keyword).strip(b"\0 "))

    def text(self, keyword: str) -> str:
        """The element as text in its own character set, several values joined by a backslash; empty if absent."""
        value = self.elements.get(tag_of(keyword), b"")
        if not value:
            return ""
        vr = self.vr(keyword)
        if vr in _BINARY:
            return "\\".join(f"{number:g}" for number in self.numbers(keyword))
        if (vr in _TEXT and not value.isascii()) or b"\x1b" in value:
            return self._decoded(value, vr).strip(" \0")
        return value.decode("latin-1").strip(" \0")

    def values(self, keyword: str) -> tuple[str, ...]:
        """The element's values as text, each without its padding."""
        text = self.text(keyword)
        return tuple(part.strip(" \0") for part in text.split("\\")) if text else ()

    def numbers(self, keyword: str) -> tuple[float, ...]:
        """The element as numbers; empty if absent.

        Raises: UnreadableFile where it is not finite numbers.
        """
        value = self.elements.get(tag_of(keyword), b"")
        numbers = _parsed(value, self.vr(keyword), self.syntax == BIG) if value else ()
        if numbers is None:
            raise UnreadableFile(f"{self.file.name}: {keyword} is {_shown(value)}, not finite numbers")
        return numbers

    def number(self, keyword: str, default: float) -> float:
        """The element's first number, or `default` if absent."""
        numbers = self.numbers(keyword)
        return numbers[0] if numbers else default

    def _decoded(self, value: bytes, vr: str) -> str:
        """Text in the Specific Character Set (PS3.5 chapter 6); bytes that are not of it become U+FFFD."""
        said = [part.strip() for part in self.raw("SpecificCharacterSet").decode("latin-1").split("\\")]
        try:
            with quiet():
                encodings = convert_encodings(said if said != [""] else "ISO_IR 6")
                text = decode_bytes(value, encodings, PN_DELIMS if vr == "PN" else TEXT_VR_DELIMS)
        except Exception:  # noqa: BLE001 - an unknown character set: the bytes are shown, never guessed
            return value.decode("ascii", "replace")
        return str(text).replace(_GB2312_ESCAPE, "")

    @quiet()
    def dataset(self) -> Dataset:
        """Every element but the pixels, sequences included, as pydicom reads them.

        Raises: UnreadableFile.
        """
        try:
            with self.file.open("rb") as stream:
                if self.syntax == DEFLATED:
                    return dcmread(BytesIO(_inflated_file(self.file)), stop_before_pixels=True, force=True)
                return dcmread(stream, stop_before_pixels=True, force=True)
        except Exception as error:
            raise UnreadableFile(f"{self.file.name}: not a readable DICOM file ({cause_of(error)})") from error


@lru_cache(maxsize=8192)
def _parsed(value: bytes, vr: str, big: bool) -> tuple[float, ...] | None:
    """An element's numbers; None where they are none, or not finite. Slices repeat most of them: once is enough."""
    if vr in _BINARY:
        form = np.dtype(_BINARY[vr]).newbyteorder(">" if big else "<")
        numbers = tuple(np.frombuffer(value[: len(value) // form.itemsize * form.itemsize], form).tolist())
    else:
        text = value.strip(b"\0 ")
        if not text:
            return ()
        try:
            numbers = tuple([float(part) for part in text.replace(b"_", b"?").split(b"\\")])  # float takes 1_000
        except ValueError:
            return None
    return numbers if all(-1e300 < number < 1e300 for number in numbers) else None


def _shown(value: bytes) -> str:
    text = value[:60].decode("ascii", "replace").strip(" \0")
    return repr(text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text))


def read_header(path: Path, wanted: Wanted, *, marked: bool = False) -> Header | None:
    """Read the wanted elements of one DICOM file; pixels stay untouched.

    Args:
        path: the file.
        wanted: what to keep.
        marked: give None for a file without the mark `DICM`, whatever it is.
    Raises: UnreadableFile where it is not DICOM, is cut off, or is nested or filled beyond all reason.
    """
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        raise UnreadableFile(f"{path.name}: cannot be opened ({error.strerror})") from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableFile(f"{path.name}: not a regular file (a pipe or a device?)")
        read = _reader(fd)
        first = read(0, WINDOW)
        if marked and first[128:132] != b"DICM":
            return None
        return _read(path, read, first, status.st_size, wanted)
    except OSError as error:
        raise UnreadableFile(f"{path.name}: cannot be read ({error.strerror})") from error
    finally:
        os.close(fd)


def _reader(fd: int) -> Read:
    if hasattr(os, "pread"):
        return lambda at, count: os.pread(fd, count, at)

    def seek_and_read(at: int, count: int) -> bytes:
        os.lseek(fd, at, os.SEEK_SET)
        return os.read(fd, count)

    return seek_and_read


def _read(path: Path, read: Read, first: bytes, size: int, wanted: Wanted) -> Header:
    begin, syntax, kind = _meta(path, first, read)
    if kind == "1.2.840.10008.1.3.10":
        raise UnreadableFile(f"{path.name}: a DICOMDIR is a table of contents, no image; open it by itself")
    if syntax == DEFLATED:
        data = _inflated(path, read, begin)
        first, begin, size, read = data, 0, len(data), lambda at, count: data[at : at + count]
    try:
        walk = Walk(read, first, size, explicit=syntax != IMPLICIT, big=syntax == BIG, wanted=wanted)
        pixels_at, length = walk.to_pixels(begin)
        elements, vrs = walk.found, walk.vrs
    except (Odd, struct.error):
        elements, vrs, (pixels_at, length) = _by_pydicom(path, wanted, syntax)
    except Refused as error:
        raise UnreadableFile(f"{path.name}: {error}; copy the file again, or leave it out") from None
    cut_off = length == UNDEFINED and pixels_at > 0 and not _whole(read, pixels_at, size)
    return Header(path, syntax, elements, vrs, pixels_at, length, size, cut_off)


def _whole(read: Read, at: int, size: int) -> bool:
    """Whether every fragment of encapsulated pixels (PS3.5 A.4) lies within the file."""
    for _ in range(MOST_ELEMENTS):
        head = read(at, 8)
        if len(head) < 8:
            return at == size  # some writers leave the delimiter out
        if head[:4] != b"\xfe\xff\x00\xe0":
            return True  # the delimiter, or nothing that can be judged here
        at += 8 + LITTLE_INT.unpack_from(head, 4)[0]
        if at > size:
            return False
    return False


def _meta(path: Path, first: bytes, read: Read) -> tuple[int, str, str]:
    """Where the data set begins, its transfer syntax and the media storage class; guessed without a meta group."""
    at = 132 if first[128:132] == b"DICM" else 0
    syntax = kind = ""
    while first[at : at + 2] == b"\x02\0" and at + 12 <= len(first):
        vr = first[at + 4 : at + 6]
        if vr in LONG:
            length, value = LITTLE_INT.unpack_from(first, at + 8)[0], at + 12
        elif vr in SHORT:
            length, value = LITTLE_SHORT.unpack_from(first, at + 6)[0], at + 8
        else:  # an implicit meta group, against the standard
            length, value = LITTLE_INT.unpack_from(first, at + 4)[0], at + 8
        element = LITTLE_SHORT.unpack_from(first, at + 2)[0]
        if element == 0x0010:
            syntax = first[value : value + length].decode("latin-1").strip("\0 ")
        elif element == 0x0002:
            kind = first[value : value + length].decode("latin-1").strip("\0 ")
        at = value + length
    if not syntax:
        head = first[at : at + 8] or read(at, 8)
        little = EXPLICIT if head[4:6] in SHORT | LONG else IMPLICIT
        syntax = BIG if head[:1] == b"\0" else little
    if at > len(first):
        raise UnreadableFile(f"{path.name}: its file meta information is longer than {len(first)} bytes; refused")
    return at, syntax, kind


def _inflated(path: Path, read: Read, begin: int) -> bytes:
    """The data set of a deflated file (PS3.5 A.5), never more than its pixels can need."""
    inflate = zlib.decompressobj(-15)
    data, step = bytearray(), 1 << 20
    limit = min(LIMIT_BYTES, 64 << 20)
    at, tail = begin, b""
    known = False
    try:
        while not inflate.eof:
            block = tail or read(at, step)
            at += 0 if tail else len(block)
            if not block:
                raise UnreadableFile(f"{path.name}: deflated data are cut off; copy it again")
            data += inflate.decompress(block, step)
            tail = inflate.unconsumed_tail
            if not known and len(data) >= step:
                limit, known = _claimed(path, bytes(data[: 8 << 20])), True
            if len(data) > limit:
                raise UnreadableFile(f"{path.name}: deflated data grow beyond what its header announces; refused")
    except zlib.error as error:
        raise UnreadableFile(f"{path.name}: deflated data cannot be inflated ({error}); copy it again") from error
    return bytes(data)


_SIZES = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "NumberOfFrames")


def _claimed(path: Path, head: bytes) -> int:
    """Bytes that a deflated data set may need, as its own header says; 64 MiB for all that is not pixels."""
    try:
        walk = Walk(lambda at, n: head[at : at + n], head, 1 << 62, explicit=True, big=False, wanted=Wanted(_SIZES))
        walk.to_pixels(0)
    except (Refused, Odd, struct.error):
        return 64 << 20
    said = Header(path, EXPLICIT, walk.found, walk.vrs, 0, 0, 0)
    rows, columns, samples, bits, frames = (said.number(keyword, 1) for keyword in _SIZES)
    return int(min(rows * columns * samples * bits / 8 * max(1, frames), LIMIT_BYTES)) + (64 << 20)


def inflated(header: Header) -> bytes:
    """The inflated data set of a deflated file: what `pixels_at` counts in.

    Raises: UnreadableFile.
    """
    with header.file.open("rb") as stream:
        read = _reader(stream.fileno())
        begin, _, _ = _meta(header.file, read(0, WINDOW), read)
        return _inflated(header.file, read, begin)


def _inflated_file(path: Path) -> bytes:
    """A deflated file as the explicit little-endian file that it stands for."""
    with path.open("rb") as stream:
        read = _reader(stream.fileno())
        first = read(0, WINDOW)
        begin, _, _ = _meta(path, first, read)
        data = _inflated(path, read, begin)
    uid = EXPLICIT.encode() + b"\0" * (len(EXPLICIT) % 2)
    meta = b"\x02\0\x10\0UI" + LITTLE_SHORT.pack(len(uid)) + uid
    return bytes(128) + b"DICM" + meta + data


@quiet()
def _by_pydicom(path: Path, wanted: Wanted, syntax: str) -> tuple[dict[int, bytes], dict[int, str], tuple[int, int]]:
    """The same by the general reader, for encodings that break the rules."""
    try:
        with path.open("rb") as stream:
            dataset = dcmread(stream, stop_before_pixels=True, specific_tags=sorted(wanted.tags), force=True)
            at = stream.tell()
            head = stream.read(12)
    except Exception as error:
        raise UnreadableFile(f"{path.name}: not a readable DICOM file ({cause_of(error)})") from error
    found: dict[int, bytes] = {}
    vrs: dict[int, str] = {}
    raw: Any = dataset._dict  # noqa: SLF001 - the raw bytes, before pydicom converts them
    for tag in wanted.tags:
        element: Any = raw.get(tag)
        value = getattr(element, "value", None)
        if isinstance(value, bytes):
            if len(value) > LONGEST_VALUE:
                raise UnreadableFile(f"{path.name}: an element claims {len(value)} bytes of text")
            said = str(element.VR or "")
            found[tag] = value
            if said != vr_of(tag) and (said in _BINARY or said in _TEXT):
                vrs[tag] = said
    little = syntax != BIG
    if len(head) < 8 or int.from_bytes(head[:2], "little" if little else "big") != 0x7FE0:
        return found, vrs, (-1, 0)
    long_form = head[4:6] in LONG
    order = "<" if little else ">"
    (length,) = struct.unpack_from(f"{order}I", head, 8 if long_form else 4)
    return found, vrs, (at + (12 if long_form else 8), length)


def syntax_name(syntax: str) -> str:
    """Name of a transfer syntax, or its UID."""
    return UID(syntax).name
