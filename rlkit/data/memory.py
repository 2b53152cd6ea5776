"""How much memory is free, and the check that runs before a large array is promised."""

from __future__ import annotations

import os
from pathlib import Path

from rlkit.errors import MemoryBudgetError


def available_bytes() -> int | None:
    """Bytes this process may still use: the machine's or its container's, whichever is less; None where unknown."""
    known = [amount for amount in (_machine_bytes(), _cgroup_bytes()) if amount is not None]
    return min(known, default=None)


def check_budget(what: str, needed: int, remedy: str, available: int | None = None) -> None:
    """Raise MemoryBudgetError if `needed` bytes exceed what is free.

    Needed before the allocation, because an array of zeros costs nothing until it is written: without the check a
    buffer that is too large kills the process hours later.
    """
    free = available_bytes() if available is None else available
    if free is not None and needed > free:
        raise MemoryBudgetError(f"{what} needs {megabytes(needed)}, {megabytes(free)} are available.\n{remedy}")


def megabytes(count: int) -> str:
    """Bytes in words: `172 MB`, `3.1 GB`, `12 kB`."""
    if count >= 1e9:
        return f"{count / 1e9:,.1f} GB"
    return f"{count / 1e6:,.0f} MB" if count >= 1e6 else f"{count / 1e3:,.0f} kB"


def _machine_bytes() -> int | None:
    for line in _text("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    try:  # not Linux: all physical memory is the best bound the standard library knows
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _cgroup_bytes() -> int | None:
    """What a container's limit leaves (version 2, then 1); file cache that the kernel would drop counts as free."""
    for folder, limit, usage in (
        ("/sys/fs/cgroup", "memory.max", "memory.current"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        maximum, current = _text(f"{folder}/{limit}").strip(), _text(f"{folder}/{usage}").strip()
        if maximum.isdigit() and current.isdigit():
            return max(0, int(maximum) - int(current) + _droppable(_text(f"{folder}/memory.stat")))
    return None


def _droppable(stat: str) -> int:
    fields = dict(line.split(maxsplit=1) for line in stat.splitlines() if " " in line)
    return int(fields.get("inactive_file", 0))


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except OSError:
        return ""
