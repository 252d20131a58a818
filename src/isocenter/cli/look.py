"""Commands that look before and after learning: data check, data sequences, networks, explain, methods."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from isocenter.cli import show
from isocenter.cli.options import Group, Seed, Split, image_task_of

model_app = typer.Typer(no_args_is_help=True, help="Models that were trained elsewhere.")
data_app = typer.Typer(no_args_is_help=True, help="Look at data sets before anything is learnt from them.")


@data_app.command("check")
def data_check(
    data: Annotated[
        Path, Argument(metavar="DATASET", help="Images as `train` takes them, or a table with a column split.")
    ],
    out: Annotated[
        Path | None, Option("--out", "-o", help="Folder for a page with pictures, of labelled images.")
    ] = None,
    json: Annotated[bool, Option("--json", help="Print everything as JSON.")] = False,
    task: Annotated[
        str | None,
        Option(help="What shall be learnt, as of `train`; enhance, generate, anomaly, forecast need no labels."),
    ] = None,
    target: Annotated[str | None, Option(help="A table of images: the column of the class or value.")] = None,
    group: Group = None,
    split_column: Split = None,
    near: Annotated[
        bool, Option("--near/--no-near", help="Look for rescaled, mirrored and re-encoded images as well.")
    ] = True,
) -> None:
    """Say what a data set is and what is wrong with it: labels that are missing, grids that differ, leaks, repeats.

    Exit code 1 if a patient, row or image stands on both sides of a split.
    """
    with show.failing_cleanly():
        from isocenter.pipeline.data_check import data_check as run

        kind = image_task_of(task)
        with show.progress() as tell:
            found = run(
                data, group=group, split=split_column, target=target, task=kind, near=near,
                out=out, on_progress=tell,
            )  # fmt: skip
        show.checked(found, as_json=json)


@data_app.command("get")
def data_get(
    name: Annotated[
        str | None,
        Argument(help="As pneumoniamnist, Task04_Hippocampus, tcia:COLLECTION; all names are printed without one."),
    ] = None,
    out: Annotated[Path, Option("--out", "-o", help="Folder into which a folder of its name comes.")] = Path("data"),
    mirror: Annotated[str | None, Option(help="Address of another server with the same files.")] = None,
    most: Annotated[int | None, Option(min=1, help="Of a collection: so many series.")] = None,
) -> None:
    """Fetch a public data set: MedMNIST v2, the Medical Segmentation Decathlon, a collection of TCIA.

    It is checked against its publisher's checksum; one that broke off is gone on with by the same command.
    """
    with show.failing_cleanly():
        from isocenter.acquire.download import REMOTES, get

        if name is None:
            for key, row in REMOTES.items():
                typer.echo(f"{key:22} {row.licence:14} {row.cite}")
            typer.echo(f"{'tcia:COLLECTION':22} {'':14} The Cancer Imaging Archive")
            return
        with show.progress() as tell:
            found = get(name, out, mirror=mirror, most=most, on_progress=tell)
        typer.echo(show.printable(f"{found}   (isocenter data check {found})"))


@data_app.command("simulate-motion")
def data_simulate_motion(
    data: Annotated[
        Path, Argument(metavar="DATASET", help="Label maps at end-diastole and end-systole of each patient.")
    ],
    out: Annotated[Path, Option("--out", "-o", help="A new folder for the loops and their table.")],
    frames: Annotated[int, Option(help="Of each loop.")] = 16,
    seconds: Annotated[float, Option(min=0.1, max=10, help="Of one cycle.")] = 0.9,
) -> None:
    """Make loops of a beating heart from its two drawn frames, by deformable registration, marked "simulated motion".

    The table states the voxels of each label, the phase and the contraction of every frame, and the ejection fraction
    of the two frames that were measured: `train OUT/loops.csv --target "voxels ..."`.
    """
    with show.failing_cleanly():
        from isocenter.pipeline.simulate_motion import TABLE, simulate_motion

        with show.progress() as tell:
            left = simulate_motion(data, out, frames=frames, seconds=seconds, on_progress=tell)
        for text in left:
            typer.echo(show.printable(f"left out: {text}"))
        typer.echo(show.printable(str(out / TABLE)))


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


@model_app.command("add")
def model_add(
    source: Annotated[
        Path,
        Argument(help="A result folder of nnU-Net v2, an ONNX file, a MONAI bundle, or weights as .safetensors."),
    ],
    out: Annotated[Path, Option("--out", "-o", help="Folder for the model.")],
    card: Annotated[
        Path | None,
        Option(
            exists=True,
            dir_okay=False,
            help="What must be known of it (YAML): task, classes or labels, channels, preparation, patch.",
        ),
    ] = None,
    force: Annotated[bool, Option("--force", help="Replace a model that stands there.")] = False,
) -> None:
    """Take a model that was trained elsewhere, so that `predict`, `evaluate` and `explain` run it.

    Checkpoints are opened as weights only; what holds anything else is refused.
    """
    with show.failing_cleanly():
        from isocenter.pipeline.model_add import model_add as run

        found = run(source, out, card=card, force=force)
        members = found.network.get("members", 1)
        typer.echo(
            show.printable(
                f"{out}: {found.model}, {members} network{'s' if members != 1 else ''}. Nothing was measured here: run "
                "`isocenter evaluate`."
            )
        )


@model_app.command("describe")
def model_describe(
    model: Annotated[Path, Argument(help="The model's folder, or the name of one that ships.")],
    about: Annotated[
        Path | None,
        Option(
            exists=True,
            dir_okay=False,
            help="YAML with any of name, intended_use, limits, licence, data, data_licence.",
        ),
    ] = None,
    evaluation: Annotated[
        Path | None,
        Option(exists=True, dir_okay=False, help="evaluation.json of this model: its metrics on test cases."),
    ] = None,
) -> None:
    """Print a model's card; first write into it what is said of the model, and how it did on test cases."""
    with show.failing_cleanly():
        from isocenter.pipeline.model_add import model_describe as run

        show.card(run(model, about=about, evaluation=evaluation))


