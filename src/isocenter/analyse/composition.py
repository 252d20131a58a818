"""Body composition on CT: muscle, fat, vertebra, liver and spleen, in given masks."""

import numpy as np

from isocenter.analyse.subject import Subject, labels_of, number_of, text_of
from isocenter.data.examination import Analysis
from isocenter.data.finding import Check, Finding, Verdict
from isocenter.data.message import Message
from isocenter.data.step import Settings
from isocenter.data.volume import Quantity
from isocenter.errors import InputError

_RANGES = {
    "muscle": (-29.0, 150.0),
    "subcutaneous fat": (-190.0, -30.0),
    "intermuscular fat": (-190.0, -30.0),
    "visceral fat": (-150.0, -50.0),
}
"""HU that count as each tissue: N. Mitsiopoulos et al., J. Appl. Physiol. 85(1):115-122, 1998 (muscle, fat); visceral:
T. Yoshizumi et al., Radiology 211(1):283-286, 1999, as used by M. Mourtzakis et al., APNM 33(5):997-1006, 2008."""
_ORGANS = ("vertebra", "liver", "spleen")


class BodyComposition(Settings):
    """Settings of `body_composition`."""

    label_maps = ("of",)

    of: str = "masks"
    """The label map: its labels are called muscle, subcutaneous fat, visceral fat, intermuscular fat, vertebra (its
    spongy part), liver, spleen; what is absent is not stated."""
    least_cm2: float = 1.0
    """A smaller region of an organ is no measurement."""


def body_composition(subject: Subject, settings: BodyComposition) -> Analysis:
    """State areas of muscle and fat, the density of muscle, of a vertebra's spongy bone, and liver minus spleen.

    Areas are those of the one slice of each mask, or the mean over its slices. Voxels count within the tissue's range
    of HU only. Contrast agent and tube voltage shift every HU, so they stand beside each number.

    Raises: InputError for a label map without any of the names.
    Source: ranges as above; vertebra: P. Pickhardt et al., Ann. Intern. Med. 158(8):588-595, 2013; liver and spleen:
        Y. Kodama et al., AJR 188(5):1307-1312, 2007.
    """
    labels = labels_of(subject, settings.of)
    image = subject.case.volumes["image"]
    image.require_quantity(Quantity.HU)
    names = {label.name.strip().lower().replace("_", " "): label.value for label in labels.labels}
    if not set(names) & {*_RANGES, *_ORGANS}:
        raise InputError(
            f"none of the labels {sorted(names)} is one of {', '.join((*_RANGES, *_ORGANS))}: rename those of the mask"
        )
    if image.geometry.axis_letters[0] not in "SI":
        text = Message("Areas are those of axial slices, and these are not axial.")
        return Analysis(checks=(Check("axial", image.geometry.axis_letters[0], Verdict.REFUSED, text),))
    said = _acquisition(subject)
    method = Message("{kvp} kV, contrast agent: {agent}.", said)
    _, row_mm, column_mm = image.geometry.spacing_mm
    findings: list[Finding] = []
    means: dict[str, float] = {}
    for name, value in names.items():
        mask = labels.voxels == value
        slices = int(mask.any(axis=(1, 2)).sum())
        if not slices:
            continue
        inside = image.grid[mask]
        what = {"name": Message(name)}
        if name in _RANGES:
            low, high = _RANGES[name]
            counted = inside[(inside >= low) & (inside <= high)]
            area = len(counted) * row_mm * column_mm / 100 / slices
            ranged = Message("{low:g} to {high:g} HU, mean of {slices} slices; {kvp} kV, contrast agent: {agent}.",
                             {"low": low, "high": high, "slices": slices, **said})  # fmt: skip
            findings.append(Finding(Message("Area of {name}", what), area, "cm2", None, ranged, (settings.of,)))
            if name == "muscle" and len(counted):
                mean = float(counted.mean(dtype=np.float64))
                findings.append(
                    Finding(Message("Density of {name}", what), mean, "[hnsf'U]", None, ranged, (settings.of,))
                )
        elif name in _ORGANS and len(inside) * row_mm * column_mm / 100 >= settings.least_cm2:
            means[name] = float(inside.mean(dtype=np.float64))
            spread = float(inside.std(dtype=np.float64))
            words = Message("Density of {name}", what)
            deviation = Message(
                "Mean; standard deviation of voxels {spread:.1f} HU. {kvp} kV, contrast agent: {agent}.",
                {"spread": spread, **said},
            )
            findings.append(Finding(words, means[name], "[hnsf'U]", None, deviation, (settings.of,)))
    if {"liver", "spleen"} <= set(means):
        words = Message("Liver minus spleen")
        difference = means["liver"] - means["spleen"]
        findings.append(Finding(words, difference, "[hnsf'U]", None, method, (settings.of,)))
    return Analysis(tuple(findings), (_comparable(said),))


def _acquisition(subject: Subject) -> dict[str, str | Message]:
    series = subject.series
    voltage = number_of(series, "KVP")
    agent = text_of(series, "ContrastBolusAgent")
    known = series.format == "dicom"
    none = Message("none stated") if known else Message("not stated")
    return {"kvp": "?" if voltage is None else f"{voltage:g}", "agent": agent or none}


def _comparable(said: dict[str, str | Message]) -> Check:
    native = isinstance(said["agent"], Message) and str(said["agent"]) == "none stated" and said["kvp"] == "120"
    text = "HU are those of {kvp} kV, contrast agent: {agent}; published cut-offs are for 120 kV without contrast."
    verdict = Verdict.ACCEPTED if native else Verdict.REVIEW
    return Check("acquisition", "standard" if native else "other", verdict, Message(text, said))
