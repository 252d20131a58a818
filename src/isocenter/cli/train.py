"""The command `train`."""

import json
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from isocenter.cli import show
from isocenter.cli import train_options as o
from isocenter.cli.options import (
    Group,
    Site,
    Split,
    Subgroups,
    changes_of,
    columns_of,
    freeze_of,
    image_task_of,
    seconds_of,
    task_of,
)

if TYPE_CHECKING:
    from isocenter.training.assemble import Promises

_OF_IMAGES = ("segment", "detect", "enhance", "generate", "anomaly", "forecast")
"""Tasks that only images have."""


def train(
    data: o.Data,
    out: o.Out,
    target: o.Target = None,
    time: o.Time = None,
    event: o.Event = None,
    group: Group = None,
    task: o.TaskName = None,
    budget: o.Budget = None,
    network: o.NetworkName = None,
    plan: o.PlanFile = None,
    change: o.Change = None,
    degrade: o.Degrade = None,
    normal: o.Normal = None,
    beside: o.Beside = None,
    start: o.StartFrom = None,
    freeze: o.Freeze = "none",
    tries: o.Tries = None,
    seeds: o.Seeds = 1,
    ensemble: o.Ensemble = None,
    curve: o.LearningCurve = False,
    hold_out: o.HoldOut = None,
    resplit: o.Resplit = False,
    device: o.Device = "auto",
    processes: o.Processes = 1,
    logs: o.Logs = None,
    model: o.ModelKind = "auto",
    features: o.Features = None,
    drop: o.Drop = None,
    positive: o.Positive = None,
    split_column: Split = None,
    site: Site = None,
    harmonise: o.Harmonise = False,
    covariate: o.Covariate = None,
    unseen_site: o.UnseenSite = "refuse",
    subgroup: Subgroups = None,
    folds: o.Folds = None,
    select: o.Select = None,
    selector: o.Selector = "mrmr",
    calibrate: o.Calibrate = "auto",
    coverage: o.Coverage = 0.9,
    at: o.At = None,
    drop_leaks: o.DropLeaks = False,
    allow_leak: o.AllowLeak = None,
    seed: o.MaybeSeed = None,
    force: o.Force = False,
) -> None:
    """Learn from labelled images, or to predict a column of a table.

    Images: isocenter train images/ --budget 30m -o model/

    Tables: isocenter train patients.csv --target diagnosis --group patient -o model/

    Cases of the split `test` are never looked at. What is printed was measured on patients that the model had not seen.
    """
    begun = monotonic()
    with show.failing_cleanly():
        from isocenter.training.assemble import Promises

        promises = Promises(calibrate, coverage, at)
        leaks = tuple(allow_leak or ())
        wished = budget or network or plan or change or hold_out or resplit or beside or task in _OF_IMAGES
        if _is_images(data, wished=bool(wished)):
            from isocenter.training.images.course import Ways

            _train_images(
                data,
                out,
                task=task,
                budget=budget,
                network=network,
                plan=plan,
                change=[
                    *(change or []),
                    *(f"degradation.{text}" for text in degrade or ()),
                    *_normal(normal),
                ],
                seed=seed,
                promises=promises,
                effort={
                    "device": device,
                    "start": start,
                    "freeze": freeze_of(freeze),
                    "ways": Ways(tuple(tries or ()), seeds, folds or 0, curve, ensemble),
                    "processes": processes,
                    "logs": logs,
                    "hold_out": hold_out,
                    "resplit": resplit,
                    "beside": tuple(beside or ()),
                    "group": group,
                    "target": target,
                    "split": split_column,
                    "drop_leaks": drop_leaks,
                    "allow_leaks": leaks,
                    "force": force,
                    "begun": begun,
                },
            )
            return
        _refuse_for_tables({
            "--from": start, "--freeze": freeze != "none", "--try": tries, "--seeds": seeds > 1, "--ensemble": ensemble,
            "--learning-curve": curve, "--degrade": degrade, "--normal": normal, "--with": beside,
            "--processes": processes > 1,
            "--logs": logs,
        })  # fmt: skip
        from isocenter.pipeline.learn import train as run
        from isocenter.training.fit import Plan

        columns = columns_of(
            target=target, time=time, event=event, group=group, site=site, split=split_column,
            features=features, drop=drop, subgroups=subgroup, positive=positive,
        )  # fmt: skip
        made = Plan(
            model=model, folds=folds or 5, select=select, selector=selector, harmonise=harmonise,
            covariates=tuple(covariate or ()),
            unseen_site=unseen_site, seed=seed or 0,
        )  # fmt: skip
        with show.progress() as tell:
            found = run(
                data, out, columns=columns, task=task_of(task), plan=made, promises=promises, drop_leaks=drop_leaks,
                allow_leaks=leaks, force=force, on_progress=tell,
            )  # fmt: skip
        show.trained(found)


def _normal(name: str | None) -> list[str]:
    """The field of the plan that says which class is normal: a text, also where it looks like a number."""
    return [] if name is None else [f"normal={json.dumps(name)}"]


def _refuse_for_tables(given: dict[str, object]) -> None:
    """Options that mean nothing for a table are refused, not passed over.

    Raises: InputError.
    """
    from isocenter.errors import InputError

    odd = [name for name, value in given.items() if value]
    if odd:
        raise InputError(f"{odd[0]} is for images, and this is a table of numbers: leave it away")


def _is_images(data: Path, *, wished: bool) -> bool:
    """Whether a data set holds images: what is no table does; a table does if it names images and no features."""
    from isocenter.acquire.table import is_table

    if not is_table(data) and data.suffix.lower() not in (".parquet", ".pq"):
        return True
    from isocenter.acquire.columns import read_columns
    from isocenter.acquire.manifest import names_only_images

    return wished or names_only_images(read_columns(data).cells)


def _train_images(
    data: Path, out: Path, *, task: str | None, budget: str | None, network: str | None, plan: Path | None,
    change: list[str] | None, seed: int | None, promises: "Promises", effort: dict[str, Any],
) -> None:  # fmt: skip
    from isocenter.pipeline.image_material import Effort
    from isocenter.pipeline.image_training import train_images
    from isocenter.training.images.choose import Wish

    wish = Wish(network=network, seed=seed, plan=changes_of(change or []))
    with show.progress() as tell:
        found = train_images(
            data, out, task=image_task_of(task), wish=wish, promises=promises,
            effort=Effort(budget_s=seconds_of(budget) if budget else None, plan=plan, **effort), on_progress=tell,
            tell=lambda text: show.say(f"  {text}"),
        )  # fmt: skip
    show.trained_images(found)
