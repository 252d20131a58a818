"""Fewer channels: the weakest of each layer go, and what is left is a smaller network of the same family."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from isocenter.errors import InputError, cause_of
from isocenter.inference.model import NetworkSpec, Spec, build_of
from isocenter.optional import require

_LEAST = 4


def smaller(spec: Spec, share: float) -> Spec:
    """The same network with so large a share of its channels.

    Raises: InputError for a network without `widths` (or `width`).
    """
    from isocenter.networks.catalogue import settings_of

    whole = settings_of(spec.network.name, spec.network.settings).model_dump()
    if "widths" in whole:
        changed: dict[str, Any] = {"widths": tuple(max(_LEAST, int(w * share)) for w in whole["widths"])}
    elif "width" in whole:
        changed = {"width": max(_LEAST, int(whole["width"] * share))}
    else:
        raise InputError(f"{spec.network.name} has no widths: name a smaller network with --network")
    network = NetworkSpec(name=spec.network.name, settings={**spec.network.settings, **changed})
    return spec.model_copy(update={"network": network})


def pruned(module: nn.Module, spec: Spec, small: Spec) -> dict[str, Tensor]:
    """Weights for the smaller network: of each layer the channels with the largest weights.

    Source: H. Li et al., ICLR 2017 (norm of filters); G. Fang et al., CVPR 2023 (which channels belong together).

    Args:
        module: trained; left as it is.
        spec: of it.
        small: the same network with a smaller, even share of its channels.
    Raises: MissingExtra without torch-pruning; InputError for a network whose layers do not shrink evenly.
    """
    pruning: Any = require("torch_pruning", extra="compress")
    network = copy.deepcopy(module).cpu().eval()
    kept = build_of(small).state_dict()
    example = torch.zeros((1, spec.inputs, *spec.patch))
    last = [m for m in network.modules() if _width(m) == spec.outputs]
    try:
        pruner = pruning.pruner.MagnitudePruner(
            network, example, importance=pruning.importance.MagnitudeImportance(p=2),
            pruning_ratio_dict={}, pruning_ratio=1 - share_of(spec, small), ignored_layers=last, global_pruning=False,
        )  # fmt: skip
        pruner.step()
    except Exception as error:  # the library raises many kinds for layers that it cannot follow
        raise InputError(f"{spec.network.name}: its layers cannot be made narrower ({cause_of(error)})") from error
    found = {
        name: value for name, value in network.state_dict().items() if name in kept and kept[name].shape == value.shape
    }
    lost = [name for name in kept if name not in found and ".seg_layers." not in name]  # heads that only training uses
    if lost:
        raise InputError(
            f"{spec.network.name}: its layers do not shrink evenly ({lost[0]}): take --method distill instead"
        )
    return found


def share_of(spec: Spec, small: Spec) -> float:
    """Share of the channels that are left."""
    from isocenter.networks.catalogue import settings_of

    one, other = (settings_of(s.network.name, s.network.settings).model_dump() for s in (spec, small))
    if "widths" in one:
        return float(sum(other["widths"]) / sum(one["widths"]))
    return float(other["width"] / one["width"])


def _width(module: nn.Module) -> int | None:
    if isinstance(module, nn.Conv2d | nn.Conv3d):
        return module.out_channels
    return module.out_features if isinstance(module, nn.Linear) else None
