"""Texture of the neighbourhood of every voxel."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from isocenter.ops import texture, threads
from isocenter.ops.compiled import compiled
from isocenter.ops.texture import cooccurrences, runs, tones_and_dependences, zones
from isocenter.ops.texture_features import cooccurrence_features, emphasis_features, tone_features
from isocenter.types import Array

_COUNTS = {"statistics": 9, "glcm": 25, "glrlm": 16, "glszm": 16, "ngtdm": 5, "ngldm": 17}
_ORDER = tuple(_COUNTS)


def features(
    values: Array, mask: Array, levels: Array, ball: Array, families: Sequence[str], coarseness: int
) -> dict[str, Array]:
    """Features of the ball about each voxel of `mask`.

    Args:
        values: intensities, `d h w`.
        mask: the region.
        levels: grey levels of its voxels, in order.
        ball: which neighbours belong, of odd sizes.
        families: of `statistics`, `glcm`, `glrlm`, `glszm`, `ngtdm`, `ngldm`.
        coarseness: of the dependences.
    Returns: by family, one row a feature, one column a voxel.
    """
    reach = [n // 2 for n in ball.shape]
    padded = np.pad(mask, [(r, r) for r in reach])
    grey = np.zeros(padded.shape, np.uint16)
    grey[padded] = levels
    intensities = np.pad(values, [(r, r) for r in reach])
    window = tuple(n + 2 for n in ball.shape)  # with a margin of 0
    strides = texture.strides(window)
    half = texture.half_offsets(flat=False) @ strides
    near = texture.ball_offsets(1, flat=False) @ strides
    wanted = np.asarray([name in families for name in _ORDER])
    places = np.argwhere(mask)  # in the padded grid, where the window of each begins
    out = np.full((sum(_COUNTS.values()), len(places)), np.nan, np.float32)
    parts = np.array_split(np.arange(len(places)), max(1, min(4 * threads.allowed(), len(places))))

    def run(part: Array) -> None:
        begin, stop = int(part[0]), int(part[-1]) + 1
        _map(intensities, grey, ball, places[begin:stop], half, near, int(levels.max()), coarseness, wanted,
             out[:, begin:stop])  # fmt: skip

    with ThreadPoolExecutor(threads.allowed()) as pool:
        list(pool.map(run, parts))
    found, row = {}, 0
    for family, count in _COUNTS.items():
        if family in families:
            found[family] = out[row : row + count]
        row += count
    return found


@compiled
def _map(
    values: Array, grey: Array, ball: Array, places: Array, half: Array, near: Array, highest: int, coarseness: int,
    wanted: Array, out: Array,
) -> None:  # fmt: skip
    depth, height, width = ball.shape
    size = highest + 1
    cells = (depth + 2) * (height + 2) * (width + 2)
    window = np.zeros(cells, np.uint16)
    numbers = np.empty(depth * height * width)
    inside = np.empty(depth * height * width, np.int64)
    compact = np.zeros(size, np.int64)
    before = np.sort(-half)
    place, distance = np.zeros(cells, np.int32), np.zeros(cells, np.int32)
    for n in range(len(places)):
        count = 0
        for d in range(depth):
            for h in range(height):
                for w in range(width):
                    at = ((d + 1) * (height + 2) + h + 1) * (width + 2) + w + 1
                    level = grey[places[n, 0] + d, places[n, 1] + h, places[n, 2] + w]
                    if ball[d, h, w] and level:
                        window[at] = level
                        numbers[count] = values[places[n, 0] + d, places[n, 1] + h, places[n, 2] + w]
                        inside[count] = at
                        count += 1
                    else:
                        window[at] = 0
        here = inside[:count]
        top = 0
        for k in range(count):
            top = max(top, window[here[k]])
        if wanted[0]:
            _statistics(numbers[:count], window, here, compact, out[0:9, n])
        if wanted[1]:
            counts = np.zeros((len(half), top + 1, top + 1), np.int32)
            cooccurrences(window, here, half, counts)
            out[9:34, n] = cooccurrence_features(counts.sum(axis=0), highest)
        if wanted[2]:
            lengths = np.zeros((len(half), top + 1, max(depth, height, width) + 1), np.int32)
            runs(window, here, half, lengths)
            whole = lengths.sum(axis=0)[:, 1:]
            out[34:50, n] = emphasis_features(whole, np.arange(1, whole.shape[1] + 1), float(count * len(half)))[:16]
        if wanted[3]:
            first, sizes, _ = zones(window, here, before, distance, place)
            zone_counts = np.zeros((top + 1, count), np.int64)
            for k in range(len(first)):
                zone_counts[window[here[first[k]]], sizes[k] - 1] += 1
            out[50:66, n] = emphasis_features(zone_counts, np.arange(1, count + 1), float(count))[:16]
        if wanted[4] or wanted[5]:
            tones, there = np.zeros(top + 1), np.zeros(top + 1, np.int64)
            dependence = np.zeros((top + 1, len(near) + 2), np.int64)
            tones_and_dependences(window, here, near, coarseness, tones, there, dependence)
            if wanted[4]:
                out[66:71, n] = tone_features(there, tones)
            if wanted[5]:
                out[71:88, n] = emphasis_features(dependence[:, 1:], np.arange(1, len(near) + 2), float(count))


@compiled
def _statistics(numbers: Array, window: Array, inside: Array, compact: Array, out: Array) -> None:
    mean = numbers.mean()
    m2 = m3 = m4 = energy = 0.0
    for k in range(len(numbers)):
        away = numbers[k] - mean
        m2 += away**2
        m3 += away**3
        m4 += away**4
        energy += numbers[k] ** 2
    count = len(numbers)
    m2, m3, m4 = m2 / count, m3 / count, m4 / count
    out[0], out[1] = mean, m2
    if m2 > 0.0:
        out[2], out[3] = m3 / m2**1.5, m4 / m2**2 - 3.0
    out[4], out[5] = numbers.min(), numbers.max()
    out[6], out[7] = out[5] - out[4], energy
    for k in range(count):
        compact[window[inside[k]]] += 1
    entropy = 0.0
    for k in range(count):
        level = window[inside[k]]
        if compact[level]:
            p = compact[level] / count
            entropy -= p * np.log2(p)
            compact[level] = 0
    out[8] = entropy
