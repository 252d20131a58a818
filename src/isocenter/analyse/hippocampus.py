"""How large both hippocampi are."""

import numpy as np
from pydantic import Field

from isocenter.analyse.network import gate_check, volume_finding
from isocenter.analyse.subject import Subject, labels_of, results_of
from isocenter.data.examination import Analysis
from isocenter.data.finding import Check, Finding, Verdict
from isocenter.data.message import Message
from isocenter.data.step import Settings

_TEMPLATE_ML = 1886.5
"""Intracranial volume of the MNI152 template (ICBM 2009a symmetric): its brain mask, fluid included."""
_SIDES = ("left", "right")


class HippocampusVolumes(Settings):
    """Settings of `hippocampus_volumes`."""

    label_maps = ("of", "brain")

    of: str = "hippocampi"
    """The label map that `segment: hippocampus` made."""
    brain: str = "brain"
    """The label map that `segment: brain` made."""
    plausible_ml: tuple[float, float] = (1.5, 6.5)
    """Review outside: volume of one side."""
    most_asymmetry: float = Field(0.3, gt=0, le=2)
    """Review above: difference of both sides over their mean."""


def hippocampus_volumes(subject: Subject, settings: HippocampusVolumes) -> Analysis:
    """State the volume of each hippocampus, of its parts, and its share of the intracranial volume.

    The intracranial volume is that of the registered template, times how much the template was stretched.

    Source: intracranial volume from a registration, R. L. Buckner et al., NeuroImage 23(2):724-738, 2004.
    Raises: InputError for labels of other steps.
    """
    labels = subject.native.get(settings.of) or labels_of(subject, settings.of)
    told = results_of(labels, "segment.hippocampus")
    brain = results_of(labels_of(subject, settings.brain), "segment.brain")
    intracranial = _TEMPLATE_ML * abs(float(np.linalg.det(np.asarray(brain["matrix"], np.float64)[:3, :3])))
    unit = labels.geometry.voxel_volume_mm3 / 1000
    volumes = {lb.name: float(np.count_nonzero(labels.voxels == lb.value)) * unit for lb in labels.labels}
    findings: list[Finding] = []
    checks: list[Check] = []
    sides = {}
    for side in _SIDES:
        parts = {name: volumes[f"{side} {name} hippocampus"] for name in ("anterior", "posterior")}
        sides[side] = sum(parts.values())
        statement = Message("Volume of {name}", {"name": f"{side} hippocampus"})
        findings.append(volume_finding(statement, sides[side], told, "all labels", settings.of))
        for name, value in parts.items():
            statement = Message("Volume of {name}", {"name": f"{side} {name} hippocampus"})
            findings.append(volume_finding(statement, value, told, f"{name} hippocampus", settings.of))
        share = Message("{name} in the intracranial volume", {"name": f"{side} hippocampus"})
        method = Message("Volume over that of the registered template times its stretch.")
        findings.append(Finding(share, 1000 * sides[side] / intracranial, "mL/L", None, method, (settings.of,)))
        low, high = settings.plausible_ml
        plausible = Verdict.ACCEPTED if low <= sides[side] <= high else Verdict.REVIEW
        values = {"name": f"{side} hippocampus", "value": sides[side], "low": low, "high": high}
        text = "{name}: {value:.2f} mL (plausible {low:g} to {high:g} mL)."
        checks.append(Check(f"hippocampus_{side}_mL", round(sides[side], 3), plausible, Message(text, values)))
        checks.append(gate_check(f"hippocampus_{side}_gate", told[side]["concerns"]))
    method = Message("Brain mask of the MNI152 template (fluid included) times the stretch of its registration.")
    findings.append(Finding(Message("Intracranial volume, estimated"), intracranial, "mL", None, method, ()))
    checks += [_even(sides, settings.most_asymmetry), _not_validated()]
    return Analysis(tuple(findings), tuple(checks))


def _even(sides: dict[str, float], most: float) -> Check:
    mean = sum(sides.values()) / 2
    value = abs(sides["left"] - sides["right"]) / mean if mean else 2.0
    text = "Both sides differ by {value:.0%} of their mean (at most {most:.0%})."
    verdict = Verdict.ACCEPTED if value <= most else Verdict.REVIEW
    return Check("hippocampus_asymmetry", round(value, 3), verdict, Message(text, {"value": value, "most": most}))


def _not_validated() -> Check:
    text = (
        "Not validated on whole heads: the network was trained and tested on crops of one side, cut by hand; the "
        "interval holds for such crops. Look at the contours."
    )
    return Check("not_validated_on_whole_heads", "not validated", Verdict.REVIEW, Message(text))
