"""Parameter files and feature names of pyradiomics, for those who come from it.

What differs in the numbers themselves stands in docs/en/pyradiomics.md.

Source: pyradiomics 3.0 documentation (J. J. M. van Griethuysen et al., Cancer Research 77(21):e104-e107, 2017).
"""

from collections.abc import Callable, Mapping
from typing import Any

from isocenter.data.provenance import Json
from isocenter.errors import RecipeError

_INTERPOLATORS = {
    "sitkNearestNeighbor": "nearest", "sitkLinear": "linear", "sitkBSpline": "cubic", "sitkBSplineResampler": "cubic",
    1: "nearest", 2: "linear", 3: "cubic", None: "cubic",
}  # fmt: skip
_CLASSES = {
    "shape": ("morphology",), "shape2D": ("shape_2d",), "firstorder": ("statistics", "histogram"), "glcm": ("glcm",),
    "glrlm": ("glrlm",), "glszm": ("glszm",), "gldm": ("ngldm",), "ngtdm": ("ngtdm",),
}  # fmt: skip
_EVERY = ("statistics", "histogram", "glcm", "glrlm", "glszm", "ngldm", "ngtdm")
_WITHOUT_EFFECT = {
    "additionalInfo", "enableCExtensions", "label", "label_channel", "geometryTolerance", "preCrop", "padDistance",
    "symmetricalGLCM", "correctMask", "minimumROIDimensions", "minimumROISize", "resegmentShape", "weightingNorm",
    "voxelArrayShift", "verbose",
}  # fmt: skip
"""Keys that may stand in a file as long as they say what is done anyway; the others are refused by name."""
_NEUTRAL: dict[str, Callable[[Any], bool]] = {
    "label": lambda value: value in (1, None),  # another one is named with --label
    "symmetricalGLCM": lambda value: value is True,
    "resegmentShape": lambda value: value is False,
    "weightingNorm": lambda value: value is None or value == "no_weighting",
    "voxelArrayShift": lambda value: not value,
}


def settings_from(given: Mapping[str, Json]) -> dict[str, Json]:
    """Settings of `radiomics` that mean what a pyradiomics parameter file says.

    Its defaults hold where it is silent: bins of 25 aligned to multiples of their width, B-spline interpolation,
    features averaged over directions.

    Raises: RecipeError that names what has no counterpart.
    """
    unknown = sorted(set(given) - {"setting", "featureClass", "imageType", "voxelSetting"})
    if unknown:
        raise RecipeError(f"{unknown[0]!r} is no part of a pyradiomics file (setting, featureClass, imageType)")
    setting = given.get("setting") or {}
    if not isinstance(setting, Mapping):
        raise RecipeError("`setting` is a mapping of keys to values")
    out: dict[str, Json] = {"interpolation": "cubic", "aggregation": ["3D_avg"]}
    left = dict(setting)
    _bins(left, out)
    _resampling(left, out)
    _resegmentation(left, out)
    _texture(left, out)
    for key, value in left.items():
        if key in _NEUTRAL and not _NEUTRAL[key](value):
            raise RecipeError(f"setting {key}: {value} has no counterpart here; see docs/en/pyradiomics.md")
        if key not in _WITHOUT_EFFECT:
            raise RecipeError(f"setting {key} has no counterpart here; see docs/en/pyradiomics.md")
    out["families"] = _families(given.get("featureClass"))
    inside = [f for f in out["families"] or _EVERY if f not in ("morphology", "shape_2d")]
    filters = [{**one, "features": inside} for one in _filters(given.get("imageType"), setting)]
    if filters:
        out["filters"] = filters
    return out


def _bins(left: dict[str, Json], out: dict[str, Json]) -> None:
    if left.get("binCount") is not None:
        out["bin_count"] = left["binCount"]
    else:
        out["bin_width"] = left.get("binWidth", 25)
        out["bin_origin"] = "multiple"
    left.pop("binCount", None)
    left.pop("binWidth", None)


