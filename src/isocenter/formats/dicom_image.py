"""DICOM images: planes whose place is known become a volume, or a cine of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom.pixels.processing import apply_modality_lut

from isocenter.data.cine import Cine
from isocenter.data.geometry import Geometry
from isocenter.data.provenance import Json, Step
from isocenter.data.volume import Quantity, Volume
from isocenter.errors import TruncatedPixels, UnreadableFile, UnsupportedFormat, cause_of
from isocenter.formats.dicom_decode import channels_of, stored_dtype
from isocenter.formats.dicom_frames import PRIVATE, Frame
from isocenter.formats.dicom_header import Header, syntax_name
from isocenter.formats.dicom_header import read_header as read_elements
from isocenter.formats.dicom_pixels import in_threads, read_planes, require_pixels
from isocenter.formats.dicom_walk import Wanted
from isocenter.formats.header import within_budget
from isocenter.formats.quiet import quiet
from isocenter.types import Array, Float64, Mask

ATTRIBUTES = (
    "ImageType", "SeriesDescription", "ProtocolName", "SequenceName", "ScanningSequence", "SequenceVariant",
    "ScanOptions", "MRAcquisitionType", "RepetitionTime", "EchoTime", "InversionTime", "EchoTrainLength", "FlipAngle",
    "MagneticFieldStrength", "SliceThickness", "ConvolutionKernel", "KVP", "ContrastBolusAgent", "BodyPartExamined",
    "CardiacSynchronizationTechnique",
    "Manufacturer", "ManufacturerModelName", "SoftwareVersions", "SeriesNumber", "AcquisitionDate", "PatientPosition",
    "ViewPosition", "Laterality", "ImageLaterality", "Units", "DecayCorrection",
)  # fmt: skip
"""What a series is chosen by and judged by; by DICOM keyword, from its first slice."""

IDENTITY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "PatientAge", "StudyInstanceUID", "StudyDate",
    "AccessionNumber", "StudyDescription",
)  # fmt: skip

_GRID = (
    "SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality",
    "InstanceNumber", "Rows", "Columns", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient",
    "SpacingBetweenSlices", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelSpacingCalibrationType",
    "EstimatedRadiographicMagnificationFactor", "SequenceOfUltrasoundRegions", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)  # fmt: skip
_PIXELS = (
    "RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence", "PhotometricInterpretation",
    "SamplesPerPixel", "PlanarConfiguration", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "NumberOfFrames", "PixelPaddingValue", "PixelPaddingRangeLimit", "RedPaletteColorLookupTableDescriptor",
)  # fmt: skip
_APART = (
    "EchoNumbers", "AcquisitionNumber", "TemporalPositionIdentifier", "TriggerTime", "FrameReferenceTime",
    "DiffusionBValue", "DiffusionGradientOrientation", *PRIVATE,
)  # fmt: skip
_TIMES = (
    "StudyTime", "SeriesDate", "SeriesTime", "AcquisitionTime", "AcquisitionDateTime", "ContentDate", "ContentTime",
    "FrameTime", "FrameTimeVector", "CineRate", "RecommendedDisplayFrameRate", "PatientWeight", "StudyID",
    "RadiopharmaceuticalInformationSequence", "NumberOfSlices", "TimezoneOffsetFromUTC",
)  # fmt: skip
_WANTED = Wanted((*ATTRIBUTES, *IDENTITY, *_GRID, *_PIXELS, *_APART, *_TIMES))


@dataclass(frozen=True, eq=False)
class Stack:
    """Planes and the grid that they become.

    Args:
        frames: the measured planes, in the order of the grid.
        geometry: of the result.
        weights: for a repaired grid, `d n`: how much of each measured plane goes into each slice; None where the
            planes are the slices.
        shifts: for a tilted stack, `n 2`: rows and columns by which each plane is moved into the grid.
        not_measured: slices (by index) that hold interpolated voxels.
        quantity: what the rescaled values measure.
        factor: of each plane, turns rescaled values into `quantity`; None where they are it.
        inverted: MONOCHROME1 turned into MONOCHROME2.
        said: what the history tells of how it was put together.
    """

    frames: tuple[Frame, ...]
    geometry: Geometry
    weights: Float64[Array, "d n"] | None = None
    shifts: Float64[Array, "n 2"] | None = None
    not_measured: tuple[int, ...] = ()
    quantity: Quantity = Quantity.ARBITRARY
    factor: float | None = None
    inverted: bool = False
    said: Mapping[str, Json] = field(default_factory=dict)


def read_header(path: Path, *, marked: bool = False) -> Header | None:
    """Header of one DICOM image, pixels untouched.

    Args:
        path: the file.
        marked: give None for a file without the mark `DICM`, whatever it is.
    Raises: UnreadableFile where it is not DICOM, is truncated, or is no object of a series.
    """
    header = read_elements(path, _WANTED, marked=marked)
    if header is None:
        return None
    if not header.has("SOPClassUID") or not header.has("SeriesInstanceUID"):
        absent = [k for k in ("SOPClassUID", "SeriesInstanceUID") if not header.has(k)]
        raise UnreadableFile(
            f"{path.name}: not a DICOM image: {' and '.join(absent)} {'are' if len(absent) > 1 else 'is'} absent, so "
            "that it belongs to nothing"
        )
    if header.has("Rows"):
        try:
            require_pixels(header)
        except TruncatedPixels as error:
            raise TruncatedPixels(str(error), header.text("SeriesInstanceUID")) from None
    return header


def attributes_of(header: Header) -> dict[str, Json]:
    """Acquisition parameters as plain data: numbers, text, or lists of them."""
    found: dict[str, Json] = {}
    for keyword in ATTRIBUTES:
        values = [_plain(value, keyword) for value in header.values(keyword)]
        if values and values != [""]:
            found[keyword] = values[0] if len(values) == 1 else values
    return found


_WORDS = {"SeriesDescription", "ProtocolName", "SequenceName", "Manufacturer", "SoftwareVersions", "AcquisitionDate",
          "ConvolutionKernel", "ManufacturerModelName", "BodyPartExamined", "ContrastBolusAgent"}  # fmt: skip


def _plain(value: str, keyword: str) -> Json:
    if keyword in _WORDS:
        return value
    try:
        number = float(value)
    except ValueError:
        return value
    return (int(number) if number.is_integer() else number) if abs(number) < 1e15 else value


@quiet()
def read(stack: Stack) -> Volume:
    """Voxels of a stack, rescaled, on its grid.

    Raises: UnreadableFile for pixels that are truncated or cannot be decoded; UnsupportedFormat where a decoder is
        missing.
    """
    first = stack.frames[0].header
    voxels = _values(stack)
    said = {"slices": len(stack.frames), "rescale": any(f.rescale for f in stack.frames), **stack.said}
    padding = _padding(voxels, stack)
    voxels = np.moveaxis(voxels, 1, 0) if voxels.shape[1] > 1 else voxels.reshape(1, -1, *voxels.shape[2:])
    filled = padding
    if stack.weights is not None or stack.shifts is not None:
        voxels, filled = _regular(voxels, padding, stack)
    if padding is not None:
        said["padded_voxels"] = int(np.count_nonzero(padding))
    if filled is not None and not filled.any():
        filled = None
    step = Step("acquire.dicom", said, {"transfer_syntax": syntax_name(first.syntax)})
    return Volume(voxels, stack.geometry, stack.quantity, (step,), not_measured=filled)


def read_cine(stacks: Sequence[Stack], times_s: tuple[float, ...] | None) -> Cine:
    """Volumes of one grid, one after the other in time."""
    first = read(stacks[0])
    frames = np.empty((len(stacks), *first.voxels.shape), first.voxels.dtype)
    missing = np.zeros((len(stacks), *first.geometry.shape), np.bool_)
    for at, stack in enumerate(stacks):
        volume = first if at == 0 else read(stack)
        if volume.voxels.dtype != frames.dtype:
            frames = frames.astype(np.result_type(frames.dtype, volume.voxels.dtype))
        frames[at] = volume.voxels
        if volume.not_measured is not None:
            missing[at] = volume.not_measured
    mask = missing if missing.any() else None
    return Cine(frames, first.geometry, times_s, first.quantity, first.history, mask)


def read_frames(stack: Stack, times_s: tuple[float, ...] | None) -> Cine:
    """A cine of single planes: the frames of `stack`, on the grid of one."""
    volume = read(stack)
    frames = np.moveaxis(volume.voxels, 1, 0)[:, :, None]
    d, h, w = volume.geometry.shape
    geometry = volume.geometry.crop((0, 0, 0), (1, h, w)) if d > 1 else volume.geometry
    mask = None if volume.not_measured is None else volume.not_measured[:, None]
    return Cine(np.ascontiguousarray(frames), geometry, times_s, volume.quantity, volume.history, mask)


def _values(stack: Stack) -> Array:
    """Rescaled pixels `n c h w` of the measured planes; memory is asked for only after the claims are checked."""
    frames = stack.frames
    header = frames[0].header
    types = {stored_dtype(f.header) for f in _one_for_each_file(frames)}
    dtype = types.pop() if len(types) == 1 else np.dtype(np.int64)
    rows, columns = frames[0].shape
    shape = (len(frames), channels_of(header), rows, columns)
    within_budget(int(np.prod(shape)) * dtype.itemsize, 1 << 62, what=header.file.parent.name, compressed=False)
    planes = np.empty(shape, dtype)
    whole = _whole_shifts(stack) if not types else None
    shift = _Shift(planes, whole) if whole is not None else None

    def then(at: int) -> None:
        if stack.inverted and is_inverse(frames[at].header):
            _invert(planes[at], frames[at].header)
        if shift is not None:
            shift.one(at)

    if types:
        for at, frame in enumerate(frames):
            plane = np.empty((1, *shape[1:]), stored_dtype(frame.header))
            read_planes([frame], plane)
            if stack.inverted and is_inverse(frame.header):
                _invert(plane[0], frame.header)
            planes[at] = plane[0]
    else:
        read_planes(frames, planes, then)
    return _rescaled(planes, stack) if shift is None else shift.result()


def _one_for_each_file(frames: Sequence[Frame]) -> list[Frame]:
    return list({id(f.header): f for f in frames}.values())


def is_inverse(header: Header) -> bool:
    """The smallest value is meant to be shown white."""
    return header.text("PhotometricInterpretation") == "MONOCHROME1"


def _invert(plane: Array, header: Header) -> None:
    """The brightest stored value becomes the darkest."""
    bits = int(header.number("BitsStored", 8 * plane.dtype.itemsize))
    ends = (1 << bits) - 1 if plane.dtype.kind == "u" else -1
    np.subtract(plane.dtype.type(ends), plane, out=plane)


def _whole_shifts(stack: Stack) -> list[int] | None:
    """The whole number to add to each plane, where rescaling is no more than that."""
    if channels_of(stack.frames[0].header) != 1:
        return [0] * len(stack.frames)  # colour is not rescaled (PS3.3 C.11.1 is of grey images)
    if stack.frames[0].header.has("ModalityLUTSequence") or stack.factor not in (None, 1.0):
        return None
    scale = [f.rescale or (1.0, 0.0) for f in stack.frames]
    if all(s == 1.0 and b.is_integer() and abs(b) < 2**30 for s, b in scale):
        return [int(b) for _, b in scale]
    return None


class _Shift:
    """Whole numbers added in place, plane by plane, in the stored width.

    A sum may wrap on the way, and is right again when its bits are read with the sign that fits; where none of that
    width fits, it is taken back and made in a wider type.
    """

    def __init__(self, planes: Array, shifts: Sequence[int]) -> None:
        self.planes, self.shifts = planes, shifts
        self.width = planes.dtype.itemsize
        self.raw = planes.view(f"u{self.width}")
        self.ends: list[tuple[int, int]] = [(0, 0)] * len(planes)

    def one(self, at: int) -> None:
        """Note the plane's ends and add its number."""
        plane, shift = self.planes[at], self.shifts[at]
        self.ends[at] = int(plane.min()) + shift, int(plane.max()) + shift
        self._add(at, shift)

    def _add(self, at: int, number: int) -> None:
        if number:
            wrapped = self.raw.dtype.type(number & ((1 << 8 * self.width) - 1))
            np.add(self.raw[at], wrapped, out=self.raw[at])

    def result(self) -> Array:
        """The sums, in the smallest type of at least the stored width that holds them."""
        low, high = min(e[0] for e in self.ends), max(e[1] for e in self.ends)
        for kind in (["u1"] if self.width == 1 else []) + ["i2", "u2", "i4"]:
            holds = np.iinfo(np.dtype(kind))
            if np.dtype(kind).itemsize >= self.width and holds.min <= low and high <= holds.max:
                break
        else:
            kind = "f8"
        if np.dtype(kind).itemsize == self.width:
            return self.raw.view(kind)
        out = np.empty(self.planes.shape, kind)

        def widened(at: int) -> None:
            self._add(at, -self.shifts[at])
            np.add(
                self.planes[at],
                self.shifts[at],
                out=out[at],
                dtype=np.int64 if kind != "f8" else None,
                casting="unsafe",
            )

        in_threads(widened, len(out))
        return out


