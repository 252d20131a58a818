"""One series that holds several things, taken apart: localizers, sizes, echoes, times, copies."""

import itertools
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np

from isocenter.acquire.codes import mended, refused
from isocenter.acquire.stack import ORIENTATION_DEG, SPACING_MM, axes_of
from isocenter.data.case import Defect
from isocenter.data.message import Message
from isocenter.errors import GeometryError, InputError
from isocenter.formats.dicom_decode import channels_of, stored_dtype
from isocenter.formats.dicom_frames import APART_KEYS, TIME_KEYS, Frame, apart_key, time_key
from isocenter.formats.dicom_pixels import read_planes
from isocenter.types import Array

_AT_ONCE = 256
"""Frames that are compared at a time, so that memory stays flat."""
_SCOUT_DEG = 20.0
"""Slices turned by less than this are no scout view: the patient or the planning moved."""


@dataclass(frozen=True)
class Part:
    """Frames that belong together, and what was wrong with the series they came from.

    Args:
        frames: at different places, unless `times` parts them.
        defects: of the taking apart.
        times: for a cine, the frames of each time point; else empty.
        times_s: when each time point was taken; None where that is unknown.
        localizer: a scout view split off from the series.
    """

    frames: tuple[Frame, ...]
    defects: tuple[Defect, ...] = ()
    times: tuple[tuple[Frame, ...], ...] = ()
    times_s: tuple[float, ...] | None = None
    localizer: bool = False


def take_apart(frames: Sequence[Frame]) -> tuple[Part, ...]:
    """Volumes and cines of one series' placed frames, the one with most frames first."""
    parts = [Part(tuple(frames))]
    splits: tuple[Callable[[Part], list[Part]], ...] = (
        _by_orientation,
        lambda part: _by(part, "several-volumes", "modalities", lambda frame: frame.header.raw("Modality")),
        lambda part: _by(part, "mixed-size", "sizes", _size),
        lambda part: _by(part, "mixed-spacing", "pixel spacings", _spacing),
        lambda part: _by(part, "frame-of-reference", "frames of reference", _frame_of_reference),
        _by_kind,
        _interleaved,
        _by_place,
    )
    for split in splits:
        parts = [smaller for part in parts for smaller in split(part)]
    return tuple(sorted(parts, key=lambda part: (part.localizer, -len(part.frames))))


def _size(frame: Frame) -> Hashable:
    return (*frame.shape, channels_of(frame.header))


def _spacing(frame: Frame) -> Hashable:
    return tuple(round(s, 5) for s in frame.spacing or ())


def _frame_of_reference(frame: Frame) -> Hashable:
    return frame.header.raw("FrameOfReferenceUID")


def _by(part: Part, code: str, what: str, value: Callable[[Frame], Hashable]) -> list[Part]:
    """Groups of frames that agree in `value`."""
    groups: dict[Hashable, list[Frame]] = {}
    for frame in part.frames:
        groups.setdefault(value(frame), []).append(frame)
    if len(groups) == 1:
        return [part]
    usual, odd = sorted(groups.values(), key=len, reverse=True)[:2]
    text = "slices of {n} different {what}: {count} have {usual}, {file} has {odd}"
    defect = mended(
        code, text, "split into {n} volumes", n=len(groups), what=what, count=len(usual),
        usual=_said(value(usual[0])), file=odd[0].name, odd=_said(value(odd[0])),
    )  # fmt: skip
    return [replace(part, frames=tuple(g), defects=(*part.defects, defect)) for g in groups.values()]


def _said(value: Hashable) -> str:
    if isinstance(value, tuple):
        return " x ".join(str(v) for v in value)
    return (value.decode("latin-1").strip("\0 ") if isinstance(value, bytes) else str(value)) or "none"


