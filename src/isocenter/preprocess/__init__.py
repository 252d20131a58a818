"""Preprocess: Volume -> Volume. Every step is a row of `STEPS`."""

from isocenter.data.step import StepKind
from isocenter.preprocess.align import Register, register
from isocenter.preprocess.bias import N4, n4
from isocenter.preprocess.colour import Channel, StainSeparation, channel, stain
from isocenter.preprocess.denoise import (
    AnisotropicDiffusion,
    Bilateral,
    Box,
    Gaussian,
    NonLocalMeans,
    TotalVariation,
    anisotropic_diffusion,
    bilateral,
    gaussian,
    mean,
    median,
    non_local_means,
    total_variation,
)  # fmt: skip
from isocenter.preprocess.enhance import (
    Clahe,
    ContrastStretching,
    Gamma,
    LaplacianSharpening,
    NoSettings,
    UnsharpMask,
    Window,
    clahe,
    contrast_stretching,
    gamma,
    histogram_equalization,
    invert,
    laplacian_sharpening,
    unsharp_mask,
    window,
)  # fmt: skip
from isocenter.preprocess.grid import Crop, Onto, Orient, Pad, Resample, crop, onto, orient, pad, resample
from isocenter.preprocess.intensity import Percentile, ZScore, histogram_matching, min_max, percentile, z_score
from isocenter.preprocess.network import NetworkImage, network

STEPS: dict[str, StepKind] = {
    "mean": StepKind(Box, mean, "volume"),
    "median": StepKind(Box, median, "volume"),
    "gaussian": StepKind(Gaussian, gaussian, "volume"),
    "bilateral": StepKind(Bilateral, bilateral, "volume"),
    "non_local_means": StepKind(NonLocalMeans, non_local_means, "volume"),
    "total_variation": StepKind(TotalVariation, total_variation, "volume", memory=11),
    "anisotropic_diffusion": StepKind(AnisotropicDiffusion, anisotropic_diffusion, "volume", memory=5),
    "n4": StepKind(N4, n4, "volume", within=True, memory=8),
    "histogram_equalization": StepKind(NoSettings, histogram_equalization, "volume", within=True),
    "clahe": StepKind(Clahe, clahe, "volume"),
    "contrast_stretching": StepKind(ContrastStretching, contrast_stretching, "volume", within=True),
    "gamma": StepKind(Gamma, gamma, "volume"),
    "invert": StepKind(NoSettings, invert, "volume"),
    "unsharp_mask": StepKind(UnsharpMask, unsharp_mask, "volume"),
    "laplacian_sharpening": StepKind(LaplacianSharpening, laplacian_sharpening, "volume"),
    "window": StepKind(Window, window, "volume"),
    "z_score": StepKind(ZScore, z_score, "volume", within=True),
    "min_max": StepKind(ZScore, min_max, "volume", within=True),
    "percentile": StepKind(Percentile, percentile, "volume", within=True),
    "histogram_matching": StepKind(ZScore, histogram_matching, "pair"),
    "channel": StepKind(Channel, channel, "volume"),
    "stain": StepKind(StainSeparation, stain, "volume"),
    "orient": StepKind(Orient, orient, "volume"),
    "resample": StepKind(Resample, resample, "volume"),
    "network": StepKind(NetworkImage, network, "volume"),
    "onto": StepKind(Onto, onto, "pair"),
    "crop": StepKind(Crop, crop, "volume", within=True),
    "pad": StepKind(Pad, pad, "volume"),
    "register": StepKind(Register, register, "pair", memory=12),
}

__all__ = [
    "N4", "STEPS", "AnisotropicDiffusion", "Bilateral", "Box", "Channel", "Clahe", "ContrastStretching", "Crop",
    "Gamma", "Gaussian", "LaplacianSharpening", "NoSettings", "NonLocalMeans", "Onto", "Orient", "Pad", "Percentile",
    "Register", "Resample", "StainSeparation", "TotalVariation", "UnsharpMask", "Window", "ZScore",
    "anisotropic_diffusion", "bilateral", "channel", "clahe", "contrast_stretching", "crop", "gamma", "gaussian",
    "histogram_equalization", "histogram_matching", "invert", "laplacian_sharpening", "mean", "median", "min_max",
    "n4", "non_local_means", "onto", "orient", "pad", "percentile", "register", "resample", "stain",
    "total_variation", "unsharp_mask", "window", "z_score",
]  # fmt: skip
