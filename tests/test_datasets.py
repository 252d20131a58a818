"""Data sets in the field's own shapes, and what is wrong with them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isocenter.acquire.datasets import open_dataset
from isocenter.acquire.labelled import read_image, read_images, read_mask
from isocenter.data.dataset import Dataset
from isocenter.data.geometry import Geometry
from isocenter.data.labels import Label, LabelMap
from isocenter.data.volume import Volume
from isocenter.errors import GeometryError, InputError, UnreadableFile
from isocenter.formats import nifti
from isocenter.training.images.division import divide, held_out
from tests.command import cli

RNG = np.random.default_rng(0)


def texts(found: Dataset) -> tuple[str, ...]:
    """What is wrong, as it is said."""
    return tuple(map(str, found.problems))


def picture(path: Path, value: int = 0, size: tuple[int, int] = (12, 10)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, 200, size).astype(np.uint8)
    pixels[0, 0] = value
    Image.fromarray(pixels).save(path)
    return path


def volume(path: Path, *, labels: bool = False, shape: tuple[int, int, int] = (4, 6, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    grid = Geometry.regular(shape, spacing_mm=(2.0, 1.0, 1.0))
    if labels:
        voxels = np.zeros(shape, np.uint8)
        voxels[1:3, 2:4, 2:5], voxels[0, 0, 0] = 1, 2
        nifti.write(LabelMap(voxels, grid, (Label(1, "a"), Label(2, "b"))), path)
    else:
        nifti.write(Volume(RNG.normal(size=(1, *shape)).astype(np.float32), grid), path)
    return path


def test_a_folder_of_a_class_each(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        for kind in ("benign", "malignant"):
            for i in range(2):
                picture(tmp_path / split / kind / f"{i}.png")
    (tmp_path / "train" / "benign" / "notes.docx").write_bytes(b"x")
    found = open_dataset(tmp_path)
    assert found.splits == {"train": 4, "val": 4, "test": 4}
    assert found.classes() == ("benign", "malignant")
    assert found.samples[0].case == "train/benign/0"
    assert texts(found) == ("train/benign/notes.docx: is no image",)


def test_medmnist_and_its_3d_form(tmp_path: Path) -> None:
    for name, shape in {"flat": (5, 8, 8), "colour": (5, 8, 8, 3), "deep": (5, 6, 8, 8)}.items():
        arrays = {f"{s}_images": RNG.integers(0, 255, shape).astype(np.uint8) for s in ("train", "val", "test")}
        arrays |= {f"{s}_labels": np.asarray([[0], [1], [2], [0], [1]], np.uint8) for s in ("train", "val", "test")}
        np.savez(tmp_path / f"{name}.npz", **arrays)
        found = open_dataset(tmp_path / f"{name}.npz")
        assert (len(found.samples), found.classes()) == (15, ("0", "1", "2"))
        image = read_image(found.of("val").samples[3].images[0])
        wanted = {"flat": (1, 1, 8, 8), "colour": (3, 1, 8, 8), "deep": (1, 6, 8, 8)}[name]
        assert image.voxels.shape == wanted
        original = arrays["val_images"][3]
        assert np.array_equal(
            image.voxels[..., 2, 5].ravel(),
            original[..., 2, 5, :].ravel() if name == "colour" else original[..., 2, 5].ravel(),
        )


def test_several_labels_an_image_are_refused(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "chest.npz", train_images=np.zeros((3, 8, 8), np.uint8), train_labels=np.zeros((3, 14), np.uint8)
    )
    with pytest.raises(InputError, match="14 labels at once"):
        open_dataset(tmp_path / "chest.npz")


def test_pickled_arrays_are_not_opened(tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", train_images=np.asarray([{"a": 1}], object), train_labels=np.zeros(1))
    with pytest.raises(UnreadableFile, match="no archive of arrays"):
        open_dataset(tmp_path / "bad.npz")


@pytest.mark.parametrize("numbered", [False, True])
def test_decathlon_and_nnunet(tmp_path: Path, numbered: bool) -> None:
    for case in ("a_10", "a_2"):
        for i in range(2) if numbered else (0,):
            volume(tmp_path / "imagesTr" / (f"{case}_{i:04d}.nii.gz" if numbered else f"{case}.nii.gz"))
        volume(tmp_path / "labelsTr" / f"{case}.nii.gz", labels=True)
    volume(tmp_path / "imagesTr" / ("lonely_0000.nii.gz" if numbered else "lonely.nii.gz"))
    names = (
        {"background": 0, "tumour": 1, "oedema": 2} if numbered else {"0": "background", "1": "tumour", "2": "oedema"}
    )
    head = {"channel_names": {"0": "T1", "1": "T2"}} if numbered else {"modality": {"0": "MRI"}}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": names, **head}))
    found = open_dataset(tmp_path)
    assert [s.case for s in found.samples] == ["a_2", "a_10"]  # in natural order
    assert found.labels == {1: "tumour", 2: "oedema"}
    assert found.channels == (("T1", "T2") if numbered else ("MRI",))
    assert any("lonely" in text and "no label map" in text for text in texts(found))
    image = read_images(found.samples[0])
    assert image.voxels.shape == (2 if numbered else 1, 4, 6, 8)
    mask = read_mask(found.samples[0].mask, image.geometry)
    assert sorted(np.unique(mask.voxels)) == [0, 1, 2]


def test_pairs_and_what_lacks_its_other_half(tmp_path: Path) -> None:
    for name in ("1", "2", "10"):
        volume(tmp_path / "images" / f"{name}.nii.gz")
        volume(tmp_path / "labels" / f"{name}_seg.nii.gz", labels=True)
    volume(tmp_path / "images" / "alone.nii.gz")
    volume(tmp_path / "labels" / "orphan.nii.gz", labels=True)
    found = open_dataset(tmp_path)
    assert [s.case for s in found.samples] == ["1", "2", "10"]
    assert set(texts(found)) == {"alone: has an image and no label map", "orphan: has a label map and no image"}
    to_predict = open_dataset(tmp_path, labelled=False)
    assert [s.case for s in to_predict.samples] == ["1", "2", "10", "alone"]
    assert to_predict.samples[-1].mask is None


def test_images_beside_their_masks_and_alone(tmp_path: Path) -> None:
    volume(tmp_path / "a.nii.gz")
    volume(tmp_path / "a_mask.nii.gz", labels=True)
    volume(tmp_path / "b.nii.gz")
    found = open_dataset(tmp_path)
    assert [s.case for s in found.samples] == ["a"]
    assert texts(found) == ("b: has an image and no label map",)
    assert [s.case for s in open_dataset(tmp_path, labelled=False).samples] == ["a", "b"]


def test_a_mask_on_another_grid_is_refused(tmp_path: Path) -> None:
    volume(tmp_path / "images" / "1.nii.gz")
    volume(tmp_path / "labels" / "1.nii.gz", labels=True, shape=(4, 6, 7))
    sample = open_dataset(tmp_path).samples[0]
    with pytest.raises(GeometryError, match="does not lie on the image's grid"):
        read_mask(sample.mask, read_images(sample).geometry)


def test_masks_that_were_kept_as_jpeg(tmp_path: Path) -> None:
    at = np.indices((60, 80))
    truth = ((at[0] - 30) ** 2 + (at[1] - 40) ** 2 < 400).astype(np.uint8)
    for name, value in {"one": truth * 255, "two": RNG.integers(0, 255, truth.shape).astype(np.uint8)}.items():
        picture(tmp_path / "images" / f"{name}.jpg", size=(60, 80))
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(value).save(tmp_path / "masks" / f"{name}.jpg", quality=85)
    found = open_dataset(tmp_path)
    assert "2 label maps are JPEG" in found.notes[0]
    image = read_images(found.samples[0])
    assert np.array_equal(read_mask(found.samples[0].mask, image.geometry).voxels[0], truth)
    with pytest.raises(InputError, match="it is no mask of two values"):
        read_mask(found.samples[1].mask, image.geometry)


def test_folders_of_studies_are_no_classes(tmp_path: Path) -> None:
    """Two patients with a series each: two cases for a prediction, and no classes called by the patients."""
    from isocenter.pipeline.inputs import cases_of
    from tests.phantoms import write_series

    def own(slices: list, name: str) -> list:
        for ds in slices:
            ds.PatientID, ds.StudyInstanceUID, ds.SeriesInstanceUID = name, f"1.2.3.{name[1]}", f"1.2.3.{name[1]}.1"
            ds.SOPInstanceUID += f".{name[1]}"
            if "file_meta" in ds.__dict__:
                ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        return slices

    for name in ("p1", "p2"):
        write_series(
            tmp_path / name, RNG.integers(0, 100, (4, 12, 10)).astype(np.int16), change=lambda s, n=name: own(s, n)
        )
    with pytest.raises(InputError, match="no data set of a known shape"):
        open_dataset(tmp_path)
    found = cases_of(tmp_path)
    assert len(found.samples) == 2
    assert read_images(found.samples[0]).voxels.shape == (1, 4, 12, 10)


def test_patients_in_file_names(tmp_path: Path) -> None:
    for name in ("patient01_frame1", "patient01_frame2", "patient02_frame1"):
        volume(tmp_path / "images" / f"{name}.nii.gz")
        volume(tmp_path / "labels" / f"{name}.nii.gz", labels=True)
    found = open_dataset(tmp_path)
    assert [s.patient for s in found.samples] == ["patient01", "patient01", "patient02"]
    assert "2 patients" in found.notes[0]


def test_a_table_of_images(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    picture(tmp_path / "a.png")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["scan"] = RNG.normal(size=(12, 10))
    table = tmp_path / "cases.csv"
    table.write_text(
        "case,patient,image,label,split\none,p1,a.png,x,train\ntwo,p2,b.h5:scan,y,test\nthree,p3,,x,train\n"
    )
    found = open_dataset(table)
    assert [(s.case, s.patient, s.target, s.split) for s in found.samples] == [
        ("one", "p1", "x", "train"),
        ("two", "p2", "y", "test"),
    ]
    assert texts(found) == ("row 4 (three): states no image",)
    assert read_images(found.samples[1]).voxels.shape == (1, 1, 12, 10)
    with pytest.raises(InputError, match="has no column 'person'"):
        open_dataset(table, group="person")


def test_what_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not there"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no data set of a known shape: a folder of a class each"):
        open_dataset(tmp_path)


class TestDivision:
    def made(self, tmp_path: Path, count: int = 20):
        for i in range(count):
            for frame in (1, 2):
                picture(tmp_path / ("even" if i % 2 else "odd") / f"patient{i:02d}_{frame}.png")
        return open_dataset(tmp_path)

    def test_patients_stay_on_one_side(self, tmp_path: Path) -> None:
        found = self.made(tmp_path)
        train, val = divide(found, 0.2, seed=3)
        assert not {s.patient for s in train.samples} & {s.patient for s in val.samples}
        assert len(val.samples) == 8
        assert {s.target for s in val.samples} == {"even", "odd"}
        assert divide(found, 0.2, seed=3)[1] == val
        assert divide(found, 0.2, seed=4)[1] != val

    def test_twins_stay_together(self, tmp_path: Path) -> None:
        found = self.made(tmp_path)
        pair = ("even/patient01_1", "odd/patient00_1")
        for seed in range(8):
            train, _ = divide(found, 0.3, seed=seed, twins=[pair])
            there = [name in {s.case for s in train.samples} for name in pair]
            assert there[0] == there[1]

    def test_every_fifth_patient_is_held_out(self, tmp_path: Path) -> None:
        found = held_out(self.made(tmp_path), 5)
        test = found.of("test")
        assert {s.patient for s in test.samples} == {"patient04", "patient09", "patient14", "patient19"}
        train, val = divide(found, 0.2, seed=0)
        assert not {s.case for s in test.samples} & {s.case for s in (*train.samples, *val.samples)}
        with pytest.raises(InputError, match="states splits"):
            held_out(found, 5)

    def test_too_few(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="2 patients are too few"):
            divide(self.made(tmp_path, 2), 0.2, seed=0)


def test_the_check_says_what_it_is_and_what_is_wrong(tmp_path: Path) -> None:
    for i in range(5):
        volume(tmp_path / "d" / "images" / f"{i}.nii.gz")
        volume(tmp_path / "d" / "labels" / f"{i}.nii.gz", labels=True, shape=(4, 6, 7) if i == 3 else (4, 6, 8))
    (tmp_path / "d" / "images" / "9.nii.gz").write_bytes((tmp_path / "d" / "images" / "0.nii.gz").read_bytes())
    volume(tmp_path / "d" / "labels" / "9.nii.gz", labels=True)
    volume(tmp_path / "d" / "images" / "lonely.nii.gz")
    done = cli("data", "check", tmp_path / "d", "-o", tmp_path / "page", "--no-near")
    assert done.returncode == 0, done.stderr
    assert "paired images and labels: segment, 6 cases" in done.stdout
    assert "2 x 1 x 1 mm" in done.stdout
    assert "1 pairs repeat" in done.stdout
    assert "lonely: has an image and no label map" in done.stderr
    assert "3: " in done.stderr
    told = json.loads((tmp_path / "page" / "data.json").read_text())
    assert told["about"]["labels"] == {"1": "1", "2": "2"}
    assert len(told["problems"]) == 2
    page = (tmp_path / "page" / "data.html").read_text()
    assert page.count("data:image/png") == 5


def test_leaks_of_a_folder_of_classes(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for kind in ("a", "b"):
            picture(tmp_path / split / kind / "x.png")
    (tmp_path / "test" / "b" / "copy.png").write_bytes((tmp_path / "train" / "a" / "x.png").read_bytes())
    done = cli("data", "check", tmp_path, "--json", "--no-near")
    assert done.returncode == 1
    (leak,) = json.loads(done.stdout)["leaks"]
    assert (leak["left"], leak["right"]) == ("train/a/x", "test/b/copy")


def test_one_number_for_two_structures_is_named(tmp_path: Path) -> None:
    """Label numbers are the author's: a case that calls number 1 otherwise is not learnt from in silence."""
    from isocenter.pipeline.images import read_case
    from isocenter.training.images.fingerprint import fingerprint

    for name in ("1", "2", "3"):
        volume(tmp_path / "images" / f"{name}.nii.gz")
        volume(tmp_path / "labels" / f"{name}.nii.gz", labels=True)
        row = '  1   255    0    0        1  1  1    "{}"\n  2   0    255    0        1  1  1    "b"\n'
        (tmp_path / "labels" / f"{name}.label.txt").write_text(row.format("liver" if name == "3" else "spleen"))
    seen = fingerprint(open_dataset(tmp_path), "segment", read_case)
    assert seen.labels == {1: "spleen", 2: "b"}
    assert seen.failed == ("3: calls the label 1 'liver', and cases before it 'spleen'",)


def test_dicom_studies_with_their_contours(real_data) -> None:
    """A real study of three series, each with an RTSTRUCT of its own that is called the same."""
    from isocenter.pipeline.images import read_case

    found = open_dataset(real_data("sts_dicom"))
    assert len(found.samples) == 3
    for sample in found.samples:
        loaded = read_case(sample)
        image, labels = loaded.image, loaded.labels
        assert labels is not None
        assert labels.geometry.shape == image.geometry.shape
        assert labels.foreground.any()
        assert sample.patient == "STS_002"
