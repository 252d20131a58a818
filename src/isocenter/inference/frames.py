"""Sequences as a network eats them: frames scaled alike, with their times, and missing ones marked."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isocenter.data.cine import Cine
from isocenter.data.geometry import Geometry, Space
from isocenter.data.volume import Volume
from isocenter.errors import InputError
from isocenter.inference.answers import probabilities
from isocenter.inference.model import Spec
from isocenter.inference.prepare import Preparation, Prepared, prepare
from isocenter.inference.sliding import Forward
from isocenter.types import Array


def chosen_frames(count: int, most: int, keep: Sequence[int] = ()) -> Array:
    """Numbers of the frames that are looked at: all, or so many evenly, with the first and the last.

    Args:
        count: frames that there are.
        most: frames that are looked at.
        keep: frames that must be among them, as far as there is room.
    """
    if count <= most:
        return np.arange(count)
    wanted = np.unique(np.asarray(keep, np.int64))
    if len(wanted) >= most:
        return np.asarray(wanted[np.unique(np.linspace(0, len(wanted) - 1, most).round().astype(np.int64))])
    even = np.unique(np.linspace(0, count - 1, most).round().astype(np.int64))
    if not len(wanted):
        return even
    far = np.abs(even[:, None] - wanted[None]).min(axis=1)  # those nearest to one that must be there give way
    others = even[np.argsort(-far, kind="stable")][: most - len(wanted)]
    return np.unique(np.concatenate((wanted, others)))


@dataclass(frozen=True, eq=False)
class PreparedFrames:
    """A sequence as a network eats it.

    Args:
        frames: `t c d h w`.
        times: seconds from the first.
        numbers: of those frames in the cine.
        last: the last of them, with its way back to the cine's grid.
        scales: what was subtracted from each channel of every frame, and what it was divided by.
        flat: frames are pictures.
    """

    frames: Array
    times: Array
    numbers: Array
    last: Prepared
    scales: tuple[tuple[float, float], ...]
    flat: bool

    @property
    def eaten(self) -> Array:
        """`t c *s`: pictures without their one slice."""
        return self.frames[:, :, 0] if self.flat else self.frames

    def change_back(self, change: Array) -> Array:
        """A change (`c *s`) on the cine's own grid (`c d h w`) and in its units."""
        deep = change[:, None] if self.flat else change
        return np.stack([self.last.field(part) * np.float32(b) for part, (_, b) in zip(deep, self.scales, strict=True)])


def prepared_frames(
    cine: Cine, how: Preparation, most: int, *, newest: bool = False, keep: Sequence[int] = ()
) -> PreparedFrames:
    """Frames, all scaled by one scale: what brightens over time stays brighter.

    Args:
        cine: frames.
        how: they are laid out and scaled.
        most: of them that are looked at: evenly from the first to the last.
        newest: the last ones instead.
        keep: frames that must be among those that are evenly taken.

    Raises: InputError for fewer than two frames; see `inference.prepare.prepare`.
    """
    if len(cine) < 2:
        raise InputError(f"has {len(cine)} frame, and a sequence is wanted")
    numbers = np.arange(max(0, len(cine) - most), len(cine)) if newest else chosen_frames(len(cine), most, keep)
    frames = np.asarray(cine.frames)[numbers]
    lost = None if cine.not_measured is None else cine.not_measured[numbers]
    t, c, d, h, w = frames.shape
    grid = Geometry.regular((t * d, h, w), space=Space.PIXELS)
    stack = np.ascontiguousarray(np.moveaxis(frames, 1, 0).reshape(c, t * d, h, w))
    mask = None if lost is None or not lost.any() else lost.reshape(t * d, h, w)
    joined = Volume(stack, grid, cine.quantity, not_measured=mask)  # what was filled in does not set the scale
    bare = how.model_copy(update={"size": None, "spacing_mm": None, "orient": False})
    together = prepare(joined, bare)
    scaled = together.array
    only_grid = how.model_copy(update={"intensity": "none", "low": (), "high": (), "mean": (), "deviation": ()})
    parts = [prepare(Volume(scaled[:, i * d : (i + 1) * d], cine.geometry), only_grid) for i in range(t)]
    times = cine.clock[numbers] - cine.clock[numbers[0]]
    frames = np.stack([part.array for part in parts])
    return PreparedFrames(frames, np.asarray(times, np.float32), numbers, parts[-1], together.scales, how.dims == 2)


def with_times(frames: Array, times: Array, length: int) -> Array:
    """Frames `t c *s` and their times as the network takes them: `length c+1 *s`; what is missing has no time."""
    t, c = frames.shape[:2]
    out = np.zeros((length, c + 1, *frames.shape[2:]), np.float32)
    out[:, -1] = np.nan
    out[:t, :c] = frames
    out[:t, -1] = times.reshape(-1, *(1,) * (frames.ndim - 2))
    return out


def next_time(times: Array) -> float:
    """When the next frame is to be expected: after the mean distance of those that were."""
    return float(times[-1] + (times[-1] - times[0]) / (len(times) - 1))


def foretold(run: Forward, frames: Array, times: Array, at: float) -> Array:
    """The frame (`c *s`) at a time after these (`t c *s`)."""
    shown = with_times(frames, times, len(frames) + 1)
    shown[-1, -1] = at  # the last is not there: its time is asked for
    return np.asarray(run(shown[None])[0], np.float32)


def followed(run: Forward, frames: Array, times: Array, spec: Spec) -> Array:
    """Probabilities or values of one sequence: `1 k`, or `t k` of each frame."""
    logits = run(with_times(frames, times, len(frames))[None])[0]
    return np.asarray(probabilities(np.atleast_2d(logits), spec), np.float64)
