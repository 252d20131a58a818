"""Every network by name: what can be set of it, what it answers, and where it comes from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

import torch
from pydantic import ValidationError
from torch import nn

from isocenter.errors import InputError
from isocenter.networks import (
    autoencoder,
    cnn,
    deeplab,
    detr,
    dynamic_unet,
    from_monai,
    fusion,
    gan,
    inception,
    mask_rcnn,
    pix2pix,
    recurrent,
    resnet,
    restorer,
    retinanet,
    unet,
)
from isocenter.networks.layers import NetworkSettings

GROUP = "isocenter.networks"
"""Entry points of other packages' networks: name -> a `Network`."""


Kind = Literal["image", "voxel", "object", "picture", "sample", "normal", "sequence", "next"]
"""What a network answers for."""


@dataclass(frozen=True)
class Network:
    """One row of the catalogue.

    Args:
        build: settings, then channels, outputs and dims by name -> a module that gives logits.
        settings: with the values of this row as its defaults.
        answers: `image` (one answer an image), `voxel` (one a voxel), `object` (boxes),
            `picture` (a better image), `sample` (new images), `normal` (how unusual an image is).
        dims: in how many dimensions it exists.
        source: where it is published.
        multiple: the input's size is a multiple of this on every axis; 1: any size.
        least: smallest edge of the input.
        bare: it can be built without numbers in its weights.
    """

    build: Callable[..., nn.Module]
    settings: NetworkSettings
    answers: Kind
    source: str
    dims: tuple[int, ...] = (2, 3)
    multiple: int = 1
    least: int = 1
    bare: bool = True


def _resnet(source_blocks: tuple[int, ...], *, bottleneck: bool = False) -> Network:
    settings = resnet.ResNetSettings(blocks=source_blocks, block="bottleneck" if bottleneck else "basic")
    return Network(resnet.ResNet, settings, "image", "He et al., CVPR 2016", least=32)


def _vgg(layers: Literal[11, 13, 16, 19]) -> Network:
    return Network(cnn.Vgg, cnn.VggSettings(layers=layers), "image", "Simonyan, Zisserman, ICLR 2015", least=32)


_SMALL_RESNET = resnet.ResNetSettings(blocks=(1, 1, 1), widths=(32, 64, 128), stem="small")

NETWORKS: Mapping[str, Network] = {
    "cnn": Network(cnn.Cnn, cnn.CnnSettings(), "image", "LeCun et al., Proc. IEEE 1998", least=4),
    "alexnet": Network(cnn.AlexNet, cnn.AlexNetSettings(), "image", "Krizhevsky, arXiv:1404.5997", least=63, dims=(2,)),
    "vgg11": _vgg(11), "vgg13": _vgg(13), "vgg16": _vgg(16), "vgg19": _vgg(19),
    "resnet": Network(resnet.ResNet, _SMALL_RESNET, "image", "He et al., CVPR 2016; for small images", least=8),
    "resnet18": _resnet((2, 2, 2, 2)), "resnet34": _resnet((3, 4, 6, 3)),
    "resnet50": _resnet((3, 4, 6, 3), bottleneck=True),
    "inception": Network(inception.Inception, inception.InceptionSettings(), "image", "Szegedy et al., CVPR 2015", least=32),
    "densenet": Network(from_monai.dense_net, from_monai.DenseNetSettings(), "image", "Huang et al., CVPR 2017; MONAI", least=32),
    "efficientnet": Network(from_monai.efficient_net, from_monai.EfficientNetSettings(), "image", "Tan, Le, ICML 2019; MONAI", least=32),
    "vit": Network(from_monai.vit, from_monai.ViTSettings(), "image", "Dosovitskiy et al., ICLR 2021; MONAI"),
    "unet": Network(unet.UNet, unet.UNetSettings(), "voxel", "Ronneberger et al., MICCAI 2015", least=16),
    "residual_unet": Network(unet.UNet, unet.UNetSettings(residual=True), "voxel", "Zhang et al., IEEE GRSL 2018", least=16),
    "attention_unet": Network(unet.UNet, unet.UNetSettings(attention=True), "voxel", "Oktay et al., arXiv:1804.03999", least=16),
    "dynamic_unet": Network(dynamic_unet.DynamicUNet, dynamic_unet.DynamicUNetSettings(), "voxel", "Isensee et al., Nat. Methods 2021"),
    "segresnet": Network(from_monai.seg_res_net, from_monai.SegResNetSettings(), "voxel", "Myronenko, BrainLes 2018; MONAI", multiple=8, least=16),
    "deeplab": Network(deeplab.DeepLab, deeplab.DeepLabSettings(), "voxel", "Chen et al., ECCV 2018", least=32),
    "retinanet": Network(retinanet.RetinaNet, retinanet.RetinaNetSettings(), "object", "Lin et al., ICCV 2017", multiple=32, least=64),
    "faster_rcnn": Network(mask_rcnn.MaskRCNN, mask_rcnn.MaskRCNNSettings(), "object", "Ren et al., NIPS 2015", multiple=32, least=64),
    "mask_rcnn": Network(mask_rcnn.MaskRCNN, mask_rcnn.MaskRCNNSettings(masks=True), "object", "He et al., ICCV 2017", multiple=32, least=64),
    "detr": Network(detr.DETR, detr.DETRSettings(), "object", "Carion et al., ECCV 2020", multiple=32, least=64),
    "restorer": Network(restorer.Restorer, restorer.RestorerSettings(), "picture", "Zhang et al., IEEE TIP 2017; Ronneberger et al., MICCAI 2015", least=16),
    "edsr": Network(restorer.Edsr, restorer.EdsrSettings(), "picture", "Lim et al., CVPR Workshops 2017"),
    "fusion": Network(fusion.MiddleFusion, fusion.FusionSettings(), "image", "Arevalo et al., ICLR Workshops 2017; several modalities", least=8),
    "late_fusion": Network(fusion.LateFusion, fusion.FusionSettings(), "image", "a network of each modality; several modalities", least=8),
    "fusion_unet": Network(fusion.FusionUNet, fusion.FusionUNetSettings(), "voxel", "Dolz et al., IEEE TMI 2019; several modalities", least=16),
    "recurrent": Network(recurrent.Recurrent, recurrent.RecurrentSettings(), "sequence", "Cho et al., EMNLP 2014; Donahue et al., CVPR 2015", least=8),
    "convlstm": Network(recurrent.ConvLSTM, recurrent.ConvLSTMSettings(), "next", "Shi et al., NIPS 2015", least=8),
    "pix2pix": Network(pix2pix.Pix2pix, pix2pix.Pix2pixSettings(), "picture", "Isola et al., CVPR 2017", least=16, bare=False),
    "dcgan": Network(gan.Dcgan, gan.DcganSettings(), "sample", "Radford et al., ICLR 2016", least=8, bare=False),
    "vae": Network(autoencoder.Vae, autoencoder.AutoencoderSettings(), "sample", "Kingma, Welling, ICLR 2014", least=8),
    "autoencoder": Network(autoencoder.Autoencoder, autoencoder.AutoencoderSettings(), "normal", "Hinton, Salakhutdinov, Science 2006", least=8),
    "vae_normal": Network(autoencoder.Vae, autoencoder.AutoencoderSettings(), "normal", "Kingma, Welling, ICLR 2014", least=8),
    "anogan": Network(autoencoder.Anogan, autoencoder.AnoganSettings(), "normal", "Schlegl et al., Med. Image Anal. 2019", least=8, bare=False),
    "swin_unetr": Network(from_monai.swin_unetr, from_monai.SwinUNETRSettings(), "voxel", "Hatamizadeh et al., BrainLes 2021; MONAI", least=64, bare=False),
}  # fmt: skip


