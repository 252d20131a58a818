"""Features of a network that nobody trained: a ruler for images that no public network has seen."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from isocenter.networks.layers import conv

_WIDTHS = (16, 32, 64)


class RandomFeatures(nn.Module):
    """Means and deviations over space of three layers of convolutions with random weights, the same each time.

    Source: M. Naeem et al., ICML 2020, section 4.2: for images unlike photographs, features of random weights measure
        as well as, or better than, those of a network trained on photographs.
    """

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(20)
        layers = []
        for one, other in zip((channels, *_WIDTHS), _WIDTHS, strict=False):
            layer = conv(dims)(one, other, 3, padding=1, bias=False)
            with torch.no_grad():
                weight = torch.randn(layer.weight.shape, generator=generator)
                layer.weight.copy_(weight / weight[0].numel() ** 0.5 * 2**0.5)
            layers.append(layer)
        self.layers = nn.ModuleList(layers)
        self.halve = nn.AvgPool2d(2, ceil_mode=True) if dims == 2 else nn.AvgPool3d(2, ceil_mode=True)

    @torch.inference_mode()
    def forward(self, x: Float[Tensor, "b c *s"]) -> Float[Tensor, "b f"]:
        """Numbers of images between 0 and 1."""
        x, found = x * 2 - 1, []
        for layer in self.layers:
            x = torch.relu(layer(x))
            flat = x.flatten(2)
            found += [flat.mean(dim=2), flat.std(dim=2)]
            x = self.halve(x)
        return torch.cat(found, dim=1)
