"""Whether features agree with the reference values of the Image Biomarker Standardisation Initiative.

The reference values in `features/ibsi_values.csv` are those of the initiative: IBSI reference manual,
arXiv:1612.07003v11, chapter 5, and A. Zwanenburg et al., Radiology 295(2):328-338, 2020, supplement.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

import numpy as np

from isocenter.acquire.case import open_case
from isocenter.acquire.given import raw_labels, require_on
from isocenter.data.volume import Quantity
from isocenter.errors import InputError
from isocenter.features.catalogue import catalogue
from isocenter.features.compute import compute
from isocenter.features.digital_phantom import SPACING_MM, digital_phantom
from isocenter.features.region import bounding_box, resampled, resegmented
from isocenter.features.settings import Radiomics
from isocenter.types import Grid, Mask, Triple

_FLAT = ("2D_avg", "2D_comb", "2_5D_avg", "2_5D_comb")
_SPACE = ("3D_avg", "3D_comb")

CONFIGURATIONS: dict[str, Radiomics] = {
    "digital": Radiomics(grey_levels=True, aggregation=_FLAT + _SPACE, enclosing=True),
    "A": Radiomics(range=(-500, 400), bin_width=25, aggregation=_FLAT, enclosing=True),
    "B": Radiomics(range=(-500, 400), spacing_mm=(0, 2, 2), bin_count=32, aggregation=_FLAT, enclosing=True),
    "C": Radiomics(
        range=(-1000, 400), spacing_mm=2, bin_width=25, ivh_bin_width=2.5, aggregation=_SPACE, enclosing=True
    ),
    "D": Radiomics(outliers_sigma=3, spacing_mm=2, bin_count=32, aggregation=_SPACE, enclosing=True),
    "E": Radiomics(
        range=(-1000, 400), outliers_sigma=3, spacing_mm=2, interpolation="cubic", bin_count=32, ivh_bin_count=1000,
        aggregation=_SPACE, enclosing=True,
    ),
}  # fmt: skip
"""Settings of the digital phantom and of the CT phantom's configurations A to E (section 5.2 there)."""


@dataclass(frozen=True)
class Compared:
    """One value beside its reference.

    Args:
        tag: as in the initiative's tables.
        ibsi: identifier of the feature; empty for rows that describe image and mask.
        name: of the feature, or of what is described.
        aggregation: how slices and directions were joined.
        value: what was computed; None where there is none.
        reference: of the initiative; None where no teams agreed, or none is known here.
        tolerance: on the reference.
        consensus: how many teams agreed, where the table says so.
        holds: within the tolerance, or equal to three significant digits; None without a reference.
    """

    tag: str
    ibsi: str
    name: str
    aggregation: str
    value: float | None
    reference: float | None = None
    tolerance: float | None = None
    consensus: str | None = None
    holds: bool | None = None


@dataclass(frozen=True)
class _Reference:
    value: float
    tolerance: float
    consensus: str | None = None


def ibsi(ct_phantom: str | Path | None = None, *, reference: str | Path | None = None) -> dict[str, list[Compared]]:
    """Compute the digital phantom, and the CT phantom's configurations A to E where its folder is given.

    Args:
        ct_phantom: holds `image` and `mask`, as NIfTI or as DICOM with RTSTRUCT.
        reference: a folder of the initiative's own tables, to judge by instead (`ibsi_1_*.csv`).
    Raises: InputError for a folder that does not hold the phantom.
    """
    known = _shipped() if reference is None else _tables(Path(reference))
    values, mask = digital_phantom()
    found = {"digital": _compared("digital", values, mask, SPACING_MM, known.get("digital", {}))}
    if ct_phantom is None:
        return found
    values, mask, spacing = _ct_phantom(Path(ct_phantom))
    for name in "ABCDE":
        found[name] = _compared(name, values, mask, spacing, known.get(name, {}))
    return found


def _compared(
    configuration: str, values: Grid, mask: Mask, spacing_mm: Triple, known: Mapping[str, _Reference]
) -> list[Compared]:
    settings = CONFIGURATIONS[configuration]
    digital = configuration == "digital"
    quantity = Quantity.ARBITRARY if digital else Quantity.HU
    rows = [] if digital else _described(values, mask, spacing_mm, settings, known)
    for row in compute(values, mask, spacing_mm, settings, quantity=quantity):
        feature = catalogue()[row.family, row.name]
        tag = feature.tag if row.aggregation == "none" else f"{feature.tag}_{row.aggregation}"
        rows.append(_judged(Compared(tag, feature.ibsi, row.name, row.aggregation, row.value), known))
    return rows


def _judged(row: Compared, known: Mapping[str, _Reference]) -> Compared:
    """A value with its reference, if there is one."""
    wanted = known.get(row.tag)
    if wanted is None:
        return row
    value = row.value
    holds = value is not None and (
        abs(value - wanted.value) <= wanted.tolerance or float(f"{value:.3g}") == float(f"{wanted.value:.3g}")
    )
    return replace(row, reference=wanted.value, tolerance=wanted.tolerance, consensus=wanted.consensus, holds=holds)


