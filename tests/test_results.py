"""Results of other programs read back, and what is written for other programs."""

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage

import isocenter
from isocenter.data.geometry import Geometry
from isocenter.data.labels import Label, LabelMap
from isocenter.errors import AmbiguousSelection, GeometryError, InputError, ReadBackMismatch, UnsupportedFormat
from isocenter.formats import dicom_seg_read, itksnap, metaimage, nrrd, proof, raster, rtstruct
from isocenter.formats.dicom_image import read_header
from tests.phantoms import ROOT, careless, write_series

VOXELS = np.random.default_rng(0).integers(-1000, 1500, (6, 20, 24)).astype(np.int16)


def structure_set(path: Path, regions: dict[str, list[np.ndarray]], *, series: str = "1") -> Path:
    """Contours (n x 3, mm) by name, drawn on the phantom's series."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{ROOT}77.1"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality = f"{ROOT}1", f"{ROOT}77", "RTSTRUCT"
    ds.PatientID, ds.PatientName = "P-1", "Zhang^San"
    referenced, study, frame = Dataset(), Dataset(), Dataset()
    referenced.SeriesInstanceUID = f"{ROOT}1.{series}"
    study.RTReferencedSeriesSequence = Sequence([referenced])
    frame.RTReferencedStudySequence = Sequence([study])
    ds.ReferencedFrameOfReferenceSequence = Sequence([frame])
    names, drawn = [], []
    for number, (name, contours) in enumerate(regions.items(), start=1):
        roi, item = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName = number, name
        item.ReferencedROINumber = number
        item.ContourSequence = Sequence([])
        for points in contours:
            contour = Dataset()
            contour.ContourGeometricType = "CLOSED_PLANAR"
            contour.NumberOfContourPoints = len(points)
            contour.ContourData = [float(f"{v:.4f}") for v in np.asarray(points).ravel()]
            item.ContourSequence.append(contour)
        names.append(roi)
        drawn.append(item)
    ds.StructureSetROISequence, ds.ROIContourSequence = Sequence(names), Sequence(drawn)
    ds.save_as(path, enforce_file_format=True)
    return path


def rectangle(z: float, top: float, left: float, bottom: float, right: float) -> np.ndarray:
    """Corners in mm of a rectangle given in rows and columns of the phantom (0.8 mm)."""
    corners = [(top, left), (top, right), (bottom, right), (bottom, left)]
    return np.asarray([(-100 + 0.8 * w, -80 + 0.8 * h, z) for h, w in corners])


@pytest.fixture
def study(tmp_path: Path) -> Path:
    write_series(tmp_path / "study", VOXELS, spacing=(2.5, 0.8, 0.8))
    return tmp_path / "study"


class TestStructures:
    def test_holes_and_several_contours_on_a_slice(self, study: Path) -> None:
        structure_set(study / "rs.dcm", {
            "ring": [rectangle(52.5, 1.5, 1.5, 9.5, 9.5), rectangle(52.5, 3.5, 3.5, 6.5, 6.5),
                     rectangle(52.5, 12.5, 12.5, 14.5, 15.5)],
            "box": [rectangle(55.0, 2.5, 2.5, 5.5, 7.5)],
        })  # fmt: skip
        case = isocenter.open(study)
        (result,) = case.results
        assert (result.kind, result.names) == ("RTSTRUCT", ("ring", "box"))
        (labels,) = case.labels(result)
        ring = labels.mask("ring")
        assert np.count_nonzero(ring) == 8 * 8 - 3 * 3 + 2 * 3
        assert not ring[1, 4:7, 4:7].any()
        assert ring[1, 13:15, 13:16].all()
        assert np.argwhere(labels.mask("box")).min(axis=0).tolist() == [2, 3, 3]
        assert np.count_nonzero(labels.mask("box")) == 3 * 5

    def test_overlapping_regions_are_layers(self, study: Path, tmp_path: Path) -> None:
        structure_set(study / "rs.dcm", {"a": [rectangle(50, 1.5, 1.5, 9.5, 9.5)], "b": [rectangle(50, 5.5, 5.5, 12.5, 12.5)]})  # fmt: skip
        case = isocenter.open(study)
        assert [[lb.name for lb in m.labels] for m in case.labels(case.results[0])] == [["a"], ["b"]]
        uid = case.results[0].uid
        with pytest.raises(UnsupportedFormat, match="overlap"):
            isocenter.convert(study, tmp_path / "x.nii.gz", series=uid)
        isocenter.convert(study, tmp_path / "x.seg.nrrd", series=uid)
        back = nrrd.read_segments(tmp_path / "x.seg.nrrd")
        assert [[lb.name for lb in m.labels] for m in back] == [["a"], ["b"]]
        assert np.count_nonzero(back[1].foreground) == 49
        isocenter.convert(study, tmp_path / "b.nii.gz", series=uid, label="b")
        image = SimpleITK.ReadImage(str(tmp_path / "b.nii.gz"))
        assert SimpleITK.GetArrayFromImage(image).sum() == 49
        assert itksnap.read(tmp_path / "b.label.txt") == (Label(1, "b"),)
        with pytest.raises(AmbiguousSelection, match="a, b"):
            isocenter.convert(study, tmp_path / "c.nii.gz", series=uid, label="c")

    @pytest.mark.parametrize(
        ("contour", "says"),
        [
            (rectangle(50, 1, 1, 4, 4) + np.asarray([[0, 0, 0], [0, 0, 2], [0, 0, 0], [0, 0, 0]]), "slices off"),
            (rectangle(500, 1, 1, 4, 4), "slices off"),
            (rectangle(50, 1, 1, 4, 4)[:, [0, 2, 1]], "slices off"),
        ],
    )
    def test_contours_of_another_image_are_refused(self, study: Path, contour: np.ndarray, says: str) -> None:
        structure_set(study / "rs.dcm", {"a": [contour]})
        case = isocenter.open(study)
        with pytest.raises(GeometryError, match=says):
            case.labels(case.results[0])

    def test_the_image_must_be_there(self, study: Path) -> None:
        structure_set(study / "rs.dcm", {"a": [rectangle(50, 1, 1, 4, 4)]}, series="5")
        case = isocenter.open(study)
        with pytest.raises(AmbiguousSelection, match="not here"):
            case.labels(case.results[0])
        assert case.labels(case.results[0], on=case.series[0])[0].foreground.any()

    def test_one_without_contours_is_named(self, study: Path) -> None:
        structure_set(study / "rs.dcm", {"a": []})
        case = isocenter.open(study)
        assert case.results == ()
        assert "no closed contour" in case.refused_files[0].message

    @settings(max_examples=30)
    @given(
        centre=st.tuples(st.floats(6, 14), st.floats(6, 18)), radius=st.floats(2, 5), corners=st.integers(3, 40),
    )  # fmt: skip
    def test_inside_agrees_with_another_library(self, centre: tuple[float, float], radius: float, corners: int) -> None:
        from matplotlib.path import Path as Outline

        angle = np.linspace(0, 2 * np.pi, corners, endpoint=False) + 0.1234
        polygon = np.stack((centre[0] + radius * np.sin(angle), centre[1] + radius * np.cos(angle)), axis=1)
        geometry = Geometry.regular((1, 20, 24))
        points = geometry.index_to_world(np.insert(polygon, 0, 0.0, axis=1))
        mine = rtstruct.mask_of([points], geometry, what="x")[0]
        h, w = np.mgrid[:20, :24]
        peer = Outline(polygon).contains_points(np.stack((h.ravel(), w.ravel()), axis=1)).reshape(20, 24)
        assert np.array_equal(mine, peer)

    def test_real_contours_give_the_masks_that_others_made(self, real_data: Callable[[str], Path]) -> None:
        case = isocenter.open(real_data("sts_dicom"))
        assert len(case.results) == 3
        pairs = [(result, case.labels(result), real_data("sts") / "STS_002" / f"{result.names[0].removeprefix('GTV_Mass_')}_mask.nii.gz") for result in case.results]  # fmt: skip
        phantom = isocenter.open(real_data("ibsi") / "ct_phantom_dicom")
        pairs.append((phantom.results[0], phantom.labels(phantom.results[0]), real_data("ibsi") / "ct_phantom" / "mask" / "mask.nii.gz"))  # fmt: skip
        for _, (labels,), file in pairs:
            peer = isocenter.open(file).volume()
            mask = np.zeros(peer.geometry.shape, np.bool_)
            index = np.argwhere(labels.foreground).astype(np.float64)
            there = np.rint(peer.geometry.world_to_index(labels.geometry.index_to_world(index))).astype(int)
            mask[tuple(there.T)] = True
            assert np.array_equal(mask, peer.grid > 0)


class TestSeg:
    def seg(self, study: Path, masks: np.ndarray, kind: str, path: Path) -> Path:
        sources = [dcmread(f) for f in sorted(study.glob("*.dcm"))]
        sources.sort(key=lambda ds: ds.ImagePositionPatient[2])
        algorithm = hd.AlgorithmIdentificationSequence(name="x", version="1", family=codes.DCM.ArtificialIntelligence)
        described = [
            hd.seg.SegmentDescription(
                segment_number=n, segment_label=f"part {n}", segmented_property_category=codes.SCT.Tissue,
                segmented_property_type=codes.SCT.Tissue, algorithm_type="AUTOMATIC", algorithm_identification=algorithm,
            )
            for n in range(1, masks.shape[-1] + 1)
        ]  # fmt: skip
        hd.seg.Segmentation(
            source_images=sources, pixel_array=masks, segmentation_type=kind, segment_descriptions=described,
            series_instance_uid=f"{ROOT}66", series_number=9, sop_instance_uid=f"{ROOT}66.1", instance_number=1,
            manufacturer="x", manufacturer_model_name="x", software_versions="1", device_serial_number="1",
        ).save_as(path)  # fmt: skip
        return path

    @pytest.mark.parametrize("kind", ["BINARY", "LABELMAP", "FRACTIONAL"])
    def test_every_kind_comes_back(self, study: Path, kind: str) -> None:
        masks = np.zeros((*VOXELS.shape, 2), np.uint8)
        masks[1:4, 2:9, 3:11, 0] = 1
        masks[4:5, 10:13, 3:9, 1] = 1
        values = masks.astype(np.float32) * 0.75 if kind == "FRACTIONAL" else masks
        self.seg(study, values, kind, study / "seg.dcm")
        case = isocenter.open(study)
        (result,) = case.results
        (labels,) = case.labels(result)
        for at, name in enumerate(("part 1", "part 2")):
            assert np.array_equal(labels.mask(name), masks[..., at] > 0)
        if kind == "FRACTIONAL":
            seg = dicom_seg_read.read(read_header(study / "seg.dcm"))
            assert dicom_seg_read.fractions(seg, labels.geometry)[0].grid.max() == pytest.approx(0.75, abs=0.003)

    def test_on_another_image_it_is_refused(self, study: Path, tmp_path: Path) -> None:
        masks = np.zeros((*VOXELS.shape, 1), np.uint8)
        masks[1:4, 2:9, 3:11, 0] = 1
        self.seg(study, masks, "BINARY", study / "seg.dcm")
        (result,) = isocenter.open(study).results
        with pytest.raises(GeometryError, match="another image"):
            result.read(Geometry.regular((3, 5, 5), origin_mm=(-100, -80, 50), spacing_mm=(2.5, 0.8, 0.8)))

    def test_on_a_finer_grid_it_keeps_its_volume(self, study: Path) -> None:
        masks = np.zeros((*VOXELS.shape, 1), np.uint8)
        masks[1:4, 4:12, 4:16, 0] = 1
        self.seg(study, masks, "BINARY", study / "seg.dcm")
        (result,) = isocenter.open(study).results
        finer = Geometry.regular((30, 40, 48), origin_mm=(-100.2, -80.2, 49.0), spacing_mm=(0.5, 0.4, 0.4))
        (labels,) = result.read(finer)
        assert np.count_nonzero(labels.foreground) * finer.voxel_volume_mm3 == pytest.approx(3 * 8 * 12 * 1.6, rel=0.1)

    def test_real_segmentations_agree_with_highdicom(self, real_data: Callable[[str], Path]) -> None:
        file = real_data("dicom") / "highdicom" / "seg_image_ct_binary.dcm"
        seg = dicom_seg_read.read(read_header(file))
        peer = hd.seg.segread(file).get_volume(combine_segments=True)
        affine = peer.affine
        (labels,) = dicom_seg_read.label_maps(seg, Geometry(peer.spatial_shape, affine))
        assert np.array_equal(labels.voxels, peer.array)


class TestWritten:
    LABELS = LabelMap(
        (np.arange(6 * 20 * 24).reshape(6, 20, 24) % 97 == 0).astype(np.uint8) * 7,
        Geometry.regular((6, 20, 24), spacing_mm=(2.5, 0.8, 0.7), origin_mm=(1, 2, 3)),
        (Label(7, 'a "quoted" name'), Label(9, "空")),
    )

    def test_seg_nrrd_names_its_segments(self, tmp_path: Path) -> None:
        nrrd.write_segments([self.LABELS], tmp_path / "a.seg.nrrd")
        proof.prove_segments([self.LABELS], tmp_path / "a.seg.nrrd")
        (back,) = nrrd.read_segments(tmp_path / "a.seg.nrrd")
        assert back.labels == self.LABELS.labels
        assert np.array_equal(back.voxels, self.LABELS.voxels)
        assert back.geometry.distance_to(self.LABELS.geometry) < 1e-9
        assert np.array_equal(isocenter.open(tmp_path / "a.seg.nrrd").volume().grid, self.LABELS.voxels)

    def test_the_proof_sees_a_name_that_is_not_there(self, tmp_path: Path) -> None:
        nrrd.write_segments([self.LABELS], tmp_path / "a.seg.nrrd")
        data = (tmp_path / "a.seg.nrrd").read_bytes()
        (tmp_path / "a.seg.nrrd").write_bytes(data.replace("空".encode(), b"xyz"))
        with pytest.raises(ReadBackMismatch, match="does not name"):
            proof.prove_segments([self.LABELS], tmp_path / "a.seg.nrrd")

    def test_itksnap_descriptions_come_back(self, tmp_path: Path) -> None:
        itksnap.write(self.LABELS.labels, tmp_path / "a.label.txt")
        assert itksnap.read(tmp_path / "a.label.txt") == (Label(7, "a 'quoted' name"), Label(9, "空"))
        (tmp_path / "b.label.txt").write_text("1 2 3\n")
        with pytest.raises(InputError, match="line 1"):
            itksnap.read(tmp_path / "b.label.txt")

    def test_png_holds_whole_numbers_of_one_slice(self, tmp_path: Path) -> None:
        volume = isocenter.open(write_series(tmp_path / "s", np.abs(VOXELS[:1]))[0]).volume()
        isocenter.convert(tmp_path / "s", tmp_path / "a.png")
        assert np.array_equal(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "a.png"))), volume.grid[0])
        write_series(tmp_path / "t", VOXELS[:1])
        with pytest.raises(UnsupportedFormat, match="whole numbers"):
            isocenter.convert(tmp_path / "t", tmp_path / "b.png")
        write_series(tmp_path / "u", VOXELS)
        with pytest.raises(UnsupportedFormat, match="6: write"):
            isocenter.convert(tmp_path / "u", tmp_path / "c.png")
        assert not (tmp_path / "b.png").exists()
        with pytest.raises(ReadBackMismatch):
            proof.prove_picture(volume.then(volume.history[0], voxels=volume.voxels + 1), tmp_path / "a.png")

    def test_colour_png(self, tmp_path: Path, real_data: Callable[[str], Path]) -> None:
        clip = real_data("dicom") / "pydicom" / "examples_ybr_color.dcm"
        with pytest.raises(AmbiguousSelection, match="--frame"):
            isocenter.convert(clip, tmp_path / "a.png")
        frame = isocenter.convert(clip, tmp_path / "a.png", frame=3)
        back = raster.read(tmp_path / "a.png")
        assert np.array_equal(back.voxels, frame.voxels)


class TestMetaImage:
    @pytest.mark.parametrize("ending", [".mha", ".mhd"])
    @pytest.mark.parametrize("compressed", [False, True])
    @pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32, np.float64])
    def test_it_agrees_with_simpleitk(self, tmp_path: Path, ending: str, compressed: bool, kind: type) -> None:
        image = SimpleITK.GetImageFromArray(np.arange(24).reshape(2, 3, 4).astype(kind))
        image.SetSpacing((0.7, 0.8, 2.5))
        image.SetOrigin((-10, 20, 30))
        image.SetDirection((0, 1, 0, 0, 0, -1, -1, 0, 0))
        SimpleITK.WriteImage(image, str(tmp_path / f"a{ending}"), useCompression=compressed)
        (series,) = isocenter.open(tmp_path / f"a{ending}").series
        volume = series.volume()
        assert np.array_equal(volume.grid, SimpleITK.GetArrayFromImage(image))
        for index in ((0, 0, 0), (1, 2, 3)):
            mine = volume.geometry.index_to_world(np.asarray([index], dtype=float))[0]
            assert mine == pytest.approx(image.TransformIndexToPhysicalPoint(index[::-1]))

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            (lambda t: t.replace("ElementDataFile = LOCAL", "ElementDataFile = ../../etc/passwd"), "no file beside"),
            (lambda t: t.replace("ElementDataFile = LOCAL", "ElementDataFile = LIST"), "several files"),
            (lambda t: t.replace("DimSize = 4 3 2", "DimSize = 40000 30000 20000"), "claims"),
            (lambda t: t.replace("DimSize = 4 3 2", "DimSize = 4 3 200"), "claims"),
            (lambda t: t.replace("ElementSpacing = 1 1 1", "ElementSpacing = 1 nan 1"), "finite"),
            (lambda t: t.replace("ElementSpacing = 1 1 1", "ElementSpacing = 1 0 1"), "positive"),
            (lambda t: t.replace("MET_UCHAR", "MET_STRING"), "type"),
            (lambda t: t.replace("TransformMatrix = 1 0 0 0 1 0 0 0 1", "TransformMatrix = 1 0 0 1 0 0 0 0 1"), "singular"),
        ],
    )  # fmt: skip
    def test_lies_are_refused(self, tmp_path: Path, change: Callable[[str], str], says: str) -> None:
        image = SimpleITK.GetImageFromArray(np.zeros((2, 3, 4), np.uint8))
        SimpleITK.WriteImage(image, str(tmp_path / "a.mha"))
        (tmp_path / "a.mha").write_text(change((tmp_path / "a.mha").read_bytes().decode("latin-1")), "latin-1")
        with pytest.raises(InputError, match=says):
            isocenter.open(tmp_path / "a.mha").volume()
        assert metaimage.__doc__


class TestArchives:
    def test_a_zip_of_a_series(self, study: Path, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "s.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for file in study.iterdir():
                archive.write(file, f"胸部/{file.name}")
            archive.writestr("../../evil.dcm", b"x")
            archive.writestr("notes.txt", b"hello")
        case = isocenter.open(tmp_path / "s.zip")
        assert np.array_equal(case.volume().grid, VOXELS)
        said = " ".join(r.message for r in case.refused_files)
        assert "leads out of the archive" in said
        assert "notes.txt" in said
        assert not (tmp_path.parent / "evil.dcm").exists()
        folder = case.series[0].files[0].parents[1]
        assert folder.exists()
        del case
        import gc

        gc.collect()
        assert not folder.exists()

    def test_a_zip_bomb_is_refused(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            archive.writestr("a.dcm", bytes(50_000_000))
        data = bytearray((tmp_path / "b.zip").read_bytes())
        for mark in (b"PK\x01\x02", b"PK\x03\x04"):
            at = data.index(mark) + (24 if mark == b"PK\x01\x02" else 22)
            data[at : at + 4] = (1000).to_bytes(4, "little")  # announces less than it inflates to
        (tmp_path / "c.zip").write_bytes(bytes(data))
        with pytest.raises(InputError, match=r"grows beyond|cannot be unpacked|Bad|not an image"):
            isocenter.open(tmp_path / "c.zip")
        (tmp_path / "d.zip").write_bytes(b"PK\x03\x04" + bytes(100))
        with pytest.raises(InputError, match="not a readable zip"):
            isocenter.open(tmp_path / "d.zip")

    def test_a_dicomdir_lists_its_study(self, real_data: Callable[[str], Path], tmp_path: Path) -> None:
        folder = real_data("dicom") / "pydicom" / "dicomdirtests"
        found = isocenter.inspect(folder / "DICOMDIR")
        assert sum(len(s.files) for s in found.series) + len(found.files_refused) == 31
        assert {s.modality for s in found.series} == {"CT", "CR", "MR"}
        with careless():
            copy = dcmread(folder / "DICOMDIR")
            for record in copy.DirectoryRecordSequence:
                if "ReferencedFileID" in record:
                    record.ReferencedFileID = ["..", "..", "etc", "passwd"]
            copy.save_as(tmp_path / "DICOMDIR")
        with pytest.raises(InputError, match="points out of its folder"):
            isocenter.open(tmp_path / "DICOMDIR")


class TestInspectCommand:
    def inspect(self, *arguments: object, code: int = 0) -> tuple[str, str]:
        import subprocess
        import sys

        done = subprocess.run([sys.executable, "-m", "isocenter", "inspect", *map(str, arguments)], capture_output=True,
                              text=True, env={**os.environ, "PYTHONIOENCODING": "utf-8"}, check=False)  # fmt: skip
        assert done.returncode == code, done.stderr
        return done.stdout, done.stderr

    def test_json_keeps_its_contract(self, study: Path) -> None:
        structure_set(study / "rs.dcm", {"a": [rectangle(50, 1, 1, 4, 4)]})
        (study / "notes.txt").write_text("hello")
        sorted(study.glob("IM*"))[2].unlink()
        out, _ = self.inspect(study, "--json")
        said = json.loads(out)
        assert set(said) == {"series", "results", "files_refused"}
        (series,) = said["series"]
        assert {k: series[k] for k in ("volume", "modality", "shape", "channels", "frames", "spacing_mm", "verdict")} == {
            "volume": 0, "modality": "CT", "shape": [6, 20, 24], "channels": 1, "frames": 1,
            "spacing_mm": [2.5, 0.8, 0.8], "verdict": "repaired",
        }  # fmt: skip
        assert [d["code"] for d in series["defects"]] == ["missing-slice"]
        assert Path(series["path"]) == study
        assert said["files_refused"][0]["file"].endswith("notes.txt")
        assert said["results"][0]["labels"] == ["a"]
        assert said["results"][0]["of"] == series["uid"]

    def test_words_go_to_the_right_streams(self, study: Path) -> None:
        (study / "notes.txt").write_text("hello")
        out, err = self.inspect(study, "--policy", "strict")
        assert out.startswith("ok       ")
        assert "6 x 20 x 24" in out
        assert "notes.txt" in err
        assert "notes.txt" not in out

    def test_nothing_usable_is_exit_code_2(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text("hello")
        out, err = self.inspect(tmp_path, code=2)
        assert (out, "not an image" in err) == ("", True)
        out, err = self.inspect(tmp_path / "a.txt", "--json", code=2)
        assert json.loads(out)["series"] == []
        assert len(json.loads(out)["files_refused"]) == 1
        assert "not an image" in err
        _, err = self.inspect(tmp_path / "absent", code=2)
        assert "no such file" in err
