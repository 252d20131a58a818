"""Reading anybody's predictions beside a reference."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from isocenter.acquire.columns import read_columns
from isocenter.data.evaluation import Predictions
from isocenter.errors import InputError
from isocenter.training.table import Columns, case_names, read_design
from isocenter.types import Array

_VALUE = {"classify": ("probability", "score", "p"), "regress": ("predicted", "prediction", "value"),
          "survive": ("risk", "score")}  # fmt: skip


def read_predictions(path: Path, reference: Path, columns: Columns) -> tuple[Predictions, tuple[str, ...]]:
    """Predictions matched to the reference by `case`, and each case's split.

    A classifier's file has a column `p_CLASS` for each class, or `probability` of the positive class, or a column
    `decided` of class names (a reader). The reference has the truth in `target`, `label` or `truth`, or `time` and
    `event`, or where `columns` says.

    Raises: InputError for cases that are missing or stand twice, and for probabilities that are none.
    """
    if path.is_dir() or reference.is_dir():
        raise InputError(f"{path if path.is_dir() else reference}: is a folder; a table of one row a case is wanted")
    told, truth = read_columns(path).cells, read_columns(reference).cells
    given = columns
    if not (columns.target or columns.time):
        lower = {name.strip().lower(): name for name in truth}
        if "time" in lower and "event" in lower:
            given = Columns(**{**columns.__dict__, "time": lower["time"], "event": lower["event"]})
        else:
            name = next((lower[n] for n in ("target", "label", "truth", "class") if n in lower), None)
            if name is None:
                raise InputError(f"{reference.name}: which column is the truth? name it with --target")
            given = Columns(**{**columns.__dict__, "target": name})
    dummy = {**truth, "_one": tuple("0" if i % 2 else "1" for i in range(len(next(iter(truth.values())))))}
    probability = not given.time and any(
        name.startswith("p_") or name.lower() in _VALUE["classify"] + ("decided",) for name in told
    )
    task = None if not probability else "classify"
    design = read_design(dummy, reference.name, Columns(**{**given.__dict__, "features": ("_one",)}), task=task).design  # type: ignore[arg-type]
    own = next((name for name in told if name.strip().lower() in ("case", "id")), None)
    twice = [name for name in dict.fromkeys(told[own]) if told[own].count(name) > 1] if own else []
    if twice:
        raise InputError(
            f"{path.name}: case {twice[0]!r} has {told[own or ''].count(twice[0])} predictions; one is wanted"
        )
    names = case_names(told)
    index = {name: i for i, name in enumerate(names)}
    lost = [case for case in design.cases if case not in index]
    extra = len(set(names) - set(design.cases))
    if lost:
        raise InputError(f"{path.name}: {len(lost)} cases of the reference have no prediction, such as {lost[0]!r}"
                         + (f"; {extra} predictions are of other cases" if extra else ""))  # fmt: skip
    rows = [index[case] for case in design.cases]
    scores = _scores(path, told, design.task, design.classes)[rows]
    found = Predictions(
        design.task, design.cases, design.patients, design.known_patients, design.target, scores, design.classes,
        groups=design.groups, images=design.image, name=path.stem,
    )  # fmt: skip
    return found, design.split or ("",) * len(design)


def _scores(path: Path, told: Mapping[str, Sequence[str]], task: str, classes: tuple[str, ...]) -> Array:
    """Scores of every row of the file."""
    if task == "classify" and all(f"p_{name}" in told for name in classes):
        found = np.column_stack([_numbers(path, told, f"p_{name}") for name in classes])
        if np.any(found < 0) or np.any(found > 1) or np.any(np.abs(found.sum(axis=1) - 1) > 0.01):
            raise InputError(f"{path.name}: probabilities of the classes lie between 0 and 1 and sum to 1")
        return found
    if task == "classify" and "decided" in told:
        odd = sorted(set(told["decided"]) - set(classes))
        if odd:
            raise InputError(f"{path.name}: decided {odd[0]!r}, which is none of {', '.join(classes)}")
        return np.eye(len(classes))[[classes.index(name) for name in told["decided"]]]
    column = next((name for name in told if name.strip().lower() in _VALUE[task]), None)
    if column is None:
        wanted = [f"p_{name}" for name in classes] if task == "classify" else list(_VALUE[task])
        raise InputError(f"{path.name}: has no column of predictions; {' or '.join(wanted[:4])} is wanted")
    values = _numbers(path, told, column)
    if task != "classify":
        return values
    if len(classes) != 2:
        raise InputError(f"{path.name}: {len(classes)} classes need a column p_CLASS each")
    if np.any(values < 0) or np.any(values > 1):
        raise InputError(
            f"{path.name}: {column!r} holds {values[(values < 0) | (values > 1)][0]:g}, which is no probability"
        )
    return np.column_stack((1 - values, values))


def _numbers(path: Path, told: Mapping[str, Sequence[str]], name: str) -> Array:
    try:
        found = np.asarray([float(text) for text in told[name]])
    except ValueError as error:
        raise InputError(f"{path.name}: column {name!r} holds what is no number ({error})") from error
    if not np.all(np.isfinite(found)):
        raise InputError(f"{path.name}: column {name!r} holds what is no finite number")
    return found
