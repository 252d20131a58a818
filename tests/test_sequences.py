"""Frames in time: networks that remember, what is stated of frames, what follows, and a curve in a report."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
torch.set_num_threads(1)  # the tests run side by side
pytest.importorskip("lightning_fabric")

from pydicom.data import get_testdata_file  # noqa: E402

from isocenter.acquire.datasets import open_dataset  # noqa: E402
from isocenter.acquire.labelled import read_cine  # noqa: E402
from isocenter.analyse.sequence import TimeCurve, time_curve  # noqa: E402
from isocenter.analyse.subject import Subject  # noqa: E402
from isocenter.data.case import Case, Identity, Series  # noqa: E402
from isocenter.data.cine import Cine  # noqa: E402
from isocenter.data.curve import Curve  # noqa: E402
from isocenter.data.dataset import Sample  # noqa: E402
from isocenter.data.features import FeatureTable  # noqa: E402
from isocenter.data.geometry import Geometry, Space  # noqa: E402
from isocenter.data.labels import Label, LabelMap  # noqa: E402
from isocenter.data.message import Message  # noqa: E402
from isocenter.errors import DegenerateImage, GeometryError, InputError, UnsupportedFormat  # noqa: E402
from isocenter.explanation.frames import frame_quality, frame_weights  # noqa: E402
from isocenter.formats import nifti  # noqa: E402
from isocenter.inference.frames import chosen_frames, next_time, prepared_frames, with_times  # noqa: E402
from isocenter.inference.gate import frame_concerns, gate_of_frames  # noqa: E402
from isocenter.inference.predictor import CaseAnswer, Predictor  # noqa: E402
from isocenter.inference.prepare import Preparation  # noqa: E402
from isocenter.networks.recurrent import (  # noqa: E402
    ConvLSTM,
    ConvLSTMCell,
    ConvLSTMSettings,
    Recurrent,
    RecurrentSettings,
    _Memory,
    since_last,
    steps_ahead,
)
from isocenter.ops.deform import between, displacement, pulled  # noqa: E402
from isocenter.pipeline.inputs import as_sequences, cases_of  # noqa: E402
from isocenter.pipeline.outcomes.forecast import LAST, STRAIGHT, _row  # noqa: E402
from isocenter.pipeline.outcomes.whole import answered  # noqa: E402
from isocenter.pipeline.simulate_motion import course  # noqa: E402
from isocenter.training.images import augment  # noqa: E402
from isocenter.training.images.batches import Batch  # noqa: E402
from isocenter.training.images.course import each_case  # noqa: E402
from isocenter.training.images.store import Item, Store  # noqa: E402
from isocenter.training.images.tasks import task_of  # noqa: E402
from isocenter.training.images.tasks.forecast import places  # noqa: E402
from isocenter.training.images.validation import Validated  # noqa: E402
from tests.command import cli  # noqa: E402
from tests.sequences import beating_data, contrast_data, write_loop  # noqa: E402
from tests.test_image_learning import plan_for_pictures  # noqa: E402

RNG = np.random.default_rng(4)
NAN = float("nan")


# ---- networks -------------------------------------------------------------------------------------------------------


def test_seconds_since_the_frame_before_by_hand() -> None:
    times, seen = torch.tensor([[0.0, 2.0, 0.0, 5.0]]), torch.tensor([[True, True, False, True]])
    assert torch.allclose(since_last(times, seen)[0, [0, 1, 3]], torch.tensor([0.0, np.log(3), np.log(4)]).float())


@pytest.mark.parametrize(
    ("times", "seen", "ahead"),
    [
        ([0.0, 1.0, 2.0, 3.0], [1, 1, 1, 1], 1.0),
        ([0.0, 1.0, 2.0, 2.5], [1, 1, 1, 1], 0.5),
        ([0.0, 0.0, 2.0, 4.0], [1, 0, 1, 1], 1.0),  # one is missing: the mean distance is 2
        ([0.0, 1.0, 2.0, 90.0], [1, 1, 1, 1], 4.0),  # no farther than is sensible
        ([3.0, 3.0, 3.0, 3.0], [1, 1, 1, 1], 1.0),  # all at once
        ([0.0, 1.0, 2.0, 0.0], [1, 1, 1, 0], 1.0),  # no time is asked for
    ],
)
def test_how_far_ahead_is_asked(times: list[float], seen: list[int], ahead: float) -> None:
    found = steps_ahead(torch.tensor([times]), torch.tensor([seen]).bool())
    assert float(found) == pytest.approx(ahead)


@pytest.mark.parametrize(("cell", "kind"), [("gru", torch.nn.GRU), ("lstm", torch.nn.LSTM), ("rnn", torch.nn.RNN)])
@pytest.mark.parametrize("back", [False, True])
def test_memories_are_those_of_the_reference(cell: str, kind: type[torch.nn.Module], back: bool) -> None:
    torch.manual_seed(0)
    memory, other = _Memory(cell, 3, 5), kind(3, 5, batch_first=True)  # type: ignore[arg-type,call-arg]
    for name, value in memory.cell.named_parameters():
        getattr(other, f"{name}_l0").data.copy_(value.data)
    x = torch.randn(2, 6, 3)
    wanted = other(x.flip(1) if back else x)[0]
    with torch.no_grad():
        found = memory(x, torch.ones(2, 6, dtype=torch.bool), back=back)
    assert torch.allclose(found, wanted.flip(1) if back else wanted, atol=1e-6)


def test_a_convlstm_of_one_pixel_is_an_lstm() -> None:
    """Shi et al., equation 3, without peepholes: with a kernel of one it is the LSTM of every pixel."""
    torch.manual_seed(0)
    cell, other = ConvLSTMCell(2, 3, 1, 2), torch.nn.LSTMCell(2, 3)
    weights = cell.gates.weight.data[:, :, 0, 0]
    bias = cell.gates.bias.data.clone()
    bias[3:6] += 1.0  # the forget gate begins open
    other.weight_ih.data, other.weight_hh.data = weights[:, :2].clone(), weights[:, 2:].clone()
    other.bias_ih.data, other.bias_hh.data = bias, torch.zeros(12)
    # ours: input, forget, new, output; the reference's: the same order
    x, h, c = torch.randn(4, 2), torch.randn(4, 3), torch.randn(4, 3)
    with torch.no_grad():
        found = cell(x[:, :, None, None], (h[:, :, None, None], c[:, :, None, None]))
        wanted = other(x, (h, c))
    assert torch.allclose(found[0][:, :, 0, 0], wanted[0], atol=1e-6)
    assert torch.allclose(found[1][:, :, 0, 0], wanted[1], atol=1e-6)


def network(**fields: object) -> Recurrent:
    torch.manual_seed(1)
    return Recurrent(
        RecurrentSettings(widths=(4, 8), features=6, hidden=5, **fields), channels=1, outputs=2, dims=2
    ).eval()


@settings(max_examples=15, deadline=None)
@given(st.lists(st.booleans(), min_size=6, max_size=6).filter(lambda keep: sum(keep) >= 2), st.booleans())
def test_a_missing_frame_is_as_if_it_never_was(keep: list[bool], each: bool) -> None:
    rng = np.random.default_rng(0)
    frames, times = rng.random((6, 1, 8, 8)).astype(np.float32), np.cumsum(rng.random(6)).astype(np.float32)
    own = np.asarray(keep)
    marked = with_times(frames, times, 6)
    marked[~own, -1] = np.nan
    left = with_times(frames[own], times[own], int(own.sum()))
    model = network(each_frame=each)
    with torch.no_grad():
        filled = model(torch.from_numpy(with_times(frames, times, 9)[None]))
        whole = model(torch.from_numpy(with_times(frames, times, 6)[None]))
        assert torch.allclose(
            filled[:, :6] if each else filled, whole, atol=1e-5
        )  # what fills a batch up is missing too
        one, other = (model(torch.from_numpy(v[None])) for v in (marked, left))
    assert torch.allclose(one[:, own] if each else one, other, atol=1e-5)
    first = ConvLSTM(ConvLSTMSettings(hidden=(3,), kernel=3), channels=1, outputs=1, dims=2).eval()
    torch.nn.init.normal_(first.last.weight)
    asked = np.concatenate((marked, left[-1:])), np.concatenate((left, left[-1:]))
    for v in asked:
        v[-1, -1] = times[-1] + 1
    with torch.no_grad():
        one, other = (first(torch.from_numpy(v[None])) for v in asked)
    assert torch.allclose(one, other, atol=1e-5)


def test_memory_sees_order_and_its_absence_does_not() -> None:
    grey = np.linspace(-3, 3, 5)[:, None, None, None] + RNG.normal(0, 1, (5, 1, 8, 8))
    frames = torch.from_numpy(with_times(grey.astype(np.float32), np.zeros(5), 5)[None])
    turned = frames.flip(1)
    with torch.no_grad():
        assert torch.allclose(network(cell="none")(frames), network(cell="none")(turned), atol=1e-6)
        one_way = network(cell="gru", both_ways=False)
        assert not torch.allclose(one_way(frames), one_way(turned), atol=1e-3)


def test_what_is_foretold_begins_as_the_last_frame() -> None:
    model = ConvLSTM(ConvLSTMSettings(hidden=(4,), kernel=3), channels=1, outputs=1, dims=2).eval()
    frames = RNG.random((3, 1, 8, 8)).astype(np.float32)
    shown = with_times(frames, np.arange(3.0), 4)
    shown[-1, -1] = 3.0
    with torch.no_grad():
        assert torch.allclose(model(torch.from_numpy(shown[None]))[0], torch.from_numpy(frames[-1]))
        torch.nn.init.constant_(model.last.bias, 0.25)  # a change of a quarter for one step
        half = shown.copy()
        half[-1, -1] = 2.5
        found = model(torch.from_numpy(half[None]))[0]
    assert torch.allclose(found, torch.from_numpy(frames[-1]) + 0.125, atol=1e-6)


def test_how_fast_voxels_change_is_seen_at_any_distance_of_frames() -> None:
    """With nothing but that rate in its last layer, a network goes straight on, also past frames that are missing."""
    model = ConvLSTM(ConvLSTMSettings(hidden=(4,), kernel=3), channels=1, outputs=1, dims=2).eval()
    speed, times = RNG.random((1, 8, 8)).astype(np.float32), np.array([0.0, 0.5, 2.0, 2.4])
    frames = (3 + times[:, None, None, None] * speed).astype(np.float32)
    shown = with_times(frames, times, 5)
    shown[2, -1] = np.nan
    shown[-1, -1] = 3.0
    with torch.no_grad():
        model.last.weight[:, -1, 1, 1] = 1
        found = model(torch.from_numpy(shown[None]))[0]
    assert torch.allclose(found, torch.from_numpy((3 + 3.0 * speed).astype(np.float32)), atol=1e-4)


# ---- frames ---------------------------------------------------------------------------------------------------------


def loop(frames: int = 4, *, times: tuple[float, ...] | None = None) -> Cine:
    values = np.arange(frames, dtype=np.float32)[:, None, None, None, None] + RNG.random((frames, 1, 1, 8, 8))
    return Cine(values.astype(np.float32), Geometry.regular((1, 8, 8), space=Space.PIXELS), times)


def test_frames_are_scaled_together() -> None:
    """What brightens over time stays brighter; the change goes back in the units that came."""
    cine = loop(4, times=(1.0, 1.5, 2.5, 3.0))
    ready = prepared_frames(cine, Preparation(dims=2, size=(8, 8)), 10)
    means = ready.frames.mean(axis=(1, 2, 3, 4))
    assert (np.diff(means) > 0.3).all()
    assert float(ready.frames.mean()) == pytest.approx(0, abs=1e-5)
    assert ready.times.tolist() == [0.0, 0.5, 1.5, 2.0]
    back = ready.change_back(ready.eaten[3] - ready.eaten[1])
    assert np.allclose(back, cine.frames[3] - cine.frames[1], atol=1e-5)
    assert next_time(ready.times) == pytest.approx(2 + 2 / 3)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 60), st.integers(2, 20))
def test_long_sequences_are_thinned_evenly(count: int, most: int) -> None:
    found = chosen_frames(count, most)
    assert found[0] == 0
    assert found[-1] == count - 1
    assert len(found) == min(count, most)
    gaps = np.diff(found)
    assert gaps.max() - gaps.min() <= 1


def test_what_follows_is_told_from_the_newest_frames() -> None:
    ready = prepared_frames(loop(9), Preparation(dims=2, size=(8, 8)), 4, newest=True)
    assert ready.numbers.tolist() == [5, 6, 7, 8]
    frames = np.random.default_rng(0).normal(size=(40, 1, 4, 4))
    assert places(frames[:6]) == [2, 3, 4, 5]
    assert places(frames, 4) == [2, 14, 27, 39]
    assert places(frames[:2]) == [1]
    frames[3] = 0  # a black frame in between
    assert places(frames[:6]) == [2, 4, 5]
    with pytest.raises(InputError, match="one value each"):
        places(np.zeros((4, 1, 4, 4)))


def test_times_belong_to_the_gate() -> None:
    gate = gate_of_frames([np.asarray([0.0, 0.04, 0.08]), np.asarray([0.0, 0.05, 0.1, 0.15])])
    assert gate == {"frame_gap_s": [0.04, 0.05], "frames": [3, 4]}
    assert frame_concerns(np.asarray([0.0, 0.03, 0.06]), gate) == []
    assert len(frame_concerns(np.asarray([0.0, 0.015, 0.03]), gate)) == 1  # too fast is as foreign as too slow
    (found,) = frame_concerns(np.asarray([0.0, 1.0, 2.0]), gate)
    assert found.level == "review"
    assert "1 s apart" in found.text
    assert "0.04 to 0.05 s" in found.text


def test_contrast_keeps_what_changes_over_time() -> None:
    """Twice the contrast doubles what a sequence brightens by; its mean stays. Of channels by themselves, each keeps
    its own mean."""
    frames = np.stack([np.full((1, 16, 16), float(v), np.float32) for v in (0, 1, 3)])
    plan = plan_for_pictures(frames=3, network={"name": "recurrent"})
    drawn = augment.without_mixture(augment.draw(plan, (16, 16), 1, np.random.default_rng(0)))
    still = {"theta": np.eye(2, 3)[None], "flips": np.zeros((1, 2), bool), "noise": np.zeros(1), "gamma": np.ones(1)}
    none = np.zeros(1, bool)
    drawn = replace(drawn, moves=False, elastic=None, bias=None, factor=np.full(1, 2.0), offset=np.zeros(1),
                    blur=(none, 1.0), low_resolution=(none, 1.0), erased=np.zeros((1, 2, 2), int), **still)  # fmt: skip
    x = torch.from_numpy(frames).reshape(1, 3, 16, 16)
    changed = augment.apply(replace(drawn, frames=3), x, None)[0].mean(dim=(2, 3))
    middle = 4 / 3
    assert changed[0].tolist() == pytest.approx([2 * (v - middle) + middle for v in (0, 1, 3)], abs=1e-5)
    assert augment.apply(drawn, x, None)[0].mean(dim=(2, 3))[0].tolist() == pytest.approx([0, 1, 3], abs=1e-5)


@given(st.integers(5, 200), st.integers(2, 48), st.lists(st.integers(0, 199), max_size=60))
def test_labelled_frames_are_looked_at(count: int, most: int, keep: list[int]) -> None:
    wanted = {k for k in keep if k < count}
    found = chosen_frames(count, most, sorted(wanted)).tolist()
    assert found == sorted(set(found))
    assert len(found) <= max(most, 0) or count <= most
    assert set(found) <= set(range(count))
    assert wanted <= set(found) if len(wanted) <= most else set(found) <= wanted
    if not wanted and most > 1:
        assert {0, count - 1} <= set(found)


def test_two_labels_among_many_frames_are_learnt(tmp_path: Path) -> None:
    from isocenter.data.dataset import Loaded, Source

    plan = plan_for_pictures(
        classes=("a", "b"), frames=8, each_frame=True, network={"name": "recurrent", "settings": {"each_frame": True}},
        preparation={"dims": 2, "size": (8, 8)}, patch=(8, 8),
    )  # fmt: skip
    texts = ["" for _ in range(61)]
    texts[13], texts[44] = "a", "b"
    cine = loop(61)
    item = task_of(plan).item(
        Sample("s", (Source(tmp_path),), sequence=True, targets=tuple(texts)), Loaded(cine.frame(0), cine=cine), plan
    )
    assert item.targets is not None
    assert item.targets[np.isfinite(item.targets)].tolist() == [0, 1]
    assert item.frames is not None
    assert {13, 44} <= set(item.frames.tolist())


def test_nothing_labelled_is_nothing_learnt() -> None:
    plan = plan_for_pictures(frames=4, each_frame=True, network={"name": "recurrent", "settings": {"each_frame": True}})
    answer = torch.ones(2, 4, 2, requires_grad=True)
    drawn = augment.draw(plan, (16, 16), 2, np.random.default_rng(0))
    batch = Batch(torch.zeros(2, 4, 2, 16, 16), torch.full((2, 4), NAN), drawn)
    network = torch.nn.Linear(1, 1)
    network.forward = lambda _x: answer  # type: ignore[method-assign]
    loss = task_of(plan).loss(plan)(network, batch, "")
    assert float(loss.detach()) == 0


def test_what_was_filled_in_is_no_measurement() -> None:
    """A frame's filled half is left out of the mean, and of the scale; it is said."""
    frames = np.stack([np.full((1, 1, 4, 4), v, np.float32) for v in (100.0, 200.0)])
    frames[1, 0, 0, 2:] = 9000
    lost = np.zeros((2, 1, 4, 4), bool)
    lost[1, 0, 2:] = True
    cine = Cine(frames, Geometry.regular((1, 4, 4), space=Space.PIXELS), (0.0, 1.0), not_measured=lost)
    seen = subject([1, 1], times=(0.0, 1.0))
    found = time_curve(replace(seen, case=replace(seen.case, cine=cine)), TimeCurve())
    assert found.curves[0].values == pytest.approx((100, 200))
    assert "25.0%" in str(next(c.message for c in found.checks if c.name == "frames_not_measured"))
    ready = prepared_frames(cine, Preparation(dims=2), 4)
    assert ready.scales[0][0] == pytest.approx((16 * 100 + 8 * 200) / 24)  # the mean of what was measured
    gone = Cine(frames, cine.geometry, (0.0, 1.0), not_measured=np.stack([lost[0], np.ones((1, 4, 4), bool)]))
    with pytest.raises(DegenerateImage, match="nothing was measured"):
        time_curve(replace(seen, case=replace(seen.case, cine=gone)), TimeCurve())


