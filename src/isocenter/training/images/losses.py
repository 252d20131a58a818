"""What training makes small, by name: classes, values, voxels."""

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from isocenter.errors import InputError
from isocenter.training.images.plan import LossPlan, Plan

GROUP = "isocenter.losses"
"""Entry points of other packages' losses: name -> `(logits, target, LossPlan) -> scalar`."""

Loss = Callable[[Tensor, Tensor, LossPlan], Tensor]


def _weights(plan: LossPlan, like: Tensor) -> Tensor | None:
    return torch.tensor(plan.class_weights, dtype=torch.float32, device=like.device) if plan.class_weights else None


def cross_entropy(logits: Float[Tensor, "b k *s"], target: Int[Tensor, "b *s"], plan: LossPlan) -> Float[Tensor, ""]:
    """Cross-entropy, weighted by class and with smoothed labels where the plan says so."""
    return F.cross_entropy(logits.float(), target.long(), _weights(plan, logits), label_smoothing=plan.label_smoothing)


def focal(logits: Float[Tensor, "b k *s"], target: Int[Tensor, "b *s"], plan: LossPlan) -> Float[Tensor, ""]:
    """Cross-entropy of each case times (1 - p)^gamma. Source: T.-Y. Lin et al., ICCV 2017, equation 5."""
    each = F.cross_entropy(logits.float(), target.long(), _weights(plan, logits), reduction="none")
    p = torch.softmax(logits.float(), dim=1).gather(1, target.long()[:, None])[:, 0]
    return (each * (1 - p) ** plan.gamma).mean()


def bce(logits: Float[Tensor, "b k *s"], target: Int[Tensor, "b *s"], plan: LossPlan) -> Float[Tensor, ""]:
    """One sigmoid a class, each against the rest."""
    wanted = F.one_hot(target.long(), logits.shape[1]).movedim(-1, 1).float()
    smooth = wanted * (1 - plan.label_smoothing) + plan.label_smoothing / logits.shape[1]
    return F.binary_cross_entropy_with_logits(logits.float(), smooth)


def ordinal(logits: Float[Tensor, "b k"], target: Int[Tensor, " b"], plan: LossPlan) -> Float[Tensor, ""]:
    """Squared distance of cumulative probabilities: far classes cost more than near ones.

    Source: L. Hou et al., arXiv:1611.05916, 2016 (squared earth mover's distance).
    """
    p = torch.softmax(logits.float(), dim=1).cumsum(dim=1)
    wanted = F.one_hot(target.long(), logits.shape[1]).float().cumsum(dim=1)
    return ((p - wanted) ** 2).sum(dim=1).mean() + 0.1 * cross_entropy(logits, target, plan)


def mse(values: Float[Tensor, "b 1"], target: Float[Tensor, " b"], plan: LossPlan) -> Float[Tensor, ""]:
    """Mean squared error."""
    return F.mse_loss(values[:, 0].float(), target.float())


def huber(values: Float[Tensor, "b 1"], target: Float[Tensor, " b"], plan: LossPlan) -> Float[Tensor, ""]:
    """Squared near, linear far (beyond one deviation). Source: P. Huber, Ann. Math. Stat. 35(1):73-101, 1964."""
    return F.huber_loss(values[:, 0].float(), target.float())


def l1(values: Float[Tensor, "b c *s"], target: Float[Tensor, "b c *s"], plan: LossPlan) -> Float[Tensor, ""]:
    """Mean absolute difference of intensities."""
    return F.l1_loss(values.float(), target.float())


def charbonnier(values: Float[Tensor, "b c *s"], target: Float[Tensor, "b c *s"], plan: LossPlan) -> Float[Tensor, ""]:
    """Root of squared difference and a small number: smooth at 0. Source: P. Charbonnier et al., ICIP 1994."""
    return torch.sqrt((values.float() - target.float()) ** 2 + 1e-6).mean()


def mse_image(values: Float[Tensor, "b c *s"], target: Float[Tensor, "b c *s"], plan: LossPlan) -> Float[Tensor, ""]:
    """Mean squared difference of intensities."""
    return F.mse_loss(values.float(), target.float())


