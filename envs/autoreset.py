"""True transitions from any `gymnasium.vector.VectorEnv`, whichever of the three autoreset modes it uses.

| mode | what gymnasium returns in the step that ends an episode | what happens here |
|---|---|---|
| DISABLED | the true successor | the row is reset at once through `reset_mask` |
| NEXT_STEP | the true successor; the next step would ignore its action | the same, so that no step is lost |
| SAME_STEP | the reset observation; the true successor in `info["final_obs"]` | both are put where they belong |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from rlkit.envs.batch import Layout, layout_of, leaves
from rlkit.envs.contract import describe
from rlkit.envs.masks import MaskReader, WrongMask
from rlkit.envs.vector import Info, ResetStates, Space
from rlkit.errors import EnvironmentFault, RlkitError, UsageError
from rlkit.seeding import row_seed
from rlkit.types import Array, Bools, Obs, State, VectorStep

AnyVectorEnv: TypeAlias = gym.vector.VectorEnv[Any, Any, Any]
_FINAL_KEYS = ("final_obs", "_final_obs", "final_info", "_final_info")


class TrueTransitions:
    """A gymnasium vector environment behind rlkit's protocol."""

    restore_tier = "reset"  # gymnasium's vector environments have no state interface

    def __init__(self, env: AnyVectorEnv) -> None:
        """Wrap `env`.

        Raises:
            UsageError: It does not say its autoreset mode.
        """
        mode = env.metadata.get("autoreset_mode")
        if not isinstance(mode, AutoresetMode):
            raise UsageError(
                f'{type(env.unwrapped).__name__} has metadata["autoreset_mode"] = {mode!r}; it must be one of '
                "gymnasium.vector.AutoresetMode.NEXT_STEP, SAME_STEP, DISABLED"
            )
        self._env = env
        self._mode = mode
        self._masked_reset_known = isinstance(env.unwrapped, (SyncVectorEnv, AsyncVectorEnv))
        self._per_row_seeds = self._masked_reset_known
        self.num_envs: int = env.num_envs
        self.single_observation_space: Space = env.single_observation_space
        self.single_action_space: Space = env.single_action_space
        self.frame_stack = 1
        self._layout: Layout = layout_of(self.single_observation_space)
        self._masks = MaskReader(self.single_observation_space, self.single_action_space)
        self._seed = 0
        self._steps = 0

    def reset(self, seed: int) -> tuple[Obs, tuple[Info, ...]]:
        """Start new episodes. Environments other than Sync and Async take one seed, not one per row."""
        self._seed, self._steps = seed, 0
        return self._reset_all(generation=0)

    def step(self, action: Any, reset_states: ResetStates | None = None) -> VectorStep:
        """One step; see the table above."""
        self._steps += 1
        raw, reward, terminations, truncations, raw_infos = self._call("step", action)
        terminated = np.array(terminations, np.bool_)
        truncated = np.array(truncations, np.bool_) & ~terminated
        ended = terminated | truncated
        obs: Obs = self._layout.copy(raw)
        reset_infos: list[Info | None] = [None] * self.num_envs
        if not ended.any():
            next_obs, infos = obs, split_infos(raw_infos, self.num_envs)
        elif self._mode is AutoresetMode.SAME_STEP:
            next_obs, infos = self._same_step(obs, ended, raw_infos, reset_infos, reset_states)
        else:
            next_obs, infos = obs, split_infos(raw_infos, self.num_envs)
            obs = self._reset_ended(next_obs, ended, reset_infos, reset_states)
        rewards = np.array(reward, np.float64)
        try:
            mask, next_mask = self._masks.read_step(obs, next_obs, infos, reset_infos, terminated)
        except WrongMask as error:
            raise EnvironmentFault(f"environment {error.row} failed in step {self._steps}: {error}") from error
        return VectorStep(
            obs,
            next_obs,
            rewards,
            terminated,
            truncated,
            tuple(infos),
            tuple(reset_infos),
            action_mask=mask,
            next_action_mask=next_mask,
        )

    def get_state(self) -> State:
        """Seed and step count; unfinished episodes cannot be kept."""
        return {"tier": self.restore_tier, "seed": self._seed, "steps": self._steps}

    def set_state(self, state: State) -> tuple[Obs, tuple[Info, ...]]:
        """New episodes, other ones than those before; returns what `reset` would."""
        self._seed, self._steps = state["seed"], state["steps"]
        return self._reset_all(generation=self._steps)

    def close(self) -> None:
        """Close the wrapped environment."""
        self._env.close()

    def _reset_all(self, generation: int) -> tuple[Obs, tuple[Info, ...]]:
        seeds = [row_seed(self._seed, i, generation) for i in range(self.num_envs)]
        seed: Any = seeds if self._per_row_seeds else seeds[0]
        if not self._masked_reset_known and self._mode is not AutoresetMode.SAME_STEP:
            self._require_masked_reset(seed)
        raw, infos = self._call("reset", seed=seed)
        return self._layout.copy(raw), tuple(split_infos(infos, self.num_envs))

    def _same_step(
        self,
        obs: Obs,
        ended: Bools,
        raw_infos: Info,
        reset_infos: list[Info | None],
        reset_states: ResetStates | None,
    ) -> tuple[Obs, list[Info]]:
        if reset_states is not None and any(reset_states[int(i)] is not None for i in np.flatnonzero(ended)):
            raise UsageError("a start state cannot be chosen in SAME_STEP mode; build the vector env with DISABLED")
        if "final_obs" not in raw_infos:
            raise EnvironmentFault(
                f"{type(self._env.unwrapped).__name__} declares SAME_STEP but its info has no 'final_obs' where an "
                f"episode ended; it has {sorted(raw_infos)}"
            )
        next_obs: Obs = self._layout.copy(obs)
        infos = split_infos({k: v for k, v in raw_infos.items() if k not in _FINAL_KEYS}, self.num_envs)
        final_infos = split_infos(raw_infos.get("final_info", {}), self.num_envs)
        for i in np.flatnonzero(ended):
            self._layout.write(next_obs, int(i), raw_infos["final_obs"][i])
            reset_infos[i], infos[i] = infos[i], final_infos[i]
        return next_obs, infos

    def _reset_ended(
        self, next_obs: Obs, ended: Bools, reset_infos: list[Info | None], reset_states: ResetStates | None
    ) -> Obs:
        obs: Obs = self._layout.copy(next_obs)
        for mask, options in _reset_groups(ended, reset_states):
            raw, raw_infos = self._call("reset", options={"reset_mask": mask, **options})
            infos = split_infos(raw_infos, self.num_envs)
            for i in np.flatnonzero(mask):
                reset_infos[i] = infos[i]
            self._copy_rows(raw, obs, mask)
        return obs

    def _copy_rows(self, source: Obs, target: Obs, mask: Bools) -> None:
        space = self.single_observation_space
        for (_, new), (_, old) in zip(leaves(space, source), leaves(space, target), strict=True):
            old[mask] = new[mask]

    def _require_masked_reset(self, seed: Any) -> None:
        """Try a masked reset of row 0: rows that were not asked for must stay where they are.

        The caller resets everything with a seed afterwards, so nothing of this trial remains.
        """
        start = self._first_leaves(self._call("reset", seed=seed)[0])
        self._env.action_space.seed(0)
        for _ in range(3):
            raw, *_ = self._call("step", self._env.action_space.sample())
        before = self._first_leaves(raw)
        mask = np.arange(self.num_envs) == 0
        options = {"reset_mask": mask}
        try:
            after = self._first_leaves(self._env.reset(options=options)[0])
        except Exception as error:
            raise self._no_masked_reset() from error
        kept = all(np.array_equal(old[1:], new[1:]) for old, new in zip(before, after, strict=True))
        moved = any(not np.array_equal(old[1:], new[1:]) for old, new in zip(start, before, strict=True))
        understood = "reset_mask" not in options  # gymnasium's own take it out
        if not kept or not (moved or understood or self.num_envs == 1):
            raise self._no_masked_reset()
        self._masked_reset_known = True

    def _first_leaves(self, raw: Obs) -> list[Array]:
        return [array.copy() for _, array in leaves(self.single_observation_space, raw)]

    def _no_masked_reset(self) -> UsageError:
        return UsageError(
            f"{type(self._env.unwrapped).__name__} uses {self._mode.name} and cannot reset single rows: its reset() "
            "ignores options['reset_mask'], so the first step of every next episode would be lost.\n"
            "Use its single environment by id (rlkit then steps many of them), or support "
            "reset(options={'reset_mask': bool array [N]}), or AutoresetMode.SAME_STEP."
        )

    def _call(self, name: str, *arguments: Any, **keywords: Any) -> Any:
        try:
            return self._env.step(*arguments) if name == "step" else self._env.reset(**keywords)
        except RlkitError:
            raise
        except Exception as error:
            raise EnvironmentFault(
                f"{type(self._env.unwrapped).__name__} failed in {name} {self._steps}: {describe(error)}"
            ) from error


