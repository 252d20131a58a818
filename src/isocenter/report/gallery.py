"""Pictures of cases: prediction and reference as contours on the slice where they differ most."""

from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any

import numpy as np

from isocenter.data.volume import Volume
from isocenter.types import Array, LabelGrid

_COLOURS = ("#e4572e", "#2e86ab", "#f3a712", "#6bbf59", "#a23b72", "#17bebb")


class Worst:
    """The cases with the least Dice, with the pictures of those that may still be among them.

    Args:
        most: how many are kept.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.kept: list[tuple[float, str, bytes]] = []

    def offer(self, case: str, value: float, draw: Callable[[], bytes]) -> None:
        """Keep a case with this Dice if it is among the worst so far; only then it is drawn."""
        if not np.isfinite(value) or (len(self.kept) >= self.most and value >= self.kept[-1][0]):
            return
        self.kept.append((value, case, draw()))
        self.kept.sort(key=lambda row: row[0])
        del self.kept[self.most :]


def worst_pictures(worst: Worst) -> tuple[tuple[str, bytes], ...]:
    """Title and picture of each, worst first."""
    return tuple((f"{case}: Dice {value:.3f}", png) for value, case, png in worst.kept)


def contours(volume: Volume, predicted: LabelGrid, reference: LabelGrid) -> bytes:
    """PNG of the slice on which both differ most."""
    wrong = (predicted != reference).sum(axis=(1, 2))
    index = int(wrong.argmax())
    steps = volume.geometry.steps
    return drawn(shown(volume.voxels, index), reference[index], predicted[index], aspect=float(steps[1] / steps[2]))


def boxes_picture(image: Volume | Array, stated: Array, found: Array) -> bytes:
    """PNG of the slice that most boxes cross, with the stated ones dashed and white, the found ones solid.

    Args:
        image: or its voxels, `c d h w`, of square pixels.
        stated: `m 2 3`, in its voxels.
        found: `k 2 3`.
    """
    voxels = image.voxels if isinstance(image, Volume) else image
    aspect = float(image.geometry.steps[1] / image.geometry.steps[2]) if isinstance(image, Volume) else 1.0
    every = np.concatenate((stated, found))
    index = (
        int(np.argmax([_across(every, z).sum() for z in range(voxels.shape[1])]))
        if len(every)
        else voxels.shape[1] // 2
    )
    own = [boxes[_across(boxes, index)][:, :, 1:] for boxes in (stated, found)]
    return drawn_boxes(shown(voxels, index), own[0], own[1], aspect=aspect)


def _across(boxes: Array, index: int) -> Array:
    """Boxes that hold the middle of a slice."""
    return np.asarray((boxes[:, 0, 0] <= index + 0.5) & (boxes[:, 1, 0] > index + 0.5))


def beside(poor: Array, better: Array, good: Array) -> bytes:
    """PNG of the slice with the largest error: poor, made better, good, and the error, grey from that of the good one.

    Args:
        poor: `c d h w`.
        better: the same shape.
        good: the same shape.
    """
    wrong = np.abs(better - good).mean(axis=0)
    index = int(wrong.reshape(len(wrong), -1).sum(axis=1).argmax())
    low, high = (float(v) for v in np.percentile(good[:, index], (0.5, 99.5)))
    panels = [np.clip((v[:, index] - low) / ((high - low) or 1.0), 0, 1) for v in (poor, better, good)]
    error = np.clip(wrong[index] / (0.2 * ((high - low) or 1.0)), 0, 1)  # white: a fifth of the image's reach
    panels.append(np.repeat(error[None], len(panels[0]), axis=0))
    gap = np.ones((*panels[0].shape[:2], 2), np.float32)
    row = np.concatenate([part for panel in panels for part in (panel, gap)][:-1], axis=2)
    return drawn(np.moveaxis(row, 0, -1) if len(row) == 3 else row[0], None, None, widest=9.0)


def sheet(images: Array, across: int = 8) -> bytes:
    """PNG of many images (`n c *s`, 0 to 1) side by side; of volumes, their middle slices."""
    flat = [np.asarray(i if i.ndim == 3 else i[:, i.shape[1] // 2], np.float32) for i in images]
    blank = np.ones_like(flat[0])
    flat += [blank] * (-len(flat) % across)
    rows = [np.concatenate(flat[i : i + across], axis=2) for i in range(0, len(flat), across)]
    whole = np.concatenate(rows, axis=1)
    return drawn(np.moveaxis(whole, 0, -1) if len(whole) == 3 else whole[0], None, None, widest=8.0)


def strip(frames: Array, most: int = 8) -> bytes:
    """PNG of frames (`t c d h w`), evenly chosen, in rows of four; of volumes, their middle slices."""
    chosen = np.unique(np.linspace(0, len(frames) - 1, most).round().astype(int))
    flat = [np.asarray(frames[i][:, frames.shape[2] // 2], np.float32) for i in chosen]
    whole = np.stack(flat)
    coloured = frames.shape[1] == 3 and frames.dtype == np.uint8  # colours are shown as they are
    low, high = (0.0, 255.0) if coloured else (float(v) for v in np.percentile(whole, (0.5, 99.5)))
    shown = [np.clip((f - low) / ((high - low) or 1.0), 0, 1) for f in flat]
    return sheet(np.stack(shown), 4)


def curve_picture(times: Array, lines: Mapping[str, Array], *, y: str) -> bytes:
    """PNG of values over time.

    Args:
        times: seconds.
        lines: name -> values.
        y: words beside the vertical axis.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 2.6), dpi=110)
    axes = figure.add_axes((0.13, 0.19, 0.84, 0.76))
    for number, (name, values) in enumerate(lines.items()):
        style = "--" if name == "stated" else "-"
        axes.plot(times, values, style, color=_COLOURS[number], marker="o", markersize=3, label=name)
    axes.set_xlabel("s")
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    if len(lines) > 1:
        axes.legend(frameon=False)
    return _png(figure)


