"""Plain convolutional classifiers: the textbook's, AlexNet, VGG.

`VGG` and `AlexNet` name their layers as torchvision does, so that trained weights of either match by name.
"""

from itertools import pairwise
from typing import Literal

from jaxtyping import Float
from pydantic import Field, field_validator
from torch import Tensor, nn

from isocenter.networks.layers import Convolutional, NetworkSettings, Pool, activation, conv, global_pool, norm, pool


class CnnSettings(Convolutional):
    """Blocks of convolution, activation and pooling; then dense layers."""

    widths: tuple[int, ...] = Field(default=(32, 64), min_length=1, max_length=8, description="Channels of each block.")
    depth: int = Field(default=1, ge=1, le=4, description="Convolutions in a block.")
    dense: tuple[int, ...] = Field(
        default=(128,), max_length=4, description="Units of each dense layer before the last."
    )
    pool: Pool = Field(default="max", description="How a block halves its size.")
    norm: Literal["none", "batch", "instance", "group"] = Field(default="none", description="After each convolution.")
    grid: int = Field(
        default=4, ge=1, le=16, description="Edge of the grid onto which any input is averaged for the dense layers."
    )

    @field_validator("kernel")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("a kernel is odd, so that it has a centre")
        return value


class Cnn(nn.Module):
    """The convolutional network of a textbook, for any size of input.

    Source: Y. LeCun et al., Proc. IEEE 86(11):2278-2324, 1998, with today's activations.
    """

    def __init__(self, settings: CnnSettings, *, channels: int, outputs: int, dims: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        last = channels
        for width in settings.widths:
            for _ in range(settings.depth):
                layers += [
                    conv(dims)(last, width, settings.kernel, padding=settings.kernel // 2),
                    norm(dims, settings.norm, width),
                    activation(settings.activation),
                ]
                last = width
            layers.append(pool(dims, settings.pool, 2))
        self.features = nn.Sequential(*layers)
        self.pool = global_pool(dims, settings.grid)
        sizes = (last * settings.grid**dims, *settings.dense)
        dense: list[nn.Module] = []
        for one, other in pairwise(sizes):
            dense += [nn.Linear(one, other), activation(settings.activation), nn.Dropout(settings.dropout)]
        self.classifier = nn.Sequential(*dense, nn.Linear(sizes[-1], outputs))

    def forward(self, x: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k"]:
        """Logits."""
        x = self.pool(self.features(x))  # b widths[-1] grid ...
        return self.classifier(x.flatten(1))


class AlexNetSettings(NetworkSettings):
    """AlexNet."""

    dropout: float = Field(default=0.5, ge=0, lt=1, description="Before each dense layer.")


class AlexNet(nn.Module):
    """AlexNet in its single-stream form; 2-D, 63 pixels or more.

    Source: A. Krizhevsky, arXiv:1404.5997, 2014.
    """

    def __init__(self, settings: AlexNetSettings, *, channels: int, outputs: int, dims: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            conv(dims)(channels, 64, 11, stride=4, padding=2), nn.ReLU(inplace=True), _max(dims),
            conv(dims)(64, 192, 5, padding=2), nn.ReLU(inplace=True), _max(dims),
            conv(dims)(192, 384, 3, padding=1), nn.ReLU(inplace=True),
            conv(dims)(384, 256, 3, padding=1), nn.ReLU(inplace=True),
            conv(dims)(256, 256, 3, padding=1), nn.ReLU(inplace=True), _max(dims),
        )  # fmt: skip
        self.avgpool = global_pool(dims, 6)
        self.classifier = nn.Sequential(
            nn.Dropout(settings.dropout), nn.Linear(256 * 6**dims, 4096), nn.ReLU(inplace=True),
            nn.Dropout(settings.dropout), nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Linear(4096, outputs),
        )  # fmt: skip

    def forward(self, x: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k"]:
        """Logits."""
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def _max(dims: int) -> nn.Module:
    return nn.MaxPool2d(3, 2) if dims == 2 else nn.MaxPool3d(3, 2)


_VGG: dict[int, tuple[int, ...]] = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Convolutions before each pooling; table 1 of the paper, columns A, B, D and E."""


class VggSettings(NetworkSettings):
    """VGG."""

    layers: Literal[11, 13, 16, 19] = Field(default=16, description="Layers with weights: columns A, B, D, E.")
    norm: Literal["none", "batch"] = Field(default="none", description="After each convolution.")
    dropout: float = Field(default=0.5, ge=0, lt=1, description="After the first two dense layers.")
    hidden: int = Field(default=4096, ge=8, description="Units of the dense layers.")


class Vgg(nn.Module):
    """VGG; 32 pixels or more.

    Source: K. Simonyan and A. Zisserman, ICLR 2015, table 1.
    """

    def __init__(self, settings: VggSettings, *, channels: int, outputs: int, dims: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        last = channels
        for width, count in zip((64, 128, 256, 512, 512), _VGG[settings.layers], strict=True):
            for _ in range(count):
                layers.append(conv(dims)(last, width, 3, padding=1))
                if settings.norm == "batch":
                    layers.append(norm(dims, "batch", width))
                layers.append(nn.ReLU(inplace=True))
                last = width
            layers.append(nn.MaxPool2d(2, 2) if dims == 2 else nn.MaxPool3d(2, 2))
        self.features = nn.Sequential(*layers)
        self.avgpool = global_pool(dims, 7 if dims == 2 else 2)
        wide = settings.hidden
        self.classifier = nn.Sequential(
            nn.Linear(512 * (7**2 if dims == 2 else 2**3), wide), nn.ReLU(inplace=True), nn.Dropout(settings.dropout),
            nn.Linear(wide, wide), nn.ReLU(inplace=True), nn.Dropout(settings.dropout), nn.Linear(wide, outputs),
        )  # fmt: skip

    def forward(self, x: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k"]:
        """Logits."""
        return self.classifier(self.avgpool(self.features(x)).flatten(1))
