"""Radiomic features: the standard's values, laws, refusals, and the commands."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import isocenter
from isocenter.data.geometry import Geometry, Space
from isocenter.data.labels import Label, LabelMap
from isocenter.data.volume import Quantity, Volume
from isocenter.errors import GeometryError, InputError, RecipeError
from isocenter.features import Radiomics, radiomics
from isocenter.features.catalogue import CODES, catalogue, names_of
from isocenter.features.compute import compute
from isocenter.features.digital_phantom import SPACING_MM, digital_phantom
from isocenter.features.maps import feature_maps
from isocenter.formats import nifti
from isocenter.ops import response
from isocenter.ops.autocorrelation import moran_and_geary
from isocenter.ops.hull import diameter, enclosing_ellipsoid, hull_of, oriented_box
from isocenter.ops.surface import mesh_volume_and_area
from isocenter.pipeline.conformance import CONFIGURATIONS, Compared
from isocenter.pipeline.extract import COLUMNS, extract_features, extract_table, load_settings, write_features
from tests.command import cli

CUBES = (1.0, 1.0, 1.0)


def textured(shape: tuple[int, ...] = (12, 14, 16), seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise, and an ellipsoid in it."""
    rng = np.random.default_rng(seed)
    axes = [np.linspace(-1, 1, n) for n in shape]
    far = axes[0][:, None, None] ** 2 + axes[1][:, None] ** 2 + axes[2] ** 2
    return rng.integers(-100, 200, shape).astype(np.int16), far < 0.7


def volume_and_mask(
    values: np.ndarray, mask: np.ndarray, spacing: tuple[float, float, float] = CUBES, quantity: Quantity = Quantity.HU
) -> tuple[Volume, LabelMap]:
    geometry = Geometry.regular(values.shape, spacing_mm=spacing)
    return Volume(values[None], geometry, quantity), LabelMap.of_mask(mask, geometry, name="region")


def numbers(values: np.ndarray, mask: np.ndarray, settings: Radiomics | None = None, **more: object) -> dict:
    spacing = more.pop("spacing", CUBES)
    rows = compute(values, mask, spacing, settings or Radiomics(), quantity=more.pop("quantity", Quantity.HU), **more)
    return {(row.family, row.name): row.value for row in rows}


