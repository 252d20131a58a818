"""Layers by name and number of dimensions: what every family is built of."""

from collections.abc import Callable
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import nn

Activation = Literal["relu", "leaky_relu", "sigmoid", "tanh", "gelu"]
Norm = Literal["none", "batch", "instance", "group"]
Pool = Literal["max", "average"]

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "leaky_relu": lambda: nn.LeakyReLU(0.01, inplace=True),
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
}


class NetworkSettings(BaseModel):
    """What can be set of a network; each family adds its own fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Convolutional(NetworkSettings):
    """Settings of networks that are built of convolutions."""

    kernel: int = Field(default=3, ge=1, le=11, description="Edge of the convolutions, in voxels; odd.")
    activation: Activation = Field(default="relu", description="After each convolution.")
    norm: Norm = Field(default="batch", description="After each convolution, before the activation.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Share of values left out while training.")


def activation(name: Activation) -> nn.Module:
    """An activation by name."""
    return _ACTIVATIONS[name]()


def conv(dims: int) -> type[nn.Conv2d] | type[nn.Conv3d]:
    """Convolution of so many dimensions."""
    return nn.Conv2d if dims == 2 else nn.Conv3d


def transposed(dims: int) -> type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]:
    """Transposed convolution."""
    return nn.ConvTranspose2d if dims == 2 else nn.ConvTranspose3d


def pool(dims: int, kind: Pool, size: int, stride: int | None = None, padding: int = 0) -> nn.Module:
    """Pooling with a window of `size`; what does not fill a window at the end counts as well."""
    if kind == "max":
        return (nn.MaxPool2d if dims == 2 else nn.MaxPool3d)(size, stride, padding, ceil_mode=True)
    average = nn.AvgPool2d if dims == 2 else nn.AvgPool3d
    return average(size, stride, padding, ceil_mode=True, count_include_pad=False)


def global_pool(dims: int, size: int = 1) -> nn.Module:
    """Mean over space onto a grid of `size`."""
    return nn.AdaptiveAvgPool2d(size) if dims == 2 else nn.AdaptiveAvgPool3d(size)


def norm(dims: int, kind: Norm, channels: int) -> nn.Module:
    """Normalisation of so many channels."""
    if kind == "batch":
        return (nn.BatchNorm2d if dims == 2 else nn.BatchNorm3d)(channels)
    if kind == "instance":
        return (nn.InstanceNorm2d if dims == 2 else nn.InstanceNorm3d)(channels, affine=True)
    if kind == "group":
        return nn.GroupNorm(next(g for g in (8, 4, 2, 1) if channels % g == 0), channels)
    return nn.Identity()


def spatial_dropout(dims: int, share: float) -> nn.Module:
    """Dropout of whole channels."""
    if not share:
        return nn.Identity()
    return nn.Dropout2d(share) if dims == 2 else nn.Dropout3d(share)


def count_parameters(network: nn.Module) -> int:
    """How many numbers are learnt."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
