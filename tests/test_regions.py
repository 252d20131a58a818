"""Thresholds, regions, edges, contours, clusters, refinement: a value, a law, a refusal each."""

from dataclasses import replace

import numpy as np
import pytest
import skimage.filters
import skimage.segmentation
from pydantic import ValidationError
from scipy import ndimage

from isocenter import segment as s
from isocenter.data.geometry import Geometry, Space
from isocenter.data.labels import Label, LabelMap
from isocenter.data.volume import Quantity, Volume
from isocenter.errors import DegenerateImage, InputError, UnitError
from isocenter.ops import edges, region
from isocenter.ops.cluster import fuzzy_c_means, k_means
from isocenter.ops.histogram import histogram

SPACING = (2.0, 1.0, 1.0)


def ball(radius: float = 10.0, *, noise: float = 5.0, shape: tuple = (24, 40, 40)) -> tuple[Volume, np.ndarray]:
    """A ball of 200 on ground of 100, and its mask; voxels of 2 x 1 x 1 mm."""
    geometry = Geometry.regular(shape, spacing_mm=SPACING)
    middle = [(n - 1) / 2 for n in shape]
    r = np.sqrt(sum(((i - m) * sp) ** 2 for i, m, sp in zip(np.indices(shape), middle, SPACING, strict=True)))
    grid = np.where(r <= radius, 200, 100) + np.random.default_rng(0).normal(0, noise, shape)
    return Volume(grid[None].astype(np.float32), geometry), r <= radius


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def markers(volume: Volume, mask: np.ndarray) -> LabelMap:
    """A core of the ball, and the rim of the image."""
    voxels = np.zeros(mask.shape, np.uint8)
    voxels[ndimage.binary_erosion(mask, iterations=3)] = 1
    voxels[:, 0] = voxels[:, -1] = voxels[:, :, 0] = voxels[:, :, -1] = voxels[0] = voxels[-1] = 2
    return LabelMap(voxels, volume.geometry, (Label(1, "ball"), Label(2, "ground")))


SEED = {"seeds_px": ((11, 20, 20),)}
METHODS = {
    "otsu": s.Otsu(), "li": s.Li(), "multi_otsu": s.MultiOtsu(classes=("background", "ball")),
    "adaptive": s.Adaptive(sigma_mm=30, offset=30), "chan_vese": s.ChanVese(),
    "region_growing": s.RegionGrowing(low=160, high=260, unit=Quantity.ARBITRARY, **SEED),
    "confidence_connected": s.ConfidenceConnected(multiplier=4, **SEED),
    "edges": s.Edges(sigma_mm=1.5),
}  # fmt: skip


class TestOneBall:
    @pytest.mark.parametrize("name", METHODS)
    def test_every_method_finds_it(self, name: str) -> None:
        volume, mask = ball()
        found = s.STEPS[name].run(volume, METHODS[name])
        assert dice(found.foreground, mask) > (0.9 if name == "edges" else 0.97)
        assert found.history[-1].name == f"segment.{name}"

    @pytest.mark.parametrize("name", [n for n in METHODS if n not in ("region_growing", "confidence_connected")])
    def test_in_two_dimensions_and_pixels(self, name: str) -> None:
        volume, mask = ball()
        flat = Volume(volume.voxels[:, 11:12], Geometry.regular((1, 40, 40), space=Space.PIXELS))
        pixels = {
            "adaptive": s.Adaptive(sigma_px=30, offset=30),
            "chan_vese": s.ChanVese(sigma_px=2),
            "edges": s.Edges(sigma_px=1.5, gap_px=2),
        }
        found = s.STEPS[name].run(flat, pixels.get(name, METHODS[name]))
        assert dice(found.foreground, mask[11:12]) > 0.9

    @pytest.mark.parametrize("step", ["watershed", "random_walker"])
    def test_markers_meet_at_its_surface(self, step: str) -> None:
        volume, mask = ball()
        settings = s.Watershed() if step == "watershed" else s.RandomWalker()
        found = s.STEPS[step].run(volume, markers(volume, mask), settings)
        assert dice(found.mask("ball"), mask) > 0.97
        assert (found.voxels > 0).all()

    def test_methods_that_want_markers_refuse_without(self) -> None:
        volume, mask = ball()
        empty = LabelMap.of_mask(np.zeros_like(mask), volume.geometry, name="m")
        with pytest.raises(DegenerateImage, match="markers"):
            s.watershed(volume, empty, s.Watershed())
        with pytest.raises(DegenerateImage, match="at least 2"):
            s.random_walker(volume, LabelMap.of_mask(mask, volume.geometry, name="m"), s.RandomWalker())

    def test_a_flat_image_is_refused(self) -> None:
        flat = Volume(np.ones((1, 4, 8, 8), np.float32), Geometry.regular((4, 8, 8)))
        for name in ("otsu", "li", "multi_otsu", "chan_vese", "edges"):
            with pytest.raises(DegenerateImage):
                s.STEPS[name].run(flat, METHODS[name])


