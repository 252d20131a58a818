"""What is usual: images of one kind to learn from; judged by how well others of that kind are built again."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from isocenter.metrics.decision import auc
from isocenter.networks.autoencoder import Rebuilder
from isocenter.training.images.plan import Plan
from isocenter.training.images.store import Store
from isocenter.training.images.tasks.makers import Makers, stacked
from isocenter.training.images.validation import Validated
from isocenter.types import Array

_BATCH = 64


class Normal(Makers):
    """Images built again from a few numbers; learnt from normal ones alone."""

    def validate(self, run: nn.Module, store: Store, plan: Plan, *, thorough: bool = False) -> Validated:
        """Squared error on the normal cases, by which it is chosen; and the area under the curve, if others are there.

        The thorough look's scores are distances from what is usual among these normal cases.
        """
        images, odd = stacked(store), unusual_of(store, plan)
        errors = _errors(run, images)
        loss = float(errors[~odd].mean()) if (~odd).any() else float(errors.mean())
        metrics = {"normal_loss": loss}
        if odd.any() and not odd.all():
            metrics["error_auc"] = auc(odd.astype(np.int64), errors)
        return Validated(-loss, metrics, errors)

    def run(self, networks: Sequence[nn.Module], plan: Plan, device: str) -> Any:
        """The first network."""
        return networks[0].to(device).eval()


def unusual_of(store: Store, plan: Plan) -> Array:
    """Cases that are stated to be of another class than the normal one (`n` booleans)."""
    return np.asarray([bool(i.sample.target) and i.sample.target != plan.normal for i in store.items])


def _errors(module: nn.Module, images: Array) -> Array:
    device = next(module.parameters()).device
    found = []
    with torch.inference_mode():
        for i in range(0, len(images), _BATCH):
            x = torch.from_numpy(np.ascontiguousarray(images[i : i + _BATCH])).to(device)
            again = cast("Rebuilder", module).rebuilt(x)
            found.append(((again - x) ** 2).flatten(1).mean(dim=1).float().cpu().numpy())
    return np.concatenate(found).astype(np.float64)
