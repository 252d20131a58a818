"""`explain`: what a model looked at, as a map on the input's own grid, a picture, and how far it can be believed."""

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from isocenter.acquire.labelled import read_images
from isocenter.analyse.place import place_words
from isocenter.data.provenance import Json, Step
from isocenter.data.volume import Quantity, Volume
from isocenter.errors import InputError
from isocenter.explanation.maps import METHODS, explain_image
from isocenter.explanation.objects import likeness, object_heat
from isocenter.explanation.quality import Quality, quality
from isocenter.formats import nifti
from isocenter.inference.answers import probabilities, scored
from isocenter.inference.detected import detected
from isocenter.inference.foreign import ONNX
from isocenter.inference.model import NetworkModel, load
from isocenter.inference.network_input import network_input
from isocenter.inference.placed import to_image
from isocenter.inference.predictor import decided
from isocenter.inference.prepare import Prepared, prepare
from isocenter.inference.torch_runtime import DetectorRuntime, TorchRuntime
from isocenter.metrics import reliability as rel
from isocenter.networks.detector import Found
from isocenter.pipeline.image_prediction import with_channels
from isocenter.pipeline.inputs import cases_of
from isocenter.pipeline.own_folder import own_folder, require_own
from isocenter.report.explanation import heat_picture, render_explanation
from isocenter.types import Array
from isocenter.zoo import model_path

_MOST_VOXELS = 192**3
EXPLANATIONS, OBJECTS = "explanations", "d-rise"


@dataclass(frozen=True, eq=False)
class Explained:
    """A map of one case.

    Args:
        case: its name.
        method: by which it was made.
        about: the class, label or value that it is about.
        probability: of that class; None for values and voxels.
        heat: the map on the input's own grid.
        quality: its curves; None for voxels and values.
    """

    case: str
    method: str
    about: str
    probability: float | None
    heat: Volume = field(repr=False)
    quality: Quality | None = None


def explain(
    model: str | Path,
    data: str | Path,
    out: str | Path | None = None,
    *,
    methods: Sequence[str] | None = None,
    about: str | None = None,
    seed: int = 0,
) -> list[Explained]:
    """Explain the answer of a model for one image.

    Args:
        model: the model's folder, of images.
        data: one image, or one study.
        out: folder for the page, the pictures and the maps; None: nothing is written.
        methods: see `explanation.maps.METHODS`; a detector is explained by `d-rise`, for the surest object. None:
            that, or `grad-cam`.
        about: class or label; None: the one that is decided for.
        seed: of random orders.
    Raises: InputError for inputs of several cases, methods that are not there, and images too large to explain whole.
    """
    if out is not None:
        require_own(Path(out), EXPLANATIONS)
    loaded = load(model_path(model))
    if methods is None:
        methods = (OBJECTS if loaded.spec.task == "detect" else "grad-cam",)
    if loaded.spec.task == "detect" and tuple(methods) != (OBJECTS,):
        raise InputError(f"--method {methods[0]}: objects are explained by {OBJECTS}")
    odd = [m for m in methods if m not in (*METHODS, OBJECTS)]
    if odd:
        raise InputError(f"--method {odd[0]}: there are {', '.join(METHODS)}")
    cases = cases_of(Path(data))
    cases = with_channels(cases, loaded)
    if len(cases.samples) != 1:
        raise InputError(f"{data}: holds {len(cases.samples)} cases; explain one image at a time")
    sample = cases.samples[0]
    volume = read_images(sample)
    found = explain_volume(loaded, volume, sample.case, methods=methods, about=about, seed=seed, row=sample.groups)
    if out is not None:
        _write(found, loaded, volume, Path(out))
    return found


