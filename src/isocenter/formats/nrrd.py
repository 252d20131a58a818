"""NRRD (`.nrrd`); a header whose data lie in another file is refused."""

import gzip
import re
import zlib
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import nrrd
import numpy as np

from isocenter.data.case import Defect
from isocenter.data.geometry import Geometry, Space
from isocenter.data.labels import Label, LabelMap
from isocenter.data.message import Message
from isocenter.data.palette import rgb_of
from isocenter.data.provenance import Step
from isocenter.data.volume import Volume
from isocenter.errors import GeometryError, UnreadableFile, UnsupportedFormat, cause_of
from isocenter.formats.header import ImageHeader, within_budget
from isocenter.types import Array, LabelGrid

_TO_LPS = {
    "left-posterior-superior": (1.0, 1.0, 1.0),
    "lps": (1.0, 1.0, 1.0),
    "right-anterior-superior": (-1.0, -1.0, 1.0),
    "ras": (-1.0, -1.0, 1.0),
    "left-anterior-superior": (1.0, -1.0, 1.0),
    "las": (1.0, -1.0, 1.0),
}
_SPATIAL = {"domain", "space", "none", "???"}
_MM_PER_UNIT = {"mm": 1.0, "millimeter": 1.0, "millimeters": 1.0, "um": 0.001, "µm": 0.001, "m": 1000.0, "cm": 10.0}
_UNKNOWN = Message("the file states no orientation: left and right cannot be told")
_LONGEST_HEADER = 1 << 20
_SPACE_KEY = "isocenter_space"
_COLOUR = {"rgb-color", "vector", "3-vector", "list", "3-color"}


def read_header(path: Path) -> ImageHeader:
    """Grid and channels of a NRRD file.

    Raises: UnreadableFile or UnsupportedFormat with what is wrong.
    """
    return _header(path, _raw_header(path))


def read(path: Path) -> Volume:
    """Voxels of a NRRD file."""
    raw = _raw_header(path)
    header = _header(path, raw)
    return Volume(_voxels(path, raw, header), header.geometry, history=(Step("acquire.nrrd", {"file": path.name}),))


def _voxels(path: Path, raw: Any, header: ImageHeader) -> Array:
    """Voxels `c d h w`."""
    shape = [int(n) for n in raw["sizes"]][::-1]
    dtype = _dtype(raw)
    with path.open("rb") as stream:
        nrrd.read_header(stream)
        data = _decoded(path, stream.read(), prod(shape) * dtype.itemsize, raw)
    voxels = np.frombuffer(data, dtype).reshape(shape)
    if voxels.ndim == 4 or (voxels.ndim == 3 and header.channels > 1):
        voxels = np.moveaxis(voxels, -1, 0)
    return voxels.reshape(header.channels, *header.geometry.shape)


def _decoded(path: Path, stored: bytes, expected: int, raw: Any) -> bytes:
    """Exactly `expected` bytes, never more, however far the stream would inflate."""
    if str(raw["encoding"]).lower() == "raw":
        data = stored[:expected]
    else:
        inflate = zlib.decompressobj(wbits=31)
        try:
            data = inflate.decompress(stored, expected)
            over = not inflate.eof and inflate.decompress(inflate.unconsumed_tail, 1)
        except zlib.error as error:
            raise UnreadableFile(f"{path.name}: its voxels cannot be inflated ({error}); copy it again") from error
        if over or (len(data) == expected and not inflate.eof):
            raise UnreadableFile(f"{path.name}: its voxels are more than announced, or cut off; copy it again")
    if len(data) != expected:
        raise UnreadableFile(f"{path.name}: truncated: {len(data)} of {expected} bytes of voxels; copy it again")
    return data


def _dtype(raw: Any) -> np.dtype[Any]:
    """Number type with its byte order."""
    kind: np.dtype[Any] = np.dtype(nrrd.reader._determine_datatype(raw))  # noqa: SLF001
    return kind.newbyteorder(">" if str(raw.get("endian", "little")).lower() == "big" else "<")


def write(image: Volume | LabelMap, path: Path) -> None:
    """Write a grey or colour volume or a label map, gzip-compressed, in LPS."""
    voxels = image.voxels if isinstance(image, Volume) else image.voxels[None]
    colour = len(voxels) == 3
    if len(voxels) not in (1, 3):
        raise UnsupportedFormat(f"NRRD is written with one channel or RGB; this image has {len(voxels)}")
    header: dict[str, Any] = {"kinds": [*["RGB-color"] * colour, *["domain"] * 3], "encoding": "gzip"}
    if image.geometry.space is not Space.PIXELS:
        directions = image.geometry.affine[:3, [2, 1, 0]].T
        header["space"] = "left-posterior-superior"
        header["space directions"] = np.vstack([[np.nan] * 3, directions]) if colour else directions
        header["space origin"] = image.geometry.affine[:3, 3]
        if image.geometry.space is not Space.PATIENT:
            header[_SPACE_KEY] = image.geometry.space.value
    nrrd.write(str(path), np.moveaxis(voxels, 0, -1) if colour else voxels[0], header, index_order="C")


