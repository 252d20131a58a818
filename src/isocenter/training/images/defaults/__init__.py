"""Defaults of every task: what a plan is made of where nobody wishes otherwise."""

from collections.abc import Mapping

from isocenter.data.dataset import Answers
from isocenter.training.images.defaults.defaults import Defaults
from isocenter.training.images.defaults.forecast import Forecast
from isocenter.training.images.defaults.objects import Objects
from isocenter.training.images.defaults.pictures import Pictures
from isocenter.training.images.defaults.sequences import SequenceClasses, SequenceValues
from isocenter.training.images.defaults.voxels import Voxels
from isocenter.training.images.defaults.whole import Classes, Values
from isocenter.training.images.defaults.whole_again import Makers, Normal

DEFAULTS: Mapping[Answers, Defaults] = {
    "classify": Classes(), "regress": Values(), "segment": Voxels(), "detect": Objects(), "enhance": Pictures(),
    "generate": Makers(), "anomaly": Normal(), "forecast": Forecast(),
}  # fmt: skip
"""Every task by name."""
SEQUENCES: Mapping[Answers, Defaults] = {"classify": SequenceClasses(), "regress": SequenceValues()}
"""Those of sequences of frames."""
