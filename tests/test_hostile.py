"""Files and recipes that lie: one sentence, bounded time and memory, and nothing else is lost with them."""

import gzip
import os
import struct
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset

import isocenter
from isocenter.acquire import open_cases
from isocenter.errors import AmbiguousSelection, InputError, IsocenterError, RecipeError, UnreadableFile
from isocenter.recipe import parse
from tests import outcomes
from tests.phantoms import write_series
from tests.test_recipe import GOOD
from tests.test_run import RECIPE, phantom, report_of


def nrrd(fields: str, data: bytes = b"\0" * 24) -> bytes:
    return f"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 2 3 4\n{fields}\n\n".encode() + data


@pytest.fixture
def nifti(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    image = nibabel.Nifti1Image(rng.integers(0, 999, (12, 13, 14)).astype(np.int16), np.eye(4))
    image.set_sform(np.eye(4), 1)
    nibabel.save(image, tmp_path / "a.nii")
    return tmp_path / "a.nii"


class TestIdentity:
    def test_a_file_without_a_patient_is_never_part_of_a_study(self, nifti: Path, tmp_path: Path) -> None:
        write_series(tmp_path / "both", phantom(), spacing=(2.0, 1.0, 1.0))
        nifti.rename(tmp_path / "both" / "other.nii")
        cases = open_cases(tmp_path / "both")
        assert [len(case.series) for case in cases] == [1, 1]
        assert [case.identity.patient_id for case in cases] == ["P-1", ""]
        with pytest.raises(AmbiguousSelection, match=r"other\.nii"):
            isocenter.open(tmp_path / "both")

    def test_series_without_a_study_are_not_thrown_together(self, tmp_path: Path) -> None:
        def nameless(slices: list[Dataset]) -> list[Dataset]:
            for ds in slices:
                del ds.StudyInstanceUID
                ds.PatientID = ds.SeriesInstanceUID
            return slices

        for series in ("1", "2"):
            write_series(tmp_path, phantom(), series=series, change=nameless)
        assert [case.identity.patient_id[-2:] for case in open_cases(tmp_path)] == [".1", ".2"]

    def test_a_runs_own_output_is_no_input(self, tmp_path: Path) -> None:
        write_series(tmp_path / "in" / "study", phantom(), spacing=(2.0, 1.0, 1.0))
        (tmp_path / "r.yaml").write_text(RECIPE, "utf-8")
        for skipped in (False, True):
            (result,) = isocenter.run(tmp_path / "r.yaml", [tmp_path / "in"], tmp_path / "in" / "out")
            assert (result.usable, result.skipped) == (True, skipped)


class TestNifti:
    def test_a_broken_checksum_is_refused(self, nifti: Path, tmp_path: Path) -> None:
        data = bytearray(gzip.compress(nifti.read_bytes()))
        data[-6] ^= 0xFF
        (tmp_path / "b.nii.gz").write_bytes(bytes(data))
        with pytest.raises(UnreadableFile, match="CRC"):
            isocenter.open(tmp_path / "b.nii.gz").volume()

    def test_a_bomb_behind_the_voxels_is_refused(self, nifti: Path, tmp_path: Path) -> None:
        (tmp_path / "b.nii.gz").write_bytes(gzip.compress(nifti.read_bytes() + bytes(20_000_000)))
        with pytest.raises(UnreadableFile, match="more data"):
            isocenter.open(tmp_path / "b.nii.gz").volume()

    @pytest.mark.parametrize(
        ("at", "packed", "says"),
        [
            (108, struct.pack("<f", 0.0), "begin at byte"),
            (80, struct.pack("<f", 0.0), "cannot be"),
            (80, struct.pack("<f", float("nan")), "cannot be"),
            (40, struct.pack("<8h", 3, 12, 13, 0, 1, 1, 1, 1), "no voxels|not a readable"),
            (70, struct.pack("<h", 32), "complex64|claims"),
            (280, struct.pack("<f", 1e30), "singular|apart"),
            (280, struct.pack("<f", 3000.0), "apart"),
        ],
    )
    def test_a_header_that_lies_is_refused(self, nifti: Path, at: int, packed: bytes, says: str) -> None:
        data = bytearray(nifti.read_bytes())
        data[at : at + len(packed)] = packed
        nifti.write_bytes(bytes(data))
        with pytest.raises(IsocenterError, match=says):
            isocenter.open(nifti).volume()

    def test_huge_values_stay_what_they_are(self, tmp_path: Path) -> None:
        nibabel.save(nibabel.Nifti1Image(np.asarray([[[1.0, 1e300]]]), np.eye(4)), tmp_path / "a.nii")
        assert isocenter.open(tmp_path / "a.nii").volume().voxels.ravel().tolist() == [1.0, 1e300]

    def test_a_flat_image_with_both_forms_is_read(self, tmp_path: Path) -> None:
        image = nibabel.Nifti1Image(np.zeros((4, 5), np.int16), np.eye(4))
        image.set_sform(np.eye(4), 1)
        image.set_qform(np.eye(4), 1)
        nibabel.save(image, tmp_path / "a.nii")
        assert isocenter.open(tmp_path / "a.nii").volume().geometry.shape == (1, 5, 4)


class TestNrrd:
    @pytest.mark.parametrize(
        ("fields", "says"),
        [
            ("encoding: raw\nDATA FILE: /etc/hostname", "another file"),
            ("encoding: raw\nline skip: 100000000", "skips"),
            ("encoding: raw\nkinds: domain domain RGB-color", "kind"),
            ("encoding: raw\nkinds: domain domain time", "time"),
            ('encoding: raw\nspace units: "furlong" "furlong" "furlong"\nspacings: 1 1 1', "furlong"),
        ],
    )
    def test_what_would_be_misread_is_refused(self, tmp_path: Path, fields: str, says: str) -> None:
        (tmp_path / "a.nrrd").write_bytes(nrrd(fields))
        with pytest.raises(InputError, match=says):
            isocenter.open(tmp_path / "a.nrrd")

    def test_microns_and_unknown_spaces_are_told(self, tmp_path: Path) -> None:
        where = "space directions: (500,0,0) (0,500,0) (0,0,500)\nspace origin: (0,0,0)"
        (tmp_path / "a.nrrd").write_bytes(
            nrrd(f'encoding: raw\nspace dimension: 3\nspace units: "um" "um" "um"\n{where}')
        )
        (series,) = isocenter.open(tmp_path / "a.nrrd").series
        assert series.spacing_mm == (0.5, 0.5, 0.5)
        assert [d.code for d in series.defects] == ["orientation-unknown"]

    def test_a_bomb_is_not_inflated(self, tmp_path: Path) -> None:
        (tmp_path / "a.nrrd").write_bytes(nrrd("encoding: gzip", gzip.compress(bytes(50_000_000))))
        with pytest.raises(UnreadableFile, match="more than announced"):
            isocenter.open(tmp_path / "a.nrrd").volume()

    def test_gzip_comes_back(self, tmp_path: Path) -> None:
        (tmp_path / "a.nrrd").write_bytes(nrrd("encoding: gzip", gzip.compress(bytes(range(24)))))
        assert isocenter.open(tmp_path / "a.nrrd").volume().voxels.ravel().tolist() == list(range(24))


class TestRaster:
    def test_variants_that_would_be_misread_are_refused(self, tmp_path: Path) -> None:
        grey = Image.fromarray(np.arange(12, dtype=np.uint16).reshape(3, 4))
        grey.save(tmp_path / "turned.tif", tiffinfo={274: 6})
        grey.save(tmp_path / "white.tif", tiffinfo={262: 0})
        clear = Image.new("P", (3, 4))
        clear.save(tmp_path / "clear.png", transparency=0)
        pages = [Image.new("L", (4, 4)), Image.new("RGB", (4, 4))]
        pages[0].save(tmp_path / "mixed.tif", save_all=True, append_images=pages[1:])
        for name, says in (("turned.tif", "turned"), ("white.tif", "white is zero"), ("clear.png", "transparent")):
            with pytest.raises(UnreadableFile, match=says):
                isocenter.open(tmp_path / name)
        with pytest.raises(InputError, match="differs from the first"):
            isocenter.open(tmp_path / "mixed.tif").volume()


class TestDicom:
    @pytest.mark.parametrize(
        ("says", "values"),
        [
            ("slope", {"RescaleSlope": 0}),
            ("slope", {"RescaleSlope": -1}),
            ("slope", {"RescaleIntercept": "1e30"}),
            ("bits stored", {"BitsStored": 65535}),
        ],
    )
    def test_an_absurd_rescale_is_refused(self, tmp_path: Path, says: str, values: dict) -> None:
        def spoil(slices: list[Dataset]) -> list[Dataset]:
            for ds in slices:
                for name, value in values.items():
                    setattr(ds, name, value)
            return slices

        write_series(tmp_path, phantom(), change=spoil)
        with pytest.raises(InputError, match=says):
            isocenter.open(tmp_path).volume()

    def test_more_pixels_than_announced_are_refused(self, tmp_path: Path) -> None:
        def shorten(slices: list[Dataset]) -> list[Dataset]:
            for ds in slices:
                ds.Rows -= 3
            return slices

        write_series(tmp_path, phantom(), change=shorten)
        with pytest.raises(InputError, match="announced"):
            isocenter.open(tmp_path).volume()

    def test_one_lone_slice_goes_the_whole_way(self, real_data: Callable[[str], Path], tmp_path: Path) -> None:
        file = next(real_data("dicom").rglob("MR_small.dcm"))
        (tmp_path / "r.yaml").write_text(
            "name: one\ntitle: {en: A, zh: A}\ndescription: {en: A, zh: A}\nsteps:\n"
            "  - segment: otsu\n    as: fg\n  - features: volume\n    of: fg\n",
            "utf-8",
        )
        (result,) = isocenter.run(tmp_path / "r.yaml", [file], tmp_path / "out")
        assert result.usable, result.reasons
        assert (result.folder / "fg.dcm").exists()

    def test_a_series_that_cannot_be_understood_takes_nothing_with_it(self, tmp_path: Path) -> None:
        write_series(tmp_path / "good", phantom(), spacing=(2.0, 1.0, 1.0))
        (bad,) = write_series(tmp_path / "bad", phantom()[:1], study="2")
        ds = dcmread(bad)
        ds.file_meta.TransferSyntaxUID = "1.2.3.4"
        ds.save_as(bad, enforce_file_format=False, implicit_vr=False, little_endian=True)
        (tmp_path / "x.tif").write_bytes(b"II*\0" + b"\xff" * 60)
        cases = {case.name: case for case in open_cases(tmp_path)}
        assert cases["good"].volume().geometry.shape == phantom().shape

    def test_every_file_of_the_collections_opens_or_is_refused(self, real_data: Callable[[str], Path]) -> None:
        listed = outcomes.LIST.read_text("utf-8").splitlines()
        assert list(outcomes.outcomes(real_data("dicom").parent)) == listed
        assert len(listed) > 200
        assert sum(": refused" not in line for line in listed) > 120


@pytest.fixture(scope="module")
def valid_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("valid")
    (dicom,) = write_series(folder / "d", phantom()[6:7])
    nibabel.save(nibabel.Nifti1Image(phantom()[6:9].T, np.eye(4)), folder / "a.nii")
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(folder / "a.png")
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(folder / "a.tif")
    found = {f.name: f.read_bytes() for f in folder.iterdir() if f.is_file()} | {"a.dcm": dicom.read_bytes()}
    return found | {"a.nrrd": nrrd("encoding: raw\nspacings: 1 1 1")}


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_change_of_bytes_is_read_or_refused(
    valid_files: dict[str, bytes], tmp_path: Path, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(valid_files)))
    content = bytearray(valid_files[name])
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, min(len(content) - 1, 700)))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    (tmp_path / name).write_bytes(bytes(content[: cut or None]))
    try:
        isocenter.open(tmp_path / name).volume()
    except IsocenterError as error:
        assert str(error)


