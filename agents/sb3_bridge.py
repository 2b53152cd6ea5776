"""What stands between stable-baselines3 and rlkit: environments lent to it, its replay as a log, its noise.

Used by `rlkit.agents.sb3` only.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import (
    ActionNoise,
    NormalActionNoise,
    OrnsteinUhlenbeckActionNoise,
    VectorizedActionNoise,
)
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from rlkit.data.append_only import AppendOnly
from rlkit.types import Array, Episode, Obs, Task, VectorEnv

_RING = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


class LentEnv(VecEnv):
    """Our vector environment as SB3's; only spaces until `venv` is attached."""

    def __init__(self, task: Task) -> None:
        self.venv: VectorEnv | None = None
        self.returns, self.lengths = np.zeros(task.num_envs), np.zeros(task.num_envs, dtype=np.int64)
        self._seed, self._episodes = task.seed, list[Episode]()
        # SB3 seeds and samples the action space that it is given; the environments keep theirs
        super().__init__(task.num_envs, task.observation_space, copy.deepcopy(task.action_space))

    def reset(self) -> Any:
        """First observations of the run."""
        assert self.venv is not None, "train_on attaches the environments first"
        return self.venv.reset(self._seed)[0]

    def step_async(self, actions: Array) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[Any, Array, Array, list[dict[str, Any]]]:
        """One step in SB3's words: `dones`, and the true successor in `terminal_observation`."""
        assert self.venv is not None
        step = self.venv.step(self._actions)
        ended = step.ended
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        self.returns += step.env_reward
        self.lengths += 1
        for row in np.flatnonzero(ended).tolist():
            infos[row] = {
                "terminal_observation": _row(step.next_obs, row),
                "TimeLimit.truncated": bool(step.truncated[row]),
            }
            self._episodes.append((float(self.returns[row]), int(self.lengths[row])))
            self.returns[row], self.lengths[row] = 0.0, 0
        return step.obs, step.reward.astype(np.float32), ended, infos

    def take_episodes(self) -> Sequence[Episode]:
        """Episodes that ended since the last call."""
        episodes, self._episodes = self._episodes, []
        return episodes

    def close(self) -> None:
        """The environments belong to whoever made them."""

    # The rest of SB3's interface reaches into environments; nothing in `learn` needs it.
    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """None for each environment; SB3 asks for `render_mode` only."""
        return [None] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Refused."""
        raise NotImplementedError(f"setting {attr_name} inside environments is not possible here")

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """Refused."""
        raise NotImplementedError(f"calling {method_name} inside environments is not possible here")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """False for each environment."""
        return [False] * self.num_envs


class Ring:
    """SB3's replay buffer as an append-only log of time steps."""

    def __init__(self, model: OffPolicyAlgorithm) -> None:
        assert model.replay_buffer is not None
        self._buffer = model.replay_buffer
        # rows are time steps of all environments, and every one was added since the run began
        self.total_added = model.num_timesteps // model.n_envs
        self.oldest_held = max(self.total_added - self._buffer.buffer_size, 0)

    def rows(self, start: int, stop: int) -> dict[str, Array]:
        """Copies of time steps [start, stop)."""
        places = np.arange(start, stop) % self._buffer.buffer_size
        return {name: array[places] for name, array in _ring_arrays(self._buffer).items()}


def _ring_arrays(buffer: Any) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    for name in _RING:
        value = getattr(buffer, name)
        parts = value.items() if isinstance(value, dict) else [("", value)]
        arrays |= {f"{name}/{key}" if key else name: array for key, array in parts}
    return arrays


def load_ring(model: OffPolicyAlgorithm, log: AppendOnly) -> None:
    """Fill SB3's replay buffer with what the log holds."""
    buffer = model.replay_buffer
    assert buffer is not None
    if log.total_added > log.oldest_held:
        places = np.arange(log.oldest_held, log.total_added) % buffer.buffer_size
        rows = log.rows(log.oldest_held, log.total_added)
        for name, array in _ring_arrays(buffer).items():
            array[places] = rows[name]
    buffer.pos = log.total_added % buffer.buffer_size
    buffer.full = log.total_added >= buffer.buffer_size


def action_noise(kind: str, sigma: float, task: Task) -> ActionNoise | None:
    """SB3's noise object of that kind; None for none."""
    if kind == "none":
        return None
    shape = task.action_space.shape or ()
    noise_class = NormalActionNoise if kind == "gaussian" else OrnsteinUhlenbeckActionNoise
    return noise_class(np.zeros(shape), np.full(shape, sigma))


def correlated_noises(model: BaseAlgorithm) -> list[OrnsteinUhlenbeckActionNoise]:
    """The noise of each environment that remembers something."""
    noise = model.action_noise if isinstance(model, OffPolicyAlgorithm) else None
    parts = noise.noises if isinstance(noise, VectorizedActionNoise) else [noise]
    return [part for part in parts if isinstance(part, OrnsteinUhlenbeckActionNoise)]


def load_noise(model: BaseAlgorithm, states: Sequence[Array]) -> None:
    """Put back what the correlated noises remembered."""
    for noise, state in zip(correlated_noises(model), states, strict=False):
        noise.noise_prev = state


def _row(obs: Obs, row: int) -> Any:
    return {key: _row(value, row) for key, value in obs.items()} if isinstance(obs, dict) else obs[row]
