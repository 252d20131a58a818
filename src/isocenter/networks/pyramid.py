"""A feature pyramid: an encoder, and a way back up that brings meaning to its finer stages."""

from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from isocenter.networks.dynamic_unet import DynamicUNetSettings, Encoder
from isocenter.networks.layers import NetworkSettings, Norm, conv


class PyramidSettings(NetworkSettings):
    """An encoder with a feature pyramid."""

    widths: tuple[int, ...] = Field(
        default=(24, 48, 96, 160, 192), min_length=2, max_length=8, description="Channels of each stage, finest first."
    )
    strides: tuple[tuple[int, ...], ...] = Field(
        default=(), description="Of each stage, by axis. Empty: 2 everywhere but in the first, which has 1."
    )
    kernels: tuple[tuple[int, ...], ...] = Field(default=(), description="Of each stage, by axis. Empty: 3 everywhere.")
    blocks: tuple[int, ...] = Field(default=(), description="Residual blocks of each stage. Empty: one.")
    first: int = Field(default=2, ge=0, description="The finest stage on which objects are looked for.")
    channels: int = Field(default=96, ge=8, le=1024, description="Of each level of the pyramid.")
    norm: Norm = Field(default="batch", description="After each convolution of the encoder.")

    @model_validator(mode="after")
    def _fits_pyramid(self) -> "PyramidSettings":
        count = len(self.widths)
        for name in ("strides", "kernels", "blocks"):
            given = getattr(self, name)
            if given and len(given) != count:
                raise ValueError(f"{name} has {len(given)} entries; {count} are wanted for {count} stages")
        if self.first >= count:
            raise ValueError(f"first is a stage, 0 to {count - 1}")
        return self

    def scales(self, dims: int) -> tuple[tuple[int, ...], ...]:
        """Voxels of the image in a voxel of each level, by axis, finest level first."""
        found, scale = [], (1,) * dims
        for number in range(len(self.widths)):
            stride = self.strides[number] if self.strides else (2 if number else 1,) * dims
            scale = tuple(a * b for a, b in zip(scale, stride, strict=True))
            found.append(scale)
        return tuple(found[self.first :])


class Pyramid(nn.Module):
    """Features on each level, finest first, all with the same number of channels.

    Source: T.-Y. Lin et al., CVPR 2017 (feature pyramid networks), figure 3.
    """

    def __init__(self, settings: PyramidSettings, *, channels: int, dims: int) -> None:
        super().__init__()
        encoder = DynamicUNetSettings(
            widths=settings.widths, strides=settings.strides, kernels=settings.kernels,
            blocks=settings.blocks or (1,) * len(settings.widths), residual=True, norm=settings.norm, activation="relu",
            bias=False,
        )  # fmt: skip
        self.encoder = Encoder(encoder, channels, dims)
        self.first, own = settings.first, settings.widths[settings.first :]
        self.lateral = nn.ModuleList(conv(dims)(width, settings.channels, 1) for width in own)
        self.smooth = nn.ModuleList(conv(dims)(settings.channels, settings.channels, 3, padding=1) for _ in own)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, a=1 if module.kernel_size[0] == 1 else 0)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Float[Tensor, "b c *s"]) -> list[Tensor]:
        """Levels, finest first: b channels s/scales[i]."""
        stages = self.encoder(x)[self.first :]
        above: Tensor | None = None
        found = []
        for stage, lateral, smooth in zip(reversed(stages), reversed(self.lateral), reversed(self.smooth), strict=True):
            own = lateral(stage)
            above = own if above is None else own + F.interpolate(above, size=own.shape[2:], mode="nearest")
            found.append(smooth(above))
        return found[::-1]
