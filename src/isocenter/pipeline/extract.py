"""Radiomic features of given regions: one image and mask, or a table of them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from isocenter.acquire.case import open_case
from isocenter.acquire.columns import read_columns
from isocenter.acquire.given import raw_labels, require_on
from isocenter.acquire.table import is_table
from isocenter.data.features import Feature, FeatureTable
from isocenter.data.geometry import Geometry
from isocenter.data.labels import Label, LabelMap
from isocenter.data.provenance import Json
from isocenter.data.volume import Volume
from isocenter.errors import InputError, IsocenterError, RecipeError
from isocenter.features import radiomics
from isocenter.features.pyradiomics import settings_from
from isocenter.features.pyradiomics_names import pyradiomics_name
from isocenter.features.settings import Radiomics
from isocenter.formats.delimited import csv_text
from isocenter.types import Progress
from isocenter.version import __version__

COLUMNS = ("case", "label", "family", "name", "ibsi", "value", "unit", "missing")
"""Of the CSV that `isocenter features` writes; one row a feature."""


@dataclass(frozen=True)
class Extracted:
    """Features of one case.

    Args:
        case: its name.
        features: of every label.
        failed: why there are none, where the case could not be read.
        part: which image of the case, where a table names several (`ED`, `T1`).
        beside: the table's other columns.
        grid: shape and spacing of the image: counts of voxels are compared on alike grids only.
    """

    case: str
    features: FeatureTable
    failed: str = ""
    part: str = ""
    beside: Mapping[str, str] = field(default_factory=dict)
    grid: str = ""


def extract_features(
    image: Volume | str | Path,
    mask: LabelMap | str | Path,
    *,
    label: int | str | None = None,
    settings: Radiomics | Mapping[str, Json] | str | Path | None = None,
    resample_mask: bool = False,
    series: str | None = None,
) -> FeatureTable:
    """Radiomic features of the regions of a mask.

    Args:
        image: anything that `open` opens, or a volume.
        mask: a label map, or its file: NIfTI, NRRD, MetaImage, PNG, DICOM SEG or RTSTRUCT.
        label: value or name of the one region; None: every one.
        settings: of the step `radiomics`, as a model, a mapping, or a YAML file (pyradiomics' own files as well).
        resample_mask: bring a mask on another grid onto the image's by nearest neighbour.
        series: UID of the image's series, where there are several.
    Raises: GeometryError where image and mask do not lie on one grid; RecipeError for settings that cannot be.
    """
    chosen = load_settings(settings)
    volume = image if isinstance(image, Volume) else open_case(image).volume(series)
    volume.require_finite()
    maps = (mask,) if isinstance(mask, LabelMap) else raw_labels(Path(mask), "region", volume.geometry)
    where = Path("mask") if isinstance(mask, LabelMap) else Path(mask)
    found = FeatureTable()
    wanted = [_wanted(labels, label) for labels in maps]
    if label is not None and not any(one is not None for one in wanted):
        # Nothing is called so: an empty region of that name says why each feature is missing.
        wanted = [_absent(maps, label)]
    for labels in wanted:
        if labels is not None:
            placed = require_on(labels, volume.geometry, where, resample=resample_mask)
            found += radiomics(volume, placed, chosen)
    return found


def extract_table(
    table: str | Path,
    *,
    label: int | str | None = None,
    settings: Radiomics | Mapping[str, Json] | str | Path | None = None,
    resample_mask: bool = False,
    on_progress: Progress | None = None,
) -> Iterator[Extracted]:
    """Features of every row of a table with the columns `image` and `mask`, and perhaps `case`, `label`, `part`.

    Rows of one case are its parts (`part`: ED, ES; or T1, T2). Paths are relative to the table. A row that cannot be
    read says why; the others go on.

    Raises: InputError for a table without the two columns.
    """
    chosen = load_settings(settings)
    path = Path(table)
    columns = read_columns(path).cells
    names = {name.strip().lower(): name for name in columns}
    lacking = [name for name in ("image", "mask") if name not in names]
    if lacking:
        raise InputError(f"{path.name}: has no column {' and '.join(lacking)}; it has {', '.join(columns)[:300]}")
    count = len(columns[names["image"]])
    for row in range(count):
        cells = {key: columns[name][row].strip() for key, name in names.items()}
        case = cells.get("case") or cells.get("id") or f"row-{row + 2}"
        if on_progress:
            on_progress(case, row, count)
        own = _number_or_name(cells["label"]) if cells.get("label") else label
        part = cells.get("part", "")
        rest = {n: columns[n][row] for k, n in names.items() if k not in ("image", "mask", "case", "part", "label")}
        try:
            if not cells["image"] or not cells["mask"]:
                raise InputError("its image or its mask is not stated")
            volume = open_case(path.parent / cells["image"]).volume()
            grid = f"{volume.geometry.shape[1:]} {[round(s, 3) for s in volume.geometry.steps]}"
            features = extract_features(
                volume,
                path.parent / cells["mask"],
                label=own,
                settings=chosen,
                resample_mask=resample_mask,
            )
            yield Extracted(case, features, part=part, beside=rest, grid=grid)
        except (IsocenterError, OSError) as error:
            yield Extracted(case, FeatureTable(), f"row {row + 2}: {error}", part, rest)


def write_features(
    image: str | Path,
    mask: str | Path | None,
    out: str | Path,
    *,
    label: int | str | None = None,
    settings: Radiomics | Mapping[str, Json] | str | Path | None = None,
    names: str = "isocenter",
    wide: bool = False,
    resample_mask: bool = False,
    series: str | None = None,
    maps: str | Path | None = None,
    radius_mm: float = 3.0,
    on_progress: Progress | None = None,
) -> list[Extracted]:
    """Extract features of an image and mask, or of a table of them, and write the CSV.

    Args:
        image: an image, or a table with the columns `image` and `mask`.
        mask: the label map; None with a table.
        out: the CSV.
        label: value or name of the one region; None: every one.
        settings: see `extract_features`.
        names: `isocenter` (one row a feature) or `pyradiomics` (its column names, one row a region).
        wide: one row a case, one column a feature: what `isocenter train` takes.
        resample_mask: bring a mask on another grid onto the image's.
        series: UID of the image's series, where there are several.
        maps: folder for maps of features about each voxel.
        radius_mm: of the neighbourhood of such a map.
        on_progress: told what is done.
    Raises: InputError for an image without a mask; see `extract_features`.
    """
    target = Path(out)
    if target.resolve() in {Path(p).resolve() for p in (image, mask, settings) if isinstance(p, str | Path)}:
        raise InputError(f"{target}: is an input itself; give the features another name")
    if names not in {"isocenter", "pyradiomics"}:
        raise InputError(f"--names {names}: there are isocenter and pyradiomics")
    if is_table(Path(image)) or Path(image).suffix.lower() in {".parquet", ".pq"}:
        if mask is not None or maps is not None or series is not None:
            raise InputError(f"{image} is a table: it names masks itself; leave MASK, --maps and --series away")
        found = list(
            extract_table(image, label=label, settings=settings, resample_mask=resample_mask, on_progress=on_progress)
        )
    elif mask is None:
        raise InputError(f"{image}: which region? name a label map: isocenter features {image} MASK")
    else:
        features = extract_features(
            image, mask, label=label, settings=settings, resample_mask=resample_mask, series=series
        )
        found = [Extracted(_case_name(Path(image)), features)]
        if maps is not None:
            chosen = load_settings(settings)
            volume = open_case(image).volume(series)
            _write_maps(volume, Path(mask), Path(maps), label=label, settings=chosen, radius_mm=radius_mm)
    if wide and names != "isocenter":
        raise InputError("--wide has names of its own; pyradiomics' names are wide already")
    text = wide_csv(found) if wide else features_csv(found) if names == "isocenter" else pyradiomics_csv(found)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, "utf-8")
    lineage = {
        "isocenter": __version__,
        "input": str(image),
        "mask": None if mask is None else str(mask),
        "settings": load_settings(settings).model_dump(mode="json"),
        "bins_where_none_are_stated": "HU: 25 from -1000; SUV: 0.5 from 0; all others: 32 between smallest and largest",
        "standard": "IBSI, arXiv:1612.07003v11",
    }
    target.with_name(target.name + ".json").write_text(json.dumps(lineage, indent=2, ensure_ascii=False), "utf-8")
    return found


def _case_name(path: Path) -> str:
    name = path.resolve().name
    for ending in (".nii.gz", ".seg.nrrd"):
        name = name.removesuffix(ending)
    return name if path.is_dir() else name.rsplit(".", 1)[0] or name


def _write_maps(
    volume: Volume, mask: Path, folder: Path, *, label: int | str | None, settings: Radiomics, radius_mm: float
) -> None:
    """One NIfTI a feature, of the one region asked for, or of all labels together."""
    from isocenter.features.maps import feature_maps
    from isocenter.formats import nifti

    maps = raw_labels(mask, "region", volume.geometry)
    chosen = next((one for one in (_wanted(labels, label) for labels in maps) if one is not None), None)
    if chosen is None:
        raise InputError(f"no label is called {label!r}, so there is nothing to map")
    placed = require_on(chosen, volume.geometry, mask, resample=False)
    found = feature_maps(
        volume.grid, placed.foreground, volume.geometry.spacing_mm, settings, radius_mm=radius_mm,
        quantity=volume.quantity,
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    for (family, name), grid in found.items():
        nifti.write(replace(volume, voxels=grid[None], not_measured=None), folder / f"{family}_{name}.nii.gz")


def wide_csv(cases: Sequence[Extracted]) -> str:
    """One row a case: the table's own columns, then `part.label.family.name` of every feature.

    With several regions or parts, also the ratio of the voxel counts of each pair: it needs no millimetres.
    """
    rows: dict[str, dict[str, object]] = {}
    seen: set[tuple[str, str]] = set()
    for case in cases:
        if (case.case, case.part) in seen:
            raise InputError(f"the case {case.case!r} stands twice: a column `part` tells the images of a case apart")
        seen.add((case.case, case.part))
        row = rows.setdefault(case.case, {"case": case.case})
        for name, text in case.beside.items():
            if row.setdefault(name, text) != text:
                row[name] = ""  # differs between the parts of the case, so it describes none of them
        if case.failed:
            row["failed"] = case.failed
        for feature in case.features:
            where = [case.part, feature.label, feature.family, feature.name]
            row[".".join(word for word in where if word)] = "" if feature.value is None else repr(float(feature.value))
    for row in rows.values():
        row.update(_ratios(row, alike=len({c.grid for c in cases if c.case == row["case"] and c.grid}) == 1))
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    return csv_text([columns, *[[row.get(column, "") for column in columns] for row in rows.values()]])


def _ratios(row: Mapping[str, object], *, alike: bool) -> dict[str, object]:
    """Ratio of the voxel counts of each pair of regions and parts, where all lie on grids of one kind."""
    if not alike:
        return {}
    counts = {name.removesuffix(".region.voxels"): float(str(value)) for name, value in row.items()
              if name.endswith(".region.voxels") and value != ""}  # fmt: skip
    names = list(counts)
    return {
        f"voxels {one} / {other}": repr(counts[one] / counts[other])
        for i, one in enumerate(names)
        for other in names[i + 1 :]
        if counts[other]
    }


def pyradiomics_csv(cases: Sequence[Extracted]) -> str:
    """One row a region with the column names of pyradiomics; a feature that is missing is an empty cell."""
    rows: list[dict[str, object]] = []
    for case in cases:
        labels = dict.fromkeys(feature.label for feature in case.features)
        for label in labels:
            named = [pyradiomics_name(f) for f in case.features if f.label == label]
            numbers = {name: "" if value is None else repr(value) for name, value in (one for one in named if one)}
            part = {"Part": case.part} if case.part else {}
            rows.append({"Image": case.case, **part, "Label": label, **numbers})
        if case.failed:
            rows.append({"Image": case.case, "Label": "", "Error": case.failed})
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return csv_text([columns, *[[row.get(column, "") for column in columns] for row in rows]])


def features_csv(cases: Sequence[Extracted]) -> str:
    """One row a feature, with the columns `COLUMNS`; a case that failed has one row that says why."""
    rows: list[Sequence[object]] = [COLUMNS]
    for case in cases:
        rows += [_row(case.case, feature) for feature in case.features]
        if case.failed:
            rows.append((case.case, "", "", "", "", "", "", case.failed))
    return csv_text(rows)


def _row(case: str, feature: Feature) -> tuple[object, ...]:
    code = feature.definition.removeprefix("IBSI:") if feature.definition.startswith("IBSI:") else ""
    value = "" if feature.value is None else repr(float(feature.value))
    return case, feature.label, feature.family, feature.name, code, value, feature.unit, feature.missing


def load_settings(given: Radiomics | Mapping[str, Json] | str | Path | None) -> Radiomics:
    """Settings of `radiomics` from a model, a mapping or a YAML file; a pyradiomics parameter file is translated.

    Raises: RecipeError that names the key that cannot be.
    """
    import yaml

    if given is None:
        return Radiomics()
    if isinstance(given, Radiomics):
        return given
    where = "settings"
    if not isinstance(given, Mapping):
        where = Path(given).name
        text = Path(given).read_bytes().decode("utf-8-sig", "replace")
        if len(text) > 100_000:
            raise RecipeError(f"{where}: {len(text)} characters are no file of settings")
        try:
            if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
                raise RecipeError(f"{where}: a value refers to another one (&, *): write it out")
            given = yaml.safe_load(text) or {}
        except (yaml.YAMLError, RecursionError) as error:
            raise RecipeError(f"{where}: is no YAML: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(given, Mapping):
        raise RecipeError(f"{where}: settings are a mapping of keys to values")
    if {"setting", "featureClass", "imageType"} & set(given):
        given = settings_from(given)
    try:
        return Radiomics.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "settings"
        known = ", ".join(Radiomics.model_fields)
        said = "there is no such setting" if first["type"] == "extra_forbidden" else first["msg"]
        raise RecipeError(f"{where}: {key}: {said.removeprefix('Value error, ')}; there are {known}") from error


def _wanted(labels: LabelMap, label: int | str | None) -> LabelMap | None:
    """The label map with only the label asked for; None where it has none such."""
    if label is None:
        return labels
    chosen = [one for one in labels.labels if label in (one.name, one.value, str(one.value))]
    if not chosen:
        return None
    kept = np.where(labels.voxels == chosen[0].value, labels.voxels, 0).astype(labels.voxels.dtype)
    return replace(labels, voxels=kept, labels=(chosen[0],))


def _absent(maps: Sequence[LabelMap], label: int | str) -> LabelMap:
    """An empty region of a name that no label map has.

    Raises: InputError for a name; a number may be absent from a mask without being a mistake.
    """
    there = ", ".join(f"{one.value} ({one.name})" for labels in maps for one in labels.labels)
    if isinstance(label, str) and not label.isdecimal():
        raise InputError(f"no label is called {label!r}; there are {there or 'none'}")
    geometry: Geometry = maps[0].geometry
    return LabelMap(np.zeros(geometry.shape, np.uint8), geometry, (Label(max(1, int(label)), str(label)),))


def _number_or_name(text: str) -> int | str:
    return int(text) if text.isdecimal() else text
