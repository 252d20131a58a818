"""What a trained network says, with the doubt that its card states."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from isocenter.analyse.subject import Subject, labels_of, results_of
from isocenter.data.examination import Analysis
from isocenter.data.finding import Check, Finding, Verdict
from isocenter.data.message import Message
from isocenter.data.step import Settings
from isocenter.errors import InputError


class NetworkVolumes(Settings):
    """Settings of `network_volumes`."""

    label_maps = ("of",)

    of: str
    """The label map that `segment: network` made."""


def network_volumes(subject: Subject, settings: NetworkVolumes) -> Analysis:
    """State the volume of each structure that a network drew, with an interval, and whether the image was like those
    of its training.

    The interval is conformal: of images like those of the training, the stated share of true volumes lies inside.

    Raises: InputError for labels of another step; UnitError for an image without millimetres.
    """
    labels = subject.native.get(settings.of) or labels_of(subject, settings.of)
    told = results_of(labels, "segment.network")
    findings = []
    for label in labels.labels:
        value = float(np.count_nonzero(labels.voxels == label.value)) * labels.geometry.voxel_volume_mm3 / 1000
        findings.append(
            volume_finding(Message("Volume of {name}", {"name": label.name}), value, told, label.name, settings.of)
        )
    return Analysis(findings=tuple(findings), checks=(gate_check("network_gate", told["concerns"]),))


def volume_finding(statement: Message, value: float, told: Mapping[str, Any], name: str, evidence: str) -> Finding:
    """A volume in mL with the interval that the model's card promises for `name`."""
    reach = (told.get("log_volume_reach") or {}).get(name)
    if reach is None or value == 0:
        return Finding(statement, value, "mL", None, Message("Voxels times the volume of one."), (evidence,))
    factor = float(np.exp(float(reach)))
    method = Message(
        "Voxels times the volume of one; {coverage:.0%} interval from cases that the network never learnt from, for "
        "images like those.",
        {"coverage": float(told["coverage"])},
    )
    return Finding(statement, value, "mL", (value / factor, value * factor), method, (evidence,))


def gate_check(name: str, concerns: Sequence[str]) -> Check:
    """Whether the image was like those that a network was trained on."""
    if not concerns:
        return Check(
            name, "inside", Verdict.ACCEPTED, Message("The image is like those that the network was trained on.")
        )
    text = Message("Outside what the network was trained on: {why}.", {"why": "; ".join(concerns)})
    return Check(name, "outside", Verdict.REVIEW, text)


class NetworkAnswer(Settings):
    """Settings of `network`."""

    model: str
    """The model's folder, from where the command is run; or the name of one that ships."""
    on: str = "image"
    """The volume that it looks at."""
    explain: Literal["none", "grad-cam", "grad-cam++", "saliency", "integrated-gradients", "occlusion"] = "none"
    """A map of what moved the answer is shown in the report, with how far it can be believed."""


def network(subject: Subject, settings: NetworkAnswer) -> Analysis:
    """State the class or value that a trained network gives, with its probability and prediction set or its interval.

    A set of more classes than one, or of none, is marked for review: the network cannot tell them apart here.

    Raises: InputError for a model that segments, or refuses the image; UnreadableFile for a damaged one.
    """
    from isocenter.inference.predictor import Predictor, decided
    from isocenter.zoo import model_path

    if settings.on not in subject.case.volumes:
        raise InputError(f"no volume is called {settings.on!r}; there are {list(subject.case.volumes)}")
    predictor = Predictor(model_path(settings.model))
    card, spec = predictor.model.card, predictor.model.spec
    if spec.task == "segment":
        raise InputError(f"{settings.model}: draws, and gives no class or value; use `segment: network`")
    found = predictor(subject.case.volumes[settings.on], "the image")
    assert found.scores is not None, "a class or value has scores"
    gate = gate_check("network_gate", [c.text for c in found.concerns])
    if spec.task == "regress":
        value, reach = float(found.scores[0]), card.conformal.get("reach")
        interval = None if reach is None else (value - float(reach), value + float(reach))
        method = Message("Output of {model}.", {"model": card.model})
        return Analysis((Finding(Message("Value that the network gives"), value, "1", interval, method, ()),), (gate,))
    best, inside = decided(found.scores, predictor.model)
    method = (
        Message(
            "Calibrated output of {model}; decided from {threshold:.2f} on.",
            {"model": card.model, "threshold": float(card.operating_point.get("threshold", 0.5))},
        )
        if len(spec.classes) == 2
        else Message("Calibrated output of {model}.", {"model": card.model})
    )
    findings = [
        Finding(Message("Probability of {name}", {"name": name}), float(p), "1", None, method, ())
        for name, p in zip(spec.classes, found.scores, strict=True)
    ]
    checks = [gate, Check(
        "network_decision", spec.classes[best], Verdict.ACCEPTED,
        Message("The network decides for {name}.", {"name": spec.classes[best]}),
    )]  # fmt: skip
    if card.conformal.get("quantiles"):
        coverage = float(card.conformal["coverage"])
        message = Message("Prediction set at {coverage:.0%}: {set}.", {"set": ", ".join(inside), "coverage": coverage})
        if not inside:
            text = "Prediction set at {coverage:.0%}: empty; the image is unlike the cases of every class."
            message = Message(text, {"coverage": coverage})
        sure = Verdict.ACCEPTED if len(inside) == 1 else Verdict.REVIEW
        checks.append(Check("prediction_set", "|".join(inside), sure, message))
    return Analysis(tuple(findings), tuple(checks))
