"""What an analysing step looks at."""

from dataclasses import dataclass

from isocenter.data.case import Case, Series
from isocenter.data.features import FeatureTable


@dataclass(frozen=True, eq=False)
class Subject:
    """A case in the middle of a recipe.

    Args:
        case: with the volumes `original` (as read) and `image` (as preprocessed so far) and the label maps so far.
        series: the series that was chosen.
        features: measured so far.
    """

    case: Case
    series: Series
    features: FeatureTable
