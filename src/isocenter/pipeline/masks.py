"""Folders of label maps beside folders of reference label maps."""

from pathlib import Path
from typing import Any

import numpy as np

from isocenter.acquire.given import raw_labels, require_on
from isocenter.data.evaluation import Evaluation
from isocenter.data.geometry import Geometry
from isocenter.data.labels import LabelMap
from isocenter.data.provenance import Json
from isocenter.errors import InputError, IsocenterError
from isocenter.evaluation.shared import plain
from isocenter.metrics import intervals as iv
from isocenter.metrics.overlap import dice

_ENDINGS = (".seg.nrrd", ".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".png", ".tif", ".tiff", ".h5")


def judge_masks(predictions: list[Path], reference: Path, *, seed: int) -> Evaluation:
    """Dice of every label of every case, its mean with an interval by case, and two predictions compared.

    Files of both folders are matched by name. Where both masks lack a label, the case does not count for it; where one
    does, Dice is 0.

    Raises: InputError for a case without its counterpart, or masks on different grids.
    """
    truth = _files(reference)
    tables = [_dices(folder, truth) for folder in predictions]
    labels = sorted({label for table in tables for row in table.values() for label in row})
    if not labels:
        raise InputError(f"{reference}: no mask holds a voxel of any label")
    cases = list(truth)
    first = tables[0]
    metrics: dict[str, Json] = {}
    rows: list[tuple[object, ...]] = [("case", *(f"dice {label}" for label in labels))]
    for label in labels:
        there = np.asarray([first[c][label] for c in cases if label in first[c]])
        metrics[f"dice_{label}"] = plain(_mean(there, seed))
    means = np.asarray([np.mean(list(first[c].values())) if first[c] else np.nan for c in cases])
    metrics["dice"] = plain(_mean(means[np.isfinite(means)], seed))
    rows += [(c, *(round(first[c][label], 5) if label in first[c] else "" for label in labels)) for c in cases]
    data: dict[str, Any] = {
        "schema_version": 1, "task": "segment", "model": predictions[0].name, "n_cases": len(cases), "n_patients": None,
        "unit_of_interval": "case (no patient is known)", "classes": [], "metrics": metrics, "operating_point": None,
        "subgroups": [], "exchangeable": None, "not_for_clinical_use": True,
    }  # fmt: skip
    if len(tables) == 2:
        data["comparison"] = _compared(tables, cases, [p.name for p in predictions], seed)
    return Evaluation(data, {}, tuple(rows))


def _mean(values: np.ndarray, seed: int) -> iv.Estimate:
    return iv.bootstrap(lambda i: float(values[i].mean()), np.arange(len(values)), None, seed=seed, draws=2000)[0]


def _compared(tables: list[dict[str, dict[str, float]]], cases: list[str], names: list[str], seed: int) -> Json:
    both = [c for c in cases if tables[0][c] and tables[1][c]]
    one, other = (np.asarray([np.mean(list(table[c].values())) for c in both]) for table in tables)
    difference, p = iv.paired_permutation(
        lambda a, b: float(a.mean() - b.mean()), one, other, np.arange(len(both)), seed=seed
    )
    error = float(np.std(one - other, ddof=1) / np.sqrt(len(both))) if len(both) > 1 else float("inf")
    row: dict[str, Json] = {
        "metric": "dice", "difference": difference, "p": p, "p_holm": p, "test": "paired permutation of cases",
        "verdict": "distinguishable" if p < 0.05 else "not distinguishable",
    }  # fmt: skip
    if np.isfinite(error):
        row |= {"low": difference - iv.Z * error, "high": difference + iv.Z * error}
        row["smallest_visible"] = iv.smallest_visible(error)
    return {"models": names, "comparisons": [row]}


def _files(folder: Path) -> dict[str, Path]:
    """Label maps of a folder by the name without its ending."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        ending = next((e for e in _ENDINGS if path.name.lower().endswith(e)), None)
        if ending is None or path.name.startswith("."):
            continue
        name = path.name[: -len(ending)]
        if name in found:
            raise InputError(f"{folder}: {found[name].name} and {path.name} are one case in two files")
        found[name] = path
    if not found:
        raise InputError(f"{folder}: holds no label map ({', '.join(_ENDINGS[:4])} ...)")
    return found


def _dices(folder: Path, truth: dict[str, Path]) -> dict[str, dict[str, float]]:
    own = _files(folder)
    lost = [name for name in truth if name not in own]
    if lost:
        raise InputError(f"{folder}: {len(lost)} cases of the reference have no prediction, such as {lost[0]!r}")
    found = {}
    for name, path in truth.items():
        try:
            wanted = _one(path, None)
            said = _one(own[name], wanted.geometry)
        except IsocenterError as error:
            raise InputError(f"case {name!r}: {error}") from error
        names = {label.value: label.name for label in (*said.labels, *wanted.labels)}
        row = {}
        for value, label in names.items():
            a, b = wanted.voxels == value, said.voxels == value
            if a.any() or b.any():
                row[label.removeprefix("label ") if label != "label" else str(value)] = dice(a, b)
        found[name] = row
    return found


def _one(path: Path, geometry: Geometry | None) -> LabelMap:
    """The one label map in a file, whose labels are called by their number where the file has no names."""
    nowhere = Geometry.regular((1, 1, 1))
    maps = raw_labels(path, "label", geometry or nowhere)
    if len(maps) != 1:
        raise InputError(f"{path.name}: holds {len(maps)} overlapping label maps; one is compared")
    return maps[0] if geometry is None else require_on(maps[0], geometry, path, resample=False)
