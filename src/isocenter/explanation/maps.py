"""Maps of what moved a network's answer: gradients, integrated gradients, class activation, occlusion.

Every method takes a network in evaluation, one prepared image (`1 c *s`) and the output that is asked about, and gives
one number a voxel (`*s`). For a network of voxels the output is the mean of its logits over the voxels that it gives
to that class.
"""

from collections.abc import Callable, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from isocenter.errors import InputError
from isocenter.optional import require
from isocenter.types import Array

Image = Float[Tensor, "1 c *s"]


class OneOutput(nn.Module):
    """A network whose answer is one number a case for each class, whatever it answers.

    Args:
        network: gives `b k` or `b k *s`.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Float[Tensor, "b k"]:
        """Logits of the classes; of voxels, their mean over the voxels that the class has won."""
        answer: Any = self.network(x)
        logits: Tensor = answer[0] if isinstance(answer, list | tuple) else answer
        if logits.ndim == 2:
            return logits
        won = F.one_hot(logits.argmax(dim=1), logits.shape[1]).movedim(-1, 1).to(logits.dtype)
        axes = tuple(range(2, logits.ndim))
        size = won.sum(dim=axes)
        inside = (logits * won).sum(dim=axes) / size.clamp_min(1)
        return torch.where(size > 0, inside, logits.mean(dim=axes))


def saliency(network: nn.Module, image: Image, output: int) -> Array:
    """Absolute gradient of the output, largest over the channels. Source: K. Simonyan et al., ICLR workshop 2014."""
    captum: Any = require("captum.attr", extra="explain")
    found = captum.Saliency(OneOutput(network)).attribute(image.clone().requires_grad_(), target=output, abs=True)
    return np.asarray(found.detach().numpy()[0].max(axis=0))


def integrated_gradients(network: nn.Module, image: Image, output: int, *, steps: int = 32) -> Array:
    """Gradients along the way from an image of its least value, times the way; sums to the change of the output.

    Source: M. Sundararajan et al., ICML 2017.
    """
    captum: Any = require("captum.attr", extra="explain")
    base = torch.full_like(image, float(image.min()))
    found = captum.IntegratedGradients(OneOutput(network)).attribute(
        image, base, target=output, n_steps=steps, internal_batch_size=4
    )
    return np.asarray(found.detach().numpy()[0].sum(axis=0), np.float64)


def occlusion(network: nn.Module, image: Image, output: int, *, boxes: int = 8) -> Array:
    """Loss of the output where a box is filled with the image's mean; boxes overlap by half.

    Source: M. Zeiler and R. Fergus, ECCV 2014.
    """
    captum: Any = require("captum.attr", extra="explain")
    edges = tuple(max(1, 2 * n // boxes) for n in image.shape[2:])
    found = captum.Occlusion(OneOutput(network)).attribute(
        image, target=output, sliding_window_shapes=(image.shape[1], *edges), baselines=float(image.mean()),
        strides=(image.shape[1], *(max(1, e // 2) for e in edges)), perturbations_per_eval=8,
    )  # fmt: skip
    return np.asarray(found.detach().numpy()[0].mean(axis=0))


def grad_cam(network: nn.Module, image: Image, output: int) -> Array:
    """Activations of the last convolution whose grid is not a point, weighed by their mean gradients.

    Source: R. Selvaraju et al., ICCV 2017, equations 1 and 2.
    """
    activations, gradients = _last_layer(network, image, output)
    weights = gradients.mean(dim=tuple(range(2, gradients.ndim)), keepdim=True)
    return _upsampled(F.relu((weights * activations).sum(dim=1)), image)


def grad_cam_plus_plus(network: nn.Module, image: Image, output: int) -> Array:
    """As Grad-CAM, with weights by which several places of one structure all count.

    Source: A. Chattopadhay et al., WACV 2018, equations 10, 13 and 19.
    """
    activations, gradients = _last_layer(network, image, output)
    axes = tuple(range(2, gradients.ndim))
    square, cube = gradients**2, gradients**3
    below = 2 * square + activations.sum(dim=axes, keepdim=True) * cube
    alpha = square / torch.where(below == 0, torch.ones_like(below), below)
    weights = (alpha * F.relu(gradients)).sum(dim=axes, keepdim=True)
    return _upsampled(F.relu((weights * activations).sum(dim=1)), image)


METHODS: Mapping[str, Callable[..., Array]] = {
    "saliency": saliency,
    "integrated-gradients": integrated_gradients,
    "grad-cam": grad_cam,
    "grad-cam++": grad_cam_plus_plus,
    "occlusion": occlusion,
}
"""Every method by name."""


def explain_image(network: nn.Module, image: Image, output: int, *, method: str) -> Array:
    """The map of one method.

    Raises: InputError for a method that is not there, or an output that the network does not have.
    """
    if method not in METHODS:
        raise InputError(f"there is no method {method!r}; there are {', '.join(METHODS)}")
    return np.asarray(METHODS[method](network.eval(), image.float(), output), np.float32)


def target_layer(network: nn.Module, image: Image) -> nn.Module:
    """The last convolution before the answer whose grid is coarser than the image and finer than a point.

    Raises: InputError for a network without one.
    """
    seen: list[tuple[nn.Module, tuple[int, ...]]] = []
    hooks = [
        module.register_forward_hook(lambda m, _i, out: seen.append((m, tuple(out.shape[2:]))))
        for module in network.modules() if isinstance(module, nn.Conv2d | nn.Conv3d)
    ]  # fmt: skip
    try:
        with torch.no_grad():
            network(image)
    finally:
        for hook in hooks:
            hook.remove()
    size = tuple(image.shape[2:])
    coarse = [(m, s) for m, s in seen if np.prod(s) > 1 and s != size]
    if not coarse:
        raise InputError("this network has no convolution on a coarser grid: take saliency or integrated-gradients")
    least = min(np.prod(s) for _, s in coarse)
    return [m for m, s in coarse if np.prod(s) == least][-1]


@contextmanager
def _kept(layer: nn.Module) -> Any:
    """Keeps the layer's output, through which gradients flow."""
    found: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, out: Tensor) -> None:
        out.retain_grad()
        found.append(out)

    hook = layer.register_forward_hook(keep)
    try:
        yield found
    finally:
        hook.remove()


def _last_layer(network: nn.Module, image: Image, output: int) -> tuple[Tensor, Tensor]:
    """Activations and gradients of the layer that class activation looks at."""
    layer = target_layer(network, image)
    with _kept(layer) as found, torch.enable_grad():
        score = OneOutput(network)(image.clone().requires_grad_())[0, output]
        torch.autograd.backward(score)
    gradient = found[0].grad
    assert gradient is not None, "gradients flow through every layer"
    network.zero_grad()
    return found[0].detach(), gradient.detach()


def _upsampled(coarse: Tensor, image: Image) -> Array:
    mode = "bilinear" if image.ndim == 4 else "trilinear"
    return np.asarray(
        F.interpolate(coarse[:, None], size=image.shape[2:], mode=mode, align_corners=False)[0, 0].numpy()
    )
