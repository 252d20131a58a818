"""Definitions to test against, as the papers write them."""

import numpy as np


def otsu_by_definition(values: np.ndarray, cut: float) -> float:
    """Between-class variance of a cut: w0 w1 (m0 - m1)^2 (Otsu 1979, eq. 14)."""
    dark, bright = values[values <= cut], values[values > cut]
    if not len(dark) or not len(bright):
        return 0.0
    return len(dark) * len(bright) / len(values) ** 2 * (dark.mean() - bright.mean()) ** 2