class TestThresholds:
    def test_multi_otsu_agrees_with_another_implementation(self) -> None:
        rng = np.random.default_rng(2)
        values = np.concatenate([rng.normal(m, 8, 4000) for m in (40, 110, 200)]).reshape(12, 10, 100)
        found = s.multi_otsu(Volume(values[None], Geometry.regular(values.shape)), s.MultiOtsu(classes=("a", "b", "c")))
        cuts = found.history[-1].results["thresholds"]
        theirs = np.digitize(values, skimage.filters.threshold_multiotsu(values, 3))
        assert np.mean(found.voxels - 1 == theirs) > 0.999
        assert cuts == sorted(cuts)
        assert [int((found.voxels == i).sum()) for i in (1, 2, 3)] == pytest.approx([4000] * 3, abs=20)

    def test_adaptive_follows_uneven_light(self) -> None:
        ramp = np.linspace(0, 500, 60)[None, None].repeat(60, 1)
        dots = np.zeros((1, 60, 60), np.bool_)
        dots[0, 5::10, 5::10] = True
        image = Volume((ramp + 60 * dots)[None].astype(np.float32), Geometry.regular((1, 60, 60), space=Space.PIXELS))
        found = s.adaptive(image, s.Adaptive(sigma_px=4, offset=30))
        assert np.array_equal(found.foreground, dots)


class TestGrowing:
    def test_it_stays_with_what_touches_the_seed(self) -> None:
        grid = np.zeros((1, 5, 9), np.float32)
        grid[0, 1:4, 1:4] = grid[0, 1:4, 5:8] = 10
        image = Volume(grid[None], Geometry.regular((1, 5, 9), space=Space.PIXELS))
        found = s.region_growing(image, s.RegionGrowing(low=5, high=15, unit="arbitrary", seeds_px=((0, 2, 2),)))
        assert found.foreground.sum() == 9
        assert not found.foreground[..., 5:].any()

    def test_a_seed_in_millimetres_is_the_patients(self) -> None:
        volume, mask = ball()
        world = volume.geometry.index_to_world(np.asarray([[11.0, 20, 20]]))[0]
        settings = s.RegionGrowing(low=160, high=260, unit="arbitrary", seeds_mm=(tuple(world),))
        assert dice(s.region_growing(volume, settings).foreground, mask) > 0.97

    @pytest.mark.parametrize(
        ("settings", "error", "words"),
        [({"seeds_px": ((99, 0, 0),)}, InputError, "outside"), ({"seeds_px": ((0, 0, 0),)}, InputError, "not within"),
         ({"seeds_px": ((11, 20, 20),), "unit": "HU"}, UnitError, "HU")],
    )  # fmt: skip
    def test_refusals(self, settings: dict, error: type, words: str) -> None:
        volume, _ = ball()
        with pytest.raises(error, match=words):
            s.region_growing(volume, s.RegionGrowing(**{"low": 160, "high": 260, "unit": "arbitrary", **settings}))
        flat = Volume(np.ones((1, 4, 8, 8), np.float32), volume.geometry.crop((0, 0, 0), (4, 8, 8)))
        with pytest.raises(DegenerateImage, match="all voxels around"):
            s.confidence_connected(flat, s.ConfidenceConnected(seeds_px=((1, 1, 1),)))


