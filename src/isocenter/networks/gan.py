"""Two players: one makes images, the other tells them from real ones. DCGAN, its conditional form, penalties."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from isocenter.networks.layers import NetworkSettings
from isocenter.networks.maker import Decoder, Encoder, Maker

Game = Literal["hinge", "cross_entropy", "wasserstein"]


class DcganSettings(NetworkSettings):
    """DCGAN."""

    size: tuple[int, ...] = Field(default=(28, 28), min_length=2, max_length=3, description="Of the images.")
    latent: int = Field(default=64, ge=2, le=1024, description="Numbers of noise.")
    widths: tuple[int, ...] = Field(
        default=(128, 64), min_length=1, max_length=6, description="Channels of the maker's levels, coarsest first."
    )
    game: Game = Field(default="hinge", description="hinge, cross_entropy (the first one's), wasserstein.")
    seek: float = Field(
        default=0.1, ge=0, description="Weight of the term that keeps images of different noise apart; 0: none."
    )
    penalty: float = Field(
        default=0.0, ge=0,
        description="Weight of the gradient penalty: at real images (R1); wasserstein: between real and made ones.",
    )  # fmt: skip


def critics_loss(real: Tensor, made: Tensor, game: Game) -> Tensor:
    """What a critic makes small, from what it says of real and of made images.

    Source: I. Goodfellow et al., NIPS 2014 (cross_entropy); J. Lim, J. Ye, arXiv:1705.02894 (hinge); M. Arjovsky et
        al., ICML 2017 (wasserstein).
    """
    if game == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + made).mean()
    if game == "cross_entropy":
        return F.softplus(-real).mean() + F.softplus(made).mean()
    return made.mean() - real.mean()


def makers_loss(made: Tensor, game: Game) -> Tensor:
    """What a maker makes small, from what the critic says of its images; of cross_entropy, the non-saturating form."""
    return F.softplus(-made).mean() if game == "cross_entropy" else -made.mean()


def mode_seeking(images: Tensor, others: Tensor, noise: Tensor, other_noise: Tensor) -> Tensor:
    """How far pairs of noise lie apart for each step that their images do: large where a maker makes one image of all.

    Source: Q. Mao et al., CVPR 2019, equation 3, as its inverse, which is made small.
    """
    return (noise - other_noise).abs().mean() / ((images - others).abs().mean() + 1e-5)


def gradient_norms(value: Tensor, at: Tensor) -> Tensor:
    """Squared norm of the gradient of each value at its image."""
    (slope,) = torch.autograd.grad(value.sum(), at, create_graph=True)
    return slope.flatten(1).square().sum(dim=1)


class Critic(nn.Module):
    """Tells real images from made ones; with classes, by projection on the class.

    Source: T. Miyato et al., ICLR 2018 (spectral normalisation); T. Miyato, M. Koyama, ICLR 2018 (projection).
    """

    def __init__(self, channels: int, widths: tuple[int, ...], size: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.encoder = Encoder(channels, widths, size, 1, "spectral")
        self.of_class = spectral_norm(nn.Embedding(classes, self.encoder.features)) if classes else None

    def forward(self, x: Tensor, classes: Tensor | None) -> Tensor:
        """How real each image looks."""
        said, features = self.encoder.both(x)
        if self.of_class is not None and classes is not None:
            said = said + (self.of_class(classes) * features).sum(dim=1, keepdim=True)
        return said[:, 0]


class Dcgan(Maker):
    """Deep convolutional generative adversarial network; with `outputs` classes, conditional.

    Source: A. Radford et al., ICLR 2016; M. Mirza, S. Osindero, arXiv:1411.1784 (conditional); L. Mescheder et al.,
        ICML 2018 (R1); I. Gulrajani et al., NIPS 2017 (gradient penalty).
    """

    players = ("critic", "maker")

    def __init__(self, settings: DcganSettings, *, channels: int, outputs: int, dims: int) -> None:
        super().__init__()
        self.settings, self.latent, self.classes = settings, settings.latent, outputs
        self.of_class = nn.Embedding(outputs, settings.latent) if outputs else None
        own = settings.latent * (2 if outputs else 1)
        self.maker = Decoder(own, settings.widths, settings.size, channels)
        self.critic = Critic(channels, tuple(reversed(settings.widths)), settings.size, outputs)

    def sample(self, noise: Float[Tensor, "b n"], classes: Int[Tensor, " b"] | None = None) -> Float[Tensor, "b c *s"]:
        """Images from noise."""
        return (self._made(noise, classes) + 1) / 2

    def _made(self, noise: Tensor, classes: Tensor | None) -> Tensor:
        if self.of_class is not None:
            assert classes is not None, "a conditional maker is told the class"
            noise = torch.cat((noise, self.of_class(classes)), dim=1)
        return self.maker(noise)

    def _makers_turn(self, noise: Tensor, classes: Tensor | None) -> Tensor:
        """To be taken for real, and to make other images of other noise: the second half of the batch has the classes
        of the first.
        """
        half = len(noise) // 2
        if classes is not None:
            classes = torch.cat((classes[:half], classes[:half], classes[2 * half :]))
        made = self._made(noise, classes)
        loss = makers_loss(self.critic(made, classes), self.settings.game)
        if not (half and self.settings.seek):
            return loss
        one, other = slice(0, half), slice(half, 2 * half)
        return loss + self.settings.seek * mode_seeking(made[one], made[other], noise[one], noise[other])

    def forward(
        self, images: Float[Tensor, "b c *s"], classes: Int[Tensor, " b"] | None = None, turn: str = "critic"
    ) -> Float[Tensor, ""]:
        """What the player whose turn it is makes small."""
        game, real = self.settings.game, images * 2 - 1
        noise = torch.randn(len(images), self.latent, device=images.device)
        if turn == "maker":
            return self._makers_turn(noise, classes)
        with torch.no_grad():
            made = self._made(noise, classes)
        at = real.requires_grad_(self.settings.penalty > 0)
        said = self.critic(at, classes)
        loss = critics_loss(said, self.critic(made, classes), game)
        if self.settings.penalty and game == "wasserstein":
            share = torch.rand(len(real), *(1,) * (real.ndim - 1), device=real.device)
            between = (share * real.detach() + (1 - share) * made).requires_grad_()
            norms = (gradient_norms(self.critic(between, classes), between) + 1e-12).sqrt()
            loss = loss + self.settings.penalty * ((norms - 1) ** 2).mean()
        elif self.settings.penalty:
            loss = loss + self.settings.penalty / 2 * gradient_norms(said, at).mean()
        return loss
