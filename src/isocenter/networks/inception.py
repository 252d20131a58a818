"""Inception v1 (GoogLeNet)."""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from isocenter.networks.layers import NetworkSettings, conv, global_pool

_TABLE = {
    "3a": (192, 64, 96, 128, 16, 32, 32), "3b": (256, 128, 128, 192, 32, 96, 64),
    "4a": (480, 192, 96, 208, 16, 48, 64), "4b": (512, 160, 112, 224, 24, 64, 64),
    "4c": (512, 128, 128, 256, 24, 64, 64), "4d": (512, 112, 144, 288, 32, 64, 64),
    "4e": (528, 256, 160, 320, 32, 128, 128),
    "5a": (832, 256, 160, 320, 32, 128, 128), "5b": (832, 384, 192, 384, 48, 128, 128),
}  # fmt: skip
"""Table 1 of the paper: input, 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection."""


class InceptionSettings(NetworkSettings):
    """Inception v1."""

    dropout: float = Field(default=0.4, ge=0, lt=1, description="Before the last layer.")


class _Module(nn.Module):
    """Four branches side by side."""

    def __init__(self, row: tuple[int, ...], dims: int) -> None:
        super().__init__()
        inside, one, reduce3, three, reduce5, five, pooled = row
        self.branch1 = _conv(dims, inside, one, 1)
        self.branch2 = nn.Sequential(_conv(dims, inside, reduce3, 1), _conv(dims, reduce3, three, 3))
        self.branch3 = nn.Sequential(_conv(dims, inside, reduce5, 1), _conv(dims, reduce5, five, 5))
        largest = nn.MaxPool2d(3, 1, 1) if dims == 2 else nn.MaxPool3d(3, 1, 1)
        self.branch4 = nn.Sequential(largest, _conv(dims, inside, pooled, 1))

    def forward(self, x: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k *s"]:
        return torch.cat((self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)), dim=1)


def _conv(dims: int, inside: int, outside: int, size: int, stride: int = 1) -> nn.Module:
    """Convolution with bias and ReLU, as published: no normalisation."""
    return nn.Sequential(conv(dims)(inside, outside, size, stride, size // 2), nn.ReLU(inplace=True))


class Inception(nn.Module):
    """GoogLeNet without its auxiliary classifiers; 32 pixels or more.

    Source: C. Szegedy et al., CVPR 2015, table 1.
    """

    def __init__(self, settings: InceptionSettings, *, channels: int, outputs: int, dims: int) -> None:
        super().__init__()

        def halve() -> nn.Module:
            return (nn.MaxPool2d if dims == 2 else nn.MaxPool3d)(3, 2, ceil_mode=True)

        self.stem = nn.Sequential(
            _conv(dims, channels, 64, 7, 2), halve(), _conv(dims, 64, 64, 1), _conv(dims, 64, 192, 3), halve()
        )
        stages: list[nn.Module] = []
        for name, row in _TABLE.items():
            if name in ("4a", "5a"):
                stages.append(halve())
            stages.append(_Module(row, dims))
        self.stages = nn.Sequential(*stages)
        self.pool = global_pool(dims)
        self.drop = nn.Dropout(settings.dropout)
        self.fc = nn.Linear(1024, outputs)

    def forward(self, x: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k"]:
        """Logits."""
        return self.fc(self.drop(self.pool(self.stages(self.stem(x))).flatten(1)))
