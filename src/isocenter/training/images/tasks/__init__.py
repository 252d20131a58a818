"""What differs between classes, values, label maps, objects and better images: a page each, and one table."""

from collections.abc import Mapping

from isocenter.data.dataset import Answers
from isocenter.training.images.tasks.objects import Objects
from isocenter.training.images.tasks.pictures import Pictures
from isocenter.training.images.tasks.task import Task
from isocenter.training.images.tasks.voxels import Voxels
from isocenter.training.images.tasks.whole import Classes, Values

TASKS: Mapping[Answers, Task] = {
    "classify": Classes(), "regress": Values(), "segment": Voxels(), "detect": Objects(), "enhance": Pictures(),
}  # fmt: skip
"""Every task by name."""
