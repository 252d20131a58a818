"""The words of a paper's methods section, from the lineage of what was done."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from isocenter.acquire.columns import read_columns
from isocenter.errors import InputError, UnreadableFile, cause_of
from isocenter.formats.json_file import read_mapping
from isocenter.formats.model_folder import CARD
from isocenter.pipeline.output import REPORT
from isocenter.version import __version__

_MOST_ROWS = 60
_CITATIONS = {
    "isocenter": "isocenter {version}: a medical examination from the scanner's files to a report.",
    "ibsi": "Zwanenburg A. et al. The Image Biomarker Standardization Initiative. Radiology 2020; 295(2):328-338.",
    "sklearn": "Pedregosa F. et al. Scikit-learn: Machine Learning in Python. JMLR 2011; 12:2825-2830.",
    "combat": "Johnson W. et al. Adjusting batch effects in microarray expression data using empirical Bayes methods. "
    "Biostatistics 2007; 8(1):118-127.",
    "mrmr": "Ding C., Peng H. Minimum redundancy feature selection from microarray gene expression data. J. Bioinform. "
    "Comput. Biol. 2005; 3(2):185-205.",
    "nested": "Varma S., Simon R. Bias in error estimation when using cross-validation for model selection. BMC "
    "Bioinformatics 2006; 7:91.",
    "delong": "DeLong E. et al. Comparing the areas under two or more correlated ROC curves. Biometrics 1988; 44(3):837-845.",
    "platt": "Platt J. Probabilistic outputs for support vector machines. Advances in Large Margin Classifiers 1999; 61-74.",
    "conformal": "Vovk V. Conditional validity of inductive conformal predictors. Mach. Learn. 2013; 92:349-376.",
    "cox": "Cox D. Regression models and life-tables. JRSS B 1972; 34(2):187-220.",
}

_CHECKLIST = (
    ("TRIPOD+AI 5a", "data", "source of the data", "数据来源"),
    ("TRIPOD+AI 8a", "target", "outcome that is predicted", "预测的结局"),
    ("TRIPOD+AI 9a", "features", "candidate predictors", "候选预测因子"),
    ("TRIPOD+AI 10", "size", "sample size", "样本量"),
    ("TRIPOD+AI 11", "missing", "handling of missing data", "缺失数据的处理"),
    ("TRIPOD+AI 12c", "model", "type of model and how it was built", "模型类型与建立方法"),
    ("TRIPOD+AI 12e", "performance", "measures of performance", "性能指标"),
    ("TRIPOD+AI 17", "availability", "availability of the model", "模型可获得性"),
    ("CLEAR 21", "preprocessing", "image preprocessing", "图像预处理"),
    ("CLEAR 24", "radiomics", "feature extraction software and settings", "特征提取软件与设置"),
    ("CLEAR 29", "leakage", "measures against leakage", "防止数据泄漏的措施"),
    ("CLEAR 33", "selection", "feature selection", "特征选择"),
    ("TRIPOD+AI 3a", None, "clinical context and rationale", "临床背景与理由"),
    ("TRIPOD+AI 6b", None, "eligibility of patients", "患者入选标准"),
    ("TRIPOD+AI 18", None, "ethics, funding, registration", "伦理、资助与注册"),
    ("CLEAR 15", None, "how regions were drawn, and by whom", "区域如何勾画及由谁勾画"),
)
"""Items of TRIPOD+AI (G. Collins et al., BMJ 385:e078378, 2024) and CLEAR (B. Kocak et al., Insights Imaging 14:75, 2023)
that a lineage can answer, and some that only the authors can (None)."""


def methods(out: str | Path, *, language: str = "en", table: str | Path | None = None) -> str:
    """Markdown: a methods paragraph, versions, citations, Table 1 by outcome, and checklist items.

    Args:
        out: folder of a model, an evaluation, or a run of a recipe (of one case).
        language: `en` or `zh`.
        table: of patients, for Table 1 by the model's target.
    Raises: InputError for a folder without a lineage.
    """
    if language not in {"en", "zh"}:
        raise InputError(f"--lang {language}: there are en and zh")
    try:
        return _methods(Path(out), zh=language == "zh", table=table)
    except (KeyError, AttributeError, TypeError, IndexError) as error:
        raise UnreadableFile(f"{out}: is not what isocenter writes ({cause_of(error)})") from error


def _methods(folder: Path, *, zh: bool, table: str | Path | None) -> str:
    if (folder / CARD).is_file():
        card = _read(folder / CARD)
        paragraph, answers, cited = _of_model(card, zh=zh)
        tables = _table_one(Path(table), card, zh=zh) if table is not None else ""
        versions = card["lineage"].get("versions", {})
    elif (folder / REPORT).is_file() or any(folder.glob(f"*/{REPORT}")):
        path = folder / REPORT if (folder / REPORT).is_file() else min(folder.glob(f"*/{REPORT}"))
        report = _read(path)
        paragraph, answers, cited = _of_run(report, zh=zh)
        tables, versions = "", report["lineage"].get("versions", {})
    elif (folder / "evaluation.json").is_file():
        paragraph, answers, cited = _of_evaluation(_read(folder / "evaluation.json"), zh=zh)
        tables, versions = "", {"isocenter": __version__}
    else:
        raise InputError(f"{folder}: holds no model, evaluation or report whose lineage could be told")
    heads = ("方法", "软件版本", "参考文献", "清单", "由作者填写") if zh else (
        "Methods", "Software", "References", "Checklist", "for the authors")  # fmt: skip
    lines = [f"## {heads[0]}", "", paragraph, ""]
    if tables:
        lines += [tables, ""]
    lines += [f"## {heads[1]}", "", ", ".join(f"{name} {value}" for name, value in versions.items()), ""]
    lines += [f"## {heads[2]}", ""]
    lines += [f"{n}. {_CITATIONS[key].format(version=__version__)}" for n, key in enumerate(dict.fromkeys(cited), 1)]
    lines += ["", f"## {heads[3]}", "", "| | | |", "|---|---|---|"]
    for item, key, english, chinese in _CHECKLIST:
        said = answers.get(key) if key else None
        lines.append(f"| {item} | {chinese if zh else english} | {said or '**' + heads[4] + '**'} |")
    return "\n".join(lines) + "\n"


def _read(path: Path) -> dict[str, Any]:
    data = read_mapping(path)
    if not isinstance(data.get("lineage", {}), dict):
        raise UnreadableFile(f"{path}: is not what isocenter writes")
    return data


Told = tuple[str, dict[str, str], list[str]]


def _of_model(card: Mapping[str, Any], *, zh: bool) -> Told:
    plan, training = card["lineage"].get("plan", {}), card["training"]
    settings = card["preparation"].get("settings", {})
    metric = next((n for n, row in card["metrics"].items() if isinstance(row, dict)), "")
    row = card["metrics"].get(metric, {})
    result = ""
    if row:
        ends = "" if row["low"] is None else f" ({row['low']:.3f}-{row['high']:.3f})"
        result = f"{metric} {row['value']:.3f}{ends}"
    said = ", ".join(f"{k}={v}" for k, v in settings.items())
    patients = training.get("patients")
    values = {
        "unit": (("同一患者" if zh else "a patient") if patients is not None else ("每例" if zh else "a case")),
        "cases": training["cases"], "patients": patients if patients is not None else ("未注明" if zh else "not stated"),
        "features": len(card["features"]), "target": " / ".join(card["target"]), "model": card["model"],
        "folds": plan.get("folds"), "inner": plan.get("inner"), "settings": said, "seed": plan.get("seed"),
        "correlation": plan.get("correlation"), "result": result,
        "calibration": card["calibration"].get("method", "none"),
        "coverage": card["conformal"].get("coverage"),
        "source": card["conformal"].get("calibrated_on"), "version": card["lineage"].get("isocenter"),
    }  # fmt: skip
    english = (
        "Models to predict {target} were trained with isocenter {version} on {cases} cases (patients: {patients}) with "
        "{features} candidate features. Missing values were filled with the median of the training rows; features were "
        "standardised, and of features with |Spearman's r| above {correlation} the first was kept; further features were "
        "chosen by minimum redundancy and maximum relevance. All of this happened inside the folds. Settings were chosen "
        "in {inner} inner folds and performance was estimated in {folds} outer folds; {unit} was in one fold only "
        "(seed {seed}). The final model is {model} ({settings}). Cross-validated performance, as the mean over outer "
        "folds: {result}."
    )
    promised = (
        " Probabilities were calibrated ({calibration}) and prediction sets were made by conformal prediction (coverage "
        "{coverage}) on {source} data, whose patients the scoring model had not seen."
    )
    chinese = (
        "使用 isocenter {version} 训练预测 {target} 的模型，共 {cases} 例，{patients} 名患者，候选特征 {features} 个。缺失值以训练集中位数填补；"
        "特征标准化；|Spearman r| 大于 {correlation} 的特征仅保留第一个；其余特征以最小冗余最大相关法选择。上述步骤均在折内完成。"
        "在 {inner} 个内层折中选择参数，在 {folds} 个外层折中估计性能；{unit}只在一个折中（随机种子 {seed}）。最终模型为 {model}（{settings}）。"
        "外层折均值：{result}。"
    )
    if zh:
        promised = "概率经校准（{calibration}），预测集由保形预测得到（覆盖率 {coverage}），使用 {source} 数据，其患者未用于该评分模型。"
    if not card["conformal"]:
        promised = ""
    cited = ["isocenter", "sklearn", "nested", "mrmr"]
    if card["preparation"].get("harmonised"):
        cited.append("combat")
    if card["calibration"].get("method") == "platt":
        cited.append("platt")
    cited += ["cox"] if card["task"] == "survive" else ["conformal"]
    leaks = training.get("dropped_for_leaks") or []
    answers = {
        "target": values["target"], "features": f"{len(card['features'])}",
        "size": f"{training['cases']} / {values['patients']}", "missing": str(card["preparation"]["missing_values"]),
        "model": f"{card['model']} ({said})", "performance": result or None,
        "data": f"{training['table']} (sha256 {training['sha256'][:16]}…)",
        "leakage": f"folds by patient; {len(leaks)} leaks removed" if not zh else f"按患者分折；移除泄漏 {len(leaks)} 处",
        "selection": f"Spearman {plan.get('correlation')}, mRMR {settings.get('select', '')}",
        "availability": card["licence"],
    }  # fmt: skip
    return (
        ((chinese if zh else english) + promised).format_map(values),
        {k: str(v) for k, v in answers.items() if v},
        cited,
    )


def _of_run(report: Mapping[str, Any], *, zh: bool) -> Told:
    steps = report["lineage"].get("steps", [])
    names = [_step(step) for step in steps]
    joined = ("；" if zh else "; ").join(names)
    recipe = report["recipe"].get("name", "")
    version = report.get("isocenter", "")
    text = (
        f"检查使用 isocenter {version} 的流程 {recipe} 处理，步骤依次为：{joined}。"
        if zh
        else f"Examinations were processed with isocenter {version}, recipe {recipe}. The steps were, in order: {joined}."
    )
    cited = ["isocenter"]
    radiomics = [s for s in steps if s.get("name") == "features.radiomics"]
    answers = {"preprocessing": joined}
    if radiomics:
        cited.append("ibsi")
        answers["radiomics"] = f"isocenter {version}, {_step(radiomics[0])}"
    return text, answers, cited


def _of_evaluation(data: Mapping[str, Any], *, zh: bool) -> Told:
    rows = [
        f"{name} {row['value']:.3f}" + ("" if row["low"] is None else f" ({row['low']:.3f}-{row['high']:.3f})")
        for name, row in data["metrics"].items()
        if row["value"] is not None
    ]
    joined = ", ".join(rows)
    unit = data["unit_of_interval"]
    text = (
        f"在 {data['n_cases']} 例上评估，95 % 置信区间以 {unit} 为单位：{joined}。"
        if zh
        else f"Performance was judged on {data['n_cases']} cases; intervals are 95 %, by {unit}: {joined}."
    )
    return text, {"performance": joined}, ["isocenter", "delong", "conformal"]


def _step(step: Mapping[str, Any]) -> str:
    stated = {k: v for k, v in (step.get("parameters") or {}).items() if v not in (None, [], {}, "")}
    said = ", ".join(f"{k} {v}" for k, v in list(stated.items())[:6])
    return f"{step.get('name')} ({said})" if said else str(step.get("name"))


def _table_one(path: Path, card: Mapping[str, Any], *, zh: bool) -> str:
    """Numbers and words of a table by outcome: mean (deviation) or count (share).

    Raises: InputError for a table without the outcome.
    """
    cells = read_columns(path)
    outcome = cells.column(card["target"][-1])
    levels = sorted(set(outcome))
    if len(levels) > 8:
        return ""
    shown = [name for name in cells.cells if name not in (*card["target"], *card["features"], "split")]
    head = ["", *(f"{level} (n = {outcome.count(level)})" for level in levels)]
    rows = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for name in [*shown, *card["features"][:_MOST_ROWS]]:
        if name in cells.cells:
            rows += _row_of(name, cells.cells[name], outcome, levels)
    left = len(card["features"]) - _MOST_ROWS
    if left > 0:
        rows.append(f"\n{left} more features are not shown." if not zh else f"\n另有 {left} 个特征未列出。")
    return f"## {'表 1' if zh else 'Table 1'}\n\n" + "\n".join(rows)


def _row_of(name: str, texts: Sequence[str], outcome: Sequence[str], levels: Sequence[str]) -> list[str]:
    groups = [[t for t, o in zip(texts, outcome, strict=True) if o == level and t] for level in levels]
    try:
        numbers = [np.asarray([float(t) for t in group]) for group in groups]
    except ValueError:
        words = sorted({t for t in texts if t})
        if len(words) > 6:
            return []
        found = []
        for word in words:
            counts = [f"{g.count(word)} ({g.count(word) / max(1, len(g)):.0%})" for g in groups]
            found.append(f"| {name}: {word} | {' | '.join(counts)} |")
        return found
    said = [f"{n.mean():.3g} ({n.std(ddof=1):.2g})" if len(n) > 1 else "-" for n in numbers]
    return [f"| {name} | {' | '.join(said)} |"]
