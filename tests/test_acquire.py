"""From files to a case: read rightly, or refused with a sentence."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pytest
import SimpleITK
from PIL import Image
from pydicom.dataset import Dataset

import isocenter
from isocenter.data.geometry import Space
from isocenter.data.volume import Quantity
from isocenter.errors import AmbiguousSelection, InputError, UnreadableFile, UnsupportedFormat
from tests.phantoms import write_series

VOXELS = np.random.default_rng(0).integers(-1000, 1500, (12, 16, 20)).astype(np.int16)


class TestDicom:
    def test_voxels_and_geometry_equal_those_of_simpleitk(self, ct_series: Path) -> None:
        volume = isocenter.open(ct_series).volume()
        reader = SimpleITK.ImageSeriesReader()
        files = sorted(ct_series.iterdir(), key=lambda f: SimpleITK.ReadImage(str(f)).GetOrigin()[2])
        reader.SetFileNames([str(f) for f in files])
        peer = reader.Execute()
        assert np.array_equal(volume.grid, SimpleITK.GetArrayFromImage(peer))
        assert volume.geometry.spacing_mm == pytest.approx(peer.GetSpacing()[::-1])
        for index in ((0, 0, 0), (11, 3, 17)):
            mine = volume.geometry.index_to_world(np.asarray([index], dtype=float))[0]
            assert mine == pytest.approx(peer.TransformIndexToPhysicalPoint(index[::-1]))
        assert volume.quantity is Quantity.HU
        assert volume.voxels.dtype == np.int16
        assert volume.geometry.frame_uid is not None

    def test_order_comes_from_position_not_from_instance_number(self, tmp_path: Path) -> None:
        def number_all_one(slices: list[Dataset]) -> list[Dataset]:
            for ds in slices:
                ds.InstanceNumber = 1
            return slices[::-1]

        write_series(tmp_path, VOXELS, change=number_all_one)
        assert np.array_equal(isocenter.open(tmp_path).volume().grid, VOXELS)

    def test_fractional_rescale_gives_floats(self, tmp_path: Path) -> None:
        def halve(slices: list[Dataset]) -> list[Dataset]:
            for ds in slices:
                ds.RescaleSlope = 0.5
            return slices

        write_series(tmp_path, VOXELS, change=halve)
        assert isocenter.open(tmp_path).volume().grid == pytest.approx((VOXELS + 1024) * 0.5 - 1024)

    def test_rescale_is_taken_slice_by_slice(self, tmp_path: Path) -> None:
        def shift_one(slices: list[Dataset]) -> list[Dataset]:
            slices[3].RescaleIntercept = -1000
            return slices

        write_series(tmp_path, VOXELS, change=shift_one)
        grid = isocenter.open(tmp_path).volume().grid
        assert np.array_equal(grid[3], VOXELS[3] + 24)
        assert np.array_equal(grid[4], VOXELS[4])

    def test_a_bad_file_among_good_ones_is_named(self, tmp_path: Path) -> None:
        write_series(tmp_path, VOXELS)
        (tmp_path / "notes.txt").write_text("hello")
        (tmp_path / "cut.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\x02\x00")
        case = isocenter.open(tmp_path)
        assert {r.file.name for r in case.refused_files} == {"notes.txt", "cut.dcm"}
        assert np.array_equal(case.volume().grid, VOXELS)

    def test_several_series_are_refused_with_the_list(self, tmp_path: Path) -> None:
        write_series(tmp_path, VOXELS)
        write_series(tmp_path, VOXELS, series="2")
        case = isocenter.open(tmp_path)
        with pytest.raises(AmbiguousSelection, match=r"\.2 "):
            case.volume()
        assert case.volume(case.series[1].uid).geometry.shape == VOXELS.shape

    def test_several_studies_become_several_cases(self, tmp_path: Path) -> None:
        write_series(tmp_path / "a", VOXELS)
        write_series(tmp_path / "b", VOXELS, study="2")
        with pytest.raises(AmbiguousSelection, match="2 studies"):
            isocenter.open(tmp_path)
        from isocenter.acquire import open_cases

        assert sorted(c.name for c in open_cases(tmp_path)) == ["a", "b"]

    def test_real_head_compressed_with_jpeg_ls(self, real_data: Callable[[str], Path]) -> None:
        case = isocenter.open(real_data("head_mr"))
        volume = case.volume()
        assert volume.geometry.shape == (128, 256, 256)
        assert volume.geometry.spacing_mm == pytest.approx((1.33, 1, 1), abs=1e-3)
        assert volume.geometry.axis_letters == ("R", "I", "P")
        assert case.series[0].attributes["EchoTime"] == 4.13


class TestNifti:
    def test_grid_and_place_equal_those_of_simpleitk(self, tmp_path: Path) -> None:
        file = tmp_path / "头 部.nii.gz"
        affine = np.asarray([[-0.8, 0.1, 0, 90], [0.1, 0.9, 0.2, -126], [0, -0.2, 2.0, -72], [0, 0, 0, 1]])
        turn, _ = np.linalg.qr(affine[:3, :3])
        affine[:3, :3] = turn * (0.8, 0.9, 2.0)
        image = nibabel.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), affine)
        image.set_sform(affine, 1)
        nibabel.save(image, file)
        volume, peer = isocenter.open(file).volume(), SimpleITK.ReadImage(str(file))
        assert np.array_equal(volume.grid, SimpleITK.GetArrayFromImage(peer))
        mine = volume.geometry.index_to_world(np.asarray([[4.0, 1.0, 2.0]]))[0]
        assert mine == pytest.approx(peer.TransformIndexToPhysicalPoint((2, 1, 4)), abs=1e-4)

    def test_scaling_is_applied(self, tmp_path: Path) -> None:
        image = nibabel.Nifti1Image(np.asarray([[[1, 2, 3]]], np.int16), np.eye(4))
        image.header.set_slope_inter(2.0, -1.0)
        nibabel.save(image, tmp_path / "a.nii")
        assert isocenter.open(tmp_path / "a.nii").volume().voxels.ravel() == pytest.approx([1, 3, 5])

    def test_without_orientation_the_defect_is_named(self, tmp_path: Path) -> None:
        image = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.int16), None)
        image.header.set_zooms((1, 1, 3))
        nibabel.save(image, tmp_path / "a.nii")
        (series,) = isocenter.open(tmp_path / "a.nii").series
        assert [d.code for d in series.defects] == ["orientation-unknown"]
        assert series.usable
        assert series.spacing_mm == (3.0, 1.0, 1.0)

    def test_sform_against_qform_is_named(self, tmp_path: Path) -> None:
        image = nibabel.Nifti1Image(np.zeros((9, 9, 9), np.int16), np.eye(4))
        image.set_sform(np.diag([-1.0, 1, 1, 1]), 1)
        image.set_qform(np.eye(4), 1)
        nibabel.save(image, tmp_path / "a.nii")
        (series,) = isocenter.open(tmp_path / "a.nii").series
        assert [d.code for d in series.defects] == ["sform-qform"]
        assert "18" in str(series.defects[0].message)

    def test_microns_become_millimetres(self, tmp_path: Path) -> None:
        image = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.diag([500.0, 500, 1000, 1]))
        image.header.set_xyzt_units("micron")
        image.set_sform(np.diag([500.0, 500, 1000, 1]), 1)
        nibabel.save(image, tmp_path / "a.nii")
        assert isocenter.open(tmp_path / "a.nii").volume().geometry.spacing_mm == (1.0, 0.5, 0.5)

    def test_a_fourth_axis_is_time(self, tmp_path: Path) -> None:
        voxels = np.arange(2 * 3 * 4 * 5, dtype=np.int16).reshape(2, 3, 4, 5)
        image = nibabel.Nifti1Image(voxels, np.eye(4))
        image.header.set_xyzt_units("mm", "sec")
        image.header["pixdim"][4] = 2.5
        nibabel.save(image, tmp_path / "a.nii")
        (series,) = isocenter.open(tmp_path / "a.nii").series
        assert (series.shape, series.frames) == ((4, 3, 2), 5)
        cine = series.cine()
        assert cine.times_s == (0, 2.5, 5, 7.5, 10)
        assert np.array_equal(cine.frame(3).grid, voxels[..., 3].T)

    def test_a_fifth_axis_is_refused(self, tmp_path: Path) -> None:
        nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2, 2, 5, 2), np.int16), np.eye(4)), tmp_path / "a.nii")
        with pytest.raises(UnsupportedFormat, match="four axes"):
            _header_of(tmp_path / "a.nii")

    def test_a_header_that_claims_more_than_the_file_holds_is_refused(self, tmp_path: Path) -> None:
        nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)), tmp_path / "a.nii")
        data = bytearray((tmp_path / "a.nii").read_bytes())
        struct.pack_into("<8h", data, 40, 3, 2000, 2000, 2000, 1, 1, 1, 1)
        (tmp_path / "a.nii").write_bytes(bytes(data))
        with pytest.raises(UnreadableFile, match="claims"):
            _header_of(tmp_path / "a.nii")
        with gzip.open(tmp_path / "b.nii.gz", "wb") as stream:
            stream.write(bytes(data))
        with pytest.raises(UnreadableFile, match="claims"):
            _header_of(tmp_path / "b.nii.gz")

    def test_truncated_voxels_are_refused(self, tmp_path: Path) -> None:
        noise = np.random.default_rng(0).integers(0, 999, (20, 20, 20)).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(noise, np.eye(4)), tmp_path / "a.nii.gz")
        whole = (tmp_path / "a.nii.gz").read_bytes()
        (tmp_path / "a.nii.gz").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(UnreadableFile):
            isocenter.open(tmp_path / "a.nii.gz").volume()


def _header_of(file: Path) -> None:
    from isocenter.formats import nifti

    nifti.read_header(file)


class TestNrrd:
    @pytest.mark.parametrize("space", ["left-posterior-superior", "right-anterior-superior"])
    def test_grid_and_place_equal_those_of_simpleitk(self, tmp_path: Path, space: str) -> None:
        file = tmp_path / "a.nrrd"
        header = {
            "space": space,
            "space directions": [[0.5, 0, 0], [0, 0.6, 0.1], [0, -0.1, 2.0]],
            "space origin": [1.0, 2.0, 3.0],
        }
        nrrd.write(str(file), np.arange(24, dtype=np.int16).reshape(2, 3, 4), header, index_order="C")
        volume, peer = isocenter.open(file).volume(), SimpleITK.ReadImage(str(file))
        assert np.array_equal(volume.grid, SimpleITK.GetArrayFromImage(peer))
        mine = volume.geometry.index_to_world(np.asarray([[1.0, 2.0, 3.0]]))[0]
        assert mine == pytest.approx(peer.TransformIndexToPhysicalPoint((3, 2, 1)), abs=1e-6)

    def test_without_space_there_are_no_millimetres(self, tmp_path: Path) -> None:
        nrrd.write(str(tmp_path / "a.nrrd"), np.zeros((2, 3, 4), np.uint8), index_order="C")
        assert isocenter.open(tmp_path / "a.nrrd").volume().geometry.space is Space.PIXELS

    def test_voxels_in_another_file_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a.nrrd").write_text(
            "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 2 2 2\nencoding: raw\ndata file: ../secret.raw\n\n"
        )
        with pytest.raises(UnreadableFile, match="another file"):
            isocenter.open(tmp_path / "a.nrrd")

    def test_truncated_voxels_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a.nrrd").write_bytes(
            b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 99 99 99\nencoding: raw\n\n" + b"\0" * 100
        )
        with pytest.raises(UnreadableFile, match="truncated"):
            isocenter.open(tmp_path / "a.nrrd")


class TestRaster:
    @pytest.mark.parametrize("ending", ["png", "tif", "bmp.png"])
    def test_grey_pixels_come_back(self, tmp_path: Path, ending: str) -> None:
        pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
        Image.fromarray(pixels).save(tmp_path / f"a.{ending}")
        volume = isocenter.open(tmp_path / f"a.{ending}").volume()
        assert np.array_equal(volume.grid[0], pixels)
        assert volume.geometry.space is Space.PIXELS

    def test_sixteen_bits_stay(self, tmp_path: Path) -> None:
        pixels = np.asarray([[0, 300], [65535, 7]], np.uint16)
        Image.fromarray(pixels).save(tmp_path / "a.png")
        assert isocenter.open(tmp_path / "a.png").volume().grid[0].tolist() == pixels.tolist()

    def test_colour_is_three_channels_first(self, tmp_path: Path) -> None:
        pixels = np.random.default_rng(0).integers(0, 255, (3, 4, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "a.png")
        volume = isocenter.open(tmp_path / "a.png").volume()
        assert volume.voxels.shape == (3, 1, 3, 4)
        assert np.array_equal(volume.voxels[:, 0], pixels.transpose(2, 0, 1))

    def test_pages_of_a_tiff_are_slices(self, tmp_path: Path) -> None:
        pages = [Image.fromarray(np.full((3, 4), i, np.uint8)) for i in range(5)]
        pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
        assert isocenter.open(tmp_path / "a.tif").volume().grid[:, 0, 0].tolist() == [0, 1, 2, 3, 4]

    def test_a_photograph_is_turned_as_its_exif_says(self, tmp_path: Path) -> None:
        exif = Image.Exif()
        exif[274] = 6
        Image.fromarray(np.zeros((3, 8, 3), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
        assert isocenter.open(tmp_path / "a.jpg").volume().geometry.shape == (1, 8, 3)

    @pytest.mark.parametrize("mode", ["RGBA", "CMYK"])
    def test_pixels_that_would_lose_meaning_are_refused(self, tmp_path: Path, mode: str) -> None:
        Image.new(mode, (4, 4)).save(tmp_path / "a.tif")
        with pytest.raises(UnreadableFile, match=mode):
            isocenter.open(tmp_path / "a.tif")

    def test_sixteen_bit_colour_is_refused_because_it_would_lose_bits(self, tmp_path: Path) -> None:
        import zlib

        def chunk(kind: bytes, data: bytes) -> bytes:
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

        ihdr = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
        rows = zlib.compress(b"".join(b"\0" + b"\1" * 12 for _ in range(2)))
        png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", ihdr) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
        (tmp_path / "a.png").write_bytes(png)
        with pytest.raises(UnreadableFile, match="8 bits"):
            isocenter.open(tmp_path / "a.png")


class TestBadInput:
    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"", "empty"),
            (b"hello", "not an image"),
            (b"\x89PNG\r\n\x1a\n" + b"\0" * 20, "PNG"),
            (b"NRRD0004\nnonsense\n\n", "NRRD"),
            (b"\0" * 128 + b"DICM" + b"\xff" * 40, "DICOM"),
        ],
    )
    def test_a_lone_bad_file_is_one_sentence(self, tmp_path: Path, content: bytes, says: str) -> None:
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(InputError, match=says):
            isocenter.open(tmp_path / "x")

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(UnreadableFile, match="no such"):
            isocenter.open(tmp_path / "nope")
        with pytest.raises(UnreadableFile, match="holds no file"):
            isocenter.open(tmp_path)

    def test_links_out_of_the_folder_are_not_followed(self, tmp_path: Path) -> None:
        write_series(tmp_path / "elsewhere", VOXELS)
        (tmp_path / "study").mkdir()
        for file in (tmp_path / "elsewhere").iterdir():
            (tmp_path / "study" / file.name).symlink_to(file)
        with pytest.raises(UnreadableFile):
            isocenter.open(tmp_path / "study")


class TestSequenceNames:
    def test_what_scanners_write(self) -> None:
        from isocenter.acquire.sequence_names import sequence_names

        wanted = {
            "t1_mprage_sag_p2_iso": "T1", "T1 MPRAGE post GAD": "T1 post-contrast", "AX T2 FLAIR FS": "FLAIR",
            "t2_tse_tra": "T2", "ep2d_diff_3scan_trace_p2_ADC": "ADC", "ep2d_diff_b1000": "DWI", "SWI_Images": "SWI",
            "AX T1 +C": "T1 post-contrast", "STIR_COR": "STIR", "3-plane LOC": "localizer", "T2* GRE": "T2*",
            "Portal Venous 5.0": "portal venous", "动脉期": "arterial", "Arterial 1.25mm": "arterial", "平扫": "non-contrast",
        }  # fmt: skip
        named, unmatched = sequence_names([*wanted, "Series 4", ""])
        assert named == wanted
        assert unmatched == ("Series 4", "")
        assert sequence_names(["Series 4"], own={"Series 4": "T1"}) == ({"Series 4": "T1"}, ())
