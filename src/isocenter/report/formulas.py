"""What each layer and loss of a network computes, as a formula beside the code that does it."""

from collections.abc import Mapping

LAYERS: Mapping[str, str] = {
    "Conv": "y<sub>k</sub>(p) = b<sub>k</sub> + Σ<sub>c</sub> Σ<sub>q</sub> w<sub>k,c</sub>(q) · "
    "x<sub>c</sub>(s·p + q)",
    "ConvTranspose": "y<sub>k</sub>(s·p + q) += w<sub>c,k</sub>(q) · x<sub>c</sub>(p), summed over c, p and q",
    "Linear": "y = W x + b",
    "ReLU": "y = max(0, x)",
    "LeakyReLU": "y = x for x ≥ 0, a·x below",
    "Embedding": "y = W<sub>k</sub>, a row of numbers of class k",
    "_SpectralNorm": "W / σ(W), with σ its largest singular value",
    "GELU": "y = x · Φ(x), with Φ the normal distribution function",
    "Sigmoid": "y = 1 / (1 + e<sup>−x</sup>)",
    "Tanh": "y = (e<sup>x</sup> − e<sup>−x</sup>) / (e<sup>x</sup> + e<sup>−x</sup>)",
    "SiLU": "y = x / (1 + e<sup>−x</sup>)",
    "MaxPool": "y(p) = max over q in the window of x(s·p + q)",
    "AvgPool": "y(p) = mean over q in the window of x(s·p + q)",
    "AdaptiveAvgPool": "y(p) = mean of x over the part of the image that belongs to p",
    "BatchNorm": "y = γ · (x − μ) / √(σ² + ε) + β; μ, σ² over batch and places, at prediction their running means",
    "InstanceNorm": "y = γ · (x − μ) / √(σ² + ε) + β; μ, σ² over the places of each image",
    "GroupNorm": "y = γ · (x − μ) / √(σ² + ε) + β; μ, σ² over places and channels of a group",
    "LayerNorm": "y = γ · (x − μ) / √(σ² + ε) + β; μ, σ² over the features of each token",
    "Dropout": "in training y = m · x / (1 − p), where m is 0 with chance p, else 1; at prediction y = x",
    "Flatten": "the numbers of an image as one row",
    "Upsample": "y(p) = x between its grid points, linearly",
}
"""By the name of PyTorch's class without its dimension."""

LOSSES: Mapping[str, str] = {
    "cross_entropy": "p<sub>k</sub> = e<sup>z<sub>k</sub></sup> / Σ<sub>j</sub> e<sup>z<sub>j</sub></sup>;  "
    "L = − Σ<sub>k</sub> t<sub>k</sub> log p<sub>k</sub>",
    "bce": "p<sub>k</sub> = 1 / (1 + e<sup>−z<sub>k</sub></sup>);  "
    "L = − t<sub>k</sub> log p<sub>k</sub> − (1 − t<sub>k</sub>) log(1 − p<sub>k</sub>)",
    "focal": "L = − (1 − p<sub>t</sub>)<sup>γ</sup> log p<sub>t</sub>",
    "ordinal": "L = Σ<sub>k</sub> (P<sub>k</sub> − T<sub>k</sub>)², P and T summed up to class k; "
    "and 0.1 of the cross-entropy",
    "own": "the sum of the network's own losses, as its code says",
    "mse": "L = (y − t)²",
    "huber": "L = ½ (y − t)² for |y − t| ≤ 1, |y − t| − ½ beyond",
    "dice": "L = 1 − mean over labels of (2 Σ p t + 1) / (Σ p + Σ t + 1)",
    "dice_ce": "L = 1 − mean over labels of (2 Σ p t + 1) / (Σ p + Σ t + 1), and the cross-entropy",
    "tversky": "L = 1 − mean over labels of (Σ p t + 1) / (Σ p t + α Σ p (1 − t) + (1 − α) Σ (1 − p) t + 1)",
    "dice_boundary": "L of dice_ce, and 0.1 of the mean of p · d, with d the signed distance from the true surface",
}
"""By the name in the plan."""
