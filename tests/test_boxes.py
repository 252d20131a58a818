"""Boxes: overlap, suppression, clustering, coding; every law against brute force."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocenter.errors import InputError
from isocenter.ops import boxes as bx


def some_boxes(
    rng: np.random.Generator, count: int, axes: int, *, extent: float = 20.0, edge: float = 10.0
) -> np.ndarray:
    low = rng.uniform(0, extent, (count, axes))
    return np.stack((low, low + rng.uniform(0.5, edge, (count, axes))), axis=1)


def brute_suppression(boxes: np.ndarray, scores: np.ndarray, overlap: float, classes: np.ndarray) -> list[int]:
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        mine = [j for j in kept if classes[j] == classes[i]]
        if not mine or bx.overlaps(boxes[i : i + 1], boxes[mine])[0].max() <= overlap:
            kept.append(int(i))
    return kept


class TestOverlap:
    def test_by_hand(self) -> None:
        one = np.array([[[0.0, 0.0], [2.0, 2.0]]])
        other = np.array([[[1.0, 1.0], [3.0, 3.0]], [[2.0, 0.0], [4.0, 2.0]], [[0.0, 0.0], [2.0, 2.0]]])
        assert bx.overlaps(one, other)[0] == pytest.approx([1 / 7, 0, 1])  # 1 of 4 + 4 - 1; side by side; the same

    def test_nothing_overlaps_a_box_without_volume(self) -> None:
        flat = np.array([[[1.0, 1.0, 1.0], [1.0, 2.0, 2.0]]])
        assert bx.overlaps(flat, flat)[0, 0] == 0

    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, 2**31), st.integers(1, 4))
    def test_agrees_with_counted_voxels(self, seed: int, axes: int) -> None:
        rng = np.random.default_rng(seed)
        low = rng.integers(0, 4, (2, axes))
        boxes = np.stack((low, low + rng.integers(1, 5, (2, axes))), axis=1).astype(float)
        grids = []
        for box in boxes:
            grid = np.zeros((9,) * axes, np.bool_)
            grid[tuple(slice(int(a), int(b)) for a, b in box.T)] = True
            grids.append(grid)
        counted = (grids[0] & grids[1]).sum() / (grids[0] | grids[1]).sum()
        assert bx.overlaps(boxes[:1], boxes[1:])[0, 0] == pytest.approx(counted)
        assert np.array_equal(bx.box_of(grids[0]), boxes[0])

    def test_an_empty_mask_has_no_box(self) -> None:
        with pytest.raises(InputError, match="empty mask"):
            bx.box_of(np.zeros((3, 3), np.bool_))


class TestCoding:
    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, 2**31), st.integers(1, 3))
    def test_there_and_back(self, seed: int, axes: int) -> None:
        rng = np.random.default_rng(seed)
        boxes, anchors = some_boxes(rng, 5, axes), some_boxes(rng, 5, axes)
        assert np.allclose(bx.decoded(bx.encoded(boxes, anchors), anchors), boxes)

    def test_by_hand(self) -> None:
        anchor, box = np.array([[[0.0, 0.0], [10.0, 20.0]]]), np.array([[[5.0, 0.0], [15.0, 40.0]]])
        assert bx.encoded(box, anchor)[0] == pytest.approx([0.5, 0.5, 0, np.log(2)])

    def test_wild_numbers_do_not_overflow(self) -> None:
        anchor = np.array([[[0.0, 0.0], [1.0, 1.0]]])
        assert np.isfinite(bx.decoded(np.full((1, 4), 1e6), anchor)).all()

    def test_tensors_say_the_same(self) -> None:
        torch = pytest.importorskip("torch")
        from isocenter.networks import boxes as tb

        rng = np.random.default_rng(1)
        one, other = some_boxes(rng, 6, 3), some_boxes(rng, 6, 3)
        t, u = torch.from_numpy(one), torch.from_numpy(other)
        assert np.allclose(tb.overlaps(t, u).numpy(), bx.overlaps(one, other))
        assert np.allclose(tb.encoded(t, u).numpy(), bx.encoded(one, other))
        assert np.allclose(tb.decoded(tb.encoded(t, u), u).numpy(), one)
        apart = torch.tensor([[[0.0], [1.0]]]), torch.tensor([[[3.0], [4.0]]])
        assert float(tb.generalised(*apart)[0]) == pytest.approx(-0.5)  # the hull of 4 is half empty

    def test_a_box_that_grew_too_large_finds_back(self) -> None:
        torch = pytest.importorskip("torch")
        from isocenter.networks import boxes as tb

        anchor = torch.tensor([[[8.0, 8.0], [20.0, 20.0]]])
        huge = torch.tensor([[0.0, 0.0, 4.0, 4.0]], requires_grad=True)  # 54 times as wide as its object
        tb.edge_losses(huge, anchor, anchor).sum().backward()
        assert huge.grad is not None
        assert float(huge.grad[0, 2:].min()) > 0.1  # the overlap alone would give less than a hundredth
        assert float(tb.edge_losses(torch.zeros(1, 4), anchor, anchor)) == pytest.approx(0, abs=1e-6)


class TestSuppression:
    @settings(max_examples=120, deadline=None)
    @given(
        st.integers(0, 2**31), st.integers(1, 4), st.integers(0, 60), st.sampled_from((0.0, 0.1, 0.3, 0.5, 0.8, 1.0)),
        st.booleans(),
    )  # fmt: skip
    def test_agrees_with_brute_force(self, seed: int, axes: int, count: int, overlap: float, ties: bool) -> None:
        rng = np.random.default_rng(seed)
        boxes = some_boxes(rng, count, axes, extent=float(rng.choice((3, 20, 200))))
        scores = rng.integers(0, 5, count) / 5 if ties else rng.random(count)
        classes = rng.integers(0, 2, count)
        found = bx.suppressed(boxes, scores.astype(float), overlap=overlap, classes=classes)
        assert found.tolist() == brute_suppression(boxes, scores, overlap, classes)

    def test_very_different_sizes(self) -> None:
        rng = np.random.default_rng(0)
        boxes = np.concatenate((some_boxes(rng, 40, 3, edge=0.6), some_boxes(rng, 10, 3, extent=2, edge=30)))
        scores = rng.random(50)
        for overlap in (0.0, 0.2, 0.6):
            wanted = brute_suppression(boxes, scores, overlap, np.zeros(50, int))
            assert bx.suppressed(boxes, scores, overlap=overlap).tolist() == wanted

    def test_so_many_at_most(self) -> None:
        boxes = np.array([[[10.0 * i, 0], [10.0 * i + 1, 1]] for i in range(9)])
        assert bx.suppressed(boxes, np.arange(9.0), overlap=0.5, most=2).tolist() == [8, 7]

    def test_numbers_that_are_none_are_refused(self) -> None:
        with pytest.raises(InputError, match="finite"):
            bx.suppressed(np.full((1, 2, 2), np.nan), np.ones(1), overlap=0.5)

    def test_a_hundred_thousand_boxes_are_no_matter_of_minutes(self) -> None:
        rng = np.random.default_rng(0)
        boxes, scores = some_boxes(rng, 100_000, 2, extent=1000, edge=30), rng.random(100_000)
        bx.suppressed(boxes[:10], scores[:10], overlap=0.5)
        begun = time.process_time()
        bx.suppressed(boxes, scores, overlap=0.5)
        assert time.process_time() - begun < 10  # about a tenth of a second; brute force takes hours


class TestClusters:
    def test_by_hand(self) -> None:
        boxes = np.array([[[0.0, 0.0], [4.0, 4.0]], [[0.0, 0.0], [4.0, 2.0]], [[20.0, 20.0], [22.0, 22.0]]])
        found = bx.clustered(boxes, np.array([0.8, 0.6, 0.9]), np.zeros(3, np.int64), overlap=0.3)
        # The second overlaps the first by half: weights 16 and 0.5 x 8, so 0.8 and 0.2 of them; by score 0.64 and 0.12.
        assert found.counts.tolist() == [1, 2]
        assert found.scores == pytest.approx([0.9, 0.8 * 0.8 + 0.2 * 0.6])
        assert found.boxes[1] == pytest.approx(np.array([[0, 0], [4, (0.64 * 4 + 0.12 * 2) / 0.76]]))

    def test_views_that_missed_it_lower_the_score(self) -> None:
        box = np.array([[[0.0, 0.0], [4.0, 4.0]]])
        found = bx.clustered(box, np.array([0.9]), np.zeros(1, np.int64), overlap=0.3, expected=np.array([3.0]))
        assert found.scores[0] == pytest.approx(0.9 / 3)

    def test_classes_stay_apart(self) -> None:
        boxes = np.array([[[0.0], [4.0]]] * 2)
        assert len(bx.clustered(boxes, np.array([0.5, 0.4]), np.array([0, 1]), overlap=0.3).scores) == 2

    def test_nothing_stays_nothing(self) -> None:
        none = bx.clustered(np.zeros((0, 2, 3)), np.zeros(0), np.zeros(0, np.int64), overlap=0.3)
        assert none.boxes.shape == (0, 2, 3)
