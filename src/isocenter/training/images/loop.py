"""The loop: batches, steps, an average of the weights, validation, checkpoints.

A killed run goes on where it was, to the same weights.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from isocenter.errors import DegenerateImage, InputError
from isocenter.inference.model import build_of
from isocenter.inference.torch_runtime import laid_out
from isocenter.networks.catalogue import network as row_of
from isocenter.optional import require
from isocenter.training.images.batches import Batch, Sampler
from isocenter.training.images.checkpoint import Row, State, resume, save
from isocenter.training.images.plan import Plan
from isocenter.training.images.start import frozen_in
from isocenter.training.images.store import Store
from isocenter.training.images.tasks import task_of
from isocenter.training.images.tasks.task import StepLoss
from isocenter.training.images.teacher import taught_by
from isocenter.training.images.validation import Validated
from isocenter.types import Progress

_SAVE_EVERY_S = 60.0
_LOOKS, _BEAT = 20, 10


@dataclass(frozen=True, eq=False)
class Learnt:
    """What a training leaves.

    Args:
        network: with the averaged weights, in evaluation.
        plan: with the steps that were really made.
        log: its course.
        final: the last, thorough look at the validation cases.
        train_goodness: the same look at as many training cases.
        seconds: it took.
    """

    network: nn.Module
    plan: Plan
    log: tuple[Row, ...]
    final: Validated
    train_goodness: Validated
    seconds: float


def fresh_network(plan: Plan) -> nn.Module:
    """The plan's network with the weights that its seed gives."""
    torch.manual_seed(plan.seed)
    return build_of(plan.spec)


