"""Objects of each image: windows with their boxes to learn from, whole cases to judge by."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from isocenter.data.dataset import Loaded, Sample
from isocenter.data.labels import LabelMap
from isocenter.data.objects import Boxed, components_of
from isocenter.data.volume import Volume
from isocenter.errors import InputError
from isocenter.inference.detected import Find, detected
from isocenter.inference.object_masks import outlined
from isocenter.inference.placed import boxed, to_network, within
from isocenter.inference.prepare import Prepared, prepare_labels
from isocenter.inference.torch_runtime import DetectorRuntime
from isocenter.metrics.detection import Scan, average_precision, matched
from isocenter.networks.detector import Found, Truth, Truths
from isocenter.ops.window import cut, spans
from isocenter.training.images import augment
from isocenter.training.images.batches import Batch, Sampler, start_of
from isocenter.training.images.plan import Plan
from isocenter.training.images.store import Item, Store
from isocenter.training.images.tasks.task import StepLoss, Task, images_of, prepared
from isocenter.training.images.validation import Validated
from isocenter.types import Array

OBJECT = "object"
"""Class of what has no other name."""
_SEEN = 0.3
"""Share of an object that a window must hold for it to be learnt from."""


class Objects(Task):
    """Boxes (and masks, where they are known) of the objects of each image."""

    def item(self, sample: Sample, loaded: Loaded, plan: Plan) -> Item:
        """An image with its objects on the network's grid."""
        ready = prepared(sample, loaded, plan)
        labels = loaded.labels
        if sample.objects is None and labels is None:
            raise InputError("has no objects marked, and is not marked as empty")
        if plan.preparation.dims == 2 and ready.array.shape[1] != 1:
            raise InputError(f"has {ready.array.shape[1]} slices, and objects are looked for in pictures")
        found = _marked(sample, loaded.image, ready, plan) if labels is None else _drawn(labels, plan)
        return Item(sample, ready.array, np.nan, objects=found)

    def batch(self, sampler: Sampler, step: int) -> Batch:
        """Windows, some of them about an object, with the objects that they hold."""
        plan, rng = sampler.plan, sampler.rng(step)
        images, kept, masks = [], [], []
        for number in range(sampler.count):
            item = sampler.by_person(rng)
            image, boxes, mask = window_of(item, plan, rng, on_object=number / sampler.count >= 1 - plan.foreground)
            images.append(image)
            kept.append(boxes)
            masks.append(mask)
        stacked = torch.from_numpy(np.stack(images))
        drawn = augment.without_mixture(augment.draw(plan, plan.patch, len(images), rng))
        known = [mask is not None for mask in masks]
        truth = None
        if any(known):
            blank = np.zeros(plan.patch, np.int64)
            truth = torch.from_numpy(np.stack([blank if mask is None else mask for mask in masks]))
        moved, moved_truth = augment.apply(drawn, stacked, truth)
        truths = []
        for i, (corners, classes) in enumerate(kept):
            if known[i] and moved_truth is not None:
                truths.append(_seen_again(moved_truth[i], classes))
            else:
                truths.append(_moved(drawn, i, corners, classes, plan.patch))
        return Batch(moved, tuple(truths), drawn)

    def loss(self, plan: Plan) -> StepLoss:
        """The network's own losses."""

        def value(network: nn.Module, batch: Batch, turn: str) -> Tensor:
            images = images_of(batch, plan, network)
            assert isinstance(batch.target, tuple), "targets of a detection are objects"
            answer: Tensor = network(images, Truths([_on(truth, images.device) for truth in batch.target]))
            return answer

        return value

    def lacking(self, store: Store, plan: Plan) -> str:
        """One of them must hold an object that counts."""
        there = any(item.objects is not None and (~item.objects.ignored).any() for item in store.items)
        return "" if there else "holds an object that counts, so nothing could be judged"

    def run(self, networks: Sequence[nn.Module], plan: Plan, device: str) -> tuple[Find, ...]:
        """Each network by itself: what they say is merged box by box."""
        return tuple(DetectorRuntime(network, precision=plan.precision, device=device) for network in networks)

    def validate(self, run: Sequence[Find], store: Store, plan: Plan, *, thorough: bool = False) -> Validated:
        """Average precision; better is a larger mean of that at an overlap of a half and of all."""
        spec = plan.spec
        found = [
            detected(run, np.asarray(item.image), spec, overlap=0.5 if thorough else 0.25, flips=thorough)
            for item in store.items
        ]
        scans = [scan_of(item.objects, one) for item, one in zip(store.items, found, strict=True)]
        table = np.asarray([average_precision(matched(scans, k)) for k in range(len(plan.classes))])
        metrics = {f"ap50/{name}": float(row[0]) for name, row in zip(plan.classes, table, strict=True)}
        known = table[np.isfinite(table[:, 0])]
        metrics["map50"] = float(known[:, 0].mean()) if len(known) else 0.0
        metrics["map75"] = float(known[:, 5].mean()) if len(known) else 0.0
        metrics["map"] = float(known.mean()) if len(known) else 0.0
        goodness = (metrics["map50"] + metrics["map"]) / 2
        return Validated(goodness, metrics, found=tuple(found))


