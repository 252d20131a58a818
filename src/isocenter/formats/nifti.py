"""NIfTI-1 and NIfTI-2. The one place where RAS occurs.

Which affine counts: the sform where its code is set, else the qform; where both are set and disagree the sform is
taken and the defect named. With neither code set the voxel sizes are taken and the orientation is unknown.
"""

import gzip
import zlib
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.spatialimages import HeaderDataError

from isocenter.data.case import Defect
from isocenter.data.cine import Cine
from isocenter.data.geometry import Geometry, Space
from isocenter.data.labels import LabelMap
from isocenter.data.message import Message
from isocenter.data.provenance import Step
from isocenter.data.volume import Volume
from isocenter.errors import GeometryError, UnreadableFile, UnsupportedFormat, cause_of
from isocenter.formats.header import MADE, ImageHeader, made_image, within_budget
from isocenter.types import Affine, Array, Float64

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # unknown, metre, millimetre, micron
_SECONDS_PER_UNIT = {8: 1.0, 16: 1e-3, 24: 1e-6}
_SPACE_MARK = "isocenter space: "
_RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])


def read_header(path: Path) -> ImageHeader:
    """Grid and channels of a NIfTI file.

    Raises: UnreadableFile where the header is broken or claims more than the file holds; UnsupportedFormat for
        more than four axes.
    """
    image = _load(path)
    header = image.header
    shape = _three(path, image.shape)
    times = _times(image.shape)
    if not isinstance(header, nibabel.Nifti1Header):
        raise UnsupportedFormat(f"{path.name}: a {type(image).__name__} is not read; NIfTI-1 and NIfTI-2 images are")
    dtype = header.get_data_dtype()
    begin = int(image.dataobj.offset)
    if begin < 352 or (begin > path.stat().st_size and not path.name.lower().endswith(".gz")):
        raise UnreadableFile(f"{path.name}: its voxels would begin at byte {begin}; the header is broken")
    steps = _stated_steps(path)[: len(image.shape)]
    if not np.all(np.isfinite(steps)) or np.any(steps == 0):
        raise UnreadableFile(f"{path.name}: voxel sizes {steps.tolist()} cannot be; the header is broken")
    within_budget(
        prod(shape) * times * dtype.itemsize,
        path.stat().st_size,
        what=path.name,
        compressed=path.name.lower().endswith(".gz"),
    )
    if dtype != _RGB and dtype.kind not in "iuf":
        raise UnsupportedFormat(f"{path.name}: voxels of type {dtype} are not read; real numbers and RGB are")
    affine, stated, defects = _affine(path, header)
    space = _space(header)
    if space is not Space.PATIENT:
        text = "written from an image in {space} space: its millimetres are not the patient's"
        defects += (Defect("projection", Message(text, {"space": space.value}), fatal=False),)
    made = bytes(header["intent_name"]).split(b"\0")[0].decode("ascii", "replace").strip().lower()
    if made in MADE:
        defects += (made_image(made),)
    lps = _RAS_TO_LPS @ affine
    lps[:3, :3] = lps[:3, [2, 1, 0]]
    try:
        geometry = Geometry(shape[::-1], lps, space)
    except GeometryError as error:
        raise UnreadableFile(f"{path.name}: {error}") from error
    if not stated and space is Space.PATIENT:
        defects += (
            Defect(
                "orientation-unknown",
                Message("the file states no orientation (sform and qform code 0): left and right cannot be told"),
                fatal=False,
            ),
        )
    return ImageHeader(geometry, 3 if dtype == _RGB else 1, defects, times)


