"""Tiny pictures with a known answer, for agents that learn continuous actions from pixels."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

SIZE = 16


class PointAtTheDot(gym.Env[Any, Any]):
    """A bright dot of 4x4 pixels; the action is to name its column, and costs its distance to it.

    Five pictures an episode, within bounds [-1, 3]; a perfect episode returns 0, always the middle -5.4.
    """

    observation_space = spaces.Box(0, 255, (SIZE, SIZE), np.uint8)
    action_space = spaces.Box(-1.0, 3.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return self._picture(), {}

    def step(self, action: Any) -> Any:
        self.time += 1
        best = -1.0 + 4.0 * self.column / (SIZE - 4)
        reward = -abs(float(action[0]) - best)
        return self._picture(), reward, False, self.time == 5, {}

    def _picture(self) -> Any:
        row, self.column = (int(place) for place in self.np_random.integers(SIZE - 3, size=2))
        picture = np.zeros((SIZE, SIZE), np.uint8)
        picture[row : row + 4, self.column : self.column + 4] = 255
        return picture
