"""A small environment that tells events: what it shows was announced two steps earlier."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Cued(gym.Env[Any, Any]):
    """Thirty steps. A cue above 0.6 makes `jump` happen two steps later, one below -0.6 `run`."""

    observation_space = spaces.Box(-5.0, 5.0, (3,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.cues = [0.0, 0.0]
        return self.seen(), {}

    def step(self, action: Any) -> Any:
        obs = self.seen()
        cue = self.cues[-3]
        info = {"events/jump": bool(cue > 0.6), "events/run": bool(cue < -0.6), "time": len(self.cues)}
        return obs, 0.0, False, len(self.cues) >= 33, info

    def seen(self) -> Any:
        obs = self.np_random.normal(size=3).clip(-5, 5).astype(np.float32)
        self.cues.append(float(obs[0]))
        return obs


class ThreeActions(Cued):
    """The same with another action, which does nothing either."""

    action_space = spaces.Discrete(3)


class Pictured(Cued):
    """The same, with the cue as brightness."""

    observation_space = spaces.Box(0, 255, (40, 40, 1), np.uint8)

    def seen(self) -> Any:
        cue = super().seen()[0]
        return np.full((40, 40, 1), np.clip(128 + 40 * cue, 0, 255), np.uint8)


class Silent(Cued):
    """The same, which tells nothing."""

    def step(self, action: Any) -> Any:
        return *super().step(action)[:4], {}
