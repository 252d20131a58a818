"""One recipe on many studies: each on its own, repeatable, and safe to kill."""

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from hashlib import sha256
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from pathlib import Path
from threading import Thread

from isocenter.acquire.case import open_cases
from isocenter.acquire.policy import REPAIR, Policy
from isocenter.data.case import Case
from isocenter.data.finding import Verdict
from isocenter.data.provenance import Json
from isocenter.errors import InputError, IsocenterError
from isocenter.ops.threads import cores
from isocenter.pipeline.examine import content_hash, examine
from isocenter.pipeline.output import recover, require_folder, safe_name, whole_folder, write, written
from isocenter.recipe import Recipe, load, parse
from isocenter.report.document import Language
from isocenter.types import Progress
from isocenter.version import __version__

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StudyResult:
    """How one study ended.

    Args:
        case: name of its folder.
        path: the input.
        folder: where its report is; None if nothing could be written.
        verdict: None for a study that failed.
        reasons: why the verdict is not `accepted`, or what failed.
        skipped: it was done before, for the same input, recipe and version.
        refused_files: files of the input that could not be used, and why.
    """

    case: str
    path: Path
    folder: Path | None
    verdict: Verdict | None
    reasons: tuple[str, ...] = ()
    skipped: bool = False
    refused_files: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        """There is a result to look at."""
        return self.verdict in (Verdict.ACCEPTED, Verdict.REVIEW)


@dataclass(frozen=True)
class PlannedStudy:
    """What a worker needs to know of one study."""

    name: str
    path: Path
    own: str
    """Hash that tells this case from the others below `path`."""
    files: tuple[Path, ...] | None = None
    """The files to look at; None: all below `path`."""


@dataclass(frozen=True)
class Options:
    """How studies are run; see `run`."""

    workers: int = 1
    force: bool = False
    language: Language = "en"
    series: str | None = None
    policy: Policy = REPAIR
    given: Mapping[str, str | Path] = field(default_factory=dict)
    memory_gib: float | None = None


@dataclass(frozen=True)
class _Job:
    """What is the same for all studies of a run."""

    recipe_text: str
    recipe_source: str
    out: Path
    threads: int
    given: tuple[tuple[str, str], ...]
    options: Options


def run(
    recipe: str | Path,
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    workers: int = 1,
    force: bool = False,
    language: Language = "en",
    series: str | None = None,
    policy: Policy = REPAIR,
    given: Mapping[str, str | Path] | None = None,
    memory_gib: float | None = None,
    on_progress: Progress | None = None,
) -> tuple[StudyResult, ...]:
    """Run a recipe on studies and write a folder with report and masks for each.

    Args:
        recipe: name of a shipped recipe, or a YAML file.
        paths: studies: a DICOM folder (one case for each study in it) or an image file each.
        out: folder for the results; one folder inside for each case.
        workers: processes.
        force: do again what was done for the same input, recipe and version.
        language: of the HTML reports, `en` or `zh`.
        series: UID of the series to take, whatever the recipe would have taken.
        policy: what is done about defects of series.
        given: what the recipe's `given` names: a file or folder each; `{case}` in a path is the name of the case's
            folder in `out`.
        memory_gib: most memory a step may take; None: four fifths of the machine's.
        on_progress: told what is going on.
    Returns: one result for each study, in the order of `paths`; a path that cannot be opened gives one too.
    Raises: RecipeError; InputError where nothing was given or the output folder cannot be made.
    """
    if not paths:
        raise InputError("no study was given: name at least one folder or file")
    options = Options(workers, force, language, series, policy, dict(given or {}), memory_gib)
    planned = list(_plan([Path(p) for p in paths], Path(out), policy, load(recipe).name))
    studies = [study for study in planned if isinstance(study, PlannedStudy)]
    done = run_studies(recipe, studies, Path(out), options, on_progress)
    return tuple(done[study] if isinstance(study, PlannedStudy) else study for study in planned)


