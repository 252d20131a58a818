"""Autoencoders: plain, denoising, variational; and one that learns beside two players."""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from isocenter.networks.gan import Critic, critics_loss, gradient_norms, makers_loss
from isocenter.networks.layers import NetworkSettings
from isocenter.networks.maker import Decoder, Encoder, Maker

_CELLS = 4
"""Cells along each axis in which what is wrong is summed up."""


class AutoencoderSettings(NetworkSettings):
    """An autoencoder."""

    size: tuple[int, ...] = Field(default=(28, 28), min_length=2, max_length=3, description="Of the images.")
    latent: int = Field(default=32, ge=1, le=1024, description="Numbers between both halves.")
    widths: tuple[int, ...] = Field(
        default=(32, 64), min_length=1, max_length=6, description="Channels of each level, finest first."
    )
    noise: float = Field(
        default=0.0, ge=0, le=2, description="Deviation of noise on what it sees while learning: a denoising one."
    )
    weight: float = Field(default=1.0, ge=0, description="vae: of the distance from a normal distribution.")


class Rebuilder(nn.Module, ABC):
    """Sees images (between 0 and 1) and builds them again from a few numbers.

    Called in training with images, it gives what is to be made small; in evaluation, the image that it builds.
    """

    players: tuple[str, ...] = ("",)
    latent: int
    usual_mean: Tensor
    usual_precision: Tensor

    def keep_usual(self, channels: int, dims: int) -> None:
        """Make room for what `learn_usual` learns."""
        count = self.latent + 2 * channels * _CELLS**dims
        self.register_buffer("usual_mean", torch.zeros(count))
        self.register_buffer("usual_precision", torch.eye(count))

    @abstractmethod
    def numbers(self, images: Float[Tensor, "b c *s"]) -> Float[Tensor, "b n"]:
        """The few numbers."""

    @abstractmethod
    def rebuilt(self, images: Float[Tensor, "b c *s"]) -> Float[Tensor, "b c *s"]:
        """Built again."""

    def described(self, images: Float[Tensor, "b c *s"]) -> Float[Tensor, "b m"]:
        """The few numbers, and what is wrong in each cell of a coarse grid: mean, and logarithm of the mean square."""
        wrong = self.rebuilt(images) - images
        pool = F.adaptive_avg_pool2d if wrong.ndim == 4 else F.adaptive_avg_pool3d
        cells, squares = pool(wrong, _CELLS).flatten(1), pool(wrong**2, _CELLS).flatten(1)
        return torch.cat((self.numbers(images), cells, torch.log(squares + 1e-6)), dim=1)

    def strange(self, images: Float[Tensor, "b c *s"]) -> Float[Tensor, " b"]:
        """How far an image lies from the usual ones: Mahalanobis' distance of its description, squared.

        The error alone misleads: what is abnormal may be smoother than what is normal, and easier to build again.
        """
        away = self.described(images).float() - self.usual_mean
        return ((away @ self.usual_precision) * away).sum(dim=1)


class Autoencoder(Rebuilder):
    """An encoder, few numbers, a decoder; with noise on what it sees, a denoising one.

    Source: G. Hinton, R. Salakhutdinov, Science 313:504-507, 2006; P. Vincent et al., ICML 2008 (denoising).
    """

    def __init__(self, settings: AutoencoderSettings, *, channels: int, outputs: int, dims: int) -> None:
        super().__init__()
        self.settings, self.latent = settings, settings.latent
        self.encoder = Encoder(channels, settings.widths, settings.size, settings.latent, "batch")
        self.decoder = Decoder(settings.latent, tuple(reversed(settings.widths)), settings.size, channels)
        self.keep_usual(channels, dims)

    def numbers(self, images: Float[Tensor, "b c *s"]) -> Float[Tensor, "b n"]:
        """The few numbers."""
        return self.encoder(images * 2 - 1)

    def rebuilt(self, images: Float[Tensor, "b c *s"]) -> Float[Tensor, "b c *s"]:
        """Built again."""
        return (self.decoder(self.numbers(images)) + 1) / 2

    def forward(
        self, images: Float[Tensor, "b c *s"], classes: Int[Tensor, " b"] | None = None, turn: str = ""
    ) -> Tensor:
        """The squared error in training; else the image, built again."""
        if not self.training:
            return self.rebuilt(images)
        seen = images + self.settings.noise * torch.randn_like(images) if self.settings.noise else images
        return F.mse_loss(self.rebuilt(seen), images)


