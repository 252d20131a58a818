"""The state of a training, and how it outlives a killed process: the same weights come out in the end."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from isocenter.errors import UnreadableFile
from isocenter.training.images.plan import Plan


@dataclass(frozen=True, eq=False)
class Row:
    """One line of the log: losses since the last look, and what validation says."""

    step: int
    seconds: float
    rate: float
    loss: float
    validation: dict[str, float]


@dataclass
class State:
    """Everything that a resumed run needs."""

    network: nn.Module
    average: dict[str, Tensor]
    optimiser: torch.optim.Optimizer
    still: list[nn.Module] = field(default_factory=list)
    step: int = 0
    seconds: float = 0.0
    total: int = 0
    turns: list[tuple[int, int]] = field(default_factory=list)
    log: list[Row] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    best: float = float("-inf")
    waited: int = 0


_WEIGHTS, _COURSE = "unfinished.safetensors", "unfinished.json"


def save(folder: Path, state: State, plan: Plan) -> None:
    """Weights, averages and the optimiser's own numbers, written beside and moved into place."""
    from safetensors.torch import save_file

    tensors = {f"network.{k}": v.detach().cpu().contiguous() for k, v in state.network.state_dict().items()}
    tensors |= {f"average.{k}": v.detach().cpu().contiguous() for k, v in state.average.items()}
    plain: dict[str, dict[str, float]] = {}
    for number, values in state.optimiser.state_dict()["state"].items():
        for key, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimiser.{number}.{key}"] = value.detach().cpu().contiguous()
            elif value is not None:
                plain.setdefault(str(number), {})[key] = value
    course = {
        "step": state.step, "seconds": state.seconds, "total": state.total, "turns": state.turns, "optimiser": plain,
        "losses": state.losses,
        "log": [row.__dict__ for row in state.log], "best": state.best if state.log else None, "waited": state.waited,
        "plan": plan.model_dump(mode="json"),
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    token = f"{state.step}"
    save_file({k: v.clone() for k, v in tensors.items()}, folder / f"{token}.{_WEIGHTS}")
    partial = folder / f"{_COURSE}.partial"
    partial.write_text(json.dumps(course), "utf-8")
    partial.replace(folder / _COURSE)  # the course names the step, and so the weights that belong to it
    for old in folder.glob(f"*.{_WEIGHTS}"):
        if old.name != f"{token}.{_WEIGHTS}":
            old.unlink()


def resume(folder: Path, state: State, plan: Plan) -> None:
    """Go on with what an unfinished run left, if it was of the same plan.

    Raises: UnreadableFile for one that was of another plan, or is damaged.
    """
    path = folder / _COURSE
    if not path.is_file():
        return
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        course = json.loads(path.read_text("utf-8"))
        if course["plan"] != plan.model_dump(mode="json"):
            raise UnreadableFile(
                f"{folder}: holds an unfinished training by another plan: remove it, or go on with its own"
            )
        tensors = load_file(folder / f"{course['step']}.{_WEIGHTS}")
        state.network.load_state_dict(_under(tensors, "network."))
        state.average = _under(tensors, "average.")
        own = state.optimiser.state_dict()
        numbers: dict[int, dict[str, Any]] = {int(k): dict(v) for k, v in course["optimiser"].items()}
        for name, value in _under(tensors, "optimiser.").items():
            number, _, key = name.partition(".")
            numbers.setdefault(int(number), {})[key] = value
        state.optimiser.load_state_dict({"state": numbers, "param_groups": own["param_groups"]})
        state.step, state.seconds, state.total = int(course["step"]), float(course["seconds"]), int(course["total"])
        state.turns = [(int(a), int(b)) for a, b in course["turns"]]
        state.losses = [float(value) for value in course["losses"]]
        state.log = [Row(**row) for row in course["log"]]
        state.best = float("-inf") if course["best"] is None else float(course["best"])
        state.waited = int(course["waited"])
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise UnreadableFile(f"{folder}: the unfinished training there cannot be gone on with ({error})") from error


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
