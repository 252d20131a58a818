"""Running a torch module on numpy windows."""

from typing import Any, Literal, cast

import numpy as np
import torch
from torch import nn

from isocenter.networks.detector import Found
from isocenter.types import Array

Precision = Literal["float32", "bfloat16"]


class TorchRuntime:
    """A module in evaluation, called with numpy arrays.

    Args:
        module: gives logits.
        precision: of the convolutions.
        device: `cpu`, `cuda`, `mps`.
    """

    def __init__(self, module: nn.Module, *, precision: Precision = "float32", device: str = "cpu") -> None:
        self.module = module.eval().to(device)
        self.precision, self.device = precision, device

    def __call__(self, windows: Array) -> Array:
        """Logits of windows (`b c *w`)."""
        x = torch.from_numpy(np.asarray(windows, np.float32)).to(self.device)
        x = x.to(memory_format=memory_format(x.ndim - 2))
        kind = self.device.partition(":")[0]
        with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=self.precision == "bfloat16"):
            found: Any = self.module(x)
        return np.asarray(found.float().contiguous().cpu().numpy())


class DetectorRuntime:
    """A detector in evaluation, called with numpy arrays; see `TorchRuntime`."""

    def __init__(self, module: nn.Module, *, precision: Precision = "float32", device: str = "cpu") -> None:
        self.module = module.eval().to(device)
        self.precision, self.device = precision, device

    def __call__(self, windows: Array) -> list[Found]:
        """What is found in each window (`b c *w`)."""
        x = torch.from_numpy(np.asarray(windows, np.float32)).to(self.device)
        x = x.to(memory_format=memory_format(x.ndim - 2))
        kind = self.device.partition(":")[0]
        with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=self.precision == "bfloat16"):
            found: list[Found] = self.module(x)
        return found


def native_bfloat16(device: str) -> bool:
    """Whether the device multiplies in bfloat16 by itself, so that it gains time."""
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported())
    if device.startswith("cpu"):
        cpu: Any = torch.cpu
        return bool(
            getattr(cpu, "_is_amx_tile_supported", lambda: False)()
            or getattr(cpu, "_is_avx512_bf16_supported", lambda: False)()
        )
    return False


def laid_out(module: nn.Module, dims: int) -> nn.Module:
    """The module with its weights in that order."""
    other: Any = module
    return cast("nn.Module", other.to(memory_format=memory_format(dims)))


def memory_format(dims: int) -> torch.memory_format:
    """Channels last: what convolutions on a CPU read fastest; volumes in time (4) as they are."""
    return {2: torch.channels_last, 3: torch.channels_last_3d}.get(dims, torch.contiguous_format)
