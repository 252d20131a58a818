"""What made images teach: one classifier learns from them, from real ones, from both, and is asked of real cases."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from isocenter.data.dataset import Sample
from isocenter.data.evaluation import Predictions
from isocenter.inference.answers import scored
from isocenter.inference.model import Spec
from isocenter.inference.torch_runtime import TorchRuntime
from isocenter.training.images.defaults.whole import Classes
from isocenter.training.images.loop import learn
from isocenter.training.images.plan import Plan, plan_of
from isocenter.training.images.store import Item, Store
from isocenter.types import Array, Progress

_ROUNDS, _BATCH, _LEAST, _MOST = 25, 64, 200, 2000
"""How often a classifier sees each image that it is taught with; and its steps at least and at most."""
_JUDGED_SHARE = 10


@dataclass(frozen=True, eq=False)
class School:
    """Who is taught, and by which cases it is judged.

    Args:
        spec: of the maker.
        training: real images to learn from.
        real: real images to judge by.
        seed: of everything random.
        on_progress: told each step.
    """

    spec: Spec
    training: Store
    real: Store
    seed: int
    on_progress: Progress | None = None


def taught(school: School, images: Array, kinds: Sequence[int]) -> dict[str, Predictions]:
    """What classifiers say of the real cases: taught with made images (`synthetic`), with `real` ones, with `both`.

    Source: C. Esteban et al., arXiv:1706.02633, 2017 (train on synthetic, test on real).

    Args:
        school: real images.
        images: made ones, `n c *s`, 0 to 1.
        kinds: class of each.
    """
    flat = school.spec.flat
    made = tuple(
        Item(Sample(f"made-{i}", ()), image[:, None] if flat else image, float(kind))
        for i, (image, kind) in enumerate(zip(images, kinds, strict=True))
    )
    own = school.training.items
    lessons = {"synthetic": made, "real": own, "both": (*own, *made)}
    return {name: _asked(school, name, _pupil(school, name, items)) for name, items in lessons.items()}


def _pupil(school: School, name: str, items: Sequence[Item]) -> TorchRuntime:
    """A classifier that learnt from these images."""
    plan = _plan(school)
    order = np.random.default_rng((school.seed, 11)).permutation(len(items))
    cut = max(2, len(order) // _JUDGED_SHARE)
    sides = [Store(tuple(_centred(items[i]) for i in part)) for part in (order[cut:], order[:cut])]
    tell = school.on_progress

    def say(what: str, done: int, total: int) -> None:
        if tell is not None:
            tell(f"taught with {name}: {what}", done, total)

    return TorchRuntime(learn(plan, sides[0], sides[1], on_progress=say).network)


def _asked(school: School, name: str, pupil: TorchRuntime) -> Predictions:
    items = school.real.items
    scores = scored(pupil, [_centred(item).image for item in items], _plan(school).spec)
    samples = [item.sample for item in items]
    return Predictions(
        "classify", tuple(s.case for s in samples), tuple(s.patient or f"case {s.case}" for s in samples),
        all(s.patient for s in samples), np.asarray([int(i.target) for i in items]), scores, school.spec.classes,
        name=name,
    )  # fmt: skip


def _centred(item: Item) -> Item:
    return replace(item, image=(np.asarray(item.image) - 0.5) * 4)


def _plan(school: School) -> Plan:
    """A small residual network with the usual augmentation, the same for every lesson."""
    spec, own = school.spec, Classes()
    steps = int(np.clip(_ROUNDS * len(school.training) // _BATCH, _LEAST, _MOST))
    size = spec.preparation.size or spec.patch
    return plan_of({
        "task": "classify", "classes": spec.classes, "channels": spec.channels,
        "preparation": {"dims": spec.preparation.dims, "size": size, "channels": spec.preparation.channels,
                        "intensity": "none"},
        "patch": size, "network": {"name": "resnet"}, "loss": {"name": "cross_entropy", "label_smoothing": 0.05},
        "augmentation": own.augmentation_for(max(size)), "seed": school.seed,
        "schedule": {"learning_rate": 2e-3, "weight_decay": 5e-2, "batch": _BATCH, "ema": 0.99, "steps": steps,
                     "validate_every": steps},
    }, "the lesson")  # fmt: skip
