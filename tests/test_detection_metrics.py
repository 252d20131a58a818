"""Average precision beside pycocotools, free-response curves by hand and by LUNA16's rules."""

import contextlib
import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from isocenter.errors import InputError
from isocenter.evaluation.objects import Judged, judge_objects
from isocenter.evaluation.point import OperatingPoint
from isocenter.metrics import detection as det
from isocenter.metrics.detection import Scan


def scan(
    boxes: Any, classes: Any, found: Any, found_classes: Any, scores: Any, ignored: Any = None, axes: int = 2
) -> Scan:
    true = np.asarray(boxes, float).reshape(-1, 2, axes)
    return Scan(
        true, np.asarray(classes, np.int64), np.zeros(len(true), np.bool_) if ignored is None else np.asarray(ignored, np.bool_),
        np.asarray(found, float).reshape(-1, 2, axes), np.asarray(found_classes, np.int64), np.asarray(scores, float),
    )  # fmt: skip


def random_scans(seed: int, *, count: int = 12, crowds: bool = False) -> list[Scan]:
    rng = np.random.default_rng(seed)
    scans = []
    for _ in range(count):
        m = int(rng.integers(0, 7))
        low = rng.uniform(0, 60, (m, 2))
        boxes = np.stack((low, low + rng.uniform(4, 30, (m, 2))), axis=1)
        near = np.repeat(boxes, 2, axis=0) + rng.normal(0, 3, (2 * m, 2, 2))
        low = rng.uniform(0, 60, (4, 2))
        found = np.concatenate((near, np.stack((low, low + rng.uniform(4, 30, (4, 2))), axis=1)))
        found[:, 1] = np.maximum(found[:, 1], found[:, 0] + 1)
        scores = rng.integers(1, 12, len(found)) / 12  # with ties
        scans.append(scan(
            boxes, rng.integers(0, 2, m), found, rng.integers(0, 2, len(found)), scores,
            rng.random(m) < (0.25 if crowds else 0),
        ))  # fmt: skip
    return scans


def coco_numbers(scans: list[Scan]) -> np.ndarray:
    """Precision by threshold and class, as pycocotools has it (`t k`)."""
    coco = pytest.importorskip("pycocotools.coco")
    from pycocotools.cocoeval import COCOeval

    def box(b: np.ndarray) -> list[float]:
        return [float(v) for v in (b[0, 1], b[0, 0], b[1, 1] - b[0, 1], b[1, 0] - b[0, 0])]

    images, annotations, results = [], [], []
    for i, one in enumerate(scans):
        images.append({"id": i + 1})
        for b, c, crowd in zip(one.boxes, one.classes, one.ignored, strict=True):
            own = box(b)
            annotations.append({"id": len(annotations) + 1, "image_id": i + 1, "category_id": int(c) + 1, "bbox": own,
                                "area": own[2] * own[3], "iscrowd": int(crowd)})  # fmt: skip
        for b, c, s in zip(one.found, one.found_classes, one.scores, strict=True):
            results.append({"image_id": i + 1, "category_id": int(c) + 1, "bbox": box(b), "score": float(s)})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = {"images": images, "annotations": annotations, "categories": [{"id": 1}, {"id": 2}], "info": {}}
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes(results), "bbox")
        judge.evaluate()
        judge.accumulate()
    return np.asarray(judge.eval["precision"][:, :, :, 0, 2].mean(axis=1))


class TestAveragePrecision:
    @pytest.mark.parametrize("seed", range(6))
    @pytest.mark.parametrize("crowds", [False, True])
    def test_agrees_with_pycocotools(self, seed: int, crowds: bool) -> None:
        scans = random_scans(seed, crowds=crowds)
        theirs = coco_numbers(scans)
        for kind in range(2):
            ours = det.average_precision(det.matched(scans, kind))
            assert ours == pytest.approx(theirs[:, kind], abs=1e-9)

    def test_by_hand(self) -> None:
        one = scan([[[0, 0], [10, 10]], [[20, 20], [30, 30]]], [0, 0],
                   [[[0, 0], [10, 10]], [[50, 50], [60, 60]], [[20, 20], [30, 30]]], [0, 0, 0], [0.9, 0.8, 0.7])  # fmt: skip
        # Recall .5 at precision 1, recall 1 at 2/3: 51 of 101 recalls have 1, 50 have 2/3.
        assert det.average_precision(det.matched([one], 0))[0] == pytest.approx((51 + 50 * 2 / 3) / 101)

    def test_weights_are_repetitions(self) -> None:
        scans = random_scans(3)
        weights = np.arange(12) % 3
        often = [s for s, w in zip(scans, weights, strict=True) for _ in range(w)]
        one = det.average_precision(det.matched(scans, 0), weights.astype(float))
        assert one == pytest.approx(
            det.average_precision(det.matched(often, 0)), abs=0.02
        )  # ties stand in another order

    def test_no_object_no_number(self) -> None:
        assert np.isnan(det.average_precision(det.matched([scan([], [], [[[0, 0], [1, 1]]], [0], [1])], 0))).all()

    def test_nothing_found_is_nought(self) -> None:
        assert not det.average_precision(det.matched([scan([[[0, 0], [1, 1]]], [0], [], [], [])], 0)).any()


