"""Steps on volumes: geometry kept or moved as promised, units guarded, history grown."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import isocenter
from isocenter.data.geometry import Geometry, Space
from isocenter.data.labels import Label, LabelMap
from isocenter.data.volume import Quantity, Volume
from isocenter.errors import DegenerateImage, GeometryError, UnitError
from isocenter.features import Intensity, VolumeSize, intensity
from isocenter.features import volume as measure_volume
from isocenter.preprocess import (
    N4,
    STEPS,
    Crop,
    Gaussian,
    Orient,
    Resample,
    Window,
    ZScore,
    crop,
    gaussian,
    median,
    n4,
    orient,
    resample,
    window,
    z_score,
)
from isocenter.preprocess import (
    Box as Median,
)
from isocenter.segment import (
    Components,
    GaussianMixture,
    KMeans,
    Morphology,
    NoSettings,
    Otsu,
    Threshold,
    closing,
    components,
    fill_holes,
    gaussian_mixture,
    k_means,
    opening,
    otsu,
    threshold,
)
from tests.test_data import geometries, voxels_on

BALL_ML = 4 / 3 * np.pi * 12**3 / 1000


def pixels(volume: Volume) -> Volume:
    """The same without millimetres."""
    return replace(volume, geometry=replace(volume.geometry, space=Space.PIXELS))


class TestDenoise:
    def test_gaussian_reaches_as_far_in_every_direction(self) -> None:
        geometry = Geometry.regular((21, 41, 41), spacing_mm=(2.0, 1.0, 1.0))
        point = np.zeros((1, 21, 41, 41), np.float32)
        point[0, 10, 20, 20] = 1
        out = gaussian(Volume(point, geometry), Gaussian(sigma_mm=3.0)).grid
        assert out[12, 20, 20] == pytest.approx(out[10, 24, 20], rel=1e-4)

    def test_gaussian_lowers_noise_and_keeps_the_mean(self, ball: Volume) -> None:
        out = gaussian(ball, Gaussian(sigma_mm=1.0))
        assert out.grid[:4].std() < 0.5 * ball.grid[:4].std()
        assert out.grid.mean() == pytest.approx(ball.grid.mean(), rel=0.01)
        assert out.history[-1].parameters == {"sigma_mm": 1.0}

    def test_median_does_not_mix_slices_that_are_too_far(self, ball: Volume) -> None:
        assert median(ball, Median(radius_mm=1.0)).history[-1].results["radius_voxels"] == [0, 1, 1]

    def test_keeps_unit_and_grid(self, ball: Volume) -> None:
        hounsfield = replace(ball, quantity=Quantity.HU)
        for step, settings in ((gaussian, Gaussian(sigma_mm=1)), (median, Median(radius_mm=2))):
            out = step(hounsfield, settings)
            assert out.quantity is Quantity.HU
            assert out.geometry is ball.geometry

    def test_refuses_pixels(self, ball: Volume) -> None:
        with pytest.raises(UnitError):
            gaussian(pixels(ball), Gaussian(sigma_mm=1.0))
        with pytest.raises(UnitError):
            median(pixels(ball), Median(radius_mm=1.0))


class TestIntensity:
    def test_z_score_by_hand(self) -> None:
        volume = Volume(np.asarray([[[[1.0, 3.0]]]]), Geometry.regular((1, 1, 2)), Quantity.HU)
        out = z_score(volume, ZScore())
        assert out.voxels.ravel().tolist() == [-1.0, 1.0]
        assert out.quantity is Quantity.ARBITRARY

    @given(st.floats(0.5, 20), st.floats(-100, 100))
    def test_z_score_forgets_scale_and_shift(self, scale: float, shift: float) -> None:
        volume = Volume(np.arange(24.0).reshape(1, 2, 3, 4), Geometry.regular((2, 3, 4)))
        moved = replace(volume, voxels=volume.voxels * scale + shift)
        assert z_score(moved, ZScore()).voxels == pytest.approx(z_score(volume, ZScore()).voxels, abs=1e-4)

    def test_z_score_within_a_mask(self) -> None:
        volume = Volume(np.asarray([[[[1.0, 3.0, 100.0]]]]), Geometry.regular((1, 1, 3)))
        mask = LabelMap.of_mask(np.asarray([[[True, True, False]]]), volume.geometry, name="a")
        assert z_score(volume, ZScore(), within=mask).voxels.ravel()[:2].tolist() == [-1.0, 1.0]

    def test_z_score_refuses_a_flat_image(self) -> None:
        with pytest.raises(DegenerateImage, match="equal 5"):
            z_score(Volume(np.full((1, 2, 2, 2), 5.0), Geometry.regular((2, 2, 2))), ZScore())

    def test_window_by_hand(self) -> None:
        volume = Volume(np.asarray([[[[-500, -160, 40, 240, 900]]]]), Geometry.regular((1, 1, 5)), Quantity.HU)
        out = window(volume, Window(low=-160, high=240))
        assert out.voxels.ravel() == pytest.approx([0, 0, 0.5, 1, 1])
        assert out.quantity is Quantity.ARBITRARY

    def test_window_refuses_ends_the_wrong_way_round(self) -> None:
        with pytest.raises(ValidationError, match="low must lie below high"):
            Window(low=1, high=1)


class TestGrid:
    @given(geometries(), st.sampled_from(["SPL", "IAR", "LPS", "PSR", "AIL"]))
    def test_orient_moves_no_voxel(self, geometry: Geometry, to: str) -> None:
        volume = Volume(voxels_on(geometry), geometry)
        turned = orient(volume, Orient(to=to))
        assert "".join(turned.geometry.axis_letters) == to
        for index in ((0, 0, 0), tuple(n - 1 for n in geometry.shape)):
            world = geometry.index_to_world(np.asarray([index], dtype=float))
            there = tuple(np.rint(turned.geometry.world_to_index(world)[0]).astype(int))
            assert turned.grid[there] == volume.grid[index]

    @pytest.mark.parametrize("to", ["SPX", "SSL", "SP", "LRS"])
    def test_orient_refuses_what_is_no_orientation(self, to: str) -> None:
        with pytest.raises(ValidationError, match="once"):
            Orient(to=to)

    def test_resample_keeps_field_centre_and_values(self, ball: Volume) -> None:
        out = resample(ball, Resample(spacing_mm=2.0))
        assert out.geometry.spacing_mm == pytest.approx((2.0, 2.0, 2.0))
        middle = [np.mean(g.corners(), axis=0) for g in (ball.geometry, out.geometry)]
        assert middle[0] == pytest.approx(middle[1], abs=1e-9)
        inside = otsu(out, Otsu())
        assert measure_volume(out, inside, VolumeSize()).get("volume", label="foreground").value == pytest.approx(
            BALL_ML, rel=0.05
        )

    def test_resample_to_the_same_spacing_changes_nothing(self, ball: Volume) -> None:
        out = resample(ball, Resample(spacing_mm=(1.5, 1.0, 1.0)))
        assert out.grid == pytest.approx(ball.grid, abs=1e-3)

    @pytest.mark.parametrize("spacing", [0.0, -1.0, 1e6, (1.0, 1.0, 0.0)])
    def test_resample_refuses_a_spacing_that_cannot_be(self, spacing: object) -> None:
        with pytest.raises(ValidationError, match="spacing"):
            Resample(spacing_mm=spacing)

    def test_crop_cuts_to_content_and_keeps_places(self) -> None:
        geometry = Geometry.regular((5, 6, 7), spacing_mm=(2.0, 1.0, 1.0), origin_mm=(3.0, 4.0, 5.0))
        voxels = np.zeros((1, 5, 6, 7), np.int16)
        voxels[0, 2, 3, 4] = 9
        out = crop(Volume(voxels, geometry), Crop())
        assert out.voxels.ravel().tolist() == [9]
        assert out.geometry.index_to_world(np.zeros((1, 3)))[0].tolist() == [7.0, 7.0, 9.0]
        assert crop(Volume(voxels, geometry), Crop(margin_mm=2)).geometry.shape == (3, 5, 5)

    def test_crop_refuses_an_empty_image(self) -> None:
        with pytest.raises(DegenerateImage, match="nothing to crop"):
            crop(Volume(np.zeros((1, 2, 2, 2)), Geometry.regular((2, 2, 2))), Crop())


class TestN4:
    def test_flattens_a_drift_inside_the_mask(self) -> None:
        geometry = Geometry.regular((32, 40, 40), spacing_mm=(3.0, 3.0, 3.0))
        z, _, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in geometry.shape], indexing="ij")
        rng = np.random.default_rng(0)
        cubes = np.indices(geometry.shape) // 4
        tissue = np.where(cubes.sum(axis=0) % 2, 100.0, 150.0)
        mask = np.ones(geometry.shape, np.bool_)
        mask[:2] = mask[-2:] = False
        voxels = ((tissue + rng.normal(0, 2, tissue.shape)) * np.exp(0.2 * x + 0.1 * z) * mask).astype(np.float32)
        labels = LabelMap.of_mask(mask, geometry, name="all")
        out = n4(Volume(voxels[None], geometry), N4(working_mm=3), within=labels)
        bright = mask & (tissue > 120)
        spread = [v[bright].std() / v[bright].mean() for v in (voxels, out.grid)]
        assert spread[1] < 0.5 * spread[0]
        assert out.history[-1].results["field_high"] > 1.1
        assert out.quantity is Quantity.ARBITRARY


class TestSegment:
    def test_otsu_finds_the_ball(self, ball: Volume) -> None:
        found = otsu(ball, Otsu())
        assert measure_volume(ball, found, VolumeSize()).features[0].value == pytest.approx(BALL_ML, rel=0.02)
        assert 150 < found.history[-1].results["threshold"] < 250

    def test_a_hounsfield_threshold_after_a_z_score_is_refused(self, ball: Volume) -> None:
        hounsfield = replace(ball, quantity=Quantity.HU)
        settings = Threshold(low=200, unit=Quantity.HU)
        assert threshold(hounsfield, settings).foreground.sum() == otsu(ball, Otsu()).foreground.sum()
        with pytest.raises(UnitError, match="z_score"):
            threshold(z_score(hounsfield, ZScore()), settings)

    @pytest.mark.parametrize("ends", [{}, {"low": 2.0, "high": 1.0}])
    def test_threshold_refuses_ends_that_make_no_range(self, ends: dict) -> None:
        with pytest.raises(ValidationError):
            Threshold(unit=Quantity.HU, **ends)

    @pytest.mark.parametrize("smoothness", [0.0, 0.5])
    def test_clusters_agree_on_an_easy_image(self, ball: Volume, smoothness: float) -> None:
        names = ("ground", "ball")
        mixture = gaussian_mixture(ball, GaussianMixture(classes=names, smoothness=smoothness))
        means = k_means(ball, KMeans(classes=names))
        assert np.mean(mixture.voxels == means.voxels) > 0.999
        assert measure_volume(ball, mixture, VolumeSize()).get("volume", label="ball").value == pytest.approx(
            BALL_ML, rel=0.02
        )

    def test_clusters_stay_within_the_mask(self, ball: Volume) -> None:
        mask = LabelMap.of_mask(np.asarray(ball.grid > 50), ball.geometry, name="m")
        half = replace(mask, voxels=np.where(np.arange(24)[:, None, None] < 12, mask.voxels, 0).astype(np.uint8))
        found = k_means(ball, KMeans(classes=("a", "b")), within=half)
        assert not found.voxels[12:].any()
        assert (found.voxels[:12] > 0).sum() == half.foreground.sum()

    def test_clusters_of_a_flat_image_are_refused(self) -> None:
        flat = Volume(np.ones((1, 3, 3, 3)), Geometry.regular((3, 3, 3)))
        with pytest.raises(DegenerateImage, match="equal 1"):
            k_means(flat, KMeans(classes=("a", "b")))
        with pytest.raises(DegenerateImage):
            gaussian_mixture(flat, GaussianMixture(classes=("a", "b")))
        with pytest.raises(ValidationError, match="name of its own"):
            KMeans(classes=("a", "a"))


class TestRefine:
    def two_labels(self) -> LabelMap:
        voxels = np.zeros((9, 9, 9), np.uint8)
        voxels[1:5, 1:8, 1:8] = 1
        voxels[3, 3, 3] = 0
        voxels[5:8, 1:8, 1:8] = 2
        voxels[8, 0, 0] = 1
        return LabelMap(voxels, Geometry.regular((9, 9, 9)), (Label(1, "a"), Label(2, "b")))

    def test_components_drop_the_speck(self) -> None:
        out = components(self.two_labels(), Components())
        assert out.voxels[8, 0, 0] == 0
        assert (out.voxels == 2).sum() == 3 * 49
        assert components(self.two_labels(), Components(keep=9, at_least_ml=0.002)).voxels[8, 0, 0] == 0

    def test_holes_are_filled_with_their_own_label(self) -> None:
        assert fill_holes(self.two_labels(), NoSettings()).voxels[3, 3, 3] == 1

    def test_a_grown_label_takes_nothing_from_another(self) -> None:
        before = self.two_labels()
        after = closing(before, Morphology(radius_mm=2))
        assert ((before.voxels == 0) | (after.voxels == before.voxels)).all()
        assert opening(before, Morphology(radius_mm=1.5)).voxels[8, 0, 0] == 0

    def test_millimetres_are_refused_in_pixels(self) -> None:
        labels = self.two_labels()
        flat = replace(labels, geometry=replace(labels.geometry, space=Space.PIXELS))
        with pytest.raises(UnitError):
            opening(flat, Morphology(radius_mm=1))
        with pytest.raises(UnitError):
            components(flat, Components(at_least_ml=1))


class TestFeatures:
    IBSI = {
        "mean": (2.15, 0.005),
        "variance": (3.05, 0.005),
        "skewness": (1.08, 0.005),
        "excess kurtosis": (-0.355, 0.0005),
        "median": (1, 0),
        "minimum": (1, 0),
        "10th percentile": (1, 0),
        "90th percentile": (4, 0),
        "maximum": (6, 0),
        "interquartile range": (3, 0),
    }

    def test_digital_phantom_of_the_ibsi(self, real_data: Callable[[str], Path]) -> None:
        """IBSI reference manual, section 5.1: consensus values of the digital phantom."""
        folder = real_data("ibsi/digital_phantom")
        image_file, mask_file = (next((folder / kind).glob("*.nii.gz")) for kind in ("image", "mask"))
        image = isocenter.open(image_file).volume()
        mask = isocenter.open(mask_file).volume()
        region = LabelMap.of_mask(np.asarray(mask.grid > 0), mask.geometry, name="roi")
        found = intensity(image, region, Intensity())
        for name, (value, tolerance) in self.IBSI.items():
            assert found.get(name, label="roi").value == pytest.approx(value, abs=tolerance + 1e-9), name
        assert measure_volume(image, region, VolumeSize()).features[0].value == pytest.approx(0.592)

    def test_an_empty_region_says_why_nothing_is_there(self, ball: Volume) -> None:
        empty = LabelMap.of_mask(np.zeros(ball.geometry.shape, np.bool_), ball.geometry, name="nothing")
        found = intensity(ball, empty, Intensity())
        assert {f.missing for f in found} == {"the region is empty"}
        assert measure_volume(ball, empty, VolumeSize()).features[0].value == 0

    def test_a_flat_region_has_no_skewness(self) -> None:
        flat = Volume(np.full((1, 2, 2, 2), 3, np.int16), Geometry.regular((2, 2, 2)), Quantity.HU)
        region = LabelMap.of_mask(np.ones((2, 2, 2), np.bool_), flat.geometry, name="r")
        found = intensity(flat, region, Intensity())
        assert "equal" in found.get("skewness", label="r").missing
        assert found.get("mean", label="r").value == 3
        assert found.get("mean", label="r").unit == "[hnsf'U]"

    def test_refuses_other_grids(self, ball: Volume) -> None:
        moved = Geometry.regular(ball.geometry.shape, spacing_mm=(1.5, 1.0, 1.0))
        region = LabelMap.of_mask(np.asarray(ball.grid > 200), moved, name="r")
        with pytest.raises(GeometryError, match="mm apart"):
            intensity(ball, region, Intensity())


def test_every_step_says_what_it_does() -> None:
    from isocenter.recipe import STAGES

    assert STAGES["preprocess"] is STEPS
    for stage, table in STAGES.items():
        for name, kind in table.items():
            assert kind.summary, f"{stage} {name}"
            for field, info in kind.settings.model_fields.items():
                assert info.description, f"{stage} {name} {field} has no docstring"
