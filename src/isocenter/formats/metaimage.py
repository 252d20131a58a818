"""MetaImage: `.mha`, and `.mhd` with its voxels in one file beside it. World coordinates are LPS, as ITK has them."""

import zlib
from math import prod
from pathlib import Path

import numpy as np

from isocenter.data.geometry import Geometry, Space
from isocenter.data.provenance import Step
from isocenter.data.volume import Volume
from isocenter.errors import GeometryError, UnreadableFile, UnsupportedFormat
from isocenter.formats.header import ImageHeader, within_budget
from isocenter.types import Array, Float64

_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}  # fmt: skip
_LONGEST_HEADER = 1 << 16
_OURS = ("ObjectType", "NDims", "DimSize", "ElementType", "ElementDataFile")

Fields = dict[str, str]


def read_header(path: Path) -> ImageHeader:
    """Grid and channels of a MetaImage.

    Raises: UnreadableFile or UnsupportedFormat with what is wrong.
    """
    return _header(path)[0]


def read(path: Path) -> Volume:
    """Voxels of a MetaImage."""
    header, fields, begin, data = _header(path)
    dtype = np.dtype(_TYPES[fields["ElementType"].upper()]).newbyteorder(">" if _is_big(fields) else "<")
    d, h, w = header.geometry.shape
    expected = d * h * w * header.channels * dtype.itemsize
    with data.open("rb") as stream:
        stream.seek(begin)
        stored = stream.read() if _is_compressed(fields) else stream.read(expected)
    raw = _inflated(path, stored, expected) if _is_compressed(fields) else stored
    if len(raw) != expected:
        raise UnreadableFile(f"{path.name}: truncated: {len(raw)} of {expected} bytes of voxels; copy it again")
    voxels = np.frombuffer(raw, dtype).reshape(d, h, w, header.channels)
    return Volume(
        np.moveaxis(voxels, -1, 0), header.geometry, history=(Step("acquire.metaimage", {"file": path.name}),)
    )


def _inflated(path: Path, stored: bytes, expected: int) -> bytes:
    """Exactly `expected` bytes, however far the stream would inflate."""
    inflate = zlib.decompressobj()
    try:
        raw = inflate.decompress(stored, expected)
        over = not inflate.eof and inflate.decompress(inflate.unconsumed_tail, 1)
    except zlib.error as error:
        raise UnreadableFile(f"{path.name}: its voxels cannot be inflated ({error}); copy it again") from error
    if over or not inflate.eof:
        raise UnreadableFile(f"{path.name}: its voxels are more than announced, or cut off; copy it again")
    return raw


def _header(path: Path) -> tuple[ImageHeader, Fields, int, Path]:
    """Grid, fields, where the voxels begin and in which file."""
    fields, end = _fields(path)
    missing = [key for key in _OURS[1:] if key not in fields]
    if missing:
        raise UnreadableFile(f"{path.name}: not a readable MetaImage ({missing[0]} is missing)")
    if fields["ElementType"].upper() not in _TYPES:
        raise UnsupportedFormat(f"{path.name}: voxels of type {fields['ElementType'][:40]} are not read")
    if fields.get("BinaryData", "True").lower() not in ("true", "1"):
        raise UnsupportedFormat(f"{path.name}: its voxels are text (BinaryData = False); save it as binary")
    if fields.get("DistanceUnits", "mm").lower() not in ("mm", "?"):
        raise UnsupportedFormat(f"{path.name}: lengths in {fields['DistanceUnits'][:20]} are not understood; mm are")
    sizes = [int(n) for n in _numbers(path, fields, "DimSize")]
    count = int(_numbers(path, fields, "NDims")[0])
    channels = int(_numbers(path, fields, "ElementNumberOfChannels", (1,))[0])
    if count not in (2, 3) or len(sizes) != count or min(sizes) < 1 or channels not in (1, 3):
        raise UnsupportedFormat(
            f"{path.name}: sizes {sizes} with {channels} channels are not one 2-D or 3-D grey or colour image"
        )
    data, begin = _data_file(path, fields, end)
    itemsize = np.dtype(_TYPES[fields["ElementType"].upper()]).itemsize
    claimed = prod(sizes) * channels * itemsize
    within_budget(claimed, data.stat().st_size - begin, what=path.name, compressed=_is_compressed(fields))
    try:
        geometry = _geometry(path, fields, sizes)
    except GeometryError as error:
        raise UnreadableFile(f"{path.name}: {error}") from error
    return ImageHeader(geometry, channels), fields, begin, data


