"""The next frame of a sequence: from those before it."""

import numpy as np
import torch
from torch import Tensor, nn

from isocenter.data.dataset import Loaded, Sample
from isocenter.errors import InputError
from isocenter.inference.frames import foretold, with_times
from isocenter.inference.sliding import Forward
from isocenter.metrics.similarity import psnr, ssim
from isocenter.training.images import augment
from isocenter.training.images.batches import Batch, Sampler
from isocenter.training.images.losses import loss_of
from isocenter.training.images.plan import Plan
from isocenter.training.images.store import Item, Store
from isocenter.training.images.tasks.sequences import Followed, frames_of, moved_alike, sequence_item
from isocenter.training.images.tasks.task import StepLoss
from isocenter.training.images.validation import Validated
from isocenter.types import Array

LEAST = 2
"""Frames from which the next is foretold."""
_CONTEXT, _DROPPED, _PLACES = 8, 0.1, 4


class Forecast(Followed):
    """The frame that follows those that are shown."""

    several = False

    def item(self, sample: Sample, loaded: Loaded, plan: Plan) -> Item:
        """Frames and times."""
        item = sequence_item(sample, loaded, plan, newest=True)  # as it is asked later: at the frames' own distance
        places(item.image)
        return item

    def batch(self, sampler: Sampler, step: int) -> Batch:
        """Some frames one after the other, of which some are left out, and the one that follows."""
        plan, rng = sampler.plan, sampler.rng(step)
        length = min(_CONTEXT, plan.frames - 1)
        shown, wanted = [], []
        for i in sampler.cases(step):
            item = sampler.store.items[i]
            assert item.times is not None, "a sequence has times"
            frames = moved_alike(frames_of(item, plan), plan, rng)
            at = int(rng.integers(min(LEAST, len(frames) - 1), len(frames)))
            before = np.arange(max(0, at - length), at)
            kept = before[rng.random(len(before)) >= _DROPPED]
            kept = kept if len(kept) >= min(LEAST, at) else before
            one = with_times(frames[kept], item.times[kept], length + 1)
            one[-1, -1] = item.times[at]
            shown.append(one)
            wanted.append(frames[at])
        drawn = augment.without_mixture(augment.draw(plan, tuple(wanted[0].shape[1:]), len(shown), rng))
        return Batch(torch.from_numpy(np.stack(shown)), torch.from_numpy(np.stack(wanted)), drawn)

    def loss(self, plan: Plan) -> StepLoss:
        """The plan's distance between both."""
        one = loss_of(plan)

        def value(network: nn.Module, batch: Batch, turn: str) -> Tensor:
            device = next(network.parameters()).device
            assert isinstance(batch.target, Tensor), "the target is a frame"
            return one(network(batch.images.to(device)), batch.target.to(device))

        return value

    def validate(self, run: Forward, store: Store, plan: Plan, *, thorough: bool = False) -> Validated:
        """Peak signal-to-noise ratio in dB, mean over sequences, and that of the last frame; better is more."""
        rows = []
        for item in store.items:
            assert item.times is not None, "a sequence has times"
            frames = frames_of(item, plan)
            own = []
            for at in places(frames, None if thorough else _PLACES):
                said = foretold(run, frames[:at], item.times[:at], float(item.times[at]))
                own.append((psnr(said, frames[at]), ssim_of(said, frames[at]), psnr(frames[at - 1], frames[at])))
            rows.append(np.mean(np.minimum(own, 99.0), axis=0))
        each, alike, before = np.asarray(rows, np.float64).T
        metrics = {"psnr": float(each.mean()), "ssim": float(alike.mean()), "psnr/last frame": float(before.mean())}
        return Validated(metrics["psnr"], metrics, each=tuple(each.tolist()))


def places(frames: Array, most: int | None = None) -> list[int]:
    """Numbers of the frames that are foretold from all before them; evenly chosen where they are many.

    A frame of one value (a black one at the end of a loop) is passed over: nothing can be compared with it.

    Raises: InputError where all are such.
    """
    count = len(frames)
    there = [i for i in range(min(LEAST, count - 1), count) if np.ptp(frames[i]) > 0]
    if not there:
        raise InputError(f"its {count} frames hold one value each: nothing follows from them")
    if most is None or len(there) <= most:
        return there
    return [there[int(i)] for i in np.unique(np.linspace(0, len(there) - 1, most).round())]


def ssim_of(one: Array, other: Array) -> float:
    """Structural similarity of frames `c *s`."""
    flat = one.ndim == 3
    return ssim(one[:, None] if flat else one, other[:, None] if flat else other)
