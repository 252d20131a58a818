"""Commands of learning: train, predict, evaluate."""

import json
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer
from typer import Argument, Option

from isocenter.cli import show

if TYPE_CHECKING:
    from isocenter.data.card import Task
    from isocenter.data.dataset import Answers
    from isocenter.training.assemble import Promises
    from isocenter.training.images.start import Freeze
    from isocenter.training.table import Columns

Group = Annotated[str | None, Option(help="Column of patients; one with a usual name (patient) is taken by itself.")]
Site = Annotated[str | None, Option(help="Column of institutions.")]
Split = Annotated[str | None, Option("--split-column", help="Column that says train, val or test; `split` by itself.")]
Subgroups = Annotated[
    list[str] | None, Option("--subgroup", help="Column by which results are broken down; repeatable.")
]
Seed = Annotated[int, Option(help="Of folds, models and resampling.")]


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
    time: Annotated[str | None, Option(help="Survival: column of the time to event or end of follow-up.")] = None,
    event: Annotated[
        str | None, Option(help="Survival: column that is 1 where the event was observed, else 0.")
    ] = None,
    group: Group = None,
    task: Annotated[
        str | None,
        Option(
            help="classify, regress, segment, detect, enhance, generate, anomaly (images) or survive (tables); without "
            "it, by the labels."
        ),
    ] = None,
    budget: Annotated[
        str | None, Option(help="Images: how long it may take in all, as 90s, 20m, 2h. It ends on time.")
    ] = None,
    network: Annotated[str | None, Option(help="Images: a network of `isocenter networks`; chosen without.")] = None,
    plan: Annotated[
        Path | None, Option(exists=True, dir_okay=False, help="Images: a plan (JSON) instead of the one that is made.")
    ] = None,
    change: Annotated[
        list[str] | None,
        Option(
            "--set",
            metavar="FIELD=VALUE",
            help="Images: a field of the plan, as schedule.learning_rate=1e-3; repeatable.",
        ),
    ] = None,
    degrade: Annotated[
        list[str] | None,
        Option(
            "--degrade",
            metavar="HOW=VALUE",
            help="enhance: what makes good images poor, which the network learns to undo: noise=0.3 (in deviations of "
            "the image), factor=2 (voxels that become one), blur=1 (voxels); repeatable. Pairs of images need none.",
        ),
    ] = None,
    normal: Annotated[str | None, Option(help="anomaly: the class that is normal, which alone is learnt from.")] = None,
    beside: Annotated[
        list[str] | None,
        Option("--with", metavar="COLUMN", help="Images in a table: a column of numbers beside the image; repeatable."),
    ] = None,
    start: Annotated[
        str | None,
        Option("--from", help="Images: trained weights to start from: a model, a MONAI bundle, a .safetensors file."),
    ] = None,
    freeze: Annotated[
        str, Option(help="With --from: none, half or all of what was taken over does not learn.")
    ] = "none",
    tries: Annotated[
        list[str] | None,
        Option(
            "--try",
            metavar="FIELD=VALUE,VALUE",
            help="Images: settings among which half of the budget chooses, as lr=1e-3,3e-4 or depth=3,4; repeatable.",
        ),
    ] = None,
    seeds: Annotated[
        int, Option(min=1, max=20, help="Images: trainings from other seeds, which share the budget.")
    ] = 1,
    ensemble: Annotated[
        bool | None, Option("--ensemble/--one", help="Images: keep all networks of --seeds or --folds, or the first.")
    ] = None,
    curve: Annotated[
        bool, Option("--learning-curve", help="Images: say whether more patients would help, within the budget.")
    ] = False,
    hold_out: Annotated[
        int | None,
        Option(min=2, help="Images without splits: every so-many-th patient is a test case, never looked at."),
    ] = None,
    device: Annotated[str, Option(help="Images: auto, cpu, cuda or mps.")] = "auto",
    processes: Annotated[int, Option(min=1, max=64, help="Images: that learn together (distributed).")] = 1,
    logs: Annotated[Path | None, Option(help="Images: folder for TensorBoard and CSV logs while it runs.")] = None,
    model: Annotated[
        str, Option(help="Tables: auto, logistic, linear, svm, svm-rbf, tree, forest, boosting, knn, cox.")
    ] = "auto",
    features: Annotated[
        list[str] | None, Option(help="Pattern of feature columns (* ?); all of numbers without.")
    ] = None,
    drop: Annotated[list[str] | None, Option(help="Pattern of columns that are no features.")] = None,
    positive: Annotated[str | None, Option(help="The class that is looked for; the last in order without.")] = None,
    split_column: Split = None,
    site: Site = None,
    harmonise: Annotated[bool, Option("--harmonise", help="ComBat over --site, inside the folds.")] = False,
    covariate: Annotated[list[str] | None, Option(help="Feature whose effect harmonisation keeps.")] = None,
    unseen_site: Annotated[str, Option(help="At prediction: refuse, or keep as it is.")] = "refuse",
    subgroup: Subgroups = None,
    folds: Annotated[
        int | None,
        Option(
            min=2, max=50, help="Folds by patient. Tables: 5 by itself; images: cross-validate, and keep all networks."
        ),
    ] = None,
    select: Annotated[int | None, Option(min=0, help="Features kept; 0: all; chosen in inner folds without.")] = None,
    selector: Annotated[str, Option(help="How features are chosen: mrmr, lasso or rfe.")] = "mrmr",
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


