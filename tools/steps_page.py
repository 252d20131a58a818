"""Write docs/en/steps.md from the steps themselves."""

from pathlib import Path

from pydantic.fields import FieldInfo

from isocenter.recipe import STAGES

PAGE = Path(__file__).parents[1] / "docs" / "en" / "steps.md"
TAKES = {
    "volume": "a volume",
    "labels": "a label map (`of`)",
    "region": "a volume and a label map (`of`)",
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
            rows = [_row(key, field) for key, field in kind.settings.model_fields.items()]
            if rows:
                lines.append("\n".join(["| setting | default | |", "|---|---|---|", *rows]) + "\n")
    return "\n".join(lines)


def _row(key: str, field: FieldInfo) -> str:
    default = "needed" if field.is_required() else f"`{field.default}`"
    return f"| `{key}` | {default} | {' '.join((field.description or '').split())} |"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
