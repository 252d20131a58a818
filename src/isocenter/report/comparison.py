"""Pictures that set two images beside each other: before and after a step, and two images on one grid."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from isocenter.data.labels import LabelMap
from isocenter.data.volume import Quantity, Volume
from isocenter.report.figures import Picture, View, display_window, key_slices, tinted, views
from isocenter.types import Array

_WIDTH = 3.4  # inches of one column
_SQUARES = 8  # of a checkerboard, along the longer side


def before_after(before: Volume, after: Volume | LabelMap, *, title: str = "") -> bytes:
    """PNG of the middle slices before and after one step, at one scale; labels are drawn over the image.

    Intensities of one unit share one window; those of another unit get their own, as the scales below say.
    """
    changed = after if isinstance(after, Volume) else before
    marks = after if isinstance(after, LabelMap) else None
    old_window = display_window(before, None)
    new_window = display_window(changed, None)
    new_window = old_window if _one_scale(before, changed, old_window, new_window) else new_window
    left, right = views(before, marks), views(changed, marks)
    rows = [(a, b) for a, b in zip(left, right, strict=False) if a.plane in ("axial", "coronal", "image")]
    tallest = [max(_height(a), _height(b)) for a, b in rows]
    figure = Figure(figsize=(2 * _WIDTH + 0.2, sum(tallest) + 0.75), facecolor="black")
    total = sum(tallest) + 0.75
    top = 1 - 0.35 / total
    if title:
        figure.text(0.5, 1 - 0.06 / total, title, color="white", ha="center", va="top", fontsize=11)
    for (a, b), height in zip(rows, tallest, strict=True):
        index = key_slices(a)[len(key_slices(a)) // 2]
        share = index / max(1, a.grid.shape[0] - 1)
        other = index if a.grid.shape == b.grid.shape else round(share * (b.grid.shape[0] - 1))
        for column, (view, at, window) in enumerate(((a, index, old_window), (b, other, new_window))):
            box = (column * 0.505, top - height / total, 0.495, height / total - 0.02)
            _draw(figure.add_axes(box), view, at, window, overlay=column == 1)
        top -= height / total
    for column, (text, window, volume) in enumerate((("before", old_window, before), ("after", new_window, changed))):
        unit = "" if volume.quantity is Quantity.ARBITRARY else f" {volume.quantity}"
        said = f"{text}   (black {window[0]:.4g}, white {window[1]:.4g}{unit})"
        figure.text(column * 0.505 + 0.01, 0.1 / total, said, color="#b9c2cb", fontsize=9)
    return _png(figure, dpi=110)


def _one_scale(one: Volume, other: Volume, window: tuple[float, float], new: tuple[float, float]) -> bool:
    """Whether intensities of both can be shown alike: one unit, or arbitrary ones of about the same width."""
    if one.quantity is not other.quantity:
        return False
    return one.quantity is not Quantity.ARBITRARY or 0.5 <= (new[1] - new[0]) / (window[1] - window[0]) <= 2


def compared(one: Volume, other: Volume, names: tuple[str, str] = ("fixed", "moved")) -> tuple[Picture, ...]:
    """For each plane: the first image, the second, both as a checkerboard, and their difference.

    Images of different units are shown and compared as shares of their own windows.
    """
    windows = [display_window(v, None) for v in (one, other)]
    if one.quantity is other.quantity and one.quantity is not Quantity.ARBITRARY:
        windows[1] = windows[0]
    pictures = []
    for a, b in zip(views(one, None), views(other, None), strict=True):
        index = key_slices(a)[len(key_slices(a)) // 2]
        shares = [_share(v, index, w) for v, w in zip((a, b), windows, strict=True)]
        for name, values, colours, ends in (
            (names[0], shares[0], "gray", (0.0, 1.0)),
            (names[1], shares[1], "gray", (0.0, 1.0)),
            ("checkerboard", _checkered(*shares), "gray", (0.0, 1.0)),
            ("difference", shares[1] - shares[0], "RdBu_r", (-0.6, 0.6)),
        ):
            file = f"key_compare_{a.plane}_{name}.png"
            pictures.append(
                Picture(file, _plate(values, a, colours, ends), a.plane, None, "", overlay=False, what=name)
            )
    return tuple(pictures)


def _share(view: View, index: int, window: tuple[float, float]) -> Array:
    grid = view.grid[index]
    grey = grid.mean(axis=-1) if grid.ndim == 3 else grid
    return np.asarray(np.clip((grey.astype(np.float32) - window[0]) / (window[1] - window[0]), 0, 1))


def _checkered(one: Array, other: Array) -> Array:
    side = max(1, max(one.shape) // _SQUARES)
    rows, columns = np.indices(one.shape) // side
    return np.where((rows + columns) % 2 == 0, one, other)


def _plate(values: Array, view: View, colours: str, ends: tuple[float, float]) -> bytes:
    figure = Figure(figsize=(3.4, max(0.6, 3.4 * _ratio(view))), facecolor="black")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(values, cmap=colours, vmin=ends[0], vmax=ends[1], aspect="auto", interpolation="bilinear")
    axes.axis("off")
    return _png(figure, dpi=120)


def _ratio(view: View) -> float:
    rows, columns = view.grid.shape[1:3]
    return float(rows * view.geometry.steps[1] / (columns * view.geometry.steps[2]))


def _height(view: View) -> float:
    return min(8.0, max(0.6, _WIDTH * _ratio(view)))


def _draw(axes: Axes, view: View, index: int, window: tuple[float, float], *, overlay: bool) -> None:
    grid = view.grid[index]
    height, width = grid.shape[0] * view.geometry.steps[1], grid.shape[1] * view.geometry.steps[2]
    extent = (0.0, width, height, 0.0)
    if grid.ndim == 3:
        axes.imshow(np.clip((grid - window[0]) / (window[1] - window[0]), 0, 1), extent=extent)
    else:
        axes.imshow(grid, cmap="gray", vmin=window[0], vmax=window[1], extent=extent, interpolation="nearest")
    if overlay and view.labels is not None:
        axes.imshow(tinted(view.labels[index]), extent=extent, interpolation="nearest")
    axes.axis("off")


def thumbnail(examination_pictures: Sequence[Picture], *, size: int = 220) -> bytes | None:
    """The most telling of the key images, small: a JPEG of at most `size` pixels along each side."""
    from PIL import Image

    if not examination_pictures:
        return None
    marked = [p for p in examination_pictures if p.overlay] or list(examination_pictures)
    chosen = marked[min(1, len(marked) - 1)]
    with Image.open(BytesIO(chosen.png)) as image:
        small = image.convert("RGB")
        small.thumbnail((size, size))
        out = BytesIO()
        small.save(out, "JPEG", quality=82)
    return out.getvalue()


def _png(figure: Figure, *, dpi: int) -> bytes:
    out = BytesIO()
    FigureCanvasAgg(figure).print_figure(out, format="png", dpi=dpi, facecolor="black")
    return out.getvalue()
