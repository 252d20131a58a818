"""DeepLabv3+: a residual network with atrous convolutions, spatial pyramid pooling, and one skip; 2-D and 3-D."""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from isocenter.networks.layers import NetworkSettings, Norm, conv, global_pool, norm
from isocenter.networks.resnet import ResNet, ResNetSettings


class DeepLabSettings(NetworkSettings):
    """DeepLabv3+ on a residual network of basic blocks."""

    blocks: tuple[int, ...] = Field(
        default=(2, 2, 2, 2), min_length=4, max_length=4, description="Blocks of each stage."
    )
    widths: tuple[int, ...] = Field(
        default=(64, 128, 256, 512), min_length=4, max_length=4, description="Channels of each stage."
    )
    rates: tuple[int, ...] = Field(default=(6, 12, 18), description="Dilations of the pyramid.")
    pyramid: int = Field(default=256, ge=8, description="Channels of the pyramid and the decoder.")
    skip: int = Field(default=48, ge=4, description="Channels of the fine features in the decoder.")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="Before the last layer.")


class DeepLab(nn.Module):
    """Output stride 16 in the encoder, decoder at a quarter of the size, interpolated to the input's.

    Source: L.-C. Chen et al., ECCV 2018, figure 2.
    """

    def __init__(self, settings: DeepLabSettings, *, channels: int, outputs: int, dims: int) -> None:
        super().__init__()
        trunk = ResNetSettings(blocks=settings.blocks, widths=settings.widths)
        self.trunk = ResNet(trunk, channels=channels, outputs=1, dims=dims)
        del self.trunk.fc
        _dilate(self.trunk.get_submodule("layer4"), dims)
        deep, width = settings.widths[3], settings.pyramid
        self.branches = nn.ModuleList(
            [_conv(dims, deep, width, 1), *(_conv(dims, deep, width, 3, rate) for rate in settings.rates)]
        )
        # One number a channel: batch normalisation would see single values.
        self.image = nn.Sequential(global_pool(dims), _conv(dims, deep, width, 1, kind="none"))
        self.join = nn.Sequential(
            _conv(dims, width * (len(settings.rates) + 2), width, 1), nn.Dropout(settings.dropout)
        )
        self.fine = _conv(dims, settings.widths[0], settings.skip, 1)
        self.decode = nn.Sequential(_conv(dims, width + settings.skip, width, 3), _conv(dims, width, width, 3))
        self.head = conv(dims)(width, outputs, 1)
        self.mode = "bilinear" if dims == 2 else "trilinear"

    def forward(self, x: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k *s"]:
        """Logits of each voxel."""
        size, trunk = x.shape[2:], self.trunk
        x = trunk.maxpool(trunk.relu(trunk.bn1(trunk.conv1(x))))
        fine = trunk.get_submodule("layer1")(x)  # b widths[0] s/4
        x = trunk.get_submodule("layer4")(trunk.get_submodule("layer3")(trunk.get_submodule("layer2")(fine)))
        whole = self._to(self.image(x), x.shape[2:])
        x = self.join(torch.cat([*(branch(x) for branch in self.branches), whole], dim=1))  # b pyramid s/16
        x = torch.cat((self._to(x, fine.shape[2:]), self.fine(fine)), dim=1)
        return self._to(self.head(self.decode(x)), size)

    def _to(self, x: Tensor, size: torch.Size) -> Tensor:
        return F.interpolate(x, size=size, mode=self.mode, align_corners=False)


def _conv(dims: int, inside: int, outside: int, size: int, rate: int = 1, *, kind: Norm = "batch") -> nn.Module:
    padding = rate * (size // 2)
    return nn.Sequential(
        conv(dims)(inside, outside, size, padding=padding, dilation=rate, bias=kind == "none"),
        norm(dims, kind, outside), nn.ReLU(inplace=True),
    )  # fmt: skip


def _dilate(stage: nn.Module, dims: int) -> None:
    """Strides of a stage become dilations."""
    for module in stage.modules():
        if not isinstance(module, nn.Conv2d | nn.Conv3d):
            continue
        module.stride = (1,) * dims
        if module.kernel_size[0] == 3:
            module.dilation = (2,) * dims
            module.padding = (2,) * dims