class TestStandard:
    def test_every_reference_value_of_the_digital_phantom(self) -> None:
        rows = isocenter.ibsi()["digital"]
        known = [row for row in rows if row.holds is not None]
        assert len(known) == 482
        assert [row.tag for row in known if not row.holds] == []

    def test_the_ct_phantom(self, real_data: Callable[[str], Path]) -> None:
        found = isocenter.ibsi(real_data("ibsi") / "ct_phantom")
        for name in "AB":
            known = [row for row in found[name] if row.holds is not None]
            assert len(known) == 406
            assert [row.tag for row in known if not row.holds] == []
        volumes = {name: {row.tag: row.value for row in found[name]}["morph_volume"] for name in "CDE"}
        assert volumes == pytest.approx({"C": 367_000, "D": 367_000, "E": 367_000}, rel=0.005)

    def test_the_phantom_and_the_tables_of_the_initiative(self, real_data: Callable[[str], Path]) -> None:
        values, mask = digital_phantom()
        own = real_data("ibsi") / "digital_phantom"
        assert np.array_equal(isocenter.open(own / "image").volume().grid[::1], values)
        found = isocenter.ibsi(reference=real_data("ibsi") / "reference")["digital"]
        assert sum(row.holds is True for row in found) == 482
        assert int(mask.sum()) == 74

    def test_the_other_table_of_the_digital_phantom(self, real_data: Callable[[str], Path]) -> None:
        table = real_data("ibsi") / "reference" / "derived_digital_phantom_reference_values.csv"
        own = {row.tag: row.value for row in isocenter.ibsi()["digital"]}
        words = {"2d_avg": "2D_avg", "2d_s_mrg": "2D_comb", "3d_avg": "3D_avg", "3d_v_mrg": "3D_comb"}
        wrong = []
        for row in csv.DictReader(table.read_text().splitlines(), delimiter=";"):
            tag = row["tag"].replace("_d1", "")
            for theirs, ours in words.items():
                tag = tag.removesuffix(theirs) + ours if tag.endswith(theirs) else tag
            tag = tag[:-2] + tag[-2:].upper() if tag.endswith(("_2d", "_3d")) else tag
            if row["reference value"]:
                value, wanted = own[tag], float(row["reference value"])
                if abs(value - wanted) > float(row["tolerance"]) and float(f"{value:.3g}") != wanted:
                    wrong.append(tag)
        assert wrong == []

    def test_the_dicom_form_of_the_ct_phantom(self, real_data: Callable[[str], Path]) -> None:
        found = isocenter.ibsi(real_data("ibsi") / "ct_phantom_dicom")
        assert [row.tag for row in found["A"] + found["B"] if row.holds is False] == []

    def test_every_feature_has_an_identifier_of_its_own(self) -> None:
        known = catalogue().values()
        shared = {"BC2M", "GBPN"}  # one definition, at 10 % and at 90 %
        codes = [row.ibsi for row in known if row.ibsi not in shared]
        assert len(codes) == len(set(codes))
        assert len({row.tag for row in known}) == len(known) == 174
        assert all(len(row.ibsi) == 4 for row in known)

    def test_a_value_that_does_not_hold_is_exit_code_1(self, tmp_path: Path) -> None:
        (tmp_path / "ibsi_1_dig_phantom.csv").write_text(
            "tag;reference value;tolerance\nmorph_volume;600;1\nstat_mean;2.15;0\n"
        )
        done = cli("ibsi", "--reference", tmp_path, "--json")
        rows = {row["tag"]: row for row in json.loads(done.stdout)["configurations"]["digital"]}
        assert done.returncode == 1
        assert rows["morph_volume"]["holds"] is False
        assert rows["stat_mean"]["holds"] is True
        assert rows["stat_var"]["holds"] is None
        assert set(rows["stat_mean"]) == set(Compared.__dataclass_fields__)
        assert rows["cm_contrast_2_5D_avg"]["aggregation"] == "2_5D_avg"

    def test_a_folder_that_is_no_phantom(self, tmp_path: Path) -> None:
        done = cli("ibsi", tmp_path)
        assert done.returncode == 2
        assert "`image` and `mask`" in done.stderr

    def test_configurations_are_those_of_the_standard(self) -> None:
        assert CONFIGURATIONS["C"].bin_width == 25
        assert CONFIGURATIONS["E"].interpolation == "cubic"


