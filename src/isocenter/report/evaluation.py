"""The page of an evaluation: one HTML file that needs nothing else."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from isocenter.data.evaluation import Evaluation
from isocenter.data.provenance import Json
from isocenter.report.document import Language, number, translate
from isocenter.report.plots import bars, chart

_MOST_ROWS = 2000


def render(evaluation: Evaluation, *, language: Language) -> str:
    """The HTML page.

    Args:
        evaluation: numbers, curves and cases, and what must be known before they are believed.
        language: of the page.
    """
    folder = files("isocenter.report") / "templates"
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = number
    data = {"split": None, "coverage": None, "comparison": None, "at_prevalence": None, **evaluation.data}

    def say(text: str) -> str:
        return translate(text, language)

    importance = data.get("importance") or []
    rows = [(row["feature"], row["mean"], row["deviation"]) for row in importance]
    return environment.from_string(
        (folder / "evaluation.html.j2").read_text("utf-8")
    ).render(
        _=say,
        language=language,
        style=Markup((folder / "style.css").read_text("utf-8")),  # noqa: S704 - our own file
        data=data,
        notes=[translate(note, language) for note in evaluation.notes],
        charts=[(say(title), Markup(svg)) for title, svg in _charts(evaluation.curves, data)],  # noqa: S704 - our own SVG
        confusion=_confusion(data),
        importance=Markup(bars(rows, x=say("loss of the main metric"))) if rows else None,  # noqa: S704 - our own SVG
        cases=evaluation.rows[: _MOST_ROWS + 1],
        pictures=[(say(title), b64encode(png).decode()) for title, png in evaluation.pictures],
    )


def _confusion(data: Mapping[str, Json]) -> Json:
    if data.get("confusion_matrix"):
        return data["confusion_matrix"]
    counts = data.get("confusion")
    if not counts:
        return None
    return [
        [counts["true_negative"], counts["false_positive"]],
        [counts["false_negative"], counts["true_positive"]],
    ]


def _charts(curves: Mapping[str, Json], data: Mapping[str, Json]) -> list[tuple[str, str]]:
    """Every figure that there are points for."""
    found: list[tuple[str, str]] = []
    if "roc" in curves:
        found += _decision_charts(curves, data)
    if "free_response" in curves:
        lines = [(str(name), points) for name, points in curves["free_response"]]
        most = min(8.0, max([1.0, *(p[0] for _, points in lines for p in points)]))
        shown = [(name, [p for p in points if p[0] <= most]) for name, points in lines]
        found.append((
            "Free response: sensitivity over false positives a scan",
            chart(shown, x="false positives a scan", y="sensitivity", x_range=(0, most)),
        ))  # fmt: skip
        pairs = [(str(name), points) for name, points in curves["precision_recall"]]
        found.append(("Precision and recall", chart(pairs, x="recall", y="precision")))
    if "agreement" in curves:
        points = curves["agreement"]
        low, high = _range([p[0] for p in points])
        bottom, top = _range([p[1] for p in points])
        limits = [("", [[low, v], [high, v]]) for v in (*data["limits_of_agreement"], data["metrics"]["bias"]["value"])]
        found.append((
            "Bland-Altman: difference against mean, with bias and 95 % limits of agreement",
            chart(limits, x="mean of predicted and true", y="predicted - true", x_range=(low, high),
                  y_range=(bottom, top), dots=points),
        ))  # fmt: skip
        low, high = _range([v for p in curves["scatter"] for v in p])
        found.append(("Predicted against true values", chart([], x="true", y="predicted", x_range=(low, high),
                      y_range=(low, high), diagonal=True, dots=curves["scatter"])))  # fmt: skip
    names = [name for name in ("low", "high") if f"survival_{name}" in curves]
    if names:
        end = max(point[0] for name in names for point in curves[f"survival_{name}"])
        lines = [(f"{name} risk", [[p[0], p[1]] for p in curves[f"survival_{name}"]]) for name in names]
        bands = [(name, [[p[0], p[2], p[3]] for p in curves[f"survival_{name}"]]) for name in names]
        found.append((
            "Kaplan-Meier curves of the halves with lower and higher predicted risk, with 95 % bands",
            chart(lines, x="time", y="share without event", x_range=(0, end), bands=bands, steps=True),
        ))  # fmt: skip
    if data.get("calibration_at_horizon"):
        dots = [[row["predicted"], row["observed"]] for row in data["calibration_at_horizon"]]
        found.append((
            "Calibration at the horizon: predicted and observed (Kaplan-Meier) events in fifths of the risk",
            chart([("", dots)], x="predicted", y="observed", diagonal=True, dots=dots),
        ))  # fmt: skip
    return found


def _decision_charts(curves: Mapping[str, Json], data: Mapping[str, Json]) -> list[tuple[str, str]]:
    roc = chart([("", curves["roc"])], x="1 - specificity", y="sensitivity", diagonal=True)
    pr = chart([("", curves["pr"])], x="recall", y="precision")
    found = [("ROC curve", roc), ("Precision and recall", pr)]
    if "calibration" not in curves:
        return found
    bins = [[row[0], row[1]] for row in curves["calibration_bins"]]
    line = [("", curves["calibration"])]
    calibration = chart(line, x="predicted probability", y="observed share", diagonal=True, dots=bins)
    found.append(("Calibration: smoothed (loess) and in tenths", calibration))
    if data.get("calibrated"):
        low, high = data["decision_range"]
        points = [p for p in curves["decision"] if low <= p[0] <= high]
        top = max(0.05, *(max(p[1], p[2]) for p in points))
        lines = [("model", [[p[0], p[1]] for p in points]), ("all", [[p[0], p[2]] for p in points]),
                 ("none", [[low, 0.0], [high, 0.0]])]  # fmt: skip
        net = chart(lines, x="threshold probability", y="net benefit", x_range=(low, high), y_range=(-0.05, top))
        found.append((f"Decision curve, for threshold probabilities of {low:g} to {high:g}", net))
    return found


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    pad = 0.05 * (high - low) or 1.0
    return low - pad, high + pad
