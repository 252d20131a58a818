"""What differs between tasks around a network, one page each: promises, pictures, files, judgement."""

from collections.abc import Mapping

from isocenter.data.dataset import Answers
from isocenter.inference.model import Spec
from isocenter.pipeline.outcomes.forecast import Foretold
from isocenter.pipeline.outcomes.made import Made
from isocenter.pipeline.outcomes.objects import FoundObjects
from isocenter.pipeline.outcomes.outcome import Outcome
from isocenter.pipeline.outcomes.pictures import Enhanced
from isocenter.pipeline.outcomes.sequences import FollowedClasses, FollowedValues
from isocenter.pipeline.outcomes.unusual import Unusual
from isocenter.pipeline.outcomes.voxels import Segmented
from isocenter.pipeline.outcomes.whole import Classified, Valued
from isocenter.training.images.plan import Plan

OUTCOMES: Mapping[Answers, Outcome] = {
    "classify": Classified(), "regress": Valued(), "segment": Segmented(), "detect": FoundObjects(),
    "enhance": Enhanced(),
    "generate": Made(), "anomaly": Unusual(), "forecast": Foretold(),
}  # fmt: skip
"""Every task by name."""
SEQUENCES: Mapping[Answers, Outcome] = {"classify": FollowedClasses(), "regress": FollowedValues()}
"""Those of sequences of frames."""


def outcome_of(what: Spec | Plan) -> Outcome:
    """That of a model or plan."""
    return (what.frames and SEQUENCES.get(what.task)) or OUTCOMES[what.task]