def write_segments(layers: Sequence[LabelMap], path: Path) -> None:
    """Write label maps of one grid as 3D Slicer's `.seg.nrrd`: names, colours, and a layer for each map.

    Raises: GeometryError where the grids differ or a label has no name.
    Source: 3D Slicer developer guide, segmentation file format (Segment*_ID, _Name, _LabelValue, _Layer, _Extent).
    """
    first = layers[0]
    for other in layers[1:]:
        first.geometry.require_same(other.geometry, what="the layers of a segmentation")
    several = len(layers) > 1
    voxels = np.stack([m.voxels for m in layers], axis=-1) if several else first.voxels
    little = voxels.dtype.newbyteorder("<")
    d, h, w = first.geometry.shape
    fields = {
        "type": _NAMES[voxels.dtype.name],
        "dimension": str(3 + several),
        "space": "left-posterior-superior",
        "sizes": " ".join(map(str, ([len(layers)] if several else []) + [w, h, d])),
        "space directions": " ".join(
            (["none"] if several else []) + [_vector(first.geometry.affine[:3, i]) for i in (2, 1, 0)]
        ),
        "kinds": " ".join((["list"] if several else []) + ["domain"] * 3),
        "endian": "little",
        "encoding": "gzip",
        "space origin": _vector(first.geometry.affine[:3, 3]),
    }
    if first.geometry.space is Space.PIXELS:
        for key in ("space", "space directions", "space origin"):
            del fields[key]
    segments: dict[str, str] = {}
    at = 0
    for layer, labels in enumerate(layers):
        for label in labels.labels:
            segments |= _segment(at, label, layer, labels.voxels)
            at += 1
    head = [f"{key}: {value}" for key, value in fields.items()] + [f"{key}:={value}" for key, value in segments.items()]
    with path.open("wb") as stream:
        stream.write(("NRRD0004\n" + "\n".join(head) + "\n\n").encode())  # UTF-8, as 3D Slicer writes it
        with gzip.GzipFile(filename="", mode="wb", fileobj=stream, compresslevel=6, mtime=0) as packed:
            packed.write(np.ascontiguousarray(voxels, little).data)


def _vector(numbers: Array) -> str:
    return f"({','.join(repr(float(n)) for n in numbers)})"


_NAMES = {"uint8": "uint8", "int8": "int8", "uint16": "uint16", "int16": "int16", "uint32": "uint32", "int32": "int32",
          "uint64": "uint64", "int64": "int64"}  # fmt: skip


def _segment(at: int, label: Label, layer: int, voxels: LabelGrid) -> dict[str, str]:
    """The header fields of one segment."""
    inside = [np.flatnonzero((voxels == label.value).any(axis=other)) for other in ((0, 1), (0, 2), (1, 2))]
    extent = " ".join(f"{i[0]} {i[-1]}" if i.size else "0 -1" for i in inside)
    colour = " ".join(f"{c / 255:.4f}" for c in rgb_of(at))
    name = "".join(c for c in label.name if c.isprintable())
    return {
        f"Segment{at}_ID": f"Segment_{at + 1}",
        f"Segment{at}_Name": name,
        f"Segment{at}_Color": colour,
        f"Segment{at}_LabelValue": str(label.value),
        f"Segment{at}_Layer": str(layer),
        f"Segment{at}_Extent": extent,
    }


def read_segments(path: Path) -> tuple[LabelMap, ...]:
    """The label maps of a `.seg.nrrd`, one for each layer, with their names.

    Raises: UnreadableFile where it names no segments.
    """
    raw = _raw_header(path)
    fields = _segment_fields(path)
    count = sum(1 for key in fields if re.fullmatch(r"Segment\d+_ID", key))
    if not count:
        raise UnreadableFile(f"{path.name}: names no segments; it is not a .seg.nrrd")
    layers: dict[int, list[Label]] = {}
    for at in range(count):
        try:
            value, layer = int(fields[f"Segment{at}_LabelValue"]), int(fields.get(f"Segment{at}_Layer", "0"))
        except (KeyError, ValueError) as error:
            raise UnreadableFile(f"{path.name}: segment {at} states no value ({cause_of(error)})") from error
        layers.setdefault(layer, []).append(Label(value, fields.get(f"Segment{at}_Name") or f"segment {at + 1}"))
    header = _header(path, raw)
    voxels = _voxels(path, raw, header)
    step = Step("acquire.nrrd", {"file": path.name})
    if max(layers) >= len(voxels):
        raise UnreadableFile(f"{path.name}: segments lie in layer {max(layers)}, of which there are {len(voxels)}")
    return tuple(LabelMap(voxels[at], header.geometry, tuple(found), (step,)) for at, found in sorted(layers.items()))


def _segment_fields(path: Path) -> dict[str, str]:
    """The key-value pairs of the header as UTF-8: the reader of headers knows ASCII only."""
    with path.open("rb") as stream:
        head = stream.read(_LONGEST_HEADER).split(b"\n\n", 1)[0].decode("utf-8", "replace")
    pairs = (line.partition(":=") for line in head.splitlines())
    return {key.strip(): value.strip() for key, mark, value in pairs if mark}


