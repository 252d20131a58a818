"""NRRD (`.nrrd`); a header whose data lie in another file is refused."""

from pathlib import Path
from typing import Any

import nrrd
import numpy as np

from isocenter.data.case import Defect
from isocenter.data.geometry import Geometry, Space
from isocenter.data.labels import LabelMap
from isocenter.data.message import Message
from isocenter.data.provenance import Step
from isocenter.data.volume import Volume
from isocenter.errors import GeometryError, UnreadableFile, UnsupportedFormat
from isocenter.formats.header import ImageHeader, cause_of, within_budget

_TO_LPS = {
    "left-posterior-superior": (1.0, 1.0, 1.0),
    "lps": (1.0, 1.0, 1.0),
    "right-anterior-superior": (-1.0, -1.0, 1.0),
    "ras": (-1.0, -1.0, 1.0),
    "left-anterior-superior": (1.0, -1.0, 1.0),
    "las": (1.0, -1.0, 1.0),
}
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
    try:
        with path.open("rb") as stream:
            nrrd.read_header(stream)
            voxels = nrrd.read_data(raw, stream, str(path), index_order="C")
    except Exception as error:
        raise UnreadableFile(f"{path.name}: its voxels cannot be read ({cause_of(error)}); copy it again") from error
    if voxels.ndim == 4 or (voxels.ndim == 3 and header.channels > 1):
        voxels = np.moveaxis(voxels, -1, 0)
    voxels = voxels.reshape(header.channels, *header.geometry.shape)
    return Volume(voxels, header.geometry, history=(Step("acquire.nrrd", {"file": path.name}),))


def write(image: Volume | LabelMap, path: Path) -> None:
    """Write a one-channel volume or a label map, gzip-compressed, in LPS."""
    if isinstance(image, Volume) and image.channels != 1:
        raise UnsupportedFormat(f"NRRD is written with one channel; this image has {image.channels}: write PNG")
    voxels = image.grid if isinstance(image, Volume) else image.voxels
    header: dict[str, Any] = {"kinds": ["domain"] * 3, "encoding": "gzip"}
    if image.geometry.space is not Space.PIXELS:
        header["space"] = "left-posterior-superior"
        header["space directions"] = image.geometry.affine[:3, [2, 1, 0]].T
        header["space origin"] = image.geometry.affine[:3, 3]
    nrrd.write(str(path), voxels, header, index_order="C")


def _raw_header(path: Path) -> Any:
    try:
        with path.open("rb") as stream:
            return nrrd.read_header(stream)
    except Exception as error:
        raise UnreadableFile(f"{path.name}: not a readable NRRD file ({cause_of(error)})") from error


def _header(path: Path, raw: Any) -> ImageHeader:
    if any(key in raw for key in ("data file", "datafile")):
        raise UnsupportedFormat(f"{path.name}: its voxels lie in another file; convert it to one attached .nrrd first")
    try:
        sizes = [int(n) for n in raw["sizes"]]
        itemsize = np.dtype(nrrd.reader._determine_datatype(raw)).itemsize  # noqa: SLF001
    except Exception as error:
        raise UnreadableFile(f"{path.name}: its sizes or type cannot be read ({cause_of(error)})") from error
    encoding = str(raw.get("encoding", "")).lower()
    claimed = itemsize * int(np.prod(np.asarray(sizes, dtype=object)))
    if encoding not in {"raw", "gzip", "gz"}:
        raise UnsupportedFormat(f"{path.name}: the encoding {encoding!r} is not read; raw and gzip are")
    within_budget(claimed, path.stat().st_size, what=path.name, compressed=encoding != "raw")
    kinds = [str(k).lower() for k in raw.get("kinds", [])]
    colour = bool(kinds) and len(sizes) in (3, 4) and kinds[0] in _COLOUR
    grid = sizes[1:] if colour else sizes
    if len(grid) not in (2, 3) or min(sizes) < 1:
        raise UnsupportedFormat(f"{path.name}: sizes {sizes} are not one 2-D or 3-D image; split it first")
    try:
        geometry, defects = _geometry(raw, grid)
    except (GeometryError, ValueError, KeyError) as error:
        raise UnreadableFile(f"{path.name}: {error}") from error
    return ImageHeader(geometry, sizes[0] if colour else 1, defects)


def _geometry(raw: Any, grid: list[int]) -> tuple[Geometry, tuple[Defect, ...]]:
    shape = (1, *grid[::-1]) if len(grid) == 2 else tuple(grid[::-1])
    space = str(raw.get("space", "")).lower()
    directions = raw.get("space directions")
    if directions is None or (space not in _TO_LPS and "space" in raw):
        if "spacings" in raw and len(grid) == 3:
            steps = [float(s) for s in raw["spacings"]][-3:]
            note = Defect(
                "orientation-unknown",
                Message("the file states no orientation: left and right cannot be told"),
                fatal=False,
            )
            return Geometry.regular(shape, spacing_mm=(steps[2], steps[1], steps[0])), (note,)
        return Geometry.regular(shape, space=Space.PIXELS), ()
    columns = np.asarray(directions, dtype=np.float64)
    columns = columns[~np.isnan(columns).any(axis=1)]
    if columns.shape != (3, 3):
        raise ValueError(f"space directions {columns.tolist()} do not span three dimensions")
    sign = np.asarray(_TO_LPS.get(space, (1.0, 1.0, 1.0)))
    affine = np.eye(4)
    affine[:3, :3] = (columns * sign).T[:, ::-1]
    affine[:3, 3] = np.asarray(raw.get("space origin", (0, 0, 0)), dtype=np.float64) * sign
    return Geometry(shape, affine), ()  # type: ignore[arg-type]  # Geometry checks
