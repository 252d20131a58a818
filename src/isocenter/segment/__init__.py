"""Segment: Volume -> LabelMap, and LabelMap -> LabelMap. Every step is a row of `STEPS`."""

from isocenter.data.step import StepKind
from isocenter.segment.brain import Brain, brain
from isocenter.segment.cluster import GaussianMixture, KMeans, gaussian_mixture, k_means
from isocenter.segment.refine import (
    Components,
    Morphology,
    NoSettings,
    closing,
    components,
    fill_holes,
    opening,
)
from isocenter.segment.threshold import Otsu, Threshold, otsu, threshold

STEPS: dict[str, StepKind] = {
    "otsu": StepKind(Otsu, otsu, "volume", within=True),
    "threshold": StepKind(Threshold, threshold, "volume", within=True),
    "k_means": StepKind(KMeans, k_means, "volume", within=True),
    "gaussian_mixture": StepKind(GaussianMixture, gaussian_mixture, "volume", within=True),
    "brain": StepKind(Brain, brain, "volume"),
    "components": StepKind(Components, components, "labels"),
    "fill_holes": StepKind(NoSettings, fill_holes, "labels"),
    "opening": StepKind(Morphology, opening, "labels"),
    "closing": StepKind(Morphology, closing, "labels"),
}

__all__ = ["STEPS", "Brain", "Components", "GaussianMixture", "KMeans", "Morphology", "NoSettings", "Otsu", "Threshold",
           "brain", "closing", "components", "fill_holes", "gaussian_mixture", "k_means", "opening", "otsu",
           "threshold"]  # fmt: skip