def read(path: Path) -> Volume | Cine:
    """Voxels of a NIfTI file, a cine where it has a fourth axis; integers stay integers where nothing is scaled."""
    header = read_header(path)
    image = _load(path)
    try:
        raw = np.asanyarray(image.dataobj)
        if path.name.lower().endswith(".gz"):
            _require_sound_gzip(path, raw.nbytes + int(image.dataobj.offset))
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UnreadableFile(f"{path.name}: its voxels cannot be read ({error}); copy the file again") from error
    raw = raw.reshape((*header.geometry.shape[::-1], header.frames), order="F")
    if raw.dtype == _RGB:
        voxels = np.stack([raw[name].T for name in "RGB"], axis=1)
    else:
        voxels = raw.T[:, None]
        if voxels.dtype == np.float64:
            voxels = _narrowed(voxels)
    step = Step("acquire.nifti", {"file": path.name})
    if header.frames == 1:
        return Volume(voxels[0], header.geometry, history=(step,))
    return Cine(voxels, header.geometry, _seconds(image.header, header.frames), history=(step,))


def _seconds(header: Any, frames: int) -> tuple[float, ...] | None:
    """When each frame was taken, where the file states a unit of time."""
    step = float(header["pixdim"][4]) * _SECONDS_PER_UNIT.get(int(header["xyzt_units"]) & 0x38, 0.0)
    return tuple(i * step for i in range(frames)) if 0 < step < 1e6 else None


def write(image: Volume | LabelMap | Cine, path: Path, *, intent: str = "") -> None:
    """Write a one-channel volume, a label map, or frames in time as NIfTI-1 (`.nii` or `.nii.gz`).

    Args:
        image: what is written.
        path: of the file.
        intent: name of what it is, at most 15 letters of ASCII, as `synthetic`.

    Raises: UnsupportedFormat for colour, and for frames at uneven times.
    """
    channels = (
        image.frames.shape[1] if isinstance(image, Cine) else 1 if isinstance(image, LabelMap) else image.channels
    )
    if channels != 1:
        raise UnsupportedFormat(f"NIfTI is written with one channel; this image has {channels}: write NRRD, or PNG")
    voxels = _voxels(image)
    if max(voxels.shape) > 32767:
        raise UnsupportedFormat(
            f"NIfTI-1 holds at most 32767 voxels along an axis; this image has {voxels.shape}: crop it"
        )
    if voxels.dtype.kind in "iu" and voxels.dtype.itemsize == 8:
        small = int(voxels.min()) >= -(2**31) and int(voxels.max()) < 2**31
        voxels = voxels.astype(np.int32 if small else np.float64)
    geometry = image.geometry
    affine = _RAS_TO_LPS @ geometry.affine
    affine[:3, :3] = affine[:3, [2, 1, 0]]
    out = nibabel.Nifti1Image(voxels.T, affine)
    known = 0 if geometry.space is Space.PIXELS else 1
    out.header.set_xyzt_units("mm" if known else "unknown", "sec" if isinstance(image, Cine) else None)
    if isinstance(image, Cine) and image.times_s is not None:
        out.header["pixdim"][4] = _even_step(image.times_s)
    out.header["descrip"] = b"" if geometry.space is Space.PATIENT else f"{_SPACE_MARK}{geometry.space.value}".encode()
    out.header["intent_name"] = intent.encode("ascii")[:15]
    out.set_sform(affine, code=known)
    try:
        out.set_qform(affine, code=known, strip_shears=False)
    except HeaderDataError:  # a sheared grid has no quaternion
        out.set_qform(None, code=0)
    nibabel.save(out, path)


def _voxels(image: Volume | LabelMap | Cine) -> Array:
    """`d h w`, or `t d h w`."""
    if isinstance(image, Cine):
        return image.frames[:, 0]
    return image.grid if isinstance(image, Volume) else image.voxels


def _even_step(times: Sequence[float]) -> float:
    """Seconds from frame to frame.

    Raises: UnsupportedFormat where they differ: NIfTI holds one number.
    """
    gaps = np.diff(times)
    if len(gaps) and not np.allclose(gaps, gaps.mean(), rtol=1e-3, atol=1e-9):
        raise UnsupportedFormat("NIfTI holds one distance in time; these frames lie at uneven times")
    return float(gaps.mean()) if len(gaps) else 0.0


