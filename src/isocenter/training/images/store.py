"""Cases as a network sees them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite

from isocenter.data.dataset import Sample
from isocenter.data.objects import Boxed
from isocenter.types import Array


@dataclass(frozen=True, eq=False)
class Item:
    """One case, prepared.

    Args:
        sample: what it is.
        image: `c d h w`.
        target: class number or value; NaN for a segmentation.
        mask: `d h w`, numbered as the network's outputs; None but for a segmentation.
        places: for each label, some of its voxels (`n 3`).
        times: seconds of each frame; None but for a sequence, whose image is `t c d h w`.
        frames: numbers of those frames in the file; None but for a sequence.
        targets: what is stated of each frame of a sequence, or of all (one number); NaN: nothing.
        goal: `c d h w`, the better image; None but where a data set states it.
        spread: deviation of the good image, of which the noise that is added to it is a share.
        objects: what is marked in it, on the network's grid; None but for a detection.
    """

    sample: Sample
    image: Array = field(repr=False)
    target: float
    mask: Array | None = field(default=None, repr=False)
    places: tuple[Array, ...] = field(default=(), repr=False)
    times: Array | None = field(default=None, repr=False)
    frames: Array | None = field(default=None, repr=False)
    targets: Array | None = field(default=None, repr=False)
    goal: Array | None = field(default=None, repr=False)
    spread: float = 1.0
    objects: Boxed | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class Stated:
    """What is stated of a case, or of one of its frames.

    Args:
        item: the case.
        target: class number or value.
        at: which of the case's frames that were looked at; None: the case as a whole.
    """

    item: Item
    target: float
    at: int | None = None

    @property
    def name(self) -> str:
        """The case; of a frame with its number in the file."""
        case = self.item.sample.case
        return case if self.at is None or self.item.frames is None else f"{case}#{int(self.item.frames[self.at])}"


@dataclass(frozen=True, eq=False)
class Store:
    """Every case of a split.

    Args:
        items: cases.
        failed: cases that could not be read, each with the reason.
        keep: what must live as long as the items.
    """

    items: tuple[Item, ...]
    failed: tuple[str, ...] = ()
    keep: object = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.items)

    def only(self, index: Sequence[int]) -> "Store":
        """Some of the cases."""
        return Store(tuple(self.items[i] for i in index), self.failed, self.keep)

    def stated(self) -> tuple[Stated, ...]:
        """What is stated of each case; of sequences whose frames are labelled, of each frame that is."""
        found: list[Stated] = []
        for item in self.items:
            if item.targets is None or len(item.targets) == 1:
                found.append(Stated(item, item.target))
            else:
                found += [Stated(item, float(v), t) for t, v in enumerate(item.targets) if isfinite(v)]
        return tuple(found)
