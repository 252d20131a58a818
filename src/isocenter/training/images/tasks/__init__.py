"""What differs between tasks in a training: a page each, and one table."""

from collections.abc import Mapping

from isocenter.data.dataset import Answers
from isocenter.training.images.plan import Plan
from isocenter.training.images.tasks.forecast import Forecast
from isocenter.training.images.tasks.makers import Makers
from isocenter.training.images.tasks.normal import Normal
from isocenter.training.images.tasks.objects import Objects
from isocenter.training.images.tasks.pictures import Pictures
from isocenter.training.images.tasks.sequences import Sequences
from isocenter.training.images.tasks.task import Task
from isocenter.training.images.tasks.voxels import Voxels
from isocenter.training.images.tasks.whole import Classes, Values

TASKS: Mapping[Answers, Task] = {
    "classify": Classes(), "regress": Values(), "segment": Voxels(), "detect": Objects(), "enhance": Pictures(),
    "generate": Makers(), "anomaly": Normal(), "forecast": Forecast(),
}  # fmt: skip
"""Every task by name."""
SEQUENCES: Mapping[Answers, Task] = {"classify": Sequences(), "regress": Sequences()}
"""Those of sequences of frames."""


def task_of(plan: Plan) -> Task:
    """What a plan trains."""
    return (plan.frames and SEQUENCES.get(plan.task)) or TASKS[plan.task]
