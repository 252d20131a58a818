"""Segment: Volume -> LabelMap, and LabelMap -> LabelMap. Every step is a row of `STEPS`."""

from isocenter.data.step import StepKind
from isocenter.segment.brain import Brain, brain
from isocenter.segment.chest import Body, Lungs, body, lungs
from isocenter.segment.cluster import FuzzyCMeans, GaussianMixture, KMeans, fuzzy_c_means, gaussian_mixture, k_means
from isocenter.segment.contour import ChanVese, chan_vese
from isocenter.segment.edges import Edges, edges
from isocenter.segment.hippocampus import Hippocampus, hippocampus
from isocenter.segment.network import Network, NetworkObjects, network, network_objects
from isocenter.segment.radiograph import ThoraxField, thorax_field
from isocenter.segment.refine import (
    Components,
    Morphology,
    NoSettings,
    Pick,
    Smooth,
    closing,
    components,
    dilation,
    erosion,
    fill_holes,
    opening,
    pick,
    smooth,
)  # fmt: skip
from isocenter.segment.region import (
    ConfidenceConnected,
    RandomWalker,
    RegionGrowing,
    Split,
    Watershed,
    confidence_connected,
    random_walker,
    region_growing,
    split,
    watershed,
)  # fmt: skip
from isocenter.segment.threshold import (
    Adaptive,
    Li,
    MultiOtsu,
    Otsu,
    Threshold,
    adaptive,
    li,
    multi_otsu,
    otsu,
    threshold,
)  # fmt: skip

STEPS: dict[str, StepKind] = {
    "threshold": StepKind(Threshold, threshold, "volume", within=True),
    "otsu": StepKind(Otsu, otsu, "volume", within=True),
    "multi_otsu": StepKind(MultiOtsu, multi_otsu, "volume", within=True),
    "li": StepKind(Li, li, "volume", within=True),
    "adaptive": StepKind(Adaptive, adaptive, "volume", within=True),
    "region_growing": StepKind(RegionGrowing, region_growing, "volume", within=True),
    "confidence_connected": StepKind(ConfidenceConnected, confidence_connected, "volume"),
    "edges": StepKind(Edges, edges, "volume"),
    "k_means": StepKind(KMeans, k_means, "volume", within=True),
    "gaussian_mixture": StepKind(GaussianMixture, gaussian_mixture, "volume", within=True),
    "fuzzy_c_means": StepKind(FuzzyCMeans, fuzzy_c_means, "volume", within=True),
    "watershed": StepKind(Watershed, watershed, "region", memory=15),
    "random_walker": StepKind(RandomWalker, random_walker, "region", memory=11),
    "chan_vese": StepKind(ChanVese, chan_vese, "volume", within=True),
    "brain": StepKind(Brain, brain, "volume"),
    "body": StepKind(Body, body, "volume"),
    "lungs": StepKind(Lungs, lungs, "volume", within=True),
    "thorax_field": StepKind(ThoraxField, thorax_field, "volume"),
    "network": StepKind(Network, network, "volume"),
    "network_objects": StepKind(NetworkObjects, network_objects, "volume"),
    "hippocampus": StepKind(Hippocampus, hippocampus, "region"),
    "pick": StepKind(Pick, pick, "labels"),
    "components": StepKind(Components, components, "labels"),
    "fill_holes": StepKind(NoSettings, fill_holes, "labels"),
    "opening": StepKind(Morphology, opening, "labels"),
    "closing": StepKind(Morphology, closing, "labels"),
    "dilation": StepKind(Morphology, dilation, "labels"),
    "erosion": StepKind(Morphology, erosion, "labels"),
    "smooth": StepKind(Smooth, smooth, "labels"),
    "split": StepKind(Split, split, "labels"),
}

__all__ = [
    "STEPS", "Adaptive", "Body", "Brain", "ChanVese", "Components", "ConfidenceConnected", "Edges", "FuzzyCMeans",
    "GaussianMixture", "Hippocampus", "KMeans", "Li", "Lungs", "Morphology", "MultiOtsu", "Network", "NoSettings",
    "Otsu", "Pick", "RandomWalker", "RegionGrowing", "Smooth", "Split", "ThoraxField", "Threshold", "Watershed",
    "adaptive", "body", "brain", "chan_vese", "closing", "components", "confidence_connected", "dilation", "edges",
    "erosion", "fill_holes", "fuzzy_c_means", "gaussian_mixture", "hippocampus", "k_means", "li", "lungs",
    "multi_otsu", "network", "network_objects", "opening", "otsu",
    "pick", "random_walker", "region_growing", "smooth", "split",
    "thorax_field", "threshold", "watershed",
]  # fmt: skip
