"""Denoising, contrast, intensity, grid: a published or analytic value, a law, a refusal each."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import skimage.exposure
import skimage.filters
import skimage.restoration
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import ndimage

from isocenter import preprocess as p
from isocenter.data.geometry import Geometry, Space
from isocenter.data.labels import LabelMap
from isocenter.data.volume import Quantity, Volume
from isocenter.errors import DegenerateImage, GeometryError, UnitError
from isocenter.ops import denoise, threads
from isocenter.ops import filter as filters
from isocenter.ops.clahe import clahe as ops_clahe
from isocenter.ops.histogram import equalised, histogram, li_cut, matched, percentiles
from isocenter.ops.itk import array_of, image_of, sitk
from isocenter.ops.slabs import by_slab

RNG = np.random.default_rng(5)
NOISY = (ndimage.gaussian_filter(RNG.normal(0, 1, (20, 40, 44)), 3) * 1000 + RNG.normal(0, 10, (20, 40, 44))).astype(
    np.float32
)


def volume(
    grid: np.ndarray,
    *,
    spacing: tuple = (2.0, 1.0, 0.5),
    quantity: Quantity = Quantity.ARBITRARY,
    space: Space = Space.PATIENT,
) -> Volume:
    return Volume(grid[None], Geometry.regular(grid.shape, spacing_mm=spacing, space=space), quantity)


def step_edge(noise: float) -> np.ndarray:
    grid = np.zeros((9, 32, 32), np.float32)
    grid[:, :, 16:] = 100
    return grid + np.random.default_rng(0).normal(0, noise, grid.shape).astype(np.float32)


DENOISERS = {
    "mean": p.Box(radius_mm=2), "median": p.Box(radius_mm=2), "gaussian": p.Gaussian(sigma_mm=1),
    "bilateral": p.Bilateral(sigma_mm=1), "non_local_means": p.NonLocalMeans(), "total_variation": p.TotalVariation(),
    "anisotropic_diffusion": p.AnisotropicDiffusion(),
}  # fmt: skip


class TestDenoise:
    def test_noise_of_a_smooth_image_is_found(self) -> None:
        assert filters.noise(NOISY) == pytest.approx(10, rel=0.03)
        assert filters.noise(np.zeros((3, 9, 9))) == 0

    @pytest.mark.parametrize("name", DENOISERS)
    def test_takes_noise_and_keeps_the_edge_and_the_unit(self, name: str) -> None:
        out = p.STEPS[name].run(volume(step_edge(10), spacing=(1.0, 1.0, 1.0), quantity=Quantity.HU), DENOISERS[name])
        assert out.quantity is Quantity.HU
        assert out.grid[:, 4:-4, 4:10].std() < 6
        assert out.grid[:, :, 20:].mean() - out.grid[:, :, :12].mean() == pytest.approx(100, abs=2)

    @pytest.mark.parametrize("name", DENOISERS)
    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_a_mirrored_image_gives_the_mirrored_answer(self, name: str, axis: int) -> None:
        here = NOISY[:8, :16, :18]
        run, settings = p.STEPS[name].run, DENOISERS[name]
        turned = run(volume(np.ascontiguousarray(np.flip(here, axis))), settings).grid
        assert np.flip(turned, axis) == pytest.approx(
            run(volume(here), settings).grid, abs=8 if name == "total_variation" else 0.02
        )

    @pytest.mark.parametrize("name", [*DENOISERS, "clahe", "unsharp_mask", "laplacian_sharpening"])
    def test_one_slice_is_filtered_in_its_plane(self, name: str) -> None:
        settings = (
            DENOISERS.get(name)
            or {
                "clahe": p.Clahe(),
                "unsharp_mask": p.UnsharpMask(sigma_mm=1),
                "laplacian_sharpening": p.LaplacianSharpening(),
            }[name]
        )
        out = p.STEPS[name].run(volume(NOISY[:1]), settings)
        assert out.grid.shape == (1, 40, 44)
        assert np.all(np.isfinite(out.grid))
        assert not np.array_equal(out.grid, NOISY[:1])

    def test_answers_do_not_depend_on_the_number_of_threads(self) -> None:
        big = np.random.default_rng(0).normal(0, 1, (40, 90, 90)).astype(np.float32)
        answers = []
        for count in (1, 2, 3):
            threads.limit(count)
            try:
                answers.append([
                    filters.gaussian(big, sigma=(1, 2, 3)), filters.mean(big, radius=(1, 2, 3)),
                    filters.gradient_magnitude(big, spacing=(1, 2, 3), sobel=True), filters.laplacian(big, spacing=(1, 2, 3)),
                    denoise.non_local_means(big[:12, :40], patch=(1, 1, 1), search=(1, 1, 1), strength=1, noise=1), equalised(big),
                ])  # fmt: skip
            finally:
                threads.limit(None)
        for other in answers[1:]:
            assert all(np.array_equal(a, b) for a, b in zip(answers[0], other, strict=True))

    @pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux alone tells which cores a process may use")
    def test_cores_are_those_that_the_process_was_given(self) -> None:
        code = (
            "import os; from isocenter.ops import threads; own = min(os.sched_getaffinity(0));"
            "os.sched_setaffinity(0, {own}); print(threads.allowed())"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "1"

    def test_against_other_libraries(self) -> None:
        assert filters.gaussian(NOISY, sigma=(1, 2, 0.5)) == pytest.approx(
            ndimage.gaussian_filter(NOISY, (1, 2, 0.5), mode="nearest"), abs=1e-3
        )
        assert filters.mean(NOISY, radius=(0, 1, 2)) == pytest.approx(
            ndimage.uniform_filter(NOISY, (1, 3, 5), mode="nearest"), abs=1e-3
        )
        assert filters.laplacian(NOISY, spacing=(1, 1, 1)) == pytest.approx(
            ndimage.laplace(NOISY, mode="nearest"), abs=1e-2
        )
        picture = NOISY[10] / 300
        ours = denoise.non_local_means(picture[None], patch=(0, 2, 2), search=(0, 4, 4), strength=0.1, noise=0.03)[0]
        theirs = skimage.restoration.denoise_nl_means(
            picture, patch_size=5, patch_distance=4, h=0.1, sigma=0.03, fast_mode=True
        )
        assert np.abs(ours - theirs)[6:-6, 6:-6].max() < 0.03 * np.ptp(picture)

    def test_total_variation_reaches_the_minimum_that_a_longer_run_of_another_solver_does(self) -> None:
        def energy(u: np.ndarray) -> float:
            slopes = sum(np.diff(u, axis=a, append=np.take(u, [-1], a)) ** 2 for a in range(3))
            return float(0.5 * ((u - NOISY) ** 2).sum() + 15 * np.sqrt(slopes).sum())

        ours = denoise.total_variation(NOISY, spacing=(1, 1, 1), weight=15, iterations=200, tolerance=0)
        theirs = skimage.restoration.denoise_tv_chambolle(NOISY, weight=15, eps=0, max_num_iter=600)
        assert energy(ours) <= energy(theirs) * 1.0005

    def test_a_thick_slice_binds_less(self) -> None:
        thin, thick = (
            denoise.total_variation(NOISY, spacing=(s, 1, 1), weight=20, iterations=60, tolerance=0) for s in (1, 10)
        )
        assert np.abs(np.diff(thick, axis=0)).mean() > np.abs(np.diff(thin, axis=0)).mean()

    def test_refusals(self) -> None:
        with pytest.raises(DegenerateImage, match="no noise"):
            p.non_local_means(volume(np.zeros((4, 8, 8), np.float32)), p.NonLocalMeans())
        with pytest.raises(UnitError, match="no millimetres"):
            p.mean(volume(NOISY[:1], space=Space.PIXELS), p.Box(radius_mm=1))
        with pytest.raises(DegenerateImage, match="hours"):
            p.bilateral(volume(NOISY, spacing=(0.1, 0.1, 0.1)), p.Bilateral(sigma_mm=5))
        with pytest.raises(ValidationError, match="not both"):
            p.Gaussian(sigma_mm=1, sigma_px=1)
        with pytest.raises(ValidationError, match="give sigma_mm"):
            p.Gaussian()

    def test_pixels_replace_a_default_in_millimetres(self) -> None:
        out = p.non_local_means(volume(NOISY[:1], space=Space.PIXELS), p.NonLocalMeans(patch_px=1, search_px=2))
        assert out.history[-1].results["search_voxels"] == [0, 2, 2]


class TestEnhance:
    def test_equalisation_gives_shares(self) -> None:
        out = equalised(np.asarray([[[1.0, 2, 2, 8]]]))
        assert out.ravel().tolist() == pytest.approx([1 / 8, 1 / 2, 1 / 2, 7 / 8])
        assert np.abs(equalised(NOISY) - skimage.exposure.equalize_hist(NOISY, nbins=65536)).max() < 0.002

    def test_matching_gives_the_others_percentiles(self) -> None:
        other = np.exp(NOISY / 200)
        out = matched(NOISY, other)
        assert percentiles(out, (5, 50, 95)) == pytest.approx(percentiles(other, (5, 50, 95)), rel=0.01)
        assert np.abs(out - skimage.exposure.match_histograms(NOISY, other)).max() < 0.01 * np.ptp(other)

    def test_clahe_with_one_tile_and_no_limit_is_equalisation(self) -> None:
        assert np.abs(ops_clahe(NOISY, tiles=(1, 1, 1), clip=1e9) - equalised(NOISY)).max() < 0.02

    def test_clahe_that_may_gain_nothing_keeps_the_picture(self) -> None:
        share = (NOISY - NOISY.min()) / np.ptp(NOISY)
        assert ops_clahe(NOISY, tiles=(2, 3, 4), clip=1) == pytest.approx(share, abs=0.01)

    def test_clahe_brings_out_what_hides_in_the_dark(self) -> None:
        grid = np.tile(np.where(np.arange(64) % 8 < 4, 0, 2).astype(np.float32), (1, 64, 1))
        grid[:, :32] += 200
        out = ops_clahe(grid, tiles=(1, 4, 4), clip=40)
        assert np.ptp(out[0, 60]) > 5 * 2 / 202

    @pytest.mark.parametrize("name", ["clahe", "gamma", "min_max", "percentile", "z_score", "contrast_stretching"])
    def test_a_flat_image_is_refused(self, name: str) -> None:
        settings = p.Gamma(gamma=2) if name == "gamma" else p.STEPS[name].settings()
        with pytest.raises(DegenerateImage):
            p.STEPS[name].run(volume(np.full((2, 4, 4), 7.0)), settings)

    def test_presets_are_levels_and_widths_in_hounsfield_units(self) -> None:
        out = p.window(volume(np.asarray([[[-1350.0, -600, 150]]]), quantity=Quantity.HU), p.Window(preset="lung"))
        assert out.grid.ravel().tolist() == pytest.approx([0, 0.5, 1])
        assert p.Window(level=40, width=400).ends == (-160, 240)
        with pytest.raises(UnitError):
            p.window(volume(NOISY), p.Window(preset="lung"))
        with pytest.raises(ValidationError, match="low and high, or level and width, or preset"):
            p.Window(low=1, preset="lung")

    @pytest.mark.parametrize(
        ("name", "settings"),
        [("histogram_equalization", {}), ("clahe", {}), ("gamma", {"gamma": 2}), ("z_score", {}), ("min_max", {}), ("percentile", {}),
         ("contrast_stretching", {}), ("window", {"low": 0, "high": 1}), ("invert", {})],
    )  # fmt: skip
    def test_a_broken_unit_is_said_and_a_threshold_in_it_refused(self, name: str, settings: dict) -> None:
        out = p.STEPS[name].run(volume(NOISY, quantity=Quantity.HU), p.STEPS[name].settings(**settings))
        assert out.history[-1].results["unit"] == "HU -> arbitrary"
        with pytest.raises(UnitError, match=f"preprocess.{name} turned HU -> arbitrary"):
            out.require_quantity(Quantity.HU)

    @pytest.mark.parametrize("name", ["unsharp_mask", "laplacian_sharpening"])
    def test_sharpening_keeps_the_unit_and_flat_parts(self, name: str) -> None:
        settings = p.UnsharpMask(sigma_mm=1) if name == "unsharp_mask" else p.LaplacianSharpening()
        out = p.STEPS[name].run(volume(step_edge(0), spacing=(1.0, 1.0, 1.0), quantity=Quantity.HU), settings)
        assert out.quantity is Quantity.HU
        assert out.grid[:, :, :8] == pytest.approx(np.zeros((9, 32, 8)), abs=1e-3)
        assert out.grid.max() > 105

    def test_gamma_and_inversion_by_hand(self) -> None:
        grid = np.asarray([[[0.0, 5, 10]]])
        assert p.gamma(volume(grid), p.Gamma(gamma=2)).grid.ravel().tolist() == pytest.approx([0, 2.5, 10])
        assert p.invert(volume(grid + 1), p.NoSettings()).grid.ravel().tolist() == [11, 6, 1]

    def test_colour_by_hand(self) -> None:
        geometry = Geometry.regular((1, 1, 2), space=Space.PIXELS)
        colour = Volume(np.asarray([[200, 10], [100, 10], [0, 10]], np.uint8).reshape(3, 1, 1, 2), geometry)
        take = lambda what: p.channel(colour, p.Channel(take=what)).grid.ravel().tolist()  # noqa: E731
        assert take("luminance") == pytest.approx([0.299 * 200 + 0.587 * 100, 10])
        assert take("saturation") == [1, 0]
        assert take("green") == [100, 10]
        with pytest.raises(GeometryError, match="three channels"):
            p.stain(volume(NOISY), p.StainSeparation())

    def test_a_pure_stain_is_found_alone(self) -> None:
        density = np.asarray((0.65, 0.70, 0.29)) / np.linalg.norm((0.65, 0.70, 0.29))
        pixel = (255 * 10 ** (-0.8 * density)).round().astype(np.uint8).reshape(3, 1, 1, 1)
        slide = Volume(pixel, Geometry.regular((1, 1, 1), space=Space.PIXELS))
        out = p.stain(slide, p.StainSeparation())
        assert out.grid[0, 0, 0] == pytest.approx(0.8, abs=0.01)
        assert p.stain(slide, p.StainSeparation(take="eosin", beside="haematoxylin")).grid[0, 0, 0] == pytest.approx(
            0, abs=0.01
        )
        assert out.quantity is Quantity.OPTICAL_DENSITY


class TestLi:
    def test_agrees_with_another_implementation(self) -> None:
        assert li_cut(*histogram(NOISY, bins=4096)) == pytest.approx(
            skimage.filters.threshold_li(NOISY), abs=0.02 * float(NOISY.std())
        )

    @given(st.floats(0.1, 10), st.floats(-100, 100))
    def test_follows_scale_and_shift(self, scale: float, shift: float) -> None:
        grid = NOISY[:4]
        moved = li_cut(*histogram(grid * scale + shift, bins=4096))
        assert moved == pytest.approx(
            li_cut(*histogram(grid, bins=4096)) * scale + shift, abs=0.02 * scale * float(grid.std())
        )


class TestGrid:
    def test_padding_adds_voxels_that_nobody_measured_and_moves_nothing(self) -> None:
        before = volume(NOISY)
        out = p.pad(before, p.Pad(margin_mm=2))
        assert out.geometry.shape == (22, 44, 52)
        assert out.geometry.index_to_world(np.asarray([[1.0, 2, 4]])) == pytest.approx(
            before.geometry.index_to_world(np.zeros((1, 3)))
        )
        assert out.not_measured is not None
        assert int((~out.not_measured).sum()) == NOISY.size
        back = p.crop(out, p.Crop(), within=LabelMap.of_mask(~out.not_measured, out.geometry, name="m"))
        assert np.array_equal(back.grid, NOISY)

    def test_padding_refuses_what_cannot_stand_in_the_image(self) -> None:
        with pytest.raises(GeometryError, match="cannot stand"):
            p.pad(volume(NOISY.astype(np.uint8)), p.Pad(margin_px=1, value=-1000))

    def test_onto_another_grid_keeps_places(self) -> None:
        source = volume(np.indices((10, 10, 10))[2].astype(np.float32), spacing=(1.0, 1.0, 1.0))
        target = volume(np.zeros((4, 4, 8), np.float32), spacing=(2.0, 2.0, 1.5))
        out = p.onto(source, target, p.Onto())
        assert out.geometry is target.geometry
        assert out.grid[2, 2, 1:5] == pytest.approx([1.5, 3, 4.5, 6], abs=0.05)
        assert out.not_measured[0, 0].tolist() == [False] * 7 + [True]
        with pytest.raises(GeometryError, match="space"):
            p.onto(source, replace(target, geometry=replace(target.geometry, space=Space.PIXELS)), p.Onto())

    def test_a_margin_in_voxels_needs_no_millimetres(self) -> None:
        grid = np.zeros((1, 20, 20), np.float32)
        grid[0, 8:12, 8:12] = 1
        assert p.crop(volume(grid, space=Space.PIXELS), p.Crop(margin_px=2)).geometry.shape == (1, 8, 8)
        with pytest.raises(UnitError):
            p.crop(volume(grid, space=Space.PIXELS), p.Crop(margin_mm=2))


class TestPlumbing:
    def test_a_chain_hands_images_on_without_copies(self) -> None:
        first = array_of(sitk.Median(image_of(NOISY), [1, 1, 1]))
        image = image_of(volume(first).grid, spacing=(1.0, 1.0, 1.0))
        assert image is image_of(first)
        assert np.shares_memory(array_of(image), first)
        assert image_of(first, spacing=(2.0, 1.0, 1.0)) is not image

    def test_memory_that_was_lent_lives_as_long_as_its_array(self) -> None:
        kept = [array_of(sitk.Median(image_of(NOISY + i), [1, 1, 1])) for i in range(4)]
        wanted = [ndimage.median_filter(NOISY + i, 3, mode="nearest") for i in range(4)]
        assert all(np.array_equal(a, b) for a, b in zip(kept, wanted, strict=True))

    @pytest.mark.parametrize("shape", [(40, 90, 90), (1, 600, 600)])
    def test_slabs_on_threads_see_their_neighbours(self, shape: tuple) -> None:
        grid = np.random.default_rng(1).normal(size=shape)
        halo = (3, 3, 0) if shape[0] > 1 else (0, 3, 0)
        size = [2 * h + 1 for h in halo]
        out = by_slab(lambda part: ndimage.maximum_filter(part, size, mode="nearest"), grid, halo=halo, threaded=True)
        assert np.array_equal(out, ndimage.maximum_filter(grid, size, mode="nearest"))

    def test_no_step_changes_its_input(self) -> None:
        before = NOISY.copy()
        for name, kind in p.STEPS.items():
            if kind.takes == "volume" and name in DENOISERS:
                kind.run(volume(NOISY), DENOISERS[name])
        assert np.array_equal(NOISY, before)
