"""A page of results from the folders that `train` and `evaluate` left: metrics over seeds, plan, commands.

python tools/results_page.py RUNS docs/results/NAME.yaml ...

RUNS holds the folders; the YAML names title, data, commands, runs (models and evaluations), metrics and text; the page lies beside
it.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml


def _cell(row: dict[str, Any]) -> str:
    ends = "" if row.get("low") is None else f" ({row['low']:.3f} to {row['high']:.3f})"
    return f"{row['value']:.3f}{ends}"


def page(about: dict[str, Any], root: Path) -> str:
    """The page as Markdown."""
    runs = [
        (run, json.loads((root / run["evaluation"] / "evaluation.json").read_text("utf-8"))) for run in about["runs"]
    ]
    lines = [
        f"# {about['title']}",
        "",
        about["data"].strip(),
        "",
        "**Not for clinical use.** " + about["says"].strip(),
        "",
    ]
    lines += ["```sh", *about["commands"].strip().splitlines(), "```", ""]
    heads = [str(run["name"]) for run, _ in runs]
    lines += ["| | " + " | ".join(heads) + (" | mean ± deviation |" if len(runs) > 1 else " |")]
    lines += ["|---" * (len(heads) + 1 + (len(runs) > 1)) + "|"]
    for name in about["metrics"]:
        rows = [data["metrics"][name] for _, data in runs]
        cells = [_cell(row) for row in rows]
        if len(rows) > 1:
            values = [row["value"] for row in rows]
            cells.append(f"**{np.mean(values):.3f}** ± {np.std(values, ddof=1):.3f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    n, kind = runs[0][1]["n_cases"], "validation" if runs[0][1].get("split") == "val" else "test"
    lines += ["", f"{n} {kind} cases; intervals: 95 %, by patient where patients are known, else by case.", ""]
    if about.get("published"):
        lines += ["| published | " + " | ".join(about["published"]["columns"]) + " |"]
        lines += ["|---" * (len(about["published"]["columns"]) + 1) + "|"]
        lines += [
            f"| {name} | " + " | ".join(map(str, values)) + " |" for name, values in about["published"]["rows"].items()
        ]
        lines += [""]
    lines += [about.get("notes", "").strip(), ""]
    for run, _ in runs[:1]:
        plan = (root / run["model"] / "plan.json").read_text("utf-8")
        lines += [
            "## Plan",
            "",
            f"Of {run['name']}{'; the others differ in the seed and the steps' if len(runs) > 1 else ''}.",
            "",
            "```json",
            plan.strip(),
            "```",
            "",
        ]
    return "\n".join(lines)


def main() -> None:
    """Write the page of each description that is named."""
    runs, *names = map(Path, sys.argv[1:])
    for path in names:
        about = yaml.safe_load(path.read_text("utf-8"))
        path.with_suffix(".md").write_text(page(about, runs), "utf-8")


if __name__ == "__main__":
    main()
