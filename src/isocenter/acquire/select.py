"""Which of a case's series a recipe takes, and why each other was passed over."""

from collections.abc import Callable, Sequence
from typing import Literal

from pydantic import Field, field_validator

from isocenter.data.case import Case, Series, describe
from isocenter.data.examination import Candidate
from isocenter.data.message import Message
from isocenter.data.provenance import Json
from isocenter.data.step import Settings

MODALITIES = (
    "CT",
    "MR",
    "PT",
    "NM",
    "US",
    "XA",
    "RF",
    "CR",
    "DX",
    "MG",
    "IO",
    "ES",
    "XC",
    "SM",
    "GM",
    "OP",
    "OPT",
    "SC",
    "OT",
)
"""Image modalities (PS3.3 C.7.3.1.1.1) that a recipe may ask for."""


class Select(Settings):
    """Which series is taken. Absent keys ask for nothing; what a file does not state is let through."""

    modality: tuple[str, ...] | None = None
    """DICOM modalities, any of them."""
    image_type: tuple[str, ...] | None = None
    """Words that ImageType must all hold, such as ORIGINAL."""
    image_type_not: tuple[str, ...] | None = None
    """Words that ImageType must not hold, such as LOCALIZER."""
    sequence: tuple[str, ...] | None = None
    """Words of which one must occur in the sequence name, protocol or description; upper and lower case alike."""
    kernel: tuple[str, ...] | None = None
    """Convolution kernels, any of them, as the beginning of the name."""
    body_part: tuple[str, ...] | None = None
    """BodyPartExamined, any of them."""
    contrast: bool | None = None
    """Whether a contrast agent must have been given (true) or must not (false)."""
    colour: bool = False
    """Colour images are taken too; a recipe without `modality` takes them anyway."""
    frames: bool = False
    """Frames in time are wanted, not one volume; the steps `network_sequence` and `time_curve` follow them."""
    thickness_mm: tuple[float, float] | None = None
    """Smallest and largest distance between slices, in millimetres."""
    least_slices: int | None = Field(None, ge=1)
    """Series with fewer slices are passed over."""
    prefer: tuple[Literal["thinnest", "thickest", "most_slices", "newest"], ...] = ()
    """How ties break, first word first; what still ties is refused with the list."""

    @field_validator("modality")
    @classmethod
    def _known(cls, words: tuple[str, ...] | None) -> tuple[str, ...] | None:
        odd = [word for word in words or () if word not in MODALITIES]
        if odd:
            raise ValueError(f"{odd[0]!r} is no DICOM modality; known are {', '.join(MODALITIES)}")
        return words

    @field_validator("thickness_mm")
    @classmethod
    def _ordered(cls, ends: tuple[float, float] | None) -> tuple[float, float] | None:
        if ends is not None and not 0 <= ends[0] <= ends[1]:
            raise ValueError("the smaller distance comes first")
        return ends


_Reason = Message | None
_RANK: dict[str, Callable[[Series], float | str]] = {
    "thinnest": lambda s: -(round(s.spacing_mm[0], 2) if s.spacing_mm else 1e9),
    "thickest": lambda s: round(s.spacing_mm[0], 2) if s.spacing_mm else -1e9,
    "most_slices": lambda s: float(s.shape[0]),
    "newest": lambda s: str(s.attributes.get("AcquisitionDate", "")),
}


def choose(case: Case, select: Select) -> tuple[tuple[Candidate, ...], Message | None]:
    """Judge every series of a case.

    Returns: a candidate for each series, one of them chosen; or none chosen, and why.
    """
    reasons: dict[int, Message] = {}
    fitting: list[int] = []
    for index, series in enumerate(case.series):
        reason = _unfit(series, select)
        if reason is None:
            fitting.append(index)
        else:
            reasons[index] = reason
    for word in select.prefer:
        if len(fitting) < 2:
            break
        best = max(_RANK[word](case.series[i]) for i in fitting)
        for index in [i for i in fitting if _RANK[word](case.series[i]) != best]:
            reasons[index] = Message("passed over for a series that is preferred ({word})", {"word": word})
        fitting = [i for i in fitting if _RANK[word](case.series[i]) == best]
    refusal = None
    if not fitting:
        refusal = Message("No series fits the recipe: {why}.", {"why": _listed(case, reasons)})
    elif len(fitting) > 1:
        listed = _lines([case.series[i] for i in fitting])
        refusal = Message(
            "{n} series fit equally well; name one with --series:\n{listed}",
            {"n": len(fitting), "listed": listed},
        )
        reasons |= {i: Message("fits as well as another") for i in fitting}
    else:
        reasons[fitting[0]] = Message("fits the recipe")
    chosen = fitting[0] if refusal is None else None
    candidates = tuple(Candidate(s, i == chosen, reasons[i]) for i, s in enumerate(case.series))
    return candidates, refusal


