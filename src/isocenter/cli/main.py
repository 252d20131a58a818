"""The commands."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from isocenter.cli import look, measure, models, show

if TYPE_CHECKING:
    from isocenter.acquire.policy import Policy as AcquirePolicy

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A medical examination, the whole way from the scanner's files to a report. Not for clinical use.",
    epilog="Exit codes: 0 done; 1 some studies failed or were refused; 2 bad input, nothing usable.",
)
recipes_app = typer.Typer(invoke_without_command=True, help="List the recipes that come with isocenter.")
app.add_typer(recipes_app, name="recipes")


class Language(StrEnum):
    """Language of a report."""

    EN = "en"
    ZH = "zh"


class Policy(StrEnum):
    """What is done about defects."""

    REPAIR = "repair"
    STRICT = "strict"
    REPORT = "report"


PolicyOption = Annotated[
    Policy,
    Option(
        "--policy",
        help="Defects of a series: mend what can be mended and say so; refuse whatever is not right; or say all and "
        "give no volume for an irregular stack.",
    ),
]
Fill = Annotated[int, Option("--fill-gaps", min=0, max=100, help="Fill gaps of up to so many missing slices.")]
Suv = Annotated[bool, Option("--suv/--no-suv", help="PET as SUV by body weight, or as the Bq/mL that it states.")]
Lang = Annotated[Language, Option("--lang", help="Language of the report: English or Simplified Chinese.")]

With = Annotated[
    list[str] | None,
    Option(
        "--with",
        metavar="NAME=PATH",
        help="What the recipe takes beside the study, such as masks=FILE; {case} in PATH is the case's name.",
    ),
]
Memory = Annotated[
    float | None,
    Option("--memory", min=0.01, metavar="GIB", help="Refuse steps that would take more memory than this."),
]


def _print_version(wanted: bool) -> None:
    if wanted:
        from isocenter.version import __version__

        typer.echo(f"isocenter {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[  # noqa: ARG001 - typer calls it back
        bool, Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
    verbose: Annotated[bool, Option("--verbose", help="Say more where something goes wrong.")] = False,
) -> None:
    show.set_up_logging(verbose=verbose)


@app.command()
def run(
    recipe: Annotated[str, Argument(help="A recipe's name (see `isocenter recipes`) or a YAML file.")],
    paths: Annotated[list[str], Argument(help="Studies: DICOM folders, or image files; or one table, with --studies.")],
    out: Annotated[Path, Option("--out", "-o", help="Folder for the results; one folder inside for each study.")],
    workers: Annotated[int, Option(min=1, help="Studies at a time, each in a process of its own.")] = 1,
    force: Annotated[bool, Option("--force", help="Do again what is done already.")] = False,
    lang: Lang = Language.EN,
    series: Annotated[str | None, Option(help="UID of the series to take, whatever the recipe would take.")] = None,
    given: With = None,
    studies: Annotated[
        Path | None, Option("--studies", help="PATHS is a table of patients (.xlsx, CSV); their studies lie in here.")
    ] = None,
    columns: Annotated[
        str | None, Option(help="The table's columns, where they have other names: id=...,date=...,accession=...")
    ] = None,
    dry_run: Annotated[
        bool, Option("--dry-run", help="With --studies: match rows to studies, and run nothing.")
    ] = False,
    memory: Memory = None,
    policy: PolicyOption = Policy.REPAIR,
    fill_gaps: Fill = 1,
    suv: Suv = True,
) -> None:
    """Run RECIPE on each of PATHS: report.html, report.json, masks and key images in OUT/<case>/.

    What is done already for the same input, recipe and version is skipped, so a run that was stopped is completed by
    starting it again. The report of a study says `accepted`, `review` or `refused`, and why.

    With --studies, PATHS is a table: its rows are matched to the studies in that folder, exactly. OUT/matching.csv says
    what became of every row; OUT/cohort.csv, flow.svg and index.html how each study ended.
    """
    with show.failing_cleanly():
        from isocenter.pipeline.cohort import parse_columns, run_cohort
        from isocenter.pipeline.run import run as run_recipe

        require_table_or_studies(paths, studies, columns, dry_run=dry_run, series=series)
        if studies is not None:
            with show.progress() as tell:
                cohort = run_cohort(
                    recipe,
                    paths[0],
                    out,
                    studies=studies,
                    columns=parse_columns(columns),
                    dry_run=dry_run,
                    workers=workers,
                    force=force,
                    language=lang.value,
                    policy=policy_of(policy, fill_gaps, suv=suv),
                    given=pairs(given, option="--with"),
                    memory_gib=memory,
                    on_progress=tell,
                )
            show.cohort(cohort, dry_run=dry_run)
            return

        with show.progress() as tell:
            found = run_recipe(
                recipe,
                expanded(paths),
                out,
                workers=workers,
                force=force,
                language=lang.value,
                series=series,
                policy=policy_of(policy, fill_gaps, suv=suv),
                given=pairs(given, option="--with"),
                memory_gib=memory,
                on_progress=tell,
            )
        show.results(found)


@app.command()
def inspect(
    path: Annotated[str, Argument(help="A folder, a DICOM file, a DICOMDIR, a zip, or an image file.")],
    json: Annotated[
        bool, Option("--json", help="Print the same as JSON, and nothing else on standard output.")
    ] = False,
    policy: PolicyOption = Policy.REPAIR,
    fill_gaps: Fill = 1,
    suv: Suv = True,
) -> None:
    """Say what is in PATH and whether it can be trusted: every series with its verdict and every defect found.

    `ok`: as it should be. `repaired`: something was mended, and what. `refused`: no volume is given, and why.
    """
    with show.failing_cleanly():
        from isocenter.acquire.inspection import inspect as inspect_path

        with show.nothing_as_json(wanted=json), show.progress() as tell:
            found = inspect_path(path, policy=policy_of(policy, fill_gaps, suv=suv), on_progress=tell)
        show.inspection(found, as_json=json)


@app.command()
def demo(
    out: Annotated[Path, Option("--out", "-o", help="Folder for the result.")] = Path("isocenter-demo"),
    lang: Lang = Language.EN,
) -> None:
    """Measure the tissues and hippocampi of an average brain that comes with the installation, and write the reports.

    The hippocampi need the packages of networks: pip install 'isocenter[learn]'.
    """
    with show.failing_cleanly():
        from isocenter.demonstration import demo as run_demo
        from isocenter.demonstration import demo_network
        from isocenter.errors import MissingExtra

        with show.progress() as tell:
            found = run_demo(out, language=lang.value, on_progress=tell)
        show.demonstration(found)
        try:
            with show.progress() as tell:
                network = demo_network(out, language=lang.value, on_progress=tell)
        except MissingExtra as error:
            show.say(f"the hippocampi were left out: {error}")
        else:
            show.demonstration(network)


@app.command()
def convert(
    path: Annotated[str, Argument(help="A DICOM folder, zip or DICOMDIR, or an image file.")],
    output: Annotated[Path, Option("--out", "-o", help="A file ending in .nii.gz, .nii, .nrrd, .seg.nrrd or .png.")],
    series: Annotated[
        str | None, Option(help="UID of the series to write, where there are several; or of a SEG or RTSTRUCT.")
    ] = None,
    frame: Annotated[int | None, Option(min=0, help="The frame of a cine to write, counted from 0.")] = None,
    label: Annotated[str | None, Option(help="The one segment of a SEG or RTSTRUCT to write.")] = None,
    policy: PolicyOption = Policy.REPAIR,
    fill_gaps: Fill = 1,
    suv: Suv = True,
) -> None:
    """Write one volume of PATH, or the segments of a SEG or RTSTRUCT in it, as NIfTI, NRRD or PNG.

    What was written is read back with a second library before it is kept.
    """
    with show.failing_cleanly():
        from isocenter.pipeline.convert import convert as convert_volume

        chosen = policy_of(policy, fill_gaps, suv=suv)
        convert_volume(path, output, series=series, frame=frame, label=label, policy=chosen)
        typer.echo(str(output))


@app.command("try")
def try_(
    step: Annotated[str, Argument(help="A step's name: median, otsu, clahe ... (docs/en/steps.md).")],
    image: Annotated[str, Argument(help="A DICOM folder, zip or file, or an image file.")],
    set: Annotated[
        list[str] | None, Option("--set", metavar="KEY=VALUE", help="A setting of the step; as often as needed.")
    ] = None,
    out: Annotated[Path | None, Option("--out", "-o", help="The picture; try-STEP.png without it.")] = None,
    mask: Annotated[
        str | None, Option(help="A label map: what a step on labels works on, markers, or where to stay inside.")
    ] = None,
    to: Annotated[str | None, Option(help="The other image of a step that takes two.")] = None,
    series: Annotated[str | None, Option(help="UID of the series, where there are several.")] = None,
    memory: Memory = None,
) -> None:
    """Show what one step does to IMAGE: a picture before and after, and what the step found.

    For example: isocenter try median STUDY --set radius_mm=2
    """
    with show.failing_cleanly():
        from isocenter.pipeline.attempt import try_step

        found = try_step(step, image, out, settings=values(set), mask=mask, to=to, series=series, memory_gib=memory)
        show.attempt(found)


@recipes_app.callback()
def recipes(context: typer.Context) -> None:
    """List the recipes that come with isocenter."""
    if context.invoked_subcommand:
        return
    with show.failing_cleanly():
        from isocenter.recipe import shipped

        for name, recipe in shipped().items():
            typer.echo(f"{name:20}{recipe.title.en}")


@recipes_app.command("show")
def recipes_show(name: Annotated[str, Argument(help="A recipe's name.")]) -> None:
    """Print a recipe's YAML, to copy and change."""
    with show.failing_cleanly():
        from isocenter.recipe import load

        typer.echo(load(name).text, nl=False)