class TestAlgorithms:
    def test_the_random_walker_solves_its_equations(self) -> None:
        """On a line of equal weights the probability falls linearly: the middle divides."""
        line = np.zeros((1, 1, 11), np.float32)
        seeds = np.zeros((1, 1, 11), np.uint8)
        seeds[0, 0, 0], seeds[0, 0, 10] = 1, 2
        out = region.random_walker(line, seeds, spacing=(1, 1, 1), noise=1, tolerance=1e-6)
        assert out[0, 0, :5].tolist() == [1] * 5
        assert out[0, 0, 6:].tolist() == [2] * 5

    def test_the_random_walker_agrees_with_another_implementation(self) -> None:
        rng = np.random.default_rng(3)
        picture = ndimage.gaussian_filter(rng.normal(0, 1, (1, 40, 40)), (0, 3, 3)) * 20
        seeds = np.zeros((1, 40, 40), np.uint8)
        seeds[0, 5, 5], seeds[0, 35, 30], seeds[0, 8, 33] = 1, 2, 3
        ours = region.random_walker(picture, seeds, spacing=(1, 1, 1), noise=0.5, tolerance=1e-5)
        beta = 0.5 / 0.5**2 * picture.std() * 10  # theirs is scaled by the image's deviation
        theirs = skimage.segmentation.random_walker(picture[0], seeds[0].astype(int), beta=beta, mode="bf")
        assert np.mean(ours[0] == theirs) > 0.97

    def test_the_watershed_parts_at_the_ridge(self) -> None:
        relief = np.abs(np.arange(-10, 11)).max() - np.abs(np.arange(-10, 11)).astype(np.float32)
        seeds = np.zeros((1, 1, 21), np.uint8)
        seeds[0, 0, 1], seeds[0, 0, 19] = 1, 2
        out = region.watershed(relief.reshape(1, 1, -1), seeds)[0, 0]
        assert out[:10].tolist() == [1] * 10
        assert out[11:].tolist() == [2] * 10
        only = region.watershed(relief.reshape(1, 1, -1), seeds, mask=np.arange(21).reshape(1, 1, -1) > 4)[0, 0]
        assert only[:5].tolist() == [0] * 5

    def test_threshold_dynamics_lowers_the_energy_and_rounds_a_corner(self) -> None:
        grid = np.zeros((1, 40, 40), np.float32)
        grid[0, 10:30, 10:30] = 100
        out, inner, outer, _ = region.chan_vese(
            grid, grid > 50, spacing=(1, 1, 1), sigma=3, smoothness=3.0, iterations=50
        )
        assert (inner, outer) != (0, 0)
        assert not out[0, 10, 10]
        assert out[0, 12:28, 12:28].all()

    def test_canny_gives_one_thin_edge_where_the_step_is(self) -> None:
        grid = np.zeros((1, 32, 32), np.float32)
        grid[0, :, 16:] = 100
        found, _, _ = edges.canny(grid, spacing=(1, 1, 1), sigma=1.5, low=0.1, high=0.3)
        columns = np.flatnonzero(found[0].any(axis=0))
        assert set(columns.tolist()) <= {15, 16}
        assert found[0].any(axis=1).all()

    def test_gaps_in_an_edge_are_bridged(self) -> None:
        ring = np.zeros((1, 40, 40), np.bool_)
        ring[0, 10:30, 10] = ring[0, 10:30, 29] = ring[0, 10, 10:30] = ring[0, 29, 10:30] = True
        ring[0, 10, 18:20] = False
        assert not edges.enclosed(ring, gap=0.0, spacing=(1, 1, 1)).any()
        assert edges.enclosed(ring, gap=3.0, spacing=(1, 1, 1))[0, 12:28, 12:28].all()

    def test_fuzzy_means_of_two_equal_peaks_by_symmetry(self) -> None:
        counts, centres = np.asarray([10, 0, 5, 0, 10]), np.arange(5.0)
        means, member = fuzzy_c_means(counts, centres, classes=2)
        assert means.sum() == pytest.approx(4)
        assert member[:, 2].tolist() == pytest.approx([0.5, 0.5])
        nearly, _ = fuzzy_c_means(*histogram(ball()[0].grid, bins=256), classes=2, fuzziness=1.05)
        assert nearly == pytest.approx(k_means(*histogram(ball()[0].grid, bins=256), classes=2), abs=1)
        with pytest.raises(DegenerateImage):
            fuzzy_c_means(np.asarray([5, 0]), np.asarray([1.0, 2]), classes=2)


