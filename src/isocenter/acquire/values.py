"""What a series' headers say that cannot be so: values against their rules, rescale, times, numbering."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from isocenter.acquire.codes import mended, noted, refused
from isocenter.data.case import Defect
from isocenter.errors import UnreadableFile
from isocenter.formats.dicom_frames import Frame, days_of, seconds_of
from isocenter.formats.dicom_header import Header
from isocenter.formats.dicom_walk import tag_of, vr_of

_GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
_LONGEST = {"SH": 16, "CS": 16, "DS": 16, "IS": 12, "AS": 4, "LO": 64, "UI": 64, "AE": 16}
_FORM: dict[str, re.Pattern[str]] = {
    "DS": re.compile(r"[ ]*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?[ ]*"),
    "IS": re.compile(r"[ ]*[+-]?\d+[ ]*"),
    "DA": re.compile(r"\d{8}|\d{4}\.\d{2}\.\d{2}"),
    "TM": re.compile(r"(\d{2}){1,3}(\.\d{1,6})?|\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?"),
    "CS": re.compile(r"[A-Z0-9 _]*"),
    "UI": re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+"),
    "AS": re.compile(r"\d{3}[DWMY]"),
}
_BY_SLICE = (*_GEOMETRY, "InstanceNumber", "RescaleSlope", "RescaleIntercept", "SliceThickness", "AcquisitionTime")
"""Looked at in every file; the others are the same in all files of a series, and looked at in the first."""
_CHECKED = (
    *_BY_SLICE, "StudyID", "AccessionNumber", "PatientID", "PatientAge", "PatientSex", "PatientBirthDate", "StudyDate",
    "StudyTime", "SeriesDate", "SeriesTime", "AcquisitionDate", "ContentDate", "ContentTime", "SeriesNumber",
    "AcquisitionNumber", "SpacingBetweenSlices", "EchoTime", "RepetitionTime", "FlipAngle", "KVP", "PatientWeight",
    "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID", "ImageType", "Modality",
    "SeriesDescription", "StudyDescription", "ConvolutionKernel", "Manufacturer", "BodyPartExamined",
)  # fmt: skip
_MOST_NAMED = 4
_LONGEST_STUDY_DAYS = 30


def value_defects(headers: Sequence[Header]) -> Iterator[Defect]:
    """Values that their value representation (PS3.5 6.2) does not allow; numbers of the geometry are told first."""
    odd: dict[str, tuple[Header, str, str]] = {}
    for keyword in _CHECKED:
        tag = tag_of(keyword)
        looked = headers if keyword in _BY_SLICE else headers[:1]
        for raw in {header.elements.get(tag, b"") for header in looked}:
            if raw and keyword not in odd:
                holder = next(h for h in looked if h.elements.get(tag) == raw) if not raw.isascii() else looked[0]
                why = _against(raw, vr_of(tag), holder, keyword)
                if why:
                    holder = next(h for h in looked if h.elements.get(tag) == raw)
                    odd[keyword] = (holder, why, raw.decode("latin-1").strip("\0 ")[:80])
    geometry = {k: v for k, v in odd.items() if k in _GEOMETRY}
    for keyword, (header, why, said) in geometry.items():
        text = "{file}: {keyword} {why}: {said}; taken as the numbers it states"
        yield noted("malformed-geometry", text, file=header.file.name, keyword=keyword, why=why, said=said)
    others = [(k, v) for k, v in odd.items() if k not in _GEOMETRY]
    for keyword, (header, why, _) in others[:_MOST_NAMED]:
        yield noted("invalid-value", "{file}: {keyword} {why}", file=header.file.name, keyword=keyword, why=why)
    if len(others) > _MOST_NAMED:
        names = ", ".join(k for k, _ in others[_MOST_NAMED:])
        yield noted("invalid-value", "more elements hold what they may not: {names}", names=names)


def _against(raw: bytes, vr: str, header: Header, keyword: str) -> str:
    """What is wrong with a raw value, without quoting it; empty where nothing is."""
    if not raw or vr not in (*_LONGEST, *_FORM):
        return ""
    words = raw.decode("ascii") if raw.isascii() else header.text(keyword)
    most, form = _LONGEST.get(vr), _FORM.get(vr)
    for part in words.split("\\"):
        value = part.rstrip("\0") if vr in ("DS", "IS") else part.strip("\0 ")
        length = len(value) if vr in ("DS", "IS") else len(value.strip())
        if most and length > most:
            return f"has {length} characters where {most} are allowed"
        if value and form and not form.fullmatch(value):
            return f"is no value of the kind {vr}"
        if vr == "DA" and value and len(value) == 8 and not days_of(value):
            return "is no date"
    return ""


def rescale_defects(frames: Sequence[Frame], modality: str) -> Iterator[Defect]:
    """Rescale that is absent, cannot be, or changes from slice to slice."""
    looked_up = [f for f in frames if f.header.has("ModalityLUTSequence")]
    if looked_up and len(looked_up) < len(frames):
        text = "{n} of {all} slices have a modality lookup table ({file}), the others none"
        yield refused("invalid-value", text, n=len(looked_up), all=len(frames), file=looked_up[0].name)
        return
    if looked_up:
        if modality == "CT":
            text = "{file}: a CT through a lookup table has no Hounsfield units"
            yield refused("missing-rescale", text, file=frames[0].name)
        return
    found = Counter(f.rescale for f in frames)
    bare = next((f for f in frames if f.rescale is None), None)
    if bare is not None and modality in ("CT", "PT"):
        text = "{file}: a {modality} slice without rescale measures nothing known; {n} such"
        yield refused("missing-rescale", text, file=bare.name, modality=modality, n=found[None])
        return
    for frame in frames:
        slope, shift = frame.rescale or (1.0, 0.0)
        if not (0 < abs(slope) <= 1e6 and abs(shift) <= 1e9) or (slope < 0 and modality in ("CT", "PT")):
            text = "{file}: rescale slope {slope:g} and intercept {shift:g} cannot be right"
            yield refused("invalid-value", text, file=frame.name, slope=slope, shift=shift)
            return
    kinds = Counter(rescale_type(f) for f in frames)
    if modality == "CT" and len(kinds) > 1 and set(kinds) - {"", "HU"}:
        odd = next(f for f in frames if rescale_type(f) not in ("", "HU"))
        text = "{file} is rescaled to {kind}, other slices to Hounsfield units"
        yield refused("missing-rescale", text, file=odd.name, kind=rescale_type(odd))
        return
    if len(found) > 1 and modality in ("CT", "MR"):
        (usual, count), *_ = found.most_common(1)
        odd = next(f for f in frames if f.rescale != usual)
        text = "{count} of {all} slices are rescaled by {usual}, {file} by {odd}"
        yield mended("mixed-rescale", text, "each rescaled by its own", count=count, all=len(frames), file=odd.name,
                     usual=_line(usual), odd=_line(odd.rescale))  # fmt: skip


def _line(rescale: tuple[float, float] | None) -> str:
    return "nothing" if rescale is None else f"{rescale[0]:g} x + {rescale[1]:g}"


def rescale_type(frame: Frame) -> str:
    """RescaleType as stated; empty where it is not."""
    return (str(frame.keys.get("RescaleType", "")) or frame.header.text("RescaleType")).upper()


def bits_defects(frames: Sequence[Frame]) -> Iterator[Defect]:
    """Slices that store another number of bits than the others: their values may be cut."""
    found = Counter(f.header.raw("BitsStored") for f in frames)
    if len(found) > 1:
        (usual, _), *_ = found.most_common(1)
        odd = next(f for f in frames if f.header.raw("BitsStored") != usual)
        text = "{file} stores {odd:g} bits a pixel, other slices {usual:g}: values beyond them would be cut off"
        same = next(f for f in frames if f.header.raw("BitsStored") == usual)
        yield noted("invalid-value", text, file=odd.name, odd=odd.header.number("BitsStored", 0),
                    usual=same.header.number("BitsStored", 0))  # fmt: skip


def number_defects(headers: Sequence[Header]) -> Iterator[Defect]:
    """InstanceNumber that cannot order the slices."""
    if len(headers) < 2:
        return
    numbers = [h.raw("InstanceNumber").strip(b"\0 ") for h in headers]
    common, count = Counter(numbers).most_common(1)[0]
    if common and count == 1 and all(numbers):
        return
    said = "absent" if not common else common.decode("latin-1")[:16]
    text = "InstanceNumber is {said} in {count} of {all} files"
    yield mended("instance-number", text, "the order is that of the positions", said=said, count=count,
                 all=len(headers))  # fmt: skip


def time_defects(headers: Sequence[Header]) -> Iterator[Defect]:
    """Dates and times of study, series and acquisition that run backwards, or a patient not yet born."""
    header = headers[0]
    study, series = _moment(header, "StudyDate", "StudyTime"), _moment(header, "SeriesDate", "SeriesTime")
    taken = _moment(header, "AcquisitionDate", "AcquisitionTime")
    born = days_of(header.text("PatientBirthDate"))
    if study and taken and taken[0] < study[0]:
        text = "acquired on {a}, before the study of {b}"
        yield noted("time-inconsistent", text, a=header.text("AcquisitionDate"), b=header.text("StudyDate"))
    elif study and series and series[0] < study[0]:
        text = "the series of {a} stands in the study of {b}"
        yield noted("time-inconsistent", text, a=header.text("SeriesDate"), b=header.text("StudyDate"))
    if study and taken and taken[0] > study[0] + _LONGEST_STUDY_DAYS:
        text = "acquired on {a}, long after the study of {b}"
        yield noted("time-inconsistent", text, a=header.text("AcquisitionDate"), b=header.text("StudyDate"))
    if study and born and born > study[0]:
        yield noted("time-inconsistent", "the patient was born after the study")


def _moment(header: Header, date: str, clock: str) -> tuple[int, float] | None:
    day = days_of(header.text(date))
    return (day, seconds_of(header.text(clock)) or 0.0) if day else None


def safely(check: Callable[[], Iterator[Defect]]) -> list[Defect]:
    """The defects of a check; a header that cannot be read at all is one."""
    try:
        return list(check())
    except UnreadableFile as error:
        return [refused("invalid-value", "{error}", error=str(error))]
