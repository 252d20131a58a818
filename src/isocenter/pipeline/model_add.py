"""`model add`: a model that was trained elsewhere becomes a model's folder of ours."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from isocenter.data.card import ModelCard
from isocenter.errors import InputError
from isocenter.formats import model_folder
from isocenter.pipeline.learn import require_free
from isocenter.pipeline.output import whole_folder
from isocenter.version import __version__

_EXPORT = "python -m tf2onnx.convert --keras MODEL.keras --output net.onnx   (or --saved-model FOLDER)"


def model_add(source: str | Path, out: str | Path, *, force: bool = False) -> ModelCard:
    """Read a foreign model and write it as one of ours, so that gate, tiles, reports and evaluation are the same.

    Args:
        source: a result folder of nnU-Net v2 (plans.json, dataset.json, fold_0 ...).
        out: the model's folder.
        force: replace a model that stands there.
    Raises: InputError for what is no model that is read; UnreadableFile for one that holds more than weights.
    """
    path, folder = Path(source), Path(out)
    require_free(folder, force=force)
    _refuse_others(path)
    from isocenter.inference.nnunet import read_nnunet

    weights, card = read_nnunet(path)
    one = len(weights) == 1
    tensors = {
        (name if one else f"{i}.{name}"): value for i, part in enumerate(weights) for name, value in part.items()
    }
    created = datetime.now(UTC).isoformat(timespec="seconds")
    done = replace(card, lineage={**card.lineage, "isocenter": __version__, "added": created})
    with whole_folder(folder) as empty:
        model_folder.write_tensors(tensors, done, empty)
    return model_folder.read_card(folder)


def _refuse_others(path: Path) -> None:
    """Say what to do with models of other kinds.

    Raises: InputError.
    """
    if not path.exists():
        raise InputError(f"{path}: is not there")
    name = path.name.lower()
    if name.endswith((".h5", ".keras", ".pb")) or (path / "saved_model.pb").is_file():
        raise InputError(
            f"{path}: is a model of TensorFlow, which is not loaded: export it as ONNX with\n    {_EXPORT}"
        )
    if name.endswith((".pkl", ".pickle", ".joblib", ".pt", ".pth", ".ckpt")):
        raise InputError(
            f"{path}: may run code when it is opened, and says nothing about its network: give the result folder of "
            "nnU-Net, or weights as safetensors with a plan"
        )
    if path.is_file():
        raise InputError(f"{path}: is no model that is read here; read are result folders of nnU-Net v2")
