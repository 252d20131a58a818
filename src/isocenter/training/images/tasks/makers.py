"""Images from noise: whole images to learn from; judged by how like real ones those are that are made."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from isocenter.data.dataset import Loaded, Sample
from isocenter.errors import InputError
from isocenter.inference.making import classes_for, features_of, made
from isocenter.inference.prepare import Prepared
from isocenter.metrics.synthetic import frechet, variety
from isocenter.training.images import augment
from isocenter.training.images.batches import Batch, Sampler
from isocenter.training.images.plan import Plan
from isocenter.training.images.store import Item, Store
from isocenter.training.images.tasks.task import StepLoss, Task, images_of, prepared
from isocenter.training.images.validation import Validated
from isocenter.types import Array

_FEW, _MANY = 256, 1000
"""Images that are made for a look on the way, and for the last."""


class Makers(Task):
    """Images like those that are shown, of a class where classes are stated."""

    half = False
    several = False

    def item(self, sample: Sample, loaded: Loaded, plan: Plan) -> Item:
        """An image between 0 and 1, and the number of its class."""
        ready = prepared(sample, loaded, plan)
        if plan.classes and sample.target not in plan.classes:
            raise InputError(
                f"is of the class {sample.target!r}, which the plan does not know: {', '.join(plan.classes)}"
            )
        kind = float(plan.classes.index(sample.target)) if plan.classes else 0.0
        return Item(sample, whole(ready, plan), kind)

    def windowed(self) -> bool:
        """Whole images are seen at once."""
        return False

    def batch(self, sampler: Sampler, step: int) -> Batch:
        """Whole images, moved a little."""
        return whole_batch(sampler, step)

    def loss(self, plan: Plan) -> StepLoss:
        """The network's own, of the player whose turn it is."""

        def value(network: nn.Module, batch: Batch, turn: str) -> Tensor:
            images = images_of(batch, plan, network)
            assert isinstance(batch.target, Tensor), "classes are numbers"
            classes = batch.target.to(images.device) if plan.classes else None
            found: Tensor = network(images, classes, turn)
            return found

        return value

    def run(self, networks: Sequence[nn.Module], plan: Plan, device: str) -> Any:
        """The first network; makers are not averaged."""
        return networks[0].to(device).eval()

    def validate(self, run: nn.Module, store: Store, plan: Plan, *, thorough: bool = False) -> Validated:
        """Fréchet distance of made images from these; better is less."""
        real = stacked(store)
        count = _MANY if thorough else _FEW
        device = str(next(run.parameters()).device)
        some = made(run, count, classes=classes_for(shares_of(store, plan), count), seed=plan.seed, device=device)
        if len(store) < 2:
            return Validated(-float("inf"), {"frechet": float("inf")})
        distance = frechet(features_of(real), features_of(some))
        return Validated(-distance, {"frechet": distance, "variety": variety(some, real)})


def whole(ready: Prepared, plan: Plan) -> Array:
    """An image between 0 and 1.

    Raises: InputError for several slices where pictures are learnt from.
    """
    if plan.preparation.dims == 2 and ready.array.shape[1] != 1:
        raise InputError(f"has {ready.array.shape[1]} slices, and pictures are learnt from")
    return np.clip(ready.array, 0, 1)


def whole_batch(sampler: Sampler, step: int) -> Batch:
    """Whole images, moved as the plan says, with the numbers of their classes; intensities stay between 0 and 1."""
    plan, rng = sampler.plan, sampler.rng(step)
    items = [sampler.store.items[i] for i in sampler.cases(step)]
    flat = plan.preparation.dims == 2
    images = torch.from_numpy(np.stack([i.image[:, 0] if flat else np.asarray(i.image) for i in items]))
    drawn = augment.without_mixture(augment.draw(plan, tuple(images.shape[2:]), len(items), rng))
    images, _ = augment.apply(drawn, images, None)
    return Batch(images.clamp(0, 1), torch.tensor([item.target for item in items]).long(), drawn)


def stacked(store: Store) -> Array:
    """Every image of a store, `n c *s`."""
    return np.stack([i.image[:, 0] if i.image.shape[1] == 1 else np.asarray(i.image) for i in store.items])


def shares_of(store: Store, plan: Plan) -> list[float]:
    """How often each class is there; empty where there are no classes."""
    if not plan.classes:
        return []
    counts = np.bincount([int(item.target) for item in store.items], minlength=len(plan.classes))
    return [float(n) / len(store) for n in counts]
