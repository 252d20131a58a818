"""Beside one plain training: weights to start from, settings tried, seeds, folds, a learning curve."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
torch.set_num_threads(1)
pytest.importorskip("lightning_fabric")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from isocenter.acquire.datasets import open_dataset  # noqa: E402
from isocenter.data.dataset import Sample, Source  # noqa: E402
from isocenter.data.geometry import Geometry, Space  # noqa: E402
from isocenter.data.volume import Volume  # noqa: E402
from isocenter.errors import InputError, UnreadableFile  # noqa: E402
from isocenter.inference.model import load  # noqa: E402
from isocenter.inference.predictor import Predictor  # noqa: E402
from isocenter.networks.catalogue import build  # noqa: E402
from isocenter.pipeline import image_judgement  # noqa: E402
from isocenter.pipeline.image_material import Effort, Material  # noqa: E402
from isocenter.pipeline.image_training import _asked, train_images  # noqa: E402
from isocenter.pipeline.images import twins_of  # noqa: E402
from isocenter.pipeline.judgement import evaluate  # noqa: E402
from isocenter.training.images import budget  # noqa: E402
from isocenter.training.images.budget import _looks  # noqa: E402
from isocenter.training.images.choose import Wish, first_plan  # noqa: E402
from isocenter.training.images.course import Ways  # noqa: E402
from isocenter.training.images.division import fold_of, person_of, some_patients  # noqa: E402
from isocenter.training.images.fingerprint import Fingerprint  # noqa: E402
from isocenter.training.images.loop import fresh_network, learn, some_of  # noqa: E402
from isocenter.training.images.plan import Plan, plan_of  # noqa: E402
from isocenter.training.images.start import Start, read_start, take_over  # noqa: E402
from isocenter.training.images.store import Item, Store  # noqa: E402
from isocenter.training.images.trials import Trial, halved, read_trials, variant  # noqa: E402
from isocenter.training.leaks import Item as LeakItem  # noqa: E402
from isocenter.training.leaks import check  # noqa: E402
from tests.command import cli  # noqa: E402
from tests.test_image_learning import blobs, pictures, plan_for_pictures, stripes  # noqa: E402

SMALL = {"schedule.batch": 8, "network.settings": {"widths": [4, 8], "dense": [8]}}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stripes(tmp_path_factory.mktemp("ways") / "s.npz")


class TestTrials:
    def test_every_combination(self) -> None:
        found = read_trials(["lr=1e-3,3e-4", "widths=[4,8],[8,16]"])
        assert [t.changes["schedule.learning_rate"] for t in found] == [1e-3, 1e-3, 3e-4, 3e-4]
        assert found[1].changes["network.settings.widths"] == [8, 16]

    def test_refusals(self) -> None:
        for text in ("lr", "=1", "lr="):
            with pytest.raises(InputError, match="--try"):
                read_trials([text])
        with pytest.raises(InputError, match="decides what the network sees"):
            read_trials(["patch=[8,8],[16,16]"])
        with pytest.raises(InputError, match="at most 64"):
            read_trials(["lr=" + ",".join(["1e-3"] * 9), "decay=" + ",".join(["0.1"] * 9)])
        with pytest.raises(InputError, match="learning_rate"):
            variant(plan_for_pictures(), {"schedule.learning_rate": -1})

    def test_depth_of_either_kind(self) -> None:
        plan = plan_for_pictures()
        assert variant(plan, {"depth": 2}).network.settings["depth"] == 2
        unet = plan.changed(network={"name": "resnet", "settings": {"widths": (8, 16), "blocks": (1, 1)}})
        deeper = variant(unet, {"depth": 4}).network.settings
        assert deeper["widths"] == (8, 16, 32, 64)
        assert deeper["blocks"] == (1, 1, 1, 1)
        build("resnet", {**deeper, "stem": "small"}, channels=1, outputs=2, dims=2)

    @given(st.lists(st.floats(0, 1), min_size=1, max_size=17, unique=True))
    @settings(deadline=None)
    def test_the_best_wins_and_the_time_is_kept(self, worth: list[float]) -> None:
        spent = []

        def run(trial: Trial, share: float, _round: int) -> float:
            spent.append(share)
            return worth[int(trial.name)]

        best, told = halved([Trial(str(i), {}) for i in range(len(worth))], run)
        assert worth[int(best.name)] == max(worth)
        assert sum(spent) == pytest.approx(1)
        assert len(told) == len(spent)


class TestStart:
    def test_by_name_and_shape(self) -> None:
        one = build("cnn", {"widths": (4, 8), "dense": (8,)}, channels=1, outputs=5, dims=2)
        other = build("cnn", {"widths": (4, 8), "dense": (8,)}, channels=1, outputs=2, dims=2)
        given_names = {f"module.{name}": value for name, value in one.state_dict().items()}
        taken = take_over(other, Start(given_names, None, {}), freeze="all")
        assert torch.equal(other.state_dict()["features.0.weight"], one.state_dict()["features.0.weight"])
        assert all(name.startswith("classifier.") for name in taken.fresh)
        assert len(taken.fresh) == 2
        assert set(taken.unused) == set(taken.fresh)
        assert not any(name in taken.fresh for name in taken.frozen)
        with pytest.raises(InputError, match="fits this network by name and shape"):
            take_over(other, Start({"x": torch.zeros(2)}, None, {}))

    def test_colour_is_summed_for_grey(self) -> None:
        one = build("resnet18", {}, channels=3, outputs=2, dims=2)
        grey = build("resnet18", {}, channels=1, outputs=2, dims=2)
        taken = take_over(grey, Start(one.state_dict(), None, {}))
        assert not taken.fresh
        assert torch.allclose(grey.conv1.weight, one.conv1.weight.sum(1, keepdim=True))

    def test_what_is_frozen_stays(self) -> None:
        plan = plan_for_pictures(network={"name": "cnn", "settings": {"widths": [4, 8], "dense": [8], "norm": "batch"}})
        network = fresh_network(plan)
        before = {name: value.clone() for name, value in network.state_dict().items()}
        taken = take_over(network, Start(before, None, {}), freeze="all")
        found = learn(plan.changed(frozen=taken.frozen), pictures(), pictures(8, seed=1), network=network)
        after = found.network.state_dict()
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        assert moved == {"classifier.3.weight", "classifier.3.bias"}  # statistics of the frozen layers stay too
        names = tuple(name for name, _ in network.named_parameters())
        with pytest.raises(InputError, match="nothing is left to learn"):
            learn(plan.changed(frozen=names), pictures(), pictures(8), network=network)
        with pytest.raises(InputError, match="does not have"):
            learn(plan.changed(frozen=("nobody",)), pictures(), pictures(8))

    def test_from_a_model_and_from_files(self, archive: Path, tmp_path: Path) -> None:
        train_images(archive, tmp_path / "one", wish=Wish(network="cnn", plan={**SMALL, "schedule.steps": 60}))
        said: list[str] = []
        made = train_images(
            archive, tmp_path / "two", wish=Wish(plan={"schedule.steps": 2, "schedule.learning_rate": 1e-9}),
            effort=Effort(start=str(tmp_path / "one")), tell=said.append,
        )  # fmt: skip
        assert made.card.network["network"]["name"] == "cnn"
        assert any("weights were taken over" in text for text in said)
        one, two = (load(tmp_path / name).modules[0].state_dict() for name in ("one", "two"))
        assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)
        assert made.card.training["start"]["model"] == "one"
        bare = tmp_path / "weights.safetensors"
        bare.write_bytes((tmp_path / "one" / "model.safetensors").read_bytes())
        assert set(read_start(bare).tensors) == set(one)
        third = train_images(
            archive, tmp_path / "three", wish=Wish(network="cnn", plan={**SMALL, "schedule.steps": 2}),
            effort=Effort(start=str(bare), freeze="half"),
        )  # fmt: skip
        assert third.card.training["start"]["frozen"] > 0
        assert "weights.safetensors" in (tmp_path / "three" / "training.html").read_text()
        bundle = tmp_path / "bundle"
        (bundle / "configs").mkdir(parents=True)
        (bundle / "models").mkdir()
        torch.save({"state_dict": one}, bundle / "models" / "model.pt")
        assert set(read_start(bundle).tensors) == set(one)
        (tmp_path / "bad.pt").write_bytes(b"x")
        with pytest.raises(InputError, match="may run"):
            read_start(tmp_path / "bad.pt")
        bare.write_bytes(b"junk")
        with pytest.raises(UnreadableFile, match="no weights that can be read"):
            read_start(bare)
        torch.save({"state_dict": print}, bundle / "models" / "model.pt")
        with pytest.raises(UnreadableFile, match="more than weights"):
            read_start(bundle)


class TestPlansAndWishes:
    def test_a_plan_takes_wishes_or_refuses_them(self, archive: Path, tmp_path: Path) -> None:
        train_images(archive, tmp_path / "one", wish=Wish(network="cnn", plan={**SMALL, "schedule.steps": 4}))
        effort = Effort(plan=tmp_path / "one" / "plan.json")
        made = train_images(
            archive, tmp_path / "two", wish=Wish(seed=7, plan={"schedule.learning_rate": 0.05}), effort=effort
        )
        plan = json.loads((tmp_path / "two" / "plan.json").read_text())
        assert (plan["seed"], plan["schedule"]["learning_rate"]) == (7, 0.05)
        assert made.card.lineage["plan"]["seed"] == 7
        with pytest.raises(InputError, match="--plan names its network"):
            train_images(archive, tmp_path / "x", wish=Wish(network="resnet"), effort=effort)
        with pytest.raises(InputError, match="no weights to keep"):
            train_images(archive, tmp_path / "x", wish=Wish(network="cnn"), effort=Effort(freeze="all"))

    def test_other_steps_are_another_course(self) -> None:
        plan = plan_for_pictures(schedule={"steps": 1000, "turns": ((50, 2000),)})
        assert plan.changed(schedule={"steps": 200}).schedule.turns == ()
        assert plan.changed(seed=2).schedule.turns == ((50, 2000),)


class TestWays:
    def test_what_diverges_is_not_taken(self, archive: Path, tmp_path: Path) -> None:
        said: list[str] = []
        made = train_images(
            archive, tmp_path / "m", wish=Wish(network="cnn", plan={**SMALL, "schedule.steps": 40, "schedule.optimiser": "sgd"}),
            effort=Effort(ways=Ways(trials=("lr=9.9,1e-2",))), tell=said.append,
        )  # fmt: skip
        assert json.loads((tmp_path / "m" / "plan.json").read_text())["schedule"]["learning_rate"] == 1e-2
        rows = made.card.training["tried"]
        assert rows[0]["goodness"] is None or rows[0]["goodness"] < rows[1]["goodness"]
        best, told = halved([Trial("a", {}), Trial("b", {}), Trial("c", {})], lambda t, _s, _n: {"a": 0.5, "b": np.nan, "c": 0.9}[t.name])  # fmt: skip
        assert best.name == "c"
        assert told[1]["goodness"] is None

    def test_too_few_to_tell(self, tmp_path: Path) -> None:
        data = blobs(tmp_path / "data", 6)
        changes = {"network.settings": {"widths": [4, 8]}, "schedule.steps": 12, "schedule.batch": 2}
        made = train_images(data, tmp_path / "m", wish=Wish(network="dynamic_unet", plan=changes), effort=Effort(ways=Ways(curve=True)))  # fmt: skip
        assert made.card.training["learning_curve"]["low"] is None
        assert "too few to tell" in (tmp_path / "m" / "training.html").read_text()

    def test_settings_are_tried_on_half_of_the_steps(self, archive: Path, tmp_path: Path) -> None:
        made = train_images(
            archive, tmp_path / "m", wish=Wish(network="cnn", plan={**SMALL, "schedule.steps": 120}),
            effort=Effort(ways=Ways(trials=("lr=1e-9,5e-3", "dropout=0.0,0.1"))),
        )  # fmt: skip
        plan = json.loads((tmp_path / "m" / "plan.json").read_text())
        assert plan["schedule"]["learning_rate"] == 5e-3
        assert plan["schedule"]["steps"] == 60
        rows = made.card.training["tried"]
        assert [row["round"] for row in rows] == [1, 1, 1, 1, 2, 2]
        assert "Settings tried" in (tmp_path / "m" / "training.html").read_text()

    def test_seeds_say_what_is_luck(self, archive: Path, tmp_path: Path) -> None:
        wish = Wish(network="cnn", plan={**SMALL, "schedule.steps": 90})
        made = train_images(archive, tmp_path / "m", wish=wish, effort=Effort(ways=Ways(seeds=3, ensemble=True)))
        assert [row["seed"] for row in made.card.training["seeds"]] == [0, 1, 2]
        assert made.card.training["spread"]["accuracy"]["deviation"] >= 0
        model = load(tmp_path / "m")
        assert len(model.modules) == 3
        assert evaluate(tmp_path / "m", archive).data["n_cases"] == 24

    def test_folds_judge_every_case_by_a_network_that_did_not_see_it(self, archive: Path, tmp_path: Path) -> None:
        wish = Wish(network="cnn", plan={**SMALL, "schedule.steps": 120, "schedule.learning_rate": 5e-3})
        made = train_images(archive, tmp_path / "m", wish=wish, effort=Effort(ways=Ways(folds=4)))
        assert made.evaluation.data["n_cases"] == 88  # train and val, each once
        assert made.evaluation.data["split"] == "out-of-fold"
        assert made.card.conformal["calibrated_on"] == "out-of-fold"
        assert len(load(tmp_path / "m").modules) == 4

    def test_a_learning_curve(self, tmp_path: Path) -> None:
        data = blobs(tmp_path / "data", 36)
        changes = {"network.settings": {"widths": [8, 16], "norm": "batch"}, "schedule.steps": 60, "schedule.batch": 2}
        wish = Wish(network="dynamic_unet", plan=changes)
        made = train_images(data, tmp_path / "m", wish=wish, effort=Effort(ways=Ways(curve=True)))
        told = made.card.training["learning_curve"]
        assert [row["cases"] for row in told["rows"]] == [8, 16, 31]
        assert told["low"] <= told["gain_of_doubling"] <= told["high"]
        assert told["verdict"] in (tmp_path / "m" / "training.html").read_text()

    def test_one_at_a_time(self) -> None:
        with pytest.raises(InputError, match="one of them at a time"):
            Ways(seeds=2, folds=3)

    def test_by_the_command(self, archive: Path, tmp_path: Path) -> None:
        base = ["train", str(archive), "-o", str(tmp_path / "m"), "--network", "cnn", "--set", "batch=8"]
        done = cli(*base, "--set", "schedule.steps=40", "--folds", "2", "--one")
        assert done.returncode == 0, done.stderr
        assert len(load(tmp_path / "m").modules) == 1
        again = cli(*base, "--force", "--set", "schedule.steps=6", "--from", str(tmp_path / "m"), "--freeze", "most")
        assert again.returncode == 2
        assert "--freeze most" in again.stderr
        again = cli(*base, "--force", "--set", "schedule.steps=6", "--try", "lr=1,x")
        assert again.returncode == 2
        assert "learning_rate" in again.stderr


class TestDivision:
    @given(st.integers(2, 5), st.integers(0, 99))
    @settings(deadline=None, max_examples=30)
    def test_patients_are_whole_and_classes_even(self, folds: int, seed: int) -> None:
        samples = [
            Sample(f"c{i}", (Source(Path(f"{i}")),), patient=f"p{i // 2}", target="ab"[(i // 2) % 2]) for i in range(48)
        ]
        numbers = fold_of(samples, folds, seed=seed, twins=[("c0", "c10")])
        where = {}
        for sample, number in zip(samples, numbers, strict=True):
            assert where.setdefault(person_of(sample), number) == number
        assert numbers[0] == numbers[10]
        counts = np.asarray([[sum(n == f and s.target == t for n, s in zip(numbers, samples, strict=True)) for t in "ab"] for f in range(folds)])  # fmt: skip
        assert counts.max() - counts.min() <= 6

    def test_a_smaller_share_is_part_of_a_larger(self) -> None:
        samples = [Sample(f"c{i}", (Source(Path(f"{i}")),), patient=f"p{i // 3}") for i in range(30)]
        quarter, half = (set(some_patients(samples, share, seed=3)) for share in (0.25, 0.5))
        assert quarter < half
        assert len(half) == 15


class TestTextbook:
    """The networks of a textbook, each by one command on pictures of its size; the page shows code beside formula."""

    @pytest.mark.parametrize(
        ("network", "edge", "channels", "formulas"),
        [
            ("cnn", 28, 1, ("Σ<sub>c</sub>", "y = max(0, x)", "y = W x + b", "max over q")),
            ("cnn", 64, 3, ("Σ<sub>c</sub>", "y = W x + b")),
            ("alexnet", 224, 3, ("Σ<sub>c</sub>", "with chance p")),
            ("resnet18", 224, 3, ("γ · (x − μ)",)),
        ],
    )
    def test_a_classifier(self, tmp_path: Path, network: str, edge: int, channels: int, formulas: tuple) -> None:
        from PIL import Image

        rng = np.random.default_rng(0)
        for i in range(12):
            folder = tmp_path / "data" / ("dark", "light")[i % 2]
            folder.mkdir(parents=True, exist_ok=True)
            shape = (32, 32) if channels == 1 else (32, 32, 3)
            grey = rng.integers(0, 100, shape) + 120 * (i % 2)
            Image.fromarray(grey.astype(np.uint8)).save(folder / f"{i}.png")
        steps = ["--set", "schedule.steps=2", "--set", "batch=2", "--set", f"preparation.size=[{edge},{edge}]"]
        done = cli("train", tmp_path / "data", "--network", network, "-o", tmp_path / "m", *steps)
        assert done.returncode == 0, done.stderr
        plan = json.loads((tmp_path / "m" / "plan.json").read_text())
        assert plan["patch"] == [edge, edge]
        assert plan["preparation"]["channels"] == channels
        page = (tmp_path / "m" / "training.html").read_text()
        for text in (*formulas, "log p<sub>k</sub>", "nn.Conv2d", "class "):
            assert text in page, text

    def test_a_u_net(self, tmp_path: Path) -> None:
        from PIL import Image

        rng = np.random.default_rng(0)
        for i in range(8):
            mask = np.zeros((48, 48), np.uint8)
            mask[10 : 20 + i, 12:30] = 255
            for name, picture in (("images", mask // 2 + rng.integers(0, 60, mask.shape)), ("masks", mask)):
                (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture.astype(np.uint8)).save(tmp_path / "data" / name / f"{i}.png")
        done = cli("train", tmp_path / "data", "--network", "unet", "-o", tmp_path / "m", "--set", "schedule.steps=2", "--set", 'network.settings={"widths": [8, 16]}')  # fmt: skip
        assert done.returncode == 0, done.stderr
        page = (tmp_path / "m" / "training.html").read_text()
        for text in ("2 Σ p t + 1", "nn.MaxPool2d", "class UNet"):
            assert text in page, text


class TestLooks:
    """Judging is part of the budget."""

    @staticmethod
    def material(count: int) -> tuple[Plan, Store]:
        plan = plan_of({
            "task": "segment", "labels": {1: "a"}, "patch": (32, 32), "preparation": {"dims": 2}, "network": {"name": "dynamic_unet", "settings": {"widths": (4, 8)}},
            "loss": {"name": "dice"},
        }, "p")  # fmt: skip
        rng = np.random.default_rng(0)
        items = [
            Item(Sample(str(i), (Source(Path(str(i))),)), rng.normal(size=(1, 1, 64, 64)).astype(np.float32), np.nan,
                 rng.integers(0, 2, (1, 64, 64)).astype(np.uint8), (np.array([[0, 9, 9]]),))
            for i in range(count)
        ]  # fmt: skip
        return plan, Store(tuple(items))

    def test_enough_time_judges_as_many_training_cases(self) -> None:
        plan, store = self.material(6)
        told, look, last = _looks(plan, store, store, 1e6, "cpu")
        assert told.training_cases_judged == 0
        assert 0 < look < last

    def test_little_time_judges_fewer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """By a clock on which each look takes a second."""
        ticks = itertools.count()
        monkeypatch.setattr(budget, "time", SimpleNamespace(monotonic=lambda: float(next(ticks))))
        plan, store = self.material(6)
        _, _, last = _looks(plan, store, store, 1e6, "cpu")
        each = last / 1.2 / 12
        told, _, shorter = _looks(plan, store, store, 6 * each * 2.6, "cpu")
        assert 1 <= told.training_cases_judged < 6
        assert shorter < 1.5 * last

    def test_too_little_time_is_refused_with_what_is_needed(self) -> None:
        plan, store = self.material(6)
        with pytest.raises(InputError, match=r"judging the 6 validation cases takes about .* give .*m or more"):
            _looks(plan, store, store, 1e-6, "cpu")

    def test_training_cases_are_drawn_from_all(self) -> None:
        _, store = self.material(40)
        names = [int(item.sample.case) for item in some_of(store, 10, 0).items]
        assert len(names) == 10
        assert max(names) > 20


class TestWishesStay:
    @pytest.fixture(scope="class")
    def plans(self) -> tuple[Plan, Store]:
        return plan_for_pictures(network={"name": "resnet"}, schedule={"steps": 0, "batch": 8}), pictures()

    @pytest.mark.parametrize(
        ("wished", "given"),
        [
            ({"network.settings.dropout": 0.3, "precision": "float32", "schedule.batch": 8}, False),
            ({}, True),
        ],
    )
    def test_the_budget_changes_nothing_that_was_asked_for(
        self, plans: tuple[Plan, Store], wished: dict, given: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """However the machine is measured: a wish, and a plan of one's own, are kept."""
        plan, store = plans
        plan = variant(plan, {k: v for k, v in wished.items() if k.startswith("network")})
        monkeypatch.setattr(
            budget, "seconds_per_step", lambda one, *_a, **_k: 0.01 if one.precision == "bfloat16" else 1.0
        )
        found, _ = budget.fitted_to(plan, store, store.only([0, 1]), 60.0, Wish(plan=wished), given=given)
        assert found.network == plan.network
        assert found.precision == "float32"
        assert found.schedule.batch == 8
        assert found.schedule.steps > 0

    def test_a_wider_network_keeps_its_settings(self) -> None:
        plan = plan_for_pictures(network={"name": "resnet", "settings": {"dropout": 0.3}})
        assert all(one.network.settings["dropout"] == 0.3 for one in budget._wider(plan))

    def test_sequences_are_seen_fewer_at_a_time_where_steps_are_few(self) -> None:
        plan = plan_for_pictures(network={"name": "recurrent"}, frames=16)
        assert [one.schedule.batch for one in budget._cheaper(plan)] == [4, 2]
        assert not budget._cheaper(plan, smaller_batch=False)

    def test_steps_and_a_budget_do_not_go_together(self, archive: Path, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"schedule\.steps are stated"):
            train_images(archive, tmp_path / "m", wish=Wish(plan={"schedule.steps": 5}), effort=Effort(budget_s=60))


