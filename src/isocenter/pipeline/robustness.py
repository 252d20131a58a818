"""Which features stay the same where they should: under small changes of image and mask, or between two readers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from isocenter.acquire.case import open_case
from isocenter.acquire.columns import read_columns
from isocenter.acquire.given import raw_labels, require_on
from isocenter.data.labels import LabelMap
from isocenter.data.provenance import Json
from isocenter.data.volume import Volume
from isocenter.errors import InputError, IsocenterError
from isocenter.features import Radiomics, radiomics
from isocenter.formats.delimited import csv_text
from isocenter.metrics.agreement import Agreement, icc_agreement, icc_one_way
from isocenter.pipeline.extract import load_settings
from isocenter.types import Array, Mask, Progress

COLUMNS = ("family", "name", "cases", "icc", "low", "high", "robust", "missing")
_LEAST_CASES = 5


@dataclass(frozen=True)
class Robust:
    """How far one feature agrees with itself.

    Args:
        family: of the feature.
        name: of the feature.
        icc: with its 95 % interval; None where it cannot be told.
        kept: the interval's lower end reaches the limit.
        missing: why there is no number.
        cases: that had it every time.
    """

    family: str
    name: str
    icc: Agreement | None
    kept: bool
    missing: str = ""
    cases: int = 0


def robustness(
    table: str | Path,
    out: str | Path,
    *,
    settings: Radiomics | Mapping[str, Json] | str | Path | None = None,
    repetitions: int = 8,
    least_icc: float = 0.75,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> list[Robust]:
    """Intraclass correlation of every feature over the cases of a table, and which reach a limit.

    With a column `mask2` the two readers' masks are compared (ICC(A,1)). Without, every image and mask is turned by up
    to 6 degrees, shifted by a part of a voxel, its mask grown or shrunk by up to a tenth, and noise like its own added
    (ICC(1,1)); a feature that changes with that describes the scan more than the patient.

    Args:
        table: columns `image`, `mask`, perhaps `mask2` and `case`.
        out: the CSV, with the columns `COLUMNS`.
        settings: of the step `radiomics`.
        repetitions: perturbed copies of each case.
        least_icc: the lower end of the interval must reach it: 0.75 is called good.
        seed: of the perturbations.
        on_progress: told what is done.
    Raises: InputError for fewer than five cases: an interval over fewer means nothing.
    Source: A. Zwanenburg et al., Sci. Rep. 9:614, 2019 (perturbation); T. Koo and M. Li, J. Chiropr. Med.
        15(2):155-163, 2016 (limits, on the interval's lower end).
    """
    path = Path(table)
    columns = read_columns(path).cells
    for name in ("image", "mask"):
        if name not in columns:
            raise InputError(f"{path.name}: has no column {name!r}; it has {', '.join(columns)}")
    count = len(columns["image"])
    if count < _LEAST_CASES:
        raise InputError(f"{path.name}: {count} cases; at least {_LEAST_CASES} are needed to tell what agrees")
    chosen = load_settings(settings)
    found: list[dict[tuple[str, str], list[float | None]]] = []
    for row in range(count):
        if on_progress:
            on_progress(columns["image"][row], row, count)
        try:
            volume = open_case(path.parent / columns["image"][row]).volume()
            masks = [_mask(path.parent / columns[name][row], volume) for name in ("mask", "mask2") if name in columns]
        except IsocenterError as error:
            raise InputError(f"{path.name}, row {row + 2}: {error}") from error
        if len(masks) == 2:
            measured = [_numbers(volume, labels, chosen) for labels in masks]
        else:
            rng = np.random.default_rng((seed, row))
            measured = [_numbers(*perturbed(volume, masks[0], rng), chosen) for _ in range(repetitions)]
        found.append({key: [one.get(key) for one in measured] for key in measured[0]})
    judge = icc_agreement if "mask2" in columns else icc_one_way
    rows = [_judged(key, [case.get(key, []) for case in found], judge, least_icc) for key in found[0]]
    target = Path(out)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(_csv(rows), "utf-8")
    return rows


def perturbed(volume: Volume, labels: LabelMap, rng: np.random.Generator) -> tuple[Volume, LabelMap]:
    """An image and mask turned in the slice, shifted, with a mask of another size and a little noise."""
    from isocenter.ops.filter import noise
    from isocenter.ops.resample import resample

    grid, mask = volume.grid, labels.foreground
    angle = np.deg2rad(rng.uniform(-6, 6))
    shift = rng.uniform(-0.5, 0.5, 3)
    growth = rng.uniform(-0.1, 0.1)
    centre = np.argwhere(mask).mean(axis=0)
    turn = np.eye(4)
    _, rows, columns = volume.geometry.steps
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle) * columns / rows], [np.sin(angle) * rows / columns, np.cos(angle)]]
    turn[:3, 3] = centre - turn[:3, :3] @ centre + shift
    common: dict[str, Any] = {"affine": np.eye(4), "to_shape": grid.shape, "to_affine": turn}
    level = float(noise(grid))
    values = resample(grid, interpolation="linear", outside=float(grid.min()), **common)
    if level > 0:
        values = np.asarray(values + rng.normal(0, level, values.shape), np.float32)
    soft = resample(mask.astype(np.float32), interpolation="linear", **common)
    return replace(volume, voxels=values[None], not_measured=None), LabelMap.of_mask(
        resized(np.asarray(soft >= 0.5), growth), volume.geometry, name="region"
    )


def resized(mask: Mask, growth: float) -> Mask:
    """A mask whose voxel count grew by a share (or shrank), along its border: the blurred mask is cut elsewhere."""
    from scipy import ndimage

    if not mask.any():
        return mask
    blurred = np.asarray(ndimage.gaussian_filter(mask.astype(np.float64), 1.0))
    wanted = min(mask.size, max(1, round(int(mask.sum()) * (1 + growth))))
    return np.asarray(blurred >= np.partition(blurred.ravel(), -wanted)[-wanted])


def _mask(path: Path, volume: Volume) -> LabelMap:
    labels = require_on(raw_labels(path, "region", volume.geometry)[0], volume.geometry, path, resample=False)
    return LabelMap.of_mask(labels.foreground, labels.geometry, name="region")


def _numbers(volume: Volume, labels: LabelMap, settings: Radiomics) -> dict[tuple[str, str], float | None]:
    return {(f.family, f.name): f.value for f in radiomics(volume, labels, settings)}


def _judged(
    key: tuple[str, str], cases: list[list[float | None]], judge: Callable[..., Agreement], least: float
) -> Robust:
    """One feature over all cases; those where any repetition lacks it are left out."""
    whole = [case for case in cases if case and None not in case]
    if len(whole) < _LEAST_CASES:
        return Robust(*key, None, kept=False, missing=f"only {len(whole)} cases have it every time")
    values: Array = np.asarray(whole, np.float64)
    agreement = judge(values)
    if np.isnan(agreement.value):
        return Robust(*key, None, kept=False, missing="it is the same in all cases")
    return Robust(*key, agreement, kept=agreement.low >= least, cases=len(whole))


def _csv(rows: Sequence[Robust]) -> str:
    body = [
        (r.family, r.name, r.cases, *(("", "", "") if r.icc is None else (r.icc.value, r.icc.low, r.icc.high)),
         "yes" if r.kept else "no", r.missing)
        for r in rows
    ]  # fmt: skip
    return csv_text([COLUMNS, *body])
