"""A small environment of pictures for tests: a bright square that actions move, in the place `info` tells."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

SIDE = 16
MOVES = np.array([[0, 2], [0, -2], [2, 0], [-2, 0]])


class Square(gym.Env[Any, Any]):
    """Twenty steps; the reward is one where the square is in the upper half."""

    observation_space = spaces.Box(0, 255, (SIDE, SIDE, 1), np.uint8)
    action_space = spaces.Discrete(4)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.place, self.steps = self.np_random.integers(0, SIDE - 3, 2), 0
        return self.picture(), self.info()

    def step(self, action: Any) -> Any:
        self.place = np.clip(self.place + MOVES[int(action)], 0, SIDE - 4)
        self.steps += 1
        return self.picture(), float(self.place[0] < SIDE // 2), False, self.steps == 20, self.info()

    def picture(self) -> Any:
        picture = np.full((SIDE, SIDE, 1), 20, np.uint8)
        picture[self.place[0] : self.place[0] + 4, self.place[1] : self.place[1] + 4] = 230
        return picture

    def info(self) -> dict[str, Any]:
        return {"row": int(self.place[0]), "column": int(self.place[1])}

    def simulator_state(self) -> dict[str, int]:
        return {"agent/row": int(self.place[0]), "agent/column": int(self.place[1])}


class LastingSquare(Square):
    """The same for a thousand steps."""

    def step(self, action: Any) -> Any:
        picture, reward, terminated, _, info = super().step(action)
        return picture, reward, terminated, self.steps == 1_000, info
