"""From prepared images to answers: label maps, probabilities of classes, values."""

from collections.abc import Sequence
from itertools import product

import numpy as np
from jaxtyping import Float

from isocenter.inference.model import Spec
from isocenter.inference.sliding import Forward, Told, Windows, slabs, softmax, tiles
from isocenter.types import Array


def windows_of(spec: Spec, *, overlap: float = 0.5, flips: bool = True, half: bool = False) -> Windows:
    """The windows in which a network was trained."""
    size = (1, *spec.patch) if spec.flat else spec.patch
    return Windows(
        (size[0], size[1], size[2]), overlap, spec.flips if flips else (), 4 if spec.flat else 1, half=half,
        values=spec.answer == "picture",
    )  # fmt: skip


def segmented(
    forward: Forward,
    image: Array,
    spec: Spec,
    windows: Windows,
    *,
    doubt: Array | None = None,
    on_progress: Told | None = None,
) -> Array:
    """Most probable output of each voxel (`d h w`), decided slab by slab.

    Args:
        forward: the network.
        image: prepared, `c d h w`.
        spec: of the network.
        windows: how it is walked over.
        doubt: float32 `d h w`, filled with the entropy of each voxel's probabilities; None: not asked for.
        on_progress: told how many windows are done.
    """
    out = np.zeros(image.shape[1:], np.uint8)
    if windows.halo is not None:
        for core, probability in tiles(forward, image, windows, flat=spec.flat, on_progress=on_progress):
            out[core] = probability.argmax(axis=0)
            if doubt is not None:
                doubt[core] = entropy(probability)
        return out
    for slab in slabs(forward, image, windows, outputs=spec.outputs, flat=spec.flat, on_progress=on_progress):
        _, depth, height, _ = slab.probability.shape
        here = (slice(slab.first, slab.first + depth), slice(slab.top, slab.top + height))
        out[here] = slab.probability.argmax(axis=0)
        if doubt is not None:
            doubt[here] = entropy(slab.probability)
    return out


def enhanced(forward: Forward, image: Array, spec: Spec, windows: Windows) -> Array:
    """A better image (`c d h w`) from one that is prepared and lies on the answer's grid already; see `segmented`."""
    out = np.zeros((spec.outputs, *image.shape[1:]), np.float32)
    if windows.halo is not None:
        for core, values in tiles(forward, image, windows, flat=spec.flat):
            out[(slice(None), *core)] = values
        return out
    for slab in slabs(forward, image, windows, outputs=spec.outputs, flat=spec.flat):
        _, depth, height, _ = slab.probability.shape
        out[:, slab.first : slab.first + depth, slab.top : slab.top + height] = slab.probability
    return out


def entropy(probability: Float[Array, "k *s"]) -> Float[Array, "*s"]:
    """Entropy over the outputs as a share of the largest: 0 where one is certain, 1 where all are alike.

    Source: C. Shannon, Bell Syst. Tech. J. 27:379-423, 1948.
    """
    p = np.clip(probability, 1e-12, 1)
    p = p / p.sum(axis=0)
    return np.asarray(-(p * np.log(p)).sum(axis=0) / np.log(len(p)), np.float32)


def scored(forward: Forward, images: Sequence[Array], spec: Spec, *, flips: bool = True, batch: int = 64) -> Array:
    """Probabilities (`n k`) or values (`n`) of whole images (each `c d h w`), mean over flips."""
    axes = [axis - (3 - spec.preparation.dims) for axis in spec.flips] if flips else []
    ways = [
        tuple(2 + a for a, on in zip(axes, bits, strict=True) if on)
        for bits in product((False, True), repeat=len(axes))
    ]
    found = []
    for begin in range(0, len(images), batch):
        some = np.stack(
            [np.asarray(image[:, 0] if spec.flat else image, np.float32) for image in images[begin : begin + batch]]
        )
        answers = [
            probabilities(forward(np.ascontiguousarray(np.flip(some, way)) if way else some), spec) for way in ways
        ]
        found.append(np.mean(answers, axis=0))
    joined = np.concatenate(found).astype(np.float64)
    return np.asarray(joined[:, 0] if spec.task == "regress" else joined)


def probabilities(logits: Array, spec: Spec) -> Array:
    """What the network's numbers mean."""
    if spec.answer == "value":
        return np.asarray(logits * np.float32(spec.value_scale[1]) + np.float32(spec.value_scale[0]))
    if spec.answer == "picture":
        return logits
    if spec.answer == "sigmoid":
        each = 1 / (1 + np.exp(-np.clip(logits, -60, 60)))
        return np.asarray(each / each.sum(axis=1, keepdims=True))
    return softmax(logits)
