"""The overview of a cohort: how many came, who was left out and why, and a picture of each case."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Protocol, runtime_checkable

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from isocenter.data.provenance import Json
from isocenter.report.document import Language, number, translate

_ORDER = ("failed", "refused", "review", "accepted")
_WHY: dict[str, str] = {
    "hidden": "hidden rows",
    "unmatched": "no study",
    "ambiguous": "several studies",
    "near": "nearly a study",
    "conflict": "contradicting values",
    "duplicate": "one study in several rows",
}
_INK, _SOFT, _LINE = "#16202b", "#55616e", "#9aa7b4"


@runtime_checkable
class Matched(Protocol):
    """What the overview needs to know of a row's or study's match."""

    @property
    def row(self) -> int | None:
        """As the sheet numbers it."""
        ...

    @property
    def status(self) -> str:
        """How it was matched."""
        ...

    @property
    def message(self) -> str:
        """Why."""
        ...


def flow_svg(matches: Sequence[Matched], entries: Sequence[Mapping[str, Json]], language: Language) -> str:
    """A flow chart: rows, rows left out and why, studies run, and how they ended."""

    def say(text: str) -> str:
        return escape(translate(text, language))

    rows = Counter(m.status for m in matches if m.row is not None)
    ends = Counter(str(e["verdict"]) for e in entries)
    left = [f"{say(words)}: {rows[status]}" for status, words in _WHY.items() if rows[status]]
    lost = [f"{say(verdict)}: {ends[verdict]}" for verdict in ("refused", "failed") if ends[verdict]]
    for reason, count in Counter(_short(e) for e in entries if e["verdict"] in ("refused", "failed")).most_common(4):
        lost.append(f"{count} × {escape(reason)}")
    kept = [f"{say(verdict)}: {ends[verdict]}" for verdict in ("accepted", "review")]
    without = sum(m.status == "unlisted" for m in matches)
    main = [
        [f"{say('Rows of the table')}: {sum(rows.values())}", f"{say('Studies without a row')}: {without}"],
        [f"{say('Studies run')}: {len(entries)}"],
        [f"{say('With a result')}: {ends['accepted'] + ends['review']}", *kept],
    ]
    sides: list[tuple[str, list[str]]] = [(say("Left out"), left), (say("Without a result"), lost)]
    return _drawn(main, sides)


def _short(entry: Mapping[str, Json]) -> str:
    reasons = list(entry["reasons"])
    text = " ".join(str(reasons[0]).split()) if reasons else "-"
    text = re.sub(r"^(No series fits the recipe): [^:]*:", r"\1:", text)  # the series' own name keeps causes apart
    text = re.sub(r"\d+(\.\d+)?", "#", text)
    return text if len(text) <= 60 else text[:57] + "..."


def _drawn(main: list[list[str]], sides: list[tuple[str, list[str]]]) -> str:
    parts: list[str] = []
    y, wide, line = 10.0, 300.0, 22.0
    for index, lines in enumerate(main):
        height = 16 + line * len(lines)
        parts.append(_box(10, y, wide, lines, line, bold=True))
        if index < len(sides):
            title, words = sides[index]
            side_height = 16 + line * (len(words) + 1)
            gap = max(56.0, side_height + 16)
            middle = y + height + gap / 2
            parts.append(_arrow(160, y + height, 160, y + height + gap))
            if words:
                parts.append(_arrow(160, middle, 350, middle))
                parts.append(_box(350, middle - side_height / 2, 440, [title, *words], line, bold=False))
            y += height + gap
        else:
            y += height
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 {y + 10:.0f}" width="800" '
        f'font-family="system-ui, sans-serif" font-size="15" role="img"><rect width="800" height="{y + 10:.0f}" '
        'fill="#fff"/><defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
        f'orient="auto"><path d="M0 0L10 5L0 10z" fill="{_LINE}"/></marker></defs>{"".join(parts)}</svg>'
    )


def _box(x: float, y: float, width: float, lines: list[str], line: float, *, bold: bool) -> str:
    height = 16 + line * len(lines)
    text = "".join(
        f'<text x="{x + 12:.0f}" y="{y + 8 + line * (i + 0.72):.1f}" fill="{_INK if i == 0 else _SOFT}"'
        f"{' font-weight=' + chr(34) + '600' + chr(34) if i == 0 and bold else ''}>{words}</text>"
        for i, words in enumerate(lines)
    )
    return (
        f'<rect x="{x:.0f}" y="{y:.1f}" width="{width:.0f}" height="{height:.1f}" rx="5" fill="#f3f5f7" '
        f'stroke="{_LINE}"/>{text}'
    )


def _arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    return (
        f'<line x1="{x1:.0f}" y1="{y1:.1f}" x2="{x2:.0f}" y2="{y2:.1f}" stroke="{_LINE}" stroke-width="1.5" '
        'marker-end="url(#head)"/>'
    )


def render(
    title: str, matches: Sequence[Matched], entries: Sequence[Mapping[str, Json]], flow: str, language: Language
) -> str:
    """The HTML page to look through all cases: the gravest first, a picture and the first numbers of each."""
    folder = files("isocenter.report") / "templates"
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = number
    template = environment.from_string((folder / "cohort.html.j2").read_text("utf-8"))
    ordered = sorted(entries, key=lambda e: (_ORDER.index(str(e["verdict"])), int(e["row"])))
    left_out = [m for m in matches if m.status != "matched"]
    return template.render(
        _=lambda text: translate(text, language),
        language=language,
        style=Markup((folder / "style.css").read_text("utf-8")),  # noqa: S704 - our own file
        flow=Markup(flow),  # noqa: S704 - our own SVG, its words escaped
        title=title,
        entries=ordered,
        left_out=left_out,
        counts=Counter(str(e["verdict"]) for e in entries),
        order=_ORDER,
    )
