"""What a task decides of a training: what a case is, what a step learns from, what is made small, how it is judged."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from isocenter.data.dataset import Loaded, Sample
from isocenter.inference.columns import with_columns
from isocenter.inference.prepare import Prepared, prepare
from isocenter.inference.torch_runtime import TorchRuntime, memory_format
from isocenter.training.images.batches import Batch, Sampler
from isocenter.training.images.plan import Plan
from isocenter.training.images.store import Item, Store
from isocenter.training.images.validation import Validated
from isocenter.types import Array

StepLoss = Callable[[nn.Module, Batch, str], Tensor]
"""The network (in training), a batch, and whose turn it is (empty: there is one player) -> what is made small."""


class Task(ABC):
    """One of the tasks.

    `half` where it may learn in bfloat16; `several` where networks can answer together, and each case has a number by
    which it is judged: for folds, ensembles and learning curves.
    """

    half = True
    several = True

    @abstractmethod
    def item(self, sample: Sample, loaded: Loaded, plan: Plan) -> Item:
        """A case as the network sees it.

        Raises: InputError for one that the plan does not fit.
        """

    def seen(self, item: Item, plan: Plan) -> Array:
        """The image as the network sees it (`c d h w`)."""
        return np.asarray(item.image)

    @abstractmethod
    def batch(self, sampler: Sampler, step: int) -> Batch:
        """What a step learns from."""

    @abstractmethod
    def loss(self, plan: Plan) -> StepLoss:
        """What is made small."""

    @abstractmethod
    def validate(self, run: Any, store: Store, plan: Plan, *, thorough: bool = False) -> Validated:
        """Judge what `run` answers on these cases; the last time thoroughly: with overlap and flips."""

    def lacking(self, store: Store, plan: Plan) -> str:
        """What these cases lack to be judged by, asked before the time is spent; empty where it is nothing."""
        return ""

    def windowed(self) -> bool:
        """Images are walked over in windows, and thoroughly with more of them."""
        return True

    def run(self, networks: Sequence[nn.Module], plan: Plan, device: str) -> Any:
        """Networks in evaluation as one function that answers: the mean of their logits."""
        runs = [TorchRuntime(network, precision=plan.precision, device=device) for network in networks]
        if len(runs) == 1:
            return runs[0]
        return lambda windows: np.mean([run(windows) for run in runs], axis=0)


def images_of(batch: Batch, plan: Plan, like: nn.Module) -> Tensor:
    """The images of a batch, laid out as convolutions read them fastest, where the network lies."""
    device = next(like.parameters()).device
    return batch.images.to(memory_format=memory_format(plan.preparation.dims)).to(device)


def prepared(sample: Sample, loaded: Loaded, plan: Plan) -> Prepared:
    """The image of a case as the network eats it, with its columns of the table.

    Raises: see `inference.prepare.prepare` and `inference.columns.with_columns`.
    """
    return with_columns(prepare(loaded.image, plan.preparation), sample.groups, plan.columns)[0]