class TestLaws:
    @given(st.integers(0, 1000))
    def test_texture_does_not_care_where_the_region_lies(self, seed: int) -> None:
        values, mask = textured((6, 7, 8), seed)
        settings = Radiomics(families=("glcm", "glrlm", "glszm", "gldzm", "ngtdm", "ngldm"), bin_count=8)
        moved = numbers(np.pad(values, ((2, 5), (3, 1), (4, 2))), np.pad(mask, ((2, 5), (3, 1), (4, 2))), settings)
        assert moved == numbers(values, mask, settings)

    @given(st.integers(0, 1000), st.permutations([0, 1, 2]), st.integers(0, 2))
    def test_turning_the_image_changes_nothing_in_space(self, seed: int, order: list[int], axis: int) -> None:
        values, mask = textured((6, 7, 8), seed)
        settings = Radiomics(families=("morphology", "glcm", "glrlm", "glszm", "gldzm", "ngtdm", "ngldm"), bin_count=8)
        turned = numbers(
            np.flip(values.transpose(order), axis).copy(), np.flip(mask.transpose(order), axis).copy(), settings
        )
        straight = numbers(values, mask, settings)
        assert {k: v for k, v in turned.items() if v} == pytest.approx(
            {k: v for k, v in straight.items() if v}, rel=1e-3
        )

    @given(st.integers(0, 1000), st.floats(0.5, 4))
    def test_shape_scales_with_the_voxel(self, seed: int, scale: float) -> None:
        values, mask = textured((6, 7, 8), seed)
        settings = Radiomics(families=("morphology",))
        one = numbers(values, mask, settings)
        other = numbers(values, mask, settings, spacing=(scale,) * 3)
        powers = {
            "volume": 3,
            "surface_area": 2,
            "maximum_3d_diameter": 1,
            "sphericity": 0,
            "moran_i": 0,
            "flatness": 0,
        }
        for name, power in powers.items():
            assert other["morphology", name] == pytest.approx(one["morphology", name] * scale**power, rel=1e-4)

    @given(st.integers(0, 1000), st.integers(1, 50))
    def test_a_number_of_bins_does_not_care_for_offset_and_gain(self, seed: int, offset: int) -> None:
        values, mask = textured((6, 7, 8), seed)
        settings = Radiomics(families=("histogram", "glcm", "ngtdm"), bin_count=16)
        assert numbers(values * 2 + offset, mask, settings) == numbers(values, mask, settings)

    def test_pairs_of_voxels_by_their_definition(self) -> None:
        values, mask = textured((5, 6, 7))
        places = np.argwhere(mask) * (2.0, 1.0, 0.7)
        x = values[mask].astype(float)
        away = np.linalg.norm(places[:, None] - places, axis=2)
        weights = np.where(away > 0, 1 / np.where(away > 0, away, 1), 0)
        d = x - x.mean()
        moran = len(x) / weights.sum() * (weights * np.outer(d, d)).sum() / (d @ d)
        geary = (len(x) - 1) / (2 * weights.sum()) * (weights * (x[:, None] - x) ** 2).sum() / (d @ d)
        assert moran_and_geary(values, mask, (2.0, 1.0, 0.7)) == pytest.approx((moran, geary), rel=1e-4)

    def test_bodies_around_a_box(self) -> None:
        mask = np.zeros((14, 24, 34), np.bool_)
        mask[2:12, 2:22, 2:32] = True
        hull = hull_of(mask, CUBES)
        assert hull.volume_mm3 == pytest.approx(
            10 * 20 * 30, rel=0.03
        )  # edges and corners are bevelled by half a voxel
        assert diameter(hull.points) == pytest.approx(np.linalg.norm((9, 19, 30)), abs=0.2)
        assert oriented_box(hull) == pytest.approx((6000, 2200), rel=1e-6)
        axes = enclosing_ellipsoid(np.asarray([(x, y, z) for x in (-3.0, 3) for y in (-2.0, 2) for z in (-1.0, 1)]))
        assert axes == pytest.approx(np.asarray([3, 2, 1]) * np.sqrt(3), rel=1e-2)

    def test_the_surface_of_a_ball(self) -> None:
        z, y, x = np.ogrid[-22:23, -22:23, -22:23]
        volume, area = mesh_volume_and_area(z**2 + y**2 + x**2 <= 400, CUBES)
        assert volume == pytest.approx(4 / 3 * np.pi * 20**3, rel=0.01)
        assert area == pytest.approx(4 * np.pi * 400, rel=0.12)  # a staircase has more


