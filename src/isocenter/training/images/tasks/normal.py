"""What is usual: images of one kind to learn from; judged by how well others of that kind are built again."""

import numpy as np
from torch import nn

from isocenter.inference.unusual import rebuilding_errors
from isocenter.metrics.decision import auc
from isocenter.training.images.plan import Plan
from isocenter.training.images.store import Store
from isocenter.training.images.tasks.makers import Makers, stacked
from isocenter.training.images.validation import Validated
from isocenter.types import Array


class Normal(Makers):
    """Images built again from a few numbers; learnt from normal ones alone."""

    def lacking(self, store: Store, plan: Plan) -> str:
        """One of them must be normal: they say from where on a case is unusual."""
        odd = bool(unusual_of(store, plan).all())
        return f"is normal ({plan.normal}), so from where on one is unusual could not be chosen" if odd else ""

    def validate(self, run: nn.Module, store: Store, plan: Plan, *, thorough: bool = False) -> Validated:
        """Squared error on the normal cases, by which it is chosen; and the area under the curve, if others are there.

        Its scores are these errors.
        """
        images, odd = stacked(store), unusual_of(store, plan)
        errors = rebuilding_errors(run, images)
        loss = float(errors[~odd].mean()) if (~odd).any() else float(errors.mean())
        metrics = {"normal_loss": loss}
        if odd.any() and not odd.all():
            metrics["error_auc"] = auc(odd.astype(np.int64), errors)
        return Validated(-loss, metrics, errors)


def unusual_of(store: Store, plan: Plan) -> Array:
    """Cases that are stated to be of another class than the normal one (`n` booleans)."""
    return np.asarray([bool(plan.normal) and i.sample.target not in ("", plan.normal) for i in store.items])
