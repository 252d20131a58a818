"""Models that were trained elsewhere: nnU-Net's result folders."""

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
torch.set_num_threads(1)

from isocenter.data.geometry import Geometry  # noqa: E402
from isocenter.data.volume import Volume  # noqa: E402
from isocenter.errors import InputError, UnreadableFile, UnsupportedFormat  # noqa: E402
from isocenter.inference.model import load  # noqa: E402
from isocenter.inference.nnunet import read_nnunet  # noqa: E402
from isocenter.networks.catalogue import build  # noqa: E402
from isocenter.pipeline.image_prediction import Predictor  # noqa: E402
from isocenter.pipeline.model_add import model_add  # noqa: E402
from tests.command import cli  # noqa: E402


def result_folder(
    folder: Path, *, folds: int = 2, residual: bool = False, old: bool = False, extra: object = None
) -> Path:
    """A folder as nnU-Net v2 leaves it, with its names, its doubled entries, and numpy's numbers in the log."""
    folder.mkdir()
    strides, kernels = [[1, 1, 1], [2, 2, 2]], [[3, 3, 3], [3, 3, 3]]
    kind = "ResidualEncoderUNet" if residual else "PlainConvUNet"
    arguments = {
        "n_stages": 2, "features_per_stage": [4, 8], "strides": strides, "kernel_sizes": kernels, "n_conv_per_stage_decoder": [2],
        ("n_blocks_per_stage" if residual else "n_conv_per_stage"): [2, 2], "conv_bias": True,
    }  # fmt: skip
    own = {
        "patch_size": [16, 16, 16],
        "spacing": [2.0, 1.0, 1.0],
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
    }
    if old:
        own |= {
            "UNet_class_name": kind, "UNet_base_num_features": 4, "unet_max_num_features": 320, "conv_kernel_sizes": kernels,
            "pool_op_kernel_sizes": strides, "n_conv_per_stage_encoder": [2, 2], "n_conv_per_stage_decoder": [2],
        }  # fmt: skip
    else:
        own["architecture"] = {
            "network_class_name": f"dynamic_network_architectures.architectures.unet.{kind}",
            "arch_kwargs": arguments,
        }
    plans = {
        "dataset_name": "Dataset004",
        "transpose_forward": [0, 1, 2],
        "configurations": {"base": own, "3d_fullres": {"inherits_from": "base"}},
    }
    (folder / "plans.json").write_text(json.dumps(plans))
    data = {
        "labels": {"background": 0, "anterior": 1, "posterior": 2},
        "channel_names": {"0": "MRI"},
        "numTraining": 260,
        "licence": "CC BY-SA 4.0",
    }
    (folder / "dataset.json").write_text(json.dumps(data))
    settings = {"widths": (4, 8), "residual": residual, "norm": "instance"}
    for number in range(folds):
        torch.manual_seed(number)
        weights = build("dynamic_unet", settings, channels=1, outputs=3, dims=3).state_dict()
        doubled = {f"decoder.{n}": v for n, v in weights.items() if n.startswith("encoder.")}
        layers = {n.replace(".conv.", ".all_modules.0."): v for n, v in weights.items() if ".conv." in n}
        held = {"network_weights": {**weights, **doubled, **layers}, "inference_allowed_mirroring_axes": (0, 1, 2),
                "logging": {"ema_fg_dice": [np.float64(0.5), np.float32(0.25)]}, "trainer_name": "nnUNetTrainer", "extra": extra}  # fmt: skip
        (folder / f"fold_{number}").mkdir()
        torch.save(held, folder / f"fold_{number}" / "checkpoint_final.pth")
    return folder


@pytest.mark.parametrize(("residual", "old"), [(False, False), (True, False), (False, True)])
def test_it_answers_as_its_own_networks_do(tmp_path: Path, residual: bool, old: bool) -> None:
    source = result_folder(tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres", residual=residual, old=old)
    done = cli("model", "add", source, "-o", tmp_path / "m") if old else None
    if done is None:
        model_add(source, tmp_path / "m")
    else:
        assert done.returncode == 0, done.stderr
        assert "2 networks" in done.stdout
    model = load(tmp_path / "m")
    assert model.spec.labels == {1: "anterior", 2: "posterior"}
    assert (model.spec.members, model.spec.flips, model.spec.preparation.spacing_mm) == (2, (0, 1, 2), (2.0, 1.0, 1.0))
    assert model.card.licence == "CC BY-SA 4.0"
    window = torch.randn(1, 1, 16, 16, 16)
    for number, module in enumerate(model.modules):
        torch.manual_seed(number)
        twin = build("dynamic_unet", {"widths": (4, 8), "residual": residual}, channels=1, outputs=3, dims=3).eval()
        with torch.no_grad():
            assert torch.equal(module(window), twin(window))
    grid = Geometry.regular((10, 24, 24), spacing_mm=(2.0, 1.0, 1.0))
    answer = Predictor(model)(Volume(np.random.default_rng(0).normal(size=(1, 10, 24, 24)), grid))
    assert answer.labels is not None
    assert answer.labels.voxels.shape == grid.shape


class Payload:
    """What a pickle would run."""

    def __reduce__(self):
        return (Path.touch, (Path("/tmp/isocenter-was-here"),))


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    source = result_folder(tmp_path / "a__b__3d_fullres", folds=1, extra=Payload())
    with pytest.raises(UnreadableFile, match="read safely"):
        model_add(source, tmp_path / "m")
    assert not Path("/tmp/isocenter-was-here").exists()
    assert not (tmp_path / "m").exists()


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    source = result_folder(tmp_path / "a__b__3d_fullres", folds=1)
    plans = json.loads((source / "plans.json").read_text())
    plans["configurations"]["base"]["architecture"]["arch_kwargs"]["features_per_stage"] = [4, 16]
    (source / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(UnreadableFile, match="do not fit the network"):
        read_nnunet(source)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"normalization_schemes": ["RescaleTo01Normalization"]}, "RescaleTo01Normalization"),
        ({"use_mask_for_norm": [True]}, "within a mask"),
        ({"architecture": {"network_class_name": "a.b.Primus", "arch_kwargs": {}}}, "its network is Primus"),
        ({"patch_size": None}, "not those of nnU-Net v2"),
    ],
)
def test_what_is_not_known_is_said(tmp_path: Path, change: dict, says: str) -> None:
    source = result_folder(tmp_path / "a__b__3d_fullres", folds=1)
    plans = json.loads((source / "plans.json").read_text())
    plans["configurations"]["base"] |= change
    (source / "plans.json").write_text(json.dumps(plans))
    with pytest.raises((UnsupportedFormat, UnreadableFile), match=says):
        read_nnunet(source)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("net.h5", "tf2onnx"),
        ("net.keras", "tf2onnx"),
        ("net.pth", "may run code"),
        ("net.pkl", "may run code"),
        ("net.txt", "is no model that is read"),
    ],
)
def test_other_files_are_refused_with_what_to_do(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError, match=says):
        model_add(tmp_path / name, tmp_path / "m")