class TestMissing:
    @pytest.mark.parametrize("case", ["empty", "voxel", "flat", "range", "nan", "plane"])
    def test_what_cannot_be_computed_says_why(self, case: str) -> None:
        values, mask = textured()
        values = values.astype(np.float32)
        settings = Radiomics(range=(5000, 6000)) if case == "range" else Radiomics()
        if case == "empty":
            mask = np.zeros_like(mask)
        if case == "voxel":
            mask = np.zeros_like(mask)
            mask[5, 5, 5] = True
        if case == "flat":
            values[:] = 40
        if case == "nan":
            values[6, 7, 8] = np.nan
        if case == "plane":
            mask[:6] = mask[7:] = False
        rows = compute(values, mask, CUBES, settings, quantity=Quantity.HU)
        families = {row.family for row in rows}
        assert families == set(CODES)
        assert all((row.value is None) == bool(row.missing) for row in rows)
        assert all(row.value is None or np.isfinite(row.value) for row in rows)
        if case in {"empty", "nan"}:
            assert all(row.value is None for row in rows)
        if case == "plane":  # a region of one slice in a volume has a shape
            assert {r.name: r.value for r in rows if r.family == "morphology"}["volume"] > 0

    def test_every_family_is_whole_whatever_happens(self) -> None:
        values, mask = textured()
        for settings in (Radiomics(), Radiomics(range=(5000, 6000)), Radiomics(bin_width=1e-4)):
            rows = compute(values, mask, CUBES, settings, quantity=Quantity.HU)
            for family in CODES:
                names = [r.name for r in rows if r.family == family]
                skipped = 4 if family == "morphology" else 0  # the enclosing bodies, which were not asked for
                assert len(names) == len(names_of(family)) - skipped

    def test_too_many_grey_levels_are_no_crash(self) -> None:
        values, mask = textured()
        rows = compute(values, mask, CUBES, Radiomics(bin_width=0.01, families=("glcm",)), quantity=Quantity.HU)
        assert "wider `bin_width`" in rows[0].missing

    def test_below_the_first_bin(self) -> None:
        values, mask = textured()
        values[6, 7, 8] = -3024  # padding of a scanner
        rows = compute(values, mask, CUBES, Radiomics(families=("glcm",)), quantity=Quantity.HU)
        assert "-3024" in rows[0].missing

    def test_a_flat_picture_has_its_own_shape(self) -> None:
        values = np.random.default_rng(0).integers(0, 255, (3, 1, 40, 40)).astype(np.uint8)
        mask = np.zeros((1, 40, 40), np.bool_)
        mask[0, 10:30, 5:35] = True
        geometry = Geometry.regular((1, 40, 40), space=Space.PIXELS)
        found = radiomics(Volume(values, geometry), LabelMap.of_mask(mask, geometry, name="cell"), Radiomics())
        families = {f.family for f in found}
        assert {"shape_2d", "colour", "glcm"} <= families
        assert "morphology" not in families
        assert found.get("area", label="cell", family="shape_2d").unit == "px2"
        assert found.get("area", label="cell", family="shape_2d").value == pytest.approx(600, rel=0.01)
        assert found.get("rgb_red_mean", label="cell", family="colour").value == pytest.approx(0.5, abs=0.05)


class TestGeometry:
    def test_grids_that_differ(self, tmp_path: Path) -> None:
        values, mask = textured()
        image, labels = volume_and_mask(values, mask)
        nifti.write(image, tmp_path / "i.nii.gz")
        moved = Geometry.regular(values.shape, origin_mm=(0.0, 3.0, 0.0))
        nifti.write(replace(labels, geometry=moved), tmp_path / "m.nii.gz")
        with pytest.raises(GeometryError, match=r"3 mm apart.*--resample-mask"):
            extract_features(tmp_path / "i.nii.gz", tmp_path / "m.nii.gz")
        found = extract_features(tmp_path / "i.nii.gz", tmp_path / "m.nii.gz", resample_mask=True)
        assert found.get("volume", label="region", family="morphology").value > 0

    def test_a_sheared_grid(self) -> None:
        values, mask = textured()
        image, labels = volume_and_mask(values, mask)
        affine = image.geometry.affine.copy()
        affine[1, 0] = 0.3
        sheared = replace(image.geometry, affine=affine)
        with pytest.raises(GeometryError, match="sheared"):
            radiomics(replace(image, geometry=sheared), replace(labels, geometry=sheared), Radiomics())


