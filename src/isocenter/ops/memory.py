"""How much memory a step may take."""

import os
from contextlib import suppress
from pathlib import Path

from isocenter.errors import NotEnoughMemory

_GIB = 2**30


def available_gib() -> float | None:
    """Memory of this machine, or of the container it runs in; None where the system does not say."""
    found = []
    try:
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB)
    except (AttributeError, OSError, ValueError):  # Windows
        return None
    with suppress(OSError, ValueError):  # no container, or `max`
        found.append(int(Path("/sys/fs/cgroup/memory.max").read_text("utf-8")) / _GIB)
    return min(found)


def free_bytes() -> int:
    """Memory that may be used now: what the system calls available, within the container's limit."""
    total = available_gib()
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text("utf-8").splitlines()
        free = int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) * 1024
        return min(free, int((total or free / _GIB) * _GIB))
    return int((total or 8.0) / 2 * _GIB)


def require(volumes: float, *, voxels: int, limit_gib: float | None, what: str) -> None:
    """Refuse what would take more memory than may be used.

    Args:
        volumes: most memory it takes, in volumes of float32.
        voxels: in a volume.
        limit_gib: what may be used; None: four fifths of the machine's memory.
        what: its name.
    Raises: NotEnoughMemory with both numbers.
    """
    there = available_gib()
    limit = limit_gib if limit_gib is not None else None if there is None else 0.8 * there
    needed = volumes * 4 * voxels / _GIB
    if limit is not None and needed > limit:
        raise NotEnoughMemory(
            f"{what} takes up to {volumes:g} times the volume, {needed:.2f} GiB of memory, and {limit:.2f} may be used "
            f"({'--memory' if limit_gib is not None else 'four fifths of this machine'}): resample or crop first, or "
            "allow more with --memory"
        )
