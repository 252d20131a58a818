"""What must not pass, crash or be lost where networks are trained and run: bad names, tables, labels, cards, plans."""

import csv
import json
from hashlib import md5
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
torch.set_num_threads(1)

from isocenter.acquire.datasets import open_dataset  # noqa: E402
from isocenter.acquire.labelled import read_images  # noqa: E402
from isocenter.data.card import ModelCard  # noqa: E402
from isocenter.data.geometry import Geometry  # noqa: E402
from isocenter.data.volume import Volume  # noqa: E402
from isocenter.errors import InputError, UnreadableFile  # noqa: E402
from isocenter.formats import model_folder, nifti  # noqa: E402
from isocenter.inference.model import spec_of  # noqa: E402
from isocenter.inference.nnunet import _spec  # noqa: E402
from isocenter.training.images.fingerprint import answers_of  # noqa: E402
from isocenter.training.images.plan import plan_of  # noqa: E402
from tests.command import cli  # noqa: E402


def pictures(folder: Path, names: list[str], seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (16, 16), dtype=np.uint8)).save(path)
    return folder


def classes(folder: Path, count: int = 6) -> Path:
    return pictures(folder, [f"{kind}/{i}.png" for kind in ("cat", "dog") for i in range(count)])


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    done = cli("train", str(classes(folder / "set", 12)), "-o", str(folder / "model"), "--set", "schedule.steps=2")
    assert done.returncode == 0, done.stderr
    return folder


