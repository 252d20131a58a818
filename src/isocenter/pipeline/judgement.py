"""`evaluate`: a model, or anybody's predictions, beside what was true."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from isocenter.acquire.columns import read_columns
from isocenter.data.evaluation import Evaluation, Predictions
from isocenter.data.message import Message
from isocenter.data.provenance import Json
from isocenter.errors import DegenerateImage, InputError
from isocenter.evaluation.comparison import compare, coverage
from isocenter.evaluation.judge import judge
from isocenter.evaluation.point import OperatingPoint, choose_threshold
from isocenter.formats import model_folder
from isocenter.inference.predictor import Running
from isocenter.metrics import reliability as rel
from isocenter.pipeline.learn import Judged, evaluate_model, exchangeable
from isocenter.pipeline.masks import judge_masks
from isocenter.pipeline.output import whole_folder
from isocenter.pipeline.page import CASES, JSON, NO_PROGNOSIS, PAGE, UNKNOWN_PATIENTS, write_evaluation
from isocenter.pipeline.predictions import read_predictions
from isocenter.pipeline.training_rows import known_again
from isocenter.report.document import Language
from isocenter.training.fit import goodness, score
from isocenter.training.table import Columns
from isocenter.types import Array, Progress
from isocenter.version import __version__
from isocenter.zoo import model_path


@dataclass(frozen=True)
class Asked:
    """What an evaluation is asked for.

    Args:
        split: which rows; None: `test` where there is one.
        at: criterion of the operating point, chosen on the rows of `val`; None: the model's own, else one half.
        prevalence: for predictive values in another population.
        thresholds: range of the decision curve.
        columns: patient, subgroups, site.
        coverage: of prediction sets that are made from the rows of `val`.
        seed: of resampling.
        language: of the page.
        running: how a model of images is run.
    """

    split: str | None = None
    at: str | None = None
    prevalence: float | None = None
    thresholds: tuple[float, float] = (0.05, 0.95)
    columns: Columns = field(default_factory=Columns)
    coverage: float = 0.9
    seed: int = 0
    language: Language = "en"
    running: Running | None = None


def evaluate(
    model: str | Path | None = None,
    table: str | Path | None = None,
    out: str | Path | None = None,
    *,
    predictions: Sequence[str | Path] = (),
    reference: str | Path | None = None,
    asked: Asked | None = None,
    on_progress: Progress | None = None,
) -> Evaluation:
    """Judge a model on a table or data set of images, or predictions beside a reference, and write the page.

    Args:
        model: the model's folder; with `table`.
        table: rows, or a data set of images, with the truth.
        out: folder for `evaluation.json`, `evaluation.html` and the cases; None: nothing is written.
        predictions: CSV files of anybody's output: `case` and `p_CLASS` columns, `probability`, `predicted` or `risk`.
        reference: CSV with `case` and the truth.
        asked: what is wanted.
        on_progress: told each case.
    Raises: InputError for inputs that do not fit together; DegenerateImage for a truth of one class.
    """
    wanted = asked or Asked()
    if predictions and reference is not None and Path(reference).is_dir():
        return _of_folders([Path(p) for p in predictions], Path(reference), out, wanted)
    notes: list[Message] = []
    if model is not None and table is not None and not predictions:
        return _with_model(Path(model), Path(table), out, wanted, notes, on_progress=on_progress)
    if not predictions or reference is None or model is not None:
        raise InputError("evaluate MODEL DATASET, or evaluate --predictions FILE --reference FILE")
    found, others, more, point = _of_files(predictions, reference, wanted, notes)
    return _judged(found, others, more, point, out, wanted=wanted, notes=notes)


def _with_model(
    model: Path,
    data: Path,
    out: str | Path | None,
    wanted: Asked,
    notes: list[Message],
    *,
    on_progress: Progress | None,
) -> Evaluation:
    """A model of tables, or of images, on cases with the truth."""
    model = model_path(model)
    if not model_folder.read_card(model).network:
        found, more, point = _of_model(model, data, wanted)
        return _judged(found, [], more, point, out, wanted=wanted, notes=notes)
    seen = _of_images(model, data, wanted, notes, on_progress)
    if isinstance(seen, Evaluation):
        told = {**seen.data, "cases": CASES, "isocenter": __version__}
        return _kept(replace(seen, data=told).noted(notes), out, wanted)
    found, more, point = seen
    return _judged(found, [], more, point, out, wanted=wanted, notes=notes)


def _judged(
    found: Predictions, others: list[Predictions], more: Mapping[str, Json], point: OperatingPoint | None,
    out: str | Path | None, *, wanted: Asked, notes: list[Message],
) -> Evaluation:  # fmt: skip
    """Numbers of these predictions, what must be known before they are believed, and the page."""
    evaluation = judge(found, point=point, prevalence=wanted.prevalence, seed=wanted.seed)
    data: dict[str, Any] = {**evaluation.data, **more, "cases": CASES, "isocenter": __version__}
    data["decision_range"] = list(wanted.thresholds)
    covered = coverage(found)
    if covered is not None:
        data["coverage"] = {**covered, "promised": more.get("promised_coverage")}
    if others:
        data["comparison"] = compare(found, others[0], point=point, seed=wanted.seed)
    if len(found.classes) == 2:
        data["positive_class"] = found.classes[1]
        text = "The class that is looked for is {name} (--positive names another)."
        notes.insert(0, Message(text, {"name": repr(found.classes[1])}))
    _say_shift(data.get("exchangeable"), notes)
    if not found.known_patients:
        notes.append(UNKNOWN_PATIENTS)
    if found.task == "survive":
        notes.append(NO_PROGNOSIS)
    return _kept(replace(evaluation, data=data).noted(notes), out, wanted)


def _kept(done: Evaluation, out: str | Path | None, wanted: Asked) -> Evaluation:
    """The evaluation, written where it shall be."""
    if out is not None:
        _write(done, Path(out), wanted.language)
    return done


def _of_images(
    model: Path, data: Path, wanted: Asked, notes: list[Message], on_progress: Progress | None
) -> Evaluation | tuple[Predictions, dict[str, Json], OperatingPoint | None]:
    from isocenter.pipeline.image_judgement import judged_by_image

    if wanted.at is not None:
        raise InputError("the operating point of a model is chosen when it is trained (`isocenter train --at`), not on "
                         "the data that judge it")  # fmt: skip
    columns = wanted.columns
    found, point, more = judged_by_image(
        model, data, split=wanted.split, running=wanted.running, group=columns.group, target=columns.target or None,
        split_column=columns.split, subgroups=columns.subgroups, seed=wanted.seed, notes=notes, on_progress=on_progress,
    )  # fmt: skip
    if isinstance(found, Evaluation):
        return found
    shift = exchangeable(model_folder.read_card(model), found)
    return found, {**more, "exchangeable": shift}, point


def _of_folders(predictions: list[Path], reference: Path, out: str | Path | None, wanted: Asked) -> Evaluation:
    """Folders of masks beside a folder of masks."""
    if len(predictions) > 2 or not all(p.is_dir() for p in predictions):
        raise InputError("beside a folder of reference masks, one or two folders of predicted masks are wanted")
    found = judge_masks(predictions, reference, seed=wanted.seed)
    data = {**found.data, "cases": CASES, "isocenter": __version__}
    return _kept(replace(found, data=data).noted([UNKNOWN_PATIENTS]), out, wanted)


def _say_shift(shift: object, notes: list[Message]) -> None:
    """Say that coverage is not promised, and which sign says so."""
    if not isinstance(shift, Mapping) or shift.get("exchangeable") is not False:
        return
    why = []
    if shift["classifier_p"] < 0.025:
        text = "a classifier tells the cases from those of the calibration, AUC {auc:.2f}"
        why.append(Message(text, {"auc": float(shift["classifier_auc"])}))
    if shift["classes_p"] is not None and shift["classes_p"] < 0.025:
        why.append(Message("the shares of the classes differ, p = {p:.2g}", {"p": float(shift["classes_p"])}))
    notes.append(
        Message("coverage not promised: shift ({why})", {"why": tuple(why) or (Message("both signs together"),)})
    )


def _of_model(model: Path, table: Path, wanted: Asked) -> tuple[Predictions, dict[str, Json], OperatingPoint | None]:
    card = model_folder.read_card(model)
    splits = read_columns(table).cells.get(wanted.columns.split or "split", ())
    untouched = "test" in {text.strip().lower() for text in splits} and wanted.split in (None, "test")
    if card.training.get("sha256") == sha256(table.read_bytes()).hexdigest() and not untouched:
        raise InputError(
            f"{table.name}: the model was trained on these rows, so they cannot judge it. What cross-validation says "
            f"of them lies in {model / PAGE}; give other patients, or a table with the split `test`"
        )
    judged = evaluate_model(model, table, split=wanted.split, columns=wanted.columns)
    found = judged.found
    again = known_again(card, found, judged.matrix)
    if again:
        raise InputError(
            f"{table.name}: {len(again)} of its {len(found.cases)} rows are of patients, or are rows, of the training "
            f"(such as {again[0]}), so they cannot judge the model; give other patients"
        )
    point = None
    if card.operating_point:
        stated = card.operating_point
        point = OperatingPoint(float(stated["threshold"]), str(stated["criterion"]), str(stated["chosen_on"]))
    if wanted.at is not None:
        raise InputError("the operating point of a model is chosen when it is trained (`isocenter train --at`), not on "
                         "the data that judge it")  # fmt: skip
    more: dict[str, Json] = {
        "split": wanted.split or ("test" if "test" in {text.strip().lower() for text in splits} else None),
        "exchangeable": judged.shift,
        "calibrated": card.calibration.get("method") not in (None, "none"),
        "promised_coverage": card.conformal.get("coverage"),
        "model_sha256": card.weights_sha256,
        "importance": importance(judged, seed=wanted.seed),
    }
    return found, more, point


def _of_files(
    predictions: Sequence[str | Path], reference: str | Path, wanted: Asked, notes: list[Message]
) -> tuple[Predictions, list[Predictions], dict[str, Json], OperatingPoint | None]:
    if len(predictions) > 2:
        raise InputError(f"one or two --predictions are compared at a time; got {len(predictions)}")
    read = [read_predictions(Path(p), Path(reference), wanted.columns) for p in predictions]
    more: dict[str, Json] = {"split": None, "calibrated": False}
    point = None
    judged = []
    for found, splits in read:
        names = set(splits)
        split = wanted.split or ("test" if "test" in names else None)
        if split is not None and split not in names:
            raise InputError(f"no row is of the split {split!r}; there are {', '.join(sorted(names)) or 'none'}")
        more["split"] = split
        own = found if split is None else found.rows(np.flatnonzero(np.asarray(splits) == split))
        held = found.rows(np.flatnonzero(np.asarray(splits) == "val")) if "val" in names and split != "val" else None
        if held is not None and found.task == "classify":
            own, shift = _promised(own, held, wanted)
            more |= {"exchangeable": shift, "promised_coverage": wanted.coverage}
        if wanted.at is not None and point is None:
            if held is None or len(found.classes) != 2:
                raise InputError(
                    "--at chooses a threshold on rows of the split `val`, and there are none (or not two classes)"
                )
            truth = np.asarray(held.truth, np.int64)
            threshold = choose_threshold(truth, np.asarray(held.scores)[:, 1], wanted.at)
            point = OperatingPoint(threshold, wanted.at, "validation")
        judged.append(own)
    if wanted.at is None and judged[0].task == "classify":
        text = "The operating point is a probability of one half, as stated; choose one on validation rows with --at."
        notes.append(Message(text))
    return judged[0], judged[1:], more, point


def _promised(own: Predictions, held: Predictions, wanted: Asked) -> tuple[Predictions, Mapping[str, Json] | None]:
    """Prediction sets from validation rows, and whether the two sets look exchangeable."""
    once = rel.one_per_patient(np.asarray(held.patients), seed=wanted.seed)
    truth, scores = np.asarray(held.truth, np.int64)[once], np.asarray(held.scores, np.float64)[once]
    quantiles = rel.class_quantiles(truth, scores, wanted.coverage)
    sets = rel.prediction_sets(np.asarray(own.scores, np.float64), quantiles)
    other = rel.one_per_patient(np.asarray(own.patients), seed=wanted.seed)
    shift = rel.looks_exchangeable(
        rel.log_odds(scores),
        rel.log_odds(np.asarray(own.scores, np.float64)[other]),
        (truth, np.asarray(own.truth, np.int64)[other]),
        seed=wanted.seed,
    )
    return replace(own, sets=sets), shift


def importance(judged: Judged, *, seed: int, repeats: int = 10) -> list[dict[str, Json]]:
    """Permutation importance on the judged rows: the main metric's loss when one feature is shuffled.

    Source: L. Breiman, Mach. Learn. 45:5-32, 2001; A. Fisher et al., JMLR 20(177), 2019.
    """
    card, matrix = judged.card, judged.matrix
    if card.preparation.get("harmonised"):
        return []
    rng = np.random.default_rng(seed)
    truth = np.asarray(judged.found.truth)

    def good(values: Array) -> float:
        return goodness(card.task, card.classes, truth, score(judged.estimator, values, card.task))

    try:
        base = good(matrix)
    except DegenerateImage:
        return []
    rows: list[dict[str, Json]] = []
    for column, name in enumerate(card.features):
        losses = []
        for _ in range(repeats):
            other = matrix.copy()
            other[:, column] = rng.permutation(other[:, column])
            losses.append(base - good(other))
        rows.append({"feature": name, "mean": float(np.mean(losses)), "deviation": float(np.std(losses))})
    rows.sort(key=lambda row: -float(row["mean"]))
    return [row for row in rows[:20] if row["mean"] > 0]


def _write(evaluation: Evaluation, folder: Path, language: Language) -> None:
    other = sorted({entry.name for entry in folder.iterdir()} - {JSON, PAGE, CASES}) if folder.is_dir() else []
    if other:
        raise InputError(f"{folder}: holds {other[0]}, which is no part of an evaluation; name another folder")
    with whole_folder(folder) as empty:
        write_evaluation(evaluation, empty, language=language)
