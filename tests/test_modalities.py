"""Every kind of image that comes out of a scanner: values, millimetres and times as the standard means them."""

import gzip
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    PositronEmissionTomographyImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    XRayAngiographicImageStorage,
)  # fmt: skip

import isocenter
from isocenter import Policy
from isocenter.data.geometry import Space
from isocenter.data.volume import Quantity
from isocenter.errors import GeometryError, InputError, IrregularSeries, UnreadableFile
from isocenter.ops import threads
from tests.defects import Slices, every, renamed
from tests.phantoms import careless, slice_dataset, write_series

PLANES = np.random.default_rng(1).integers(0, 1000, (4, 8, 10)).astype(np.int16)


def picture(uid: str, pixels: np.ndarray, **values: object) -> Dataset:
    """A picture without a place: `h w`, `n h w`, or `h w 3`."""
    colour = pixels.shape[-1] == 3
    ds = slice_dataset(np.zeros((2, 2), np.int16), (0, 0, 0), 1, spacing=(1, 1), thickness=1)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "RescaleSlope",
                    "RescaleIntercept", "FrameOfReferenceUID"):  # fmt: skip
        delattr(ds, keyword)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = uid
    ds.Rows, ds.Columns = pixels.shape[:2] if colour else pixels.shape[-2:]
    if pixels.ndim == 3 and not colour:
        ds.NumberOfFrames = len(pixels)
    bits = 8 * pixels.dtype.itemsize
    ds.BitsAllocated = ds.BitsStored = bits
    ds.HighBit = bits - 1
    if colour:
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def written(path: Path, ds: Dataset) -> Path:
    with careless():
        ds.save_as(path, enforce_file_format=True)
    return path


def only(path: Path, **more: object) -> isocenter.Case:
    return isocenter.open(path, **more).series[0]


def codes(series: object) -> set[str]:
    return {d.code for d in series.defects}


GREY = np.arange(48, dtype=np.uint16).reshape(6, 8)