class TestNames:
    @pytest.mark.parametrize("name", ["../../escaped", "/tmp/escaped", "a\nb", "c:x", "..", "a/../../b"])
    def test_a_case_cannot_lie_outside_its_folder(self, tmp_path: Path, name: str) -> None:
        pictures(tmp_path, ["scan.png"])
        with (tmp_path / "m.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["id", "image", "label"], [name, "scan.png", "x"]])
        with pytest.raises(InputError, match="no name for a file"):
            open_dataset(tmp_path / "m.csv")

    def test_what_is_there_is_not_overwritten(self, tmp_path: Path, classifier: Path) -> None:
        pictures(tmp_path, ["scan.png"])
        truth = tmp_path / "truth.nii.gz"
        truth.write_bytes(b"mine")
        (tmp_path / "m.csv").write_text(f"id,image\n{tmp_path / 'truth'},scan.png\n", "utf-8")
        done = cli("predict", str(classifier / "model"), str(tmp_path / "m.csv"), "-o", str(tmp_path / "out"))
        assert done.returncode == 2
        assert (
            md5(truth.read_bytes(), usedforsecurity=False).hexdigest()
            == md5(b"mine", usedforsecurity=False).hexdigest()
        )

    def test_two_files_of_one_name_are_two_cases(self, tmp_path: Path, classifier: Path) -> None:
        pictures(tmp_path / "in", ["x.png", "x.bmp", "y.png"])
        (tmp_path / "in" / "broken.png").write_bytes(b"\x89PNG\r\n")
        done = cli("predict", str(classifier / "model"), str(tmp_path / "in"), "-o", str(tmp_path / "out"))
        assert done.returncode == 1
        with (tmp_path / "out" / "predictions.csv").open(encoding="utf-8") as file:
            rows = {row["case"]: row for row in csv.DictReader(file)}
        assert set(rows) == {"x.png", "x.bmp", "y", "broken"}
        assert rows["broken"]["note"]
        assert not rows["broken"]["predicted"]

    def test_numbers_in_circles_are_letters(self, tmp_path: Path) -> None:
        data = open_dataset(pictures(tmp_path, ["①/0².png", "①/1.png", "②/2.png", "②/3.png"]))
        assert data.classes() == ("①", "②")


class TestTables:
    def test_a_folder_that_is_a_split_beside_one_that_is_none(self, tmp_path: Path) -> None:
        pictures(tmp_path, ["valid/p0/a.png", "valid/p1/b.png", "invalid/p0/c.png", "invalid/p1/d.png"])
        with pytest.raises(InputError, match="valid is the name of a split, and invalid"):
            open_dataset(tmp_path)

    def test_a_class_may_be_called_mask(self, tmp_path: Path) -> None:
        assert open_dataset(pictures(tmp_path, ["mask/a.png", "nomask/b.png"])).classes() == ("mask", "nomask")

    def test_large_numbers_are_not_rounded(self, tmp_path: Path) -> None:
        images = np.zeros((4, 8, 8), np.uint8)
        labels = np.array([1_000_000, 1_000_001, 1_000_000, 1_000_001])
        np.savez(tmp_path / "a.npz", train_images=images, train_labels=labels)
        assert open_dataset(tmp_path / "a.npz").classes() == ("1000000", "1000001")
        np.savez(tmp_path / "b.npz", train_images=images, train_labels=np.array([1234567.1, np.nan, np.inf, 0.25]))
        found = open_dataset(tmp_path / "b.npz")
        assert [s.target for s in found.samples] == ["1234567.1", "0.25"]
        assert len(found.problems) == 2

    def test_missing_values_are_no_class(self, tmp_path: Path) -> None:
        pictures(tmp_path, [f"{i}.png" for i in range(6)])
        rows = "".join(f"{i}.png,{v}\n" for i, v in enumerate(("1.5", "2.5", "NA", "nan", "N/A", "4")))
        (tmp_path / "m.csv").write_text("image,value\n" + rows, "utf-8")
        found = open_dataset(tmp_path / "m.csv")
        assert [s.target for s in found.samples] == ["1.5", "2.5", "4"]
        assert answers_of(found) == "regress"  # numbers with fractions are values

    def test_rows_without_a_split_are_not_lost(self, tmp_path: Path) -> None:
        pictures(tmp_path, [f"{i}.png" for i in range(6)])
        rows = "".join(f"{i}.png,{'ab'[i % 2]},{s}\n" for i, s in enumerate(("train", "val", "val", "", "", "test")))
        (tmp_path / "m.csv").write_text("image,label,split\n" + rows, "utf-8")
        found = open_dataset(tmp_path / "m.csv")
        assert found.splits == {"train": 3, "val": 2, "test": 1}
        assert "2 cases state no split" in found.notes[0]

    def test_copies_across_a_hold_out_are_leaks(self, tmp_path: Path) -> None:
        folder = classes(tmp_path / "set", 10)
        (folder / "cat" / "4.png").write_bytes((folder / "cat" / "0.png").read_bytes())
        args = ("train", str(folder), "-o", str(tmp_path / "m"), "--hold-out", "5", "--set", "schedule.steps=1")
        done = cli(*args)
        assert done.returncode == 2
        assert "leaks between splits" in done.stderr
        assert cli(*args, "--drop-leaks").returncode == 0

    def test_validation_of_one_class_is_refused_before_training(self, tmp_path: Path) -> None:
        pictures(tmp_path, [f"{i}.png" for i in range(8)])
        rows = "".join(f"{i}.png,{'ab'[i % 2 if i < 5 else 0]},{'train' if i < 5 else 'val'}\n" for i in range(8))
        (tmp_path / "m.csv").write_text("image,label,split\n" + rows, "utf-8")
        done = cli("train", str(tmp_path / "m.csv"), "-o", str(tmp_path / "m"), "--set", "schedule.steps=1")
        assert done.returncode == 2
        assert "all of one class (a)" in done.stderr
        assert not (tmp_path / ".m.unfinished").exists()

    def test_a_refused_wish_leaves_nothing_behind(self, tmp_path: Path) -> None:
        args = ("train", str(classes(tmp_path / "set", 8)), "-o", str(tmp_path / "m"), "--set", "schedule.steps=1")
        assert cli(*args, "--folds", "50").returncode == 2
        assert cli(*args, "--folds", "2").returncode == 0


class TestChannels:
    def test_several_modalities_in_one_file(self, tmp_path: Path) -> None:
        """The Decathlon keeps modalities along a fourth axis."""
        for part in ("imagesTr", "labelsTr"):
            (tmp_path / part).mkdir()
        import nibabel

        grid = np.stack([np.full((6, 5, 4), 10.0), np.full((6, 5, 4), 20.0)], axis=3).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(grid, np.eye(4)), tmp_path / "imagesTr" / "a.nii.gz")  # type: ignore[attr-defined]
        nibabel.save(nibabel.Nifti1Image(np.ones((6, 5, 4), np.uint8), np.eye(4)), tmp_path / "labelsTr" / "a.nii.gz")  # type: ignore[attr-defined]
        told = {"modality": {"1": "T1", "0": "FLAIR"}, "labels": {"0": "background", "1": "tumour"}}
        (tmp_path / "dataset.json").write_text(json.dumps(told), "utf-8")
        data = open_dataset(tmp_path)
        assert data.channels == ("FLAIR", "T1")
        volume = read_images(data.samples[0])
        assert [float(c.mean()) for c in volume.voxels] == [10.0, 20.0]

    def test_images_are_taken_by_name(self, tmp_path: Path) -> None:
        geometry = Geometry.regular((4, 16, 16), spacing_mm=(1.0, 1.0, 1.0))
        rng = np.random.default_rng(0)
        for i in range(8):
            for kind, level in (("t1", 0), ("t2", 500)):
                grid = rng.normal(level + 100 * (i % 2), 10, (1, 4, 16, 16)).astype(np.float32)
                nifti.write(Volume(grid, geometry), tmp_path / f"{kind}_{i}.nii.gz")
        rows = "".join(f"{i},t1_{i}.nii.gz,t2_{i}.nii.gz,{'ab'[i % 2]}\n" for i in range(8))
        (tmp_path / "m.csv").write_text("case,image_t1,image_t2,label\n" + rows, "utf-8")
        done = cli(
            "train", str(tmp_path / "m.csv"), "-o", str(tmp_path / "m"), "--set", "schedule.steps=2", "--network", "cnn"
        )
        assert done.returncode == 0, done.stderr
        swapped = "".join(f"{i},t2_{i}.nii.gz,t1_{i}.nii.gz\n" for i in range(8))
        (tmp_path / "same.csv").write_text(
            "case,image_t1,image_t2\n" + rows.replace(",a\n", "\n").replace(",b\n", "\n"), "utf-8"
        )
        (tmp_path / "swapped.csv").write_text("case,image_t2,image_t1\n" + swapped, "utf-8")
        (tmp_path / "other.csv").write_text("case,image_pet,image_ct\n" + swapped, "utf-8")
        for name in ("same", "swapped"):
            done = cli("predict", str(tmp_path / "m"), str(tmp_path / f"{name}.csv"), "-o", str(tmp_path / name))
            assert done.returncode == 0, done.stderr
        assert (tmp_path / "same" / "predictions.csv").read_text("utf-8") == (
            tmp_path / "swapped" / "predictions.csv"
        ).read_text("utf-8")
        done = cli("predict", str(tmp_path / "m"), str(tmp_path / "other.csv"), "-o", str(tmp_path / "other"))
        assert done.returncode == 2
        assert "the model takes image_t1, image_t2" in done.stderr

    def test_nnunets_channels_are_taken_by_number(self) -> None:
        rows = {"0": {"percentile_00_5": -9.0, "percentile_99_5": 9.0, "mean": 0.0, "std": 1.0},
                "1": {"percentile_00_5": 5.0, "percentile_99_5": 50.0, "mean": 20.0, "std": 7.0}}  # fmt: skip
        own = {"patch_size": [32, 32], "spacing": [1, 1], "normalization_schemes": ["CTNormalization"] * 2, "architecture": {
            "network_class_name": "x.PlainConvUNet", "arch_kwargs": {"features_per_stage": [8, 16], "strides": [[1, 1], [2, 2]],
            "kernel_sizes": [[3, 3], [3, 3]], "n_conv_per_stage": [2, 2], "n_conv_per_stage_decoder": [2], "conv_bias": True}}}  # fmt: skip
        data = {"channel_names": {"1": "PET", "0": "CT"}, "labels": {"background": 0, "a": 1}}
        spec = _spec({"foreground_intensity_properties_per_channel": rows}, own, data, 1)
        assert spec.channels == ("CT", "PET")
        assert spec.preparation.mean == (0.0, 20.0)


