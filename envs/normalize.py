"""Normalisers of observations and rewards around a vector environment, in the main process.

Statistics are float64 and merge batches exactly (Chan, Golub and LeVeque 1983, equations 2.1a and 2.1b). They are part
of the policy: `normalizer_state()` is stored with the weights, and `apply` is what `predict` and evaluation use.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium import spaces

from rlkit.envs.masks import ACTION_MASK
from rlkit.envs.vector import Info, ResetStates, Space
from rlkit.errors import CheckpointError
from rlkit.types import Array, Obs, State, VectorEnv, VectorStep


class RunningMoments:
    """Running mean and variance, element by element, of everything that `update` has seen.

    >>> moments = RunningMoments(())
    >>> moments.update(np.array([1.0, 3.0]))
    >>> moments.mean.item(), moments.variance.item()
    (2.0, 1.0)
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.count = 0
        self.mean = np.zeros(shape)
        self._squares = np.zeros(shape)

    @property
    def variance(self) -> Array:
        """Population variance; 1 before the second value, so that nothing is blown up."""
        return self._squares / self.count if self.count > 1 else np.ones_like(self.mean)

    def update(self, batch: Array) -> None:
        """Merge the rows of `batch` [N, *shape]."""
        rows = np.asarray(batch, np.float64)
        number = len(rows)
        mean = rows.mean(axis=0)
        squares = np.square(rows - mean).sum(axis=0)
        total = self.count + number
        difference = mean - self.mean
        self.mean = self.mean + difference * (number / total)
        self._squares = self._squares + squares + np.square(difference) * (self.count * number / total)
        self.count = total

    def state(self) -> State:
        """Count, mean and sum of squared deviations."""
        return {"count": self.count, "mean": self.mean.copy(), "squares": self._squares.copy()}

    def load_state(self, state: State) -> None:
        """Continue from `state()`.

        Raises:
            CheckpointError: The state is of another shape.
        """
        mean = np.asarray(state["mean"], np.float64)
        if mean.shape != self.mean.shape:
            raise CheckpointError(
                f"stored statistics have shape {mean.shape}, this environment's have {self.mean.shape}"
            )
        self.count = int(state["count"])
        self.mean = mean.copy()
        self._squares = np.asarray(state["squares"], np.float64).copy()


class _Around:
    """What both normalisers pass on from the vector environment inside them."""

    def __init__(self, env: VectorEnv) -> None:
        self.env = env
        self.num_envs = env.num_envs
        self.single_observation_space: Space = env.single_observation_space
        self.single_action_space: Space = env.single_action_space
        self.frame_stack = env.frame_stack
        self.frozen = False

    @property
    def restore_tier(self) -> str:
        """Tier of the environment inside."""
        return self.env.restore_tier

    def close(self) -> None:
        """Close the environment inside."""
        self.env.close()


class NormalizeObservation(_Around):
    """Gives float Box leaves of the observation running mean 0 and variance 1; other leaves, and masks, stay.

    Statistics are updated once per step, from the observations seen for acting; `obs` and `next_obs` of a step use the
    same statistics. While `frozen`, they are only applied.
    """

    def __init__(self, env: VectorEnv, clip: float = 10.0, epsilon: float = 1e-8) -> None:
        """Wrap `env`.

        Args:
            env: Vector environment.
            clip: Largest absolute value of a normalised observation (10: Dhariwal et al. 2017, OpenAI Baselines).
            epsilon: Added to the variance.
        """
        super().__init__(env)
        self.clip = clip
        self.epsilon = epsilon
        self._moments: dict[str, RunningMoments] = {}
        self.single_observation_space = self._normalized_space(env.single_observation_space, "")

    def reset(self, seed: int) -> tuple[Obs, tuple[Info, ...]]:
        """Normalised first observations."""
        obs, infos = self.env.reset(seed)
        self._update(obs)
        return self.apply(obs), infos

    def step(self, action: Any, reset_states: ResetStates | None = None) -> VectorStep:
        """One step with both observations normalised."""
        step = self.env.step(action, reset_states)
        self._update(step.obs)
        obs = self.apply(step.obs)
        next_obs = obs if step.next_obs is step.obs else self.apply(step.next_obs)
        return replace(step, obs=obs, next_obs=next_obs)

    def apply(self, obs: Obs) -> Obs:
        """Normalised copy of observations, with or without a leading axis; changes no statistics."""
        return self._map(obs, "", self._normalize)

    def normalizer_state(self) -> State:
        """Statistics by leaf."""
        return {"leaves": {path: moments.state() for path, moments in self._moments.items()}}

    def load_normalizer_state(self, state: State) -> None:
        """Take over statistics.

        Raises:
            CheckpointError: They belong to other observations.
        """
        if state["leaves"].keys() != self._moments.keys():
            raise CheckpointError(
                f"stored statistics are of {sorted(state['leaves'])}, these observations have {sorted(self._moments)}"
            )
        for path, moments in self._moments.items():
            moments.load_state(state["leaves"][path])

    def get_state(self) -> State:
        """Environment and statistics."""
        return {"env": self.env.get_state(), "normalizer": self.normalizer_state()}

    def set_state(self, state: State) -> tuple[Obs, tuple[Info, ...]] | None:
        """Continue; see `VectorEnv.set_state`."""
        self.load_normalizer_state(state["normalizer"])
        fresh = self.env.set_state(state["env"])
        return None if fresh is None else (self.apply(fresh[0]), fresh[1])

    def _update(self, obs: Obs) -> None:
        if not self.frozen:
            self._map(obs, "", self._learn)

    def _learn(self, leaf: Array, moments: RunningMoments) -> Array:
        moments.update(leaf)
        return leaf

    def _normalize(self, leaf: Array, moments: RunningMoments) -> Array:
        scaled = (leaf - moments.mean) / np.sqrt(moments.variance + self.epsilon)
        return np.clip(scaled, -self.clip, self.clip).astype(np.float32)

    def _map(self, obs: Obs, path: str, function: Any) -> Obs:
        if isinstance(obs, dict):
            return {key: self._map(value, f"{path}/{key}", function) for key, value in obs.items()}
        if isinstance(obs, tuple):
            return tuple(self._map(value, f"{path}/{i}", function) for i, value in enumerate(obs))
        moments = self._moments.get(path)
        result: Array = np.array(obs) if moments is None else function(np.asarray(obs), moments)
        return result

    def _normalized_space(self, space: Space, path: str) -> Space:
        if isinstance(space, spaces.Dict):
            return spaces.Dict({k: self._normalized_space(v, f"{path}/{k}") for k, v in space.spaces.items()})
        if isinstance(space, spaces.Tuple):
            return spaces.Tuple([self._normalized_space(v, f"{path}/{i}") for i, v in enumerate(space.spaces)])
        if not isinstance(space, spaces.Box) or not np.issubdtype(space.dtype, np.floating):
            return space
        if path == f"/{ACTION_MASK}":
            return space
        self._moments[path] = RunningMoments(space.shape)
        return spaces.Box(-self.clip, self.clip, space.shape, np.float32)


