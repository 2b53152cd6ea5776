"""Rows of a picture painted over, so that what is written there (a score, a clock) cannot tell labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from rlkit.envs.contract import Env
from rlkit.errors import UnknownNameError, UnsupportedTaskError, UsageError

Rows = tuple[tuple[int, int], ...]

DISPLAYS: dict[str, tuple[int, Rows]] = {
    # digits in rows 5 to 12; the road begins in row 15, the chicken comes no higher than row 17
    "freeway-score": (210, ((0, 15),)),
}
"""Height of the picture, and first row and row after the last of what is on display, by name."""


class MaskRows(gym.ObservationWrapper[Any, Any, Any], RecordConstructorArgs):
    """Paints rows of a picture black.

    It belongs directly around the environment: a smaller picture mixes rows, and a stack has frames in front.

    Args:
        env: an environment with pictures uint8 [H, W] or [H, W, colours].
        rows: a name among `DISPLAYS`, or pairs of the first row and the row after the last, counted from the top.

    Raises:
        UnsupportedTaskError: observations are no such pictures, or have not the height that the name is for.
        UsageError: unknown name, or rows that are not in the picture.

    >>> env = MaskRows(gym.make("ALE/Freeway-v5", obs_type="grayscale"), rows="freeway-score")
    >>> env.reset(seed=0)[0][:15].max()
    0
    """

    def __init__(self, env: Env, rows: str | Sequence[Sequence[int]]) -> None:
        RecordConstructorArgs.__init__(self, rows=rows)  # so that gymnasium can build it again from its spec
        gym.ObservationWrapper.__init__(self, env)
        self._is_masked = np.zeros(_height(env.observation_space), np.bool_)
        for first, stop in self._pairs(rows):
            self._is_masked[first:stop] = True
        self._is_masked.flags.writeable = False

    def observation(self, observation: Any) -> Any:
        """A copy with the rows at 0."""
        seen = np.array(observation)
        seen[self._is_masked] = 0
        return seen

    def _pairs(self, rows: str | Sequence[Sequence[int]]) -> Rows:
        height = len(self._is_masked)
        if isinstance(rows, str):
            if rows not in DISPLAYS:
                raise UnknownNameError("rows of mask-rows", rows, DISPLAYS, hint="or pairs, as in rows=[[0,15]]")
            wanted, pairs = DISPLAYS[rows]
            if height != wanted:
                raise UnsupportedTaskError(
                    f"mask-rows: {rows} is for pictures of {wanted} rows, these have {height}; put it before wrappers "
                    "that change the size"
                )
            return pairs
        given = [tuple(pair) if isinstance(pair, (tuple, list)) else (pair,) for pair in rows]
        found = tuple((pair[0], pair[1]) for pair in given if len(pair) == 2)
        if not found or len(found) < len(given) or not all(0 <= first < stop <= height for first, stop in found):
            raise UsageError(
                f"mask-rows: rows is {rows}, it must be pairs first < stop in 0 … {height}, as in rows=[[0,15]]"
            )
        return found


def _height(space: gym.Space[Any]) -> int:
    """Rows of the pictures in `space`."""
    is_picture = isinstance(space, spaces.Box) and space.dtype == np.uint8
    shape = space.shape or ()
    if is_picture and (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4))):
        return int(shape[0])
    raise UnsupportedTaskError(
        f"mask-rows needs pictures uint8 [H, W] or [H, W, colours], got {space}; put it before frame-stack"
    )
