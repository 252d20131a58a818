"""MONAI's bundle layout: read for its weights, and written with ours."""

from pathlib import Path
from typing import Any

from torch import Tensor

from isocenter.errors import InputError, UnreadableFile, cause_of
from isocenter.optional import require

_FILES = ("models/model.safetensors", "models/model.pt", "models/model.pth")
_NESTED = ("state_dict", "model", "network", "net", "model_state_dict", "network_weights")


def bundle_weights(folder: Path) -> tuple[Path, dict[str, Tensor]]:
    """The file of a bundle's weights, and the weights.

    A `.pt` file is opened by torch's reader of plain tensors, which runs no code.

    Raises: InputError for a bundle without weights; UnreadableFile for one that holds more than weights.
    """
    path = next((folder / name for name in _FILES if (folder / name).is_file()), None)
    if path is None:
        raise InputError(f"{folder}: is a MONAI bundle without {_FILES[0]} or {_FILES[1]}")
    if path.suffix == ".safetensors":
        safetensors = require("safetensors.torch", extra="learn")
        try:
            found: Any = safetensors.load_file(path)
        except Exception as error:  # whatever the reader says, the file holds no weights
            raise UnreadableFile(f"{path}: holds no weights that can be read ({cause_of(error)})") from error
    else:
        found = plain_tensors(path)
    return path, {name: value.float() if value.is_floating_point() else value for name, value in found.items()}


def plain_tensors(path: Path) -> dict[str, Tensor]:
    """Weights of a `.pt` file that holds tensors and nothing that runs.

    Raises: UnreadableFile.
    """
    import torch

    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for what it does not open
        raise UnreadableFile(f"{path}: holds more than weights, or is damaged; it is not opened") from error
    for name in _NESTED:
        if isinstance(data, dict) and isinstance(data.get(name), dict):
            data = data[name]
    if not isinstance(data, dict) or not data or not all(isinstance(v, Tensor) for v in data.values()):
        raise UnreadableFile(f"{path}: holds no table of weights")
    return {str(name): value for name, value in data.items()}
