"""The page of a training on images: its course, its gap, the cases that it doubts, and the plan."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from isocenter.data.card import ModelCard
from isocenter.report.formulas import LAYERS, LOSSES
from isocenter.report.plots import chart

Course = Sequence[Mapping[str, float]]
"""Rows of the log: `step`, `loss`, `rate`, and metrics of the validation cases."""


@dataclass(frozen=True)
class NetworkCode:
    """What the page says of the network.

    Args:
        layers: rows with `kind`, `code`, `count` and `parameters`.
        code: of the class.
        source: where the network is published.
        loss: its name.
        loss_code: of the loss.
    """

    layers: Sequence[Any]
    code: str
    source: str
    loss: str
    loss_code: str


def render_training(
    card: ModelCard,
    course: Course,
    *,
    plan: str,
    warnings: Sequence[str],
    pictures: Sequence[tuple[str, bytes]],
    doubted: Sequence[tuple[str, str, float]],
    network: NetworkCode,
) -> str:
    """The HTML page.

    Args:
        card: of the model.
        course: the log.
        plan: as JSON.
        warnings: what the user must know.
        pictures: title and PNG of validation cases with their predictions.
        doubted: case, stated class, and the probability that the model gives it; least first.
        network: its layers and code.
    """
    folder = files("isocenter.report") / "templates"
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    shown = [(title, b64encode(png).decode()) for title, png in pictures]
    return environment.from_string((folder / "training.html.j2").read_text("utf-8")).render(
        card=card, plan=plan, warnings=warnings, doubted=doubted, pictures=shown,
        charts=[(title, Markup(svg)) for title, svg in _charts(course)],  # noqa: S704 - our own SVG
        layers=network.layers, code=network.code, source=network.source, loss=network.loss,
        loss_code=network.loss_code, loss_formula=LOSSES.get(network.loss, ""), formulas=LAYERS,
        parameters=sum(row.parameters for row in network.layers),
        style=Markup((folder / "style.css").read_text("utf-8")),  # noqa: S704 - our own file
    )  # fmt: skip


def _charts(course: Course) -> list[tuple[str, str]]:
    """Loss, learning rate, and every metric of the validation cases that has a name of its own."""
    names = [name for name in dict.fromkeys(key for row in course for key in row) if name not in {"step", "seconds"}]
    last = max((row["step"] for row in course), default=1.0)
    found = []
    for name in names:
        points = [[row["step"], row[name]] for row in course if name in row]
        values = [p[1] for p in points]
        if len(points) < 2 or min(values) == max(values):
            continue
        pad = 0.05 * (max(values) - min(values))
        low, high = min(values) - pad, max(values) + pad
        title = {"loss": "Training loss (with augmentation)", "rate": "Learning rate"}.get(name, f"Validation: {name}")
        found.append((title, chart([("", points)], x="step", y=name, x_range=(0, last), y_range=(low, high))))
    return found
