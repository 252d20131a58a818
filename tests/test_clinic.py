"""Measures that a clinic asks for, on phantoms computed by hand."""

from datetime import date
from pathlib import Path

import numpy as np
import pytest

import isocenter
from isocenter.analyse.calcium import CalciumScore, calcium_of
from isocenter.analyse.lesion import doubling_days, in_plane_diameters
from isocenter.data.geometry import Geometry
from isocenter.data.labels import Label, LabelMap
from isocenter.formats import nifti, nrrd
from tests.phantoms import write_series

SPACING = (3.0, 0.5, 0.5)


def heart(tmp_path: Path, *, slice_mm: float = 3.0, **header: object) -> Path:
    """Three spots: 8 mm2 up to 250 HU in two slices, 2 mm2 up to 500 HU, and 0.75 mm2 of noise."""
    hu = np.zeros((6, 40, 40), np.int16)
    hu[1:3, 10:14, 10:18] = 180
    hu[1:3, 11, 12] = 250
    hu[4, 20:22, 20:24] = 450
    hu[4, 20, 20] = 500
    hu[4, 30, 30:33] = 300
    write_series(tmp_path / "ct", hu, spacing=(slice_mm, 0.5, 0.5), change=lambda s: [stated(d, header) for d in s])
    geometry = isocenter.open(tmp_path / "ct").volume().geometry
    mask = np.zeros(hu.shape, np.uint8)
    mask[:, 5:35, 5:35] = 1
    nrrd.write_segments([LabelMap(mask, geometry, (Label(1, "LAD"),))], tmp_path / "m.seg.nrrd")
    return tmp_path / "ct"


def stated(dataset, header: dict):
    dataset.KVP = header.get("kvp", 120)
    dataset.ScanOptions = header.get("options", "ECG")
    if "contrast" in header:
        dataset.ContrastBolusAgent = header["contrast"]
    return dataset


def run(recipe: str, study: Path, tmp_path: Path, **given: Path):
    found = isocenter.run(
        recipe, [study], tmp_path / "out", given=given or {"masks": tmp_path / "m.seg.nrrd"}, force=True
    )[0]
    import json

    report = json.loads((found.folder / "report.json").read_text("utf-8")) if found.folder else {}
    return found, {f["statement"]: f["value"] for f in report.get("findings", ())}, report


class TestCalcium:
    def test_by_hand(self) -> None:
        hu = np.zeros((1, 20, 20))
        hu[0, 2:6, 2:10] = 180  # 32 pixels of 0.25 mm2
        found = calcium_of(hu, np.ones(hu.shape, np.bool_), pixel_mm2=0.25, slice_mm=3, settings=CalciumScore())
        assert (found.agatston, found.volume_mm3, found.mean_hu, found.spots) == (8.0, 24.0, 180.0, 1)

    def test_density_rules(self) -> None:
        for peak, weight in ((130, 1), (199, 1), (200, 2), (299, 2), (300, 3), (399, 3), (400, 4), (2000, 4)):
            hu = np.zeros((1, 5, 5))
            hu[0, 1:3, 1:3] = 130
            hu[0, 1, 1] = peak
            found = calcium_of(hu, np.ones(hu.shape, np.bool_), pixel_mm2=1, slice_mm=3, settings=CalciumScore())
            assert found.agatston == 4 * weight

    def test_a_report(self, tmp_path: Path) -> None:
        study = heart(tmp_path)
        found, values, _ = run("calcium-score", study, tmp_path)
        # 2 slices x 8 mm2 x 2 (250 HU) + 2 mm2 x 4 (500 HU); 0.75 mm2 is noise
        assert values["Agatston score of LAD"] == pytest.approx(2 * 8 * 2 + 2 * 4)
        assert values["Calcium volume of LAD"] == pytest.approx((2 * 32 + 8) * 0.25 * 3)
        assert found.verdict == "accepted"

    @pytest.mark.parametrize(
        ("header", "said"),
        [({"contrast": "Iohexol"}, "contrast agent"), ({"kvp": 100}, "120 kV"), ({"slice_mm": 1.0}, "3 mm")],
    )
    def test_what_is_refused(self, tmp_path: Path, header: dict, said: str) -> None:
        found, values, report = run("calcium-score", heart(tmp_path, **header), tmp_path)
        assert found.verdict == "refused"
        assert values == {}
        assert any(said in reason for reason in report["reasons"])

    def test_no_word_of_gating(self, tmp_path: Path) -> None:
        found, _, _ = run("calcium-score", heart(tmp_path, options="HELICAL MODE"), tmp_path)
        assert found.verdict == "review"


