"""Which rows a model is trained on: none that leak, and all known again."""

import secrets
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from isocenter.data.card import ModelCard
from isocenter.data.design import Design
from isocenter.data.evaluation import Predictions
from isocenter.data.provenance import Json
from isocenter.errors import InputError
from isocenter.pipeline.data_check import check_design
from isocenter.training.leaks import Checked, Leak, hashes_of
from isocenter.types import Array


def told_of_training(
    design: Design, path: Path, *, left_out: Mapping[str, str], dropped: list[dict[str, Json]]
) -> dict[str, Json]:
    """What a card says of the rows that a model was trained on, and by which it knows them again."""
    used = [i for i, part in enumerate(design.split) if part != "test"] if design.split else list(range(len(design)))
    fitted_on = design.rows(np.asarray(used, np.int64))
    salt = secrets.token_hex(8)
    return {
        "table": path.name,
        "sha256": sha256(path.read_bytes()).hexdigest(),
        "cases": len(fitted_on),
        "patients": len(set(fitted_on.patients)) if design.known_patients else None,
        "classes": {name: int((fitted_on.target == i).sum()) for i, name in enumerate(design.classes)},
        "salt": salt,
        "patient_hashes": hashes_of(fitted_on.patients, salt) if design.known_patients else [],
        "row_hashes": hashes_of(_row_texts(fitted_on.matrix), salt),
        "splits": {name: design.split.count(name) for name in sorted(set(design.split))},
        "left_out": dict(left_out),
        "dropped_for_leaks": dropped,
    }


def _row_texts(matrix: Array) -> list[str]:
    """Each row of features to five digits: the same row, however its numbers were written."""
    return [" ".join(f"{value:.5g}" for value in row) for row in matrix]


def known_again(card: ModelCard, found: Predictions, matrix: Array) -> list[str]:
    """Cases of these predictions on whose patients, or on whose very numbers, the model was trained."""
    salt = str(card.training.get("salt", ""))
    people = set(card.training.get("patient_hashes") or ()) if found.known_patients else set()
    rows = set(card.training.get("row_hashes") or ())
    if len(rows) < 0.95 * int(card.training.get("cases") or 0):
        rows = set()  # rows of few coarse numbers repeat between strangers, and tell nobody
    texts = _row_texts(matrix)
    return [
        case
        for case, patient, text in zip(found.cases, found.patients, texts, strict=True)
        if hashes_of((patient,), salt)[0] in people or hashes_of((text,), salt)[0] in rows
    ]


def without_leaks(
    design: Design, path: Path, *, drop: bool, allowed: Sequence[str]
) -> tuple[Design, list[dict[str, Json]]]:
    """The design without what stands on both sides of a split.

    Raises: InputError with the leaks.
    """
    if not design.split:
        return design, []
    removed: list[dict[str, Json]] = []
    leaks = _leaks(design, path, allowed)
    while leaks and drop:  # what is left may repeat what was removed
        design = _without(design, leaks)
        removed += [leak.as_json() for leak in leaks]
        leaks = _leaks(design, path, allowed)
    if not leaks:
        return design, removed
    some = "; ".join(f"{leak.kind}: {leak.left} and {leak.right}" for leak in leaks[:4])
    raise InputError(
        f"{path.name}: {len(leaks)} leaks between splits ({some}): results would flatter. --drop-leaks removes the "
        "training side, --allow-leak KIND goes on, `isocenter data check` lists them all"
    )


def _leaks(design: Design, path: Path, allowed: Sequence[str]) -> list[Leak]:
    checked: Checked = check_design(design, path.parent)
    return [leak for leak in checked.leaks if leak.kind not in allowed]


def _without(design: Design, leaks: Sequence[Leak]) -> Design:
    """The design without the training side of each leak; of a patient, without all of its rows there."""
    worse = {"train": 0, "val": 1, "test": 2}
    gone = set()
    for leak in leaks:
        side = min((leak.left, leak.right), key=lambda text: worse.get(text.partition("/")[0], 0))
        gone.add(side)
        if leak.kind == "patient":
            split, _, case = side.partition("/")
            patient = design.patients[design.cases.index(case)]
            rows = zip(design.split, design.cases, design.patients, strict=True)
            gone |= {f"{s}/{c}" for s, c, p in rows if s == split and p == patient}
    keep = [i for i, (s, c) in enumerate(zip(design.split, design.cases, strict=True)) if f"{s}/{c}" not in gone]
    return design.rows(np.asarray(keep, np.int64))
