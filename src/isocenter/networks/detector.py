"""What every network that finds objects takes and gives."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from isocenter.errors import InputError
from isocenter.networks import boxes as bx
from isocenter.networks.layers import NetworkSettings
from isocenter.ops.boxes import suppressed
from isocenter.types import Array


class DetectorSettings(NetworkSettings):
    """What all of them can be told of their answers."""

    least_score: float = Field(default=0.02, ge=0, lt=1, description="Boxes below it are not answers.")
    overlap: float = Field(
        default=0.5, gt=0, le=1, description="Of two answers of a class that overlap more, the better stays."
    )
    most: int = Field(default=200, ge=1, le=5000, description="Answers for a window, at most.")


@dataclass(frozen=True, eq=False)
class Truth:
    """Objects of one image that is learnt from.

    Args:
        boxes: `m 2 a`, in voxels of the image.
        classes: of each.
        instances: `*s`, i + 1 where object i is; None: not known.
    """

    boxes: Float[Tensor, "m 2 a"]
    classes: Int[Tensor, "m"]
    instances: Int[Tensor, "*s"] | None = None


class Truths:
    """Objects of each image of a batch, in a box that is not looked into: mixed precision would round their corners."""

    def __init__(self, each: Sequence[Truth]) -> None:
        self.each = tuple(each)


@dataclass(frozen=True, eq=False)
class Found:
    """Objects that are found in one image, the surest first.

    Args:
        boxes: `k 2 a`, in voxels of the image.
        scores: 0 to 1.
        classes: of each.
        masks: `k *m`: probabilities on a grid of m voxels over each box; None: the network draws none.
    """

    boxes: Float[Array, "k 2 a"]
    scores: Float[Array, "k"]
    classes: Int[Array, "k"]
    masks: Float[Array, "k *m"] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.scores)

    def only(self, index: Array) -> "Found":
        """Some of them."""
        masks = None if self.masks is None else self.masks[index]
        return Found(self.boxes[index], self.scores[index], self.classes[index], masks)


class Detector(nn.Module, ABC):
    """A network that finds objects. In training it is called with the truth, and gives its losses."""

    settings: DetectorSettings

    @property
    def most(self) -> int:
        """Objects that it can answer with for one window."""
        return self.settings.most

    def forward(self, images: Float[Tensor, "b c *s"], truths: Truths | None = None) -> Tensor | list[Found]:
        """The sum of the losses where the truth is given; else what is found in each image."""
        if truths is None:
            return self.find(images)
        return torch.stack([loss.float() for loss in self.losses(images, truths.each).values()]).sum()

    @abstractmethod
    def losses(self, images: Float[Tensor, "b c *s"], truths: Sequence[Truth]) -> dict[str, Float[Tensor, ""]]:
        """What is made small, by name."""

    @abstractmethod
    def find(self, images: Float[Tensor, "b c *s"]) -> list[Found]:
        """What is found in each image."""


def require_numbers(*answers: Tensor) -> None:
    """Refuse an answer that is no number: it would be taken for no object.

    Raises: InputError.
    """
    if not all(bool(torch.isfinite(one).all()) for one in answers):
        raise InputError("the network's answer is no number: its weights or its preparation are damaged")


def best_of(
    boxes: Float[Tensor, "n 2 a"], scores: Float[Tensor, "n k"], settings: DetectorSettings, shape: tuple[int, ...]
) -> tuple[Float[Array, "m 2 a"], Float[Array, "m"], Int[Array, "m"], Int[Array, "m"]]:
    """Boxes, scores and classes after suppression, and the row that each comes from.

    Args:
        boxes: candidates.
        scores: of every class.
        settings: bounds.
        shape: of the image, within which answers lie.
    """
    require_numbers(boxes, scores)
    rows, kinds = torch.nonzero(scores > settings.least_score, as_tuple=True)
    some = scores[rows, kinds]
    order = some.argsort(descending=True, stable=True)[: 10 * settings.most]
    rows, kinds, some = rows[order], kinds[order], some[order]
    own = bx.clipped(boxes[rows], shape).double().cpu().numpy()
    values, classes = some.double().cpu().numpy(), kinds.cpu().numpy()
    there = np.flatnonzero((own[:, 1] - own[:, 0] > 1e-3).all(axis=1))
    keep = suppressed(own[there], values[there], overlap=settings.overlap, classes=classes[there], most=settings.most)
    keep = there[keep]
    return own[keep], values[keep], classes[keep], rows.cpu().numpy()[keep]
