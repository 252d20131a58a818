"""`model add`, `describe`, `export`: models that come from elsewhere, what they state, and how they leave."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from isocenter.data.card import VALIDATED, ModelCard
from isocenter.errors import InputError
from isocenter.formats import model_folder
from isocenter.formats.json_file import read_mapping
from isocenter.pipeline.learn import require_free
from isocenter.pipeline.output import require_folder, whole_folder
from isocenter.version import __version__
from isocenter.zoo import model_path

Form = Literal["onnx", "bundle"]
_EXPORT = "python -m tf2onnx.convert --keras MODEL.keras --output net.onnx   (or --saved-model FOLDER)"


def model_add(source: str | Path, out: str | Path, *, card: str | Path | None = None, force: bool = False) -> ModelCard:
    """Read a foreign model and write it as one of ours, so that gate, tiles, reports and evaluation are the same.

    Args:
        source: a result folder of nnU-Net v2 (plans.json, dataset.json, fold_0 ...), an ONNX file, a MONAI bundle, or
            weights as `.safetensors`.
        out: the model's folder.
        card: what must be known of it (YAML; see `inference.foreign.ForeignCard`); nnU-Net's folders say it themselves.
        force: replace a model that stands there.
    Raises: InputError for what is no model that is read; UnreadableFile for one that holds more than weights.
    """
    path, folder = Path(source), Path(out)
    require_free(folder, force=force)
    _refuse_others(path)
    from isocenter.inference.nnunet import is_nnunet

    if is_nnunet(path):
        if card is not None:
            raise InputError(f"{path}: nnU-Net's plans say all that is needed: leave --card away")
        return _from_nnunet(path, folder)
    if card is None:
        raise InputError(
            f"{path}: says nothing of classes or labels, channels, spacing and intensities: write them down, and give "
            "them with --card card.yaml; docs/en/learning.md shows one"
        )
    return _with_card(path, folder, Path(card))


def _from_nnunet(path: Path, folder: Path) -> ModelCard:
    from isocenter.inference.nnunet import read_nnunet

    weights, card = read_nnunet(path)
    one = len(weights) == 1
    tensors = {
        (name if one else f"{i}.{name}"): value for i, part in enumerate(weights) for name, value in part.items()
    }
    return _kept(folder, card, tensors)


def _with_card(path: Path, folder: Path, where: Path) -> ModelCard:
    """A model that says nothing of itself, as its card says."""
    from isocenter.inference.foreign import onnx_model, read_foreign_card, weights_model
    from isocenter.training.images.start import read_start

    stated = read_foreign_card(where)
    if path.suffix.lower() == ".onnx":
        data, card = onnx_model(path, stated, where)
        return _kept(folder, card, data)
    tensors, card = weights_model(read_start(path).tensors, stated, where, path)
    return _kept(folder, card, tensors)


def _kept(folder: Path, card: ModelCard, weights: bytes | dict[str, Any]) -> ModelCard:
    created = datetime.now(UTC).isoformat(timespec="seconds")
    done = replace(card, lineage={**card.lineage, "isocenter": __version__, "added": created})
    with whole_folder(folder) as empty:
        if isinstance(weights, bytes):
            model_folder.write_graph(weights, done, empty)
        else:
            model_folder.write_tensors(weights, done, empty)
    return model_folder.read_card(folder)


def model_describe(
    model: str | Path, *, about: str | Path | None = None, evaluation: str | Path | None = None
) -> ModelCard:
    """Write into a model's card what people say of it, and how it did on test cases, or on validation cases.

    Args:
        model: the model's folder; the name of one that ships only to read its card.
        about: YAML with any of name, intended_use, limits, licence, data, data_licence.
        evaluation: `evaluation.json` of this very model.
    Raises: InputError for an evaluation of another model.
    """
    folder = model_path(model) if about is None and evaluation is None else Path(model)
    card = model_folder.read_card(folder)
    if about is not None:
        from isocenter.inference.foreign import read_about, said_by

        card = said_by(card, read_about(Path(about)))
    if evaluation is not None:
        data = read_mapping(Path(evaluation))
        if data.get("model_sha256") != card.weights_sha256:
            raise InputError(f"{evaluation}: is of another model: its model_sha256 is not that of these weights")
        kept = {
            key: data.get(key) for key in ("n_cases", "n_patients", "split", "unit_of_interval", "metrics", "notes")
        }
        where = VALIDATED if data.get("split") == "val" else "test"
        card = replace(card, metrics={**card.metrics, where: kept})
    if about is not None or evaluation is not None:
        try:
            model_folder.write_card(card, folder)
        except ValueError as error:
            raise InputError(f"{evaluation}: holds what is no number, which a card does not keep ({error})") from error
    return card


def model_export(model: str | Path, out: str | Path, *, form: Form) -> Path:
    """Write a model in the form of others.

    Args:
        model: the model's folder, or the name of one that ships.
        out: a new folder.
        form: `onnx` (net.onnx and card.yaml) or `bundle` (MONAI's layout).
    Raises: InputError for a model that cannot be, and for a folder that holds other things.
    """
    from isocenter.inference.export import write_bundle, write_onnx
    from isocenter.inference.model import load

    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: holds something already; name a new folder")
    require_folder(folder.parent)
    loaded = load(model_path(model))
    with whole_folder(folder) as empty:
        (write_onnx if form == "onnx" else write_bundle)(loaded, empty)
    return folder


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
            "nnU-Net, a MONAI bundle, or weights as .safetensors with --card"
        )
    known = name.endswith((".onnx", ".safetensors")) or (path / "configs").is_dir()
    nnunet = (path / "plans.json").is_file() or (path / "dataset.json").is_file() or any(path.glob("fold_*"))
    if not known and not (path.is_dir() and nnunet):
        raise InputError(
            f"{path}: is no model that is read here; read are result folders of nnU-Net v2, ONNX files, MONAI bundles "
            "and .safetensors"
        )