class TestSettings:
    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ({"bin_width": 1, "bin_count": 4}, "not both"),
            ({"bin_width": -1}, "greater than 0"),
            ({"range": [4, 3]}, "lower end"),
            ({"families": ["glcmm"]}, "families"),
            ({"spacing_mm": 0}, "spacing"),
            ({"bins": 4}, "no such setting"),
            ({"setting": {"binWidht": 5}}, "binWidht"),
            ({"featureClass": {"glcmm": None}}, "glcmm"),
            ({"imageType": {"Original": {}, "Exponential": {}}}, "Exponential"),
            ({"setting": {"symmetricalGLCM": False}}, "symmetricalGLCM"),
            ({"setting": {"label": 7}}, "label"),
            ({"featureClass": {"glcm": ["Contrast"]}}, "single features"),
        ],
    )
    def test_refusals(self, wrong: dict, said: str) -> None:
        with pytest.raises(RecipeError, match=said):
            load_settings(wrong)

    def test_a_hostile_file(self, tmp_path: Path) -> None:
        (tmp_path / "s.yaml").write_text("a: &a [1,1]\nb: *a\n")
        with pytest.raises(RecipeError, match="refers to another"):
            load_settings(tmp_path / "s.yaml")
        (tmp_path / "s.yaml").write_text("!!python/object/apply:os.system ['true']")
        with pytest.raises(RecipeError, match="no YAML"):
            load_settings(tmp_path / "s.yaml")

    def test_a_parameter_file_of_pyradiomics(self) -> None:
        found = load_settings(
            {
                "setting": {
                    "binWidth": 10,
                    "resampledPixelSpacing": [1, 2, 3],
                    "interpolator": "sitkLinear",
                    "label": 1,
                },
                "imageType": {"Original": {}, "LoG": {"sigma": [1.0, 3.0]}},
                "featureClass": {"shape": None, "gldm": None},
            }
        )
        assert found.spacing_mm == (3, 2, 1)
        assert found.interpolation == "linear"
        assert found.families == ("morphology", "ngldm")
        assert [f.sigma_mm for f in found.filters] == [1.0, 3.0]

    def test_numbers_of_pyradiomics(self) -> None:
        """pyradiomics 3.0.1 with its defaults on the digital phantom in HU-like steps of 30, computed once there."""
        values, mask = digital_phantom()
        rows = compute(values * 30.0, mask, SPACING_MM, load_settings({"setting": {}}), quantity=Quantity.ARBITRARY)
        own = {(r.family, r.name): r.value for r in rows}
        for (family, name), wanted in PYRADIOMICS.items():
            assert own[family, name] == pytest.approx(wanted, rel=1e-6), name


PYRADIOMICS = {
    ("glcm", "contrast"): 6.998415568376907,
    ("glcm", "first_information_correlation"): -0.1568482348015498,
    ("glcm", "normalised_inverse_difference"): 0.8547388310226316,
    ("glrlm", "run_length_entropy"): 2.432074133543018,
    ("glrlm", "run_percentage"): 0.6798336798336797,
    ("glszm", "zone_size_variance"): 330.9600000000001,
    ("ngldm", "dependence_count_entropy"): 4.403738379915676,
    ("ngtdm", "busyness"): 7.2986380837242075,
    ("ngtdm", "strength"): 0.9337818627354846,
    ("histogram", "entropy"): 1.2656115555865235,
    ("statistics", "robust_mean_absolute_deviation"): 33.41501447983961,
    ("morphology", "volume"): 556.3333333333334,
    ("morphology", "sphericity"): 0.8429401437117412,
}