_OF_IMAGES = ("segment", "detect", "enhance", "generate", "anomaly", "forecast")
"""Tasks that only images have."""


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
    from isocenter.errors import InputError
    from isocenter.pipeline.image_material import Effort
    from isocenter.pipeline.image_training import train_images
    from isocenter.training.images.choose import Wish

    if task == "survive":
        raise InputError(
            "--task survive: images are classified, regressed, segmented or made better, or objects found in them"
        )
    wish = Wish(network=network, seed=seed, plan=changes_of(change or []))
    with show.progress() as tell:
        found = train_images(
            data, out, task=cast("Answers | None", task_of(task)), wish=wish, promises=promises,
            effort=Effort(budget_s=seconds_of(budget) if budget else None, plan=plan, **effort), on_progress=tell,
            tell=lambda text: show.say(f"  {text}"),
        )  # fmt: skip
    show.trained_images(found)


def freeze_of(text: str) -> "Freeze":
    """How much of given weights does not learn.

    Raises: InputError.
    """
    from isocenter.errors import InputError

    if text not in ("none", "half", "all"):
        raise InputError(f"--freeze {text}: there are none, half and all")
    return cast("Freeze", text)


def seconds_of(text: str) -> float:
    """A duration such as 90s, 20m, 1.5h.

    Raises: InputError.
    """
    from isocenter.errors import InputError

    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    try:
        seconds = float(text[:-1]) * units[text[-1]]
    except (ValueError, KeyError, IndexError):
        seconds = 0.0
    if not 1 <= seconds <= 1e7:
        raise InputError(f"--budget {text}: write a time such as 90s, 20m or 2h")
    return seconds


def bytes_of(text: str) -> int:
    """An amount of memory such as 4G or 800M.

    Raises: InputError.
    """
    from isocenter.errors import InputError

    units = {"M": 2**20, "G": 2**30}
    try:
        found = float(text[:-1]) * units[text[-1].upper()]
    except (ValueError, KeyError, IndexError):
        found = 0.0
    if not 2**26 <= found <= 2**46:
        raise InputError(f"--memory {text}: write an amount such as 4G or 800M")
    return int(found)


def changes_of(texts: list[str]) -> dict[str, Any]:
    """Fields of a plan from `field=value`; a value is JSON, or a text.

    Raises: InputError.
    """
    from isocenter.errors import InputError
    from isocenter.training.images.trials import SHORT, value_of

    found: dict[str, Any] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise InputError(f"--set {text}: write FIELD=VALUE, as schedule.learning_rate=1e-3")
        found[SHORT.get(name, name)] = value_of(value)
    return found


