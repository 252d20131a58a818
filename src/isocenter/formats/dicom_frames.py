"""One record for every 2-D plane that a DICOM file holds: a slice, a frame of an enhanced image, a tile of a mosaic."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, sqrt
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from isocenter.errors import UnreadableFile, UnsupportedFormat, cause_of
from isocenter.formats.dicom_header import Header
from isocenter.formats.quiet import quiet

MOST_FRAMES = 100_000
"""A file that claims more frames than this is refused."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One plane of pixels and what its file says of it.

    Args:
        header: of its file.
        index: which of the file's frames, from 0.
        shape: rows and columns.
        position: LPS place (mm) of the centre of its first pixel; None where the file states none.
        orientation: direction cosines along a row, then along a column.
        spacing: between rows and between columns, mm.
        rescale: slope and intercept; None where the file states none.
        kind: what parts a series into volumes: image type, echo time, b-value, gradient direction.
        keys: what may tell apart planes at one place: time, acquisition, energy.
        tile: row and column of its first pixel in a mosaic.
        fault: code and sentence of what forbids using it.
    """

    header: Header
    index: int = 0
    shape: tuple[int, int] = (0, 0)
    position: tuple[float, ...] | None = None
    orientation: tuple[float, ...] | None = None
    spacing: tuple[float, ...] | None = None
    rescale: tuple[float, float] | None = None
    kind: tuple[str, ...] = ()
    keys: Mapping[str, float | str] = field(default_factory=dict, repr=False)
    tile: tuple[int, int] | None = None
    fault: tuple[str, str] | None = None

    @property
    def name(self) -> str:
        """File, and frame where there are several."""
        return self.header.file.name + (f" frame {self.index + 1}" if self.index or "frames" in self.keys else "")


PRIVATE = ("0019,0010", "0019,100C", "0019,100E", "0043,0010", "0043,1039")
"""Siemens' and GE's b-values: creators and elements."""
_TIMES = ("TemporalPositionIdentifier", "TriggerTime", "FrameReferenceTime")
_APART = ("AcquisitionNumber", "KVP", "InversionTime", "FlipAngle", "RepetitionTime", "EchoNumbers")


def frames_of(header: Header) -> tuple[Frame, ...]:
    """The planes of one file. A plane that cannot be understood says so in `fault`.

    Raises: UnreadableFile or UnsupportedFormat for a file none of whose planes can be told.
    """
    rows, columns = int(header.number("Rows", 0)), int(header.number("Columns", 0))
    if rows < 1 or columns < 1:
        raise UnreadableFile(f"{header.file.name}: not an image (no rows and columns)")
    count = header.number("NumberOfFrames", 1)
    if not 1 <= count <= MOST_FRAMES or count != int(count):
        raise UnreadableFile(f"{header.file.name}: {count:g} frames cannot be")
    base = Frame(header, shape=(rows, columns))
    if header.has("SharedFunctionalGroupsSequence") or header.has("PerFrameFunctionalGroupsSequence"):
        return _enhanced(base, int(count))
    plane = _classic(base)
    if "MOSAIC" in header.raw("ImageType").decode("latin-1"):
        return _mosaic(plane)
    if count > 1:
        return tuple(replace(plane, index=i, keys={**plane.keys, "frames": count}) for i in range(int(count)))
    return (plane,)


def _classic(base: Frame) -> Frame:
    header = base.header
    try:
        slope, intercept = header.numbers("RescaleSlope"), header.numbers("RescaleIntercept")
        rescale = (slope[0], intercept[0]) if slope and intercept else None
    except UnreadableFile as error:
        return replace(base, fault=("invalid-value", str(error)))
    try:
        position, orientation = header.numbers("ImagePositionPatient"), header.numbers("ImageOrientationPatient")
        spacing = header.numbers("PixelSpacing")
    except UnreadableFile as error:
        return replace(base, rescale=rescale, kind=_kind(header), fault=("malformed-geometry", str(error)))
    for keyword, numbers, count in (
        ("ImagePositionPatient", position, 3),
        ("ImageOrientationPatient", orientation, 6),
        ("PixelSpacing", spacing, 2),
    ):
        if numbers and len(numbers) != count:
            why = f"{header.file.name}: {keyword} needs {count} numbers; it is {header.text(keyword)[:60]}"
            return replace(base, rescale=rescale, kind=_kind(header), fault=("malformed-geometry", why))
    return Frame(
        header, 0, base.shape, position or None, orientation or None, spacing or None, rescale, _kind(header)
    )  # fmt: skip


def _kind(header: Header) -> tuple[str, ...]:
    """Image type; for MR also echo time and diffusion weighting."""
    image_type = header.raw("ImageType").decode("latin-1").strip(" \0").upper()
    if header.raw("Modality")[:2] != b"MR":
        return (image_type,)
    try:
        echo = f"{header.number('EchoTime', 0):.2f}"
        value = header.numbers("DiffusionBValue")
        direction = header.numbers("DiffusionGradientOrientation")
        if not value and header.raw("0019,0010").startswith(b"SIEMENS MR HEADER"):
            value, direction = _private(header, "0019,100C"), _private(header, "0019,100E")
        if not value and header.raw("0043,0010").startswith(b"GEMS_PARM_01"):
            value = tuple(v % 1e9 for v in _private(header, "0043,1039")[:1])  # GE adds 10^9 as a flag
    except UnreadableFile:
        return (image_type,)
    weighted = bool(value and value[0])
    return (
        image_type,
        echo,
        f"{value[0]:g}" if value else "",
        "\\".join(f"{d:.4f}" for d in direction) if weighted else "",
    )


def _private(header: Header, name: str) -> tuple[float, ...]:
    """A private number that may be text, or eight-byte floats without saying so."""
    try:
        return header.numbers(name)
    except UnreadableFile:
        value = header.raw(name)
        return tuple(np.frombuffer(value, "<f8").tolist()) if value and len(value) % 8 == 0 else ()


def time_key(frame: Frame, name: str) -> float | None:
    """Seconds of a temporal key, or None where the file does not state it."""
    if name in frame.keys:
        return float(frame.keys[name])
    if "frames" in frame.keys:
        return None
    header = frame.header
    try:
        if name in _TIMES:
            numbers = header.numbers(name)
            return None if not numbers else numbers[0] / (1 if name == "TemporalPositionIdentifier" else 1000)
        clock = header.text("AcquisitionDateTime")[8:] or header.text("AcquisitionTime")
        date = header.text("AcquisitionDateTime")[:8] or header.text("AcquisitionDate")
        seconds = seconds_of(clock)
        return None if seconds is None else seconds + 86400.0 * days_of(date)
    except UnreadableFile:
        return None


def apart_key(frame: Frame, name: str) -> str:
    """Another element that may tell planes at one place apart, as text."""
    if name == "StackID" or "frames" in frame.keys:
        return str(frame.keys.get(name, ""))
    return frame.header.text(name)


TIME_KEYS = (*_TIMES, "AcquisitionTime")
APART_KEYS = (*_APART, "ConvolutionKernel")


def seconds_of(clock: str) -> float | None:
    """Seconds since midnight of a DICOM time (`HHMMSS.ffffff`, or with colons); None where it is none."""
    text = clock.replace(":", "").split("+")[0].split("-")[0].strip()
    whole, _, rest = text.partition(".")
    if not whole.isdigit() or len(whole) not in (2, 4, 6) or (rest and not rest.isdigit()):
        return None
    hours, minutes, seconds = int(whole[:2]), int(whole[2:4] or 0), int(whole[4:6] or 0)
    if hours > 23 or minutes > 59 or seconds > 60:
        return None
    return hours * 3600 + minutes * 60 + seconds + (float(f"0.{rest}") if rest else 0.0)


def days_of(date: str) -> int:
    """Day number of a DICOM date; 0 where it is none."""
    try:
        return int((np.datetime64(f"{date[:4]}-{date[4:6]}-{date[6:8]}") - np.datetime64("1900-01-01")).astype(int))
    except ValueError:
        return 0


@quiet()
def _enhanced(base: Frame, count: int) -> tuple[Frame, ...]:
    """Frames of an enhanced image from its functional groups (PS3.3 C.7.6.16)."""
    header = base.header
    dataset = header.dataset()
    try:
        shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
        each = dataset.get("PerFrameFunctionalGroupsSequence") or [Dataset()] * count
        described = len(each)
        if described == count:
            return tuple(_enhanced_frame(base, index, groups, shared, count) for index, groups in enumerate(each))
    except UnreadableFile:
        raise
    except Exception as error:
        raise UnreadableFile(f"{header.file.name}: its frames cannot be understood ({cause_of(error)})") from error
    raise UnreadableFile(f"{header.file.name}: {count} frames are announced, {described} are described")


def _numbers(dataset: Dataset, keyword: str) -> tuple[float, ...]:
    """An element of a functional group as numbers; empty if absent.

    Raises: ValueError where it is not finite numbers.
    """
    value = dataset.get(keyword)
    if value is None or value == "":
        return ()
    many = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    found = tuple(float(v) for v in many)
    if not np.all(np.isfinite(found)):
        raise ValueError(f"{keyword} is not finite")
    return found


def _enhanced_frame(base: Frame, index: int, own: Dataset, shared: Dataset, count: int) -> Frame:
    def group(name: str) -> Dataset:
        sequence = own.get(name) or shared.get(name)
        return sequence[0] if sequence else Dataset()

    transform = group("PixelValueTransformationSequence")
    slope, intercept = _numbers(transform, "RescaleSlope"), _numbers(transform, "RescaleIntercept")
    frame = replace(
        base,
        index=index,
        rescale=(slope[0], intercept[0]) if slope and intercept else None,
        kind=_enhanced_kind(base.header, group),
        keys={"frames": count, "RescaleType": str(transform.get("RescaleType", "")), **_enhanced_keys(group)},
    )
    place = (
        _numbers(group("PlanePositionSequence"), "ImagePositionPatient"),
        _numbers(group("PlaneOrientationSequence"), "ImageOrientationPatient"),
        _numbers(group("PixelMeasuresSequence"), "PixelSpacing"),
    )
    for found, wanted in zip(place, (3, 6, 2), strict=True):
        if found and len(found) != wanted:
            text = f"{frame.name}: {len(found)} numbers of geometry where {wanted} are needed"
            return replace(frame, fault=("malformed-geometry", text))
    return replace(frame, position=place[0] or None, orientation=place[1] or None, spacing=place[2] or None)


def _enhanced_kind(header: Header, group: Callable[[str], Dataset]) -> tuple[str, ...]:
    """The same as `_kind`, from a frame's functional groups."""
    types = (group(f"{name}FrameTypeSequence").get("FrameType") for name in ("MRImage", "CTImage", "PET"))
    frame_type = next((t for t in types if t), None)
    diffusion = group("MRDiffusionSequence")
    value = _numbers(diffusion, "DiffusionBValue")
    gradient = diffusion.get("DiffusionGradientDirectionSequence")
    direction = _numbers(gradient[0], "DiffusionGradientOrientation") if gradient and value and value[0] else ()
    echo = _numbers(group("MREchoSequence"), "EffectiveEchoTime")
    return (
        ("\\".join(frame_type) if frame_type else header.text("ImageType")).upper(),
        f"{echo[0]:.2f}" if echo else "",
        f"{value[0]:g}" if value else "",
        "\\".join(f"{d:.4f}" for d in direction),
    )


