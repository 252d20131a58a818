"""A model in the forms of others: ONNX with its card, MONAI's bundle layout."""

import json
from pathlib import Path
from typing import Any

import yaml

from isocenter.errors import InputError
from isocenter.inference.foreign import ONNX
from isocenter.inference.model import NetworkModel
from isocenter.inference.runtime import onnx_bytes
from isocenter.optional import require
from isocenter.version import __version__

_EXPORTED = ("classify", "regress", "segment", "detect")
_LOST = "Exported without calibration, threshold, prediction sets and the range of its intensities."


def write_onnx(model: NetworkModel, folder: Path) -> None:
    """`net.onnx` and the `card.yaml` with which `isocenter model add` takes it back; what is lost stands in its limits.

    Raises: InputError for an ensemble, a detector, or what is an ONNX network already.
    """
    spec, module = model.spec, _one(model)
    if spec.frames:
        raise InputError("looks at sequences of any length, which ONNX does not carry here: export it as a bundle")
    if spec.task == "detect":
        raise InputError(
            "boxes are suppressed and merged outside the network, which ONNX does not carry: export it as a bundle"
        )
    (folder / "net.onnx").write_bytes(onnx_bytes(module, (1, spec.inputs, *spec.patch)))
    card = {
        "task": spec.task, "classes": list(spec.classes), "labels": dict(spec.labels), "channels": list(spec.channels),
        "preparation": _plain(spec.preparation.model_dump(mode="json", exclude_none=True)), "patch": list(spec.patch),
        "answer": spec.answer, "value_scale": list(spec.value_scale),
        "flips": list(spec.flips), "onnx": {"layout": "channels_first", "output": "logits"},
        "gate": {k: v for k, v in model.card.gate.items() if k in ("quantity", "spacing_mm", "extent_mm", "shape")},
        "about": {
            "name": model.card.model, "intended_use": model.card.intended_use, "limits": f"{model.card.limits} {_LOST}",
            "licence": model.card.licence, "data": str(model.card.training.get("data", "not stated")),
            "data_licence": str(model.card.training.get("licence", "not stated")),
        },
    }  # fmt: skip
    (folder / "card.yaml").write_text(yaml.safe_dump(card, sort_keys=False, allow_unicode=True), "utf-8")


def write_bundle(model: NetworkModel, folder: Path) -> None:
    """MONAI's layout: `configs/metadata.json`, `configs/inference.json`, `models/model.pt`, `docs`, `LICENSE`.

    Source: https://monai.readthedocs.io, MONAI Bundle Specification.
    Raises: InputError for an ensemble, or for what is an ONNX network.
    """
    torch: Any = require("torch", extra="learn")
    spec, card, module = model.spec, model.card, _one(model)
    for name in ("configs", "models", "docs"):
        (folder / name).mkdir()
    torch.save(module.state_dict(), folder / "models" / "model.pt")
    network = {
        "_target_": "isocenter.networks.catalogue.build", "name": spec.network.name,
        "given": spec.network.model_dump(mode="json")["settings"], "channels": spec.preparation.channels,
        "outputs": spec.outputs, "dims": spec.preparation.dims,
    }  # fmt: skip
    inference = {"imports": ["$import torch"], "bundle_root": ".", "device": "$torch.device('cpu')",
                 "network_def": network, "preparation": card.preparation,
                 "value_scale": list(spec.value_scale)}  # fmt: skip
    said = {0: "background", **{i + 1: name for i, name in enumerate(spec.labels.values())}}
    names = said if spec.task == "segment" else dict(enumerate(spec.classes))
    metadata = {
        "version": __version__, "changelog": {__version__: "exported"}, "monai_version": "1.5", "task": spec.task,
        "pytorch_version": torch.__version__.partition("+")[0], "numpy_version": "2", "optional_packages_version": {},
        "description": f"{card.model}: {card.intended_use}", "authors": "", "copyright": card.licence,
        "data_source": str(card.training.get("data", "")), "intended_use": card.intended_use,
        "network_data_format": {
            "inputs": {"image": {
                "type": "image", "format": "magnitude", "num_channels": spec.preparation.channels,
                "spatial_shape": list(spec.patch), "dtype": "float32", "is_patch_data": spec.task == "segment",
                "channel_def": dict(enumerate(spec.channels)),
            }},
            "outputs": {"pred": {
                "type": "image" if spec.task == "segment" else "probabilities", "format": "logits",
                "num_channels": spec.outputs, "spatial_shape": list(spec.patch), "dtype": "float32",
                "is_patch_data": spec.task == "segment", "channel_def": names,
            }},
        },
    }  # fmt: skip
    for name, data in (("metadata", metadata), ("inference", inference)):
        (folder / "configs" / f"{name}.json").write_text(json.dumps(data, indent=2, ensure_ascii=False), "utf-8")
    (folder / "docs" / "README.md").write_text(_readme(model), "utf-8")
    (folder / "LICENSE").write_text(f"{card.licence}\n", "utf-8")


def _readme(model: NetworkModel) -> str:
    card = model.card
    return (
        f"# {card.model}\n\n{card.intended_use}\n\nLimits: {card.limits}\n\nTrained on: {card.training.get('data')} "
        f"(licence {card.training.get('licence', 'not stated')}). Weights: {card.licence}.\n\nThe network is built by "
        "`isocenter.networks.catalogue.build`; images are prepared as `preparation` in `configs/inference.json` says.\n"
    )


def _one(model: NetworkModel) -> Any:
    """The only network.

    Raises: InputError.
    """
    if len(model.modules) != 1:
        raise InputError(f"{model.folder}: is an ensemble of {len(model.modules)} networks; one is exported at a time")
    if model.spec.task not in _EXPORTED:
        raise InputError(
            f"{model.folder}: a model of {model.spec.task} is more than its network, and is not exported; exported are "
            f"models that {', '.join(_EXPORTED)}"
        )
    if model.spec.network.name == ONNX:
        raise InputError(f"{model.folder}: is an ONNX network already: take its model.onnx")
    return model.modules[0]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