def choose_named(case: Case, uid: str) -> tuple[tuple[Candidate, ...], Message | None]:
    """Take the series `uid`, whatever the recipe would have taken."""
    fitting = [s for s in case.series if s.key == uid] or [s for s in case.series if s.uid == uid and not s.localizer]
    named = [s in fitting[:1] for s in case.series]
    if len(fitting) > 1:
        listed = _lines(fitting)
        several = Message("{n} volumes have the UID {uid}; name one with --series:\n{listed}",
                          {"n": len(fitting), "uid": uid, "listed": listed})  # fmt: skip
        return tuple(
            Candidate(s, chosen=False, reason=Message("fits as well as another")) for s in case.series
        ), several
    said = {True: Message("named by the user"), False: Message("another series was named by the user")}
    candidates = tuple(Candidate(s, n, said[n]) for s, n in zip(case.series, named, strict=True))
    listed = _lines(case.series)
    missing = Message("No series has the UID {uid}; there are:\n{listed}", {"uid": uid, "listed": listed})
    return candidates, None if any(named) else missing


def _lines(series: Sequence[Series], most: int = 12) -> str:
    """A line for each series to choose from."""
    more = [f"  ... and {len(series) - most} more"] if len(series) > most else []
    return "\n".join([describe(s) for s in series[:most]] + more)


def _listed(case: Case, reasons: dict[int, Message], most: int = 8) -> tuple[Message, ...]:
    """Each series with its reason, as far as a sentence holds them."""
    names = [s.description or s.uid for s in case.series]
    return tuple(Message("{name}: {reason}", {"name": names[i], "reason": reasons[i]}) for i in list(reasons)[:most])


def _unfit(series: Series, select: Select) -> _Reason:
    """Why the series does not fit, or None."""
    fatal = tuple(d.message for d in series.defects if d.fatal)
    wanted, kernel = select.modality, _text(series.attributes.get("ConvolutionKernel"))
    if wanted and series.modality and series.modality not in wanted:
        return Message("{have} where {want} is wanted", {"have": series.modality, "want": " / ".join(wanted)})
    if fatal:
        return Message("cannot be trusted: {why}", {"why": fatal})
    odd = _shape(series, select) or _image_type(series, select)
    if odd:
        return odd
    said = " ".join(_text(series.attributes.get(k)) for k in ("SequenceName", "ProtocolName")) + series.description
    if select.sequence and said.strip() and not any(w.lower() in said.lower() for w in select.sequence):
        return Message("its sequence is called {said}", {"said": said.strip()})
    if select.kernel and kernel and not any(kernel.upper().startswith(k.upper()) for k in select.kernel):
        return Message("reconstructed with kernel {kernel}", {"kernel": kernel})
    part = _text(series.attributes.get("BodyPartExamined"))
    if select.body_part and part and part.upper() not in {p.upper() for p in select.body_part}:
        return Message("shows the body part {part}", {"part": part})
    if select.contrast is not None and series.format == "dicom":
        given = bool(_text(series.attributes.get("ContrastBolusAgent")))
        if given != select.contrast:
            return Message("with contrast agent" if given else "without contrast agent")
    return _grid(series, select)


def _shape(series: Series, select: Select) -> _Reason:
    """What is not one grey volume."""
    if series.localizer:
        return Message("a localizer that was split off")
    if select.frames and series.frames == 1:
        return Message("one image where frames in time are wanted")
    if series.frames > 1 and not select.frames:
        return Message(
            "a cine of {n} frames where one volume is wanted; the recipe `cine` looks at frames in time",
            {"n": series.frames},
        )
    return Message("a colour image") if series.channels != 1 and select.modality and not select.colour else None


def _image_type(series: Series, select: Select) -> _Reason:
    kinds = _text(series.attributes.get("ImageType")).upper().split("\\")
    if kinds == [""]:
        return None
    absent = [word for word in select.image_type or () if word.upper() not in kinds]
    if absent:
        return Message("its image type lacks {word}", {"word": absent[0]})
    unwanted = [word for word in select.image_type_not or () if word.upper() in kinds]
    return Message("its image type is {word}", {"word": unwanted[0]}) if unwanted else None


def _grid(series: Series, select: Select) -> _Reason:
    between = series.spacing_mm[0] if series.spacing_mm else None
    if select.least_slices and max(series.shape) < select.least_slices:
        return Message("only {n} slices", {"n": series.shape[0]})
    if series.format == "dicom" and select.least_slices and series.shape[0] < select.least_slices:
        return Message("only {n} slices", {"n": series.shape[0]})
    if select.thickness_mm and between is None:
        return Message("has no millimetres")
    if select.thickness_mm and between is not None:
        low, high = select.thickness_mm
        if not low <= between <= high:
            return Message(
                "slices {mm:.2f} mm apart where {low:g} to {high:g} are wanted",
                {"mm": between, "low": low, "high": high},
            )
    return None


def _text(value: Json) -> str:
    return "\\".join(str(v) for v in value) if isinstance(value, list) else str(value or "")