def _by_orientation(part: Part) -> list[Part]:
    """Groups of frames that lie in one direction; a few against many are a localizer."""
    turns = np.asarray([f.orientation for f in part.frames], dtype=np.float64)
    chord = 2 * np.sin(np.deg2rad(ORIENTATION_DEG) / 2)
    left, groups = np.arange(len(turns)), list[Array]()
    while left.size:
        apart = turns[left] - turns[left[0]]
        alike = np.maximum(np.linalg.norm(apart[:, :3], axis=1), np.linalg.norm(apart[:, 3:], axis=1)) <= chord
        groups.append(left[alike])
        left = left[~alike]
    if len(groups) == 1:
        return [part]
    groups.sort(key=len, reverse=True)
    few = [g for g in groups[1:] if len(g) <= max(3, len(turns) // 10)]
    odd = part.frames[groups[1][0]]
    degrees = _degrees(turns[groups[0][0]], turns[groups[1][0]])
    scouts = len(few) == len(groups) - 1 and len(groups[0]) > len(few[0]) and degrees >= _SCOUT_DEG
    count = len(turns) - len(groups[0])
    text = "{count} of {all} slices are turned against the others ({file} by {degrees:.3g} degrees)"
    remedy = "split off as a localizer" if scouts else "split into {n} volumes"
    code = "localizer" if scouts else "mixed-orientation"
    defect = mended(code, text, remedy, count=count, all=len(turns), file=odd.name, degrees=degrees, n=len(groups))
    return [
        replace(part, frames=tuple(part.frames[i] for i in g), defects=(*part.defects, defect),
                localizer=scouts and g is not groups[0])
        for g in groups
    ]  # fmt: skip


def _degrees(a: Array, b: Array) -> float:
    """The larger of the angles between rows and between columns of two orientations."""
    cosines = [float(np.dot(a[s], b[s]) / (np.linalg.norm(a[s]) * np.linalg.norm(b[s]) + 1e-12))
               for s in (slice(0, 3), slice(3, 6))]  # fmt: skip
    return float(np.rad2deg(np.arccos(np.clip(min(cosines), -1, 1))))


_KINDS = ("image type", "echo time", "b-value", "gradient direction")


def _by_kind(part: Part) -> list[Part]:
    """Groups of one image type, echo and diffusion weighting."""
    found = Counter(f.kind for f in part.frames)
    if len(found) == 1:
        return [part]
    columns = list(zip(*[k + ("",) * (4 - len(k)) for k in found], strict=True))
    differs = tuple(Message(_KINDS[i]) for i, column in enumerate(columns) if len(set(column)) > 1)
    text = "{n} volumes in one series, which differ in {what}"
    defect = mended("several-volumes", text, "split into {n} volumes", n=len(found), what=differs)
    return [
        replace(part, frames=tuple(f for f in part.frames if f.kind == kind), defects=(*part.defects, defect),
                localizer=part.localizer or "LOCALIZER" in kind[0])
        for kind in found
    ]  # fmt: skip


_STACKS = (TIME_KEYS[0], "AcquisitionNumber", "ConvolutionKernel", "KVP", "EchoNumbers", "StackID")

_ELEMENTS = frozenset(_STACKS) - {"StackID"}


def _interleaved(part: Part) -> list[Part]:
    """Stacks pushed into each other: groups that another element tells apart, and that lie in the same stretch."""
    if len(part.frames) < 4:
        return [part]
    try:
        normal = axes_of(part.frames[0].orientation or ())[:, 0]
    except GeometryError:
        return [part]
    along = np.asarray([f.position for f in part.frames], dtype=np.float64) @ normal
    for name in _STACKS:
        if name in _ELEMENTS and len({f.header.raw(name) for f in part.frames if "frames" not in f.keys}) == 1:
            continue  # quickly: in nearly all series they agree
        groups: dict[str, list[int]] = {}
        for i, frame in enumerate(part.frames):
            groups.setdefault(_key(frame, name), []).append(i)
        if len(groups) < 2 or min(map(len, groups.values())) < 2 or not _overlap([along[g] for g in groups.values()]):
            continue
        if len(_places(part.frames)) < len(part.frames):
            return [part]  # frames at one place are told apart there
        if name == "AcquisitionNumber" and _side_by_side(part.frames[0], along):
            continue
        text = "{n} volumes in one series, which differ in {what}"
        defect = mended("several-volumes", text, "split into {n} volumes", n=len(groups), what=name)
        return [
            replace(part, frames=tuple(part.frames[i] for i in g), defects=(*part.defects, defect))
            for g in groups.values()
        ]
    return [part]


def _side_by_side(frame: Frame, along: Array) -> bool:
    """Slices as far apart as they are thick: one stack, taken in turns (odd slices, then even ones)."""
    thickness = frame.header.number("SliceThickness", 0.0)
    return 0 < thickness * 0.9 <= float(np.median(np.diff(np.sort(along))))


def _overlap(stretches: Sequence[Array]) -> bool:
    """Whether some two groups share at least half of the shorter one's extent."""
    ends = sorted((float(s.min()), float(s.max())) for s in stretches)
    return any(min(a[1], b[1]) - b[0] > 0.5 * min(a[1] - a[0], b[1] - b[0]) > 0 for a, b in itertools.pairwise(ends))


def _by_place(part: Part) -> list[Part]:
    """Frames at one place are told apart by time or acquisition; exact copies are dropped; what is left is refused."""
    places = _places(part.frames)
    if max(map(len, places)) == 1:
        return [part]
    explained = _in_time(part, places) or _acquisitions(part, places)
    if explained:
        return explained
    part, places = _without_copies(part, places)
    if max(map(len, places)) == 1:
        return [part]
    explained = _in_time(part, places) or _acquisitions(part, places)
    if explained:
        return explained
    place = next(p for p in places if len(p) > 1)
    count = sum(len(p) > 1 for p in places)
    text = "{fa} and {fb} lie at one place ({z:.2f} mm along the stack) and hold different pixels; {n} such places"
    z = float(np.asarray(place[0].position) @ axes_of(place[0].orientation or ())[:, 0])
    defect = refused("duplicate-slice", text, fa=place[0].name, fb=place[1].name, z=z, n=count)
    return [replace(part, defects=(*part.defects, defect))]


def _places(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Frames grouped by where they lie, along their normal."""
    try:
        normal = axes_of(frames[0].orientation or ())[:, 0]
    except GeometryError:
        return [[frame] for frame in frames]
    positions = np.asarray([f.position for f in frames], dtype=np.float64)
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    places: list[list[Frame]] = []
    last = None
    for i in order:
        if last is not None and np.linalg.norm(positions[i] - last) <= SPACING_MM:
            places[-1].append(frames[i])
        else:
            places.append([frames[i]])
            last = positions[i]
    return places


def _in_time(part: Part, places: list[list[Frame]]) -> list[Part] | None:
    """A cine, where every place has as many frames and a time orders them alike."""
    count = len(places[0])
    if count < 2 or any(len(place) != count for place in places):
        return None
    for name in TIME_KEYS:
        stated = [[time_key(f, name) for f in place] for place in places]
        if any(t is None for row in stated for t in row):
            continue
        times = np.asarray(stated, dtype=np.float64)
        order = np.argsort(times, axis=1, kind="stable")
        ranked = np.take_along_axis(times, order, axis=1)
        if np.any(np.diff(ranked, axis=1) <= 0):
            continue
        if name != "TriggerTime" and np.any(ranked[:, :-1].max(axis=0) > ranked[:, 1:].min(axis=0)):
            continue
        points = tuple(tuple(place[row[k]] for place, row in zip(places, order, strict=True)) for k in range(count))
        seconds = None
        if name != "TemporalPositionIdentifier":
            mean = ranked.mean(axis=0)
            seconds = tuple(float(t) for t in mean - mean[0])
        return [replace(part, frames=tuple(f for p in points for f in p), times=points, times_s=seconds)]
    return None


def _acquisitions(part: Part, places: list[list[Frame]]) -> list[Part] | None:
    """Volumes that another element tells apart, each with one frame at a place."""
    for name in (TIME_KEYS[0], *APART_KEYS):
        groups: dict[str, list[Frame]] = {}
        for frame in part.frames:
            groups.setdefault(_key(frame, name), []).append(frame)
        if len(groups) < 2 or any(max(map(len, _places(g))) > 1 for g in groups.values()):
            continue
        if max(map(len, groups.values())) < len(places) / 2:
            continue  # every slice with a value of its own explains nothing
        text = "{n} volumes in one series, which differ in {what}"
        defect = mended("several-volumes", text, "split into {n} volumes", n=len(groups), what=name)
        return [replace(part, frames=tuple(g), defects=(*part.defects, defect)) for g in groups.values()]
    return None


def _key(frame: Frame, name: str) -> str:
    if name in TIME_KEYS:
        time = time_key(frame, name)
        return "" if time is None else f"{time:g}"
    return apart_key(frame, name)


def _without_copies(part: Part, places: list[list[Frame]]) -> tuple[Part, list[list[Frame]]]:
    """Each frame once: copies of the same pixels at the same place are left out."""
    kept: list[list[Frame]] = []
    copies: list[tuple[Frame, Frame]] = []
    digests = _digests([frame for place in places if len(place) > 1 for frame in place])
    for place in places:
        unique: dict[object, Frame] = {}
        for frame in place:
            same = unique.setdefault(digests.get(id(frame), id(frame)), frame)
            if same is not frame:
                copies.append((same, frame))
        kept.append(list(unique.values()))
    if not copies:
        return part, places
    a, b = copies[0]
    text = "{fb} repeats {fa}, pixel for pixel, at the same place; {n} such copies"
    defect = mended("duplicate-slice", text, "each kept once", fa=a.name, fb=b.name, n=len(copies))
    frames = tuple(f for place in kept for f in place)
    return replace(part, frames=frames, defects=(*part.defects, defect)), kept


def _digests(frames: Sequence[Frame]) -> dict[int, object]:
    """What each frame's values are, by identity of the frame: pixels, rescale and how they are shown.

    Frames whose pixels cannot be read are like no other.
    """
    found: dict[int, object] = {}
    by_file: dict[int, list[Frame]] = {}
    for frame in frames:
        by_file.setdefault(id(frame.header), []).append(frame)
    for members in by_file.values():
        header = members[0].header
        for begin in range(0, len(members), _AT_ONCE):
            some = members[begin : begin + _AT_ONCE]
            planes = np.empty((len(some), channels_of(header), *some[0].shape), stored_dtype(header))
            try:
                read_planes(some, planes)
            except InputError:
                continue
            shown = header.raw("PhotometricInterpretation"), planes.dtype.str
            for frame, plane in zip(some, planes, strict=True):
                found[id(frame)] = (sha256(plane.tobytes()).digest(), frame.rescale, *shown)
    return found
