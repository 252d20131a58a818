"""A trained network as it is run: what it eats and gives, and its weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from isocenter.data.card import ModelCard
from isocenter.data.dataset import Answers
from isocenter.errors import InputError, UnreadableFile, cause_of
from isocenter.formats import model_folder
from isocenter.inference.columns import Column
from isocenter.inference.degradation import Degradation
from isocenter.inference.prepare import Preparation
from isocenter.optional import require

if TYPE_CHECKING:
    from torch import Tensor, nn


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


class _Told(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class _Point(_Told):
    threshold: float = Field(default=0.5, ge=0, le=1)


class _Calibration(_Told):
    method: Literal["none", "platt", "temperature", "isotonic"] = "none"
    slope: float | None = None
    intercept: float | None = None
    temperature: Annotated[float, Field(gt=0)] | None = None
    scores: tuple[float, ...] | None = None
    rates: tuple[float, ...] | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> "_Calibration":
        wanted = {"platt": ("slope", "intercept"), "temperature": ("temperature",), "isotonic": ("scores", "rates")}
        lacking = next((name for name in wanted.get(self.method, ()) if getattr(self, name) is None), None)
        if lacking:
            raise ValueError(f"a calibration by {self.method} states {lacking}")
        return self


class _Conformal(_Told):
    quantiles: tuple[float | None, ...] | None = None
    reach: float | dict[str, float | None] | None = None
    coverage: float | None = None


_Reach = Annotated[tuple[tuple[float, ...], ...], Field(min_length=2, max_length=2)]


class _Gate(_Told):
    quantity: str | None = None
    shape: _Reach | None = None
    spacing_mm: _Reach | None = None
    extent_mm: _Reach | None = None
    prepared: dict[str, tuple[Any, ...]] | None = None
    frame_gap_s: tuple[float, float] | None = None
    object_edge: dict[str, tuple[float, float]] | None = None

    @model_validator(mode="after")
    def _has_axes(self) -> "_Gate":
        for name in ("shape", "spacing_mm", "extent_mm"):
            given = getattr(self, name)
            if given is not None and any(len(row) != 3 for row in given):
                raise ValueError(f"{name} holds three numbers for the least and three for the most")
        return self


class _Promises(BaseModel):
    """What a card states beside the network, as far as a prediction uses it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    operating_point: _Point
    calibration: _Calibration
    conformal: _Conformal
    gate: _Gate


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
        stated = {name: getattr(card, name) for name in _Promises.model_fields}
        _Promises.model_validate(stated)
    except ValidationError as error:
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
