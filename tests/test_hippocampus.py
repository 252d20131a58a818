"""The network that ships: on the average brain, on its mirror image, on a real head."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
torch.set_num_threads(1)
pytest.importorskip("safetensors")

from isocenter.acquire.case import open_case  # noqa: E402
from isocenter.data.labels import LabelMap  # noqa: E402
from isocenter.data.volume import Volume  # noqa: E402
from isocenter.errors import DegenerateImage, InputError  # noqa: E402
from isocenter.formats import mni152, model_folder  # noqa: E402
from isocenter.inference.model import load  # noqa: E402
from isocenter.inference.predictor import Predictor  # noqa: E402
from isocenter.segment import Brain, Hippocampus, brain, hippocampus  # noqa: E402
from isocenter.segment.hippocampus import LABELS  # noqa: E402
from isocenter.training.images.plan import read_plan  # noqa: E402
from isocenter.zoo import model_path, names  # noqa: E402
from tests.command import cli  # noqa: E402

SIDES = [("left", (1, 2)), ("right", (3, 4))]


@pytest.fixture(scope="module")
def head() -> tuple[Volume, LabelMap, LabelMap]:
    """The average brain, its mask, and its hippocampi."""
    volume = mni152.t1()
    mask = brain(volume, Brain())
    return volume, mask, hippocampus(volume, mask, Hippocampus())


def volumes(found: LabelMap) -> dict[str, float]:
    return {side: float(np.isin(found.voxels, values).sum()) / 1000 for side, values in SIDES}


class TestShipped:
    def test_it_is_small_and_states_itself(self) -> None:
        assert "hippocampus" in names()
        folder = model_path("hippocampus")
        assert sum(p.stat().st_size for p in folder.iterdir()) < 6e6
        card = model_folder.read_card(folder)
        assert card.licence == "CC BY-SA 4.0"
        assert "Decathlon" in str(card.training["data"])
        assert card.training["licence"] == "CC BY-SA 4.0"
        assert "whole heads" in card.limits
        dice = card.metrics["test"]["metrics"]["dice"]
        assert dice["value"] > 0.87
        assert dice["low"] < dice["value"] < dice["high"]
        assert card.metrics["test"]["n_cases"] == 37
        assert set(card.conformal["log_volume_reach"]) == {
            "anterior hippocampus",
            "posterior hippocampus",
            "all labels",
        }
        plan = read_plan(folder / "plan.json")
        assert plan.spec.model_dump(mode="json")["network"] == card.network["network"]
        assert load(folder).modules

    def test_names_that_are_no_model(self) -> None:
        with pytest.raises(InputError, match="hippocampus"):
            model_path("hypocampus")


class TestTheAverageBrain:
    def test_both_sides_are_found_and_alike(self, head: tuple) -> None:
        """The template is symmetric, so its sides are alike but for how the crop falls."""
        volume, _, found = head
        size = volumes(found)
        assert 3 < size["left"] < 6
        assert size["left"] == pytest.approx(size["right"], rel=0.05)
        for side, values in SIDES:
            at = np.argwhere(np.isin(found.voxels, values)).mean(axis=0)
            x = float(volume.geometry.index_to_world(at[None])[0, 0])
            assert 20 < (x if side == "left" else -x) < 35  # LPS: left is positive
            front, back = (
                volume.geometry.index_to_world(np.argwhere(found.voxels == v).mean(axis=0)[None])[0, 1] for v in values
            )
            assert front < back - 8  # anterior lies in front
        told = found.history[-1].results
        assert told["left"]["shift_mm"] < 10
        assert {lb.name for lb in found.labels} == {lb.name for lb in LABELS}

    def test_a_mirrored_head_has_its_sides_exchanged(self, head: tuple) -> None:
        volume, mask, found = head
        # The left half is made different: its hippocampus is moved by thinning one side's crop.
        grid = volume.grid.copy()
        mirrored = replace(volume, voxels=np.ascontiguousarray(grid[:, :, ::-1])[None])
        assert np.allclose(volume.geometry.affine[0, 3], -volume.geometry.index_to_world(
            np.asarray([[0.0, 0.0, volume.geometry.shape[2] - 1]]))[0, 0], atol=1.0)  # fmt: skip
        other = hippocampus(mirrored, mask, Hippocampus())
        exchanged = np.asarray([0, 3, 4, 1, 2])[other.voxels[:, :, ::-1]]
        both = (exchanged > 0) & (found.voxels > 0)
        assert np.mean(exchanged[both] == found.voxels[both]) > 0.97
        assert 2 * both.sum() / ((exchanged > 0).sum() + (found.voxels > 0).sum()) > 0.95

    def test_finer_voxels_say_the_same(self, head: tuple) -> None:
        volume, mask, found = head
        from isocenter.ops.resample import resample

        finer = np.diag([0.8, 0.8, 0.8, 1.0])
        affine = volume.geometry.affine @ finer
        shape = tuple(int(n / 0.8) for n in volume.geometry.shape)
        geometry = replace(volume.geometry, shape=shape, affine=affine)
        voxels = resample(volume.grid, affine=volume.geometry.affine, to_shape=shape, to_affine=affine)
        labels = LabelMap(np.zeros(shape, np.uint8), geometry, mask.labels, mask.history)
        again = hippocampus(Volume(voxels[None], geometry), labels, Hippocampus())
        size = {side: float(np.isin(again.voxels, v).sum()) * 0.8**3 / 1000 for side, v in SIDES}
        for side in ("left", "right"):
            assert size[side] == pytest.approx(volumes(found)[side], rel=0.06)


class TestRefusals:
    def test_labels_of_another_step(self, head: tuple) -> None:
        volume, mask, _ = head
        with pytest.raises(InputError, match="segment: brain"):
            hippocampus(volume, replace(mask, history=()), Hippocampus())

    def test_a_place_without_one(self, head: tuple) -> None:
        volume, mask, _ = head
        step = mask.history[-1]
        matrix = np.asarray(step.results["matrix"])
        matrix[2, 3] += 45  # the registration was 45 mm off
        wrong = replace(mask, history=(replace(step, results={**step.results, "matrix": matrix.tolist()}),))
        with pytest.raises(DegenerateImage, match="hippocampus"):
            hippocampus(volume, wrong, Hippocampus())

    def test_a_whole_head_is_not_given_to_the_model_itself(self, head: tuple) -> None:
        volume, _, _ = head
        answer = Predictor("hippocampus")(volume)
        assert any("field of view" in c.text for c in answer.concerns)  # it was trained on crops


def test_a_real_head(real_data, tmp_path: Path) -> None:
    done = cli("run", "hippocampus", real_data("head_mr"), "-o", tmp_path, "--lang", "zh")
    assert done.returncode == 0, done.stderr
    folder = next(tmp_path.iterdir())
    said = json.loads((folder / "report.json").read_text("utf-8"))
    assert said["verdict"] == "review"
    assert said["checks"]["not_validated_on_whole_heads"] == "not validated"
    sizes = {f["statement"]: f for f in said["findings"]}
    for side in ("left", "right"):
        found = sizes[f"Volume of {side} hippocampus"]
        assert 2 < found["value"] < 5
        assert found["interval"][0] < found["value"] < found["interval"][1]
        share = sizes[f"{side} hippocampus in the intracranial volume"]
        assert 1 < share["value"] < 5
    page = (folder / "report.html").read_text("utf-8")
    assert "尚未在完整头部图像上验证" in page
    assert "percentile" not in page
    assert (folder / "hippocampi.dcm").is_file()


def test_the_demo(tmp_path: Path) -> None:
    done = cli("demo", "-o", tmp_path / "d")
    assert done.returncode == 0, done.stderr
    assert "left hippocampus" in done.stdout
    assert (tmp_path / "d" / "mni152-hippocampus" / "report.html").is_file()


def test_the_command_takes_its_name(tmp_path: Path) -> None:
    case = open_case(mni152.path_of("t1"))
    assert case.series
    done = cli("model", "describe", "hippocampus")
    assert done.returncode == 0, done.stderr
    assert "CC BY-SA 4.0" in done.stdout
