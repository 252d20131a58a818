"""`generate`: new images from a trained maker, each marked as what it is."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from isocenter.data.geometry import Geometry, Space
from isocenter.data.provenance import Json, Step
from isocenter.data.volume import Volume
from isocenter.errors import InputError
from isocenter.formats import nifti, raster
from isocenter.inference.making import classes_for, in_units, made
from isocenter.inference.model import load
from isocenter.inference.prepare import Preparation
from isocenter.inference.runner import device_of
from isocenter.pipeline.output import whole_folder
from isocenter.types import Array
from isocenter.version import __version__
from isocenter.zoo import model_path

RECORD = "synthetic.json"
_MOST = 100_000
_MARK = "synthetic"


@dataclass(frozen=True)
class Generated:
    """What was made.

    Args:
        folder: of the images.
        counts: class -> images; one empty name where the model knows no classes.
    """

    folder: Path
    counts: dict[str, int]


def generate(
    model: str | Path, out: str | Path, *, count: int, of_class: str | None = None, seed: int = 0, device: str = "auto"
) -> Generated:
    """Make images and write them: pictures as PNG, volumes as NIfTI, each called synthetic by its name and inside.

    Args:
        model: folder of a model that makes images.
        out: folder; a folder for each class where the model knows classes, so that it is a data set. Replaced if it
            holds images that were made before, and nothing else.
        count: how many, in all.
        of_class: of this class alone; None: of each as often as in training.
        seed: of the noise.
        device: see `inference.runner.device_of`.
    Raises: InputError for a model that makes none, a class that it does not know, and a folder with other things.
    """
    loaded = load(model_path(model))
    spec, card = loaded.spec, loaded.card
    if spec.task != "generate":
        raise InputError(f"{model}: answers with {spec.task}, and makes no images from noise")
    if not 1 <= count <= _MOST:
        raise InputError(f"-n {count}: from 1 to {_MOST} images")
    if of_class is not None and of_class not in spec.classes:
        raise InputError(f"--class {of_class}: the model knows {', '.join(spec.classes) or 'no classes'}")
    folder = Path(out)
    _require_free(folder)
    shares = [float(v) for v in (card.training.get("class_shares") or [])]
    kinds = [spec.classes.index(of_class)] * count if of_class is not None else classes_for(shares, count)
    images = in_units(
        made(loaded.modules[0], count, classes=kinds, seed=seed, device=device_of(device)), spec.preparation
    )
    told: dict[str, Json] = {
        "synthetic": True, "not_for_clinical_use": True, "model": card.model, "weights_sha256": card.weights_sha256,
        "licence": card.licence, "seed": seed, "isocenter": __version__, "made": [],
    }  # fmt: skip
    counts: dict[str, int] = {}
    grey = _grey_factor(spec.preparation)
    with whole_folder(folder) as empty:
        for number, image in enumerate(images):
            kind = "" if kinds is None else spec.classes[kinds[number]]
            counts[kind] = counts.get(kind, 0) + 1
            place = empty / kind if kind else empty
            place.mkdir(parents=True, exist_ok=True)
            stem = place / f"{_MARK}-{number + 1:05d}"
            path = _write(image, stem, card.weights_sha256, grey=grey)
            told["made"].append({"file": path.relative_to(empty).as_posix(), "class": kind or None})
        (empty / RECORD).write_text(json.dumps(told, indent=1, ensure_ascii=False), "utf-8")
    return Generated(folder, counts)


def _grey_factor(how: Preparation) -> float | None:
    """By what numbers become grey values of 8 bits; None where they have a unit that these cannot hold."""
    if how.intensity != "range":
        return 255.0
    return 1.0 if (set(how.low), set(how.high)) == ({0.0}, {255.0}) else None


def _write(image: Array, stem: Path, weights: str, *, grey: float | None) -> Path:
    """A picture of 8 bits, or a volume; without millimetres, since nobody was scanned.

    Args:
        image: `c *s`.
        stem: path without its ending.
        weights: hash.
        grey: factor that makes grey values; None: the image has a unit, which a picture of 8 bits cannot hold.
    """
    volume = image[:, None] if image.ndim == 3 else image
    d, h, w = (int(n) for n in volume.shape[1:])
    grid = Geometry.regular((d, h, w), space=Space.PIXELS)
    step = Step("generate", {"synthetic": True, "weights_sha256": weights})
    if d == 1 and grey is not None:
        bits = np.clip(np.rint(volume * grey), 0, 255).astype(np.uint8)
        path = stem.with_suffix(".png")
        text = {"Synthetic": "true", "Comment": "Made by a neural network: of no patient", "Weights": weights}
        raster.write(Volume(bits, grid, history=(step,)), path, text=text)
        return path
    path = stem.with_name(f"{stem.name}.nii.gz")
    nifti.write(Volume(volume.astype(np.float32), grid, history=(step,)), path, intent=_MARK)
    return path


def _require_free(folder: Path) -> None:
    """Refuse a folder that holds anything but images that were made before.

    Raises: InputError.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder}: is a file; made images need a folder")
    files = [p for p in folder.rglob("*") if p.is_file()]
    odd = [p for p in files if p.name != RECORD and not p.name.startswith(f"{_MARK}-")]
    if odd or (files and not (folder / RECORD).is_file()):
        raise InputError(f"{folder}: holds other things than made images; name another folder")