class TestTwins:
    def test_they_are_known_by_their_case_where_splits_are_stated(self) -> None:
        samples = [Sample(name, (), split=part) for name, part in (("a", "train"), ("b", "train"), ("c", "test"))]
        items = [LeakItem(s.case, s.split, "", "same" if s.case in "ab" else "other") for s in samples]
        assert twins_of(check(items, kind="image", near=False), samples) == [("a", "b")]
        folds = fold_of(samples[:2] + [Sample(f"d{i}", ()) for i in range(6)], 2, seed=0, twins=[("a", "b")])
        assert folds[0] == folds[1]


class TestHeldBack:
    @pytest.fixture(scope="class")
    def trained(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        folder = tmp_path_factory.mktemp("held")
        blobs(folder / "own")
        wish = Wish(plan={"schedule.steps": 2, "schedule.batch": 2, "network.settings": {"widths": [4, 8]}})
        train_images(folder / "own", folder / "m", wish=wish, effort=Effort(hold_out=4))
        return folder

    def test_its_own_data_are_judged_by_those_held_back(self, trained: Path) -> None:
        found = evaluate(trained / "m", trained / "own")
        assert found.data["n_cases"] == 3
        assert any("held back" in str(note) for note in found.notes)

    def test_strangers_are_all_judged(self, trained: Path) -> None:
        """Another hospital's cases were not held back by anybody: every one of them counts."""
        blobs(trained / "theirs", count=9, shape=(10, 16, 18))
        found = evaluate(trained / "m", trained / "theirs")
        assert found.data["n_cases"] == 9
        assert not any("held back" in str(note) for note in found.notes)


def test_another_question_is_another_training(tmp_path: Path) -> None:
    """A killed training goes on only if labels, columns and the files of the truth are the same."""
    samples = (Sample("a", (), targets=("1", "2"), groups={"age": "3"}), Sample("b", (), targets=("1", "4")))

    def asked(change: Sample | None = None, **how: object) -> str:
        found = object.__new__(Material)
        own = samples[:1] if change is None else (change,)
        sides = {"train": SimpleNamespace(samples=own), "val": SimpleNamespace(samples=samples[1:])}
        for name, value in {**sides, "items": [], "task": "regress"}.items():
            object.__setattr__(found, name, value)
        return _asked(found, Effort(**how), Wish(), None)  # type: ignore[arg-type]

    mask = tmp_path / "mask.png"
    mask.write_bytes(b"one")
    drawn = replace(samples[0], mask=Source(mask))
    seen = [asked(), asked(target="size"), asked(replace(samples[0], targets=("1", "3"))), asked(beside=("age",)),
            asked(replace(samples[0], times=(0.0, 1.0))), asked(drawn)]  # fmt: skip
    mask.write_bytes(b"another")
    seen.append(asked(drawn))
    assert len(set(seen)) == len(seen)
    assert asked() == seen[0]


def test_whole_volumes_lie_as_the_patient_does(tmp_path: Path) -> None:
    """Volumes of one shape that were stored along other axes are seen alike."""
    one = {"least": 0.0, "low": 0.0, "mean": 0.0, "deviation": 1.0, "high": 1.0, "most": 1.0}
    seen = Fingerprint(
        4, None, ((20, 30, 40),) * 4, ((1.0, 1.0, 1.0),) * 4, 1, "arbitrary", whole_numbers=False, intensity=(one,),
        classes={"a": 2, "b": 2}, oriented=((40, 30, 20),) * 4,
    )  # fmt: skip
    how = first_plan(seen, "classify", Wish(), channels=("image",)).preparation
    assert (how.orient, how.size) == (True, (40, 30, 20))
    frames = first_plan(replace(seen, frames=(4, 4, 4, 4)), "classify", Wish(), channels=("image",)).preparation
    assert frames.orient
    assert frames.size == (40, 32, 24)[:1] + tuple(round(n / 8) * 8 for n in (30, 20))
    flat = first_plan(replace(seen, spacings=(), oriented=()), "classify", Wish(), channels=("image",)).preparation
    assert (flat.orient, flat.size) == (False, (20, 30, 40))


def test_columns_beside_an_image_do_not_close_the_gate(tmp_path: Path) -> None:
    """The ranges of the training are those of the images alone, however many columns stand beside them."""
    from PIL import Image

    rng = np.random.default_rng(0)
    rows = ["image,label,age"]
    for i in range(24):
        Image.fromarray(rng.integers(90, 160, (16, 16), dtype=np.uint8)).save(tmp_path / f"{i}.png")
        rows.append(f"{i}.png,{'ab'[i % 2]},{30 + i}")
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n", "utf-8")
    wish = Wish(plan={"schedule.steps": 2, "schedule.batch": 4})
    train_images(
        tmp_path / "t.csv", tmp_path / "m", wish=wish, effort=Effort(beside=("age",), allow_leaks=("near-image",))
    )
    bright = Volume(np.full((1, 1, 16, 16), 250, np.uint8), Geometry.regular((1, 16, 16), space=Space.PIXELS))
    answer = Predictor(tmp_path / "m")(bright, "x", {"age": "40"})
    assert any("brighter or darker" in c.text for c in answer.concerns)


def test_stated_splits_that_part_no_patients_can_be_set_aside(tmp_path: Path) -> None:
    """Every patient stands on both sides: refused, nothing is left without the leaks, and whole patients part anew."""
    from PIL import Image

    rng = np.random.default_rng(0)
    rows = ["image,label,patient,split"]
    for i in range(32):
        Image.fromarray(rng.integers(90, 160, (16, 16), dtype=np.uint8)).save(tmp_path / f"{i}.png")
        rows.append(f"{i}.png,{'ab'[i % 2]},p{i // 4},{'val' if i % 4 > 1 else 'train'}")
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n", "utf-8")
    data, model = tmp_path / "t.csv", tmp_path / "m"
    wish = Wish(plan={"schedule.steps": 2, "schedule.batch": 4})
    with pytest.raises(InputError, match=r"8 leaks between splits .* --resplit parts the patients anew"):
        train_images(data, model, wish=wish, effort=Effort(allow_leaks=("near-image",)))
    with pytest.raises(InputError, match="leaves none to learn from; --resplit"):
        train_images(data, model, wish=wish, effort=Effort(drop_leaks=True, allow_leaks=("near-image",)))
    with pytest.raises(InputError, match="--resplit sets them aside"):
        train_images(data, model, wish=wish, effort=Effort(hold_out=4))
    made = train_images(data, model, wish=wish, effort=Effort(hold_out=4, resplit=True))
    card = load(model).card
    # Each patient has cases of both classes, but counts once: here all happen to be of one class.
    assert "not calibrated: the 1 patients" in made.warnings[0]
    assert card.operating_point == {"threshold": 0.5, "criterion": "probability 0.5", "chosen_on": "stated"}
    assert card.training["splits"]["test"] == 8
    chosen = image_judgement.test_cases(open_dataset(data), card.training, None, notes := [])
    assert sorted({s.patient for s in chosen.samples}) == ["p3", "p7"]
    assert "one patient of every 4" in str(notes[0])
    with pytest.raises(InputError, match="was trained on"):
        image_judgement.test_cases(open_dataset(data), card.training, "train", [])
    others = replace(open_dataset(data), samples=chosen.samples)
    assert len(image_judgement.test_cases(others, card.training, None, []).samples) == 8
