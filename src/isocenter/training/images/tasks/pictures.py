"""A better image from each image: windows to learn from, whole images to judge by."""

import numpy as np
import torch
from torch import Tensor, nn

from isocenter.data.dataset import Loaded, Sample
from isocenter.errors import InputError
from isocenter.inference.answers import enhanced, windows_of
from isocenter.inference.degradation import degraded, finer, noise_of, own_factor, whole_blocks
from isocenter.inference.prepare import scales_again
from isocenter.inference.sliding import Forward
from isocenter.metrics.similarity import psnr, ssim
from isocenter.ops.window import cut
from isocenter.training.images import augment
from isocenter.training.images.batches import Batch, Sampler, start_of
from isocenter.training.images.losses import loss_of
from isocenter.training.images.plan import Plan
from isocenter.training.images.store import Item, Store
from isocenter.training.images.tasks.task import StepLoss, Task, images_of, prepared
from isocenter.training.images.validation import Validated
from isocenter.types import Array

_MARGIN = 4
"""Voxels about a window that are made poor with it, and cut off again: interpolation looks there."""


class Pictures(Task):
    """A better image of each image: of pairs that the data set states, or of good ones that are made poor."""

    def item(self, sample: Sample, loaded: Loaded, plan: Plan) -> Item:
        """Of pairs: the poor image, and the good one in its units. Else the good one, in units of what it becomes."""
        ready = prepared(sample, loaded, plan)
        if plan.degradation is None:
            volume, goal = loaded.image, loaded.goal
            if goal is None:
                raise InputError("has no better image beside it")
            if goal.voxels.shape != volume.voxels.shape:
                raise InputError(
                    f"the better image has {goal.voxels.shape} (channels and voxels), the image {volume.voxels.shape}: "
                    "bring both onto one grid"
                )
            goal.require_finite()
            volume.geometry.require_same(goal.geometry, what="the image and the better one")
            _require_detail(goal.voxels)
            wanted = [(np.asarray(v, np.float32) - a) / b for v, (a, b) in zip(goal.voxels, ready.scales, strict=True)]
            return Item(sample, ready.array, np.nan, goal=np.asarray(np.stack(wanted), np.float32))
        image = whole_blocks(ready.array, plan.degradation)
        _require_detail(image)
        deviation = float(image.std()) or 1.0
        poor = degraded(image, plan.degradation, noise_of(sample.case), deviation=deviation)
        scales = scales_again(poor, plan.preparation)
        good = np.stack([(v - a) / b for v, (a, b) in zip(image, scales, strict=True)]).astype(np.float32)
        return Item(sample, good, np.nan, spread=deviation / float(np.mean([b for _, b in scales])))

    def batch(self, sampler: Sampler, step: int) -> Batch:
        """Windows of both images, flipped alike."""
        plan, rng = sampler.plan, sampler.rng(step)
        pairs = [_window(sampler.by_person(rng), plan, rng) for _ in range(sampler.count)]
        drawn = augment.without_mixture(augment.draw(plan, plan.patch, len(pairs), rng))
        poor, good = (torch.from_numpy(np.stack(side)) for side in zip(*pairs, strict=True))
        return Batch(augment.flipped(drawn, poor), augment.flipped(drawn, good), drawn)

    def loss(self, plan: Plan) -> StepLoss:
        """The plan's distance between both."""
        one = loss_of(plan)

        def value(network: nn.Module, batch: Batch, turn: str) -> Tensor:
            images = images_of(batch, plan, network)
            assert isinstance(batch.target, Tensor), "the target of an image is an image"
            target = batch.target.to(images.device)
            if turn:
                found: Tensor = network(images, target, turn)
                return found
            return one(network(images), target)

        return value

    def validate(self, run: Forward, store: Store, plan: Plan, *, thorough: bool = False) -> Validated:
        """Peak signal-to-noise ratio in dB, mean over images, and that of the image as it was; better is more."""
        spec = plan.spec
        windows = windows_of(spec, overlap=0.5 if thorough else 0.25, flips=thorough)
        rows = []
        for item in store.items:
            poor, good = poor_and_good(item, plan)
            found = enhanced(run, poor, spec, windows)
            rows.append((psnr(found, good), ssim(found, good), psnr(poor, good)))
        each, alike, before = np.asarray(rows, np.float64).T
        metrics = {"psnr": float(each.mean()), "ssim": float(alike.mean()), "psnr/before": float(before.mean())}
        return Validated(metrics["psnr"], metrics, each=tuple(each.tolist()))

    def seen(self, item: Item, plan: Plan) -> Array:
        """The poor image."""
        return poor_and_good(item, plan)[0]


def _require_detail(image: Array) -> None:
    """Refuse an image beside which nothing could be compared.

    Raises: InputError.
    """
    if not np.ptp(image) > 0:
        raise InputError(f"its good image holds one value only ({np.ravel(image)[0]:g})")


def poor_and_good(item: Item, plan: Plan) -> tuple[Array, Array]:
    """Both images of a case (`c d h w`), on the answer's grid; the noise of a case is the same each time."""
    if plan.degradation is None:
        assert item.goal is not None, "a pair has a better image"
        return np.asarray(item.image), np.asarray(item.goal)
    good = np.asarray(item.image)
    poor = degraded(good, plan.degradation, noise_of(item.sample.case), deviation=item.spread)
    return finer(poor, own_factor(plan.degradation, good.shape)), good


def _window(item: Item, plan: Plan, rng: np.random.Generator) -> tuple[Array, Array]:
    """A window of both images; what lies outside them is 0 in both."""
    dims = plan.preparation.dims
    shape = np.asarray(item.image.shape[1:])
    size = np.asarray((1, *plan.patch) if dims == 2 else plan.patch)
    start = start_of(shape, size, None, rng)
    how = plan.degradation
    if how is None:
        assert item.goal is not None, "a pair has a better image"
        poor, good = (cut(np.asarray(image), start, size) for image in (item.image, item.goal))
    else:
        factor = np.asarray(own_factor(how, item.image.shape))
        start = np.where(start > 0, start // factor * factor, start)
        margin = np.where(shape > 1, _MARGIN * factor, 0)
        first = np.maximum(start - margin, 0)
        last = np.minimum(start + size + margin, shape)
        first, last = first // factor * factor, np.minimum(-(-last // factor) * factor, shape)
        about = np.asarray(item.image[(slice(None), *(slice(a, b) for a, b in zip(first, last, strict=True)))])
        d, h, w = factor.tolist()
        worse = finer(degraded(about, how, rng, deviation=item.spread), (d, h, w))
        poor, good = (cut(image, start - first, size) for image in (worse, about))
    return (poor[:, 0], good[:, 0]) if dims == 2 else (poor, good)
