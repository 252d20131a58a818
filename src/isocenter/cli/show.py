"""What the terminal shows. Results go to standard output; progress and messages to standard error."""

import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from pathlib import Path

    from isocenter.acquire.inspection import Inspection
    from isocenter.data.card import ModelCard
    from isocenter.data.case import Series
    from isocenter.data.evaluation import Evaluation
    from isocenter.inference.predictor import CaseAnswer
    from isocenter.pipeline.attempt import Attempt
    from isocenter.pipeline.cohort import Cohort
    from isocenter.pipeline.compress import Compressed
    from isocenter.pipeline.conformance import Compared
    from isocenter.pipeline.extract import Extracted
    from isocenter.pipeline.learn import Model
    from isocenter.pipeline.run import StudyResult
    from isocenter.training.leaks import Checked, Leak

BAD_INPUT = 2
SOME_FAILED = 1


def set_up_logging(*, verbose: bool) -> None:
    """Messages of the library on standard error; other libraries' chatter only if it is grave."""
    if not verbose:
        warnings.simplefilter("ignore")  # other libraries' asides; what matters to the user we say ourselves
    logging.basicConfig(level=logging.ERROR, format="%(message)s", stream=sys.stderr)
    for name in ("pydicom", "nibabel", "PIL"):  # they quote headers and print tracebacks
        logging.getLogger(name).setLevel(logging.DEBUG if verbose else logging.CRITICAL)
    logging.getLogger("isocenter").setLevel(logging.DEBUG if verbose else logging.WARNING)


@contextmanager
def failing_cleanly() -> Iterator[None]:
    """An IsocenterError is one red message and exit code 2; Ctrl-C is exit code 130."""
    from isocenter.errors import IsocenterError

    try:
        yield
    except IsocenterError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or 'the output'}: {error.strerror or error}")
    except KeyboardInterrupt:
        say("stopped; run it again to complete what is missing")
        raise typer.Exit(130) from None


def fail(message: str) -> None:
    """One red message on standard error, exit code 2."""
    typer.secho(f"error: {printable(message)}", fg="red", err=True)
    raise typer.Exit(BAD_INPUT)


def say(message: str, *, colour: str | None = None) -> None:
    """A message on standard error."""
    typer.secho(printable(message), fg=colour, err=True)


