"""`isocenter demo`: the whole path on data that an installed package carries."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from isocenter.acquire.case import open_case
from isocenter.data.examination import Examination
from isocenter.data.finding import Check, Verdict
from isocenter.data.message import Message
from isocenter.data.provenance import Step
from isocenter.formats import mni152
from isocenter.metrics.overlap import dice
from isocenter.optional import require
from isocenter.pipeline.examine import examine
from isocenter.pipeline.output import require_folder, whole_folder, write
from isocenter.pipeline.run import StudyResult
from isocenter.recipe import Recipe, load
from isocenter.report.document import Language
from isocenter.types import Progress
from isocenter.version import __version__

CASE = "mni152"
_BARS = {"grey matter": ("gm", 0.90), "white matter": ("wm", 0.93)}


def demo(
    out: str | Path = "isocenter-demo",
    *,
    language: Language = "en",
    on_progress: Progress | None = None,
) -> StudyResult:
    """Run `brain-mr` on the MNI152 average brain, and compare its tissues with the atlas of that brain.

    The atlas maps are opened only after the tissues have been found.

    Args:
        out: folder for the result.
        language: of the report.
        on_progress: told what is going on.
    Returns: how it ended; `result.folder` holds the report.
    Raises: UnreadableFile where nilearn's data are absent.
    """
    return _shown("brain-mr", Path(out), CASE, language, on_progress)


def demo_network(
    out: str | Path = "isocenter-demo",
    *,
    language: Language = "en",
    on_progress: Progress | None = None,
) -> StudyResult:
    """Run `hippocampus`, and with it the network that ships, on the MNI152 average brain.

    Args: see `demo`.
    Raises: MissingExtra without the packages of networks.
    """
    require("torch", extra="learn")
    return _shown("hippocampus", Path(out), f"{CASE}-hippocampus", language, on_progress)


def _shown(name: str, target: Path, case_name: str, language: Language, on_progress: Progress | None) -> StudyResult:
    require_folder(target)
    recipe = load(name)
    case = replace(open_case(mni152.path_of("t1")), name=case_name)
    found = judge(examine(case, recipe, on_progress=on_progress))
    return _written(found, recipe, target / case_name, language)


def _written(examination: Examination, recipe: Recipe, folder: Path, language: Language) -> StudyResult:
    """The report of the average brain, which says that it is nobody's."""
    said = {
        **examination.recipe,
        "title": {
            "en": f"{recipe.title.en}: the MNI152 average brain",
            "zh": f"{recipe.title.zh}：MNI152 平均脑",
        },
        "description": {
            "en": f"An average of 152 healthy brains, already extracted. {recipe.description.en}",
            "zh": f"由 152 名健康人的脑平均而成，已去除颅骨，不属于任何个人。{recipe.description.zh}",
        },
    }
    with whole_folder(folder) as partial:
        write(replace(examination, recipe=said), partial, language=language, lineage={})
    reasons = tuple(map(str, examination.reasons))
    return StudyResult(folder.name, examination.case.path, folder, examination.verdict, reasons)


def judge(examination: Examination) -> Examination:
    """Add the Dice of grey and white matter against the atlas maps, cut at one half."""
    tissue = examination.case.label_maps.get("tissue")
    if tissue is None:
        return examination
    checks = []
    for label, (kind, least) in _BARS.items():
        atlas = mni152.tissue_map(kind)
        tissue.geometry.require_same(atlas.geometry, what="the tissues and the atlas")
        value = dice(tissue.mask(label), np.asarray(atlas.grid >= 127.5))
        text = "Dice of {label} against the atlas of the average brain: {value:.3f} (at least {least:.2f})."
        message = Message(text, {"label": label, "value": value, "least": least})
        verdict = Verdict.ACCEPTED if value >= least else Verdict.REVIEW
        checks.append(Check(f"dice_{label.replace(' ', '_')}", round(value, 4), verdict, message))
    step = Step("evaluation.dice", {"atlas": "MNI152 tissue probability >= 0.5"}, version=__version__)
    return replace(examination.with_checks(*checks), steps=(*examination.steps, step))
