"""A DICOM file before its pixels, read fast: the elements that are wanted, everything else stepped over.

A general reader builds every element; a series of hundreds of slices then spends its time there. This one walks the
encoding (PS3.5 chapter 7), keeps the raw bytes of what is asked for, and never holds what it does not need. What it
does not understand is handed to pydicom.
"""

import os
import stat
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.charset import convert_encodings, decode_bytes
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pydicom.valuerep import PN_DELIMS, TEXT_VR_DELIMS

from isocenter.errors import UnreadableFile, cause_of
from isocenter.formats.header import LIMIT_BYTES
from isocenter.formats.quiet import quiet

IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED, DEFLATED_FRAMES = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.8.1"
_GB2312_ESCAPE = "\x1b$)A"
"""Escape sequence of ISO 2022 IR 58, which pydicom 3.0 leaves in the text."""
UNDEFINED = 0xFFFFFFFF
MOST_ELEMENTS = 2_000_000
"""A header with more elements than this, nested ones included, is refused."""
DEEPEST = 32
"""Sequences nested deeper than this are refused."""
LONGEST_VALUE = 4 << 20
"""A wanted element that claims more bytes than this is refused."""

_WINDOW = 16384
_LONG = frozenset((b"OB", b"OW", b"SQ", b"UN", b"UT", b"OF", b"UC", b"OD", b"OL", b"OV", b"UR", b"SV", b"UV"))
_SHORT = frozenset(
    (b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS",
     b"ST", b"TM", b"UI", b"UL", b"US")
)  # fmt: skip
_BINARY = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "UV": "Q", "SV": "q"}
_TEXT = frozenset(("SH", "LO", "ST", "LT", "UC", "UT", "PN"))
_PIXELS = frozenset((0x7FE00010, 0x7FE00008, 0x7FE00009))
_LITTLE_INT, _LITTLE_SHORT = struct.Struct("<I"), struct.Struct("<H")
_BIG_INT, _BIG_SHORT = struct.Struct(">I"), struct.Struct(">H")

Read = Callable[[int, int], bytes]
"""Bytes of a file (or of what it inflates to) from an offset, at most so many."""


class _Odd(Exception):
    """An encoding that this reader leaves to pydicom."""


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
    def big_endian(self) -> bool:
        """Numbers are stored most significant byte first."""
        return self.syntax == BIG

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


_IS_SEQUENCE = b"SQ"
"""Stands for a sequence: that it is there; what it holds is in `Header.dataset`."""


def _shown(value: bytes) -> str:
    text = value[:60].decode("ascii", "replace").strip(" \0")
    return repr(text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text))


@cache
def tag_of(keyword: str) -> int:
    """Tag of a keyword of the standard; private elements are named `0019,100C`."""
    if "," in keyword:
        return int(keyword.replace(",", ""), 16)
    tag = tag_for_keyword(keyword)
    assert tag is not None, f"{keyword} is no keyword of the standard"
    return int(tag)


@cache
def vr_of(tag: int) -> str:
    """Value representation of a tag by the dictionary; text of unknown kind for what it does not hold."""
    try:
        return dictionary_VR(tag).split(" ")[0]
    except KeyError:
        return "UN"


class Wanted:
    """The elements to keep, keyed as they stand in a file."""

    def __init__(self, keywords: tuple[str, ...]) -> None:
        self.tags = frozenset(tag_of(keyword) for keyword in keywords)
        both = self.tags | _PIXELS
        known = {tag: (tag, vr_of(tag).encode()) for tag in both}
        self.little = {_LITTLE_SHORT.pack(t >> 16) + _LITTLE_SHORT.pack(t & 0xFFFF): k for t, k in known.items()}
        self.big = {_BIG_INT.pack(t): k for t, k in known.items()}


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
        first = read(0, _WINDOW)
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
        walk = _Walk(read, first, size, explicit=syntax != IMPLICIT, big=syntax == BIG, wanted=wanted)
        pixels_at, length = walk.to_pixels(begin)
        elements, vrs = walk.found, walk.vrs
    except (_Odd, struct.error):
        elements, vrs, (pixels_at, length) = _by_pydicom(path, wanted, syntax)
    except _Refused as error:
        raise UnreadableFile(f"{path.name}: {error}; copy the file again, or leave it out") from None
    cut_off = length == UNDEFINED and pixels_at > 0 and not _whole(read, pixels_at, size)
    return Header(path, syntax, elements, vrs, pixels_at, length, size, cut_off)


class _Refused(Exception):
    """Cut off, nested too deep, or filled beyond reason."""