def scan_of(stated: Boxed | None, found: Found) -> Scan:
    """Truth and answers of one image, as the metrics take them."""
    assert stated is not None, "a detection has objects"
    return Scan(stated.boxes, stated.classes, stated.ignored, found.boxes, found.classes, found.scores)


def _marked(sample: Sample, volume: Volume, ready: Prepared, plan: Plan) -> Boxed:
    """Boxes as a data set states them, on the network's grid; with their masks, where all are outlined."""
    stated = boxed(sample.objects or (), plan.classes, volume.geometry)
    kept, _ = within(sample.objects or (), volume.geometry)
    return replace(stated, boxes=to_network(stated.boxes, ready), instances=outlined([m for m, _ in kept], ready))


def _drawn(labels: LabelMap, plan: Plan) -> Boxed:
    """Every connected piece of every label, on the network's grid."""
    there = {label.value: label.name for label in labels.labels}
    named = plan.labels  # value -> class
    values = {
        value: plan.classes.index(named.get(value, OBJECT))
        for value in there
        if named.get(value, OBJECT) in plan.classes
    }
    lost = sorted(set(there) - set(values))
    if lost and any((labels.voxels == value).any() for value in lost):
        raise InputError(f"holds the label value {lost[0]}, which the plan does not know")
    grid = prepare_labels(labels, plan.preparation, tuple(values))
    boxes, classes, pieces = components_of(grid, {i + 1: kind for i, kind in enumerate(values.values())})
    return Boxed(boxes, classes, np.zeros(len(classes), np.bool_), pieces)


def window_of(
    item: Item, plan: Plan, rng: np.random.Generator, *, on_object: bool
) -> tuple[Array, tuple[Array, Array], Array | None]:
    """A window of a case: image, boxes and classes of the objects in it, and their mask, if known (numbered from 1).

    Objects that are ignored are not learnt from.
    """
    stated = item.objects
    assert stated is not None, "a detection has objects"
    dims = plan.preparation.dims
    shape = np.asarray(item.image.shape[1:])
    size = np.asarray((1, *plan.patch) if dims == 2 else plan.patch)
    centre = None
    if on_object and len(stated):
        centre = stated.boxes[rng.integers(len(stated))].mean(axis=0).astype(np.int64)
    start = start_of(shape, size, centre, rng)
    inside, onto = spans(start, size, shape)
    image = cut(item.image, start, size)
    boxes = stated.boxes - start
    seen = _share_inside(boxes, tuple(int(n) for n in size)) >= _SEEN
    own = np.flatnonzero(seen & ~stated.ignored)
    mask = None
    if stated.instances is not None:
        table = np.zeros(len(stated) + 1, np.int64)
        table[own + 1] = np.arange(1, len(own) + 1)
        mask = np.zeros(tuple(size), np.int64)
        mask[onto] = table[stated.instances[inside]]
    kept = np.clip(boxes[own], 0, size)
    if dims == 2:
        return image[:, 0], (kept[:, :, 1:], stated.classes[own]), None if mask is None else mask[0]
    return image, (kept, stated.classes[own]), mask


def _share_inside(boxes: Array, size: tuple[int, ...]) -> Array:
    whole = np.prod(np.maximum(boxes[:, 1] - boxes[:, 0], 1e-9), axis=1)
    held = np.clip(boxes, 0, np.asarray(size, np.float64))
    return np.asarray(np.prod(np.maximum(held[:, 1] - held[:, 0], 0), axis=1) / whole)


def _moved(drawn: augment.Drawn, number: int, boxes: Array, classes: Array, size: tuple[int, ...]) -> Truth:
    """Boxes after flips and the affine movement; those that are left outside for the most part go."""
    there = augment.moved_boxes(drawn, number, boxes, size)
    kept = np.flatnonzero(_share_inside(there, size) >= _SEEN) if len(there) else np.zeros(0, np.int64)
    inside = np.clip(there[kept], 0, np.asarray(size, np.float64))
    return Truth(torch.from_numpy(inside).float().reshape(-1, 2, len(size)), torch.from_numpy(classes[kept]))


def _seen_again(mask: Tensor, classes: Array) -> Truth:
    """Objects of a mask that was moved: their boxes are drawn about what is left of them."""
    grid = mask.numpy()
    from scipy import ndimage

    boxes, kinds = [], []
    renumbered = torch.zeros_like(mask)
    for number, place in enumerate(ndimage.find_objects(grid, max_label=len(classes))):
        if place is None or any(s.stop - s.start < 1 for s in place):
            continue
        boxes.append([[s.start for s in place], [s.stop for s in place]])
        kinds.append(int(classes[number]))
        renumbered[mask == number + 1] = len(boxes)
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 2, mask.ndim)
    return Truth(corners, torch.tensor(kinds, dtype=torch.int64), renumbered)


def _on(truth: Truth, device: Any) -> Truth:
    own = None if truth.instances is None else truth.instances.to(device)
    return Truth(truth.boxes.to(device), truth.classes.to(device), own)
