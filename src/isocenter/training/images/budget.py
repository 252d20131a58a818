"""What a budget buys on this machine: precision, width, steps and looks, measured before the training begins."""

import time
from collections.abc import Callable
from math import ceil
from typing import Any

import numpy as np
import torch

from isocenter.errors import InputError
from isocenter.inference.torch_runtime import laid_out
from isocenter.training.images.batches import Sampler
from isocenter.training.images.choose import Wish
from isocenter.training.images.loop import fresh_network, only_of, players_of
from isocenter.training.images.plan import Plan
from isocenter.training.images.store import Store
from isocenter.training.images.tasks import task_of

_LEAST_STEPS, _LOOKS = 1500, 25
"""Steps below which a cheaper network is better; and how often each case is seen before width helps more."""
_TOO_FEW = 100
_LOOKS_AT_MOST, _SHARE_FOR_LOOKS, _SHARE_FOR_LAST = 20, 0.1, 0.3
"""Looks on the way, the share of the budget that they may take, and what the last look may."""
_TIMED_LOOKS = 2
"""Looks at a case whose shorter time counts: another program may disturb one."""
_SHARE_FOR_STEPS = 0.98
"""Of the budget; the rest is for the last look, calibration and writing."""


def seconds_per_step(plan: Plan, store: Store, *, device: str, limit_s: float) -> float:
    """Time of a step with its batch, measured on a copy that is thrown away; the median of those after the first."""
    torch.manual_seed(0)
    module = laid_out(fresh_network(plan).to(device), plan.preparation.dims).train()
    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-4)
    task = task_of(plan)
    sampler, loss = Sampler(store, plan), task.loss(plan)
    took: list[float] = []
    begin = time.monotonic()
    while len(took) < 2 or (len(took) < 12 and time.monotonic() - begin < limit_s):
        start = time.monotonic()
        batch = task.batch(sampler, len(took))
        for turn in players_of(module):
            with torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=plan.precision == "bfloat16"):
                value = loss(module, batch, turn)
            torch.autograd.backward(value)
            only_of(turn, module)
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad()
        took.append(time.monotonic() - start)
    return float(np.median(took[1:]))