def _rescaled(planes: Array, stack: Stack) -> Array:
    """Stored values as what they measure, through a table or as float32."""
    frames = stack.frames
    if frames[0].header.has("ModalityLUTSequence"):
        return _through_lut(planes, stack)
    factor = 1.0 if stack.factor is None else stack.factor
    grey = channels_of(frames[0].header) == 1
    out = np.empty(planes.shape, np.float32)

    def one(at: int) -> None:
        slope, intercept = (frames[at].rescale if grey else None) or (1.0, 0.0)
        np.multiply(planes[at], slope * factor, out=out[at], casting="unsafe")
        if intercept:
            out[at] += np.float32(intercept * factor)

    in_threads(one, len(frames))
    return out


def _through_lut(planes: Array, stack: Stack) -> Array:
    """Values through the Modality LUT (PS3.3 C.11.1)."""
    out = np.empty(planes.shape, np.float32)
    for at, frame in enumerate(stack.frames):
        try:
            out[at] = apply_modality_lut(planes[at], frame.header.dataset())
        except UnreadableFile:
            raise
        except Exception as error:
            raise UnreadableFile(f"{frame.name}: its modality LUT cannot be applied ({cause_of(error)})") from error
    return out


AIR_HU = -1024
"""What padded voxels of a CT are set to: nothing is less dense, and scanners pad with values far below."""