def _enhanced_keys(group: Callable[[str], Dataset]) -> dict[str, float | str]:
    """Times (seconds) and thickness of a frame, as far as they are stated."""
    content = group("FrameContentSequence")
    keys: dict[str, float | str] = {}
    for name, found, unit in (
        ("TemporalPositionIdentifier", _numbers(content, "TemporalPositionIndex"), 1),
        ("TriggerTime", _numbers(group("CardiacSynchronizationSequence"), "NominalCardiacTriggerDelayTime"), 1000),
        ("FrameReferenceTime", _numbers(group("TemporalPositionSequence"), "TemporalPositionTimeOffset"), 1),
        ("SliceThickness", _numbers(group("PixelMeasuresSequence"), "SliceThickness"), 1),
    ):
        if found:
            keys[name] = found[0] / unit
    if content.get("StackID"):
        keys["StackID"] = str(content.StackID)
    stamp = str(content.get("FrameAcquisitionDateTime", ""))
    if (clock := seconds_of(stamp[8:])) is not None:
        keys["AcquisitionTime"] = clock + 86400.0 * days_of(stamp[:8])
    return keys


@quiet()
def _mosaic(plane: Frame) -> tuple[Frame, ...]:
    """Tiles of a Siemens mosaic: slices side by side in one image, described in a private header.

    Raises: UnsupportedFormat where the private header is absent: without it the tiles have no place.
    Source: the CSA image header as nibabel reads it; the position stands for a slice as large as the whole mosaic.
    """
    from nibabel.nicom import csareader

    header = plane.header
    try:
        found: Any = csareader.get_csa_header(header.dataset(), "image")
        count = csareader.get_n_mosaic(found) if found else None
        normal = csareader.get_slice_normal(found) if found else None
    except Exception as error:
        raise UnreadableFile(f"{header.file.name}: its mosaic header cannot be read ({cause_of(error)})") from error
    if not count or normal is None or not 1 <= count <= 4096:
        raise UnsupportedFormat(
            f"{header.file.name}: a mosaic whose private header (CSA) is gone: its slices have no place; "
            "export it again without removing private elements, or as single slices"
        )
    if plane.position is None or plane.orientation is None or plane.spacing is None:
        return (replace(plane, fault=("malformed-geometry", f"{header.file.name}: a mosaic without position")),)
    side = ceil(sqrt(count))
    rows, columns = plane.shape[0] // side, plane.shape[1] // side
    row, column = np.asarray(plane.orientation[:3]), np.asarray(plane.orientation[3:])
    first = (
        np.asarray(plane.position)
        + column * plane.spacing[0] * (plane.shape[0] - rows) / 2
        + row * plane.spacing[1] * (plane.shape[1] - columns) / 2
    )
    between = header.number("SpacingBetweenSlices", header.number("SliceThickness", 0))
    if not between > 0 or plane.shape[0] % side or plane.shape[1] % side or abs(np.linalg.norm(normal) - 1) > 0.01:
        raise UnreadableFile(f"{header.file.name}: a mosaic of {count} tiles that does not add up")
    return tuple(
        replace(
            plane,
            index=i,
            shape=(rows, columns),
            position=tuple((first + np.asarray(normal, dtype=np.float64) * between * i).tolist()),
            tile=(i // side * rows, i % side * columns),
        )
        for i in range(int(count))
    )
