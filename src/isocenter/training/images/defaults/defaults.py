"""What a task takes for granted where nobody wishes otherwise: a page each, and what they share."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from isocenter.inference.prepare import Preparation
from isocenter.networks.catalogue import Kind, Network
from isocenter.training.images.fingerprint import Fingerprint

_MOST_VOXELS_3D, _MOST_VOXELS_2D = 96**3 // 2, 256**2


@dataclass(frozen=True)
class Basis:
    """What the settings of a network follow from.

    Args:
        seen: the data.
        preparation: how images are laid out and scaled.
        patch: what the network sees at once.
        name: the network, of the catalogue.
        wished: what the user asks of the plan, by dotted names.
    """

    seen: Fingerprint
    preparation: Preparation
    patch: tuple[int, ...]
    name: str
    wished: Mapping[str, Any]


class Defaults(ABC):
    """Defaults of one task.

    `answers` is the kind of network that it takes, `loss` what is made small, `sized` whether images may be brought to
    one size.
    """

    answers: Kind
    loss: str
    sized = True

    @abstractmethod
    def dims(self, seen: Fingerprint) -> int:
        """2: pictures, or slices one by one; 3: volumes."""

    @abstractmethod
    def layout(self, seen: Fingerprint, dims: int) -> dict[str, Any]:
        """Orientation, spacing or size of the network's grid."""

    @abstractmethod
    def network(self, seen: Fingerprint, preparation: Preparation) -> str:
        """A network of the catalogue."""

    @abstractmethod
    def augmentation(self, seen: Fingerprint, preparation: Preparation) -> dict[str, Any]:
        """Chances and ranges."""

    @abstractmethod
    def schedule(self, seen: Fingerprint, preparation: Preparation) -> dict[str, Any]:
        """Batch, rate, averages."""

    def intensity(self, seen: Fingerprint) -> dict[str, Any] | None:
        """How intensities are scaled; None: as they ask for by themselves (`choose`)."""
        return None

    def patch(self, seen: Fingerprint, preparation: Preparation, row: Network) -> tuple[int, ...]:
        """What the network sees at once."""
        return preparation.size or fitting_patch(seen, preparation, row.multiple, row.least)

    def settings(self, basis: Basis) -> dict[str, Any]:
        """Settings of the network that follow from the data and from what is wished for."""
        return {}

    def laterality(self, seen: Fingerprint) -> str:
        """`fixed`, or `free` where left and right are alike."""
        return "fixed"

    def more(self, seen: Fingerprint, wished: Mapping[str, Any]) -> dict[str, Any]:
        """Other fields of the plan.

        Raises: InputError for a wish that cannot be, or one that is lacking.
        """
        return {}


def without_sides(seen: Fingerprint) -> str:
    """Left and right are alike in pictures of what has no sides, unless a name says otherwise."""
    named = any(side in name.lower() for name in (*seen.classes, *seen.labels.values()) for side in ("left", "right"))
    return "free" if seen.spacing is None and not named else "fixed"


def volume_dims(seen: Fingerprint) -> int:
    """2 where images are pictures, else 3."""
    return 2 if max(shape[0] for shape in seen.shapes) == 1 else 3


def slice_dims(seen: Fingerprint) -> int:
    """2 where images are pictures, or volumes of few thick slices; else 3."""
    depth, height, width = seen.shape
    if volume_dims(seen) == 2:
        return 2
    spacing = seen.spacing
    thick = spacing is not None and spacing[0] > 3 * min(spacing[1:])
    few = depth * 6 <= min(height, width) and spacing is None
    return 2 if (thick and depth < 30) or few or depth < 4 else 3


def prepared_shape(seen: Fingerprint, preparation: Preparation) -> tuple[int, int, int]:
    """Median shape on the network's grid."""
    shape = np.asarray(seen.shape, np.float64)
    if preparation.spacing_mm is not None and seen.spacing is not None:
        shape *= np.asarray(seen.spacing) / np.asarray(preparation.spacing_mm)
    found = np.maximum(1, np.rint(shape)).astype(int)
    return int(found[0]), int(found[1]), int(found[2])


def fitting_patch(seen: Fingerprint, preparation: Preparation, multiple: int, least: int) -> tuple[int, ...]:
    """The median image, rounded up to what can be halved; cut down evenly where it is too large."""
    dims = preparation.dims
    shape = np.asarray(prepared_shape(seen, preparation)[3 - dims :], np.float64)
    most = _MOST_VOXELS_2D if dims == 2 else _MOST_VOXELS_3D
    while np.prod(shape) > most:
        axis = int(np.argmax(shape))
        shape[axis] *= 0.95
    step = max(multiple, 8)
    return tuple(int(max(least, step, np.ceil(n / step) * step)) if n > step / 2 else step for n in shape)