def run_studies(
    recipe: str | Path, studies: Sequence[PlannedStudy], out: Path, options: Options, on_progress: Progress | None
) -> dict[PlannedStudy, StudyResult]:
    """Run a recipe on planned studies.

    Raises: RecipeError; InputError where the output folder cannot be made, or the options do not fit the recipe.
    """
    workers = options.workers
    if workers < 1:
        raise InputError(f"at least one worker is needed; got {workers}")
    loaded = load(recipe)
    brought = require_given(loaded, options.given)
    require_folder(out)
    threads = max(1, cores() // workers)
    job = _Job(loaded.text, str(recipe), out, threads, brought, options)
    watch = _Watch(on_progress, studies=len(studies), steps=len(loaded.steps) + 2)
    return dict(_in_processes(studies, job, workers, watch) if workers > 1 else _in_turn(studies, job, watch))


def require_given(recipe: Recipe, given: Mapping[str, str | Path]) -> tuple[tuple[str, str], ...]:
    """What was given, as names and paths.

    Raises: InputError for a name that the recipe does not know, or something needed that is absent.
    """
    known = ", ".join(f"{name} ({g.description.en})" for name, g in recipe.given.items()) or "nothing"
    for name in given:
        if name not in recipe.given:
            raise InputError(f"the recipe {recipe.name} takes no {name!r} beside the study; it takes {known}")
    absent = [n for n, g in recipe.given.items() if g.needed and g.kind == "volume" and n not in given]
    if absent:
        raise InputError(f"the recipe {recipe.name} needs {known}: add --with {absent[0]}=PATH")
    for name, path in given.items():
        odd = re.search(r"\{(?!case\})[^{}/]*\}", str(path))
        if odd:
            raise InputError(f"--with {name}={path}: {odd[0]} is no placeholder; there is {{case}}")
        if "{case}" not in str(path) and not Path(path).exists():
            raise InputError(f"--with {name}: {path} is not there")
    return tuple((name, str(path)) for name, path in given.items())


def _plan(paths: Sequence[Path], out: Path, policy: Policy, recipe: str) -> Iterator[PlannedStudy | StudyResult]:
    """Names for all studies, in order; a path that cannot be opened is a result already."""
    taken: set[str] = set()
    for path in dict.fromkeys(paths):
        try:
            cases = open_cases(path, policy=policy, without=out)
        except IsocenterError as error:
            yield StudyResult(path.name, path, None, None, (str(error),))
            continue
        for case in [case for case in cases if case.series]:
            name = _free_name(safe_name(case), case, out, taken, recipe=recipe)
            taken.add(name.lower())
            yield PlannedStudy(name, path, path_hash(case))


def _free_name(base: str, case: Case, out: Path, taken: set[str], *, recipe: str) -> str:
    """`base`, `base-2`, ...: the first that no other study or recipe of this run or of an earlier one has."""
    number = 1
    while True:
        name = base if number == 1 else f"{base}-{number}"
        recover(out / name)
        if name.lower() not in taken and (not (out / name).exists() or _same_study(out / name, case, recipe)):
            return name
        number += 1


def _same_study(folder: Path, case: Case, recipe: str) -> bool:
    given = _input_of(folder, recipe)
    return given.get("path_sha256") == path_hash(case) or given.get("sha256") == _input_hash(case)


def same_input(folder: Path, path_sha256: str, recipe: str) -> bool:
    """Whether a finished folder is of the input with this hash (see `hash_of`) and of a recipe of this name."""
    return _input_of(folder, recipe).get("path_sha256") == path_sha256


def _input_of(folder: Path, recipe: str) -> dict[str, Json]:
    """What a finished folder was made from; empty if another recipe made it, whose results are not to be lost."""
    report = written(folder) or {}
    lineage, made_by = report.get("lineage"), report.get("recipe")
    given = lineage.get("input") if isinstance(lineage, dict) else None
    ours = isinstance(made_by, dict) and made_by.get("name") == recipe
    return given if isinstance(given, dict) and ours else {}


def _same_key(before: dict[str, Json], key: str) -> bool:
    """Whether a finished report is of this input, recipe, language and version."""
    lineage = before.get("lineage")
    told = before.get("verdict") in set(Verdict) and isinstance(before.get("reasons"), list)
    return told and isinstance(lineage, dict) and lineage.get("key") == key


def path_hash(case: Case) -> str:
    """Tells one input from another without writing down where it was."""
    return hash_of(case.path, case.identity.study_uid or (case.series[0].uid if case.series else ""))


def hash_of(path: Path, uid: str) -> str:
    """Hash of a path and the study in it."""
    return sha256(f"{path.resolve()}\0{uid}".encode()).hexdigest()


def _input_hash(case: Case) -> str:
    return content_hash([file for series in case.series for file in series.files])


class _Watch:
    """Counts steps over all studies."""

    def __init__(self, on_progress: Progress | None, *, studies: int, steps: int) -> None:
        self._tell, self._steps, self._total, self._base = on_progress, steps, studies * steps, 0

    def step(self, what: str, done: int) -> None:
        if self._tell:
            self._tell(what, min(self._base + done, self._total), self._total)

    def finished(self, name: str) -> None:
        self._base += self._steps
        self.step(f"{name}: ended", 0)


def _in_turn(studies: Sequence[PlannedStudy], job: _Job, watch: _Watch) -> Iterator[tuple[PlannedStudy, StudyResult]]:
    for study in studies:
        yield study, _guarded(study, job, watch.step)
        watch.finished(study.name)


def _in_processes(
    studies: Sequence[PlannedStudy], job: _Job, workers: int, watch: _Watch
) -> Iterator[tuple[PlannedStudy, StudyResult]]:
    """Many at a time. A worker that dies takes the pool with it: what was left is then done one by one, each alone."""
    left = dict.fromkeys(studies)
    for width in (workers, 1):
        for batch in [list(left)] if width > 1 else [[study] for study in left]:
            size = min(width, max(1, len(batch)))
            with ProcessPoolExecutor(size, mp_context=get_context("spawn"), initializer=_die_with_parent) as pool:
                futures: dict[Future[StudyResult], PlannedStudy] = {
                    pool.submit(_guarded, s, job, None): s for s in batch
                }
                for future in as_completed(futures):
                    study = futures[future]
                    try:
                        result = future.result()
                    except BrokenProcessPool:
                        if width > 1:
                            continue
                        why = (
                            "its process died: out of memory (run it alone, or on a larger machine), or the script "
                            "that called `run` with workers lacks its `if __name__ == '__main__':`"
                        )
                        result = StudyResult(study.name, study.path, None, None, (why,))
                    del left[study]
                    yield study, result
                    watch.finished(study.name)


def _die_with_parent() -> None:
    """End this worker when the run that started it is gone: killed means killed."""
    parent = parent_process()
    assert parent is not None, "workers are started by a run"

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def _guarded(study: PlannedStudy, job: _Job, on_step: Callable[[str, int], None] | None) -> StudyResult:
    """One study; whatever goes wrong in it stays in it."""
    from isocenter.ops.itk import limited_threads

    try:
        with limited_threads(job.threads):
            return _one(study, job, on_step)
    except IsocenterError as error:
        return StudyResult(study.name, study.path, None, None, (str(error),))
    except OSError as error:
        why = f"the result cannot be written to {job.out} ({error.strerror or error}); what was there is untouched"
        return StudyResult(study.name, study.path, None, None, (why,))
    except MemoryError:
        why = "not enough memory; close other programs, or run it on a machine with more"
        return StudyResult(study.name, study.path, None, None, (why,))
    except Exception as error:  # noqa: BLE001 - one broken study must not stop the others
        _log.debug("study %s failed", study.name, exc_info=True)
        why = f"an error that should not occur ({type(error).__name__}: {error}); run it with --verbose and report it"
        return StudyResult(study.name, study.path, None, None, (why,))


def _again(study: PlannedStudy, job: _Job) -> Case:
    """Open the study in the process that works on it.

    Raises: InputError if it went away since the run was planned.
    """
    for case in open_cases(study.path, policy=job.options.policy, without=job.out, only=study.files):
        if path_hash(case) == study.own:
            return replace(case, name=study.name)
    raise InputError(f"{study.path}: changed while the run went on; run it again")


def _given_hash(name: str, path: Path) -> str:
    """Hash of what was brought beside a study.

    Raises: InputError if it is not there.
    """
    try:
        files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file())
        if not files:
            raise InputError(f"--with {name}: {path} is not there, or an empty folder")
        return content_hash(files)
    except OSError as error:
        raise InputError(f"--with {name}: {path} cannot be read ({error.strerror})") from error


