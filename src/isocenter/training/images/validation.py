"""How good a network is on cases that it does not learn from."""

from dataclasses import dataclass, field

from isocenter.networks.detector import Found
from isocenter.types import Array


@dataclass(frozen=True, eq=False)
class Validated:
    """One look at the validation cases.

    Args:
        goodness: larger is better; by it trainings are compared.
        metrics: by name.
        scores: probabilities `n k`, or values `n`; None for a segmentation.
        each: mean Dice, or PSNR, of each case; empty for classes, values and objects.
        found: objects of each case; empty but for a detection.
        volumes: voxels `n k 2` of each label and, last, of all together: stated and found; None but for a segmentation.
    """

    goodness: float
    metrics: dict[str, float]
    scores: Array | None = field(default=None, repr=False)
    each: tuple[float, ...] = ()
    volumes: Array | None = field(default=None, repr=False)
    found: tuple[Found, ...] = field(default=(), repr=False)

    @property
    def told(self) -> str:
        """The main metric, in words."""
        name = next(
            n
            for n in ("dice", "map50", "psnr", "frechet", "normal_loss", "auc", "accuracy", "mae")
            if n in self.metrics
        )
        return f"{name} {self.metrics[name]:.3f}"
