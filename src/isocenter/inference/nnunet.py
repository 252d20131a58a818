"""nnU-Net v2 result folders: plans, labels and checkpoint become a model of ours.

Read are the configurations 2d, 3d_fullres and 3d_lowres with a plain or residual U-Net. Checkpoints are opened with
torch's `weights_only`, which builds nothing but tensors and plain data.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from isocenter.data.card import ModelCard
from isocenter.errors import InputError, UnreadableFile, UnsupportedFormat, cause_of
from isocenter.formats.json_file import read_mapping
from isocenter.inference.model import NetworkSpec, Spec, build_of, with_weights
from isocenter.inference.prepare import Preparation

_MOST_JSON, _MOST_BYTES = 64 * 2**20, 8 * 2**30
_NETWORKS = {"PlainConvUNet": False, "ResidualEncoderUNet": True}


def is_nnunet(folder: Path) -> bool:
    """A result folder: plans and labels beside folders of folds."""
    return (folder / "plans.json").is_file() and (folder / "dataset.json").is_file()


def read_nnunet(folder: Path) -> tuple[list[dict[str, Tensor]], ModelCard]:
    """Weights of each fold, and a card without their hash.

    Raises: UnreadableFile, UnsupportedFormat, with what is wrong or not known.
    """
    if not is_nnunet(folder):
        raise InputError(f"{folder}: is no result folder of nnU-Net: plans.json and dataset.json lie beside its folds")
    plans, data = read_mapping(folder / "plans.json"), read_mapping(folder / "dataset.json")
    files = [p for fold in sorted(folder.glob("fold_*")) for p in _checkpoint(fold)]
    if not files:
        raise InputError(f"{folder}: no fold holds a checkpoint_final.pth or checkpoint_best.pth")
    name = folder.name.rpartition("__")[2]
    if name not in plans.get("configurations", {}):
        name = next((n for n in ("3d_fullres", "2d", "3d_lowres") if n in plans.get("configurations", {})), "")
    if not name:
        raise UnreadableFile(f"{folder}: its plans hold no configuration")
    try:
        spec = _spec(plans, _inherited(plans["configurations"], name), data, len(files))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UnreadableFile(f"{folder}: the plans are not those of nnU-Net v2 ({cause_of(error)})") from error
    found = []
    for file in files:
        tensors, mirrored = _weights(file)
        with_weights(build_of(spec, bare=True), tensors, file)  # every one must fit
        found.append(tensors)
        spec = spec.model_copy(update={"flips": tuple(a + (1 if spec.flat else 0) for a in mirrored)})
    intensities = plans.get("foreground_intensity_properties_per_channel", {})
    card = ModelCard(
        "segment",
        spec.network.name,
        ("labels",),
        (),
        (),
        network=spec.model_dump(mode="json"),
        preparation=spec.preparation.model_dump(mode="json"),
        training={
            "data": str(plans.get("dataset_name", "unknown")),
            "cases": data.get("numTraining"),
            "kind": "trained by nnU-Net v2",
            "intensities": intensities,
        },
        lineage={"from": "nnU-Net v2", "configuration": name, "folds": [f.parent.name for f in files]},
        intended_use="Research only; not for clinical use. Brought from nnU-Net: nothing was measured here.",
        licence=str(data.get("licence", data.get("license", "unspecified: ask whoever trained it"))),
    )
    return found, card


def _checkpoint(fold: Path) -> list[Path]:
    """The checkpoint of a fold: the final one, or the best."""
    names = ("checkpoint_final.pth", "checkpoint_best.pth")
    return next(([fold / name] for name in names if (fold / name).is_file()), [])


def _inherited(configurations: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A configuration with what it takes over from another."""
    own, seen = dict(configurations[name]), {name}
    while "inherits_from" in own:
        parent = own.pop("inherits_from")
        if parent in seen:
            raise ValueError(f"{name} inherits from itself")
        seen.add(parent)
        own = {**configurations[parent], **own}
    return own


def _spec(plans: Mapping[str, Any], own: Mapping[str, Any], data: Mapping[str, Any], members: int) -> Spec:
    if list(plans.get("transpose_forward", [0, 1, 2])) != [0, 1, 2]:
        raise UnsupportedFormat("its plans exchange the axes of images (transpose_forward), which is not done here yet")
    patch = tuple(int(n) for n in own["patch_size"])
    dims = len(patch)
    spacing = [float(s) for s in own["spacing"]]
    spacing_mm = (spacing[0], spacing[1], spacing[2]) if dims == 3 else (1.0, spacing[0], spacing[1])
    named = data.get("channel_names", data.get("modality", {"0": "image"}))
    channels = {key: named[key] for key in sorted(named, key=int)}  # their order in the file means nothing
    labels = data["labels"]
    odd = [name for name, value in labels.items() if not isinstance(value, int)]
    if odd:
        raise UnsupportedFormat(f"its label {odd[0]!r} is a region of several values, which is not done here yet")
    return Spec(
        task="segment",
        labels={int(v): str(n) for n, v in labels.items() if int(v) != 0},
        channels=tuple(map(str, channels.values())),
        preparation=Preparation(
            dims=3 if dims == 3 else 2,
            spacing_mm=spacing_mm,
            channels=len(channels),
            **_intensity(plans, own, channels),
        ),
        patch=patch,
        network=NetworkSpec(name="dynamic_unet", settings=_settings(own, dims)),
        members=members,
    )


