"""`compress`: a model made smaller and faster, and what that costs, measured."""

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np

from isocenter.acquire.labelled import read_images
from isocenter.compression.prune import pruned, smaller
from isocenter.compression.quantise import quantised
from isocenter.data.card import ModelCard
from isocenter.data.dataset import Dataset
from isocenter.data.evaluation import Evaluation, Predictions
from isocenter.data.provenance import Json
from isocenter.errors import InputError, IsocenterError, MissingExtra
from isocenter.evaluation.drift import Drift, drifts
from isocenter.formats import model_folder
from isocenter.inference.foreign import ONNX
from isocenter.inference.model import NetworkModel, NetworkSpec, Spec, load
from isocenter.inference.network_input import network_input
from isocenter.inference.onnx_network import OnnxNetwork
from isocenter.inference.predictor import Predictor, Running
from isocenter.inference.prepare import prepare
from isocenter.inference.runtime import onnx_bytes, runtime
from isocenter.inference.sliding import Forward, starts
from isocenter.ops.window import cut
from isocenter.pipeline.image_judgement import test_cases
from isocenter.pipeline.image_material import Effort
from isocenter.pipeline.image_prediction import with_channels
from isocenter.pipeline.image_training import train_images
from isocenter.pipeline.inputs import open_for
from isocenter.pipeline.learn import COMPRESSION, require_free
from isocenter.pipeline.outcomes import outcome_of
from isocenter.pipeline.outcomes.outcome import Judging
from isocenter.pipeline.output import whole_folder
from isocenter.pipeline.recalibrate import promises_of, recalibrated
from isocenter.training.images.choose import Wish
from isocenter.training.images.course import Ways
from isocenter.training.images.division import divided_as
from isocenter.training.images.plan import Plan, plan_of
from isocenter.training.images.start import Start
from isocenter.types import Array, Progress
from isocenter.version import __version__
from isocenter.zoo import model_path

METHODS = ("prune", "distill", "int8")
_WINDOWS, _ROOM, _EACH = (64, 300), 2**27, 3
"""Windows that ranges are fitted to, at least and (as NNCF itself takes) at most; voxels of all; windows of a case."""
_ROUNDS, _ENOUGH_S = (7, 50), 4.0
"""Turns at least and at most, and the seconds after which no more are taken: short windows need many."""
_IN_A_ROW, _TURN_S = (3, 30), 0.3
"""Windows of one way in its turn, at least and at most, and the seconds after which no more are taken."""
_RUNTIMES = ("torch-float32", "torch-bfloat16", "openvino-float32", "openvino-bfloat16")


@dataclass(frozen=True)
class Wanted:
    """How a model is made smaller, and what it may cost.

    Args:
        methods: in this order: `prune` or `distill`, `int8`.
        share: of the channels that are left by the first two.
        network: another network for the pupil of `distill`; None: the same with fewer channels.
        tolerance: by how much a metric may fall.
        budget_s: seconds for learning.
        group: see `acquire.datasets.open_dataset`.
        seed: of everything random.
        force: replace a model that stands there.
    """

    methods: Sequence[str] = ("int8",)
    share: float = 0.5
    network: str | None = None
    tolerance: float = 0.005
    budget_s: float | None = None
    group: str | None = None
    seed: int = 0
    force: bool = False


@dataclass(frozen=True)
class Speed:
    """One way of running one of the networks.

    Args:
        name: as `torch-float32`.
        seconds: of one window, the least of several rounds.
    """

    name: str
    seconds: float


@dataclass(frozen=True)
class Compressed:
    """What came out.

    Args:
        folder: of the small model; nothing stands there if it is refused.
        bytes_before: of the weights in float32.
        bytes_after: of the small model's file.
        before: ways of running the model as it was.
        after: the small one.
        drifts: of each metric, on cases that neither learnt from.
        cases: how many.
        refused: why it is not written; empty: it is.
    """

    folder: Path
    bytes_before: int
    bytes_after: int
    before: tuple[Speed, ...]
    after: Speed
    drifts: tuple[Drift, ...]
    cases: int
    refused: str = ""

    def as_json(self) -> dict[str, Json]:
        """Plain data."""
        return {
            "bytes_before": self.bytes_before, "bytes_after": self.bytes_after,
            "smaller": self.bytes_before / self.bytes_after,
            "seconds": {speed.name: speed.seconds for speed in (*self.before, self.after)},
            "faster": {speed.name: speed.seconds / self.after.seconds for speed in self.before},
            "drift": [drift.as_json() for drift in self.drifts], "cases": self.cases, "refused": self.refused,
            "isocenter": __version__, "not_for_clinical_use": True,
        }  # fmt: skip


