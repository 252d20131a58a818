"""Pictures: key slices with overlay, orientation letters and scale bar, and the histogram."""

from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from isocenter.data.examination import Examination
from isocenter.data.geometry import Geometry, Space
from isocenter.data.labels import LabelMap
from isocenter.data.palette import COLOURS, colour_of
from isocenter.data.volume import Quantity, Volume
from isocenter.ops.morphology import bounding_box
from isocenter.report.marks import Mark, draw, marks_of
from isocenter.types import Array

Plane = Literal["axial", "coronal", "sagittal", "image", "frames"]
_WORLD_AXIS = {"L": 0, "R": 0, "P": 1, "A": 1, "S": 2, "I": 2}
_OPPOSITE = dict(zip("LRAPSI", "RLPAIS", strict=True))
_VIEWS: dict[Plane, tuple[int, str, str]] = {
    # world axis across, letters towards which rows (down) and columns (right) grow on the screen
    "axial": (2, "P", "L"),
    "coronal": (1, "I", "L"),
    "sagittal": (0, "I", "P"),
}
_INCH, _DPI = 3.4, 120
_OUTLINE = [withStroke(linewidth=2.5, foreground="black")]
_SOFT_TISSUE_HU = (-160.0, 240.0)


@dataclass(frozen=True)
class Picture:
    """A key image: PNG bytes, and what it shows; `what` names a picture that compares two images."""

    file: str
    png: bytes
    plane: Plane
    position_mm: float | None
    letter: str
    overlay: bool
    what: str = ""


@dataclass(frozen=True)
class View:
    """A volume seen along one direction: transposed and flipped views of the same memory."""

    grid: Array
    labels: Array | None
    geometry: Geometry
    plane: Plane
    marks: tuple[Mark, ...] = ()