class TestFilters:
    def test_a_mean_is_a_mean(self) -> None:
        grid = np.zeros((9, 9, 9))
        grid[4, 4, 4] = 27
        found = response.mean(grid, 3, flat=False, boundary="zero")
        assert found[3:6, 3:6, 3:6] == pytest.approx(np.ones((3, 3, 3)))
        assert found.sum() == pytest.approx(27)

    def test_a_laplacian_of_an_impulse(self) -> None:
        grid = np.zeros((41, 41, 41))
        grid[20, 20, 20] = 1
        found = response.laplacian_of_gaussian(grid, (2.0, 2.0, 2.0), flat=False, boundary="zero")
        s = 2.0
        assert found[20, 20, 20] == pytest.approx(-3 / s**2 / (2 * np.pi * s**2) ** 1.5, rel=1e-9)
        assert abs(found.sum()) < 1e-3

    def test_laws_kernels_have_norm_one_and_turn(self) -> None:
        grid = np.zeros((15, 15, 15))
        grid[7, 7, 7] = 1
        one = response.laws(grid, "E5L5S5", boundary="zero")
        assert (one**2).sum() == pytest.approx(1)
        assert one[7, 7, 9] == 0 or abs(one[7, 7, 9]) > 0
        turned = response.laws(grid, "E5L5S5", rotations=True, boundary="zero")
        assert turned == pytest.approx(turned.transpose(2, 1, 0)[::-1], abs=1e-12)

    @pytest.mark.parametrize("kernel", ["LLL", "LLH", "HLH", "HHH"])
    def test_haar_of_a_constant(self, kernel: str) -> None:
        found = response.wavelet(np.full((8, 8, 8), 5.0), "haar", kernel=kernel, boundary="periodic")
        assert found == pytest.approx(np.full((8, 8, 8), 5 * 2**1.5 if kernel == "LLL" else 0.0), abs=1e-12)

    def test_a_gabor_filter_finds_its_wave(self) -> None:
        x = np.mgrid[:64, :64][1]
        wave = np.cos(2 * np.pi * x / 8)[None]
        across = response.gabor(wave, sigma=6, wavelength=8, gamma=1, theta=0, boundary="mirror")
        along = response.gabor(wave, sigma=6, wavelength=8, gamma=1, theta=np.pi / 2, boundary="mirror")
        assert across[0, 32, 32] > 50 * along[0, 32, 32]

    def test_simoncelli_bands_make_up_the_image(self) -> None:
        rng = np.random.default_rng(0)
        grid = rng.normal(size=(32, 32, 32))
        bands = [response.simoncelli(response.simoncelli(grid, level=n), level=n) for n in range(1, 5)]
        spectrum, whole = np.fft.fftn(sum(bands)), np.fft.fftn(grid)
        axes = np.meshgrid(*[np.fft.fftfreq(32) * 2] * 3, indexing="ij")
        middle = np.sqrt(sum(a**2 for a in axes))
        kept = (middle > 0.13) & (middle < 0.5)
        assert np.abs(spectrum[kept] - whole[kept]).max() < 1e-6 * np.abs(whole).max()

    def test_riesz_of_a_wave_is_its_quadrature(self) -> None:
        x = np.arange(32)
        wave = np.broadcast_to(np.cos(2 * np.pi * x / 8), (8, 8, 32)).copy()
        found = response.riesz_transform(wave, (1, 0, 0))
        assert found == pytest.approx(np.broadcast_to(np.sin(2 * np.pi * x / 8), (8, 8, 32)), abs=1e-9)
        assert response.riesz_transform(wave, (0, 1, 0)) == pytest.approx(np.zeros((8, 8, 32)), abs=1e-9)

    def test_features_of_a_response_say_whose_they_are(self) -> None:
        values, mask = textured()
        image, labels = volume_and_mask(values, mask)
        found = radiomics(image, labels, load_settings({"filters": [{"filter": "log", "sigma_mm": 2}]}))
        assert found.get("log_sigma_2_mean", label="region", family="statistics").unit == "[arb'U]"
        assert found.get("mean", label="region", family="statistics").unit == "[hnsf'U]"