class TestPlans:
    BASE = {
        "task": "classify",
        "classes": ("a", "b"),
        "patch": (16, 16),
        "preparation": {"dims": 2},
        "network": {"name": "cnn"},
    }

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"classes": ("a", "a")}, "stands twice"), ({"classes": ("a", " ")}, "empty"), ({"seed": -1}, "greater than or equal"),
            ({"seed": 2**70}, "less than"), ({"loss": {"class_weights": (1.0, 2.0, 3.0)}}, "3 numbers for 2 outputs"),
            ({"loss": {"class_weights": (1.0, -2.0)}}, "greater than 0"), ({"missing_mm": float("inf")}, "finite"),
            ({"augmentation": {"noise_deviation": float("inf")}}, "finite"), ({"patch": (0, 16)}, "1 or more"),
            ({"channels": ()}, "one channel or more"), ({"preparation": {"dims": 2, "size": (8, 8)}}, "seen at once"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_is_refused(self, change: dict[str, object], words: str) -> None:
        with pytest.raises(InputError, match=words):
            plan_of({**self.BASE, **change}, "the plan")

    def test_a_field_that_is_none_names_those_there_are(self) -> None:
        with pytest.raises(InputError, match=r"schedule.step: is no field \(did you mean steps\?\)"):
            plan_of({**self.BASE, "schedule": {"step": 4}}, "--set")

    def test_more_labels_than_a_byte_holds(self) -> None:
        plan = {
            **self.BASE,
            "task": "segment",
            "classes": (),
            "labels": {i: f"l{i}" for i in range(1, 300)},
            "loss": {"name": "dice"},
        }
        with pytest.raises(InputError, match="--task detect"):
            plan_of(plan, "the plan")


class TestCards:
    @pytest.mark.parametrize(
        "change",
        [
            {"operating_point": {"threshold": "abc"}}, {"operating_point": {"threshold": 7}}, {"conformal": {"quantiles": ["a", "b"]}},
            {"gate": {"shape": [[1, 1]]}}, {"calibration": {"method": "platt"}}, {"calibration": {"method": "magic"}},
            {"calibration": {"method": "temperature", "temperature": 0}}, {"classes": ("dog", "cat")}, {"task": "regress"},
        ],
    )  # fmt: skip
    def test_nonsense_is_refused_with_a_sentence(self, classifier: Path, change: dict[str, object]) -> None:
        card = model_folder.read_card(classifier / "model")
        spec_of(card)
        from dataclasses import replace

        with pytest.raises(UnreadableFile):
            spec_of(replace(card, **change))  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "change",
        [
            {"answer": "value"},
            {"patch": [0, 0]},
            {"preparation": {"dims": 2, "intensity": "range", "low": [9], "high": [1]}},
        ],
    )
    def test_a_network_that_cannot_be(self, classifier: Path, change: dict[str, object]) -> None:
        card = model_folder.read_card(classifier / "model")
        network = {**card.network, **change}
        broken = ModelCard(card.task, card.model, card.target, card.classes, (), network=network)
        with pytest.raises(UnreadableFile):
            spec_of(broken)


