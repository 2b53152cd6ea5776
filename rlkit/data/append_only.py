"""What a checkpoint needs of data that only grows: it writes the rows that are new since the last checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from rlkit.types import Array


@runtime_checkable
class AppendOnly(Protocol):
    """Rows that are appended, never changed, and dropped from the old end when the store is full.

    A row is one time step; rows are numbered from 0 for the first one ever added.
    """

    @property
    def segment_name(self) -> str:
        """Name of the files that hold these rows, unique within an agent."""

    @property
    def total_added(self) -> int:
        """Rows ever added."""

    @property
    def oldest_held(self) -> int:
        """Number of the oldest row still held."""

    def rows(self, start: int, stop: int) -> dict[str, Array]:
        """Copies of the rows [start, stop), all still held, by name."""

    def load_rows(self, start: int, rows: Mapping[str, Array]) -> None:
        """Put back rows of which the first has number `start`; give older segments first."""

    def restore_counters(self, total_added: int) -> None:
        """Declare that the rows up to `total_added` have been put back."""
