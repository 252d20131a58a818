"""What an analysing step looks at."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from isocenter.data.case import Case, Series
from isocenter.data.features import FeatureTable
from isocenter.data.labels import LabelMap
from isocenter.data.provenance import Json
from isocenter.data.volume import Volume
from isocenter.errors import InputError


@dataclass(frozen=True, eq=False)
class Subject:
    """A case in the middle of a recipe.

    Args:
        case: with the volumes `original` (as read) and `image` (as preprocessed so far) and the label maps so far.
        series: the series that was chosen.
        features: measured so far.
        native: label maps on the grids on which they were drawn; those of `case` lie on the image's.
    """

    case: Case
    series: Series
    features: FeatureTable
    native: Mapping[str, LabelMap] = field(default_factory=dict)


def volume_of(subject: Subject, name: str) -> Volume:
    """A volume of the case.

    Raises: InputError with the names that exist.
    """
    if name in subject.case.volumes:
        return subject.case.volumes[name]
    raise InputError(
        f"no volume is called {name!r} at this point of the recipe; there are {list(subject.case.volumes)}"
    )


def labels_of(subject: Subject, name: str) -> LabelMap:
    """A label map of the case.

    Raises: InputError with the names that exist.
    """
    if name in subject.case.label_maps:
        return subject.case.label_maps[name]
    raise InputError(
        f"no label map is called {name!r} at this point of the recipe; there are {list(subject.case.label_maps)}"
    )


def results_of(labels: LabelMap, step: str) -> dict[str, Json]:
    """What the step that made the labels found on the way.

    Raises: InputError if another step made them.
    """
    for done in reversed(labels.history):
        if done.name == step:
            return dict(done.results)
    raise InputError(f"this needs labels made by {step}; these were made by {[s.name for s in labels.history]}")


def text_of(series: Series, keyword: str) -> str:
    """An attribute of the series as text; empty where it is absent."""
    value = series.attributes.get(keyword)
    return "\\".join(str(v) for v in value) if isinstance(value, list) else str(value or "")


def number_of(series: Series, keyword: str) -> float | None:
    """An attribute of the series as a number; None where it is absent, or none."""
    value = series.attributes.get(keyword)
    return float(value) if isinstance(value, (int, float)) else None