class Vae(Maker, Rebuilder):
    """A variational autoencoder: its numbers are normally distributed, so that noise makes images too.

    Source: D. Kingma, M. Welling, ICLR 2014, equation 10; Gaussian likelihood of a deviation of .1.
    """

    _PRECISION = 50.0  # 1 / (2 * .1^2)

    def __init__(self, settings: AutoencoderSettings, *, channels: int, outputs: int, dims: int) -> None:
        super().__init__()
        self.settings, self.latent = settings, settings.latent
        self.of_class = nn.Embedding(outputs, settings.latent) if outputs else None
        self.encoder = Encoder(channels, settings.widths, settings.size, 2 * settings.latent, "batch")
        inside = settings.latent * (2 if outputs else 1)
        self.decoder = Decoder(inside, tuple(reversed(settings.widths)), settings.size, channels)
        self.keep_usual(channels, dims)

    def numbers(self, images: Float[Tensor, "b c *s"]) -> Float[Tensor, "b n"]:
        """Means of the few numbers."""
        return self.encoder(images * 2 - 1)[:, : self.latent]

    def rebuilt(self, images: Float[Tensor, "b c *s"]) -> Float[Tensor, "b c *s"]:
        """Built again from the means."""
        return self.sample(self.numbers(images))

    def sample(self, noise: Float[Tensor, "b n"], classes: Int[Tensor, " b"] | None = None) -> Float[Tensor, "b c *s"]:
        """Images from noise."""
        if self.of_class is not None:
            assert classes is not None, "a conditional one is told the class"
            noise = torch.cat((noise, self.of_class(classes)), dim=1)
        return (self.decoder(noise) + 1) / 2

    def forward(
        self, images: Float[Tensor, "b c *s"], classes: Int[Tensor, " b"] | None = None, turn: str = ""
    ) -> Tensor:
        """The negative evidence bound for each value of an image in training; else the image, built again."""
        if not self.training:
            return self.rebuilt(images)
        mean, spread = self.encoder(images * 2 - 1).float().chunk(2, dim=1)
        spread = spread.clamp(-8, 8)
        noise = mean + torch.randn_like(mean) * (spread / 2).exp()
        error = ((self.sample(noise, classes).float() - images) ** 2).flatten(1).sum(dim=1)
        apart = 0.5 * (mean**2 + spread.exp() - 1 - spread).sum(dim=1)
        return (self._PRECISION * error + self.settings.weight * apart).mean() / images[0].numel()


class AnoganSettings(AutoencoderSettings):
    """f-AnoGAN."""

    widths: tuple[int, ...] = Field(
        default=(32, 64), min_length=1, max_length=6, description="Channels of each level, finest first."
    )
    penalty: float = Field(default=10.0, ge=0, description="Weight of the gradient penalty.")
    features: float = Field(default=1.0, ge=0, description="Weight of the critic's features beside the image's own.")
    game: Literal["hinge", "cross_entropy", "wasserstein"] = Field(default="hinge", description="Of both players.")


class Anogan(Rebuilder):
    """Two players learn to make normal images, and an encoder to find the noise from which one would be made.

    The encoder learns beside the players, not after them, so that one budget serves all three.

    Source: T. Schlegl et al., Med. Image Anal. 54:30-44, 2019 (izi_f), equation 4.
    """

    players = ("critic", "maker", "encoder")

    def __init__(self, settings: AnoganSettings, *, channels: int, outputs: int, dims: int) -> None:
        super().__init__()
        self.settings, self.latent = settings, settings.latent
        self.encoder = Encoder(channels, settings.widths, settings.size, settings.latent, "batch")
        self.maker = Decoder(settings.latent, tuple(reversed(settings.widths)), settings.size, channels)
        self.critic = Critic(channels, settings.widths, settings.size, 0)
        self.keep_usual(channels, dims)

    def numbers(self, images: Float[Tensor, "b c *s"]) -> Float[Tensor, "b n"]:
        """The noise from which the image would be made."""
        return torch.tanh(self.encoder(images * 2 - 1)) * 3  # noise lies there

    def rebuilt(self, images: Float[Tensor, "b c *s"]) -> Float[Tensor, "b c *s"]:
        """Made from that noise."""
        return (self.maker(self.numbers(images)) + 1) / 2

    def forward(
        self, images: Float[Tensor, "b c *s"], classes: Int[Tensor, " b"] | None = None, turn: str = "critic"
    ) -> Tensor:
        """What the player whose turn it is makes small in training; else the image, built again."""
        if not self.training:
            return self.rebuilt(images)
        game, real = self.settings.game, images * 2 - 1
        noise = torch.randn(len(images), self.latent, device=images.device)
        if turn == "maker":
            return makers_loss(self.critic(self.maker(noise), None), game)
        if turn == "encoder":
            again = self.maker(self.numbers(images))
            _, wanted = self.critic.encoder.both(real)
            _, found = self.critic.encoder.both(again)
            return F.mse_loss(again, real) + self.settings.features * F.mse_loss(found, wanted.detach())
        with torch.no_grad():
            made = self.maker(noise)
        at = real.requires_grad_(self.settings.penalty > 0)
        said = self.critic(at, None)
        loss = critics_loss(said, self.critic(made, None), game)
        return loss + self.settings.penalty / 2 * gradient_norms(said, at).mean() if self.settings.penalty else loss