def test_straight_on_needs_two_frames_before() -> None:
    frames = np.arange(3, dtype=np.float32)[:, None, None, None] + np.random.default_rng(0).random((3, 1, 8, 8))
    times = np.arange(3.0)
    first = _row(frames[1], frames.astype(np.float32), times, 1)
    assert first.psnr[STRAIGHT] == first.psnr[LAST]  # never made from the frame that is to be foretold
    assert _row(frames[2], frames.astype(np.float32), times, 2).psnr[STRAIGHT] != first.psnr[LAST]


def test_one_frame_is_no_sequence() -> None:
    with pytest.raises(InputError, match="a sequence is wanted"):
        prepared_frames(loop(1), Preparation(dims=2, size=(8, 8)), 4)


# ---- data -----------------------------------------------------------------------------------------------------------


def test_a_table_states_labels_and_times_of_frames(tmp_path: Path) -> None:
    data = as_sequences(open_dataset(beating_data(tmp_path, 4), target="size"), None)
    first = data.samples[0]
    assert first.sequence
    assert len(first.targets) == len(first.times) == 12
    assert first.targets[3] == ""  # not labelled
    assert read_cine(first).times_s == first.times  # not the second that the file states
    with pytest.raises(InputError, match="12 frames, and 2 times"):
        read_cine(replace(first, times=(0.0, 1.0)))


