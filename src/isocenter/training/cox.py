"""Cox regression with an elastic net penalty, as a scikit-learn estimator."""

import numpy as np
from sklearn.base import BaseEstimator

from isocenter.errors import InputError
from isocenter.optional import require
from isocenter.types import Array


class CoxElasticNet(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Proportional hazards; ties by Efron. The target is two columns, time and event.

    Args:
        alpha: strength of the penalty; 0: none.
        mixing: 1 is a lasso, 0 a ridge.
    Source: statsmodels PHReg; baseline hazard: N. Breslow, JRSS B 34:216-217, 1972.
    """

    def __init__(self, alpha: float = 0.01, mixing: float = 0.5) -> None:
        self.alpha = alpha
        self.mixing = mixing

    def fit(self, matrix: Array, target: Array) -> "CoxElasticNet":
        """Estimate coefficients and the baseline.

        Raises: InputError where the likelihood has no maximum.
        """
        import warnings

        phreg = require("statsmodels.duration.hazard_regression", extra="survival")
        time, event = target[:, 0], target[:, 1].astype(int)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            model = phreg.PHReg(time, matrix, status=event, ties="efron")
            if self.alpha:
                found = model.fit_regularized(method="elastic_net", alpha=self.alpha, L1_wt=self.mixing)
            else:
                found = model.fit(disp=0)
        beta = np.asarray(found.params, np.float64)
        if not np.all(np.isfinite(beta)) or np.abs(beta).max(initial=0) > 50:
            raise InputError("the Cox model has no finite solution on these data: fewer features, or a penalty, help")
        self.coef_ = beta
        self.centre_ = matrix.mean(axis=0)
        risk = np.exp((matrix - self.centre_) @ beta)
        times = np.unique(time[event == 1])
        self.times_ = times
        self.hazard_ = np.cumsum([((time == t) & (event == 1)).sum() / risk[time >= t].sum() for t in times])
        return self

    def proportional(self, matrix: Array, target: Array) -> Array:
        """P-value of each coefficient that its effect does not change with time: small ones speak against the model.

        Source: correlation of scaled Schoenfeld residuals with the rank of time, P. Grambsch and T. Therneau,
            Biometrika 81(3):515-526, 1994.
        """
        from scipy.stats import spearmanr

        time, event = target[:, 0], target[:, 1].astype(int)
        away = matrix - self.centre_
        risk = np.exp(away @ self.coef_)
        rows = []
        for i in np.flatnonzero(event == 1):
            there = time >= time[i]
            rows.append(away[i] - risk[there] @ away[there] / risk[there].sum())
        residuals = np.asarray(rows)
        at = time[event == 1]
        used = self.coef_ != 0
        return np.asarray([
            spearmanr(residuals[:, k], at)[1] if used[k] and np.ptp(residuals[:, k]) > 0 else np.nan
            for k in range(len(used))
        ])  # fmt: skip

    def predict(self, matrix: Array) -> Array:
        """Log relative hazard: larger is an earlier event."""
        return np.asarray((matrix - self.centre_) @ self.coef_)

    def survival(self, matrix: Array, times: Array) -> Array:
        """Share without an event at each time, one row a case."""
        index = np.searchsorted(self.times_, times, side="right")
        hazard = np.append(0.0, self.hazard_)[index]
        return np.asarray(np.exp(-np.exp(self.predict(matrix))[:, None] * hazard))
