"""What a checkpoint needs of data that only grows: it writes the rows that are new since the last checkpoint."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from rlkit.types import Array


@runtime_checkable
class AppendOnly(Protocol):
    """Rows that are appended, never changed, and dropped from the old end when the store is full.

    A row is one time step; rows are numbered from 0 for the first one ever added.
    """

    @property
    def total_added(self) -> int:
        """Rows ever added."""

    @property
    def oldest_held(self) -> int:
        """Number of the oldest row still held."""

    def rows(self, start: int, stop: int) -> dict[str, Array]:
        """Copies of the rows [start, stop), all still held, by name."""
