"""All features of one region: every family, as numbers or with the reason why there is none."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import numpy as np

from isocenter.data.volume import Quantity
from isocenter.errors import UnitError
from isocenter.features import first_order, morphology
from isocenter.features.catalogue import CODES, Aggregation, catalogue, names_of
from isocenter.features.filters import Filter, name_of, response
from isocenter.features.first_order import Numbers
from isocenter.features.region import Region, discretised, region_of
from isocenter.features.settings import Radiomics
from isocenter.ops import threads
from isocenter.types import Array, Grid, Mask, Triple

_DIRECTED = {"glcm", "glrlm"}
_UNDIRECTED: dict[str, Aggregation] = {"2D": "2D", "2_": "2_5D", "3D": "3D"}
_DEFAULT_WIDTH = {Quantity.HU: 25.0, Quantity.SUV: 0.5}
_DEFAULT_ORIGIN = {Quantity.HU: -1000.0, Quantity.SUV: 0.0}
_DEFAULT_IVH = {Quantity.HU: 1.0, Quantity.SUV: 0.1}


class Measured(NamedTuple):
    """One number of one region, or why there is none."""

    family: str
    name: str
    aggregation: Aggregation
    value: float | None
    missing: str = ""
    filtered: str = ""


def compute(
    values: Grid,
    mask: Mask,
    spacing_mm: Triple,
    settings: Radiomics,
    *,
    quantity: Quantity,
    metric: bool = True,
) -> list[Measured]:
    """Features of the voxels of `mask`.

    Args:
        values: intensities.
        mask: the region on the same grid.
        spacing_mm: between voxel centres, along (d, h, w).
        settings: how the region is prepared, and which features.
        quantity: what the intensities measure; it chooses bins where the settings do not.
        metric: the spacing is in millimetres; without, whatever needs them has none.
    Returns: one row a feature, in the order of the catalogue; features never fail, they are missing.
    """
    families = families_for(settings, flat=mask.shape[0] == 1)
    if settings.normalise is not None:
        spread = float(values.std(dtype=np.float64))
        centre = float(values.mean(dtype=np.float64))
        values = ((values - centre) / (spread or 1.0) * settings.normalise).astype(np.float32)
        quantity = Quantity.ARBITRARY
    settings = with_defaults(settings, quantity)
    if not mask.any():
        return _all_missing(families, "the region is empty", settings)
    region = region_of(values, mask, spacing_mm, settings, hounsfield=quantity is Quantity.HU)
    if not region.shape_mask.any():
        return _all_missing(families, "the region is smaller than a voxel of the spacing to resample to", settings)
    if region.values.dtype.kind == "f" and not np.isfinite(region.values[region.shape_mask]).all():
        return _all_missing(families, "the region holds values that are not finite (NaN or infinity)", settings)
    rows = _Job(region, settings, quantity, families, metric=metric).rows()
    for chosen in settings.filters:
        rows += _filtered(region, chosen, settings, metric=metric)
    return rows


def _filtered(region: Region, chosen: Filter, settings: Radiomics, *, metric: bool) -> list[Measured]:
    """Features of a filter's response in the same region; it has no unit, so bins are a number of them."""
    try:
        values = response(region.values, chosen, region.spacing_mm)
    except UnitError as error:
        rows = _all_missing(chosen.features, str(error), settings)
    else:
        bins = {"bin_width": None, "bin_origin": None, "grey_levels": False, "bin_count": settings.bin_count or 32}
        own = settings.model_copy(update={**bins, "ivh_bin_width": None})
        job = _Job(replace(region, values=values), own, Quantity.ARBITRARY, chosen.features, metric=metric)
        rows = job.rows()
    return [row._replace(filtered=name_of(chosen)) for row in rows]


def families_for(settings: Radiomics, *, flat: bool) -> tuple[str, ...]:
    """Families of the standard that the settings ask for; of a flat picture those that it has."""
    wanted: tuple[str, ...] = settings.families or tuple(CODES)
    spatial = {"morphology", "local_intensity"} if flat and settings.families is None else set()
    return tuple(family for family in wanted if family in CODES and family not in spatial)


