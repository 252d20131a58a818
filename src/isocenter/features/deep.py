"""Deep features: what a trained network makes of the surroundings of each region."""

import numpy as np
from pydantic import Field

from isocenter.data.features import Feature, FeatureTable
from isocenter.data.geometry import Geometry
from isocenter.data.labels import LabelMap
from isocenter.data.step import Settings
from isocenter.data.volume import Volume
from isocenter.types import Mask


class Deep(Settings):
    """Settings of `deep`."""

    model: str
    """The model's folder, from where the command is run; or the name of one that ships."""
    margin: float = Field(0.2, ge=0, le=2)
    """Of the region's edge, that is kept around it on each side."""


def deep(image: Volume, labels: LabelMap, settings: Deep) -> FeatureTable:
    """Numbers before the answer of a trained network, for the box about each label.

    Of a network of pictures the slice with most of the region is taken. The numbers have no unit and mean nothing by
    themselves; they are for models that learn from them, and only beside numbers of the same weights.

    Raises: GeometryError where image and labels lie on different grids; InputError for a model that shows no layers.
    """
    from isocenter.inference.embedding import embedding
    from isocenter.inference.model import load
    from isocenter.inference.prepare import prepare
    from isocenter.zoo import model_path

    image.geometry.require_same(labels.geometry, what="the image and the label map")
    model = load(model_path(settings.model))
    said = f"{model.card.model}, weights {model.card.weights_sha256[:16]}"
    features: list[Feature] = []
    for label in labels.labels:
        mask = np.asarray(labels.voxels == label.value)
        if not mask.any():
            features.append(Feature("000", None, "1", said, label.name, "the region is empty", family="deep"))
            continue
        part = _cropped(image, mask, settings.margin, flat=model.spec.flat)
        ready = prepare(part, model.spec.preparation).array
        numbers = embedding(model, ready[:, ready.shape[1] // 2] if model.spec.flat else ready)
        features += [
            Feature(f"{i:03d}", float(value), "1", said, label.name, family="deep") for i, value in enumerate(numbers)
        ]
    return FeatureTable(tuple(features))


def _cropped(image: Volume, mask: Mask, margin: float, *, flat: bool) -> Volume:
    """The box about a region; for networks of pictures, in the slice with most of it."""
    from isocenter.ops.morphology import bounding_box

    if flat:
        best = int(mask.sum(axis=(1, 2)).argmax())
        only = np.zeros_like(mask)
        only[best] = mask[best]
        mask = only
    box = bounding_box(mask)
    reach = [0 if flat and axis == 0 else round(margin * (b.stop - b.start)) for axis, b in enumerate(box)]
    d, h, w = bounding_box(mask, margin=(reach[0], reach[1], reach[2]))
    own = image.geometry
    affine = own.affine.copy()
    affine[:3, 3] = own.index_to_world(np.asarray([[d.start, h.start, w.start]], np.float64))[0]
    shape = (d.stop - d.start, h.stop - h.start, w.stop - w.start)
    geometry = Geometry(shape, affine, own.space, own.frame_uid)
    return Volume(image.voxels[:, d, h, w], geometry, image.quantity, image.history)