class _Walk:
    """One pass over the elements of a data set."""

    def __init__(self, read: Read, window: bytes, size: int, *, explicit: bool, big: bool, wanted: Wanted) -> None:
        self.read, self.window, self.base, self.size = read, window, 0, size
        self.explicit, self.big = explicit, big
        self.keys = wanted.big if big else wanted.little
        self.found: dict[int, bytes] = {}
        self.vrs: dict[int, str] = {}
        self.count = 0

    def to_pixels(self, at: int) -> tuple[int, int]:  # noqa: C901, PLR0912
        """Walk to the pixel data; its offset and stated length, or (-1, 0) where the data set ends without.

        One loop without calls: it runs for every element of every slice.
        """
        order = ">" if self.big else "<"
        head = struct.Struct(f"{order}4s2sH" if self.explicit else f"{order}4sI").unpack_from
        explicit, keys = self.explicit, self.keys
        window, base, end = self.window, self.base, self.base + len(self.window)
        count, length, vr, value = 0, 0, b"", 0
        while True:
            if at + 12 > end or at < base:
                window, base = self._refilled(at, count)
                end, count = base + len(window), 0
                if at + 8 > self.size:
                    return -1, 0
            count += 1
            if explicit:
                key, vr, length = head(window, at - base)
                if vr in _SHORT:
                    value = at + 8
                elif vr in _LONG:
                    length, value = self._integer(window, at - base + 8), at + 12
                else:
                    raise _Odd
            else:
                key, length = head(window, at - base)
                value = at + 8
            wanted = keys.get(key)
            if wanted is not None and wanted[0] in _PIXELS:
                self.found[wanted[0]] = b""
                return value, length
            if length == UNDEFINED:
                if wanted is not None:
                    self.found[wanted[0]] = _IS_SEQUENCE
                at = self._skip_items(value, explicit and vr != b"UN", 1)
                window, base = self.window, self.base
                end = base + len(window)
                continue
            at = value + length
            if wanted is None:
                continue
            if at <= end and vr == wanted[1] and vr in _SHORT:
                self.found[wanted[0]] = window[value - base : at - base]
            else:
                self._keep(wanted[0], vr, window[value - base : at - base] if at <= end else None, (value, length))

    def _refilled(self, at: int, count: int) -> tuple[bytes, int]:
        """The window from `at` on; what runs beyond the file's end, or has no end, is refused."""
        self.count += count
        if at > self.size or self.count > MOST_ELEMENTS:
            raise _Refused("cut off in its header" if at > self.size else f"holds over {MOST_ELEMENTS} elements")
        self.window, self.base = self.read(at, _WINDOW), at
        if len(self.window) < 12 and any(self.window):
            if len(self.window) < 8:
                raise _Refused("cut off in its header")
            self.window += bytes(12 - len(self.window))  # the last element may be empty
        elif len(self.window) < 12:
            self.size = min(self.size, at)  # padding after the last element
        return self.window, at

    def _keep(self, tag: int, vr: bytes, raw: bytes | None, place: tuple[int, int]) -> None:
        """Keep a wanted element: its bytes, or of a sequence only that it is there."""
        said = vr.decode("latin-1") if vr and vr != b"UN" else vr_of(tag)
        if said != vr_of(tag):
            self.vrs[tag] = said
        if said == "SQ":
            self.found[tag] = _IS_SEQUENCE if place[1] else b""
        elif place[1] > LONGEST_VALUE:
            raise _Refused(f"an element claims {place[1]} bytes of text")
        else:
            self.found[tag] = self.read(*place) if raw is None else raw

    def _integer(self, window: bytes, at: int) -> int:
        return int((_BIG_INT if self.big else _LITTLE_INT).unpack_from(window, at)[0])

    def _tag(self, key: bytes) -> int:
        group, element = struct.unpack(">HH" if self.big else "<HH", key)
        return int(group << 16 | element)

    def _skip_items(self, at: int, explicit: bool, depth: int) -> int:
        """End of a sequence of undefined length that begins at `at`."""
        if depth > DEEPEST:
            raise _Refused(f"sequences are nested deeper than {DEEPEST}")
        while True:
            tag, length = self._item(at)
            at += 8
            if tag == 0xFFFEE0DD:
                return at
            if tag != 0xFFFEE000:
                raise _Odd
            at = self._skip_elements(at, explicit, depth) if length == UNDEFINED else at + length
            self.count += 1
            if at > self.size or self.count > MOST_ELEMENTS:
                raise _Refused("cut off inside a sequence" if at > self.size else "holds too many items")

    def _skip_elements(self, at: int, explicit: bool, depth: int) -> int:
        """End of an item of undefined length."""
        integer = _BIG_INT if self.big else _LITTLE_INT
        short = _BIG_SHORT if self.big else _LITTLE_SHORT
        while True:
            head = self._bytes(at, 12)
            tag = self._tag(head[:4])
            if tag == 0xFFFEE00D:
                return at + 8
            vr = head[4:6] if explicit else b""
            if not explicit:
                length, at = integer.unpack_from(head, 4)[0], at + 8
            elif vr in _SHORT:
                length, at = short.unpack_from(head, 6)[0], at + 8
            elif vr in _LONG:
                length, at = integer.unpack_from(head, 8)[0], at + 12
            else:
                raise _Odd
            at = self._skip_items(at, explicit and vr != b"UN", depth + 1) if length == UNDEFINED else at + length
            self.count += 1
            if at > self.size or self.count > MOST_ELEMENTS:
                raise _Refused("cut off inside a sequence" if at > self.size else "holds too many elements")

    def _item(self, at: int) -> tuple[int, int]:
        head = self._bytes(at, 8)
        return self._tag(head[:4]), (_BIG_INT if self.big else _LITTLE_INT).unpack_from(head, 4)[0]

    def _bytes(self, at: int, count: int) -> bytes:
        here = at - self.base
        if here < 0 or here + count > len(self.window):
            self.window, self.base, here = self.read(at, _WINDOW), at, 0
            if len(self.window) < 8:
                raise _Refused("cut off inside a sequence")
        return self.window[here : here + count]


