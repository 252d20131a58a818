"""The encoding of a DICOM data set, walked from element to element: what is wanted is kept, the rest stepped over.

Source: PS3.5 chapter 7 (elements, sequences, items), A.1 to A.3 (byte order, explicit and implicit).
"""

import struct
from collections.abc import Callable
from functools import cache

from pydicom.datadict import dictionary_VR, tag_for_keyword

IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
UNDEFINED = 0xFFFFFFFF
MOST_ELEMENTS = 2_000_000
"""A header with more elements than this, nested ones included, is refused."""
DEEPEST = 32
"""Sequences nested deeper than this are refused."""
LONGEST_VALUE = 4 << 20
"""A wanted element that claims more bytes than this is refused."""

WINDOW = 16384
LONG = frozenset((b"OB", b"OW", b"SQ", b"UN", b"UT", b"OF", b"UC", b"OD", b"OL", b"OV", b"UR", b"SV", b"UV"))
SHORT = frozenset(
    (b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS",
     b"ST", b"TM", b"UI", b"UL", b"US")
)  # fmt: skip
_PIXELS = frozenset((0x7FE00010, 0x7FE00008, 0x7FE00009))
LITTLE_INT, LITTLE_SHORT = struct.Struct("<I"), struct.Struct("<H")
BIG_INT, BIG_SHORT = struct.Struct(">I"), struct.Struct(">H")

Read = Callable[[int, int], bytes]
"""Bytes of a file (or of what it inflates to) from an offset, at most so many."""


class Odd(Exception):
    """An encoding that this reader leaves to pydicom."""


IS_SEQUENCE = b"SQ"
"""Stands for a sequence: that it is there; what it holds is in `Header.dataset`."""


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
        self.little = {LITTLE_SHORT.pack(t >> 16) + LITTLE_SHORT.pack(t & 0xFFFF): k for t, k in known.items()}
        self.big = {BIG_INT.pack(t): k for t, k in known.items()}


class Refused(Exception):
    """Cut off, nested too deep, or filled beyond reason."""


class Walk:
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
                if vr in SHORT:
                    value = at + 8
                elif vr in LONG:
                    length, value = self._integer(window, at - base + 8), at + 12
                else:
                    raise Odd
            else:
                key, length = head(window, at - base)
                value = at + 8
            wanted = keys.get(key)
            if wanted is not None and wanted[0] in _PIXELS:
                self.found[wanted[0]] = b""
                return value, length
            if length == UNDEFINED:
                if wanted is not None:
                    self.found[wanted[0]] = IS_SEQUENCE
                at = self._skip_items(value, explicit and vr != b"UN", 1)
                window, base = self.window, self.base
                end = base + len(window)
                continue
            at = value + length
            if wanted is None:
                continue
            if at <= end and vr == wanted[1] and vr in SHORT:
                self.found[wanted[0]] = window[value - base : at - base]
            else:
                self._keep(wanted[0], vr, window[value - base : at - base] if at <= end else None, (value, length))

    def _refilled(self, at: int, count: int) -> tuple[bytes, int]:
        """The window from `at` on; what runs beyond the file's end, or has no end, is refused."""
        self.count += count
        if at > self.size or self.count > MOST_ELEMENTS:
            raise Refused("cut off in its header" if at > self.size else f"holds over {MOST_ELEMENTS} elements")
        self.window, self.base = self.read(at, WINDOW), at
        if len(self.window) < 12 and any(self.window):
            if len(self.window) < 8:
                raise Refused("cut off in its header")
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
            self.found[tag] = IS_SEQUENCE if place[1] else b""
        elif place[1] > LONGEST_VALUE:
            raise Refused(f"an element claims {place[1]} bytes of text")
        else:
            self.found[tag] = self.read(*place) if raw is None else raw

    def _integer(self, window: bytes, at: int) -> int:
        return int((BIG_INT if self.big else LITTLE_INT).unpack_from(window, at)[0])

    def _tag(self, key: bytes) -> int:
        group, element = struct.unpack(">HH" if self.big else "<HH", key)
        return int(group << 16 | element)

    def _skip_items(self, at: int, explicit: bool, depth: int) -> int:
        """End of a sequence of undefined length that begins at `at`."""
        if depth > DEEPEST:
            raise Refused(f"sequences are nested deeper than {DEEPEST}")
        while True:
            tag, length = self._item(at)
            at += 8
            if tag == 0xFFFEE0DD:
                return at
            if tag != 0xFFFEE000:
                raise Odd
            at = self._skip_elements(at, explicit, depth) if length == UNDEFINED else at + length
            self.count += 1
            if at > self.size or self.count > MOST_ELEMENTS:
                raise Refused("cut off inside a sequence" if at > self.size else "holds too many items")

    def _skip_elements(self, at: int, explicit: bool, depth: int) -> int:
        """End of an item of undefined length."""
        integer = BIG_INT if self.big else LITTLE_INT
        short = BIG_SHORT if self.big else LITTLE_SHORT
        while True:
            head = self._bytes(at, 12)
            tag = self._tag(head[:4])
            if tag == 0xFFFEE00D:
                return at + 8
            vr = head[4:6] if explicit else b""
            if not explicit:
                length, at = integer.unpack_from(head, 4)[0], at + 8
            elif vr in SHORT:
                length, at = short.unpack_from(head, 6)[0], at + 8
            elif vr in LONG:
                length, at = integer.unpack_from(head, 8)[0], at + 12
            else:
                raise Odd
            at = self._skip_items(at, explicit and vr != b"UN", depth + 1) if length == UNDEFINED else at + length
            self.count += 1
            if at > self.size or self.count > MOST_ELEMENTS:
                raise Refused("cut off inside a sequence" if at > self.size else "holds too many elements")

    def _item(self, at: int) -> tuple[int, int]:
        head = self._bytes(at, 8)
        return self._tag(head[:4]), (BIG_INT if self.big else LITTLE_INT).unpack_from(head, 4)[0]

    def _bytes(self, at: int, count: int) -> bytes:
        here = at - self.base
        if here < 0 or here + count > len(self.window):
            self.window, self.base, here = self.read(at, WINDOW), at, 0
            if len(self.window) < 8:
                raise Refused("cut off inside a sequence")
        return self.window[here : here + count]
