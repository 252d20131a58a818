"""The series doctor: every defect is named, what can be mended is mended rightly, and nothing passes in silence."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import isocenter
from isocenter import Policy
from isocenter.acquire.codes import CODES
from isocenter.data.case import Series
from isocenter.data.volume import Quantity, Volume
from isocenter.errors import AmbiguousSelection, InputError, IrregularSeries
from isocenter.preprocess import Crop, Orient, Resample, crop, orient, resample
from tests.defects import (
    ROWS,
    Slices,
    Spoil,
    enhanced,
    every,
    localizer,
    long_strings,
    moved,
    one,
    other_pixels,
    renamed,
    resized,
    tilted,
    without,
)  # fmt: skip
from tests.phantoms import write_series

VOXELS = np.random.default_rng(0).integers(-1000, 1500, (12, 16, 20)).astype(np.int16)
REPAIR, STRICT, REPORT = Policy(), Policy("strict"), Policy("report")


def inspected(
    folder: Path, spoil: Spoil, *, policy: Policy = REPAIR, voxels: np.ndarray = VOXELS, **more: object
) -> tuple[Series, ...]:
    write_series(folder, voxels, change=spoil, **more)
    return isocenter.inspect(folder, policy=policy).series


def codes(series: Series) -> set[str]:
    return {d.code for d in series.defects}


def field(points: np.ndarray) -> np.ndarray:
    """A density that rises linearly along all three axes: linear interpolation must give it back exactly."""
    return points @ np.asarray([2.0, 3.0, 4.0]) + 200


def linear(slices: Slices) -> Slices:
    """Give each slice the density of the places where its pixels lie (whole numbers of a tenth)."""
    for ds in slices:
        row, column = np.asarray(ds.ImageOrientationPatient[:3]), np.asarray(ds.ImageOrientationPatient[3:])
        h, w = np.meshgrid(np.arange(ds.Rows), np.arange(ds.Columns), indexing="ij")
        places = (
            np.asarray(ds.ImagePositionPatient)
            + h[..., None] * column * ds.PixelSpacing[0]
            + w[..., None] * row * ds.PixelSpacing[1]
        )
        ds.RescaleSlope, ds.RescaleIntercept = 0.03, -1024
        ds.PixelData = np.rint((field(places) + 1024) / 0.03).astype("<u2").tobytes()
    return slices


def agrees(volume: Volume, *, within: float) -> np.ndarray:
    """Every voxel holds the density of its place; which do not because no slice reaches them (padded with air)."""
    index = np.argwhere(np.ones(volume.geometry.shape, np.bool_)).astype(np.float64)
    meant = field(volume.geometry.index_to_world(index)).reshape(volume.geometry.shape)
    outside = np.asarray(volume.grid == -1024)
    assert np.abs(volume.grid - meant)[~outside].max() < within
    return outside


class TestRows:
    @pytest.mark.parametrize("name", ROWS)
    def test_every_defect_is_named_and_the_volume_is_right(self, tmp_path: Path, name: str) -> None:
        code, spoil = ROWS[name]
        found = inspected(tmp_path, spoil)
        assert found[0].verdict == ("ok" if spoil is long_strings else "repaired")
        assert code in codes(found[0])
        assert [s.localizer for s in found[1:]] == ([True] if code == "localizer" else [])
        volume = isocenter.open(tmp_path).volume()
        wanted = 2.5 * np.cos(np.deg2rad(15)) if code == "gantry-tilt" else 2.5
        assert volume.geometry.spacing_mm == pytest.approx((wanted, 0.8, 0.8))
        assert volume.quantity is Quantity.HU
        if code != "gantry-tilt":
            measured = [i for i in range(12) if i != 5] if code == "missing-slice" else list(range(12))
            assert np.array_equal(volume.grid[measured], VOXELS[measured])

    @pytest.mark.parametrize("name", [n for n, (_, spoil) in ROWS.items() if spoil is not long_strings])
    def test_strict_refuses_it(self, tmp_path: Path, name: str) -> None:
        found = inspected(tmp_path, ROWS[name][1], policy=STRICT)
        assert found[0].verdict == "refused"
        with pytest.raises(IrregularSeries, match="the policy is strict"):
            found[0].volume()

    @pytest.mark.parametrize("name", ROWS)
    def test_report_gives_no_volume_of_an_irregular_stack(self, tmp_path: Path, name: str) -> None:
        code, spoil = ROWS[name]
        (first, *_) = inspected(tmp_path, spoil, policy=REPORT)
        assert code in codes(first)
        irregular = code in ("missing-slice", "duplicate-slice", "localizer", "gantry-tilt")
        mended = "ok" if spoil is long_strings else "repaired"
        assert first.verdict == ("refused" if irregular else mended)

    @pytest.mark.parametrize("name", [n for n, (code, _) in ROWS.items() if code != "instance-number"])
    def test_the_enhanced_form_is_named_too(self, tmp_path: Path, name: str) -> None:
        code, spoil = ROWS[name]
        if spoil is long_strings:
            spoil = lambda s: every(s, FrameOfReferenceUID="1." + "2" * 70)  # noqa: E731
            found = inspected(tmp_path, lambda s: [enhanced(spoil(s))])
            assert "invalid-value" in codes(found[0])
            return
        found = inspected(tmp_path, lambda s: [enhanced(spoil(s))])
        assert found[0].verdict == "repaired"
        assert code in codes(found[0])
        assert isocenter.open(tmp_path).volume().geometry.shape[0] == 12

    @pytest.mark.parametrize(("first", "second"), list(itertools.combinations(ROWS, 2)))
    def test_two_at_once_are_both_named(self, tmp_path: Path, first: str, second: str) -> None:
        order = ["orientation string over 16 characters", "gantry tilt 15 degrees"]  # they write over what they find
        first, second = sorted((first, second), key=lambda n: order.index(n) if n in order else 9)
        found = inspected(tmp_path, lambda s: ROWS[second][1](ROWS[first][1](s)))
        assert found[0].defects
        if found[0].usable:
            assert {ROWS[first][0], ROWS[second][0]} <= set().union(*(codes(s) for s in found))
            assert found[0].volume().geometry.shape[0] in (11, 12)


class TestOthers:
    @pytest.mark.parametrize(
        ("code", "verdict", "says", "spoil"),
        [
            ("uneven-spacing", "repaired", "uneven spacing", lambda s: moved(s, 6, z=0.6)),
            ("missing-slice", "refused", r"2 slice\(s\) missing .* 7.50 mm", lambda s: s[:5] + s[7:]),
            ("duplicate-slice", "refused", "different pixels", lambda s: [*s, other_pixels(s[4])]),
            ("mixed-orientation", "repaired", "6 of 12", lambda s: [*s[:6], *(localizer(x) for x in s[6:])]),
            ("mixed-size", "repaired", "different sizes", lambda s: resized(s, 11)),
            ("mixed-spacing", "repaired", "different pixel spacings", lambda s: one(s, 11, PixelSpacing=[0.9, 0.9])),
            ("frame-of-reference", "repaired", "frames of reference", lambda s: one(s, 11, FrameOfReferenceUID="1.2")),
            ("mixed-rescale", "repaired", "each rescaled by its own", lambda s: one(s, 3, RescaleIntercept=-1000)),
            ("malformed-geometry", "refused", "beside the line", lambda s: moved(s, 6, x=3.0)),
            ("malformed-geometry", "repaired", "left out", lambda s: without(s, 11, "ImagePositionPatient")),
            ("malformed-geometry", "refused", "perpendicular", lambda s: every(s, ImageOrientationPatient=[1, 0, 0, 1, 0, 0])),
            ("missing-rescale", "refused", "measures nothing known", lambda s: without(s, 2, "RescaleSlope")),
            ("missing-rescale", "ok", "no Hounsfield units are claimed", lambda s: every(s, RescaleType="US")),
            ("implausible-spacing", "refused", "0.001 x 0.001", lambda s: every(s, PixelSpacing=[0.001, 0.001])),
            ("invalid-value", "refused", "cannot be right", lambda s: every(s, RescaleSlope=0)),
            ("invalid-value", "ok", "StudyID has 20 characters", lambda s: every(s, StudyID="1" * 20)),
            ("time-inconsistent", "ok", "before the study", lambda s: every(s, AcquisitionDate="20250101")),
            ("time-inconsistent", "ok", "born after", lambda s: every(s, PatientBirthDate="20300101")),
            ("several-patients", "refused", "2 patients", lambda s: one(s, 2, PatientID="P-2")),
            ("instance-number", "repaired", "absent in", lambda s: every(s, InstanceNumber=None)),
            ("several-volumes", "repaired", "acquisition", lambda s: s + [renamed(one([x], 0, AcquisitionNumber=2)[0]) for x in map(other_pixels, every(s, AcquisitionNumber=1))]),
        ],
    )  # fmt: skip
    def test_it_is_named(self, tmp_path: Path, code: str, verdict: str, says: str, spoil: Spoil) -> None:
        import re

        (first, *_) = inspected(tmp_path, spoil)
        assert first.verdict == verdict
        assert code in codes(first)
        assert re.search(
            says.replace("acquisition", "AcquisitionNumber"), "; ".join(str(d.said) for d in first.defects)
        )

    def test_every_code_that_is_raised_is_listed(self) -> None:
        import re

        sources = Path(isocenter.__file__).parent
        said = {
            code
            for file in (*sources.glob("acquire/*.py"), *sources.glob("formats/*.py"))
            for code in re.findall(
                r'(?:refused|noted|mended|Defect|fault=)\(\s*\(?"([a-z0-9-]+)"', file.read_text("utf-8")
            )
        }
        assert said <= set(CODES), said - set(CODES)
        assert len(said) > 15

    def test_every_code_is_documented(self) -> None:
        page = (Path(__file__).parents[1] / "docs" / "en" / "defects.md").read_text("utf-8")
        assert [code for code in CODES if f"`{code}`" not in page] == []

    def test_echoes_become_volumes_that_can_be_named(self, tmp_path: Path) -> None:
        def echoes(slices: Slices) -> Slices:
            return every(slices, EchoTime=4.0) + every([renamed(s) for s in slices], EchoTime=80.0)

        found = inspected(tmp_path, echoes, modality="MR", voxels=np.abs(VOXELS))
        assert [(s.shape, codes(s)) for s in found] == [((12, 16, 20), {"several-volumes"})] * 2
        case = isocenter.open(tmp_path)
        with pytest.raises(AmbiguousSelection, match="#1"):
            case.volume()
        assert case.volume(found[1].key).geometry.shape == (12, 16, 20)

    def test_a_truncated_file_is_named_and_its_slice_is_filled(self, tmp_path: Path) -> None:
        file = write_series(tmp_path, VOXELS)[4]
        file.write_bytes(file.read_bytes()[:-100])
        case = isocenter.open(tmp_path)
        assert [r.file for r in case.refused_files] == [file]
        assert codes(case.series[0]) == {"missing-slice", "truncated-pixels"}
        volume = case.volume()
        assert volume.not_measured is not None
        assert np.flatnonzero(volume.not_measured.any(axis=(1, 2))).tolist() == [4]
        with pytest.raises(IrregularSeries, match="cut off"):
            isocenter.open(tmp_path, policy=STRICT).volume()

    def test_a_gap_is_filled_as_wide_as_it_was_told(self, tmp_path: Path) -> None:
        write_series(tmp_path, VOXELS, change=lambda s: linear(s[:5] + s[8:]))
        with pytest.raises(IrregularSeries, match="3 slice"):
            isocenter.open(tmp_path, policy=Policy(fill=2)).volume()
        volume = isocenter.open(tmp_path, policy=Policy(fill=3)).volume()
        assert np.flatnonzero(volume.not_measured.all(axis=(1, 2))).tolist() == [5, 6, 7]
        agrees(volume, within=0.05)

    def test_a_policy_that_cannot_be_is_refused(self) -> None:
        with pytest.raises(InputError, match="0 to 100"):
            Policy(fill=-1)


class TestRepair:
    @pytest.mark.parametrize(
        "spoil",
        [
            lambda s: s[:5] + s[6:],
            lambda s: s[:3] + s[4:8] + s[9:],
            lambda s: moved(s, 6, z=0.6),
            lambda s: moved(moved(s, 6, z=0.6), 3, z=-0.4),
            lambda s: tilted(s, 15),
            lambda s: tilted(s, -20),
            lambda s: tilted(s, 10)[:4] + tilted(s, 10)[5:],
        ],
        ids=["missing", "two missing", "uneven", "uneven twice", "tilt", "tilt back", "tilt and missing"],
    )
    def test_a_linear_density_comes_back_exactly(self, tmp_path: Path, spoil: Spoil) -> None:
        write_series(tmp_path, VOXELS, change=lambda s: linear(spoil(s)))
        volume = isocenter.open(tmp_path).volume()
        outside = agrees(volume, within=0.05)
        assert np.count_nonzero(~outside) >= 11 * 16 * 20 * 0.95
        assert volume.not_measured is None or np.all(volume.not_measured[outside])

    @settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(gaps=st.lists(st.floats(1.5, 2.9), min_size=3, max_size=8))
    def test_any_uneven_stack_is_brought_onto_a_grid_of_its_extent(self, tmp_path_factory: pytest.TempPathFactory, gaps: list[float]) -> None:  # fmt: skip
        folder = tmp_path_factory.mktemp("uneven")
        places = [0.0, *itertools.accumulate(round(g, 3) for g in gaps)]

        def place(slices: Slices) -> Slices:
            for ds, z in zip(slices, places, strict=True):
                ds.ImagePositionPatient = [0, 0, z]
            return linear(slices)

        write_series(folder, VOXELS[: len(places)], change=place)
        volume = isocenter.open(folder).volume()
        depth = volume.geometry.corners()[:, 2]
        assert depth.max() - depth.min() == pytest.approx(places[-1], abs=0.01)
        agrees(volume, within=0.15)  # slices within 1 % of their place are taken as they are

    def test_the_mask_goes_where_the_voxels_go(self, tmp_path: Path) -> None:
        write_series(tmp_path, VOXELS, change=lambda s: s[:5] + s[6:])
        volume = isocenter.open(tmp_path).volume()
        turned = orient(volume, Orient(to="RIP"))
        assert np.flatnonzero(turned.not_measured.all(axis=(0, 2))).tolist() == [6]
        finer = resample(volume, Resample(spacing_mm=(1.25, 0.8, 0.8)))
        touched = np.flatnonzero(finer.not_measured.any(axis=(1, 2)))
        assert set(touched) >= {9, 10, 11}
        assert len(touched) <= 5
        smaller = crop(volume, Crop())
        assert smaller.not_measured.shape == smaller.geometry.shape
        with pytest.raises(isocenter.IsocenterError, match="must say where"):
            volume.then(volume.history[0], voxels=volume.voxels, geometry=volume.geometry.flip(0))

    def test_padding_outside_the_field_of_view_is_air_and_not_measured(self, tmp_path: Path) -> None:
        def padded(slices: Slices) -> Slices:
            for ds in every(slices, PixelRepresentation=1, PixelPaddingValue=-2000):
                plane = np.frombuffer(ds.PixelData, "<i2").reshape(ds.Rows, ds.Columns).copy()
                plane[:3, :3] = -2000
                ds.PixelData = plane.tobytes()
            return slices

        write_series(tmp_path, VOXELS, change=padded)
        volume = isocenter.open(tmp_path).volume()
        assert volume.grid.min() >= -1024
        assert np.all(volume.grid[:, :3, :3] == -1024)
        assert volume.not_measured[:, :3, :3].all()
        assert np.count_nonzero(volume.not_measured) == 12 * 9

    def test_padding_that_may_be_air_is_left(self, tmp_path: Path) -> None:
        write_series(tmp_path, VOXELS, change=lambda s: every(s, PixelPaddingValue=24))
        volume = isocenter.open(tmp_path).volume()
        assert volume.not_measured is None
        assert np.array_equal(volume.grid, VOXELS)


def phases(kind: str, count: int = 3) -> Spoil:
    """Several time points of the same places in one series, told apart by one element."""

    def spread(slices: Slices) -> Slices:
        found = []
        for t in range(count):
            for ds in slices:
                twin = renamed(ds, f".{t}")
                twin.PixelData = (np.frombuffer(ds.PixelData, "<u2") // (t + 1)).astype("<u2").tobytes()
                twin.InstanceNumber = int(ds.InstanceNumber) + 100 * t
                if kind == "AcquisitionTime":
                    twin.AcquisitionDate, twin.AcquisitionTime = "20260102", f"1000{10 * t:02d}"
                elif kind:
                    setattr(twin, kind, 40.0 * t if kind == "TriggerTime" else t + 1)
                found.append(twin)
        return found

    return spread


class TestTime:
    @pytest.mark.parametrize(
        ("kind", "times"),
        [
            ("TriggerTime", (0.0, 0.04, 0.08)),
            ("AcquisitionTime", (0.0, 10.0, 20.0)),
            ("TemporalPositionIdentifier", None),
        ],
    )
    def test_time_points_become_a_cine(self, tmp_path: Path, kind: str, times: tuple[float, ...] | None) -> None:
        voxels = np.abs(VOXELS)
        (series,) = inspected(tmp_path, phases(kind), modality="MR", voxels=voxels)
        assert (series.frames, series.shape) == (3, (12, 16, 20))
        cine = series.cine()
        assert cine.times_s == (None if times is None else pytest.approx(times))
        assert np.array_equal(cine.frames[2, 0], voxels // 3)
        assert np.array_equal(cine.frame(1).grid, voxels // 2)
        with pytest.raises(AmbiguousSelection, match="cine of 3 frames"):
            series.volume()

    def test_without_a_reason_they_are_refused(self, tmp_path: Path) -> None:
        (series,) = inspected(tmp_path, phases(""), modality="MR", voxels=np.abs(VOXELS) + 5)
        assert series.verdict == "refused"
        assert "duplicate-slice" in codes(series)

    def test_slices_taken_one_after_the_other_are_no_time_points(self, tmp_path: Path) -> None:
        def by_slice(slices: Slices) -> Slices:
            found = phases("AcquisitionTime")(slices)
            for at, ds in enumerate(found):
                ds.AcquisitionTime = f"10{at % 12:02d}{at // 12 * 10:02d}"  # a minute a slice, ten seconds a repetition
            return found

        (series,) = inspected(tmp_path, by_slice, modality="MR", voxels=np.abs(VOXELS) + 5)
        assert (series.verdict, "duplicate-slice" in codes(series)) == ("refused", True)

    def test_b_values_become_volumes(self, tmp_path: Path) -> None:
        def weighted(slices: Slices) -> Slices:
            found = []
            for b, direction in ((0.0, None), (1000.0, [1.0, 0, 0]), (1000.0, [0, 1.0, 0])):
                for ds in slices:
                    twin = renamed(ds, f".{len(found)}")
                    twin.DiffusionBValue = b
                    if direction:
                        twin.DiffusionGradientOrientation = direction
                    found.append(twin)
            return found

        found = inspected(tmp_path, weighted, modality="MR", voxels=np.abs(VOXELS))
        assert len(found) == 3
        assert {"several-volumes"} == set().union(*map(codes, found))
        assert "b-value" in str(found[0].defects[0].said)


class TestLineage:
    def test_a_run_on_a_repaired_series_says_so_everywhere(self, tmp_path: Path) -> None:
        import json

        from pydicom import dcmread

        from tests.test_run import RECIPE, phantom

        write_series(tmp_path / "s", phantom(), spacing=(2.0, 1.0, 1.0), change=lambda s: s[:6] + s[7:])
        (tmp_path / "r.yaml").write_text(RECIPE, "utf-8")
        (result,) = isocenter.run(tmp_path / "r.yaml", [tmp_path / "s"], tmp_path / "out")
        assert result.usable, result.reasons
        report = json.loads((result.folder / "report.json").read_text("utf-8"))
        assert report["verdict"] == "review"
        assert any("missing between slice 6" in reason for reason in report["reasons"])
        assert all(0 < f["not_measured"] < 0.5 for f in report["features"])
        assert report["series"][0]["verdict"] == "repaired"
        page = (result.folder / "report.html").read_text("utf-8")
        assert "not measured" in page
        assert "missing-slice" in page
        name, mask = next(iter(report["masks"].items()))
        assert mask["dicom"], mask["dicom_absent"]
        seg = dcmread(result.folder / mask["dicom"])
        assert "repaired grid" in seg.SeriesDescription
        assert mask["dicom_on_repaired_grid"] is True
        assert seg.FrameOfReferenceUID.endswith(".9")
        assert seg.NumberOfFrames >= 1
        assert (result.folder / f"{name}.seg.nrrd").exists()
