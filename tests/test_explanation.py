"""Maps of what a network looked at: known answers, laws, and the check that they depend on the weights."""

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("captum")
torch.set_num_threads(1)

from torch import nn  # noqa: E402

from isocenter.errors import InputError  # noqa: E402
from isocenter.explanation.maps import METHODS, OneOutput, explain_image, target_layer  # noqa: E402
from isocenter.explanation.quality import quality  # noqa: E402
from isocenter.networks.catalogue import build  # noqa: E402
from tests.command import cli  # noqa: E402
from tests.test_image_learning import blobs, plan_for_pictures, stripes  # noqa: E402


class Corner(nn.Module):
    """A linear network that looks at one corner only."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.dims = dims

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        part = x[(slice(None), slice(None), *(slice(0, 3),) * self.dims)].flatten(1).sum(dim=1)
        return torch.stack((part, -part), dim=1)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("method", ["saliency", "integrated-gradients", "occlusion"])
def test_a_linear_network_is_read_exactly(dims: int, method: str) -> None:
    image = torch.rand(1, 1, *(12,) * dims) + 0.5
    heat = explain_image(Corner(dims), image, 0, method=method)
    inside = np.zeros(heat.shape, bool)
    inside[(slice(0, 3),) * dims] = True
    if method == "occlusion":
        assert np.abs(heat[inside]).mean() > 3 * np.abs(heat[~inside]).mean()
    else:
        assert np.all(heat[~inside] == 0)
    if method == "saliency":
        assert np.allclose(heat[inside], 1)
    if method == "integrated-gradients":  # completeness: the parts sum to the change from the darkest image
        change = float((image[(0, 0, *(slice(0, 3),) * dims)] - image.min()).sum())
        assert heat.sum() == pytest.approx(change, rel=1e-4)


def test_grad_cam_by_hand() -> None:
    """One convolution of 1 x 1, pooled by two and averaged: weights are the mean gradients of each channel."""

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool, self.conv = nn.AvgPool2d(2), nn.Conv2d(1, 2, 1, bias=False)
            self.conv.weight.data = torch.tensor([[[[1.0]]], [[[-2.0]]]])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found = self.conv(self.pool(x)).mean(dim=(2, 3))
            return torch.stack((3 * found[:, 0] + found[:, 1], found[:, 1]), dim=1)

    image = torch.arange(16.0).view(1, 1, 4, 4)
    heat = explain_image(Small(), image, 0, method="grad-cam")
    pooled = torch.nn.functional.avg_pool2d(image, 2)[0, 0].numpy()
    coarse = np.maximum(0.75 * pooled * 1 + 0.25 * pooled * -2, 0)  # gradients 3/4 and 1/4 a place
    wanted = torch.nn.functional.interpolate(torch.from_numpy(coarse)[None, None], size=(4, 4), mode="bilinear")[0, 0]
    assert np.allclose(heat, wanted, atol=1e-5)
    # Grad-CAM++: alpha = g^2 / (2 g^2 + sum(A) g^3), weight = the sum of alpha g over the four places.
    g = np.array([0.75, 0.25])
    sums = np.array([pooled.sum(), -2 * pooled.sum()])
    weight = 4 * g**3 / (2 * g**2 + sums * g**3)
    coarse = np.maximum(weight[0] * pooled - 2 * weight[1] * pooled, 0)
    wanted = torch.nn.functional.interpolate(torch.from_numpy(coarse)[None, None], size=(4, 4), mode="bilinear")[0, 0]
    assert np.allclose(explain_image(Small(), image, 0, method="grad-cam++"), wanted, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_maps_depend_on_the_weights(method: str) -> None:
    """The sanity check of Adebayo et al. (NeurIPS 2018): with other weights in the network the map is another one."""
    from isocenter.training.images.loop import learn
    from tests.test_image_learning import pictures

    plan = plan_for_pictures(schedule={"steps": 120, "batch": 8, "learning_rate": 5e-3, "ema": 0.9})
    trained = learn(plan, pictures(64), pictures(16, seed=1)).network
    similar = []
    for number, item in enumerate(pictures(6, seed=2).items):
        image = torch.from_numpy(item.image[:, 0][None])
        output = int(item.target)
        heat = explain_image(trained, image, output, method=method)
        torch.manual_seed(100 + number)
        fresh = build(plan.network.name, plan.network.settings, channels=1, outputs=2, dims=2)
        other = explain_image(fresh, image, output, method=method)
        if heat.std() and other.std():
            similar.append(float(np.corrcoef(heat.ravel(), other.ravel())[0, 1]))
    assert np.mean(similar or [0.0]) < 0.6


def test_voxels_are_one_number() -> None:
    """The mean of the logits of a class over the voxels that it has won."""

    class Fixed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat((x, 1 - x), dim=1)

    image = torch.tensor([[[[0.9, 0.8], [0.2, 0.1]]]])
    assert OneOutput(Fixed())(image)[0].tolist() == pytest.approx([0.85, 0.85])


class TestQuality:
    def test_a_perfect_map_beats_chance(self) -> None:
        rng = np.random.default_rng(0)
        image = rng.random((1, 16, 16)).astype(np.float32)
        image[0, 2:6, 2:6] += 3

        def probability(x: np.ndarray) -> float:
            return float(np.clip(x[0, 2:6, 2:6].mean() / 3.5, 0, 1))

        good = np.zeros((16, 16))
        good[2:6, 2:6] = 1
        best, worst = quality(probability, image, good), quality(probability, image, -good)
        assert best.deletion_auc < best.random_auc < worst.deletion_auc
        assert best.insertion_auc > worst.insertion_auc
        assert best.deletion[0] == pytest.approx(probability(image))
        assert best.insertion[-1] == pytest.approx(probability(image))


def test_refusals() -> None:
    with pytest.raises(InputError, match="there are saliency"):
        explain_image(Corner(2), torch.zeros(1, 1, 8, 8), 0, method="gradcam")
    with pytest.raises(InputError, match="no convolution on a coarser grid"):
        target_layer(Corner(2), torch.zeros(1, 1, 8, 8))


def test_the_command(tmp_path: Path) -> None:
    from PIL import Image

    from isocenter.acquire.datasets import open_dataset
    from isocenter.acquire.labelled import read_image
    from isocenter.formats import nifti
    from isocenter.pipeline.explain import explain
    from isocenter.pipeline.image_material import Effort
    from isocenter.pipeline.image_training import train_images
    from isocenter.training.images.choose import Wish

    data = stripes(tmp_path / "s.npz")
    wish = Wish(network="cnn", plan={"schedule.steps": 200, "schedule.batch": 16})
    train_images(data, tmp_path / "m", wish=wish)
    one = read_image(open_dataset(data).of("test").samples[1].images[0])
    Image.fromarray(np.asarray(one.voxels[0, 0])).save(tmp_path / "one.png")
    done = cli(
        "explain",
        tmp_path / "m",
        tmp_path / "one.png",
        "-o",
        tmp_path / "x",
        "--method",
        "grad-cam",
        "--method",
        "occlusion",
    )
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "x" / "explanation.json").read_text())
    assert [row["method"] for row in told] == ["grad-cam", "occlusion"]
    assert {"deletion", "insertion", "random", "better_than_random"} <= set(told[0])
    assert nifti.read(tmp_path / "x" / "grad-cam.nii.gz").voxels.shape == (1, 1, 16, 16)
    page = (tmp_path / "x" / "explanation.html").read_text()
    assert page.count("data:image/png") == 2
    with pytest.raises(InputError, match="there are 0, 1"):
        explain(tmp_path / "m", tmp_path / "one.png", about="2")
    with pytest.raises(InputError, match="explain one image at a time"):
        explain(tmp_path / "m", data)
    segmented = blobs(tmp_path / "b", 10)
    changes = {
        "network.settings": {"widths": [8, 16], "norm": "batch"},
        "schedule.steps": 60,
        "schedule.batch": 4,
        "schedule.learning_rate": 0.01,
        "schedule.ema": 0.9,
    }
    train_images(segmented, tmp_path / "ms", wish=Wish(plan=changes, network="dynamic_unet"), effort=Effort(hold_out=5))
    (found,) = explain(tmp_path / "ms", segmented / "images" / "case04.nii.gz", methods=("grad-cam",), about="1")
    assert found.heat.voxels.shape == (1, 10, 16, 16)
    assert found.quality is None


class TestShapley:
    def test_a_game_by_hand(self) -> None:
        """Shapley's gloves: one left hand, two right ones; a pair is worth 1: 4/6, 1/6, 1/6."""
        from isocenter.explanation.shapley import shapley_values

        def worth(rows: np.ndarray) -> np.ndarray:
            return np.minimum(rows[:, 0], np.maximum(rows[:, 1], rows[:, 2]))

        found = shapley_values(worth, np.ones((1, 3)), np.zeros(3), seed=0)
        assert np.allclose(found, [[4 / 6, 1 / 6, 1 / 6]])

    @pytest.mark.parametrize("columns", [4, 12])
    def test_they_sum_to_the_difference(self, columns: int) -> None:
        from isocenter.explanation.shapley import shapley_values

        pytest.importorskip("captum")
        rng = np.random.default_rng(0)
        rows, weights, base = rng.normal(size=(5, columns)), rng.normal(size=columns), rng.normal(size=columns)

        def linear(x: np.ndarray) -> np.ndarray:
            return x @ weights

        found = shapley_values(linear, rows, base, seed=1)
        assert np.allclose(found, (rows - base) * weights, atol=1e-6)  # of a linear model they are the terms

        def bent(x: np.ndarray) -> np.ndarray:
            return np.tanh(x @ weights) * x[:, 0]

        found = shapley_values(bent, rows, base, seed=1)
        assert np.allclose(found.sum(axis=1), bent(rows) - bent(base[None]), atol=1e-6)

    def test_by_the_command(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(3)
        lines = ["id,diagnosis,strong,weak"]
        for i in range(80):
            ill = i % 2
            lines.append(f"c{i},{'ill' if ill else 'well'},{ill + rng.normal(0, 0.4):.4f},{rng.normal():.4f}")
        table = tmp_path / "t.csv"
        table.write_text("\n".join(lines))
        done = cli("train", table, "--target", "diagnosis", "-o", tmp_path / "m", "--model", "logistic")
        assert done.returncode == 0, done.stderr
        odd = cli("train", table, "--target", "diagnosis", "-o", tmp_path / "x", "--seeds", "3")
        assert odd.returncode == 2
        assert "--seeds is for images" in odd.stderr
        done = cli("explain", tmp_path / "m", table, "-o", tmp_path / "e")
        assert done.returncode == 0, done.stderr
        assert "probability of" in done.stdout
        assert done.stdout.index("strong") < done.stdout.index("weak")
        lines = (tmp_path / "e" / "shapley.csv").read_text().splitlines()
        assert lines[0].startswith("case,answer,")
        (tmp_path / "one.csv").write_text("\n".join(table.read_text().splitlines()[:2]))
        alone = cli("explain", tmp_path / "m", tmp_path / "one.csv", "-o", tmp_path / "e1")
        assert alone.returncode == 0, alone.stderr
        row = (tmp_path / "e1" / "shapley.csv").read_text().splitlines()[1]
        assert row == lines[1]  # a row says the same alone: it lies beside the training's medians
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "thesis.txt").write_text("years")
        assert cli("explain", tmp_path / "m", table, "-o", tmp_path / "mine").returncode == 2
        assert (tmp_path / "mine" / "thesis.txt").read_text() == "years"
        assert cli("explain", tmp_path / "m", table, "--method", "grad-cam").returncode == 2
