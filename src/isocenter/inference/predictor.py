"""A trained network, ready to answer: prepared, gated, planned within the memory, run, put back on the input's grid."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from isocenter.data.geometry import Geometry
from isocenter.data.labels import Label, LabelMap
from isocenter.data.provenance import Json, Step
from isocenter.data.volume import Quantity, Volume
from isocenter.errors import InputError
from isocenter.inference.answers import enhanced, scored, segmented
from isocenter.inference.columns import with_columns
from isocenter.inference.degradation import finer, finer_grid
from isocenter.inference.detected import detected
from isocenter.inference.gate import Concern, concerns
from isocenter.inference.model import NetworkModel, load
from isocenter.inference.placed import to_image
from isocenter.inference.planner import Fit, fit
from isocenter.inference.prepare import Prepared, prepare
from isocenter.inference.runner import Runner, device_of
from isocenter.inference.torch_runtime import DetectorRuntime, Precision
from isocenter.inference.unusual import distances, heat, share_below
from isocenter.metrics import reliability as rel
from isocenter.networks.detector import Found
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
    found: Found | None = None


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
        spec, card = self.model.spec, self.model.card
        ready, found = self._looked_at(volume, prepare(volume, spec.preparation), row or {})
        refusals = [c for c in found if c.level == "refuse" or self.running.strict]
        if refusals:
            raise InputError(f"{case}: {refusals[0].text}")
        if spec.task == "segment":
            way = self._fitted(volume, ready)
            forward = self.runner.forward(ready.array, way.windows, spare=self.limit - way.peak)
            doubt = np.zeros(ready.array.shape[1:], np.float32) if self.running.doubt else None
            numbers = segmented(forward, ready.array, spec, way.windows, doubt=doubt)
            labels = named(ready.back(numbers), volume, self.model)
            return CaseAnswer(
                case, labels, concerns=found, geometry=volume.geometry, doubt=_doubt(doubt, ready, labels)
            )
        if spec.task == "detect":
            found_here = self._objects(ready)
            return CaseAnswer(case, concerns=found, geometry=volume.geometry, found=found_here)
        if spec.task == "enhance":
            return CaseAnswer(case, concerns=found, geometry=volume.geometry, image=self._enhanced(volume, ready))
        if spec.task == "generate":
            raise InputError("this model makes images from noise: `isocenter generate MODEL -n 20 -o FOLDER`")
        if spec.flat and ready.array.shape[1] != 1:
            raise InputError(f"{case}: has {ready.array.shape[1]} slices, and this model looks at one picture")
        if spec.task == "anomaly":
            far, where = self._unusual(volume, ready)
            return CaseAnswer(case, scores=far, concerns=found, geometry=volume.geometry, heat=where)
        scores = scored(self.runner.forward(ready.array, None), [ready.array], spec, flips=self.running.flips)
        if not np.isfinite(scores).all():
            raise InputError(f"{case}: the network's answer is no number: its weights or its preparation are damaged")
        if spec.task == "classify":
            scores = rel.calibrated(scores, card.calibration)
        return CaseAnswer(case, scores=np.atleast_1d(scores[0]), concerns=found, geometry=volume.geometry)

    def _looked_at(self, volume: Volume, ready: Prepared, row: Mapping[str, str]) -> tuple[Prepared, list[Concern]]:
        """What the network eats, and what of it the network was not trained for, or lacks."""
        spec = self.model.spec
        found = concerns(volume, self.model.card.gate, ready.array, absent=ready.absent)
        whole, lacking = with_columns(ready, row, spec.columns)
        names = [*(spec.channels[i] for i in ready.absent), *lacking]
        if names:
            text = f"{', '.join(names)}: absent; the model answers without, and is less sure"
            found.append(Concern("review", text))
        return whole, found

    def _objects(self, ready: Prepared) -> Found:
        """Objects on the input's own grid, with calibrated scores.

        Raises: InputError for several slices where the network looks at pictures.
        """
        spec, card = self.model.spec, self.model.card
        if spec.flat and ready.array.shape[1] != 1:
            raise InputError(f"the image has {ready.array.shape[1]} slices, and this model looks at one picture")
        precision: Precision = "bfloat16" if self.runner.half else "float32"
        runs = [DetectorRuntime(m, precision=precision, device=self.runner.device) for m in self.model.modules]
        found = detected(runs, ready.array, spec, overlap=self.running.overlap, flips=self.running.flips)
        scores = np.column_stack((1 - found.scores, found.scores))
        sure = rel.calibrated(scores, card.calibration)[:, 1] if len(found) else found.scores
        return Found(to_image(found.boxes, ready), sure, found.classes, found.masks)

    def _enhanced(self, volume: Volume, ready: Prepared) -> Volume:
        """The better image, in the unit of the one that came, on its grid or the finer one that the network gives."""
        model, spec = self.model, self.model.spec
        d, h, w = (f if n > 1 else 1 for f, n in zip(spec.factor, volume.geometry.shape, strict=True))
        image = finer(ready.array, (d, h, w))
        way = self._fitted(volume, replace(ready, array=image))
        forward = self.runner.forward(image, way.windows, spare=self.limit - way.peak)
        values = enhanced(forward, image, spec, way.windows)
        if not np.isfinite(values).all():
            raise InputError("the network's answer is no number: its weights or its preparation are damaged")
        told: dict[str, Json] = {"model": model.card.model, "weights_sha256": model.card.weights_sha256}
        if spec.degradation is not None:
            told["undoes"] = spec.degradation.words
        step = Step("inference.enhance", told)
        grid = finer_grid(volume.geometry, (d, h, w))
        return Volume(ready.in_units(values), grid, volume.quantity, (*volume.history, step))

    def _unusual(self, volume: Volume, ready: Prepared) -> tuple[Array, Volume]:
        """Distance from what is usual, the share of normal images that are less unusual, and a map of where."""
        module = self.model.modules[0].to(self.runner.device)
        image = np.clip(ready.array[:, 0] if self.model.spec.flat else ready.array, 0, 1)
        far = float(distances(module, image[None])[0])
        if not np.isfinite(far):
            raise InputError("the network's answer is no number: its weights or its preparation are damaged")
        where = heat(module, image)
        grid = ready.field(where[None] if self.model.spec.flat else where)
        told: dict[str, Json] = {"model": self.model.card.model, "weights_sha256": self.model.card.weights_sha256}
        step = Step("inference.unusual", told)
        shown = Volume(grid[None], volume.geometry, Quantity.ARBITRARY, (*volume.history, step))
        return np.asarray([far, share_below(far, self.model.card.training)]), shown

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
