"""How good a map is: what happens to the answer when the image is taken away, or shown, in its order."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from isocenter.types import Array

_LEAST_FALL, _LEAST_GAIN = 0.05, 0.01


@dataclass(frozen=True, eq=False)
class Quality:
    """Curves of one map.

    Args:
        share: of the voxels that are taken away or shown.
        deletion: probability as the highest voxels are replaced by a blurred image first; a good map falls early.
        insertion: probability as they are shown first on a blurred image; a good map rises early.
        random: the deletion curve of random orders, mean of several: what a map must beat.
        random_areas: under each of these.
    """

    share: Array = field(repr=False)
    deletion: Array = field(repr=False)
    insertion: Array = field(repr=False)
    random: Array = field(repr=False)
    random_areas: tuple[float, ...] = ()

    @property
    def verdict(self) -> Literal["better", "no better", "cannot be told"]:
        """Whether the map finds what matters sooner than random orders do.

        It must beat each of them, and by a hundredth. Where the answer hardly moves even when all is blurred away, no
        order can be told from another.
        """
        if float(np.ptp(np.concatenate((self.deletion, self.random)))) < _LEAST_FALL:
            return "cannot be told"
        best = min(self.random_areas, default=self.random_auc)
        return "better" if self.deletion_auc < best - _LEAST_GAIN else "no better"

    @property
    def deletion_auc(self) -> float:
        """Area under the deletion curve; small is good."""
        return float(np.trapezoid(self.deletion, self.share))

    @property
    def insertion_auc(self) -> float:
        """Area under the insertion curve; large is good."""
        return float(np.trapezoid(self.insertion, self.share))

    @property
    def random_auc(self) -> float:
        """Area under the deletion curve of random orders."""
        return float(np.trapezoid(self.random, self.share))


def quality(
    probability: Callable[[Array], float], image: Array, heat: Array, *, steps: int = 16, seed: int = 0, draws: int = 3
) -> Quality:
    """Deletion and insertion curves of a map.

    Args:
        probability: of the class that is asked about, for one prepared image (`c *s`).
        image: prepared.
        heat: the map, `*s`.
        steps: points of the curves.
        seed: of the random orders.
        draws: how many of them.
    Source: V. Petsiuk et al., BMVC 2018, section 3.3.
    """
    from scipy import ndimage

    shape = image.shape[1:]
    sigma = [0.0, *(max(1.0, n / 8) for n in shape)]
    blurred = np.asarray(ndimage.gaussian_filter(image, sigma), np.float32)
    shares = np.linspace(0, 1, steps + 1)
    order = np.argsort(-heat.ravel(), kind="stable")
    rng = np.random.default_rng(seed)

    def curve(ranks: Array, start: Array, end: Array) -> Array:
        found = []
        for share in shares:
            changed = np.zeros(len(ranks), np.bool_)
            changed[ranks[: round(share * len(ranks))]] = True
            found.append(probability(np.where(changed.reshape(shape), end, start)))
        return np.asarray(found)

    randoms = [curve(rng.permutation(len(order)), image, blurred) for _ in range(draws)]
    areas = tuple(float(np.trapezoid(one, shares)) for one in randoms)
    return Quality(shares, curve(order, image, blurred), curve(order, blurred, image), np.mean(randoms, axis=0), areas)