def network(name: str) -> Network:
    """A row of the catalogue, or one that another package adds by the entry point `isocenter.networks`.

    Raises: InputError with the names there are.
    """
    if name in NETWORKS:
        return NETWORKS[name]
    others = {point.name: point for point in entry_points(group=GROUP)}
    if name in others:
        return _loaded(others[name])
    raise InputError(f"there is no network {name!r}; there are {', '.join((*NETWORKS, *sorted(others)))}")


def _loaded(point: EntryPoint) -> Network:
    found = point.load()
    if not isinstance(found, Network):
        raise InputError(f"the network {point.name!r} of {point.value} is no isocenter.networks.catalogue.Network")
    return found


def settings_of(name: str, given: Mapping[str, Any]) -> NetworkSettings:
    """Settings of a network: the catalogue's, and what is given.

    Raises: InputError that names the field.
    """
    row = network(name)
    try:
        return type(row.settings).model_validate({**row.settings.model_dump(), **given})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "settings"
        fields = ", ".join(type(row.settings).model_fields)
        raise InputError(f"network {name}: {where}: {first['msg']}; it has the fields {fields}") from error


def build_bare(name: str, given: Mapping[str, Any], *, channels: int, outputs: int, dims: int) -> nn.Module:
    """A network whose weights hold no numbers yet, where it can be built so: nothing is drawn for what is replaced."""
    with torch.device("meta" if network(name).bare else "cpu"):
        return build(name, given, channels=channels, outputs=outputs, dims=dims)


def build(name: str, given: Mapping[str, Any], *, channels: int, outputs: int, dims: int) -> nn.Module:
    """A network with fresh weights.

    Args:
        name: in the catalogue.
        given: settings that differ from the catalogue's.
        channels: of the input.
        outputs: classes, or values.
        dims: 2 or 3.
    Raises: InputError for a name or a setting that is not there, and dimensions in which the network does not exist.
    """
    row = network(name)
    if dims not in row.dims:
        raise InputError(f"{name} exists in {row.dims[0]} dimensions; the data has {dims}")
    settings = settings_of(name, given)
    try:
        return partial(row.build, settings)(channels=channels, outputs=outputs, dims=dims)
    except (ValueError, RuntimeError, TypeError) as error:
        raise InputError(f"network {name}: these settings make no network ({error})") from error