def compress(
    model: str | Path,
    data: str | Path,
    out: str | Path,
    wanted: Wanted | None = None,
    *,
    on_progress: Progress | None = None,
    tell: Callable[[str], None] | None = None,
) -> Compressed:
    """Make a model smaller and faster, and verify it: size, speed here, drift of every metric on test cases.

    Args:
        model: folder of a model of images.
        data: data set with the cases that it learnt from (to calibrate and learn by) and others (to judge by).
        out: folder for the small model.
        wanted: how, and what it may cost.
        on_progress: told what is done.
        tell: told what was decided.
    Raises: InputError for models that cannot be, and data sets without cases to judge by.
    """
    how, folder = wanted or Wanted(), Path(out)
    say = tell or (lambda _text: None)
    _require_methods(how)
    require_free(folder, force=how.force)
    source = model_path(model)
    before = load(source)
    _require_plain(before)
    everything = open_for(before.spec.task, data, group=how.group, target=before.card.own_target, split=None)
    everything = with_channels(everything, before)
    judged = test_cases(everything, before.card.training, None, [])
    with tempfile.TemporaryDirectory(prefix="isocenter-") as temporary:
        place = Path(temporary) / "model"
        small = source
        seen = _learnt_from(everything, before.card, judged)
        if {"prune", "distill"} & set(how.methods):
            small = _taught(before, Path(data), place, how, on_progress=on_progress, tell=say)
        if "int8" in how.methods:
            small = _in_whole_numbers(load(small), seen, Path(temporary) / "int8", say=say)
            card = recalibrated(load(small), everything, seed=how.seed, on_progress=on_progress)
            model_folder.write_card(card, small)
        done = _verified(before, load(small), folder, judged, how, on_progress=on_progress)
        if not done.refused:
            _keep(small, source, folder, done)
    return done


def _require_methods(how: Wanted) -> None:
    """Refuse methods that are none, or do not go together.

    Raises: InputError.
    """
    odd = [m for m in how.methods if m not in METHODS]
    if odd or not how.methods or {"prune", "distill"} <= set(how.methods):
        raise InputError(
            f"--method {','.join(how.methods)}: there are prune or distill (one of them), and int8 after it"
        )
    if how.network is not None and "distill" not in how.methods:
        raise InputError(f"--network {how.network}: names a pupil, which only --method distill has")
    if not 0.1 <= how.share < 1:
        raise InputError(f"--share {how.share:g}: from .1 up to 1")
    if {"prune", "distill"} & set(how.methods) and how.budget_s is None:
        raise InputError("prune and distill learn again: say how long with --budget")


def _require_plain(model: NetworkModel) -> None:
    if len(model.modules) != 1:
        raise InputError(f"{model.folder}: is an ensemble of {len(model.modules)}; distill one of its networks")
    if model.spec.network.name == ONNX:
        raise InputError(f"{model.folder}: is an ONNX network already, which is not made smaller here")
    if model.spec.frames:
        raise InputError(f"{model.folder}: looks at sequences of any length, which are not made smaller here")
    if model.spec.task not in ("classify", "regress", "segment", "enhance"):
        raise InputError(f"{model.folder}: a model of {model.spec.task} is not made smaller")


# ---- fewer channels -------------------------------------------------------------------------------------------------


