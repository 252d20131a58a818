"""What once went wrong, or could go wrong without a word: odd values, odd grids, wrong pictures, wrong wiring."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import isocenter
from isocenter import preprocess as p
from isocenter import segment as s
from isocenter.data.geometry import Geometry, Space
from isocenter.data.labels import LabelMap
from isocenter.data.volume import Quantity, Volume
from isocenter.errors import DegenerateImage, GeometryError, InputError, RecipeError
from isocenter.formats import nifti
from isocenter.recipe import parse
from tests.phantoms import write_series
from tests.test_organs import SPACING, chest, head, image, report

HEAD = "name: w\ntitle: {en: a, zh: a}\ndescription: {en: a, zh: a}\n"


def spoilt(value: float) -> Volume:
    grid = head().voxels.copy()
    grid[0, 3, 4, 5] = value
    return Volume(grid, head().geometry)


class TestValues:
    @pytest.mark.parametrize("value", [np.nan, np.inf, 1e38])
    @pytest.mark.parametrize("name", ["gaussian", "z_score", "min_max", "register", "median"])
    def test_values_without_an_answer_are_refused(self, name: str, value: float, tmp_path: Path) -> None:
        nifti.write(spoilt(value), tmp_path / "i.nii.gz")
        settings = {"gaussian": {"sigma_mm": 2}, "median": {"radius_mm": 2}}.get(name)
        other = tmp_path / "i.nii.gz" if name == "register" else None
        with pytest.raises(DegenerateImage, match="not finite"):
            isocenter.try_step(name, tmp_path / "i.nii.gz", tmp_path / "x.png", settings=settings, to=other)

    @pytest.mark.parametrize(
        "name",
        [
            "min_max",
            "z_score",
            "percentile",
            "contrast_stretching",
            "histogram_equalization",
            "clahe",
            "gamma",
            "invert",
        ],
    )
    def test_large_offsets_lose_no_contrast(self, name: str) -> None:
        small = np.clip(head().voxels, 0, 1000).astype(np.int64)
        settings = p.Gamma(gamma=2) if name == "gamma" else p.STEPS[name].settings()
        answers = [p.STEPS[name].run(Volume(v, head().geometry), settings).grid for v in (small, small + 2_000_000_000)]
        moved = answers[1] - (answers[1].min() - answers[0].min())
        tolerance = 400 if name in ("gamma", "invert") else 0.01  # these two give back the offset, in single precision
        assert np.abs(moved - answers[0]).max() < tolerance

    def test_half_precision_is_taken_as_single(self) -> None:
        half = Volume(head().voxels.astype(np.float16), head().geometry)
        assert half.voxels.dtype == np.float32
        assert np.all(np.isfinite(p.gaussian(half, p.Gaussian(sigma_mm=2)).grid))

    def test_padding_cannot_overflow(self) -> None:
        with pytest.raises(GeometryError, match="cannot stand"):
            p.pad(head(), p.Pad(margin_mm=3, value=1e300))

    def test_an_empty_mask_and_nan_in_a_region_are_said(self, tmp_path: Path) -> None:
        nifti.write(spoilt(np.nan), tmp_path / "i.nii.gz")
        mask = np.zeros(head().geometry.shape, np.bool_)
        nifti.write(LabelMap.of_mask(mask, head().geometry, name="m"), tmp_path / "empty.nii.gz")
        mask[2:5, 3:6, 4:7] = True
        nifti.write(LabelMap.of_mask(mask, head().geometry, name="m"), tmp_path / "m.nii.gz")
        (empty,) = isocenter.run(
            "volume", [tmp_path / "i.nii.gz"], tmp_path / "o1", given={"masks": tmp_path / "empty.nii.gz"}
        )
        assert (empty.verdict, "no voxel" in " ".join(empty.reasons)) == ("review", True)
        isocenter.run("volume", [tmp_path / "i.nii.gz"], tmp_path / "o2", given={"masks": tmp_path / "m.nii.gz"})
        missing = {f["name"]: f["missing"] for f in report(tmp_path / "o2")["features"]}
        assert "not finite" in missing["mean"]


class TestGrids:
    @pytest.mark.parametrize("name", ["otsu", "li", "z_score", "crop", "chan_vese", "histogram_equalization"])
    def test_a_mask_of_another_grid_is_refused(self, name: str) -> None:
        kind = {**p.STEPS, **s.STEPS}[name]
        mask = np.asarray(head().grid > 100)
        for geometry in (Geometry.regular(mask.shape, spacing_mm=(9, 9, 9)), Geometry.regular((2, 2, 2))):
            other = LabelMap.of_mask(
                mask if geometry.shape == mask.shape else np.ones((2, 2, 2), np.bool_), geometry, name="m"
            )
            with pytest.raises(GeometryError, match="grid"):
                kind.run(head(), kind.settings(), within=other)

    @pytest.mark.parametrize("size", [100, 400])
    def test_a_picture_mask_of_another_size_is_refused(self, tmp_path: Path, size: int) -> None:
        Image.fromarray((np.arange(200 * 200).reshape(200, 200) % 251).astype(np.uint8)).save(tmp_path / "i.png")
        Image.fromarray(np.full((size, size), 255, np.uint8)).save(tmp_path / "m.png")
        (result,) = isocenter.run("volume", [tmp_path / "i.png"], tmp_path / "out", given={"masks": tmp_path / "m.png"})
        assert result.verdict == "refused"
        assert "image's size" in result.reasons[0]

    def test_volumes_of_other_grids_in_the_report(self, tmp_path: Path) -> None:
        nifti.write(head(), tmp_path / "i.nii.gz")
        steps = "steps:\n  - segment: otsu\n    as: fg\n  - preprocess: pad\n    margin_mm: 9\n    as: wide\n"
        (tmp_path / "a.yaml").write_text(HEAD + steps + "report:\n  image: wide\n  overlay: fg\n", "utf-8")
        assert isocenter.run(tmp_path / "a.yaml", [tmp_path / "i.nii.gz"], tmp_path / "a")[0].usable
        (tmp_path / "b.yaml").write_text(HEAD + steps + "report:\n  compare: [original, wide]\n", "utf-8")
        (result,) = isocenter.run(tmp_path / "b.yaml", [tmp_path / "i.nii.gz"], tmp_path / "b")
        assert "do not lie on one grid" in result.reasons[0]

    @pytest.mark.parametrize(
        ("text", "words"),
        [("report:\n  window: [100, 100]\n", "below white"), ("report:\n  window: [.nan, 1]\n", "finite"), ("  - segment: li\n    as: fg\n", "is taken")],
    )  # fmt: skip
    def test_recipes_that_cannot_be_meant(self, text: str, words: str) -> None:
        with pytest.raises(RecipeError, match=words):
            parse(HEAD + "steps:\n  - segment: otsu\n    as: fg\n" + text, source="r.yaml")


class TestPictures:
    def test_a_photograph_is_no_radiograph_and_a_grey_picture_no_smear(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        Image.fromarray(rng.integers(0, 255, (200, 200, 3)).astype(np.uint8)).save(tmp_path / "c.png")
        Image.fromarray(rng.integers(0, 255, (200, 200)).astype(np.uint8)).save(tmp_path / "g.png")
        (colour,) = isocenter.run("xray", [tmp_path / "c.png"], tmp_path / "o1")
        (grey,) = isocenter.run("microscopy", [tmp_path / "g.png"], tmp_path / "o2")
        assert [r.verdict for r in (colour, grey)] == ["refused", "refused"]
        for out in ("o1", "o2"):
            said = report(tmp_path / out)
            assert (said["findings"], said["features"]) == ([], [])

    def test_a_colour_picture_can_be_tried_and_it_is_said(self, tmp_path: Path) -> None:
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 60, 3)).astype(np.uint8)).save(
            tmp_path / "c.png"
        )
        found = isocenter.try_step("otsu", tmp_path / "c.png", tmp_path / "o.png")
        assert [step.name for step in found.before.history] == ["acquire.raster", "preprocess.channel"]


class TestRegistration:
    def test_an_image_on_itself_stays(self) -> None:
        out, transform = p.register(head(), head(), p.Register())
        assert np.abs(transform.matrix - np.eye(4)).max() < 0.02
        assert out.history[-1].results["mutual_information"] >= out.history[-1].results["mutual_information_before"]

    def test_it_is_never_worse_than_the_files_own_coordinates(self) -> None:
        rng = np.random.default_rng(1)
        noise = Volume(rng.normal(0, 1, head().voxels.shape).astype(np.float32), head().geometry)
        out, _ = p.register(noise, head(), p.Register(kind="affine"))
        results = out.history[-1].results
        assert results["mutual_information"] >= results["mutual_information_before"]

    def test_what_is_too_small_is_refused(self) -> None:
        tiny = Volume(np.ones((1, 1, 1, 1)), Geometry.regular((1, 1, 1)))
        with pytest.raises(GeometryError, match="too small"):
            p.register(tiny, tiny, p.Register())


class TestChest:
    def test_a_lung_cut_at_the_side_is_at_least(self) -> None:
        hu, _ = chest()
        middle = hu.shape[2] // 2
        cut = hu[:, :, middle - 60 :]  # through the right lung
        volume = image(np.ascontiguousarray(cut))
        labels = s.lungs(volume, s.Lungs(), within=s.body(volume, s.Body()))
        assert labels.history[-1].results["cut_off"] == ["R"]
        assert [label.name for label in labels.labels] == ["lung", "airways"]
        ml = labels.mask("lung").sum() * volume.geometry.voxel_volume_mm3 / 1000
        assert ml > 1500

    def test_gas_opposite_a_single_lung_is_no_lung(self) -> None:
        hu, true = chest()
        hu = hu.astype(np.float64)
        z, y, x = np.ogrid[: hu.shape[0], : hu.shape[1], : hu.shape[2]]
        middle = [n * sp / 2 for n, sp in zip(hu.shape, SPACING, strict=True)]
        left = ((z * 2.5 - middle[0] + 10) / 100) ** 2 + ((y * 1.6 - middle[1]) / 65) ** 2 + (
            (x * 1.6 - middle[2] - 70) / 50
        ) ** 2 < 1
        hu[left] = 40
        gas = (z * 2.5 - 60) ** 2 + (y * 1.6 - middle[1]) ** 2 + (x * 1.6 - middle[2] - 70) ** 2 < 38**2
        hu[gas] = -1000
        volume = image(hu.astype(np.int16))
        labels = s.lungs(volume, s.Lungs(), within=s.body(volume, s.Body()))
        assert [label.name for label in labels.labels] == ["lung", "airways"]
        size = labels.mask("lung").sum() * volume.geometry.voxel_volume_mm3 / 1000
        assert size == pytest.approx(true["right lung"], rel=0.02)

    def test_a_result_drawn_on_another_series_is_for_review(self, real_data: object, tmp_path: Path) -> None:
        case = isocenter.open(real_data("sts_dicom"))
        uid = next(series.uid for series in case.series if series.modality == "CT")
        mr = next(series.uid for series in case.series if series.modality == "MR")
        drawn = next(r.file for r in case.results if r.series_uid == mr)
        (result,) = isocenter.run(
            "volume", [real_data("sts_dicom")], tmp_path / "out", series=uid, given={"masks": drawn}
        )
        assert result.verdict == "review"
        assert "drawn on another series" in " ".join(result.reasons)


class TestWays:
    def test_what_is_brought_is_looked_for_before_anything_runs(self, tmp_path: Path) -> None:
        nifti.write(head(), tmp_path / "i.nii.gz")
        for path, words in ((tmp_path / "none.nii", "is not there"), ("{case}/{x}.nii", "no placeholder")):
            with pytest.raises(InputError, match=words):
                isocenter.run("volume", [tmp_path / "i.nii.gz"], tmp_path / "out", given={"masks": path})

    def test_a_file_without_a_unit_says_so(self) -> None:
        with pytest.raises(GeometryError, match="the file states no unit"):
            s.threshold(head(), s.Threshold(low=0, unit=Quantity.HU))

    def test_a_length_in_millimetres_names_the_other_setting(self) -> None:
        flat = Volume(np.ones((1, 1, 9, 9)), Geometry.regular((1, 9, 9), space=Space.PIXELS))
        with pytest.raises(GeometryError, match="give sigma_px"):
            p.gaussian(flat, p.Gaussian(sigma_mm=1))

    def test_a_folder_of_results_alone_has_no_image(self, real_data: object) -> None:
        file = next(r.file for r in isocenter.open(real_data("sts_dicom")).results)
        with pytest.raises(InputError, match="holds no image"):
            isocenter.open(file).volume()

    def test_a_run_of_another_recipe_keeps_the_first_ones_results(self, tmp_path: Path) -> None:
        write_series(tmp_path / "s", np.clip(head().voxels[0], 0, 900).astype(np.int16))
        isocenter.run("overview", [tmp_path / "s"], tmp_path / "out")
        (tmp_path / "o.yaml").write_text(HEAD + "steps:\n  - segment: li\n    as: x\n", "utf-8")
        (result,) = isocenter.run(tmp_path / "o.yaml", [tmp_path / "s"], tmp_path / "out")
        assert result.case == "s-2"