def _reset_groups(ended: Bools, reset_states: ResetStates | None) -> list[tuple[Bools, Info]]:
    """Masks of rows that can be reset in one call, each with its options; chosen start states go one by one."""
    states: Sequence[object | None] = reset_states or [None] * len(ended)
    chosen = np.array([state is not None for state in states]) & ended
    groups: list[tuple[Bools, Info]] = []
    if (ended & ~chosen).any():
        groups.append((ended & ~chosen, {}))
    for i in np.flatnonzero(chosen):
        groups.append((np.arange(len(ended)) == i, {"state": states[int(i)]}))
    return groups


def split_infos(infos: Info, num_envs: int) -> list[Info]:
    """One info dict per row from gymnasium's batched one, where `_key` masks the rows that have `key`.

    >>> split_infos({"speed": np.array([0.0, 2.0]), "_speed": np.array([False, True])}, 2)
    [{}, {'speed': np.float64(2.0)}]
    """
    rows: list[Info] = [{} for _ in range(num_envs)]
    for key, value in infos.items():
        if key.startswith("_") and key[1:] in infos:
            continue
        present = infos.get(f"_{key}", np.ones(num_envs, np.bool_))
        values = split_infos(value, num_envs) if isinstance(value, dict) else value
        for i in np.flatnonzero(present):
            rows[i][key] = values[i]
    return rows
