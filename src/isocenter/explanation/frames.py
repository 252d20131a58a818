"""Which frames of a sequence moved an answer: what it is without them."""

import numpy as np

from isocenter.explanation.quality import Quality
from isocenter.inference.answers import probabilities
from isocenter.inference.frames import with_times
from isocenter.inference.model import Spec
from isocenter.inference.sliding import Forward
from isocenter.types import Array


def answer_without(run: Forward, frames: Array, times: Array, spec: Spec, gone: Array) -> Array:
    """Probabilities or values (`1 k`, or `t k` of each frame) where some frames are missing.

    Args:
        run: the network.
        frames: `t c *s`, prepared.
        times: seconds.
        spec: of the network.
        gone: `t` booleans.
    """
    shown = with_times(frames, times, len(frames))
    shown[gone, -1] = np.nan
    return np.asarray(probabilities(np.atleast_2d(run(shown[None])[0]), spec), np.float64)


def frame_weights(run: Forward, frames: Array, times: Array, spec: Spec, index: int) -> Array:
    """By how much the answer falls without each frame (`t`): of one answer with its sign; where frames are answered,
    the mean change of the other frames' answers.

    Source: M. Zeiler, R. Fergus, ECCV 2014, section 4.2 (occlusion), of frames instead of places.
    """
    count = len(frames)
    whole = answer_without(run, frames, times, spec, np.zeros(count, np.bool_))[:, index]
    found = []
    for t in range(count):
        gone = np.arange(count) == t
        said = answer_without(run, frames, times, spec, gone)[:, index]
        found.append(float(np.abs(whole - said)[~gone].mean()) if spec.each_frame else float(whole[0] - said[0]))
    return np.asarray(found)


def frame_quality(
    run: Forward, frames: Array, times: Array, spec: Spec, *, index: int, weights: Array, seed: int, draws: int = 16
) -> Quality:
    """Deletion and insertion curves of an order of frames, and the mean of random orders; one frame is always there.

    Source: V. Petsiuk et al., BMVC 2018, section 3.3, of frames instead of voxels.
    """
    count = len(frames)
    rng = np.random.default_rng(seed)
    shares = np.arange(count) / count

    def curve(order: Array, *, shown: bool) -> Array:
        found = []
        for n in range(count):
            first = np.isin(np.arange(count), order[: n + shown])
            said = answer_without(run, frames, times, spec, ~first if shown else first)
            found.append(float(said[0, index]))
        return np.asarray(found)

    order = np.argsort(-weights, kind="stable")
    randoms = [curve(rng.permutation(count), shown=False) for _ in range(draws)]
    return Quality(shares, curve(order, shown=False), curve(order, shown=True), np.mean(randoms, axis=0))
