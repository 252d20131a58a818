"""A class or a value of each image as a whole."""

import numpy as np
import torch
from torch import Tensor, nn

from isocenter.data.dataset import Loaded, Sample, stated_number
from isocenter.errors import InputError
from isocenter.inference.answers import scored
from isocenter.inference.sliding import Forward
from isocenter.metrics.decision import auc
from isocenter.training.images import augment
from isocenter.training.images.batches import Batch, Sampler
from isocenter.training.images.losses import loss_of
from isocenter.training.images.plan import Plan
from isocenter.training.images.store import Item, Store
from isocenter.training.images.tasks.task import StepLoss, Task, images_of, prepared
from isocenter.training.images.validation import Validated
from isocenter.types import Array


class _Whole(Task):
    """What classes and values share."""

    def windowed(self) -> bool:
        """Whole images are seen at once."""
        return False

    def batch(self, sampler: Sampler, step: int) -> Batch:
        """Whole images, augmented; their targets are numbers."""
        plan, rng = sampler.plan, sampler.rng(step)
        items = [sampler.store.items[i] for i in sampler.cases(step)]
        images = torch.from_numpy(np.stack([_image(item, plan) for item in items]))
        target = torch.tensor([item.target for item in items])
        target = target.long() if plan.task == "classify" else target.float()
        drawn = augment.draw(plan, tuple(images.shape[2:]), len(items), rng)
        if plan.task == "regress":
            drawn = augment.without_mixture(drawn)
        images, _ = augment.apply(drawn, images, None)
        return Batch(images, target, drawn)

    def loss(self, plan: Plan) -> StepLoss:
        """The plan's loss, with mixed targets where images were mixed."""
        one = loss_of(plan)

        def value(network: nn.Module, batch: Batch, turn: str) -> Tensor:
            images = images_of(batch, plan, network)
            assert isinstance(batch.target, Tensor), "targets of whole images are numbers"
            target = as_learnt(batch.target.to(images.device), plan)
            answer = network(images)
            share = float(batch.drawn.mix[0])
            if share == 1:
                return one(answer, target)
            other = target[torch.from_numpy(batch.drawn.partner).to(target.device)]
            return share * one(answer, target) + (1 - share) * one(answer, other)

        return value


def as_learnt(target: Tensor, plan: Plan) -> Tensor:
    """Values in deviations from their mean; class numbers as they are."""
    mean, deviation = plan.value_scale
    return (target - mean) / deviation if plan.task == "regress" else target


class Classes(_Whole):
    """One class of each image."""

    def item(self, sample: Sample, loaded: Loaded, plan: Plan) -> Item:
        """An image with the number of its class."""
        ready = prepared(sample, loaded, plan)
        if sample.target not in plan.classes:
            raise InputError(
                f"is of the class {sample.target!r}, which the plan does not know: {', '.join(plan.classes)}"
            )
        return Item(sample, _one(ready.array, plan), float(plan.classes.index(sample.target)))

    def validate(self, run: Forward, store: Store, plan: Plan, *, thorough: bool = False) -> Validated:
        """Accuracy, logarithmic loss and area under the curve; better is a smaller loss."""
        scores, truth = _scores(run, store, plan, thorough=thorough)
        metrics, loss = class_metrics(scores, truth.astype(int), plan)
        return Validated(-loss, metrics, scores)


class Values(_Whole):
    """One number of each image."""

    def item(self, sample: Sample, loaded: Loaded, plan: Plan) -> Item:
        """An image with its value."""
        ready = prepared(sample, loaded, plan)
        return Item(sample, _one(ready.array, plan), stated_number(sample.target))

    def validate(self, run: Forward, store: Store, plan: Plan, *, thorough: bool = False) -> Validated:
        """Mean error and share of the variance that is explained."""
        scores, truth = _scores(run, store, plan, thorough=thorough)
        metrics = value_metrics(scores, truth)
        return Validated(metrics["r2"], metrics, scores)


def class_metrics(scores: Array, labels: Array, plan: Plan) -> tuple[dict[str, float], float]:
    """Accuracy, loss and area under the curve of probabilities `n k`; and the loss."""
    loss = -float(np.log(np.maximum(scores[np.arange(len(labels)), labels], 1e-12)).mean())
    there = [k for k in range(len(plan.classes)) if 0 < (labels == k).sum() < len(labels)]
    metrics = {"accuracy": float((scores.argmax(axis=1) == labels).mean()), "loss": loss}
    if there:
        positive = there[-1:] if len(plan.classes) == 2 else there
        metrics["auc"] = float(np.mean([auc((labels == k).astype(np.int64), scores[:, k]) for k in positive]))
    return metrics, loss


def value_metrics(values: Array, truth: Array) -> dict[str, float]:
    """Mean error, and share of the variance that is explained."""
    error = values - truth
    spread = float(((truth - truth.mean()) ** 2).mean()) or 1.0
    return {"mae": float(np.abs(error).mean()), "r2": 1 - float((error**2).mean()) / spread}


def _image(item: Item, plan: Plan) -> Array:
    return item.image[:, 0] if plan.preparation.dims == 2 else np.asarray(item.image)


def _one(array: Array, plan: Plan) -> Array:
    """An image for a classifier.

    Raises: InputError for several slices where it looks at one.
    """
    if plan.preparation.dims == 2 and array.shape[1] != 1:
        raise InputError(f"has {array.shape[1]} slices, and a classifier of pictures looks at one")
    return array


def _scores(run: Forward, store: Store, plan: Plan, *, thorough: bool) -> tuple[Array, Array]:
    scores = scored(run, [item.image for item in store.items], plan.spec, flips=thorough)
    return scores, np.asarray([item.target for item in store.items])