class TestMaps:
    def test_a_map_agrees_with_the_region_about_a_voxel(self) -> None:
        values, mask = textured((9, 9, 9))
        mask[:] = True
        settings = Radiomics(bin_width=25, bin_origin=-1000, families=("statistics", "glcm", "glszm"))
        maps = feature_maps(values, mask, CUBES, settings, radius_mm=2.0, quantity=Quantity.HU)
        z, y, x = np.ogrid[:9, :9, :9]
        ball = (z - 4) ** 2 + (y - 4) ** 2 + (x - 4) ** 2 <= 4
        own = numbers(values, ball, settings)
        for key in (
            ("statistics", "mean"),
            ("glcm", "contrast"),
            ("glcm", "joint_entropy"),
            ("glszm", "zone_size_entropy"),
        ):
            assert maps[key][4, 4, 4] == pytest.approx(own[key], rel=1e-5)

    def test_maps_as_files(self, tmp_path: Path) -> None:
        values, mask = textured()
        image, labels = volume_and_mask(values, mask, spacing=(2.0, 1.0, 1.0))
        nifti.write(image, tmp_path / "i.nii.gz")
        nifti.write(labels, tmp_path / "m.nii.gz")
        (tmp_path / "s.yaml").write_text("bin_count: 8\nfamilies: [statistics, ngtdm]\n")
        done = cli("features", tmp_path / "i.nii.gz", tmp_path / "m.nii.gz", "-o", tmp_path / "f.csv", "--settings",
                   tmp_path / "s.yaml", "--maps", tmp_path / "maps", "--radius", 2)  # fmt: skip
        assert done.returncode == 0, done.stderr
        back = isocenter.open(tmp_path / "maps" / "statistics_mean.nii.gz").volume()
        assert back.geometry.distance_to(image.geometry) < 1e-3
        assert np.isfinite(back.grid[mask]).all()
        assert np.isnan(back.grid[~mask]).all()


