"""Learning from images: preparation, augmentation, windows, the loop, and the verbs on small made-up data."""

import csv
import json
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
torch.set_num_threads(1)  # the tests run side by side
pytest.importorskip("lightning_fabric")

from isocenter.acquire.datasets import open_dataset  # noqa: E402
from isocenter.cli.options import seconds_of  # noqa: E402
from isocenter.data.geometry import Geometry, Space  # noqa: E402
from isocenter.data.labels import Label, LabelMap  # noqa: E402
from isocenter.data.volume import Quantity, Volume  # noqa: E402
from isocenter.errors import DegenerateImage, GeometryError, InputError, UnreadableFile  # noqa: E402
from isocenter.formats import nifti  # noqa: E402
from isocenter.inference.answers import entropy  # noqa: E402
from isocenter.inference.gate import Concern, concerns, gate_of  # noqa: E402
from isocenter.inference.model import load  # noqa: E402
from isocenter.inference.predictor import Predictor  # noqa: E402
from isocenter.inference.prepare import Preparation, oriented, prepare, prepare_labels  # noqa: E402
from isocenter.inference.sliding import Windows, slabs, starts  # noqa: E402
from isocenter.pipeline.image_material import Effort  # noqa: E402
from isocenter.pipeline.image_prediction import predict_images  # noqa: E402
from isocenter.pipeline.image_training import train_images  # noqa: E402
from isocenter.pipeline.judgement import evaluate  # noqa: E402
from isocenter.training.images import augment  # noqa: E402
from isocenter.training.images.batches import Sampler  # noqa: E402
from isocenter.training.images.choose import Wish, first_plan  # noqa: E402
from isocenter.training.images.fingerprint import Fingerprint, answers_of, fingerprint  # noqa: E402
from isocenter.training.images.loop import learn  # noqa: E402
from isocenter.training.images.losses import LOSSES, loss_of  # noqa: E402
from isocenter.training.images.plan import LossPlan, Plan, plan_of, plan_text, read_plan  # noqa: E402
from isocenter.training.images.store import Item, Store  # noqa: E402
from isocenter.training.images.tasks import TASKS  # noqa: E402
from isocenter.training.images.tasks.voxels import window_of  # noqa: E402
from tests.command import cli  # noqa: E402

RNG = np.random.default_rng(5)


def blobs(folder: Path, count: int = 12, shape: tuple[int, int, int] = (10, 16, 16)) -> Path:
    """Volumes with a bright ball (label 1) beside a dark one (label 2) on noise."""
    rng = np.random.default_rng(1)
    at = np.indices(shape)
    for i in range(count):
        grid = Geometry.regular(shape, spacing_mm=(1.5, 1.0, 1.0))
        labels = np.zeros(shape, np.uint8)
        for value in (1, 2):
            centre = rng.uniform([3, 4, 3 + 6 * (value - 1)], [7, 12, 7 + 6 * (value - 1)])
            labels[sum((a - c) ** 2 for a, c in zip(at, centre, strict=True)) < 6.5] = value
        voxels = rng.normal(0, 0.4, shape) + 3.0 * (labels == 1) - 3.0 * (labels == 2)
        for name, value in {
            "images": Volume(voxels[None].astype(np.float32), grid),
            "labels": LabelMap(labels, grid, (Label(1, "ball"), Label(2, "hole"))),
        }.items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            nifti.write(value, folder / name / f"case{i:02d}.nii.gz")
    return folder


def stripes(path: Path, counts: tuple[int, int, int] = (64, 24, 24), *, noise: float = 40.0) -> Path:
    """Pictures with horizontal (0) or vertical (1) stripes, as MedMNIST keeps them."""
    rng = np.random.default_rng(2)
    arrays = {}
    for split, count in zip(("train", "val", "test"), counts, strict=True):
        labels = np.arange(count) % 2
        wave = 60 * np.sin(np.arange(16) * 1.6 + rng.uniform(0, 6, (count, 1)))
        images = (
            128
            + np.where(labels[:, None, None] == 1, wave[:, None, :], wave[:, :, None])
            + rng.normal(0, noise, (count, 16, 16))
        )
        arrays |= {
            f"{split}_images": np.clip(images, 0, 255).astype(np.uint8),
            f"{split}_labels": labels[:, None].astype(np.uint8),
        }
    np.savez(path, **arrays)
    return path


def plan_for_pictures(**parts: object) -> Plan:
    base = {
        "task": "classify", "classes": ("0", "1"), "patch": (16, 16), "seed": 3,
        "preparation": {"dims": 2, "size": (16, 16), "intensity": "range", "low": (0.0,), "high": (255.0,)},
        "network": {"name": "cnn", "settings": {"widths": (4, 8), "dense": (8,), "dropout": 0.2}},
        "schedule": {"steps": 12, "batch": 8, "validate_every": 4},
    }  # fmt: skip
    return plan_of({**base, **parts}, "a plan")


def pictures(count: int = 32, seed: int = 0) -> Store:
    rng = np.random.default_rng(seed)
    from isocenter.data.dataset import Sample, Source

    def item(i: int) -> Item:
        wave = np.sin(np.arange(16) * 1.6 + rng.uniform(0, 6))
        image = np.broadcast_to(wave[None, :] if i % 2 else wave[:, None], (16, 16)) + rng.normal(0, 0.3, (16, 16))
        return Item(Sample(f"c{i}", (Source(Path(f"{i}.png")),)), image[None, None].astype(np.float32), float(i % 2))

    return Store(tuple(item(i) for i in range(count)))


