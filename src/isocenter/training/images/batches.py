"""Batches: which cases and patches the network sees at each step. A step's batch depends on seed and number alone, so a
resumed training sees what an unbroken one would.
"""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from isocenter.networks.detector import Truth
from isocenter.training.images.augment import Drawn
from isocenter.training.images.plan import Plan
from isocenter.training.images.store import Item, Store
from isocenter.types import Array


@dataclass(frozen=True, eq=False)
class Batch:
    """What one step learns from.

    Args:
        images: `b c *patch`.
        target: `b` classes or values, or `b *patch` labels, or the objects of each image.
        drawn: what was done to them; its mixture weighs the loss.
    """

    images: Tensor
    target: Tensor | tuple[Truth, ...]
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

    def rng(self, step: int) -> np.random.Generator:
        """Randomness of a step."""
        return np.random.default_rng((self.plan.seed, step, self.rank))

    def by_person(self, rng: np.random.Generator) -> Item:
        """A case, each patient as likely as the other."""
        person = self.people[rng.integers(len(self.people))]
        return self.store.items[person[rng.integers(len(person))]]

    def cases(self, step: int) -> list[int]:
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


def start_of(shape: Array, size: Array, centre: Array | None, rng: np.random.Generator) -> Array:
    """First voxel of a patch: about a centre, up to a quarter of its edge away, or anywhere.

    Along axes on which the image is smaller, it stands in the middle of the patch.
    """
    if centre is None:
        return np.asarray(
            np.where(size > shape, -((size - shape) // 2), rng.integers(0, np.maximum(shape - size, 0) + 1))
        )
    start = centre - size // 2 + rng.integers(-(size // 4), size // 4 + 1)
    return np.asarray(np.where(size >= shape, -((size - shape) // 2), np.clip(start, 0, np.maximum(shape - size, 0))))