def _narrowed(voxels: Array) -> Array:
    """In single precision, unless a value would overflow it."""
    with np.errstate(over="ignore"):
        single = voxels.astype(np.float32)
    return single if np.array_equal(np.isfinite(single), np.isfinite(voxels)) else voxels


def _stated_steps(path: Path) -> Float64[Array, "3"]:
    """Voxel sizes as the file states them: nibabel replaces what cannot be by 1 without a word."""
    with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as stream:
        head = stream.read(136)
    little = int.from_bytes(head[:4], "little") in (348, 540)
    first = int.from_bytes(head[:4], "little" if little else "big") == 348
    kind, at = (np.dtype("f4"), 80) if first else (np.dtype("f8"), 112)  # pixdim[1..3]
    return np.frombuffer(head, kind.newbyteorder("<" if little else ">"), 3, at).astype(np.float64)


def _require_sound_gzip(path: Path, expected: int) -> None:
    """Read a gzip stream to its end, where its checksum stands; nibabel stops when it has its voxels."""
    with gzip.open(path) as stream:
        while stream.tell() <= expected + (1 << 20):
            if not stream.read(1 << 20):
                return
    raise OSError("more data follow the voxels than its header announces")


def _load(path: Path) -> Any:
    try:
        return nibabel.load(path, mmap=False)
    except Exception as error:  # nibabel raises what its parts raise; all of it means the same here
        raise UnreadableFile(f"{path.name}: not a readable NIfTI file ({cause_of(error)})") from error


def _three(path: Path, shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(shape) < 2 or any(n < 1 for n in shape):
        raise UnreadableFile(f"{path.name}: an image of shape {shape} has no voxels")
    if any(n != 1 for n in shape[4:]):
        raise UnsupportedFormat(f"{path.name}: more than four axes (shape {shape}); split it into one file each first")
    a, b, c = (*shape, 1)[:3]
    return int(a), int(b), int(c)


def _space(header: Any) -> Space:
    """What the millimetres mean, where we wrote the file ourselves; NIfTI has no place for it but its description."""
    said = bytes(header["descrip"].tobytes()).split(b"\0")[0].decode("latin-1")
    known = {space.value: space for space in Space}
    return known.get(said.removeprefix(_SPACE_MARK), Space.PATIENT) if said.startswith(_SPACE_MARK) else Space.PATIENT


def _times(shape: tuple[int, ...]) -> int:
    return int(shape[3]) if len(shape) > 3 else 1


def _affine(path: Path, header: Any) -> tuple[Affine, bool, tuple[Defect, ...]]:
    """RAS affine in millimetres, whether the file states an orientation, and what is wrong."""
    try:
        sform, qform = header.get_sform(coded=True), header.get_qform(coded=True)
        base = header.get_base_affine()
        unit = int(header["xyzt_units"]) & 7
        mm = _MM_PER_UNIT.get(unit, 1.0)
    except Exception as error:
        raise UnreadableFile(f"{path.name}: its orientation cannot be read ({cause_of(error)})") from error
    scale = np.diag([mm, mm, mm, 1.0])
    defects: tuple[Defect, ...] = ()
    if unit not in (1, 2, 3):
        text = Message("the file states no unit of length: millimetres are assumed")
        defects = (Defect("unit-unknown", text, fatal=False),) if unit else ()
    if sform[1] and qform[1] and len(header.get_data_shape()) >= 3:
        zooms = np.asarray(header.get_zooms()[:3])
        apart = float(
            np.max(np.abs((sform[0] - qform[0])[:3] @ np.vstack((np.diag(header.get_data_shape()[:3]), [1] * 3))))
        )
        if not apart <= 0.5 * float(zooms.min()):
            defects += (
                Defect(
                    "sform-qform",
                    Message(
                        "sform and qform disagree by up to {apart:.3g} mm; the sform is used",
                        {"apart": apart * mm},
                    ),
                    fatal=False,
                ),
            )
    if sform[1]:
        return scale @ sform[0], True, defects
    if qform[1]:
        return scale @ qform[0], True, defects
    return scale @ base, False, defects
