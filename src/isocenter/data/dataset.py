"""Labelled images: what belongs to each case, and where it lies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from isocenter.data.cine import Cine
from isocenter.data.labels import LabelMap
from isocenter.data.volume import Volume
from isocenter.errors import InputError

Answers = Literal["classify", "regress", "segment", "detect", "enhance", "generate", "anomaly", "forecast"]
"""What a network does with images: say a class, a value, a label map, objects, whether one is unusual; make one
better; make new ones."""

PATIENT_COLUMNS = ("patient", "patient_id", "patientid", "subject", "subject_id", "患者", "患者编号", "病人编号")
"""Names of a table's column of patients, in small letters."""


@dataclass(frozen=True)
class Source:
    """Where one image or label map lies.

    Args:
        path: the file or folder.
        inside: array of an archive, or dataset of an HDF5 file; empty: the file itself.
        index: image within that array; None: all of it.
    """

    path: Path
    inside: str = ""
    index: int | None = None

    @property
    def absent(self) -> bool:
        """There is no such image of this case."""
        return self == ABSENT

    def __str__(self) -> str:
        text = f"{self.path}:{self.inside}" if self.inside else str(self.path)
        return text if self.index is None else f"{text}[{self.index}]"


ABSENT = Source(Path(), "absent")
"""A modality that a case lacks."""


@dataclass(frozen=True)
class Marked:
    """An object as a data set states it: a box.

    Args:
        name: class.
        low: corner (d, h, w): in voxels, where voxel i covers i to i + 1; or in patient millimetres (LPS: z, y, x).
        high: the other corner.
        frame: `voxels` or `mm`.
        ignored: neither found nor missed counts: difficult objects, crowds.
        outline: polygons (x, y, x, y, ... in voxels) of its mask; empty: only the box is known.
    """

    name: str
    low: tuple[float, float, float]
    high: tuple[float, float, float]
    frame: Literal["voxels", "mm"] = "voxels"
    ignored: bool = False
    outline: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class Sample:
    """One case.

    Args:
        case: its name, unlike all others.
        images: one, or several modalities in a fixed order; `ABSENT` where the case lacks one.
        patient: empty where unknown.
        target: class name, or value as text; empty where none is stated.
        sequence: its image holds frames in time.
        targets: the same of each frame of a sequence; empty where one is stated for all.
        times: seconds of each frame; empty: as the file says.
        mask: its label map.
        goal: the better image that it shall become, on its own grid.
        objects: what is marked in it; empty: nothing is there; None: nobody looked.
        split: `train`, `val`, `test`, or empty.
        site: institution.
        number: what the data set's own file calls it by, as COCO's image id; None: nothing.
        groups: columns for subgroups.
    """

    case: str
    images: tuple[Source, ...]
    patient: str = ""
    target: str = ""
    sequence: bool = False
    targets: tuple[str, ...] = ()
    times: tuple[float, ...] = ()
    mask: Source | None = None
    goal: Source | None = None
    objects: tuple[Marked, ...] | None = None
    split: str = ""
    site: str = ""
    number: int | str | None = None
    groups: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Loaded:
    """A case, read.

    Args:
        image: its images as the channels of one volume.
        labels: its label map, on the image's grid; None where it has none.
        goal: the better image; None where it has none.
        cine: all frames of a sequence; None for an image.
    """

    image: Volume
    labels: LabelMap | None = None
    goal: Volume | None = None
    cine: Cine | None = None


@dataclass(frozen=True)
class Problem:
    """What is wrong with a data set, or with one of its cases.

    Args:
        what: in words, as `has an image and no label map`.
        case: of which it is; empty: of none.
        row: of the table that says so, counted as a spreadsheet does; 0: none.
    """

    what: str
    case: str = ""
    row: int = 0

    def __str__(self) -> str:
        of = f"row {self.row} ({self.case})" if self.row else self.case
        return f"{of}: {self.what}" if of else self.what


@dataclass(frozen=True)
class Dataset:
    """Cases of one kind.

    Args:
        path: where it lies.
        kind: in words, as `folder of a class each`.
        samples: in natural order of their names.
        labels: value -> name of label maps, where the data set states names.
        channels: name of each image of a case.
        problems: what is wrong: images without labels, labels without images.
        notes: what was taken for granted, as patients from file names.
        answer: column that states each case's class or value; empty where it has no name of its own.
        categories: class -> the number by which the data set's own file calls it; empty where it has none.
    """

    path: Path
    kind: str
    samples: tuple[Sample, ...]
    labels: Mapping[int, str] = field(default_factory=dict)
    channels: tuple[str, ...] = ("image",)
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    answer: str = ""
    categories: Mapping[str, int] = field(default_factory=dict)

    @property
    def splits(self) -> dict[str, int]:
        """Cases of each split; empty where none is stated."""
        counts: dict[str, int] = {}
        for sample in self.samples:
            if sample.split:
                counts[sample.split] = counts.get(sample.split, 0) + 1
        return counts

    @property
    def known_patients(self) -> bool:
        """Every case states its patient."""
        return all(sample.patient for sample in self.samples)

    def of(self, split: str) -> "Dataset":
        """The cases of a split.

        Raises: InputError where there is none.
        """
        some = tuple(sample for sample in self.samples if sample.split == split)
        if not some:
            there = ", ".join(self.splits) or "none is stated"
            raise InputError(f"{self.path}: no case is of the split {split!r}; there are: {there}")
        return replace(self, samples=some)

    def without_splits(self) -> "Dataset":
        """The same cases as if no split were stated."""
        return replace(self, samples=tuple(replace(sample, split="") for sample in self.samples))

    def only(self, cases: Sequence[str]) -> "Dataset":
        """The cases of these names, in the data set's own order."""
        wanted = set(cases)
        return replace(self, samples=tuple(sample for sample in self.samples if sample.case in wanted))

    def classes(self) -> tuple[str, ...]:
        """Every class in its natural order."""
        every = {text for s in self.samples for text in (s.target, *s.targets) if text}
        return tuple(sorted(every, key=natural))


LARGEST = 1e30
"""Beyond it a number is a typing error, and no computation of 32 bits survives it."""


def stated_number(text: str) -> float:
    """The number that a text states.

    Raises: InputError for none, and for one that cannot be computed with.
    """
    try:
        value = float(text)
    except ValueError as error:
        raise InputError(f"its value {text!r} is no number") from error
    if not abs(value) <= LARGEST:
        raise InputError(f"its value {text!r} is no number that can be learnt or judged (up to {LARGEST:g})")
    return value


def natural(text: str) -> tuple[tuple[int, object], ...]:
    """A key by which `2` stands before `10`."""
    import re

    return tuple((0, int(part)) if part.isdecimal() else (1, part.lower()) for part in re.split(r"(\d+)", text) if part)
