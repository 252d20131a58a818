"""What an image must be before a recipe may work on it, judged by what its header says."""

from typing import Literal

import numpy as np

from isocenter.analyse.subject import Subject, number_of
from isocenter.data.examination import Analysis
from isocenter.data.finding import Check, Verdict
from isocenter.data.message import Message
from isocenter.data.step import Settings

_DOUBTFUL = ("orientation-unknown", "sform-qform", "unit-unknown", "implausible-spacing")
"""Defects that leave open where the image lies, or how large it is."""


class Orientation(Settings):
    """Settings of `orientation_known`: none."""


def orientation_known(subject: Subject, settings: Orientation) -> Analysis:
    """Review an image whose file leaves its orientation open, or contradicts itself about it."""
    doubts = tuple(d.message for d in subject.series.defects if d.code in _DOUBTFUL)
    if not doubts:
        said = Message("The file states how the image lies in the patient.")
        return Analysis(checks=(Check("orientation_known", "stated", Verdict.ACCEPTED, said),))
    text = Message("The image's place in the patient is in doubt: {why}.", {"why": doubts})
    return Analysis(checks=(Check("orientation_known", "in doubt", Verdict.REVIEW, text),))


class PictureKind(Settings):
    """Settings of `picture_kind`."""

    colour: Literal["needed", "refused", "either"] = "either"
    """Whether the picture must show colours, or must not."""
    stated: str = ""
    """What the file should say that it is; a file that does not (PNG, JPEG) is for review."""


_COLOURED = 0.05


def picture_kind(subject: Subject, settings: PictureKind) -> Analysis:
    """Refuse a grey picture where colour is needed, and a coloured one where there should be none.

    Coloured is a picture whose channels differ by more than 5 % of full scale on average. A file without a modality is
    for review: that it shows what the recipe takes it for rests on the reader.
    """
    image = subject.case.volumes["original"]
    top = float(np.iinfo(image.voxels.dtype).max) if image.voxels.dtype.kind in "iu" else float(image.voxels.max())
    spread = 0.0
    if image.channels == 3:
        spread = float(np.mean(image.voxels.max(axis=0).astype(np.float32) - image.voxels.min(axis=0))) / max(top, 1e-9)
    coloured = spread > _COLOURED
    wrong = (settings.colour == "needed" and not coloured) or (settings.colour == "refused" and coloured)
    text = "The picture is {kind}; this recipe needs {wanted}."
    kinds = {True: "coloured", False: "grey"}
    values = {"kind": Message(kinds[coloured]), "wanted": Message(kinds[not coloured])}
    checks = []
    if wrong:
        checks.append(Check("picture_kind", kinds[coloured], Verdict.REFUSED, Message(text, values)))
    else:
        checks.append(Check("picture_kind", kinds[coloured], Verdict.ACCEPTED, Message("The picture's colours fit.")))
    if settings.stated and not subject.series.modality:
        words = "The file does not say that it is {what}: look whether it is."
        said = Message(words, {"what": Message(settings.stated)})
        checks.append(Check("kind_stated", "not stated", Verdict.REVIEW, said))
    return Analysis(checks=tuple(checks))


class T1Weighted(Settings):
    """Settings of `t1_weighted`."""

    longest_echo_ms: float = 30.0
    """A longer echo is T2 weighting."""
    longest_spin_echo_repetition_ms: float = 1000.0
    """A spin echo without inversion that repeats more slowly is proton density or T2 weighting."""


def t1_weighted(subject: Subject, settings: T1Weighted) -> Analysis:
    """Refuse an image whose acquisition parameters are not those of a T1-weighted MR.

    Spin echo: short repetition and short echo; gradient echo: short echo; with inversion, the fluid must not be nulled
    (FLAIR: long inversion, long echo). A file without parameters (NIfTI) is let through: `t1_contrast` judges its
    picture later.

    Source: M. A. Bernstein et al., Handbook of MRI Pulse Sequences, 2004, sections 14.1 and 16.4.
    """
    series = subject.series
    if series.modality not in ("", "MR"):
        text = Message("A T1-weighted MR is needed; this is {modality}.", {"modality": series.modality})
        return Analysis(checks=(Check("t1_weighted", series.modality, Verdict.REFUSED, text),))
    echo, repetition = (number_of(series, k) for k in ("EchoTime", "RepetitionTime"))
    if echo is None or repetition is None:
        text = Message(
            "The file states no echo and repetition time; whether it is T1-weighted is judged by its contrast."
        )
        return Analysis(checks=(Check("t1_weighted", "not stated", Verdict.ACCEPTED, text),))
    sequence = _words(series.attributes.get("ScanningSequence"))
    inversion = number_of(series, "InversionTime")
    values: dict[str, str | float] = {"te": echo, "tr": repetition, "sequence": "/".join(sequence) or "?"}
    if echo > settings.longest_echo_ms:
        text = Message("Not T1-weighted: echo time {te:g} ms (repetition {tr:g} ms, {sequence}).", values)
        return Analysis(checks=(Check("t1_weighted", f"TE {echo:g} ms", Verdict.REFUSED, text),))
    slow = repetition > settings.longest_spin_echo_repetition_ms
    if slow and "SE" in sequence and "IR" not in sequence and inversion is None:
        text = Message("Not T1-weighted: a spin echo with repetition time {tr:g} ms (echo {te:g} ms).", values)
        return Analysis(checks=(Check("t1_weighted", f"TR {repetition:g} ms", Verdict.REFUSED, text),))
    text = Message("T1-weighted by its parameters: {sequence}, echo {te:g} ms, repetition {tr:g} ms.", values)
    return Analysis(checks=(Check("t1_weighted", f"TE {echo:g} ms, TR {repetition:g} ms", Verdict.ACCEPTED, text),))


def _words(value: object) -> list[str]:
    return [str(v) for v in value] if isinstance(value, list) else ([str(value)] if value else [])
