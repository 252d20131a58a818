"""What must not pass, crash or be lost where objects are found, images made, frames followed: data sets, cards, folders."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

torch = pytest.importorskip("torch")
torch.set_num_threads(1)

from isocenter.acquire.case import open_case  # noqa: E402
from isocenter.acquire.datasets import open_dataset  # noqa: E402
from isocenter.acquire.marked import wrong_box  # noqa: E402
from isocenter.data.cine import Cine  # noqa: E402
from isocenter.data.dataset import Dataset, Marked, Problem, Sample, Source, stated_number  # noqa: E402
from isocenter.data.geometry import Geometry, Space  # noqa: E402
from isocenter.data.objects import Boxed  # noqa: E402
from isocenter.data.volume import Volume  # noqa: E402
from isocenter.errors import GeometryError, InputError, UnreadableFile  # noqa: E402
from isocenter.evaluation.objects import Judged  # noqa: E402
from isocenter.formats import nifti, raster  # noqa: E402
from isocenter.inference.columns import fitted  # noqa: E402
from isocenter.inference.degradation import Degradation  # noqa: E402
from isocenter.inference.making import made  # noqa: E402
from isocenter.inference.placed import OutsideImage, in_voxels  # noqa: E402
from isocenter.inference.stated import Stated  # noqa: E402
from isocenter.metrics.detection import Scan  # noqa: E402
from isocenter.networks.catalogue import build  # noqa: E402
from isocenter.pipeline.compress import Wanted, _require_methods  # noqa: E402
from isocenter.pipeline.generate import _folders  # noqa: E402
from isocenter.pipeline.image_prediction import _lost, _require_apart  # noqa: E402
from isocenter.pipeline.images import read_case  # noqa: E402
from isocenter.pipeline.outcomes.objects import (  # noqa: E402
    _category_numbers,
    _image_numbers,
    promised_objects,
    sizes_of,
)
from isocenter.pipeline.own_folder import FILES, own_folder, require_own  # noqa: E402
from isocenter.pipeline.simulate_motion import simulate_motion  # noqa: E402
from isocenter.training.images import budget  # noqa: E402
from isocenter.training.images.choose import Wish  # noqa: E402
from isocenter.training.images.division import divide  # noqa: E402
from isocenter.training.images.fingerprint import fingerprint  # noqa: E402
from isocenter.training.images.plan import plan_of  # noqa: E402
from isocenter.training.images.store import Item, Store  # noqa: E402
from isocenter.training.images.tasks import TASKS  # noqa: E402
from tests.command import cli  # noqa: E402

Coco = dict[str, Any]


def pictures(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.fromarray(rng.integers(0, 255, (48, 48), dtype=np.uint8)).save(folder / f"i{i}.png")


def plain_coco(count: int = 4) -> Coco:
    return {
        "images": [{"id": i, "file_name": f"i{i}.png", "width": 48, "height": 48} for i in range(count)],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": [
            {"id": 90 + i, "image_id": i, "category_id": 1, "bbox": [5, 5, 20, 20], "segmentation": []} for i in range(count)
        ],
    }  # fmt: skip


def opened(folder: Path, change: Callable[[Coco], object]) -> Dataset:
    pictures(folder, 4)
    data = plain_coco()
    change(data)
    (folder / "coco.json").write_text(json.dumps(data), "utf-8")
    return open_dataset(folder)


def objects_of(data: Dataset) -> dict[str, int]:
    return {sample.case: len(sample.objects or ()) for sample in data.samples}


class TestCoco:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda d: d["images"][1].update(id=0), "several images have the id 0"),
            (lambda d: d["images"][1].update(id=[1]), "an image has the id"),
            (lambda d: d["images"][1].update(id=None), "an image has the id None"),
            (lambda d: d["categories"].append({"id": 1, "name": "tumour"}), "'cell' and 'tumour' at once"),
            (lambda d: d["categories"][0].update(id={}), "a category has the id"),
            (lambda d: d["categories"][0].update(name=None), "which is no name"),
            (lambda d: d["categories"][0].update(name=["a"]), "which is no name"),
            (lambda d: d["categories"][0].update(name="\ud800"), "which is no name"),
            (lambda d: d["categories"][0].update(name="x" * 5000), "which is no name"),
        ],
    )
    def test_what_cannot_be_told_apart_is_refused(
        self, tmp_path: Path, change: Callable[[Coco], object], words: str
    ) -> None:
        with pytest.raises(UnreadableFile, match=words) as caught:
            opened(tmp_path, change)
        assert len(str(caught.value)) < 500

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda d: d["annotations"][1].update(category_id=[1]), "of no category"),
            (lambda d: d["annotations"][1].update(bbox=[5, 5, 10**400, 20]), "no numbers"),
            (lambda d: d["annotations"][1].update(bbox="all of it"), "no numbers"),
            (lambda d: d["annotations"][1].update(segmentation=[[40, 40, 47, 40, 47, 47, 40, 47]]), "where its outline does"),
            (lambda d: d["annotations"][1].update(segmentation=[[5, 5, 5, 5, 5, 5]]), "where its outline does"),
            (lambda d: d["annotations"][1].update(segmentation=[[-1e8, -1e8, 1e8, -1e8, 1e8, 1e8]]), "where its outline does"),
        ],
    )  # fmt: skip
    def test_a_box_that_is_wrong_is_named_and_left_out(
        self, tmp_path: Path, change: Callable[[Coco], object], words: str
    ) -> None:
        data = opened(tmp_path, change)
        assert objects_of(data) == {"i0": 1, "i1": 0, "i2": 1, "i3": 1}
        (problem,) = data.problems
        assert problem.case == "i1"
        assert problem.what.startswith("the box 91")
        assert words in problem.what

    @pytest.mark.parametrize(
        "file", [None, ".", "../i1.png", "/etc/passwd", "x" * 400 + ".png", "\ud800.png", "a\0.png", 7]
    )
    def test_a_file_that_cannot_be_is_named_and_the_others_stay(self, tmp_path: Path, file: object) -> None:
        data = opened(tmp_path, lambda d: d["images"][1].update(file_name=file))
        assert set(objects_of(data)) == {"i0", "i2", "i3"}
        assert "its image is not there" in str(data.problems[0])
        assert all(len(str(one)) < 300 for one in data.problems)

    def test_boxes_of_nobody_are_counted(self, tmp_path: Path) -> None:
        data = opened(tmp_path, lambda d: d["annotations"][1].update(image_id=["0"]))
        assert data.problems == (Problem("1 boxes are of images that are not listed, or not there"),)

    def test_one_class_under_two_numbers_is_numbered_anew(self, tmp_path: Path) -> None:
        for split, number in (("train", 1), ("valid", 2)):
            pictures(tmp_path / split, 4)
            data = plain_coco()
            data["categories"][0]["id"] = number
            for row in data["annotations"]:
                row["category_id"] = number
            (tmp_path / split / "coco.json").write_text(json.dumps(data), "utf-8")
        found = open_dataset(tmp_path)
        assert found.categories == {}
        assert "numbered anew" in found.notes[0]
        assert _image_numbers(found) == {}  # both count their images from 0: cases are told by their names

    def test_answers_take_no_number_that_is_taken(self) -> None:
        spec = plan_of({"task": "detect", "classes": ["x", "y"], "patch": (64, 64), "preparation": {"dims": 2, "size": (64, 64)},
                        "network": {"name": "retinanet"}, "loss": {"name": "detector"}}, "p").spec  # fmt: skip
        assert _category_numbers(spec, {"x": 2}) == {"x": 2, "y": 1}
        assert _category_numbers(spec, {"x": 1}) == {"x": 1, "y": 2}


class TestVoc:
    def test_another_xml_is_no_annotation(self, tmp_path: Path) -> None:
        pictures(tmp_path, 2)
        (tmp_path / "i0.xml").write_text("<html></html>")
        (tmp_path / "i1.xml").write_text("<annotation></annotation>")
        data = open_dataset(tmp_path)
        assert [s.case for s in data.samples] == ["i1"]
        assert "no annotation of VOC" in str(data.problems[0])

    def test_two_files_of_one_picture(self, tmp_path: Path) -> None:
        pictures(tmp_path, 1)
        (tmp_path / "annotations").mkdir()
        for place in (tmp_path, tmp_path / "annotations"):
            (place / "i0.xml").write_text("<annotation></annotation>")
        with pytest.raises(InputError, match="both speak of i0"):
            open_dataset(tmp_path)


def test_every_patient_is_named_or_none(tmp_path: Path) -> None:
    """A pattern that matches some names alone would part the others from their patients."""
    pictures(tmp_path, 4)
    data = plain_coco()
    (tmp_path / "coco.json").write_text(json.dumps(data), "utf-8")
    (tmp_path / "i3.png").rename(tmp_path / "x-P7_3.png")
    data["images"][3]["file_name"] = "x-P7_3.png"
    (tmp_path / "coco.json").write_text(json.dumps(data), "utf-8")
    with pytest.raises(InputError, match=r"matches 1 of 4 names of cases, and not i0"):
        open_dataset(tmp_path, group="-(P[0-9]+)_")
    assert [s.patient for s in open_dataset(tmp_path, group="([0-9])").samples] == ["0", "1", "2", "7"]


class TestTables:
    @pytest.mark.parametrize(("column", "words"), [("patient", "'P0' and 'P1'"), ("split", "'train' and 'test'")])
    def test_an_image_of_two_patients_or_splits(self, tmp_path: Path, column: str, words: str) -> None:
        pictures(tmp_path, 1)
        other = {"patient": "P0", "split": "train", column: "P1" if column == "patient" else "test"}
        rows = ["i0.png,1,1,9,9,P0,train", f"i0.png,20,20,30,30,{other['patient']},{other['split']}"]
        (tmp_path / "b.csv").write_text("image,xmin,ymin,xmax,ymax,patient,split\n" + "\n".join(rows) + "\n", "utf-8")
        with pytest.raises(InputError, match=f"{words} in the column '{column}'"):
            open_dataset(tmp_path / "b.csv")

    def test_depth_that_is_none_has_a_reason(self) -> None:
        assert wrong_box((5, 0, 0), (5, 9, 9), None) == "has no depth (5 to 5)"


class TestBoxes:
    GRID = Geometry.regular((10, 20, 30), spacing_mm=(2, 1, 1))

    @pytest.mark.parametrize(
        ("low", "high", "words"),
        [((0, 0, 0), (1e30, 1e30, 1e30), "outside its image, but for 0.0%"), ((1, 1, 1), (1 + 1e-7, 9, 9), "smaller than a voxel"),
         ((-90, 0, 0), (9, 20, 30), "but for 9.1%"), ((50, 0, 0), (60, 5, 5), "lies outside its image")],
    )  # fmt: skip
    def test_what_is_no_object_of_this_image(self, low: tuple[float, ...], high: tuple[float, ...], words: str) -> None:
        with pytest.raises(OutsideImage, match=words):
            in_voxels(Marked("x", low, high), self.GRID)  # type: ignore[arg-type]

    def test_one_at_the_edge_stays(self) -> None:
        assert in_voxels(Marked("x", (-1, -5, 25), (3, 10, 40)), self.GRID).tolist() == [[0, 0, 25], [3, 10, 30]]

    def test_a_ball_lies_in_a_single_slice(self) -> None:
        slice_ = Geometry.regular((1, 20, 30))
        assert in_voxels(Marked("x", (-9, 5, 5), (10, 15, 15)), slice_)[1].tolist() == [1, 15, 15]

    def test_sizes_do_not_depend_on_the_neighbours(self) -> None:
        def scan(boxes: list[Any]) -> Scan:
            n = len(boxes)
            none = np.zeros((0, 2, 3)), np.zeros(0, int), np.zeros(0)
            return Scan(np.asarray(boxes, float), np.zeros(n, int), np.zeros(n, bool), *none)

        ball, other = ((0, 0, 0), (4, 8, 8)), ((0, 0, 0), (1, 9, 9))
        alone, beside = sizes_of(scan([ball]), None, flat=False), sizes_of(scan([ball, other]), None, flat=False)
        assert alone[0] == beside[0] == pytest.approx((4 * 8 * 8) ** (1 / 3))
        assert sizes_of(scan([other]), (1, 0.5, 0.5), flat=True).tolist() == pytest.approx([4.5])

    def test_scores_that_mislead_are_not_turned_round(self) -> None:
        rng = np.random.default_rng(0)
        scans = []
        for _ in range(40):  # the surer answer is always beside the object
            boxes = np.asarray([[(0, 0, 0), (1, 10, 10)]], float)
            found = np.asarray([[(0, 0, 0), (1, 10, 10)], [(0, 30, 30), (1, 40, 40)]], float)
            scores = np.asarray([rng.uniform(0.1, 0.3), rng.uniform(0.7, 0.9)])
            scans.append(Scan(boxes, np.zeros(1, int), np.zeros(1, bool), found, np.zeros(2, int), scores))
        judged = Judged(
            tuple(map(str, range(40))), ("",) * 40, tuple(scans), ("x",), (np.full(1, 10.0),) * 40, "voxels", flat=True
        )  # fmt: skip
        calibration, _, _ = promised_objects(judged, seed=0, source="validation")
        assert calibration == {"method": "none"}


class TestFolders:
    def test_only_what_was_written_is_replaced(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        for _ in range(2):
            with own_folder(out, "predictions") as empty:
                (empty / "sub").mkdir()
                (empty / "a.csv").write_text("1")
                (empty / "sub" / "b.png").write_text("2")
        assert json.loads((out / FILES).read_text())["files"] == ["a.csv", "sub/b.png", FILES]
        (out / "sub" / "mine.csv").write_text("a thesis")
        with pytest.raises(InputError, match=r"holds sub/mine\.csv, which is none of the predictions written before"):
            require_own(out, "predictions")
        with pytest.raises(InputError), own_folder(out, "predictions"):
            pass
        assert (out / "sub" / "mine.csv").read_text() == "a thesis"

    def test_a_folder_of_somebody_else_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("x")
        with pytest.raises(InputError, match=r"holds notes\.txt"):
            require_own(tmp_path, "loops")
        (tmp_path / "file").write_text("x")
        with pytest.raises(InputError, match="is a file"):
            require_own(tmp_path / "file", "loops")
        require_own(tmp_path / "absent", "loops")

    def test_a_damaged_list_protects_everything(self, tmp_path: Path) -> None:
        (tmp_path / FILES).write_text('{"files": 7}')
        with pytest.raises(InputError, match=FILES):
            require_own(tmp_path, "loops")

    def test_a_case_is_not_called_as_the_table(self, tmp_path: Path) -> None:
        data = Dataset(tmp_path, "images", (Sample("predictions", (Source(tmp_path / "in" / "x.nii.gz"),)),))
        with pytest.raises(InputError, match=r"called as predictions\.csv"):
            _require_apart(tmp_path / "out", data)

    def test_cases_that_are_named_and_not_there_have_failed(self, tmp_path: Path) -> None:
        wrong = (
            Problem("the box 3 is none: left out", "a"),
            Problem("states no image", "b: c", 4),
            Problem("states no image, again", "b: c", 5),
            Problem("3 boxes are of nobody"),
        )
        data = Dataset(tmp_path, "images", (Sample("a", ()),), problems=wrong)
        assert [(one.case, one.failed) for one in _lost(data)] == [("b: c", "states no image")]
        assert list(map(str, wrong[1:])) == [
            "row 4 (b: c): states no image", "row 5 (b: c): states no image, again", "3 boxes are of nobody",
        ]  # fmt: skip

    @given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=6, unique=True))
    def test_a_class_is_one_part_of_a_path(self, names: list[str]) -> None:
        found = _folders(names)
        assert len({name.lower() for name in found.values()}) == len(names)
        assert all(Path("root", name).resolve().parent == Path("root").resolve() for name in found.values())

    def test_a_class_that_is_a_path(self) -> None:
        assert _folders(["../../evil", "/tmp/x", "a", "A", ".."]) == {
            "../../evil": "evil", "/tmp/x": "tmp_x", "a": "a", "A": "A_", "..": "class",
        }  # fmt: skip


class TestMotion:
    def pair(self, folder: Path, patient: str, first: int, second: int) -> None:
        import h5py

        grid = np.hypot(*np.ogrid[-10:11, -10:11])
        for name, radius in (("01", first), ("12", second)):
            mask = np.stack([grid < radius] * 2)
            with h5py.File(folder / f"{patient}_frame{name}.h5", "w") as file:
                file["image"], file["label"] = 0.1 + 0.8 * mask.astype(float), mask.astype(np.uint8) * 3

    def test_a_heart_that_grows_or_vanishes_has_no_ejection_fraction(self, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        for patient, sizes in (("patient001", (8, 5)), ("patient002", (5, 8)), ("patient003", (8, 0))):
            self.pair(tmp_path / "in", patient, *sizes)
        left = simulate_motion(tmp_path / "in", tmp_path / "out", frames=4)
        assert [text[:10] for text in left] == ["patient002", "patient003"], left
        assert all("the ejection fraction of label 3, which has" in text for text in left)
        rows = (tmp_path / "out" / "loops.csv").read_text().splitlines()
        assert len(rows) == 4
        assert rows[2].endswith(",")

    def test_a_patient_that_is_a_path_is_left_out(self, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        for patient in ("patient001", "patient002"):
            self.pair(tmp_path / "in", patient, 8, 5)
        rows = [f"{p}_frame{f}.h5:image,{p}_frame{f}.h5:label,{name}" for p, name in (("patient001", "../../evil"), ("patient002", "B")) for f in ("01", "12")]  # fmt: skip
        (tmp_path / "in" / "t.csv").write_text("image,mask,patient\n" + "\n".join(rows) + "\n", "utf-8")
        left = simulate_motion(tmp_path / "in" / "t.csv", tmp_path / "out" / "deep", frames=4)
        assert ["../../evil" in text for text in left] == [True]
        assert sorted(p.name for p in tmp_path.rglob("*.nii.gz")) == ["B.nii.gz"]


class TestMade:
    """An image that a program made says so, and a report of it is for review."""

    def test_by_its_file(self, tmp_path: Path) -> None:
        grid = Geometry.regular((4, 24, 24), spacing_mm=(2, 1, 1))
        image = Volume(np.random.default_rng(0).normal(100, 20, (1, 4, 24, 24)).astype(np.float32), grid)
        nifti.write(image, tmp_path / "made.nii.gz", intent="simulated")
        nifti.write(image, tmp_path / "own.nii.gz")
        codes = [[d.code for d in open_case(tmp_path / f"{n}.nii.gz").series[0].defects] for n in ("made", "own")]
        assert codes == [["made-image"], []]
        flat = Volume(np.zeros((1, 1, 8, 8), np.uint8), Geometry.regular((1, 8, 8), space=Space.PIXELS))
        raster.write(flat, tmp_path / "made.png", text={"Synthetic": "true"})
        assert "made-image" in [d.code for d in open_case(tmp_path / "made.png").series[0].defects]

    def test_its_report_is_for_review(self, tmp_path: Path) -> None:
        grid = Geometry.regular((6, 24, 24), spacing_mm=(2, 1, 1))
        image = Volume(np.random.default_rng(0).normal(100, 20, (1, 6, 24, 24)).astype(np.float32), grid)
        nifti.write(image, tmp_path / "made.nii.gz", intent="synthetic")
        done = cli("run", "overview", tmp_path / "made.nii.gz", "-o", tmp_path / "out")
        assert done.returncode == 0, done.stderr
        told = json.loads((tmp_path / "out" / "made" / "report.json").read_text("utf-8"))
        assert told["verdict"] == "review"
        assert "a program made it" in (tmp_path / "out" / "made" / "report.html").read_text("utf-8")


class TestBeforeTheTimeIsSpent:
    def test_a_budget_that_holds_no_step_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """By a clock on which everything takes ten seconds."""
        ticks = itertools.count(step=10)
        monkeypatch.setattr(budget, "time", SimpleNamespace(monotonic=lambda: float(next(ticks))))
        plan = plan_of({
            "task": "classify", "classes": ["a", "b"], "patch": (8, 8), "preparation": {"dims": 2, "size": (8, 8)},
            "network": {"name": "resnet", "settings": {"widths": (4,), "blocks": (1,)}}, "loss": {"name": "cross_entropy"},
            "schedule": {"batch": 2},
        }, "p")  # fmt: skip
        rng = np.random.default_rng(0)
        store = Store(tuple(
            Item(Sample(str(i), ()), rng.normal(size=(1, 1, 8, 8)).astype(np.float32), float(i % 2)) for i in range(4)
        ))  # fmt: skip
        with pytest.raises(InputError, match=r"a step 10\.0 s, and 0 s are left to learn: give \d+m or more"):
            budget.fitted_to(plan, store, store, 150.0, Wish())

    def item(self, name: str, boxes: int, target: str = "") -> Item:
        stated = Boxed(
            np.zeros((boxes, 2, 3)) + [[[0.0] * 3], [[1.0] * 3]][:1], np.zeros(boxes, int), np.zeros(boxes, bool)
        )
        return Item(Sample(name, (), target=target), np.zeros((1, 1, 8, 8), np.float32), np.nan, objects=stated)

    def test_validation_without_objects(self) -> None:
        task, plan = TASKS["detect"], plan_of({"task": "detect", "classes": ["x"], "patch": (64, 64), "preparation": {"dims": 2, "size": (64, 64)},
                                              "network": {"name": "retinanet"}, "loss": {"name": "detector"}}, "p")  # fmt: skip
        assert "holds an object" in task.lacking(Store((self.item("a", 0), self.item("b", 0))), plan)
        assert not task.lacking(Store((self.item("a", 0), self.item("b", 1))), plan)

    def test_validation_without_normal_cases(self) -> None:
        task = TASKS["anomaly"]
        plan = plan_of({"task": "anomaly", "normal": "ok", "classes": [], "patch": (8, 8), "preparation": {"dims": 2, "size": (8, 8)},
                        "network": {"name": "vae_normal", "settings": {"size": (8, 8), "widths": (4,)}}, "loss": {"name": "own"}}, "p")  # fmt: skip
        assert "is normal (ok)" in task.lacking(Store((self.item("a", 0, "bad"),)), plan)
        assert not task.lacking(Store((self.item("a", 0, "bad"), self.item("b", 0, "ok"))), plan)

    def test_objects_stand_on_both_sides_of_a_division(self) -> None:
        box = (Marked("x", (0, 0, 0), (1, 4, 4)),)
        samples = tuple(Sample(str(i), (), objects=box if i < 2 else ()) for i in range(20))
        for seed in range(5):
            sides = divide(Dataset(Path("x"), "t", samples), 0.15, seed=seed)
            assert [sum(bool(s.objects) for s in side.samples) for side in sides] == [1, 1]

    def test_a_modality_that_nobody_has(self, tmp_path: Path) -> None:
        pictures(tmp_path, 4)
        rows = [f"i{i}.png,,{'ab'[i % 2]}" for i in range(4)]
        (tmp_path / "t.csv").write_text("image_ct,image_pet,label\n" + "\n".join(rows) + "\n", "utf-8")
        with pytest.raises(InputError, match="none of the 4 cases looked at has the image 'image_pet'"):
            fingerprint(open_dataset(tmp_path / "t.csv"), "classify", read_case)


class TestNumbers:
    @pytest.mark.parametrize("text", ["1e39", "inf", "-inf", "nan", "many", ""])
    def test_what_cannot_be_learnt(self, text: str) -> None:
        with pytest.raises(InputError, match="is no number"):
            stated_number(text)

    def test_columns_beyond_all_measure(self) -> None:
        with pytest.raises(InputError, match="age: '1e308' is no number"):
            fitted([{"age": "40"}, {"age": "1e308"}], ["age"])

    @pytest.mark.parametrize("times", [(0.0, 1e39, 2e39), (0.0, 0.0, 0.0)])
    def test_times_that_are_none(self, times: tuple[float, ...]) -> None:
        with pytest.raises(GeometryError, match="seconds are wanted"):
            Cine(np.zeros((3, 1, 1, 4, 4)), Geometry.regular((1, 4, 4), space=Space.PIXELS), times)

    def test_weights_that_are_no_numbers_make_no_image(self) -> None:
        maker = build("dcgan", {"size": (8, 8), "widths": (8,), "latent": 4}, channels=1, outputs=0, dims=2)
        assert made(maker, 3, classes=None, seed=0).shape == (3, 1, 8, 8)
        with torch.no_grad():
            next(iter(maker.parameters())).fill_(np.nan)
            for parameter in maker.parameters():
                parameter.fill_(np.nan)
        with pytest.raises(UnreadableFile, match="weights are damaged"):
            made(maker, 3, classes=None, seed=0)

    def test_nothing_to_undo(self) -> None:
        plain = {
            "task": "enhance",
            "patch": (8, 8),
            "preparation": {"dims": 2},
            "network": {"name": "restorer"},
            "loss": {"name": "l1"},
        }
        with pytest.raises(InputError, match="there is nothing to undo"):
            plan_of({**plain, "degradation": {"noise": 0, "factor": 1}}, "p")
        with pytest.raises(ValueError, match="factor"):
            Degradation(factor=True)  # type: ignore[arg-type]

    def test_a_pupil_without_a_teacher(self) -> None:
        with pytest.raises(InputError, match="only --method distill"):
            _require_methods(Wanted(("int8",), network="cnn"))


def stated(**change: object) -> Stated:
    plain: dict[str, object] = {"operating_point": {}, "calibration": {}, "conformal": {}, "gate": {}, "training": {}}
    return Stated.model_validate({**plain, **change})


class TestCards:
    @pytest.mark.parametrize(
        "change",
        [
            {"gate": {"prepared": {"quantiles": [0.5], "high": [[1]]}}},
            {"gate": {"prepared": {"quantiles": [0.5], "low": [[1, 2]], "high": [[1]]}}},
            {"gate": {"shape": [[0, 0, 0], [1, 1, 1]]}},
            {"gate": {"frame_gap_s": [float("nan"), 1]}},
            {"calibration": {"method": "isotonic", "scores": [], "rates": []}},
            {"calibration": {"method": "isotonic", "scores": [0.1, 0.2], "rates": [0.1]}},
            {"calibration": {"method": "temperature", "temperature": 0}},
            {"training": []},
            {"training": {"usual_distances": "far"}},
            {"training": {"usual_distances": [1.0]}},
            {"training": {"class_shares": [-1, 2]}},
            {"training": {"class_shares": [float("inf")]}},
        ],
    )
    def test_forged_numbers_are_refused(self, change: dict[str, object]) -> None:
        with pytest.raises(ValueError, match="validation error"):
            stated(**change)

    def test_what_a_task_needs(self) -> None:
        stated(training={"class_shares": [3, 1]}).require_for("generate", 2)
        stated().require_for("classify", 2)
        for told, task in (
            ({"class_shares": [1]}, "generate"),
            ({"class_shares": [0, 0]}, "generate"),
            ({}, "anomaly"),
        ):
            with pytest.raises(ValueError, match="training"):
                stated(training=told).require_for(task, 2)

    @pytest.mark.parametrize(
        "change",
        [{"patch": (64,)}, {"patch": (100_000, 100_000)}, {"preparation": {"dims": 2, "size": (64, 64, 64)}}],
    )
    def test_windows_that_cannot_be(self, change: dict[str, object]) -> None:
        plain = {"task": "detect", "classes": ["x"], "patch": (64, 64), "preparation": {"dims": 2, "size": (64, 64)},
                 "network": {"name": "retinanet"}, "loss": {"name": "detector"}}  # fmt: skip
        spec = plan_of(plain, "p").spec
        with pytest.raises(ValueError, match="validation error"):
            type(spec).model_validate({**spec.model_dump(), **change})


def test_a_sequence_of_one_frame_is_none() -> None:
    plain = {
        "task": "classify",
        "classes": ["a", "b"],
        "patch": (8, 8),
        "preparation": {"dims": 2, "size": (8, 8)},
        "network": {"name": "recurrent"},
        "loss": {"name": "cross_entropy"},
    }
    with pytest.raises(InputError, match="frames is 2 or more"):
        plan_of({**plain, "frames": 1}, "p")
