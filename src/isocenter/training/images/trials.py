"""Which settings are tried, and how one budget is shared among them."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil, inf, isfinite, log2
from typing import Any

from isocenter.errors import InputError
from isocenter.training.images.plan import Plan, plan_of

SHORT = {
    "lr": "schedule.learning_rate", "decay": "schedule.weight_decay", "batch": "schedule.batch", "ema": "schedule.ema",
    "optimiser": "schedule.optimiser", "loss": "loss.name", "smoothing": "loss.label_smoothing",
    **{name: f"network.settings.{name}" for name in ("widths", "dropout", "activation", "norm", "kernel", "pool")},
    **{name: f"augmentation.{name}" for name in ("rotate", "scale", "elastic", "noise", "gamma", "mixup", "cutmix")},
}  # fmt: skip
"""Short names of fields of the plan; `depth` is understood too."""
_FIXED = ("task", "classes", "labels", "channels", "preparation", "patch", "seed", "validation")
_MOST = 64


@dataclass(frozen=True)
class Trial:
    """One choice of settings.

    Args:
        name: as the user wrote it.
        changes: field of the plan -> value.
    """

    name: str
    changes: Mapping[str, Any]


def value_of(text: str) -> Any:
    """A value of a plan: JSON, or a text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def read_trials(texts: Sequence[str]) -> list[Trial]:
    """Every combination of `field=value,value`.

    Raises: InputError for what cannot be read, for fields that decide what the data are, and for too many.
    """
    choices: list[list[tuple[str, str, Any]]] = []
    for text in texts:
        name, sign, values = text.partition("=")
        key = SHORT.get(name, name)
        if not (name and sign and values):
            raise InputError(f"--try {text}: write FIELD=VALUE,VALUE, as lr=1e-3,3e-4")
        if key.partition(".")[0] in _FIXED:
            raise InputError(f"--try {text}: {name} decides what the network sees; it is set by --set, and not tried")
        choices.append([(name, key, value_of(value)) for value in _parts(values)])
    found = [
        Trial(", ".join(f"{n}={json.dumps(v)}" for n, _, v in row), {k: v for _, k, v in row})
        for row in product(*choices)
    ]
    if len(found) > _MOST:
        raise InputError(f"--try: {len(found)} combinations; at most {_MOST}")
    return found


def _parts(text: str) -> list[str]:
    """Parts between commas that stand in no brackets."""
    found, depth, start = [], 0, 0
    for i, sign in enumerate(text):
        depth += (sign in "[(") - (sign in "])")
        if sign == "," and depth == 0:
            found.append(text[start:i])
            start = i + 1
    return [*found, text[start:]]


def variant(plan: Plan, changes: Mapping[str, Any]) -> Plan:
    """The plan with some fields changed, by their paths.

    Raises: InputError that names the field.
    """
    data = plan.model_dump()
    for key, value in changes.items():
        if key != "depth":
            put(data, key, value)
    found = plan_of(data, "the plan")
    return with_depth(found, changes["depth"]) if "depth" in changes else found


def put(data: dict[str, Any], key: str, value: Any) -> None:
    """Set a field by its path, as `schedule.learning_rate`.

    Raises: InputError for a path through what is no group.
    """
    *groups, last = key.split(".")
    for group in groups:
        inner = data.setdefault(group, {})
        if not isinstance(inner, dict):
            raise InputError(f"the plan's {group} has no fields of its own")
        data = inner
    data[last] = value


def with_depth(plan: Plan, depth: object) -> Plan:
    """The plan with a network of so many stages, or so many convolutions a block where the network knows `depth`.

    Raises: InputError for a network whose depth is not chosen.
    """
    from isocenter.networks.catalogue import network

    if not isinstance(depth, int) or not 1 <= depth <= 12:
        raise InputError(f"depth={depth!r}: a number from 1 to 12 is wanted")
    settings = dict(plan.network.settings)
    usual = network(plan.network.name).settings
    if hasattr(usual, "depth"):
        return plan.changed(network={"settings": {**settings, "depth": depth}})
    widths = list(settings.get("widths", getattr(usual, "widths", ())))
    if not widths:
        raise InputError(f"depth: {plan.network.name} has a fixed number of stages")
    while len(widths) < depth:
        widths.append(min(2 * widths[-1], 512))
    changed: dict[str, Any] = {**settings, "widths": tuple(widths[:depth])}
    dims = plan.preparation.dims
    for name, more in (("strides", (2,) * dims), ("kernels", (3,) * dims), ("blocks", 1)):
        if name in settings:
            own = list(settings[name])
            changed[name] = tuple((own + [more] * depth)[:depth])
    return plan.changed(network={"settings": changed})


def halved(trials: Sequence[Trial], run: Callable[[Trial, float, int], float]) -> tuple[Trial, list[dict[str, Any]]]:
    """The best of some trials by successive halving, and what each reached.

    In every round the same time is shared by those that are left; the better half goes on, with twice the time each.

    Args:
        trials: at least one.
        run: trains one for a share of the whole time and says how good it is; also told the round.
    Source: K. Jamieson and A. Talwalkar, AISTATS 2016.
    """
    rounds = max(1, ceil(log2(len(trials))))
    left, told = list(trials), []
    for number in range(rounds):
        share = 1 / rounds / len(left)
        scores = [run(trial, share, number) for trial in left]
        scores = [s if isfinite(s) else -inf for s in scores]  # what diverged is worse than anything
        told += [
            {"settings": t.name, "round": number + 1, "share": round(share, 4), "goodness": s if isfinite(s) else None}
            for t, s in zip(left, scores, strict=True)
        ]
        order = sorted(range(len(left)), key=lambda i: (-scores[i], i))
        left = [left[i] for i in order[: max(1, (len(left) + 1) // 2)]]
    return left[0], told
