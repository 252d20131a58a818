"""Defaults of every task: what a plan is made of where nobody wishes otherwise."""

from collections.abc import Mapping

from isocenter.data.dataset import Answers
from isocenter.training.images.defaults.defaults import Defaults
from isocenter.training.images.defaults.objects import Objects
from isocenter.training.images.defaults.pictures import Pictures
from isocenter.training.images.defaults.voxels import Voxels
from isocenter.training.images.defaults.whole import Classes, Values

DEFAULTS: Mapping[Answers, Defaults] = {
    "classify": Classes(), "regress": Values(), "segment": Voxels(), "detect": Objects(), "enhance": Pictures(),
}  # fmt: skip
"""Every task by name."""
