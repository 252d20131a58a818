"""Gradient boosting of proportional hazards, as a scikit-learn estimator."""

import json
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from isocenter.errors import InputError
from isocenter.optional import require
from isocenter.types import Array


class BoostedHazards(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Trees boosted on the Cox partial likelihood; the target is two columns, time and event.

    The trees are kept as the text of their JSON, so that a stored model holds numbers and nothing that runs.

    Args:
        learning_rate: of each tree.
        max_depth: of each tree.
        rounds: trees.
        seed: of row sampling.
    Source: T. Chen and C. Guestrin, Proc. KDD 785-794, 2016 (`survival:cox`); baseline hazard: N. Breslow, 1972.
    """

    def __init__(self, learning_rate: float = 0.05, max_depth: int = 2, rounds: int = 100, seed: int = 0) -> None:
        self.learning_rate = learning_rate
        self.max_depth = max_depth
        self.rounds = rounds
        self.seed = seed

    def fit(self, matrix: Array, target: Array) -> "BoostedHazards":
        """Boost, and estimate the baseline."""
        xgboost = require("xgboost", extra="survival")
        time, event = target[:, 0], target[:, 1].astype(int)
        label = np.where(event == 1, np.maximum(time, 1e-12), -np.maximum(time, 1e-12))  # negative: followed until then
        settings = {
            "objective": "survival:cox", "eta": self.learning_rate, "max_depth": self.max_depth, "subsample": 0.8,
            "seed": self.seed, "nthread": 1, "verbosity": 0, "base_score": 1.0,
        }  # fmt: skip
        booster = xgboost.train(settings, xgboost.DMatrix(matrix, label=label), self.rounds)
        self.trees_ = np.frombuffer(bytes(booster.save_raw("json")), np.uint8).copy()
        self.width_ = matrix.shape[1]
        risk = np.exp(self.predict(matrix))
        times = np.unique(time[event == 1])
        self.times_ = times
        self.hazard_ = np.cumsum([((time == t) & (event == 1)).sum() / risk[time >= t].sum() for t in times])
        return self

    def predict(self, matrix: Array) -> Array:
        """Log relative hazard: larger is an earlier event."""
        xgboost = require("xgboost", extra="survival")
        booster = xgboost.Booster()
        booster.load_model(bytearray(self.trees_.tobytes()))
        return np.asarray(booster.predict(xgboost.DMatrix(matrix), output_margin=True), np.float64)

    def survival(self, matrix: Array, times: Array) -> Array:
        """Share without an event at each time, one row a case."""
        index = np.searchsorted(self.times_, times, side="right")
        hazard = np.append(0.0, self.hazard_)[index]
        return np.asarray(np.exp(-np.exp(self.predict(matrix))[:, None] * hazard))

    def require_sound(self) -> None:
        """Refuse trees that point outside themselves, which compiled code would follow.

        Raises: InputError, ValueError or KeyError.
        """
        model: dict[str, Any] = json.loads(self.trees_.tobytes().decode("utf-8"))
        if model["learner"]["objective"]["name"] != "survival:cox":
            raise InputError("boosted trees of another kind")
        for tree in model["learner"]["gradient_booster"]["model"]["trees"]:
            left, right = np.asarray(tree["left_children"]), np.asarray(tree["right_children"])
            here = np.arange(len(left))
            inner = left != -1
            good = np.all((left[inner] > here[inner]) & (left[inner] < len(left)))
            good &= np.all((right[inner] > here[inner]) & (right[inner] < len(left)) & (left[inner] != right[inner]))
            good &= np.all(right[~inner] == -1) and not tree.get("categories_nodes")
            features = np.asarray(tree["split_indices"])
            if not good or np.any(features < 0) or np.any(features >= self.width_) or len(features) != len(left):
                raise InputError("a boosted tree points outside itself")
