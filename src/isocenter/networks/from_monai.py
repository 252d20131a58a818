"""Networks that MONAI keeps well: DenseNet, EfficientNet, ViT, SegResNet, Swin-UNETR."""

from typing import Any, Literal, cast

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from isocenter.networks.layers import NetworkSettings
from isocenter.optional import require


class DenseNetSettings(NetworkSettings):
    """DenseNet."""

    blocks: tuple[int, ...] = Field(default=(6, 12, 24, 16), description="Layers of each dense block.")
    growth: int = Field(default=32, ge=1, description="Channels that each layer adds.")
    first: int = Field(default=64, ge=1, description="Channels of the first convolution.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="After each dense layer.")


def dense_net(settings: DenseNetSettings, *, channels: int, outputs: int, dims: int) -> nn.Module:
    """Source: G. Huang et al., CVPR 2017."""
    nets = require("monai.networks.nets", extra="learn")
    return cast("nn.Module", nets.DenseNet(
        spatial_dims=dims, in_channels=channels, out_channels=outputs, init_features=settings.first,
        growth_rate=settings.growth, block_config=settings.blocks, dropout_prob=settings.dropout,
    ))  # fmt: skip


class EfficientNetSettings(NetworkSettings):
    """EfficientNet."""

    size: Literal["b0", "b1", "b2", "b3", "b4"] = Field(default="b0", description="Width, depth and resolution.")


def efficient_net(settings: EfficientNetSettings, *, channels: int, outputs: int, dims: int) -> nn.Module:
    """Source: M. Tan and Q. Le, ICML 2019."""
    nets = require("monai.networks.nets", extra="learn")
    return cast("nn.Module", nets.EfficientNetBN(
        f"efficientnet-{settings.size}", pretrained=False, spatial_dims=dims, in_channels=channels, num_classes=outputs
    ))  # fmt: skip


class ViTSettings(NetworkSettings):
    """Vision transformer."""

    patch: int = Field(default=16, ge=1, description="Edge of a patch that becomes one token.")
    width: int = Field(default=768, ge=8, description="Length of a token.")
    layers: int = Field(default=12, ge=1, description="Transformer layers.")
    heads: int = Field(default=12, ge=1, description="Attention heads.")
    size: tuple[int, ...] = Field(default=(), description="Input size; the plan fills it in.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="In attention and dense layers.")


class _ViT(nn.Module):
    """MONAI's ViT, whose head is linear and whose output is the logits alone."""

    def __init__(self, settings: ViTSettings, channels: int, outputs: int, dims: int) -> None:
        super().__init__()
        nets = require("monai.networks.nets", extra="learn")
        patch = (settings.patch,) * dims
        size = settings.size or (224 if dims == 2 else 96,) * dims
        self.size = tuple(-(-n // settings.patch) * settings.patch for n in size)
        self.net = nets.ViT(
            in_channels=channels, img_size=self.size, patch_size=patch, hidden_size=settings.width,
            mlp_dim=4 * settings.width, num_layers=settings.layers, num_heads=settings.heads, classification=True,
            num_classes=outputs, dropout_rate=settings.dropout, spatial_dims=dims, qkv_bias=True,
            post_activation="none",
        )  # fmt: skip
        self.mode = "bilinear" if dims == 2 else "trilinear"

    def forward(self, x: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k"]:
        if x.shape[2:] != self.size:
            x = F.interpolate(x, size=self.size, mode=self.mode, align_corners=False)
        return cast("Tensor", self.net(x)[0])


def vit(settings: ViTSettings, *, channels: int, outputs: int, dims: int) -> nn.Module:
    """Source: A. Dosovitskiy et al., ICLR 2021."""
    return _ViT(settings, channels, outputs, dims)


class SegResNetSettings(NetworkSettings):
    """SegResNet."""

    first: int = Field(default=16, ge=4, description="Channels of the finest level; doubled at each below.")
    blocks_down: tuple[int, ...] = Field(default=(1, 2, 2, 4), description="Residual blocks of each level down.")
    blocks_up: tuple[int, ...] = Field(default=(1, 1, 1), description="Of each level up.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="In the encoder.")


def seg_res_net(settings: SegResNetSettings, *, channels: int, outputs: int, dims: int) -> nn.Module:
    """Source: A. Myronenko, BrainLes 2018 (without the autoencoder)."""
    nets = require("monai.networks.nets", extra="learn")
    return cast("nn.Module", nets.SegResNet(
        spatial_dims=dims, init_filters=settings.first, in_channels=channels, out_channels=outputs,
        dropout_prob=settings.dropout or None, blocks_down=settings.blocks_down, blocks_up=settings.blocks_up,
    ))  # fmt: skip


class SwinUNETRSettings(NetworkSettings):
    """Swin-UNETR."""

    width: int = Field(default=24, ge=12, multiple_of=12, description="Channels of the first stage.")
    depths: tuple[int, ...] = Field(
        default=(2, 2, 2, 2), min_length=4, max_length=4, description="Layers of each stage."
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="In dense layers.")


class _Padded(nn.Module):
    """A network that wants multiples of a number, for any size."""

    def __init__(self, net: Any, multiple: int) -> None:
        super().__init__()
        self.net, self.multiple = net, multiple

    def forward(self, x: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k *s"]:
        size = x.shape[2:]
        lacking = [-n % self.multiple for n in size]
        x = F.pad(x, [part for n in reversed(lacking) for part in (0, n)])
        return cast("Tensor", self.net(x)[(..., *(slice(n) for n in size))])


def swin_unetr(settings: SwinUNETRSettings, *, channels: int, outputs: int, dims: int) -> nn.Module:
    """Source: A. Hatamizadeh et al., BrainLes 2021."""
    nets = require("monai.networks.nets", extra="learn")
    return _Padded(nets.SwinUNETR(
        in_channels=channels, out_channels=outputs, feature_size=settings.width, depths=settings.depths,
        drop_rate=settings.dropout, spatial_dims=dims,
    ), 32)  # fmt: skip
