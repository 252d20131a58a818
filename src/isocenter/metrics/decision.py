"""How well scores decide between two classes: confusion, ROC, precision and recall, Brier, calibration, net benefit.

Truth is 0 or 1; a score or probability is larger for class 1.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np

from isocenter.errors import DegenerateImage, InputError
from isocenter.types import Array, Float64, Integer

Truth = Integer[Array, "n"]
Scores = Float64[Array, "n"]


@dataclass(frozen=True)
class Confusion:
    """Counts of a decision beside the truth."""

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @classmethod
    def of(cls, truth: Truth, decision: Truth) -> "Confusion":
        """Count."""
        positive, said = truth == 1, decision == 1
        return cls(
            int((positive & said).sum()), int((~positive & said).sum()), int((positive & ~said).sum()),
            int((~positive & ~said).sum()),
        )  # fmt: skip

    def metrics(self) -> dict[str, float]:
        """Every proportion that has a denominator, F1, balanced accuracy and MCC.

        Source: B. Matthews, BBA 405(2):442-451, 1975 (MCC); the others are elementary.
        """
        tp, fp, fn, tn = self.true_positive, self.false_positive, self.false_negative, self.true_negative
        out = {name: value / of for name, (value, of) in self.proportions().items() if of}
        if {"recall", "specificity"} <= set(out):
            out["balanced_accuracy"] = (out["recall"] + out["specificity"]) / 2
        if tp + fp + fn:
            out["f1"] = 2 * tp / (2 * tp + fp + fn)
        below = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
        if below:
            out["mcc"] = (tp * tn - fp * fn) / sqrt(below)
        return out

    def proportions(self) -> dict[str, tuple[int, int]]:
        """Numerator and denominator of each proportion."""
        tp, fp, fn, tn = self.true_positive, self.false_positive, self.false_negative, self.true_negative
        return {
            "accuracy": (tp + tn, tp + fp + fn + tn),
            "precision": (tp, tp + fp),
            "recall": (tp, tp + fn),
            "specificity": (tn, tn + fp),
            "negative_predictive_value": (tn, tn + fn),
        }


def at_prevalence(recall: float, specificity: float, prevalence: float) -> tuple[float | None, float | None]:
    """Positive and negative predictive value in a population with another prevalence (Bayes).

    Raises: InputError for a prevalence that is no share.
    """
    if not 0 < prevalence < 1:
        raise InputError(f"a prevalence lies above 0 and below 1; got {prevalence:g}")
    positive = recall * prevalence + (1 - specificity) * (1 - prevalence)
    negative = specificity * (1 - prevalence) + (1 - recall) * prevalence
    ppv = recall * prevalence / positive if positive else None
    npv = specificity * (1 - prevalence) / negative if negative else None
    return ppv, npv


def require_both(truth: Truth) -> None:
    """Refuse a truth of one class only.

    Raises: DegenerateImage.
    """
    if not 0 < int((truth == 1).sum()) < len(truth):
        raise DegenerateImage(f"all {len(truth)} cases are of one class: nothing can be told apart")


def placements(truth: Truth, scores: Scores) -> tuple[Array, Array]:
    """Share of negatives below each positive, and of positives above each negative; ties count half.

    Source: E. DeLong et al., Biometrics 44(3):837-845, 1988, by the ranks of X. Sun and W. Xu, IEEE SPL
        21(11):1389-1393, 2014.
    """
    from scipy.stats import rankdata

    require_both(truth)
    positive, negative = scores[truth == 1], scores[truth == 0]
    both = rankdata(np.concatenate((positive, negative)))
    m, n = len(positive), len(negative)
    above = (both[:m] - rankdata(positive)) / n
    below = 1 - (both[m:] - rankdata(negative)) / m
    return np.asarray(above), np.asarray(below)


def auc(truth: Truth, scores: Scores) -> float:
    """Area under the ROC curve: the chance that a positive scores higher than a negative.

    Raises: DegenerateImage for one class only.
    """
    return float(placements(truth, scores)[0].mean())


def auc_covariance(truth: Truth, scores: list[Scores], groups: Array | None = None) -> tuple[Array, Array]:
    """AUC of several scores of the same cases, and their covariance.

    Args:
        truth: 0 or 1.
        scores: one array a model.
        groups: patient of each case; None: every case is a patient of its own.
    Raises: DegenerateImage for one class only, or fewer than two patients with a class.
    Source: DeLong 1988; with patients that have several cases, N. Obuchowski, Biometrics 53(2):567-578, 1997.
    """
    pairs = [placements(truth, one) for one in scores]
    areas = np.asarray([above.mean() for above, _ in pairs])
    away = [np.stack([side - a for side, a in zip(sides, areas, strict=True)])
            for sides in zip(*pairs, strict=True)]  # fmt: skip
    m, n = away[0].shape[1], away[1].shape[1]
    if groups is None:
        if min(m, n) < 2:
            raise DegenerateImage(f"{m} and {n} cases of the classes: an interval needs at least 2 of each")
        return areas, np.cov(away[0]).reshape(len(scores), -1) / m + np.cov(away[1]).reshape(len(scores), -1) / n
    names, index = np.unique(groups, return_inverse=True)
    sums = []
    for side, which in zip(away, (truth == 1, truth == 0), strict=True):
        total = np.zeros((len(scores), len(names)))
        for row, values in zip(total, side, strict=True):
            np.add.at(row, index[which], values)
        sums.append(total)
    with_one, with_other = (len(np.unique(index[truth == c])) for c in (1, 0))
    if min(with_one, with_other) < 2:
        raise DegenerateImage(f"{with_one} and {with_other} patients with the classes: an interval needs 2 of each")
    s10 = with_one / (with_one - 1) * sums[0] @ sums[0].T / m
    s01 = with_other / (with_other - 1) * sums[1] @ sums[1].T / n
    s11 = len(names) / (len(names) - 1) * sums[0] @ sums[1].T
    return areas, s10 / m + s01 / n + (s11 + s11.T) / (m * n)


def roc_curve(truth: Truth, scores: Scores) -> tuple[Array, Array, Array]:
    """False positive rate, true positive rate, and the threshold (decision: score >= it) of each corner."""
    require_both(truth)
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    hits = np.cumsum(truth[order] == 1)[ends]
    false = ends + 1 - hits
    rates = [np.append(0.0, side / side[-1]) for side in (false, hits)]
    return rates[0], rates[1], np.append(np.inf, scores[order][ends])


def average_precision(truth: Truth, scores: Scores) -> float:
    """Area under the precision-recall curve as the mean precision at each gain of recall (no interpolation).

    Source: J. Davis and M. Goadrich, Proc. ICML 233-240, 2006.
    """
    recall, precision = precision_recall(truth, scores)
    return float(np.sum(np.diff(np.append(0.0, recall)) * precision))


def precision_recall(truth: Truth, scores: Scores) -> tuple[Array, Array]:
    """Recall and precision at every threshold, from the highest."""
    require_both(truth)
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    hits = np.cumsum(truth[order] == 1)[ends]
    return hits / hits[-1], hits / (ends + 1)


def brier(truth: Truth, probability: Scores) -> float:
    """Mean squared error of probabilities (G. Brier, Mon. Weather Rev. 78(1):1-3, 1950)."""
    return float(np.mean((probability - truth) ** 2))


def brier_parts(truth: Truth, probability: Scores, *, bins: int = 10) -> dict[str, float]:
    """Reliability, resolution and uncertainty of the Brier score in bins of equal counts.

    The score is reliability - resolution + uncertainty, but for the spread within bins.

    Source: A. Murphy, J. Appl. Meteorol. 12(4):595-600, 1973.
    """
    order = np.argsort(probability, kind="stable")
    rate = float(truth.mean())
    reliability = resolution = 0.0
    for part in np.array_split(order, min(bins, len(order))):
        here = float(truth[part].mean())
        reliability += len(part) * (float(probability[part].mean()) - here) ** 2
        resolution += len(part) * (here - rate) ** 2
    return {
        "reliability": reliability / len(truth),
        "resolution": resolution / len(truth),
        "uncertainty": rate * (1 - rate),
    }


def logit(probability: Scores) -> Scores:
    """Log odds; 0 and 1 are taken as a millionth from them."""
    inside = np.clip(probability, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(inside / (1 - inside)))


def calibration_line(truth: Truth, probability: Scores) -> tuple[float, float]:
    """Calibration intercept (at a slope of 1) and slope, by logistic regression on the log odds.

    0 and 1 are right; a slope below 1 means probabilities that are too extreme.

    Raises: DegenerateImage for one class, or probabilities that part the classes without a fault (no finite slope).
    Source: D. Cox, Biometrika 45:562-565, 1958; B. Van Calster et al., BMC Medicine 17:230, 2019.
    """
    require_both(truth)
    odds = logit(probability)
    intercept, _ = _logistic(truth, np.ones((len(truth), 1)), odds)
    coefficients, ok = _logistic(truth, np.column_stack((np.ones(len(truth)), odds)), np.zeros(len(truth)))
    if not ok:
        raise DegenerateImage("the probabilities part the classes without a fault: a calibration slope has no end")
    return float(intercept[0]), float(coefficients[1])


def _logistic(truth: Truth, design: Array, offset: Array) -> tuple[Array, bool]:
    """Coefficients of an unpenalised logistic regression by Newton's method, and whether it converged."""
    beta = np.zeros(design.shape[1])
    for _ in range(100):
        p = 1 / (1 + np.exp(-np.clip(design @ beta + offset, -500, 500)))
        weight = np.maximum(p * (1 - p), 1e-12)
        step = np.linalg.lstsq(design.T @ (design * weight[:, None]), design.T @ (truth - p), rcond=None)[0]
        beta += np.clip(step, -5, 5)
        if np.abs(step).max() < 1e-10:
            return beta, True
        if np.abs(beta).max() > 1e3:
            break
    return beta, False