class TestProjections:
    def test_millimetres_are_at_the_detector(self, tmp_path: Path) -> None:
        ds = picture(ComputedRadiographyImageStorage, GREY, Modality="CR", ImagerPixelSpacing=[0.2, 0.1])
        series = only(written(tmp_path / "a.dcm", ds))
        volume = series.volume()
        assert volume.geometry.space is Space.DETECTOR
        assert volume.geometry.spacing_mm[1:] == (0.2, 0.1)
        assert "at the detector" in str(series.defects[0].said)
        assert series.verdict == "ok"

    @pytest.mark.parametrize("how", ["GEOMETRY", "FIDUCIAL", ""])
    def test_calibrated_millimetres_say_so(self, tmp_path: Path, how: str) -> None:
        ds = picture(ComputedRadiographyImageStorage, GREY, Modality="CR", ImagerPixelSpacing=[0.2, 0.2],
                     PixelSpacing=[0.15, 0.15], PixelSpacingCalibrationType=how)  # fmt: skip
        series = only(written(tmp_path / "a.dcm", ds))
        assert series.volume().geometry.spacing_mm[1:] == (0.15, 0.15)
        assert "calibrated" in str(series.defects[0].said)

    def test_without_any_there_are_none(self, tmp_path: Path) -> None:
        series = only(written(tmp_path / "a.dcm", picture(ComputedRadiographyImageStorage, GREY, Modality="CR")))
        assert series.volume().geometry.space is Space.PIXELS
        assert codes(series) == {"no-millimetres"}
        with pytest.raises(GeometryError, match="no millimetres"):
            _ = series.volume().geometry.spacing_mm

    @pytest.mark.parametrize(("signed", "most"), [(0, 4095), (1, -1)])
    def test_monochrome1_is_inverted(self, tmp_path: Path, signed: int, most: int) -> None:
        ds = picture(ComputedRadiographyImageStorage, GREY, Modality="CR", PhotometricInterpretation="MONOCHROME1",
                     BitsStored=12, HighBit=11, PixelRepresentation=signed)  # fmt: skip
        series = only(written(tmp_path / "a.dcm", ds))
        assert np.array_equal(series.volume().grid[0], most - GREY.astype(int))
        assert series.verdict == "repaired"
        with pytest.raises(IrregularSeries, match="policy is strict"):
            only(tmp_path / "a.dcm", policy=Policy("strict")).volume()

    def test_each_view_of_a_series_is_its_own(self, tmp_path: Path) -> None:
        for at in range(2):
            ds = picture(ComputedRadiographyImageStorage, GREY + at, Modality="CR")
            written(tmp_path / f"{at}.dcm", renamed(ds, f".{at}"))
        case = isocenter.open(tmp_path)
        assert [s.key[-2:] for s in case.series] == ["#0", "#1"]
        assert np.array_equal(case.volume(case.series[1].key).grid[0], GREY + 1)

    def test_an_angiogram_is_a_cine(self, tmp_path: Path) -> None:
        frames = np.arange(5 * 48, dtype=np.uint16).reshape(5, 6, 8)
        ds = picture(XRayAngiographicImageStorage, frames, Modality="XA", FrameTimeVector=[0, 40, 40, 80, 40],
                     ImagerPixelSpacing=[0.3, 0.3])  # fmt: skip
        series = only(written(tmp_path / "a.dcm", ds))
        assert (series.frames, series.shape) == (5, (1, 6, 8))
        cine = series.cine()
        assert cine.times_s == pytest.approx((0, 0.04, 0.08, 0.16, 0.2))
        assert np.array_equal(cine.frames[:, 0, 0], frames)
        assert cine.geometry.space is Space.DETECTOR
        assert np.array_equal(cine.frame(-1).grid[0], frames[-1])
        with pytest.raises(GeometryError, match="0 to 4"):
            cine.frame(5)

    def test_times_that_nobody_filled_in_are_unknown(self, tmp_path: Path) -> None:
        frames = np.arange(3 * 48, dtype=np.uint16).reshape(3, 6, 8)
        ds = picture(XRayAngiographicImageStorage, frames, Modality="XA", FrameTimeVector=[0, 0, 0])
        assert only(written(tmp_path / "a.dcm", ds)).cine().times_s is None

    @pytest.mark.parametrize("steps", [[0, 40], [0, 40, -40], [40, 0, 0]])
    def test_times_that_do_not_fit_the_frames_are_named_and_not_used(self, tmp_path: Path, steps: list[int]) -> None:
        frames = np.arange(3 * 48, dtype=np.uint16).reshape(3, 6, 8)
        ds = picture(XRayAngiographicImageStorage, frames, Modality="XA", FrameTimeVector=steps, FrameTime=50)
        series = only(written(tmp_path / "a.dcm", ds))
        assert [d.code for d in series.defects if "FrameTimeVector" in str(d.message)] == ["time-inconsistent"]
        assert series.cine().times_s == pytest.approx((0, 0.05, 0.1))


def region(**values: object) -> Dataset:
    ds = Dataset()
    ds.RegionSpatialFormat, ds.RegionDataType = 1, 1
    ds.PhysicalUnitsXDirection = ds.PhysicalUnitsYDirection = 3
    ds.PhysicalDeltaX, ds.PhysicalDeltaY = 0.02, 0.03
    ds.RegionLocationMinX0, ds.RegionLocationMinY0, ds.RegionLocationMaxX1, ds.RegionLocationMaxY1 = 1, 1, 6, 4
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


