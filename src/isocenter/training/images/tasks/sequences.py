"""A class or a value of each sequence of frames, or of each frame in it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from isocenter.data.dataset import Loaded, Sample, stated_number
from isocenter.errors import InputError
from isocenter.inference.frames import followed, prepared_frames, with_times
from isocenter.inference.sliding import Forward
from isocenter.training.images import augment
from isocenter.training.images.batches import Batch, Sampler
from isocenter.training.images.losses import loss_of
from isocenter.training.images.plan import Plan
from isocenter.training.images.store import Item, Store
from isocenter.training.images.tasks.task import StepLoss, Task
from isocenter.training.images.tasks.whole import as_learnt, class_metrics, value_metrics
from isocenter.training.images.validation import Validated
from isocenter.types import Array

_DROPPED = 0.1
"""Chance that a frame is left out while learning: frames are missing in practice, too."""


class Followed(Task):
    """What tasks of frames in time share."""

    def seen(self, item: Item, plan: Plan) -> Array:
        """The frame in the middle."""
        return np.asarray(item.image[len(item.image) // 2])

    def windowed(self) -> bool:
        """Whole frames are seen at once."""
        return False


class Sequences(Followed):
    """What sequences of classes and of values share."""

    def item(self, sample: Sample, loaded: Loaded, plan: Plan) -> Item:
        """Frames, times, and what is stated of them (`t`; one number where it is of all)."""
        if loaded.cine is None:
            raise InputError("is no sequence of frames")
        stated = _stated(sample, len(loaded.cine), plan)
        known = np.flatnonzero(np.isfinite(stated))
        if not len(known):
            raise InputError("states nothing of any of its frames")
        bare = sequence_item(sample, loaded, plan, keep=known.tolist() if plan.each_frame else ())
        targets = stated[bare.frames] if plan.each_frame else stated
        return replace(bare, target=float(targets[0]) if len(targets) == 1 else np.nan, targets=targets)

    def batch(self, sampler: Sampler, step: int) -> Batch:
        """Sequences, each moved and changed as a whole; some frames are left out."""
        plan, rng = sampler.plan, sampler.rng(step)
        items = [sampler.store.items[i] for i in sampler.cases(step)]
        parts = [frames_of(item, plan) for item in items]
        moved = [moved_alike(part, plan, rng) for part in parts]  # each has its own number of frames
        target = np.full((len(items), plan.frames if plan.each_frame else 1), np.nan, np.float32)
        stacked = []
        for i, (item, frames) in enumerate(zip(items, moved, strict=True)):
            assert item.times is not None, "a sequence has times"
            assert item.targets is not None, "a sequence has targets"
            kept = np.flatnonzero(rng.random(len(frames)) >= _DROPPED)
            seen = not plan.each_frame or bool(np.isfinite(item.targets[kept]).any())
            kept = kept if len(kept) >= 2 and seen else np.arange(len(frames))
            stacked.append(with_times(frames[kept], item.times[kept], plan.frames))
            own = item.targets[kept] if plan.each_frame else item.targets
            target[i, : len(own)] = own
        drawn = augment.without_mixture(augment.draw(plan, tuple(parts[0].shape[2:]), len(items), rng))
        return Batch(torch.from_numpy(np.stack(stacked)), torch.from_numpy(target), drawn)

    def loss(self, plan: Plan) -> StepLoss:
        """The plan's loss over what is stated: of each sequence, or of each frame that states something."""
        one = loss_of(plan)

        def value(network: nn.Module, batch: Batch, turn: str) -> Tensor:
            device = next(network.parameters()).device
            assert isinstance(batch.target, Tensor), "targets of sequences are numbers"
            target = batch.target.to(device)
            answer = network(batch.images.to(device))
            answer = answer if plan.each_frame else answer[:, None]
            known = torch.isfinite(target)
            if not known.any():
                nothing: Tensor = answer.sum() * 0
                return nothing
            wanted = as_learnt(target[known], plan)
            return one(answer[known], wanted.long() if plan.task == "classify" else wanted)

        return value

    def validate(self, run: Forward, store: Store, plan: Plan, *, thorough: bool = False) -> Validated:
        """As of images; each frame that states something counts where frames do."""
        said, truth = answers_of_store(run, store, plan)
        if plan.task == "classify":
            metrics, loss = class_metrics(said, truth.astype(int), plan)
            return Validated(-loss, metrics, said)
        metrics = value_metrics(said[:, 0], truth)
        return Validated(metrics["r2"], metrics, said[:, 0])


def sequence_item(
    sample: Sample, loaded: Loaded, plan: Plan, *, newest: bool = False, keep: Sequence[int] = ()
) -> Item:
    """Frames and times of a case.

    Args:
        sample: the case.
        loaded: its frames.
        plan: how they are prepared, and how many are looked at.
        newest: the last ones, as they follow on each other; else evenly.
        keep: frames that are looked at in any case.

    Raises: InputError for an image, and for volumes where pictures are looked at.
    """
    if loaded.cine is None:
        raise InputError("is no sequence of frames")
    ready = prepared_frames(loaded.cine, plan.preparation, plan.frames, newest=newest, keep=keep)
    if plan.preparation.dims == 2 and ready.frames.shape[2] != 1:
        raise InputError(f"has frames of {ready.frames.shape[2]} slices, and pictures are looked at")
    return Item(sample, ready.frames, np.nan, times=ready.times, frames=ready.numbers)


def moved_alike(frames: Array, plan: Plan, rng: np.random.Generator) -> Array:
    """Frames `t c *s`, all moved and changed alike."""
    t, c = frames.shape[:2]
    drawn = replace(augment.without_mixture(augment.draw(plan, tuple(frames.shape[2:]), 1, rng)), frames=t)
    joined = torch.from_numpy(np.ascontiguousarray(frames)).reshape(1, t * c, *frames.shape[2:])
    return np.asarray(augment.apply(drawn, joined, None)[0].reshape(frames.shape).numpy())


def answers_of_store(run: Forward, store: Store, plan: Plan) -> tuple[Array, Array]:
    """What is said of each sequence (or each stated frame, one after the other), `n k`; and what is stated, `n`."""
    said, truth = [], []
    for item in store.items:
        assert item.times is not None, "a sequence has times"
        assert item.targets is not None, "a sequence has targets"
        found = followed(run, frames_of(item, plan), item.times, plan.spec)
        known = np.isfinite(item.targets)
        said.append(found[known] if plan.each_frame else found)
        truth.append(item.targets[known])
    return np.concatenate(said), np.concatenate(truth)


def frames_of(item: Item, plan: Plan) -> Array:
    """`t c *s`, as the network takes them."""
    return item.image[:, :, 0] if plan.preparation.dims == 2 else np.asarray(item.image)


def _stated(sample: Sample, frames: int, plan: Plan) -> Array:
    """What is stated of each frame, or of all.

    Raises: InputError for other counts than frames, and for what is no class or number.
    """
    texts = sample.targets if plan.each_frame else (sample.target,)
    if plan.each_frame and len(texts) != frames:
        raise InputError(f"has {frames} frames, and {len(texts)} are labelled (parted by semicolons; one may be empty)")
    found = []
    for text in texts:
        if not text and plan.each_frame:
            found.append(np.nan)
        elif plan.task == "classify":
            if text not in plan.classes:
                raise InputError(f"is of the class {text!r}, which the plan does not know: {', '.join(plan.classes)}")
            found.append(float(plan.classes.index(text)))
        else:
            found.append(stated_number(text))
    targets = np.asarray(found, np.float32)
    if not np.isfinite(targets).any():
        raise InputError("states no class or value of any frame")
    return targets
