"""The mountain car of Sutton and Barto (2018), example 10.1."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.envs.classic_control.mountain_car import MountainCarEnv

from rlkit.mdp import CAR_GOAL, CAR_LEFT, CAR_SPEED, MountainCarDynamics, mountain_car_motion
from rlkit.types import Array


class MountainCar(MountainCarEnv):
    """A car too weak for the hill has to swing: -1 a step until its position reaches 0.5, without a time limit.

    Observations are position (-1.2 … 0.5) and velocity (-0.07 … 0.07), float32. Actions push to the left (0), not (1),
    or to the right (2). Episodes begin at rest in [-0.6, -0.4), evenly. Gymnasium's `MountainCar-v0` lets the car pass
    the goal, up to 0.6, and stops after 200 steps; drawing and reset bounds (`options` `low` and `high`) are its own.

    Args:
        render_mode: None, `rgb_array` or `human`; both need pygame (extra: video).
    """

    def __init__(self, *, render_mode: str | None = None) -> None:
        super().__init__(render_mode)
        self.max_position = CAR_GOAL
        self.high = np.array([CAR_GOAL, CAR_SPEED], np.float32)
        self.low = np.array([CAR_LEFT, -CAR_SPEED], np.float32)
        self.observation_space = spaces.Box(self.low, self.high, dtype=np.float32)

    def dynamics(self) -> MountainCarDynamics:
        """The same for the compiled engine."""
        return MountainCarDynamics(3, 0)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """At rest in the valley."""
        obs, info = super().reset(seed=seed, options=options)
        self.state: tuple[float, float] = (float(self.state[0]), 0.0)
        return obs, info

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """One step of the book's equations."""
        assert self.action_space.contains(action), f"{action!r} ({type(action)}) invalid"
        self.state = mountain_car_motion(*self.state, int(action))
        if self.render_mode == "human":
            self.render()  # type: ignore[no-untyped-call]
        return np.array(self.state, np.float32), -1.0, self.state[0] >= CAR_GOAL, False, {}
