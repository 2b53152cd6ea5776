"""A vector environment that lets no NaN and no infinity through, in either direction."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from rlkit.errors import NonFiniteError
from rlkit.types import Array, Obs, State, VectorEnv, VectorStep


class FiniteOnly:
    """Checks actions, rewards and observations of every step, for agents of either kind.

    Args:
        env: the vector environment.
        last_good: what to say of the last good checkpoint, asked when something is not finite.
    """

    def __init__(self, env: VectorEnv, last_good: Callable[[], str]) -> None:
        self.env = env
        self._last_good = last_good
        self._began = np.zeros(env.num_envs, dtype=np.int64)  # vector step at which each episode began
        self._steps = 0
        self._checks_action = holds_floats(env.single_action_space)
        self._checks_obs = holds_floats(env.single_observation_space)

    @property
    def num_envs(self) -> int:
        """N."""
        return self.env.num_envs

    @property
    def single_observation_space(self) -> gym.Space[Any]:
        """Observation space of one environment."""
        return self.env.single_observation_space

    @property
    def single_action_space(self) -> gym.Space[Any]:
        """Action space of one environment."""
        return self.env.single_action_space

    @property
    def frame_stack(self) -> int:
        """Of the environment inside."""
        return self.env.frame_stack

    @property
    def restore_tier(self) -> str:
        """Of the environment inside."""
        return self.env.restore_tier

    def reset(self, seed: int) -> tuple[Obs, tuple[dict[str, Any], ...]]:
        """First observations.

        Raises:
            NonFiniteError: names the environment whose observation is not finite; likewise `step`.
        """
        obs, infos = self.env.reset(seed)
        self._check("first observation", obs)
        return obs, infos

    def step(self, action: Any, reset_states: Sequence[object | None] | None = None) -> VectorStep:
        """One step."""
        self._steps += 1
        if self._checks_action:
            self._check("action", action)
        step = self.env.step(action, reset_states)
        if not all(map(math.isfinite, step.reward.tolist())):
            self._check("reward", step.reward)
        if self._checks_obs:
            self._check("observation", step.next_obs)
        if step.obs is not step.next_obs:
            self._check("first observation", step.obs)
            self._began[step.ended] = self._steps
        return step

    def get_state(self) -> State:
        """The environment's, and where its episodes are."""
        return {"env": self.env.get_state(), "steps": self._steps, "began": self._began}

    def set_state(self, state: State) -> tuple[Obs, tuple[dict[str, Any], ...]] | None:
        """Continue; see `VectorEnv.set_state`."""
        fresh = self.env.set_state(state["env"])
        self._steps = state["steps"]
        self._began = np.array(state["began"])
        if fresh is not None:
            self._began[:] = self._steps
        return fresh

    def close(self) -> None:
        """Close the environment inside."""
        self.env.close()

    def _check(self, what: str, values: Array | Obs) -> None:
        for leaf in _float_leaves(values):
            if math.isfinite(np.vdot(leaf, leaf)):  # a third of the time; it may overflow, so it only acquits
                continue
            if not np.isfinite(leaf).all():
                row = int(np.argmin(np.isfinite(leaf).reshape(len(leaf), -1).all(axis=1)))
                shown = np.array2string(np.asarray(leaf[row]), threshold=12)
                raise NonFiniteError(
                    f"environment {row}: the {what} {shown} is not finite, at env step {self._steps * self.num_envs} "
                    f"(step {self._steps - self._began[row]} of its episode); {self._last_good()}"
                )


def holds_floats(space: gym.Space[Any]) -> bool:
    """Whether a value of the space can hold a NaN or an infinity; discrete ones cannot."""
    return not isinstance(space, (gym.spaces.Discrete, gym.spaces.MultiDiscrete, gym.spaces.MultiBinary))


def _float_leaves(values: Array | Obs) -> Iterator[Array]:
    if isinstance(values, dict):
        for value in values.values():
            yield from _float_leaves(value)
    elif isinstance(values, tuple):
        for value in values:
            yield from _float_leaves(value)
    elif values.dtype.kind == "f":
        yield values