def _described(
    values: Grid, mask: Mask, spacing_mm: Triple, settings: Radiomics, known: Mapping[str, _Reference]
) -> list[Compared]:
    """The tables' rows about image and mask: at first, interpolated, and re-segmented."""
    numbers = _of_image(values, spacing_mm, "init_img")
    numbers |= _of_mask(values, mask, mask, "init_roi")
    if settings.spacing_mm is not None:
        spacing = settings.spacing_for(spacing_mm) or spacing_mm
        values, mask = resampled(
            values, mask, settings, spacing_mm=spacing_mm, whole=values.shape, begin=(0, 0, 0)
        )  # fmt: skip
        values, spacing_mm = np.round(values), spacing
    numbers |= _of_image(values, spacing_mm, "interp_img")
    numbers |= _of_mask(values, mask, mask, "interp_roi")
    numbers |= _of_mask(values, resegmented(values, mask, settings), mask, "reseg_roi")
    return [_judged(Compared(tag, "", tag, "none", value), known) for tag, value in numbers.items()]


def _of_image(values: Grid, spacing_mm: Triple, when: str) -> dict[str, float]:
    sizes = zip("zyx", values.shape, spacing_mm, strict=True)
    out: dict[str, float] = {}
    for axis, count, step in sizes:
        out |= {f"img_dim_{axis}_{when}": count, f"vox_dim_{axis}_{when}": step}
    mean = float(values.mean(dtype=np.float64))
    return out | {
        f"mean_int_{when}": mean,
        f"min_int_{when}": float(values.min()),
        f"max_int_{when}": float(values.max()),
    }


def _of_mask(values: Grid, mask: Mask, shape_mask: Mask, when: str) -> dict[str, float]:
    out: dict[str, float] = {}
    for axis, count in zip("zyx", mask.shape, strict=True):
        out[f"int_mask_dim_{axis}_{when}"] = count
    for kind, one in (("int_mask", mask), ("morph_mask", shape_mask)):
        for axis, side in zip("zyx", bounding_box(one), strict=True):
            out[f"{kind}_bb_dim_{axis}_{when}"] = side.stop - side.start
        out[f"{kind}_vox_count_{when}"] = int(np.count_nonzero(one))
    inside = values[mask]
    out[f"int_mask_mean_int_{when}"] = float(inside.mean(dtype=np.float64))
    out[f"int_mask_min_int_{when}"] = float(inside.min())
    out[f"int_mask_max_int_{when}"] = float(inside.max())
    return out


def _ct_phantom(folder: Path) -> tuple[Grid, Mask, Triple]:
    """Intensities, region and spacing of the CT phantom."""
    at = next((f for f in (folder, folder / "ct_phantom") if (f / "image").is_dir() and (f / "mask").is_dir()), None)
    if at is None:
        raise InputError(
            f"{folder}: is not the IBSI CT phantom: a folder with `image` and `mask` inside is wanted (NIfTI, or DICOM "
            "and its RTSTRUCT)"
        )
    image = open_case(at / "image").volume()
    masks = sorted(p for p in (at / "mask").iterdir() if p.is_file() and not p.name.startswith("."))
    if len(masks) != 1:
        raise InputError(f"{at / 'mask'}: holds {len(masks)} files, and one mask is wanted")
    maps = raw_labels(masks[0], "region", image.geometry)
    labels = require_on(maps[0], image.geometry, masks[0], resample=False)
    return image.grid, labels.foreground, image.geometry.spacing_mm


def _shipped() -> dict[str, dict[str, _Reference]]:
    found: dict[str, dict[str, _Reference]] = {}
    text = (files("isocenter.features") / "ibsi_values.csv").read_text("utf-8")
    for row in csv.DictReader(text.splitlines()):
        own = found.setdefault(row["configuration"], {})
        own[row["tag"]] = _Reference(float(row["value"]), float(row["tolerance"]))
    return found


def _tables(folder: Path) -> dict[str, dict[str, _Reference]]:
    """The initiative's own tables: `ibsi_1_dig_phantom.csv`, `ibsi_1_chest_config_a.csv` ... with semicolons."""
    names = {"digital": "dig_phantom"} | {letter: f"config_{letter.lower()}" for letter in "ABCDE"}
    found: dict[str, dict[str, _Reference]] = {}
    for configuration, part in names.items():
        for path in sorted(folder.glob(f"ibsi_1_*{part}.csv")):
            found[configuration] = _table(path)
    if not found:
        raise InputError(
            f"{folder}: holds no table of the initiative (ibsi_1_dig_phantom.csv, ibsi_1_chest_config_a.csv)"
        )
    return found


def _table(path: Path) -> dict[str, _Reference]:
    found = {}
    text = path.read_bytes().decode("utf-8-sig", "replace")
    for number, row in enumerate(csv.DictReader(text.splitlines(), delimiter=";"), start=2):
        if not {"tag", "reference value", "tolerance"} <= set(row):
            raise InputError(f"{path.name}: columns `tag`, `reference value` and `tolerance` are wanted")
        try:
            if row["reference value"]:
                value, tolerance = float(row["reference value"]), float(row["tolerance"] or 0)
                found[row["tag"]] = _Reference(value, tolerance, row.get("consensus") or None)
        except ValueError as error:
            raise InputError(f"{path.name}: row {number}: {row['reference value'][:40]} is no number") from error
    if not found:
        raise InputError(
            f"{path.name}: holds no reference value; columns `tag`, `reference value`, `tolerance` are wanted"
        )
    return found