class TestCommand:
    @pytest.fixture
    def pair(self, tmp_path: Path) -> Path:
        values, mask = textured()
        image, _ = volume_and_mask(values, mask)
        two = np.where(mask, 1, 0).astype(np.uint8)
        two[:, :, 8:] *= 2
        nifti.write(image, tmp_path / "i.nii.gz")
        nifti.write(LabelMap(two, image.geometry, (Label(1, "a"), Label(2, "b"))), tmp_path / "m.nii.gz")
        return tmp_path

    def rows(self, path: Path) -> list[dict[str, str]]:
        return list(csv.DictReader(path.read_text("utf-8").splitlines()))

    def test_one_row_a_feature(self, pair: Path) -> None:
        done = cli("features", pair / "i.nii.gz", pair / "m.nii.gz", "-o", pair / "f.csv")
        rows = self.rows(pair / "f.csv")
        assert done.returncode == 0, done.stderr
        assert tuple(rows[0]) == COLUMNS
        assert {row["label"] for row in rows} == {"region 1", "region 2"}
        assert {row["case"] for row in rows} == {"i"}
        assert len(rows) == 2 * 185 - 2 * 15 or len(rows) % 2 == 0

    def test_one_label(self, pair: Path) -> None:
        write_features(pair / "i.nii.gz", pair / "m.nii.gz", pair / "f.csv", label="2")
        assert {row["label"] for row in self.rows(pair / "f.csv")} == {"region 2"}
        write_features(pair / "i.nii.gz", pair / "m.nii.gz", pair / "f.csv", label=7)
        rows = self.rows(pair / "f.csv")
        assert all(
            row["missing"] == "the region is empty" and row["value"] == "" for row in rows if row["family"] != "region"
        )
        with pytest.raises(InputError, match="there are 1"):
            write_features(pair / "i.nii.gz", pair / "m.nii.gz", pair / "f.csv", label="liver")

    def test_a_table(self, pair: Path) -> None:
        (pair / "t.csv").write_text("case,image,mask,label\nP1,i.nii.gz,m.nii.gz,1\nP2,gone.nii.gz,m.nii.gz,1\n")
        done = cli("features", pair / "t.csv", "-o", pair / "f.csv")
        rows = self.rows(pair / "f.csv")
        assert done.returncode == 1
        assert {row["case"] for row in rows} == {"P1", "P2"}
        assert "gone.nii.gz" in next(row["missing"] for row in rows if row["case"] == "P2")

    def test_a_table_without_masks(self, pair: Path) -> None:
        (pair / "t.csv").write_text("image\ni.nii.gz\n")
        with pytest.raises(InputError, match="no column mask"):
            list(extract_table(pair / "t.csv"))

    def test_negative_numbers_are_numbers(self, pair: Path) -> None:
        write_features(pair / "i.nii.gz", pair / "m.nii.gz", pair / "f.csv")
        values = [row["value"] for row in self.rows(pair / "f.csv") if row["value"]]
        assert any(float(value) < 0 for value in values)

    def test_one_case_in_two_rows(self, pair: Path) -> None:
        (pair / "t.csv").write_text("case,image,mask\nP1,i.nii.gz,m.nii.gz\nP1,i.nii.gz,m.nii.gz\n")
        with pytest.raises(InputError, match="stands twice"):
            write_features(pair / "t.csv", None, pair / "f.csv", wide=True)

    def test_an_input_is_not_overwritten(self, pair: Path) -> None:
        with pytest.raises(InputError, match="an input itself"):
            write_features(pair / "i.nii.gz", pair / "m.nii.gz", pair / "i.nii.gz")

    def test_filters_keep_the_names_of_pyradiomics(self, pair: Path) -> None:
        (pair / "p.yaml").write_text(
            "imageType: {Original: {}, LoG: {sigma: [2.0]}, Wavelet: {}}\nfeatureClass: {firstorder: null, glcm: []}\n"
        )
        write_features(
            pair / "i.nii.gz", pair / "m.nii.gz", pair / "p.csv", settings=pair / "p.yaml", names="pyradiomics"
        )
        names = set(self.rows(pair / "p.csv")[0])
        assert {
            "log-sigma-2-0-mm-3D_firstorder_Mean",
            "wavelet-LLH_glcm_Contrast",
            "wavelet-LLL_firstorder_Mean",
        } <= names

    def test_tiny_voxels_do_not_hang(self) -> None:
        values, mask = textured()
        rows = compute(values, mask, (1e-4,) * 3, Radiomics(families=("local_intensity",)), quantity=Quantity.HU)
        assert "1 cm3" in rows[0].missing
        with pytest.raises(GeometryError, match="coarser"):
            compute(values, mask, CUBES, Radiomics(spacing_mm=1e-3), quantity=Quantity.HU)

    def test_names_of_pyradiomics(self, pair: Path) -> None:
        write_features(pair / "i.nii.gz", pair / "m.nii.gz", pair / "p.csv", names="pyradiomics")
        rows = self.rows(pair / "p.csv")
        assert len(rows) == 2
        assert {"Image", "Label", "original_shape_MeshVolume", "original_firstorder_Kurtosis"} <= set(rows[0])
        assert sum(name.startswith("original_") for name in rows[0]) == 102

    def test_a_recipe_writes_them_too(self, pair: Path) -> None:
        done = isocenter.run("radiomics", [pair / "i.nii.gz"], pair / "out", given={"masks": pair / "m.nii.gz"})
        assert done[0].usable
        assert done[0].folder is not None
        rows = self.rows(done[0].folder / "features.csv")
        assert {row["family"] for row in rows} >= set(CODES)
        page = (done[0].folder / "report.html").read_text("utf-8")
        assert "joint entropy" in page

    def test_which_region(self, pair: Path) -> None:
        done = cli("features", pair / "i.nii.gz")
        assert done.returncode == 2
        assert "which region" in done.stderr
