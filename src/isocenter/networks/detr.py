"""DETR: a set of queries looks at the whole image, and each says one object or none."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from isocenter.networks import boxes as bx
from isocenter.networks.detector import Detector, DetectorSettings, Found, Truth, require_numbers
from isocenter.networks.dynamic_unet import DynamicUNetSettings, Encoder
from isocenter.networks.layers import conv
from isocenter.types import Array

_CLASS, _CORNERS, _HULL = 1.0, 5.0, 2.0
"""Weights of the costs and losses: class, distance of the corners, generalised overlap."""


class DETRSettings(DetectorSettings):
    """DETR."""

    widths: tuple[int, ...] = Field(
        default=(24, 48, 96, 160, 192), min_length=2, max_length=8, description="Channels of each stage."
    )
    strides: tuple[tuple[int, ...], ...] = Field(
        default=(), description="Of each stage, by axis. Empty: 2 everywhere but in the first, which has 1."
    )
    hidden: int = Field(default=128, ge=16, le=1024, description="Width of the transformer; a multiple of the heads.")
    heads: int = Field(default=8, ge=1, le=32, description="Of each attention.")
    layers: int = Field(default=3, ge=1, le=12, description="Of the encoder, and of the decoder.")
    queries: int = Field(default=60, ge=1, le=1000, description="Objects that can be found in one window.")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="In the transformer.")
    nothing: float = Field(default=0.1, gt=0, le=1, description="Weight of queries that answer for no object.")

    @model_validator(mode="after")
    def _fits(self) -> "DETRSettings":
        if self.hidden % self.heads:
            raise ValueError(f"hidden ({self.hidden}) is a multiple of heads ({self.heads})")
        return self


def waves(size: tuple[int, ...], width: int) -> Float[Tensor, "n w"]:
    """Where each voxel of a grid lies, as sines and cosines along every axis.

    Source: N. Carion et al., ECCV 2020, appendix A.4; A. Vaswani et al., NIPS 2017, section 3.5.
    """
    share = 2 * (width // (2 * len(size)))
    rates = 10000 ** (-torch.arange(0, share, 2) / max(share, 1))
    parts = []
    for axis, n in enumerate(size):
        at = (torch.arange(n) + 0.5) / n * 2 * torch.pi
        phase = at[:, None] * rates  # n share/2
        wave = torch.cat((phase.sin(), phase.cos()), dim=1)
        shape = [1] * len(size)
        shape[axis] = n
        parts.append(wave.view(*shape, share).expand(*size, share))
    found = torch.cat(parts, dim=-1).reshape(-1, share * len(size))
    return F.pad(found, (0, width - found.shape[1]))


class DETR(Detector):
    """Detection as set prediction: queries and objects are paired at the least cost, and each pair learns.

    Nothing is suppressed: a second query for one object learns to say `nothing`.

    Source: N. Carion et al., ECCV 2020, equations 1 and 2.
    """

    settings: DETRSettings

    def __init__(self, settings: DETRSettings, *, channels: int, outputs: int, dims: int) -> None:
        super().__init__()
        self.settings, self.outputs, self.dims = settings, outputs, dims
        width = settings.hidden
        encoder = DynamicUNetSettings(
            widths=settings.widths, strides=settings.strides, blocks=(1,) * len(settings.widths), residual=True,
            norm="batch", activation="relu", bias=False,
        )  # fmt: skip
        self.encoder = Encoder(encoder, channels, dims)
        self.lateral = conv(dims)(settings.widths[-1], width, 1)
        self.transformer = nn.Transformer(
            width, settings.heads, settings.layers, settings.layers, 4 * width, settings.dropout, batch_first=True,
        )  # fmt: skip
        self.queries = nn.Parameter(torch.randn(settings.queries, width))
        self.classes = nn.Linear(width, outputs + 1)
        self.edges = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
                                   nn.Linear(width, 2 * dims))  # fmt: skip

    def sets(self, images: Float[Tensor, "b c *s"]) -> tuple[Float[Tensor, "b q k"], Float[Tensor, "b q 2 a"]]:
        """Logits of every query (`nothing` last), and its box as shares of the image."""
        x = self.lateral(self.encoder(images)[-1])
        flat = x.flatten(2).transpose(1, 2)  # b n width
        place = waves(tuple(x.shape[2:]), self.settings.hidden).to(flat)
        memory = self.transformer.encoder(flat + place)
        asked = self.queries.expand(len(images), -1, -1)
        told = self.transformer.decoder(asked, memory + place)
        edges = self.edges(told).float().sigmoid()  # b q 2a: centre, then edges
        centre, half = edges[..., : self.dims], edges[..., self.dims :] / 2
        return self.classes(told).float(), torch.stack((centre - half, centre + half), dim=-2)

    def losses(self, images: Float[Tensor, "b c *s"], truths: Sequence[Truth]) -> dict[str, Float[Tensor, ""]]:
        """Of the least costly pairs."""
        logits, boxes = self.sets(images)
        step = torch.tensor(images.shape[2:], dtype=torch.float32, device=boxes.device)
        wanted = torch.full(logits.shape[:2], self.outputs, dtype=torch.int64, device=boxes.device)
        said, true = [], []
        for i, truth in enumerate(truths):
            goal = truth.boxes / step
            rows, columns = paired(logits[i].detach(), boxes[i].detach(), goal, truth.classes)
            wanted[i, rows] = truth.classes[columns]
            said.append(boxes[i, rows])
            true.append(goal[columns])
        one, other = torch.cat(said), torch.cat(true)
        count = max(1, len(one))
        weight = torch.ones(self.outputs + 1, device=boxes.device)
        weight[-1] = self.settings.nothing
        return {
            "classes": _CLASS * F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), weight),
            "corners": _CORNERS * (_centred(one) - _centred(other)).abs().sum() / count,
            "hull": _HULL * (1 - bx.generalised(one, other)).sum() / count,
        }

    @property
    def most(self) -> int:
        """As many as it has queries, at most."""
        return min(self.settings.most, self.settings.queries)

    def find(self, images: Float[Tensor, "b c *s"]) -> list[Found]:
        """What is found in each image."""
        logits, boxes = self.sets(images)
        shape = tuple(images.shape[2:])
        step = torch.tensor(shape, dtype=torch.float32, device=boxes.device)
        require_numbers(logits, boxes)
        scores, classes = logits.softmax(dim=2)[..., :-1].max(dim=2)
        found = []
        for edges, values, kinds in zip(boxes, scores, classes, strict=True):
            order = values.argsort(descending=True, stable=True)[: self.settings.most]
            order = order[values[order] > self.settings.least_score]
            corners = bx.clipped(edges[order] * step, shape).double().cpu().numpy()
            there = (corners[:, 1] > corners[:, 0]).all(axis=1)
            own = Found(corners, values[order].double().cpu().numpy(), kinds[order].cpu().numpy())
            found.append(own.only(np.flatnonzero(there)))
        return found


def paired(
    logits: Float[Tensor, "q k"], boxes: Float[Tensor, "q 2 a"], goal: Float[Tensor, "m 2 a"], classes: Int[Tensor, "m"]
) -> tuple[Int[Tensor, "r"], Int[Tensor, "r"]]:
    """Queries and objects, paired at the least cost in all.

    Source: H. Kuhn, Naval Res. Logist. Q. 2:83-97, 1955 (the Hungarian method); scipy's.
    """
    from scipy.optimize import linear_sum_assignment

    chance = logits.softmax(dim=1)[:, classes]
    corners = torch.cdist(_centred(boxes), _centred(goal), p=1)
    hull = torch.stack([bx.generalised(boxes, one.expand_as(boxes)) for one in goal], dim=1) if len(goal) else corners
    cost: Array = (-_CLASS * chance + _CORNERS * corners - _HULL * hull).cpu().numpy()
    rows, columns = linear_sum_assignment(np.nan_to_num(cost, nan=1e6, posinf=1e6, neginf=-1e6))
    return torch.from_numpy(rows).to(boxes.device), torch.from_numpy(columns).to(boxes.device)


def _centred(boxes: Tensor) -> Tensor:
    """Centre, then edges."""
    return torch.cat((boxes.mean(dim=-2), boxes[..., 1, :] - boxes[..., 0, :]), dim=-1)
