"""DICOM Segmentation read back: binary, fractional and label map, its frames placed by position."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.utils import pixel_array
from pydicom.uid import ExplicitVRLittleEndian

from isocenter.data.geometry import Geometry, Space
from isocenter.data.labels import LabelMap
from isocenter.data.provenance import Step
from isocenter.data.volume import Quantity, Volume
from isocenter.errors import GeometryError, UnreadableFile, UnsupportedFormat, cause_of
from isocenter.formats.dicom_header import DEFLATED, DEFLATED_FRAMES, Header, inflated
from isocenter.formats.header import within_budget
from isocenter.formats.quiet import quiet
from isocenter.formats.rtstruct import require_same_frame, stacked
from isocenter.types import Affine, Array, Float32, Float64

_ON_GRID = 0.05
"""Voxels by which a frame may lie beside the image's grid and still be taken as on it."""

_MOST_LOST = 0.1
"""Share of its volume that a segment may gain or lose where its frames lie beside the image's grid."""


@dataclass(frozen=True)
class Segmentation:
    """A SEG object.

    Args:
        header: of its file.
        kind: `BINARY`, `FRACTIONAL` or `LABELMAP`.
        names: label of each segment, by number.
        series_uid: of the image it belongs to; empty where it is not stated.
        places: segment number (0 for a label map) and affine (0, h, w) -> mm of each frame; None without a place.
        shape: rows and columns of a frame.
        most: the stored value that stands for 1, of a fractional one.
        frame_uids: its Frame of Reference, where it names one.
    """

    header: Header
    kind: str
    names: dict[int, str]
    series_uid: str
    places: tuple[tuple[int, Affine | None], ...]
    shape: tuple[int, int]
    most: float
    frame_uids: frozenset[str] = frozenset()

    @property
    def file(self) -> Path:
        """Where it is."""
        return self.header.file


@quiet()
def read(header: Header) -> Segmentation:
    """What a SEG says of its frames; pixels untouched.

    Raises: UnreadableFile; UnsupportedFormat for one on a microscope slide.
    """
    dataset = header.dataset()
    name = header.file.name
    try:
        kind = str(dataset.get("SegmentationType", "")).upper()
        names = {int(s.SegmentNumber): str(s.get("SegmentLabel") or f"segment {s.SegmentNumber}")
                 for s in dataset.SegmentSequence}  # fmt: skip
        referenced = dataset.get("ReferencedSeriesSequence") or []
        uid = str(referenced[0].SeriesInstanceUID) if len(referenced) == 1 else ""
        places = _places(dataset, kind, name)
        most = float(dataset.get("MaximumFractionalValue") or 255)
        shape = int(dataset.Rows), int(dataset.Columns)
        frame = str(dataset.get("FrameOfReferenceUID") or "")
    except (UnreadableFile, UnsupportedFormat):
        raise
    except GeometryError as error:
        raise UnreadableFile(f"{name}: {error}") from error
    except Exception as error:
        raise UnreadableFile(f"{name}: not a readable DICOM SEG ({cause_of(error)})") from error
    if kind not in ("BINARY", "FRACTIONAL", "LABELMAP"):
        raise UnsupportedFormat(f"{name}: a segmentation of type {kind or 'unknown'} is not read")
    unknown = sorted({n for n, _ in places} - {0, *names})
    if unknown:
        raise UnreadableFile(f"{name}: frames of the segments {unknown[:8]}, which it does not describe")
    names.pop(0, None)  # the background of a label map
    return Segmentation(header, kind, names, uid, places, shape, most, frozenset({frame} - {""}))


def _places(dataset: Dataset, kind: str, name: str) -> tuple[tuple[int, Affine | None], ...]:
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    each = dataset.get("PerFrameFunctionalGroupsSequence") or []
    count = int(dataset.get("NumberOfFrames") or 1)
    if "TotalPixelMatrixRows" in dataset or any("PlanePositionSlideSequence" in g for g in each[:1]):
        raise UnsupportedFormat(f"{name}: a segmentation of a microscope slide is not read")
    if len(each) != count:
        raise UnreadableFile(f"{name}: {count} frames are announced, {len(each)} are described")
    found = []
    for groups in each:
        number = 0
        if kind != "LABELMAP":
            sequence = groups.get("SegmentIdentificationSequence") or shared.get("SegmentIdentificationSequence")
            number = int(sequence[0].ReferencedSegmentNumber)
        found.append((number, _affine(groups, shared)))
    return tuple(found)


