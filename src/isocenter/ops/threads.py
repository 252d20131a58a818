"""How many threads or processes this process may use: several studies at a time share the machine."""

import os

_limit: list[int] = []


def allowed() -> int:
    """Cores that may be used at once."""
    return min([os.cpu_count() or 1, *_limit])


def limit(count: int | None) -> None:
    """Allow `count` cores; None lifts the limit."""
    _limit[:] = [] if count is None else [max(1, count)]
