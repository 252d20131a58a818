"""The series doctor: what a series' files hold, whether it can be trusted, and what mends it.

Order and spacing come from ImagePositionPatient and ImageOrientationPatient (PS3.3 C.7.6.2), never from InstanceNumber
or SliceThickness. Tolerances stand in `acquire.stack`, codes in `acquire.codes`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from isocenter.acquire import values
from isocenter.acquire.codes import mended, noted, refused, under
from isocenter.acquire.flat import picture
from isocenter.acquire.parts import Part, take_apart
from isocenter.acquire.policy import Policy
from isocenter.acquire.stack import Laid, lay
from isocenter.acquire.suv import uptake
from isocenter.data.case import Defect, RefusedFile
from isocenter.data.geometry import Geometry
from isocenter.data.volume import Quantity
from isocenter.errors import InputError
from isocenter.formats.dicom_decode import channels_of
from isocenter.formats.dicom_frames import Frame, frames_of
from isocenter.formats.dicom_header import Header
from isocenter.formats.dicom_image import INTEGER_PIXELS, PIXEL_KINDS, Stack, is_inverse, require_readable

_PREFIX = "1.2.840.10008.5.1.4.1.1."
_CLASSES = {
    **dict.fromkeys(("2", "2.1", "2.2", "4", "4.1", "4.3", "4.4", "128", "130", "128.1"), "stack"),
    **dict.fromkeys(("1", "1.1", "1.1.1", "1.2", "1.2.1", "1.3", "1.3.1", "12.1", "12.1.1", "12.2", "12.2.1"),
                    "projection"),
    **dict.fromkeys(("6.1", "3.1", "6", "3"), "ultrasound"),
    **dict.fromkeys(("7", "7.1", "7.2", "7.3", "7.4", "77.1.1", "77.1.1.1", "77.1.2", "77.1.2.1", "77.1.4", "77.1.4.1",
                     "77.1.5.1", "77.1.5.2"), "picture"),
    **dict.fromkeys(("66.4", "66.7", "481.3"), "result"),
}  # fmt: skip
_STACKED = ("CT", "MR", "PT")


@dataclass(frozen=True)
class Diagnosis:
    """One volume or cine that a series holds.

    Args:
        frames: all of it, in order where that is known.
        stacks: one for a volume, one for each time point of a cine; none where it is refused.
        times_s: of the time points.
        flat: the frames of the one stack are pictures, not slices.
        defects: as the policy takes them.
        localizer: a scout view split off.
    """

    frames: tuple[Frame, ...]
    stacks: tuple[Stack, ...]
    defects: tuple[Defect, ...]
    times_s: tuple[float, ...] | None = None
    flat: bool = False
    localizer: bool = False

    @property
    def geometry(self) -> Geometry | None:
        """Of one volume; None where it is refused."""
        return self.stacks[0].geometry if self.stacks else None

    @property
    def times(self) -> int:
        """How many frames a cine has; 1 for a volume."""
        return len(self.frames) if self.flat else max(1, len(self.stacks))


def kind_of(header: Header) -> str:
    """`stack`, `projection`, `ultrasound`, `picture` or `result`; empty for what is no image that is read."""
    kind = _class_kind(header.raw("SOPClassUID"))
    if kind not in ("", "picture") or header.text("Modality") not in _STACKED or not header.has("Rows"):
        return kind
    return "stack" if header.has("ImagePositionPatient") and header.has("ImageOrientationPatient") else kind


@lru_cache(maxsize=256)
def _class_kind(raw: bytes) -> str:
    sop = raw.decode("latin-1").strip("\0 ")
    return _CLASSES.get(sop.removeprefix(_PREFIX), "") if sop.startswith(_PREFIX) else ""


def diagnose(
    headers: Sequence[Header], policy: Policy, *, truncated: Sequence[str] = ()
) -> tuple[list[Diagnosis], list[RefusedFile]]:
    """Everything that the images of one series hold, and the files that are no part of it.

    Args:
        headers: of one Series Instance UID.
        policy: what is done about defects.
        truncated: names of files of the series whose pixels are cut off.
    """
    frames: list[tuple[Frame, ...]] = []
    refused_files: list[RefusedFile] = []
    readable: set[tuple[object, ...]] = set()
    for header in headers:
        try:
            pixels = (*map(header.raw, PIXEL_KINDS), INTEGER_PIXELS in header.elements)
            if pixels not in readable:
                require_readable(header)
                readable.add(pixels)
            frames.append(frames_of(header))
        except InputError as error:
            refused_files.append(RefusedFile(header.file, str(error)))
    by_kind: dict[str, list[tuple[Frame, ...]]] = {}
    for each in frames:
        by_kind.setdefault(kind_of(each[0].header), []).append(each)
    found: list[Diagnosis] = []
    for kind, members in sorted(by_kind.items(), key=lambda item: item[0] != "stack"):
        common = _common([each[0].header for each in members], truncated)
        if len(by_kind) > 1:
            text = "{n} kinds of image in one series ({kinds})"
            kinds = ", ".join(sorted(by_kind))
            common.insert(0, mended("several-volumes", text, "taken apart", n=len(by_kind), kinds=kinds))
        if kind == "stack":
            found += _stacks([f for each in members for f in each], policy, common)
        else:
            found += [_flat(each, kind, common, policy) for each in members]
    return found, refused_files


def _common(headers: Sequence[Header], truncated: Sequence[str]) -> list[Defect]:
    """What concerns a series as a whole."""
    cut = []
    if truncated:
        text = "the pixels of {n} file(s) are cut off or absent ({file}{more})"
        more = " ..." if len(truncated) > 1 else ""
        cut = [mended("truncated-pixels", text, "left out", n=len(truncated), file=truncated[0], more=more)]
    return [
        *cut,
        *values.safely(lambda: values.value_defects(headers)),
        *values.safely(lambda: values.time_defects(headers)),
    ]


def _flat(frames: tuple[Frame, ...], kind: str, common: Sequence[Defect], policy: Policy) -> Diagnosis:
    try:
        found = picture(frames, kind=kind)
    except InputError as error:
        defect = refused("invalid-value", "{error}", error=str(error))
        return Diagnosis(frames, (), (defect, *common), flat=True)
    slope, shift = frames[0].rescale or (1.0, 0.0)
    defects = [*found.defects, *common]
    if not 0 < abs(slope) < 1e6 or abs(shift) > 1e9:
        text = "{file}: rescale slope {slope:g} and intercept {shift:g} cannot be right"
        defects.append(refused("invalid-value", text, file=frames[0].name, slope=slope, shift=shift))
    return _judged(Diagnosis(frames, (found.stack,), tuple(defects), found.times_s, flat=True), policy)


def _judged(found: Diagnosis, policy: Policy) -> Diagnosis:
    """Under the policy: a diagnosis with a fatal defect has nothing to read."""
    defects = under(policy, found.defects)
    return replace(found, defects=defects, stacks=() if any(d.fatal for d in defects) else found.stacks)


def _stacks(frames: Sequence[Frame], policy: Policy, common: list[Defect]) -> list[Diagnosis]:
    """Volumes and cines of a series of slices."""
    placed, unplaced = _placed(frames)
    if not placed:
        code, text = unplaced[0].fault or ("malformed-geometry", "")
        return [Diagnosis(tuple(frames), (), (refused(code, "{error}", error=text), *common))]
    if unplaced:
        code, why = unplaced[0].fault or ("malformed-geometry", "")
        text = "{error}; {n} of {all} slices have no place"
        common.insert(0, mended(code, text, "left out", error=why, n=len(unplaced), all=len(frames)))
    parts = take_apart(placed)
    found = [_part(part, policy) for part in parts]
    numbered = list({id(f.header): f.header for f in parts[0].frames}.values())
    numbering = values.safely(lambda: values.number_defects(numbered))
    first = replace(found[0], defects=(*found[0].defects, *numbering, *common))
    others = [replace(f, defects=(*f.defects, *[d for d in common if d.remedy is None])) for f in found[1:]]
    return [_judged(diagnosis, policy) for diagnosis in (first, *others)]


def _placed(frames: Sequence[Frame]) -> tuple[list[Frame], list[Frame]]:
    """Frames with position, orientation and spacing, and those without."""
    placed, unplaced = [], []
    for frame in frames:
        absent = [
            name
            for name, value in (
                ("ImagePositionPatient", frame.position),
                ("ImageOrientationPatient", frame.orientation),
                ("PixelSpacing", frame.spacing),
            )
            if value is None
        ]
        if frame.fault is not None:
            unplaced.append(frame)
        elif absent:
            text = f"{frame.name}: {', '.join(absent)} absent: the slice has no place in the patient"
            unplaced.append(replace(frame, fault=("malformed-geometry", text)))
        else:
            placed.append(frame)
    return placed, unplaced


def _part(part: Part, policy: Policy) -> Diagnosis:
    """One volume or cine, its values judged and its slices laid."""
    header = part.frames[0].header
    modality, unnamed = _modality(header)
    defects = [*part.defects, *unnamed, *values.safely(lambda: values.rescale_defects(part.frames, modality))]
    defects += values.safely(lambda: values.bits_defects(part.frames))
    if any(d.fatal for d in defects):
        return Diagnosis(part.frames, (), tuple(defects), localizer=part.localizer)
    stacks: list[Stack] = []
    for frames in part.times or (part.frames,):
        stack, said = _laid(frames, policy)
        defects += [d for d in said if d not in defects] if not part.times or not stacks else []
        if stack is None:
            defects += [d for d in said if d.fatal and d not in defects]
            return Diagnosis(part.frames, (), tuple(defects), localizer=part.localizer)
        stacks.append(stack)
    try:
        measured, more = _measuring(stacks, part, modality, policy)
    except InputError as error:
        measured, more = stacks, (refused("invalid-value", "{error}", error=str(error)),)
    ordered = tuple(f for stack in measured for f in stack.frames)
    return Diagnosis(ordered, tuple(measured), (*defects, *more), part.times_s, localizer=part.localizer)


def _modality(header: Header) -> tuple[str, tuple[Defect, ...]]:
    """Modality as stated, or as the class of the object says."""
    stated = header.text("Modality")
    if stated:
        return stated, ()
    known = {"2": "CT", "4": "MR", "128": "PT"}.get(header.text("SOPClassUID").removeprefix(_PREFIX).split(".")[0], "")
    text = "{file}: Modality is absent; its class says {known}"
    return known, (noted("invalid-value", text, file=header.file.name, known=known or "nothing"),)


def _laid(frames: Sequence[Frame], policy: Policy) -> Laid:
    try:
        return lay(frames, policy)
    except InputError as error:
        return None, (refused("malformed-geometry", "{error}", error=str(error)),)


def _measuring(
    stacks: Sequence[Stack], part: Part, modality: str, policy: Policy
) -> tuple[list[Stack], tuple[Defect, ...]]:
    """Stacks that know what their values measure."""
    frame = part.frames[0]
    inverse = any(is_inverse(f.header) for f in part.frames)
    if modality == "PT":
        found = uptake(part.frames, suv=policy.suv)
        said = {**(found.said or {})}
        stacks = [replace(s, quantity=found.quantity, factor=found.factor, said={**s.said, **said}) for s in stacks]
        return stacks, (*found.defects, *_kept_monochrome1(inverse, "the uptake values"))
    if modality == "CT" and channels_of(frame.header) == 1:
        kind = values.rescale_type(frame)
        if kind not in ("", "HU"):
            text = "{file}: rescaled to {kind}: no Hounsfield units are claimed"
            return list(stacks), (noted("missing-rescale", text, file=frame.name, kind=kind),)
        return [replace(s, quantity=Quantity.HU) for s in stacks], _kept_monochrome1(inverse, "the Hounsfield units")
    if not inverse:
        return list(stacks), ()
    text = "MONOCHROME1: the smallest value is meant to be shown white"
    defect = mended("monochrome1", text, "inverted, so that larger is brighter")
    return [replace(s, inverted=True, said={**s.said, "inverted": "MONOCHROME1"}) for s in stacks], (defect,)


def _kept_monochrome1(inverse: bool, what: str) -> tuple[Defect, ...]:
    """Where values are calibrated, how they are shown does not change them."""
    if not inverse:
        return ()
    text = "MONOCHROME1: the smallest value is meant to be shown white"
    return (mended("monochrome1", text, "{what} come from the rescale and are kept", what=what),)
