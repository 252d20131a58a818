"""Train, predict, evaluate, check: the verbs of learning, on tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from isocenter.acquire.columns import read_columns
from isocenter.data.card import ModelCard, Task
from isocenter.data.design import Design
from isocenter.data.evaluation import Evaluation, Predictions
from isocenter.data.message import Message
from isocenter.data.provenance import Json
from isocenter.errors import InputError, UnreadableFile, cause_of
from isocenter.evaluation.judge import judge
from isocenter.formats import model_folder
from isocenter.formats.delimited import csv_text
from isocenter.metrics import reliability as rel
from isocenter.pipeline.output import whole_folder
from isocenter.pipeline.page import CASES, JSON, NO_PROGNOSIS, PAGE, write_evaluation
from isocenter.pipeline.training_rows import told_of_training, without_leaks
from isocenter.training.assemble import Promises, Trained, assemble, doubts_of_calibration
from isocenter.training.fit import Plan, score, with_sites
from isocenter.training.leaks import KINDS
from isocenter.training.table import Columns, case_names, features_of, read_design
from isocenter.types import Array, Progress
from isocenter.version import __version__

PLAN, LOG, TRAINING_PAGE = "plan.json", "training.csv", "training.html"
COMPRESSION = "compression.json"
"""What making a model smaller cost."""
_OURS = {
    model_folder.CARD, model_folder.WEIGHTS, model_folder.TENSORS, model_folder.GRAPH, "tree.svg",
    JSON, PAGE, CASES, PLAN, LOG, TRAINING_PAGE, "splits.csv", COMPRESSION,
}  # fmt: skip
"""Files of a model's folder."""


@dataclass(frozen=True, eq=False)
class Model:
    """A trained model as `train` leaves it.

    Args:
        folder: where it is.
        card: what it states.
        evaluation: of the training rows, by models that had not seen them.
        warnings: what the user must know before relying on it.
    """

    folder: Path
    card: ModelCard
    evaluation: Evaluation
    warnings: tuple[str, ...]


def train(
    table: str | Path,
    out: str | Path,
    *,
    columns: Columns,
    task: Task | None = None,
    plan: Plan | None = None,
    promises: Promises | None = None,
    drop_leaks: bool = False,
    allow_leaks: Sequence[str] = (),
    force: bool = False,
    on_progress: Progress | None = None,
) -> Model:
    """Train a model on a table of one row a patient or lesion.

    Args:
        table: CSV, TSV, xlsx or Parquet.
        out: the model's folder.
        columns: what the columns are for.
        task: classify, regress or survive; None: from the target.
        plan: which model, folds, seed.
        promises: calibration, coverage, operating point.
        drop_leaks: remove the training side of each leak, and record it.
        allow_leaks: kinds of leaks with which training goes on.
        force: replace a model that stands there.
        on_progress: told what is done.
    Raises: InputError for leaks between splits, tables that cannot be, or too few cases.
    """
    path, folder = Path(table), Path(out)
    chosen, promised = plan or Plan(), promises or Promises()
    require_free(folder, force=force)
    require_kinds(allow_leaks)
    cells = read_columns(path).cells
    found = read_design(cells, path.name, columns, task=task)
    absent = [name for name in chosen.covariates if name not in found.design.features]
    if absent:
        raise InputError(
            f"{path.name}: the covariate {absent[0]!r} is no feature; there are {found.design.features[:8]}"
        )
    design, dropped = without_leaks(found.design, path, drop=drop_leaks, allowed=allow_leaks)
    trained = assemble(design, chosen, promised, shared_patients="patient" in allow_leaks, on_progress=on_progress)
    warnings = _warnings(design, trained, left_out=found.left_out)
    evaluation = _internal(trained, seed=chosen.seed)
    card = replace(
        trained.card,
        preparation={**trained.card.preparation, "site_column": columns.site},
        target=tuple(name for name in (columns.target, columns.time, columns.event) if name),
        training=told_of_training(design, path, left_out=found.left_out, dropped=dropped),
        lineage=_lineage(chosen, promised),
    )
    with whole_folder(folder) as empty:
        model_folder.write(trained.fitted.model, card, empty)
        write_evaluation(evaluation, empty, language="en")
        _draw_tree(trained, empty)
    return Model(folder, model_folder.read_card(folder), evaluation, warnings)