def _one(study: PlannedStudy, job: _Job, on_step: Callable[[str, int], None] | None) -> StudyResult:
    recipe: Recipe = parse(job.recipe_text, source=job.recipe_source)
    case = _again(study, job)
    refused_files = tuple(refused.message for refused in case.refused_files)
    folder = job.out / study.name
    given: dict[str, Json] = {"sha256": _input_hash(case), "path_sha256": path_hash(case)}
    brought = {name: Path(path.replace("{case}", study.name)) for name, path in job.given}
    hashes = {name: _given_hash(name, path) for name, path in brought.items()}
    parts = [
        given["sha256"],
        recipe.sha256,
        __version__,
        job.options.language,
        job.options.series or "",
        job.options.policy.key,
    ]
    parts.append("" if job.options.memory_gib is None else f"{job.options.memory_gib:g} GiB")
    parts += [f"{name}={digest}" for name, digest in hashes.items()]
    key = sha256("\0".join(parts).encode()).hexdigest()
    before = written(folder)
    if not job.options.force and before is not None and _same_key(before, key):
        verdict, reasons = Verdict(before["verdict"]), tuple(before["reasons"])
        return StudyResult(study.name, study.path, folder, verdict, reasons, skipped=True, refused_files=refused_files)

    def tell(what: str, done: int, _total: int) -> None:
        if on_step:
            on_step(f"{study.name}: {what}", done)

    examination = examine(
        case, recipe, series_uid=job.options.series, given=brought, memory_gib=job.options.memory_gib, on_progress=tell
    )
    tell("writing and reading back", len(recipe.steps) + 1, 0)
    with whole_folder(folder) as partial:
        lineage = {"input": given, "given": hashes, "key": key, "policy": job.options.policy.key}
        write(examination, partial, language=job.options.language, lineage=lineage)
    reasons = tuple(map(str, examination.reasons))
    return StudyResult(study.name, study.path, folder, examination.verdict, reasons, refused_files=refused_files)
