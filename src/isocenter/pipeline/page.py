"""Writing an evaluation: JSON, page, and a row a case."""

import json
from pathlib import Path

from isocenter.data.evaluation import Evaluation
from isocenter.data.message import Message
from isocenter.formats.delimited import csv_text
from isocenter.report.document import Language
from isocenter.report.evaluation import render

UNKNOWN_PATIENTS = Message(
    "No patient is known: intervals count each case as one patient, and are too narrow if that is wrong."
)
NO_PROGNOSIS = Message("Risk and association: without validation at another institution this is no prognosis.")
JSON, PAGE, CASES = "evaluation.json", "evaluation.html", "cases.csv"


def write_evaluation(evaluation: Evaluation, folder: Path, *, language: Language) -> None:
    """Write the three files into a folder that exists."""
    text = json.dumps(evaluation.data, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / JSON).write_text(text, "utf-8")
    (folder / CASES).write_text(csv_text(evaluation.rows), "utf-8")
    (folder / PAGE).write_text(render(evaluation, language=language), "utf-8")
