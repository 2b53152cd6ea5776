"""What a checkpoint needs of a store that only ever grows at one end."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from rlkit.types import Array


@runtime_checkable
class AppendOnly(Protocol):
    """Rows numbered from 0 in the order they were added; only rows [oldest_held, total_added) can still be read."""

    @property
    def oldest_held(self) -> int:
        """Number of the oldest row that can still be read."""

    @property
    def total_added(self) -> int:
        """How many rows were ever added."""

    def rows(self, start: int, stop: int) -> dict[str, Array]:
        """Copies of rows [start, stop) by storage name, each with leading axis `stop - start`."""
