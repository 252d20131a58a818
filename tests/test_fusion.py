"""Several modalities and columns of a table: reading, networks, doing without, and the verbs on made-up data."""

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
torch.set_num_threads(1)  # the tests run side by side
pytest.importorskip("lightning_fabric")

from PIL import Image  # noqa: E402

from isocenter.acquire.datasets import open_dataset  # noqa: E402
from isocenter.acquire.labelled import read_images  # noqa: E402
from isocenter.data.dataset import ABSENT, Sample, Source  # noqa: E402
from isocenter.data.geometry import Geometry  # noqa: E402
from isocenter.data.volume import Volume  # noqa: E402
from isocenter.errors import GeometryError, InputError  # noqa: E402
from isocenter.formats import nifti  # noqa: E402
from isocenter.inference.columns import fitted, value_of, with_columns  # noqa: E402
from isocenter.inference.gate import concerns  # noqa: E402
from isocenter.inference.model import Spec  # noqa: E402
from isocenter.inference.network_input import require_images  # noqa: E402
from isocenter.inference.prepare import Preparation, prepare  # noqa: E402
from isocenter.networks.fusion import (  # noqa: E402
    FusionSettings,
    FusionUNet,
    FusionUNetSettings,
    LateFusion,
    MiddleFusion,
    weights_of,
)
from isocenter.training.images import augment  # noqa: E402
from tests.command import cli  # noqa: E402
from tests.test_image_learning import plan_for_pictures  # noqa: E402

RNG = np.random.default_rng(9)

# ---- reading --------------------------------------------------------------------------------------------------------


def kept(
    path: Path, shape: tuple[int, int, int], spacing: tuple[float, float, float], origin: tuple[float, ...]
) -> Source:
    """A volume whose values are the z coordinate of each voxel, in mm."""
    grid = Geometry.regular(shape, spacing_mm=spacing, origin_mm=origin)
    z = grid.affine[2, 3] + np.arange(shape[0]) * spacing[0]
    nifti.write(Volume(np.broadcast_to(z[:, None, None], shape)[None].astype(np.float32), grid), path)
    return Source(path)


def test_images_on_other_grids_come_onto_the_first(tmp_path: Path) -> None:
    """Places in the patient decide: values that are z in mm stay z in mm."""
    one = kept(tmp_path / "ct.nii.gz", (10, 8, 8), (3.0, 2.0, 2.0), (0.0, 0.0, 10.0))
    other = kept(tmp_path / "pet.nii.gz", (12, 12, 12), (4.0, 4.0, 4.0), (-10.0, -10.0, 2.0))
    found = read_images(Sample("c", (one, other)))
    assert found.voxels.shape == (2, 10, 8, 8)
    assert np.allclose(found.voxels[1], found.voxels[0], atol=1e-3)
    assert found.geometry.spacing_mm == pytest.approx((3.0, 2.0, 2.0))


