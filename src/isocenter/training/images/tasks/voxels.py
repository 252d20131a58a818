"""A label of each voxel: patches to learn from, whole cases to judge by."""

import numpy as np
import torch
from torch import Tensor, nn

from isocenter.data.dataset import Loaded, Sample
from isocenter.data.labels import LabelMap
from isocenter.errors import InputError
from isocenter.inference.answers import segmented, windows_of
from isocenter.inference.prepare import prepare_labels
from isocenter.inference.sliding import Forward
from isocenter.metrics.overlap import dice
from isocenter.ops.window import cut, spans
from isocenter.training.images import augment
from isocenter.training.images.batches import Batch, Sampler, start_of
from isocenter.training.images.losses import loss_of
from isocenter.training.images.plan import Plan
from isocenter.training.images.store import Item, Store
from isocenter.training.images.tasks.task import StepLoss, Task, images_of, prepared
from isocenter.training.images.validation import Validated
from isocenter.types import Array

_PLACES = 4000
"""Voxels of each label that are remembered as centres of patches."""


class Voxels(Task):
    """A label map of each image."""

    def item(self, sample: Sample, loaded: Loaded, plan: Plan) -> Item:
        """An image with its label map on the network's grid."""
        ready = prepared(sample, loaded, plan)
        labels = loaded.labels
        if labels is None:
            raise InputError("has no label map")
        _require_known(labels, plan)
        mask = prepare_labels(labels, plan.preparation, tuple(plan.labels))
        return Item(sample, ready.array, np.nan, mask, _places(mask, len(plan.labels)))

    def batch(self, sampler: Sampler, step: int) -> Batch:
        """Patches, some of them centred on a label."""
        plan, rng = sampler.plan, sampler.rng(step)
        images, masks = [], []
        for number in range(sampler.count):
            item = sampler.by_person(rng)
            image, mask = window_of(item, plan, rng, on_label=number / sampler.count >= 1 - plan.foreground)
            images.append(image)
            masks.append(mask)
        stacked, truth = torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(masks))
        drawn = augment.without_mixture(augment.draw(plan, plan.patch, len(images), rng))
        moved, moved_truth = augment.apply(drawn, stacked, truth)
        assert moved_truth is not None, "a mask stays a mask"
        if plan.swap_labels and drawn.flips.shape[1]:
            moved_truth = _exchanged(moved_truth, drawn.flips[:, -1], plan)
        return Batch(moved, moved_truth, drawn)

    def loss(self, plan: Plan) -> StepLoss:
        """The plan's loss of every voxel."""
        one = loss_of(plan)

        def value(network: nn.Module, batch: Batch, turn: str) -> Tensor:
            images = images_of(batch, plan, network)
            assert isinstance(batch.target, Tensor), "targets of voxels are label maps"
            return one(network(images), batch.target.to(images.device))

        return value

    def validate(self, run: Forward, store: Store, plan: Plan, *, thorough: bool = False) -> Validated:
        """Dice of each label, mean over the cases that have it."""
        spec = plan.spec
        windows = windows_of(spec, overlap=0.5 if thorough else 0.25, flips=thorough)
        rows, counts = [], []
        for item in store.items:
            assert item.mask is not None, "a segmentation has masks"
            found = segmented(run, np.asarray(item.image), spec, windows)
            row = []
            counts.append([[(m == k).sum() for m in (item.mask, found)] for k in range(1, plan.outputs)])
            counts[-1].append([(m > 0).sum() for m in (item.mask, found)])
            for number in range(1, plan.outputs):
                true, said = item.mask == number, found == number
                row.append(dice(true, said) if true.any() or said.any() else np.nan)
            rows.append(row)
        table = np.asarray(rows, np.float64)
        known = [column[np.isfinite(column)] for column in table.T]
        metrics = {
            f"dice/{name}": float(k.mean()) if len(k) else float("nan")
            for name, k in zip(plan.labels.values(), known, strict=True)
        }
        stated = [value for value in metrics.values() if np.isfinite(value)]
        metrics["dice"] = float(np.mean(stated)) if stated else 0.0
        each = tuple(float(np.nanmean(row)) if np.isfinite(row).any() else 1.0 for row in table)
        return Validated(metrics["dice"], metrics, None, each, np.asarray(counts, np.int64))


def _require_known(labels: LabelMap, plan: Plan) -> None:
    values = {label.value for label in labels.labels if np.any(labels.voxels == label.value)}
    odd = sorted(values - set(plan.labels))
    if odd:
        raise InputError(
            f"holds the label value {odd[0]}, which the plan does not know: {', '.join(map(str, plan.labels))}"
        )


def _places(mask: Array, labels: int) -> tuple[Array, ...]:
    rng = np.random.default_rng(0)  # a subset of the same voxels each time
    found = []
    for number in range(1, labels + 1):
        at = np.flatnonzero(mask == number)
        some = at if len(at) <= _PLACES else rng.choice(at, _PLACES, replace=False)
        found.append(np.stack(np.unravel_index(some, mask.shape), axis=1).astype(np.int32))
    return tuple(found)


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


def window_of(item: Item, plan: Plan, rng: np.random.Generator, *, on_label: bool) -> tuple[Array, Array]:
    """A patch of a case, centred near a label if asked for; what lies outside the image is 0 and background."""
    assert item.mask is not None, "a segmentation has masks"
    shape = np.asarray(item.mask.shape)
    size = np.asarray((1, *plan.patch) if plan.preparation.dims == 2 else plan.patch)
    there = [places for places in item.places if len(places)]
    centre = None
    if on_label and there:
        places = there[rng.integers(len(there))]
        centre = places[rng.integers(len(places))]
    start = start_of(shape, size, centre, rng)
    if centre is not None and plan.preparation.dims == 2:
        start[0] = centre[0]
    inside, onto = spans(start, size, shape)
    image = cut(item.image, start, size)
    mask = np.zeros(tuple(size), np.int64)
    mask[onto] = item.mask[inside]
    return (image[:, 0], mask[0]) if plan.preparation.dims == 2 else (image, mask)