def test_images_are_no_sequences(tmp_path: Path) -> None:
    write_loop(tmp_path / "a.nii.gz", RNG.random((1, 1, 8, 8)))
    (tmp_path / "t.csv").write_text("image,label\na.nii.gz,x\n", "utf-8")
    data = open_dataset(tmp_path / "t.csv")
    assert not as_sequences(data, None).samples[0].sequence
    with pytest.raises(InputError, match="no sequence of frames"):
        as_sequences(data, "forecast")


def test_labels_of_other_counts_are_not_judged() -> None:
    scores = np.zeros((3, 2))
    answer = CaseAnswer("s", scores=scores, times=np.arange(3.0), frames=np.arange(3), count=3)
    sample = Sample("s", (), sequence=True, targets=("a", "", "b"))
    assert [row.name for row in answered(answer, sample)] == ["s#0", "s#2"]
    for targets in (("a", "b"), ("a", "b", "a", "b")):
        with pytest.raises(InputError, match="labels for its 3 frames"):
            answered(answer, replace(sample, targets=targets))


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (("a", "b"), "4 frames, and 2 are labelled"),
        (("a", "b", "x", "a"), "the plan does not know"),
        (("",) * 4, "states no class"),
    ],
)
def test_labels_of_frames_must_fit(targets: tuple[str, ...], words: str, tmp_path: Path) -> None:
    from isocenter.data.dataset import Loaded, Sample, Source

    plan = plan_for_pictures(
        classes=("a", "b"), frames=8, each_frame=True, network={"name": "recurrent", "settings": {"each_frame": True}},
        preparation={"dims": 2, "size": (8, 8)}, patch=(8, 8),
    )  # fmt: skip
    sample = Sample("s", (Source(tmp_path),), sequence=True, targets=targets)
    cine = loop(4)
    with pytest.raises(InputError, match=words):
        task_of(plan).item(sample, Loaded(cine.frame(0), cine=cine), plan)