class TestPreparation:
    def test_it_goes_there_and_back(self) -> None:
        turned = Geometry.regular((8, 20, 30), spacing_mm=(3.0, 1.0, 1.0)).permute((2, 0, 1)).flip(1)
        how = Preparation(orient=True, spacing_mm=(3.0, 1.0, 1.0))
        values = RNG.normal(size=turned.shape).astype(np.float32)
        ready = prepare(Volume(values[None], turned), how)
        assert ready.array.shape == (1, 8, 20, 30)
        assert np.allclose(ready.array.mean(), 0, atol=1e-5)
        labels = (ready.array[0] > 0.5).astype(np.uint8)
        back = ready.back(labels)
        assert back.shape == turned.shape
        assert np.array_equal(back, (values - values.mean()) / values.std() > 0.5)

    def test_axes_are_those_of_the_patient(self) -> None:
        turned = Geometry.regular((8, 20, 30), spacing_mm=(3.0, 1.0, 2.0)).permute((1, 2, 0)).flip(0).flip(2)
        found = oriented(turned)
        assert found.axis_letters == Geometry.regular((8, 20, 30), spacing_mm=(3.0, 1.0, 2.0)).axis_letters
        assert found.shape == (8, 20, 30)

    @given(st.tuples(*[st.floats(0.5, 3.0)] * 3), st.integers(0, 2**31))
    @settings(max_examples=20, deadline=None)
    def test_a_linear_field_survives_resampling(self, spacing: tuple[float, float, float], seed: int) -> None:
        """Linear interpolation is exact on a linear field, inside the old centres."""
        grid = Geometry.regular((9, 10, 11), spacing_mm=(1.0, 1.3, 0.8))
        slope = np.random.default_rng(seed).normal(size=3)
        points = np.indices(grid.shape).reshape(3, -1).T.astype(np.float64)
        field = (grid.index_to_world(points) @ slope).reshape(grid.shape)
        ready = prepare(Volume(field[None], grid), Preparation(spacing_mm=spacing, intensity="none"))
        inner = np.indices(ready.array.shape[1:]).reshape(3, -1).T.astype(np.float64)
        world = np.c_[inner, np.ones(len(inner))] @ ready.affine.T
        index = grid.world_to_index(world[:, :3])
        inside = np.all((index > 2) & (index < np.asarray(grid.shape) - 3), axis=1)
        if all(s <= t * 1.05 for s, t in zip(spacing, (1.0, 1.3, 0.8), strict=True)):  # coarser ones are smoothed first
            assert np.allclose(ready.array[0].ravel()[inside], world[inside, :3] @ slope, atol=1e-3)

    def test_labels_keep_their_volume(self) -> None:
        grid = Geometry.regular((20, 20, 20), spacing_mm=(1.0, 1.0, 1.0))
        ball = (sum((a - 9.5) ** 2 for a in np.indices(grid.shape)) < 36).astype(np.uint8) * 7
        how = Preparation(spacing_mm=(0.7, 0.9, 1.1))
        found = prepare_labels(LabelMap(ball, grid, (Label(7, "ball"),)), how, (7,))
        assert set(np.unique(found)) == {0, 1}
        assert found.sum() * 0.7 * 0.9 * 1.1 == pytest.approx((ball == 7).sum(), rel=0.05)

    def test_units_are_scaled_alike_for_all(self) -> None:
        grid = Geometry.regular((2, 4, 4))
        how = Preparation(intensity="foreground", low=(-100.0,), high=(300.0,), mean=(50.0,), deviation=(25.0,))
        found = prepare(Volume(np.full((1, 2, 4, 4), 1000.0), grid, Quantity.HU), how).array
        assert np.allclose(found, (300 - 50) / 25)

    def test_refusals(self) -> None:
        grid = Geometry.regular((2, 4, 4))
        with pytest.raises(DegenerateImage, match="one value only"):
            prepare(Volume(np.full((1, 2, 4, 4), 5.0), grid), Preparation())
        with pytest.raises(DegenerateImage, match="not finite"):
            prepare(Volume(np.full((1, 2, 4, 4), np.nan), grid), Preparation())
        with pytest.raises(GeometryError, match="takes 2 channels, the image has 1"):
            prepare(Volume(RNG.normal(size=(1, 2, 4, 4)), grid), Preparation(channels=2))


class TestWindows:
    @given(st.integers(1, 90), st.integers(1, 40), st.sampled_from([0.0, 0.25, 0.5, 0.75]))
    def test_windows_reach_from_end_to_end(self, length: int, size: int, overlap: float) -> None:
        found = starts(length, size, overlap)
        covered = np.zeros(length, bool)
        for a in found:
            covered[max(a, 0) : a + size] = True
        assert covered.all()
        assert found == sorted(set(found))
        assert max(found) + size >= length
        assert all(b - a <= max(1, size * (1 - overlap) + 1) for a, b in pairwise(found))

    @pytest.mark.parametrize("flips", [(), (0, 2)])
    @pytest.mark.parametrize("size", [(4, 5, 6), (20, 9, 9)])
    def test_a_network_of_single_voxels_gives_itself(self, flips: tuple[int, ...], size: tuple[int, int, int]) -> None:
        """A network that looks at one voxel only must give the same through any windows."""
        image = RNG.normal(size=(1, 11, 9, 13)).astype(np.float32)
        forward = lambda x: np.concatenate([x, -x, 0.5 * x], axis=1)  # noqa: E731
        whole = forward(image[None])[0]
        wanted = np.exp(whole) / np.exp(whole).sum(axis=0)
        parts = list(slabs(forward, image, Windows(size, 0.5, flips), outputs=3, flat=False))
        found = np.concatenate([p.probability for p in parts], axis=1)
        assert [p.first for p in parts] == np.cumsum([0, *[p.probability.shape[1] for p in parts]])[:-1].tolist()
        assert np.allclose(found, wanted, atol=1e-5)

    def test_slices_one_by_one(self) -> None:
        image = RNG.normal(size=(1, 3, 9, 13)).astype(np.float32)
        seen = []

        def forward(x: np.ndarray) -> np.ndarray:
            seen.append(x.shape)
            return np.concatenate([x, -x], axis=1)

        found = list(slabs(forward, image, Windows((1, 8, 8), 0.5, batch=4), outputs=2, flat=True))
        assert len(found) == 3
        assert all(shape[1:] == (1, 8, 8) for shape in seen)