def _taught(
    model: NetworkModel, data: Path, folder: Path, how: Wanted, *, on_progress: Progress | None,
    tell: Callable[[str], None],
) -> Path:  # fmt: skip
    """A smaller network that learnt from the model, on the cases that the model learnt from."""
    plan = _plan_of(model.card)
    if how.network is not None:
        small = model.spec.model_copy(update={"network": NetworkSpec(name=how.network)})
    else:
        small = smaller(model.spec, how.share)
    start = None
    if "prune" in how.methods:
        origin: dict[str, Json] = {"model": f"{model.folder.name}, pruned", "sha256": model.card.weights_sha256}
        start = Start(pruned(model.modules[0], model.spec, small), small, origin)
        tell(f"{small.network.name}: pruned to {how.share:.0%} of its channels")
    changed = plan.changed(
        network=small.network.model_dump(), schedule={"steps": 0, "turns": ()}, seed=how.seed, frozen=(),
        loss={"class_weights": ()},
    )  # fmt: skip
    told = model.card.training
    effort = Effort(
        budget_s=how.budget_s, plan=changed, ways=Ways(), resplit=bool(told.get("resplit")),
        hold_out=None if told.get("hold_out") is None else int(told["hold_out"]),
        group=how.group, target=model.card.own_target, drop_leaks=True, start=start, teachers=model.modules,
    )  # fmt: skip
    train_images(
        data,
        folder,
        task=plan.task,
        wish=Wish(),
        effort=effort,
        promises=promises_of(model.card),
        on_progress=on_progress,
        tell=tell,
    )
    return folder


def _plan_of(card: ModelCard) -> Plan:
    stated = card.lineage.get("plan")
    if not stated:
        raise InputError("the model's card holds no plan: it was not trained here, so only int8 can be done")
    return plan_of(stated, "the model's plan")


# ---- whole numbers --------------------------------------------------------------------------------------------------


def _learnt_from(data: Dataset, card: ModelCard, judged: Dataset) -> Dataset:
    """Cases that calibrate: those of the data set that do not judge.

    Raises: InputError where there is none.
    """
    known = divided_as(data, card.training)
    own = {sample.case for sample in judged.samples}
    rest = tuple(s for s in known.samples if s.case not in own and s.split in ("", "train"))
    if not rest:
        raise InputError(
            f"{data.path}: holds no cases beside those that judge: a small model wants others to "
            "be fitted to, or to learn from"
        )
    return replace(data, samples=rest)


