"""A trained network as it is run: what it eats and gives, and its weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from isocenter.data.card import ModelCard
from isocenter.data.dataset import Answers
from isocenter.errors import InputError, UnreadableFile, cause_of
from isocenter.formats import model_folder
from isocenter.inference.columns import Column
from isocenter.inference.degradation import Degradation
from isocenter.inference.prepare import Preparation
from isocenter.inference.stated import Stated
from isocenter.optional import require

if TYPE_CHECKING:
    from torch import Tensor, nn


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


class NetworkSpec(BaseModel):
    """Which network."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="In the catalogue; see `isocenter networks`.")
    settings: dict[str, Any] = Field(default_factory=dict, description="What differs from the catalogue's row.")

    @field_validator("settings", mode="before")
    @classmethod
    def _fixed(cls, value: Any) -> Any:
        """Lists as tuples: a plan read from its file is the plan that was written."""
        return {key: _tuples(item) for key, item in value.items()} if isinstance(value, dict) else value


_MOST_VOXELS = 2**27
"""That a network looks at at once."""


class Spec(BaseModel):
    """What a network eats and gives.

    A model's card holds it; with the weights it is all that a prediction needs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: Answers
    classes: tuple[str, ...] = ()
    labels: dict[int, str] = Field(default_factory=dict)
    channels: tuple[str, ...] = ("image",)
    preparation: Preparation
    patch: tuple[int, ...]
    network: NetworkSpec
    answer: Literal["softmax", "sigmoid", "value", "boxes", "picture", "sample", "rebuilt"] = "softmax"
    flips: tuple[int, ...] = Field(default=(), description="Axes (d, h, w) over whose flips predictions are averaged.")
    value_scale: tuple[float, float] = Field(
        default=(0.0, 1.0), description="regress: a value is the network's number times the second, and the first more."
    )
    frames: int = Field(default=0, ge=0, description="Of a sequence, at most; 0: the network looks at images.")
    each_frame: bool = Field(default=False, description="Each frame has an answer.")
    columns: tuple[Column, ...] = Field(default=(), description="Of a table, beside the image.")
    degradation: Degradation | None = Field(
        default=None, description="enhance: what is undone; None: it was learnt from pairs of images."
    )
    members: int = Field(default=1, ge=1, le=64, description="Networks whose answers are averaged.")

    @model_validator(mode="after")
    def _fits(self) -> "Spec":
        axes = {1, 2} if self.preparation.dims == 2 else {0, 1, 2}
        if not self.patch or not all(n >= 1 for n in self.patch):
            raise ValueError(f"patch has edges of 1 or more; got {self.patch}")
        for name, edges in (("patch", self.patch), ("size", self.preparation.size or ())):
            if prod(edges) > _MOST_VOXELS or (edges and len(edges) != self.preparation.dims):
                raise ValueError(
                    f"{name} has {self.preparation.dims} edges, and at most {_MOST_VOXELS} voxels; got {tuple(edges)}"
                )
        own = self.network.settings.get("size")
        if self.task in ("generate", "anomaly") and own is not None and tuple(own) != self.preparation.size:
            raise ValueError(
                f"the network makes images of {tuple(own)}, and preparation.size is {self.preparation.size}"
            )
        kinds = {
            "classify": ("softmax", "sigmoid"),
            "regress": ("value",),
            "segment": ("softmax",),
            "detect": ("boxes",),
            "enhance": ("picture",),
            "generate": ("sample",),
            "anomaly": ("rebuilt",),
            "forecast": ("picture",),
        }
        if self.answer not in kinds[self.task]:
            raise ValueError(f"a network that answers with {self.answer} does not {self.task}")
        for names in (self.classes, () if self.task == "detect" else tuple(self.labels.values())):
            if len(set(names)) < len(names) or not all(name.strip() for name in names):
                raise ValueError(f"classes and labels have names, each its own; got {names}")
        if not set(self.flips) <= axes or len(set(self.flips)) != len(self.flips):
            raise ValueError(f"flips are axes of a volume (d, h, w), each once: of {sorted(axes)}; got {self.flips}")
        return self

    @property
    def outputs(self) -> int:
        """Numbers that the network gives for each image, voxel or object."""
        channels = self.preparation.channels
        counts = {
            "regress": 1, "segment": len(self.labels) + 1, "enhance": channels, "anomaly": 0, "forecast": channels,
        }  # fmt: skip
        return counts.get(self.task, len(self.classes))

    @property
    def inputs(self) -> int:
        """Channels of the network: of the image, and one for each column."""
        return self.preparation.channels + len(self.columns)

    @property
    def flat(self) -> bool:
        """The network takes slices."""
        return self.preparation.dims == 2

    @property
    def factor(self) -> tuple[int, int, int]:
        """By how much the grid of an answer is finer than that of its image, along (d, h, w)."""
        return (1, 1, 1) if self.degradation is None else self.degradation.factor


@dataclass(frozen=True, eq=False)
class NetworkModel:
    """A model that was trained on images.

    Args:
        card: what it states.
        spec: what it eats and gives.
        modules: its networks, in evaluation; more than one are averaged.
        folder: where it lies.
    """

    card: ModelCard
    spec: Spec
    modules: tuple["nn.Module", ...] = field(repr=False)
    folder: Path


def spec_of(card: ModelCard) -> Spec:
    """What the card says of the network.

    Raises: UnreadableFile for what no network of ours is.
    """
    try:
        found = Spec.model_validate(card.network)
        stated = Stated.model_validate({name: getattr(card, name) for name in Stated.model_fields})
        stated.require_for(found.task, len(found.classes))
    except ValueError as error:  # pydantic's, too
        raise UnreadableFile(f"the model card describes no network that is known here ({cause_of(error)})") from error
    if found.task != card.task or found.classes != tuple(card.classes):
        raise UnreadableFile(
            "the model card contradicts itself: its network has another task, or classes in another order"
        )
    return found


def build_of(spec: Spec, *, bare: bool = False) -> "nn.Module":
    """The network with fresh weights; or bare, for weights that are about to be put in."""
    from isocenter.networks.catalogue import build, build_bare

    return (build_bare if bare else build)(
        spec.network.name, spec.network.settings, channels=spec.inputs, outputs=spec.outputs,
        dims=spec.preparation.dims,
    )  # fmt: skip


def load(folder: Path) -> NetworkModel:
    """A model of images from its folder.

    Raises: InputError for a folder without one; UnreadableFile for one that was tampered with.
    """
    card = model_folder.read_card(folder)
    if not card.network:
        raise InputError(f"{folder}: is a model of tables; it predicts rows, not images")
    spec = spec_of(card)
    require("torch", extra="learn")
    if spec.network.name == "onnx":
        from isocenter.inference.onnx_network import OnnxNetwork

        graph = model_folder.read_graph(folder, card)
        network = OnnxNetwork(graph, folder / model_folder.GRAPH, outputs=spec.outputs, **spec.network.settings)
        return NetworkModel(card, spec, (network,), folder)
    tensors = model_folder.read_tensors(folder, card)
    modules = []
    for number in range(spec.members):
        module = build_of(spec, bare=True)
        modules.append(with_weights(module, tensors if spec.members == 1 else _under(tensors, f"{number}."), folder))
    return NetworkModel(card, spec, tuple(modules), folder)


def with_weights(module: "nn.Module", tensors: Mapping[str, "Tensor"], where: Path) -> "nn.Module":
    """The network with these weights, every one of which must fit.

    Raises: UnreadableFile.
    """
    own = module.state_dict()
    odd = sorted(set(own) ^ set(tensors)) or sorted(n for n, t in own.items() if t.shape != tensors[n].shape)
    if odd:
        raise UnreadableFile(f"{where}: the weights do not fit the network that the card describes ({odd[0]})")
    kinds = [name for name, value in own.items() if value.is_floating_point() != tensors[name].is_floating_point()]
    if kinds:
        raise UnreadableFile(
            f"{where}: {kinds[0]} holds {tensors[kinds[0]].dtype}, and the network wants other numbers"
        )
    module.load_state_dict(dict(tensors), assign=True)
    return module.eval()


def _under(tensors: Mapping[str, "Tensor"], prefix: str) -> dict[str, "Tensor"]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
