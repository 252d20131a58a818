"""Residual networks. Layers are named as torchvision and timm name them, so that trained weights match by name."""

from typing import Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from isocenter.networks.layers import NetworkSettings, conv, global_pool, norm


class ResNetSettings(NetworkSettings):
    """A residual network."""

    blocks: tuple[int, ...] = Field(
        default=(2, 2, 2, 2), min_length=1, max_length=6, description="Blocks of each stage."
    )
    widths: tuple[int, ...] = Field(default=(64, 128, 256, 512), description="Channels of each stage.")
    block: Literal["basic", "bottleneck"] = Field(default="basic", description="Two convolutions of 3, or 1-3-1.")
    stem: Literal["large", "small"] = Field(
        default="large", description="Large: 7 wide, stride 2, pooling. Small: 3 wide, for small images."
    )
    norm: Literal["batch", "instance", "group"] = Field(default="batch", description="After each convolution.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Before the last layer.")


class _Block(nn.Module):
    """Basic or bottleneck block; the stride sits on the convolution of 3 (`ResNet v1.5`)."""

    def __init__(self, inside: int, width: int, stride: int, settings: ResNetSettings, dims: int) -> None:
        super().__init__()
        basic = settings.block == "basic"
        outside = width if basic else 4 * width
        n = settings.norm
        make = conv(dims)
        self.conv1 = make(inside, width, 3 if basic else 1, stride if basic else 1, int(basic), bias=False)
        self.bn1 = norm(dims, n, width)
        self.conv2 = make(width, width, 3, 1 if basic else stride, 1, bias=False)
        self.bn2 = norm(dims, n, width)
        if not basic:
            self.conv3 = make(width, outside, 1, bias=False)
            self.bn3 = norm(dims, n, outside)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = (
            nn.Sequential(make(inside, outside, 1, stride, bias=False), norm(dims, n, outside))
            if stride != 1 or inside != outside
            else None
        )
        self.basic = basic

    def forward(self, x: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k *t"]:
        way = x if self.downsample is None else self.downsample(x)
        x = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if not self.basic:
            x = self.bn3(self.conv3(self.relu(x)))
        return self.relu(x + way)


class ResNet(nn.Module):
    """A residual network with global average pooling.

    Source: K. He et al., CVPR 2016, table 1.
    """

    def __init__(self, settings: ResNetSettings, *, channels: int, outputs: int, dims: int) -> None:
        super().__init__()
        first = settings.widths[0]
        self.maxpool: nn.Module
        if settings.stem == "large":
            self.conv1 = conv(dims)(channels, first, 7, 2, 3, bias=False)
            self.maxpool = nn.MaxPool2d(3, 2, 1) if dims == 2 else nn.MaxPool3d(3, 2, 1)
        else:
            self.conv1 = conv(dims)(channels, first, 3, 1, 1, bias=False)
            self.maxpool = nn.Identity()
        self.bn1 = norm(dims, settings.norm, first)
        self.relu = nn.ReLU(inplace=True)
        last, self.stages = first, []
        for number, (count, width) in enumerate(zip(settings.blocks, settings.widths, strict=True)):
            blocks = []
            for i in range(count):
                stride = 2 if number and not i else 1
                blocks.append(_Block(last, width, stride, settings, dims))
                last = width if settings.block == "basic" else 4 * width
            name = f"layer{number + 1}"
            self.add_module(name, nn.Sequential(*blocks))
            self.stages.append(name)
        self.avgpool = global_pool(dims)
        self.drop = nn.Dropout(settings.dropout)
        self.fc = nn.Linear(last, outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k"]:
        """Logits."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for name in self.stages:
            x = getattr(self, name)(x)  # b widths[i] s/2^i
        return self.fc(self.drop(self.avgpool(x).flatten(1)))