def explain_volume(
    model: NetworkModel,
    volume: Volume,
    case: str,
    *,
    methods: Sequence[str],
    about: str | None = None,
    seed: int = 0,
    row: Mapping[str, str] | None = None,
) -> list[Explained]:
    """Explain the answer of a loaded model for one volume; `row` holds its cells in a table.

    Raises: InputError for an image too large to explain whole, and for a network whose answer has no gradient.
    """
    if model.spec.task not in ("classify", "regress", "segment", "detect"):
        raise InputError(
            f"maps are of classes, values, labels and objects; what a model of {model.spec.task} makes is its own map"
        )
    if model.spec.network.name == ONNX and set(methods) - {"occlusion"}:
        raise InputError("an ONNX network has no gradients here: take the method occlusion")
    ready, _ = network_input(prepare(volume, model.spec.preparation), model.spec, row or {})
    if ready.array[0].size > _MOST_VOXELS:
        raise InputError(f"{case}: {ready.array[0].size} voxels are too many to explain at once; crop the image")
    if model.spec.task == "detect":
        return [_of_object(model, volume, ready, case, about=about, seed=seed)]
    explainer = _Explainer(model, volume, ready, case)
    return [explainer.explained(method, about, seed) for method in methods]


def _of_object(
    model: NetworkModel, volume: Volume, ready: Prepared, case: str, *, about: str | None, seed: int
) -> Explained:
    """The map of the surest object, or of the surest of a class, with its curves.

    Raises: InputError where nothing is found, or nothing of that class.
    """
    spec, card = model.spec, model.card
    run = DetectorRuntime(model.modules[0])

    def find(image: Array) -> Found:
        return detected([run], image, spec, overlap=0.25, flips=False)

    found = find(ready.array)
    kinds = range(len(spec.classes)) if about is None else [index_of(about, spec.classes, 0)]
    own = np.flatnonzero(np.isin(found.classes, list(kinds)))
    if not len(own):
        raise InputError(f"{case}: the model finds no {about or 'object'} here: there is nothing to explain")
    best = int(own[np.argmax(found.scores[own])])
    box, kind = found.boxes[best], int(found.classes[best])
    score = rel.calibrated(np.asarray([[1 - found.scores[best], found.scores[best]]], np.float64), card.calibration)[
        0, 1
    ]
    heat = object_heat(find, ready.array, box, kind, seed=seed)
    judged = quality(lambda x: likeness(find(x), box, kind), ready.array, heat, seed=seed)
    placed = to_image(box[None], ready)[0]
    name = f"{spec.classes[kind]} at {place_words(placed, volume.geometry)}"
    step = Step("explanation", {"method": OBJECTS, "about": name, "weights_sha256": card.weights_sha256})
    made = Volume(ready.field(heat)[None], volume.geometry, Quantity.ARBITRARY, (*volume.history, step))
    return Explained(case, OBJECTS, name, float(score), made, judged)


class _Explainer:
    """One prepared image before one model.

    Args:
        model: with its networks; the first is explained.
        volume: the image as it came.
        ready: as the network sees it.
        case: its name.
    """

    def __init__(self, model: NetworkModel, volume: Volume, ready: Prepared, case: str) -> None:
        self.model, self.volume, self.ready, self.case = model, volume, ready, case
        looked, self.slice = _looked_at(model, ready)
        self.array, self.inside = _filled(looked, model)
        self.forward = TorchRuntime(model.modules[0])

    def output(self, about: str | None) -> tuple[int, str, float | None]:
        """Number and name of the output that is asked about, and its probability where it is a class.

        Raises: InputError for a class that is not there, or a label that the model does not find.
        """
        spec = self.model.spec
        if spec.task == "classify":
            raw = scored(self.forward, [self.ready.array], spec, flips=False)
            scores = rel.calibrated(raw, self.model.card.calibration)[0]
            index = index_of(about, spec.classes, decided(scores, self.model)[0])
            return index, spec.classes[index], float(scores[index])
        if spec.task == "regress":
            return 0, "value", None
        answer = self.forward(self.array[None])[0].argmax(axis=0)[self.inside]
        names = tuple(spec.labels.values())
        counts = [int((answer == i + 1).sum()) for i in range(len(names))]
        index = index_of(about, names, int(np.argmax(counts)))
        if not counts[index]:
            raise InputError(f"{self.case}: the model finds no {names[index]!r} here: there is nothing to explain")
        return index + 1, names[index], None

    def explained(self, method: str, about: str | None, seed: int) -> Explained:
        """The map of a method, with its curves where the answer is a class."""
        spec = self.model.spec
        index, name, chance = self.output(about)
        image = torch.from_numpy(np.ascontiguousarray(self.array[None]))
        heat = explain_image(self.model.modules[0], image, index, method=method)
        judged = None
        if spec.task == "classify":
            judged = quality(
                lambda x: float(probabilities(self.forward(x[None]), spec)[0, index]), self.array, heat, seed=seed
            )
        whole = np.zeros(self.ready.array.shape[1:], np.float32)
        whole[self.slice if spec.flat else slice(None)] = heat[self.inside]
        step = Step("explanation", {"method": method, "about": name, "weights_sha256": self.model.card.weights_sha256})
        onto = self.ready.field(whole)[None]
        made = Volume(onto, self.volume.geometry, Quantity.ARBITRARY, (*self.volume.history, step))
        return Explained(self.case, method, name, chance, made, judged)


