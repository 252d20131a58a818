"""RetinaNet: every anchor of a feature pyramid says at once what it sees and where its edges lie."""

from collections.abc import Sequence
from math import log

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from isocenter.networks import anchors as an
from isocenter.networks import boxes as bx
from isocenter.networks.detector import Detector, DetectorSettings, Found, Truth, best_of
from isocenter.networks.layers import conv
from isocenter.networks.pyramid import Pyramid, PyramidSettings

_PRIOR = 0.01
"""Probability of an object at the start: else the many empty anchors drown the rest."""
_ALPHA, _GAMMA = 0.25, 2.0


class AnchoredSettings(PyramidSettings, DetectorSettings):
    """What detectors with anchors on a pyramid share."""

    anchors: tuple[tuple[float, ...], ...] = Field(
        default=(), description="Edges of each anchor, in voxels of its level. Empty: 4 everywhere; training fits them."
    )

    def shapes(self, dims: int) -> an.Shapes:
        """The anchors' edges.

        Raises: ValueError for others than one edge an axis.
        """
        found = self.anchors or ((4.0,) * dims,)
        if any(len(shape) != dims for shape in found):
            raise ValueError(f"each anchor has {dims} edges; got {found}")
        return found


class RetinaNetSettings(AnchoredSettings):
    """RetinaNet."""

    depth: int = Field(default=2, ge=1, le=8, description="Convolutions of each head.")


class Head(nn.Module):
    """Convolutions in a row, shared by all levels, then one number for each anchor and output."""

    def __init__(self, channels: int, depth: int, outputs: int, dims: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(depth):
            groups = next(g for g in (16, 8, 4, 2, 1) if channels % g == 0)
            layers += [
                conv(dims)(channels, channels, 3, padding=1),
                nn.GroupNorm(groups, channels),
                nn.ReLU(inplace=True),
            ]
        self.trunk = nn.Sequential(*layers)
        self.last = conv(dims)(channels, outputs, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                nn.init.normal_(module.weight, std=0.01 if module is self.last else (2 / (3**dims * channels)) ** 0.5)
                nn.init.zeros_(module.bias) if module.bias is not None else None

    def expect_little(self) -> "Head":
        """Start with the probability that an object is rare."""
        assert self.last.bias is not None, "the last convolution has a bias"
        nn.init.constant_(self.last.bias, -log((1 - _PRIOR) / _PRIOR))
        return self

    def forward(self, x: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k *s"]:
        """Numbers of every voxel."""
        return self.last(self.trunk(x))


def by_anchor(level: Float[Tensor, "b k *s"], each: int) -> Float[Tensor, "b n o"]:
    """A level's numbers by anchor, in the order in which anchors are laid."""
    count = level.shape[1] // each
    flat = level.movedim(1, -1).flatten(1, -2)  # b s k
    return flat.reshape(flat.shape[0], -1, count)


class RetinaNet(Detector):
    """One-stage detector with focal loss; anchors are assigned by ATSS, edges learnt by generalised overlap.

    Source: T.-Y. Lin et al., ICCV 2017; assignment: S. Zhang et al., CVPR 2020.
    """

    def __init__(self, settings: RetinaNetSettings, *, channels: int, outputs: int, dims: int) -> None:
        super().__init__()
        self.settings, self.outputs, self.dims = settings, outputs, dims
        self.shapes, self.scales = settings.shapes(dims), settings.scales(dims)
        self.pyramid = Pyramid(settings, channels=channels, dims=dims)
        each = len(self.shapes)
        self.classes = Head(settings.channels, settings.depth, each * outputs, dims).expect_little()
        self.edges = Head(settings.channels, settings.depth, each * 2 * dims, dims)

    def dense(
        self, images: Float[Tensor, "b c *s"]
    ) -> tuple[list[Tensor], Float[Tensor, "b n k"], Float[Tensor, "b n e"]]:
        """Anchors of each level, logits of the classes, and edges as seen from the anchors."""
        levels = self.pyramid(images)
        each = len(self.shapes)
        logits = torch.cat([by_anchor(self.classes(x), each) for x in levels], dim=1).float()
        edges = torch.cat([by_anchor(self.edges(x), each) for x in levels], dim=1).float()
        laid = an.laid([tuple(x.shape[2:]) for x in levels], self.scales, self.shapes)
        return [level.to(images.device) for level in laid], logits, edges

    def losses(self, images: Float[Tensor, "b c *s"], truths: Sequence[Truth]) -> dict[str, Float[Tensor, ""]]:
        """Focal loss of the classes over all anchors; distance of those that answer for an object."""
        levels, logits, edges = self.dense(images)
        together = torch.cat(levels)
        target = torch.zeros_like(logits)
        near = []
        for i, truth in enumerate(truths):
            answer = an.matched(levels, truth.boxes, each=len(self.shapes))
            mine = torch.nonzero(answer >= 0)[:, 0]
            target[i, mine, truth.classes[answer[mine]]] = 1.0
            near.append(bx.edge_losses(edges[i, mine], together[mine], truth.boxes[answer[mine]]))
        count = max(1, sum(len(rows) for rows in near))
        return {"classes": focal(logits, target).sum() / count, "edges": 2 * torch.cat(near).sum() / count}

    def find(self, images: Float[Tensor, "b c *s"]) -> list[Found]:
        """What is found in each image."""
        levels, logits, edges = self.dense(images)
        together, shape = torch.cat(levels), tuple(images.shape[2:])
        found = []
        for own, deltas in zip(logits.sigmoid(), edges, strict=True):
            boxes, scores, classes, _ = best_of(bx.decoded(deltas, together), own, self.settings, shape)
            found.append(Found(boxes, scores, classes))
        return found


def focal(logits: Float[Tensor, "*n k"], target: Float[Tensor, "*n k"]) -> Float[Tensor, "*n k"]:
    """Binary cross-entropy, times (1 - p)^2 of the right answer, with a quarter of the weight on objects.

    Source: T.-Y. Lin et al., ICCV 2017, equation 5.
    """
    plain = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    p = torch.sigmoid(logits)
    right = p * target + (1 - p) * (1 - target)
    return (_ALPHA * target + (1 - _ALPHA) * (1 - target)) * (1 - right) ** _GAMMA * plain
