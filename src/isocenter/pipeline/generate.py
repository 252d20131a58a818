"""`generate`: new images from a trained maker, each marked as what it is."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from isocenter.data.geometry import Geometry, Space
from isocenter.data.provenance import Json, Step
from isocenter.data.volume import Volume
from isocenter.errors import InputError
from isocenter.formats import nifti, raster
from isocenter.inference.making import classes_for, in_units, made_in_parts
from isocenter.inference.model import load
from isocenter.inference.prepare import Preparation
from isocenter.inference.runner import device_of
from isocenter.pipeline.output import plain_name
from isocenter.pipeline.own_folder import own_folder
from isocenter.types import Array
from isocenter.version import __version__
from isocenter.zoo import model_path

RECORD = "synthetic.json"
_MOST = 100_000
_MARK = "synthetic"
_HOLDS = "made images"


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
    if not 0 <= seed < 2**63:
        raise InputError(f"--seed {seed}: a whole number from 0 to 2^63 - 1")
    if not 1 <= count <= _MOST:
        raise InputError(f"-n {count}: from 1 to {_MOST} images")
    if of_class is not None and of_class not in spec.classes:
        raise InputError(f"--class {of_class}: the model knows {', '.join(spec.classes) or 'no classes'}")
    folder = Path(out)
    shares = [float(v) for v in (card.training.get("class_shares") or [])]
    kinds = [spec.classes.index(of_class)] * count if of_class is not None else classes_for(shares, count)
    parts = made_in_parts(loaded.modules[0], count, classes=kinds, seed=seed, device=device_of(device))
    images = (image for part in parts for image in in_units(part, spec.preparation))
    told: dict[str, Json] = {
        "synthetic": True, "not_for_clinical_use": True, "model": card.model, "weights_sha256": card.weights_sha256,
        "licence": card.licence, "seed": seed, "isocenter": __version__, "made": [],
    }  # fmt: skip
    counts: dict[str, int] = {}
    folders = _folders(spec.classes)
    grey = _grey_factor(spec.preparation)
    with own_folder(folder, _HOLDS) as empty:
        for number, image in enumerate(images):
            kind = "" if kinds is None else spec.classes[kinds[number]]
            counts[kind] = counts.get(kind, 0) + 1
            place = empty / folders[kind] if kind else empty
            place.mkdir(parents=True, exist_ok=True)
            stem = place / f"{_MARK}-{number + 1:05d}"
            path = _write(image, stem, card.weights_sha256, grey=grey)
            told["made"].append({"file": path.relative_to(empty).as_posix(), "class": kind or None})
        (empty / RECORD).write_text(json.dumps(told, indent=1, ensure_ascii=False), "utf-8")
    return Generated(folder, counts)


def _folders(classes: Sequence[str]) -> dict[str, str]:
    """A folder's name for each class: a class is any text, and a name is one part of a path on every system."""
    found: dict[str, str] = {}
    for name in classes:
        safe = plain_name(name, otherwise="class")
        while safe.lower() in {other.lower() for other in found.values()}:
            safe += "_"
        found[name] = safe
    return found


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