def _whole(read: Read, at: int, size: int) -> bool:
    """Whether every fragment of encapsulated pixels (PS3.5 A.4) lies within the file."""
    for _ in range(MOST_ELEMENTS):
        head = read(at, 8)
        if len(head) < 8:
            return at == size  # some writers leave the delimiter out
        if head[:4] != b"\xfe\xff\x00\xe0":
            return True  # the delimiter, or nothing that can be judged here
        at += 8 + _LITTLE_INT.unpack_from(head, 4)[0]
        if at > size:
            return False
    return False


def _meta(path: Path, first: bytes, read: Read) -> tuple[int, str, str]:
    """Where the data set begins, its transfer syntax and the media storage class; guessed without a meta group."""
    at = 132 if first[128:132] == b"DICM" else 0
    syntax = kind = ""
    while first[at : at + 2] == b"\x02\0" and at + 12 <= len(first):
        vr = first[at + 4 : at + 6]
        if vr in _LONG:
            length, value = _LITTLE_INT.unpack_from(first, at + 8)[0], at + 12
        elif vr in _SHORT:
            length, value = _LITTLE_SHORT.unpack_from(first, at + 6)[0], at + 8
        else:  # an implicit meta group, against the standard
            length, value = _LITTLE_INT.unpack_from(first, at + 4)[0], at + 8
        element = _LITTLE_SHORT.unpack_from(first, at + 2)[0]
        if element == 0x0010:
            syntax = first[value : value + length].decode("latin-1").strip("\0 ")
        elif element == 0x0002:
            kind = first[value : value + length].decode("latin-1").strip("\0 ")
        at = value + length
    if not syntax:
        head = first[at : at + 8] or read(at, 8)
        little = EXPLICIT if head[4:6] in _SHORT | _LONG else IMPLICIT
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
        walk = _Walk(lambda at, n: head[at : at + n], head, 1 << 62, explicit=True, big=False, wanted=Wanted(_SIZES))
        walk.to_pixels(0)
    except (_Refused, _Odd, struct.error):
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
        begin, _, _ = _meta(header.file, read(0, _WINDOW), read)
        return _inflated(header.file, read, begin)


def _inflated_file(path: Path) -> bytes:
    """A deflated file as the explicit little-endian file that it stands for."""
    with path.open("rb") as stream:
        read = _reader(stream.fileno())
        first = read(0, _WINDOW)
        begin, _, _ = _meta(path, first, read)
        data = _inflated(path, read, begin)
    uid = EXPLICIT.encode() + b"\0" * (len(EXPLICIT) % 2)
    meta = b"\x02\0\x10\0UI" + _LITTLE_SHORT.pack(len(uid)) + uid
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
    long_form = head[4:6] in _LONG
    order = "<" if little else ">"
    (length,) = struct.unpack_from(f"{order}I", head, 8 if long_form else 4)
    return found, vrs, (at + (12 if long_form else 8), length)


def syntax_name(syntax: str) -> str:
    """Name of a transfer syntax, or its UID."""
    return UID(syntax).name
