"""`explain` on tables: what each column brought to the answers of a model."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from isocenter.acquire.columns import read_columns
from isocenter.errors import InputError
from isocenter.explanation.shapley import shapley_values
from isocenter.formats import model_folder
from isocenter.formats.delimited import csv_text
from isocenter.metrics import reliability as rel
from isocenter.pipeline.explain import EXPLANATIONS
from isocenter.pipeline.own_folder import own_folder
from isocenter.report.shapley import render_shapley
from isocenter.training.fit import score
from isocenter.training.table import case_names, features_of
from isocenter.types import Array

_MOST_ROWS = 500


@dataclass(frozen=True, eq=False)
class ExplainedTable:
    """Shapley values of the rows of a table.

    Args:
        cases: names of the rows.
        columns: names of the columns.
        values: `n d`; each row sums to its answer less `base`.
        answers: of the model.
        base: its answer for the medians of the training rows.
        unit: what the answers are.
    """

    cases: tuple[str, ...]
    columns: tuple[str, ...]
    values: Array
    answers: Array
    base: float
    unit: str


def explain_table(
    model: str | Path, table: str | Path, out: str | Path | None = None, *, about: str | None = None, seed: int = 0
) -> ExplainedTable:
    """Explain the answers of a model of tables.

    Args:
        model: the model's folder.
        table: rows with the columns that it needs.
        out: folder for the page and `shapley.csv`; None: nothing is written.
        about: class; None: the one that is looked for (the last).
        seed: of drawn orders.
    Raises: InputError for a model that harmonises institutions, a class that is not there, or too many rows.
    """
    estimator, card = model_folder.read(Path(model))
    if card.preparation.get("sites"):
        raise InputError(f"{model}: harmonises institutions; its answers are of columns that the table does not show")
    if about is not None and about not in card.classes:
        raise InputError(f"--about {about}: there are {', '.join(card.classes)}")
    cells = read_columns(Path(table)).cells
    matrix = features_of(cells, Path(table).name, card)
    if len(matrix) > _MOST_ROWS:
        raise InputError(f"{table}: {len(matrix)} rows; at most {_MOST_ROWS} are explained at a time")
    index = card.classes.index(about) if about else len(card.classes) - 1

    def answer(rows: Array) -> Array:
        found = score(estimator, rows, card.task)
        return np.asarray(rel.calibrated(found, card.calibration)[:, index] if card.task == "classify" else found)

    baseline = np.asarray(estimator.named_steps["fill"].statistics_, np.float64)  # medians of the training rows
    rows = np.where(np.isfinite(matrix), matrix, baseline)
    values = shapley_values(answer, rows, baseline, seed=seed)
    unit = {
        "classify": f"the probability of {card.classes[index]!r}" if card.classes else "", "regress": "the value",
        "survive": "the logarithm of the hazard",
    }[card.task]  # fmt: skip
    answers, base = answer(rows), float(answer(baseline[None])[0])
    found = ExplainedTable(case_names(cells), card.features, values, answers, base, unit)
    if out is not None:
        with own_folder(Path(out), EXPLANATIONS) as empty:
            head = ("case", "answer", *card.features)
            lines = [
                (case, f"{own:.6g}", *(f"{v:.6g}" for v in row))
                for case, own, row in zip(found.cases, answers, values, strict=True)
            ]
            (empty / "shapley.csv").write_text(csv_text([head, *lines]), "utf-8")
            page = render_shapley(
                values, rows, answers, cases=found.cases, columns=found.columns, base=base, unit=unit, model=card.model
            )
            (empty / "explanation.html").write_text(page, "utf-8")
    return found