class TestAugmentation:
    def test_what_is_drawn_decides(self) -> None:
        plan = plan_for_pictures(augmentation={"rotate": 1, "elastic": 1, "noise": 1, "blur": 1, "contrast": 1, "bias_field": 1, "erase": 1,
                                               "low_resolution": 1, "gamma": 1, "mixup": 1})  # fmt: skip
        images = torch.randn(4, 1, 16, 16)
        drawn = augment.draw(plan, (16, 16), 4, np.random.default_rng(1))
        one, _ = augment.apply(drawn, images, None)
        other, _ = augment.apply(drawn, images, None)
        assert torch.equal(one, other)
        assert not torch.allclose(one, images)
        assert torch.isfinite(one).all()

    def test_nothing_drawn_changes_nothing(self) -> None:
        names = (
            "rotate",
            "scale",
            "elastic",
            "noise",
            "blur",
            "gamma",
            "contrast",
            "bias_field",
            "low_resolution",
            "erase",
        )
        plan = plan_for_pictures(augmentation=dict.fromkeys(names, 0.0))
        images = torch.randn(3, 1, 16, 16)
        found, _ = augment.apply(augment.draw(plan, (16, 16), 3, np.random.default_rng(0)), images, None)
        assert torch.equal(found, images)

    @pytest.mark.parametrize("dims", [2, 3])
    def test_masks_move_with_their_images(self, dims: int) -> None:
        """An image that is its own mask stays its own mask."""
        size = (24,) * dims
        at = np.indices(size)
        ball = torch.from_numpy(
            (sum((a - c) ** 2 for a, c in zip(at, (9, 13, 11), strict=False)) < 30).astype(np.int64)
        )
        names = ("noise", "blur", "gamma", "contrast", "low_resolution", "erase")
        how = {
            **dict.fromkeys(names, 0.0),
            "rotate": 1.0,
            "rotate_degrees": 40.0,
            "scale": 1.0,
            "elastic": 1.0,
            "flip": (True, True, True),
        }
        plan = plan_for_pictures(augmentation=how, laterality="free")
        drawn = augment.draw(plan, size, 4, np.random.default_rng(2))
        images, masks = augment.apply(drawn, ball.float().expand(4, 1, *size), ball.expand(4, *size))
        assert masks is not None
        assert ((images[:, 0] > 0.5) != (masks > 0)).float().mean() < 0.03
        assert (masks != ball).float().mean() > 0.01

    def test_a_rotation_turns_by_its_angle(self) -> None:
        """A quarter turn of a square image permutes its pixels."""
        drawn = augment.draw(plan_for_pictures(augmentation={"noise": 0, "blur": 0, "gamma": 0, "contrast": 0, "low_resolution": 0, "elastic": 0}),
                             (16, 16), 1, np.random.default_rng(0))  # fmt: skip
        from dataclasses import replace

        theta = np.array([[[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]]])
        images = torch.arange(256.0).view(1, 1, 16, 16)
        found, _ = augment.apply(replace(drawn, theta=theta, moves=True), images, None)
        wanted = torch.rot90(images, 1, (2, 3))
        assert torch.allclose(found, wanted, atol=1e-3) or torch.allclose(
            found, torch.rot90(images, -1, (2, 3)), atol=1e-3
        )

    def test_sides_are_not_exchanged_unless_their_labels_are(self) -> None:
        how = {"flip": (False, False, True)}
        labels = {1: "left", 2: "right"}
        base = {
            "task": "segment", "labels": labels, "patch": (4, 4, 8), "preparation": {"dims": 3}, "network": {"name": "unet"}, "loss": {"name": "dice"},
            "augmentation": {**how, "rotate": 0, "scale": 0, "elastic": 0, "noise": 0, "blur": 0, "gamma": 0, "contrast": 0, "low_resolution": 0},
            "schedule": {"batch": 32}, "foreground": 0.0,
        }  # fmt: skip
        assert plan_of(base, "p").flips == ()
        assert plan_of({**base, "laterality": "free"}, "p").flips == (2,)
        plan = plan_of({**base, "swap_labels": {1: 2, 2: 1}}, "p")
        assert plan.flips == (2,)
        assert plan.spec.flips == ()  # an average over exchanged sides would blur left and right
        assert plan_of({**base, "laterality": "free"}, "p").spec.flips == (2,)
        image = np.zeros((1, 4, 4, 8), np.float32)
        mask = np.zeros((4, 4, 8), np.uint8)
        mask[..., :3], mask[..., 5:] = 1, 2
        image[0, ..., :3] = 7.0  # the left structure is bright
        from isocenter.data.dataset import Sample, Source

        store = Store((Item(Sample("a", (Source(Path("a")),)), image, np.nan, mask),))
        batch = TASKS["segment"].batch(Sampler(store, plan), 0)
        mirrored = batch.images[:, 0, 0, 0, 7] > 1
        assert 4 < int(mirrored.sum()) < 28
        assert (batch.target[:, 0, 0, 0] == 1).all()  # what lies on the left is called left, bright or not
        with pytest.raises(InputError, match="exchanges labels in pairs"):
            plan_of({**base, "swap_labels": {1: 2}}, "p")

    def test_patches_beyond_the_edge_are_empty(self) -> None:
        from isocenter.data.dataset import Sample, Source

        item = Item(
            Sample("a", (Source(Path("a")),)), np.ones((1, 3, 4, 5), np.float32), np.nan, np.ones((3, 4, 5), np.uint8)
        )
        plan = plan_of({"task": "segment", "labels": {1: "a"}, "patch": (8, 8, 8), "preparation": {"dims": 3}, "network": {"name": "unet"},
                        "loss": {"name": "dice"}}, "p")  # fmt: skip
        image, mask = window_of(item, plan, np.random.default_rng(0), on_label=True)
        assert image.sum() == mask.sum() == 60