def _looked_at(model: NetworkModel, ready: Prepared) -> tuple[Array, int]:
    """What the network sees: the volume, or the slice with most of an answer."""
    spec = model.spec
    if not spec.flat:
        return ready.array, 0
    if ready.array.shape[1] == 1 or spec.task != "segment":
        return ready.array[:, 0], 0
    forward = TorchRuntime(model.modules[0])
    sizes = []
    for i in range(ready.array.shape[1]):
        filled, inside = _filled(ready.array[:, i], model)
        sizes.append(int((forward(filled[None])[0].argmax(axis=0)[inside] > 0).sum()))
    best = int(np.argmax(sizes))
    return ready.array[:, best], best


def _filled(array: Array, model: NetworkModel) -> tuple[Array, tuple[slice, ...]]:
    """An image of a segmentation, filled up with its edge to what the network can halve, and where it lies in that."""
    inside = tuple(slice(0, n) for n in array.shape[1:])
    if model.spec.task != "segment":
        return array, inside
    strides = model.spec.network.settings.get("strides") or ()
    steps = [int(np.prod([s[axis] for s in strides])) if strides else 32 for axis in range(array.ndim - 1)]
    spare = [(0, max(-(-n // step), 1) * step - n) for n, step in zip(array.shape[1:], steps, strict=True)]
    return np.pad(array, ((0, 0), *spare), mode="edge"), inside


def index_of(about: str | None, names: tuple[str, ...], best: int) -> int:
    """The number of the class or label that is asked about, or the best one.

    Raises: InputError for a name that is not there.
    """
    if about is None:
        return best
    if about not in names:
        raise InputError(f"--about {about}: there are {', '.join(names)}")
    return names.index(about)


def _write(found: Sequence[Explained], model: NetworkModel, volume: Volume, folder: Path) -> None:
    rows = []
    with own_folder(folder, EXPLANATIONS) as empty:
        for one in found:
            name = one.method.replace("+", "p")
            nifti.write(one.heat, empty / f"{name}.nii.gz")
            png = heat_picture(volume, one.heat)
            (empty / f"{name}.png").write_bytes(png)
            rows.append((one, b64encode(png).decode()))
        told = [summary(one) for one in found]
        (empty / "explanation.json").write_text(
            json.dumps(told, indent=2, ensure_ascii=False, allow_nan=False), "utf-8"
        )
        pages = [(summary(one), png, one.quality) for one, png in rows]
        (empty / "explanation.html").write_text(render_explanation(pages, model.card.model), "utf-8")


def summary(one: Explained) -> dict[str, Json]:
    """What the JSON says of a map."""
    return summary_of(one.case, one.method, one.about, one.probability, one.quality)


def summary_of(
    case: str, method: str, about: str, probability: float | None, quality: Quality | None
) -> dict[str, Json]:
    """What the JSON says of an explanation."""
    told: dict[str, Json] = {"case": case, "method": method, "about": about, "probability": probability}
    if quality is not None:
        told |= {
            "deletion": round(quality.deletion_auc, 4), "insertion": round(quality.insertion_auc, 4),
            "random": round(quality.random_auc, 4), "better_than_random": quality.verdict == "better",
            "verdict": quality.verdict,
        }  # fmt: skip
    return told
