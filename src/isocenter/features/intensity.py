"""What intensities a region holds."""

import numpy as np

from isocenter.data.features import Feature, FeatureTable
from isocenter.data.labels import LabelMap
from isocenter.data.step import Settings
from isocenter.data.volume import Quantity, Volume
from isocenter.types import Values


class Intensity(Settings):
    """Settings of `intensity`: none."""


_DEFINITIONS = {
    "mean": "IBSI:Q4LE",
    "variance": "IBSI:ECT3",
    "skewness": "IBSI:KE2A",
    "excess kurtosis": "IBSI:IPH6",
    "median": "IBSI:Y12H",
    "minimum": "IBSI:1GSF",
    "10th percentile": "IBSI:QG58",
    "90th percentile": "IBSI:8DWT",
    "maximum": "IBSI:84IY",
    "interquartile range": "IBSI:SALO",
}


def intensity(image: Volume, labels: LabelMap, settings: Intensity) -> FeatureTable:
    """Statistics of the intensities of each label.

    Raises: GeometryError where image and labels lie on different grids.
    Source: IBSI reference manual, arXiv:1612.07003v11, section 3.3; variance divides by n.
    """
    image.geometry.require_same(labels.geometry, what="the image and the label map")
    unit = "[arb'U]" if image.quantity is Quantity.ARBITRARY else _UNITS.get(image.quantity, "1")
    features: list[Feature] = []
    for label in labels.labels:
        values = image.grid[labels.voxels == label.value]
        numbers, missing = ({}, "the region is empty") if not values.size else _statistics(values)
        for name, definition in _DEFINITIONS.items():
            power = {"variance": f"({unit})2", "skewness": "1", "excess kurtosis": "1"}
            value = numbers.get(name)
            reason = missing if value is None else ""
            features.append(Feature(name, value, power.get(name, unit), definition, label.name, reason))
    return FeatureTable(tuple(features))


_UNITS = {Quantity.HU: "[hnsf'U]", Quantity.SUV: "g/mL"}


def _statistics(values: Values) -> tuple[dict[str, float], str]:
    """The numbers that exist, and why the others do not. `values` is left in another order."""
    if values.dtype.kind == "f" and not np.all(np.isfinite(values)):
        return {}, "the region holds values that are not finite (NaN or infinity)"
    mean = float(values.mean(dtype=np.float64))
    m2, m3, m4 = (_moment(values, mean, power) for power in (2, 3, 4))
    low, high = float(values.min()), float(values.max())
    p10, p25, p50, p75, p90 = (float(p) for p in np.percentile(values, (10, 25, 50, 75, 90), overwrite_input=True))
    numbers = {
        "mean": mean,
        "variance": m2,
        "median": p50,
        "minimum": low,
        "10th percentile": p10,
        "90th percentile": p90,
        "maximum": high,
        "interquartile range": p75 - p25,
    }
    if low == high:
        return numbers, "all voxels of the region are equal: skewness and kurtosis are not defined"
    numbers["skewness"] = m3 / m2**1.5
    numbers["excess kurtosis"] = m4 / m2**2 - 3
    return numbers, ""


def _moment(values: Values, mean: float, power: int) -> float:
    """Central moment, in chunks, so that a large region needs no float64 copy of itself."""
    chunk = 1 << 20
    parts = (values[i : i + chunk].astype(np.float64) - mean for i in range(0, len(values), chunk))
    return sum(float(np.sum(part**power)) for part in parts) / len(values)