class TestPaths:
    @pytest.mark.skipif(sys.platform == "win32", reason="named pipes are POSIX")
    def test_a_pipe_in_a_folder_does_not_hang(self, tmp_path: Path) -> None:
        write_series(tmp_path, phantom())
        os.mkfifo(tmp_path / "pipe")
        case = isocenter.open(tmp_path)
        assert "not a regular file" in case.refused_files[0].message

    @pytest.mark.parametrize("path", ["x" * 5000, "a\0b"])
    def test_impossible_paths_are_one_sentence(self, path: str) -> None:
        with pytest.raises(InputError):
            isocenter.open(path)
        with pytest.raises(InputError):
            isocenter.run(path, ["x"], "out")

    def test_a_file_name_cannot_forge_a_line(self) -> None:
        from isocenter.cli.show import printable

        assert printable("x\naccepted all\x1b[2J") == "x\n    accepted all?[2J"

    def test_a_broken_earlier_report_is_no_obstacle(self, tmp_path: Path) -> None:
        write_series(tmp_path / "s", phantom(), spacing=(2.0, 1.0, 1.0))
        (tmp_path / "r.yaml").write_text(RECIPE, "utf-8")
        for content in ('{"lineage": {"input": []}}', "[" * 200_000, '{"lineage": 3}', "{"):
            (tmp_path / "out" / "s").mkdir(parents=True, exist_ok=True)
            (tmp_path / "out" / "s" / "report.json").write_text(content)
            (result,) = isocenter.run(tmp_path / "r.yaml", [tmp_path / "s"], tmp_path / "out")
            assert result.case == "s-2"
        assert report_of(tmp_path / "out" / "s-2")["verdict"] == "accepted"

    def test_convert_never_replaces_its_input(self, nifti: Path) -> None:
        before = nifti.read_bytes()
        with pytest.raises(InputError, match="input itself"):
            isocenter.convert(nifti, nifti)
        with pytest.raises(InputError, match="cannot be written"):
            isocenter.convert(nifti, nifti / "x.nii")
        assert nifti.read_bytes() == before

    def test_convert_keeps_what_is_not_finite(self, tmp_path: Path) -> None:
        image = nibabel.Nifti1Image(np.asarray([[[1, np.nan, 3]]], np.float32), np.eye(4))
        nibabel.save(image, tmp_path / "a.nii")
        isocenter.convert(tmp_path / "a.nii", tmp_path / "b.nii.gz")
        assert np.isnan(np.asarray(nibabel.load(tmp_path / "b.nii.gz").dataobj)).sum() == 1


