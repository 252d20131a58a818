"""Frames in time: what a network says of them, and how the image itself brightens."""

import numpy as np

from isocenter.analyse.network import decision, gate_check, quality_checks, value_words
from isocenter.analyse.subject import Subject, labels_of
from isocenter.data.cine import Cine
from isocenter.data.curve import Curve
from isocenter.data.examination import Analysis
from isocenter.data.finding import Check, Finding, Verdict
from isocenter.data.message import Message
from isocenter.data.step import Settings
from isocenter.errors import DegenerateImage, InputError
from isocenter.types import Array


class NetworkSequence(Settings):
    """Settings of `network_sequence`."""

    model: str
    """The model's folder, from where the command is run."""


def network_sequence(subject: Subject, settings: NetworkSequence) -> Analysis:
    """State what a recurrent network says of a sequence of frames: one class or value of all, or a curve over time.

    The recipe's `select` takes frames in time (`frames: true`).

    Raises: InputError for a model of images, an image without frames, or what the gate refuses.
    """
    from isocenter.inference.predictor import Predictor, decided
    from isocenter.zoo import model_path

    predictor = Predictor(model_path(settings.model))
    card, spec = predictor.model.card, predictor.model.spec
    cine = cine_of(subject)
    if not spec.frames or spec.task == "forecast":
        raise InputError(f"{settings.model}: says nothing of frames in time; use `analyse: network` for images")
    answer = predictor.follow(cine, "the sequence")
    assert answer.scores is not None, "a sequence has scores"
    assert answer.times is not None, "a sequence has times"
    stated = card.metrics.get("validation")
    checks = [
        gate_check("network_gate", [c.text for c in answer.concerns]),
        *quality_checks(stated if isinstance(stated, dict) else None),
    ]
    method = Message("Output of {model}.", {"model": card.model})
    if not spec.each_frame:
        if spec.task == "classify":
            found = decision(answer.scores, predictor.model)
            return Analysis(found.findings, (*checks, *found.checks))
        value, reach = float(answer.scores[0]), card.conformal.get("reach")
        interval = None if reach is None else (value - float(reach), value + float(reach))
        said = Finding(value_words(card), value, "1", interval, method, ())
        return Analysis((said,), tuple(checks))
    times, timed = tuple(float(t) for t in answer.times), cine.times_s is not None
    if spec.task == "regress":
        curve = Curve(value_words(card), "1", times, _plain(answer.scores[:, 0]), timed)
        return Analysis(_ends(curve, method), tuple(checks), curves=(curve,))
    curves = tuple(
        Curve(Message("Probability of {name}", {"name": name}), "1", times, _plain(answer.scores[:, k]), timed)
        for k, name in enumerate(spec.classes)
    )
    kinds = [decided(row, predictor.model)[0] for row in answer.scores]
    share = np.bincount(kinds, minlength=len(spec.classes)) / len(kinds)
    text = Message("Frames that the network takes for it.")
    findings = tuple(
        Finding(Message("Share of the frames: {name}", {"name": name}), 100 * float(part), "%", None, text, ())
        for name, part in zip(spec.classes, share, strict=True)
    )
    return Analysis(findings, tuple(checks), curves=curves)


class TimeCurve(Settings):
    """Settings of `time_curve`."""

    label_maps = ("of",)

    of: str | None = None
    """A label map within which the mean is taken; without it, the whole frame."""


def time_curve(subject: Subject, settings: TimeCurve) -> Analysis:
    """The mean intensity of a region over time: how it comes (wash-in), where it peaks, how it goes (wash-out).

    The rise is a share of the first frame, as (S - S0) / S0; the change after it a share of the peak.
    Source: C. Kuhl et al., Radiology 211:101-110, 1999.

    Raises: InputError for an image without frames; DegenerateImage for a region that begins at nothing;
        GeometryError for a label map on another grid than the frames.
    """
    cine = cine_of(subject)
    name, inside = "image", np.ones(cine.geometry.shape, np.bool_)
    if settings.of is not None:
        labels = labels_of(subject, settings.of)
        labels.geometry.require_same(cine.geometry, what=f"{settings.of} and the frames")
        name, inside = settings.of, np.asarray(labels.foreground)
        if not inside.any():
            raise DegenerateImage(f"the label map {settings.of!r} holds no voxel")
    values, lost = _means(cine, inside)
    first = float(values[0])
    if first <= 0:
        raise DegenerateImage(f"the first frame's mean is {first:g}: no change can be told as a share of it")
    times = cine.clock - cine.clock[0]
    peak = int(values.argmax())
    curve = Curve(Message("Mean intensity of {name}", {"name": name}), "[arb'U]", _plain(times), _plain(values),
                  cine.times_s is not None)  # fmt: skip
    method = Message("Mean of the region in each frame, as a share of the first.")
    findings = [
        Finding(Message("Time to the peak"), float(times[peak]), "s", None, method, ()),
        Finding(Message("Rise to the peak"), 100 * (float(values[peak]) - first) / first, "%", None, method, ()),
        Finding(Message("Change from the peak to the last frame"),
                100 * (float(values[-1]) - float(values[peak])) / float(values[peak]), "%", None,
                Message("Mean of the region in the last frame, as a share of that at the peak."), ()),
    ]  # fmt: skip
    checks = []
    if cine.times_s is None:
        text = "No times are stated: frames count as one second apart."
        checks.append(Check("times_stated", "no", Verdict.REVIEW, Message(text)))
    if lost:
        text = "{share:.1%} of the voxels in all frames were not measured, and are left out of the means."
        checks.append(Check("frames_not_measured", lost, Verdict.REVIEW, Message(text, {"share": lost})))
    return Analysis(tuple(findings), tuple(checks), curves=(curve,))


def _means(cine: Cine, inside: Array) -> tuple[Array, float]:
    """Mean of the region in each frame, over what was measured; and the share of it that was not.

    Raises: DegenerateImage for a frame of which nothing was measured there.
    """
    grid = cine.frames.mean(axis=1)[:, inside]
    if cine.not_measured is None:
        return grid.mean(axis=1), 0.0
    known = ~cine.not_measured[:, inside]
    if not known.any(axis=1).all():
        raise DegenerateImage("of a frame, nothing was measured in the region: its mean is not known")
    return (grid * known).sum(axis=1) / known.sum(axis=1), float(1 - known.mean())


def cine_of(subject: Subject) -> Cine:
    """The frames that were examined.

    Raises: InputError where the recipe took an image.
    """
    if subject.case.cine is None:
        raise InputError("this step follows frames in time: the recipe's `select` needs `frames: true`")
    return subject.case.cine


def _plain(values: Array) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


def _ends(curve: Curve, method: Message) -> tuple[Finding, ...]:
    """The largest and the smallest value, and when they were."""
    values, times = np.asarray(curve.values), curve.times_s
    low, high = int(values.argmin()), int(values.argmax())
    return (
        Finding(
            Message("Largest value over time: {name}", {"name": curve.statement}),
            float(values[high]),
            curve.unit,
            None,
            method,
            (),
        ),
        Finding(Message("Time of the largest value"), times[high], "s", None, method, ()),
        Finding(
            Message("Smallest value over time: {name}", {"name": curve.statement}),
            float(values[low]),
            curve.unit,
            None,
            method,
            (),
        ),
        Finding(Message("Time of the smallest value"), times[low], "s", None, method, ()),
    )