@recipes_app.command("schema")
def recipes_schema() -> None:
    """Print the JSON Schema of recipes, for editors that check YAML while you type."""
    with show.failing_cleanly():
        import json

        from isocenter.recipe import json_schema

        typer.echo(json.dumps(json_schema(), indent=2))


def policy_of(mode: Policy, fill: int, *, suv: bool) -> "AcquirePolicy":
    """The options as the library takes them."""
    from isocenter.acquire.policy import Policy as AcquirePolicy

    return AcquirePolicy(mode.value, fill, suv)


def require_table_or_studies(
    paths: list[str], studies: Path | None, columns: str | None, *, dry_run: bool, series: str | None
) -> None:
    """Refuse options of tables without one, and a table without its studies.

    Raises: InputError.
    """
    from isocenter.acquire.table import is_table
    from isocenter.errors import InputError

    tables = [path for path in paths if is_table(Path(path))]
    if studies is None:
        if tables:
            raise InputError(f"{tables[0]} is a table: name the folder that holds its studies with --studies")
        if columns or dry_run:
            raise InputError("--columns and --dry-run are for a table: name its studies' folder with --studies")
    elif len(paths) != 1:
        raise InputError(f"with --studies one table is wanted; got {len(paths)} paths")
    elif series is not None:
        raise InputError("--series names one series of one study; it cannot be used with a table")