# ---- through the verbs ----------------------------------------------------------------------------------------------

SMALL = ("--set", "network.settings.widths=[8,16]", "--set", "network.settings.features=16", "--set",
         "network.settings.hidden=16", "--set", "schedule.ema=0.8")  # fmt: skip


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text("utf-8").splitlines()))


@pytest.fixture(scope="module")
def heart(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model that says how large a beating disc is in each frame, and its data."""
    folder = tmp_path_factory.mktemp("heart")
    data = beating_data(folder / "data", 16, edge=16)
    done = cli(
        "train",
        data,
        "-o",
        folder / "m",
        "--target",
        "size",
        "--set",
        "schedule.steps=100",
        "--set",
        "schedule.learning_rate=3e-3",
        *SMALL,
    )
    assert done.returncode == 0, done.stderr
    return folder / "m", data


def test_a_value_of_each_frame(heart: tuple[Path, Path], tmp_path: Path) -> None:
    model, data = heart
    plan = json.loads((model / "plan.json").read_text())
    stated = [float(v) for row in rows_of(data) if row["split"] == "train" for v in row["size"].split(";") if v]
    assert plan["value_scale"] == pytest.approx([np.mean(stated), np.std(stated)], rel=1e-6)
    done = cli("evaluate", model, data, "-o", tmp_path / "ev")
    assert done.returncode == 0, done.stderr
    seen = cli("evaluate", model, data, "--split", "train", "-o", tmp_path / "seen")
    assert seen.returncode == 2
    assert "of these 12 cases" in seen.stderr
    told = json.loads((tmp_path / "ev" / "evaluation.json").read_text())
    assert told["n_cases"] == 4 * 10  # of twelve frames two are not labelled
    assert told["metrics"]["r2"]["value"] > 0.5  # in the unit of the data, or it would be far below 0
    assert "measured" not in str(told["notes"])
    head, *lines = data.read_text("utf-8").splitlines()
    loops = data.parent / "loops.csv"
    made = [f"{line},simulated motion,0;5" for line in lines]
    loops.write_text("\n".join([f"{head},made,real_frames", *made]), "utf-8")
    done = cli("evaluate", model, loops, "-o", tmp_path / "loops")
    assert done.returncode == 0, done.stderr
    notes = str(json.loads((tmp_path / "loops" / "evaluation.json").read_text())["notes"])
    assert "4 of 4 cases are marked as made (simulated motion)" in notes
    real = [row for row in rows_of(tmp_path / "loops" / "cases.csv") if row["case"].split("#")[1] in ("0", "5")]
    away = np.mean([abs(float(row["predicted"]) - float(row["truth"])) for row in real])
    assert len(real) == 8
    assert f"At the 8 frames that were measured the mean absolute error is {away:.4g};" in notes
    names = [row["case"] for row in rows_of(tmp_path / "ev" / "cases.csv")]
    assert "p003#0" in names
    assert "p003#3" not in names
    done = cli("predict", model, data.parent / "p003.nii.gz", "-o", tmp_path / "p")
    assert "1 s apart" in done.stderr  # the file's own clock is not that of the training
    rows = rows_of(tmp_path / "p" / "predictions.csv")
    assert [row["frame"] for row in rows] == [str(i) for i in range(12)]
    sizes = np.asarray([float(row["predicted"]) for row in rows])
    assert sizes.argmin() in range(4, 9)


def test_a_curve_in_a_report(heart: tuple[Path, Path], tmp_path: Path) -> None:
    model, data = heart
    done = cli("run", model, data.parent / "p003.nii.gz", "-o", tmp_path / "r", "--lang", "zh")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "r" / "p003"
    told = json.loads((folder / "report.json").read_text())
    (curve,) = told["curves"]
    assert len(curve["values"]) == len(curve["times_s"]) == 12
    assert curve["times_stated"]
    assert curve["statement"] == "size, as the network gives it"
    high = next(f for f in told["findings"] if f["statement"].startswith("Largest value over time: "))
    assert high["value"] == pytest.approx(max(curve["values"]))
    assert told["verdict"] == "review"  # of other times than the training
    page = (folder / "report.html").read_text("utf-8")
    assert "随时间变化" in page
    assert "key_frames.png" in told["images"]


def test_how_good_a_case_is_counts_its_frames_once() -> None:
    def item(name: str, targets: list[float]) -> Item:
        frames = np.zeros((len(targets), 1, 1, 4, 4), np.float32)
        numbers = np.arange(len(targets))
        return Item(Sample(name, ()), frames, NAN, times=numbers * 1.0, frames=numbers, targets=np.asarray(targets))

    store = Store((item("a", [1.0, NAN, 3.0]), item("b", [5.0, 5.0])))
    assert [row.name for row in store.stated()] == ["a#0", "a#2", "b#0", "b#1"]
    said = Validated(0.0, {}, np.asarray([2.0, 5.0, 5.0, 6.0]))
    assert each_case(said, store).tolist() == [-1.5, -0.5]


def test_which_frames_moved_an_answer(tmp_path: Path) -> None:
    """A network that looks at the brightest frame alone: the weight is that frame's, and no order finds it sooner."""
    plan = plan_for_pictures(
        classes=("a", "b"),
        frames=8,
        network={"name": "recurrent"},
        preparation={"dims": 2, "size": (4, 4)},
        patch=(4, 4),
    )
    frames, times = np.zeros((6, 1, 4, 4), np.float32), np.arange(6.0)
    frames[3] = 5.0

    def run(shown: np.ndarray) -> np.ndarray:
        there = np.isfinite(shown[0, :, -1, 0, 0])
        bright = float((shown[0, :, 0, 0, 0] * there).max())
        return np.asarray([[0.0, bright]])

    weights = frame_weights(run, frames, times, plan.spec, 1)
    assert weights.argmax() == 3
    assert np.count_nonzero(np.abs(weights) > 1e-9) == 1
    judged = frame_quality(run, frames, times, plan.spec, index=1, weights=weights, seed=0)
    assert judged.verdict == "better"
    assert judged.insertion[0] == pytest.approx(judged.deletion[0])


def test_explained_by_frames(heart: tuple[Path, Path], tmp_path: Path) -> None:
    model, data = heart
    done = cli("explain", model, data.parent / "p003.nii.gz", "-o", tmp_path / "e")
    assert done.returncode == 0, done.stderr
    (told,) = json.loads((tmp_path / "e" / "explanation.json").read_text())
    assert len(told["weights"]) == len(told["times_s"]) == 12
    for command, words in (
        (
            ("explain", model, data.parent / "p003.nii.gz", "-o", tmp_path / "f", "--method", "grad-cam"),
            "explained by their frames",
        ),
        (("compress", model, data, "-o", tmp_path / "c"), "sequences of any length"),
        (("model", "export", model, "-o", tmp_path / "o"), "sequences of any length"),
    ):
        done = cli(*command)
        assert done.returncode == 2, done.stdout
        assert words in done.stderr, done.stderr


def test_a_class_of_each_sequence(tmp_path: Path) -> None:
    data = contrast_data(tmp_path / "data", 16, edge=16)
    done = cli("train", data, "-o", tmp_path / "m", "--set", "schedule.steps=3", *SMALL)
    assert done.returncode == 0, done.stderr
    checked = cli("data", "check", data)
    assert "frames: 8 to 12" in checked.stdout
    done = cli("evaluate", tmp_path / "m", data, "-o", tmp_path / "ev")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "ev" / "evaluation.json").read_text())["n_cases"] == 4
    done = cli("run", tmp_path / "m", data.parent / "p003.nii.gz", "-o", tmp_path / "r")
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "r" / "p003" / "report.json").read_text())
    shares = [f["value"] for f in told["findings"]]
    assert sum(shares) == pytest.approx(1, abs=1e-5)
    write_loop(tmp_path / "one.nii.gz", RNG.random((1, 1, 16, 16)))
    done = cli("run", tmp_path / "m", tmp_path / "one.nii.gz", "-o", tmp_path / "r1")
    assert "frames in time are wanted" in done.stdout + done.stderr
    with pytest.raises(InputError, match="looks at sequences of frames"):
        Predictor(tmp_path / "m")(loop(1).frame(0))


