"""Several modalities: an encoder each, joined by attention; or a network each, whose probabilities are joined.

A modality that is absent is a channel of zeros, and gets no weight.
"""

from itertools import pairwise
from typing import cast

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from isocenter.networks.layers import NetworkSettings, conv, pool
from isocenter.networks.unet import Convolutions, UNetSettings


class FusionSettings(NetworkSettings):
    """Networks of whole images, one for each modality."""

    columns: int = Field(default=0, ge=0, le=256, description="Channels at the end that hold one number each.")
    width: int = Field(default=64, ge=4, le=1024, description="Features of each modality.")
    widths: tuple[int, ...] = Field(
        default=(32, 64, 128), min_length=1, max_length=6, description="Channels of each modality's network."
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Before the last layer.")


def present(x: Float[Tensor, "b c *s"]) -> Bool[Tensor, "b c"]:
    """Channels that hold anything."""
    return x.flatten(2).abs().amax(dim=2) > 0


def weights_of(scores: Float[Tensor, "b m *s"], there: Bool[Tensor, "b m"]) -> Float[Tensor, "b m *s"]:
    """Softmax over the modalities that are there; where none is, over all."""
    kept = there | ~there.any(dim=1, keepdim=True)
    hidden = ~kept.view(*kept.shape, *(1,) * (scores.ndim - 2))
    return scores.masked_fill(hidden, float("-inf")).softmax(dim=1)


class MiddleFusion(nn.Module):
    """A network of each modality gives features; a score of each says how much they count; a table's columns join.

    Source: gated multimodal units, J. Arevalo et al., ICLR Workshops 2017, here with a softmax over those there are.
    """

    def __init__(self, settings: FusionSettings, *, channels: int, outputs: int, dims: int) -> None:
        super().__init__()
        self.columns, self.modalities = settings.columns, channels - settings.columns
        self.branches = nn.ModuleList(_branch(settings, settings.width, dims) for _ in range(self.modalities))
        self.scores = nn.ModuleList(nn.Linear(settings.width, 1) for _ in range(self.modalities))
        self.table = _of_table(settings) if settings.columns else None
        inside = settings.width * (2 if settings.columns else 1)
        self.last = nn.Sequential(
            nn.Linear(inside, settings.width), nn.ReLU(inplace=True), nn.Dropout(settings.dropout),
            nn.Linear(settings.width, outputs),
        )  # fmt: skip

    def forward(self, x: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k"]:
        """Logits."""
        images = x[:, : self.modalities]
        features = torch.stack([branch(images[:, i : i + 1]) for i, branch in enumerate(self.branches)], dim=1)
        scores = torch.cat([score(features[:, i]) for i, score in enumerate(self.scores)], dim=1)
        joined = (features * weights_of(scores, present(images))[..., None]).sum(dim=1)
        if self.table is not None:
            joined = torch.cat((joined, self.table(x[:, self.modalities :].flatten(2).mean(dim=2))), dim=1)
        return self.last(torch.relu(joined))


class LateFusion(nn.Module):
    """A network of each modality decides by itself; their probabilities, each at its own temperature, are averaged
    over those that are there, by weights that are learnt. The columns of a table are one more of them.
    """

    def __init__(self, settings: FusionSettings, *, channels: int, outputs: int, dims: int) -> None:
        super().__init__()
        self.columns, self.modalities = settings.columns, channels - settings.columns
        self.branches = nn.ModuleList(_branch(settings, outputs, dims) for _ in range(self.modalities))
        table = nn.Sequential(_of_table(settings), nn.Linear(settings.width, outputs)) if settings.columns else None
        self.table = table
        count = self.modalities + bool(settings.columns)
        self.temperature, self.weight = nn.Parameter(torch.zeros(count)), nn.Parameter(torch.zeros(count))

    def forward(self, x: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k"]:
        """Logarithms of probabilities; of one output, values."""
        images = x[:, : self.modalities]
        said = [branch(images[:, i : i + 1]) for i, branch in enumerate(self.branches)]
        there = present(images)
        if self.table is not None:
            said.append(self.table(x[:, self.modalities :].flatten(2).mean(dim=2)))
            there = torch.cat((there, torch.ones_like(there[:, :1])), dim=1)
        answers = torch.stack(said, dim=1)  # b m k
        weights = weights_of(self.weight.expand(len(x), -1), there)[..., None]
        if answers.shape[2] == 1:
            return (answers * weights).sum(dim=1)
        sure = (answers.float() / self.temperature.exp()[:, None]).softmax(dim=2)
        return torch.log((sure * weights).sum(dim=1).clamp_min(1e-7))


def _branch(settings: FusionSettings, outputs: int, dims: int) -> nn.Module:
    """A small residual network of one modality."""
    from isocenter.networks.resnet import ResNet, ResNetSettings

    own = ResNetSettings(blocks=(1,) * len(settings.widths), widths=settings.widths, stem="small")
    return ResNet(own, channels=1, outputs=outputs, dims=dims)


def _of_table(settings: FusionSettings) -> nn.Module:
    return nn.Sequential(
        nn.Linear(settings.columns, settings.width), nn.ReLU(inplace=True), nn.Linear(settings.width, settings.width)
    )


class FusionUNetSettings(UNetSettings):
    """A U-Net with an encoder for each modality."""

    widths: tuple[int, ...] = Field(
        default=(16, 32, 64, 128), min_length=2, max_length=8, description="Channels of each level, finest first."
    )


class FusionUNet(nn.Module):
    """An encoder of each modality; at each level their features are joined by weights of each voxel; one decoder.

    Source: J. Dolz et al., IEEE Trans. Med. Imaging 38:1116-1126, 2019 (a path for each modality); weights as in
        `MiddleFusion`.
    """

    def __init__(self, settings: FusionUNetSettings, *, channels: int, outputs: int, dims: int) -> None:
        super().__init__()
        widths = settings.widths
        self.dims = dims
        self.encoders = nn.ModuleList(
            nn.ModuleList(Convolutions(a, b, settings, dims) for a, b in pairwise((1, *widths)))
            for _ in range(channels)
        )
        self.scores = nn.ModuleList(nn.ModuleList(conv(dims)(width, 1, 1) for width in widths) for _ in range(channels))
        self.halve = pool(dims, settings.pool, 2)
        self.up = nn.ModuleList(
            Convolutions(below + own, own, settings, dims) for below, own in pairwise(reversed(widths))
        )
        self.head = conv(dims)(widths[0], outputs, 1)

    def forward(self, x: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k *s"]:
        """Logits of each voxel."""
        there = present(x)
        levels: list[list[Tensor]] = []
        for i, encoder in enumerate(self.encoders):
            here: Tensor = x[:, i : i + 1]
            found: list[Tensor] = []
            for block in cast("nn.ModuleList", encoder):
                here = block(self.halve(here) if found else here)
                found.append(here)
            levels.append(found)
        joined = [self._joined([own[n] for own in levels], n, there) for n in range(len(levels[0]))]
        here = joined[-1]
        mode = "bilinear" if self.dims == 2 else "trilinear"
        for block, skip in zip(self.up, reversed(joined[:-1]), strict=True):
            here = F.interpolate(here, size=skip.shape[2:], mode=mode, align_corners=False)
            here = block(torch.cat((here, skip), dim=1))
        return self.head(here)

    def _joined(self, features: list[Tensor], level: int, there: Tensor) -> Tensor:
        own = [cast("nn.ModuleList", scores)[level] for scores in self.scores]
        scores = torch.cat([score(f) for score, f in zip(own, features, strict=True)], dim=1)
        weights = weights_of(scores, there)
        return torch.stack([f * weights[:, i : i + 1] for i, f in enumerate(features)]).sum(dim=0)
