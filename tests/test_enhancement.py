"""Images made better: how they are made poor, metrics, classical rivals, and the verbs on small made-up data."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
torch.set_num_threads(1)  # the tests run side by side
pytest.importorskip("lightning_fabric")

from isocenter.acquire.datasets import open_dataset  # noqa: E402
from isocenter.data.geometry import Geometry  # noqa: E402
from isocenter.data.volume import Quantity, Volume  # noqa: E402
from isocenter.errors import DegenerateImage, InputError  # noqa: E402
from isocenter.evaluation.enhanced import MODEL, Compared, judge_enhanced  # noqa: E402
from isocenter.evaluation.rivals import chosen_strengths, made_by_rivals  # noqa: E402
from isocenter.formats import nifti  # noqa: E402
from isocenter.inference.degradation import (  # noqa: E402
    Degradation,
    coarser,
    coarser_grid,
    degraded,
    finer,
    finer_grid,
)
from isocenter.inference.prepare import prepare  # noqa: E402
from isocenter.metrics.similarity import psnr, ssim  # noqa: E402
from isocenter.networks.catalogue import build, settings_of  # noqa: E402
from isocenter.networks.restorer import RestorerSettings  # noqa: E402
from isocenter.training.images.choose import Wish, first_plan  # noqa: E402
from isocenter.training.images.fingerprint import Fingerprint  # noqa: E402
from tests.command import cli  # noqa: E402


def test_coarse_voxels_are_means_of_those_they_cover() -> None:
    image = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    assert coarser(image, (1, 2, 2)).tolist() == [[[[2.5, 4.5], [10.5, 12.5]]]]
    assert coarser(np.arange(5.0, dtype=np.float32).reshape(1, 1, 1, 5), (1, 1, 2)).tolist() == [[[[0.5, 2.5]]]]


def test_interpolation_keeps_places() -> None:
    """A ramp stays a ramp: fine voxels lie where the extent says, a quarter of a coarse voxel to either side."""
    ramp = np.arange(12, dtype=np.float32).reshape(1, 1, 1, 12)
    grown = finer(ramp, (1, 1, 2))[0, 0, 0]
    assert np.allclose(grown[8:16], np.arange(8, 16) / 2 - 0.25, atol=0.02)


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.integers(1, 6)] * 3), st.tuples(*[st.integers(1, 4)] * 3))
def test_grids_that_are_made_coarse_keep_their_corner(shape: tuple[int, ...], factor: tuple[int, int, int]) -> None:
    turned = np.array([[0, 0.6, -0.8], [0, 0.8, 0.6], [1, 0, 0]])
    fine = Geometry.regular(
        [n * f for n, f in zip(shape, factor, strict=True)], spacing_mm=(2.0, 1.0, 0.5), directions=turned,
        origin_mm=(3.0, 4.0, 5.0),
    )  # fmt: skip
    coarse = coarser_grid(fine, factor)
    assert coarse.shape == shape
    corner = np.array([-0.5, -0.5, -0.5, 1.0])
    assert np.allclose(fine.affine @ corner, coarse.affine @ corner)
    assert finer_grid(coarse, factor).distance_to(fine) < 1e-9


def test_noise_is_a_share_of_the_deviation() -> None:
    image = np.random.default_rng(0).normal(10, 4, (1, 20, 40, 40)).astype(np.float32)
    found = degraded(image, Degradation(noise=0.5), np.random.default_rng(1), deviation=4.0) - image
    assert found.std() == pytest.approx(2.0, rel=0.02)


def test_psnr_and_ssim_by_hand_and_by_reference() -> None:
    skimage = pytest.importorskip("skimage.metrics")
    truth = np.linspace(0, 1, 64 * 48).reshape(1, 1, 64, 48)
    assert psnr(truth + 0.1, truth) == pytest.approx(20.0)
    rng = np.random.default_rng(3)
    other = truth + rng.normal(0, 0.1, truth.shape)
    wanted = skimage.structural_similarity(
        truth[0, 0], other[0, 0], data_range=1.0, gaussian_weights=True, use_sample_covariance=False
    )
    assert ssim(other, truth) == pytest.approx(wanted, abs=1e-6)
    deep, noisy = rng.normal(size=(2, 1, 20, 24, 22))
    wanted = skimage.structural_similarity(
        deep[0], noisy[0], data_range=float(np.ptp(deep)), gaussian_weights=True, use_sample_covariance=False
    )
    assert ssim(noisy, deep) == pytest.approx(wanted, abs=1e-6)
    assert psnr(truth, truth) == float("inf")
    with pytest.raises(InputError, match="compared"):
        psnr(truth, truth[:, :, 1:])
    with pytest.raises(DegenerateImage, match="one value"):
        psnr(truth, truth * 0)


def test_rivals_are_as_strong_as_the_noise_wants() -> None:
    """With more noise the chosen filters are stronger, and each is better than the noisy image."""
    rng = np.random.default_rng(0)
    good = np.zeros((1, 1, 48, 48), np.float32)
    good[:, :, 12:36, 12:36] = 1.0
    chosen = []
    for noise in (0.05, 0.4):
        poor = good + rng.normal(0, noise, good.shape).astype(np.float32)
        found = chosen_strengths([(poor, good)])
        chosen.append(found)
        assert all(psnr(image, good) > psnr(poor, good) for image in made_by_rivals(poor, found).values())
    assert chosen[1]["gaussian"] > chosen[0]["gaussian"]


def test_the_gain_is_over_the_best_classical_method() -> None:
    rows = [
        Compared(f"c{i}", f"p{i}", {MODEL: 30.0 + i % 3, "tv": 28.0 + i % 3, "nlm": 25.0}, {MODEL: 0.9, "tv": 0.8, "nlm": 0.7})
        for i in range(24)
    ]  # fmt: skip
    data = judge_enhanced(rows, model="m", how="noise", seed=0).data
    assert data["best_classical_method"] == "tv"
    assert data["metrics"]["psnr_gain"]["value"] == pytest.approx(2.0)
    assert data["metrics"]["psnr_gain"]["low"] == pytest.approx(2.0)
    assert data["metrics"]["psnr"]["value"] == pytest.approx(31.0)
    notes = {name: row["note"] for name, row in data["metrics"].items()}
    assert (notes["psnr"], notes["psnr/nlm"]) == ("dB", "dB; non-local means")
    assert notes["psnr_gain"] == "dB over total variation"


def discs(folder: Path, count: int = 14, shape: tuple[int, int, int] = (1, 40, 36)) -> Path:
    """Pictures or volumes of smooth balls, in arbitrary units, with millimetres."""
    rng = np.random.default_rng(4)
    at = np.indices(shape)
    for i in range(count):
        image = np.zeros(shape)
        for _ in range(4):
            centre = [rng.uniform(0, n - 1) for n in shape]
            far = np.sqrt(sum((a - c) ** 2 for a, c in zip(at, centre, strict=True)))
            image += rng.uniform(0.5, 1) / (1 + np.exp((far - rng.uniform(3, 8)) * 2))
        grid = Geometry.regular(shape, spacing_mm=(3.0, 1.0, 1.0), origin_mm=(5.0, 6.0, 7.0))
        folder.mkdir(parents=True, exist_ok=True)
        nifti.write(Volume((100 + 900 * image)[None].astype(np.float32), grid), folder / f"sub-{i:02d}_img.nii.gz")
    return folder


SMALL = (
    "--set",
    "network.settings.widths=[8,16]",
    "--set",
    "schedule.learning_rate=0.004",
    "--set",
    "schedule.ema=0.9",
)


def test_denoising_through_the_verbs(tmp_path: Path) -> None:
    """Trained on poor copies of plain images; judged beside filters; the answer lies on the image's grid."""
    data = discs(tmp_path / "data")
    done = cli(
        "train", data, "-o", tmp_path / "m", "--task", "enhance", "--degrade", "noise=0.6", "--hold-out", "3",
        "--set", "schedule.steps=150", *SMALL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "psnr" in done.stdout.splitlines()[-1]
    card = json.loads((tmp_path / "m" / "card.json").read_text())
    assert card["network"]["degradation"]["noise"] == 0.6
    assert set(card["training"]["rivals"]) == {"noise", "gaussian", "nlm", "tv"}
    done = cli("evaluate", tmp_path / "m", data, "-o", tmp_path / "ev")
    assert done.returncode == 0, done.stderr
    judged = json.loads((tmp_path / "ev" / "evaluation.json").read_text())
    values = {name: row["value"] for name, row in judged["metrics"].items()}
    assert set(values) >= {"psnr", "ssim", "psnr/input", "psnr/gaussian", "psnr/nlm", "psnr/tv", "psnr_gain"}
    assert values["psnr"] > values["psnr/input"] + 4
    assert judged["n_cases"] == 4  # every third of 14 stood back
    assert any("by a stated rule" in note for note in judged["notes"])
    done = cli("predict", tmp_path / "m", data / "sub-00_img.nii.gz", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    image, answer = (nifti.read(p) for p in (data / "sub-00_img.nii.gz", tmp_path / "out" / "sub-00_img.nii.gz"))
    assert answer.geometry.distance_to(image.geometry) < 1e-4
    assert 100 < float(np.mean(answer.voxels)) < 1000  # in the image's own unit
    done = cli("run", tmp_path / "m", data / "sub-00_img.nii.gz", "-o", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    report = json.loads(next((tmp_path / "run").rglob("report.json")).read_text())
    assert report["verdict"] == "review"  # a network made it
    assert "noise of 0.6 deviations" in json.dumps(report["reasons"])
    assert report["findings"] == []  # of this image nothing is known that a number could say
    assert report["checks"]["network_image_quality"] == "validated"
    assert "which are not of this patient" in next((tmp_path / "run").rglob("report.html")).read_text("utf-8")


def test_a_finer_grid_over_the_same_extent(tmp_path: Path) -> None:
    data = discs(tmp_path / "data", count=8, shape=(12, 20, 20))
    done = cli(
        "train", data, "-o", tmp_path / "m", "--task", "enhance", "--degrade", "factor=2",
        "--set", "schedule.steps=6", "--set", "schedule.batch=2", "--set", "patch=[16,16,16]", *SMALL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    judged = json.loads((tmp_path / "m" / "evaluation.json").read_text())
    assert "psnr/bicubic" in judged["metrics"]
    done = cli("predict", tmp_path / "m", data / "sub-01_img.nii.gz", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    image, answer = (nifti.read(p) for p in (data / "sub-01_img.nii.gz", tmp_path / "out" / "sub-01_img.nii.gz"))
    assert answer.geometry.shape == (24, 40, 40)
    assert answer.geometry.distance_to(finer_grid(image.geometry, (2, 2, 2))) < 1e-4
    assert np.corrcoef(coarser(answer.voxels, (2, 2, 2)).ravel(), image.voxels.ravel())[0, 1] > 0.99


def test_pairs_of_images(tmp_path: Path) -> None:
    """Folders `images` and `targets`: learnt from as they are; a pair of two grids is named and left out."""
    discs(tmp_path / "d" / "targets", count=8)
    rng = np.random.default_rng(0)
    (tmp_path / "d" / "images").mkdir()
    for path in sorted((tmp_path / "d" / "targets").iterdir()):
        good = nifti.read(path)
        poor = good.voxels + rng.normal(0, 150, good.voxels.shape).astype(np.float32)
        if path.name.startswith("sub-03"):
            poor = poor[..., :20]
        grid = Geometry(poor.shape[1:], good.geometry.affine)
        nifti.write(Volume(poor, grid, Quantity.ARBITRARY), tmp_path / "d" / "images" / path.name)
    (tmp_path / "d" / "targets" / "sub-07_img.nii.gz").rename(tmp_path / "d" / "targets" / "sub-99_img.nii.gz")
    found = open_dataset(tmp_path / "d")
    assert found.kind == "images and what they shall become"
    assert [p.case for p in found.problems] == ["sub-07_img", "sub-99_img"]
    done = cli("train", tmp_path / "d", "-o", tmp_path / "m", "--set", "schedule.steps=4", *SMALL)
    assert done.returncode == 0, done.stderr
    assert "sub-03_img: the better image has" in done.stderr
    card = json.loads((tmp_path / "m" / "card.json").read_text())
    assert card["network"]["degradation"] is None
    done = cli("train", tmp_path / "d", "-o", tmp_path / "n", "--degrade", "noise=1", "--set", "schedule.steps=4")
    assert done.returncode == 2, done.stdout
    assert "leave --degrade away" in done.stderr


def test_refusals(tmp_path: Path) -> None:
    data = discs(tmp_path / "data", count=6)
    done = cli("train", data, "-o", tmp_path / "m", "--task", "enhance", "--set", "schedule.steps=4")
    assert done.returncode == 2, done.stdout
    assert "say what makes them poor" in done.stderr
    done = cli("train", data, "-o", tmp_path / "m", "--task", "enhance", "--degrade", "factor=9")
    assert done.returncode == 2, done.stdout
    assert "factor is from 1 to 8" in done.stderr
    done = cli("train", data, "-o", tmp_path / "m", "--task", "enhance", "--degrade", "fog=1")
    assert done.returncode == 2, done.stdout
    assert "fog" in done.stderr


@pytest.mark.parametrize(("quantity", "whole"), [("HU", False), ("SUV", False), ("arbitrary", True)])
def test_nothing_is_cut_off_on_the_way(quantity: str, whole: bool) -> None:
    """Bone beyond the 99.5 % of the training comes back as it was."""
    one = {"least": -1000.0, "low": -900.0, "mean": -100.0, "deviation": 200.0, "high": 300.0, "most": 900.0}
    seen = Fingerprint(4, None, ((8, 16, 16),) * 4, ((1.0, 1.0, 1.0),) * 4, 1, quantity, whole, (one,))
    plan = first_plan(seen, "enhance", Wish(plan={"degradation.noise": 0.3}), channels=("image",))
    values = np.linspace(-2000, 3000, 8 * 16 * 16, dtype=np.float32).reshape(1, 8, 16, 16)
    volume = Volume(values, Geometry.regular((8, 16, 16), spacing_mm=(1.0, 1.0, 1.0)))
    ready = prepare(volume, plan.preparation)
    assert ready.in_units(ready.array) == pytest.approx(values, abs=0.01)


@pytest.mark.parametrize(("wished", "norm", "keeps"), [
    ({"degradation.noise": 2}, "batch", 0.2),
    ({"degradation.noise": 0.5}, "batch", 0.8),
    ({"degradation.factor": 2}, "none", 1.0),
])  # fmt: skip
def test_what_is_kept_of_a_noisy_image_is_what_a_linear_estimate_keeps(
    wished: dict[str, float], norm: str, keeps: float
) -> None:
    """The slope of the best linear estimate, by least squares; a network that learnt nothing keeps just this."""
    one = {"least": 0.0, "low": 1.0, "mean": 100.0, "deviation": 20.0, "high": 190.0, "most": 200.0}
    quantity, whole = "arbitrary", True
    seen = Fingerprint(4, None, ((1, 32, 32),) * 4, ((1.0, 1.0, 1.0),) * 4, 1, quantity, whole, (one,))
    plan = first_plan(seen, "enhance", Wish(plan=dict(wished)), channels=("image",))
    settings = settings_of(plan.network.name, plan.network.settings)
    assert isinstance(settings, RestorerSettings)
    assert (settings.norm, settings.keeps) == (norm, keeps)
    rng = np.random.default_rng(0)
    good = rng.normal(size=100_000)
    poor = good + rng.normal(size=good.size) * wished.get("degradation.noise", 0)
    assert np.polyfit(poor, good, 1)[0] == pytest.approx(keeps, abs=0.01)
    net = build(plan.network.name, {**plan.network.settings, "widths": (4, 8)}, channels=1, outputs=1, dims=2)
    x = torch.randn(2, 1, 16, 16)
    assert torch.allclose(net.eval()(x), keeps * x)


def test_a_noise_that_is_no_number_is_refused() -> None:
    one = {"least": 0.0, "low": 1.0, "mean": 100.0, "deviation": 20.0, "high": 190.0, "most": 200.0}
    quantity, whole = "arbitrary", True
    seen = Fingerprint(4, None, ((1, 32, 32),) * 4, ((1.0, 1.0, 1.0),) * 4, 1, quantity, whole, (one,))
    for bad in ("much", float("nan"), -1, 9):
        with pytest.raises(InputError, match="noise"):
            first_plan(seen, "enhance", Wish(plan={"degradation.noise": bad}), channels=("image",))
