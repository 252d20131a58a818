"""Networks beside their published sizes, and the shapes that they give."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
torch.set_num_threads(1)  # the tests run side by side

from isocenter.errors import InputError  # noqa: E402
from isocenter.networks.catalogue import NETWORKS, build, build_bare, settings_of  # noqa: E402
from isocenter.networks.layers import count_parameters  # noqa: E402

# Weights with 3 channels and 1000 classes: AlexNet (one stream), VGG and ResNet as their papers' tables give them and
# torchvision's documentation lists them; Inception v1 without auxiliary classifiers and with biases: Szegedy et al.,
# table 1; DenseNet-121 and EfficientNet-B0: torchvision's documentation.
PUBLISHED = {
    "alexnet": 61_100_840, "vgg11": 132_863_336, "vgg13": 133_047_848, "vgg16": 138_357_544, "vgg19": 143_667_240,
    "resnet18": 11_689_512, "resnet34": 21_797_672, "resnet50": 25_557_032, "inception": 6_998_552,
    "densenet": 7_978_856, "efficientnet": 5_288_548,
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(name: str) -> None:
    assert count_parameters(build_bare(name, {}, channels=3, outputs=1000, dims=2)) == PUBLISHED[name]


def test_vit_b16_but_for_what_monai_adds() -> None:
    """Dosovitskiy et al.: 86,567,656. MONAI's blocks hold a norm for cross-attention each, and one bias less."""
    found = count_parameters(build_bare("vit", {}, channels=3, outputs=1000, dims=2))
    assert found == 86_567_656 + 12 * 2 * 768 - 768


def test_the_first_layers_of_a_textbook_cnn() -> None:
    """Two blocks of 3 x 3 on one channel, pooled onto 4 x 4: 320 + 18,496 + 131,200 + 258 weights, by hand."""
    assert count_parameters(build("cnn", {}, channels=1, outputs=2, dims=2)) == 320 + 18_496 + 131_200 + 258


SMALL = {
    "vgg11": {"hidden": 16}, "vgg13": {"hidden": 16}, "vgg16": {"hidden": 16}, "vgg19": {"hidden": 16},
    "vit": {"width": 24, "layers": 1, "heads": 2, "size": (32, 32)}, "swin_unetr": {"width": 12},
}  # fmt: skip


@pytest.mark.parametrize("name", [n for n in NETWORKS if n not in {"vgg13", "vgg19"}])
def test_every_network_answers_in_its_dimensions(name: str) -> None:
    row = NETWORKS[name]
    for dims in row.dims:
        if dims == 3 and (name.startswith(("vgg", "deeplab")) or name in {"resnet34", "resnet50"}):
            continue  # the same code, in minutes
        given = {"size": (32,) * dims} if name == "vit" else {}
        outputs = {"picture": 2, "normal": 0}.get(
            row.answers, 3
        )  # a better image has the channels of the one that came
        if row.answers in ("sample", "normal"):
            given = {"size": (32,) * dims, "widths": (4, 8), "latent": 6}
        if row.answers == "object":
            given = {"widths": (4, 8, 8, 8, 8)} | ({} if name == "detr" else {"channels": 8})
        if row.answers in ("sequence", "next"):
            given = {"widths": (4, 8)} if row.answers == "sequence" else {"hidden": (4,)}
            outputs = 3 if row.answers == "sequence" else 2
        module = build(name, {**SMALL.get(name, {}), **given}, channels=2, outputs=outputs, dims=dims).eval()
        edge = max(32, row.least)
        with torch.no_grad():
            if row.answers == "sample":
                answer = module.sample(torch.zeros(1, 6), torch.tensor([1]))
            elif row.answers in ("sequence", "next"):  # three frames, and the time in the last channel
                answer = module(torch.zeros(1, 3, 3, *(edge,) * dims))
            else:
                answer = module(torch.zeros(1, 2, *(edge,) * dims))
        if row.answers == "object":
            assert len(answer) == 1
            assert answer[0].boxes.shape[1:] == (2, dims)
            continue
        shapes = {"image": (1, 3), "sequence": (1, 3), "voxel": (1, 3, *(edge,) * dims)}
        assert answer.shape == shapes.get(row.answers, (1, 2, *(edge,) * dims))


@pytest.mark.parametrize("name", ["unet", "residual_unet", "attention_unet", "deeplab"])
def test_any_size(name: str) -> None:
    module = build(name, {}, channels=1, outputs=2, dims=2).eval()
    with torch.no_grad():
        assert module(torch.zeros(1, 1, 45, 62)).shape == (1, 2, 45, 62)


def test_deep_supervision_answers_coarser_while_training() -> None:
    module = build("dynamic_unet", {"widths": (4, 8, 16, 32)}, channels=1, outputs=2, dims=3)
    finest, coarser = module.train()(torch.zeros(1, 1, 16, 16, 16))
    assert finest.shape[2:] == (16, 16, 16)
    assert coarser.shape[2:] == (8, 8, 8)


def test_strides_and_kernels_of_thick_slices() -> None:
    settings = {"widths": (4, 8), "strides": ((1, 1, 1), (1, 2, 2)), "kernels": ((1, 3, 3), (3, 3, 3))}
    module = build("dynamic_unet", settings, channels=1, outputs=2, dims=3).eval()
    with torch.no_grad():
        assert module(torch.zeros(1, 1, 5, 8, 8)).shape == (1, 2, 5, 8, 8)
    assert module.encoder.stages[0][0].convs[0].conv.kernel_size == (1, 3, 3)


def test_a_convolution_sees_its_neighbours_only() -> None:
    """One block of a U-Net without pooling: a change reaches two voxels far and no farther."""
    torch.manual_seed(0)
    module = build("unet", {"widths": (4, 8), "norm": "none"}, channels=1, outputs=2, dims=2).eval()
    x = torch.zeros(1, 1, 64, 64)
    y = x.clone()
    y[..., 32, 32] = 1
    with torch.no_grad():
        moved = (module(y) - module(x)).abs().sum(dim=1)[0].numpy() > 1e-7
    reach = np.abs(np.argwhere(moved) - 32).max()
    assert 2 <= reach <= 16


@pytest.mark.parametrize(
    ("name", "given", "dims", "says"),
    [
        ("unett", {}, 2, "there is no network 'unett'"),
        ("alexnet", {}, 3, "2 dimensions"),
        ("unet", {"width": (4, 8)}, 2, "width: Extra inputs.*it has the fields kernel"),
        ("dynamic_unet", {"widths": (4, 8), "strides": ((1, 1),)}, 2, "2 are wanted for 2 stages"),
        ("cnn", {"kernel": 4}, 2, "a kernel is odd"),
        ("vit", {"width": 25, "heads": 2}, 2, "make no network"),
    ],
)
def test_refusals(name: str, given: dict, dims: int, says: str) -> None:
    with pytest.raises(InputError, match=says):
        build(name, given, channels=1, outputs=2, dims=dims)


def test_settings_are_those_of_the_catalogue_and_what_is_given() -> None:
    assert settings_of("resnet50", {"dropout": 0.2}).model_dump()["block"] == "bottleneck"