def _resampling(left: dict[str, Json], out: dict[str, Json]) -> None:
    spacing = left.pop("resampledPixelSpacing", None)
    if spacing is not None:
        steps = spacing if isinstance(spacing, list) else [spacing] * 3
        out["spacing_mm"] = list(reversed(steps))  # x, y, z there; slices, rows, columns here
    name = left.pop("interpolator", None)
    if name not in _INTERPOLATORS:
        raise RecipeError(f"setting interpolator: {name} has no counterpart here; there are {list(_INTERPOLATORS)[:4]}")
    out["interpolation"] = _INTERPOLATORS[name]
    out["round_intensities"] = False
    if left.pop("normalize", False):
        out["normalise"] = float(left.get("normalizeScale", 1))
        if left.get("removeOutliers") is not None:
            raise RecipeError("setting removeOutliers has no counterpart here: use outliers_sigma on the region")
    left.pop("normalizeScale", None)
    if left.get("removeOutliers", 0) is None:
        left.pop("removeOutliers")


def _resegmentation(left: dict[str, Json], out: dict[str, Json]) -> None:
    ends, mode = left.pop("resegmentRange", None), left.pop("resegmentMode", "absolute")
    if ends is None:
        return
    values = list(ends) if isinstance(ends, list) else [ends]
    if mode == "absolute":
        out["range"] = [values[0], values[1] if len(values) > 1 else None]
    elif mode == "sigma" and (len(values) == 1 or (len(values) == 2 and values[0] == -values[1])):
        out["outliers_sigma"] = values[-1]
    else:
        raise RecipeError(f"setting resegmentMode: {mode} with {values} has no counterpart here")


def _texture(left: dict[str, Json], out: dict[str, Json]) -> None:
    distances = left.pop("distances", [1])
    if not isinstance(distances, list) or len(distances) != 1:
        raise RecipeError(f"setting distances: one distance is computed at a time; got {distances}")
    out["distance"] = distances[0]
    out["coarseness"] = left.pop("gldm_a", 0)
    if left.pop("force2D", False):
        if left.get("force2Ddimension", 0) != 0:
            raise RecipeError("setting force2Ddimension: slices are the first axis here: orient the image first")
        out["aggregation"] = ["2_5D_avg"]
    left.pop("force2Ddimension", None)


def _families(classes: Json) -> list[str] | None:
    if not classes:
        return None
    if not isinstance(classes, Mapping):
        raise RecipeError("`featureClass` is a mapping of classes to features")
    found: list[str] = []
    for name, single in classes.items():
        if single:
            raise RecipeError(
                f"featureClass {name}: {single} names single features; all of a class are computed: leave it empty"
            )
        if name not in _CLASSES:
            raise RecipeError(f"featureClass {name!r} is not known; there are {', '.join(_CLASSES)}")
        found += _CLASSES[name]
    return found


def _filters(types: Json, setting: Mapping[str, Json]) -> list[Json]:
    if not types:
        return []
    if not isinstance(types, Mapping):
        raise RecipeError("`imageType` is a mapping of filters to their settings")
    found: list[Json] = []
    for name, own in types.items():
        options = {**setting, **(own if isinstance(own, Mapping) else {})}
        if name == "Original":
            continue
        if name == "LoG":
            found += [{"filter": "log", "sigma_mm": sigma} for sigma in options.get("sigma") or ()]
        elif name == "Wavelet":
            wavelet, level = options.get("wavelet", "coif1"), int(options.get("level", 1))
            found += [
                {"filter": "wavelet", "wavelet": wavelet, "level": n + 1, "kernel": kernel}
                for n in range(level)
                for kernel in ("LLH", "LHL", "LHH", "HLL", "HLH", "HHL", "HHH", *(("LLL",) if n + 1 == level else ()))
            ]
        else:
            raise RecipeError(f"imageType {name!r} has no counterpart here; there are Original, LoG and Wavelet")
    if "Original" not in types:
        raise RecipeError("imageType without Original: features of the image itself are always computed here")
    return found
