"""Numbers measured on a region, each with its unit, its definition, and why it is missing if it is."""

from collections.abc import Iterator
from dataclasses import dataclass

from isocenter.data.notebook import html_table
from isocenter.errors import InputError


@dataclass(frozen=True)
class Feature:
    """One number.

    Args:
        name: `"volume"`.
        value: None only with a reason in `missing`.
        unit: UCUM (`mL`, `mm`, `1`), or the image's own for intensities.
        definition: where it is defined: `"IBSI:RNU0"`, or a sentence.
        label: the region's name.
        missing: why there is no value.
        not_measured: share of the region's voxels that no scanner measured (filled over a missing slice, padding).
        family: of radiomic features: `"glcm"`; empty for others.

    Raises: InputError for a value without a number and without a reason, or with both.
    """

    name: str
    value: float | None
    unit: str
    definition: str
    label: str
    missing: str = ""
    not_measured: float = 0.0
    family: str = ""

    def __post_init__(self) -> None:
        if (self.value is None) != bool(self.missing):
            raise InputError(f"feature {self.name!r} needs either a value or the reason why there is none")
        if self.value is not None and self.value != self.value:
            raise InputError(f"feature {self.name!r} is not a number: state in `missing` why it has none")


@dataclass(frozen=True)
class FeatureTable:
    """Features of one case."""

    features: tuple[Feature, ...] = ()

    def __iter__(self) -> Iterator[Feature]:
        return iter(self.features)

    def __len__(self) -> int:
        return len(self.features)

    def __add__(self, other: "FeatureTable") -> "FeatureTable":
        return FeatureTable(self.features + other.features)

    def get(self, name: str, *, label: str, family: str = "") -> Feature:
        """The feature `name` of the region `label`, and of a family where it is a radiomic one.

        Raises: InputError with what there is.
        """
        for feature in self.features:
            if (feature.family, feature.name, feature.label) == (family, name, label):
                return feature
        have = sorted({f"{f.family} {f.name} of {f.label}".strip() for f in self.features})
        raise InputError(f"no feature {f'{family} {name}'.strip()!r} of {label!r} was measured; there are {have}")

    def _repr_html_(self) -> str:
        rows = [
            (f.label, f"{f.family} {f.name}".strip(), f.missing if f.value is None else f"{f.value:.6g}", f.unit)
            for f in self.features
        ]
        return html_table("Features", rows, head=("region", "feature", "value", "unit"))
