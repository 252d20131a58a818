"""A network in words: its layers by kind, and the code of its forward pass."""

import inspect
import re
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class LayerKind:
    """Layers of one kind.

    Args:
        kind: PyTorch's class without its dimension, as `Conv`.
        code: the first of them, as it is written.
        count: how many.
        parameters: numbers that they learn, together.
    """

    kind: str
    code: str
    count: int
    parameters: int


def layer_kinds(module: nn.Module) -> list[LayerKind]:
    """The layers without parts of their own, by kind, in the order in which they first occur."""
    found: dict[str, list[nn.Module]] = {}
    for part in module.modules():
        if not list(part.children()) and type(part).__module__.startswith("torch.nn") and type(part) is not nn.Identity:
            found.setdefault(re.sub(r"[123]d$", "", type(part).__name__), []).append(part)
    return [
        LayerKind(kind, f"nn.{parts[0]}", len(parts), sum(p.numel() for part in parts for p in part.parameters()))
        for kind, parts in found.items()
    ]


def forward_code(module: nn.Module) -> str:
    """The source of the class, where it can be read."""
    try:
        return inspect.getsource(type(module))
    except (OSError, TypeError):
        return ""