def predict(
    model: Annotated[Path, Argument(help="The model's folder.")],
    data: Annotated[
        Path,
        Argument(
            metavar="INPUT", help="An image, a study, a folder or data set of images; or a table, as the model needs."
        ),
    ],
    out: Annotated[
        Path | None, Option("--out", "-o", help="Folder for label maps and predictions.csv; of a table, the CSV.")
    ] = None,
    site: Site = None,
    device: Annotated[str, Option(help="Images: auto, cpu, cuda or mps.")] = "auto",
    runtime: Annotated[
        str, Option(help="Images: auto (the fastest that agrees with float32), torch-float32, openvino-bfloat16 ...")
    ] = "auto",
    memory: Annotated[str | None, Option(help="Images: memory that it may take in all, as 4G.")] = None,
    overlap: Annotated[float, Option(min=0, max=0.9, help="Images: of the windows.")] = 0.5,
    flips: Annotated[bool, Option("--flips/--no-flips", help="Images: average over the model's flips.")] = True,
    doubt: Annotated[
        bool, Option("--uncertainty", help="Images: write OUT/uncertainty/<case>.nii.gz, 0 (certain) to 1, too.")
    ] = False,
    strict: Annotated[bool, Option("--strict", help="Images unlike the training are refused, not marked.")] = False,
) -> None:
    """Predict every image or row of INPUT with a trained model.

    Label maps lie on each input's own grid (OUT/<case>.nii.gz); classes stand in OUT/predictions.csv. An image that is
    not like those of the training is marked `review`, or refused.
    """
    with show.failing_cleanly():
        from isocenter.formats.model_folder import read_card
        from isocenter.zoo import model_path

        model = model_path(model)
        if read_card(model).network:
            from isocenter.inference.predictor import Running
            from isocenter.pipeline.image_prediction import predict_images

            folder = out or Path("predictions")
            running = Running(device, runtime, overlap, flips, strict, bytes_of(memory) if memory else None, doubt)
            with show.progress() as tell:
                answers = predict_images(
                    model, data, folder, running=running, on_progress=tell, tell=lambda text: show.say(f"  {text}")
                )
            show.predicted_images(answers, folder)
            return
        from isocenter.pipeline.learn import predict as run

        out, table = out or Path("predictions.csv"), data
        found = run(model, table, out, site=site)
        typer.echo(f"{out}: {len(found.cases)} predictions. Not for clinical use.")


def evaluate(
    model: Annotated[Path | None, Argument(help="The model's folder.")] = None,
    table: Annotated[
        Path | None, Argument(metavar="[DATASET]", help="A table or data set of images with the truth.")
    ] = None,
    out: Annotated[Path, Option("--out", "-o", help="Folder for evaluation.json and evaluation.html.")] = Path(
        "evaluation"
    ),
    predictions: Annotated[
        list[Path] | None,
        Option(help="Anybody's predictions: case and p_CLASS, probability, predicted or risk; two compare."),
    ] = None,
    reference: Annotated[Path | None, Option(help="With --predictions: case and the truth.")] = None,
    target: Annotated[str | None, Option(help="With --reference: the column of the truth.")] = None,
    time: Annotated[str | None, Option(help="With --reference: survival time.")] = None,
    event: Annotated[str | None, Option(help="With --reference: 1 where the event was observed.")] = None,
    group: Group = None,
    site: Site = None,
    split_column: Split = None,
    split: Annotated[str | None, Option(help="Rows to judge; `test` where the table has it.")] = None,
    subgroup: Subgroups = None,
    positive: Annotated[str | None, Option(help="With --reference: the class that is looked for.")] = None,
    at: Annotated[
        str | None, Option(help="With --predictions: operating point, chosen on rows of the split val.")
    ] = None,
    prevalence: Annotated[float | None, Option(help="Predictive values at this prevalence.")] = None,
    thresholds: Annotated[str, Option(help="Threshold range of the decision curve.")] = "0.05,0.95",
    coverage: Annotated[
        float, Option(min=0.5, max=0.999, help="With --predictions: of prediction sets made on val.")
    ] = 0.9,
    seed: Seed = 0,
    device: Annotated[str, Option(help="Images: auto, cpu, cuda or mps.")] = "auto",
    lang: Annotated[str, Option(help="Language of the page: en or zh.")] = "en",
) -> None:
    """Judge a model on DATASET, or anybody's predictions beside a reference: numbers with intervals, and a page.

    For example: isocenter evaluate model/ patients.csv -o evaluation/
    or: isocenter evaluate --predictions theirs.csv --reference truth.csv --group patient -o evaluation/
    """
    with show.failing_cleanly():
        from isocenter.errors import InputError
        from isocenter.inference.predictor import Running
        from isocenter.pipeline.judgement import Asked
        from isocenter.pipeline.judgement import evaluate as run

        try:
            low, high = (float(part) for part in thresholds.split(","))
        except ValueError as error:
            raise InputError(f"--thresholds {thresholds}: write two numbers, 0.05,0.5") from error
        if not 0 < low < high < 1 or lang not in ("en", "zh"):
            raise InputError("--thresholds lie between 0 and 1, rising; --lang is en or zh")
        columns = columns_of(
            target=target, time=time, event=event, group=group, site=site, split=split_column, features=None,
            drop=None, subgroups=subgroup, positive=positive,
        )  # fmt: skip
        asked = Asked(
            split=split, at=at, prevalence=prevalence, thresholds=(low, high), columns=columns, coverage=coverage,
            seed=seed, language="zh" if lang == "zh" else "en", running=Running(device=device),
        )  # fmt: skip
        with show.progress() as tell:
            found = run(
                model, table, out, predictions=predictions or (), reference=reference, asked=asked, on_progress=tell
            )
        show.evaluated(found, out)