def require_free(folder: Path, *, force: bool) -> None:
    """Refuse a folder in which other things lie than a model that may be replaced.

    Raises: InputError.
    """
    if not folder.name or folder.name == ".." or (folder.exists() and not folder.is_dir()):
        raise InputError(f"{folder}: is no folder that can be made anew; name one, such as ./model")
    there = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    if there and not (force and there <= _OURS):
        odd = sorted(there - _OURS)
        raise InputError(
            f"{folder}: holds {odd[0]}, which is none of a model's files; name another folder"
            if odd
            else f"{folder}: is not empty; name another folder, or --force"
        )
    if there:
        try:
            model_folder.read_card(folder)
        except (InputError, UnreadableFile) as error:
            raise InputError(
                f"{folder}: holds no model that --force may replace ({error}); name another folder"
            ) from error


def require_kinds(allow_leaks: Sequence[str]) -> None:
    """Refuse kinds of leaks that are none.

    Raises: InputError.
    """
    odd = sorted(set(allow_leaks) - set(KINDS))
    if odd:
        raise InputError(f"--allow-leak {odd[0]}: there are {', '.join(KINDS)}")


def _internal(trained: Trained, *, seed: int) -> Evaluation:
    """The training rows as models judged them that had not seen their patients.

    Areas and concordances are means over the folds: scores of different models are never ranked together.
    """
    evaluation = judge(trained.internal, seed=seed)
    card = trained.card
    metrics = dict(evaluation.data["metrics"])
    main = {name: row for name, row in card.metrics.items() if isinstance(row, dict)}
    for name in ("auc", "pr_auc", "c_index", "uno_c", "auc_at_horizon", *main):
        metrics.pop(name, None)
    for name, row in main.items():
        note = f"mean of {len(row['folds'])} folds; {card.metrics['interval']}"
        metrics = {name: {"value": row["value"], "low": row["low"], "high": row["high"], "note": note}, **metrics}
    notes = [
        Message(
            "Cross-validation on the training data: each case was judged by a model that had not seen its patient."
        ),
        Message("It says nothing about patients from elsewhere."),
        Message("Curves join the folds for their shape only; the metric is the mean over folds."),
    ]
    if not trained.internal.known_patients:
        notes.append(Message("No patient is known: each case counts as one patient."))
    if card.task == "survive":
        notes.append(NO_PROGNOSIS)
    data = {
        **evaluation.data, "metrics": metrics, "split": "out-of-fold", "cases": CASES, "isocenter": __version__,
        "calibrated": False,
    }  # fmt: skip
    return replace(evaluation, data=data).noted(notes)


def predict(
    model: str | Path, table: str | Path, out: str | Path | None = None, *, site: str | None = None
) -> Predictions:
    """Predict each row of a table, and write a CSV.

    Args:
        model: the model's folder.
        table: with the columns that the model needs; others are carried along if they name the case.
        out: the CSV; None: not written.
        site: column of institutions, for a model that harmonises them; None: that of the training table.
    Raises: InputError for columns that are not there; see `formats.model_folder.read`.
    """
    if out is not None and Path(out).resolve() == Path(table).resolve():
        raise InputError(f"{out}: is the input itself; give the predictions another name")
    estimator, card = model_folder.read(Path(model))
    cells = read_columns(Path(table)).cells
    found = _predicted(estimator, card, cells, Path(table).name, site=site)
    if out is not None:
        target = Path(out)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(_predictions_csv(found, card), "utf-8")
    return found


@dataclass(frozen=True, eq=False)
class Judged:
    """A model on rows whose truth is known.

    Args:
        estimator: the fitted pipeline.
        card: what the model states.
        found: predictions and truth.
        matrix: features of the rows.
        shift: whether they look like the calibration data; None where nothing is promised, or too few can tell.
    """

    estimator: Any
    card: ModelCard
    found: Predictions
    matrix: Array
    shift: Mapping[str, Json] | None