def _fields(path: Path) -> tuple[Fields, int]:
    """Keys and values up to ElementDataFile, and where the next line begins."""
    with path.open("rb") as stream:
        head = stream.read(_LONGEST_HEADER)
    fields: Fields = {}
    at = 0
    while at < len(head):
        end = head.find(b"\n", at)
        line = head[at : end if end >= 0 else len(head)].decode("latin-1")
        key, equals, value = line.partition("=")
        if not equals:
            raise UnreadableFile(f"{path.name}: not a readable MetaImage (a line without '=')")
        fields[key.strip()] = value.strip()
        at = end + 1 if end >= 0 else len(head)
        if key.strip() == "ElementDataFile":
            return fields, at
    raise UnreadableFile(f"{path.name}: not a readable MetaImage (ElementDataFile is missing)")


def _data_file(path: Path, fields: Fields, end: int) -> tuple[Path, int]:
    """The file of the voxels and where they begin; one outside the header's folder is refused."""
    name = fields["ElementDataFile"]
    skip = int(_numbers(path, fields, "HeaderSize", (0,))[0])
    if name.upper() == "LOCAL":
        return path, end
    if name.upper().startswith("LIST") or "%" in name:
        raise UnsupportedFormat(f"{path.name}: its voxels lie in several files; convert it to one .mha first")
    beside = path.parent / name
    if Path(name).name != name or beside.is_symlink() or not beside.is_file():
        raise UnreadableFile(f"{path.name}: its voxels are said to lie in {name[:80]!r}, which is no file beside it")
    if skip == -1:
        raise UnsupportedFormat(f"{path.name}: a header of unknown length in {name[:80]!r}; convert it to .mha first")
    return beside, max(0, skip)


def _geometry(path: Path, fields: Fields, sizes: list[int]) -> Geometry:
    """Where the grid lies; a flat image has one slice of 1 mm."""
    n = len(sizes)
    if not any(key in fields for key in ("ElementSpacing", "ElementSize")):
        return Geometry.regular((1, *sizes)[-3:] if n == 2 else sizes[::-1], space=Space.PIXELS)
    steps = _numbers(path, fields, "ElementSpacing", _numbers(path, fields, "ElementSize", (1.0,) * n))
    origin = next((_numbers(path, fields, k) for k in ("Offset", "Position", "Origin") if k in fields), (0.0,) * n)
    turn = next((_numbers(path, fields, k) for k in ("TransformMatrix", "Rotation", "Orientation") if k in fields),
                tuple(np.eye(n).ravel()))  # fmt: skip
    if len(steps) != n or len(origin) != n or len(turn) != n * n or min(steps) <= 0:
        raise GeometryError("spacing, offset and matrix do not fit its dimensions, or are not positive")
    columns: Float64[Array, "3 3"] = np.eye(3)
    columns[:n, :n] = np.asarray(turn).reshape(n, n).T
    affine = np.eye(4)
    affine[:3, :3] = (columns * np.asarray([*steps, 1.0][:3]))[:, ::-1]
    affine[:n, 3] = origin
    w, h, d = (*sizes, 1)[:3]
    return Geometry((d, h, w), affine)


def _numbers(path: Path, fields: Fields, key: str, default: tuple[float, ...] = ()) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in fields[key].split()) if key in fields else default
    except ValueError as error:
        raise UnreadableFile(f"{path.name}: {key} is {fields[key][:60]!r}, not numbers") from error
    if not found or not np.all(np.isfinite(found)) or max(map(abs, found)) > 1e15:
        raise UnreadableFile(f"{path.name}: {key} is absent or not finite")
    return found


def _is_big(fields: Fields) -> bool:
    said = fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False"))
    return said.lower() in ("true", "1")


def _is_compressed(fields: Fields) -> bool:
    return fields.get("CompressedData", "False").lower() in ("true", "1")