def _padding(voxels: Array, stack: Stack) -> Mask | None:
    """Voxels outside a CT's field of view, padded with a value below air; they are set to air.

    Padding that is also a possible measurement (0 stored is air in many CTs, background in an MR) stays as it is.
    """
    frame = next((f for f in stack.frames if f.header.has("PixelPaddingValue")), stack.frames[0])
    header = frame.header
    pad = header.numbers("PixelPaddingValue")
    if stack.quantity is not Quantity.HU or not pad:
        return None
    value, limit = pad[0], header.number("PixelPaddingRangeLimit", pad[0])
    slope, intercept = frame.rescale or (1.0, 0.0)
    if header.number("PixelRepresentation", 0) == 1:
        value, limit = (v - 65536 if v > 32767 else v for v in (value, limit))
    low, high = sorted((value * slope + intercept, limit * slope + intercept))
    if high >= AIR_HU or float(voxels.min()) > high:
        return None
    mask = np.asarray((voxels >= low) & (voxels <= high))[:, 0]
    if not mask.any():
        return None
    voxels[:, 0][mask] = AIR_HU
    return mask


def _regular(voxels: Array, padding: Mask | None, stack: Stack) -> tuple[Array, Mask]:
    """Measured planes `c n h w` on the stack's grid, linearly; which voxels no plane measured."""
    n = voxels.shape[1]
    shape = stack.geometry.shape
    ground = AIR_HU if stack.quantity is Quantity.HU else float(voxels.min())
    out = np.empty((voxels.shape[0], *shape), voxels.dtype)
    missing = np.zeros(shape, np.bool_)
    weights = np.eye(n) if stack.weights is None else stack.weights
    moved: dict[int, tuple[Array, Array]] = {}
    for at in range(shape[0]):
        used = [int(i) for i in np.flatnonzero(weights[at])]
        for i in [i for i in moved if i < used[0]]:
            del moved[i]
        for i in used:
            if i not in moved:
                pad = None if padding is None else padding[i]
                moved[i] = _moved(voxels[:, i], pad, stack, i, ground)
        plane = np.sum([weights[at, i] * moved[i][0] for i in used], axis=0)
        missing[at] = np.any([moved[i][1] for i in used], axis=0)
        plane[:, missing[at]] = ground  # nothing between something and nothing
        out[:, at] = np.rint(plane) if out.dtype.kind in "iu" else plane
    missing[list(stack.not_measured)] = True
    return out, missing