def evaluate_model(
    model: str | Path,
    table: str | Path,
    *,
    split: str | None = None,
    columns: Columns | None = None,
) -> Judged:
    """Predictions of a model on a table with the truth, and whether it looks like the calibration data.

    Args:
        model: the model's folder.
        table: with target and features.
        split: which rows; None: `test` where the table has splits, else all.
        columns: patient, subgroups, where they have other names.
    Raises: InputError for a table without the target.
    """
    estimator, card = model_folder.read(Path(model))
    cells = read_columns(Path(table)).cells
    where = Path(table).name
    given = columns or Columns()
    names = list(card.target)
    if card.task == "survive":
        given = replace(given, time=names[0], event=names[1], target="")
    else:
        given = replace(given, target=names[0])
    design = read_design(cells, where, replace(given, positive=None, features=()), task=card.task).design
    unknown = sorted(set(design.classes) - set(card.classes))
    if unknown:
        raise InputError(
            f"{where}: {card.target[0]!r} says {unknown[0]!r}, which the model does not know: {card.classes}"
        )
    wanted = split or ("test" if "test" in design.split else None)
    index = np.arange(len(design))
    if wanted is not None:
        design.part(wanted)
        index = np.flatnonzero(np.asarray(design.split) == wanted)
    own = design.rows(index)
    part = {name: [texts[i] for i in index] for name, texts in cells.items()}
    found = _predicted(estimator, card, part, where, site=given.site)
    truth = own.target
    if card.task == "classify":
        to_model = np.asarray([card.classes.index(name) for name in own.classes])
        truth = to_model[own.target.astype(int)]
    result = replace(
        found, cases=own.cases, patients=own.patients, known_patients=own.known_patients, truth=truth,
        groups=own.groups, images=own.image,
    )  # fmt: skip
    return Judged(estimator, card, result, features_of(part, where, card), exchangeable(card, result))


def exchangeable(card: ModelCard, found: Predictions) -> Mapping[str, Json] | None:
    """Whether test cases look like those that the model was calibrated on; None where it promised nothing."""
    sample = card.conformal.get("sample")
    if not isinstance(sample, Mapping):
        return None
    one = np.asarray(sample["scores"], np.float64)
    once = rel.one_per_patient(np.asarray(found.patients), seed=0)
    raw = np.asarray(found.scores, np.float64)[once]
    if card.task == "classify":
        one = rel.calibrated(one, card.calibration)
        labels = (np.asarray(sample["classes"]), np.asarray(found.truth, np.int64)[once])
        return rel.looks_exchangeable(rel.log_odds(one), rel.log_odds(raw), labels)
    return rel.looks_exchangeable(one, np.atleast_2d(raw).T, None)


def _predicted(
    estimator: Any, card: ModelCard, cells: Mapping[str, Sequence[str]], where: str, *, site: str | None = None
) -> Predictions:
    try:
        return _scored(estimator, card, cells, where, site=site)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise UnreadableFile(
            f"the model and its card do not fit each other ({cause_of(error)}): take the original"
        ) from error


def _scored(
    estimator: Any, card: ModelCard, cells: Mapping[str, Sequence[str]], where: str, *, site: str | None
) -> Predictions:
    matrix = features_of(cells, where, card)
    sites = card.preparation.get("sites")
    if sites:
        site = site or str(card.preparation.get("site_column") or "")
        if site not in cells:
            raise InputError(
                f"this model harmonises institutions, and there is no column {site!r}: name it with --site"
            )
        matrix = with_sites(matrix, cells[site], sites)
    scores = score(estimator, matrix, card.task)
    cases = case_names(cells)
    sets: object = None
    survival = times = None
    if card.task == "classify":
        scores = rel.calibrated(scores, card.calibration)
        quantiles = card.conformal.get("quantiles")
        if quantiles:
            sets = rel.prediction_sets(scores, [float("inf") if q is None else float(q) for q in quantiles])
    elif card.task == "regress":
        reach = card.conformal.get("reach")
        if reach is not None:
            sets = np.column_stack((scores - float(reach), scores + float(reach)))
    else:
        step = estimator.named_steps["model"]
        if hasattr(step, "survival"):
            times = np.quantile(step.times_, np.linspace(0.1, 0.8, 15))
            before = estimator[:-1].transform(matrix)
            survival = step.survival(before, times)
    return Predictions(
        card.task, cases, cases, known_patients=False, truth=None, scores=scores, classes=card.classes,
        survival=survival, times=times, sets=sets, name=card.model,
    )  # fmt: skip


