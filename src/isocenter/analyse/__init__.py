"""Analyse: a case with its features -> findings and checks. Every step is a row of `STEPS`."""

from isocenter.analyse.alignment import RegistrationQuality, registration_quality
from isocenter.analyse.brain import (
    BrainPlausibility,
    T1Contrast,
    TissueVolumes,
    brain_plausibility,
    t1_contrast,
    tissue_volumes,
)  # fmt: skip
from isocenter.analyse.calcium import CalciumScore, calcium_score
from isocenter.analyse.chest import Emphysema, LungVolumes, emphysema, lung_volumes
from isocenter.analyse.composition import BodyComposition, body_composition
from isocenter.analyse.hippocampus import HippocampusVolumes, hippocampus_volumes
from isocenter.analyse.lesion import Diameters, Growth, diameters, growth
from isocenter.analyse.network import (
    NetworkAnswer,
    NetworkObjects,
    NetworkVolumes,
    network,
    network_objects,
    network_volumes,
)
from isocenter.analyse.network_image import NetworkImageStated, NetworkUnusual, network_image, network_unusual
from isocenter.analyse.picture import (
    CardiothoracicRatio,
    Count,
    Distances,
    UltrasoundField,
    cardiothoracic_ratio,
    count,
    distances,
    ultrasound_field,
)  # fmt: skip
from isocenter.analyse.preconditions import (
    Orientation,
    PictureKind,
    T1Weighted,
    orientation_known,
    picture_kind,
    t1_weighted,
)
from isocenter.analyse.sequence import NetworkSequence, TimeCurve, network_sequence, time_curve
from isocenter.data.step import StepKind

STEPS: dict[str, StepKind] = {
    "orientation_known": StepKind(Orientation, orientation_known, "case"),
    "picture_kind": StepKind(PictureKind, picture_kind, "case"),
    "t1_weighted": StepKind(T1Weighted, t1_weighted, "case"),
    "brain_plausibility": StepKind(BrainPlausibility, brain_plausibility, "case"),
    "t1_contrast": StepKind(T1Contrast, t1_contrast, "case"),
    "tissue_volumes": StepKind(TissueVolumes, tissue_volumes, "case"),
    "network": StepKind(NetworkAnswer, network, "case"),
    "network_image": StepKind(NetworkImageStated, network_image, "case"),
    "network_unusual": StepKind(NetworkUnusual, network_unusual, "case"),
    "network_sequence": StepKind(NetworkSequence, network_sequence, "case"),
    "time_curve": StepKind(TimeCurve, time_curve, "case"),
    "network_objects": StepKind(NetworkObjects, network_objects, "case"),
    "network_volumes": StepKind(NetworkVolumes, network_volumes, "case"),
    "hippocampus_volumes": StepKind(HippocampusVolumes, hippocampus_volumes, "case"),
    "lung_volumes": StepKind(LungVolumes, lung_volumes, "case"),
    "emphysema": StepKind(Emphysema, emphysema, "case"),
    "calcium_score": StepKind(CalciumScore, calcium_score, "case"),
    "body_composition": StepKind(BodyComposition, body_composition, "case"),
    "diameters": StepKind(Diameters, diameters, "case"),
    "growth": StepKind(Growth, growth, "case"),
    "cardiothoracic_ratio": StepKind(CardiothoracicRatio, cardiothoracic_ratio, "case"),
    "count": StepKind(Count, count, "case"),
    "distances": StepKind(Distances, distances, "case"),
    "ultrasound_field": StepKind(UltrasoundField, ultrasound_field, "case"),
    "registration_quality": StepKind(RegistrationQuality, registration_quality, "case"),
}

__all__ = [
    "STEPS", "BodyComposition", "BrainPlausibility", "CalciumScore", "CardiothoracicRatio", "Count", "Diameters",
    "Distances", "Emphysema", "Growth", "HippocampusVolumes", "LungVolumes", "NetworkAnswer", "NetworkVolumes",
    "Orientation", "PictureKind", "RegistrationQuality", "T1Contrast", "T1Weighted", "TissueVolumes",
    "UltrasoundField", "body_composition", "brain_plausibility", "calcium_score", "cardiothoracic_ratio", "count",
    "diameters", "distances", "emphysema", "growth", "hippocampus_volumes", "lung_volumes", "network",
    "network_objects", "network_volumes", "orientation_known",
    "picture_kind", "registration_quality", "t1_contrast", "t1_weighted",
    "tissue_volumes", "ultrasound_field",
]  # fmt: skip