class TestJudgement:
    def test_labels_under_other_names_are_refused(self, tmp_path: Path) -> None:
        geometry = Geometry.regular((8, 16, 16), spacing_mm=(1.0, 1.0, 1.0))
        rng = np.random.default_rng(0)

        def decathlon(folder: Path, names: dict[str, str], first: int) -> Path:
            for i in range(first, first + 4):
                labels = rng.integers(0, 3, (8, 16, 16)).astype(np.uint8)
                for part, grid in (
                    ("imagesTr", labels[None] * 100.0 + rng.normal(0, 1, (1, 8, 16, 16))),
                    ("labelsTr", labels[None]),
                ):
                    (folder / part).mkdir(parents=True, exist_ok=True)
                    kind = np.float32 if part == "imagesTr" else np.uint8
                    nifti.write(Volume(grid.astype(kind), geometry), folder / part / f"c{i}.nii.gz")
            (folder / "dataset.json").write_text(json.dumps({"labels": names}), "utf-8")
            return folder

        one = decathlon(tmp_path / "a", {"0": "background", "1": "anterior", "2": "posterior"}, 0)
        other = decathlon(tmp_path / "b", {"0": "background", "1": "posterior", "2": "anterior"}, 10)
        done = cli("train", str(one), "-o", str(tmp_path / "m"), "--set", "schedule.steps=1", "--set", "network.settings.widths=[4,8]",
                   "--set", "network.settings.strides=[[1,1,1],[2,2,2]]", "--set", "network.settings.kernels=[]")  # fmt: skip
        assert done.returncode == 0, done.stderr
        done = cli("evaluate", str(tmp_path / "m"), str(other), "-o", str(tmp_path / "e"))
        assert done.returncode == 2
        assert "calls the label 1 'posterior', and the model 'anterior'" in done.stderr

    def test_validation_cases_may_be_asked_for_by_name(self, tmp_path: Path) -> None:
        names = [
            f"{split}/{kind}/{i}.png"
            for split, n in (("train", 6), ("val", 3))
            for kind in ("cat", "dog")
            for i in range(n)
        ]
        folder = pictures(tmp_path / "set", names)
        done = cli("train", str(folder), "-o", str(tmp_path / "m"), "--set", "schedule.steps=2")
        assert done.returncode == 0, done.stderr
        done = cli("evaluate", str(tmp_path / "m"), str(folder), "--split", "val", "-o", str(tmp_path / "e"))
        assert done.returncode == 0, done.stderr
        notes = json.loads((tmp_path / "e" / "evaluation.json").read_text("utf-8"))["notes"]
        assert any("threshold and calibration were chosen on them" in note for note in notes)
        assert (
            cli("evaluate", str(tmp_path / "m"), str(folder), "--split", "train", "-o", str(tmp_path / "f")).returncode
            == 2
        )

    def test_an_answer_that_is_no_number_is_none(self, tmp_path: Path, classifier: Path) -> None:
        from dataclasses import replace

        from isocenter.inference.model import load
        from isocenter.inference.predictor import Predictor

        model = load(classifier / "model")
        with torch.no_grad():
            next(iter(model.modules[0].parameters())).fill_(float("nan"))
        with pytest.raises(InputError, match="is no number"):
            Predictor(replace(model))(Volume(np.ones((1, 1, 16, 16), np.uint8) * 7, Geometry.regular((1, 16, 16))))
