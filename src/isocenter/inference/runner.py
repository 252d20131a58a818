"""A model's networks on this machine: which device, which runtime, and what was measured before."""

import json
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from isocenter.errors import InputError
from isocenter.inference.answers import probabilities
from isocenter.inference.model import NetworkModel, Spec
from isocenter.inference.onnx_network import OnnxNetwork
from isocenter.inference.runtime import fastest, runtime
from isocenter.inference.sliding import Forward, Windows, starts
from isocenter.inference.torch_runtime import TorchRuntime, native_bfloat16
from isocenter.ops.threads import cores
from isocenter.types import Array

_WORTH_MEASURING = 12
"""Windows from which the fastest runtime is looked for; fewer are done before it is found."""
_ANOTHER_RUNTIME = 800 * 2**20
"""Bytes that a second runtime takes: its library, the network once more, and compiling it."""
_CANDIDATES = ("torch-bfloat16", "openvino-float32", "openvino-bfloat16")


def device_of(name: str) -> str:
    """The device that a name means here.

    Raises: InputError for one that is not there.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    there = ["cpu", *(["cuda"] if cuda else []), *(["mps"] if mps else [])]
    if name == "auto":
        return there[-1]
    if name not in there:
        raise InputError(f"--device {name}: there is {', '.join(there)} here")
    return name


class Runner:
    """Gives the function that answers windows; several networks are averaged as logits.

    Args:
        model: with its networks.
        device: see `device_of`.
        runtime: a name of `inference.runtime.RUNTIMES`, or `auto`.
    """

    def __init__(self, model: NetworkModel, *, device: str, runtime: str = "auto") -> None:
        self.model, self.device, self.name = model, device, runtime
        if any(isinstance(module, OnnxNetwork) for module in model.modules):
            self.device, self.name = "cpu", "torch-float32"  # the others among them; it calls its own engine
        self.half = self.name.endswith("bfloat16") or (
            self.name == "auto" and model.spec.task != "regress" and native_bfloat16(self.device)  # values want digits
        )
        self._made: dict[str, Forward] = {}
        self._remembered: str | None = None

    def forward(self, image: Array, windows: Windows | None, *, spare: float = float("inf")) -> Forward:
        """The function for windows of an image (`c d h w`); without windows, for whole images.

        Args:
            image: prepared.
            windows: how it is walked over.
            spare: bytes that are free beside what torch takes; another runtime needs some of its own.
        """
        if self.device != "cpu":
            return self._of("torch-bfloat16" if self.half else "torch-float32", (1,))
        if self.name != "auto":
            return self._of(self.name, self._shape(image, windows))
        plain = "torch-bfloat16" if self.half else "torch-float32"
        if windows is None or spare < _ANOTHER_RUNTIME:
            return self._of(plain, (1,))
        name = self._remembered or recall(self._key(windows))
        if name is None:
            count = np.prod(
                [len(starts(n, s, windows.overlap)) for n, s in zip(image.shape[1:], windows.size, strict=True)]
            )
            if count * 2 ** len(windows.flips) < _WORTH_MEASURING:
                return self._of(plain, (1,))
            name = self._measured(image, windows)
        self._remembered = name
        return self._of(name, self._shape(image, windows))

    def _shape(self, image: Array, windows: Windows | None) -> tuple[int, ...]:
        spec = self.model.spec
        size = spec.patch if windows is None else windows.size[1:] if spec.flat else windows.size
        if windows is not None and windows.halo is not None:
            own = image.shape[2:] if spec.flat else image.shape[1:]
            size = tuple(min(s, -(-n // windows.multiple) * windows.multiple) for s, n in zip(size, own, strict=True))
        return (1, spec.inputs, *size)

    def _of(self, name: str, shape: tuple[int, ...]) -> Forward:
        if name not in self._made:
            runs = [self._run(module, name, shape) for module in self.model.modules]
            self._made[name] = runs[0] if len(runs) == 1 else _mean_of(runs)
        return self._made[name]

    def _run(self, module: nn.Module, name: str, shape: tuple[int, ...]) -> Forward:
        if isinstance(module, OnnxNetwork):
            return module.answer
        if not name.startswith("torch-"):
            return runtime(module, name, shape)
        return TorchRuntime(module, precision="bfloat16" if name == "torch-bfloat16" else "float32", device=self.device)

    def _measured(self, image: Array, windows: Windows) -> str:
        """Try the runtimes on a window from the middle of the image, and remember the winner."""
        spec = self.model.spec
        shape = self._shape(image, None)[2:]
        middle = [max(0, (n - s) // 2) for n, s in zip(image.shape[-len(shape) :], shape, strict=True)]
        part = image[:, image.shape[1] // 2] if spec.flat else image
        cut = part[(slice(None), *(slice(m, m + s) for m, s in zip(middle, shape, strict=True)))]
        window = np.zeros((1, image.shape[0], *shape), np.float32)
        inside: Any = (0, slice(None), *(slice(0, n) for n in cut.shape[1:]))
        window[inside] = cut
        found = fastest(
            self.model.modules[0], window, answer=lambda logits: probabilities(logits.copy(), spec), repeats=2,
            names=_CANDIDATES, **_agreement(spec),
        )  # fmt: skip
        remember(self._key(windows), found.name)
        return found.name

    def _key(self, windows: Windows) -> str:
        kind = "tiles" if windows.halo else "windows"
        return f"{self.model.card.weights_sha256[:16]} {kind} {platform.machine()} {cores()} {torch.__version__}"


def _agreement(spec: Spec) -> dict[str, Any]:
    """How near a runtime's answers must come; intensities, in deviations of the image, nearer than probabilities."""
    return {"tolerance": 0.005, "decides": False} if spec.answer == "picture" else {}


def _mean_of(runs: list[Forward]) -> Forward:
    return lambda windows: np.mean([run(windows) for run in runs], axis=0)


def _notes() -> Path:
    base = os.environ.get("ISOCENTER_CACHE") or os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "isocenter" / "runtimes.json"


def recall(key: str) -> str | None:
    """What was measured before; None where nothing was, or the note cannot be read."""
    from isocenter.inference.runtime import RUNTIMES

    try:
        name = json.loads(_notes().read_text("utf-8")).get(key)
    except (OSError, ValueError, AttributeError):
        return None
    return name if name in RUNTIMES else None


def remember(key: str, name: str) -> None:
    """Note what was measured; a folder that cannot be written is no harm."""
    path = _notes()
    try:
        there = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        there = {}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps({**(there if isinstance(there, dict) else {}), key: name}, indent=1), "utf-8")
        partial.replace(path)
    except OSError:
        return
