"""`explain` of a sequence: which of its frames moved the answer."""

import json
from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from isocenter.acquire.labelled import read_cine
from isocenter.data.provenance import Json
from isocenter.errors import InputError
from isocenter.explanation.frames import frame_quality, frame_weights
from isocenter.explanation.quality import Quality
from isocenter.inference.frames import followed, prepared_frames
from isocenter.inference.model import NetworkModel
from isocenter.inference.predictor import decided
from isocenter.inference.torch_runtime import TorchRuntime
from isocenter.metrics import reliability as rel
from isocenter.pipeline.explain import EXPLANATIONS, index_of, summary_of
from isocenter.pipeline.inputs import cases_of
from isocenter.pipeline.own_folder import own_folder, require_own
from isocenter.report.explanation import render_explanation
from isocenter.report.gallery import curve_picture
from isocenter.types import Array

METHOD = "frames"


@dataclass(frozen=True, eq=False)
class ExplainedFrames:
    """What the frames of a sequence did for an answer.

    Args:
        case: its name.
        about: the class or value that it is about.
        probability: of that class; None for values.
        times: seconds of the frames.
        weights: by how much the answer changes without each of them.
        quality: curves; None for values, and where frames are answered.
    """

    case: str
    about: str
    probability: float | None
    times: Array = field(repr=False)
    weights: Array = field(repr=False)
    quality: Quality | None = None
    method: str = METHOD


def explain_sequence(
    model: NetworkModel, data: Path, out: Path | None = None, *, about: str | None = None, seed: int = 0
) -> ExplainedFrames:
    """Take away each frame of a sequence, one at a time, and look how the answer changes.

    Args:
        model: of sequences.
        data: one sequence.
        out: folder for the page and the numbers; None: nothing is written.
        about: class; None: the one that is decided for.
        seed: of random orders.
    Raises: InputError for inputs of several cases, and for a model that foretells frames.
    """
    if out is not None:
        require_own(out, EXPLANATIONS)
    spec = model.spec
    if spec.task == "forecast":
        raise InputError("a frame that is foretold is its own picture: there is nothing to explain")
    cases = cases_of(data)
    if len(cases.samples) != 1:
        raise InputError(f"{data}: holds {len(cases.samples)} cases; explain one sequence at a time")
    sample = cases.samples[0]
    ready = prepared_frames(read_cine(sample), spec.preparation, spec.frames)
    frames, run = ready.eaten, TorchRuntime(model.modules[0])
    said = followed(run, frames, ready.times, spec)
    index, name, chance, judged = 0, "value", None, None
    if spec.task == "classify":
        scores = rel.calibrated(said, model.card.calibration).mean(axis=0)
        index = index_of(about, spec.classes, decided(scores, model)[0])
        name, chance = spec.classes[index], float(scores[index])
    weights = frame_weights(run, frames, ready.times, spec, index)
    if spec.task == "classify" and not spec.each_frame:
        judged = frame_quality(run, frames, ready.times, spec, index=index, weights=weights, seed=seed)
    found = ExplainedFrames(sample.case, name, chance, ready.times, weights, judged)
    if out is not None:
        _write(found, model, out)
    return found


def _write(found: ExplainedFrames, model: NetworkModel, folder: Path) -> None:
    what = "change of the answer without it"
    png = curve_picture(found.times, {"frame": found.weights}, y=what)
    told: dict[str, Json] = {
        **summary_of(found.case, found.method, found.about, found.probability, found.quality),
        "times_s": [float(t) for t in found.times], "weights": [float(w) for w in found.weights],
    }  # fmt: skip
    with own_folder(folder, EXPLANATIONS) as empty:
        (empty / "frames.png").write_bytes(png)
        text = json.dumps([told], indent=2, ensure_ascii=False, allow_nan=False)
        (empty / "explanation.json").write_text(text, "utf-8")
        page = render_explanation([(told, b64encode(png).decode(), found.quality)], model.card.model)
        (empty / "explanation.html").write_text(page, "utf-8")


def strongest(found: ExplainedFrames) -> list[tuple[float, float]]:
    """Time and weight of the frames that moved the answer most."""
    order = np.argsort(-np.abs(found.weights))[:5]
    return [(float(found.times[i]), float(found.weights[i])) for i in order]
