"""Objects that a network found, as boxes on a picture: a colour for each class, a number for each object."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from isocenter.data.labels import LabelMap
from isocenter.data.palette import colour_of
from isocenter.data.provenance import Json
from isocenter.types import Array


@dataclass(frozen=True)
class Mark:
    """One object.

    Args:
        number: by which the report lists it.
        name: its class.
        colour: of its class.
        low: first row and column, in pixels from the image's corner.
        high: where it ends.
    """

    number: int
    name: str
    colour: str
    low: tuple[float, float]
    high: tuple[float, float]


def marks_of(labels: LabelMap | None) -> tuple[Mark, ...]:
    """Boxes of a picture's label map; none where objects have masks, of volumes, and of other label maps."""
    if labels is None or labels.geometry.shape[0] != 1:
        return ()
    told = next((s.results for s in reversed(labels.history) if s.name == "segment.network_objects"), None)
    if told is None or told.get("drawn") != "boxes":
        return ()
    classes = list(told["classes"])
    from isocenter.inference.placed import moved

    rows = list(told["objects"])
    given = np.asarray([(row["low"], row["high"]) for row in rows], np.float64).reshape(-1, 2, 3)
    boxes = moved(given, source=np.asarray(told["affine"]), target=labels.geometry.affine)  # as labels are, at the end
    there = {label.value for label in labels.labels}  # a later step may have taken some away
    return tuple(
        _mark(row, box, classes) for row, box in zip(rows, boxes, strict=True) if row["value"] in there
    )  # fmt: skip


def _mark(row: dict[str, Json], box: Array, classes: list[str]) -> Mark:
    colour = colour_of(classes.index(row["class"]))
    (_, top, left), (_, bottom, right) = box.tolist()
    return Mark(row["value"], row["class"], colour, (top, left), (bottom, right))


def draw(axes: Axes, marks: tuple[Mark, ...], step: tuple[float, float]) -> None:
    """Draw outlines and numbers; the surest on top.

    Args:
        axes: whose unit is that of `step`.
        marks: the surest first.
        step: height and width of a pixel.
    """
    outline = [withStroke(linewidth=2.4, foreground="black")]
    for mark in reversed(marks):
        top, left = mark.low[0] * step[0], mark.low[1] * step[1]
        height, width = (mark.high[0] - mark.low[0]) * step[0], (mark.high[1] - mark.low[1]) * step[1]
        about: Any = {"fill": False, "edgecolor": mark.colour, "linewidth": 1.3, "path_effects": outline}
        axes.add_patch(Rectangle((left, top), width, height, **about))
        axes.text(
            left + width / 2, top + height / 2, str(mark.number), color=mark.colour, fontsize=7, fontweight="bold",
            ha="center", va="center", path_effects=outline, clip_on=True,
        )  # fmt: skip


def legend_of(marks: tuple[Mark, ...]) -> list[tuple[str, str]]:
    """Each class that is there, and its colour."""
    return sorted({mark.name: mark.colour for mark in marks}.items())