def fitted_to(
    plan: Plan,
    store: Store,
    val: Store,
    budget_s: float,
    wish: Wish,
    *,
    given: bool = False,
    device: str = "cpu",
    tell: Callable[[str], None] | None = None,
) -> tuple[Plan, float]:
    """The plan with precision, width and steps that the budget can buy here, and the seconds of its last look.

    Wider networks are taken only where the budget still shows them each case often enough. What is wished for stays as
    it is; of a plan that was given, everything but the steps.

    Raises: InputError where judging the validation cases alone takes half of the budget, or no step fits beside it.
    """
    begun = time.monotonic()
    limit = max(1.0, budget_s / 60)
    fixed = tuple(wish.plan or {})
    if given or "precision" in fixed:
        took = seconds_per_step(plan, store, device=device, limit_s=limit)
    else:
        plan, took = _faster_precision(plan, store, device, limit)
    plan, look_s, last_s = _looks(plan, store, val, budget_s, device)

    def steps_of(seconds: float) -> int:
        left = budget_s - (time.monotonic() - begun) - last_s
        return max(1, int(left * (_SHARE_FOR_STEPS - _SHARE_FOR_LOOKS) / seconds))

    free = not given and not any(key.startswith("network") for key in fixed)
    if free and wish.network is None and not wish.settings:

        def seconds_of(one: Plan) -> float:
            return seconds_per_step(one, store, device=device, limit_s=limit)

        batch = not any(key.startswith("schedule.batch") for key in fixed)
        plan, took = _fitting_size(plan, took, steps_of, seconds_of, _LOOKS * len(store), smaller_batch=batch)
    left = budget_s - (time.monotonic() - begun) - last_s
    if left < took:
        wanted = budget_s - left + _TOO_FEW * took / (_SHARE_FOR_STEPS - _SHARE_FOR_LOOKS)
        raise InputError(
            f"--budget: judging at the end takes about {last_s:.0f} s and a step {took:.1f} s, and "
            f"{max(0.0, left):.0f} s are left to learn: give {ceil(wanted / 60)}m or more, or smaller images"
        )
    steps = steps_of(took)
    if tell:
        width = plan.network.settings.get("widths", "as in the catalogue")
        what = f"{plan.network.name}, widths {width}, batch {plan.schedule.batch}"
        tell(f"{what}: {took:.3f} s a step in {plan.precision}; {steps} steps fit")
        if steps < _TOO_FEW:
            tell(f"{steps} steps are too few for a network that can be relied on: give more time")
    looks = max(1, min(_LOOKS_AT_MOST, int(_SHARE_FOR_LOOKS * budget_s / max(look_s, 1e-3))))
    schedule: dict[str, Any] = {"steps": steps}
    if not plan.schedule.validate_every and looks < _LOOKS_AT_MOST:
        schedule["validate_every"] = -(-steps // looks)
    return plan.changed(schedule=schedule), last_s


def _fitting_size(
    plan: Plan, took: float, steps_of: Callable[[float], int], seconds_of: Callable[[Plan], float], cases: int, *,
    smaller_batch: bool,
) -> tuple[Plan, float]:  # fmt: skip
    """A cheaper network where there are too few steps, a wider one where there are more than enough."""
    for other in _cheaper(plan, smaller_batch=smaller_batch):
        if steps_of(took) >= _LEAST_STEPS:
            break
        shorter = seconds_of(other)
        if shorter < 0.85 * took:  # narrow layers cost hardly less on some machines
            plan, took = other, shorter
    for other in _wider(plan):
        longer = seconds_of(other)
        if steps_of(longer) < cases / plan.schedule.batch:
            break
        plan, took = other, longer
    return plan, took


def _looks(plan: Plan, store: Store, val: Store, budget_s: float, device: str) -> tuple[Plan, float, float]:
    """Seconds of a look at the validation cases on the way, and of the last, thorough one.

    Fewer training cases are judged beside them where the time is short.

    Raises: InputError where the validation cases alone take half of the budget.
    """
    task, module = task_of(plan), laid_out(fresh_network(plan).to(device), plan.preparation.dims).eval()
    run, first = task.run((module,), plan, device), val.only([0])
    task.validate(run, first, plan)
    quick = min(_seconds(lambda: task.validate(run, first, plan)) for _ in range(_TIMED_LOOKS))
    thorough = quick
    if task.windowed():  # flips, and windows that overlap twice as much
        shape = val.items[0].image.shape[-len(plan.patch) :]
        longer = sum(n > p for n, p in zip(shape, plan.patch, strict=True))
        thorough = quick * 2 ** len(plan.spec.flips) * 2**longer
    judged = thorough * len(val)
    if judged > 0.5 * budget_s:
        raise InputError(
            f"--budget: judging the {len(val)} validation cases takes about {judged:.0f} s of {budget_s:.0f} s: give "
            f"{2.5 * judged / 60:.0f}m or more, or smaller images (--set preparation.spacing_mm=...)"
        )
    beside = min(len(store), len(val))
    if judged * 2 > _SHARE_FOR_LAST * budget_s:
        beside = int(min(beside, max(1, (_SHARE_FOR_LAST * budget_s - judged) / thorough)))
        plan = plan.changed(training_cases_judged=beside)
    return plan, quick * len(val), 1.2 * thorough * (len(val) + beside)


def _seconds(work: Callable[[], object]) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start


def _faster_precision(plan: Plan, store: Store, device: str, limit: float) -> tuple[Plan, float]:
    """bfloat16 where it is at least a tenth faster here."""
    full = seconds_per_step(plan, store, device=device, limit_s=limit)
    if not task_of(plan).half:
        return plan, full
    half = plan.changed(precision="bfloat16")
    short = seconds_per_step(half, store, device=device, limit_s=limit)
    return (half, short) if short < 0.9 * full else (plan, full)


def _wider(plan: Plan) -> list[Plan]:
    """Networks of the same kind that cost more, in order."""
    if plan.network.name != "resnet":
        return []
    return [
        plan.changed(network={"settings": {**plan.network.settings, "widths": (64, 128, 256), "blocks": (blocks,) * 3}})
        for blocks in (1, 2)
    ]


def _cheaper(plan: Plan, *, smaller_batch: bool = True) -> list[Plan]:
    """The same network with smaller batches, then with fewer channels, in order."""
    settings, batch = plan.network.settings, plan.schedule.batch
    small = plan.changed(schedule={"batch": max(2, batch // 2)}) if smaller_batch else plan
    if plan.network.name == "dynamic_unet":
        most = 320 if plan.preparation.dims == 3 else 512
        count = len(settings["widths"])
        bases = [base for base in (24, 16) if base < settings["widths"][0]]
        rows = [tuple(min(base * 2**i, most) for i in range(count)) for base in bases]
        return [small, *(_of_widths(small, widths) for widths in rows)]
    if plan.frames:  # each of a batch is as many images as it has frames
        return [plan.changed(schedule={"batch": max(2, batch // by)}) for by in (2, 4) if smaller_batch]
    if plan.task == "detect":
        widths = settings["widths"]
        return [small, *(_of_widths(small, tuple(max(8, int(w * share)) for w in widths)) for share in (0.67, 0.5))]
    if plan.network.name == "restorer":
        return [small, *(_of_widths(small, tuple(base * 2**i for i in range(3))) for base in (24, 16))]
    if plan.network.name == "resnet18":
        return [_of_widths(plan, tuple(base * 2**i for i in range(4))) for base in (48, 32, 16)]
    return []


def _of_widths(plan: Plan, widths: tuple[int, ...]) -> Plan:
    return plan.changed(network={"settings": {**plan.network.settings, "widths": widths}})
