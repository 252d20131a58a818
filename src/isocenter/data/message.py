"""A sentence that can be said in another language."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Message:
    """An English sentence with its values kept apart, so that a report can say it in Chinese.

    `template` is a `str.format` pattern over `values`; it is always written in our source, never read from a file.
    """

    template: str
    values: Mapping[str, "str | int | float | Message | tuple[Message, ...]"] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.said(lambda text: text)

    def said(self, translate: Callable[[str], str]) -> str:
        """The sentence with its template, its words and the sentences inside it put through `translate`."""

        def part(value: "str | int | float | Message | tuple[Message, ...]") -> str | int | float:
            if isinstance(value, Message):
                return value.said(translate)
            if isinstance(value, tuple):
                return "; ".join(item.said(translate) for item in value)
            return translate(value) if isinstance(value, str) else value

        return translate(self.template).format_map({key: part(value) for key, value in self.values.items()})