@pytest.mark.parametrize("task", ["regress", "forecast"])
def test_volumes_in_time(task: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = ["image,value,split"]
    for i in range(10):
        write_loop(tmp_path / f"p{i}.nii.gz", 100 * rng.random((4, 12, 16, 16)))
        rows.append(f"p{i}.nii.gz,1.5;{i};3.5;{2 * i + 0.5},{'test' if i % 4 == 3 else 'train'}")
    (tmp_path / "loops.csv").write_text("\n".join(rows) + "\n", "utf-8")
    own = ["--set", "network.settings.hidden=[4]"] if task == "forecast" else SMALL[:6]
    done = cli("train", tmp_path / "loops.csv", "-o", tmp_path / "m", "--task", task, "--set", "schedule.steps=2", *own)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "m" / "plan.json").read_text())["preparation"]["dims"] == 3
    done = cli("predict", tmp_path / "m", tmp_path / "p3.nii.gz", "-o", tmp_path / "p")
    assert done.returncode == 0, done.stderr
    if task == "forecast":
        assert nifti.read(tmp_path / "p" / "p3.nii.gz").voxels.shape == (1, 12, 16, 16)
    else:
        assert len(rows_of(tmp_path / "p" / "predictions.csv")) == 4


def test_cines_of_one_study_are_cases(tmp_path: Path) -> None:
    """Two multi-frame files in one folder: each is read by its own series."""
    from shutil import copy

    from pydicom import dcmread
    from pydicom.uid import generate_uid

    source = Path(get_testdata_file("examples_ybr_color.dcm"))
    copy(source, tmp_path / "a.dcm")
    other = dcmread(source)
    other.SeriesInstanceUID, other.SOPInstanceUID = generate_uid(), generate_uid()
    other.file_meta.MediaStorageSOPInstanceUID = other.SOPInstanceUID
    other.save_as(tmp_path / "b.dcm")
    data = cases_of(tmp_path)
    assert len(data.samples) == 2
    assert {len(read_cine(sample)) for sample in data.samples} == {30}


