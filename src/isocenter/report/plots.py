"""Charts as SVG: lines in the unit square or on axes of their own, bars, and a tree."""

from collections.abc import Sequence
from html import escape
from typing import Any

from isocenter.data.card import ModelCard

_SIZE, _LEFT, _BOTTOM, _TOP = 320, 52, 40, 12
_COLOURS = ("#1f5fa8", "#b4530a", "#3c7d3c", "#7a4fa0")

Points = Sequence[Sequence[float]]


def _tick(value: float) -> str:
    """A number beside an axis: three digits, and thousands written out rather than as powers of ten."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"


def chart(
    lines: Sequence[tuple[str, Points]],
    *,
    x: str,
    y: str,
    x_range: tuple[float, float] = (0.0, 1.0),
    y_range: tuple[float, float] = (0.0, 1.0),
    diagonal: bool = False,
    dots: Points = (),
    bands: Sequence[tuple[str, Points]] = (),
    steps: bool = False,
) -> str:
    """Lines over two axes.

    Args:
        lines: name and points of each.
        x: words under the horizontal axis.
        y: words beside the vertical axis.
        x_range: its ends.
        y_range: its ends.
        diagonal: a dashed line from corner to corner.
        dots: single points.
        bands: name of a line, and points (x, low, high) about it.
        steps: draw steps instead of straight lines.
    """
    ends = [y_range[0] + (y_range[1] - y_range[0]) * k / 5 for k in range(6)]
    left = max(_LEFT, 24 + 6 * max(len(_tick(value)) for value in ends))
    wide, high = _SIZE - left - 12, _SIZE - _BOTTOM - _TOP

    def at(px: float, py: float) -> tuple[float, float]:
        fx = (px - x_range[0]) / ((x_range[1] - x_range[0]) or 1)
        fy = (py - y_range[0]) / ((y_range[1] - y_range[0]) or 1)
        return left + wide * min(1.0, max(0.0, fx)), _TOP + high * (1 - min(1.0, max(0.0, fy)))

    parts = [f'<svg class="chart" viewBox="0 0 {_SIZE} {_SIZE}" role="img" aria-label="{escape(y)} / {escape(x)}">']
    for k in range(6):
        px, py = x_range[0] + (x_range[1] - x_range[0]) * k / 5, y_range[0] + (y_range[1] - y_range[0]) * k / 5
        gx, gy = at(px, y_range[0])[0], at(x_range[0], py)[1]
        parts += [
            f'<line x1="{gx:.1f}" y1="{_TOP}" x2="{gx:.1f}" y2="{_TOP + high}" class="grid"/>',
            f'<line x1="{left}" y1="{gy:.1f}" x2="{left + wide}" y2="{gy:.1f}" class="grid"/>',
            f'<text x="{gx:.1f}" y="{_TOP + high + 14}" text-anchor="middle">{_tick(px)}</text>',
            f'<text x="{left - 5}" y="{gy + 4:.1f}" text-anchor="end">{_tick(py)}</text>',
        ]
    if diagonal:
        (ax, ay), (bx, by) = at(x_range[0], y_range[0]), at(x_range[1], y_range[1])
        parts.append(f'<line x1="{ax:.1f}" y1="{ay:.1f}" x2="{bx:.1f}" y2="{by:.1f}" class="diagonal"/>')
    for number, (_, points) in enumerate(bands):
        upper = [at(p[0], p[2]) for p in points]
        lower = [at(p[0], p[1]) for p in points][::-1]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in [*upper, *lower])
        parts.append(f'<polygon points="{path}" fill="{_COLOURS[number % 4]}" opacity="0.15"/>')
    for number, (name, points) in enumerate(lines):
        path = _path([at(p[0], p[1]) for p in points], steps=steps)
        colour = _COLOURS[number % 4]
        parts.append(
            f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.8"><title>{escape(name)}</title></path>'
        )
        if len(lines) > 1:
            parts.append(
                f'<text x="{left + wide - 4}" y="{_TOP + 14 + 14 * number}" text-anchor="end" fill="{colour}">'
                f"{escape(name)}</text>"
            )
    middle = f"{_TOP + high / 2:.0f}"
    parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.6" fill="#333"/>' for a, b in (at(p[0], p[1]) for p in dots)]
    parts += [
        f'<text x="{left + wide / 2:.0f}" y="{_SIZE - 8}" text-anchor="middle">{escape(x)}</text>',
        f'<text x="12" y="{middle}" text-anchor="middle" transform="rotate(-90 12 {middle})">{escape(y)}</text>',
        "</svg>",
    ]
    return "".join(parts)


def _path(points: Sequence[tuple[float, float]], *, steps: bool) -> str:
    said = []
    for index, (a, b) in enumerate(points):
        if index and steps:
            said.append(f"H{a:.1f}V{b:.1f}")
        else:
            said.append(f"{'L' if index else 'M'}{a:.1f} {b:.1f}")
    return "".join(said)


def bars(rows: Sequence[tuple[str, float, float]], *, x: str) -> str:
    """Horizontal bars with their spread, the longest first.

    Args:
        rows: name, value, standard deviation.
        x: words under the axis.
    """
    most = max((abs(value) + spread for _, value, spread in rows), default=1.0) or 1.0
    high = 18 * len(rows) + 34
    parts = [f'<svg class="bars" viewBox="0 0 560 {high}" role="img" aria-label="{escape(x)}">']
    for number, (name, value, spread) in enumerate(rows):
        y = 8 + 18 * number
        length, half = 240 * max(0.0, value) / most, 240 * spread / most
        begin = 270 + max(0.0, length - half)
        shown = name if len(name) <= 42 else name[:40] + "…"
        parts += [
            f'<text x="262" y="{y + 10}" text-anchor="end">{escape(shown)}<title>{escape(name)}</title></text>',
            f'<rect x="270" y="{y}" width="{length:.1f}" height="12" fill="{_COLOURS[0]}"/>',
            f'<text x="{276 + length + half:.1f}" y="{y + 10}">{value:.3g}</text>',
            f'<line x1="{begin:.1f}" y1="{y + 6}" x2="{270 + length + half:.1f}" y2="{y + 6}" stroke="#333"/>',
        ]
    parts.append(f'<text x="400" y="{high - 8}" text-anchor="middle">{escape(x)}</text></svg>')
    return "".join(parts)


def tree_svg(model: Any, card: ModelCard) -> str:
    """A fitted decision tree: in each box the question in the feature's own unit, and what its cases are.

    Args:
        model: the pipeline whose last step is the tree.
        card: names of features and classes.
    """
    tree = model.named_steps["model"].tree_
    names = _kept_names(model, card)
    scale = model.named_steps["scale"]
    kept = [card.features.index(name) for name in names]
    rows: list[str] = []
    width = 170

    def place(node: int, depth: int, left: float) -> tuple[float, float]:
        """Draw a node and what hangs below it; gives its middle and its right end."""
        y = 20 + 92 * depth
        if tree.children_left[node] < 0:
            middle, right = left + width / 2, left + width
        else:
            first, end = place(int(tree.children_left[node]), depth + 1, left)
            second, right = place(int(tree.children_right[node]), depth + 1, end + 12.0)
            middle = (first + second) / 2
            for child, side in ((first, "yes"), (second, "no")):
                rows.append(f'<line x1="{middle:.0f}" y1="{y + 54}" x2="{child:.0f}" y2="{y + 92}" stroke="#666"/>')
                rows.append(f'<text x="{(middle + child) / 2:.0f}" y="{y + 76}" text-anchor="middle">{side}</text>')
        counts = tree.value[node][0]
        if card.task == "classify":
            total = counts.sum()
            best = int(counts.argmax())
            said = f"{card.classes[best]} {counts[best] / total:.0%}"
        else:
            said = f"{counts[0]:.4g}"
        lines = [f"{tree.n_node_samples[node]} cases: {said}"]
        if tree.children_left[node] >= 0:
            index = int(tree.feature[node])
            column = kept[index]
            limit = tree.threshold[node] * scale.scale_[column] + scale.mean_[column]
            name = names[index] if len(names[index]) <= 24 else names[index][:23] + "…"
            lines = [name, f"≤ {limit:.4g} ?", *lines]
        box = f'x="{middle - width / 2:.0f}" y="{y}" width="{width}" height="54" rx="6"'
        rows.append(f'<rect {box} fill="#eef3f9" stroke="#1f5fa8"/>')
        rows.extend(
            f'<text x="{middle:.0f}" y="{y + 16 + 15 * n}" text-anchor="middle">{escape(text)}</text>'
            for n, text in enumerate(lines)
        )
        return middle, right

    _, right = place(0, 0, 10.0)
    high = 20 + 92 * (int(tree.max_depth) + 1)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {right + 10:.0f} {high}" font-family="sans-serif" '
        f'font-size="12">{"".join(rows)}</svg>'
    )


def _kept_names(model: Any, card: ModelCard) -> list[str]:
    """Features that reach the last step, in its order."""
    names = list(card.features)
    for step in ("thin", "select"):
        if step in model.named_steps:
            names = [names[i] for i in model.named_steps[step].kept_]
    return names