def learn(
    plan: Plan,
    train: Store,
    val: Store,
    *,
    network: nn.Module | None = None,
    checkpoint: Path | None = None,
    deadline_s: float | None = None,
    device: str = "cpu",
    processes: int = 1,
    teachers: Sequence[nn.Module] = (),
    logs: Path | None = None,
    on_progress: Progress | None = None,
) -> Learnt:
    """Train a network by its plan.

    Args:
        plan: with `schedule.steps` set.
        train: cases to learn from.
        val: cases that it is judged by, and never learns from.
        network: weights to start from; None: fresh ones.
        checkpoint: folder of the unfinished run; what lies there is gone on with.
        deadline_s: seconds after which it must have ended; the schedule is stretched or shortened to fit. None: the
            steps of the plan, exactly.
        device: `cpu`, `cuda` or `mps`.
        processes: that learn together, each from its share of every batch (distributed data parallel).
        teachers: networks whose answers are learnt, instead of the labels; in one process.
        logs: folder for TensorBoard and CSV while it runs.
        on_progress: told each step; with several processes, nothing.
    Raises: InputError for a plan without steps; DegenerateImage where the loss is no number any more.
    """
    if plan.schedule.steps < 1:
        raise InputError("the plan says no steps: give a budget, or schedule.steps")
    if plan.schedule.batch < processes:
        raise InputError(f"a batch of {plan.schedule.batch} cannot be shared by {processes} processes")
    if teachers and processes > 1:
        raise InputError("a smaller network is taught in one process")
    fabric = _fabric(plan, device, processes, logs)
    stores = (train, val)
    loss = taught_by(teachers, plan) if teachers else task_of(plan).loss(plan)
    if processes == 1:
        state = _course(fabric, plan, stores, network, checkpoint, deadline_s, device, loss, on_progress)
        return _finished(state, plan, stores, device, fabric)
    with TemporaryDirectory(prefix="isocenter-") as temporary:
        folder = checkpoint or Path(temporary)
        given = _Held((plan, stores, network, folder, deadline_s, device))
        fabric.launch(_course_together, max(1, torch.get_num_threads() // processes), given)
        state = _start(plan, network, folder)  # where the first process left it
        return _finished(state, plan, stores, device, None)


class _Held:
    """Carries values past Lightning, which would take frozen ones apart."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _course_together(fabric: Any, threads: int, given: _Held) -> None:
    """The steps as one of several processes makes them; what they come to is left in the checkpoint."""
    torch.set_num_threads(threads)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    plan, stores, network, checkpoint, deadline_s, device = given.value
    _course(
        fabric, plan, stores, network, checkpoint, deadline_s, device, task_of(plan).loss(plan), None
    )  # fmt: skip


def _course(
    fabric: Any,
    plan: Plan,
    stores: tuple[Store, Store],
    network: nn.Module | None,
    checkpoint: Path | None,
    deadline_s: float | None,
    device: str,
    loss: StepLoss,
    on_progress: Progress | None,
) -> State:
    """Every step; of several processes, the first one looks, writes down and saves."""
    train, val = stores
    state = _start(plan, network, checkpoint)
    module, optimiser = fabric.setup(state.network, state.optimiser)
    sampler = Sampler(train, plan, rank=fabric.global_rank, ranks=fabric.world_size)
    every = plan.schedule.validate_every or max(1, plan.schedule.steps // _LOOKS)
    clock, saved = time.monotonic() - state.seconds, time.monotonic()
    task = task_of(plan)
    step = _Step(plan, module, optimiser, loss, fabric)
    module.train()
    for part in state.still:
        part.eval()
    fitted, told, first = state.seconds, "training", fabric.is_global_zero
    together = fabric.world_size > 1
    while state.step < state.total:
        step.make(task.batch(sampler, state.step), state)
        state.seconds = time.monotonic() - clock
        if on_progress and (state.step % _BEAT == 0 or state.step == state.total):
            on_progress(told, state.step, state.total)
        enough, look = False, state.step % every == 0 and state.step < state.total
        if first and look:
            found = _look(state, plan, val, device)
            _write_down(state, step.rate, found, fabric)
            enough, told = _is_enough(state, plan, found), f"training ({found.told})"
            state.seconds, fitted = time.monotonic() - clock, 0.0
        beat = not together or state.step % _BEAT == 0  # clocks differ: the first process decides for all
        if first and beat and deadline_s is not None and state.seconds - fitted > deadline_s / _LOOKS:
            _fit_to(deadline_s, state)
            fitted = state.seconds
        if together and (beat or look):
            state.total, state.turns, enough = fabric.broadcast((state.total, state.turns, enough))
        if enough:
            state.total = state.step  # so a resumed course knows that it ended
            state.turns.append((state.step, state.step))
            break
        if first:
            saved = _saved_now_and_then(checkpoint, state, plan, saved)
    if first and checkpoint is not None:
        save(checkpoint, state, plan)  # a part of a longer course that is killed later is not trained again
    return state


def _finished(state: State, plan: Plan, stores: tuple[Store, Store], device: str, fabric: Any) -> Learnt:
    """The thorough look, and what is left of the training."""
    begun = time.monotonic()
    final, own = _last_look(state, plan, stores, device)
    state.seconds += time.monotonic() - begun
    _write_down(state, 0.0, final, fabric)
    done = plan.changed(schedule={"turns": tuple(state.turns)})
    return Learnt(averaged(state.average, plan), done, tuple(state.log), final, own, state.seconds)


def _saved_now_and_then(checkpoint: Path | None, state: State, plan: Plan, saved: float) -> float:
    """When the course was last written; now, if it was due."""
    now = time.monotonic()
    if checkpoint is None or now - saved <= _SAVE_EVERY_S:
        return saved
    save(checkpoint, state, plan)
    return time.monotonic()


class _Step:
    """One batch forward and back."""

    def __init__(self, plan: Plan, module: Any, optimiser: Any, loss: StepLoss, fabric: Any) -> None:
        self.plan, self.module, self.optimiser, self.loss, self.fabric = plan, module, optimiser, loss, fabric
        self.rate = 0.0

    def make(self, batch: Batch, state: State) -> None:
        """Change the weights, and their average.

        Raises: DegenerateImage where the loss is no number any more.
        """
        plan = self.plan
        torch.manual_seed(hash((plan.seed, state.step)) % 2**31)  # dropout, the same in a resumed run
        self.rate = plan.schedule.learning_rate * _rate(_progress(state, plan), plan)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate
        total = 0.0
        for turn in players_of(state.network):
            loss = self.loss(self.module, batch, turn)
            if not torch.isfinite(loss):
                raise DegenerateImage(
                    f"the loss is no number any more at step {state.step + 1}: lower schedule.learning_rate "
                    f"({self.rate:.2g}), or train in float32"
                )
            self.fabric.backward(loss)
            only_of(turn, state.network)
            self.fabric.clip_gradients(self.module, self.optimiser, max_norm=plan.schedule.clip)
            self.optimiser.step()
            self.optimiser.zero_grad()
            total += float(loss.detach())
        state.step += 1
        state.losses.append(total)
        _average(state, plan)


def players_of(network: nn.Module) -> tuple[str, ...]:
    """Parts of a network that learn in turn, each from its own loss; one without a name: all of it at once."""
    return getattr(network, "players", ("",))


def only_of(turn: str, network: nn.Module) -> None:
    """Take the gradients from all but the player whose turn it is: an optimiser leaves weights without one alone."""
    if not turn:
        return
    parts = [name for name in players_of(network) if name != turn]
    for part in parts:
        for weight in network.get_submodule(part).parameters():
            weight.grad = None


def _fabric(plan: Plan, device: str, processes: int, logs: Path | None) -> Any:
    lightning = require("lightning_fabric", extra="learn")
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it tells which precision it uses, as do we
    precision = "bf16-mixed" if plan.precision == "bfloat16" else "32-true"
    kind = {"cpu": "cpu", "cuda": "cuda", "mps": "mps"}.get(device.partition(":")[0], "cpu")
    loggers = []
    if logs is not None:
        require("tensorboardX", extra="learn")
        from lightning_fabric.loggers import CSVLogger, TensorBoardLogger

        loggers = [
            CSVLogger(logs, name="", version="", flush_logs_every_n_steps=1),
            TensorBoardLogger(logs, name="", version=""),
        ]
    return lightning.Fabric(
        accelerator=kind, devices=processes, precision=precision, loggers=loggers,
        strategy=_together(plan) if processes > 1 else "auto",
    )  # fmt: skip


def _together(plan: Plan) -> Any:
    """Processes that share gradients; of players, each turn leaves the weights of the others alone."""
    if len(getattr(row_of(plan.network.name).build, "players", ("",))) == 1:
        return "ddp_spawn"
    strategies = require("lightning_fabric.strategies", extra="learn")
    return strategies.DDPStrategy(start_method="spawn", find_unused_parameters=True)


def _start(plan: Plan, network: nn.Module | None, checkpoint: Path | None) -> State:
    """Fresh weights, or given ones; then what an unfinished run left."""
    module = network if network is not None else fresh_network(plan)
    module = laid_out(module, plan.preparation.dims)
    still = frozen_in(module, plan.frozen)
    how = plan.schedule
    decayed = [p for p in module.parameters() if p.requires_grad and p.ndim > 1]
    plain = [p for p in module.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": how.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimiser: torch.optim.Optimizer
    if how.optimiser == "sgd":
        optimiser = torch.optim.SGD(groups, lr=how.learning_rate, momentum=how.momentum, nesterov=how.momentum > 0)
    else:
        kind = torch.optim.AdamW if how.optimiser == "adamw" else torch.optim.Adam
        optimiser = kind(groups, lr=how.learning_rate, betas=(how.beta, how.beta_square))
    average = {name: value.detach().clone() for name, value in module.state_dict().items()}
    total = how.turns[-1][1] if how.turns else how.steps
    state = State(module, average, optimiser, still, total=total, turns=list(how.turns))
    if checkpoint is not None:
        resume(checkpoint, state, plan)
    return state


def _progress(state: State, plan: Plan) -> float:
    """Share of the schedule that is done, over every turn that it took."""
    done, at, total = 0.0, 0, plan.schedule.steps
    for step, new in state.turns:
        if step >= state.step:
            break
        done += (1 - done) * (step - at) / max(1, total - at)
        at, total = step, new
    return done + (1 - done) * (state.step - at) / max(1, total - at)


def _rate(progress: float, plan: Plan) -> float:
    """Share of the learning rate: a linear warm-up, then half a cosine."""
    warm = plan.schedule.warm_up
    if progress < warm:
        return max(progress / warm, 0.01)
    return 0.5 * (1 + cos(pi * (progress - warm) / (1 - warm)))


def _average(state: State, plan: Plan) -> None:
    """Exponential moving average, shorter at the start. Statistics of normalisation are averaged alike."""
    decay = min(plan.schedule.ema, (1 + state.step) / (10 + state.step))
    with torch.no_grad():
        for name, value in state.network.state_dict().items():
            kept = state.average[name]
            if kept.dtype.is_floating_point:
                kept.lerp_(value.to(kept.device), 1 - decay)
            else:
                kept.copy_(value)


def averaged(average: dict[str, Tensor], plan: Plan) -> nn.Module:
    """A second network with the averaged weights, rounded as they will be written.

    Raises: DegenerateImage for weights that the written type cannot hold.
    """
    twin = build_of(plan.spec)
    weights = {name: value.detach().cpu() for name, value in average.items()}
    if plan.stored == "float16":
        weights = {n: v.half().float() if v.dtype == torch.float32 else v for n, v in weights.items()}
        odd = next((name for name, value in weights.items() if not torch.isfinite(value).all()), None)
        if odd:
            raise DegenerateImage(f"the weights {odd} are too large for float16: write them with stored=float32")
    twin.load_state_dict(weights)
    return laid_out(twin, plan.preparation.dims).eval()


def _look(state: State, plan: Plan, val: Store, device: str) -> Validated:
    with torch.random.fork_rng(devices=[]):
        twin = averaged(state.average, plan)
    task = task_of(plan)
    return task.validate(task.run((twin,), plan, device), val, plan)


def _write_down(state: State, rate: float, found: Validated, fabric: Any) -> None:
    loss = sum(state.losses) / max(1, len(state.losses))
    row = Row(state.step, round(state.seconds, 2), rate, loss, found.metrics)
    state.log.append(row)
    state.losses.clear()
    if fabric is not None and fabric.loggers:
        fabric.log_dict(
            {"loss": row.loss, "rate": rate, **{f"val/{k}": v for k, v in found.metrics.items()}}, step=state.step
        )


def _is_enough(state: State, plan: Plan, found: Validated) -> bool:
    if found.goodness > state.best:
        state.best, state.waited = found.goodness, 0
        return False
    state.waited += 1
    return bool(plan.schedule.patience) and state.waited >= plan.schedule.patience


def _fit_to(deadline_s: float, state: State) -> None:
    """Change how many steps there will be, where the machine is slower or faster than it was when measured."""
    if state.step >= state.total:
        return
    left = deadline_s - state.seconds
    possible = state.step + max(1, int(left / (state.seconds / state.step)))
    if possible < state.total or possible > 1.05 * state.total:
        state.total = possible
        state.turns.append((state.step, possible))


def _last_look(state: State, plan: Plan, stores: tuple[Store, Store], device: str) -> tuple[Validated, Validated]:
    """A thorough look at the validation cases, and at as many training cases."""
    train, val = stores
    task = task_of(plan)
    run = task.run((averaged(state.average, plan),), plan, device)
    few = some_of(train, plan.training_cases_judged or len(val), plan.seed)
    return task.validate(run, val, plan, thorough=True), task.validate(run, few, plan, thorough=True)


def some_of(store: Store, count: int, seed: int) -> Store:
    """So many cases, drawn from all: the first ones may be of one class."""
    if len(store) <= count:
        return store
    return store.only(sorted(np.random.default_rng((seed, 3)).choice(len(store), count, replace=False).tolist()))
