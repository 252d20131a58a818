"""The recipe that runs a model: what `isocenter run MODEL STUDY` does, as text to copy and change."""

import re
from pathlib import Path
from typing import Any

import yaml

from isocenter.data.card import ModelCard
from isocenter.errors import InputError

_DOES = {"detect": "find objects", "enhance": "make images better", "anomaly": "tell what is unusual"}


def recipe_text(folder: Path, card: ModelCard) -> str:
    """A recipe of one step and what follows from it.

    Args:
        folder: of the model.
        card: its card.
    Raises: InputError for a model of tables, and one that looks at no image.
    """
    if not card.network:
        raise InputError(f"{folder}: is a model of tables; a recipe looks at images")
    name = re.sub(r"[^a-z0-9_-]+", "-", folder.resolve().name.lower()).strip("-_")[:48] or "model"
    where = str(folder.resolve())
    said = f"The network {card.model} that was trained to {_DOES.get(card.task, card.task)}. Research only."
    document: dict[str, Any] = {
        "name": name,
        "title": {"en": f"{name}: what the network says", "zh": f"{name}：网络结果"},
        "description": {"en": said, "zh": f"网络 {card.model}（任务：{card.task}）的结果。仅供研究。"},
    }
    if card.task == "forecast":
        raise InputError(f"{folder}: foretells the next frame, which no report states: `isocenter predict`")
    if card.network.get("frames"):
        document |= {"select": {"frames": True}, "steps": [{"analyse": "network_sequence", "model": where}]}
    elif card.task == "segment":
        steps = [
            {"segment": "network", "model": where, "as": "found"},
            {"analyse": "network_volumes", "of": "found"},
        ]
        document |= {"steps": steps, "report": {"overlay": "found"}}
    elif card.task == "detect":
        steps = [
            {"segment": "network_objects", "model": where, "as": "objects"},
            {"analyse": "network_objects", "of": "objects"},
        ]
        document |= {"steps": steps, "report": {"overlay": "objects"}}
    elif card.task == "enhance":
        finer = any(int(n) > 1 for n in (card.network.get("degradation") or {}).get("factor", ()))
        steps = [{"preprocess": "network", "model": where}, {"analyse": "network_image"}]
        document |= {"steps": steps} if finer else {"steps": steps, "report": {"compare": ["original", "image"]}}
    elif card.task == "anomaly":
        document |= {"steps": [{"analyse": "network_unusual", "model": where}]}
    elif card.task == "generate":
        raise InputError(f"{folder}: makes images from noise, and looks at none: `isocenter generate`")
    else:
        onnx = card.network.get("network", {}).get("name") == "onnx"  # which has no gradients
        explained = {} if onnx or card.task != "classify" else {"explain": "grad-cam"}
        document |= {"steps": [{"analyse": "network", "model": where, **explained}]}
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110)
