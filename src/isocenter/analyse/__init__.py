"""Analyse: a case with its features -> findings and checks. Every step is a row of `STEPS`."""

from isocenter.analyse.brain import (
    BrainPlausibility,
    T1Contrast,
    TissueVolumes,
    brain_plausibility,
    t1_contrast,
    tissue_volumes,
)
from isocenter.analyse.preconditions import Orientation, T1Weighted, orientation_known, t1_weighted
from isocenter.data.step import StepKind

STEPS: dict[str, StepKind] = {
    "orientation_known": StepKind(Orientation, orientation_known, "case"),
    "t1_weighted": StepKind(T1Weighted, t1_weighted, "case"),
    "brain_plausibility": StepKind(BrainPlausibility, brain_plausibility, "case"),
    "t1_contrast": StepKind(T1Contrast, t1_contrast, "case"),
    "tissue_volumes": StepKind(TissueVolumes, tissue_volumes, "case"),
}

__all__ = ["STEPS", "BrainPlausibility", "Orientation", "T1Contrast", "T1Weighted", "TissueVolumes",
           "brain_plausibility", "orientation_known", "t1_contrast", "t1_weighted", "tissue_volumes"]  # fmt: skip
