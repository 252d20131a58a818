"""The command `train`."""

import json
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from isocenter.cli import show
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

_IMAGES, _TABLES = "Of images", "Of tables"
"""What the help lists together."""
_OF_IMAGES = ("segment", "detect", "enhance", "generate", "anomaly", "forecast")
"""Tasks that only images have."""


def train(
    data: Annotated[
        Path,
        Argument(
            metavar="DATASET",
            help="Images: a folder of a class each, a MedMNIST .npz, imagesTr and labelsTr, images and labels, HDF5 "
            "files, a table with the columns image and label or mask, DICOM with SEG or RTSTRUCT. Or a table of "
            "numbers, one row a patient or lesion: CSV, TSV, xlsx, Parquet.",
        ),
    ],
    out: Annotated[Path, Option("--out", "-o", help="Folder for the model.")],
    target: Annotated[str | None, Option(help="Column of the class or value to predict.")] = None,
    time: Annotated[
        str | None, Option(rich_help_panel=_TABLES, help="Survival: column of the time to event or end of follow-up.")
    ] = None,
    event: Annotated[
        str | None,
        Option(rich_help_panel=_TABLES, help="Survival: column that is 1 where the event was observed, else 0."),
    ] = None,
    group: Group = None,
    task: Annotated[
        str | None,
        Option(
            help="classify, regress, segment, detect, enhance, generate, anomaly, forecast (images), or survive "
            "(tables); without it, by the labels."
        ),
    ] = None,
    budget: Annotated[
        str | None,
        Option(rich_help_panel=_IMAGES, help="How long it may take in all, as 90s, 20m, 2h. It ends on time."),
    ] = None,
    network: Annotated[
        str | None, Option(rich_help_panel=_IMAGES, help="A network of `isocenter networks`; chosen without.")
    ] = None,
    plan: Annotated[
        Path | None,
        Option(
            exists=True, dir_okay=False, rich_help_panel=_IMAGES, help="A plan (JSON) instead of the one that is made."
        ),
    ] = None,
    change: Annotated[
        list[str] | None,
        Option(
            "--set",
            metavar="FIELD=VALUE",
            rich_help_panel=_IMAGES,
            help="A field of the plan, as schedule.learning_rate=1e-3; repeatable.",
        ),
    ] = None,
    degrade: Annotated[
        list[str] | None,
        Option(
            "--degrade",
            metavar="HOW=VALUE",
            rich_help_panel=_IMAGES,
            help="enhance: what makes good images poor, which the network learns to undo: noise=0.3 (in deviations of "
            "the image), factor=2 (voxels that become one), blur=1 (voxels); repeatable. Pairs of images need none.",
        ),
    ] = None,
    normal: Annotated[
        str | None,
        Option(rich_help_panel=_IMAGES, help="anomaly: the class that is normal, which alone is learnt from."),
    ] = None,
    beside: Annotated[
        list[str] | None,
        Option(
            "--with",
            metavar="COLUMN",
            rich_help_panel=_IMAGES,
            help="Images in a table: a column of numbers beside the image; repeatable.",
        ),
    ] = None,
    start: Annotated[
        str | None,
        Option(
            "--from",
            rich_help_panel=_IMAGES,
            help="Trained weights to start from: a model, a MONAI bundle, a .safetensors file.",
        ),
    ] = None,
    freeze: Annotated[
        str,
        Option(rich_help_panel=_IMAGES, help="With --from: none, half or all of what was taken over does not learn."),
    ] = "none",
    tries: Annotated[
        list[str] | None,
        Option(
            "--try",
            metavar="FIELD=VALUE,VALUE",
            rich_help_panel=_IMAGES,
            help="Settings among which half of the budget chooses, as lr=1e-3,3e-4 or depth=3,4; repeatable.",
        ),
    ] = None,
    seeds: Annotated[
        int, Option(min=1, max=20, rich_help_panel=_IMAGES, help="Trainings from other seeds, which share the budget.")
    ] = 1,
    ensemble: Annotated[
        bool | None,
        Option(
            "--ensemble/--one", rich_help_panel=_IMAGES, help="Keep all networks of --seeds or --folds, or the first."
        ),
    ] = None,
    curve: Annotated[
        bool,
        Option(
            "--learning-curve", rich_help_panel=_IMAGES, help="Say whether more patients would help, within the budget."
        ),
    ] = False,
    hold_out: Annotated[
        int | None,
        Option(
            min=2,
            rich_help_panel=_IMAGES,
            help="Where no splits are stated: every so-many-th patient is a test case, never looked at.",
        ),
    ] = None,
    device: Annotated[str, Option(rich_help_panel=_IMAGES, help="auto, cpu, cuda or mps.")] = "auto",
    processes: Annotated[
        int, Option(min=1, max=64, rich_help_panel=_IMAGES, help="Processes that learn together (distributed).")
    ] = 1,
    logs: Annotated[
        Path | None, Option(rich_help_panel=_IMAGES, help="Folder for TensorBoard and CSV logs while it runs.")
    ] = None,
    model: Annotated[
        str,
        Option(
            rich_help_panel=_TABLES,
            help="auto, logistic, linear, svm, svm-rbf, tree, forest, boosting, knn, cox.",
        ),
    ] = "auto",
    features: Annotated[
        list[str] | None,
        Option(rich_help_panel=_TABLES, help="Pattern of feature columns (* ?); all of numbers without."),
    ] = None,
    drop: Annotated[
        list[str] | None, Option(rich_help_panel=_TABLES, help="Pattern of columns that are no features.")
    ] = None,
    positive: Annotated[
        str | None, Option(rich_help_panel=_TABLES, help="The class that is looked for; the last in order without.")
    ] = None,
    split_column: Split = None,
    site: Site = None,
    harmonise: Annotated[
        bool, Option("--harmonise", rich_help_panel=_TABLES, help="ComBat over --site, inside the folds.")
    ] = False,
    covariate: Annotated[
        list[str] | None, Option(rich_help_panel=_TABLES, help="Feature whose effect harmonisation keeps.")
    ] = None,
    unseen_site: Annotated[
        str, Option(rich_help_panel=_TABLES, help="At prediction: refuse, or keep as it is.")
    ] = "refuse",
    subgroup: Subgroups = None,
    folds: Annotated[
        int | None,
        Option(
            min=2, max=50, help="Folds by patient. Tables: 5 by itself; images: cross-validate, and keep all networks."
        ),
    ] = None,
    select: Annotated[
        int | None, Option(min=0, rich_help_panel=_TABLES, help="Features kept; 0: all; chosen in inner folds without.")
    ] = None,
    selector: Annotated[
        str, Option(rich_help_panel=_TABLES, help="How features are chosen: mrmr, lasso or rfe.")
    ] = "mrmr",
    calibrate: Annotated[str, Option(help="auto, platt, temperature, isotonic or none.")] = "auto",
    coverage: Annotated[float, Option(min=0.5, max=0.999, help="Of prediction sets and intervals.")] = 0.9,
    at: Annotated[
        str | None,
        Option(
            help="Operating point: sensitivity=.95, specificity=.9, cost=5 (a miss costs 5 alarms), youden (images: "
            "by itself)."
        ),
    ] = None,
    drop_leaks: Annotated[
        bool, Option("--drop-leaks", help="Remove the training side of leaks, and record it.")
    ] = False,
    allow_leak: Annotated[
        list[str] | None, Option(help="Go on with leaks of this kind: patient, image, row, near-image.")
    ] = None,
    seed: Annotated[int | None, Option(help="Of folds, models and resampling; 0, or the plan's, without.")] = None,
    force: Annotated[bool, Option("--force", help="Replace a model that stands there.")] = False,
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
        if _is_images(
            data, wished=bool(budget or network or plan or change or hold_out or beside or task in _OF_IMAGES)
        ):
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
