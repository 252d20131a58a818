"""What pyradiomics calls each feature."""

import re
from collections.abc import Callable

from isocenter.data.features import Feature

_FIRST_ORDER = {
    "percentile_10": "10Percentile", "percentile_90": "90Percentile", "energy": "Energy",
    "interquartile_range": "InterquartileRange", "excess_kurtosis": "Kurtosis", "maximum": "Maximum",
    "mean_absolute_deviation": "MeanAbsoluteDeviation", "mean": "Mean", "median": "Median", "minimum": "Minimum",
    "range": "Range", "robust_mean_absolute_deviation": "RobustMeanAbsoluteDeviation",
    "root_mean_square": "RootMeanSquared", "skewness": "Skewness", "variance": "Variance",
}  # fmt: skip
_SHAPE = {
    "approximate_volume": "VoxelVolume", "volume": "MeshVolume", "surface_area": "SurfaceArea",
    "surface_to_volume_ratio": "SurfaceVolumeRatio", "sphericity": "Sphericity",
    "maximum_3d_diameter": "Maximum3DDiameter", "major_axis_length": "MajorAxisLength",
    "minor_axis_length": "MinorAxisLength", "least_axis_length": "LeastAxisLength", "elongation": "Elongation",
    "flatness": "Flatness",
}  # fmt: skip
_GLCM = {
    "autocorrelation": "Autocorrelation", "cluster_prominence": "ClusterProminence", "cluster_shade": "ClusterShade",
    "cluster_tendency": "ClusterTendency", "contrast": "Contrast", "correlation": "Correlation",
    "difference_average": "DifferenceAverage", "difference_entropy": "DifferenceEntropy",
    "difference_variance": "DifferenceVariance", "inverse_difference": "Id", "inverse_difference_moment": "Idm",
    "normalised_inverse_difference_moment": "Idmn", "normalised_inverse_difference": "Idn",
    "first_information_correlation": "Imc1", "second_information_correlation": "Imc2",
    "inverse_variance": "InverseVariance", "joint_average": "JointAverage", "angular_second_moment": "JointEnergy",
    "joint_entropy": "JointEntropy", "joint_maximum": "MaximumProbability", "sum_average": "SumAverage",
    "sum_entropy": "SumEntropy", "joint_variance": "SumSquares",
}  # fmt: skip


def _emphases(there: tuple[str, str, str, str], here: tuple[str, str, str, str]) -> dict[str, str]:
    """Names of the families that share their formulas, from the words for short, long, one of them, its extent."""
    (short, long, word, extent), (short_here, long_here, word_here, extent_here) = there, here
    grey = "GrayLevel"
    low_word = f"_{word_here}" if word_here else ""
    return {
        f"{short_here}_emphasis": f"{short}Emphasis",
        f"{long_here}_emphasis": f"{long}Emphasis",
        f"low_grey_level{low_word}_emphasis": f"Low{grey}{word}Emphasis",
        f"high_grey_level{low_word}_emphasis": f"High{grey}{word}Emphasis",
        f"{short_here}_low_grey_level_emphasis": f"{short}Low{grey}Emphasis",
        f"{short_here}_high_grey_level_emphasis": f"{short}High{grey}Emphasis",
        f"{long_here}_low_grey_level_emphasis": f"{long}Low{grey}Emphasis",
        f"{long_here}_high_grey_level_emphasis": f"{long}High{grey}Emphasis",
        "grey_level_non_uniformity": f"{grey}NonUniformity",
        "normalised_grey_level_non_uniformity": f"{grey}NonUniformityNormalized",
        f"{extent_here}_non_uniformity": f"{extent}NonUniformity",
        f"normalised_{extent_here}_non_uniformity": f"{extent}NonUniformityNormalized",
        "grey_level_variance": f"{grey}Variance",
    }


_NAMES: dict[str, tuple[str, dict[str, str]]] = {
    "morphology": ("shape", _SHAPE),
    "statistics": ("firstorder", _FIRST_ORDER),
    "histogram": ("firstorder", {"entropy": "Entropy", "uniformity": "Uniformity"}),
    "glcm": ("glcm", _GLCM),
    "glrlm": ("glrlm", {
        **_emphases(("ShortRun", "LongRun", "Run", "RunLength"), ("short_run", "long_run", "run", "run_length")),
        "run_percentage": "RunPercentage", "run_length_variance": "RunVariance", "run_length_entropy": "RunEntropy",
    }),
    "glszm": ("glszm", {
        **_emphases(("SmallArea", "LargeArea", "Zone", "SizeZone"), ("small_zone", "large_zone", "zone", "zone_size")),
        "zone_percentage": "ZonePercentage", "zone_size_variance": "ZoneVariance", "zone_size_entropy": "ZoneEntropy",
    }),
    "ngldm": ("gldm", {
        **_emphases(("SmallDependence", "LargeDependence", "", "Dependence"),
                    ("low_dependence", "high_dependence", "count", "dependence_count")),
        "dependence_count_variance": "DependenceVariance", "dependence_count_entropy": "DependenceEntropy",
    }),
    "ngtdm": ("ngtdm", {name: name.capitalize() for name in
                        ("coarseness", "contrast", "busyness", "complexity", "strength")}),
}  # fmt: skip


def _log(found: re.Match[str]) -> str:
    return f"log-sigma-{str(float(found['sigma'])).replace('.', '-')}-mm-3D"


def _wavelet(found: re.Match[str]) -> str:
    return f"wavelet{(found['level'] or '').removeprefix('_level_')}-{found['kernel']}"


_FILTERED: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (r"log_sigma_(?P<sigma>[\d.]+)_(?P<name>.+)", _log),
    (r"wavelet_(wavelet_\w+?_)?kernel_(?P<kernel>[LH]{3})(?P<level>_level_\d)?_(?P<name>.+)", _wavelet),
)
"""Features of filtered images, and what such an image is called there."""

_CHANGED: dict[str, Callable[[float], float]] = {"firstorder_Kurtosis": lambda value: value + 3}
"""Where the same name means another number there."""


_NAMES["ngldm"][1].pop("normalised_grey_level_non_uniformity")  # which its GLDM does not have


def pyradiomics_name(feature: Feature, image: str = "original") -> tuple[str, float | None] | None:
    """Column name and value as pyradiomics states them; None for a feature that it does not have."""
    there = _NAMES.get(feature.family)
    own = feature.name
    for pattern, said in _FILTERED:
        found = re.fullmatch(pattern, own)
        if found:
            image, own = said(found), found["name"]
    if there is None or own not in there[1]:
        return None
    name = f"{there[0]}_{there[1][own]}"
    value = feature.value
    if value is not None and name in _CHANGED:
        value = _CHANGED[name](value)
    return f"{image}_{name}", value
