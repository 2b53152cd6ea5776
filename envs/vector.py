"""Many environments stepped together in this process; `rlkit.types.VectorEnv` is the protocol."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import FrameStackObservation

from rlkit.envs.batch import WrongObservation, layout_of, row_action
from rlkit.envs.contract import CheckedEnv, Env, EnvFn, build_env
from rlkit.envs.masks import MaskReader, WrongMask
from rlkit.envs.restore import capture_env, layers, probe_restore, restore_env
from rlkit.errors import CheckpointError, EnvironmentFault, UsageError
from rlkit.seeding import row_seed
from rlkit.types import Obs, State, VectorStep

Space: TypeAlias = spaces.Space[Any]
Info: TypeAlias = dict[str, Any]
ResetStates: TypeAlias = Sequence[object | None]


def announced_frame_stack(env: Env) -> int:
    """Stack size if the observation is a stack of frames that replay can rebuild from single frames, otherwise 1."""
    for layer in layers(env):
        if isinstance(layer, FrameStackObservation):
            unchanged = layer.observation_space == env.observation_space
            plain = isinstance(env.observation_space, spaces.Box) and layer.padding_type == "reset"
            return int(layer.stack_size) if unchanged and plain else 1
    return 1


class SerialVectorEnv:
    """A thin loop over N environments in this process; the default, and the fastest for cheap environments.

    Observations are copied when they cross the boundary, so an environment may return one array again and again.
    """

    def __init__(self, env_fns: Sequence[EnvFn], first_index: int = 0) -> None:
        """Build the environments.

        Args:
            env_fns: One factory for each row, all alike.
            first_index: Number of row 0 in messages and seeds (process workers hold one row each).
        """
        if not env_fns:
            raise UsageError("a vector environment needs at least one environment, got 0")
        self._env_fns = tuple(env_fns)
        self._first_index = first_index
        self._rows = [CheckedEnv(build_env(fn, first_index + i), first_index + i) for i, fn in enumerate(env_fns)]
        self.num_envs = len(self._rows)
        self.single_observation_space: Space = self._rows[0].env.observation_space
        self.single_action_space: Space = self._rows[0].env.action_space
        self.frame_stack = announced_frame_stack(self._rows[0].env)
        self._layout = layout_of(self.single_observation_space)
        self._masks = MaskReader(self.single_observation_space, self.single_action_space)
        self._no_reset_infos: tuple[Info | None, ...] = (None,) * self.num_envs
        self._row_action = row_action(self.single_action_space)
        self._seed = 0
        self._steps = 0
        self._require_equal_spaces()

    @property
    def single_env(self) -> Env:
        """The first of the environments, to ask it about itself."""
        return self._rows[0].env

    @cached_property
    def restore_tier(self) -> str:
        """Tier probed on environments of its own."""
        return probe_restore(self._env_fns[0])

    def reset(self, seed: int) -> tuple[Obs, tuple[Info, ...]]:
        """Start new episodes; row i is seeded by `row_seed(seed, i)`."""
        self._seed, self._steps = seed, 0
        return self._reset_rows(generation=0)

    def step(self, action: Any, reset_states: ResetStates | None = None) -> VectorStep:
        """Step every row, then reset those that ended."""
        self._steps += 1
        write, row_action = self._write, self._row_action
        next_obs = self._layout.empty(self.num_envs)
        rewards, terminations, truncations, infos, ended = [], [], [], [], []
        for i, row in enumerate(self._rows):
            obs, reward, terminated, truncated, info = row.step(row_action(action, i))
            write(next_obs, i, obs)
            rewards.append(reward)
            terminations.append(terminated)
            truncations.append(truncated)
            infos.append(info)
            if terminated or truncated:
                ended.append(i)
        are_terminated = np.array(terminations, np.bool_)
        obs, reset_infos = self._reset_ended(next_obs, ended, reset_states)
        try:
            mask, next_mask = self._masks.read_step(obs, next_obs, infos, reset_infos, are_terminated)
        except WrongMask as error:
            raise self._rows[error.row].fault(str(error)) from error
        return VectorStep(
            obs,
            next_obs,
            np.array(rewards, np.float64),
            are_terminated,
            np.array(truncations, np.bool_),
            tuple(infos),
            reset_infos,
            None,  # raw_reward
            mask,
            next_mask,
        )

    def get_state(self) -> State:
        """State of every environment in the tier `exact`; only seed and step count otherwise."""
        state: State = {"tier": self.restore_tier, "seed": self._seed, "steps": self._steps}
        if self.restore_tier == "exact":
            state["envs"] = [capture_env(row.env) for row in self._rows]
            state["episode_steps"] = [row.episode_step for row in self._rows]
        return state

    def set_state(self, state: State) -> tuple[Obs, tuple[Info, ...]] | None:
        """Continue; see `VectorEnv.set_state`."""
        self._seed, self._steps = state["seed"], state["steps"]
        if state["tier"] != "exact":
            return self._reset_rows(generation=self._steps)
        if len(state["envs"]) != self.num_envs:
            raise CheckpointError(f"the state holds {len(state['envs'])} environments, this run has {self.num_envs}")
        for row, tree, episode_step in zip(self._rows, state["envs"], state["episode_steps"], strict=True):
            restore_env(row.env, tree)
            row.episode_step = episode_step
        return None

    def close(self) -> None:
        """Close every environment."""
        for row in self._rows:
            row.env.close()

    def _reset_rows(self, generation: int) -> tuple[Obs, tuple[Info, ...]]:
        obs = self._layout.empty(self.num_envs)
        infos = []
        for i, row in enumerate(self._rows):
            first, info = row.reset(seed=row_seed(self._seed, row.index, generation))
            self._write(obs, i, first)
            infos.append(info)
        return obs, tuple(infos)

    def _reset_ended(
        self, next_obs: Obs, ended: list[int], reset_states: ResetStates | None
    ) -> tuple[Obs, tuple[Info | None, ...]]:
        if not ended:
            return next_obs, self._no_reset_infos
        reset_infos: list[Info | None] = list(self._no_reset_infos)
        obs: Obs = self._layout.copy(next_obs)
        for i in ended:
            first, reset_infos[i] = self._rows[i].reset(state=None if reset_states is None else reset_states[i])
            self._write(obs, i, first)
        return obs, tuple(reset_infos)

    def _write(self, batch: Obs, index: int, value: Any) -> None:
        try:
            self._layout.write(batch, index, value)
        except WrongObservation as error:
            raise self._rows[index].fault(str(error)) from error

    def _require_equal_spaces(self) -> None:
        for row in self._rows[1:]:
            for name, first, own in (
                ("observation space", self.single_observation_space, row.env.observation_space),
                ("action space", self.single_action_space, row.env.action_space),
            ):
                if first != own:
                    raise EnvironmentFault(
                        f"environment {row.index} has the {name} {own}, environment {self._first_index} has {first}; "
                        "all environments of a run need the same spaces"
                    )
