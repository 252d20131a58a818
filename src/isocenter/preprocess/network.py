"""A trained network as a preprocessing step: less noise, a finer grid."""

from pydantic import Field

from isocenter.data.provenance import Json, Step
from isocenter.data.step import Settings
from isocenter.data.volume import Volume
from isocenter.errors import InputError


class NetworkImage(Settings):
    """Settings of `network`."""

    model: str
    """The model's folder, from where the command is run."""
    overlap: float = Field(0.5, ge=0, le=0.9)
    """Of the windows."""


def network(volume: Volume, settings: NetworkImage) -> Volume:
    """Make an image better as a trained network was taught to: less noise, or finer voxels over the same extent.

    What it adds is likely, not measured; `analyse: network_image` says so in the report. Voxels that no scanner
    measured stay marked.

    Raises: InputError for a model that makes no image better, or refuses this one; UnreadableFile for a damaged one.
    """
    import numpy as np

    from isocenter.inference.predictor import Predictor, Running
    from isocenter.zoo import model_path

    predictor = Predictor(model_path(settings.model), Running(overlap=settings.overlap))
    card, spec = predictor.model.card, predictor.model.spec
    if spec.task != "enhance":
        raise InputError(f"{settings.model}: answers with {spec.task}, and makes no image better")
    answer = predictor(volume, "the image")
    assert answer.image is not None, "a better image was made"
    made = answer.image
    mask = volume.not_measured
    if mask is not None:
        for axis, (one, other) in enumerate(zip(mask.shape, made.geometry.shape, strict=True)):
            mask = np.repeat(mask, other // one, axis=axis)
    stated = card.metrics.get("validation")
    results: dict[str, Json] = {
        "weights_sha256": card.weights_sha256, "concerns": [c.text for c in answer.concerns],
        "undoes": None if spec.degradation is None else spec.degradation.words,
        "validation": dict(stated) if isinstance(stated, dict) else None,
    }  # fmt: skip
    step = Step("preprocess.network", settings.model_dump(), results)
    return Volume(made.voxels, made.geometry, made.quantity, (*volume.history, step), not_measured=mask)
