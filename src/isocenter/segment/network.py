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


class NetworkObjects(Settings):
    """Settings of `network_objects`."""

    model: str
    """The model's folder, from where the command is run; or the name of one that ships."""
    least: float | None = Field(None, ge=0, le=1)
    """Score from which an object is taken; left away: the one that was chosen when the model was trained."""
    overlap: float = Field(0.5, ge=0, le=0.9)
    """Of the windows."""


def network_objects(volume: Volume, settings: NetworkObjects) -> LabelMap:
    """Find the objects that a trained detector was taught to find: a label for each, its mask or else its box.

    Where two overlap, the surer one lies on top. `history[-1].results` tells each one's class, score and box.

    Raises: InputError for a model that finds no objects, or refuses the image; UnreadableFile for a damaged one.
    """
    from isocenter.inference.painted import painted
    from isocenter.inference.predictor import Predictor, Running
    from isocenter.zoo import model_path

    predictor = Predictor(model_path(settings.model), Running(overlap=settings.overlap))
    card, spec = predictor.model.card, predictor.model.spec
    if spec.task != "detect":
        raise InputError(f"{settings.model}: answers with {spec.task}, and finds no objects")
    answer = predictor(volume, "the image")
    assert answer.found is not None, "a detector finds objects"
    least = float(card.operating_point.get("threshold", 0.5)) if settings.least is None else settings.least
    grid, labels, rows = painted(answer.found, volume.geometry.shape, spec.classes, least=least)
    results: dict[str, Json] = {
        "weights_sha256": card.weights_sha256, "concerns": [c.text for c in answer.concerns], "objects": rows,
        "classes": list(spec.classes), "least": least, "calibrated_on": card.calibration.get("chosen_on"),
        "validation": card.metrics.get("validation"), "drawn": "boxes" if answer.found.masks is None else "masks",
        "affine": volume.geometry.affine.tolist(),
    }  # fmt: skip
    step = Step("segment.network_objects", settings.model_dump(), results)
    return LabelMap(grid, volume.geometry, labels, (*volume.history, step))


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
        other = "segment: network_objects" if spec.task == "detect" else "analyse: network"
        raise InputError(f"{settings.model}: answers with {spec.task}, and draws no label map; use `{other}`")
    found = predictor(volume, "the image")
    assert found.labels is not None, "a segmentation has labels"
    results: dict[str, Json] = {
        "weights_sha256": card.weights_sha256,
        "concerns": [c.text for c in found.concerns],
        "coverage": card.conformal.get("coverage"),
        "log_volume_reach": card.conformal.get("log_volume_reach"),
        "validation": card.metrics.get("validation"),
    }
    step = Step("segment.network", settings.model_dump(), results)
    return LabelMap(found.labels.voxels, volume.geometry, found.labels.labels, (*volume.history, step))