def smoothed_rate(truth: Truth, probability: Scores, at: Float64[Array, "m"], *, span: float = 0.75) -> Array:
    """Observed rate about each probability, by local lines with tricube weights over a share of the cases (loess).

    Source: W. Cleveland, JASA 74(368):829-836, 1979 (one pass, no robust weights); P. Austin and E. Steyerberg, Stat.
        Med. 33(3):517-535, 2014.
    """
    count = max(3, round(span * len(truth)))
    out = np.empty(len(at))
    for i, p in enumerate(at):
        far = np.abs(probability - p)
        reach = max(float(np.partition(far, min(count, len(far)) - 1)[min(count, len(far)) - 1]), 1e-12)
        weight = np.clip(1 - (far / (reach * 1.0001)) ** 3, 0, None) ** 3
        x = probability - p
        s0, s1, s2 = weight.sum(), (weight * x).sum(), (weight * x * x).sum()
        below = s0 * s2 - s1 * s1
        if below > 1e-12 * s0 * s2:
            out[i] = (s2 * (weight * truth).sum() - s1 * (weight * x * truth).sum()) / below
        else:
            out[i] = (weight * truth).sum() / s0
    return np.clip(out, 0, 1)


def net_benefit(truth: Truth, probability: Scores, thresholds: Float64[Array, "m"]) -> tuple[Array, Array]:
    """Net benefit of acting on the model, and of acting on everybody, at each threshold probability.

    Source: A. Vickers and E. Elkin, Med. Decis. Making 26(6):565-574, 2006.
    """
    odds = thresholds / (1 - thresholds)
    n = len(truth)
    acted = probability[None] >= thresholds[:, None]
    hits = (acted & (truth == 1)).sum(axis=1) / n
    false = (acted & (truth == 0)).sum(axis=1) / n
    rate = float(truth.mean())
    return hits - false * odds, rate - (1 - rate) * odds
