"""How well objects are found: average precision as COCO defines it, and free-response curves as LUNA16 defines them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from isocenter.errors import InputError
from isocenter.ops.boxes import intersections, overlaps, volumes
from isocenter.types import Array

OVERLAPS = tuple(float(v) for v in np.linspace(0.5, 0.95, 10))
"""COCO's thresholds, .50 to .95."""
RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives a scan at which LUNA16 takes the sensitivity."""
_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True, eq=False)
class Scan:
    """What is true of one image, and what was found in it; boxes in any unit, the same for both.

    Args:
        boxes: `m 2 a`: objects.
        classes: of each.
        ignored: objects that count neither as missed nor as found.
        found: `k 2 a`.
        found_classes: of each.
        scores: of each.
    """

    boxes: Float[Array, "m 2 a"]
    classes: Int[Array, "m"]
    ignored: Bool[Array, "m"]
    found: Float[Array, "k 2 a"]
    found_classes: Int[Array, "k"]
    scores: Float[Array, "k"]


@dataclass(frozen=True, eq=False)
class Matches:
    """Answers of one class over all scans, the surest first.

    Args:
        scores: of each answer.
        scan: number of its scan.
        hit: `t n`: at each threshold, it is of an object.
        dropped: `t n`: it counts neither way.
        objects: of each scan, that count.
        found_at: `t o`: the score that found each counted object (in order of scans) at each threshold; -inf: missed.
    """

    scores: Float[Array, "n"]
    scan: Int[Array, "n"]
    hit: Bool[Array, "t n"]
    dropped: Bool[Array, "t n"]
    objects: Int[Array, "s"]
    found_at: Float[Array, "t o"]


def matched(scans: Sequence[Scan], kind: int, *, thresholds: Sequence[float] = OVERLAPS, most: int = 100) -> Matches:
    """Pair the answers of a class with its objects, scan by scan, the surest answer first.

    Each answer takes the free object that it overlaps most; one that is ignored only where no other is left. An answer
    of an ignored object, of which several may be, is dropped.

    Args:
        scans: truth and answers.
        kind: class.
        thresholds: intersection over union that makes a pair.
        most: answers of a class that count in a scan, the surest.
    Source: T.-Y. Lin et al., ECCV 2014; `COCOeval.evaluateImg` of pycocotools.
    """
    parts = [_paired(scan, kind, thresholds, most) for scan in scans]
    return _joined(parts, len(thresholds))


def _paired(scan: Scan, kind: int, thresholds: Sequence[float], most: int) -> tuple[Array, Array, Array, Array, int]:
    """Scores, hits, dropped, the score that found each counted object, and how many objects count."""
    own = scan.classes == kind
    order = np.argsort(scan.ignored[own], kind="stable")
    goals, ignored = scan.boxes[own][order], scan.ignored[own][order]
    mine = np.flatnonzero(scan.found_classes == kind)
    mine = mine[np.argsort(-scan.scores[mine], kind="stable")][:most]
    said, scores = scan.found[mine], scan.scores[mine]
    shared = overlaps(said, goals)
    if ignored.any():  # a crowd holds many: what lies within it is of it
        share = intersections(said, goals[ignored]) / np.maximum(volumes(said), 1e-12)[:, None]
        shared[:, ignored] = share
    count = int((~ignored).sum())
    hit = np.zeros((len(thresholds), len(said)), np.bool_)
    dropped = np.zeros_like(hit)
    by = np.full((len(thresholds), count), -np.inf)
    for t, least in enumerate(thresholds):
        free = np.ones(len(goals), np.bool_)
        for i in range(len(said)):
            best = _best(shared[i], free, ignored, min(least, 1 - 1e-10))
            if best < 0:
                continue
            if ignored[best]:
                dropped[t, i] = True
            else:
                hit[t, i], free[best], by[t, best] = True, False, scores[i]
    return scores, hit, dropped, by, count


def _best(shared: Array, free: Array, ignored: Array, least: float) -> int:
    """The object that an answer is of; of equal ones the last, as COCO takes it; -1: none."""
    for kind in (~ignored & free, ignored):
        good = np.flatnonzero(kind & (shared >= least))
        if len(good):
            top = good[shared[good] == shared[good].max()]
            return int(top[-1])
    return -1


def _joined(parts: Sequence[tuple[Array, Array, Array, Array, int]], thresholds: int) -> Matches:
    scores = np.concatenate([p[0] for p in parts]) if parts else np.zeros(0)
    order = np.argsort(-scores, kind="stable")
    scan = np.concatenate([np.full(len(p[0]), i) for i, p in enumerate(parts)]) if parts else np.zeros(0)
    empty = np.zeros((thresholds, 0), np.bool_)
    hit = np.concatenate([empty, *(p[1] for p in parts)], axis=1)
    dropped = np.concatenate([empty, *(p[2] for p in parts)], axis=1)
    by = np.concatenate([np.zeros((thresholds, 0)), *(p[3] for p in parts)], axis=1)
    return Matches(
        np.asarray(scores[order], np.float64), np.asarray(scan[order], np.int64), hit[:, order], dropped[:, order],
        np.asarray([p[4] for p in parts], np.int64), by,
    )  # fmt: skip


def average_precision(found: Matches, weights: Float[Array, "s"] | None = None) -> Float[Array, "t"]:
    """Mean precision over 101 recalls at each threshold; NaN where there is no object.

    Args:
        found: of one class.
        weights: how often each scan counts; None: once.
    Source: `COCOeval.accumulate` of pycocotools.
    """
    weigh = np.ones(len(found.objects)) if weights is None else np.asarray(weights, np.float64)
    objects = float((weigh * found.objects).sum())
    if objects <= 0:
        return np.full(len(found.hit), np.nan)
    each = weigh[found.scan]
    answer = np.zeros(len(found.hit))
    for t in range(len(found.hit)):
        right = np.cumsum(each * found.hit[t])
        wrong = np.cumsum(each * (~found.hit[t] & ~found.dropped[t]))
        if not len(right):
            continue
        precision = right / np.maximum(right + wrong, np.spacing(1))
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        at = np.searchsorted(right / objects, _RECALLS, side="left")
        answer[t] = np.where(at < len(precision), precision[np.minimum(at, len(precision) - 1)], 0.0).mean()
    return answer


def candidates(scans: Sequence[Scan], kind: int) -> Matches:
    """Pair answers and objects as LUNA16 does: by centres that lie within the object's radius, half its mean edge.

    The surest answer of an object counts; others of it are dropped, and those of ignored ones.

    Source: A. Setio et al., Med. Image Anal. 42:1-13, 2017, section 3.4, and its `noduleCADEvaluationLUNA16`.
    """
    parts = []
    for scan in scans:
        own = scan.classes == kind
        goals, ignored = scan.boxes[own], scan.ignored[own]
        mine = np.flatnonzero(scan.found_classes == kind)
        mine = mine[np.argsort(-scan.scores[mine], kind="stable")]
        away = scan.found[mine].mean(axis=1)[:, None] - goals.mean(axis=1)[None]
        radius = (goals[:, 1] - goals[:, 0]).mean(axis=1) / 2
        near = (away**2).sum(axis=2) < radius[None] ** 2
        parts.append(_first_hits(near, ignored, scan.scores[mine]))
    return _joined(parts, 1)


def _first_hits(near: Array, ignored: Array, scores: Array) -> tuple[Array, Array, Array, Array, int]:
    hit = np.zeros((1, len(scores)), np.bool_)
    dropped = np.zeros_like(hit)
    by = np.full(len(ignored), -np.inf)
    for i, row in enumerate(near):
        new = np.flatnonzero(row & ~ignored & np.isneginf(by))
        if len(new):
            by[new] = scores[i]
            hit[0, i] = True
        elif row.any():
            dropped[0, i] = True
    return scores, hit, dropped, by[~ignored][None], int((~ignored).sum())


def boxed(scans: Sequence[Scan], kind: int, *, overlap: float) -> Matches:
    """Pair by overlap, for free-response curves of boxes: further answers of an object that is found already are
    dropped, and not false.
    """
    parts = []
    for scan in scans:
        own = scan.classes == kind
        goals, ignored = scan.boxes[own], scan.ignored[own]
        mine = np.flatnonzero(scan.found_classes == kind)
        mine = mine[np.argsort(-scan.scores[mine], kind="stable")]
        shared = overlaps(scan.found[mine], goals)
        near = shared >= overlap
        if len(goals):
            near &= shared == shared.max(axis=1, keepdims=True)  # an answer is of one object
        parts.append(_first_hits(near, ignored, scan.scores[mine]))
    return _joined(parts, 1)


@dataclass(frozen=True, eq=False)
class FreeResponse:
    """Sensitivity over false positives a scan.

    Args:
        rate: false positives a scan at each score, rising.
        sensitivity: share of the objects that are found.
        score: from which answers count.
    """

    rate: Float[Array, "n"]
    sensitivity: Float[Array, "n"]
    score: Float[Array, "n"]

    def at(self, rate: float) -> float:
        """Sensitivity at a rate of false positives, by linear interpolation; beyond the last rate, the last."""
        return float(np.interp(rate, self.rate, self.sensitivity))

    def score_at(self, rate: float) -> float:
        """The lowest score at which there are no more false positives a scan than this."""
        good = np.flatnonzero(self.rate <= rate)
        return float(self.score[good[-1]]) if len(good) else float("inf")

    @property
    def mean(self) -> float:
        """Mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives a scan (LUNA16's CPM)."""
        return float(np.mean([self.at(rate) for rate in RATES]))


def free_response(found: Matches, weights: Float[Array, "s"] | None = None) -> FreeResponse:
    """The curve of one class at the first threshold of its matches.

    Args:
        found: see `candidates` and `boxed`.
        weights: how often each scan counts; None: once.
    Raises: InputError without objects.
    """
    weigh = np.ones(len(found.objects)) if weights is None else np.asarray(weights, np.float64)
    objects, scans = float((weigh * found.objects).sum()), float(weigh.sum())
    if objects <= 0 or scans <= 0:
        raise InputError("no object is stated: there is no sensitivity to be had")
    each = weigh[found.scan]
    by_object = np.repeat(weigh, found.objects)
    wrong = np.cumsum(each * (~found.hit[0] & ~found.dropped[0])) / scans
    order = np.argsort(-found.found_at[0], kind="stable")
    reached = np.concatenate(([0.0], np.cumsum(by_object[order]) / objects))
    falling = -found.found_at[0][order]
    ends = np.flatnonzero(np.append(np.diff(found.scores) != 0, True)) if len(found.scores) else np.zeros(0, np.int64)
    right = reached[np.searchsorted(falling, -found.scores[ends], side="right")]
    return FreeResponse(
        np.concatenate(([0.0], wrong[ends])), np.concatenate(([0.0], right)),
        np.concatenate(([np.inf], found.scores[ends])),
    )  # fmt: skip
