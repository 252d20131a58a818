"""Every defect that the series doctor names. docs/en/defects.md lists them; a test compares."""

from collections.abc import Sequence
from dataclasses import replace

from isocenter.acquire.policy import Policy
from isocenter.data.case import Defect
from isocenter.data.message import Message

CODES: dict[str, str] = {
    "missing-slice": "Slices are missing: a distance between neighbours is a multiple of the usual one.",
    "duplicate-slice": "Two slices lie at one place: the same pixels twice, or different ones.",
    "uneven-spacing": "Distances between slices differ.",
    "localizer": "A scout view stands in the same series.",
    "mixed-orientation": "Slices of several orientations stand in one series.",
    "gantry-tilt": "Slices are shifted against each other: the gantry was tilted.",
    "mixed-size": "Slices differ in rows, columns or channels.",
    "mixed-spacing": "Slices differ in pixel spacing.",
    "mixed-rescale": "Slices of a CT or MR differ in rescale slope or intercept.",
    "frame-of-reference": "Slices belong to several frames of reference.",
    "several-volumes": "One series holds several volumes: echoes, b-values, image types, times.",
    "several-patients": "One study names several patients.",
    "instance-number": "InstanceNumber is absent or repeated; order comes from positions.",
    "malformed-geometry": "Position, orientation or spacing is absent, broken or against its rules.",
    "implausible-spacing": "A spacing that no scanner has.",
    "missing-rescale": "A CT without rescale has no Hounsfield units.",
    "monochrome1": "The smallest value is meant to be shown white.",
    "truncated-pixels": "Pixels of a slice are cut off; the file is named and left out.",
    "invalid-value": "A value that its element may not have.",
    "time-inconsistent": "Times in the header contradict each other.",
    "no-suv": "A PET whose uptake value cannot be computed.",
    "projection": "Millimetres of a projection: at the detector, or calibrated.",
    "no-millimetres": "The image states no pixel size.",
    "orientation-unknown": "The file does not say how the image lies in the patient.",
    "sform-qform": "The two orientations of a NIfTI file disagree.",
    "unit-unknown": "The file names no unit of length.",
    "made-image": "The file says that its image was made, not measured: synthetic, simulated, foretold.",
    "unsupported": "A kind of image that is not read.",
}
"""Code -> what it means."""

IRREGULAR = frozenset((
    "missing-slice", "duplicate-slice", "uneven-spacing", "localizer", "mixed-orientation", "gantry-tilt", "mixed-size",
    "mixed-spacing", "frame-of-reference", "several-volumes", "truncated-pixels",
))  # fmt: skip
"""Defects of a stack's regularity: under the policy `report` a stack with one gives no volume."""

Value = str | int | float | Message | tuple[Message, ...]


def refused(code: str, template: str, **values: Value) -> Defect:
    """A defect that forbids reading the series."""
    return Defect(code, Message(template, values))


def noted(code: str, template: str, **values: Value) -> Defect:
    """A defect that changes nothing but must be known."""
    return Defect(code, Message(template, values), fatal=False)


def mended(code: str, template: str, remedy: str, **values: Value) -> Defect:
    """A defect that was mended; `remedy` is a template over the same values."""
    return Defect(code, Message(template, values), fatal=False, remedy=Message(remedy, values))


def under(policy: Policy, defects: Sequence[Defect]) -> tuple[Defect, ...]:
    """The defects as the policy takes them: what it does not mend forbids reading."""
    if policy.mode == "repair":
        return tuple(defects)
    return tuple(
        _unmended(defect, policy)
        if defect.remedy is not None and (policy.mode == "strict" or defect.code in IRREGULAR)
        else defect
        for defect in defects
    )


def _unmended(defect: Defect, policy: Policy) -> Defect:
    text = Message("{what} (not mended: the policy is {policy})", {"what": defect.message, "policy": policy.mode})
    return replace(defect, message=text, fatal=True, remedy=None)
