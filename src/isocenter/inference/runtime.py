"""Ways to run one network: torch in float32 or bfloat16, OpenVINO, ONNX Runtime. The fastest that agrees is taken."""

import logging
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from isocenter.errors import InputError, MissingExtra
from isocenter.inference.sliding import Forward
from isocenter.optional import require
from isocenter.types import Array

if TYPE_CHECKING:
    from torch import nn

_MOST_SHAPES = 12
TOLERANCE = 0.02
"""Largest mean difference of probabilities from those of float32; a quarter of it: of voxels decided otherwise."""


@dataclass(frozen=True)
class Timed:
    """One way that was tried.

    Args:
        name: of the runtime.
        seconds: of one window.
        difference: mean absolute difference of its probabilities from those of torch in float32.
        changed: share of voxels (or cases) that it decides otherwise.
        refused: why it is not used; empty where it may be.
    """

    name: str
    seconds: float
    difference: float
    changed: float
    refused: str = ""


@dataclass(frozen=True, eq=False)
class Chosen:
    """The runtime that is taken, and all that were tried."""

    name: str
    forward: Forward = field(repr=False)
    tried: tuple[Timed, ...] = ()


def torch_runtime(module: "nn.Module", precision: str, _shape: tuple[int, ...]) -> Forward:
    """Torch itself, for windows of any shape."""
    from isocenter.inference.torch_runtime import TorchRuntime

    return TorchRuntime(module, precision="bfloat16" if precision == "bfloat16" else "float32")


class OpenVINORuntime:
    """OpenVINO on the CPU, compiled once for each shape of windows; it folds normalisation and picks its own layout.

    Args:
        module: gives logits.
        precision: `float32` or `bfloat16`.
        shape: of the windows (`b c *w`); other sizes `w` are compiled when they come.
    Raises: MissingExtra without OpenVINO.
    """

    def __init__(self, module: "nn.Module", precision: str, shape: tuple[int, ...]) -> None:
        openvino: Any = require("openvino", extra="fast")
        torch: Any = require("torch", extra="learn")
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the converter says of its own ways
            self.model = openvino.convert_model(module.eval(), example_input=torch.zeros(shape))
        self.hint = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
            "PERFORMANCE_HINT": "LATENCY",
        }
        self.core = openvino.Core()
        self.requests: dict[tuple[int, ...], Any] = {}

    def __call__(self, windows: Array) -> Array:
        """Logits of windows, one at a time."""
        shape = (1, *windows.shape[1:])
        if shape not in self.requests:
            model = self.model.clone()
            model.reshape(list(shape))
            if len(self.requests) > _MOST_SHAPES:
                self.requests.clear()
            self.requests[shape] = self.core.compile_model(model, "CPU", self.hint).create_infer_request()
        request = self.requests[shape]
        found = [np.array(request.infer([np.ascontiguousarray(w[None], np.float32)])[0], np.float32) for w in windows]
        return found[0] if len(found) == 1 else np.concatenate(found)


def onnx_runtime(module: "nn.Module", _precision: str, shape: tuple[int, ...]) -> Forward:
    """ONNX Runtime, in float32.

    Raises: MissingExtra without ONNX Runtime.
    """
    runtime: Any = require("onnxruntime", extra="fast")
    session = runtime.InferenceSession(onnx_bytes(module, shape), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(windows: Array) -> Array:
        return np.asarray(session.run(None, {name: np.ascontiguousarray(windows, np.float32)})[0])

    return run


def onnx_bytes(module: "nn.Module", shape: tuple[int, ...]) -> bytes:
    """A network as ONNX, with any batch size.

    Raises: MissingExtra without the exporter.
    """
    torch: Any = require("torch", extra="learn")
    require("onnxscript", extra="fast")
    free = {0: torch.export.Dim.DYNAMIC}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it tells of packages that we do without
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(), (torch.zeros((2, *shape[1:])),), dynamo=True, input_names=["image"], output_names=["logits"],
            dynamic_shapes=(free,), verbose=False,
        )  # fmt: skip
    return bytes(program.model_proto.SerializeToString())


RUNTIMES: Mapping[str, tuple[Callable[["nn.Module", str, tuple[int, ...]], Forward], str]] = {
    "torch-float32": (torch_runtime, "float32"),
    "torch-bfloat16": (torch_runtime, "bfloat16"),
    "openvino-float32": (OpenVINORuntime, "float32"),
    "openvino-bfloat16": (OpenVINORuntime, "bfloat16"),
    "onnxruntime": (onnx_runtime, "float32"),
}
"""Every runtime by name, with its precision."""


def runtime(module: "nn.Module", name: str, shape: tuple[int, ...]) -> Forward:
    """A runtime by name.

    Raises: InputError with the names there are; MissingExtra for one that is not installed.
    """
    if name not in RUNTIMES:
        raise InputError(f"there is no runtime {name!r}; there are auto, {', '.join(RUNTIMES)}")
    make, precision = RUNTIMES[name]
    return make(module, precision, shape)


def fastest(
    module: "nn.Module",
    windows: Array,
    *,
    answer: Callable[[Array], Array],
    repeats: int = 3,
    tolerance: float = TOLERANCE,
    decides: bool = True,
    names: tuple[str, ...] = (),
) -> Chosen:
    """Try each runtime on real windows, and take the fastest whose answers are those of float32.

    Args:
        module: with trained weights: on random ones every answer looks alike.
        windows: prepared (`b c *w`), of the kind that it will see.
        answer: logits -> probabilities.
        repeats: timings of each; the least counts.
        tolerance: mean difference up to which answers count as the same.
        decides: the largest of the outputs is what is said of a voxel or case.
        names: which are tried; empty: all that are installed.
    """
    shape = tuple(int(n) for n in windows.shape)
    base = torch_runtime(module, "float32", shape)
    wanted = answer(base(windows))
    best: tuple[float, str, Forward] = (_time(base, windows, repeats), "torch-float32", base)
    tried = [Timed("torch-float32", best[0], 0.0, 0.0)]
    for name in names or tuple(RUNTIMES):
        if name == "torch-float32":
            continue
        try:
            other = runtime(module, name, shape)
            found = answer(other(windows))
        except (MissingExtra, RuntimeError, ValueError, TypeError) as error:
            tried.append(Timed(name, float("nan"), float("nan"), float("nan"), " ".join(str(error).split())[:160]))
            continue
        difference = float(np.abs(found - wanted).mean())
        changed = (
            float((found.argmax(axis=1) != wanted.argmax(axis=1)).mean()) if decides and wanted.shape[1] > 1 else 0.0
        )
        far = difference > tolerance or changed > tolerance / 4 or not np.isfinite(found).all()
        seconds = _time(other, windows, repeats)
        tried.append(Timed(name, seconds, difference, changed, "its answers differ too much" if far else ""))
        if not far and seconds < best[0]:
            best = (seconds, name, other)
    return Chosen(best[1], best[2], tuple(tried))


def _time(run: Forward, windows: Array, repeats: int) -> float:
    took = []
    for _ in range(repeats):
        begun = time.perf_counter()
        run(windows)
        took.append(time.perf_counter() - begun)
    return min(took)