class TestLosses:
    def test_hand_computed(self) -> None:
        logits = torch.log(torch.tensor([[[[0.8, 0.2]], [[0.2, 0.8]]]]))  # two pixels
        target = torch.tensor([[[0, 1]]])
        plain = LossPlan()
        assert float(LOSSES["cross_entropy"](logits, target, plain)) == pytest.approx(-np.log(0.8))
        assert float(LOSSES["dice"](logits, target, plain)) == pytest.approx(1 - (2 * 0.8 + 1) / (1.0 + 1 + 1))
        tversky = (0.8 + 1) / (0.8 + 0.3 * 0.2 + 0.7 * 0.2 + 1)
        assert float(LOSSES["tversky"](logits, target, plain)) == pytest.approx(1 - tversky)
        flat = torch.log(torch.tensor([[0.5, 0.3, 0.2]]))
        assert float(LOSSES["focal"](flat, torch.tensor([0]), plain)) == pytest.approx(-np.log(0.5) * 0.25)
        squared = (0.5 - 1) ** 2 + (0.8 - 1) ** 2
        assert float(LOSSES["ordinal"](flat, torch.tensor([0]), plain)) == pytest.approx(
            squared + 0.1 * -np.log(0.5), rel=1e-5
        )
        assert float(LOSSES["huber"](torch.tensor([[3.0], [0.5]]), torch.tensor([0.0, 0.0]), plain)) == pytest.approx(
            (2.5 + 0.125) / 2
        )

    def test_far_classes_cost_more(self) -> None:
        near, far = (torch.tensor([[6.0 if k == c else 0.0 for k in range(4)]]) for c in (1, 3))
        truth = torch.tensor([0])
        assert LOSSES["ordinal"](far, truth, LossPlan()) > 2 * LOSSES["ordinal"](near, truth, LossPlan())

    def test_a_boundary_far_away_costs_more(self) -> None:
        target = torch.zeros(1, 16, 16, dtype=torch.long)
        target[:, 6:10, 6:10] = 1
        logits = torch.zeros(1, 2, 16, 16)
        near, far = logits.clone(), logits.clone()
        near[:, 1, 5, 6:10], far[:, 1, 0, 6:10] = 5.0, 5.0
        one, other = (
            LOSSES["dice_boundary"](x, target, LossPlan()) - LOSSES["dice_ce"](x, target, LossPlan())
            for x in (near, far)
        )
        assert other > one

    def test_coarser_answers_count_half(self) -> None:
        plan = plan_of({"task": "segment", "labels": {1: "a"}, "patch": (4, 4), "preparation": {"dims": 2}, "network": {"name": "unet"},
                        "loss": {"name": "cross_entropy"}}, "p")  # fmt: skip
        target = torch.randint(0, 2, (1, 4, 4))
        fine, coarse = torch.randn(1, 2, 4, 4), torch.randn(1, 2, 2, 2)
        both = loss_of(plan)([fine, coarse], target)
        alone = [loss_of(plan)(fine, target), loss_of(plan)(coarse, target[:, ::2, ::2])]
        assert float(both) == pytest.approx(float((2 * alone[0] + alone[1]) / 3), rel=1e-5)


class TestLoop:
    def test_the_same_seed_gives_the_same_bits(self) -> None:
        train, val = pictures(), pictures(8, seed=1)
        one, other = (learn(plan_for_pictures(), train, val).network.state_dict() for _ in range(2))
        assert all(torch.equal(one[name], other[name]) for name in one)
        third = learn(plan_for_pictures(seed=4), train, val).network.state_dict()
        assert any(not torch.equal(one[name], third[name]) for name in one)

    def test_a_killed_run_ends_in_the_same_weights(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from isocenter.training.images import loop

        train, val, plan = pictures(), pictures(8, seed=1), plan_for_pictures()
        wanted = learn(plan, train, val)
        monkeypatch.setattr(loop, "_SAVE_EVERY_S", 0.0)

        class Killed(Exception):
            pass

        def kill(_what: str, step: int, _total: int) -> None:
            if step >= 10:
                raise Killed

        with pytest.raises(Killed):
            learn(plan, train, val, checkpoint=tmp_path, on_progress=kill)
        course = json.loads((tmp_path / "unfinished.json").read_text())
        assert 0 < course["step"] < 12
        found = learn(plan, train, val, checkpoint=tmp_path)
        for name, value in wanted.network.state_dict().items():
            assert torch.equal(value, found.network.state_dict()[name]), name
        assert [row.step for row in found.log] == [row.step for row in wanted.log]
        assert [row.loss for row in found.log] == [row.loss for row in wanted.log]
        with pytest.raises(UnreadableFile, match="by another plan"):
            learn(plan_for_pictures(seed=9), train, val, checkpoint=tmp_path)

    def test_it_learns(self) -> None:
        plan = plan_for_pictures(schedule={"steps": 150, "batch": 8, "learning_rate": 5e-3, "ema": 0.9})
        found = learn(plan, pictures(64), pictures(32, seed=1))
        assert found.final.metrics["accuracy"] > 0.9
        assert found.log[-1].loss < found.log[0].loss

    def test_early_stopping(self) -> None:
        plan = plan_for_pictures(
            schedule={"steps": 400, "batch": 4, "validate_every": 2, "patience": 2, "learning_rate": 1e-9}
        )
        assert learn(plan, pictures(8), pictures(8, seed=1)).log[-1].step < 400

    def test_a_loss_that_is_no_number_is_said(self) -> None:
        store = pictures(8)
        spoilt = Store(tuple(Item(i.sample, i.image * np.inf, i.target) for i in store.items))
        with pytest.raises(DegenerateImage, match="lower schedule.learning_rate"):
            learn(plan_for_pictures(augmentation={}), spoilt, store)

    def test_it_ends_on_time(self) -> None:
        """A schedule that was measured too short or too long is fitted to the clock."""
        plan = plan_for_pictures(schedule={"steps": 100_000, "batch": 8, "validate_every": 20})
        begun = time.monotonic()
        found = learn(plan, pictures(), pictures(8, seed=1), deadline_s=3.0)
        assert time.monotonic() - begun < 30
        assert found.plan.schedule.turns
        again = learn(found.plan, pictures(), pictures(8, seed=1))  # the plan says it all
        for name, value in found.network.state_dict().items():
            assert torch.equal(value, again.network.state_dict()[name])


class TestStored:
    def test_what_is_judged_is_what_is_written(self, tmp_path: Path) -> None:
        data = stripes(tmp_path / "s.npz")
        wish = Wish(network="cnn", plan={"schedule.steps": 20, "schedule.batch": 8, "stored": "float16"})
        train_images(data, tmp_path / "m", wish=wish)
        train_images(
            data, tmp_path / "whole", wish=Wish(network="cnn", plan={"schedule.steps": 20, "schedule.batch": 8})
        )
        sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("m", "whole")]
        assert sizes[0] < 0.6 * sizes[1]
        half, whole = (load(tmp_path / name).modules[0].state_dict() for name in ("m", "whole"))
        for name, value in whole.items():
            assert half[name].dtype == value.dtype
            assert torch.equal(half[name], value.half().float() if value.is_floating_point() else value), name


