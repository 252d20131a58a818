"""How far repeated measurements agree."""

from dataclasses import dataclass

import numpy as np

from isocenter.errors import InputError
from isocenter.types import Array, Float64


@dataclass(frozen=True)
class Agreement:
    """An intraclass correlation with its interval."""

    value: float
    low: float
    high: float


def icc_one_way(values: Float64[Array, "n k"], *, level: float = 0.95) -> Agreement:
    """ICC(1,1): the share of variance that lies between subjects, where repetitions have no order.

    Args:
        values: subjects by repetitions.
        level: of the interval.
    Raises: InputError for fewer than two subjects or repetitions.
    Source: P. Shrout and J. Fleiss, Psychol. Bull. 86(2):420-428, 1979; interval: K. McGraw and S. Wong, Psychol.
        Methods 1(1):30-46, 1996, Table 7.
    """
    from scipy.stats import f

    n, k = _shape(values)
    between = k * float(np.var(values.mean(axis=1), ddof=1))
    within = float(np.sum((values - values.mean(axis=1, keepdims=True)) ** 2)) / (n * (k - 1))
    if between == within == 0:
        return Agreement(float("nan"), float("nan"), float("nan"))
    if within == 0:
        return Agreement(1.0, 1.0, 1.0)
    ratio = between / within
    low = ratio / float(f.ppf((1 + level) / 2, n - 1, n * (k - 1)))
    high = ratio * float(f.ppf((1 + level) / 2, n * (k - 1), n - 1))
    return Agreement(*((x - 1) / (x + k - 1) for x in (ratio, low, high)))


def icc_agreement(values: Float64[Array, "n k"], *, level: float = 0.95) -> Agreement:
    """ICC(A,1), two-way, absolute agreement: readers are a sample of readers, and their biases count.

    Args:
        values: subjects by readers.
        level: of the interval.
    Raises: InputError for fewer than two subjects or readers.
    Source: K. McGraw and S. Wong, Psychol. Methods 1(1):30-46, 1996, Tables 4 and 7 (ICC(2,1) of Shrout and Fleiss).
    """
    from scipy.stats import f

    n, k = _shape(values)
    grand = values.mean()
    rows = k * float(np.sum((values.mean(axis=1) - grand) ** 2)) / (n - 1)
    columns = n * float(np.sum((values.mean(axis=0) - grand) ** 2)) / (k - 1)
    residual = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + grand
    error = float(np.sum(residual**2)) / ((n - 1) * (k - 1))
    below = rows + (k - 1) * error + k * (columns - error) / n
    if below == 0:
        return Agreement(float("nan"), float("nan"), float("nan"))
    icc = (rows - error) / below
    if error == 0 and columns == 0:
        return Agreement(1.0, 1.0, 1.0)
    if icc >= 1:
        return Agreement(icc, icc, icc)
    a, b = k * icc / (n * (1 - icc)), 1 + k * icc * (n - 1) / (n * (1 - icc))
    freedom = (a * columns + b * error) ** 2 / ((a * columns) ** 2 / (k - 1) + (b * error) ** 2 / ((n - 1) * (k - 1)))
    lower, upper = (float(f.ppf((1 + level) / 2, *d)) for d in ((n - 1, freedom), (freedom, n - 1)))
    spread = k * columns + (k * n - k - n) * error
    low = n * (rows - lower * error) / (lower * spread + n * rows)
    high = n * (upper * rows - error) / (spread + n * upper * rows)
    return Agreement(icc, low, high)


def _shape(values: Array) -> tuple[int, int]:
    n, k = values.shape
    if n < 2 or k < 2:
        raise InputError(f"agreement needs at least 2 subjects and 2 measurements of each; got {n} and {k}")
    return n, k