class TestRecipes:
    @pytest.mark.parametrize(
        ("old", "new", "says"),
        [
            ("- segment: otsu", "- segment: [otsu]", "no step"),
            ("sigma_mm: 1.0", f"sigma_mm: 0x{'F' * 9000}", "sigma_mm"),
            ("name: mine", f"name: {'[' * 20_000}", "nested"),
            ("name: mine", f"name: {'x' * 5000}", r"\.\.\."),
            ("modality: [CT]", "modality: [MRI]", "no DICOM modality"),
            ("modality: [CT]", "thickness_mm: [5, 0.5]", "comes first"),
            ("title: {en: Mine, zh: 我的}", "title: Body", "mapping"),
        ],
    )
    def test_a_hostile_recipe_is_told_quickly(self, old: str, new: str, says: str) -> None:
        start = time.process_time()
        with pytest.raises(RecipeError, match=says) as told:
            parse(GOOD.replace(old, new), source="r.yaml")
        assert len(str(told.value)) < 1500
        assert time.process_time() - start < 60

    @pytest.mark.parametrize(
        ("step", "says"), [("resample\n    spacing_mm: 0.01", "GiB"), ("median\n    radius_mm: 20", "hours")]
    )
    def test_settings_that_cannot_end_are_refused(self, tmp_path: Path, step: str, says: str) -> None:
        write_series(tmp_path / "s", phantom(), spacing=(2.0, 1.0, 1.0))
        text = RECIPE.replace("gaussian\n    sigma_mm: 1.0", step)
        (tmp_path / "r.yaml").write_text(text, "utf-8")
        (result,) = isocenter.run(tmp_path / "r.yaml", [tmp_path / "s"], tmp_path / "out")
        assert says in result.reasons[0]


def test_a_png_bomb_is_refused(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    ihdr = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", ihdr) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(png)
    with pytest.raises(UnreadableFile, match="60000|exceeds"):
        isocenter.open(tmp_path / "a.png")