def drawn_boxes(picture: Array, stated: Array, found: Array, *, aspect: float = 1.0) -> bytes:
    """A picture with boxes.

    Args:
        picture: `h w`, or `h w 3`, 0 to 1.
        stated: `m 2 2`, dashed and white.
        found: `k 2 2`, solid and coloured.
        aspect: height of a pixel over its width.
    """
    from matplotlib.patches import Rectangle

    figure, axes = _canvas(picture, aspect)
    for boxes, ink, style in ((found, _COLOURS[0], "solid"), (stated, "white", "dashed")):
        for (y0, x0), (y1, x1) in boxes.tolist():
            axes.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, edgecolor=ink, linewidth=1.1,
                                     linestyle=style))  # fmt: skip
    return _png(figure)


def case_picture(volume: Volume, labels: LabelGrid | None) -> bytes:
    """PNG of the slice with most of the labels; of the middle one where there are none."""
    inside = None if labels is None else (labels != 0).sum(axis=(1, 2))
    index = volume.geometry.shape[0] // 2 if inside is None or not inside.any() else int(inside.argmax())
    steps = volume.geometry.steps
    aspect = float(steps[1] / steps[2])
    return drawn(shown(volume.voxels, index), None, None if labels is None else labels[index], aspect=aspect)


def shown(voxels: Array, index: int) -> Array:
    """A slice of `c d h w` between 0 and 1, as `h w` or `h w 3`."""
    grey = np.asarray(voxels[:, index], np.float32)
    low, high = (float(v) for v in np.percentile(grey, (0.5, 99.5)))
    scaled = np.clip((grey - low) / ((high - low) or 1.0), 0, 1)
    return np.moveaxis(scaled, 0, -1) if scaled.shape[0] == 3 else scaled[0]


def drawn(
    picture: Array, reference: Array | None, predicted: Array | None, *, aspect: float = 1.0, widest: float = 3.2
) -> bytes:
    """A picture (`h w`, or `h w 3`, 0 to 1) with contours of label maps.

    Args:
        picture: to draw on.
        reference: label numbers, dashed and white.
        predicted: label numbers, solid and coloured by label.
        aspect: height of a pixel over its width.
        widest: edge of the figure in inches.
    """
    figure, axes = _canvas(picture, aspect, widest)
    values = sorted({int(v) for labels in (reference, predicted) if labels is not None for v in np.unique(labels) if v})
    for number, value in enumerate(values):
        colour = _COLOURS[number % len(_COLOURS)]
        for labels, style, ink in ((predicted, "solid", colour), (reference, "dashed", "white")):
            if labels is not None and (labels == value).any() and not (labels == value).all():
                axes.contour(labels == value, levels=[0.5], colors=[ink], linewidths=1.0, linestyles=style)
    return _png(figure)


def _canvas(picture: Array, aspect: float, widest: float = 3.2) -> tuple[Any, Any]:
    """A figure that is filled by the picture, and its axes."""
    from matplotlib.figure import Figure

    height, width = picture.shape[0] * aspect, picture.shape[1]
    scale = widest / max(height, width)
    figure = Figure(figsize=(max(0.8, width * scale), max(0.8, height * scale)), dpi=110)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.axis("off")
    axes.imshow(
        picture, cmap=None if picture.ndim == 3 else "gray", vmin=0, vmax=1, aspect=aspect, interpolation="nearest"
    )
    return figure, axes


def _png(figure: Any) -> bytes:
    out = BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()
