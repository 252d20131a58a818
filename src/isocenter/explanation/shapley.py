"""Shapley values: how much of an answer each column of a row has brought about."""

from collections.abc import Callable
from itertools import combinations
from math import comb
from typing import Any

import numpy as np

from isocenter.optional import require
from isocenter.types import Array, Float64

EXACT = 10
"""Columns up to which every subset is asked; beyond, orders are drawn."""


def shapley_values(
    answer: Callable[[Array], Array], rows: Float64[Array, "n d"], baseline: Float64[Array, " d"], *, seed: int,
    draws: int = 50,
) -> Float64[Array, "n d"]:  # fmt: skip
    """What each column adds to the answer beyond that of the baseline; their sum is the whole difference.

    Args:
        answer: rows -> one number each.
        rows: to explain.
        baseline: the row that stands for columns that are left out.
        seed: of the orders, where they are drawn.
        draws: orders of the columns, where they are drawn (Captum).
    Source: L. Shapley, Contributions to the Theory of Games II, 1953; E. Strumbelj and I. Kononenko, JMLR 11:1-18,
        2010, for drawn orders.
    """
    if rows.shape[1] <= EXACT:
        return np.stack([_exact(answer, row, baseline) for row in rows])
    torch: Any = require("torch", extra="learn")
    captum: Any = require("captum.attr", extra="explain")
    torch.manual_seed(seed)

    def forward(x: Any) -> Any:
        return torch.from_numpy(np.asarray(answer(x.numpy()), np.float64))

    found = captum.ShapleyValueSampling(forward).attribute(
        torch.from_numpy(np.asarray(rows, np.float64)), baselines=torch.from_numpy(baseline[None]), n_samples=draws,
        perturbations_per_eval=1,
    )  # fmt: skip
    return np.asarray(found.numpy(), np.float64)


def _exact(answer: Callable[[Array], Array], row: Array, baseline: Array) -> Array:
    """Over every subset of the columns that differ from the baseline."""
    d = len(row)
    subsets = [set(s) for size in range(d + 1) for s in combinations(range(d), size)]
    asked = np.tile(baseline, (len(subsets), 1))
    for i, subset in enumerate(subsets):
        index = sorted(subset)
        asked[i, index] = row[index]
    values = np.asarray(answer(asked), np.float64)
    by = {frozenset(s): v for s, v in zip(subsets, values, strict=True)}
    found = np.zeros(d)
    for column in range(d):
        for subset in subsets:
            if column not in subset:
                weight = 1 / (d * comb(d - 1, len(subset)))
                found[column] += weight * (by[frozenset(subset | {column})] - by[frozenset(subset)])
    return found
