"""Files that contradict themselves or each other, found by trying to have them misread: each is named, or refused."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, SecondaryCaptureImageStorage, UltrasoundImageStorage

import isocenter
from isocenter.data.geometry import Space
from isocenter.errors import GeometryError, InputError, IrregularSeries, UnreadableFile
from tests.defects import Slices, Spoil, enhanced, every, moved, one, other_pixels, renamed, tilted, turn, without
from tests.phantoms import write_series
from tests.test_doctor import VOXELS, codes, inspected, phases
from tests.test_modalities import PLANES, only, pet, picture, region, written
from tests.test_results import rectangle, structure_set, study  # noqa: F401 - a fixture


class TestOneSliceUnlikeTheOthers:
    @pytest.mark.parametrize("at", [0, 4])
    def test_monochrome1_in_one_slice(self, tmp_path: Path, at: int) -> None:
        voxels = np.abs(VOXELS)
        (series,) = inspected(tmp_path, lambda s: one(s, at, PhotometricInterpretation="MONOCHROME1"), modality="MR", voxels=voxels)  # fmt: skip
        assert codes(series) == {"monochrome1"}
        grid = series.volume().grid
        others = [i for i in range(12) if i != at]
        assert np.array_equal(grid[others], voxels[others])
        assert np.array_equal(grid[at], 65535 - voxels[at].astype(int))
        assert "monochrome1" in codes(inspected(tmp_path / "ct", lambda s: one(s, 3, PhotometricInterpretation="MONOCHROME1"))[0])  # fmt: skip

    @pytest.mark.parametrize(
        ("code", "says", "spoil"),
        [
            ("missing-rescale", "is rescaled to US", lambda s: one(every(s, RescaleType="HU"), 3, RescaleType="US")),
            ("invalid-value", "stores 8 bits", lambda s: one(s, 3, BitsStored=8, HighBit=7)),
            ("several-patients", "2 patients", lambda s: one(s, 3, PatientBirthDate="19800101")),
            ("several-patients", "2 patients", lambda s: one(every(s, PatientID=""), 3, PatientName="Li^Si")),
            ("several-patients", "in 2 ways", lambda s: one(s, 3, PatientName="Li^Si")),
            ("time-inconsistent", "long after", lambda s: every(s, AcquisitionDate="20990101")),
            ("invalid-value", "Modality is absent", lambda s: every(s, Modality="")),
            ("duplicate-slice", "which of them is right", lambda s: [*s, moved([other_pixels(s[4])], 0, z=0.02)[0]]),
            ("missing-slice", "every second one", lambda s: every(s, SpacingBetweenSlices=2.5)[::2]),
            ("missing-slice", "missing throughout", lambda s: [s[0], s[9]]),
        ],
    )
    def test_it_is_named(self, tmp_path: Path, code: str, says: str, spoil: Spoil) -> None:
        (first, *_) = inspected(tmp_path, spoil)
        assert code in codes(first)
        assert says in "; ".join(str(d.said) for d in first.defects)

    def test_a_lookup_table_in_one_slice(self, tmp_path: Path) -> None:
        table = Dataset()
        table.LUTDescriptor, table.ModalityLUTType = [2, 0, 16], "US"
        table.LUTData = b"\0\0\1\0"
        table["LUTData"].VR = "OW"
        (series,) = inspected(tmp_path, lambda s: one(s, 3, ModalityLUTSequence=[table]), modality="MR", voxels=np.abs(VOXELS))  # fmt: skip
        assert (series.verdict, codes(series)) == ("refused", {"invalid-value"})

    @pytest.mark.parametrize("keyword", ["Units", "DecayCorrection", "PatientWeight"])
    def test_a_pet_of_two_minds(self, tmp_path: Path, keyword: str) -> None:
        odd = {"Units": "CNTS", "DecayCorrection": "NONE", "PatientWeight": 40}[keyword]
        write_series(tmp_path, PLANES, change=lambda s: one(pet()(s), 2, **{keyword: odd}))
        with pytest.raises(IrregularSeries, match=f"{keyword} differs"):
            only(tmp_path).volume()

    def test_a_small_turn_is_no_localizer(self, tmp_path: Path) -> None:
        def turned(slices: Slices) -> Slices:
            t = np.deg2rad(2)
            turn(slices[6], [1, 0, 0, 0, float(np.cos(t)), float(np.sin(t))])
            return slices

        found = inspected(tmp_path, turned)
        assert {c for s in found for c in codes(s)} - {"malformed-geometry"} == {"mixed-orientation", "missing-slice"}


class TestSeveralInOne:
    @pytest.mark.parametrize("keyword", ["ConvolutionKernel", "AcquisitionNumber"])
    def test_stacks_pushed_into_each_other(self, tmp_path: Path, keyword: str) -> None:
        def both(slices: Slices) -> Slices:
            second = [renamed(ds) for ds in slices]
            for i in range(len(second)):
                moved(second, i, z=1.25)
            return every(slices, **{keyword: "1"}) + every(second, **{keyword: "2"})

        found = inspected(tmp_path, both)
        assert [s.shape for s in found] == [(12, 16, 20)] * 2
        assert all("several-volumes" in codes(s) for s in found)
        assert found[0].spacing_mm == pytest.approx((2.5, 0.8, 0.8))

    def test_odd_and_even_slices_taken_in_turns_stay_one(self, tmp_path: Path) -> None:
        def turns(slices: Slices) -> Slices:
            return every(slices[::2], AcquisitionNumber=1) + every(slices[1::2], AcquisitionNumber=2)

        (series,) = inspected(tmp_path, turns)
        assert (series.verdict, series.shape[0]) == ("ok", 12)

    def test_halves_of_one_stack_stay_one(self, tmp_path: Path) -> None:
        (series,) = inspected(tmp_path, lambda s: every(s[:6], AcquisitionNumber=1) + every(s[6:], AcquisitionNumber=2))
        assert series.verdict == "ok"

    def test_a_cine_with_a_filled_slice_says_which(self, tmp_path: Path) -> None:
        (series,) = inspected(tmp_path, lambda s: phases("TriggerTime")(s[:5] + s[6:]), modality="MR", voxels=np.abs(VOXELS))  # fmt: skip
        cine = series.cine()
        assert cine.not_measured.shape == (3, 12, 16, 20)
        assert np.flatnonzero(cine.frame(1).not_measured.all(axis=(1, 2))).tolist() == [5]

    def test_thousands_of_copies_take_no_square_of_time(self, tmp_path: Path) -> None:
        def seconds(copies: int) -> float:
            folder = tmp_path / str(copies)
            write_series(folder, VOXELS[:1, :1, :1], change=lambda slices: [enhanced(slices[:1] * copies)])
            start = time.process_time()
            (series,) = isocenter.inspect(folder).series
            assert "duplicate-slice" in codes(series)
            return time.process_time() - start

        seconds(10)
        few, many = seconds(400), seconds(2400)
        assert many < 18 * max(few, 0.05)

    @pytest.mark.parametrize("first", [True, False])
    def test_a_capture_in_the_series_does_not_unmake_the_stack(self, tmp_path: Path, first: bool) -> None:
        capture = picture(SecondaryCaptureImageStorage, np.zeros((6, 8), np.uint8), Modality="CT", InstanceNumber=99)
        capture.SOPInstanceUID += ".99"

        stack, shot = inspected(tmp_path, lambda s: [capture, *s] if first else [*s, capture])
        assert (stack.shape, shot.shape) == ((12, 16, 20), (1, 6, 8))
        assert np.array_equal(stack.volume().grid, VOXELS)
        assert "several-volumes" in codes(stack) & codes(shot)

    def test_modalities_are_parted(self, tmp_path: Path) -> None:
        found = inspected(tmp_path, lambda s: s[:8] + pet()(s[8:]))
        assert sorted((s.modality, s.shape[0]) for s in found) == [("CT", 8), ("PT", 4)]

    def test_a_float_slice_behind_an_integer_one(self, tmp_path: Path) -> None:
        def last(slices: Slices) -> Slices:
            ds = every(slices, BitsAllocated=32, BitsStored=32, HighBit=31)[-1]
            for each in slices:
                each.PixelData = np.frombuffer(each.PixelData, "<u2").astype("<u4").tobytes()
            ds.FloatPixelData = np.frombuffer(ds.PixelData, "<u4").astype("<f4").tobytes()
            del ds.PixelData
            return slices

        write_series(tmp_path, VOXELS, change=last)
        case = isocenter.open(tmp_path)
        assert "floating-point" in case.refused_files[0].message
        assert np.array_equal(case.volume().grid, VOXELS[:-1])

    def test_a_zip_of_results_only_keeps_its_files(self, tmp_path: Path, study: Path) -> None:  # noqa: F811
        import zipfile

        file = structure_set(tmp_path / "rs.dcm", {"a": [rectangle(50, 1.5, 1.5, 5.5, 5.5)]})
        with zipfile.ZipFile(tmp_path / "r.zip", "w") as archive:
            archive.write(file, "rs.dcm")
        (result,) = isocenter.open(tmp_path / "r.zip").results
        assert result.file.exists()
        assert isocenter.open(study).labels(result, on=isocenter.open(study).series[0])[0].foreground.any()


class TestPixelsThatLie:
    @pytest.mark.parametrize(
        ("says", "values"),
        [("end at bit 15", {"BitsStored": 12, "HighBit": 15}), ("bits stored", {"BitsStored": 20, "HighBit": 19})],
    )
    def test_bits_that_are_not_where_they_should_be(self, tmp_path: Path, says: str, values: dict[str, int]) -> None:
        write_series(tmp_path, VOXELS, change=lambda s: every(s, **values))
        with pytest.raises(InputError, match=says):
            isocenter.open(tmp_path)

    def test_floating_point_pixels_are_not_taken_for_integers(self, tmp_path: Path) -> None:
        def floats(slices: Slices) -> Slices:
            for ds in every(slices, BitsAllocated=32, BitsStored=32, HighBit=31):
                ds.FloatPixelData = np.frombuffer(ds.PixelData, "<u2").astype("<f4").tobytes()
                del ds.PixelData
            return slices

        write_series(tmp_path, VOXELS, change=floats)
        with pytest.raises(InputError, match="floating-point"):
            isocenter.open(tmp_path)

    @pytest.mark.parametrize("vr", ["OW", "OB"])
    def test_bytes_stored_as_big_endian_words(self, tmp_path: Path, vr: str) -> None:
        pixels = np.arange(48, dtype=np.uint8).reshape(6, 8)
        ds = picture(SecondaryCaptureImageStorage, pixels, Modality="OT")
        ds.PixelData = pixels.view("<u2").astype(">u2").tobytes() if vr == "OW" else pixels.tobytes()
        ds["PixelData"].VR = vr
        ds.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        dcmwrite(tmp_path / "a.dcm", ds, implicit_vr=False, little_endian=False)
        assert np.array_equal(only(tmp_path / "a.dcm").volume().grid[0], pixels)

    def test_colour_is_not_rescaled(self, tmp_path: Path) -> None:
        rgb = np.random.default_rng(0).integers(0, 255, (6, 8, 3)).astype(np.uint8)
        ds = picture(SecondaryCaptureImageStorage, rgb, Modality="OT", RescaleSlope=1, RescaleIntercept=-1024)
        assert np.array_equal(np.moveaxis(only(written(tmp_path / "a.dcm", ds)).volume().voxels[:, 0], 0, -1), rgb)

    def test_a_region_beyond_the_picture_has_no_millimetres(self, tmp_path: Path) -> None:
        ds = picture(UltrasoundImageStorage, np.zeros((6, 8), np.uint8), Modality="US",
                     SequenceOfUltrasoundRegions=[region(RegionLocationMaxX1=600)])  # fmt: skip
        series = only(written(tmp_path / "a.dcm", ds))
        assert series.spacing_mm is None
        assert "outside the picture" in str(series.defects[0].said)

    def test_a_tiff_that_claims_what_it_cannot_hold(self, tmp_path: Path) -> None:
        from PIL import Image

        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "a.tif")
        data = bytearray((tmp_path / "a.tif").read_bytes())
        at = data.index(b"\x00\x01\x04\x00\x01\x00\x00\x00") if b"\x00\x01\x04\x00\x01\x00\x00\x00" in data else data.index(b"\x00\x01\x03\x00\x01\x00\x00\x00")  # fmt: skip
        data[at + 2 : at + 4] = b"\x04\x00"
        data[at + 8 : at + 12] = (16_777_225).to_bytes(4, "little")
        (tmp_path / "a.tif").write_bytes(bytes(data))
        with pytest.raises(InputError, match="claims"):
            isocenter.open(tmp_path / "a.tif").volume()


class TestTimes:
    @pytest.mark.parametrize("tag", [False, True])
    def test_time_zones_are_understood(self, tmp_path: Path, tag: bool) -> None:
        def zoned(slices: Slices) -> Slices:
            for ds in pet(correction="START")(slices):
                ds.AcquisitionDateTime = "20260102120000" + ("" if tag else "+0100")
                if tag:
                    ds.TimezoneOffsetFromUTC = "+0100"
                ds.RadiopharmaceuticalInformationSequence[0].RadiopharmaceuticalStartDateTime = "20260102100000+0000"
            return slices

        write_series(tmp_path, PLANES, change=zoned)  # 10:00 UTC is 11:00 there: an hour before the scan
        factor = 80_000.0 / (4e8 * 2 ** (-3600 / 6588))
        assert only(tmp_path).volume().grid[0] == pytest.approx(PLANES[0] * 2.0 * factor, rel=1e-6)

    def test_a_half_life_in_minutes_is_refused(self, tmp_path: Path) -> None:
        write_series(tmp_path, PLANES, change=pet(half_life=109.8))
        with pytest.raises(IrregularSeries, match="seconds"):
            only(tmp_path).volume()

    @pytest.mark.parametrize(("whole", "counts"), [(100, "series"), (4, "first")])
    def test_a_part_of_a_series_counts_from_the_series_start(self, tmp_path: Path, whole: int, counts: str) -> None:
        def part(slices: Slices) -> Slices:
            return every(pet()(slices), SeriesDate="20260102", SeriesTime="114000", NumberOfSlices=whole)

        write_series(tmp_path, PLANES, change=part)
        series = only(tmp_path)
        assert "time-inconsistent" in codes(series)
        wait = 3600 - 1200 if counts == "series" else 3600
        factor = 80_000.0 / (4e8 * 2 ** (-wait / 6588))
        assert series.volume().grid[0] == pytest.approx(PLANES[0] * 2.0 * factor, rel=1e-6)


class TestResultsElsewhere:
    def test_contours_finer_than_slices(self, study: Path) -> None:  # noqa: F811
        planes = [rectangle(50 + 1.0 * i, 1.5, 1.5, 5.5, 5.5) for i in range(10)]
        structure_set(study / "rs.dcm", {"a": planes, "b": [planes[0], planes[0]]})
        case = isocenter.open(study)
        maps = case.labels(case.results[0])
        a = next(m for m in maps if m.labels[0].name == "a")
        assert [int(n) for n in a.mask("a").sum(axis=(1, 2))] == [16, 16, 16, 16, 16, 0]
        b = next(m for m in maps if m.labels[0].name == "b")
        assert b.mask("b").sum() == 16

    def test_contours_on_every_second_slice_are_told(self, study: Path, caplog: pytest.LogCaptureFixture) -> None:  # noqa: F811
        structure_set(study / "rs.dcm", {"a": [rectangle(z, 1.5, 1.5, 5.5, 5.5) for z in (50, 55, 60)], "dot": [rectangle(50, 1.1, 1.1, 1.2, 1.2)]})  # fmt: skip
        case = isocenter.open(study)
        (labels,) = case.labels(case.results[0])
        assert labels.history[0].results["slices_left_out_between"] == ["a"]
        assert labels.history[0].results["empty"] == ["dot"]
        assert "slices left out between: a" in caplog.text

    def test_another_frame_of_reference_is_refused(self, study: Path) -> None:  # noqa: F811
        from pydicom import dcmread

        file = structure_set(study / "rs.dcm", {"a": [rectangle(50, 1.5, 1.5, 5.5, 5.5)]})
        ds = dcmread(file)
        ds.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = "1.2.3.4"
        ds.save_as(file)
        case = isocenter.open(study)
        with pytest.raises(GeometryError, match="frame of reference"):
            case.labels(case.results[0])

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            (lambda ds: ds.StructureSetROISequence.append(ds.StructureSetROISequence[0]), "one number"),
            (lambda ds: setattr(ds.ROIContourSequence[0].ContourSequence[0], "ContourData", [1.0, 2.0, 3.0, 4.0]), "a: a contour has 4"),
        ],
    )  # fmt: skip
    def test_structures_that_do_not_add_up(self, study: Path, change: Callable[[Dataset], None], says: str) -> None:  # noqa: F811
        from pydicom import dcmread

        file = structure_set(study / "rs.dcm", {"a": [rectangle(50, 1.5, 1.5, 5.5, 5.5)]})
        ds = dcmread(file)
        change(ds)
        ds.save_as(file)
        assert says in isocenter.open(study).refused_files[0].message

    def test_two_items_of_one_region_are_both_kept(self, study: Path) -> None:  # noqa: F811
        from pydicom import dcmread

        file = structure_set(study / "rs.dcm", {"a": [rectangle(50, 1.5, 1.5, 5.5, 5.5)], "b": [rectangle(55, 1.5, 1.5, 5.5, 5.5)]})  # fmt: skip
        ds = dcmread(file)
        ds.ROIContourSequence[1].ReferencedROINumber = 1
        ds.save_as(file)
        case = isocenter.open(study)
        (labels,) = case.labels(case.results[0])
        assert np.count_nonzero(labels.foreground) == 32

    def test_contours_beside_the_image_are_refused(self, study: Path) -> None:  # noqa: F811
        structure_set(study / "rs.dcm", {"a": [rectangle(50, 100, 100, 120, 120)]})
        case = isocenter.open(study)
        with pytest.raises(GeometryError, match="outside the image"):
            case.labels(case.results[0])


class TestWayOut:
    @pytest.mark.parametrize(
        "spoil",
        [
            lambda s: every(s, SliceThickness=5.0),
            lambda s: [without(s, i, "SliceThickness")[i] for i in range(len(s))],
            lambda s: [enhanced(s)],
            lambda s: [enhanced(s[:4] + s[5:])],
            lambda s: moved(s, 6, z=0.6),
            lambda s: tilted(s, 10),
        ],
        ids=["thick", "no thickness", "enhanced", "enhanced and missing", "uneven", "tilted"],
    )
    def test_a_seg_is_written_and_proven_whatever_the_source(self, tmp_path: Path, spoil: Spoil) -> None:
        from tests.test_run import RECIPE, phantom

        write_series(tmp_path / "s", phantom(), spacing=(2.0, 1.0, 1.0), change=spoil)
        (tmp_path / "r.yaml").write_text(RECIPE, "utf-8")
        (result,) = isocenter.run(tmp_path / "r.yaml", [tmp_path / "s"], tmp_path / "out")
        assert result.usable, result.reasons
        masks = json.loads((result.folder / "report.json").read_text("utf-8"))["masks"]
        assert all(mask["dicom"] for mask in masks.values()), masks

    def test_a_picture_goes_the_whole_way(self, tmp_path: Path) -> None:
        pixels = np.where(np.hypot(*np.mgrid[-20:20, -20:20]) < 12, 3000, 200).astype(np.uint16)
        ds = picture("1.2.840.10008.5.1.4.1.1.1", pixels, Modality="CR", ImagerPixelSpacing=[0.2, 0.2])
        written(tmp_path / "a.dcm", ds)
        (tmp_path / "r.yaml").write_text(
            "name: one\ntitle: {en: A, zh: A}\ndescription: {en: A, zh: A}\nsteps:\n"
            "  - segment: otsu\n    as: fg\n  - features: volume\n    of: fg\n", "utf-8",
        )  # fmt: skip
        (result,) = isocenter.run(tmp_path / "r.yaml", [tmp_path / "a.dcm"], tmp_path / "out")
        assert result.usable, result.reasons
        masks = json.loads((result.folder / "report.json").read_text("utf-8"))["masks"]
        assert masks["fg"]["png"] == "fg.png"
        assert masks["fg"]["dicom"] or masks["fg"]["dicom_absent"]

    @pytest.mark.parametrize("ending", [".nii.gz", ".nrrd"])
    @pytest.mark.parametrize("spacing", [{"ImagerPixelSpacing": [0.2, 0.3]}, {}])
    def test_millimetres_stay_what_they_are(self, tmp_path: Path, ending: str, spacing: dict[str, list[float]]) -> None:
        pixels = np.arange(48, dtype=np.uint16).reshape(6, 8)
        written(tmp_path / "a.dcm", picture("1.2.840.10008.5.1.4.1.1.1", pixels, Modality="CR", **spacing))
        isocenter.convert(tmp_path / "a.dcm", tmp_path / f"b{ending}")
        (series,) = isocenter.open(tmp_path / f"b{ending}").series
        assert series.volume().geometry.space is (Space.DETECTOR if spacing else Space.PIXELS)
        assert (series.spacing_mm is None) == (not spacing)

    def test_colour_as_nrrd(self, tmp_path: Path) -> None:
        rgb = np.random.default_rng(0).integers(0, 60000, (6, 8, 3)).astype(np.uint16)
        written(tmp_path / "a.dcm", picture(SecondaryCaptureImageStorage, rgb, Modality="OT"))
        isocenter.convert(tmp_path / "a.dcm", tmp_path / "b.nrrd")
        back = isocenter.open(tmp_path / "b.nrrd").volume()
        assert np.array_equal(np.moveaxis(back.voxels[:, 0], 0, -1), rgb)

    def test_what_was_not_measured_goes_along(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        write_series(tmp_path / "s", VOXELS, change=lambda s: s[:5] + s[6:])
        isocenter.convert(tmp_path / "s", tmp_path / "b.nii.gz")
        mask = isocenter.open(tmp_path / "b.not-measured.nii.gz").volume()
        assert np.flatnonzero(mask.grid.any(axis=(1, 2))).tolist() == [5]
        assert "not measured" in caplog.text
        with pytest.raises(InputError, match="--label"):
            isocenter.convert(tmp_path / "s", tmp_path / "c.nii.gz", label="x")

    def test_an_empty_name_is_no_path(self) -> None:
        with pytest.raises(UnreadableFile, match="no path"):
            isocenter.inspect("")