class TestFreeResponse:
    def test_by_hand(self) -> None:
        """Two scans, two objects: found at .9 and .3; false ones at .8, .5 and .2; a second answer of the first is none."""
        first = scan([[[0, 0], [10, 10]]], [0], [[[0, 0], [10, 10]], [[1, 1], [10, 10]], [[40, 40], [50, 50]]], [0] * 3,
                     [0.9, 0.6, 0.8])  # fmt: skip
        second = scan([[[0, 0], [10, 10]]], [0], [[[0, 0], [10, 10]], [[40, 40], [50, 50]], [[70, 70], [80, 80]]], [0] * 3,
                      [0.3, 0.5, 0.2])  # fmt: skip
        for found in (det.candidates([first, second], 0), det.boxed([first, second], 0, overlap=0.5)):
            curve = det.free_response(found)
            assert curve.sensitivity.tolist() == [0, 0.5, 0.5, 0.5, 0.5, 1, 1]
            assert curve.rate.tolist() == [0, 0, 0.5, 0.5, 1, 1, 1.5]
            assert curve.at(0.125) == pytest.approx(0.5)
            assert curve.at(8) == 1
            assert curve.mean == pytest.approx((3 * 0.5 + 4) / 7)
            assert curve.score_at(1) == 0.3
            assert curve.score_at(0) == 0.9

    def test_a_centre_within_the_radius_is_a_hit_whatever_its_size(self) -> None:
        inside = scan(
            [[[0, 0, 0], [10, 10, 10]]], [0], [[[4, 4, 8], [6, 6, 9]]], [0], [1], axes=3
        )  # 3.5 away, radius 5
        beyond = scan([[[0, 0, 0], [10, 10, 10]]], [0], [[[8, 8, 8], [9, 9, 9]]], [0], [1], axes=3)  # 6.06 away
        assert det.candidates([inside], 0).hit.tolist() == [[True]]
        assert det.candidates([beyond], 0).hit.tolist() == [[False]]

    def test_what_is_ignored_is_neither(self) -> None:
        one = scan([[[0, 0], [10, 10]], [[40, 40], [50, 50]]], [0, 0], [[[0, 0], [10, 10]]], [0], [0.9], [True, False])
        found = det.candidates([one], 0)
        assert found.dropped.all()
        assert not found.hit.any()
        assert found.objects.tolist() == [1]

    def test_without_objects_there_is_no_curve(self) -> None:
        with pytest.raises(InputError, match="no object"):
            det.free_response(det.candidates([scan([], [], [[[0, 0], [1, 1]]], [0], [1])], 0))


def deep(one: Scan) -> Scan:
    """A picture's boxes along three axes, as images state them."""
    parts = [
        np.concatenate((np.tile([[[0.0], [1.0]]], (len(b), 1, 1)), b), axis=2) for b in (one.boxes, one.found)
    ]  # fmt: skip
    return replace(one, boxes=parts[0], found=parts[1])


class TestJudgement:
    def test_every_number_has_an_interval_by_patient(self) -> None:
        scans = tuple(deep(one) for one in random_scans(5, count=40))
        sizes = tuple(np.ones(int((~s.ignored).sum())) for s in scans)
        names = tuple(str(i) for i in range(40))
        judged = Judged(names, names, scans, ("a", "b"), sizes)
        metrics = judge_objects(judged, model="m", point=None, seed=0).data["metrics"]
        plain_map = np.mean([det.average_precision(det.matched(scans, k))[0] for k in range(2)])
        assert metrics["map50"]["value"] == pytest.approx(plain_map)
        for name in ("map50", "map", "ap50/a", "sensitivity@1", "froc_cpm"):
            assert metrics[name]["low"] < metrics[name]["value"] < metrics[name]["high"]

    def test_radii_are_lengths(self) -> None:
        """LUNA16 counts in millimetres: 5 slices of 2.5 mm off is no hit of a nodule of 10 mm; in a picture, the one voxel
        of depth does not make a cell smaller."""
        ball = [[[10.0, 20, 20], [14, 34, 34]]]  # 10 mm in voxels of 2.5, .7 and .7
        off = scan(ball, [0], [[[15, 20, 20], [19, 34, 34]]], [0], [1.0], axes=3)
        near = scan(ball, [0], [[[11, 20, 20], [15, 34, 34]]], [0], [1.0], axes=3)
        steps = ((2.5, 0.7, 0.7),)
        for one, hit in ((off, False), (near, True)):
            judged = Judged(("a",), ("a",), (one,), ("n",), (np.ones(1),), "mm", flat=False, spacings=steps)
            assert det.candidates(judged.placed(), 0).hit.tolist() == [[hit]]
        cell = scan([[[0.0, 0, 0], [1, 20, 20]]], [0], [[[0, 0, 8], [1, 20, 28]]], [0], [1.0], axes=3)
        judged = Judged(("a",), ("a",), (cell,), ("c",), (np.ones(1),))
        assert det.candidates(judged.placed(), 0).hit.tolist() == [[True]]  # 8 off, radius 10

    def test_few_patients_have_none_and_it_is_said(self) -> None:
        scans = tuple(deep(one) for one in random_scans(5, count=8))
        sizes = tuple(np.ones(int((~s.ignored).sum())) for s in scans)
        judged = Judged(tuple("abcdefgh"), tuple("abcdefgh"), scans, ("a", "b"), sizes)
        found = judge_objects(judged, model="m", point=OperatingPoint(0.5), seed=0).data
        for row in (*(found["metrics"][n] for n in ("map50", "sensitivity", "precision")), *found["subgroups"]):
            assert row["low"] is None
            assert "8 patients" in row["note"]
