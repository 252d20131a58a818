"""How values show themselves in a notebook: a short table, no pictures."""

from collections.abc import Sequence
from html import escape


def html_table(title: str, rows: Sequence[Sequence[object]], *, head: Sequence[str] = ()) -> str:
    """A small HTML table; everything in it is escaped."""

    def line(cells: Sequence[object], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag} style='text-align:left'>{escape(str(c))}</{tag}>" for c in cells) + "</tr>"

    top = line(head, "th") if head else ""
    return f"<table><caption>{escape(title)}</caption>{top}{''.join(line(r, 'td') for r in rows)}</table>"
