"""Models that come from elsewhere and leave: ONNX with a card, MONAI bundles, what a card states, models as recipes."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch")
torch.set_num_threads(1)
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("lightning_fabric")

from isocenter.data.geometry import Geometry, Space  # noqa: E402
from isocenter.data.labels import Label, LabelMap  # noqa: E402
from isocenter.data.volume import Volume  # noqa: E402
from isocenter.errors import InputError, RecipeError, UnreadableFile  # noqa: E402
from isocenter.features.deep import Deep, deep  # noqa: E402
from isocenter.formats import model_folder, nifti  # noqa: E402
from isocenter.inference.embedding import embedding  # noqa: E402
from isocenter.inference.foreign import read_foreign_card  # noqa: E402
from isocenter.inference.model import load  # noqa: E402
from isocenter.inference.predictor import Predictor, Running  # noqa: E402
from isocenter.networks.catalogue import build  # noqa: E402
from isocenter.pipeline.image_training import train_images  # noqa: E402
from isocenter.pipeline.judgement import evaluate  # noqa: E402
from isocenter.pipeline.model_add import model_add, model_describe, model_export  # noqa: E402
from isocenter.recipe import load as load_recipe  # noqa: E402
from isocenter.training.images.choose import Wish  # noqa: E402
from tests.command import cli  # noqa: E402
from tests.test_image_learning import small_segmenter, stripes  # noqa: E402

EXACT = Running(runtime="torch-float32")


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return small_segmenter(tmp_path_factory.mktemp("segmenter"))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("classifier")
    data = stripes(folder / "s.npz")
    wish = Wish(network="cnn", plan={"schedule.steps": 120, "schedule.batch": 8, "schedule.learning_rate": 5e-3})
    train_images(data, folder / "model", wish=wish)
    return data, folder / "model"


def graph(path: Path, nodes: list, inputs: list, outputs: list, weights: dict[str, np.ndarray]) -> Path:
    held = [onnx.numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    made = onnx.helper.make_graph(nodes, "g", inputs, outputs, held)
    model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def tensor(name: str, shape: list) -> object:
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)


def card_file(path: Path, **parts: object) -> Path:
    base = {
        "task": "segment", "labels": {1: "bright"}, "patch": [4, 8, 8],
        "preparation": {"dims": 3, "intensity": "range", "low": [0.0], "high": [1.0]},
    }  # fmt: skip
    path.write_text(yaml.safe_dump({**base, **parts}), "utf-8")
    return path


class TestOnnx:
    def test_a_threshold_as_a_network(self, tmp_path: Path) -> None:
        """A graph whose answer is known: p = 1 / (1 + exp(-(20 x - 10))), one channel, channels last."""
        net = graph(
            tmp_path / "net.onnx",
            [onnx.helper.make_node("Mul", ["image", "slope"], ["m"]), onnx.helper.make_node("Add", ["m", "bias"], ["a"]),
             onnx.helper.make_node("Sigmoid", ["a"], ["p"])],
            [tensor("image", [None, None, None, None, 1])], [tensor("p", [None, None, None, None, 1])],
            {"slope": np.asarray([20.0]), "bias": np.asarray([-10.0])},
        )  # fmt: skip
        card = card_file(tmp_path / "card.yaml", onnx={"layout": "channels_last", "output": "probabilities"})
        made = model_add(net, tmp_path / "m", card=card)
        assert made.model == "net"
        values = np.random.default_rng(0).uniform(0, 1, (1, 6, 20, 20)).astype(np.float32)
        found = Predictor(tmp_path / "m")(Volume(values, Geometry.regular((6, 20, 20), spacing_mm=(1.0, 1.0, 1.0))))
        assert np.array_equal(found.labels.voxels, (values[0] > 0.5).astype(np.uint8))

    def test_refusals(self, tmp_path: Path) -> None:
        card = card_file(tmp_path / "card.yaml")
        (tmp_path / "junk.onnx").write_bytes(b"junk" * 9)
        with pytest.raises(UnreadableFile, match="no ONNX file|no network"):
            model_add(tmp_path / "junk.onnx", tmp_path / "m", card=card)
        net = graph(
            tmp_path / "net.onnx", [onnx.helper.make_node("Identity", ["image"], ["p"])],
            [tensor("image", [None, 3, None, None, None])], [tensor("p", [None, 3, None, None, None])], {},
        )  # fmt: skip
        with pytest.raises(UnreadableFile, match="does not take windows"):
            model_add(net, tmp_path / "m", card=card)
        three = card_file(tmp_path / "three.yaml", preparation={"dims": 3, "channels": 3})
        with pytest.raises(UnreadableFile, match="the card says 2 numbers"):
            model_add(net, tmp_path / "m", card=three)
        with pytest.raises(InputError, match="--card card.yaml"):
            model_add(net, tmp_path / "m")
        for parts, says in (
            ({"labels": {}}, "labels: a segmentation has one"), ({"patch": [8, 8]}, "patch has 3 edges"),
            ({"answer": "sigmoid"}, "does not fit segment"), ({"patch": [4, 8, 10**6]}, "no size that a network"),
            ({"labels": {0: "x"}}, "0 is background"), ({"channels": ["a", "b"]}, "2 are named"), ({"flips": [3]}, "flips"),
            ({"preparation": {"dims": 3, "intensity": "range"}}, "needs low"),
            ({"preparation": {"dims": 3, "spacing_mm": [0, 1, 1]}}, "above 0"),
            ({"nonsense": 1}, "nonsense"), ({"gate": {"spacing_mm": [1, 2]}}, "two rows are wanted"),
        ):  # fmt: skip
            with pytest.raises(InputError, match=says):
                model_add(net, tmp_path / "m", card=card_file(tmp_path / "odd.yaml", **parts))
        assert not (tmp_path / "m").exists()
        (tmp_path / "net.h5").write_bytes(b"x")
        with pytest.raises(InputError, match="tf2onnx"):
            model_add(tmp_path / "net.h5", tmp_path / "m", card=card)

    def test_two_classes_from_one_output(self, tmp_path: Path) -> None:
        net = graph(
            tmp_path / "net.onnx", [onnx.helper.make_node("ReduceMean", ["image"], ["m"], axes=[2, 3], keepdims=0)],
            [tensor("image", [None, 1, 8, 8])], [tensor("m", [None, 1])], {},
        )  # fmt: skip
        parts = {
            "task": "classify", "classes": ["no", "yes"], "labels": {}, "patch": [8, 8],
            "preparation": {"dims": 2, "size": [8, 8], "intensity": "none"},
        }  # fmt: skip
        model_add(net, tmp_path / "m", card=card_file(tmp_path / "c.yaml", **parts))
        image = Volume(np.full((1, 1, 8, 8), 3.0, np.float32), Geometry.regular((1, 8, 8), space=Space.PIXELS))
        assert Predictor(tmp_path / "m")(image).scores[1] == pytest.approx(1 / (1 + np.exp(-3)), abs=1e-5)
        for odd in ("sigmoid", "value"):
            with pytest.raises(InputError, match="answer"):
                model_add(net, tmp_path / "n", card=card_file(tmp_path / "c.yaml", **parts, answer=odd))

    @pytest.mark.parametrize("deep", [False, True])
    def test_weights_in_other_files_are_not_followed(self, tmp_path: Path, deep: bool) -> None:
        net = graph(
            tmp_path / "net.onnx", [onnx.helper.make_node("Mul", ["image", "w"], ["p"])],
            [tensor("image", [None, 1, None, None, None])], [tensor("p", [None, 1, None, None, None])],
            {"w": np.ones(1)},
        )  # fmt: skip
        model = onnx.load(net)
        one = model.graph.initializer[0]
        one.data_location = onnx.TensorProto.EXTERNAL
        one.ClearField("raw_data")
        entry = one.external_data.add()
        entry.key, entry.value = "location", "/etc/passwd"
        if deep:  # within a graph that a node holds
            inner = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["w"], ["y"])], "inner", [], [tensor("y", [1])], [one])  # fmt: skip
            model.graph.node.append(onnx.helper.make_node("If", ["w"], ["z"], then_branch=inner, else_branch=inner))
            one.data_location = onnx.TensorProto.DEFAULT
            del model.graph.initializer[:]
        net.write_bytes(model.SerializeToString())
        with pytest.raises(UnreadableFile, match="keeps weights in other files"):
            model_add(net, tmp_path / "m", card=card_file(tmp_path / "card.yaml"))

    def test_out_and_back(self, segmenter: tuple[Path, Path], tmp_path: Path) -> None:
        data, model = segmenter
        model_export(model, tmp_path / "out", form="onnx")
        again = model_add(tmp_path / "out" / "net.onnx", tmp_path / "again", card=tmp_path / "out" / "card.yaml")
        assert again.network["labels"] == {"1": "1", "2": "2"}
        image = nifti.read(data / "images" / "case04.nii.gz")
        one, other = (Predictor(path, EXACT)(image).labels.voxels for path in (model, tmp_path / "again"))
        assert np.mean(one == other) > 0.99  # windows of one size here, exact tiles there
        assert evaluate(tmp_path / "again", data).data["metrics"]["dice"]["value"] > 0.8
        with pytest.raises(InputError, match="ONNX network already"):
            model_export(tmp_path / "again", tmp_path / "more", form="onnx")
        with pytest.raises(InputError, match="holds something already"):
            model_export(model, tmp_path / "out", form="onnx")
        graph_file = tmp_path / "again" / "model.onnx"
        graph_file.write_bytes(graph_file.read_bytes() + b"x")
        with pytest.raises(UnreadableFile, match="was changed"):
            load(tmp_path / "again")


class TestCards:
    @pytest.mark.parametrize(
        "text", ["a: &a [*a]", "name: 2024-13-45", "a: !!python/object:os.system x", "[" * 40, "a: [1"]
    )
    def test_yaml_that_is_no_plain_data(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "card.yaml").write_text(text)
        with pytest.raises((UnreadableFile, InputError)):
            read_foreign_card(tmp_path / "card.yaml")

    def test_folders_that_cannot_be_made_anew(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "file").write_text("mine")
        card = card_file(tmp_path / "card.yaml")
        (tmp_path / "net.onnx").write_bytes(b"x")
        for odd in (".", "..", "file"):
            with pytest.raises(InputError, match="cannot be made anew|no folder"):
                model_add(tmp_path / "net.onnx", odd, card=card)
        assert (tmp_path / "file").read_text() == "mine"


class TestBundle:
    def test_monai_reads_what_is_written(self, classifier: tuple[Path, Path], tmp_path: Path) -> None:
        bundle = pytest.importorskip("monai.bundle")
        _, model = classifier
        model_export(model, tmp_path / "b", form="bundle")
        parser = bundle.ConfigParser()
        parser.read_config(tmp_path / "b" / "configs" / "inference.json")
        network = parser.get_parsed_content("network_def")
        network.load_state_dict(torch.load(tmp_path / "b" / "models" / "model.pt", weights_only=True))
        images = torch.rand(3, 1, 16, 16)
        wanted = load(model).modules[0](images)
        assert torch.allclose(network.eval()(images), wanted, atol=1e-6)
        said = json.loads((tmp_path / "b" / "configs" / "metadata.json").read_text())
        assert said["network_data_format"]["outputs"]["pred"]["channel_def"] == {"0": "0", "1": "1"}

    def test_a_bundle_of_monai_runs_here(self, tmp_path: Path) -> None:
        network = build("segresnet", {}, channels=1, outputs=2, dims=3)
        (tmp_path / "b" / "configs").mkdir(parents=True)
        (tmp_path / "b" / "models").mkdir()
        torch.save(network.state_dict(), tmp_path / "b" / "models" / "model.pt")
        card = card_file(
            tmp_path / "card.yaml", patch=[16, 16, 16], network={"name": "segresnet", "settings": {}},
            about={"licence": "MIT", "data": "noise", "limits": "everything"},
        )  # fmt: skip
        made = model_add(tmp_path / "b", tmp_path / "m", card=card)
        assert (made.licence, made.training["data"], made.limits) == ("MIT", "noise", "everything")
        values = np.random.default_rng(0).uniform(0, 1, (1, 16, 16, 16)).astype(np.float32)
        found = Predictor(tmp_path / "m", EXACT)(
            Volume(values, Geometry.regular((16, 16, 16), spacing_mm=(1.0, 1.0, 1.0)))
        )
        with torch.no_grad():
            wanted = network.eval()(torch.from_numpy(values[None])).argmax(1)[0].numpy()
        assert np.mean(found.labels.voxels == wanted) > 0.999
        other = card_file(tmp_path / "o.yaml", patch=[16, 16, 16], network={"name": "dynamic_unet", "settings": {}})
        with pytest.raises(UnreadableFile, match="do not fit the network"):
            model_add(tmp_path / "b", tmp_path / "n", card=other)
        with pytest.raises(InputError, match="name it"):
            model_add(tmp_path / "b", tmp_path / "n", card=card_file(tmp_path / "p.yaml"))


class TestDescribe:
    def test_what_people_say(self, segmenter: tuple[Path, Path], tmp_path: Path) -> None:
        data, model = segmenter
        (tmp_path / "about.yaml").write_text("limits: Made-up balls.\nlicence: CC0\ndata_licence: none\n")
        evaluate(model, data, tmp_path / "ev")
        done = cli("model", "describe", model, "--about", tmp_path / "about.yaml", "--evaluation", tmp_path / "ev" / "evaluation.json")  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "Made-up balls." in done.stdout
        card = model_folder.read_card(model)
        assert card.licence == "CC0"
        assert card.training["licence"] == "none"
        assert card.metrics["test"]["n_cases"] == 3
        load(model)
        changed = json.loads((tmp_path / "ev" / "evaluation.json").read_text())
        changed["model_sha256"] = "0" * 64
        (tmp_path / "other.json").write_text(json.dumps(changed))
        with pytest.raises(InputError, match="of another model"):
            model_describe(model, evaluation=tmp_path / "other.json")
        (tmp_path / "about.yaml").write_text("nonsense: 1")
        with pytest.raises(InputError, match="nonsense"):
            model_describe(model, about=tmp_path / "about.yaml")


class TestDeepFeatures:
    def test_they_are_what_the_last_layer_reads(self, classifier: tuple[Path, Path]) -> None:
        _, model = classifier
        loaded = load(model)
        image = np.random.default_rng(0).normal(size=(1, 16, 16)).astype(np.float32)
        found = embedding(loaded, image)
        last = loaded.modules[0].classifier[-1]
        with torch.no_grad():
            wanted = loaded.modules[0](torch.from_numpy(image[None]))[0].numpy()
        assert np.allclose(found @ last.weight.detach().numpy().T + last.bias.detach().numpy(), wanted, atol=1e-5)

    def test_as_a_step(self, segmenter: tuple[Path, Path]) -> None:
        data, model = segmenter
        image, truth = (nifti.read(data / name / "case04.nii.gz") for name in ("images", "labels"))
        voxels = truth.voxels[0].astype(np.uint8)
        labels = LabelMap(voxels, truth.geometry, (Label(1, "ball"), Label(2, "hole"), Label(3, "none")))
        table = deep(image, labels, Deep(model=str(model)))
        by_label = {name: [f.value for f in table if f.label == name] for name in ("ball", "hole", "none")}
        assert len(by_label["ball"]) == len(by_label["hole"]) == 16  # channels of the coarsest stage
        assert by_label["ball"] != by_label["hole"]
        assert by_label["none"] == [None]
        moved = deep(image, LabelMap(voxels, truth.geometry, labels.labels), Deep(model=str(model)))
        assert [f.value for f in moved] == [f.value for f in table]

    def test_an_onnx_network_shows_none(self, segmenter: tuple[Path, Path], tmp_path: Path) -> None:
        _, model = segmenter
        model_export(model, tmp_path / "out", form="onnx")
        model_add(tmp_path / "out" / "net.onnx", tmp_path / "m", card=tmp_path / "out" / "card.yaml")
        with pytest.raises(InputError, match="no layer"):
            embedding(load(tmp_path / "m"), np.zeros((1, 16, 16, 16), np.float32))


class TestRecipes:
    def test_a_model_is_a_recipe(self, segmenter: tuple[Path, Path], tmp_path: Path) -> None:
        data, model = segmenter
        done = cli("run", model, data / "images" / "case04.nii.gz", "-o", tmp_path / "out", "--lang", "zh")
        assert done.returncode == 0, done.stderr
        said = json.loads((tmp_path / "out" / "case04" / "report.json").read_text("utf-8"))
        assert said["checks"]["network_gate"] == "inside"
        first = said["findings"][0]
        assert first["interval"] is None or first["interval"][0] < first["value"] < first["interval"][1]
        assert (tmp_path / "out" / "case04" / "found.nii.gz").is_file()

    def test_classes_stand_in_the_report(self, classifier: tuple[Path, Path], tmp_path: Path) -> None:
        from PIL import Image

        data, model = classifier
        picture = np.load(data)["test_images"][1]
        Image.fromarray(picture).save(tmp_path / "one.png")
        done = cli("run", model, tmp_path / "one.png", "-o", tmp_path / "out")
        assert done.returncode == 0, done.stderr
        said = json.loads((tmp_path / "out" / "one" / "report.json").read_text("utf-8"))
        assert said["checks"]["network_decision"] in ("0", "1")
        chances = [f["value"] for f in said["findings"]]
        assert sum(chances) == pytest.approx(1, abs=1e-6)

    def test_other_weights_are_another_recipe(self, segmenter: tuple[Path, Path], tmp_path: Path) -> None:
        _, model = segmenter
        text = f"name: mine\ntitle: {{en: a, zh: b}}\ndescription: {{en: a, zh: b}}\nsteps:\n  - segment: network\n    model: {model}\n    as: found\n"
        (tmp_path / "r.yaml").write_text(text)
        one = load_recipe(tmp_path / "r.yaml")
        assert one.weights == (model_folder.read_card(model).weights_sha256,)
        (tmp_path / "r.yaml").write_text(text.replace(str(model), str(tmp_path / "gone")))
        with pytest.raises(RecipeError, match="line 5.*no model's folder"):
            load_recipe(tmp_path / "r.yaml")
