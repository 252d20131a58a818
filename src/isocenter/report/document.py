"""The page for a physician: one HTML file that needs nothing else, in English or Chinese."""

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from math import floor, log10
from typing import Literal

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from isocenter.data.curve import Curve
from isocenter.data.examination import Examination
from isocenter.data.finding import Verdict
from isocenter.data.geometry import Space
from isocenter.data.message import Message
from isocenter.data.palette import COLOURS, colour_of
from isocenter.data.provenance import Json
from isocenter.report.chinese import CHINESE
from isocenter.report.figures import Picture, histogram_svg
from isocenter.report.marks import legend_of, marks_of
from isocenter.report.plots import chart

Language = Literal["en", "zh"]
_MOST_SHOWN = 24
"""Items of a list that the page writes out."""


def render(
    examination: Examination, data: Mapping[str, Json], pictures: Sequence[Picture], *, language: Language
) -> str:
    """The HTML page.

    Args:
        examination: what came out.
        data: the same as `report.json` says it.
        pictures: the key images, embedded.
        language: of the page.
    """
    folder = files("isocenter.report") / "templates"
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    for name, function in (("number", number), ("plain", plain), ("date", date), ("age", age)):
        environment.filters[name] = function
    template = environment.from_string((folder / "report.html.j2").read_text("utf-8"))

    def say(text: str | Message) -> str:
        return translate(text, language)

    original = examination.case.volumes.get("original")
    overlay = examination.case.label_maps.get(examination.overlay or "")
    legend = [(label.name, colour_of(label.value - 1)) for label in (overlay.labels if overlay else ())]
    if marks_of(overlay):
        legend = legend_of(marks_of(overlay))
    if len(legend) > len(COLOURS):
        legend = []
    histogram = Markup(histogram_svg(original, overlay, window=examination.window)) if original is not None else None  # noqa: S704 - our own SVG
    planes = list(dict.fromkeys(p.plane for p in pictures if p.plane != "frames"))
    return template.render(
        _=say,
        language=language,
        style=Markup((folder / "style.css").read_text("utf-8")),  # noqa: S704 - our own file
        examination=examination,
        data=data,
        title=data["recipe"]["title"][language],
        description=data["recipe"]["description"][language],
        verdict=examination.verdict,
        Verdict=Verdict,
        planes=[(plane, [(p, _embedded(p)) for p in pictures if p.plane == plane]) for plane in planes],
        legend=legend,
        families=[
            (family, [f for f in examination.features if f.family == family])
            for family in dict.fromkeys(f.family for f in examination.features if f.family)
        ],
        ranged_methods=list({str(f.method): f.method for f in examination.findings if f.interval}.values()),
        frames=next((_embedded(p) for p in pictures if p.plane == "frames"), None),
        histogram=histogram,
        curves=[(say(c.statement), _curve_svg(c, say)) for c in examination.curves],
        curves_timed=all(c.timed for c in examination.curves),
        pictures_of_patient=original is not None and original.geometry.space is Space.PATIENT,
        units=UNITS,
        quantity=str(original.quantity) if original is not None else "",
    )


def _curve_svg(curve: Curve, say: Callable[[str | Message], str]) -> Markup:
    """Values over time; the axis of values begins where they do, with a tenth of their reach about them."""
    low, high = min(curve.values), max(curve.values)
    about = 0.1 * (high - low) or 0.5 * abs(high) or 1.0
    points = [[t, v] for t, v in zip(curve.times_s, curve.values, strict=True)]
    unit = UNITS.get(curve.unit, curve.unit) if curve.unit != "1" else ""
    svg = chart(
        [("", points)], x=say("time (s)"), y=say("value") + (f" ({unit})" if unit else ""), dots=points,
        x_range=(curve.times_s[0], curve.times_s[-1] or 1.0), y_range=(low - about, high + about),
    )  # fmt: skip
    return Markup(svg)  # noqa: S704 - our own SVG


UNITS = {
    "[hnsf'U]": "HU",
    "[arb'U]": "",
    "{pixels}": "px",
    "mm2": "mm²",
    "deg": "°",
    "([hnsf'U])2": "HU²",
    "([arb'U])2": "",
    "[hnsf'U].mm3": "HU·mm³",
    "[arb'U].mm3": "mm³",
    "mm3": "mm³",
    "cm2": "cm²",
    "/mm": "1/mm",
    "d": "days",
}
"""UCUM codes as a physician writes them; others stay as they are."""


def translate(text: str | Message, language: Language) -> str:
    """A text or message in the page's language; what the table lacks stays English."""

    def word(english: str) -> str:
        return english if language == "en" else CHINESE.get(english, english)

    return word(text) if isinstance(text, str) else text.said(word)


def number(value: float | None, digits: int = 4) -> str:
    """A number with `digits` significant digits, never in scientific notation between 0.001 and a million."""
    if value is None:
        return "–"
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        decimals = max(0, digits - 1 - _magnitude(value))
        return f"{value:,.{decimals}f}"
    return f"{value:.{digits - 1}e}"


def plain(value: Json) -> str:
    """A parameter as text: numbers shortened, lists without brackets."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        if len(value) > _MOST_SHOWN or any(isinstance(item, Mapping) for item in value):
            return f"{len(value)} entries, see report.json"
        return ", ".join(plain(item) for item in value)
    if isinstance(value, Mapping):
        return "; ".join(f"{key} {plain(item)}" for key, item in value.items())
    return str(value)


def date(text: str) -> str:
    """A DICOM date (PS3.5, DA) as ISO 8601; anything else as it is."""
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if len(text) == 8 and text.isdecimal() else text


def age(text: str) -> str:
    """A DICOM age (PS3.5, AS) such as `047Y` as `47 y`; anything else as it is."""
    return f"{int(text[:3])} {text[3].lower()}" if len(text) == 4 and text[:3].isdecimal() else text


def _magnitude(value: float) -> int:
    return floor(log10(abs(value))) if value else 0


def _embedded(picture: Picture) -> str:
    return "data:image/png;base64," + b64encode(picture.png).decode("ascii")
