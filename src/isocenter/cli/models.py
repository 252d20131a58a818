"""Commands of learning: train, predict, evaluate, data check, methods."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from typer import Argument, Option

from isocenter.cli import show

if TYPE_CHECKING:
    from isocenter.data.card import Task
    from isocenter.training.table import Columns

data_app = typer.Typer(no_args_is_help=True, help="Look at data sets before anything is learnt from them.")

Group = Annotated[str | None, Option(help="Column of patients; one with a usual name (patient) is taken by itself.")]
Site = Annotated[str | None, Option(help="Column of institutions.")]
Split = Annotated[str | None, Option("--split-column", help="Column that says train, val or test; `split` by itself.")]
Subgroups = Annotated[
    list[str] | None, Option("--subgroup", help="Column by which results are broken down; repeatable.")
]
Seed = Annotated[int, Option(help="Of folds, models and resampling.")]


def train(
    table: Annotated[Path, Argument(help="One row a patient or lesion: CSV, TSV, xlsx, Parquet.")],
    out: Annotated[Path, Option("--out", "-o", help="Folder for the model.")],
    target: Annotated[str | None, Option(help="Column of the class or value to predict.")] = None,
    time: Annotated[str | None, Option(help="Survival: column of the time to event or end of follow-up.")] = None,
    event: Annotated[
        str | None, Option(help="Survival: column that is 1 where the event was observed, else 0.")
    ] = None,
    group: Group = None,
    task: Annotated[str | None, Option(help="classify, regress or survive; from the target without it.")] = None,
    model: Annotated[
        str, Option(help="auto, logistic, linear, svm, svm-rbf, tree, forest, boosting, knn, cox.")
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
    folds: Annotated[int, Option(min=2, max=50, help="Outer folds, by patient.")] = 5,
    select: Annotated[int | None, Option(min=0, help="Features kept; 0: all; chosen in inner folds without.")] = None,
    selector: Annotated[str, Option(help="How features are chosen: mrmr, lasso or rfe.")] = "mrmr",
    calibrate: Annotated[str, Option(help="auto, platt, temperature, isotonic or none.")] = "auto",
    coverage: Annotated[float, Option(min=0.5, max=0.999, help="Of prediction sets and intervals.")] = 0.9,
    at: Annotated[
        str | None,
        Option(help="Operating point: sensitivity=.95, specificity=.9, cost=5 (a miss costs 5 alarms), youden."),
    ] = None,
    drop_leaks: Annotated[
        bool, Option("--drop-leaks", help="Remove the training side of leaks, and record it.")
    ] = False,
    allow_leak: Annotated[
        list[str] | None, Option(help="Go on with leaks of this kind: patient, image, row, near-image.")
    ] = None,
    seed: Seed = 0,
    force: Annotated[bool, Option("--force", help="Replace a model that stands there.")] = False,
) -> None:
    """Learn to predict a column of TABLE, by nested cross-validation with whole patients in a fold.

    For example: isocenter train patients.csv --target diagnosis --group patient -o model/

    Rows of the split `test` are never looked at. What is printed was measured on patients that the model had not seen.
    """
    with show.failing_cleanly():
        from isocenter.pipeline.learn import train as run
        from isocenter.training.assemble import Promises
        from isocenter.training.fit import Plan

        columns = columns_of(
            target=target, time=time, event=event, group=group, site=site, split=split_column,
            features=features, drop=drop, subgroups=subgroup, positive=positive,
        )  # fmt: skip
        plan = Plan(
            model=model, folds=folds, select=select, selector=selector, harmonise=harmonise,
            covariates=tuple(covariate or ()),
            unseen_site=unseen_site, seed=seed,
        )  # fmt: skip
        with show.progress() as tell:
            found = run(
                table, out, columns=columns, task=task_of(task), plan=plan,
                promises=Promises(calibrate, coverage, at), drop_leaks=drop_leaks, allow_leaks=tuple(allow_leak or ()),
                force=force, on_progress=tell,
            )  # fmt: skip
        show.trained(found)


def predict(
    model: Annotated[Path, Argument(help="The model's folder.")],
    table: Annotated[Path, Argument(metavar="INPUT", help="A table with the columns that the model needs.")],
    out: Annotated[Path, Option("--out", "-o", help="The CSV.")] = Path("predictions.csv"),
    site: Site = None,
) -> None:
    """Predict each row of INPUT with a trained model."""
    with show.failing_cleanly():
        from isocenter.pipeline.learn import predict as run

        found = run(model, table, out, site=site)
        typer.echo(f"{out}: {len(found.cases)} predictions. Not for clinical use.")


def evaluate(
    model: Annotated[Path | None, Argument(help="The model's folder.")] = None,
    table: Annotated[Path | None, Argument(help="Rows with the truth.")] = None,
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
    lang: Annotated[str, Option(help="Language of the page: en or zh.")] = "en",
) -> None:
    """Judge a model on TABLE, or anybody's predictions beside a reference: numbers with intervals, and a page.

    For example: isocenter evaluate model/ patients.csv -o evaluation/
    or: isocenter evaluate --predictions theirs.csv --reference truth.csv --group patient -o evaluation/
    """
    with show.failing_cleanly():
        from isocenter.errors import InputError
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
            seed=seed, language="zh" if lang == "zh" else "en",
        )  # fmt: skip
        found = run(model, table, out, predictions=predictions or (), reference=reference, asked=asked)
        show.evaluated(found, out)


@data_app.command("check")
def data_check(
    data: Annotated[Path, Argument(help="A table with a column split, an .npz of images, or a folder of splits.")],
    json: Annotated[bool, Option("--json", help="Print everything as JSON.")] = False,
    group: Group = None,
    split_column: Split = None,
    near: Annotated[
        bool, Option("--near/--no-near", help="Look for rescaled, mirrored and re-encoded images as well.")
    ] = True,
) -> None:
    """Find patients, rows and images that stand on both sides of a split, and what is repeated within one.

    Exit code 1 if anything leaks.
    """
    with show.failing_cleanly():
        from isocenter.pipeline.data_check import data_check as run

        show.checked(run(data, group=group, split=split_column, near=near), as_json=json)


@data_app.command("sequences")
def data_sequences(
    path: Annotated[str, Argument(help="A folder of studies.")],
) -> None:
    """Canonical name (T1, FLAIR, ADC, portal venous ...) of every series in PATH; what no rule knows is listed last."""
    with show.failing_cleanly():
        from isocenter.acquire.inspection import inspect
        from isocenter.acquire.sequence_names import sequence_names

        with show.progress() as tell:
            found = inspect(path, on_progress=tell)
        named, unmatched = sequence_names([series.description for series in found.series])
        for text, name in named.items():
            typer.echo(show.printable(f"{name:20} {text}"))
        for text in unmatched:
            show.say(f"  unmatched: {text or '(no description)'}", colour="yellow")


def methods(
    out: Annotated[Path, Argument(help="The folder of a model, an evaluation, or a run.")],
    lang: Annotated[str, Option(help="en or zh.")] = "en",
    table: Annotated[Path | None, Option(help="The table of patients, for Table 1.")] = None,
) -> None:
    """Write the methods paragraph, versions, citations, Table 1 and checklist items from the lineage in OUT."""
    with show.failing_cleanly():
        from isocenter.pipeline.methods import methods as run

        typer.echo(run(out, language=lang, table=table), nl=False)


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
    from isocenter.errors import InputError

    if text is not None and text not in ("classify", "regress", "survive"):
        raise InputError(f"--task {text}: there are classify, regress and survive")
    return cast("Task | None", text)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(train)
    app.command()(predict)
    app.command()(evaluate)
    app.add_typer(data_app, name="data")
    app.command()(methods)
