"""Batches: which cases and patches the network sees at each step. A step's batch depends on seed and number alone, so a
resumed training sees what an unbroken one would.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from isocenter.training.images import augment
from isocenter.training.images.augment import Drawn
from isocenter.training.images.plan import Plan
from isocenter.training.images.store import Item, Store
from isocenter.types import Array


@dataclass(frozen=True, eq=False)
class Batch:
    """What one step learns from.

    Args:
        images: `b c *patch`.
        target: `b` classes or values, or `b *patch` labels.
        drawn: what was done to them; its mixture weighs the loss.
    """

    images: Tensor
    target: Tensor
    drawn: Drawn


class Sampler:
    """Draws batches of a store by the plan.

    Args:
        store: cases.
        plan: sizes, augmentation, seed.
        rank: number of this process among `ranks`, each of which draws its own share of the batch.
        ranks: processes that learn together.
    """

    def __init__(self, store: Store, plan: Plan, *, rank: int = 0, ranks: int = 1) -> None:
        self.store, self.plan, self.rank, self.ranks = store, plan, rank, ranks
        self.count = max(1, plan.schedule.batch // ranks)
        self.people = _by_person(store)

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        rng = np.random.default_rng((self.plan.seed, step, self.rank))
        if self.plan.task == "segment":
            return self._patches(rng)
        index = self._drawn_cases(step)
        images = torch.from_numpy(np.stack([self._image(self.store.items[i]) for i in index]))
        target = torch.tensor([self.store.items[i].target for i in index])
        target = target.long() if self.plan.task == "classify" else target.float()
        drawn = augment.draw(self.plan, tuple(images.shape[2:]), len(index), rng)
        if self.plan.task == "regress":
            drawn = augment.without_mixture(drawn)
        images, _ = augment.apply(drawn, images, None)
        return Batch(images, target, drawn)

    def _image(self, item: Item) -> Array:
        return item.image[:, 0] if self.plan.preparation.dims == 2 else np.asarray(item.image)

    def _drawn_cases(self, step: int) -> list[int]:
        """Cases in shuffled rounds, so that each is seen equally often; drawn by class where the plan balances."""
        if self.plan.balance:
            rng = np.random.default_rng((self.plan.seed, step, self.rank, 1))
            targets = np.asarray([item.target for item in self.store.items])
            classes = rng.choice(np.unique(targets), self.count)
            return [int(rng.choice(np.flatnonzero(targets == c))) for c in classes]
        size = len(self.store)
        first = (step * self.ranks + self.rank) * self.count
        found: list[int] = []
        while len(found) < self.count:
            at = first + len(found)
            order = _shuffled(size, self.plan.seed, at // size)
            found.append(int(order[at % size]))
        return found

    def _patches(self, rng: np.random.Generator) -> Batch:
        images, masks = [], []
        for number in range(self.count):
            person = self.people[rng.integers(len(self.people))]
            item = self.store.items[person[rng.integers(len(person))]]
            image, mask = cut(item, self.plan, rng, on_label=number / self.count >= 1 - self.plan.foreground)
            images.append(image)
            masks.append(mask)
        stacked, truth = torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(masks))
        drawn = augment.without_mixture(augment.draw(self.plan, self.plan.patch, len(images), rng))
        moved, moved_truth = augment.apply(drawn, stacked, truth)
        assert moved_truth is not None, "a mask stays a mask"
        if self.plan.swap_labels and drawn.flips.shape[1]:
            moved_truth = _exchanged(moved_truth, drawn.flips[:, -1], self.plan)
        return Batch(moved, moved_truth, drawn)


_ORDERS: dict[tuple[int, int], Array] = {}


def _shuffled(size: int, seed: int, epoch: int) -> Array:
    key = (size, seed * 1_000_003 + epoch)
    if key not in _ORDERS:
        if len(_ORDERS) > 8:
            _ORDERS.clear()
        _ORDERS[key] = np.random.default_rng((seed, epoch, 2)).permutation(size)
    return _ORDERS[key]


def _by_person(store: Store) -> list[list[int]]:
    """Cases of each patient: a patient with many scans is not seen more often."""
    people: dict[str, list[int]] = {}
    for i, item in enumerate(store.items):
        people.setdefault(item.sample.patient or f"case {item.sample.case}", []).append(i)
    return list(people.values())


def _exchanged(masks: Tensor, flipped: Array, plan: Plan) -> Tensor:
    """Labels of left and right exchanged where the left-right axis was flipped."""
    numbers = {value: i + 1 for i, value in enumerate(plan.labels)}
    table = torch.arange(len(plan.labels) + 1, dtype=masks.dtype)
    for one, other in plan.swap_labels.items():
        table[numbers[one]] = numbers[other]
    masks = masks.clone()
    for row in np.flatnonzero(flipped):
        masks[row] = table[masks[row].long()]
    return masks


def cut(item: Item, plan: Plan, rng: np.random.Generator, *, on_label: bool) -> tuple[Array, Array]:
    """A patch of a case, centred near a label if asked for; what lies outside the image is 0 and background."""
    assert item.mask is not None, "a segmentation has masks"
    shape = np.asarray(item.mask.shape)
    size = np.asarray((1, *plan.patch) if plan.preparation.dims == 2 else plan.patch)
    there = [places for places in item.places if len(places)]
    if on_label and there:
        places = there[rng.integers(len(there))]
        centre = places[rng.integers(len(places))]
        start = centre - size // 2 + rng.integers(-(size // 4), size // 4 + 1)
        start = np.where(size >= shape, -((size - shape) // 2), np.clip(start, 0, np.maximum(shape - size, 0)))
        if plan.preparation.dims == 2:
            start[0] = centre[0]
    else:
        free = np.maximum(shape - size, 0)
        start = np.where(size > shape, -((size - shape) // 2), rng.integers(0, free + 1))
    inside = tuple(slice(max(0, int(a)), int(min(a + n, m))) for a, n, m in zip(start, size, shape, strict=True))
    onto = tuple(slice(s.start - int(a), s.stop - int(a)) for s, a in zip(inside, start, strict=True))
    image = np.zeros((item.image.shape[0], *size), np.float32)
    mask = np.zeros(tuple(size), np.int64)
    image[(slice(None), *onto)] = item.image[(slice(None), *inside)]
    mask[onto] = item.mask[inside]
    return (image[:, 0], mask[0]) if plan.preparation.dims == 2 else (image, mask)
