"""How a value came to be: one `Step` for each thing done to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Json = Any
"""None, bool, int, float, str, or lists and string-keyed mappings of these."""


@dataclass(frozen=True)
class Step:
    """One thing that was done to a value.

    Args:
        name: stage and step, `"preprocess.median"`.
        parameters: what it was told.
        results: what it found on the way and somebody may need: thresholds, class means, transforms.
        package: who wrote the step; other people's steps join by entry point.
        version: of that package.
    """

    name: str
    parameters: Mapping[str, Json] = field(default_factory=dict)
    results: Mapping[str, Json] = field(default_factory=dict)
    package: str = "isocenter"
    version: str = ""

    def as_json(self) -> dict[str, Json]:
        """The step as plain data, for `report.json`."""
        return {
            "name": self.name,
            "parameters": dict(self.parameters),
            "results": dict(self.results),
            "package": self.package,
            "version": self.version,
        }