def key_images(examination: Examination) -> tuple[Picture, ...]:
    """For each plane the middle slice as it is, and three slices with overlay; empty if nothing was read."""
    volume = examination.case.volumes.get(examination.image) or examination.case.volumes.get("original")
    if volume is None:
        return ()
    labels = examination.case.label_maps.get(examination.overlay or "")
    labels = None if labels is None else _onto(labels, volume.geometry)
    pictures: list[Picture] = []
    window = examination.window or display_window(volume, labels)
    for view in views(volume, labels):
        slices = key_slices(view)
        names = [view.plane, *(f"{view.plane}_overlay_{i}" for i in range(1, len(slices) + 1))]
        wanted = [(slices[len(slices) // 2], False)] + [(index, True) for index in slices if labels is not None]
        for name, (index, overlay) in zip(names, wanted, strict=False):
            pictures.append(_picture(view, index, window, overlay=overlay, file=f"key_{name}.png"))
    return tuple(pictures)


def _onto(labels: LabelMap, geometry: Geometry) -> LabelMap:
    """Labels on the grid of the volume that is shown."""
    if labels.geometry.distance_to(geometry) <= 0.01:
        return labels
    from isocenter.ops.resample import resample

    here = labels.geometry.affine
    voxels = resample(
        labels.voxels, affine=here, to_shape=geometry.shape, to_affine=geometry.affine, interpolation="nearest"
    )
    return LabelMap(voxels, geometry, labels.labels, labels.history)


def display_window(volume: Volume, labels: LabelMap | None) -> tuple[float, float]:
    """Black and white points: soft tissue in HU, colours as they are, else the 1st to 99.5th percentile of the rest."""
    if volume.quantity is Quantity.HU:
        return _SOFT_TISSUE_HU
    if volume.channels == 3 and volume.voxels.dtype in (np.uint8, np.uint16):
        return 0.0, float(np.iinfo(volume.voxels.dtype).max)
    step = [max(1, n // 96) for n in volume.geometry.shape]
    sample = volume.voxels[:, :: step[0], :: step[1], :: step[2]]
    values = sample.ravel()
    if labels is not None and volume.geometry.shape[0] > 1:  # a picture is shown whole
        inside = labels.voxels[:: step[0], :: step[1], :: step[2]] != 0
        values = sample[0][inside] if inside.any() else values
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = np.percentile(finite, (1, 99.5))
    return (float(low), float(high)) if low < high else (float(low), float(low) + 1.0)


def histogram_svg(volume: Volume, labels: LabelMap | None, *, window: tuple[float, float] | None = None) -> str:
    """Intensities of each label (of all voxels without labels) as an SVG that follows the page's colours.

    More labels than there are colours are counted together. Colour is shown as the mean of its channels.

    Axes have numbers only; the words stand in the page, in its language.
    """
    low, high = window or display_window(volume, labels)
    span = high - low
    width = 1.2 * span / 120
    if volume.voxels.dtype.kind in "iu":  # whole steps, or some bins would hold one value more than others
        width = max(1.0, round(width))
    first = low - 0.1 * span
    if volume.voxels.dtype.kind in "iu":
        first = np.floor(first) - 0.5
    edges = first + width * np.arange(int(np.ceil(1.2 * span / width)) + 1)
    figure = Figure(figsize=(7.2, 2.4))
    axes = figure.add_axes((0.07, 0.14, 0.91, 0.82))
    kinds: list[tuple[int | None, str]] = [(None, colour_of(0))]
    if labels and len(labels.labels) <= len(COLOURS) and not marks_of(labels):
        kinds = [(label.value, colour_of(i)) for i, label in enumerate(labels.labels)]
    centres = (edges[1:] + edges[:-1]) / 2
    for value, colour in kinds:
        counts = np.zeros(len(edges) - 1)
        for index in range(volume.geometry.shape[0]):
            plane = volume.voxels[0, index] if volume.channels == 1 else volume.voxels[:, index].mean(axis=0)
            inside = None if labels is None else labels.voxels[index]
            chosen = plane if inside is None else plane[inside != 0] if value is None else plane[inside == value]
            counts += np.histogram(chosen, edges)[0]
        axes.fill_between(centres, counts / 1000, step="mid", color=colour, alpha=0.35, linewidth=0)
        axes.step(centres, counts / 1000, where="mid", color=colour, linewidth=1.4)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(bottom=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    grey = "#808890"
    axes.tick_params(colors=grey, labelsize=9)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(grey)
    out = BytesIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue().decode("utf-8")
    return text[text.index("<svg") :]


def views(volume: Volume, labels: LabelMap | None) -> list[View]:
    """Axial, coronal and sagittal views in radiological convention; one view of a flat or placeless image."""
    geometry = volume.geometry
    grid = np.moveaxis(volume.voxels, 0, -1) if volume.channels > 1 else volume.grid
    marks = labels.voxels if labels is not None else None
    if geometry.space is not Space.PATIENT or 1 in geometry.shape:
        return [View(grid, marks, geometry, "image", marks_of(labels))]
    letters = geometry.axis_letters
    views = []
    for plane, (across, down, right) in _VIEWS.items():
        order = [
            next(a for a in range(3) if _WORLD_AXIS[letters[a]] == w)
            for w in (across, _WORLD_AXIS[down], _WORLD_AXIS[right])
        ]
        seen, turned = geometry.permute((order[0], order[1], order[2])), grid.transpose(order)
        marked = marks.transpose(order) if marks is not None else None
        for axis, wanted in ((1, down), (2, right)):
            if seen.axis_letters[axis] != wanted:
                seen, turned = seen.flip(axis), np.flip(turned, axis)
                marked = np.flip(marked, axis) if marked is not None else None
        views.append(View(turned, marked, seen, plane))
    return views


def key_slices(view: View) -> list[int]:
    """Three slices at 30, 50 and 70 % of the labelled extent, or of the grid."""
    depth = view.grid.shape[0]
    first, last = 0, depth - 1
    if view.labels is not None:
        box = bounding_box(view.labels != 0)
        if box[0].stop > box[0].start:
            first, last = box[0].start, box[0].stop - 1
    return sorted({round(first + share * (last - first)) for share in (0.3, 0.5, 0.7)})


def _picture(view: View, index: int, window: tuple[float, float], *, overlay: bool, file: str) -> Picture:
    grid = view.grid[index]
    rows, columns = grid.shape[:2]
    step = view.geometry.steps
    height, width = rows * step[1], columns * step[2]
    scale = _INCH / max(width, height / 2)  # one width for all planes: letters and bars are of one size
    size = (max(0.5, width * scale), max(0.5, height * scale))
    figure = Figure(figsize=size, facecolor="black")
    axes = figure.add_axes((0, 0, 1, 1))
    extent = (0.0, width, height, 0.0)
    if grid.ndim == 3:
        picture = np.clip((grid.astype(np.float32) - window[0]) / (window[1] - window[0]), 0, 1)
        axes.imshow(picture, extent=extent, interpolation="bilinear")
    else:
        axes.imshow(grid, cmap="gray", vmin=window[0], vmax=window[1], extent=extent, interpolation="bilinear")
    if overlay and view.marks:
        draw(axes, view.marks, (step[1], step[2]))
    elif overlay and view.labels is not None:
        axes.imshow(tinted(view.labels[index]), extent=extent, interpolation="nearest")
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.axis("off")
    position, letter = _position(view, index)
    if view.geometry.space is Space.PATIENT and view.plane != "image":
        _letters(figure, view)
    if view.geometry.space is not Space.PIXELS:
        _scale_bar(axes, width, height)
    out = BytesIO()
    FigureCanvasAgg(figure).print_figure(out, format="png", dpi=_DPI, facecolor="black")
    return Picture(file, out.getvalue(), view.plane, position, letter, overlay)


def tinted(labels: Array) -> Array:
    """RGBA of the labels: a light fill and a firm edge."""
    out = np.zeros((*labels.shape, 4), np.float32)
    inner = np.ones(labels.shape, np.bool_)
    for axis in (0, 1):
        for shift in (1, -1):
            inner &= np.roll(labels, shift, axis) == labels
    for value in np.unique(labels[labels != 0]).tolist():
        colour = colour_of(value - 1)
        out[labels == value, :3] = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    out[labels != 0, 3] = 0.2
    out[(labels != 0) & ~inner, 3] = 0.7
    return out


def _position(view: View, index: int) -> tuple[float | None, str]:
    """Where the slice's centre lies along the view's direction, and its letter."""
    if view.geometry.space is not Space.PATIENT or view.plane == "image":
        return None, ""
    across = _VIEWS[view.plane][0]
    centre = np.asarray([[index, (view.grid.shape[1] - 1) / 2, (view.grid.shape[2] - 1) / 2]])
    value = float(view.geometry.index_to_world(centre)[0, across])
    return abs(value), ("RAI", "LPS")[value >= 0][across]


def _letters(figure: Figure, view: View) -> None:
    """Orientation letters at the four edges."""
    _, down, right = (*view.geometry.axis_letters,)
    style = {"color": "#ffd75e", "fontsize": 13, "fontweight": "bold", "path_effects": _OUTLINE}
    for x, y, text, ha, va in (
        (0.015, 0.5, _OPPOSITE[right], "left", "center"),
        (0.985, 0.5, right, "right", "center"),
        (0.5, 0.985, _OPPOSITE[down], "center", "top"),
        (0.5, 0.015, down, "center", "bottom"),
    ):
        figure.text(x, y, text, ha=ha, va=va, **style)  # type: ignore[arg-type]


def _scale_bar(axes: Axes, width: float, height: float) -> None:
    """A bar of a round number of millimetres, at most a quarter of the width."""
    most = width / 4
    length = max((n for n in (1, 2, 5, 10, 20, 50, 100, 200) if n <= most), default=most)
    x, y = width * 0.03, height * 0.965
    axes.plot([x, x + length], [y, y], color="white", linewidth=2.5, solid_capstyle="butt", path_effects=_OUTLINE)
    axes.text(x, y - height * 0.015, f"{length:g} mm", color="white", fontsize=9, va="bottom", path_effects=_OUTLINE)