def _raw_header(path: Path) -> Any:
    try:
        with path.open("rb") as stream:
            return nrrd.read_header(stream)
    except Exception as error:
        raise UnreadableFile(f"{path.name}: not a readable NRRD file ({cause_of(error)})") from error


def _header(path: Path, raw: Any) -> ImageHeader:
    fields = {str(key).lower() for key in raw}
    if fields & {"data file", "datafile"}:
        raise UnsupportedFormat(f"{path.name}: its voxels lie in another file; convert it to one attached .nrrd first")
    if fields & {"line skip", "lineskip", "byte skip", "byteskip"}:
        raise UnsupportedFormat(f"{path.name}: skips part of its data (line skip, byte skip); save it again without")
    try:
        sizes = [int(n) for n in raw["sizes"]]
        dtype = _dtype(raw)
    except Exception as error:
        raise UnreadableFile(f"{path.name}: its sizes or type cannot be read ({cause_of(error)})") from error
    encoding = str(raw.get("encoding", "")).lower()
    claimed = dtype.itemsize * prod(sizes)
    if encoding not in {"raw", "gzip", "gz"}:
        raise UnsupportedFormat(f"{path.name}: the encoding {encoding!r} is not read; raw and gzip are")
    within_budget(claimed, path.stat().st_size, what=path.name, compressed=encoding != "raw")
    kinds = [str(k).lower() for k in raw.get("kinds", [])]
    layered = bool(kinds) and kinds[0] == "list" and len(sizes) == 4 and "Segment0_ID" in raw
    colour = bool(kinds) and len(sizes) in (3, 4) and kinds[0] in _COLOUR and (sizes[0] == 3 or layered)
    odd = [kind for kind in kinds[1 if colour else 0 :] if kind not in _SPATIAL]
    if odd or dtype.kind not in "iuf":
        what = f"axes of kind {', '.join(odd)}" if odd else f"voxels of type {dtype}"
        raise UnsupportedFormat(f"{path.name}: {what} are not read; space axes, real numbers and leading RGB are")
    grid = sizes[1:] if colour else sizes
    if len(grid) not in (2, 3) or min(sizes) < 1:
        raise UnsupportedFormat(f"{path.name}: sizes {sizes} are not one 2-D or 3-D image; split it first")
    try:
        geometry, defects = _geometry(raw, grid)
    except (GeometryError, ValueError, KeyError, IndexError) as error:
        raise UnreadableFile(f"{path.name}: {error}") from error
    return ImageHeader(geometry, sizes[0] if colour else 1, defects)


def _geometry(raw: Any, grid: list[int]) -> tuple[Geometry, tuple[Defect, ...]]:
    """Where the grid lies; what the file leaves open is named.

    Raises: ValueError or GeometryError for directions and units that cannot be understood.
    """
    d, h, w = (1, *grid[::-1]) if len(grid) == 2 else grid[::-1]
    units = {str(unit).strip('" ') for unit in np.atleast_1d(raw.get("space units", raw.get("units", ["mm"])))} - {""}
    if not units <= set(_MM_PER_UNIT) or len(units) > 1:
        raise ValueError(f"lengths in {', '.join(sorted(units))} are not understood; mm, um, cm and m are")
    mm = _MM_PER_UNIT[units.pop()] if units else 1.0
    unknown = (Defect("orientation-unknown", _UNKNOWN, fatal=False),)
    directions, space = raw.get("space directions"), str(raw.get("space", "")).lower()
    if directions is None:
        steps = [float(s) * mm for s in np.atleast_1d(raw.get("spacings", []))]
        if len(steps) < 3 or len(grid) != 3:
            return Geometry.regular((d, h, w), space=Space.PIXELS), ()
        return Geometry.regular((d, h, w), spacing_mm=(steps[-1], steps[-2], steps[-3])), unknown
    columns = np.asarray(directions, dtype=np.float64)
    columns = columns[~np.isnan(columns).any(axis=1)] * mm
    if columns.shape != (3, 3):
        raise ValueError(f"space directions {columns.tolist()} do not span three dimensions")
    sign = np.asarray(_TO_LPS.get(space, (1.0, 1.0, 1.0)))
    affine = np.eye(4)
    affine[:3, :3] = (columns * sign).T[:, ::-1]
    affine[:3, 3] = np.asarray(raw.get("space origin", (0, 0, 0)), dtype=np.float64) * sign * mm
    meant = {known.value: known for known in Space}.get(str(raw.get(_SPACE_KEY, "")), Space.PATIENT)
    if meant is not Space.PATIENT:
        text = Message(
            "written from an image in {space} space: its millimetres are not the patient's", {"space": meant.value}
        )
        return Geometry((d, h, w), affine, meant), (Defect("projection", text, fatal=False),)
    return Geometry((d, h, w), affine), () if space in _TO_LPS else unknown
