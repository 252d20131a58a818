"""What a data set is like: sizes, spacings, intensities, classes. The plan follows from it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from isocenter.data.dataset import Answers, Dataset, Sample, natural, stated_number
from isocenter.data.geometry import Space
from isocenter.data.labels import LabelMap
from isocenter.data.objects import components_of
from isocenter.data.provenance import Json
from isocenter.data.volume import Quantity, Volume
from isocenter.errors import InputError, IsocenterError
from isocenter.inference.placed import within
from isocenter.inference.prepare import absent_channels, oriented
from isocenter.training.images.loading import Read
from isocenter.training.images.tasks.objects import OBJECT
from isocenter.types import Array, Progress

_MOST_CASES = 400
_MOST_VALUES = 20_000


@dataclass(frozen=True)
class Fingerprint:
    """A data set, described.

    Args:
        cases: how many.
        patients: how many, or None where unknown.
        shapes: of the cases that were looked at, as (d, h, w).
        spacings: in mm; empty where there is none.
        channels: of an image.
        quantity: what intensities measure.
        whole_numbers: images are 8-bit pictures.
        intensity: per channel: minimum, 0.5 %, mean, deviation, 99.5 %, maximum of the foreground (of the image,
            where no label is).
        classes: class -> cases.
        labels: value -> name.
        label_share: value -> mean share of the image's voxels.
        box: median extent of the foreground, as (d, h, w).
        edges: of each object, as (d, h, w) in voxels of its image.
        owners: number of the looked-at case that each object lies in.
        targets: every class or value that a case states.
        scale: mean and deviation of the values that are stated, where they are numbers.
        frames: of each sequence that was looked at; empty: the cases are images.
        each_frame: the frames of a sequence are labelled, not the whole.
        paired: cases state a better image.
        masks: objects are drawn, not only boxed.
        failed: cases that could not be read.
        oriented: the shapes along the patient's axes, as (d, h, w).
    """

    cases: int
    patients: int | None
    shapes: tuple[tuple[int, int, int], ...] = field(repr=False)
    spacings: tuple[tuple[float, float, float], ...] = field(repr=False)
    channels: int
    quantity: str
    whole_numbers: bool
    intensity: tuple[Mapping[str, float], ...]
    classes: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[int, str] = field(default_factory=dict)
    label_share: Mapping[int, float] = field(default_factory=dict)
    box: tuple[int, int, int] | None = None
    edges: tuple[tuple[float, float, float], ...] = field(default=(), repr=False)
    owners: tuple[int, ...] = field(default=(), repr=False)
    masks: bool = False
    scale: tuple[float, float] = (0.0, 1.0)
    frames: tuple[int, ...] = ()
    each_frame: bool = False
    paired: bool = False
    targets: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    oriented: tuple[tuple[int, int, int], ...] = field(default=(), repr=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Median shape."""
        found = np.median(np.asarray(self.shapes), axis=0)
        return int(found[0]), int(found[1]), int(found[2])

    @property
    def spacing(self) -> tuple[float, float, float] | None:
        """Median spacing in mm; None where some image has none."""
        if len(self.spacings) < len(self.shapes):
            return None
        found = np.median(np.asarray(self.spacings), axis=0)
        return float(found[0]), float(found[1]), float(found[2])

    def laid(self, dims: int) -> tuple[tuple[int, ...], bool]:
        """Median shape as networks of whole images lay them out, and whether that is along the patient's axes."""
        if dims == 2:
            return self.shape[1:], False
        if self.spacing is None or not self.oriented:
            return self.shape, False
        return tuple(int(n) for n in np.median(np.asarray(self.oriented), axis=0)), True

    def as_json(self) -> dict[str, Json]:
        """Plain data."""
        sizes = np.asarray(self.shapes)
        return {
            "cases": self.cases,
            "patients": self.patients,
            "channels": self.channels,
            "quantity": self.quantity,
            "whole_numbers": self.whole_numbers,
            "shape": {
                "least": sizes.min(axis=0).tolist(),
                "median": list(self.shape),
                "most": sizes.max(axis=0).tolist(),
            },
            "spacing_mm": None if self.spacing is None else list(self.spacing),
            "intensity": [dict(one) for one in self.intensity],
            "classes": dict(self.classes),
            "labels": {str(k): v for k, v in self.labels.items()},
            "label_share": {str(k): v for k, v in self.label_share.items()},
            "objects": len(self.edges),
            "frames": {"least": min(self.frames), "most": max(self.frames)} if self.frames else None,
            "failed": list(self.failed),
        }


