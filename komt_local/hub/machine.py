"""How much memory this machine has in all: what a choice of model should not change with the hour.

What is free at the moment is the business of `komt_local.hardware`.
"""

from __future__ import annotations

from pathlib import Path

_LIMITS = ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory_bytes(root: Path = Path("/")) -> int:
    """Bytes of memory, within the limit of a container that this runs in."""
    import psutil

    limits = (_number(root / name) for name in _LIMITS)
    return min(int(psutil.virtual_memory().total), *(n for n in limits if n), 1 << 62)


def _number(path: Path) -> int:
    """The number in a file; 0 where there is none, or where it says `max`."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0
