"""How many threads or processes this process may use: several studies at a time share the machine."""

import os

_limit: list[int] = []


def cores() -> int:
    """Cores that the system lets this process run on: a cluster's scheduler may give it a part of the machine."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def allowed() -> int:
    """Cores that may be used at once."""
    return min([cores(), *_limit])


def limit(count: int | None) -> None:
    """Allow `count` cores; None lifts the limit."""
    _limit[:] = [] if count is None else [max(1, count)]
