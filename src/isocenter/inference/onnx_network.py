"""Any ONNX network as a module, so that windows, tiles, gate and reports treat it as one of ours."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from isocenter.errors import UnreadableFile, cause_of
from isocenter.optional import require
from isocenter.types import Array

Layout = Literal["channels_first", "channels_last"]
Output = Literal["logits", "probabilities"]
Engine = Literal["onnxruntime", "openvino"]
_MOST_BYTES = 2 * 2**30
_MOST_SHAPES = 12


class OnnxNetwork(nn.Module):
    """A graph that ONNX Runtime runs; it holds its weights in itself and learns nothing.

    Args:
        data: of the file.
        where: what to call it in errors.
        outputs: numbers that it must give for each image or voxel.
        layout: of its input and output.
        output: what it gives: logits, or probabilities, which are turned back into logits.
        engine: that runs it; whole numbers of 8 bits are fastest in OpenVINO.

    Raises: UnreadableFile for what is no network, has several inputs, or keeps weights in other files.
    """

    def __init__(
        self,
        data: bytes,
        where: Path,
        *,
        outputs: int,
        layout: Layout = "channels_first",
        output: Output = "logits",
        engine: Engine = "onnxruntime",
    ) -> None:
        super().__init__()
        runtime: Any = require("onnxruntime", extra="fast")
        self.data, self.where, self.outputs, self.layout, self.output = data, where, outputs, layout, output
        self.width = _widest_first(data, where)
        if engine not in get_args(Engine):
            raise UnreadableFile(
                f"{where}: the card names the engine {engine!r}; there are {', '.join(get_args(Engine))}"
            )
        self.compiled = _Compiled(data) if engine == "openvino" else None
        options = runtime.SessionOptions()
        options.log_severity_level = 4
        try:
            self.session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime raises many kinds for what it does not run
            raise UnreadableFile(f"{where}: is no network that ONNX Runtime runs ({cause_of(error)})") from error
        inputs = self.session.get_inputs()
        if len(inputs) != 1 or len(self.session.get_outputs()) < 1:
            raise UnreadableFile(f"{where}: has {len(inputs)} inputs; a network with one image as its input is wanted")
        self.name = inputs[0].name
        first = inputs[0].shape[0] if inputs[0].shape else None
        self.one_by_one = isinstance(first, int)

    def forward(self, x: Tensor) -> Tensor:
        """Logits; see `answer`."""
        return torch.from_numpy(self.answer(x.detach().cpu().numpy()))

    def answer(self, windows: Array) -> Array:
        """Logits of windows (`b c *w`), without torch on the way: its threads, once woken, wait on the engine's cores.

        Raises: UnreadableFile where the network does not take such windows, or answers with other numbers.
        """
        seen = np.ascontiguousarray(windows, np.float32)
        if self.layout == "channels_last":
            seen = np.ascontiguousarray(np.moveaxis(seen, 1, -1))
        parts = [seen[i : i + 1] for i in range(len(seen))] if self.one_by_one else [seen]
        try:
            if self.compiled is not None:
                found = np.concatenate([self.compiled(window[None]) for window in seen])
            else:
                found = np.concatenate([self.session.run(None, {self.name: part})[0] for part in parts])
        except Exception as error:  # as above
            raise UnreadableFile(
                f"{self.where}: does not take windows of {seen.shape[1:]} ({cause_of(error)}): state its size as "
                "`patch` in the card"
            ) from error
        if self.layout == "channels_last" and found.ndim == windows.ndim:
            found = np.moveaxis(found, -1, 1)
        return np.ascontiguousarray(self._as_logits(found), np.float32)

    def _as_logits(self, found: np.ndarray) -> np.ndarray:
        if found.ndim < 2 or found.shape[1] not in (self.outputs, 1 if self.outputs == 2 else self.outputs):
            raise UnreadableFile(
                f"{self.where}: answers with {found.shape[1:]}, and the card says {self.outputs} numbers for each "
                "image or voxel (classes, or labels and background)"
            )
        single = found.shape[1] == 1 and self.outputs == 2
        if self.output == "probabilities":
            p = np.clip(found.astype(np.float64), 1e-7, 1 - 1e-7)
            found = np.log(p / (1 - p)) if single else np.log(p)
        return np.concatenate([np.zeros_like(found), found], axis=1) if single else found


class _Compiled:
    """The graph in OpenVINO, compiled once for each shape of windows."""

    def __init__(self, data: bytes) -> None:
        openvino: Any = require("openvino", extra="fast")
        self.core = openvino.Core()
        self.model = self.core.read_model(data)
        self.requests: dict[tuple[int, ...], Any] = {}

    def __call__(self, window: np.ndarray) -> np.ndarray:
        """What the network answers to one window (`1 c *w`)."""
        if window.shape not in self.requests:
            model = self.model.clone()
            model.reshape(list(window.shape))
            if len(self.requests) > _MOST_SHAPES:
                self.requests.clear()
            compiled = self.core.compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
            self.requests[window.shape] = compiled.create_infer_request()
        return np.array(self.requests[window.shape].infer([window])[0], np.float32)


def _widest_first(data: bytes, where: Path) -> int:
    """Channels of the first convolution, by which memory is estimated; the graph must hold its weights itself."""
    onnx: Any = require("onnx", extra="fast")
    if len(data) > _MOST_BYTES:
        raise UnreadableFile(f"{where}: a network is at most {_MOST_BYTES >> 30} GiB")
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf raises many kinds
        raise UnreadableFile(f"{where}: is no ONNX file ({cause_of(error)})") from error
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in _tensors(model)):
        raise UnreadableFile(f"{where}: keeps weights in other files, which are not followed: export it as one file")
    shapes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Conv" and len(node.input) > 1 and node.input[1] in shapes:
            return int(shapes[node.input[1]][0])
    return 32


def _tensors(message: Any) -> Iterator[Any]:
    """Every tensor that a model holds: in its graph, in graphs within nodes, in functions, in attributes."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for part in value if field.is_repeated else (value,):
            if field.message_type.name == "TensorProto":
                yield part
            else:
                yield from _tensors(part)