def test_the_next_frame(tmp_path: Path) -> None:
    """A disc that grows evenly: going on is learnt, and is better than the last frame."""
    folder = tmp_path / "data"
    folder.mkdir()
    y, x = np.mgrid[:16, :16]
    rows = ["image,split"]
    for i in range(12):
        radii = RNG.uniform(2, 3) + RNG.uniform(0.4, 0.7) * np.arange(7)
        frames = 100 / (1 + np.exp(2 * (np.hypot(y - 7.5, x - 7.5)[None] - radii[:, None, None])))
        write_loop(folder / f"p{i:02d}.nii.gz", frames[:, None])
        rows.append(f"p{i:02d}.nii.gz,{'test' if i % 4 == 3 else 'train'}")
    (folder / "loops.csv").write_text("\n".join(rows) + "\n", "utf-8")
    done = cli("train", folder / "loops.csv", "-o", tmp_path / "m", "--task", "forecast", "--allow-leak", "near-image", "--set", "schedule.steps=80",
               "--set", "network.settings.hidden=[12]", "--set", "network.settings.kernel=3", "--set", "schedule.ema=0.8",
               "--set", "augmentation.rotate=0", "--set", "augmentation.scale=0")  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = cli("evaluate", tmp_path / "m", folder / "loops.csv", "-o", tmp_path / "ev")
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "ev" / "evaluation.json").read_text())["metrics"]
    assert told["psnr"]["value"] > told["psnr/last frame"]["value"] + 1
    assert "psnr/straight on" in told
    done = cli("predict", tmp_path / "m", folder / "p03.nii.gz", "-o", tmp_path / "p")
    assert done.returncode == 0, done.stderr
    assert nifti.read(tmp_path / "p" / "p03.nii.gz").voxels.shape == (1, 1, 16, 16)
    done = cli("run", tmp_path / "m", folder / "p03.nii.gz", "-o", tmp_path / "r")
    assert done.returncode == 2
    assert "foretells the next frame" in done.stderr
    # Of many frames the last ones are looked at; without times, the clock is still that of the file.
    predictor = Predictor(tmp_path / "m")
    frames = np.asarray(read_cine(cases_of(folder / "p03.nii.gz").samples[0]).frames)
    still = Cine(np.concatenate([frames[:1]] * 20 + [frames]), Geometry.regular((1, 16, 16), space=Space.PIXELS))
    answer = predictor.follow(still, at=float(len(still)))
    assert answer.image is not None
    assert answer.image.history[-1].parameters["seconds_ahead"] == pytest.approx(1.0)