def printable(text: str) -> str:
    """Text from a file without control characters, and no line of it where ours begin: it must not forge one."""
    return "".join(c if c == "\n" or c.isprintable() else "?" for c in text).replace("\n", "\n    ")


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on standard error; a line for each new step where that is no terminal."""
    if not sys.stderr.isatty():
        last = ""

        def line(what: str, _done: int, _total: int) -> None:
            nonlocal last
            if what != last:
                say(f"  {what}")
                last = what

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def move(what: str, done: int, total: int) -> None:
            bar.update(task, description=printable(what), completed=done, total=total)

        yield move


def describe(series: "Series") -> str:
    """One line about a series."""
    from isocenter.data.case import describe as line

    return line(series)


def results(found: Sequence["StudyResult"]) -> None:
    """A line for each study: verdict and report on standard output, reasons on standard error; then the exit code."""
    for refused in dict.fromkeys(message for result in found for message in result.refused_files):
        say(f"  not used: {refused}", colour="yellow")
    for result in found:
        verdict = result.verdict.value if result.verdict else "failed"
        again = " (done before)" if result.skipped else ""
        where = f"  {result.folder / 'report.html'}" if result.folder else ""
        typer.echo(printable(f"{verdict:9}{result.case}{again}{where}"))
        for reason in result.reasons:
            say(
                f"  {reason}" if reason.startswith(result.case) else f"  {result.case}: {reason}",
                colour="red" if not result.usable else "yellow",
            )
    usable = sum(result.usable for result in found)
    if usable == 0:
        raise typer.Exit(BAD_INPUT)
    if usable < len(found):
        raise typer.Exit(SOME_FAILED)


@contextmanager
def nothing_as_json(*, wanted: bool) -> Iterator[None]:
    """Where nothing can be read, the contract for programs is kept all the same; the sentence follows."""
    from isocenter.errors import IsocenterError, NothingReadable

    try:
        yield
    except IsocenterError as error:
        if wanted:
            import json

            files = error.files if isinstance(error, NothingReadable) else ()
            refused = [{"file": file, "message": message} for file, message in files]
            typer.echo(
                json.dumps({"series": [], "results": [], "files_refused": refused}, ensure_ascii=False, indent=2)
            )
        raise


def inspection(found: "Inspection", *, as_json: bool) -> None:
    """Every series with its verdict and defects on standard output; files that are part of none on standard error."""
    if as_json:
        import json

        typer.echo(json.dumps(found.as_json(), ensure_ascii=False, indent=2))
        return
    colours = {"ok": "green", "repaired": "yellow", "refused": "red"}
    for series in found.series:
        typer.secho(f"{series.verdict:9}", fg=colours[series.verdict], nl=False)
        typer.echo(printable(describe(series).strip().removesuffix("(refused)").rstrip()))
        for defect in series.defects:
            typer.echo(printable(f"         {defect.code}: {defect.said}"))
    for case in found.cases:
        for result in case.results:
            names = ", ".join(result.names[:8]) + (" ..." if len(result.names) > 8 else "")
            typer.echo(printable(f"result   {result.uid}  {result.kind}  {names}"))
    for refused in found.files_refused:
        say(f"  not used: {refused.message}", colour="yellow")


def cohort(found: "Cohort", *, dry_run: bool) -> None:
    """How many rows ended how, every row that was not matched, and where the lists are; then the exit code."""
    from collections import Counter

    from isocenter.pipeline.cohort import usable

    say("  columns: " + ", ".join(f"{role} = {header!r}" for role, header in found.columns.items()))
    if found.encoding not in ("", "utf-8"):
        say(f"  the table was read as {found.encoding}: check that names look right", colour="yellow")
    for refused in found.files_without_study[:5]:
        say(f"  not used: {refused}", colour="yellow")
    if len(found.files_without_study) > 5:
        say(f"  not used: {len(found.files_without_study) - 5} more files", colour="yellow")
    for match in found.matches:
        if match.status != "matched":
            where = f"row {match.row}" if match.row is not None else "no row"
            typer.echo(printable(f"{match.status:10}{where:10}{match.message}"))
    for row, result in found.results.items():
        verdict = result.verdict.value if result.verdict else "failed"
        again = " (done before)" if result.skipped else ""
        typer.echo(printable(f"{verdict:10}row {row:<6}{'; '.join(result.reasons)}{again}"))
    counts = Counter(match.status for match in found.matches)
    say(", ".join(f"{count} {status}" for status, count in counts.items()))
    typer.echo(printable(str(found.out / ("matching.csv" if dry_run else "index.html"))))
    if dry_run:
        return
    if not usable(found):
        raise typer.Exit(BAD_INPUT)
    if usable(found) < sum(match.row is not None for match in found.matches):
        raise typer.Exit(SOME_FAILED)


def attempt(found: "Attempt") -> None:
    """What the step found, and where its picture is."""
    if any(step.name == "preprocess.channel" for step in found.before.history):
        say("  a colour image: its luminance was taken (preprocess: channel)", colour="yellow")
    for name, value in found.step.results.items():
        text = f"{value:.6g}" if isinstance(value, float) else str(value)
        typer.echo(printable(f"{name:25} {text}"))
    typer.echo(printable(str(found.picture)))


def extracted(found: Sequence["Extracted"], out: "Path") -> None:
    """How many features there are, why some are missing, and where they are; then the exit code."""
    for case in found:
        if case.failed:
            say(f"  {case.case}: {case.failed}", colour="red")
            continue
        reasons: dict[str, int] = {}
        for feature in case.features:
            if feature.missing:
                why = f"{feature.label}: {feature.missing}"
                reasons[why] = reasons.get(why, 0) + 1
        for why, count in reasons.items():
            say(f"  {case.case}: {count} features are missing: {why}", colour="yellow")
    count = sum(feature.value is not None for case in found for feature in case.features)
    regions = sum(len({feature.label for feature in case.features}) for case in found)
    typer.echo(printable(f"{out}: {count} numbers of {regions} regions in {len(found)} images"))
    failed = sum(bool(case.failed) for case in found)
    if failed:
        raise typer.Exit(BAD_INPUT if failed == len(found) else SOME_FAILED)


def conformance(found: dict[str, list["Compared"]], *, as_json: bool) -> None:
    """How many reference values hold, and each that does not; exit code 1 if any."""
    broken = [(name, row) for name, rows in found.items() for row in rows if row.holds is False]
    if as_json:
        import json
        from dataclasses import asdict

        configurations = {name: [asdict(row) for row in rows] for name, rows in found.items()}
        typer.echo(json.dumps({"configurations": configurations}, indent=1))
    else:
        for name, rows in found.items():
            known = [row for row in rows if row.holds is not None]
            held = sum(bool(row.holds) for row in known)
            words = f"{held} of {len(known)} reference values hold" if known else "no reference values are known here"
            typer.echo(f"{name:8} {len(rows)} values, {words}")
        for name, row in broken:
            value = "none" if row.value is None else f"{row.value:.6g}"
            typer.secho(f"  {name} {row.tag}: {value}, and {row.reference:g} +- {row.tolerance:g} is wanted", fg="red")
    if broken:
        raise typer.Exit(SOME_FAILED)


def trained(found: "Model") -> None:
    """What was learnt, how well by cross-validation, and what to know before relying on it."""
    for text in found.warnings:
        say(f"  {text}", colour="yellow")
    card = found.card
    for name, row in card.metrics.items():
        if isinstance(row, dict):
            ends = card.metrics["interval"] if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
            typer.echo(f"{name} {row['value']:.3f} ({ends}), mean of {len(row['folds'])} folds")
    typer.echo(printable(f"{card.model}: {len(card.features)} features, {card.training.get('cases')} cases"))
    if card.operating_point:
        point = card.operating_point
        typer.echo(f"operating point: {point['threshold']:.3g} ({point['criterion']}, chosen on: {point['chosen_on']})")
    dropped = card.training.get("dropped_for_leaks") or []
    if dropped:
        say(f"  {len(dropped)} leaks were removed from training", colour="yellow")
    typer.echo(
        printable(f"{found.folder / 'evaluation.html'}  (cross-validation; research only, not for clinical use)")
    )


def trained_images(found: "Model") -> None:
    """Warnings, the metrics of the validation cases on one line, and where the model is."""
    for text in found.warnings:
        say(f"  {text}", colour="yellow")
    card = found.card
    metrics = card.metrics.get("validation")
    line = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items()) if isinstance(metrics, dict) else ""
    point = card.operating_point
    if point:
        typer.echo(f"operating point: {point['threshold']:.3g} ({point['criterion']}, chosen on: {point['chosen_on']})")
    typer.echo(printable(f"plan: {found.folder / 'plan.json'}"))
    typer.echo(printable(f"{found.folder / 'training.html'}  ({card.model}; research only, not for clinical use)"))
    typer.echo(printable(f"validation: {line}"))


def compressed(found: "Compressed") -> None:
    """Size, speed and drift; exit code 1 where the small model was refused."""
    was, now = found.bytes_before / 1e6, found.bytes_after / 1e6
    typer.echo(f"{'weights':28} {was:8.2f} MB -> {now:.2f} MB: {was / now:.1f} x smaller")
    now = 1000 * found.after.seconds
    for speed in found.before:
        was = 1000 * speed.seconds
        typer.echo(f"{speed.name:28} {was:8.2f} ms -> {now:.2f} ms a window: {was / now:.1f} x faster")
    for row in found.drifts:
        ends = "" if row.low is None or row.high is None else f" ({row.low:+.4f} to {row.high:+.4f})"
        typer.echo(printable(f"{row.metric:28} {row.before:8.4f} -> {row.after:.4f}: {row.difference:+.4f}{ends}"))
    if found.refused:
        say(f"  refused: {found.refused}", colour="red")
        raise typer.Exit(SOME_FAILED)
    words = f"judged on {found.cases} cases that were not learnt from. Not for clinical use."
    typer.echo(printable(f"{found.folder}: {words}"))


def predicted_images(found: "Sequence[CaseAnswer]", out: "Path") -> None:
    """How many cases have an answer, which are marked, which failed; exit code 1 if any failed."""
    for answer in [a for a in found if a.failed][:20]:
        say(f"  {answer.case}: {answer.failed}", colour="red")
    marked = [a for a in found if a.concerns and not a.failed]
    for answer in marked[:10]:
        say(f"  {answer.case}: review: {answer.concerns[0].text}", colour="yellow")
    failed = sum(bool(a.failed) for a in found)
    words = f", {len(marked)} to review" if marked else ""
    words += f", {failed} failed" if failed else ""
    typer.echo(printable(f"{out}: {len(found) - failed} predictions{words}. Not for clinical use."))
    if failed:
        raise typer.Exit(SOME_FAILED)


def evaluated(found: "Evaluation", out: "Path") -> None:
    """Every metric with its interval, what to look at, and where the page is."""
    for text in found.notes:
        say(f"  {text}", colour="yellow")
    for name, row in found.data["metrics"].items():
        if row["value"] is None:
            typer.echo(f"{name:28} -        {row['note']}")
            continue
        ends = row["note"] if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
        typer.echo(printable(f"{name:28} {row['value']:8.3f} {ends}"))
    covered = found.data.get("coverage")
    if covered:
        overall, promised = covered["overall"], covered.get("promised")
        words = f" (promised {promised:g})" if promised else ""
        typer.echo(f"{'coverage of prediction sets':28} {overall['value']:8.3f} {overall['low']:.3f} to "
                   f"{overall['high']:.3f}{words}")  # fmt: skip
    for row in (found.data.get("comparison") or {}).get("comparisons", ()):
        seen = row.get("smallest_visible")
        more = f"; smallest difference this test could have seen: {seen:.3f}" if seen and row["p_holm"] >= 0.05 else ""
        said = f"{row['metric']} differs by {row['difference']:+.3f}, p = {row['p_holm']:.3g} (Holm): {row['verdict']}"
        typer.echo(said + more)
    typer.echo(printable(str(out / "evaluation.html")))


def checked(found: "Checked", *, as_json: bool) -> None:
    """Leaks and repeats; exit code 1 if anything leaks."""
    if as_json:
        import json

        typer.echo(json.dumps(found.as_json(), indent=1, ensure_ascii=False))
    else:
        _described(found)
        sizes = ", ".join(f"{name} {count}" for name, count in found.splits.items())
        typer.echo(printable(f"{found.items} items: {sizes}"))
        for kind in dict.fromkeys(leak.kind for leak in found.leaks):
            some = [leak for leak in found.leaks if leak.kind == kind]
            shown = "; ".join(f"{leak.left} = {leak.right}" for leak in some[:5])
            typer.secho(printable(f"{len(some)} leaks ({kind}): {shown}{' ...' if len(some) > 5 else ''}"), fg="red")
        repeats = dict.fromkeys((leak.kind, _split_of(leak, found)) for leak in found.repeats)
        for kind, split in repeats:
            count = sum(leak.kind == kind and _split_of(leak, found) == split for leak in found.repeats)
            typer.echo(f"{count} pairs repeat within {split} ({kind})")
        if not found.leaks:
            typer.echo("nothing leaks" if len(found.splits) > 1 else "no splits are stated: nothing can leak yet")
    if found.leaks:
        raise typer.Exit(SOME_FAILED)


def _split_of(leak: "Leak", found: "Checked") -> str:
    """The split within which something repeats; all, where none is stated."""
    split = leak.left.partition("/")[0]
    return split if split in found.splits else "all"


def _described(found: "Checked") -> None:
    """What a data set of images is like, and what is wrong with its cases."""
    about = found.about
    if not about:
        return
    shape, spacing = about["shape"], about["spacing_mm"]
    people = "no patient is stated" if about["patients"] is None else f"{about['patients']} patients"
    typer.echo(printable(f"{about['kind']}: {about['task']}, {about['cases']} cases, {people}"))
    sizes = [" x ".join(map(str, shape[name])) for name in ("least", "median", "most")]
    typer.echo(f"slices, rows, columns: {sizes[0]} to {sizes[2]}, median {sizes[1]}")
    if about["frames"]:
        typer.echo(f"frames: {about['frames']['least']} to {about['frames']['most']}")
    typer.echo("spacing: " + ("none" if spacing is None else " x ".join(f"{s:.3g}" for s in spacing) + " mm"))
    where = " (inside the labels)" if about["task"] == "segment" else ""
    for name, one in zip(range(len(about["intensity"])), about["intensity"], strict=True):
        reach = f"{one['least']:.4g} to {one['most']:.4g}, mean {one['mean']:.4g}"
        typer.echo(f"channel {name}: {about['quantity']}, {reach}{where}")
    for title, rows in (("classes", about["classes"]), ("labels", about["labels"])):
        if rows:
            typer.echo(printable(f"{title}: " + ", ".join(f"{k} ({v})" for k, v in rows.items())))
    for text in (*about["notes"], *found.problems[:20]):
        say(f"  {text}", colour="yellow")


def demonstration(result: "StudyResult") -> None:
    """Dice values, or what was measured, and where the report is."""
    import json

    assert result.folder is not None, "a demonstration always writes its folder"
    said = json.loads((result.folder / "report.json").read_text("utf-8"))
    for name in ("dice_grey_matter", "dice_white_matter"):
        if name in said["checks"]:
            typer.echo(f"{name} = {said['checks'][name]}")
    for found in said["findings"] if result.case != "mni152" else ():
        ends = found["interval"]
        between = f" ({ends[0]:.2f} to {ends[1]:.2f})" if ends else ""
        typer.echo(printable(f"{found['statement']}: {found['value']:.2f} {found['unit']}{between}"))
    results([result])


def card(found: "ModelCard") -> None:
    """What a model states about itself, as text."""
    from isocenter.data.card import VALIDATED

    rows = [
        ("model", f"{found.model}, to {found.task}"),
        ("classes", ", ".join(found.classes) or ", ".join(str(v) for v in found.network.get("labels", {}).values())),
        ("trained on", f"{found.training.get('data', 'not stated')} ({found.training.get('cases', '?')} cases)"),
        ("its licence", str(found.training.get("licence", "not stated"))),
        ("intended use", found.intended_use), ("limits", found.limits), ("licence", found.licence),
    ]  # fmt: skip
    for name, text in rows:
        typer.echo(printable(f"{name:13} {text}"))
    judged = (found.metrics.get(VALIDATED) or {}).get("metrics", {})
    for where in ("validation", "training"):
        for name, value in found.metrics.get(where, {}).items():
            if where == "training" or name not in judged:
                typer.echo(printable(f"{where:13} {name} {value:.4f}"))
    for where, rows in (("validation", judged), ("test", (found.metrics.get("test") or {}).get("metrics", {}))):
        for name, row in rows.items():
            ends = "" if row.get("low") is None else f" {row['low']:.4f} to {row['high']:.4f}"
            typer.echo(printable(f"{where:13} {name} {row['value']:.4f}{ends}"))
    typer.echo(f"{'weights':13} sha256 {found.weights_sha256}")
