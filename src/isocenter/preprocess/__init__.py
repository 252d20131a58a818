"""Preprocess: Volume -> Volume. Every step is a row of `STEPS`."""

from isocenter.data.step import StepKind
from isocenter.preprocess.denoise import Gaussian, Median, gaussian, median
from isocenter.preprocess.enhance import N4, n4
from isocenter.preprocess.grid import Crop, Orient, Resample, crop, orient, resample
from isocenter.preprocess.intensity import Window, ZScore, window, z_score

STEPS: dict[str, StepKind] = {
    "gaussian": StepKind(Gaussian, gaussian, "volume"),
    "median": StepKind(Median, median, "volume"),
    "n4": StepKind(N4, n4, "volume", within=True),
    "z_score": StepKind(ZScore, z_score, "volume", within=True),
    "window": StepKind(Window, window, "volume"),
    "orient": StepKind(Orient, orient, "volume"),
    "resample": StepKind(Resample, resample, "volume"),
    "crop": StepKind(Crop, crop, "volume", within=True),
}

__all__ = [
    "N4",
    "STEPS",
    "Crop",
    "Gaussian",
    "Median",
    "Orient",
    "Resample",
    "Window",
    "ZScore",
    "crop",
    "gaussian",
    "median",
    "n4",
    "orient",
    "resample",
    "window",
    "z_score",
]  # fmt: skip
