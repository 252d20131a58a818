"""Trained weights to start from: taken over by name and shape, and what did not fit is listed."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from isocenter.errors import InputError, UnreadableFile, cause_of
from isocenter.formats import model_folder
from isocenter.inference.model import Spec, spec_of
from isocenter.optional import require
from isocenter.zoo import model_path

Freeze = Literal["none", "half", "all"]
_PREFIXES = ("", "module.", "model.", "network.", "net.", "backbone.", "encoder.", "0.")
_MOST_BYTES = 8 * 2**30


@dataclass(frozen=True, eq=False)
class Start:
    """Weights that were read.

    Args:
        tensors: by name.
        spec: of the network that they belong to; None for a bare file.
        origin: where they come from, for the card.
    """

    tensors: Mapping[str, Tensor]
    spec: Spec | None
    origin: dict[str, str]


@dataclass(frozen=True, eq=False)
class Taken:
    """What a network took over.

    Args:
        names: of its own tensors that were filled.
        fresh: of its own tensors that were not.
        unused: of the given tensors that fit nowhere.
        frozen: those of its parameters that do not learn.
    """

    names: tuple[str, ...]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]
    frozen: tuple[str, ...]

    @property
    def words(self) -> str:
        """In one line."""
        total = len(self.names) + len(self.fresh)
        fresh = f"; fresh: {_some(self.fresh)}" if self.fresh else ""
        unused = f"; not used: {_some(self.unused)}" if self.unused else ""
        frozen = f"; {len(self.frozen)} are frozen" if self.frozen else ""
        return f"{len(self.names)} of {total} weights were taken over{fresh}{unused}{frozen}"


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def read_start(source: str | Path) -> Start:
    """Weights of a model of ours, of a MONAI bundle, or of a bare `.safetensors` file (as timm's).

    Raises: InputError for what holds no weights; UnreadableFile for a damaged or pickled file.
    """
    path = Path(source)
    if path.is_file():
        if path.suffix.lower() != ".safetensors":
            raise InputError(
                f"{path}: weights are read from .safetensors, a model's folder or a MONAI bundle; other files may run "
                "code when they are opened"
            )
        return Start(_bare(path), None, {"file": path.name, "sha256": _hash(path)})
    if path.is_dir() and (path / "configs").is_dir() and not (path / model_folder.CARD).is_file():
        from isocenter.inference.bundle import bundle_weights

        file, tensors = bundle_weights(path)
        return Start(tensors, None, {"bundle": path.name, "sha256": _hash(file)})
    folder = model_path(source)
    card = model_folder.read_card(folder)
    if not card.network:
        raise InputError(f"{folder}: is a model of tables")
    spec = spec_of(card)
    if spec.members > 1:
        raise InputError(f"{folder}: is an ensemble of {spec.members} networks; start from one")
    origin = {"model": folder.name, "sha256": card.weights_sha256}
    return Start(model_folder.read_tensors(folder, card), spec, origin)


def _bare(path: Path) -> dict[str, Tensor]:
    if path.stat().st_size > _MOST_BYTES:
        raise UnreadableFile(f"{path}: weights are at most {_MOST_BYTES >> 30} GiB")
    safetensors = require("safetensors.torch", extra="learn")
    try:
        found = safetensors.load_file(path)
    except Exception as error:  # whatever the reader says, the file holds no weights
        raise UnreadableFile(f"{path}: holds no weights that can be read ({cause_of(error)})") from error
    return {name: value.float() if value.is_floating_point() else value for name, value in found.items()}


def _hash(path: Path) -> str:
    with path.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


def take_over(module: nn.Module, start: Start, *, freeze: Freeze = "none") -> Taken:
    """Fill a network with the tensors that fit by name and shape.

    A first convolution of three channels (colour) is summed for a network of one, as timm does.

    Args:
        module: changed in place.
        start: the weights.
        freeze: `none`; `half`: the first half of what was taken over does not learn; `all`: only what was not taken
            over learns (the last layer at least).
    Raises: InputError where nothing fits.
    """
    own = module.state_dict()
    given = _renamed(own, start.tensors)
    filled: dict[str, Tensor] = {}
    for name, value in own.items():
        other = given.get(name)
        if other is None:
            continue
        if other.shape == value.shape:
            filled[name] = other.to(value.dtype)
        elif other.ndim == value.ndim >= 4 and value.shape[1] == 1 and other.shape[1] == 3:
            summed = other.sum(dim=1, keepdim=True)
            if summed.shape == value.shape:
                filled[name] = summed.to(value.dtype)
    learnt = [name for name, _ in module.named_parameters()]
    taken = [name for name in learnt if name in filled]
    if not taken:
        raise InputError(
            f"no weight of {len(start.tensors)} fits this network by name and shape (theirs: "
            f"{_some(tuple(start.tensors))}; its own: {_some(tuple(own))}): choose the same --network"
        )
    module.load_state_dict({**own, **filled})
    last = learnt[-1].rpartition(".")[0]
    kept = [name for name in taken if not name.startswith(f"{last}.")]
    frozen = {"none": [], "half": kept[: len(kept) // 2], "all": kept}[freeze]
    fresh = tuple(name for name in own if name not in filled)
    unused = tuple(name for name in given if name not in filled)
    return Taken(tuple(filled), fresh, unused, tuple(frozen))


def _renamed(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The given tensors, without the prefix whose absence makes most names fit."""

    def fits(prefix: str) -> int:
        return sum(name.removeprefix(prefix) in own for name in given if name.startswith(prefix))

    best = max(_PREFIXES, key=fits)
    return {name.removeprefix(best): value for name, value in given.items()}


def frozen_in(module: nn.Module, names: tuple[str, ...]) -> list[nn.Module]:
    """Stop these parameters from learning; the modules whose statistics must stay as they are too.

    Raises: InputError for a name that the network does not have, or where nothing is left to learn.
    """
    known = dict(module.named_parameters())
    odd = [name for name in names if name not in known]
    if odd:
        raise InputError(f"the plan freezes {odd[0]!r}, which the network does not have")
    if len(names) == len(known) and names:
        raise InputError("the plan freezes every weight: nothing is left to learn")
    for name in names:
        known[name].requires_grad_(False)  # noqa: FBT003
    still = {name.rpartition(".")[0] for name in names}
    return [part for name, part in module.named_modules() if name in still]
