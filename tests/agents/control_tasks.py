"""Tiny tasks with a known answer, for agents with continuous actions."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rlkit.types import Task, Transition

BOX = spaces.Box(-1.0, 1.0, (2,), np.float32)
TASK = Task(BOX, spaces.Box(np.array([-1.0, 0.0], np.float32), np.array([3.0, 10.0], np.float32)))
SMALL: dict[str, Any] = {"hidden": (32,), "batch_size": 32, "buffer_size": 5000, "learning_starts": 50}


class OneReward(gym.Env[Any, Any]):
    """Reward 1 every step; after five steps the episode terminates, or is truncated."""

    observation_space, action_space = BOX, spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, terminates: bool) -> None:
        self.terminates = terminates

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        self.time += 1
        over = self.time == 5
        # the clock is hidden where the end is a truncation, visible where it is the task's own
        obs = np.full(2, self.time / 5 if self.terminates else 0.0, np.float32)
        return obs, 1.0, over and self.terminates, over and not self.terminates, {}


class Quadratic(gym.Env[Any, Any]):
    """One step; the best action is linear in the observation, within asymmetric bounds, and returns 0."""

    observation_space, action_space = BOX, spaces.Box(-1.0, 3.0, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.obs = self.np_random.uniform(-1.0, 1.0, 2).astype(np.float32)
        return self.obs, {}

    def step(self, action: Any) -> Any:
        best = 1.0 + self.obs[::-1]
        return self.obs, -float(np.square(np.asarray(action) - best).sum()), True, False, {}


def transitions(count: int, task: Task = TASK) -> list[Transition]:
    """Random steps of an endless episode."""
    rng = np.random.default_rng(0)
    shape = (task.num_envs,)
    never = np.zeros(shape, dtype=np.bool_)
    assert isinstance(task.action_space, spaces.Box)
    low, high = task.action_space.low, task.action_space.high
    return [
        Transition(
            rng.standard_normal((*shape, 2)).astype(np.float32),
            rng.uniform(low, high, (*shape, 2)).astype(np.float32),
            rng.standard_normal(shape).astype(np.float32),
            rng.standard_normal((*shape, 2)).astype(np.float32),
            never,
            never,
        )
        for _ in range(count)
    ]


class ReachPoint(gym.Env[Any, Any]):
    """A point on a square is to reach another; -1 a step until it is there, 0 there, truncated after 15 steps."""

    observation_space = spaces.Dict(
        observation=spaces.Box(-1.0, 1.0, (1,), np.float32),
        achieved_goal=spaces.Box(-1.0, 1.0, (2,), np.float32),
        desired_goal=spaces.Box(-1.0, 1.0, (2,), np.float32),
    )
    action_space = BOX

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.point, self.goal = self.np_random.uniform(-1.0, 1.0, (2, 2)).astype(np.float32)
        self.time = 0
        return self._observed(), {}

    def step(self, action: Any) -> Any:
        self.time += 1
        self.point = np.clip(self.point + 0.2 * np.asarray(action), -1.0, 1.0).astype(np.float32)
        reward = float(self.compute_reward(self.point, self.goal, {}))
        return self._observed(), reward, False, self.time == 15, {}

    def compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
        return -(np.linalg.norm(achieved - desired, axis=-1) > 0.05).astype(np.float32)

    def _observed(self) -> dict[str, Any]:
        return {"observation": np.zeros(1, np.float32), "achieved_goal": self.point, "desired_goal": self.goal}
