"""What differs between tasks in a training: a page each, and one table."""

from collections.abc import Mapping

from isocenter.data.dataset import Answers
from isocenter.training.images.tasks.makers import Makers
from isocenter.training.images.tasks.normal import Normal
from isocenter.training.images.tasks.objects import Objects
from isocenter.training.images.tasks.pictures import Pictures
from isocenter.training.images.tasks.task import Task
from isocenter.training.images.tasks.voxels import Voxels
from isocenter.training.images.tasks.whole import Classes, Values

TASKS: Mapping[Answers, Task] = {
    "classify": Classes(), "regress": Values(), "segment": Voxels(), "detect": Objects(), "enhance": Pictures(),
    "generate": Makers(), "anomaly": Normal(),
}  # fmt: skip
"""Every task by name."""