def answers_of(data: Dataset) -> Answers:
    """What a data set is labelled with, where nobody says.

    Raises: InputError where it could be either, or nothing is stated.
    """
    if any(sample.objects is not None for sample in data.samples):
        return "detect"
    if any(sample.goal is not None for sample in data.samples):
        return "enhance"
    masks = sum(sample.mask is not None for sample in data.samples)
    targets = [text for sample in data.samples for text in (sample.target, *sample.targets) if text]
    if masks and targets:
        raise InputError(f"{data.path}: has label maps and targets: say which with --task")
    if masks:
        return "segment"
    if not targets:
        raise InputError(
            f"{data.path}: states no label: say with --task what shall be learnt from images alone "
            "(enhance, generate, anomaly, forecast)"
        )
    numbers = sum(_is_number(t) for t in targets)
    if numbers < len(targets):
        return "classify"
    several, broken = len(set(targets)), any(not float(t).is_integer() for t in targets)
    return "regress" if broken or several > max(20, len(targets) // 4) else "classify"


def fingerprint(
    data: Dataset, task: Answers, read: Read, *, most: int | None = _MOST_CASES, on_progress: Progress | None = None
) -> Fingerprint:
    """Look at the cases, or at so many of them, evenly; `most` None: at all.

    Raises: InputError where none can be read, or their channels differ.
    """
    step = 1 if most is None else max(1, len(data.samples) // most)
    seen = _Seen(task)
    for number, sample in enumerate(data.samples[::step]):
        if on_progress and number % 16 == 0:
            on_progress("looking at cases", number, len(data.samples) // step)
        try:
            loaded = read(sample)
            volume, labels = loaded.image, loaded.labels
            if loaded.cine is not None:
                volume = loaded.cine.frame(len(loaded.cine) // 2)
                seen.frames.append(len(loaded.cine))
            absent = absent_channels(volume)
            if not absent:
                volume.require_finite()
            seen.add(volume, labels)
            if task == "detect":
                seen.add_objects(sample, volume, labels, dict(data.labels))
        except IsocenterError as error:
            seen.failed.append(f"{sample.case}: {error}")
    if not seen.shapes:
        raise InputError(f"{data.path}: no case can be read: {seen.failed[0] if seen.failed else 'there is none'}")
    channels = Counter(seen.channels).most_common()
    if len(channels) > 1:
        raise InputError(
            f"{data.path}: some images have {channels[0][0]} channels and some {channels[1][0]}: bring one kind"
        )
    empty = [number for number, values in enumerate(seen.values) if not values]
    if empty:
        name = data.channels[empty[0]] if empty[0] < len(data.channels) else f"channel {empty[0]}"
        raise InputError(
            f"{data.path}: none of the {len(seen.shapes)} cases looked at has the image {name!r}: leave it away"
        )
    names = dict(data.labels) or dict(sorted(seen.names.items()))
    named = task == "classify" or (task == "generate" and _has_classes(data))
    stated = [text for s in data.samples for text in (s.targets or (s.target,)) if text]
    counts = Counter(stated) if named else seen.kinds
    classes = data.classes() if named else tuple(sorted(counts, key=natural))
    return Fingerprint(
        len(data.samples), len({s.patient for s in data.samples}) if data.known_patients else None, tuple(seen.shapes),
        tuple(seen.spacings), channels[0][0], seen.quantity, seen.whole, seen.intensities(),
        {name: counts[name] for name in classes}, names if task == "segment" else seen.by_value,
        {v: float(np.mean(s)) for v, s in sorted(seen.shares.items())}, seen.box(), tuple(seen.edges),
        tuple(seen.owners), seen.masks, _scale_of(stated, task),
        tuple(seen.frames), any(s.targets for s in data.samples),
        any(s.goal is not None for s in data.samples),
        data.classes(), tuple(seen.failed), tuple(seen.oriented),
    )  # fmt: skip


def _has_classes(data: Dataset) -> bool:
    """Every case states a class, and each class stands for several."""
    counts = Counter(s.target for s in data.samples)
    return "" not in counts and 2 <= len(counts) <= max(2, len(data.samples) // 10)


def _scale_of(stated: Sequence[str], task: Answers) -> tuple[float, float]:
    values = [float(text) for text in stated if _is_number(text)] if task == "regress" else []
    return (float(np.mean(values)), float(np.std(values)) or 1.0) if values else (0.0, 1.0)


class _Seen:
    """What has been seen so far."""

    def __init__(self, task: Answers) -> None:
        self.task = task
        self.shapes: list[tuple[int, int, int]] = []
        self.oriented: list[tuple[int, int, int]] = []
        self.spacings: list[tuple[float, float, float]] = []
        self.channels: list[int] = []
        self.quantities: set[Quantity] = set()
        self.whole = True
        self.values: list[list[Array]] = []
        self.names: dict[int, str] = {}
        self.shares: dict[int, list[float]] = {}
        self.boxes: list[Any] = []
        self.kinds: Counter[str] = Counter()
        self.by_value: dict[int, str] = {}
        self.edges: list[tuple[float, float, float]] = []
        self.owners: list[int] = []
        self.drawn = False
        self.outlined = [0, 0]
        self.frames: list[int] = []
        self.failed: list[str] = []
        self.rng = np.random.default_rng(0)

    def add(self, volume: Volume, labels: LabelMap | None) -> None:
        if self.task == "segment" and labels is None:
            raise InputError("has no label map")
        self.shapes.append(volume.geometry.shape)
        there = volume.geometry.space is Space.PATIENT
        self.oriented.append(oriented(volume.geometry).shape if there else volume.geometry.shape)
        if volume.geometry.space is not Space.PIXELS:
            self.spacings.append(volume.geometry.spacing_mm)
        self.channels.append(volume.channels)
        self.quantities.add(volume.quantity)
        self.whole &= volume.voxels.dtype == np.uint8
        inside = None
        if labels is not None and self.task == "segment":
            inside = labels.foreground
            for label in labels.labels:
                share = float(np.mean(labels.voxels == label.value))
                if share:
                    name = _name(label.name, label.value)
                    known = self.names.setdefault(label.value, name)
                    if known != name:
                        raise InputError(f"calls the label {label.value} {name!r}, and cases before it {known!r}")
                    self.shares.setdefault(label.value, []).append(share)
            at = np.argwhere(inside)
            if len(at):
                self.boxes.append(at.max(axis=0) - at.min(axis=0) + 1)
        self.add_values(volume, inside)

    def add_values(self, volume: Volume, inside: Array | None) -> None:
        """Some intensities of each channel; of one that the case lacks, none."""
        for i, channel in enumerate(volume.voxels):
            if len(self.values) <= i:
                self.values.append([])
            if channel.dtype.kind == "f" and np.isnan(channel.flat[0]):
                continue  # a modality that the case lacks
            own = channel[inside] if inside is not None and inside.any() else channel.ravel()
            some = own if len(own) <= _MOST_VALUES else own[self.rng.integers(0, len(own), _MOST_VALUES)]
            self.values[i].append(np.asarray(some, np.float32))

    def add_objects(self, sample: Sample, volume: Volume, labels: LabelMap | None, names: Mapping[int, str]) -> None:
        """Sizes and classes of the objects of a case that was just added."""
        if labels is None:
            kept, wrong = within(sample.objects or (), volume.geometry)
            self.failed += [f"{sample.case}: {text}" for text in wrong]
            rows = [(one.name, box) for one, box in kept]
            for one, _ in kept:
                self.outlined[bool(one.outline)] += not one.ignored
        else:
            self.drawn = True
            values = sorted({int(v) for v in np.unique(labels.voxels) if v})
            kinds = [names.get(value, OBJECT) for value in values]
            boxes, numbers, _ = components_of(labels.voxels, {value: i for i, value in enumerate(values)})
            rows = [(kinds[i], box) for i, box in zip(numbers, boxes, strict=True)]
            self.by_value |= dict(zip(values, kinds, strict=True)) if names else {}
        for name, box in rows:
            self.kinds[name] += 1
            d, h, w = (float(n) for n in box[1] - box[0])
            self.edges.append((d, h, w))
            self.owners.append(len(self.shapes) - 1)

    @property
    def masks(self) -> bool:
        """Every object is drawn, not only boxed."""
        return self.drawn or (self.outlined[True] > 0 and not self.outlined[False])

    @property
    def quantity(self) -> str:
        return str(next(iter(self.quantities))) if len(self.quantities) == 1 else str(Quantity.ARBITRARY)

    def intensities(self) -> tuple[dict[str, float], ...]:
        found = []
        for values in self.values:
            joined = np.concatenate(values).astype(np.float64)
            low, high = np.percentile(joined, (0.5, 99.5))
            found.append({
                "least": float(joined.min()), "low": float(low), "mean": float(joined.mean()),
                "deviation": float(joined.std()), "high": float(high), "most": float(joined.max()),
            })  # fmt: skip
        return tuple(found)

    def box(self) -> tuple[int, int, int] | None:
        if not self.boxes:
            return None
        found = np.median(np.asarray(self.boxes), axis=0)
        return int(found[0]), int(found[1]), int(found[2])


def _name(name: str, value: int) -> str:
    """A label's name; its number where the file has none."""
    return str(value) if name in ("label", f"label {value}") else name


def _is_number(text: str) -> bool:
    try:
        stated_number(text)
    except InputError:
        return False
    return True
