"""What a trained network makes of an image before it answers: numbers that other models learn from."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from isocenter.errors import InputError
from isocenter.inference.model import NetworkModel
from isocenter.inference.onnx_network import OnnxNetwork
from isocenter.types import Array


def embedding(model: NetworkModel, array: Array) -> Array:
    """The input of the last dense layer; of a network of voxels, the mean of its coarsest layer over the image.

    Args:
        model: its first network is asked.
        array: prepared, `c *s`, of the model's dimensions.
    Raises: InputError for a network that does not show its layers.
    """
    module = model.modules[0]
    if isinstance(module, OnnxNetwork):
        raise InputError(f"{model.folder}: an ONNX network shows its answer only, and no layer")
    if model.spec.task == "detect":
        raise InputError(f"{model.folder}: finds objects, and has no one layer that speaks of the whole image")
    dense = [part for part in module.modules() if isinstance(part, nn.Linear)]
    voxels = model.spec.task == "segment"
    watched = [part for part in module.modules() if isinstance(part, nn.Conv2d | nn.Conv3d)] if voxels else dense[-1:]
    if not watched:
        raise InputError(f"{model.folder}: has no dense layer before its answer")
    seen: list[Tensor] = []

    def keep(_module: nn.Module, inputs: Any, out: Tensor) -> None:
        seen.append(out if voxels else inputs[0])

    hooks = [part.register_forward_hook(keep) for part in watched]
    try:
        with torch.inference_mode():
            module.eval()(torch.from_numpy(np.ascontiguousarray(_filled(array, model)[None], np.float32)))
    finally:
        for hook in hooks:
            hook.remove()
    found = min(seen, key=lambda out: int(np.prod(out.shape[2:]))) if voxels else seen[-1]
    return np.asarray(found[0].flatten(1).mean(dim=1) if voxels else found[0].flatten())


def _filled(array: Array, model: NetworkModel) -> Array:
    """Filled up with zeros to the size that the network wants."""
    size = model.spec.patch
    if model.spec.task != "segment":
        return array
    shape = array.shape[1:]
    more = [(0, 0), *((0, max(0, s - n)) for n, s in zip(shape, size, strict=True))]
    first = [max(0, (n - s) // 2) for n, s in zip(shape, size, strict=True)]
    cut = (slice(None), *(slice(a, a + s) for a, s in zip(first, size, strict=True)))
    return np.pad(array, more)[cut]