def _intensity(plans: Mapping[str, Any], own: Mapping[str, Any], channels: Mapping[str, Any]) -> dict[str, Any]:
    """How channels are scaled; one way for all of them."""
    schemes = set(own["normalization_schemes"])
    if any(own.get("use_mask_for_norm", ())):
        raise UnsupportedFormat("its images are scaled within a mask of what is not zero, which is not done here yet")
    if schemes == {"ZScoreNormalization"}:
        return {"intensity": "zscore"}
    if schemes == {"NoNormalization"}:
        return {"intensity": "none"}
    if schemes == {"RGBTo01Normalization"}:
        return {"intensity": "range", "low": (0.0,) * len(channels), "high": (255.0,) * len(channels)}
    if schemes != {"CTNormalization"}:
        raise UnsupportedFormat(f"its images are scaled by {', '.join(sorted(schemes))}, which is not done here yet")
    rows = [plans["foreground_intensity_properties_per_channel"][key] for key in channels]
    return {
        "intensity": "foreground", "low": tuple(float(r["percentile_00_5"]) for r in rows),
        "high": tuple(float(r["percentile_99_5"]) for r in rows), "mean": tuple(float(r["mean"]) for r in rows),
        "deviation": tuple(max(float(r["std"]), 1e-8) for r in rows),
    }  # fmt: skip


def _settings(own: Mapping[str, Any], dims: int) -> dict[str, Any]:
    """The network's settings, of today's plans and of those before 2024."""
    if "architecture" in own:
        kind = str(own["architecture"]["network_class_name"]).rpartition(".")[2]
        if kind not in _NETWORKS:
            raise UnsupportedFormat(f"its network is {kind}; read are {', '.join(_NETWORKS)}")
        given = own["architecture"]["arch_kwargs"]
        down = given.get("n_conv_per_stage", given.get("n_blocks_per_stage"))
        return {
            "widths": tuple(given["features_per_stage"]),
            "strides": _triples(given["strides"], dims),
            "kernels": _triples(given["kernel_sizes"], dims),
            "blocks": tuple(down),
            "norm": "instance",
            "blocks_up": tuple(given["n_conv_per_stage_decoder"]),
            "residual": _NETWORKS[kind],
            "bias": bool(given["conv_bias"]),
        }
    kind = str(own["UNet_class_name"])
    if kind not in _NETWORKS:
        raise UnsupportedFormat(f"its network is {kind}; read are {', '.join(_NETWORKS)}")
    count = len(own["conv_kernel_sizes"])
    first, most = int(own["UNet_base_num_features"]), int(own["unet_max_num_features"])
    return {
        "widths": tuple(min(first * 2**i, most) for i in range(count)),
        "strides": _triples(own["pool_op_kernel_sizes"], dims),
        "kernels": _triples(own["conv_kernel_sizes"], dims),
        "blocks": tuple(own["n_conv_per_stage_encoder"]),
        "blocks_up": tuple(own["n_conv_per_stage_decoder"]),
        "residual": _NETWORKS[kind],
        "bias": True,
        "norm": "instance",
    }


def _triples(values: Any, dims: int) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(int(v) for v in row) if isinstance(row, list) else (int(row),) * dims for row in values)


def _weights(path: Path) -> tuple[dict[str, Tensor], tuple[int, ...]]:
    """Weights by our names, and the axes over which nnU-Net mirrored.

    Raises: UnreadableFile for a checkpoint that holds more than weights and plain data.
    """
    import numpy as np

    if path.stat().st_size > _MOST_BYTES:
        raise UnreadableFile(f"{path}: is larger than {_MOST_BYTES >> 30} GiB")
    # The log within a checkpoint holds numpy's numbers, which are plain data and run nothing.
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8")]
    plain: list[Any] = [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *kinds]
    try:
        with torch.serialization.safe_globals(plain):
            held = torch.load(path, map_location="cpu", weights_only=True)
        weights = held["network_weights"]
        axes = held.get("inference_allowed_mirroring_axes") or ()
        kept = {
            str(name).removeprefix("_orig_mod.").removeprefix("module."): value
            for name, value in weights.items()
            if isinstance(value, Tensor)
        }
    except Exception as error:  # whatever the reader says, nothing of it is run
        raise UnreadableFile(
            f"{path}: is no checkpoint of nnU-Net that can be read safely ({cause_of(error)})"
        ) from error
    # The decoder holds the encoder once more, and each block its layers twice.
    own = {n: v for n, v in kept.items() if not n.startswith("decoder.encoder.") and ".all_modules." not in n}
    return own, tuple(int(a) for a in axes)
