"""A trained network, ready to answer: prepared, gated, planned within the memory, run, put back on the input's grid."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from isocenter.data.cine import Cine
from isocenter.data.dataset import Answers
from isocenter.data.geometry import Geometry
from isocenter.data.labels import Label, LabelMap
from isocenter.data.provenance import Json, Step
from isocenter.data.volume import Quantity, Volume
from isocenter.errors import InputError
from isocenter.inference.answers import enhanced, scored, segmented
from isocenter.inference.degradation import finer_grid, own_factor
from isocenter.inference.detected import detected
from isocenter.inference.frames import PreparedFrames, followed, foretold, next_time, prepared_frames
from isocenter.inference.gate import Concern, concerns, frame_concerns, object_concerns
from isocenter.inference.model import NetworkModel, load
from isocenter.inference.network_input import network_input, require_images
from isocenter.inference.object_masks import cut, turned
from isocenter.inference.placed import to_image
from isocenter.inference.planner import Fit, fit
from isocenter.inference.prepare import Prepared, prepare
from isocenter.inference.runner import Runner, device_of
from isocenter.inference.sliding import Forward
from isocenter.inference.torch_runtime import DetectorRuntime, Precision
from isocenter.inference.unusual import distances, heat, share_below
from isocenter.metrics import reliability as rel
from isocenter.networks.detector import Detector, Found
from isocenter.ops.boxes import mean_edges
from isocenter.ops.memory import free_bytes
from isocenter.types import Array
from isocenter.zoo import model_path


@dataclass(frozen=True)
class Running:
    """How a model is run.

    Args:
        device: `auto`, `cpu`, `cuda`, `mps`.
        runtime: a name of `inference.runtime.RUNTIMES`, or `auto`: the fastest that agrees with float32, measured once.
        overlap: of windows.
        flips: answers are averaged over the model's flips.
        strict: an image outside the training range is refused, not only marked.
        memory: bytes that the process may take in all; None: four fifths of what is free.
        doubt: a segmentation says how uncertain each voxel is.
    """

    device: str = "auto"
    runtime: str = "auto"
    overlap: float = 0.5
    flips: bool = True
    strict: bool = False
    memory: int | None = None
    doubt: bool = False


_LOST = 0.5
"""Share of an image that was not measured, from which an answer is looked at."""


@dataclass(frozen=True, eq=False)
class CaseAnswer:
    """What a model says of one case.

    Args:
        case: its name.
        labels: of a segmentation, on the input's own grid.
        scores: probabilities of the classes (calibrated), or one value.
        concerns: what of the image the model was not trained for.
        failed: why there is no answer.
        geometry: of the input.
        doubt: entropy of each voxel's probabilities, 0 to 1, on the input's own grid.
        heat: where an unusual image is so, on the input's own grid.
        image: of a network that makes images better, on the grid that it gives.
        times: seconds of each frame that was looked at; None: it is no sequence.
        frames: numbers of those frames in the file.
        count: frames of the file.
        found: objects, as boxes in the input's own voxels, the surest first; scores are calibrated.
    """

    case: str
    labels: LabelMap | None = None
    scores: Array | None = field(default=None, repr=False)
    concerns: Sequence[Concern] = ()
    failed: str = ""
    geometry: Geometry | None = None
    doubt: Volume | None = None
    heat: Volume | None = None
    image: Volume | None = None
    times: Array | None = field(default=None, repr=False)
    frames: Array | None = field(default=None, repr=False)
    count: int = 1
    found: Found | None = None


@dataclass(frozen=True, eq=False)
class _Asked:
    """An image, what the network eats of it, and the answer so far."""

    volume: Volume
    ready: Prepared
    answer: CaseAnswer


class Predictor:
    """A model, ready to answer.

    Args:
        model: the model's folder, the name of one that ships, or the loaded model.
        running: how it is run.
        tell: told how images are walked over, and what that takes, whenever it changes.
    """

    def __init__(
        self,
        model: str | Path | NetworkModel,
        running: Running | None = None,
        *,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self.model = model if isinstance(model, NetworkModel) else load(model_path(model))
        self.running = running or Running()
        self.runner = Runner(self.model, device=device_of(self.running.device), runtime=self.running.runtime)
        self.limit = self.running.memory or int(0.8 * free_bytes())
        self.told: str = ""
        self.tell = tell

    def __call__(self, volume: Volume, case: str = "image", row: Mapping[str, str] | None = None) -> CaseAnswer:
        """The answer for one volume.

        Args:
            volume: its images as channels; of one that it lacks, nothing is a number.
            case: its name.
            row: its cells in a table, for a model that takes columns beside the image.

        Raises: InputError where the gate refuses; see `inference.prepare.prepare`.
        """
        spec = self.model.spec
        if spec.task == "generate":
            raise InputError("this model makes images from noise: `isocenter generate MODEL -n 20 -o FOLDER`")
        if spec.frames:
            raise InputError(f"{case}: is one image, and this model looks at sequences of frames")
        ready, found = self._looked_at(volume, row or {})
        self._require_allowed(found, case)
        answer = CaseAnswer(case, concerns=found, geometry=volume.geometry)
        return self._ways[self.model.spec.task](_Asked(volume, ready, answer))

    def follow(
        self, cine: Cine, case: str = "sequence", *, at: float | None = None, keep: Sequence[int] = ()
    ) -> CaseAnswer:
        """The answer for a sequence of frames: one for all, one of each frame, or the frame that follows.

        Args:
            cine: frames.
            case: its name.
            at: seconds on the cine's clock for which a frame is foretold; None: the mean distance after the last.
            keep: numbers of frames that are looked at in any case, where there are too many for all.

        Raises: InputError where the model looks at images, or the gate refuses; see `inference.frames.prepared_frames`.
        """
        spec, card = self.model.spec, self.model.card
        if not spec.frames:
            raise InputError(
                f"{case}: is a sequence of {len(cine)} frames, and this model looks at images: take one frame"
            )
        if not self.runner.name.startswith(("auto", "torch")):
            raise InputError(f"--runtime {self.runner.name}: sequences of any length are run by torch")
        ready = prepared_frames(cine, spec.preparation, spec.frames, newest=spec.task == "forecast", keep=keep)
        times, numbers = ready.times, ready.numbers
        found = concerns(cine.frame(len(cine) // 2), card.gate, ready.frames[len(times) // 2])
        found += frame_concerns(times, card.gate)
        self._require_allowed(found, case)
        if cine.times_s is None:
            found.append(Concern("review", "no times are stated: frames count as one second apart"))
        run = self.runner.forward(ready.frames, None)
        answer = CaseAnswer(case, concerns=found, geometry=cine.geometry, times=times, frames=numbers, count=len(cine))
        if spec.task == "forecast":
            first = float(cine.clock[int(numbers[0])])
            return replace(
                answer, image=self._foretold(run, cine, ready, next_time(times) if at is None else at - first)
            )
        said = followed(run, ready.eaten, times, spec)
        _require_numbers(said)
        if spec.task == "classify":
            said = rel.calibrated(said, card.calibration)
        return replace(answer, scores=said if spec.each_frame else said[0])

    def _foretold(self, run: Forward, cine: Cine, ready: PreparedFrames, at: float) -> Volume:
        """The frame at a time after these: the last one and the change that the network foretells, on its own grid."""
        change = foretold(run, ready.eaten, ready.times, at) - ready.eaten[-1]
        _require_numbers(change)
        back = ready.change_back(change)
        last = cine.frame(int(ready.numbers[-1]))
        step = Step("inference.foretell", {**self._told(), "seconds_ahead": float(at - ready.times[-1])})
        return last.then(step, voxels=np.asarray(last.voxels, np.float32) + back)

    def _require_allowed(self, found: Sequence[Concern], case: str) -> None:
        """Raises: InputError for what the gate refuses."""
        refusals = [c for c in found if c.level == "refuse" or self.running.strict]
        if refusals:
            raise InputError(f"{case}: {refusals[0].text}")

    @property
    def _ways(self) -> Mapping[Answers, Callable[["_Asked"], CaseAnswer]]:
        """Of each task, how a prepared image is answered."""
        return {
            "classify": self._whole, "regress": self._whole, "segment": self._segmented, "detect": self._objects,
            "enhance": self._enhanced, "anomaly": self._unusual,
        }  # fmt: skip

    def _looked_at(self, volume: Volume, row: Mapping[str, str]) -> tuple[Prepared, list[Concern]]:
        """What the network eats, and what of it the network was not trained for, or lacks."""
        spec = self.model.spec
        require_images(volume, spec)
        bare = prepare(volume, spec.preparation)
        found = concerns(volume, self.model.card.gate, bare.array, absent=bare.absent)
        whole, lacking = network_input(bare, spec, row)
        names = [*(spec.channels[i] for i in bare.absent), *lacking]
        lost = 0.0 if volume.not_measured is None else float(volume.not_measured.mean())
        if lost > _LOST:
            found.append(Concern("review", f"{lost:.0%} of it was not measured, or lies outside one of its images"))
        if names:
            text = f"{', '.join(names)}: absent; the model answers without, and is less sure"
            found.append(Concern("review", text))
        return whole, found

    def _require_picture(self, ready: Prepared, case: str) -> None:
        if self.model.spec.flat and ready.array.shape[1] != 1:
            raise InputError(f"{case}: has {ready.array.shape[1]} slices, and this model looks at one picture")

    def _whole(self, asked: "_Asked") -> CaseAnswer:
        """One class (calibrated) or one value of the image."""
        spec = self.model.spec
        self._require_picture(asked.ready, asked.answer.case)
        scores = scored(
            self.runner.forward(asked.ready.array, None), [asked.ready.array], spec, flips=self.running.flips
        )
        _require_numbers(scores)
        if spec.task == "classify":
            scores = rel.calibrated(scores, self.model.card.calibration)
        return replace(asked.answer, scores=np.atleast_1d(scores[0]))

    def _segmented(self, asked: "_Asked") -> CaseAnswer:
        """A label map on the input's own grid."""
        way = self._fitted(asked.volume, asked.ready)
        forward = self.runner.forward(asked.ready.array, way.windows, spare=self.limit - way.peak)
        doubt = np.zeros(asked.ready.array.shape[1:], np.float32) if self.running.doubt else None
        numbers = segmented(forward, asked.ready.array, self.model.spec, way.windows, doubt=doubt)
        labels = named(asked.ready.back(numbers), asked.volume, self.model)
        return replace(asked.answer, labels=labels, doubt=_doubt(doubt, asked.ready, labels))

    def _objects(self, asked: "_Asked") -> CaseAnswer:
        """Objects on the input's own grid, with calibrated scores."""
        spec, card = self.model.spec, self.model.card
        self._require_picture(asked.ready, asked.answer.case)
        precision: Precision = "bfloat16" if self.runner.half else "float32"
        runs = [DetectorRuntime(m, precision=precision, device=self.runner.device) for m in self.model.modules]
        found = detected(runs, asked.ready.array, spec, overlap=self.running.overlap, flips=self.running.flips)
        scores = np.column_stack((1 - found.scores, found.scores))
        sure = rel.calibrated(scores, card.calibration)[:, 1] if len(found) else found.scores
        decided = found.only(np.flatnonzero(sure >= float(card.operating_point.get("threshold", 0.5))))
        edges = mean_edges(decided.boxes, spec.preparation.dims)
        sizes = {name: edges[decided.classes == k] for k, name in enumerate(spec.classes)}
        odd = [*object_concerns(sizes, card.gate), *_full(len(decided), self.model)]
        self._require_allowed(odd, asked.answer.case)
        boxes, masks = to_image(found.boxes, asked.ready), found.masks
        within = np.clip(boxes, 0, np.asarray(asked.volume.geometry.shape, np.float64))
        if masks is not None:
            masks = cut(turned(masks, asked.ready), boxes, within)
        placed = Found(within, sure, found.classes, masks).only(np.argsort(-sure, kind="stable"))
        return replace(asked.answer, found=placed, concerns=(*asked.answer.concerns, *odd))

    def _enhanced(self, asked: "_Asked") -> CaseAnswer:
        """The better image, in the unit of the one that came, on its grid or the finer one that the network gives."""
        spec = self.model.spec
        way = self._fitted(asked.volume, asked.ready)
        forward = self.runner.forward(asked.ready.array, way.windows, spare=self.limit - way.peak)
        values = enhanced(forward, asked.ready.array, spec, way.windows)
        _require_numbers(values)
        told = self._told()
        factor = (1, 1, 1)
        if spec.degradation is not None:
            told["undoes"] = spec.degradation.words
            factor = own_factor(spec.degradation, asked.volume.voxels.shape)
        step = Step("inference.enhance", told)
        grid = finer_grid(asked.volume.geometry, factor)
        return replace(
            asked.answer,
            image=Volume(asked.ready.in_units(values), grid, asked.volume.quantity, (*asked.volume.history, step)),
        )

    def _unusual(self, asked: "_Asked") -> CaseAnswer:
        """Distance from what is usual, the share of normal images that are less unusual, and a map of where."""
        self._require_picture(asked.ready, asked.answer.case)
        module, flat = self.model.modules[0].to(self.runner.device), self.model.spec.flat
        image = np.clip(asked.ready.array[:, 0] if flat else asked.ready.array, 0, 1)
        far = distances(module, image[None])
        _require_numbers(far)
        where = heat(module, image)
        grid = asked.ready.field(where[None] if flat else where)
        step = Step("inference.unusual", self._told())
        shown = Volume(grid[None], asked.volume.geometry, Quantity.ARBITRARY, (*asked.volume.history, step))
        share = share_below(float(far[0]), self.model.card.training)
        return replace(asked.answer, scores=np.asarray([float(far[0]), share]), heat=shown)

    def _told(self) -> dict[str, Json]:
        """The model, for the history of what it made."""
        return {"model": self.model.card.model, "weights_sha256": self.model.card.weights_sha256}

    def _fitted(self, volume: Volume, ready: Prepared) -> Fit:
        """Windows that stay within the memory."""
        shape = tuple(int(n) for n in ready.array.shape[1:])
        answer = 2 * ready.array.nbytes if self.model.spec.task == "enhance" else 0
        way = fit(
            self.model.spec, self.model.modules[0], (shape[0], shape[1], shape[2]), limit=self.limit,
            held=volume.voxels.nbytes + ready.array.nbytes * (2 if self.running.doubt else 1) + answer,
            flips=self.running.flips, overlap=self.running.overlap,
            half=self.runner.half,
        )  # fmt: skip
        if self.tell is not None and way.words != self.told:
            self.tell(way.words)
        self.told = way.words
        return way


