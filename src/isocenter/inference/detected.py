"""From a prepared image to objects: what windows, flips and networks say of one object becomes one box."""

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np

from isocenter.inference.model import Spec
from isocenter.inference.object_masks import cut
from isocenter.inference.sliding import Told, starts
from isocenter.networks.detector import Found
from isocenter.ops.boxes import clustered
from isocenter.types import Array

Find = Callable[[Array], list[Found]]
"""Prepared windows (`b c *w`) -> what is found in each, in voxels of the window."""
_OVERLAP = 0.5
"""From which what two views say is of one object: as a network's own answers are told apart. With less, flips merged
touching cells into one."""


def detected(
    networks: Sequence[Find],
    image: Array,
    spec: Spec,
    *,
    overlap: float = 0.5,
    flips: bool = True,
    on_progress: Told | None = None,
) -> Found:
    """Objects of an image (`c d h w`), boxes as `k 2 3` in its voxels, the surest first.

    Args:
        networks: each looks at every window.
        image: prepared.
        spec: of the networks: windows as large as their patch.
        overlap: of windows.
        flips: look at the model's flips too.
        on_progress: told how many windows are done.
    """
    size = (1, *spec.patch) if spec.flat else spec.patch
    places = list(product(*(starts(n, s, overlap) for n, s in zip(image.shape[1:], size, strict=True))))
    ways = _ways(spec.flips if flips else ())
    parts: list[Found] = []
    weights: list[Array] = []
    for number, place in enumerate(places):
        window = _window(image, place, size)
        for way in ways:
            turned = np.flip(window, tuple(1 + a for a in way)) if way else window
            for network in networks:
                found = network(np.ascontiguousarray(turned[:, 0] if spec.flat else turned)[None])[0]
                part = _back(found, way, place, size, flat=spec.flat)
                parts.append(part)
                weights.append(_middle(part.boxes, place, size))
        if on_progress:
            on_progress(number + 1, len(places))
    if len(parts) == 1:
        return _within(parts[0], image.shape[1:])
    return _within(_merged(parts, weights, places, size, views=len(ways) * len(networks)), image.shape[1:])


def _ways(flips: tuple[int, ...]) -> list[tuple[int, ...]]:
    bits = product((False, True), repeat=len(flips))
    return [tuple(a for a, on in zip(flips, row, strict=True) if on) for row in bits]


def _window(image: Array, place: tuple[int, ...], size: tuple[int, ...]) -> Array:
    inside = tuple(slice(max(0, a), min(a + n, m)) for a, n, m in zip(place, size, image.shape[1:], strict=True))
    onto = tuple(slice(s.start - a, s.stop - a) for s, a in zip(inside, place, strict=True))
    out = np.zeros((image.shape[0], *size), np.float32)
    out[(slice(None), *onto)] = image[(slice(None), *inside)]
    return out


def _back(found: Found, way: tuple[int, ...], place: tuple[int, ...], size: tuple[int, ...], *, flat: bool) -> Found:
    """What was found in a window, unflipped, as boxes of the image."""
    boxes = found.boxes
    if flat:
        depth = np.broadcast_to(np.asarray([[[0.0], [1.0]]]), (len(boxes), 2, 1))
        boxes = np.concatenate((depth, boxes), axis=2)
    masks = found.masks
    for axis in way:
        turned = size[axis] - boxes[:, ::-1, axis]
        boxes = boxes.copy()
        boxes[:, :, axis] = turned
        if masks is not None:
            masks = np.flip(masks, axis if flat else axis + 1)
    return Found(boxes + np.asarray(place, np.float64), found.scores, found.classes, masks)


def _middle(boxes: Array, place: tuple[int, ...], size: tuple[int, ...]) -> Array:
    """Weight of each box of a window: 1 in its middle, less towards the edge, where objects are cut."""
    half = np.asarray(size) / 2
    away = np.abs(boxes.mean(axis=1) - np.asarray(place) - half) / half
    away = away[:, np.asarray(size) > 1]
    return np.asarray(np.exp(-2 * (away**2).mean(axis=1))) if away.size else np.ones(len(boxes))


def _merged(
    parts: Sequence[Found],
    weights: Sequence[Array],
    places: Sequence[tuple[int, ...]],
    size: tuple[int, ...],
    *,
    views: int,
) -> Found:
    """One box for each object; where masks are drawn, box and mask are those of the surest view."""
    boxes = np.concatenate([p.boxes for p in parts])
    scores, classes = np.concatenate([p.scores for p in parts]), np.concatenate([p.classes for p in parts])
    centres = boxes.mean(axis=1)
    low = np.asarray(places)[None]
    inside = ((centres[:, None] >= low) & (centres[:, None] < low + np.asarray(size))).all(axis=2)
    expected = views * np.maximum(inside.sum(axis=1), 1)
    found = clustered(
        boxes, scores, classes, overlap=_OVERLAP, weights=np.concatenate(weights), expected=expected.astype(np.float64)
    )
    if any(p.masks is None for p in parts):
        return Found(found.boxes, found.scores, found.classes)
    masks = np.concatenate([p.masks for p in parts if p.masks is not None])
    return Found(boxes[found.best], found.scores, found.classes, masks[found.best])


def _within(found: Found, shape: tuple[int, ...]) -> Found:
    """Boxes cut at the image's edge; those that lie beyond it go."""
    boxes = np.clip(found.boxes, 0, np.asarray(shape, np.float64))
    there = np.flatnonzero((boxes[:, 1] > boxes[:, 0]).all(axis=1))
    masks = None if found.masks is None else cut(found.masks, found.boxes, boxes)
    return Found(boxes, found.scores, found.classes, masks).only(there)