def _affine(groups: Dataset, shared: Dataset) -> Affine | None:
    """Index (0, h, w) of a frame -> LPS mm; None for a frame without a place."""

    def group(name: str) -> Dataset | None:
        sequence = groups.get(name) or shared.get(name)
        return sequence[0] if sequence else None

    position, turn = group("PlanePositionSequence"), group("PlaneOrientationSequence")
    measures = group("PixelMeasuresSequence")
    if position is None or turn is None or measures is None:
        return None
    cosines = np.asarray([float(v) for v in turn.ImageOrientationPatient])
    rows_mm, columns_mm = (float(v) for v in measures.PixelSpacing)
    between = float(measures.get("SpacingBetweenSlices") or measures.get("SliceThickness") or 1.0)
    affine = np.eye(4)
    affine[:3, 0] = np.cross(cosines[:3], cosines[3:]) * abs(between)
    affine[:3, 1], affine[:3, 2] = cosines[3:] * rows_mm, cosines[:3] * columns_mm
    affine[:3, 3] = [float(v) for v in position.ImagePositionPatient]
    return Geometry((1, 1, 1), affine).affine  # refuses what no grid can have


def label_maps(seg: Segmentation, geometry: Geometry) -> tuple[LabelMap, ...]:
    """The segments on an image's grid; those that overlap go into different label maps.

    A fractional segment holds where at least half is stated; `fractions` gives its numbers.

    Raises: UnreadableFile; GeometryError where the frames do not lie on the image.
    """
    require_same_frame(seg.frame_uids, geometry, seg.file.name)
    numbers = list(seg.names)
    if seg.kind == "FRACTIONAL":
        masks = [
            (seg.names[n], volume.grid >= 0.5) for n, volume in zip(numbers, fractions(seg, geometry), strict=True)
        ]
    else:
        frames = _frames(seg)
        unknown = sorted(set(np.unique(frames).tolist()) - {0, *numbers}) if seg.kind == "LABELMAP" else []
        if unknown:
            raise UnreadableFile(f"{seg.file.name}: holds the values {unknown[:8]}, which it does not describe")
        masks = []
        for number in numbers:
            chosen = [
                (affine, frame == number if seg.kind == "LABELMAP" else frame > 0)
                for (of, affine), frame in zip(seg.places, frames, strict=True)
                if seg.kind == "LABELMAP" or of == number
            ]
            masks.append((seg.names[number], _placed(seg, chosen, geometry) >= 0.5))
    step = Step("acquire.seg", {"file": seg.file.name, "type": seg.kind})
    return stacked(masks, geometry, step)


def fractions(seg: Segmentation, geometry: Geometry) -> tuple[Volume, ...]:
    """Each segment of a fractional SEG as a share from 0 to 1 on an image's grid.

    Raises: UnsupportedFormat for a segmentation that is not fractional.
    """
    if seg.kind != "FRACTIONAL":
        raise UnsupportedFormat(f"{seg.file.name}: a {seg.kind} segmentation holds no fractions")
    require_same_frame(seg.frame_uids, geometry, seg.file.name)
    frames = _frames(seg)
    if not 0 < seg.most <= 65535 or frames.max() > seg.most:
        raise UnreadableFile(f"{seg.file.name}: holds {frames.max()}, more than the {seg.most:g} that stands for 1")
    step = Step("acquire.seg", {"file": seg.file.name, "type": seg.kind})
    found = []
    for number in seg.names:
        chosen = [(a, f / np.float32(seg.most)) for (of, a), f in zip(seg.places, frames, strict=True) if of == number]
        found.append(Volume(_placed(seg, chosen, geometry)[None], geometry, Quantity.PROBABILITY, (step,)))
    return tuple(found)


@quiet()
def _frames(seg: Segmentation) -> Array:
    """Stored values of all frames `n h w`."""
    claimed = len(seg.places) * seg.shape[0] * seg.shape[1]
    within_budget(claimed, 1 << 62, what=seg.file.name, compressed=False)
    try:
        if seg.header.syntax == DEFLATED_FRAMES:
            frames = _inflated_frames(seg)
        else:
            dataset = seg.header.dataset() if seg.header.syntax == DEFLATED else dcmread(seg.file, force=True)
            if seg.header.syntax == DEFLATED:
                begin, length = seg.header.pixels_at, seg.header.pixels_length
                dataset.PixelData = inflated(seg.header)[begin : begin + length]
                dataset["PixelData"].VR = "OB"
                dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            frames = np.asarray(pixel_array(dataset, raw=True))
    except Exception as error:
        raise UnreadableFile(f"{seg.file.name}: its frames cannot be decoded ({cause_of(error)})") from error
    frames = frames[None] if frames.ndim == 2 else frames
    if frames.shape != (len(seg.places), *seg.shape):
        raise UnreadableFile(f"{seg.file.name}: {len(seg.places)} frames were announced, {frames.shape} were stored")
    return frames


def _inflated_frames(seg: Segmentation) -> Array:
    """Frames each deflated on its own (PS3.5 A.4.13), never more of one than its size."""
    dataset = dcmread(seg.file, force=True)
    bits, (rows, columns) = int(dataset.BitsAllocated), seg.shape
    expected = (rows * columns * bits + 7) // 8
    found = []
    for data in generate_frames(dataset.PixelData, number_of_frames=len(seg.places)):
        inflate = zlib.decompressobj(-15)
        raw = inflate.decompress(data, expected + 1)
        if not expected <= len(raw) <= expected + expected % 2:
            raise UnreadableFile(f"{seg.file.name}: a frame inflates to {len(raw)} bytes where {expected} are needed")
        values = np.frombuffer(raw, np.uint8)
        if bits == 1:
            values = np.unpackbits(values, bitorder="little")
        elif bits == 16:
            values = np.frombuffer(raw[:expected], "<u2")
        found.append(values[: rows * columns].reshape(rows, columns))
    return np.stack(found)