def default_origin(quantity: Quantity) -> float | None:
    """Lower edge of the first bin where the settings state none; None: the region's smallest intensity."""
    return _DEFAULT_ORIGIN.get(quantity)


def with_defaults(settings: Radiomics, quantity: Quantity) -> Radiomics:
    """Settings with the bins that suit the quantity, where none are stated."""
    if settings.bin_width is None and settings.bin_count is None and not settings.grey_levels:
        width = _DEFAULT_WIDTH.get(quantity)
        stated = {"bin_count": 32} if width is None else {"bin_width": width}
        settings = settings.model_copy(update=stated)
    return settings


def _all_missing(families: Iterable[str], reason: str, settings: Radiomics) -> list[Measured]:
    return [row for family in families for row in _missing(family, _aggregations(family, settings, flat=False), reason)]


def _missing(family: str, aggregations: Iterable[Aggregation], reason: str) -> list[Measured]:
    return [Measured(family, name, a, None, reason) for a in aggregations for name in names_of(family)]


def _aggregations(family: str, settings: Radiomics, *, flat: bool) -> tuple[Aggregation, ...]:
    """The aggregations of a family: those of matrices without directions have shorter names."""
    if family not in {"glcm", "glrlm", "glszm", "gldzm", "ngtdm", "ngldm"}:
        return ("none",)
    wanted = settings.resolved(("2D_comb",) if flat else ("3D_comb",))
    if family in _DIRECTED:
        return wanted
    return tuple(dict.fromkeys(_UNDIRECTED[name[:2]] for name in wanted))