def _moved(plane: Array, padding: Array | None, stack: Stack, at: int, ground: float) -> tuple[Array, Array]:
    """A plane `c h w` moved within the grid by a part of a pixel, and where it holds nothing."""
    empty = np.zeros(plane.shape[1:], np.bool_) if padding is None else padding
    if stack.shifts is None:
        return plane.astype(np.float64), empty
    out = np.full((plane.shape[0], *stack.geometry.shape[1:]), ground, np.float64)
    none = np.ones(stack.geometry.shape[1:], np.bool_)
    whole = np.floor(stack.shifts[at]).astype(int)
    part = stack.shifts[at] - whole
    for axis in (0, 1):
        if part[axis] > 1e-3:
            plane, empty = _between(plane, empty, axis, float(part[axis]))
            whole[axis] += 1
    h, w = plane.shape[1:]
    inside = (slice(whole[0], whole[0] + h), slice(whole[1], whole[1] + w))
    out[:, inside[0], inside[1]] = plane
    none[inside] = empty
    return out, none


def _between(plane: Array, empty: Array, axis: int, part: float) -> tuple[Array, Array]:
    """Values a part of a pixel before each pixel but the first, linearly along rows (0) or columns (1)."""
    here, before = (plane[:, 1:], plane[:, :-1]) if axis == 0 else (plane[:, :, 1:], plane[:, :, :-1])
    missing = (empty[1:] | empty[:-1]) if axis == 0 else (empty[:, 1:] | empty[:, :-1])
    return here * (1 - part) + before * part, missing


