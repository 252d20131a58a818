"""Colour to one channel: grey, one of the colours, or how much of a stain there is."""

from typing import Literal

import numpy as np

from isocenter.data.provenance import Step
from isocenter.data.step import Settings
from isocenter.data.volume import Quantity, Volume
from isocenter.errors import GeometryError
from isocenter.types import Array

Colour = Literal["red", "green", "blue", "saturation", "luminance"]
Stain = Literal["haematoxylin", "eosin", "dab"]

_LUMINANCE = (0.299, 0.587, 0.114)
"""ITU-R BT.601-7, section 2.5.1."""
_STAINS: dict[Stain, tuple[float, float, float]] = {
    "haematoxylin": (0.65, 0.70, 0.29),
    "eosin": (0.07, 0.99, 0.11),
    "dab": (0.27, 0.57, 0.78),
}
"""Optical density of each stain in red, green and blue: A. Ruifrok, D. Johnston, Anal. Quant. Cytol. Histol.
23(4):291-299, 2001."""


class Channel(Settings):
    """Settings of `channel`."""

    take: Colour = "luminance"
    """Red, green or blue as it is; saturation (0 grey, 1 pure); or luminance, what the eye sees as brightness."""


def channel(volume: Volume, settings: Channel) -> Volume:
    """Take one channel of a colour image, its saturation, or its luminance; a grey image stays as it is.

    Use luminance for colour captures of grey images (ultrasound), green for stained blood, saturation to tell
    stained from clear.

    Raises: GeometryError for an image of two channels.
    """
    step = Step("preprocess.channel", settings.model_dump())
    if volume.channels == 1:
        return volume.then(step)
    red, green, blue = _rgb(volume)
    if settings.take in ("red", "green", "blue"):
        return volume.then(step, voxels={"red": red, "green": green, "blue": blue}[settings.take])
    if settings.take == "luminance":
        grey = sum((np.float32(w) * c for w, c in zip(_LUMINANCE, (red, green, blue), strict=True)), np.float32(0))
        return volume.then(step, voxels=np.asarray(grey))
    most = np.maximum(np.maximum(red, green), blue).astype(np.float32)
    least = np.minimum(np.minimum(red, green), blue)
    saturation = np.where(most > 0, (most - least) / np.maximum(most, 1e-6), 0).astype(np.float32)
    return volume.then(step, voxels=saturation)


class StainSeparation(Settings):
    """Settings of `stain`."""

    take: Stain = "haematoxylin"
    """The stain whose optical density is wanted."""
    beside: Stain = "eosin"
    """The other stain on the slide."""


def stain(volume: Volume, settings: StainSeparation) -> Volume:
    """Optical density of one of two stains in a colour image (colour deconvolution).

    Use it on stained tissue under white light. White is taken as 255 for 8 bits, 65535 for 16.

    Raises: GeometryError for an image that is not red, green and blue of whole numbers, or one stain named twice.
    """
    if settings.take == settings.beside:
        raise GeometryError(f"two different stains are parted; got {settings.take} twice")
    rgb = np.stack(_rgb(volume))
    if rgb.dtype not in (np.uint8, np.uint16):
        raise GeometryError(f"stains are parted in images of 8 or 16 bits; got {rgb.dtype}")
    white = float(np.iinfo(rgb.dtype).max)
    density = -np.log10(np.maximum(rgb.astype(np.float32), 1) / np.float32(white))
    vectors = np.asarray([_STAINS[settings.take], _STAINS[settings.beside]])
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    matrix = np.stack((*vectors, np.cross(*vectors) / np.linalg.norm(np.cross(*vectors))))
    weights = np.linalg.inv(matrix)[:, 0].astype(np.float32)
    amount = np.tensordot(weights, density, axes=1)
    step = Step("preprocess.stain", settings.model_dump())
    return volume.then(step, voxels=np.asarray(amount), quantity=Quantity.OPTICAL_DENSITY)


def _rgb(volume: Volume) -> tuple[Array, Array, Array]:
    if volume.channels != 3:
        raise GeometryError(f"a colour image has three channels, red, green and blue; this has {volume.channels}")
    red, green, blue = (np.asarray(c) for c in volume.voxels)
    return red, green, blue
