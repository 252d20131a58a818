"""How unusual an image is, and where."""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from scipy import ndimage
from torch import nn

from isocenter.data.card import ModelCard
from isocenter.networks.autoencoder import Rebuilder
from isocenter.types import Array

SHARE = 0.95
"""Of normal validation images that count as usual."""
_BATCH = 64


def described(module: nn.Module, images: Array) -> Array:
    """What the network says of images (`n c *s`, 0 to 1): `n m`; see `networks.autoencoder.Rebuilder.described`."""
    return _over(images, module, lambda network, x: network.described(x))


def distances(module: nn.Module, images: Array) -> Array:
    """How far each image (`n c *s`, 0 to 1) lies from the usual ones."""
    return _over(images, module, lambda network, x: network.strange(x))


def rebuilt(module: nn.Module, images: Array) -> Array:
    """Images (`n c *s`, 0 to 1), built again."""
    return _over(images, module, lambda network, x: network.rebuilt(x))


def rebuilding_errors(module: nn.Module, images: Array) -> Array:
    """Mean squared error of each image, built again."""
    return _over(images, module, lambda network, x: ((network.rebuilt(x) - x) ** 2).flatten(1).mean(dim=1))


def _over(images: Array, module: nn.Module, say: Any) -> Array:
    network = cast("Rebuilder", module.eval())
    device = next(module.parameters()).device
    found = []
    with torch.inference_mode():
        for i in range(0, len(images), _BATCH):
            x = torch.from_numpy(np.ascontiguousarray(images[i : i + _BATCH], np.float32)).to(device)
            found.append(say(network, x).float().cpu().numpy())
    return np.concatenate(found).astype(np.float64)


def heat(module: nn.Module, image: Array) -> Array:
    """Where an image (`c *s`, 0 to 1) differs from what the network builds again: mean over channels, smoothed."""
    again = rebuilt(module, image[None])[0]
    return np.asarray(ndimage.gaussian_filter(np.abs(again - image).mean(axis=0), 1.0), np.float32)


def learn_usual(module: nn.Module, images: Array) -> None:
    """Remember mean and covariance of what the network says of normal images, shrunk as few images want it.

    Source: O. Ledoit, M. Wolf, J. Multivar. Anal. 88:365-411, 2004.
    """
    from sklearn.covariance import LedoitWolf

    said = described(module, images)
    scale = said.std(axis=0) + 1e-6  # shrinkage is toward equal variances: bring them to one
    fitted = LedoitWolf().fit(said / scale)
    network = cast("Rebuilder", module)
    network.usual_mean.copy_(torch.from_numpy(said.mean(axis=0)))
    network.usual_precision.copy_(torch.from_numpy(fitted.precision_ / scale[:, None] / scale[None]))


def quantiles_of(usual: Array) -> list[float]:
    """Distances below which 0 %, 1 % ... 100 % of normal validation images lie."""
    return [float(v) for v in np.quantile(usual, np.linspace(0, 1, 101))]


def share_below(distance: float, card_training: Mapping[str, Any]) -> float:
    """Share of normal validation images that are less unusual."""
    known = np.asarray(card_training["usual_distances"], np.float64)
    return float(np.interp(distance, known, np.linspace(0, 1, len(known))))


def threshold_of(card: ModelCard) -> float:
    """The distance from which an image is called unusual."""
    known: Any = card.training["usual_distances"]
    share = float(card.operating_point.get("threshold", SHARE))
    return float(np.interp(share, np.linspace(0, 1, len(known)), known))


def as_score(distance: Array, threshold: float) -> Array:
    """A distance between 0 and 1 that rises with it: one half at the threshold. No probability."""
    return np.asarray(distance / (distance + threshold))
