"""What must be known of an image that a network made better; how unusual an image is to a network."""

from isocenter.analyse.network import gate_check
from isocenter.analyse.subject import Subject, volume_of
from isocenter.data.examination import Analysis
from isocenter.data.finding import Check, Finding, Verdict
from isocenter.data.message import Message
from isocenter.data.step import Settings
from isocenter.errors import InputError


class NetworkImageStated(Settings):
    """Settings of `network_image`."""

    on: str = "image"
    """The volume that `preprocess: network` made."""


def network_image(subject: Subject, settings: NetworkImageStated) -> Analysis:
    """State that a network made an image, what it undid, and how near to good ones it brought its validation images.

    The report is marked for review: a detail that only such an image shows was not measured.

    Raises: InputError for a volume that no network made.
    """
    volume = volume_of(subject, settings.on)
    told = next((s.results for s in reversed(volume.history) if s.name == "preprocess.network"), None)
    if told is None:
        raise InputError(f"the volume {settings.on!r} was not made by `preprocess: network`")
    undone = told.get("undoes") or "what its pairs of images differed by"
    made = Message(
        "The image was made by a network that undoes: {what}. What it adds is likely, not measured: look at the "
        "original.",
        {"what": str(undone)},
    )
    concerns = [str(text) for text in told.get("concerns") or []]
    checks = [Check("made_by_network", "made", Verdict.REVIEW, made), gate_check("network_image_gate", concerns)]
    known = told.get("validation")
    if isinstance(known, dict) and {"psnr", "psnr/before"} <= set(known):
        after, before = float(known["psnr"]), float(known["psnr/before"])
        text = Message(
            "On its validation images, which are not of this patient, PSNR was {before:.1f} dB before the network and "
            "{after:.1f} dB after it; `isocenter evaluate` compares it with classical filters.",
            {"before": before, "after": after},
        )
        verdict = Verdict.ACCEPTED if after > before else Verdict.REVIEW
        checks.append(Check("network_image_quality", "validated", verdict, text))
    return Analysis((), tuple(checks))


class NetworkUnusual(Settings):
    """Settings of `network_unusual`."""

    model: str
    """The model's folder, from where the command is run."""
    on: str = "image"
    """The volume that it looks at."""


def network_unusual(subject: Subject, settings: NetworkUnusual) -> Analysis:
    """State how unusual an image is to a network that learnt from normal ones alone; the map shows where.

    Beyond 95 % of normal validation images it is marked for review. Unusual is not ill: other scanners, positions and
    sizes are unusual too.

    Raises: InputError for a model of another task, or one that refuses the image; UnreadableFile for a damaged one.
    """
    from isocenter.inference.predictor import Predictor
    from isocenter.zoo import model_path

    predictor = Predictor(model_path(settings.model))
    card, spec = predictor.model.card, predictor.model.spec
    if spec.task != "anomaly":
        raise InputError(f"{settings.model}: answers with {spec.task}, and does not say how unusual an image is")
    answer = predictor(volume_of(subject, settings.on), "the image")
    assert answer.scores is not None, "an image has a distance"
    share = float(answer.scores[1])
    threshold = float(card.operating_point.get("threshold", 0.95))
    method = Message("Distance from the normal training images of {model}.", {"model": card.model})
    findings = (
        Finding(Message("Normal images that are less unusual"), 100 * share, "%", None, method, (settings.on,)),
    )
    if share > threshold:
        text = Message(
            "More unusual than {share:.0%} of normal validation images: look at the map. Unusual is not ill.",
            {"share": threshold},
        )
        sure = Check("unusual", "unusual", Verdict.REVIEW, text)
    else:
        text = Message("Not more unusual than normal validation images; this excludes nothing.")
        sure = Check("unusual", "usual", Verdict.ACCEPTED, text)
    return Analysis(findings, (sure, gate_check("network_gate", [c.text for c in answer.concerns])), heat=answer.heat)