def _in_whole_numbers(model: NetworkModel, seen: Dataset, folder: Path, *, say: Callable[[str], None]) -> Path:
    spec, module = model.spec, model.modules[0]
    shape = (1, spec.inputs, *spec.patch)
    windows = windows_from(seen, spec, int(np.clip(_ROOM // prod(shape), *_WINDOWS)))
    say(f"int8: fitted to {len(windows)} windows")
    data = quantised(onnx_bytes(module, shape), windows)
    network = NetworkSpec(name=ONNX, settings={"engine": "openvino"})
    card = replace(
        model.card, network=spec.model_copy(update={"network": network}).model_dump(mode="json"),
        lineage={**model.card.lineage, "quantised_from": model.card.weights_sha256},
    )  # fmt: skip
    model_folder.write_graph(data, card, folder)
    return folder


def windows_from(data: Dataset, spec: Spec, count: int) -> list[Array]:
    """Windows (`1 c *w`) from the middle and the edges of cases, evenly.

    Raises: InputError where no case can be read.
    """
    step = max(1, len(data.samples) // count)
    found: list[Array] = []
    failed = ""
    for sample in data.samples[::step]:
        try:
            ready, _ = network_input(prepare(read_images(sample), spec.preparation), spec, sample.groups)
        except (IsocenterError, OSError) as error:
            failed = f"{sample.case}: {error}"
            continue
        found += _cut(ready.array, spec)
        if len(found) >= count:
            break
    if not found:
        raise InputError(f"no case can be read: {failed}")
    return found[:count]


def _cut(array: Array, spec: Spec) -> list[Array]:
    """Up to a few windows of a case."""
    size = (1, *spec.patch) if spec.flat else spec.patch
    deep, *across = [starts(n, s, 0.0) for n, s in zip(array.shape[1:], size, strict=True)]
    middle = [row[len(row) // 2] for row in across]
    some = deep[:: max(1, len(deep) // _EACH)][:_EACH]
    windows = [cut(array, (z, *middle), size) for z in some]
    return [(window[:, 0] if spec.flat else window)[None] for window in windows]


# ---- what it costs --------------------------------------------------------------------------------------------------


def _verified(
    before: NetworkModel, after: NetworkModel, folder: Path, judged: Dataset, how: Wanted, *,
    on_progress: Progress | None,
) -> Compressed:  # fmt: skip
    """Size, speed and drift; refused where it is slower, no smaller, or too far off."""
    answers = [
        _answers(Predictor(model, Running(runtime=runtime_name)), judged, how, on_progress)
        for model, runtime_name in ((before, "torch-float32"), (after, "auto"))
    ]
    one, other = (float(model.card.operating_point.get("threshold", 0.5)) for model in (before, after))
    found = drifts(answers[0], answers[1], thresholds=(one, other), seed=how.seed)
    window = windows_from(judged, before.spec, 1)[0]
    timed = _timed(before, after, window)
    weights = 4 * sum(p.numel() for p in before.modules[0].parameters())
    file = after.folder / (model_folder.GRAPH if after.spec.network.name == ONNX else model_folder.TENSORS)
    done = Compressed(folder, weights, file.stat().st_size, timed[0], timed[1], found, len(judged.samples))
    return replace(done, refused=_refusal(done, how.tolerance))


def _refusal(done: Compressed, tolerance: float) -> str:
    worse = [d for d in done.drifts if d.loss > tolerance]
    if worse:
        most = max(worse, key=lambda d: d.loss)
        return f"{most.metric} gets worse by {most.loss:.4f}, and {tolerance:g} was allowed (--tolerance)"
    slower = [speed for speed in done.before if speed.seconds < done.after.seconds]
    if slower:
        best = min(slower, key=lambda s: s.seconds)
        now, was = 1000 * done.after.seconds, 1000 * best.seconds
        return f"it is slower: {now:.1f} ms a window, and {was:.1f} ms as it was ({best.name})"
    if done.bytes_after >= done.bytes_before:
        return f"it is no smaller: {done.bytes_after} bytes, and {done.bytes_before} before"
    return ""


def _answers(predictor: Predictor, data: Dataset, how: Wanted, tell: Progress | None) -> Evaluation | Predictions:
    judging = Judging([], how.seed, everything=data, on_progress=tell)
    return outcome_of(predictor.model.spec).judged(predictor, data, judging)


def _timed(before: NetworkModel, after: NetworkModel, window: Array) -> tuple[tuple[Speed, ...], Speed]:
    """Seconds of one window among many, in turn, so that a busy moment meets all alike.

    Each way answers several windows in its turn, as it does in use: the first ones find the threads of the way before
    still waiting on their cores.
    """
    runs, names = _runs(before, window), _runs(after, window)
    everything = {**runs, **{f"compressed {name}": run for name, run in names.items()}}
    took: dict[str, float] = {}
    for run in everything.values():
        run(window)
    started = time.monotonic()
    for number in range(_ROUNDS[1]):
        for name, run in everything.items():
            took[name] = min(_least(run, window), took.get(name, float("inf")))
        if number + 1 >= _ROUNDS[0] and time.monotonic() - started > _ENOUGH_S:
            break
    best = min((name for name in took if name not in runs), key=lambda name: took[name])
    return tuple(Speed(name, took[name]) for name in runs), Speed(best, took[best])


def _least(run: Forward, window: Array) -> float:
    """Seconds of the fastest of several windows, one right after the other."""
    took: list[float] = []
    started = time.perf_counter()
    while len(took) < _IN_A_ROW[0] or (len(took) < _IN_A_ROW[1] and time.perf_counter() - started < _TURN_S):
        begun = time.perf_counter()
        run(window)
        took.append(time.perf_counter() - begun)
    return min(took)


def _runs(model: NetworkModel, window: Array) -> dict[str, Forward]:
    """The ways in which a network can be run here."""
    module = model.modules[0]
    if isinstance(module, OnnxNetwork):
        return {"onnx": module.answer}
    found: dict[str, Forward] = {}
    for name in _RUNTIMES:
        try:
            found[name] = runtime(module, name, tuple(window.shape))
        except MissingExtra:
            continue
    return found


def _keep(small: Path, source: Path, folder: Path, done: Compressed) -> None:
    """The small model's files, its card with what was measured, and the record."""
    card = model_folder.read_card(small)
    told = done.as_json()
    origin = model_folder.read_card(source).weights_sha256
    card = replace(
        card, metrics={**card.metrics, "compression": told}, lineage={**card.lineage, "compressed_from": origin}
    )
    with whole_folder(folder) as empty:
        for file in small.iterdir():
            if file.is_file() and file.name != model_folder.CARD:
                (empty / file.name).write_bytes(file.read_bytes())
        model_folder.write_card(card, empty)
        (empty / COMPRESSION).write_text(json.dumps(told, indent=2, allow_nan=False), "utf-8")
