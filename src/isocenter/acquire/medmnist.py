"""MedMNIST's archives: arrays of pictures or small volumes, and of their classes."""

import math
from pathlib import Path

from isocenter.acquire.dataset_files import SPLITS
from isocenter.data.dataset import Dataset, Problem, Sample, Source
from isocenter.errors import InputError, UnreadableFile


def medmnist(path: Path) -> Dataset:
    """`train_images`, `train_labels` and the like.

    Source: J. Yang et al., Sci. Data 10:41, 2023.
    Raises: InputError, UnreadableFile for archives of other things.
    """
    from isocenter.formats import arrays

    samples: list[Sample] = []
    problems: list[Problem] = []
    heads = arrays.heads(path)
    if not any(name.endswith("_images") for name in heads):
        raise InputError(f"{path.name}: holds no train_images; it has {', '.join(heads)[:200]}")
    for name in heads:
        split = SPLITS.get(name.removesuffix("_images")) if name.endswith("_images") else None
        if split is None:
            continue
        truth = f"{name.removesuffix('_images')}_labels"
        if truth not in heads:
            raise InputError(f"{path.name}: has {name} and no {truth}")
        shape = heads[name].shape
        labels = arrays.read(path, truth)
        if labels.ndim == 2 and labels.shape[1] > 1:
            raise InputError(
                f"{path.name}: each image has {labels.shape[1]} labels at once; one class an image is trained"
            )
        labels = labels.reshape(-1)
        if len(labels) != shape[0] or labels.dtype.kind not in "iuf" or len(shape) not in (3, 4, 5):
            raise UnreadableFile(f"{path.name}: {name} is {shape}, {truth} {labels.shape} of {labels.dtype}")
        samples += [
            Sample(f"{split}/{i}", (Source(path, name, i),), target=_number_text(value), split=split)
            for i, value in enumerate(labels.tolist())
            if math.isfinite(value)
        ]
        problems += [
            Problem("its label is no number", f"{split}/{i}")
            for i, v in enumerate(labels.tolist())
            if not math.isfinite(v)
        ]
    return Dataset(path, "MedMNIST's archive", tuple(samples), problems=tuple(problems))


def _number_text(value: float) -> str:
    """A number without loss: whole ones without a point."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))