def _full(count: int, model: NetworkModel) -> list[Concern]:
    """As many objects as the network can answer with: there may be more."""
    most = min(module.most for module in model.modules if isinstance(module, Detector))
    if count < most:
        return []
    return [Concern("review", f"{count} objects were found, and {most} are the most that the network can name at once")]


def _require_numbers(answer: Array) -> None:
    if not np.isfinite(answer).all():
        raise InputError("the network's answer is no number: its weights or its preparation are damaged")


def _doubt(found: Array | None, ready: Prepared, labels: LabelMap) -> Volume | None:
    """Entropy on the input's own grid."""
    if found is None:
        return None
    step = Step("inference.entropy", {"unit": "share of the largest entropy"})
    return Volume(ready.field(found)[None], labels.geometry, Quantity.ARBITRARY, (*labels.history, step))


def named(numbers: Array, volume: Volume, model: NetworkModel) -> LabelMap:
    """Outputs of a network (0, 1, 2 ...) as the label values that it was trained on."""
    labels = model.spec.labels
    table = np.zeros(len(labels) + 1, np.int32)
    table[1:] = list(labels)
    step = Step("inference.segment", {"model": model.card.model, "weights_sha256": model.card.weights_sha256})
    return LabelMap(
        table[numbers], volume.geometry, tuple(Label(v, n) for v, n in labels.items()), (*volume.history, step)
    )


def decided(scores: Array, model: NetworkModel) -> tuple[int, tuple[str, ...]]:
    """The class that is decided for, and the prediction set."""
    card, classes = model.card, model.spec.classes
    threshold = float(card.operating_point.get("threshold", 0.5))
    best = int(scores[1] >= threshold) if len(classes) == 2 else int(np.argmax(scores))
    quantiles = card.conformal.get("quantiles")
    if not quantiles:
        return best, ()
    sets = rel.prediction_sets(scores[None], [float("inf") if q is None else float(q) for q in quantiles])[0]
    return best, tuple(name for name, inside in zip(classes, sets, strict=True) if inside)