class _Job:
    """One region's computation: what several families share is prepared once."""

    def __init__(
        self,
        region: Region,
        settings: Radiomics,
        quantity: Quantity,
        families: tuple[str, ...],
        *,
        metric: bool,
    ) -> None:
        self.region, self.settings, self.quantity = region, settings, quantity
        self.families, self.metric = families, metric
        self.inside = region.values[region.mask]
        self.flat = region.shape_mask[region.core].shape[0] == 1

    def rows(self) -> list[Measured]:
        """Every family, the long ones first; large regions side by side."""
        found: dict[str, list[Measured]] = {}
        tasks = self._tasks()
        if len(self.inside) < _SIDE_BY_SIDE or threads.allowed() == 1:
            parts = [task() for task in tasks]
        else:
            with ThreadPoolExecutor(threads.allowed()) as pool:
                parts = list(pool.map(lambda task: task(), tasks))
        for part in parts:
            for row in part:
                found.setdefault(row.family, []).append(row)
        order = {name: n for n, name in enumerate(names_of("morphology"))}
        if "morphology" in found:  # its slowest two were computed first
            found["morphology"].sort(key=lambda row: order[row.name])
        return [row for family in self.families for row in found[family]]

    def _tasks(self) -> list[Callable[[], list[Measured]]]:
        own = {
            "morphology": self._morphology, "local_intensity": self._local, "statistics": self._statistics,
            "ivh": self._ivh,
        }  # fmt: skip
        tasks = [run for family, run in own.items() if family in self.families]
        if "morphology" in self.families:
            tasks.insert(0, self._pairs)
        return tasks + self._discrete([f for f in self.families if f not in own])

    def _numbers(self, family: str, numbers: Numbers, reason: str) -> list[Measured]:
        """Rows of a family without aggregations; what `numbers` lacks is missing for `reason`."""
        return [
            Measured(family, name, "none", numbers.get(name), "" if name in numbers else reason)
            for name in names_of(family)
            if (self.settings.enclosing or not name.startswith(("oriented_box", "enclosing_ellipsoid")))
            and name not in _PAIRS
        ]

    def _pairs(self) -> list[Measured]:
        """Moran's I and Geary's C."""
        flat = self.region.shape_mask.shape[0] == 1
        numbers: Numbers = {}
        reason = _NO_MM if not self.metric else _FLAT if flat else "" if len(self.inside) else _NONE_COUNTS
        if not reason:
            numbers, reason = morphology.autocorrelation(self.region)
        return [
            Measured("morphology", name, "none", numbers.get(name), "" if name in numbers else reason)
            for name in _PAIRS
        ]

    def _morphology(self) -> list[Measured]:
        if not self.metric or self.region.shape_mask.shape[0] == 1:
            return self._numbers("morphology", {}, _FLAT if self.metric else _NO_MM)
        numbers = morphology.shape(self.region, enclosing=self.settings.enclosing)
        if len(self.inside):
            numbers |= morphology.placed_intensity(self.region, numbers["volume"])
        reasons = {
            "integrated_intensity": _NONE_COUNTS,
            "centre_of_mass_shift": "the intensities sum to 0" if len(self.inside) else _NONE_COUNTS,
        }
        rows = self._numbers("morphology", numbers, "the region has no width along one of its axes")
        return [row._replace(missing=reasons.get(row.name, row.missing)) if row.missing else row for row in rows]

    def _local(self) -> list[Measured]:
        if not len(self.inside) or not self.metric:
            reason = (
                "the image has no millimetres, and the peak is a mean over 1 cm3" if not self.metric else _NONE_COUNTS
            )
            return self._numbers("local_intensity", {}, reason)
        steps = self.region.spacing_mm
        if 1000 / (steps[0] * steps[1] * steps[2]) > _MOST_IN_BALL:
            reason = f"a sphere of 1 cm3 holds more than {_MOST_IN_BALL} voxels of this spacing: resample first"
            return self._numbers("local_intensity", {}, reason)
        if not np.isfinite(self.region.values).all():
            return self._numbers("local_intensity", {}, "a voxel near the region is not finite")
        return self._numbers("local_intensity", first_order.local_intensity(self.region), "")

    def _statistics(self) -> list[Measured]:
        if not len(self.inside):
            return self._numbers("statistics", {}, _NONE_COUNTS)
        reason = "not defined where all voxels of the region are equal, or where it divides by 0"
        return self._numbers("statistics", first_order.statistics(self.inside), reason)

    def _ivh(self) -> list[Measured]:
        if not len(self.inside):
            return self._numbers("ivh", {}, _NONE_COUNTS)
        low, high = float(self.inside.min()), float(self.inside.max())
        if low == high:
            return self._numbers("ivh", {}, "all voxels of the region are equal")
        inside, axis = self._ivh_axis(low, high)
        if (axis[1] - axis[0]) / axis[2] > 1e6:
            reason = "its intensities span more than a million steps: state ivh_bin_width or ivh_bin_count"
            return self._numbers("ivh", {}, reason)
        low, high, step = axis
        numbers = first_order.intensity_volume_histogram(inside, low=low, high=high, step=step)
        return self._numbers("ivh", numbers, "")

    def _ivh_axis(self, low: float, high: float) -> tuple[Array, tuple[float, float, float]]:
        """Intensities of the histogram (section 3.5) and its axis: first, last, step."""
        settings = self.settings
        if settings.grey_levels:
            return self.inside, (low, high, 1.0)
        width = settings.ivh_bin_width
        if settings.ivh_bin_count is not None or (width is None and self.quantity not in _DEFAULT_IVH):
            count = settings.ivh_bin_count or 1000
            levels = np.minimum(np.floor(count * ((self.inside - low) / (high - low))) + 1, count)
            return levels, (1.0, float(count), 1.0)
        begin, end = low, high
        if settings.range is not None:
            begin, end = (e if s is None else s for s, e in zip(settings.range, (low, high), strict=True))
        if width is None:
            return self.inside, (begin, end, _DEFAULT_IVH[self.quantity])
        middles = begin + (np.floor((self.inside - begin) / width) + 0.5) * width
        count = int(np.ceil((end - begin) / width))
        return middles, (begin + width / 2, begin + (count - 0.5) * width, width)

    def _levels(self) -> tuple[Array, str]:
        """Grey levels of the intensities that count, or why there are none."""
        if not len(self.inside):
            return self.inside, _NONE_COUNTS
        if not self.settings.grey_levels:
            return discretised(self.inside, self.settings, default_origin=default_origin(self.quantity))
        levels = self.inside.astype(np.int64)
        whole = (levels == self.inside).all() and levels.min() >= 1 and levels.max() <= 1024
        return levels, "" if whole else "grey levels are whole numbers from 1 to 1024"

    def _discrete(self, families: list[str]) -> list[Callable[[], list[Measured]]]:
        """Tasks of histogram and texture, which share grey levels."""
        if not families:
            return []
        levels, reason = self._levels()
        wanted = {family: _aggregations(family, self.settings, flat=self.flat) for family in families}
        if reason:
            rows = [row for family, joined in wanted.items() for row in _missing(family, joined, reason)]
            return [lambda: rows]
        tasks: list[Callable[[], list[Measured]]] = []
        if "histogram" in wanted:
            del wanted["histogram"]
            why = "not defined where all voxels of the region fall into one grey level"
            tasks.append(lambda: self._numbers("histogram", first_order.histogram(levels), why))
        return self._texture(wanted, levels) + tasks if wanted else tasks

    def _texture(self, wanted: dict[str, tuple[Aggregation, ...]], levels: Array) -> list[Callable[[], list[Measured]]]:
        from isocenter.features import texture

        settings, core = self.settings, self.region.core
        laid = texture.laid_out(
            levels,
            self.region.mask[core],
            self.region.shape_mask[core],
            number=settings.bin_count or int(levels.max()),
            margin=settings.distance,
        )
        why = _texture_reason(len(levels), flat=bool(levels.min() == levels.max()))
        distance, coarseness = settings.distance, settings.coarseness

        def rows(found: texture.Rows) -> list[Measured]:
            return [
                Measured(family, name, a, float(v) if np.isfinite(v) else None, "" if np.isfinite(v) else why)
                for family, a in found
                for name, v in zip(names_of(family), found[family, a], strict=True)
            ]

        tasks: list[Callable[[], list[Measured]]] = []
        if "glrlm" in wanted:
            tasks.append(lambda: rows(texture.glrlm(laid, wanted["glrlm"])))
        zones = {"glszm", "gldzm"} & set(wanted)
        if zones:
            tasks.append(lambda: rows(texture.zones(laid, wanted[min(zones)], zones)))
        near = {"ngtdm", "ngldm"} & set(wanted)
        if near:
            tasks.append(
                lambda: rows(
                    texture.neighbourhoods(laid, wanted[min(near)], near, distance=distance, coarseness=coarseness)
                )
            )
        if "glcm" in wanted:
            tasks.append(lambda: rows(texture.glcm(laid, wanted["glcm"], distance=distance)))
        return tasks


_NONE_COUNTS = "no voxel of the region has an intensity within the range"


_NO_MM = "the image has no millimetres: see the features of flat pictures in pixels"
_FLAT = "a picture of one slice has no volume: see the features of flat pictures"
_PAIRS = ("moran_i", "geary_c")
_MOST_IN_BALL = 2_000_000
_SIDE_BY_SIDE = 2_000
"""Voxels from which threads pay."""


def _texture_reason(voxels: int, *, flat: bool) -> str:
    if voxels == 1:
        return "a region of one voxel has no neighbours"
    if flat:
        return "not defined where all voxels of the region fall into one grey level"
    return "no two voxels of the region lie beside each other"


@cache
def unit_of(family: str, name: str, intensity: str) -> str:
    """UCUM unit of a feature of an image whose intensities have the unit `intensity`."""
    unit = catalogue()[family, name].unit
    grey = {"[level]": "{level}", "[level]2": "{level}2", "[level]3": "{level}3", "[level]4": "{level}4"}
    units = {"I": intensity, "I2": f"({intensity})2", "I.mm3": f"{intensity}.mm3", **grey}
    return units.get(unit, unit)
