"""Parking on a line: Dict observations, asymmetric action bounds, and episodes that only a time limit ends."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class MyEnv(gym.Env):
    """Reach the target and stay: reward is minus the squared distance, minus a little for accelerating."""

    def __init__(self, length: int = 50) -> None:
        self.length = length
        self.observation_space = spaces.Dict(
            car=spaces.Box(-10.0, 10.0, (2,), np.float32),  # position, speed
            target=spaces.Box(-3.0, 3.0, (1,), np.float32),
            gear=spaces.Discrete(2),  # 1 while moving forward
        )
        # the brake is stronger than the engine
        self.action_space = spaces.Box(np.float32([-2.0]), np.float32([1.0]))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.time, self.position, self.speed = 0, self.np_random.uniform(-3, 3), 0.0
        self.target = self.np_random.uniform(-3, 3)
        return self._observation(), {}

    def step(self, action: Any) -> Any:
        acceleration = float(action[0])
        self.time += 1
        self.speed = float(np.clip(0.9 * self.speed + 0.2 * acceleration, -2, 2))
        self.position = float(np.clip(self.position + 0.2 * self.speed, -10, 10))
        reward = -((self.position - self.target) ** 2) - 0.01 * acceleration**2
        return self._observation(), reward, False, self.time >= self.length, {}

    def _observation(self) -> dict[str, Any]:
        return {
            "car": np.array([self.position, self.speed], np.float32),
            "target": np.array([self.target], np.float32),
            "gear": int(self.speed > 0),
        }