class TestUltrasound:
    COLOUR = np.random.default_rng(3).integers(0, 255, (6, 8, 3)).astype(np.uint8)

    def test_millimetres_come_from_its_calibrated_region(self, tmp_path: Path) -> None:
        ds = picture(UltrasoundImageStorage, self.COLOUR, Modality="US", SequenceOfUltrasoundRegions=[region()])
        series = only(written(tmp_path / "a.dcm", ds))
        volume = series.volume()
        assert volume.voxels.shape == (3, 1, 6, 8)
        assert np.array_equal(np.moveaxis(volume.voxels[:, 0], 0, -1), self.COLOUR)
        assert volume.geometry.space is Space.PLANE
        assert volume.geometry.spacing_mm[1:] == (0.3, 0.2)
        assert "columns 1 to 6, rows 1 to 4" in str(series.defects[0].said)

    @pytest.mark.parametrize(
        ("regions", "says"),
        [
            ([], "no calibrated region"),
            ([region(PhysicalUnitsXDirection=4)], "centimetres"),
            ([region(RegionSpatialFormat=3)], "centimetres"),
            ([region(), region(PhysicalDeltaX=0.05)], "differently"),
        ],
    )
    def test_else_there_are_none(self, tmp_path: Path, regions: list[Dataset], says: str) -> None:
        ds = picture(UltrasoundImageStorage, self.COLOUR, Modality="US")
        if regions:
            ds.SequenceOfUltrasoundRegions = regions
        series = only(written(tmp_path / "a.dcm", ds))
        assert series.spacing_mm is None
        assert says in str(series.defects[0].said)

    def test_a_clip_of_colour(self, real_data: Callable[[str], Path]) -> None:
        series = only(real_data("dicom") / "pydicom" / "examples_ybr_color.dcm")
        cine = series.cine()
        assert cine.frames.shape == (30, 3, 1, 240, 320)
        assert cine.times_s is not None
        assert cine.times_s[1] > 0

    def test_a_grey_clip(self, tmp_path: Path) -> None:
        frames = np.arange(3 * 48, dtype=np.uint8).reshape(3, 6, 8)
        ds = picture(UltrasoundMultiFrameImageStorage, frames, Modality="US", FrameTime=50)
        assert only(written(tmp_path / "a.dcm", ds)).cine().times_s == pytest.approx((0, 0.05, 0.1))