class TestComposition:
    def test_areas_and_densities(self, tmp_path: Path) -> None:
        hu = np.full((4, 60, 60), -1000, np.int16)
        mask = np.zeros(hu.shape, np.uint8)
        areas = {1: (slice(2, 22), 50), 2: (slice(24, 34), -100), 3: (slice(36, 46), 60), 4: (slice(48, 58), 45)}
        for value, (rows, level) in areas.items():
            hu[1:3, rows, 10:50] = level
            mask[1:3, rows, 10:50] = value
        hu[1, 2, 10:50] = 300  # bone in the muscle's mask does not count
        write_series(tmp_path / "ct", hu, spacing=(5.0, 1.0, 1.0), change=lambda s: [stated(d, {}) for d in s])
        geometry = isocenter.open(tmp_path / "ct").volume().geometry
        names = (Label(1, "muscle"), Label(2, "visceral fat"), Label(3, "liver"), Label(4, "spleen"))
        nrrd.write_segments([LabelMap(mask, geometry, names)], tmp_path / "m.seg.nrrd")
        found, values, _ = run("body-composition", tmp_path / "ct", tmp_path, masks=tmp_path / "m.seg.nrrd")
        assert values["Area of muscle"] == pytest.approx((20 * 40 * 2 - 40) / 2 / 100)
        assert values["Area of visceral fat"] == pytest.approx(4.0)
        assert values["Liver minus spleen"] == pytest.approx(15)
        assert found.verdict == "accepted"

    def test_names_that_are_none(self, tmp_path: Path) -> None:
        found, _, report = run("body-composition", heart(tmp_path), tmp_path)
        assert found.verdict == "refused"
        assert "muscle" in " ".join(report["reasons"])


class TestLesions:
    def test_diameters_of_a_box(self) -> None:
        mask = np.zeros((3, 30, 40), np.bool_)
        mask[1, 5:15, 10:34] = True
        found = in_plane_diameters(mask, (1.0, 1.0))
        assert found.long_mm == pytest.approx(np.hypot(24, 9), abs=0.2)
        assert found.slice == 1
        one = np.zeros((1, 20, 20), np.bool_)
        one[0, 10, 4:16] = True
        line = in_plane_diameters(one, (1.0, 0.5))
        assert (line.long_mm, line.short_mm) == pytest.approx((6.0, 1.0))

    def test_doubling(self) -> None:
        assert doubling_days(1.0, 2.0, 90) == pytest.approx(90)
        assert doubling_days(1.0, 4.0, 90) == pytest.approx(45)
        assert doubling_days(2.0, 1.0, 90) == pytest.approx(-90)
        assert doubling_days(1.0, 1.0, 90) is None

    @pytest.mark.parametrize(("side", "grown"), [(16, True), (10, False)])
    def test_growth_between_two_studies(self, tmp_path: Path, side: int, grown: bool) -> None:
        masks = {}
        for name, size, day in (("earlier", 10, "20260101"), ("now", side, "20260401")):
            hu = np.zeros((24, 40, 40), np.int16)
            hu[4 : 4 + size, 8 : 8 + size, 8 : 8 + size] = 60

            def dated(slices: list, day: str = day) -> list:
                for dataset in slices:
                    dataset.StudyDate = day
                return slices

            write_series(tmp_path / name, hu, spacing=(1.0, 1.0, 1.0), change=dated)
            geometry = isocenter.open(tmp_path / name).volume().geometry
            masks[name] = tmp_path / f"{name}.nii.gz"
            nifti.write(LabelMap.of_mask(hu > 0, geometry, name="nodule"), masks[name])
        _, values, report = run(
            "growth",
            tmp_path / "now",
            tmp_path,
            masks=masks["now"],
            earlier=tmp_path / "earlier",
            earlier_masks=masks["earlier"],
        )
        change = (side / 10) ** 3 - 1
        name = next(key for key in values if key.startswith("Change of volume"))
        assert values[name] == pytest.approx(100 * change)
        days = (date(2026, 4, 1) - date(2026, 1, 1)).days
        doubling = [value for key, value in values.items() if key.startswith("Doubling")]
        assert doubling == ([pytest.approx(days / np.log2(1 + change))] if grown else [])
        checks = " ".join(c["message"] for c in report["check_results"])
        assert ("cannot be told from noise" in checks) is not grown
        assert not any("earlier_masks" in key for key in report["masks"])


def test_geometry_is_where_the_masks_are() -> None:
    assert Geometry.regular((2, 2, 2), spacing_mm=SPACING).spacing_mm == SPACING
