"""Folders of label maps beside folders of reference label maps."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from isocenter.acquire.given import raw_labels, require_on
from isocenter.data.dataset import natural
from isocenter.data.evaluation import Evaluation
from isocenter.data.geometry import Geometry, Space
from isocenter.data.labels import LabelMap
from isocenter.data.provenance import Json
from isocenter.errors import InputError, IsocenterError
from isocenter.evaluation.segmented import Compared, compare_labels, judge_segmentations
from isocenter.metrics import intervals as iv

TOLERANCE_MM, MISSING_MM = 1.0, 100.0
"""Of the surface Dice; and what a structure counts that one side lacks, in `hd95_penalised`."""
_ENDINGS = (".seg.nrrd", ".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".png", ".tif", ".tiff", ".h5")


def judge_masks(predictions: list[Path], reference: Path, *, seed: int) -> Evaluation:
    """Overlap and surfaces of every label of every case, with intervals by case, and two predictions compared.

    Files of both folders are matched by name. Where both masks lack a label, the case does not count for it; where one
    does, Dice is 0.

    Raises: InputError for a case without its counterpart, or masks on different grids.
    """
    truth = _files(reference)
    tables = [_compare(folder, truth) for folder in predictions]
    labels = sorted({label for table in tables for case in table for label in case.rows}, key=natural)
    if not labels:
        raise InputError(f"{reference}: no mask holds a voxel of any label")
    found = judge_segmentations(
        tables[0], labels, model=predictions[0].name, missing_mm=MISSING_MM, tolerance_mm=TOLERANCE_MM, seed=seed
    )
    if len(tables) == 1:
        return found
    return replace(found, data={**found.data, "comparison": _compared(tables, [p.name for p in predictions], seed)})


def _compared(tables: list[list[Compared]], names: list[str], seed: int) -> Json:
    means = np.asarray([[case.dice for case in table] for table in tables])
    one, other = means[:, np.isfinite(means).all(axis=0)]
    both = range(len(one))
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


def _compare(folder: Path, truth: dict[str, Path]) -> list[Compared]:
    own = _files(folder)
    lost = [name for name in truth if name not in own]
    if lost:
        raise InputError(f"{folder}: {len(lost)} cases of the reference have no prediction, such as {lost[0]!r}")
    found = []
    for name, path in truth.items():
        try:
            wanted = _one(path, None)
            said = _one(own[name], wanted.geometry)
        except IsocenterError as error:
            raise InputError(f"case {name!r}: {error}") from error
        names = {label.value: label.name for label in (*said.labels, *wanted.labels)}
        there = {v: n for v, n in names.items() if (said.voxels == v).any() or (wanted.voxels == v).any()}
        called = {v: str(v) if n == "label" else n.removeprefix("label ") for v, n in sorted(there.items())}
        space = wanted.geometry
        found.append(compare_labels(
            said.voxels, wanted.voxels, called, spacing_mm=None if space.space is Space.PIXELS else space.spacing_mm,
            tolerance_mm=TOLERANCE_MM, case=name,
        ))  # fmt: skip
    return found


def _one(path: Path, geometry: Geometry | None) -> LabelMap:
    """The one label map in a file, whose labels are called by their number where the file has no names."""
    nowhere = Geometry.regular((1, 1, 1))
    maps = raw_labels(path, "label", geometry or nowhere)
    if len(maps) != 1:
        raise InputError(f"{path.name}: holds {len(maps)} overlapping label maps; one is compared")
    return maps[0] if geometry is None else require_on(maps[0], geometry, path, resample=False)