def columns_of(
    *,
    target: str | None,
    time: str | None,
    event: str | None,
    group: str | None,
    site: str | None,
    split: str | None,
    features: list[str] | None,
    drop: list[str] | None,
    subgroups: list[str] | None,
    positive: str | None,
) -> "Columns":
    """The options as the library takes them."""
    from isocenter.training.table import Columns

    return Columns(
        target=target or "", time=time or "", event=event or "", group=group, site=site, split=split,
        features=tuple(features or ()), drop=tuple(drop or ()), subgroups=tuple(subgroups or ()), positive=positive,
    )  # fmt: skip


def task_of(text: str | None) -> "Task | None":
    """A task's name, checked.

    Raises: InputError.
    """
    from isocenter.data.card import Task
    from isocenter.errors import InputError

    known = get_args(Task)
    if text is not None and text not in known:
        raise InputError(f"--task {text}: there are {', '.join(known)}")
    return cast("Task | None", text)


def generate(
    model: Annotated[Path, Argument(help="Folder of a model that makes images (train --task generate).")],
    out: Annotated[Path, Option("--out", "-o", help="Folder for the images; one below it for each class.")],
    count: Annotated[int, Option("-n", min=1, help="How many, in all.")] = 20,
    of_class: Annotated[
        str | None, Option("--class", help="Of this class alone; without, each as often as in training.")
    ] = None,
    seed: Annotated[int, Option(help="Of the noise.")] = 0,
    device: Annotated[str, Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Make new images, each marked as synthetic in its name and inside.

    For example: isocenter generate model/ -n 200 -o made/
    """
    with show.failing_cleanly():
        from isocenter.pipeline.generate import generate as run

        found = run(model, out, count=count, of_class=of_class, seed=seed, device=device)
        each = ", ".join(f"{name}: {n}" for name, n in found.counts.items() if name)
        typer.echo(show.printable(f"{found.folder}: {sum(found.counts.values())} synthetic images"
                                  f"{f' ({each})' if each else ''}. Of no patient; not for clinical use."))  # fmt: skip


def compress(
    model: Annotated[Path, Argument(help="Folder of a model of images, or the name of one that ships.")],
    data: Annotated[
        Path,
        Argument(metavar="DATASET", help="With the cases that it learnt from, and others by which both are judged."),
    ],
    out: Annotated[Path, Option("--out", "-o", help="Folder for the small model.")],
    method: Annotated[
        str, Option(help="int8; prune or distill (which learn again, see --budget); or prune,int8 and distill,int8.")
    ] = "int8",
    share: Annotated[float, Option(help="prune, distill: share of the channels that are left.")] = 0.5,
    network: Annotated[str | None, Option(help="distill: another network for the pupil.")] = None,
    budget: Annotated[str | None, Option(help="prune, distill: how long learning may take, as 20m.")] = None,
    tolerance: Annotated[float, Option(min=0, help="By how much any metric of any class may fall.")] = 0.005,
    group: Group = None,
    seed: Seed = 0,
    force: Annotated[bool, Option("--force", help="Replace a model that stands there.")] = False,
) -> None:
    """Make a model smaller and faster, and verify it: size, speed on this machine, drift of each metric.

    One that is slower, no smaller, or falls by more than the tolerance is refused (exit code 1) and not written.

    For example: isocenter compress model/ images/ -o small/
    """
    with show.failing_cleanly():
        from isocenter.pipeline.compress import Wanted
        from isocenter.pipeline.compress import compress as run

        wanted = Wanted(
            tuple(part.strip() for part in method.split(",")), share, network, tolerance,
            seconds_of(budget) if budget else None, group, seed, force,
        )  # fmt: skip
        with show.progress() as tell:
            found = run(model, data, out, wanted, on_progress=tell, tell=lambda text: show.say(f"  {text}"))
        show.compressed(found)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(train)
    app.command()(predict)
    app.command()(evaluate)
    app.command()(generate)
    app.command()(compress)
