"""isocenter: a medical examination, the whole way from the scanner's files to a report that a physician can check.

    import isocenter
    case = isocenter.open("study/")
    results = isocenter.run("brain-mr", ["study/"], "out/")

Every verb of the command line is a function of the same name here. Names are imported when they are first used, so that
`import isocenter` is fast and loads neither numpy nor torch.
"""

from typing import TYPE_CHECKING, Any

from isocenter.version import __version__

if TYPE_CHECKING:
    from isocenter.acquire.case import open_case as open  # noqa: A004
    from isocenter.acquire.inspection import inspect
    from isocenter.acquire.policy import Policy
    from isocenter.data.case import Case
    from isocenter.data.cine import Cine
    from isocenter.data.features import Feature, FeatureTable
    from isocenter.data.finding import Finding
    from isocenter.data.geometry import Geometry, Space
    from isocenter.data.labels import Label, LabelMap
    from isocenter.data.volume import Quantity, Volume
    from isocenter.demonstration import demo
    from isocenter.errors import IsocenterError
    from isocenter.pipeline.attempt import try_step
    from isocenter.pipeline.cohort import run_cohort
    from isocenter.pipeline.compress import compress
    from isocenter.pipeline.conformance import ibsi
    from isocenter.pipeline.convert import convert
    from isocenter.pipeline.data_check import data_check
    from isocenter.pipeline.explain import explain
    from isocenter.pipeline.extract import extract_features
    from isocenter.pipeline.generate import generate
    from isocenter.pipeline.image_prediction import predict_images
    from isocenter.pipeline.image_training import train_images
    from isocenter.pipeline.judgement import evaluate
    from isocenter.pipeline.learn import predict, train
    from isocenter.pipeline.methods import methods
    from isocenter.pipeline.model_add import model_add
    from isocenter.pipeline.robustness import robustness
    from isocenter.pipeline.run import run
    from isocenter.recipe import shipped as recipes

_HOME = {
    "Case": "data.case",
    "Cine": "data.cine",
    "Feature": "data.features",
    "FeatureTable": "data.features",
    "Finding": "data.finding",
    "Geometry": "data.geometry",
    "IsocenterError": "errors",
    "Label": "data.labels",
    "LabelMap": "data.labels",
    "Policy": "acquire.policy",
    "Quantity": "data.volume",
    "Space": "data.geometry",
    "Volume": "data.volume",
    "data_check": "pipeline.data_check",
    "evaluate": "pipeline.judgement",
    "methods": "pipeline.methods",
    "model_add": "pipeline.model_add",
    "predict": "pipeline.learn",
    "train": "pipeline.learn",
    "compress": "pipeline.compress",
    "convert": "pipeline.convert",
    "generate": "pipeline.generate",
    "explain": "pipeline.explain",
    "extract_features": "pipeline.extract",
    "predict_images": "pipeline.image_prediction",
    "train_images": "pipeline.image_training",
    "ibsi": "pipeline.conformance",
    "demo": "demonstration",
    "inspect": "acquire.inspection",
    "open": "acquire.case:open_case",
    "robustness": "pipeline.robustness",
    "recipes": "recipe:shipped",
    "run": "pipeline.run",
    "run_cohort": "pipeline.cohort",
    "try_step": "pipeline.attempt",
}

__all__ = [
    "Case",
    "Cine",
    "Feature",
    "FeatureTable",
    "Finding",
    "Geometry",
    "IsocenterError",
    "Label",
    "LabelMap",
    "Policy",
    "Quantity",
    "Space",
    "Volume",
    "__version__",
    "compress",
    "convert",
    "data_check",
    "demo",
    "evaluate",
    "explain",
    "extract_features",
    "generate",
    "ibsi",
    "inspect",
    "methods",
    "model_add",
    "open",
    "predict",
    "predict_images",
    "recipes",
    "robustness",
    "run",
    "run_cohort",
    "train",
    "train_images",
    "try_step",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"isocenter has no public name {name!r}; it has {sorted(_HOME)}")
    from importlib import import_module

    module, _, attribute = _HOME[name].partition(":")
    value = getattr(import_module(f"isocenter.{module}"), attribute or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
