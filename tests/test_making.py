"""Autoencoders and players: networks, likeness and copies, images that are made, and what is unusual."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

torch = pytest.importorskip("torch")
torch.set_num_threads(1)  # the tests run side by side
pytest.importorskip("lightning_fabric")

from isocenter.data.card import ModelCard  # noqa: E402
from isocenter.data.dataset import Dataset, Sample, Source  # noqa: E402
from isocenter.errors import InputError  # noqa: E402
from isocenter.evaluation.synthetic import MadeImages, judge_made, verdict_of  # noqa: E402
from isocenter.formats import nifti  # noqa: E402
from isocenter.inference.making import features_of  # noqa: E402
from isocenter.inference.predictor import Predictor  # noqa: E402
from isocenter.inference.unusual import distances, learn_usual  # noqa: E402
from isocenter.metrics.synthetic import copies, frechet, nearest, variety  # noqa: E402
from isocenter.networks.autoencoder import (  # noqa: E402
    Anogan,
    AnoganSettings,
    Autoencoder,
    AutoencoderSettings,
    Vae,
)
from isocenter.networks.gan import Dcgan, DcganSettings, critics_loss, gradient_norms, makers_loss, mode_seeking  # noqa: E402
from isocenter.networks.maker import Decoder, Encoder  # noqa: E402
from isocenter.networks.pix2pix import Pix2pix, Pix2pixSettings  # noqa: E402
from isocenter.pipeline.generate import _write  # noqa: E402
from isocenter.pipeline.outcomes.outcome import Judging  # noqa: E402
from isocenter.pipeline.outcomes.unusual import Unusual, _normal, _of_one_kind  # noqa: E402
from isocenter.training.images.loop import learn, only_of, players_of  # noqa: E402
from isocenter.training.images.plan import Plan, plan_of  # noqa: E402
from tests.command import cli  # noqa: E402
from tests.test_image_learning import blobs, pictures, plan_for_pictures, stripes  # noqa: E402

RNG = np.random.default_rng(2)

# ---- networks -------------------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(8, 30), min_size=2, max_size=3), st.integers(1, 3), st.integers(1, 3))
def test_halves_take_and_give_any_size(size: list[int], channels: int, levels: int) -> None:
    widths = (4, 6, 8)[:levels]
    numbers = Encoder(channels, widths, size, 5, "batch")(torch.zeros(2, channels, *size))
    assert numbers.shape == (2, 5)
    image = Decoder(5, widths, size, channels)(numbers)
    assert image.shape == (2, channels, *size)
    assert float(image.detach().abs().max()) <= 1


def test_losses_of_both_players_by_hand() -> None:
    real, made = torch.tensor([2.0, 0.0]), torch.tensor([-3.0, 1.0])
    assert float(critics_loss(real, made, "hinge")) == pytest.approx((0 + 1) / 2 + (0 + 2) / 2)
    assert float(critics_loss(real, made, "wasserstein")) == pytest.approx(-1 - 1)
    wanted = (math.log1p(math.exp(-2)) + math.log(2)) / 2 + (math.log1p(math.exp(-3)) + math.log1p(math.exp(1))) / 2
    assert float(critics_loss(real, made, "cross_entropy")) == pytest.approx(wanted)
    assert float(makers_loss(made, "hinge")) == pytest.approx(1.0)
    wanted = (math.log1p(math.exp(3)) + math.log1p(math.exp(-1))) / 2
    assert float(makers_loss(made, "cross_entropy")) == pytest.approx(wanted)


def test_images_of_other_noise_are_kept_apart() -> None:
    """By hand; and a maker that makes one image of all noise pays more than one that does not."""
    noise = torch.tensor([[0.0, 2.0], [1.0, 1.0]])
    images = torch.tensor([[0.5, 0.5], [0.0, 1.0]])
    found = mode_seeking(images[:1], images[1:], noise[:1], noise[1:])
    assert float(found) == pytest.approx(1.0 / 0.5, rel=1e-4)
    torch.manual_seed(0)
    losses = []
    for seek in (0.0, 0.1):
        torch.manual_seed(0)
        network = Dcgan(DcganSettings(size=(8, 8), widths=(4,), latent=2, seek=seek), channels=1, outputs=2, dims=2)
        network.maker.start.weight.data *= 1e-4  # noise and class hardly change the image
        torch.manual_seed(1)
        losses.append(float(network.eval()(torch.rand(5, 1, 8, 8), torch.tensor([0, 1, 0, 1, 1]), "maker").detach()))
    assert losses[1] > losses[0] + 10


def test_variety_of_images_that_are_all_alike() -> None:
    real = RNG.random((60, 1, 8, 8))
    assert variety(RNG.random((80, 1, 8, 8)), real) == pytest.approx(1.0, abs=0.1)
    two = np.repeat(RNG.random((2, 1, 8, 8)), 40, axis=0)
    assert variety(two, real) == 0
    assert variety(two + 0.1 * RNG.random((80, 1, 8, 8)), real) == pytest.approx(0.1, abs=0.02)
    alike = MadeImages(two, two.reshape(80, -1), real, real.reshape(60, -1))
    assert "mode collapse" in str(judge_made(alike, model="m").notes[0])
    other = RNG.random((80, 1, 8, 8))
    assert not judge_made(MadeImages(other, other.reshape(80, -1), real, real.reshape(60, -1)), model="m").notes


def test_norm_of_a_gradient_by_hand() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    assert gradient_norms((x**2).sum(dim=1), x).tolist() == pytest.approx([4 * 5.0, 4 * 25.0])


@pytest.mark.parametrize("name", ["dcgan", "anogan", "pix2pix"])
def test_each_player_learns_in_its_own_turn_alone(name: str) -> None:
    torch.manual_seed(0)
    nets = {
        "dcgan": lambda: Dcgan(
            DcganSettings(size=(16, 12), widths=(8, 4), latent=4, penalty=1.0), channels=1, outputs=2, dims=2
        ),
        "anogan": lambda: Anogan(AnoganSettings(size=(16, 12), widths=(4, 8), latent=4), channels=1, outputs=0, dims=2),
        "pix2pix": lambda: Pix2pix(Pix2pixSettings(widths=(4, 8), critic=(4,)), channels=1, outputs=1, dims=2),
    }
    network = nets[name]().train()
    images = torch.rand(4, 1, 16, 12)
    with_it = {"dcgan": torch.tensor([0, 1, 1, 0]), "anogan": None, "pix2pix": torch.rand(4, 1, 16, 12)}[name]
    optimiser = torch.optim.Adam(network.parameters(), lr=0.1)
    for turn in players_of(network):
        before = {k: v.clone() for k, v in network.named_parameters()}
        network(images, with_it, turn).backward()
        only_of(turn, network)
        optimiser.step()
        optimiser.zero_grad()
        moved = {k.partition(".")[0] for k, v in network.named_parameters() if not torch.equal(v, before[k])}
        assert turn in moved
        assert not moved & (set(players_of(network)) - {turn})


def test_penalty_between_real_and_made_pulls_to_norm_one() -> None:
    """A wasserstein critic whose slope is one everywhere pays nothing beyond the game."""
    torch.manual_seed(1)
    network = Dcgan(
        DcganSettings(size=(8, 8), widths=(4,), latent=2, penalty=10.0, game="wasserstein"),
        channels=1,
        outputs=0,
        dims=2,
    )

    class Plane(torch.nn.Module):
        def forward(self, x: torch.Tensor, _classes: object) -> torch.Tensor:
            return x.flatten(1).sum(dim=1) / 8  # 64 pixels: the slope's norm is 1

    network.critic = Plane()
    images = torch.rand(6, 1, 8, 8)
    torch.manual_seed(2)
    paid = float(network(images, None, "critic").detach())
    network.settings = network.settings.model_copy(update={"penalty": 0.0})
    torch.manual_seed(2)
    assert paid == pytest.approx(float(network(images, None, "critic").detach()), abs=1e-4)


def test_a_variational_autoencoder_pays_for_distance_from_noise() -> None:
    """With an encoder that says mean m and deviation 1, the price is m^2 / 2 for each number (Kingma, Welling)."""
    network = Vae(AutoencoderSettings(size=(8, 8), widths=(4,), latent=3), channels=1, outputs=0, dims=2).train()

    class Fixed(torch.nn.Module):
        def __init__(self, mean: float) -> None:
            super().__init__()
            self.mean = mean

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat((torch.full((len(x), 3), self.mean), torch.zeros(len(x), 3)), dim=1)

    network.sample = lambda noise, classes=None: torch.full((len(noise), 1, 8, 8), 0.5)
    images = torch.full((2, 1, 8, 8), 0.5)
    network.encoder = Fixed(0.0)
    assert float(network(images).detach()) == pytest.approx(0.0, abs=1e-6)
    network.encoder = Fixed(2.0)
    assert float(network(images).detach()) == pytest.approx(3 * 2.0 / 64)


def test_a_denoising_autoencoder_sees_noise_only_while_learning() -> None:
    torch.manual_seed(0)
    network = Autoencoder(AutoencoderSettings(size=(8, 8), widths=(4,), noise=0.5), channels=1, outputs=0, dims=2)
    images = torch.rand(4, 1, 8, 8)
    network.eval()
    assert torch.equal(network(images), network(images))
    network.train()
    assert float(network(images).detach()) != float(network(images).detach())


# ---- likeness -------------------------------------------------------------------------------------------------------


def test_frechet_distance_of_known_distributions() -> None:
    """In units of the real deviation: a shift of 2 deviations costs 4, a deviation of 3 instead of 1 costs (3 - 1)^2."""
    base = RNG.normal(size=(20_000, 2)) * (1.0, 5.0)
    assert frechet(base, base) == pytest.approx(0.0, abs=1e-9)
    assert frechet(base, base + np.array([0.0, 10.0])) == pytest.approx(4.0, rel=0.03)
    assert frechet(base, base * 3) == pytest.approx(2 * 4.0, rel=0.03)
    still = np.column_stack((base, np.zeros(len(base))))  # a feature that no real image has
    assert frechet(still, np.column_stack((base, np.full(len(base), 0.01)))) < 0.05
    with pytest.raises(InputError, match="2 images"):
        frechet(base[:1], base)


def test_copies_are_found_and_new_images_are_not() -> None:
    training, others = RNG.random((40, 1, 6, 6)), RNG.random((30, 1, 6, 6))
    made = np.concatenate((training[[7, 3]] + 0.001, RNG.random((5, 1, 6, 6))))
    same, which = copies(made, training, others)
    assert same.tolist() == [True, True, *[False] * 5]
    assert which[:2].tolist() == [7, 3]
    far, _ = nearest(training[:1] + 0.5, training[:1])
    assert far[0] == pytest.approx(0.5, abs=1e-6)


def test_random_features_are_the_same_each_time() -> None:
    images = RNG.random((3, 1, 12, 12)).astype(np.float32)
    assert np.array_equal(features_of(images), features_of(images))
    assert features_of(images).shape == (3, 224)
    assert features_of(RNG.random((2, 1, 8, 8, 8))).shape == (2, 224)


def test_what_does_not_help_is_said() -> None:
    def row(difference: float, p: float) -> dict[str, list[dict[str, object]]]:
        return {"comparisons": [{"metric": "auc", "difference": difference, "p_holm": p}]}

    assert "do not help: no difference can be told (corrected p = 0.4)" in str(verdict_of(row(0.02, 0.4)))
    assert "help: auc +0.020" in str(verdict_of(row(0.02, 0.01)))
    assert "harm: auc -0.020" in str(verdict_of(row(-0.02, 0.01)))


def test_what_is_usual_is_a_distribution_not_an_error() -> None:
    """An image that is smoother than all normal ones is built again more easily, and still is far from them."""
    torch.manual_seed(0)
    normal = RNG.random((80, 1, 16, 16)).astype(np.float32)
    network = Autoencoder(AutoencoderSettings(size=(16, 16), widths=(4, 8), latent=3), channels=1, outputs=0, dims=2)
    learn_usual(network, normal[:60])
    smooth = np.full((5, 1, 16, 16), 0.5, np.float32)
    assert distances(network, smooth).min() > 2 * distances(network, normal[60:]).max()


# ---- training -------------------------------------------------------------------------------------------------------


def players_plan(**parts: object) -> Plan:
    base = {
        "task": "generate", "classes": ("0", "1"), "patch": (16, 16), "seed": 3, "loss": {"name": "own"},
        "preparation": {"dims": 2, "size": (16, 16), "intensity": "range", "low": (0.0,), "high": (255.0,)},
        "network": {"name": "dcgan", "settings": {"widths": (8, 4), "size": (16, 16), "latent": 4}},
        "schedule": {"steps": 8, "batch": 8, "validate_every": 4, "beta": 0.5, "optimiser": "adam"},
        "augmentation": {"rotate": 0, "scale": 0, "elastic": 0},
    }  # fmt: skip
    return plan_of({**base, **parts}, "a plan")


def test_a_killed_game_resumes_with_both_players(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = players_plan()
    whole = learn(plan, pictures(), pictures(8, 1)).network.state_dict()
    from isocenter.training.images import loop

    class Killed(Exception):
        pass

    real = loop.Sampler.cases

    def dies(self: object, step: int) -> list[int]:
        if step == 5:
            raise Killed
        return real(self, step)

    monkeypatch.setattr(loop, "_SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(loop.Sampler, "cases", dies)
    with pytest.raises(Killed):
        learn(plan, pictures(), pictures(8, 1), checkpoint=tmp_path / "c")
    monkeypatch.setattr(loop.Sampler, "cases", real)
    again = learn(plan, pictures(), pictures(8, 1), checkpoint=tmp_path / "c").network.state_dict()
    assert set(whole) == set(again)
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_images_are_made_marked_and_judged(tmp_path: Path) -> None:
    data = stripes(tmp_path / "d.npz", noise=10.0)
    done = cli(
        "train", data, "-o", tmp_path / "m", "--task", "generate", "--set", "schedule.steps=40",
        "--set", "network.settings.widths=[16,8]", "--set", "schedule.batch=16", "--set", "schedule.ema=0.5",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    card = json.loads((tmp_path / "m" / "card.json").read_text())
    assert card["classes"] == ["0", "1"]
    assert card["training"]["class_shares"] == pytest.approx([0.5, 0.5])
    done = cli("generate", tmp_path / "m", "-n", "9", "-o", tmp_path / "made", "--seed", "4")
    assert done.returncode == 0, done.stderr
    files = sorted((tmp_path / "made").rglob("*.png"))
    assert len(files) == 9
    assert {p.parent.name for p in files} == {"0", "1"}
    assert all(p.name.startswith("synthetic-") for p in files)
    with Image.open(files[0]) as image:
        assert image.text["Synthetic"] == "true"
        assert image.size == (16, 16)
    told = json.loads((tmp_path / "made" / "synthetic.json").read_text())
    assert told["synthetic"] is True
    assert len(told["made"]) == 9
    first = files[0].read_bytes()
    done = cli("generate", tmp_path / "m", "-n", "9", "-o", tmp_path / "made", "--seed", "4")
    assert done.returncode == 0
    assert files[0].read_bytes() == first
    done = cli("evaluate", tmp_path / "m", data, "-o", tmp_path / "ev")
    assert done.returncode == 0, done.stderr
    judged = json.loads((tmp_path / "ev" / "evaluation.json").read_text())
    assert set(judged["metrics"]) >= {"frechet", "frechet_real", "copies", "auc_synthetic", "auc_real", "auc_both"}
    assert judged["metrics"]["auc_real"]["value"] > 0.95
    assert judged["verdict"] in judged["notes"]
    done = cli("train", tmp_path / "made", "-o", tmp_path / "n", "--task", "classify", "--set", "schedule.steps=2")
    assert done.returncode == 0, done.stderr  # what was made is a data set


def test_refusals_of_makers(tmp_path: Path) -> None:
    data = stripes(tmp_path / "d.npz")
    done = cli(
        "train", data, "-o", tmp_path / "m", "--task", "generate", "--set", "schedule.steps=2", "--network", "vae"
    )
    assert done.returncode == 0, done.stderr
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    for more, words in (
        (["-o", tmp_path / "mine"], "none of the made images written before"),
        (["-o", tmp_path / "x", "--class", "7"], "the model knows 0, 1"),
    ):
        done = cli("generate", tmp_path / "m", "-n", "2", *more)
        assert done.returncode == 2, done.stdout
        assert words in done.stderr
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "mine"
    done = cli("predict", tmp_path / "m", data, "-o", tmp_path / "p")
    assert done.returncode == 2, done.stdout
    assert "isocenter generate" in done.stderr


def test_volumes_are_made_too(tmp_path: Path) -> None:
    data = blobs(tmp_path / "d", count=8) / "images"
    done = cli(
        "train", data, "-o", tmp_path / "m", "--task", "generate", "--set", "schedule.steps=2", "--set", "schedule.batch=2",
        "--set", "network.settings.widths=[8]",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = cli("generate", tmp_path / "m", "-n", "2", "-o", tmp_path / "made")
    assert done.returncode == 0, done.stderr
    made = sorted((tmp_path / "made").glob("*.nii.gz"))
    assert nifti.read(made[0]).geometry.shape == (10, 16, 16)
    import nibabel

    assert nibabel.load(made[0]).header["intent_name"].item() == b"synthetic"


def spotted(path: Path) -> Path:
    """Smooth pictures (0), and such with a bright spot (1)."""
    rng = np.random.default_rng(6)
    arrays = {}
    at = np.indices((16, 16)) / 15
    for split, count in (("train", 64), ("val", 24), ("test", 24)):
        labels = np.arange(count) % 2
        slope = rng.uniform(-1, 1, (2, count, 1, 1))
        images = 120 + 50 * (slope[0] * at[0] + slope[1] * at[1]) + rng.normal(0, 5, (count, 16, 16))
        for i in np.flatnonzero(labels):
            y, x = rng.integers(1, 11, 2)
            images[i, y : y + 4, x : x + 4] += 90
        arrays |= {f"{split}_images": np.clip(images, 0, 255).astype(np.uint8), f"{split}_labels": labels[:, None]}
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("network", ["vae_normal", "anogan"])
def test_what_is_unusual_is_found_by_normal_images_alone(tmp_path: Path, network: str) -> None:
    data = spotted(tmp_path / "d.npz")
    done = cli(
        "train", data, "-o", tmp_path / "m", "--task", "anomaly", "--normal", "0", "--network", network,
        "--set", "schedule.steps=60", "--set", "network.settings.widths=[8,16]", "--set", "network.settings.latent=3",
        "--set", "schedule.batch=16", "--set", "schedule.ema=0.9",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    card = json.loads((tmp_path / "m" / "card.json").read_text())
    assert card["training"]["cases"] == 32  # the normal half of 64
    assert card["training"]["normal"] == "0"
    done = cli("evaluate", tmp_path / "m", data, "-o", tmp_path / "ev")
    assert done.returncode == 0, done.stderr
    judged = json.loads((tmp_path / "ev" / "evaluation.json").read_text())
    assert judged["task"] == "anomaly"
    assert judged["metrics"]["auc"]["value"] > 0.9
    assert "brier" not in judged["metrics"]
    done = cli("predict", tmp_path / "m", data, "-o", tmp_path / "p")
    assert done.returncode == 0, done.stderr
    head, *rows = (tmp_path / "p" / "predictions.csv").read_text().splitlines()
    assert head == "case,distance,share_less_unusual,predicted,note"
    assert len(rows) == 112
    heat = nifti.read(tmp_path / "p" / "heat" / "test" / "0.nii.gz")
    assert heat.geometry.shape == (1, 16, 16)
    with np.load(data) as arrays:
        Image.fromarray(arrays["test_images"][1]).save(tmp_path / "spot.png")
        Image.fromarray(arrays["test_images"][0]).save(tmp_path / "plain.png")
    for name, verdict in (("spot", "review"), ("plain", "accepted")):
        done = cli("run", tmp_path / "m", tmp_path / f"{name}.png", "-o", tmp_path / f"run-{name}")
        assert done.returncode == 0, done.stderr
        page = next((tmp_path / f"run-{name}").rglob("report.json"))
        report = json.loads(page.read_text())
        if network == "vae_normal" or verdict == "review":
            assert report["checks"]["unusual"] == ("unusual" if verdict == "review" else "usual")
        assert report["findings"][0]["unit"] == "%"


def test_what_has_no_meaning_for_one_network_is_refused(tmp_path: Path) -> None:
    """Folds would learn from the unusual ones; a maker is not averaged; neither is explained or exported."""
    data = spotted(tmp_path / "d.npz")
    common = ("train", data, "-o", tmp_path / "m", "--task", "anomaly", "--normal", "0", "--set", "schedule.steps=2")
    for more in (["--folds", "2"], ["--seeds", "2", "--ensemble"], ["--learning-curve"]):
        done = cli(*common, *more)
        assert done.returncode == 2, done.stdout
        assert "is one network" in done.stderr
    done = cli("train", data, "-o", tmp_path / "n", "--normal", "0", "--task", "classify", "--set", "schedule.steps=2")
    assert done.returncode == 2, done.stdout
    assert "normal is of the task anomaly" in done.stderr
    assert cli(*common, "--network", "autoencoder").returncode == 0
    with np.load(data) as arrays:
        Image.fromarray(arrays["test_images"][1]).save(tmp_path / "spot.png")
    again = cli("train", data, "-o", tmp_path / "again", "--plan", tmp_path / "m" / "plan.json")
    assert again.returncode == 0, again.stderr  # the plan knows its task
    for command, words in (
        (("explain", tmp_path / "m", tmp_path / "spot.png", "-o", tmp_path / "x"), "its own map"),
        (("model", "export", tmp_path / "m", "-o", tmp_path / "y", "--as", "onnx"), "is not exported"),
        (("compress", tmp_path / "m", data, "-o", tmp_path / "z"), "is not made smaller"),
        (("generate", tmp_path / "m", "-o", tmp_path / "w"), "makes no images from noise"),
    ):
        done = cli(*command)
        assert done.returncode == 2, done.stdout
        assert words in done.stderr


def test_the_normal_class_is_named_or_the_only_one_or_nothing_is_judged(tmp_path: Path) -> None:
    """A class is never guessed: an alphabet does not know which one is ill."""
    from types import SimpleNamespace

    def data_of(*classes: str) -> Dataset:
        samples = [Sample(f"{i}", (Source(tmp_path),), target=name) for i, name in enumerate(classes)]
        return Dataset(tmp_path, "folders", tuple(samples))

    plan = plan_for_pictures(task="anomaly", network={"name": "autoencoder"}, loss={"name": "own"}, classes=())
    assert _normal(plan, data_of("well", "well")) == "well"
    assert _normal(plan, data_of("", "")) == ""
    assert _normal(plan.changed(normal="b"), data_of("b", "c")) == "b"
    predictor = object.__new__(Predictor)
    predictor.model = SimpleNamespace(card=SimpleNamespace(training={"normal": ""}))  # type: ignore[assignment]
    with pytest.raises(InputError, match="names no normal class"):
        Unusual().judged(predictor, data_of("a", "b"), Judging([]))


def test_refusals_of_anomaly(tmp_path: Path) -> None:
    data = stripes(tmp_path / "d.npz")
    for more, words in (([], "name the class that is normal"), (["--normal", "9"], "no case is of this class")):
        done = cli("train", data, "-o", tmp_path / "m", "--task", "anomaly", "--set", "schedule.steps=2", *more)
        assert done.returncode == 2, done.stdout
        assert words in done.stderr


def test_images_with_a_unit_keep_it(tmp_path: Path) -> None:
    """Hounsfield units below 0 and above 255 do not fit into a picture of 8 bits."""
    image = np.array([[[-800.0, 0], [40, 1200]]], np.float32)
    kept = nifti.read(_write(image, tmp_path / "synthetic-1", "x", grey=None))
    assert kept.voxels[0, 0].tolist() == [[-800, 0], [40, 1200]]
    bits = np.asarray(Image.open(_write(image / 1200, tmp_path / "synthetic-2", "x", grey=255.0)))
    assert bits[1].tolist() == [8, 255]


def test_a_share_of_abnormal_cases_is_no_false_alarm() -> None:
    names = ("a", "b", "c", "d"), ("a", "b", "c", "d")
    card = ModelCard("anomaly", "vae_normal", ("unusual",), (), (), training={"usual_distances": [1.0, 2.0, 3.0]})
    far = np.array([0.5, 9.0, 9.0, 9.0])
    ill = _of_one_kind(names, np.ones(4, bool), far, card).data["metrics"]
    assert list(ill) == ["recall"]
    assert ill["recall"]["value"] == 0.75
    well = _of_one_kind(names, np.zeros(4, bool), far, card).data["metrics"]
    assert well["false_alarms"]["value"] == 0.75
