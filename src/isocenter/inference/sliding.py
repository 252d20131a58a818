"""A network over an image larger than its window: overlapping windows, weighed, and decided slab by slab."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np

from isocenter.ops.window import cut, spans
from isocenter.types import Array, Float32

Forward = Callable[[Float32[Array, "b c *w"]], Float32[Array, "b k *w"]]
"""Prepared windows -> logits."""
_ROWS = 4
Told = Callable[[int, int], None]


@dataclass(frozen=True)
class Windows:
    """How an image is walked over.

    Args:
        size: window (d, h, w); of a network of slices, d is 1.
        overlap: share of a window that it shares with the next.
        flips: axes (d, h, w) over whose flips the answers are averaged.
        batch: windows at a time.
        halo: margin of a window (d, h, w) that is computed and thrown away. With one as wide as the network's reach
            every voxel is computed once, and is what the network says of the whole image; None: windows overlap
            and are weighed.
        multiple: with a halo, images are filled up with zeros to a multiple of this.
        half: sums are kept in half precision, at a quarter of a percent of error.
        strips: the image is walked over in so many strips of rows, each with sums of its own: less memory, and windows
            across a seam are computed twice.
        values: the network's numbers are taken as they are: intensities; else they are logits.
    """

    size: tuple[int, int, int]
    overlap: float = 0.5
    flips: tuple[int, ...] = ()
    batch: int = 1
    halo: tuple[int, int, int] | None = None
    multiple: int = 1
    half: bool = False
    strips: int = 1
    values: bool = False


@dataclass(frozen=True, eq=False)
class Slab:
    """Finished slices.

    Args:
        first: number of the first of them.
        top: first of their rows.
        probability: `k d h w`.
    """

    first: int
    top: int
    probability: Array


def starts(length: int, size: int, overlap: float) -> list[int]:
    """Where windows begin along an axis: evenly, from the first voxel to the last."""
    if length <= size:
        return [-((size - length) // 2)]
    step = max(1, int(size * (1 - overlap)))
    count = -(-(length - size) // step) + 1
    return [round(i * (length - size) / (count - 1)) for i in range(count)]


def importance(size: tuple[int, int, int]) -> Float32[Array, "d h w"]:
    """Weights of a window: a Gaussian of an eighth of its edge, so that borders count least."""
    parts = []
    for n in size:
        at = np.arange(n) - (n - 1) / 2
        parts.append(np.exp(-0.5 * (at / max(n / 8, 0.5)) ** 2))
    weights = parts[0][:, None, None] * parts[1][None, :, None] * parts[2][None, None, :]
    return np.asarray(np.maximum(weights / weights.max(), 1e-3), np.float32)


def slabs(
    forward: Forward,
    image: Float32[Array, "c d h w"],
    how: Windows,
    *,
    outputs: int,
    flat: bool,
    on_progress: Told | None = None,
) -> Iterator[Slab]:
    """Probabilities of every voxel, slab by slab from the first slice on; each slab is final when it comes.

    Args:
        forward: the network.
        image: prepared.
        how: windows.
        outputs: classes.
        flat: the network takes slices (`b c h w`).
        on_progress: told how many windows of how many are done.
    """
    shape = image.shape[1:]
    places = [starts(n, s, how.overlap) for n, s in zip(shape, how.size, strict=True)]
    weights = importance(how.size) if any(len(p) > 1 for p in places) else np.ones(how.size, np.float32)
    edges = np.linspace(0, shape[1], min(how.strips, shape[1]) + 1).round().astype(int).tolist()
    strips = []
    for top, bottom in pairwise(edges):
        rows = [y for y in places[1] if y < bottom and y + how.size[1] > top]
        strips.append((top, bottom, list(product(rows, places[2]))))
    total, done = len(places[0]) * sum(len(group) for *_, group in strips), 0
    for top, bottom, spots in strips:
        walk = _Walk(how, outputs, (shape[0], bottom - top, shape[2]), weights)
        for number, z in enumerate(places[0]):
            for group in _groups(spots, how.batch):
                windows = np.stack([cut(image, (z, y, x), how.size) for y, x in group])
                answers = _averaged(forward, windows, how, flat=flat)
                for (y, x), answer in zip(group, answers, strict=True):
                    walk.add(answer, (z - max(z, 0), y - top, x))
                done += len(group)
                if on_progress:
                    on_progress(done, total)
            last = number == len(places[0]) - 1
            ready = walk.depth if last else places[0][number + 1] - max(z, 0)
            for z0, part in walk.finished(ready):
                yield Slab(max(z, 0) + z0, top, part)
            if not last:
                walk.move_on(ready)


class _Walk:
    """Weighed sums over the slices that windows still reach."""

    def __init__(self, how: Windows, outputs: int, shape: tuple[int, int, int], weights: Array) -> None:
        self.depth, self.weights, self.half = min(how.size[0], shape[0]), weights, how.half
        self.sums = np.zeros((outputs, self.depth, *shape[1:]), np.float16 if how.half else np.float32)
        self.shares = np.zeros((1, self.depth, *shape[1:]), np.float32)

    def add(self, answer: Array, start: tuple[int, int, int]) -> None:
        """Add the answer of a window that begins here, as far as it lies within."""
        import torch  # adds on all cores, without a product in between

        kind = torch.float16 if self.half else torch.float32
        inside, onto = spans(start, answer.shape[1:], self.sums.shape[1:])
        part = torch.from_numpy(answer)[(slice(None), *onto)].to(kind)
        weights = torch.from_numpy(self.weights)[onto].to(kind)
        torch.from_numpy(self.sums)[(slice(None), *inside)].addcmul_(part, weights)
        self.shares[0][inside] += self.weights[onto]

    def finished(self, ready: int) -> Iterator[tuple[int, Array]]:
        """The first slices, a few at a time: sums must not stand in memory twice."""
        for z0 in range(0, ready, _ROWS):
            rows = slice(z0, min(z0 + _ROWS, ready))
            yield z0, self.sums[:, rows].astype(np.float32) / self.shares[:, rows]

    def move_on(self, by: int) -> None:
        """Forget the first slices, in place."""
        for array in (self.sums, self.shares):
            keep = self.depth - by
            for i in range(keep):
                array[:, i] = array[:, i + by]
            array[:, max(keep, 0) :] = 0


def tiles(
    forward: Forward, image: Float32[Array, "c d h w"], how: Windows, *, flat: bool, on_progress: Told | None = None
) -> Iterator[tuple[tuple[slice, slice, slice], Array]]:
    """Probabilities of one tile after the other: where it lies, and `k d h w`.

    Args:
        forward: a network that looks no farther than the halo.
        image: prepared, `c d h w`.
        how: with a halo; tiles begin at multiples of it, so that poolings fall as on the whole image.
        flat: the network takes slices.
        on_progress: told how many tiles of how many are done.
    """
    assert how.halo is not None, "tiles have a halo"
    shape = image.shape[1:]
    rows = tile_rows(shape, how)
    total = len(rows[0]) * len(rows[1]) * len(rows[2])
    for number, row in enumerate(product(*rows)):
        (z, z1, *_), (y, y1, *_), (x, x1, *_) = row
        window = cut(image, (z, y, x), (z1 - z, y1 - y, x1 - x))[None]
        answer = _averaged(forward, window, how, flat=flat)[0]
        ends = [(c, min(e, n)) for (_, _, c, e), n in zip(row, shape, strict=True)]
        keep = tuple(slice(c - a, e - a) for (a, *_), (c, e) in zip(row, ends, strict=True))
        core = (slice(*ends[0]), slice(*ends[1]), slice(*ends[2]))
        if on_progress:
            on_progress(number + 1, total)
        yield core, answer[(slice(None), *keep)]


def tile_rows(shape: tuple[int, ...], how: Windows) -> list[list[tuple[int, int, int, int]]]:
    """Begin and end of windows, and of what is kept of each, along every axis of the filled-up image."""
    assert how.halo is not None, "tiles have a halo"
    full = [n if h == 0 else -(-n // how.multiple) * how.multiple for n, h in zip(shape, how.halo, strict=True)]
    return [_tile_spans(n, s, h) for n, s, h in zip(full, how.size, how.halo, strict=True)]


def _tile_spans(length: int, size: int, halo: int) -> list[tuple[int, int, int, int]]:
    """Begin and end of each window along an axis, and of what is kept of it."""
    if size >= length:
        return [(0, length, 0, length)]
    core = max(size - 2 * halo, 1)
    found, at = [], 0
    while at < length:
        begin = max(0, at - halo)
        stop = size - halo if begin == 0 else at + core
        if stop + halo >= length:
            found.append((begin, length, at, length))
            break
        found.append((begin, stop + halo, at, stop))
        at = stop
    return found


def _groups(places: list[tuple[int, int]], size: int) -> Iterator[list[tuple[int, int]]]:
    for begin in range(0, len(places), size):
        yield places[begin : begin + size]


def _averaged(forward: Forward, windows: Array, how: Windows, *, flat: bool) -> Array:
    """Probabilities (or values), averaged over flips of the windows."""
    flips = how.flips
    total: Array | None = None
    ways = [
        tuple(a for a, on in zip(flips, bits, strict=True) if on) for bits in product((False, True), repeat=len(flips))
    ]
    for way in ways:
        axes = tuple(2 + a for a in way)
        turned = np.flip(windows, axes) if axes else windows
        answer = _called(forward, turned, flat=flat)
        answer = answer if how.values else softmax(answer)
        answer = np.flip(answer, axes) if axes else answer
        total = answer.copy() if total is None else total + answer
    assert total is not None, "there is always the unflipped way"
    return np.asarray(total / len(ways), np.float32)


def _called(forward: Forward, windows: Array, *, flat: bool) -> Array:
    windows = np.ascontiguousarray(windows)
    return np.asarray(forward(windows[:, :, 0])[:, :, None] if flat else forward(windows))


def softmax(logits: Array) -> Array:
    """Probabilities over axis 1."""
    import torch  # on all cores: with many classes and large windows it takes as long as the network else

    found: Array = torch.softmax(torch.from_numpy(np.ascontiguousarray(logits)), dim=1).numpy()
    return found
