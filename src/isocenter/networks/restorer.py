"""Networks that make an image better: they say what is missing in it, and add that."""

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from isocenter.networks.layers import NetworkSettings, conv
from isocenter.networks.unet import UNet, UNetSettings


class RestorerSettings(UNetSettings):
    """A residual U-Net from image to image."""

    widths: tuple[int, ...] = Field(
        default=(32, 64, 128), min_length=2, max_length=8, description="Channels of each level, finest first."
    )
    norm: str = Field(
        default="none",
        pattern="^(none|batch|instance|group)$",
        description="After each convolution; none: intensities keep their scale.",
    )  # type: ignore[assignment]
    residual: bool = Field(default=True, description="Each block adds its input to its output.")
    keeps: float = Field(
        default=1.0, ge=0, le=1, description="Share of the input in the answer, to which what is missing is added."
    )


class Restorer(UNet):
    """A U-Net whose answer is added to its input: it learns what is missing only.

    Source: K. Zhang et al., IEEE Trans. Image Process. 26:3142-3155, 2017 (residual learning of noise); J. Kim et al.,
        CVPR 2016 (of detail, on an image that was interpolated before). Of strong noise, a share of the input only:
        T. Karras et al., NeurIPS 2022, equation 7.
    """

    def __init__(self, settings: RestorerSettings, *, channels: int, outputs: int, dims: int) -> None:
        super().__init__(settings, channels=channels, outputs=outputs, dims=dims)
        self.keeps = settings.keeps
        nn.init.zeros_(self.head.weight)  # at the start it gives the image back
        if self.head.bias is not None:
            nn.init.zeros_(self.head.bias)

    def forward(self, x: Float[Tensor, "b c *s"]) -> Float[Tensor, "b c *s"]:
        """The better image."""
        return self.keeps * x + super().forward(x)


class EdsrSettings(NetworkSettings):
    """EDSR."""

    width: int = Field(default=48, ge=4, le=512, description="Channels.")
    blocks: int = Field(default=8, ge=1, le=64, description="Residual blocks.")
    scale: float = Field(default=0.1, gt=0, le=1, description="Of what a block adds.")


class _Block(nn.Module):
    def __init__(self, width: int, scale: float, dims: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            conv(dims)(width, width, 3, padding=1), nn.ReLU(inplace=True), conv(dims)(width, width, 3, padding=1)
        )
        self.scale = scale

    def forward(self, x: Float[Tensor, "b c *s"]) -> Float[Tensor, "b c *s"]:
        return x + self.scale * self.layers(x)


class Edsr(nn.Module):
    """Residual blocks at full size, without normalisation; what they find is added to the (interpolated) image.

    Source: B. Lim et al., CVPR Workshops 2017; here on an image that was interpolated before, as J. Kim et al. do.
    """

    def __init__(self, settings: EdsrSettings, *, channels: int, outputs: int, dims: int) -> None:
        super().__init__()
        self.first = conv(dims)(channels, settings.width, 3, padding=1)
        self.blocks = nn.Sequential(*(_Block(settings.width, settings.scale, dims) for _ in range(settings.blocks)))
        self.between = conv(dims)(settings.width, settings.width, 3, padding=1)
        self.head = conv(dims)(settings.width, outputs, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        if self.head.bias is not None:
            nn.init.zeros_(self.head.bias)

    def forward(self, x: Float[Tensor, "b c *s"]) -> Float[Tensor, "b c *s"]:
        """The better image."""
        first = self.first(x)
        return x + self.head(first + self.between(self.blocks(first)))