# ---- reports --------------------------------------------------------------------------------------------------------


def subject(values: list[float], *, times: tuple[float, ...] | None, inside: bool = False) -> Subject:
    frames = np.zeros((len(values), 1, 1, 4, 4), np.float32)
    frames[:, 0, 0, :2] = np.asarray(values)[:, None, None]
    geometry = Geometry.regular((1, 4, 4), space=Space.PIXELS)
    cine = Cine(frames, geometry, times)
    case = Case("c", Path(), Identity(), (), cine=cine)
    if inside:
        grid = np.zeros((1, 4, 4), np.int32)
        grid[:, :2] = 1
        case = case.with_labels("lesion", LabelMap(grid, geometry, (Label(1, "lesion"),)))
    series = Series("1", "nifti", "", "", (1, 4, 4), 1, None, {}, (), (), lambda: cine)
    return Subject(case, series, FeatureTable())


def test_how_contrast_comes_and_goes_by_hand() -> None:
    found = time_curve(
        subject([100, 180, 220, 165], times=(0.0, 30.0, 60.0, 90.0), inside=True), TimeCurve(of="lesion")
    )
    assert [f.value for f in found.findings] == pytest.approx([60.0, 120.0, -25.0])
    assert found.curves[0].values == pytest.approx((100, 180, 220, 165))
    assert "peak" in str(found.findings[2].method)
    other = subject([100, 180], times=None, inside=True)
    small = LabelMap(np.ones((1, 2, 2), np.int32), Geometry.regular((1, 2, 2), space=Space.PIXELS), (Label(1, "a"),))
    other = replace(other, case=other.case.with_labels("lesion", small))
    with pytest.raises(GeometryError, match="lesion and the frames"):
        time_curve(other, TimeCurve(of="lesion"))
    whole = time_curve(subject([100, 180], times=None), TimeCurve())
    assert whole.curves[0].values == pytest.approx((50, 90))
    assert [c.name for c in whole.checks] == ["times_stated"]
    with pytest.raises(DegenerateImage, match="first frame's mean is 0"):
        time_curve(subject([0, 180], times=None), TimeCurve())


def test_curves_are_whole() -> None:
    with pytest.raises(InputError, match="a value for each time"):
        Curve(Message("x"), "1", (0.0, 1.0), (2.0,))
    with pytest.raises(InputError, match="no number"):
        Curve(Message("x"), "1", (0.0, 1.0), (2.0, NAN))


