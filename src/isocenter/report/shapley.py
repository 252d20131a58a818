"""The page of Shapley values."""

from collections.abc import Sequence
from importlib.resources import files

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from isocenter.types import Array, Float64

_SHOWN_CASES, _SHOWN_COLUMNS = 12, 12


def render_shapley(
    values: Float64[Array, "n d"], rows: Float64[Array, "n d"], answers: Float64[Array, " n"], *, cases: Sequence[str],
    columns: Sequence[str], base: float, unit: str, model: str,
) -> str:  # fmt: skip
    """The HTML page: the mean size of each column, and the first rows one by one.

    Args:
        values: Shapley values.
        rows: what was explained.
        answers: of the model.
        cases: names of the rows.
        columns: names of the columns.
        base: answer of the baseline.
        unit: what the answers are, in words.
        model: its kind.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    folder = files("isocenter.report") / "templates"
    page = environment.from_string((folder / "shapley.html.j2").read_text("utf-8"))
    size = np.abs(values).mean(axis=0)
    top = float(size.max()) or 1.0
    order = np.argsort(-size)
    overall = [(columns[i], float(size[i]), round(100 * float(size[i]) / top, 1)) for i in order]
    widest = float(np.abs(values).max()) or 1.0
    each = []
    for n in range(min(len(cases), _SHOWN_CASES)):
        own = np.argsort(-np.abs(values[n]))[:_SHOWN_COLUMNS]
        shown = [
            (columns[i], float(rows[n, i]), float(values[n, i]), round(100 * abs(float(values[n, i])) / widest, 1))
            for i in own
        ]
        each.append((cases[n], float(answers[n]), shown))
    style = Markup((folder / "style.css").read_text("utf-8"))  # noqa: S704 - our own file
    return page.render(overall=overall, each=each, cases=len(cases), base=base, unit=unit, model=model, style=style)
