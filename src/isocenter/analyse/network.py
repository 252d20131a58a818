"""What a trained network says, with the doubt that its card states."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from isocenter.analyse.place import part_of_image, place_words, size_words
from isocenter.analyse.subject import Subject, labels_of, results_of, volume_of
from isocenter.data.examination import Analysis
from isocenter.data.finding import Check, Finding, Verdict
from isocenter.data.geometry import Space
from isocenter.data.labels import LabelMap
from isocenter.data.message import Message
from isocenter.data.step import Settings
from isocenter.errors import InputError
from isocenter.types import Array

if TYPE_CHECKING:
    from isocenter.data.card import ModelCard
    from isocenter.inference.model import NetworkModel


class NetworkVolumes(Settings):
    """Settings of `network_volumes`."""

    label_maps = ("of",)

    of: str
    """The label map that `segment: network` made."""


def network_volumes(subject: Subject, settings: NetworkVolumes) -> Analysis:
    """State the volume of each structure that a network drew, with an interval, and whether the image was like those
    of its training; of images without millimetres, pixels and the share of the image.

    The interval is conformal: of images like those of the training, the stated share of true volumes lies inside.

    Raises: InputError for labels of another step.
    """
    labels = subject.native.get(settings.of) or labels_of(subject, settings.of)
    told = results_of(labels, "segment.network")
    findings = []
    checks = (gate_check("network_gate", told["concerns"]), *quality_checks(told.get("validation")))
    if labels.geometry.space is Space.PIXELS:
        return Analysis(tuple(_in_pixels(labels, settings.of)), checks)
    for label in labels.labels:
        value = float(np.count_nonzero(labels.voxels == label.value)) * labels.geometry.voxel_volume_mm3 / 1000
        findings.append(
            volume_finding(Message("Volume of {name}", {"name": label.name}), value, told, label.name, settings.of)
        )
    return Analysis(findings=tuple(findings), checks=checks)


def _in_pixels(labels: LabelMap, evidence: str) -> Iterator[Finding]:
    """Pixels of each label, and their share of the image."""
    for label in labels.labels:
        count, what = float(np.count_nonzero(labels.voxels == label.value)), {"name": label.name}
        yield Finding(
            Message("Pixels of {name}", what), count, "{pixels}", None, Message("Pixels with this label."), (evidence,)
        )
        method = Message("Pixels with this label, of all pixels.")
        share = 100 * count / labels.voxels.size
        yield Finding(Message("Share of the image: {name}", what), share, "%", None, method, (evidence,))


class NetworkObjects(Settings):
    """Settings of `network_objects`."""

    label_maps = ("of",)

    of: str
    """The label map that `segment: network_objects` made."""
    most: int = 50
    """Objects that are listed, the surest first; all are counted."""


def network_objects(subject: Subject, settings: NetworkObjects) -> Analysis:
    """Count the objects that a detector found, and list each with its place, its size and how sure it is.

    The score is calibrated: of validation images' answers with such a score, about that share was of an object.

    Raises: InputError for labels of another step.
    """
    labels = subject.native.get(settings.of) or labels_of(subject, settings.of)
    told = results_of(labels, "segment.network_objects")
    rows = told["objects"]
    findings = [
        Finding(
            Message("Number of {name}", {"name": name}), float(sum(row["class"] == name for row in rows)), "1", None,
            Message("Objects with a score of {least:.2f} or more.", {"least": float(told["least"])}), (settings.of,),
        )
        for name in told["classes"]
    ]  # fmt: skip
    calibrated = told.get("calibrated_on") is not None
    method = Message(
        "Score of the network, calibrated on its validation cases." if calibrated else "Score of the network."
    )
    for row in rows[: settings.most]:
        box = np.asarray((row["low"], row["high"]))
        where = {
            "name": row["class"], "number": row["value"], "size": size_words(box, labels.geometry),
            "place": place_words(box, labels.geometry), "part": part_of_image(box, labels.geometry),
        }  # fmt: skip
        findings.append(
            Finding(
                Message("Score of {name} (no. {number}), {size}, at {place}: {part}", where),
                row["score"],
                "1",
                None,
                method,
                (settings.of,),
            )
        )
    checks = (gate_check("network_gate", told["concerns"]), *quality_checks(told.get("validation")))
    return Analysis(tuple(findings), checks)


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


_FLOORS = {"dice": 0.7, "map50": 0.5, "auc": 0.7, "r2": 0.3}
"""Of the metric that speaks for a network's task: below it, no answer goes unlooked at."""


def quality_checks(validation: Mapping[str, Any] | None) -> tuple[Check, ...]:
    """How good the network was on its validation cases; none where its card does not say."""
    known = [name for name in _FLOORS if name in (validation or {})]
    if not known or validation is None:
        return ()
    name, value = known[0], float(validation[known[0]])
    told: dict[str, str | int | float | Message | tuple[Message, ...]] = {"metric": name, "value": value}
    if value >= _FLOORS[name]:
        return (Check("network_quality", f"{value:.3f}", Verdict.ACCEPTED,
                      Message("On its validation cases the network reached {metric} {value:.2f}.", told)),)  # fmt: skip
    text = (
        "On its validation cases the network reached only {metric} {value:.2f}, below {floor:.2f}: look at each answer."
    )
    return (Check("network_quality", f"{value:.3f}", Verdict.REVIEW, Message(text, {**told, "floor": _FLOORS[name]})),)


_OTHER_STEPS: Mapping[str, str] = {
    "segment": "segment: network", "detect": "segment: network_objects", "enhance": "preprocess: network",
    "anomaly": "analyse: network_unusual", "generate": "isocenter generate",
}  # fmt: skip


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
    from isocenter.inference.predictor import Predictor
    from isocenter.zoo import model_path

    image = volume_of(subject, settings.on)
    predictor = Predictor(model_path(settings.model))
    card, spec = predictor.model.card, predictor.model.spec
    if spec.task not in ("classify", "regress"):
        other = _OTHER_STEPS[spec.task]
        raise InputError(f"{settings.model}: a model to {spec.task} gives no class or value; use `{other}`")
    found = predictor(image, "the image")
    assert found.scores is not None, "a class or value has scores"
    gate = gate_check("network_gate", [c.text for c in found.concerns])
    stated = card.metrics.get("validation")
    better = quality_checks(stated if isinstance(stated, dict) else None)
    if spec.task == "regress":
        value, reach = float(found.scores[0]), card.conformal.get("reach")
        interval = None if reach is None else (value - float(reach), value + float(reach))
        method = Message("Output of {model}.", {"model": card.model})
        return Analysis((Finding(value_words(card), value, "1", interval, method, ()),), (gate, *better))
    said = decision(found.scores, predictor.model)
    return Analysis(said.findings, (gate, *better, *said.checks))


def value_words(card: "ModelCard") -> Message:
    """What a network's number is, by the column that it learnt from."""
    if card.own_target is None:
        return Message("Value that the network gives")
    return Message("{name}, as the network gives it", {"name": card.own_target})


def decision(scores: Array, model: "NetworkModel") -> Analysis:
    """The probability of each class, the class that is decided for, and the prediction set."""
    from isocenter.inference.predictor import decided

    card, spec = model.card, model.spec
    best, inside = decided(scores, model)
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
        for name, p in zip(spec.classes, scores, strict=True)
    ]
    checks = [Check(
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