def test_an_ultrasound_cine_reaches_a_report(tmp_path: Path) -> None:
    """Thirty frames of a DICOM file in colour, 33 ms apart."""
    done = cli("run", "overview", get_testdata_file("examples_ybr_color.dcm"), "-o", tmp_path / "no")
    assert done.returncode == 2
    assert "the recipe `cine` looks at frames in time" in done.stdout + done.stderr
    done = cli("run", "cine", get_testdata_file("examples_ybr_color.dcm"), "-o", tmp_path / "r")
    assert done.returncode == 0, done.stderr
    (file,) = (tmp_path / "r").glob("*/report.json")
    told = json.loads(file.read_text())
    (curve,) = told["curves"]
    assert len(curve["values"]) == 30
    assert curve["times_s"][1] == pytest.approx(0.033333, abs=1e-4)


# ---- a heart that beats, from two frames ------------------------------------------------------------------------------


def disc(radius: float, edge: int = 40, at: float = 19.5) -> np.ndarray:
    y, x = np.mgrid[:edge, :edge]
    return np.asarray(1 / (1 + np.exp(2 * (np.hypot(y - at, x - at) - radius))), np.float32)


def test_a_dense_map_brings_one_disc_onto_another() -> None:
    small, large = disc(6), disc(10)
    along = displacement(small, large)  # for each place of the small one, where it was in the large
    moved = pulled(large, along)
    assert np.abs(moved - small).mean() < 0.02
    assert along.shape == (2, 40, 40)
    assert along[1, 20, 26] == pytest.approx(4, abs=1.2)  # the right edge was four voxels farther out
    half = between(large, small, along, displacement(large, small), 0.5)
    assert half.sum() == pytest.approx(np.pi * 8**2, rel=0.1)
    for share, wanted in ((0.0, large), (1.0, small)):
        assert np.array_equal(between(large, small, along, displacement(large, small), share), wanted)


def test_a_cycle_begins_and_ends_full() -> None:
    shares, real = course(20)
    assert real == (0, 7)
    assert shares[0] == 0
    assert shares[7] == 1
    assert (np.diff(shares[:8]) > 0).all()
    assert (np.diff(shares[7:]) < 0).all()


def test_loops_from_two_frames_are_marked_and_true_where_they_are_real(tmp_path: Path) -> None:
    import h5py

    folder = tmp_path / "hearts"
    folder.mkdir()
    for i in range(3):
        for name, radius in (("01", 11 - i), ("12", 7)):
            grey = np.stack([disc(radius)] * 2)
            with h5py.File(folder / f"patient{i:03d}_frame{name}.h5", "w") as file:
                file["image"], file["label"] = 0.1 + 0.8 * grey, (grey > 0.5).astype(np.uint8) * 3
    done = cli("data", "simulate-motion", folder, "-o", tmp_path / "loops", "--frames", "10")
    assert done.returncode == 0, done.stderr
    assert "Simulated motion" in (tmp_path / "loops" / "README.txt").read_text()
    rows = rows_of(tmp_path / "loops" / "loops.csv")
    assert [row["made"] for row in rows] == ["simulated motion"] * 3
    for i, row in enumerate(rows):
        assert row["real_frames"] == "0;4"
        sizes = [float(v) for v in row["voxels 3"].split(";")]
        own = [2 * int((disc(r) > 0.5).sum()) for r in (11 - i, 7)]
        assert [sizes[0], sizes[4]] == own
        assert float(row["ejection fraction 3"]) == pytest.approx((own[0] - own[1]) / own[0], abs=1e-4)
        shares = [float(v) for v in row["share 3"].split(";")]
        assert 1 - shares[4] == pytest.approx(float(row["ejection fraction 3"]), abs=2e-4)
        assert shares == pytest.approx([v / own[0] for v in sizes], abs=1e-3)
        assert float(row["overlap 3"]) > 0.9
        assert min(sizes) >= own[1]
        assert max(sizes) <= own[0]
    image = nibabel.load(tmp_path / "loops" / rows[0]["image"])
    assert bytes(image.header["intent_name"]).startswith(b"simulated")
    assert image.shape == (40, 40, 2, 10)
    assert float(image.header["pixdim"][4]) == pytest.approx(0.09)
    data = as_sequences(open_dataset(tmp_path / "loops" / "loops.csv", target="voxels 3"), None)
    assert len(data.samples[0].targets) == 10
    (folder / "patient001_frame12.h5").unlink()
    done = cli("data", "simulate-motion", folder, "-o", tmp_path / "again")
    assert "left out: patient001: has 1 labelled images; two are wanted" in done.stdout
    (folder / "patient000_frame12.h5").unlink()
    (folder / "patient002_frame12.h5").unlink()
    done = cli("data", "simulate-motion", folder, "-o", tmp_path / "none")
    assert done.returncode == 2
    assert "no patient has two labelled images" in done.stderr
    assert not (tmp_path / "none").exists()


def test_uneven_times_are_not_written_as_even(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFormat, match="uneven times"):
        nifti.write(loop(3, times=(0.0, 1.0, 3.0)), tmp_path / "a.nii.gz")
    cine = loop(3, times=(0.0, 0.5, 1.0))
    nifti.write(cine, tmp_path / "b.nii.gz")
    again = nifti.read(tmp_path / "b.nii.gz")
    assert isinstance(again, Cine)
    assert np.array_equal(again.frames, cine.frames)
    assert again.times_s == (0.0, 0.5, 1.0)
