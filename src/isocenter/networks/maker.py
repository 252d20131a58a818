"""Networks that make images from noise: what they share, and the halves of which they are built."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import ceil, prod

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from isocenter.networks.layers import activation, conv, norm, transposed


class Maker(nn.Module, ABC):
    """Learns to make images like those it is shown; `latent` numbers of noise make one image, between 0 and 1.

    Called with images in training, it gives what is to be made small. Those of its parts that stand in `players` learn
    in turn, each from its own loss.
    """

    players: tuple[str, ...] = ("",)
    latent: int

    @abstractmethod
    def sample(self, noise: Float[Tensor, "b n"], classes: Int[Tensor, " b"] | None = None) -> Float[Tensor, "b c *s"]:
        """Images from noise."""


def grid_of(size: Sequence[int], levels: int) -> tuple[int, ...]:
    """The coarsest grid, which doubled so many times is as large as the image or larger."""
    return tuple(ceil(n / 2**levels) for n in size)


class Decoder(nn.Module):
    """Numbers -> an image of any size, by transposed convolutions.

    Source: A. Radford et al., ICLR 2016, figure 1.

    Args:
        inside: numbers.
        widths: channels of each level, coarsest first.
        size: of the image.
        channels: of the image.
    """

    def __init__(self, inside: int, widths: Sequence[int], size: Sequence[int], channels: int) -> None:
        super().__init__()
        dims = len(size)
        self.size, self.first, self.width = tuple(size), grid_of(size, len(widths)), widths[0]
        self.start = nn.Linear(inside, widths[0] * prod(self.first), bias=False)
        self.begin = nn.Sequential(norm(dims, "batch", widths[0]), nn.ReLU(inplace=True))
        layers: list[nn.Module] = []
        last = max(4, widths[-1] // 2)
        for one, other in zip(widths, (*widths[1:], last), strict=True):
            layers += [
                transposed(dims)(one, other, 4, stride=2, padding=1, bias=False), norm(dims, "batch", other),
                nn.ReLU(inplace=True),
            ]  # fmt: skip
        self.layers = nn.Sequential(*layers)
        self.head = conv(dims)(last, channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "b n"]) -> Float[Tensor, "b c *s"]:
        """Between -1 and 1."""
        grown = self.layers(self.begin(self.start(x).view(len(x), self.width, *self.first)))
        cut = [slice((m - n) // 2, (m - n) // 2 + n) for m, n in zip(grown.shape[2:], self.size, strict=True)]
        return torch.tanh(self.head(grown[(slice(None), slice(None), *cut)]))


class Encoder(nn.Module):
    """An image of any size -> numbers, by strided convolutions.

    Args:
        channels: of the image.
        widths: channels of each level, finest first.
        size: of the image.
        outputs: numbers.
        kind: of normalisation; `spectral`: the weights' instead, as a critic wants it.
    """

    def __init__(self, channels: int, widths: Sequence[int], size: Sequence[int], outputs: int, kind: str) -> None:
        super().__init__()
        dims = len(size)
        layers: list[nn.Module] = []
        last = channels
        for width in widths:
            bent = activation("leaky_relu") if kind != "spectral" else nn.LeakyReLU(0.2, inplace=True)
            if kind == "spectral":
                layers += [spectral_norm(conv(dims)(last, width, 4, stride=2, padding=1)), bent]
            else:
                layers += [
                    conv(dims)(last, width, 4, stride=2, padding=1, bias=kind == "none"),
                    norm(dims, "batch" if kind == "batch" else "none", width), bent,
                ]  # fmt: skip
            last = width
        self.layers = nn.Sequential(*layers)
        with torch.no_grad():
            shape = self.layers.eval()(torch.zeros(2, channels, *size)).shape[1:]
        self.layers.train()
        self.features = int(prod(shape))
        head = nn.Linear(self.features, outputs)
        self.head = spectral_norm(head) if kind == "spectral" else head

    def forward(self, x: Float[Tensor, "b c *s"]) -> Float[Tensor, "b n"]:
        """Numbers."""
        return self.head(self.layers(x).flatten(1))

    def both(self, x: Float[Tensor, "b c *s"]) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b f"]]:
        """Numbers, and the features of which they are made."""
        features = self.layers(x).flatten(1)
        return self.head(features), features
