"""The page of a data check."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from isocenter.data.provenance import Json


def render_data(found: Mapping[str, Json], pictures: Sequence[tuple[str, bytes]], name: str) -> str:
    """The HTML page.

    Args:
        found: as `data.json` says it.
        pictures: title and PNG of some cases.
        name: of the data set.
    """
    folder = files("isocenter.report") / "templates"
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string((folder / "data.html.j2").read_text("utf-8")).render(
        found=found, name=name, pictures=[(title, b64encode(png).decode()) for title, png in pictures],
        style=Markup((folder / "style.css").read_text("utf-8")),  # noqa: S704 - our own file
    )  # fmt: skip
