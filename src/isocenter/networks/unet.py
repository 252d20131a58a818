"""The U-Net: plain, residual, with attention gates; 2-D and 3-D."""

from itertools import pairwise

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from isocenter.networks.layers import Convolutional, Pool, activation, conv, norm, pool, spatial_dropout


class UNetSettings(Convolutional):
    """A U-Net."""

    widths: tuple[int, ...] = Field(
        default=(32, 64, 128, 256), min_length=2, max_length=8, description="Channels of each level, finest first."
    )
    depth: int = Field(default=2, ge=1, le=4, description="Convolutions in a block.")
    pool: Pool = Field(default="max", description="How the way down halves its size.")
    residual: bool = Field(default=False, description="Each block adds its input to its output.")
    attention: bool = Field(default=False, description="Gates on the skip connections.")


class Convolutions(nn.Module):
    """Convolutions in a row, with a way around them if residual."""

    def __init__(self, inside: int, width: int, settings: UNetSettings, dims: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(settings.depth):
            layers += [
                conv(dims)(
                    inside if i == 0 else width, width, settings.kernel, padding=settings.kernel // 2,
                    bias=settings.norm == "none",
                ),
                norm(dims, settings.norm, width),
                activation(settings.activation) if i < settings.depth - 1 else nn.Identity(),
            ]  # fmt: skip
        self.layers = nn.Sequential(*layers)
        self.way = conv(dims)(inside, width, 1, bias=False) if settings.residual and inside != width else nn.Identity()
        self.residual = settings.residual
        self.last = nn.Sequential(activation(settings.activation), spatial_dropout(dims, settings.dropout))

    def forward(self, x: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k *s"]:
        """Features."""
        found = self.layers(x)
        return self.last(found + self.way(x) if self.residual else found)


class _Gate(nn.Module):
    """Weights of a skip connection from what lies below it.

    Source: O. Oktay et al., arXiv:1804.03999, 2018, equation 1.
    """

    def __init__(self, skip: int, below: int, dims: int) -> None:
        super().__init__()
        inner = max(1, skip // 2)
        self.of_skip = conv(dims)(skip, inner, 1, bias=False)
        self.of_below = conv(dims)(below, inner, 1)
        self.weigh = conv(dims)(inner, 1, 1)

    def forward(self, skip: Float[Tensor, "b c *s"], below: Float[Tensor, "b k *s"]) -> Float[Tensor, "b c *s"]:
        return skip * torch.sigmoid(self.weigh(F.relu(self.of_skip(skip) + self.of_below(below))))


class UNet(nn.Module):
    """Down and up again, with skips; any size of input.

    Source: O. Ronneberger et al., MICCAI 2015, figure 1; O. Cicek et al., MICCAI 2016, for 3-D. Padded convolutions
        keep the size, and the way up is interpolation and convolution.
    """

    def __init__(self, settings: UNetSettings, *, channels: int, outputs: int, dims: int) -> None:
        super().__init__()
        widths = settings.widths
        self.dims = dims
        ways = pairwise((channels, *widths))
        self.down = nn.ModuleList(Convolutions(one, other, settings, dims) for one, other in ways)
        self.halve = pool(dims, settings.pool, 2)
        back = list(pairwise(reversed(widths)))
        self.up = nn.ModuleList(Convolutions(below + own, own, settings, dims) for below, own in back)
        self.gates = nn.ModuleList(
            _Gate(own, below, dims) if settings.attention else nn.Identity() for below, own in back
        )
        self.attention = settings.attention
        self.head = conv(dims)(widths[0], outputs, 1)

    def forward(self, x: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k *s"]:
        """Logits of each voxel."""
        skips: list[Tensor] = []
        for i, block in enumerate(self.down):
            if i:
                skips.append(x)
                x = self.halve(x)
            x = block(x)  # b widths[i] s/2^i
        for block, gate, skip in zip(self.up, self.gates, reversed(skips), strict=True):
            mode = "bilinear" if self.dims == 2 else "trilinear"
            x = F.interpolate(x, size=skip.shape[2:], mode=mode, align_corners=False)
            x = block(torch.cat((x, gate(skip, x) if self.attention else skip), dim=1))
        return self.head(x)
