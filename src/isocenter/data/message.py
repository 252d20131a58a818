"""A sentence that can be said in another language."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Message:
    """An English sentence with its values kept apart, so that a report can say it in Chinese.

    `template` is a `str.format` pattern over `values`; it is always written in our source, never read from a file.
    """

    template: str
    values: Mapping[str, str | int | float] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.template.format_map(self.values)