class TestPixels:
    def test_a_palette_becomes_colour(self, tmp_path: Path) -> None:
        ds = picture(SecondaryCaptureImageStorage, (GREY % 4).astype(np.uint8), Modality="OT",
                     PhotometricInterpretation="PALETTE COLOR")  # fmt: skip
        tables = {"Red": [0, 50, 100, 150], "Green": [1, 2, 3, 4], "Blue": [255, 0, 255, 0]}
        for name, table in tables.items():
            setattr(ds, f"{name}PaletteColorLookupTableDescriptor", [4, 0, 8])
            setattr(ds, f"{name}PaletteColorLookupTableData", bytes(table))
        volume = only(written(tmp_path / "a.dcm", ds)).volume()
        for at, table in enumerate(tables.values()):
            assert np.array_equal(volume.voxels[at, 0], np.asarray(table)[GREY % 4])

    def test_a_modality_table_is_looked_up(self, tmp_path: Path) -> None:
        table = Dataset()
        table.LUTDescriptor, table.ModalityLUTType = [48, 0, 16], "US"
        table.LUTData = (np.arange(48, dtype="<u2") ** 2).tobytes()
        table["LUTData"].VR = "OW"
        ds = picture(ComputedRadiographyImageStorage, GREY, Modality="CR", ModalityLUTSequence=[table])
        assert np.array_equal(only(written(tmp_path / "a.dcm", ds)).volume().grid[0], GREY.astype(float) ** 2)

    @pytest.mark.parametrize("bits", [8, 16, 32])
    @pytest.mark.parametrize("signed", [0, 1])
    def test_widths_and_signs(self, tmp_path: Path, bits: int, signed: int) -> None:
        kind = np.dtype(f"{'i' if signed else 'u'}{bits // 8}")
        ends = np.iinfo(kind)
        pixels = np.asarray([[ends.min, ends.max], [1, 2]], kind)
        ds = picture(SecondaryCaptureImageStorage, pixels, Modality="OT", PixelRepresentation=signed)
        assert np.array_equal(only(written(tmp_path / "a.dcm", ds)).volume().grid[0], pixels)

    def test_overlay_bits_are_no_pixels(self, tmp_path: Path) -> None:
        ds = picture(ComputedRadiographyImageStorage, GREY | 0xF000, Modality="CR", BitsStored=12, HighBit=11)
        assert np.array_equal(only(written(tmp_path / "a.dcm", ds)).volume().grid[0], GREY)

    def test_signed_values_of_few_bits_keep_their_sign(self, tmp_path: Path) -> None:
        stored = np.asarray([[0x0FFF, 0x0800], [0x07FF, 0]], np.uint16)  # -1, -2048, 2047, 0 in 12 bits
        ds = picture(ComputedRadiographyImageStorage, stored, Modality="CR", BitsStored=12, HighBit=11,
                     PixelRepresentation=1)  # fmt: skip
        assert only(written(tmp_path / "a.dcm", ds)).volume().grid[0].tolist() == [[-1, -2048], [2047, 0]]

    @pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless])  # fmt: skip
    def test_a_series_in_every_encoding(self, tmp_path: Path, syntax: str) -> None:
        def encoded(slices: Slices) -> Slices:
            for at, ds in enumerate(slices):
                ds.file_meta.TransferSyntaxUID = syntax
                if syntax == RLELossless:
                    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
                    ds.compress(RLELossless)
                if syntax == ExplicitVRBigEndian:
                    ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
                big = syntax == ExplicitVRBigEndian
                dcmwrite(
                    tmp_path / f"{at}.dcm", ds, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=not big
                )
            return []

        write_series(tmp_path, PLANES, change=encoded)
        volume = isocenter.open(tmp_path).volume()
        assert np.array_equal(volume.grid, PLANES)
        assert volume.quantity is Quantity.HU

    def test_processes_decode_the_same(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from isocenter.formats import dicom_pixels

        many = np.random.default_rng(2).integers(0, 1000, (30, 8, 10)).astype(np.int16)
        files = write_series(tmp_path, many)
        for file in files:
            ds = dcmread(file)
            ds.compress(RLELossless)
            ds.save_as(file)
        monkeypatch.setattr(dicom_pixels, "_PAYS_PIXELS", 1)
        monkeypatch.setattr(threads, "allowed", lambda: 2)
        assert np.array_equal(isocenter.open(tmp_path).volume().grid, many)
        broken = files[17].read_bytes()
        files[17].write_bytes(broken[:-40] + b"\xff" * 40)
        with pytest.raises(UnreadableFile, match=files[17].name):
            isocenter.open(tmp_path).volume()

    def test_a_syntax_without_a_decoder_names_a_package(self, tmp_path: Path) -> None:
        from isocenter.errors import UnsupportedFormat

        (file,) = write_series(tmp_path, PLANES[:1])
        ds = dcmread(file)
        ds.compress(RLELossless)
        ds.save_as(file)
        file.write_bytes(file.read_bytes().replace(b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.1.2.4\0"))
        with pytest.raises((UnsupportedFormat, UnreadableFile), match="decode"):
            isocenter.open(file).volume()


class TestMosaic:
    def test_tiles_become_slices_where_they_belong(self, real_data: Callable[[str], Path], tmp_path: Path) -> None:
        with careless():
            from nibabel.nicom import dicomwrappers

        folder = real_data("nifti_formats") / "nibabel" / "nicom" / "tests" / "data"
        file = tmp_path / "a.dcm"
        file.write_bytes(gzip.decompress((folder / "siemens_dwi_1000.dcm.gz").read_bytes()))
        volume = isocenter.open(file).volume()
        peer = dicomwrappers.wrapper_from_file(str(file))
        assert np.array_equal(volume.grid, peer.get_data().transpose(2, 0, 1))
        assert np.allclose(volume.geometry.affine[:3, [1, 2, 0]], peer.affine[:3, :3], atol=1e-6)
        assert np.allclose(volume.geometry.affine[:3, 3], peer.affine[:3, 3], atol=1e-6)

    def test_without_its_private_header_it_is_refused(self, tmp_path: Path) -> None:
        write_series(tmp_path, PLANES[:1], modality="MR",
                     change=lambda s: every(s, ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]))  # fmt: skip
        with pytest.raises(InputError, match="CSA"):
            isocenter.open(tmp_path).volume()


def pet(
    units: str = "BQML",
    correction: str = "START",
    *,
    scan: str = "20260102 120000",
    waited_s: float = 3600.0,
    weight: float | None = 80.0,
    dose: float | None = 4e8,
    half_life: float | None = 6588.0,
    stamped: bool = True,
) -> Callable[[Slices], Slices]:
    """A PET of slices that each began a minute after the one before; the first at `scan`."""

    def change(slices: Slices) -> Slices:
        begin = datetime.strptime(scan, "%Y%m%d %H%M%S").replace(tzinfo=UTC)
        injected = begin - timedelta(seconds=waited_s)
        for at, ds in enumerate(slices):
            ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = PositronEmissionTomographyImageStorage
            ds.Modality, ds.Units, ds.DecayCorrection, ds.CorrectedImage = "PT", units, correction, ["DECY", "ATTN"]
            moment = begin + timedelta(minutes=at)
            ds.SeriesDate, ds.SeriesTime = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")
            ds.AcquisitionDate, ds.AcquisitionTime = ds.SeriesDate, ds.SeriesTime
            ds.StudyDate = begin.strftime("%Y%m%d")
            ds.RescaleSlope, ds.RescaleIntercept = 2.0 + at, 0
            if weight is not None:
                ds.PatientWeight = weight
            item = Dataset()
            item.RadiopharmaceuticalStartTime = injected.strftime("%H%M%S.00")
            if stamped:
                item.RadiopharmaceuticalStartDateTime = injected.strftime("%Y%m%d%H%M%S.00")
            if dose is not None:
                item.RadionuclideTotalDose = dose
            if half_life is not None:
                item.RadionuclideHalfLife = half_life
            ds.RadiopharmaceuticalInformationSequence = Sequence([item])
            ds.PixelData = (np.frombuffer(ds.PixelData, "<u2") - 1024).astype("<u2").tobytes()
        return slices

    return change


class TestSuv:
    """Factors by hand: SUV = Bq/mL x weight in g / (dose x 2^(-wait / half-life))."""

    def suv(self, folder: Path, **more: object) -> isocenter.Volume:
        write_series(folder, PLANES, change=pet(**more))
        return isocenter.open(folder).volume()

    def test_decay_corrected_to_the_start_of_the_scan(self, tmp_path: Path) -> None:
        volume = self.suv(tmp_path)
        factor = 80_000.0 / (4e8 * 2 ** (-3600 / 6588))
        slopes = np.asarray([2.0, 3, 4, 5])[:, None, None]
        assert volume.quantity is Quantity.SUV
        assert volume.grid == pytest.approx(PLANES * slopes * factor, rel=1e-6)

    def test_decay_corrected_to_the_injection(self, tmp_path: Path) -> None:
        volume = self.suv(tmp_path, correction="ADMIN", half_life=None)
        assert volume.grid[0] == pytest.approx(PLANES[0] * 2.0 * 80_000.0 / 4e8, rel=1e-6)

    @pytest.mark.parametrize("stamped", [True, False])
    def test_a_tracer_given_before_midnight(self, tmp_path: Path, stamped: bool) -> None:
        volume = self.suv(tmp_path, scan="20260102 002000", stamped=stamped)
        assert volume.grid[0] == pytest.approx(PLANES[0] * 2 * 80_000.0 / (4e8 * 2 ** (-3600 / 6588)), rel=1e-6)

    def test_a_scan_that_goes_over_midnight(self, tmp_path: Path) -> None:
        volume = self.suv(tmp_path, scan="20260102 235900", stamped=False)
        assert volume.grid[0] == pytest.approx(PLANES[0] * 2 * 80_000.0 / (4e8 * 2 ** (-3600 / 6588)), rel=1e-6)

    def test_gml_is_taken_as_it_is(self, tmp_path: Path) -> None:
        volume = self.suv(tmp_path, units="GML", weight=None)
        assert volume.quantity is Quantity.SUV
        assert volume.grid[0] == pytest.approx(PLANES[0] * 2.0)

    def test_uptake_by_lean_mass_is_not_called_suv(self, tmp_path: Path) -> None:
        write_series(tmp_path, PLANES, change=lambda s: every(pet(units="GML")(s), SUVType="LBM"))
        series = only(tmp_path)
        assert series.volume().quantity is Quantity.ARBITRARY
        assert "no-suv" in codes(series)

    @pytest.mark.parametrize(
        ("says", "more"),
        [
            ("PatientWeight is 0", {"weight": 0}),
            ("PatientWeight is absent", {"weight": None}),
            ("RadionuclideTotalDose is absent", {"dose": None}),
            ("RadionuclideTotalDose is 400", {"dose": 400.0}),
            ("RadionuclideHalfLife is absent", {"half_life": None}),
            ("DecayCorrection is NONE", {"correction": "NONE"}),
            ("Units is PROPCPS", {"units": "PROPCPS"}),
            ("private factors", {"units": "CNTS"}),
            ("hours lie between|does not fit", {"waited_s": 20 * 3600.0, "stamped": False}),
        ],
    )
    def test_what_is_missing_is_said(self, tmp_path: Path, says: str, more: dict[str, object]) -> None:
        write_series(tmp_path, PLANES, change=pet(**more))
        series = only(tmp_path)
        assert "no-suv" in codes(series)
        with pytest.raises(IrregularSeries, match=says):
            series.volume()

    def test_bqml_can_be_asked_for(self, tmp_path: Path) -> None:
        write_series(tmp_path, PLANES, change=pet(weight=0))
        volume = only(tmp_path, policy=Policy(suv=False)).volume()
        assert volume.quantity is Quantity.ACTIVITY
        assert volume.grid[0] == pytest.approx(PLANES[0] * 2.0)

    @pytest.mark.parametrize(("suv_factor", "activity_factor"), [(0.0005, 0.0), (0.0, 1.5)])
    def test_philips_counts(self, tmp_path: Path, suv_factor: float, activity_factor: float) -> None:
        def counts(slices: Slices) -> Slices:
            for ds in pet(units="CNTS")(slices):
                block = ds.private_block(0x7053, "Philips PET Private Group", create=True)
                block.add_new(0x00, "DS", str(suv_factor))
                block.add_new(0x09, "DS", str(activity_factor))
            return slices

        write_series(tmp_path, PLANES, change=counts)
        factor = suv_factor or activity_factor * 80_000.0 / (4e8 * 2 ** (-3600 / 6588))
        assert only(tmp_path).volume().grid[1] == pytest.approx(PLANES[1] * 3.0 * factor, rel=1e-6)

    def test_real_pet_whose_tracer_came_a_day_late(self, real_data: Callable[[str], Path]) -> None:
        case = isocenter.open(real_data("sts_dicom"))
        (series,) = [s for s in case.series if s.modality == "PT"]
        assert "time-inconsistent" in codes(series)
        assert "invalid-value" in codes(series)
        peer = isocenter.open(real_data("sts") / "STS_002" / "PET_image.nii.gz").volume()
        assert series.volume().grid.max() == pytest.approx(peer.grid.max(), rel=1e-6)


class TestText:
    @pytest.mark.parametrize(
        ("charset", "stored", "meant"),
        [  # PS3.5 annexes H, I, J, K; ISO 8859
            (["ISO_IR 100"], b"Buc^J\xe9r\xf4me", "Buc^Jérôme"),
            (["ISO_IR 144"], b"\xbb\xee\xda\x63\x65\xdc\xd1\xe3\xe0\xd3", "Люкceмбург"),
            (["ISO_IR 192"], "王^小东".encode(), "王^小东"),
            (["GB18030"], "王^小东".encode("gb18030"), "王^小东"),
            (["", "ISO 2022 IR 58"], b"Wang^XiaoDong=\x1b$)A\xcd\xf5^\x1b$)A\xd0\xa1\xb6\xab", "Wang^XiaoDong=王^小东"),
            (["", "ISO 2022 IR 87"], b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", "Yamada^Tarou=山田^太郎"),
            (["", "ISO 2022 IR 149"], b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7", "Hong^Gildong=洪^吉洞"),
        ],
    )
    def test_names_in_every_character_set(self, tmp_path: Path, charset: list[str], stored: bytes, meant: str) -> None:
        (file,) = write_series(tmp_path, PLANES[:1], change=lambda s: every(s, PatientName="@" * len(stored + b" " * (len(stored) % 2)), SpecificCharacterSet="ISO_IR 6"))  # fmt: skip
        padded = stored + b" " * (len(stored) % 2)
        data = file.read_bytes().replace(b"@" * len(padded), padded)
        said = "\\".join(charset).encode()
        said += b" " * (len(said) % 2)
        at = data.index(b"\x08\x00\x05\x00CS")
        length = int.from_bytes(data[at + 6 : at + 8], "little")
        file.write_bytes(data[: at + 6] + len(said).to_bytes(2, "little") + said + data[at + 8 + length :])
        assert isocenter.open(file).identity.patient_name == meant

    def test_a_broken_character_set_never_stops_the_reading(self, tmp_path: Path) -> None:
        write_series(tmp_path, PLANES, change=lambda s: every(s, SpecificCharacterSet="NO_SUCH", PatientName="é"))
        case = isocenter.open(tmp_path)
        assert case.volume().geometry.shape == PLANES.shape
