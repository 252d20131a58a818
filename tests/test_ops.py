"""Algorithms on bare arrays: a published or hand-computed value, a law, a refusal each."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.mixture import GaussianMixture

from isocenter.errors import DegenerateImage
from isocenter.ops.bias import n4_field
from isocenter.ops.cluster import gaussian_mixture, k_means
from isocenter.ops.components import largest_components
from isocenter.ops.filter import gaussian, median
from isocenter.ops.histogram import histogram, otsu_threshold
from isocenter.ops.label import classes_by_cuts, smooth_classes
from isocenter.ops.morphology import bounding_box, closing, dilate, erode, fill_holes, opening
from isocenter.ops.resample import resample
from isocenter.ops.slabs import by_slab
from tests.definitions import otsu_by_definition

MASKS = arrays(np.bool_, st.tuples(*[st.integers(1, 9)] * 3))
SPACINGS = st.tuples(*[st.floats(0.5, 3)] * 3)


def ball(radius: float, spacing: tuple[float, float, float], half: int = 12) -> np.ndarray:
    axes = [np.arange(-half, half + 1) * s for s in spacing]
    return sum(a**2 for a in np.meshgrid(*axes, indexing="ij")) <= radius**2 * (1 + 1e-6)


class TestOtsu:
    def test_two_equal_peaks_by_hand(self) -> None:
        # classes {0, 1} and {8, 9}: every cut in the gap scores the same, its middle is the answer
        assert otsu_threshold(np.asarray([0, 1, 8, 9] * 10), bins=10) == pytest.approx(4.5, abs=0.5)

    @given(arrays(np.int64, 40, elements=st.integers(0, 255)).filter(lambda v: v.min() < v.max()))
    def test_no_cut_scores_better(self, values: np.ndarray) -> None:
        cut = otsu_threshold(values, bins=256)
        best = max(otsu_by_definition(values, t + 0.5) for t in range(int(values.min()), int(values.max())))
        assert otsu_by_definition(values, cut) == pytest.approx(best, rel=1e-6)

    @given(st.floats(0.1, 100), st.floats(-1000, 1000))
    def test_follows_a_change_of_scale(self, scale: float, shift: float) -> None:
        values = np.asarray([1.0, 2, 2, 3, 9, 10, 11, 12])
        moved = otsu_threshold(values * scale + shift)
        assert moved == pytest.approx(otsu_threshold(values) * scale + shift, rel=1e-6, abs=scale * 0.1)

    def test_refuses_a_flat_image(self) -> None:
        with pytest.raises(DegenerateImage, match="equal 7"):
            otsu_threshold(np.full(10, 7.0))

    def test_histogram_counts_every_voxel_once(self) -> None:
        grid = np.random.default_rng(0).normal(size=(5, 40, 40))
        counts, centres = histogram(grid, bins=64)
        assert counts.sum() == grid.size
        assert centres[0] > grid.min()
        assert centres[-1] < grid.max()

    def test_histogram_refuses_infinity(self) -> None:
        with pytest.raises(DegenerateImage, match="not finite"):
            histogram(np.asarray([[[0.0, np.inf]]]), bins=4)


class TestKMeans:
    def test_by_hand(self) -> None:
        # {1, 2} and {9, 10, 14}: within-class sum of squares 0.5 + 14; no other cut is better
        counts, centres = np.ones(5, np.int64), np.asarray([1.0, 2.0, 9.0, 10.0, 14.0])
        assert k_means(counts, centres, classes=2).tolist() == [1.5, 11.0]

    @given(arrays(np.int64, 12, elements=st.integers(1, 20)), st.integers(2, 4))
    def test_no_partition_is_better(self, counts: np.ndarray, classes: int) -> None:
        from itertools import combinations

        centres = np.asarray([0.0, 1, 2, 4, 7, 8, 9, 15, 16, 20, 30, 31])

        def cost(edges: tuple[int, ...]) -> float:
            total = 0.0
            for a, b in zip((0, *edges), (*edges, 12), strict=True):
                mean = np.average(centres[a:b], weights=counts[a:b])
                total += float(counts[a:b] @ (centres[a:b] - mean) ** 2)
            return total

        means = k_means(counts, centres, classes=classes)
        nearest = np.abs(centres[:, None] - means).argmin(axis=1)
        mine = sum(float(counts[nearest == k] @ (centres[nearest == k] - means[k]) ** 2) for k in range(classes))
        assert mine == pytest.approx(min(cost(e) for e in combinations(range(1, 12), classes - 1)))

    def test_refuses_more_classes_than_values(self) -> None:
        with pytest.raises(DegenerateImage, match="2 distinct"):
            k_means(np.asarray([3, 0, 4]), np.asarray([0.0, 1.0, 2.0]), classes=3)


class TestGaussianMixture:
    def test_agrees_with_scikit_learn_where_both_fit_the_same_model(self) -> None:
        rng = np.random.default_rng(3)
        values = np.concatenate([rng.normal(m, 6, n) for m, n in ((50, 4000), (90, 9000), (120, 5000))])
        reference = GaussianMixture(3, covariance_type="tied", random_state=0, n_init=3, tol=1e-6).fit(values[:, None])
        found = gaussian_mixture(*histogram(values.reshape(1, 1, -1), bins=2048), classes=3, partial_volume=False)
        order = np.argsort(reference.means_[:, 0])
        assert found.means == pytest.approx(reference.means_[order, 0], abs=0.2)
        assert found.deviation == pytest.approx(np.sqrt(reference.covariances_[0, 0]), rel=0.02)
        assert found.shares == pytest.approx(reference.weights_[order], abs=0.01)

    def test_finds_the_pure_means_under_partial_volume(self) -> None:
        rng = np.random.default_rng(4)
        share = np.concatenate([np.zeros(6000), np.ones(6000), np.full(3000, 0.5)])
        values = 100 + 60 * share + rng.normal(0, 5, share.size)
        found = gaussian_mixture(*histogram(values.reshape(1, 1, -1), bins=1024), classes=2)
        assert found.means == pytest.approx([100, 160], abs=0.5)
        assert found.cuts == pytest.approx([130], abs=0.5)
        assert found.shares == pytest.approx([0.4, 0.4], abs=0.02)

    @given(st.floats(0.01, 50), st.floats(-500, 500))
    def test_follows_a_change_of_scale(self, scale: float, shift: float) -> None:
        counts = np.asarray([1, 9, 30, 9, 2, 3, 8, 40, 8, 2])
        centres = np.arange(10.0)
        base = gaussian_mixture(counts, centres, classes=2)
        moved = gaussian_mixture(counts, centres * scale + shift, classes=2)
        assert moved.means == pytest.approx(base.means * scale + shift, rel=1e-4, abs=1e-4 * scale)

    def test_refuses_classes_that_are_not_there(self) -> None:
        with pytest.raises(DegenerateImage):
            gaussian_mixture(np.asarray([5, 5]), np.asarray([0.0, 1.0]), classes=3)


class TestLabels:
    def test_cuts_by_hand(self) -> None:
        grid = np.asarray([[[1.0, 2.0, 2.1, 9.0]]])
        assert classes_by_cuts(grid, np.asarray([2.0, 5.0])).ravel().tolist() == [1, 1, 2, 3]

    def test_smoothing_removes_a_lone_voxel_and_keeps_an_edge(self) -> None:
        grid = np.full((3, 7, 8), 10.0)
        grid[:, :, 4:] = 20
        grid[1, 3, 1] = 15.5  # just over the cut
        cut = classes_by_cuts(grid, np.asarray([15.0]))
        assert cut[1, 3, 1] == 2
        settings = {"means": np.asarray([10.0, 20.0]), "deviation": 2.0, "spacing": (1.0, 1.0, 1.0)}
        smooth = smooth_classes(grid, cut, smoothness=1.0, **settings)
        assert smooth[1, 3, 1] == 1
        assert np.array_equal(smooth == 2, grid == 20)
        assert np.array_equal(smooth_classes(grid, cut, smoothness=0.0, **settings), cut)

    def test_smoothing_leaves_background_alone(self) -> None:
        cut = np.zeros((1, 3, 3), np.uint8)
        cut[0, 1, 1] = 1
        settings = {"means": np.asarray([0.0, 1.0]), "deviation": 1.0, "spacing": (1.0, 1.0, 1.0)}
        assert np.array_equal(smooth_classes(np.zeros((1, 3, 3)), cut, smoothness=5.0, **settings), cut)


class TestMorphology:
    @pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.5, 0.8, 0.8)])
    def test_a_dilated_point_is_a_ball_in_millimetres(self, spacing: tuple[float, float, float]) -> None:
        point = np.zeros((25, 25, 25), np.bool_)
        point[12, 12, 12] = True
        assert np.array_equal(dilate(point, radius=4.0, spacing=spacing), ball(4.0, spacing))

    def test_an_eroded_ball_has_its_radius_less(self) -> None:
        # the distance transform of the mask itself would take one voxel more than asked
        eroded = erode(ball(9.0, (1.0, 1.0, 1.0)), radius=4.0, spacing=(1.0, 1.0, 1.0))
        assert 4 / 3 * np.pi * 4.5**3 < eroded.sum() < 4 / 3 * np.pi * 5.5**3

    @given(MASKS, st.floats(0.4, 4), SPACINGS)
    def test_laws(self, mask: np.ndarray, radius: float, spacing: tuple[float, float, float]) -> None:
        how = {"radius": radius, "spacing": spacing}
        assert not (erode(mask, **how) & ~mask).any()
        assert not (mask & ~dilate(mask, **how)).any()
        assert np.array_equal(erode(mask, **how), ~dilate(~mask, **how))
        opened, closed = opening(mask, **how), closing(mask, **how)
        assert not (opened & ~mask).any()
        assert not (mask & ~closed).any()
        assert np.array_equal(opening(opened, **how), opened)

    def test_dilation_by_brute_force(self) -> None:
        mask = np.random.default_rng(2).random((6, 7, 8)) > 0.93
        spacing = np.asarray((1.7, 0.9, 1.1))
        places = np.argwhere(np.ones(mask.shape)) * spacing
        apart = np.linalg.norm(places[:, None] - (np.argwhere(mask) * spacing)[None], axis=2).min(axis=1)
        expected = (apart <= 2.0).reshape(mask.shape)
        assert np.array_equal(dilate(mask, radius=2.0, spacing=tuple(spacing.tolist())), expected)

    def test_closing_does_not_stick_to_the_edge_of_the_grid(self) -> None:
        mask = np.zeros((9, 9, 9), np.bool_)
        mask[4, 4, 1] = True
        assert np.array_equal(closing(mask, radius=3.0, spacing=(1.0, 1.0, 1.0)), mask)

    def test_empty_stays_empty(self) -> None:
        empty = np.zeros((3, 3, 3), np.bool_)
        for operation in (dilate, erode, opening, closing):
            assert not operation(empty, radius=2.0, spacing=(1.0, 1.0, 1.0)).any()
        assert not fill_holes(empty).any()
        assert empty[bounding_box(empty)].size == 0

    def test_holes_are_filled_in_3d_and_in_one_slice(self) -> None:
        shell = ball(6.0, (1.0, 1.0, 1.0)) & ~ball(3.0, (1.0, 1.0, 1.0))
        assert np.array_equal(fill_holes(shell), ball(6.0, (1.0, 1.0, 1.0)))
        ring = shell[12:13]
        assert fill_holes(ring)[0, 12, 12]


class TestComponents:
    def test_largest_by_hand(self) -> None:
        mask = np.zeros((1, 5, 7), np.bool_)
        mask[0, 0, :3] = mask[0, 2, :2] = mask[0, 4, 6] = True
        assert largest_components(mask).sum() == 3
        assert largest_components(mask, keep=2).sum() == 5
        assert largest_components(mask, keep=9, at_least=2).sum() == 5

    def test_corners_connect_only_where_asked(self) -> None:
        mask = np.zeros((1, 2, 2), np.bool_)
        mask[0, 0, 0] = mask[0, 1, 1] = True
        assert largest_components(mask).sum() == 1
        assert largest_components(mask, corners=True).sum() == 2

    @given(MASKS)
    def test_all_components_are_the_mask(self, mask: np.ndarray) -> None:
        assert np.array_equal(largest_components(mask, keep=mask.size), mask)


class TestFilters:
    def test_gaussian_of_a_point_has_its_second_moment(self) -> None:
        point = np.zeros((33, 33, 33), np.float32)
        point[16, 16, 16] = 1
        out = gaussian(point, sigma=(2.0, 1.0, 0.0))
        axis = np.arange(33) - 16
        assert out.sum() == pytest.approx(1, abs=1e-3)
        assert (out.sum(axis=(1, 2)) @ axis**2) == pytest.approx(4.0, rel=0.01)
        assert (out.sum(axis=(0, 2)) @ axis**2) == pytest.approx(1.0, rel=0.01)
        assert (out.sum(axis=(0, 1)) @ axis**2) == pytest.approx(0.0, abs=1e-6)

    @given(arrays(np.float32, (3, 4, 5), elements=st.floats(-100, 100, width=32)), st.floats(-50, 50))
    def test_gaussian_commutes_with_a_shift_of_intensity(self, grid: np.ndarray, shift: float) -> None:
        a = gaussian(grid + np.float32(shift), sigma=(1.0, 1.0, 1.0))
        assert a == pytest.approx(gaussian(grid, sigma=(1.0, 1.0, 1.0)) + shift, abs=1e-2)

    def test_median_by_hand(self) -> None:
        grid = np.asarray([[[1, 2, 100], [3, 4, 5], [6, 7, 8]]], np.int16)
        assert median(grid, radius=(0, 1, 1))[0, 1, 1] == 5
        assert median(grid, radius=(0, 0, 0)) is grid

    def test_slabs_give_what_the_whole_gives(self, monkeypatch: pytest.MonkeyPatch) -> None:
        grid = np.random.default_rng(0).normal(size=(23, 8, 9)).astype(np.float32)
        whole = median(grid, radius=(2, 1, 1))
        monkeypatch.setattr("isocenter.ops.slabs.SLAB_VOXELS", 8 * 9 * 4)
        assert np.array_equal(median(grid, radius=(2, 1, 1)), whole)
        assert np.array_equal(by_slab(lambda part: part * 2, grid, halo=0), grid * 2)


class TestBias:
    def test_recovers_a_known_field(self) -> None:
        rng = np.random.default_rng(0)
        shape = (40, 48, 44)
        z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
        mask = x**2 + y**2 + z**2 < 0.9
        tissue = np.where(np.sin(6 * x) * np.cos(5 * y) * np.sin(4 * z + 1) > 0, 100.0, 160.0)
        field = np.exp(0.25 * x - 0.2 * y + 0.1 * z * x)
        field /= np.exp(np.log(field[mask]).mean())
        image = np.where(mask, tissue * field + rng.normal(0, 2, shape), 0).astype(np.float32)
        found = n4_field(image, mask, spacing=(4.0, 4.0, 4.0))
        before, after = np.log(field[mask]).std(), np.log((field / found)[mask]).std()
        assert after < 0.25 * before
        assert np.log(found[mask]).mean() == pytest.approx(0, abs=1e-5)

    def test_refuses_a_mask_too_small(self) -> None:
        with pytest.raises(DegenerateImage, match="bias field"):
            n4_field(np.ones((20, 20, 20), np.float32), np.zeros((20, 20, 20), np.bool_), spacing=(4.0, 4.0, 4.0))


class TestResample:
    @given(st.integers(0, 2**16))
    def test_a_linear_ramp_is_kept_on_any_grid(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        axes, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        affine, to_affine = np.eye(4), np.eye(4)
        affine[:3, :3] = axes * (2.0, 1.0, 0.7)
        turn, _ = np.linalg.qr(axes + 0.05 * rng.normal(size=(3, 3)))
        to_affine[:3, :3] = turn * (1.1, 0.9, 0.6)
        index = np.argwhere(np.ones((8, 9, 10))).astype(float)
        slope = np.asarray([0.3, -0.2, 0.5])
        ramp = ((index @ affine[:3, :3].T) @ slope).reshape(8, 9, 10)
        to_affine[:3, 3] = affine[:3, :3] @ (3.5, 4, 4.5) - to_affine[:3, :3] @ (1, 1, 1)
        out = resample(ramp, affine=affine, to_shape=(3, 3, 3), to_affine=to_affine)
        there = np.argwhere(np.ones((3, 3, 3))).astype(float) @ to_affine[:3, :3].T + to_affine[:3, 3]
        assert out.ravel() == pytest.approx(there @ slope, abs=1e-4)

    def test_nearest_keeps_labels_and_marks_the_outside(self) -> None:
        labels = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
        shifted = np.eye(4)
        shifted[0, 3] = 1.0
        out = resample(
            labels, affine=np.eye(4), to_shape=(2, 2, 2), to_affine=shifted, interpolation="nearest", outside=99.0
        )
        assert out[0].tolist() == labels[1].tolist()
        assert (out[1] == 99).all()
        assert out.dtype == np.uint8