class TestTogether:
    def test_two_processes_learn_what_one_would(self, tmp_path: Path) -> None:
        plan = plan_for_pictures(schedule={"steps": 150, "batch": 8, "learning_rate": 5e-3, "ema": 0.9}, augmentation={
            "rotate": 0, "scale": 0, "elastic": 0, "noise": 0, "blur": 0, "gamma": 0, "contrast": 0, "low_resolution": 0,
        }, network={"name": "cnn", "settings": {"widths": [4, 8], "dense": [8], "dropout": 0.0}})  # fmt: skip
        train, val = pictures(64), pictures(32, seed=1)
        one = learn(plan, train, val)
        both = learn(plan, train, val, processes=2, logs=tmp_path / "logs")
        for name, value in one.network.state_dict().items():  # the mean of two gradients is the gradient of all
            assert torch.allclose(value, both.network.state_dict()[name], atol=2e-3), name
        assert both.final.metrics["accuracy"] > 0.9
        assert [row.step for row in both.log] == [row.step for row in one.log]
        assert (tmp_path / "logs" / "metrics.csv").read_text().count("\n") > 5
        assert list((tmp_path / "logs").glob("events.out.tfevents*"))

    def test_clocks_that_differ_do_not_part_them(self) -> None:
        plan = plan_for_pictures(schedule={"steps": 100_000, "batch": 8, "validate_every": 50})
        assert learn(plan, pictures(), pictures(8, seed=1), deadline_s=3.0, processes=2).plan.schedule.turns

    def test_weights_larger_than_a_pipe_come_back(self, tmp_path: Path) -> None:
        """Values that come back through a pipe of 64 kB would wait for each other for ever."""
        data = stripes(tmp_path / "s.npz")
        done = cli("train", data, "-o", tmp_path / "m", "--network", "cnn", "--set", "schedule.steps=4", "--set", "batch=8", "--processes", 2, "--logs", tmp_path / "logs")  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "m" / "model.safetensors").stat().st_size > 200_000
        assert (tmp_path / "logs" / "metrics.csv").is_file()

    def test_a_batch_that_cannot_be_shared(self) -> None:
        with pytest.raises(InputError, match="cannot be shared by 9"):
            learn(plan_for_pictures(), pictures(), pictures(8), processes=9)


class TestPlans:
    def test_it_comes_back(self, tmp_path: Path) -> None:
        plan = plan_for_pictures()
        (tmp_path / "plan.json").write_text(plan_text(plan))
        assert read_plan(tmp_path / "plan.json") == plan

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"loss": {"name": "dice"}}, "does not fit classify"),
            ({"patch": (16, 16, 16)}, "patch has 3 axes"),
            ({"classes": ("0",)}, "two classes"),
            ({"schedule": {"learning_rate": -1}}, "schedule.learning_rate"),
            ({"unknown": 1}, "unknown: is no field"),
        ],
    )
    def test_refusals(self, change: dict, says: str) -> None:
        with pytest.raises(InputError, match=says):
            plan_for_pictures(**change)

    def test_a_plan_follows_from_the_data(self, tmp_path: Path) -> None:
        from isocenter.acquire.datasets import open_dataset
        from isocenter.pipeline.images import read_case

        data = open_dataset(blobs(tmp_path))
        seen = fingerprint(data, answers_of(data), read_case)
        assert (seen.shape, seen.spacing, seen.labels) == ((10, 16, 16), (1.5, 1.0, 1.0), {1: "1", 2: "2"})
        plan = first_plan(seen, "segment", Wish(seed=4), channels=data.channels)
        assert (plan.preparation.dims, plan.preparation.spacing_mm, plan.patch) == (3, (1.5, 1.0, 1.0), (16, 16, 16))
        assert plan.network.name == "dynamic_unet"
        assert plan.flips == ()  # millimetres: sides may differ
        with pytest.raises(InputError, match="resnet18 answers for each image"):
            first_plan(seen, "segment", Wish(network="resnet18"), channels=data.channels)

    def test_windows_fit_the_grid_that_is_wished_for(self) -> None:
        one = {"least": -1000.0, "low": -900.0, "mean": -100.0, "deviation": 200.0, "high": 300.0, "most": 900.0}
        seen = Fingerprint(
            4,
            None,
            ((60, 160, 160),) * 4,
            ((3.0, 1.0, 1.0),) * 4,
            1,
            "HU",
            whole_numbers=True,
            intensity=(one,),
            labels={1: "a"},
        )
        plan = first_plan(seen, "segment", Wish(plan={"preparation.spacing_mm": [6, 6, 6]}), channels=("image",))
        assert (plan.preparation.spacing_mm, plan.patch) == ((6.0, 6.0, 6.0), (32, 32, 32))  # 30 x 27 x 27 voxels
        for bad in ("fine", [0, 1, 1], [1, 1], [float("nan")] * 3):
            with pytest.raises(InputError, match="spacing_mm"):
                first_plan(seen, "segment", Wish(plan={"preparation.spacing_mm": bad}), channels=("image",))


class TestGate:
    def test_concerns(self) -> None:
        grid = Geometry.regular((10, 20, 20), spacing_mm=(1.0, 1.0, 1.0))
        gate = gate_of([grid.shape], [grid.spacing_mm], str(Quantity.HU), [RNG.normal(size=(1, 10, 20, 20))])
        like = Volume(np.zeros((1, 10, 20, 20)), grid, Quantity.HU)
        assert concerns(like, gate, RNG.normal(size=(1, 10, 20, 20))) == []
        (unit,) = [c for c in concerns(Volume(np.zeros((1, 10, 20, 20)), grid), gate) if c.level == "refuse"]
        assert "trained on HU" in unit.text
        coarse = Volume(
            np.zeros((1, 10, 20, 20)), Geometry.regular((10, 20, 20), spacing_mm=(5.0, 5.0, 5.0)), Quantity.HU
        )
        assert {c.level for c in concerns(coarse, gate)} == {"refuse", "review"}
        (bright,) = concerns(like, gate, RNG.normal(size=(1, 10, 20, 20)) + 4)
        assert bright.level == "review"

    def test_a_grey_picture_is_none_in_colour(self) -> None:
        """Three equal channels are grey, too; and three modalities are no colours: see `pipeline.image_model`."""
        seen = [RNG.normal(size=(3, 1, 20, 20)) for _ in range(3)]
        gate = gate_of([(1, 20, 20)], [], str(Quantity.ARBITRARY), seen)
        assert gate["colour"] is True
        grid = Geometry.regular((1, 20, 20), space=Space.PIXELS)
        for grey in (RNG.normal(size=(1, 1, 20, 20)), np.repeat(RNG.normal(size=(1, 1, 20, 20)), 3, axis=0)):
            (odd,) = concerns(Volume(grey, grid), gate)
            assert odd == Concern("refuse", "the model was trained on images in colour, and this one is grey")
        assert concerns(Volume(seen[0], grid), gate) == []
        assert gate_of([(1, 20, 20)], [], "", [np.repeat(v[:1], 3, axis=0) for v in seen])["colour"] is False

    def test_pictures_of_another_size(self) -> None:
        """A model of thumbnails knows nothing of what a large picture shows once it is shrunk."""
        gate = gate_of([(1, 28, 28)], [], str(Quantity.ARBITRARY), [RNG.normal(size=(1, 1, 28, 28))])
        small, large = (
            Volume(np.zeros((1, 1, n, n)), Geometry.regular((1, n, n), space=Space.PIXELS)) for n in (40, 512)
        )
        assert concerns(small, gate) == []
        (odd,) = concerns(large, gate)
        assert "1 x 512 x 512 pixels" in odd.text


