"""Sequences as a network eats them: frames scaled alike, with their times, and missing ones marked."""

import numpy as np

from isocenter.data.cine import Cine
from isocenter.data.geometry import Geometry, Space
from isocenter.data.volume import Volume
from isocenter.errors import InputError
from isocenter.inference.answers import probabilities
from isocenter.inference.model import Spec
from isocenter.inference.prepare import Preparation, prepare
from isocenter.inference.sliding import Forward
from isocenter.types import Array

STEP_S = 1.0
"""Seconds between frames whose times nobody states."""


def chosen_frames(count: int, most: int) -> Array:
    """Numbers of the frames that are looked at: all, or so many evenly, with the first and the last."""
    if count <= most:
        return np.arange(count)
    return np.unique(np.linspace(0, count - 1, most).round().astype(np.int64))


def prepared_frames(cine: Cine, how: Preparation, most: int) -> tuple[Array, Array, Array]:
    """Frames `t c d h w`, their times in seconds from the first, and their numbers in the cine.

    All frames are scaled by one scale: what brightens over time stays brighter.

    Raises: InputError for fewer than two frames; see `inference.prepare.prepare`.
    """
    if len(cine) < 2:
        raise InputError(f"has {len(cine)} frame, and a sequence is wanted")
    numbers = chosen_frames(len(cine), most)
    frames = np.asarray(cine.frames)[numbers]
    t, c, d, h, w = frames.shape
    grid = Geometry.regular((t * d, h, w), space=Space.PIXELS)
    joined = Volume(np.ascontiguousarray(np.moveaxis(frames, 1, 0).reshape(c, t * d, h, w)), grid, cine.quantity)
    bare = how.model_copy(update={"size": None, "spacing_mm": None, "orient": False})
    scaled = prepare(joined, bare).array
    only_grid = how.model_copy(update={"intensity": "none", "low": (), "high": (), "mean": (), "deviation": ()})
    parts = [prepare(Volume(scaled[:, i * d : (i + 1) * d], cine.geometry), only_grid).array for i in range(t)]
    clock = np.arange(len(cine)) * STEP_S if cine.times_s is None else np.asarray(cine.times_s, np.float64)
    times = clock[numbers] - clock[numbers[0]]
    return np.stack(parts), np.asarray(times, np.float32), numbers


def with_times(frames: Array, times: Array, length: int) -> Array:
    """Frames `t c *s` and their times as the network takes them: `length c+1 *s`; what is missing has no time."""
    t, c = frames.shape[:2]
    out = np.zeros((length, c + 1, *frames.shape[2:]), np.float32)
    out[:, -1] = np.nan
    out[:t, :c] = frames
    out[:t, -1] = times.reshape(-1, *(1,) * (frames.ndim - 2))
    return out


def followed(run: Forward, frames: Array, times: Array, spec: Spec) -> Array:
    """Probabilities or values of one sequence: `1 k`, or `t k` of each frame."""
    logits = run(with_times(frames, times, len(frames))[None])[0]
    return np.asarray(probabilities(np.atleast_2d(logits), spec), np.float64)
