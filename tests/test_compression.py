"""Models made smaller: whole numbers, fewer channels, pupils; and what that costs."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
torch.set_num_threads(1)  # the tests run side by side
pytest.importorskip("lightning_fabric")
pytest.importorskip("nncf")
pytest.importorskip("torch_pruning")

from isocenter.acquire.datasets import open_dataset  # noqa: E402
from isocenter.compression.prune import pruned, share_of, smaller  # noqa: E402
from isocenter.data.evaluation import Evaluation, Predictions  # noqa: E402
from isocenter.data.geometry import Geometry, Space  # noqa: E402
from isocenter.data.volume import Volume  # noqa: E402
from isocenter.errors import InputError  # noqa: E402
from isocenter.evaluation.drift import Drift, drifts  # noqa: E402
from isocenter.inference.degradation import Degradation  # noqa: E402
from isocenter.inference.model import build_of, load, with_weights  # noqa: E402
from isocenter.inference.onnx_network import OnnxNetwork  # noqa: E402
from isocenter.inference.predictor import Predictor  # noqa: E402
from isocenter.inference.runner import Runner  # noqa: E402
from isocenter.pipeline.compress import Compressed, Speed, Wanted, _least, _refusal, compress, windows_from  # noqa: E402
from isocenter.pipeline.learn import require_free  # noqa: E402
from isocenter.pipeline.recalibrate import promises_of, recalibrated  # noqa: E402
from isocenter.training.images.batches import Batch, Sampler  # noqa: E402
from isocenter.training.images.tasks import TASKS  # noqa: E402
from isocenter.training.images.teacher import taught_by  # noqa: E402
from isocenter.zoo import model_path  # noqa: E402
from tests.command import cli  # noqa: E402
from tests.test_image_learning import pictures, plan_for_pictures, stripes  # noqa: E402


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A classifier of stripes that is sure of itself, and its data."""
    folder = tmp_path_factory.mktemp("compression")
    data = stripes(folder / "d.npz", noise=10.0)
    done = cli(
        "train", data, "-o", folder / "m", "--network", "resnet", "--set", "schedule.steps=40", "--set", "schedule.ema=0.8",
        "--set", "network.settings.widths=[16,32,32]", "--set", "schedule.batch=16",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "m", data


def test_whole_numbers_are_verified_and_say_the_same(trained: tuple[Path, Path], tmp_path: Path) -> None:
    model, data = trained
    done = compress(model, data, tmp_path / "small", Wanted(tolerance=0.05))
    assert not done.refused or "slower" in done.refused  # so small a network gains no time
    assert done.bytes_before > 1.5 * done.bytes_after  # of so small a network the graph itself takes much
    assert {d.metric for d in done.drifts} == {"auc/1", "recall/0", "recall/1"}
    assert all(abs(d.difference) < 0.05 for d in done.drifts)
    assert done.cases == 24


def test_scores_that_moved_are_calibrated_again(trained: tuple[Path, Path]) -> None:
    """A network that answers one class more by one unit of the log odds: the calibration takes just that back."""
    model, data = load(trained[0]), open_dataset(trained[1])
    moved = copy.deepcopy(model.modules[0])
    last = [layer for layer in moved.modules() if isinstance(layer, torch.nn.Linear)][-1]
    with torch.no_grad():
        last.bias += torch.tensor([0.0, 1.0])
    one, other = (recalibrated(replace(model, modules=(m,)), data, seed=0) for m in (model.modules[0], moved))
    for name in ("slope", "intercept"):  # as it was made in training
        assert one.calibration[name] == pytest.approx(model.card.calibration[name], rel=0.02, abs=0.02)
    assert other.calibration["slope"] == pytest.approx(one.calibration["slope"], rel=0.05)
    wanted = one.calibration["intercept"] - one.calibration["slope"]
    assert other.calibration["intercept"] == pytest.approx(wanted, abs=0.1 * one.calibration["slope"])
    assert other.operating_point["criterion"] == model.card.operating_point["criterion"]
    assert recalibrated(model, data.without_splits(), seed=0) == model.card


def test_promises_are_read_from_a_card(trained: tuple[Path, Path]) -> None:
    """A threshold that nobody chose is no criterion; a calibration that failed is tried again."""
    card = load(trained[0]).card
    half = {"threshold": 0.5, "criterion": "probability 0.5", "chosen_on": "stated"}
    found = promises_of(replace(card, operating_point=half, calibration={"method": "none", "why": "too few"}))
    assert (found.criterion, found.calibration) == (None, "auto")
    chosen = {"threshold": 0.3, "criterion": "sensitivity=.95", "chosen_on": "validation"}
    found = promises_of(replace(card, operating_point=chosen, calibration={"method": "none"}))
    assert (found.criterion, found.calibration) == ("sensitivity=.95", "none")


def test_a_small_model_may_be_made_anew(tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text('{"mine": 1}')
    with pytest.raises(InputError, match="no model that --force may replace"):
        require_free(tmp_path, force=True)
    for name in ("card.json", "plan.json"):
        (tmp_path / name).write_bytes((model_path("hippocampus") / name).read_bytes())
    (tmp_path / "compression.json").write_text("{}")
    require_free(tmp_path, force=True)
    (tmp_path / "thesis.docx").write_text("")
    with pytest.raises(InputError, match=r"thesis\.docx"):
        require_free(tmp_path, force=True)


def test_a_quantised_network_is_a_model_like_others(tmp_path: Path) -> None:
    """It goes through `predict` with its card, and its graph does whole numbers."""
    import onnx

    from isocenter.compression.quantise import quantised
    from isocenter.formats import model_folder
    from isocenter.inference.foreign import ONNX
    from isocenter.inference.model import NetworkSpec
    from isocenter.inference.runtime import onnx_bytes

    source = load(model_path("hippocampus"))
    spec, rng = source.spec, np.random.default_rng(0)
    shape = (1, 1, 16, 16, 16)
    windows = [rng.normal(size=shape).astype(np.float32) for _ in range(2)]
    data = quantised(onnx_bytes(source.modules[0], shape), windows)
    kinds = {node.op_type for node in onnx.load_from_string(data).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    assert len(data) < 0.3 * 4 * sum(p.numel() for p in source.modules[0].parameters())
    network = NetworkSpec(name=ONNX, settings={"engine": "openvino"})
    own = spec.model_copy(update={"network": network})
    model_folder.write_graph(data, replace(source.card, network=own.model_dump(mode="json")), tmp_path / "m")
    small = load(tmp_path / "m")
    assert isinstance(small.modules[0], OnnxNetwork)
    x = torch.from_numpy(windows[0])
    with torch.inference_mode():
        said, wanted = small.modules[0](x).softmax(1), source.modules[0](x).softmax(1)
    assert float((said - wanted).abs().mean()) < 0.05
    ran = Runner(small, device="cpu", runtime="openvino-bfloat16").forward(np.zeros((1, 16, 16, 16), np.float32), None)
    assert ran == small.modules[0].answer  # its own engine, whatever was asked for, and no torch on the way
    np.testing.assert_array_equal(ran(windows[0]), small.modules[0](x).numpy())


@pytest.mark.parametrize(
    ("seconds", "answers"), [((0.25, 0.125, 0.0625), 3), ((0.5, 0.25, 0.125), 3), ((2**-5,), 10), ((2**-9,), 30)]
)
def test_the_first_windows_of_a_turn_do_not_count(
    monkeypatch: pytest.MonkeyPatch, seconds: tuple[float, ...], answers: int
) -> None:
    """The threads of the way before still wait on their cores: three windows at least, and no more than .3 s or 30."""
    clock, took = 0.0, []

    def run(windows: np.ndarray) -> np.ndarray:
        nonlocal clock
        took.append(seconds[min(len(took), len(seconds) - 1)])
        clock += took[-1]
        return windows

    monkeypatch.setattr("isocenter.pipeline.compress.time.perf_counter", lambda: clock)
    assert _least(run, np.zeros((1, 1, 4, 4), np.float32)) == min(seconds)
    assert len(took) == answers


def test_windows_to_fit_to_are_what_the_network_eats(tmp_path: Path) -> None:
    """Columns of the table stand beside the image; for a finer answer the image is interpolated before."""
    from isocenter.formats import raster

    for name in "ab":
        grey = np.random.default_rng(0).integers(0, 255, (1, 1, 16, 16)).astype(np.uint8)
        raster.write(Volume(grey, Geometry.regular((1, 16, 16), space=Space.PIXELS)), tmp_path / f"{name}.png")
    (tmp_path / "t.csv").write_text("image,label,age\na.png,x,50\nb.png,y,70\n", "utf-8")
    data = open_dataset(tmp_path / "t.csv")
    beside = plan_for_pictures(columns=[{"name": "age", "mean": 60.0, "deviation": 10.0}]).spec
    windows = windows_from(data, beside, 2)
    assert [w.shape for w in windows] == [(1, 2, 16, 16)] * 2
    assert [float(w[0, 1].mean()) for w in windows] == [-1.0, 1.0]
    twice = beside.model_copy(update={"columns": (), "degradation": Degradation(factor=(2, 2, 2)), "patch": (32, 32)})
    grown = windows_from(data, twice, 1)[0]
    assert grown.shape == (1, 1, 32, 32)
    assert np.count_nonzero(grown[0, 0, 16:, 16:]) > 200  # the whole window is image


def test_pruning_keeps_the_strongest_channels() -> None:
    """A network of which half the channels do nothing says the same without them."""
    plan = plan_for_pictures(network={"name": "resnet", "settings": {"widths": (8, 8, 8)}})
    spec = plan.spec
    torch.manual_seed(0)
    module = build_of(spec).eval()
    dead = slice(4, 8)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, torch.nn.Conv2d):
                layer.weight[dead] = 0
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.weight[dead] = 0
                layer.bias[dead] = 0
    small = smaller(spec, 0.5)
    assert small.network.settings["widths"] == (4, 4, 4)
    assert share_of(spec, small) == 0.5
    other = with_weights(build_of(small), pruned(module, spec, small), Path("pruned")).eval()
    x = torch.rand(3, 1, 16, 16)
    with torch.inference_mode():
        assert torch.allclose(other(x), module(x), atol=1e-5)


def test_networks_that_do_not_shrink_say_so() -> None:
    plan = plan_for_pictures(network={"name": "alexnet"}, patch=(64, 64), preparation={"dims": 2, "size": (64, 64)})
    with pytest.raises(InputError, match="name a smaller network"):
        smaller(plan.spec, 0.5)


def test_a_pupil_that_says_what_its_teacher_says_has_nothing_to_learn() -> None:
    """The divergence's gradient vanishes there, whatever the labels are; elsewhere it does not."""
    plan = plan_for_pictures()
    torch.manual_seed(0)
    teacher, pupil = build_of(plan.spec), build_of(plan.spec)
    pupil.load_state_dict(teacher.state_dict())
    batch: Batch = TASKS["classify"].batch(Sampler(pictures(), plan), 0)
    loss = taught_by((teacher,), plan)
    loss(pupil.eval(), batch, "").backward()
    assert all(float(p.grad.abs().max()) < 1e-6 for p in pupil.parameters())
    with torch.no_grad():
        pupil.classifier[-1].bias += torch.tensor([1.0, 0.0])
    pupil.zero_grad()
    loss(pupil, batch, "").backward()
    assert float(pupil.classifier[-1].bias.grad.abs().max()) > 0.01


def test_a_pruned_pupil_through_the_command(trained: tuple[Path, Path], tmp_path: Path) -> None:
    model, data = trained
    done = cli(
        "compress", model, data, "-o", tmp_path / "small", "--method", "prune", "--budget", "21s", "--tolerance", "1"
    )
    assert done.returncode in (0, 1), done.stderr
    assert "pruned to 50% of its channels" in done.stderr
    assert "x smaller" in done.stdout
    if done.returncode == 0:
        card = json.loads((tmp_path / "small" / "card.json").read_text())
        assert card["network"]["network"]["settings"]["widths"] == [8, 16, 16]
        assert (tmp_path / "small" / "compression.json").is_file()
        assert Predictor(tmp_path / "small").model.spec.task == "classify"
    else:
        assert "refused" in done.stderr
        assert not (tmp_path / "small").exists()


def compressed(**parts: object) -> Compressed:
    base = Compressed(
        Path("x"), 4000, 1000, (Speed("torch-float32", 1.0), Speed("openvino-bfloat16", 0.2)), Speed("compressed", 0.1),
        (Drift("dice/a", 0.9, 0.897, None, None),), 10,
    )  # fmt: skip
    return replace(base, **parts)


def test_what_is_refused() -> None:
    assert _refusal(compressed(), 0.005) == ""
    assert "dice/a gets worse by 0.0030" in _refusal(compressed(), 0.002)
    assert "slower" in _refusal(compressed(after=Speed("compressed", 0.3)), 0.005)
    assert "no smaller" in _refusal(compressed(bytes_after=4000), 0.005)
    error = (Drift("mae", 1.0, 1.2, None, None),)
    assert "mae gets worse" in _refusal(compressed(drifts=error), 0.1)  # of an error, more is worse
    in_units = (Drift("mae", 200.0, 200.8, None, None), Drift("psnr", 32.0, 31.9, None, None))
    assert _refusal(compressed(drifts=in_units), 0.005) == ""  # four thousandths, and three
    assert "psnr gets worse by 0.0031" in _refusal(compressed(drifts=in_units[1:]), 0.003)
    assert _refusal(compressed(drifts=(Drift("dice", 0.8, 0.9, None, None),)), 0.005) == ""  # better is no reason


def test_a_refused_model_is_not_written_and_exits_with_one(capsys: pytest.CaptureFixture[str]) -> None:
    import typer

    from isocenter.cli import show

    with pytest.raises(typer.Exit) as left:
        show.compressed(compressed(refused="dice falls"))
    assert left.value.exit_code == 1
    assert "refused: dice falls" in capsys.readouterr().err


def test_drift_is_paired_by_case() -> None:
    head = ("case", "patient", "dice", "dice/a", "psnr/tv")
    one = Evaluation({}, {}, (head, *[(f"c{i}", f"p{i}", 0.5 + i / 100, 0.5 + i / 100, 1.0) for i in range(30)]))
    other = Evaluation({}, {}, (head, *[(f"c{i}", f"p{i}", 0.49 + i / 100, 0.49 + i / 100, 1.0) for i in range(30)]))
    found = drifts(one, other, seed=0)
    assert [d.metric for d in found] == ["dice", "dice/a"]
    assert found[0].difference == pytest.approx(-0.01)
    assert found[0].low == pytest.approx(-0.01)  # each case moved alike
    scores = np.column_stack((np.linspace(1, 0, 60), np.linspace(0, 1, 60)))
    truth = (np.arange(60) >= 30).astype(int)
    names = tuple(f"c{i}" for i in range(60))
    same = Predictions("classify", names, names, truth is not None, truth, scores, ("a", "b"))
    assert {d.metric: d.difference for d in drifts(same, same, seed=0)} == {"auc/b": 0, "recall/a": 0, "recall/b": 0}
    later = replace(same, scores=np.clip(scores + np.array([[0.2, -0.2]]), 0, 1))
    own = drifts(same, later, thresholds=(0.5, 0.3), seed=0)  # each decides at its own threshold
    assert {d.metric: round(d.difference, 6) for d in own} == {"auc/b": 0, "recall/a": 0, "recall/b": 0}
    assert any(d.difference < -0.1 for d in drifts(same, later, seed=0))
    with pytest.raises(InputError, match="the same cases"):
        drifts(same, replace(same, cases=names[::-1]), seed=0)


def test_a_structure_where_none_is_counts_against_the_small_model() -> None:
    head = ("case", "dice/a")
    rows = [(f"c{i}", "" if i < 10 else 0.9) for i in range(30)]
    one = Evaluation({}, {}, (head, *rows))
    other = Evaluation({}, {}, (head, *[(name, 0.0 if value == "" else value) for name, value in rows]))
    (found,) = drifts(one, other, seed=0)
    assert found.difference == pytest.approx(-10 / 30)
    (same,) = drifts(one, one, seed=0)
    assert (same.before, same.difference) == (pytest.approx(0.9), 0)  # where both rightly find nothing, nothing counts


def test_a_pupil_is_not_taught_by_the_cases_that_judge(trained: tuple[Path, Path], tmp_path: Path) -> None:
    """A data set of nothing but strangers: all of them judge, and none is left to learn from."""
    model, _ = trained
    rng = np.random.default_rng(8)
    for kind in ("0", "1"):
        for i in range(6):
            grey = rng.integers(0, 255, (16, 16), dtype=np.uint8)
            (tmp_path / "others" / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(grey).save(tmp_path / "others" / kind / f"{kind}{i}.png")
    done = cli("compress", model, tmp_path / "others", "-o", tmp_path / "s", "--method", "distill", "--budget", "30s")
    assert done.returncode == 2
    assert "no cases beside those that judge" in done.stderr


def test_refusals(trained: tuple[Path, Path], tmp_path: Path) -> None:
    model, data = trained
    for more, words in (
        (["--method", "zip"], "there are prune or distill"),
        (["--method", "prune,distill", "--budget", "30s"], "one of them"),
        (["--method", "distill"], "say how long"),
        (["--share", "2"], "from .1 up to 1"),
    ):
        done = cli("compress", model, data, "-o", tmp_path / "s", *more)
        assert done.returncode == 2, done.stdout
        assert words in done.stderr
    folder = tmp_path / "classes"
    done = cli("compress", model, folder, "-o", tmp_path / "s")
    assert done.returncode == 2, done.stdout