def _placed(
    seg: Segmentation, chosen: Sequence[tuple[Affine | None, Array]], geometry: Geometry
) -> Float32[Array, "d h w"]:
    """Frames of one segment at their places on the grid; what lies beside the grid is resampled onto it."""
    out = np.zeros(geometry.shape, np.float32)
    beside: list[tuple[Affine, Array]] = []
    for affine, frame in chosen:
        if affine is None:
            if geometry.shape != (1, *seg.shape):
                raise GeometryError(f"{seg.file.name}: a frame without a place needs one image of {seg.shape} pixels")
            out[0] = np.maximum(out[0], frame)
            continue
        if geometry.space is not Space.PATIENT:
            raise GeometryError(f"{seg.file.name}: a segmentation in the patient needs an image in the patient")
        start = _on_grid(affine, seg.shape, geometry)
        if start is None:
            beside.append((affine, frame))
        else:
            lost = int(np.count_nonzero(frame)) - _paste(out, start, frame)
            if lost:
                raise GeometryError(
                    f"{seg.file.name}: {lost} voxels of a frame lie outside the image: it belongs to another image"
                )
    if beside:
        np.maximum(out, _resampled(seg, beside, geometry), out=out)
    return out


def _on_grid(affine: Affine, shape: tuple[int, int], geometry: Geometry) -> tuple[int, int, int] | None:
    """Grid index of a frame's first pixel, where all its pixels fall on voxels of one slice."""
    corners = np.asarray([(0, 0, 0), (0, shape[0] - 1, 0), (0, 0, shape[1] - 1)], dtype=np.float64)
    world = corners @ affine[:3, :3].T + affine[:3, 3]
    index = geometry.world_to_index(world)
    wanted = np.rint(index[0]) + corners
    if np.abs(index - wanted).max() > _ON_GRID:
        return None
    d, h, w = (int(v) for v in wanted[0])
    return d, h, w


def _paste(out: Array, start: tuple[int, int, int], frame: Array) -> int:
    """Put down the part of a frame that lies within the grid; how many of its voxels that kept."""
    d, h, w = start
    if not 0 <= d < out.shape[0]:
        return 0
    rows = slice(max(0, h), min(out.shape[1], h + frame.shape[0]))
    columns = slice(max(0, w), min(out.shape[2], w + frame.shape[1]))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return 0
    part = frame[rows.start - h : rows.stop - h, columns.start - w : columns.stop - w]
    np.maximum(out[d, rows, columns], part, out=out[d, rows, columns])
    return int(np.count_nonzero(part))


def _resampled(seg: Segmentation, frames: Sequence[tuple[Affine, Array]], geometry: Geometry) -> Array:
    """Frames on a grid of their own, brought onto the image's by nearest neighbour."""
    from isocenter.ops.resample import resample

    first = frames[0][0]
    if any(np.abs(a[:3, :3] - first[:3, :3]).max() > 1e-3 * np.abs(first[:3, :3]).max() for a, _ in frames):
        raise GeometryError(f"{seg.file.name}: its frames lie beside the image's grid and differ in direction or size")
    normal = first[:3, 0] / np.linalg.norm(first[:3, 0])
    along: Float64[Array, "n"] = np.asarray([a[:3, 3] @ normal for a, _ in frames])
    order = np.argsort(along, kind="stable")
    steps = np.diff(np.unique(np.round(along, 3)))
    between = float(steps.min()) if steps.size else float(np.linalg.norm(first[:3, 0]))
    at = np.rint((along - along.min()) / between).astype(int)
    if np.abs((along - along.min()) / between - at).max() > 0.1 or at.max() > 100 * len(frames):
        raise GeometryError(f"{seg.file.name}: its frames lie neither on the image's grid nor on one of their own")
    own = np.zeros((int(at.max()) + 1, *seg.shape), np.float32)
    for place, (_, frame) in zip(at, frames, strict=True):
        np.maximum(own[place], frame, out=own[place])
    affine = first.copy()
    affine[:3, 0] = normal * between
    affine[:3, 3] = frames[int(order[0])][0][:3, 3]
    found = resample(own, affine=affine, to_shape=geometry.shape, to_affine=geometry.affine, interpolation="nearest")
    meant, kept = (
        float(part.sum()) * abs(float(np.linalg.det(turn[:3, :3]))) / 1000
        for part, turn in ((own, affine), (found, geometry.affine))
    )
    if abs(kept - meant) > _MOST_LOST * meant:
        raise GeometryError(
            f"{seg.file.name}: its frames lie beside the image's grid; brought onto it they would have {kept:.4g} mL "
            f"instead of {meant:.4g} mL: it belongs to another image"
        )
    return found
