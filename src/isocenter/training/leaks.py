"""What must not stand on both sides of a split: patients, rows, images, and images that are nearly the same."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import combinations

import numpy as np

from isocenter.data.provenance import Json
from isocenter.types import Array

KINDS = ("patient", "image", "row", "near-image")
_GRID = 16
_NEAR = 0.06
"""Largest root mean square difference of two standardised thumbnails that are called near."""


@dataclass(frozen=True)
class Leak:
    """One thing that stands on two sides.

    Args:
        kind: one of `KINDS`.
        left: `split/name` of one side, the training side where there is one.
        right: of the other.
        distance: of near images; 0 is the same.
    """

    kind: str
    left: str
    right: str
    distance: float | None = None

    def as_json(self) -> dict[str, Json]:
        """Plain data."""
        out: dict[str, Json] = {"kind": self.kind, "left": self.left, "right": self.right}
        return out if self.distance is None else {**out, "distance": round(self.distance, 4)}


@dataclass(frozen=True, eq=False)
class Item:
    """One row or image of a data set.

    Args:
        name: within its split.
        split: `train`, `val`, `test`, or empty.
        patient: empty where unknown.
        content: hash of what it holds.
        picture: small standardised grey picture, for near images; None for rows.
    """

    name: str
    split: str
    patient: str
    content: str
    picture: Array | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Checked:
    """Leaks between splits, and repeats within one; of labelled images also what they are, and what is wrong."""

    leaks: tuple[Leak, ...]
    repeats: tuple[Leak, ...]
    items: int
    splits: Mapping[str, int]
    about: Mapping[str, Json] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Json]:
        """Plain data."""
        return {
            "leaks": [leak.as_json() for leak in self.leaks],
            "repeats": [leak.as_json() for leak in self.repeats],
            "items": self.items,
            "splits": dict(self.splits),
            "about": dict(self.about),
            "problems": list(self.problems),
        }


def check(items: Sequence[Item], *, kind: str, near: bool = True) -> Checked:
    """Compare every item with every other one.

    Identical contents are exact. Near images are those whose standardised thumbnails differ little, as they lie or
    mirrored: rescaled, mirrored and re-encoded copies; each is stated with its distance and is no proof.

    Args:
        items: of all splits.
        kind: what an identical content is called: `image` or `row`.
        near: look for near images.
    """
    leaks: list[Leak] = []
    repeats: list[Leak] = []
    groups: dict[tuple[str, str], list[Item]] = {}
    for item in items:
        groups.setdefault((kind, item.content), []).append(item)
    for (name, _), same in groups.items():
        firsts: dict[str, Item] = {}  # every item is laid beside the first of its kind in each split before it
        for item in same:
            for split, first in firsts.items():
                (repeats if split == item.split else leaks).append(Leak(name, _said(first), _said(item)))
            firsts.setdefault(item.split, item)
    leaks += _patients(items)
    if near:
        for one, other, distance in _near_pairs(items):
            _sort(Leak("near-image", _said(one), _said(other), distance), one, other, leaks, repeats)
    counts = {split: sum(item.split == split for item in items) for split in dict.fromkeys(i.split for i in items)}
    return Checked(tuple(leaks), tuple(repeats), len(items), counts)


def content_of(array: Array) -> str:
    """Hash of an array's shape and values."""
    plain = np.ascontiguousarray(array)
    return sha256(f"{plain.shape}{plain.dtype}".encode() + plain.tobytes()).hexdigest()


def thumbnail_of(grid: Array) -> Array:
    """A picture of 16 x 16 with mean 0 and deviation 1; of a volume, its middle slice."""
    from scipy import ndimage

    plane = np.asarray(grid, np.float64)
    while plane.ndim > 2:
        plane = plane[plane.shape[0] // 2]
    smooth = ndimage.gaussian_filter(plane, [max(0.0, n / _GRID / 2 - 0.5) for n in plane.shape])
    zoomed = np.asarray(ndimage.zoom(smooth, [_GRID / n for n in plane.shape], order=1, grid_mode=True, mode="nearest"))
    spread = zoomed.std()
    return np.asarray((zoomed - zoomed.mean()) / (spread or 1.0), np.float32)


def _said(item: Item) -> str:
    return f"{item.split}/{item.name}" if item.split else item.name


def _sort(leak: Leak, one: Item, other: Item, leaks: list[Leak], repeats: list[Leak]) -> None:
    (repeats if one.split == other.split else leaks).append(leak)


def _patients(items: Sequence[Item]) -> list[Leak]:
    """One leak for each patient and pair of splits."""
    where: dict[str, dict[str, Item]] = {}
    for item in items:
        if item.patient:
            where.setdefault(item.patient, {}).setdefault(item.split, item)
    return [
        Leak("patient", _said(one), _said(other))
        for splits in where.values()
        for one, other in combinations(splits.values(), 2)
    ]


def _near_pairs(items: Sequence[Item]) -> list[tuple[Item, Item, float]]:
    """Pairs of pictures that differ little and are not identical, as they lie or mirrored."""
    with_picture = [item for item in items if item.picture is not None]
    if len(with_picture) < 2:
        return []
    flat = np.stack([np.asarray(item.picture).ravel() for item in with_picture]).astype(np.float32)
    mirrored = np.stack([np.asarray(item.picture)[:, ::-1].ravel() for item in with_picture]).astype(np.float32)
    norms = (flat**2).sum(axis=1)
    found = []
    for begin in range(0, len(flat), 1024):
        rows = slice(begin, min(begin + 1024, len(flat)))
        for other in (flat, mirrored):
            square = norms[rows, None] + norms - 2 * flat[rows] @ other.T
            distance = np.sqrt(np.maximum(square, 0) / flat.shape[1])
            for i, j in np.argwhere(distance < _NEAR):
                one, second = with_picture[begin + i], with_picture[j]
                if begin + i < j and one.content != second.content:
                    found.append((one, second, float(distance[i, j])))
    unique = {(id(one), id(other)): (one, other, distance) for one, other, distance in reversed(found)}
    return list(unique.values())


def hashes_of(texts: Iterable[str], salt: str) -> list[str]:
    """Salted hashes of names or contents: enough to know something again, not to name it."""
    return sorted({sha256(f"{salt}{text}".encode()).hexdigest()[:20] for text in texts})
