"""Sums over blocks of 32 values, over blocks of those sums, and so on: draws in proportion to a million values.

A sum is always computed again from what lies below it, so rounding never adds up. Only the levels below the top are
searched block by block; the top has at most 1,024 sums and is searched at once.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rlkit.data.store import Indices

Doubles = npt.NDArray[np.float64]
_FAN_OUT = 32
_TOP = 1024  # a million values then have one level between the values and the top


class SumTree:
    """`size` values of at least zero, float64, zero at first; memory is claimed only as they are set."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._levels = [np.zeros(length) for length in _level_lengths(size)]
        self._blocks = [level.reshape(-1, _FAN_OUT) for level in self._levels[:-1]]  # [blocks, 32], parents one above

    @staticmethod
    def memory_bytes(size: int) -> int:
        """Bytes that a tree of `size` values takes."""
        return 8 * sum(_level_lengths(size))

    @property
    def values(self) -> Doubles:
        """All values [size], to be read."""
        return self._levels[0][: self._size]

    @property
    def total(self) -> float:
        """Sum of all values."""
        return float(self._levels[-1].cumsum()[-1])

    def set(self, slots: Indices, values: Doubles | float) -> None:
        """Give `slots` [K] new values [K]; of several for one slot the last counts."""
        self._levels[0][slots] = values
        for blocks, above in zip(self._blocks, self._levels[1:], strict=True):
            slots = slots // _FAN_OUT
            if len(slots) < len(above):
                above[slots] = blocks.take(slots, axis=0).sum(axis=1)
            else:  # all of them, without a copy of a block for each slot
                above[: len(blocks)] = blocks.sum(axis=1)

    def find(self, masses: Doubles) -> Indices:
        """For each of `masses` [B] in [0, total) the slot s with sum(values[:s]) <= mass < sum(values[: s + 1]).

        Rounding can move a mass to a neighbour, but never to a value of zero. The total must be positive.
        """
        sums = self._levels[-1].cumsum()
        masses = np.minimum(masses, np.nextafter(sums[-1], 0))
        slots = sums.searchsorted(masses, side="right")
        masses = masses - np.where(slots > 0, sums[slots - 1], 0.0)
        rows = np.arange(len(masses))
        for blocks in reversed(self._blocks):
            sums = blocks.take(slots, axis=0).cumsum(axis=1)  # [B, 32]
            masses = np.minimum(masses, np.nextafter(sums[:, -1], 0))
            child = (sums > masses[:, None]).argmax(axis=1)  # the first that reaches beyond the mass
            masses = masses - np.where(child > 0, sums[rows, child - 1], 0.0)
            slots = slots * _FAN_OUT + child
        return slots


def _level_lengths(size: int) -> list[int]:
    """Lengths from the values to the top; all but the top are whole blocks."""
    lengths = [size]
    while lengths[-1] > _TOP:
        blocks = -(-lengths[-1] // _FAN_OUT)
        lengths[-1] = blocks * _FAN_OUT
        lengths.append(blocks)
    return lengths
