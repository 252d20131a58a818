"""Writing an evaluation: JSON, page, and a row a case."""

import json
from pathlib import Path

from isocenter.data.evaluation import Evaluation
from isocenter.formats.delimited import csv_text
from isocenter.report.document import Language
from isocenter.report.evaluation import render

JSON, PAGE, CASES = "evaluation.json", "evaluation.html", "cases.csv"


def write_evaluation(evaluation: Evaluation, folder: Path, *, language: Language) -> None:
    """Write the three files into a folder that exists."""
    text = json.dumps(evaluation.data, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / JSON).write_text(text, "utf-8")
    (folder / CASES).write_text(csv_text(evaluation.rows), "utf-8")
    (folder / PAGE).write_text(render(evaluation, notes=evaluation.data["notes"], language=language), "utf-8")
