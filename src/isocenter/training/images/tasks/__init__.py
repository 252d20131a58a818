"""What differs between classes, values, label maps and objects: a page each, and one table."""

from collections.abc import Mapping

from isocenter.data.dataset import Answers
from isocenter.training.images.tasks.objects import Objects
from isocenter.training.images.tasks.task import Task
from isocenter.training.images.tasks.voxels import Voxels
from isocenter.training.images.tasks.whole import Classes, Values

TASKS: Mapping[Answers, Task] = {"classify": Classes(), "regress": Values(), "segment": Voxels(), "detect": Objects()}
"""Every task by name."""
