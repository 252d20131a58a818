"""A trained network as a segmenting step."""

from pydantic import Field

from isocenter.data.labels import LabelMap
from isocenter.data.provenance import Json, Step
from isocenter.data.step import Settings
from isocenter.data.volume import Volume
from isocenter.errors import InputError


class Network(Settings):
    """Settings of `network`."""

    model: str
    """The model's folder, from where the command is run; or the name of one that ships."""
    flips: bool = True
    """The answer is the mean over the flips that the model allows."""
    overlap: float = Field(0.5, ge=0, le=0.9)
    """Of the windows."""


def network(volume: Volume, settings: Network) -> LabelMap:
    """Find what a trained network was taught to find; its name, labels and training range stand in its card.

    An image outside the training range is marked for review, or refused: `history[-1].results` tells the concerns, the
    hash of the weights, and how far volumes may be off on images like those of the training.

    Raises: InputError for a model that does not segment, or refuses the image; UnreadableFile for a damaged one.
    """
    from isocenter.inference.predictor import Predictor, Running
    from isocenter.zoo import model_path

    predictor = Predictor(model_path(settings.model), Running(flips=settings.flips, overlap=settings.overlap))
    card, spec = predictor.model.card, predictor.model.spec
    if spec.task != "segment":
        raise InputError(f"{settings.model}: answers with {spec.task}, and draws nothing; use `analyse: network`")
    found = predictor(volume, "the image")
    assert found.labels is not None, "a segmentation has labels"
    results: dict[str, Json] = {
        "weights_sha256": card.weights_sha256,
        "concerns": [c.text for c in found.concerns],
        "coverage": card.conformal.get("coverage"),
        "log_volume_reach": card.conformal.get("log_volume_reach"),
    }
    step = Step("segment.network", settings.model_dump(), results)
    return LabelMap(found.labels.voxels, volume.geometry, found.labels.labels, (*volume.history, step))
