"""nnU-Net's dynamic U-Net: kernels and strides of each stage follow the data.

Modules are named as nnU-Net v2 names them (`encoder.stages.0.0.convs.0.conv`, `decoder.transpconvs.0`), so that its
checkpoints match by name.
"""

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from isocenter.networks.layers import (
    Activation,
    NetworkSettings,
    Norm,
    activation,
    conv,
    norm,
    spatial_dropout,
    transposed,
)


class DynamicUNetSettings(NetworkSettings):
    """nnU-Net's U-Net."""

    widths: tuple[int, ...] = Field(
        default=(32, 64, 128, 256), min_length=2, max_length=9, description="Channels of each stage, finest first."
    )
    strides: tuple[tuple[int, ...], ...] = Field(
        default=(), description="Of each stage, by axis; the first is 1. Empty: 2 everywhere."
    )
    kernels: tuple[tuple[int, ...], ...] = Field(default=(), description="Of each stage, by axis. Empty: 3 everywhere.")
    blocks: tuple[int, ...] = Field(default=(), description="Convolutions (or residual blocks) of each stage down.")
    blocks_up: tuple[int, ...] = Field(default=(), description="Convolutions of each stage on the way up.")
    residual: bool = Field(default=False, description="Residual encoder.")
    deep_supervision: bool = Field(default=True, description="While training, coarser stages are judged as well.")
    norm: Norm = Field(default="instance", description="After each convolution.")
    activation: Activation = Field(default="leaky_relu", description="After each normalisation.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Share of channels left out while training.")
    bias: bool = Field(default=True, description="Convolutions have one.")

    @model_validator(mode="after")
    def _fits(self) -> "DynamicUNetSettings":
        count = len(self.widths)
        for name, wanted in (("strides", count), ("kernels", count), ("blocks", count), ("blocks_up", count - 1)):
            given = getattr(self, name)
            if given and len(given) != wanted:
                raise ValueError(f"{name} has {len(given)} entries; {wanted} are wanted for {count} stages")
        return self

    def stage(self, number: int, dims: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Kernel and stride of a stage."""
        kernel = self.kernels[number] if self.kernels else (3,) * dims
        stride = self.strides[number] if self.strides else (2 if number else 1,) * dims
        return tuple(kernel), tuple(stride)


class _Conv(nn.Module):
    """Convolution, normalisation and activation, by nnU-Net's names."""

    def __init__(
        self, inside: int, width: int, kernel: tuple[int, ...], stride: tuple[int, ...], settings: DynamicUNetSettings,
        dims: int, *, active: bool = True, bias: bool | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        padding = tuple(k // 2 for k in kernel)
        has_bias = settings.bias if bias is None else bias
        self.conv = conv(dims)(inside, width, kernel, stride, padding, bias=has_bias)  # type: ignore[arg-type]
        self.drop = spatial_dropout(dims, settings.dropout)
        self.norm = norm(dims, settings.norm, width)
        self.nonlin = activation(settings.activation) if active else nn.Identity()

    def forward(self, x: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k *t"]:
        return self.nonlin(self.norm(self.drop(self.conv(x))))


class _Stacked(nn.Module):
    """Convolutions in a row, the first with the stride."""

    def __init__(
        self, inside: int, width: int, count: int, kernel: tuple[int, ...], stride: tuple[int, ...],
        settings: DynamicUNetSettings, dims: int,
    ) -> None:  # fmt: skip
        super().__init__()
        one = (1,) * dims
        self.convs = nn.Sequential(*(
            _Conv(width if i else inside, width, kernel, one if i else stride, settings, dims) for i in range(count)
        ))  # fmt: skip

    def forward(self, x: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k *t"]:
        return self.convs(x)


class _Residual(nn.Module):
    """Two convolutions with a way around them: mean over the stride, then 1x1 where the width changes."""

    def __init__(
        self, inside: int, width: int, kernel: tuple[int, ...], stride: tuple[int, ...],
        settings: DynamicUNetSettings, dims: int,
    ) -> None:  # fmt: skip
        super().__init__()
        one = (1,) * dims
        self.conv1 = _Conv(inside, width, kernel, stride, settings, dims)
        self.conv2 = _Conv(width, width, kernel, one, settings, dims, active=False)
        self.nonlin2 = activation(settings.activation)
        way: list[nn.Module] = []
        if any(s != 1 for s in stride):
            way.append((nn.AvgPool2d if dims == 2 else nn.AvgPool3d)(stride, stride))  # type: ignore[arg-type]
        if inside != width:
            way.append(_Conv(inside, width, one, one, settings, dims, active=False, bias=False))
        self.skip = nn.Sequential(*way)

    def forward(self, x: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k *t"]:
        return self.nonlin2(self.conv2(self.conv1(x)) + self.skip(x))


class _ResidualStage(nn.Module):
    def __init__(
        self, inside: int, width: int, count: int, kernel: tuple[int, ...], stride: tuple[int, ...],
        settings: DynamicUNetSettings, dims: int,
    ) -> None:  # fmt: skip
        super().__init__()
        one = (1,) * dims
        self.blocks = nn.Sequential(*(
            _Residual(width if i else inside, width, kernel, one if i else stride, settings, dims)
            for i in range(count)
        ))  # fmt: skip

    def forward(self, x: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k *t"]:
        return self.blocks(x)


class Encoder(nn.Module):
    """The way down: the features of each stage, finest first."""

    def __init__(self, settings: DynamicUNetSettings, channels: int, dims: int) -> None:
        super().__init__()
        last = channels
        self.residual = settings.residual
        if settings.residual:
            kernel, _ = settings.stage(0, dims)
            self.stem = _Stacked(channels, settings.widths[0], 1, kernel, (1,) * dims, settings, dims)
            last = settings.widths[0]
        stages: list[nn.Module] = []
        for number, width in enumerate(settings.widths):
            kernel, stride = settings.stage(number, dims)
            count = settings.blocks[number] if settings.blocks else 2
            if settings.residual:
                stages.append(_ResidualStage(last, width, count, kernel, stride, settings, dims))
            else:
                stages.append(nn.Sequential(_Stacked(last, width, count, kernel, stride, settings, dims)))
            last = width
        self.stages = nn.Sequential(*stages)

    def forward(self, x: Float[Tensor, "b c *s"]) -> list[Tensor]:
        """Features of each stage."""
        if self.residual:
            x = self.stem(x)
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found


class _Decoder(nn.Module):
    def __init__(self, settings: DynamicUNetSettings, outputs: int, dims: int) -> None:
        super().__init__()
        count = len(settings.widths)
        ups, stages, heads = [], [], []
        for number in range(count - 1, 0, -1):
            _, stride = settings.stage(number, dims)
            kernel, _ = settings.stage(number - 1, dims)
            below, own = settings.widths[number], settings.widths[number - 1]
            ups.append(transposed(dims)(below, own, stride, stride, bias=settings.bias))  # type: ignore[arg-type]
            many = settings.blocks_up[count - 1 - number] if settings.blocks_up else 2
            stages.append(_Stacked(2 * own, own, many, kernel, (1,) * dims, settings, dims))
            heads.append(conv(dims)(own, outputs, 1))
        self.transpconvs = nn.ModuleList(ups)
        self.stages = nn.ModuleList(stages)
        self.seg_layers = nn.ModuleList(heads)

    def forward(self, skips: list[Tensor], deep: int) -> list[Tensor]:
        """Logits, finest first; `deep` of them."""
        x, found = skips[-1], []
        last = len(self.stages) - 1
        for i, (up, stage, head) in enumerate(zip(self.transpconvs, self.stages, self.seg_layers, strict=True)):
            x = stage(torch.cat((up(x), skips[-(i + 2)]), dim=1))
            if i > last - deep:
                found.append(head(x))
        return found[::-1]


class DynamicUNet(nn.Module):
    """nnU-Net's U-Net, with a plain or residual encoder. Input sizes are multiples of the product of the strides.

    In training it gives the logits of its finest stages, finest first; in evaluation those of the finest.

    Source: F. Isensee et al., Nat. Methods 18:203-211, 2021; residual encoders: F. Isensee et al., MICCAI 2024.
    """

    def __init__(self, settings: DynamicUNetSettings, *, channels: int, outputs: int, dims: int) -> None:
        super().__init__()
        self.encoder = Encoder(settings, channels, dims)
        self.decoder = _Decoder(settings, outputs, dims)
        self.deep = max(1, len(settings.widths) - 2) if settings.deep_supervision else 1
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
                nn.init.kaiming_normal_(module.weight, a=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Float[Tensor, "b c *s"]) -> Tensor | list[Tensor]:
        """Logits of each voxel; a list in training with deep supervision."""
        deep = self.deep if self.training else 1
        found = self.decoder(self.encoder(x), deep)
        return found if deep > 1 else found[0]