def _predictions_csv(found: Predictions, card: ModelCard) -> str:
    scores = np.asarray(found.scores)
    rows: list[tuple[object, ...]] = []
    if card.task == "classify":
        threshold = float(card.operating_point.get("threshold", 0.5))
        head = ("case", *(f"p_{name}" for name in card.classes), "predicted", "set")
        for i, case in enumerate(found.cases):
            best = int(scores[i, 1] >= threshold) if len(card.classes) == 2 else int(scores[i].argmax())
            inside = (
                []
                if found.sets is None
                else [n for n, s in zip(card.classes, np.asarray(found.sets)[i], strict=True) if s]
            )
            rows.append((case, *(f"{s:.6f}" for s in scores[i]), card.classes[best], "|".join(inside)))
    elif card.task == "regress":
        head = ("case", "predicted", "low", "high")
        for i, case in enumerate(found.cases):
            ends = ("", "") if found.sets is None else tuple(f"{v:.6g}" for v in np.asarray(found.sets)[i])
            rows.append((case, f"{scores[i]:.6g}", *ends))
    else:
        times = [] if found.times is None else list(np.asarray(found.times)[[0, 7, -1]])
        head = ("case", "risk", *(f"without_event_at_{t:.4g}" for t in times))
        for i, case in enumerate(found.cases):
            shares = [] if found.survival is None else [f"{s:.4f}" for s in np.asarray(found.survival)[i, [0, 7, -1]]]
            rows.append((case, f"{scores[i]:.6f}", *shares))
    return csv_text([head, *rows])


def _warnings(design: Design, trained: Trained, *, left_out: Mapping[str, str]) -> tuple[str, ...]:
    """What the user must know."""
    found = doubts_of_calibration(trained.card)
    if not design.known_patients:
        found.append("no column of patients: each row counts as one patient; name it with --group if that is not so")
    if left_out:
        some = "; ".join(f"{name} {why}" for name, why in list(left_out.items())[:5])
        found.append(f"{len(left_out)} columns are no features: {some}")
    used = trained.fitted.settings.get("select", design.matrix.shape[1])
    if design.task == "survive":
        odd = trained.card.preparation.get("not_proportional")
        if odd:
            found.append(f"hazards do not look proportional for {', '.join(odd[:5])}: their effect changes with time")
        events = int(design.target[:, 1].sum())
        found.append(f"{events} events for {used} features: {events / max(1, used):.1f} events per parameter"
                     + ("; fewer than 10 overfit easily" if events < 10 * used else ""))  # fmt: skip
    elif design.task == "classify":
        rows = design.target[np.asarray(design.split) != "test"] if design.split else design.target
        fewest = min(int((rows == k).sum()) for k in range(len(design.classes)))
        if fewest < 10 * used and trained.fitted.kind in {"logistic", "svm"}:
            found.append(f"{fewest} cases of the smallest class for {used} features: fewer than 10 each overfit easily")
    if any(q is None for q in trained.card.conformal.get("quantiles", ()) or ()):
        found.append("a class has too few calibration patients: its prediction sets hold every class")
    return tuple(found)


def _lineage(plan: Plan, promises: Promises) -> dict[str, Json]:
    from importlib.metadata import version

    return {
        "isocenter": __version__,
        "versions": {name: version(name) for name in ("numpy", "scipy", "scikit-learn", "skops")},
        "plan": {key: list(v) if isinstance(v, tuple) else v for key, v in plan.__dict__.items()},
        "promises": dict(promises.__dict__),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _draw_tree(trained: Trained, folder: Path) -> None:
    """A single decision tree as a picture."""
    if trained.fitted.kind != "tree":
        return
    from isocenter.report.plots import tree_svg

    (folder / "tree.svg").write_text(tree_svg(trained.fitted.model, trained.card), "utf-8")
