"""An image from an image, by two players: what the one makes shall come near the true one, and look like one."""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from isocenter.networks.gan import Game, critics_loss, makers_loss
from isocenter.networks.layers import conv
from isocenter.networks.restorer import Restorer, RestorerSettings


class Pix2pixSettings(RestorerSettings):
    """pix2pix."""

    nearness: float = Field(default=100.0, ge=0, description="Weight of the absolute difference beside the game.")
    critic: tuple[int, ...] = Field(default=(32, 64), min_length=1, max_length=5, description="Channels of the critic.")
    game: Game = Field(default="hinge", description="hinge, cross_entropy, wasserstein.")


class Pix2pix(nn.Module):
    """A residual U-Net as maker, and a critic that looks at patches of both images together.

    Called in training with images, true images and a turn, it gives what that player makes small; in evaluation, the
    image that is made.

    Source: P. Isola et al., CVPR 2017, equations 1 to 4; spectral normalisation by T. Miyato et al., ICLR 2018.
    """

    players = ("critic", "maker")

    def __init__(self, settings: Pix2pixSettings, *, channels: int, outputs: int, dims: int) -> None:
        super().__init__()
        self.settings = settings
        self.maker = Restorer(settings, channels=channels, outputs=outputs, dims=dims)
        layers: list[nn.Module] = []
        last = channels + outputs
        for width in settings.critic:
            layers += [spectral_norm(conv(dims)(last, width, 4, stride=2, padding=1)), nn.LeakyReLU(0.2, inplace=True)]
            last = width
        self.critic = nn.Sequential(*layers, spectral_norm(conv(dims)(last, 1, 3, padding=1)))

    def forward(
        self, x: Float[Tensor, "b c *s"], target: Float[Tensor, "b c *s"] | None = None, turn: str = ""
    ) -> Tensor:
        """The image that is made; in training, the loss of the player whose turn it is."""
        if target is None:
            return self.maker(x)
        if turn == "critic":
            with torch.no_grad():
                made = self.maker(x)
            real = self.critic(torch.cat((x, target), dim=1))
            return critics_loss(real, self.critic(torch.cat((x, made), dim=1)), self.settings.game)
        made = self.maker(x)
        said = self.critic(torch.cat((x, made), dim=1))
        return makers_loss(said, self.settings.game) + self.settings.nearness * F.l1_loss(made, target)
