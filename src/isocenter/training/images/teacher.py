"""A network that teaches a smaller one: what is made small is the difference between what both say."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from isocenter.errors import InputError
from isocenter.training.images.batches import Batch
from isocenter.training.images.plan import Plan
from isocenter.training.images.tasks.task import StepLoss, images_of

_TAUGHT = ("classify", "regress", "segment", "enhance")


def taught_by(teachers: Sequence[nn.Module], plan: Plan) -> StepLoss:
    """What a pupil makes small: of classes and labels, the divergence from the teachers' mean probabilities.

    Both see the same augmented images, mixed ones too; no label is asked.

    Source: G. Hinton et al., arXiv:1503.02531, 2015; L. Beyer et al., CVPR 2022 (the same view for both).

    Args:
        teachers: trained networks.
        plan: of the pupil.
    Raises: InputError for a task that is not taught so.
    """
    if plan.task not in _TAUGHT:
        raise InputError(f"a model of {plan.task} is not taught to a smaller one")
    for teacher in teachers:
        teacher.eval().requires_grad_(requires_grad=False)
    classes = plan.spec.answer in ("softmax", "sigmoid")

    def value(network: nn.Module, batch: Batch, turn: str) -> Tensor:
        images = images_of(batch, plan, network)
        with torch.no_grad():
            said = [teacher.to(images.device)(images).float() for teacher in teachers]
            wanted = torch.stack([one.softmax(dim=1) if classes else one for one in said]).mean(dim=0)
        answer = network(images)
        finest = answer[0] if isinstance(answer, list) else answer
        if not classes:
            return F.smooth_l1_loss(finest.float(), wanted)
        return -(wanted * F.log_softmax(finest.float(), dim=1)).sum(dim=1).mean()

    return value