@model_app.command("export")
def model_export(
    model: Annotated[str, Argument(help="The model's folder, or the name of one that ships.")],
    out: Annotated[Path, Option("--out", "-o", help="A new folder.")],
    form: Annotated[str, Option("--as", help="onnx (net.onnx and card.yaml) or bundle (MONAI's layout).")] = "onnx",
) -> None:
    """Write a model in the form of others: as ONNX with a card that `model add` takes back, or as a MONAI bundle."""
    with show.failing_cleanly():
        from isocenter.errors import InputError
        from isocenter.pipeline.model_add import model_export as run

        if form not in ("onnx", "bundle"):
            raise InputError(f"--as {form}: there are onnx and bundle")
        typer.echo(show.printable(str(run(model, out, form="onnx" if form == "onnx" else "bundle"))))
        show.say(
            "  calibration, threshold and prediction sets stay behind: they are no part of a network", colour="yellow"
        )


def networks() -> None:
    """Every network by name: what it answers, its weights with one channel and two outputs, and where it comes from."""
    with show.failing_cleanly():
        from isocenter.optional import require

        require("torch", extra="learn")
        from isocenter.networks.catalogue import NETWORKS, build_bare
        from isocenter.networks.layers import count_parameters

        for name, row in NETWORKS.items():
            built = [build_bare(name, {}, channels=1, outputs=2, dims=dims) for dims in row.dims]
            sizes = [count_parameters(one) / 1e6 for one in built]
            words = " / ".join(f"{size:.2f}" for size in sizes)
            dims = " and ".join(f"{d}-D" for d in row.dims)
            typer.echo(f"{name:16} {row.answers:6} {dims:12} {words:>15} million  {row.source}")


def explain(
    model: Annotated[Path, Argument(help="The model's folder, or the name of one that ships.")],
    data: Annotated[Path, Argument(metavar="INPUT", help="One image or study; or a table, as the model needs.")],
    out: Annotated[Path, Option("--out", "-o", help="Folder for the page, the pictures and the maps.")] = Path(
        "explanation"
    ),
    method: Annotated[
        list[str] | None,
        Option(
            help="grad-cam, grad-cam++, saliency, integrated-gradients, occlusion; repeatable. Of sequences: frames. "
            "Of objects: d-rise."
        ),
    ] = None,
    about: Annotated[
        str | None, Option(help="Class or label; without: the one decided for, or the surest object.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Show what moved a model's answer for one image, and how far such a map can be believed.

    Each map comes with its deletion and insertion curves; a map that is no better than chance says so. Answers of a
    model of tables are explained by Shapley values.
    """
    with show.failing_cleanly():
        from isocenter.errors import InputError
        from isocenter.formats.model_folder import read_card
        from isocenter.zoo import model_path

        if not read_card(model_path(model)).network:
            if method:
                raise InputError("--method is for images; tables are explained by Shapley values")
            from isocenter.pipeline.explain_table import explain_table

            found = explain_table(model, data, out, about=about, seed=seed)
            typer.echo(
                show.printable(f"{found.unit}, beside {found.base:.3f} for a row of the training medians; mean size:")
            )
            sizes = [float(abs(column).mean()) for column in found.values.T]
            for size, name in sorted(zip(sizes, found.columns, strict=True), reverse=True)[:15]:
                typer.echo(show.printable(f"  {name:30} {size:.4f}"))
            typer.echo(show.printable(str(out / "explanation.html")))
            return
        from isocenter.inference.model import load

        loaded = load(model_path(model))
        if loaded.spec.frames:
            if method not in (None, ["frames"]):
                raise InputError("--method: sequences are explained by their frames: each is taken away")
            from isocenter.pipeline.explain_sequence import explain_sequence, strongest

            told = explain_sequence(loaded, data, out, about=about, seed=seed)
            typer.echo(show.printable(f"{told.about}: change without the frame at"))
            for at, weight in strongest(told):
                typer.echo(f"  {at:10.3f} s  {weight:+.4f}")
            typer.echo(show.printable(str(out / "explanation.html")))
            return
        from isocenter.pipeline.explain import explain as run

        for one in run(model, data, out, methods=method, about=about, seed=seed):
            good = one.quality
            words = ""
            if good is not None:
                words = f"deletion {good.deletion_auc:.3f} (random {good.random_auc:.3f})"
                words += f", insertion {good.insertion_auc:.3f}"
                words += "" if good.deletion_auc < good.random_auc else ": no better than chance"
            typer.echo(show.printable(f"{one.method}: {one.about} {words}".rstrip()))
        typer.echo(show.printable(str(out / "explanation.html")))


def methods(
    out: Annotated[Path, Argument(help="The folder of a model, an evaluation, or a run.")],
    lang: Annotated[str, Option(help="en or zh.")] = "en",
    table: Annotated[Path | None, Option(help="The table of patients, for Table 1.")] = None,
) -> None:
    """Write the methods paragraph, versions, citations, Table 1 and checklist items from the lineage in OUT."""
    with show.failing_cleanly():
        from isocenter.pipeline.methods import methods as run

        typer.echo(run(out, language=lang, table=table), nl=False)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(data_app, name="data")
    app.add_typer(model_app, name="model")
    app.command()(networks)
    app.command()(explain)
    app.command()(methods)
