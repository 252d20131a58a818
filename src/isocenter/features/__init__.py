"""Features: Volume + LabelMap -> FeatureTable. Every step is a row of `STEPS`."""

from isocenter.data.step import StepKind
from isocenter.features.deep import Deep, deep
from isocenter.features.intensity import Intensity, intensity
from isocenter.features.radiomics import radiomics
from isocenter.features.settings import Radiomics
from isocenter.features.shape import VolumeSize, volume

STEPS: dict[str, StepKind] = {
    "volume": StepKind(VolumeSize, volume, "region"),
    "intensity": StepKind(Intensity, intensity, "region"),
    "deep": StepKind(Deep, deep, "region"),
    "radiomics": StepKind(Radiomics, radiomics, "region"),
}

__all__ = ["STEPS", "Deep", "Intensity", "Radiomics", "VolumeSize", "deep", "intensity", "radiomics", "volume"]