def small_segmenter(folder: Path) -> tuple[Path, Path]:
    """Data, and a small segmentation that was trained on it through the library."""
    data = blobs(folder / "data", 15)
    changes = {
        "network.settings": {"widths": [8, 16], "norm": "batch"}, "schedule.steps": 90, "schedule.batch": 4, "schedule.learning_rate": 0.01,
        "schedule.ema": 0.9, "network.name": "dynamic_unet",
    }  # fmt: skip
    train_images(data, folder / "model", wish=Wish(plan=changes, network="dynamic_unet"), effort=Effort(hold_out=5))
    return data, folder / "model"


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return small_segmenter(tmp_path_factory.mktemp("segmenter"))


class TestVerbs:
    def test_a_segmentation_the_whole_way(self, segmenter: tuple[Path, Path], tmp_path: Path) -> None:
        data, model = segmenter
        found = evaluate(model, data, tmp_path / "ev")
        metrics = found.data["metrics"]
        assert metrics["dice"]["value"] > 0.8
        assert {"dice/1", "hd95/1", "surface_dice/2", "missed/2", "false/1", "hd95_penalised/1"} <= set(metrics)
        assert found.data["n_cases"] == 3  # every fifth of fifteen
        page = (tmp_path / "ev" / "evaluation.html").read_text()
        assert page.count("data:image/png;base64") == 3
        training = (model / "training.html").read_text()
        assert training.count("data:image/png") >= 2
        assert "Validation: dice/1" in training
        answers = predict_images(model, data / "images", tmp_path / "out")
        assert len(answers) == 15
        assert not any(a.failed for a in answers)
        one = nifti.read(tmp_path / "out" / "case04.nii.gz")
        image = nifti.read(data / "images" / "case04.nii.gz")
        assert one.geometry.distance_to(image.geometry) < 1e-3
        truth = nifti.read(data / "labels" / "case04.nii.gz").voxels[0]
        said = one.voxels[0]
        assert 2 * ((said == 1) & (truth == 1)).sum() / ((said == 1).sum() + (truth == 1).sum()) > 0.8
        with (model / "cases.csv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                drawn, made = (
                    int((nifti.read(folder / f"{row['case']}.nii.gz").voxels == 2).sum())
                    for folder in (data / "labels", tmp_path / "out")
                )
                assert float(row["volume_difference/2"]) == pytest.approx(made / drawn - 1, abs=0.06)
        judged = evaluate(predictions=[tmp_path / "out"], reference=data / "labels")
        row = next(r for r in judged.rows if r[0] == "case04")
        own = next(r for r in found.rows if r[0] == "case04")
        assert row[2] == own[2]  # the written label maps say what the evaluation saw

    def test_doubt_lies_at_the_edges(self, segmenter: tuple[Path, Path], tmp_path: Path) -> None:
        data, model = segmenter
        done = cli("predict", model, data / "images" / "case04.nii.gz", "-o", tmp_path / "out", "--uncertainty")
        assert done.returncode == 0, done.stderr
        doubt = nifti.read(tmp_path / "out" / "uncertainty" / "case04.nii.gz").voxels[0]
        labels = nifti.read(tmp_path / "out" / "case04.nii.gz").voxels[0]
        assert 0 <= doubt.min() <= doubt.max() <= 1
        from scipy import ndimage

        inside = ndimage.binary_erosion(labels == 1) | ndimage.binary_erosion(labels == 2)
        edge = (ndimage.binary_dilation(labels > 0)) & ~inside
        assert doubt[edge].mean() > 2 * doubt[inside].mean()
        assert entropy(np.asarray([[1.0, 0.5], [0.0, 0.5]])) == pytest.approx([0.0, 1.0], abs=1e-6)

    def test_the_training_cannot_judge_itself(self, segmenter: tuple[Path, Path], tmp_path: Path) -> None:
        data, model = segmenter
        other = tmp_path / "renamed"
        for name in ("images", "labels"):
            (other / name).mkdir(parents=True)
            for i in (0, 1):
                (other / name / f"x{i}.nii.gz").write_bytes((data / name / f"case{i:02d}.nii.gz").read_bytes())
        with pytest.raises(InputError, match="was trained on 2 of these 2 cases"):
            evaluate(model, other)

    def test_an_image_unlike_the_training_is_marked(self, segmenter: tuple[Path, Path]) -> None:
        _, model = segmenter
        predictor = Predictor(model)
        grid = Geometry.regular((10, 16, 16), spacing_mm=(1.5, 1.0, 1.0))
        odd = np.where(RNG.random((1, 10, 16, 16)) < 0.5, -1.0, 1.0)
        assert [c.level for c in predictor(Volume(odd, grid)).concerns] == ["review"]
        far = Geometry.regular((10, 16, 16), spacing_mm=(15.0, 9.0, 9.0))
        with pytest.raises(InputError, match="the model was trained on"):
            predictor(Volume(odd, far))

    def test_a_tampered_model_is_refused(self, segmenter: tuple[Path, Path], tmp_path: Path) -> None:
        import shutil

        _, model = segmenter
        copy = tmp_path / "copy"
        shutil.copytree(model, copy)
        weights = copy / "model.safetensors"
        data = bytearray(weights.read_bytes())
        data[-5] ^= 1
        weights.write_bytes(bytes(data))
        with pytest.raises(UnreadableFile, match="does not match the hash"):
            load(copy)
        weights.unlink()
        with pytest.raises(InputError, match="the model is not whole"):
            load(copy)

    def test_a_label_that_the_plan_does_not_know(self, segmenter: tuple[Path, Path], tmp_path: Path) -> None:
        data = blobs(tmp_path / "new", 1)
        path = data / "labels" / "case00.nii.gz"
        labels = nifti.read(path)
        voxels = labels.voxels[0].astype(np.uint8)
        voxels[0, 0, 0] = 9
        nifti.write(LabelMap(voxels, labels.geometry, (Label(1, "a"), Label(2, "b"), Label(9, "c"))), path)
        images = data / "images" / "case00.nii.gz"
        other = nifti.read(images)
        nifti.write(
            Volume(other.voxels + RNG.normal(0, 0.01, other.voxels.shape).astype(np.float32), other.geometry), images
        )
        with pytest.raises(InputError, match="label value 9, which the model does not know"):
            evaluate(segmenter[1], data)

    def test_classes_by_the_commands(self, tmp_path: Path) -> None:
        data = stripes(tmp_path / "s.npz")
        model = tmp_path / "model"
        done = cli("train", data, "-o", model, "--network", "cnn", "--set", "schedule.steps=200")
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1].startswith("validation: accuracy")
        assert "plan.json" in done.stderr
        judged = cli("evaluate", model, data, "-o", tmp_path / "ev")
        assert judged.returncode == 0, judged.stderr
        metrics = json.loads((tmp_path / "ev" / "evaluation.json").read_text())["metrics"]
        assert metrics["auc"]["value"] > 0.9
        assert cli("predict", model, data, "-o", tmp_path / "out").returncode == 0
        lines = (tmp_path / "out" / "predictions.csv").read_text().splitlines()
        assert lines[0] == "case,p_0,p_1,predicted,set,note"
        assert len(lines) == 1 + 64 + 24 + 24
        case, p0, p1, predicted, inside, _ = lines[1].split(",")
        assert float(p0) + float(p1) == pytest.approx(1, abs=1e-5)
        assert predicted == str(int(float(p1) >= 0.5))
        assert set(inside.split("|")) <= {"0", "1", ""}
        assert case == "train/0"

    def test_the_same_command_goes_on(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from isocenter.training.images import loop

        data, wish = stripes(tmp_path / "s.npz"), Wish(network="cnn", plan={"schedule.steps": 60, "schedule.batch": 8})
        train_images(data, tmp_path / "whole", wish=wish)
        monkeypatch.setattr(loop, "_SAVE_EVERY_S", 0.0)

        class Killed(Exception):
            pass

        def kill(what: str, step: int, _total: int) -> None:
            if what.startswith("training") and step >= 30:
                raise Killed

        with pytest.raises(Killed):
            train_images(data, tmp_path / "m", wish=wish, on_progress=kill)
        assert not (tmp_path / "m").exists()
        with pytest.raises(InputError, match="unfinished training that was asked for other things"):
            train_images(data, tmp_path / "m", wish=Wish(network="cnn", seed=1, plan={"schedule.steps": 60}))
        said: list[str] = []
        train_images(data, tmp_path / "m", wish=wish, tell=said.append)
        assert any("going on with the unfinished training" in text for text in said)
        weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "m")]
        assert weights[0] == weights[1]
        assert not list(tmp_path.glob(".*unfinished"))

    def test_each_image_is_read_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from isocenter.pipeline import images

        seen: list[str] = []
        real = images.read_images
        monkeypatch.setattr(images, "read_images", lambda sample: seen.append(sample.case) or real(sample))
        data = blobs(tmp_path / "data", 6)
        changes = {"network.settings": {"widths": [4, 8]}, "schedule.steps": 2, "schedule.batch": 2}
        train_images(data, tmp_path / "m", wish=Wish(network="dynamic_unet", plan=changes))
        assert sorted(seen) == [f"case{i:02d}" for i in range(6)]
        reader = images.Reader(10)  # too little for any: each is read again
        sample = open_dataset(data).samples[0]
        assert reader.images(sample) is not reader.images(sample)

    def test_values(self, tmp_path: Path) -> None:
        from PIL import Image

        rows = ["case,image,value,split"]
        for i in range(40):
            Image.fromarray(np.clip(RNG.normal(60 + 3 * i, 10, (16, 16)), 0, 255).astype(np.uint8)).save(
                tmp_path / f"{i}.png"
            )
            rows.append(f"c{i},{i}.png,{i + 0.5},{'test' if i % 5 == 0 else 'val' if i % 5 == 1 else 'train'}")
        (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
        wish = Wish(network="cnn", plan={"schedule.steps": 250, "schedule.batch": 8, "schedule.ema": 0.9})
        train_images(tmp_path / "t.csv", tmp_path / "m", task="regress", wish=wish)
        found = evaluate(tmp_path / "m", tmp_path / "t.csv", tmp_path / "ev")
        assert found.data["n_cases"] == 8
        assert found.data["metrics"]["mae"]["value"] < 8  # a guess of the mean is 10 off

    def test_a_wish_that_cannot_be(self, tmp_path: Path) -> None:
        data, out = stripes(tmp_path / "s.npz"), tmp_path / "m"
        for wished, says in [
            ({}, "how long may it take"),
            ({"wish": Wish(network="unet")}, "does not fit classify"),
            ({"task": "segment"}, "no case has a label map"),
            ({"effort": Effort(device="tpu")}, "there is cpu"),
            ({"effort": Effort(hold_out=4)}, "states splits"),
            ({"effort": Effort(budget_s=0.5)}, "give more time"),
            ({"wish": Wish(plan={"schedule.rate": 1})}, "schedule.rate: is no field"),
        ]:
            with pytest.raises(InputError, match=says):
                train_images(data, out, **wished)
            assert not out.exists()
        for text in ("5", "m", "-3m", "1e99h", ""):
            with pytest.raises(InputError, match="write a time such as"):
                seconds_of(text)
        assert seconds_of("1.5m") == 90

    def test_the_command_refuses(self, tmp_path: Path) -> None:
        done = cli("train", stripes(tmp_path / "s.npz"), "-o", tmp_path / "m", "--set", "schedule.rate")
        assert done.returncode == 2
        assert "write FIELD=VALUE" in done.stderr
        assert not (tmp_path / "m").exists()


class TestMemory:
    def test_a_prediction_stays_within_what_it_may_take(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Seen from outside, in a process of its own; the answer is that of unlimited memory."""
        from benchmarks.inference import peak_of, untrained_model

        model = untrained_model(tmp_path / "m", classes=20, patch=32, widths=(8, 16), norm="instance")
        monkeypatch.setenv("ISOCENTER_CACHE", str(tmp_path))  # nothing was measured before
        shape = (40, 224, 224)
        said, peak, _ = peak_of(model, limit=64 * 2**30, shape=shape)
        limit = 960 * 2**20
        tight, less, _ = peak_of(model, limit=limit, shape=shape)
        assert less <= limit
        assert "half precision" in tight or "tiles" in tight
        assert abs(int(tight.split()[-1]) - int(said.split()[-1])) <= 0.002 * np.prod(shape)
        assert peak > 0

    def test_what_cannot_fit_is_refused(self, tmp_path: Path) -> None:
        from benchmarks.inference import untrained_model

        from isocenter.errors import NotEnoughMemory
        from isocenter.inference.predictor import Running

        model = untrained_model(tmp_path / "m", classes=3, patch=32, widths=(8, 16))
        predictor = Predictor(model, Running(memory=2**28))
        volume = Volume(RNG.normal(size=(1, 32, 64, 64)).astype(np.float32), Geometry.regular((32, 64, 64)))
        with pytest.raises(NotEnoughMemory, match="allow more with --memory, or crop the image"):
            predictor(volume)


class TestTiles:
    @pytest.mark.parametrize(("name", "given"), [("unet", {"widths": (4, 8)}), ("dynamic_unet", {"widths": (4, 8), "norm": "batch"}),
                                                 ("dynamic_unet", {"widths": (4, 8), "norm": "batch", "residual": True})])  # fmt: skip
    def test_tiles_with_halos_are_exact(self, name: str, given: dict) -> None:
        """Tiles give what the network says of the whole image, and the halo is as wide as the network really looks."""
        from isocenter.inference.planner import reach_of
        from isocenter.inference.sliding import softmax, tiles
        from isocenter.inference.torch_runtime import TorchRuntime
        from isocenter.networks.catalogue import build

        torch.manual_seed(0)
        module = build(name, given, channels=1, outputs=3, dims=3).eval()
        for part in module.modules():
            if isinstance(part, torch.nn.BatchNorm3d):
                part.running_mean.normal_()
                part.running_var.uniform_(0.5, 2)
        reach, multiple = reach_of(module)
        forward = TorchRuntime(module)
        image = RNG.normal(size=(1, 50, 21, 67)).astype(np.float32)
        filled = np.pad(image, [(0, 0), *((0, -n % multiple) for n in image.shape[1:])])
        whole = softmax(forward(filled[None]))[0][:, :50, :21, :67]
        found = np.full_like(whole, np.nan)
        parts = list(tiles(forward, image, Windows((3 * reach,) * 3, halo=(reach,) * 3, multiple=multiple), flat=False))
        for core, probability in parts:
            found[(slice(None), *core)] = probability
        assert len(parts) > 1
        assert np.abs(found - whole).max() < 1e-5
        empty = np.zeros((1, 1, *(4 * reach,) * 3), np.float32)
        touched = empty.copy()
        touched[0, 0, 2 * reach, 2 * reach, 2 * reach] = 100
        moved = np.argwhere(np.abs(forward(touched) - forward(empty)).max(axis=(0, 1)) > 1e-9)
        assert np.abs(moved - 2 * reach).max() <= reach

    def test_networks_that_look_at_everything_have_no_reach(self) -> None:
        from isocenter.inference.planner import reach_of
        from isocenter.networks.catalogue import build

        assert reach_of(build("dynamic_unet", {"widths": (4, 8)}, channels=1, outputs=2, dims=2)) is None  # instances
        assert reach_of(build("segresnet", {"first": 8}, channels=1, outputs=2, dims=2)) is None


class TestRuntimes:
    @pytest.mark.parametrize("name", ["torch-bfloat16", "openvino-float32", "openvino-bfloat16", "onnxruntime"])
    def test_each_agrees_with_float32(self, name: str) -> None:
        from isocenter.inference.runtime import runtime
        from isocenter.inference.sliding import softmax
        from isocenter.networks.catalogue import build

        if not name.startswith("torch"):
            pytest.importorskip("openvino" if "openvino" in name else "onnxruntime")
        torch.manual_seed(0)
        module = build("dynamic_unet", {"widths": (4, 8), "norm": "batch"}, channels=1, outputs=3, dims=3).eval()
        windows = RNG.normal(size=(2, 1, 16, 16, 16)).astype(np.float32)
        base = softmax(runtime(module, "torch-float32", windows.shape)(windows))
        found = softmax(runtime(module, name, (1, *windows.shape[1:]))(windows))
        assert np.abs(found - base).max() < (1e-4 if name.endswith(("32", "runtime")) else 0.05)

    def test_one_that_disagrees_is_not_taken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from isocenter.inference import runtime as module

        network = torch.nn.Conv2d(1, 2, 1)
        wrong = lambda _m, _p, _s: lambda x: np.concatenate([x * 0, x * 0 + 9], axis=1)  # noqa: E731
        monkeypatch.setattr(module, "RUNTIMES", {**module.RUNTIMES, "wrong": (wrong, "float32")})
        from isocenter.inference.sliding import softmax

        chosen = module.fastest(
            network,
            RNG.normal(size=(1, 1, 8, 8)).astype(np.float32),
            answer=lambda x: softmax(x.copy()),
            names=("wrong",),
        )
        assert chosen.name == "torch-float32"
        assert "differ too much" in next(t for t in chosen.tried if t.name == "wrong").refused

    def test_what_was_measured_is_remembered(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from isocenter.inference.runner import recall, remember

        monkeypatch.setenv("ISOCENTER_CACHE", str(tmp_path))
        assert recall("a") is None
        remember("a", "torch-bfloat16")
        remember("b", "no such runtime")
        assert (recall("a"), recall("b")) == ("torch-bfloat16", None)
        (tmp_path / "isocenter" / "runtimes.json").write_text("[broken")
        assert recall("a") is None