def values(given: list[str] | None) -> dict[str, object]:
    """`KEY=VALUE` options with their values read as YAML: numbers, true, [lists], texts.

    Raises: InputError for a value that is no YAML.
    """
    import yaml

    from isocenter.errors import InputError

    found: dict[str, object] = {}
    for name, text in pairs(given, option="--set").items():
        try:
            if len(text) > 10_000 or any(isinstance(e, yaml.AliasEvent) for e in yaml.parse(text, yaml.SafeLoader)):
                raise InputError(f"--set {name}: the value is too long, or refers to another one")
            found[name] = yaml.safe_load(text)
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise InputError(f"--set {name}={text[:80]}: not a number, text or [list]") from error
    return found


def pairs(given: list[str] | None, *, option: str) -> dict[str, str]:
    """`NAME=VALUE` options as a mapping.

    Raises: InputError for one without a name, or a name that stands twice.
    """
    from isocenter.errors import InputError

    found: dict[str, str] = {}
    for text in given or ():
        name, sign, value = text.partition("=")
        if not sign or not name.strip() or not value:
            raise InputError(f"{option} {text}: write {option} NAME=VALUE")
        if name.strip() in found:
            raise InputError(f"{option}: the name {name.strip()!r} stands twice")
        found[name.strip()] = value
    return found


def expanded(paths: list[str]) -> list[Path]:
    """Paths with `*` and `?` filled in where the shell did not (Windows)."""
    from glob import glob

    found: list[Path] = []
    for path in paths:
        wild = any(c in path for c in "*?") and not Path(path).exists()
        matches = sorted(glob(path)) if wild else []  # noqa: PTH207 - an absolute pattern has no Path to start from
        found += [Path(match) for match in matches] or [Path(path)]
    return found


measure.register(app)
models.register(app)
look.register(app)


def main() -> None:
    """Entry point: UTF-8 whatever the terminal says, so that Chinese names never crash it."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="replace")
    app()