def _overlaps(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Shared, predicted and true amounts of each class but background, over the whole batch."""
    p = torch.softmax(logits.float(), dim=1)[:, 1:]
    wanted = F.one_hot(target.long(), logits.shape[1]).movedim(-1, 1)[:, 1:].float()
    axes = (0, *range(2, p.ndim))
    return (p * wanted).sum(axes), p.sum(axes), wanted.sum(axes)


def dice(logits: Float[Tensor, "b k *s"], target: Int[Tensor, "b *s"], plan: LossPlan) -> Float[Tensor, ""]:
    """1 - soft Dice over the batch, mean over labels. Source: F. Milletari et al., 3DV 2016."""
    shared, said, true = _overlaps(logits, target)
    return 1 - ((2 * shared + 1) / (said + true + 1)).mean()


def dice_ce(logits: Float[Tensor, "b k *s"], target: Int[Tensor, "b *s"], plan: LossPlan) -> Float[Tensor, ""]:
    """Dice and cross-entropy, one to one, as nnU-Net sums them."""
    return dice(logits, target, plan) + cross_entropy(logits, target, plan)


def tversky(logits: Float[Tensor, "b k *s"], target: Int[Tensor, "b *s"], plan: LossPlan) -> Float[Tensor, ""]:
    """Overlap that weighs false positives by alpha and misses by 1 - alpha. Source: S. Salehi et al., MLMI 2017."""
    shared, said, true = _overlaps(logits, target)
    index = (shared + 1) / (shared + plan.alpha * (said - shared) + (1 - plan.alpha) * (true - shared) + 1)
    return 1 - index.mean()


def dice_boundary(logits: Float[Tensor, "b k *s"], target: Int[Tensor, "b *s"], plan: LossPlan) -> Float[Tensor, ""]:
    """Dice and cross-entropy, and 0.1 times the probability weighed by the signed distance from the true surface.

    Source: H. Kervadec et al., MIDL 2019, equation 5; distances in voxels over the patch's edge.
    """
    from scipy import ndimage

    p = torch.softmax(logits.float(), dim=1)[:, 1:]
    maps = torch.zeros_like(p)
    edge = max(p.shape[2:])
    for b, truth in enumerate(target.cpu().numpy()):
        for k in range(p.shape[1]):
            inside = truth == k + 1
            if inside.any() and not inside.all():
                signed = ndimage.distance_transform_edt(~inside) - ndimage.distance_transform_edt(inside)
                maps[b, k] = torch.from_numpy(signed / edge)
    return dice_ce(logits, target, plan) + 0.1 * (p * maps).mean()


LOSSES: Mapping[str, Any] = {
    "cross_entropy": cross_entropy, "focal": focal, "bce": bce, "ordinal": ordinal, "mse": mse, "huber": huber,
    "l1": l1, "charbonnier": charbonnier, "mse_image": mse_image,
    "dice": dice, "dice_ce": dice_ce, "tversky": tversky, "dice_boundary": dice_boundary,
}  # fmt: skip


PlannedLoss = Callable[[Tensor | list[Tensor], Tensor], Tensor]


def loss_of(plan: Plan) -> PlannedLoss:
    """The plan's loss; with deep supervision, coarser answers count half as much each.

    Raises: InputError for a loss that is not there.
    """
    found = LOSSES.get(plan.loss.name)
    if found is None:
        others = {point.name: point for point in entry_points(group=GROUP)}
        if plan.loss.name not in others:
            raise InputError(f"there is no loss {plan.loss.name!r}; there are {', '.join((*LOSSES, *sorted(others)))}")
        found = others[plan.loss.name].load()
    one: Loss = found

    def value(answer: Tensor | list[Tensor], target: Tensor) -> Tensor:
        if isinstance(answer, Tensor):
            return one(answer, target, plan.loss)
        weights = [0.5**i for i in range(len(answer))]
        total = torch.zeros((), device=target.device)
        for weight, logits in zip(weights, answer, strict=True):
            small = F.interpolate(target[:, None].float(), size=logits.shape[2:], mode="nearest")[:, 0].to(target.dtype)
            total = total + weight / sum(weights) * one(logits, small, plan.loss)
        return total

    return value
