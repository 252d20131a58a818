"""Write docs/en/steps.md from the steps themselves."""

from pathlib import Path

from pydantic.fields import FieldInfo

from isocenter.data.step import StepKind
from isocenter.recipe import STAGES

PAGE = Path(__file__).parents[1] / "docs" / "en" / "steps.md"
PICTURES = PAGE.parents[1] / "images" / "steps"
TAKES = {
    "volume": "a volume",
    "labels": "a label map (`of`)",
    "region": "a volume and a label map (`of`)",
    "pair": "a volume and another one (`to`)",
    "case": "the case so far",
}
HEAD = """# All steps

Every step of every stage, with its settings. `isocenter recipes schema` says the same to an editor.
(This page is written by `python tools/steps_page.py`.)
"""


def page() -> str:
    lines = [HEAD]
    for stage, table in STAGES.items():
        lines.append(f"## {stage}\n")
        for name, kind in table.items():
            within = "; accepts `within`" if kind.within else ""
            lines.append(f"### {stage}: {name}\n\n{kind.summary} Takes {TAKES[kind.takes]}{within}.\n")
            if advice(kind):
                lines.append(advice(kind) + "\n")
            if (PICTURES / f"{name}.png").exists():
                lines.append(f"![{name}, before and after](../images/steps/{name}.png)\n")
            rows = [_row(key, field) for key, field in kind.settings.model_fields.items()]
            if rows:
                lines.append("\n".join(["| setting | default | |", "|---|---|---|", *rows]) + "\n")
    return "\n".join(lines)


def advice(kind: StepKind) -> str:
    """The second paragraph of the step's docstring: when to use it."""
    parts = [" ".join(part.split()) for part in (kind.run.__doc__ or "").split("\n\n")[1:]]
    return next((p for p in parts if not p.startswith(("Raises:", "Source:", "Returns:", "Args:", "`history"))), "")


def _row(key: str, field: FieldInfo) -> str:
    default = "needed" if field.is_required() else f"`{field.default}`"
    return f"| `{key}` | {default} | {' '.join((field.description or '').split())} |"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