class NormalizeReward(_Around):
    """Divides rewards by the standard deviation of the discounted return (Engstrom et al. 2020, section 3).

    Every environment has its own return, which starts anew with each episode. The mean is not subtracted, because that
    would change which policy is best.
    """

    def __init__(self, env: VectorEnv, gamma: float = 0.99, clip: float = 10.0, epsilon: float = 1e-8) -> None:
        """Wrap `env`.

        Args:
            env: Vector environment.
            gamma: Discount of the return; the agent's own.
            clip: Largest absolute value of a normalised reward.
            epsilon: Added to the variance.
        """
        super().__init__(env)
        self.gamma = gamma
        self.clip = clip
        self.epsilon = epsilon
        self._returns = np.zeros(env.num_envs)
        self._moments = RunningMoments(())

    def reset(self, seed: int) -> tuple[Obs, tuple[Info, ...]]:
        """First observations; returns start at 0."""
        self._returns = np.zeros(self.num_envs)
        return self.env.reset(seed)

    def step(self, action: Any, reset_states: ResetStates | None = None) -> VectorStep:
        """One step with its reward normalised."""
        step = self.env.step(action, reset_states)
        self._returns = self._returns * self.gamma + step.reward
        if not self.frozen:
            self._moments.update(self._returns)
        self._returns[step.ended] = 0.0
        reward = self.apply_reward(step.reward)
        return replace(step, reward=reward, raw_reward=step.env_reward)

    def apply(self, obs: Obs) -> Obs:
        """Observations as they are; `predict` applies every normaliser in turn."""
        return obs

    def apply_reward(self, reward: Array) -> Array:
        """Normalised rewards; changes no statistics."""
        return np.clip(reward / np.sqrt(self._moments.variance + self.epsilon), -self.clip, self.clip)

    def normalizer_state(self) -> State:
        """Statistics of the discounted return."""
        return {"returns": self._moments.state()}

    def load_normalizer_state(self, state: State) -> None:
        """Take over statistics."""
        self._moments.load_state(state["returns"])

    def get_state(self) -> State:
        """Environment, statistics and the returns of the running episodes."""
        return {"env": self.env.get_state(), "normalizer": self.normalizer_state(), "running": self._returns.copy()}

    def set_state(self, state: State) -> tuple[Obs, tuple[Info, ...]] | None:
        """Continue; see `VectorEnv.set_state`."""
        self.load_normalizer_state(state["normalizer"])
        fresh = self.env.set_state(state["env"])
        lost = fresh is not None
        self._returns = np.zeros(self.num_envs) if lost else np.array(state["running"], np.float64)
        return fresh


def normalizers(env: VectorEnv) -> tuple[NormalizeObservation | NormalizeReward, ...]:
    """Normalisers around a vector environment, innermost first: the order in which `apply` is due."""
    found: list[NormalizeObservation | NormalizeReward] = []
    while isinstance(env, (NormalizeObservation, NormalizeReward)):
        found.append(env)
        env = env.env
    return tuple(reversed(found))