def test_images_that_share_no_place_are_refused(tmp_path: Path) -> None:
    one = kept(tmp_path / "ct.nii.gz", (10, 8, 8), (3.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    far = kept(tmp_path / "pet.nii.gz", (10, 8, 8), (3.0, 2.0, 2.0), (0.0, 0.0, 24.0))
    with pytest.raises(GeometryError, match="covers 20% of the case's first image"):
        read_images(Sample("c", (one, far)))


def test_an_image_that_covers_a_part_is_used_and_said(tmp_path: Path) -> None:
    one = kept(tmp_path / "ct.nii.gz", (10, 8, 8), (3.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    part = kept(tmp_path / "mr.nii.gz", (10, 8, 8), (3.0, 2.0, 2.0), (0.0, 0.0, 18.0))
    found = read_images(Sample("c", (one, part)))
    assert found.not_measured is not None
    assert found.not_measured.mean() == pytest.approx(0.6)
    assert np.allclose(found.voxels[1, 6:], found.voxels[0, 6:], atol=1e-3)


def test_an_absent_modality_is_no_number_and_then_zero(tmp_path: Path) -> None:
    one = kept(tmp_path / "ct.nii.gz", (10, 8, 8), (3.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    volume = read_images(Sample("c", (ABSENT, one)))
    assert np.isnan(volume.voxels[0]).all()
    how = Preparation(channels=2, may_lack=True)
    ready = prepare(volume, how)
    assert ready.absent == (0,)
    assert not ready.array[0].any()
    assert ready.array[1].std() == pytest.approx(1.0, abs=1e-3)
    with pytest.raises(GeometryError, match="was not trained to do without"):
        prepare(volume, Preparation(channels=2))
    with pytest.raises(InputError, match="lacks every image"):
        read_images(Sample("c", (ABSENT, ABSENT)))


def test_columns_are_scaled_by_training_cases() -> None:
    rows = [{"age": "40", "sex": "0"}, {"age": "60", "sex": "1"}, {"age": "", "sex": "1"}]
    age, sex = fitted(rows, ["age", "sex"])
    assert (age.mean, age.deviation) == (50.0, 10.0)
    volume = Volume(RNG.random((1, 2, 3, 3)), Geometry.regular((2, 3, 3)))
    ready, lacking = with_columns(prepare(volume, Preparation()), {"age": "70"}, (age, sex))
    assert ready.array[1:, 0, 0, 0].tolist() == [2.0, 0.0]
    assert lacking == ("sex",)
    ready, _ = with_columns(prepare(volume, Preparation()), {"age": "7000", "sex": "1"}, (age, sex))
    assert ready.array[1, 0, 0, 0] == 8.0  # a typing error is cut off
    with pytest.raises(InputError, match="'old' is no number"):
        value_of({"age": "old"}, "age")
    with pytest.raises(InputError, match=r"no case has a number there; columns beside images are age, sex"):
        fitted(rows, ["weight"])


# ---- networks -------------------------------------------------------------------------------------------------------


def test_without_the_first_modality_the_grid_of_another_refuses_nothing() -> None:
    """A CT of 1 mm is absent, and the PET of 4.7 mm states the grid: for review, and answered."""
    gate = {"spacing_mm": [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]}
    pet = Volume(np.zeros((2, 4, 6, 6), np.float32), Geometry.regular((4, 6, 6), spacing_mm=(4.7, 4.7, 4.7)))
    assert [c.level for c in concerns(pet, gate, absent=(0,))] == ["review"]
    assert [c.level for c in concerns(pet, gate, absent=(1,))] == ["refuse"]  # the CT itself has odd voxels


def test_one_image_is_not_taken_for_three_modalities() -> None:
    """A grey picture stands for three equal channels of a colour one, and never for a CT, a PET and an MR."""
    spec = Spec(task="classify", classes=("no", "yes"), channels=("ct", "pet", "mr"), patch=(4, 6, 6), answer="softmax",
                preparation=Preparation(dims=3, channels=3), network={"name": "cnn"})  # type: ignore[arg-type]  # fmt: skip
    for channels in (1, 2, 3):
        volume = Volume(np.zeros((channels, 4, 6, 6), np.float32), Geometry.regular((4, 6, 6)))
        if channels == 3:
            require_images(volume, spec)
            continue
        with pytest.raises(InputError, match=r"takes 3 images a case \(ct, pet, mr\)"):
            require_images(volume, spec)
    colour = spec.model_copy(update={"channels": ("image",)})
    require_images(Volume(np.zeros((1, 4, 6, 6), np.float32), Geometry.regular((4, 6, 6))), colour)


def test_what_is_absent_gets_no_weight() -> None:
    scores = torch.tensor([[1.0, 1.0, 5.0], [0.0, 0.0, 0.0]])
    there = torch.tensor([[True, True, False], [False, False, False]])
    found = weights_of(scores, there)
    assert found[0].tolist() == pytest.approx([0.5, 0.5, 0.0])
    assert found[1].tolist() == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize("kind", ["middle", "late", "unet"])
@pytest.mark.parametrize("dims", [2, 3])
def test_an_absent_modality_changes_nothing_and_learns_nothing(kind: str, dims: int) -> None:
    torch.manual_seed(0)
    small = FusionSettings(widths=(4, 8), width=8)
    network = {
        "middle": lambda: MiddleFusion(small, channels=3, outputs=2, dims=dims),
        "late": lambda: LateFusion(small, channels=3, outputs=2, dims=dims),
        "unet": lambda: FusionUNet(FusionUNetSettings(widths=(4, 8)), channels=3, outputs=2, dims=dims),
    }[kind]().eval()
    x = torch.rand(2, 3, *(16,) * dims)
    x[:, 1] = 0
    answer = network(x)
    assert answer.shape == ((2, 2, *(16,) * dims) if kind == "unet" else (2, 2))
    answer.sum().backward()
    branches = network.encoders if kind == "unet" else network.branches
    assert all(p.grad is None or not p.grad.any() for p in branches[1].parameters())
    assert any(p.grad.any() for p in branches[0].parameters())
    with torch.no_grad():
        for p in branches[1].parameters():
            p.add_(1.0)
        assert torch.allclose(network(x), answer)


def test_late_fusion_is_a_mean_of_probabilities() -> None:
    network = LateFusion(FusionSettings(widths=(4,), width=4), channels=2, outputs=2, dims=2)

    class Says(torch.nn.Module):
        def __init__(self, logits: list[float]) -> None:
            super().__init__()
            self.logits = torch.tensor(logits)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.logits.expand(len(x), 2)

    network.branches = torch.nn.ModuleList([Says([0.0, np.log(9.0)]), Says([0.0, 0.0])])
    said = network(torch.rand(1, 2, 8, 8)).exp()
    assert said[0].tolist() == pytest.approx([(0.1 + 0.5) / 2, (0.9 + 0.5) / 2], abs=1e-5)


def test_modalities_are_dropped_and_absent_ones_stay_absent() -> None:
    plan = plan_for_pictures(
        channels=("a", "b"), preparation={"dims": 2, "size": (16, 16), "channels": 2, "may_lack": True},
        columns=[{"name": "age", "mean": 0.0, "deviation": 1.0}], augmentation={"drop_modality": 0.5, "noise": 1.0},
    )  # fmt: skip
    images = torch.rand(64, 3, 16, 16) + 0.5
    images[:8, 0] = 0
    images[:, 2] = 3.0
    drawn = augment.without_mixture(augment.draw(plan, (16, 16), 64, np.random.default_rng(0)))
    found, _ = augment.apply(drawn, images, None)
    there = found[:, :2].flatten(2).abs().amax(dim=2) > 0
    assert not there[:8, 0].any()
    assert there.any(dim=1).all()  # never all
    assert 10 < int((~there[8:]).sum()) < 46
    assert torch.allclose(found[:, 2], torch.tensor(3.0), atol=1e-4)  # a column is no image


# ---- the verbs ------------------------------------------------------------------------------------------------------


def cohort(folder: Path, count: int = 72) -> Path:
    """Stripes and a column: the class is that of the stripes, turned round where the column is 1."""
    rng = np.random.default_rng(3)
    folder.mkdir(parents=True)
    rows = ["case,patient,image,image_b,label,flag,split"]
    for i in range(count):
        upright, flag = i % 2, (i // 2) % 2
        wave = 60 * np.sin(np.arange(16) * 1.6 + rng.uniform(0, 6))
        image = 128 + (wave[None, :] if upright else wave[:, None]) + rng.normal(0, 10, (16, 16))
        for name, noise in (("a", 0), ("b", 15)):
            more = np.clip(image + rng.normal(0, noise + 1e-9, image.shape), 0, 255).astype(np.uint8)
            Image.fromarray(more).save(folder / f"{i}{name}.png")
        split = ("train", "train", "train", "train", "val", "val", "test", "test")[(i // 4) % 8]
        rows.append(f"c{i},p{i},{i}a.png,{i}b.png,{upright ^ flag},{flag if i != 7 else ''},{split}")
    (folder / "table.csv").write_text("\n".join(rows) + "\n", "utf-8")
    return folder / "table.csv"


def one_image(table: Path, name: str) -> Path:
    """The same table without the second image."""
    lines = [line.split(",") for line in table.read_text("utf-8").splitlines()]
    path = table.with_name(name)
    path.write_text("\n".join(",".join(c for i, c in enumerate(line) if i != 3) for line in lines) + "\n", "utf-8")
    return path


def test_image_and_column_together_know_what_neither_knows_alone(tmp_path: Path) -> None:
    table = one_image(cohort(tmp_path / "d", 160), "one.csv")
    common = ("--set", "schedule.steps=150", "--set", "schedule.batch=16", "--set", "schedule.ema=0.8", "--set", "augmentation.mixup=0",
              "--set", "augmentation.cutmix=0", "--set", "augmentation.erase=0")  # fmt: skip
    done = cli(
        "train", table, "-o", tmp_path / "m", "--with", "flag", "--set", "network.settings.widths=[8,16]", *common
    )
    assert done.returncode == 0, done.stderr
    card = json.loads((tmp_path / "m" / "card.json").read_text())
    assert card["network"]["network"]["name"] == "fusion"
    assert card["network"]["columns"][0]["name"] == "flag"
    done = cli("evaluate", tmp_path / "m", table, "-o", tmp_path / "ev")
    assert done.returncode == 0, done.stderr
    both = json.loads((tmp_path / "ev" / "evaluation.json").read_text())["metrics"]["auc"]["value"]
    done = cli(
        "train",
        table,
        "-o",
        tmp_path / "n",
        "--task",
        "classify",
        "--set",
        "network.settings.widths=[8,16,16]",
        *common,
    )
    assert done.returncode == 0, done.stderr
    done = cli("evaluate", tmp_path / "n", table, "-o", tmp_path / "ev2")
    alone = json.loads((tmp_path / "ev2" / "evaluation.json").read_text())["metrics"]["auc"]["value"]
    assert both > 0.9
    assert alone < 0.75
    bare = tmp_path / "d" / "bare.csv"
    bare.write_text("case,image\nx,0a.png\n", "utf-8")
    done = cli("predict", tmp_path / "m", bare, "-o", tmp_path / "p")
    assert done.returncode == 0, done.stderr
    assert "flag: absent" in (tmp_path / "p" / "predictions.csv").read_text()


def test_a_model_does_without_a_modality_and_says_so(tmp_path: Path) -> None:
    table = cohort(tmp_path / "d")
    text = table.read_text("utf-8").replace("5a.png,5b.png", "5a.png,")
    table.write_text(text, "utf-8")
    assert open_dataset(table).samples[0].images[0].path.name.endswith(".png")
    assert sum(image.absent for s in open_dataset(table).samples for image in s.images) > 0
    done = cli(
        "train", table, "-o", tmp_path / "m", "--task", "classify", "--network", "late_fusion",
        "--set", "network.settings.widths=[4,8]", "--set", "schedule.steps=4", "--set", "schedule.batch=8",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    plan = json.loads((tmp_path / "m" / "plan.json").read_text())
    assert plan["preparation"]["may_lack"] is True
    assert plan["augmentation"]["drop_modality"] > 0
    done = cli("predict", tmp_path / "m", one_image(table, "one.csv"), "-o", tmp_path / "p")
    assert done.returncode == 0, done.stderr
    _head, first, *_ = (tmp_path / "p" / "predictions.csv").read_text().splitlines()
    assert "image_b: absent; the model answers without" in first
    done = cli(
        "train", table, "-o", tmp_path / "n", "--task", "classify", "--network", "cnn", "--set", "schedule.steps=2",
        "--set", "augmentation.drop_modality=0",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "n" / "plan.json").read_text())["preparation"]["may_lack"] is False
    lines = [line.split(",") for line in table.read_text("utf-8").splitlines()]
    swapped = table.with_name("swapped.csv")
    swapped.write_text(
        "\n".join(",".join([c[0], *c[3:1:-1], *c[4:]]) for c in lines) + "\n", "utf-8"
    )  # and no patients
    known = cli("evaluate", tmp_path / "n", swapped, "--split", "train", "-o", tmp_path / "ev")
    assert known.returncode == 2, known.stdout
    assert "was trained on" in known.stderr  # the same cases, with their images in another order
    assert "was not trained to do without" in done.stderr  # the case that lacks one is left out, by name
    done = cli("predict", tmp_path / "n", table.with_name("one.csv"), "-o", tmp_path / "p2")
    assert done.returncode == 2, done.stdout
    assert "takes 2 images a case" in done.stderr