INTEGER_PIXELS = 0x7FE00010
"""Tag of Pixel Data; floating-point pixels have others."""
PIXEL_KINDS = (
    "PhotometricInterpretation", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "RedPaletteColorLookupTableDescriptor",
)  # fmt: skip
"""What `require_readable` looks at."""


def require_readable(header: Header) -> None:
    """Refuse pixels of a kind that is not read, before they are asked for.

    Raises: UnsupportedFormat.
    """
    kind = header.text("PhotometricInterpretation")
    known = ("MONOCHROME1", "MONOCHROME2", "", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT", "PALETTE COLOR")
    if kind not in known or channels_of(header) not in (1, 3):
        samples = int(header.number("SamplesPerPixel", 1))
        raise UnsupportedFormat(f"{header.file.name}: {samples} samples of {kind} a pixel are not read")
    stored_dtype(header)
    allocated = header.number("BitsAllocated", 16)
    stored = header.number("BitsStored", allocated)
    if not 1 <= stored <= allocated:
        raise UnreadableFile(f"{header.file.name}: {stored:g} bits stored of {allocated:g} allocated cannot be")
    if header.number("HighBit", stored - 1) != stored - 1:
        high = header.number("HighBit", 0)
        raise UnsupportedFormat(f"{header.file.name}: {stored:g} bits that end at bit {high:g} are not read")
    if INTEGER_PIXELS not in header.elements:
        raise UnsupportedFormat(f"{header.file.name}: pixels that are floating-point numbers are not read")
