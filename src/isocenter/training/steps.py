"""What happens to features between the table and the model; every step is fitted inside the folds.

They are scikit-learn transformers: `fit` sees training rows only.
"""

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from isocenter.errors import InputError
from isocenter.types import Array


class ComBat(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Take out shifts and scales that differ between institutions, keeping what covariates explain.

    The last column of the matrix is the site's number; it is gone afterwards.

    Args:
        covariates: columns whose effect is kept.
        unseen: at prediction, a site that was not in training is refused (`refuse`) or left as it is (`keep`).
    Source: W. Johnson, C. Li and A. Rabinovic, Biostatistics 8(1):118-127, 2007 (parametric empirical Bayes); for
        radiomics, F. Orlhac et al., J. Nucl. Med. 59(8):1321-1328, 2018.
    """

    def __init__(self, covariates: tuple[int, ...] = (), unseen: str = "refuse") -> None:
        self.covariates = covariates
        self.unseen = unseen

    def fit(self, matrix: Array, target: Any = None) -> "ComBat":
        """Estimate each site's shift and scale, shrunk towards what all features of the site share."""
        values, site = matrix[:, :-1], matrix[:, -1].astype(int)
        self.sites_ = np.unique(site)
        counts = np.asarray([(site == s).sum() for s in self.sites_])
        if counts.min() < 2:
            raise InputError(
                f"harmonisation needs at least 2 cases of each site in every fold; one has {counts.min()}: join sites, "
                "or leave --site away"
            )
        design = np.column_stack([site == s for s in self.sites_] + [values[:, c] for c in self.covariates]).astype(
            float
        )
        beta = np.linalg.lstsq(design, values, rcond=None)[0]
        grand = counts / counts.sum() @ beta[: len(self.sites_)]
        self.effect_ = beta[len(self.sites_) :]
        residual = values - design @ beta
        self.scale_ = np.sqrt((residual**2).mean(axis=0))
        self.scale_[self.scale_ == 0] = 1.0
        self.grand_ = grand
        standard = (values - self._kept(values)) / self.scale_
        shifts, scales = [], []
        for s in self.sites_:
            part = standard[site == s]
            shift, spread = self._shrunk(part)
            shifts.append(shift)
            scales.append(np.sqrt(spread))
        self.shift_, self.spread_ = np.asarray(shifts), np.asarray(scales)
        return self

    def _kept(self, values: Array) -> Array:
        effect = values[:, list(self.covariates)] @ self.effect_ if len(self.covariates) else 0.0
        return np.asarray(self.grand_ + effect)

    @staticmethod
    def _shrunk(part: Array) -> tuple[Array, Array]:
        """Posterior shift and variance of a site's features (equations 3 and 4 of the paper)."""
        n = len(part)
        mean, variance = part.mean(axis=0), part.var(axis=0, ddof=1)
        prior_mean, prior_variance = mean.mean(), mean.var(ddof=1) if len(mean) > 1 else 0.0
        m, s2 = variance.mean(), variance.var(ddof=1) if len(variance) > 1 else 0.0
        if prior_variance == 0 or s2 == 0:
            return mean, np.maximum(variance, 1e-12)
        shape, rate = (2 * s2 + m**2) / s2, (m * s2 + m**3) / s2
        shift, spread = mean, variance
        for _ in range(100):
            new_shift = (n * prior_variance * mean + spread * prior_mean) / (n * prior_variance + spread)
            new_spread = (rate + 0.5 * ((part - new_shift) ** 2).sum(axis=0)) / (n / 2 + shape - 1)
            change = max(np.abs(new_shift - shift).max(), np.abs(new_spread - spread).max())
            shift, spread = new_shift, new_spread
            if change < 1e-6:
                break
        return shift, np.maximum(spread, 1e-12)

    def transform(self, matrix: Array) -> Array:
        """The features without what the sites add to them.

        Raises: InputError for a site that was not in training, where that is refused.
        """
        values, site = matrix[:, :-1], matrix[:, -1].astype(int)
        kept = self._kept(values)
        out = (values - kept) / self.scale_
        for index, s in enumerate(self.sites_):
            rows = site == s
            out[rows] = (out[rows] - self.shift_[index]) / self.spread_[index]
        unknown = ~np.isin(site, self.sites_)
        if unknown.any() and self.unseen == "refuse":
            raise InputError(
                f"{int(unknown.sum())} cases come from a site that was not in training: they cannot be harmonised; "
                "train with them, or with --unseen-site keep, which leaves them as they are and says so"
            )
        return np.asarray(out * self.scale_ + kept)


class CorrelationFilter(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Of features that say the same (|Spearman's r| above a limit), keep the first; constant ones go.

    Args:
        limit: above which two features are one.
    """

    def __init__(self, limit: float = 0.95) -> None:
        self.limit = limit

    def fit(self, matrix: Array, target: Any = None) -> "CorrelationFilter":
        """Choose the columns."""
        from scipy.stats import rankdata

        ranks = rankdata(matrix, axis=0)
        ranks = ranks - ranks.mean(axis=0)
        norm = np.sqrt((ranks**2).sum(axis=0))
        kept: list[int] = []
        for column in range(matrix.shape[1]):
            if norm[column] == 0:
                continue
            if kept:
                r = ranks[:, kept].T @ ranks[:, column] / (norm[kept] * norm[column])
                if np.abs(r).max() > self.limit:
                    continue
            kept.append(column)
        if not kept:
            raise InputError("every feature is constant: there is nothing to learn from")
        self.kept_ = np.asarray(kept)
        return self

    def transform(self, matrix: Array) -> Array:
        """The columns that are kept."""
        return np.asarray(matrix[:, self.kept_])


class RelevantFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Keep the features that say most about the target.

    Args:
        count: how many; more than there are keeps all.
        kind: `classify`, `regress` or `survive`, which says how relevance is measured: F statistic, squared
            correlation, or distance of the concordance from one half.
        method: `mrmr` (most about the target and least about each other, difference form), `lasso` (the last to leave
            an L1-penalised linear model), or `rfe` (the weakest of a linear model taken out again and again).
    Source: C. Ding and H. Peng, J. Bioinform. Comput. Biol. 3(2):185-205, 2005 (mRMR, FCD with |Pearson's r|);
        R. Tibshirani, JRSS B 58:267-288, 1996 (lasso); I. Guyon et al., Mach. Learn. 46:389-422, 2002 (RFE).
    """

    def __init__(self, count: int = 10, kind: str = "classify", method: str = "mrmr") -> None:
        self.count = count
        self.kind = kind
        self.method = method

    def fit(self, matrix: Array, target: Array) -> "RelevantFeatures":
        """Choose the columns.

        Raises: InputError for a method that survival does not have.
        """
        if self.method != "mrmr":
            self.kept_ = np.sort(self._by_model(matrix, target))
            return self
        relevance = self._relevance(matrix, target)
        centred = matrix - matrix.mean(axis=0)
        norm = np.sqrt((centred**2).sum(axis=0))
        norm[norm == 0] = 1.0
        unit = centred / norm
        chosen = [int(np.argmax(relevance))]
        redundancy = np.abs(unit.T @ unit[:, chosen[0]])
        while len(chosen) < min(self.count, matrix.shape[1]):
            score = relevance - redundancy / len(chosen)
            score[chosen] = -np.inf
            best = int(np.argmax(score))
            chosen.append(best)
            redundancy = redundancy + np.abs(unit.T @ unit[:, best])
        self.kept_ = np.sort(np.asarray(chosen))
        return self

    def _by_model(self, matrix: Array, target: Array) -> Array:
        """Columns that a penalised linear model keeps longest."""
        from sklearn.feature_selection import RFE
        from sklearn.linear_model import LogisticRegression, Ridge, lars_path
        from sklearn.svm import l1_min_c

        if self.kind == "survive":
            raise InputError(
                f"--selector {self.method} is for classes and values; survival has mrmr, and cox a penalty"
            )
        count = min(self.count, matrix.shape[1])
        if self.method == "rfe":
            model = Ridge() if self.kind == "regress" else LogisticRegression(max_iter=2000, class_weight="balanced")
            return np.flatnonzero(RFE(model, n_features_to_select=count, step=0.1).fit(matrix, target).support_)
        if self.kind == "regress":
            order = lars_path(matrix, target - target.mean(), method="lasso", max_iter=4 * count)[1]
            chosen = list(dict.fromkeys(int(k) for k in order))[:count]
            return np.asarray(chosen, np.int64)
        weakest = l1_min_c(matrix, target, loss="log")
        strength = np.zeros(matrix.shape[1])
        for c in weakest * np.logspace(0.05, 3, 12):
            fitted = LogisticRegression(l1_ratio=1.0, solver="liblinear", C=c, class_weight="balanced")
            if len(np.unique(target)) > 2:
                fitted = LogisticRegression(l1_ratio=1.0, solver="saga", C=c, class_weight="balanced", max_iter=500)
            strength = np.abs(fitted.fit(matrix, target).coef_).max(axis=0)
            if np.count_nonzero(strength) >= count:
                break
        return np.argsort(-strength, kind="stable")[:count]

    def _relevance(self, matrix: Array, target: Array) -> Array:
        if self.kind == "survive":
            from isocenter.metrics.survival import harrell_c

            time, event = target[:, 0], target[:, 1].astype(int)
            found = np.asarray([2 * abs(harrell_c(time, event, column) - 0.5) for column in matrix.T])
        elif self.kind == "classify":
            from sklearn.feature_selection import f_classif

            with np.errstate(all="ignore"):
                f = np.nan_to_num(f_classif(matrix, target)[0], nan=0.0, posinf=1e12)
            n, k = len(target), len(np.unique(target))
            found = f * (k - 1) / (f * (k - 1) + n - k)  # eta squared: the share of variance that classes explain
        else:
            with np.errstate(all="ignore"):
                found = np.nan_to_num(np.asarray([np.corrcoef(column, target)[0, 1] ** 2 for column in matrix.T]))
        return np.asarray(found, np.float64)

    def transform(self, matrix: Array) -> Array:
        """The columns that are kept."""
        return np.asarray(matrix[:, self.kept_])
