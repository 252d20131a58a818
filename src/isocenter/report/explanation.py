"""The page of an explanation."""

from collections.abc import Sequence
from importlib.resources import files
from io import BytesIO
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from isocenter.data.volume import Volume
from isocenter.report.plots import chart


def render_explanation(rows: Sequence[tuple[dict[str, Any], str, Any]], model: str) -> str:
    """The page; each row holds the summary, the picture (base64) and the curves or None."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    folder = files("isocenter.report") / "templates"
    page = environment.from_string((folder / "explanation.html.j2").read_text("utf-8"))
    style = (folder / "style.css").read_text("utf-8")
    shown = []
    for told, png, curves in rows:
        svg = None
        if curves is not None:
            named = [("deletion", curves.deletion), ("insertion", curves.insertion), ("random", curves.random)]
            lines = [
                (name, [[float(x), float(y)] for x, y in zip(curves.share, ys, strict=True)]) for name, ys in named
            ]
            svg = Markup(chart(lines, x="share of the image", y="probability"))  # noqa: S704 - our own SVG
        shown.append((told, png, svg))
    return page.render(model=model, rows=shown, style=Markup(style))  # noqa: S704 - our own file


def heat_picture(volume: Volume, heat: Volume) -> bytes:
    """PNG: the slice with most heat, beside itself with the map on it."""
    from matplotlib.figure import Figure

    grid = np.asarray(heat.voxels[0])
    strength = np.abs(grid)
    index = int(strength.sum(axis=(1, 2)).argmax())
    grey = np.asarray(volume.voxels[:, index], np.float32)
    low, high = (float(v) for v in np.percentile(grey, (0.5, 99.5)))
    shown = np.clip((grey - low) / ((high - low) or 1.0), 0, 1)
    picture = np.moveaxis(shown, 0, -1) if shown.shape[0] == 3 else shown[0]
    steps = volume.geometry.steps
    aspect = float(steps[1] / steps[2])
    top = float(np.percentile(strength[index], 99.5)) or 1.0
    signed = bool((grid < 0).any())
    figure = Figure(figsize=(6.6, 3.3 * min(1.6, picture.shape[0] * aspect / picture.shape[1])), dpi=110)
    for number in range(2):
        axes = figure.add_axes((0.5 * number, 0.0, 0.495, 1.0))
        axes.axis("off")
        axes.imshow(picture, cmap=None if picture.ndim == 3 else "gray", vmin=0, vmax=1, aspect=aspect)
        if number:
            alpha = np.clip(strength[index] / top, 0, 1) * 0.75
            colours, low = ("coolwarm", -top) if signed else ("inferno", 0.0)
            axes.imshow(grid[index], cmap=colours, vmin=low, vmax=top, alpha=alpha, aspect=aspect)
    out = BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()