class TestRefine:
    def test_touching_discs_are_parted_and_counted(self) -> None:
        y, x = np.mgrid[:60, :100]
        mask = ((y - 30) ** 2 + (x - 30) ** 2 < 400) | ((y - 30) ** 2 + (x - 62) ** 2 < 400)
        labels = LabelMap.of_mask(mask[None], Geometry.regular((1, 60, 100), space=Space.PIXELS), name="cell")
        out = s.split(labels, s.Split(depth_px=2))
        assert [label.name for label in out.labels] == ["cell 1", "cell 2"]
        assert np.array_equal(out.foreground, labels.foreground)
        columns = [float(np.argwhere(out.voxels[0] == i)[:, 1].mean()) for i in (1, 2)]
        assert sorted(columns) == pytest.approx([30, 62], abs=1.5)
        assert len(s.split(labels, s.Split(depth_px=15)).labels) == 1

    def test_smoothing_keeps_a_plane_and_drops_a_spike(self) -> None:
        voxels = np.zeros((10, 20, 20), np.uint8)
        voxels[:5] = 1
        voxels[5:9, 10, 10] = 1
        labels = LabelMap(voxels, Geometry.regular(voxels.shape), (Label(1, "a"),))
        out = s.smooth(labels, s.Smooth(sigma_mm=1.5))
        assert (out.voxels[:5] == 1).all()
        assert not out.voxels[5:].any()

    def test_growing_takes_background_only_and_shrinking_undoes_it(self) -> None:
        voxels = np.zeros((9, 15, 15), np.uint8)
        voxels[3:6, 5:8, 5:8], voxels[3:6, 5:8, 8:11] = 1, 2
        labels = LabelMap(voxels, Geometry.regular(voxels.shape), (Label(1, "a"), Label(2, "b")))
        grown = s.dilation(labels, s.Morphology(radius_mm=2))
        assert (grown.voxels[voxels > 0] == voxels[voxels > 0]).all()
        assert grown.foreground.sum() > labels.foreground.sum()
        assert not s.erosion(labels, s.Morphology(radius_mm=2)).foreground.any()

    def test_pick_keeps_what_is_named(self) -> None:
        voxels = np.asarray([[[0, 1, 2]]], np.uint8)
        labels = LabelMap(voxels, Geometry.regular((1, 1, 3)), (Label(1, "a"), Label(2, "b")))
        assert s.pick(labels, s.Pick(labels=("b",))).voxels.ravel().tolist() == [0, 0, 2]
        with pytest.raises(InputError, match="no label is called 'c'"):
            s.pick(labels, s.Pick(labels=("c",)))

    def test_small_parts_are_dropped_by_voxels(self) -> None:
        mask = np.zeros((1, 6, 12), np.bool_)
        mask[0, 1:4, 1:4], mask[0, 1, 8] = True, True
        labels = LabelMap.of_mask(mask, Geometry.regular(mask.shape, space=Space.PIXELS), name="x")
        assert s.components(labels, s.Components(keep=9, at_least_px=5)).foreground.sum() == 9

    def test_lengths_want_one_unit(self) -> None:
        with pytest.raises(ValidationError, match="both in"):
            s.Edges(sigma_px=1)
        flat = replace(ball()[0], geometry=replace(ball()[0].geometry, space=Space.PIXELS))
        with pytest.raises(UnitError):
            s.chan_vese(flat, s.ChanVese())
