"""Finished episodes of the compiled engine, as the loop's hooks read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from rlkit.mdp import Floats64
from rlkit.types import Episode


class FinishedEpisodes(Sequence[Episode]):
    """Returns and lengths of finished episodes, made into pairs only where somebody looks; a run has millions."""

    def __init__(self, finished: Floats64) -> None:
        self._finished = finished  # [E, 3]

    def __len__(self) -> int:
        return len(self._finished)

    @overload
    def __getitem__(self, index: int) -> Episode: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Episode]: ...

    def __getitem__(self, index: int | slice) -> Episode | Sequence[Episode]:
        if isinstance(index, slice):
            return [(value, int(length)) for value, length, _ in self._finished[index].tolist()]
        return float(self._finished[index, 0]), int(self._finished[index, 1])
