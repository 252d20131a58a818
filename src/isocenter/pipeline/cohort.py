"""One recipe on the patients of a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from isocenter.acquire.matching import Match, Study, index_studies, match
from isocenter.acquire.policy import REPAIR, Policy
from isocenter.acquire.table import Role, read_table
from isocenter.data.finding import Verdict
from isocenter.data.provenance import Json
from isocenter.errors import InputError
from isocenter.formats.delimited import csv_text
from isocenter.pipeline.output import recover, require_folder, written
from isocenter.pipeline.run import Options, PlannedStudy, StudyResult, hash_of, require_given, run_studies, same_input
from isocenter.recipe import load
from isocenter.report.document import UNITS, Language
from isocenter.types import Progress


@dataclass(frozen=True, eq=False)
class Cohort:
    """What became of a table.

    Args:
        out: the folder.
        matches: one for each row, then one for each study without a row.
        results: row -> how its study ended; empty after a dry run.
        columns: which column of the table was taken for what.
        encoding: of a table that is text.
        files_without_study: files below the studies' folder that no row can be matched to, and why.
    """

    out: Path
    matches: tuple[Match, ...]
    results: Mapping[int, StudyResult]
    columns: Mapping[Role, str] = field(default_factory=dict)
    encoding: str = ""
    files_without_study: tuple[str, ...] = field(default=(), repr=False)

    @property
    def excluded(self) -> tuple[Match, ...]:
        """Rows that were not matched."""
        return tuple(m for m in self.matches if m.row is not None and m.status != "matched")


def run_cohort(
    recipe: str | Path,
    table: str | Path,
    out: str | Path,
    *,
    studies: str | Path,
    columns: Mapping[str, str] | None = None,
    dry_run: bool = False,
    workers: int = 1,
    force: bool = False,
    language: Language = "en",
    policy: Policy = REPAIR,
    given: Mapping[str, str | Path] | None = None,
    memory_gib: float | None = None,
    on_progress: Progress | None = None,
) -> Cohort:
    """Run a recipe on the studies that a table names, and say what became of every row.

    Rows are matched to studies exactly, by all of PatientID, AccessionNumber, StudyDate and StudyInstanceUID that they
    state. `matching.csv` lists every row and every study without one; `cohort.csv`, `flow.svg` and `index.html` say how
    it ended.

    Args:
        recipe: name of a shipped recipe, or a YAML file.
        table: `.xlsx`, CSV or TSV.
        out: folder for the results; one folder inside for each study that was matched.
        studies: folder that holds the DICOM studies, in any order.
        columns: role (`id`, `name`, `accession`, `date`, `study`) -> header, where they have other names.
        dry_run: match, write `matching.csv`, and run nothing.
        workers: processes.
        force: do again what was done.
        language: of the pages.
        policy: what is done about defects of series.
        given: what the recipe's `given` names; see `isocenter.run`.
        memory_gib: most memory a step may take.
        on_progress: told what is going on.
    Raises: RecipeError; InputError for a table or a folder that cannot be used.
    """
    target, root = Path(out), Path(studies)
    loaded = load(recipe)
    if target.resolve() == root.resolve():
        raise InputError(f"{out}: results are not written among the studies; give --out a folder of its own")
    options = Options(workers, force, language, None, policy, dict(given or {}), memory_gib)
    require_given(loaded, options.given)
    rows = read_table(Path(table), columns)
    require_folder(target)
    known, others = index_studies(root, without=target, on_progress=on_progress)
    matches = match(rows, known)
    (target / "matching.csv").write_text(_matching_csv(matches), "utf-8")
    if dry_run:
        return Cohort(target, matches, {}, rows.columns, rows.encoding, others)
    taken: set[str] = set()
    planned: dict[int, PlannedStudy] = {}
    for found in matches:
        if found.status == "matched" and found.study is not None and found.row is not None:
            planned[found.row] = _planned(found.row, found.study, target, taken, loaded.name)
    done = run_studies(recipe, list(planned.values()), target, options, on_progress)
    cohort = Cohort(
        target, matches, {row: done[study] for row, study in planned.items()}, rows.columns, rows.encoding, others
    )
    (target / "cohort.csv").write_text(_cohort_csv(cohort), "utf-8")
    from isocenter.report import cohort as page

    entries = [_entry(row, result) for row, result in cohort.results.items()]
    flow = page.flow_svg(matches, entries, language)
    (target / "flow.svg").write_text(flow, "utf-8")
    title = loaded.title.zh if language == "zh" else loaded.title.en
    (target / "index.html").write_text(page.render(title, matches, entries, flow, language), "utf-8", "replace")
    return cohort


def _planned(row: int, study: Study, out: Path, taken: set[str], recipe: str) -> PlannedStudy:
    """The study with a folder of its own: `row-0007`, which names no patient."""
    base = f"row-{row:04d}"
    own = hash_of(study.folder, study.uid)
    number = 1
    while True:
        name = base if number == 1 else f"{base}-{number}"
        recover(out / name)
        if name not in taken and (not (out / name).exists() or same_input(out / name, own, recipe)):
            taken.add(name)
            return PlannedStudy(name, study.folder, own, study.files)
        number += 1


def _entry(row: int, result: StudyResult) -> dict[str, Json]:
    """What the overview shows of one study."""
    report = written(result.folder) if result.folder else None
    return {
        "row": row,
        "case": result.case,
        "verdict": result.verdict.value if result.verdict else "failed",
        "reasons": list(result.reasons),
        "findings": list((report or {}).get("findings") or []),
        "features": list((report or {}).get("features") or []),
        "thumbnail": bool(result.folder and (result.folder / "thumbnail.jpg").is_file()),
        "report": result.folder is not None,
    }


def _matching_csv(matches: Sequence[Match]) -> str:
    rows = [
        ("" if m.row is None else m.row, m.status, m.study.uid if m.study is not None else "", m.message)
        for m in matches
    ]
    return csv_text([("row", "status", "study", "message"), *rows])


def _cohort_csv(cohort: Cohort) -> str:
    """One row a case: verdict, reason, and every finding and feature in a column of its own."""
    uid = {m.row: m.study.uid for m in cohort.matches if m.study is not None}
    entries = [_entry(row, result) for row, result in sorted(cohort.results.items())]
    numbers_of = [{_called(f): f.get("value") for f in (*e["findings"], *e["features"])} for e in entries]
    names = list(dict.fromkeys(name for numbers in numbers_of for name in numbers))
    head = ("row", "case", "study", "verdict", "reason", *names)
    body = []
    for e, values in zip(entries, numbers_of, strict=True):
        numbers = ["" if values.get(n) is None else values[n] for n in names]
        body.append((e["row"], e["case"], uid.get(e["row"], ""), e["verdict"], "; ".join(e["reasons"]), *numbers))
    return csv_text([head, *body])


def _called(number: Mapping[str, Json]) -> str:
    """Heading of a finding's or feature's column."""
    unit = number.get("unit")
    measured = " ".join(str(part) for part in (number.get("family"), number.get("name")) if part)
    words = number.get("statement") or f"{number.get('label')}: {measured}"
    unit = UNITS.get(str(unit), unit)
    return str(words) + (f" [{unit}]" if unit and unit != "1" else "")


def usable(cohort: Cohort) -> int:
    """How many studies have a result."""
    return sum(r.verdict in (Verdict.ACCEPTED, Verdict.REVIEW) for r in cohort.results.values())


def parse_columns(text: str | None) -> dict[str, str]:
    """`id=Column,date=Other column` as a mapping.

    Raises: InputError for a part without a name.
    """
    found: dict[str, str] = {}
    for part in (text or "").split(","):
        if not part.strip():
            continue
        role, sign, name = part.partition("=")
        if not sign or not name.strip():
            raise InputError(f"--columns {text}: write --columns id=NAME,date=NAME")
        found[role.strip()] = name.strip()
    return found
