"""Commands of learning beside `train`: predict, evaluate, generate, compress."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from isocenter.cli import show
from isocenter.cli.options import Group, Seed, Site, Split, Subgroups, bytes_of, columns_of, seconds_of
from isocenter.cli.train import train


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
    target: Annotated[
        str | None, Option(help="The column of the truth; without it, the one that the model learnt from.")
    ] = None,
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
    tolerance: Annotated[
        float,
        Option(min=0, help="By how much any metric of any class may fall; of errors in units and dB: as a share."),
    ] = 0.005,
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
