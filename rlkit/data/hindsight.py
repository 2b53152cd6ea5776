"""Hindsight experience replay (Andrychowicz et al. 2017, https://arxiv.org/abs/1707.01495).

A transition also teaches what it would have meant for another goal, one that its episode reached later: `desired_goal`
is replaced when sampling, and the reward computed anew. The ring holds what really happened.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rlkit.data.append_only import AppendOnly
from rlkit.data.replay import Batch, ReplayBuffer
from rlkit.data.store import Indices
from rlkit.errors import UnsupportedTaskError, UsageError
from rlkit.spaces import GOAL_KEYS, has_goals
from rlkit.types import Array, Bools, Floats, GoalReward, Obs, Task, Transition

_OPEN = -1  # end of an episode that still goes on
_CHECKED_STEPS = 100  # enough to meet a wrapper that changes rewards


class HindsightReplay(ReplayBuffer):
    """A replay buffer whose samples have, `goals` times of `goals` + 1, a goal that their episode reached later.

    The paper's strategy "future", with k = `goals`. Whether a transition terminated stays as it was.

    Args:
        observation_space: Dict with `observation`, `achieved_goal` and `desired_goal`.
        action_space: Space of one action.
        capacity: Transitions to hold.
        num_envs: Environments that step together.
        gamma: Discount per step.
        compute_reward: The environment's rewards for achieved and desired goals [B, *G].
        goals: Relabelled transitions for each real one.
    """

    def __init__(
        self,
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
        capacity: int,
        num_envs: int = 1,
        *,
        gamma: float,
        compute_reward: GoalReward,
        goals: int,
    ) -> None:
        super().__init__(observation_space, action_space, capacity, num_envs, gamma=gamma)
        self._compute_reward = compute_reward
        self._share = goals / (goals + 1)
        (self._achieved,) = (column for column in self._next_obs if column.path == ("achieved_goal",))
        self._last = np.full((self._length, num_envs), _OPEN)  # number of the last time step of each row's episode
        self._starts = np.zeros(num_envs, np.int64)  # number of the first time step of the episode that goes on

    def add(self, step: Transition) -> None:
        """Append one step of all environments.

        Raises:
            UsageError: the reward is not the one that the goals give, or they cannot be given several at once.
        """
        now = self._total_added
        if now < _CHECKED_STEPS:
            self._check_reward(step)
        super().add(step)
        place = now % self._length
        lost = (self._starts < now) & ~self._goes_on(np.array([place]))[0]
        self._close(np.flatnonzero(lost), now - 1)
        self._last[place] = _OPEN
        self._close(np.flatnonzero(step.ended), now)

    def _goes_on(self, places: Indices) -> Bools:
        """Whether the observations at these places [T] of the ring follow the steps before them, [T, N]."""
        follows = np.ones((len(places), self.num_envs), np.bool_)
        for obs, next_obs in zip(self._obs, self._next_obs, strict=True):
            here = self._ring[obs.storage][places, :, obs.start : obs.stop]
            there = self._ring[next_obs.storage][places - 1, :, next_obs.start : next_obs.stop]
            follows &= (here == there).all(axis=2)
        return follows

    def _check_reward(self, step: Transition) -> None:
        achieved, desired = _goal(step.next_obs, "achieved_goal"), _goal(step.next_obs, "desired_goal")
        if self._total_added == 0:  # one environment's single goal would not show what becomes of several
            self._reward(np.concatenate((achieved, achieved)), np.concatenate((desired, desired)))
        found = self._reward(achieved, desired)
        if not np.allclose(found, step.reward, rtol=1e-4, atol=1e-4):
            raise UsageError(
                f"agent.her: compute_reward gives {found.tolist()} where the environment gave {step.reward.tolist()}. "
                "Hindsight needs rewards that depend on the two goals alone; train without --agent.her"
            )

    def _reward(self, achieved: Array, desired: Array) -> Floats:
        nothing: list[dict[str, Any]] = [{} for _ in achieved]
        found = np.asarray(self._compute_reward(achieved, desired, nothing), np.float32)
        if found.size != len(achieved):
            raise UsageError(
                f"agent.her: compute_reward gives rewards {list(found.shape)} for goals {list(achieved.shape)}. It "
                "must accept batches [B, *G] and give rewards [B]: reduce over the goal's axes only; or train without "
                "--agent.her"
            )
        return found.reshape(len(achieved))

    def _close(self, envs: Indices, last: int) -> None:
        """The episodes of these environments ended with time step number `last`."""
        for env in envs:
            times = np.arange(max(self._starts[env], last - self._length + 1), last + 1)
            self._last[times % self._length, env] = last
            self._starts[env] = last + 1

    def sample(self, batch_size: int, rng: np.random.Generator) -> Batch:
        """`batch_size` transitions, uniformly with replacement; most of them with a goal reached later."""
        batch = super().sample(batch_size, rng)
        assert batch.indices is not None
        rows = np.flatnonzero(rng.random(batch_size) < self._share)
        goals = self._reached_later(batch.indices[rows], rng)
        for obs in (batch.obs, batch.next_obs):
            _goal(obs, "desired_goal")[rows] = goals
        batch.reward[rows] = self._reward(_goal(batch.next_obs, "achieved_goal")[rows], goals)
        return batch

    def _reached_later(self, slots: Indices, rng: np.random.Generator) -> Array:
        """A goal achieved at or after each slot's step, in its own episode, [B, *G]."""
        places, envs = np.divmod(slots, self.num_envs)
        newest = self._total_added - 1
        times = newest - (newest - places) % self._length
        last = self._last[places, envs]
        later = rng.integers(times, np.where(last == _OPEN, newest, last), endpoint=True)
        rows = (later % self._length) * self.num_envs + envs
        return self._achieved.of({self._achieved.storage: self._flat[self._achieved.storage][rows]})

    def restore(self, log: AppendOnly) -> None:
        """Take over what another store, or a checkpoint, holds; both must be laid out alike."""
        super().restore(log)
        times = np.arange(self.oldest_held, self._total_added)
        places = times % self._length
        is_last = (self._ring["float32"][places, :, self._ends + 1 : self._ends + 3] != 0).any(axis=2)  # [T, N]
        is_last[:-1] |= ~self._goes_on(places[1:])
        never = np.iinfo(np.int64).max
        numbers = np.where(is_last, times[:, None], never)
        last = np.minimum.accumulate(numbers[::-1])[::-1]
        self._last[places] = np.where(last == never, _OPEN, last)
        self._starts = np.where(is_last, times[:, None] + 1, self.oldest_held).max(axis=0, initial=0)


def hindsight_replay(
    task: Task, action_space: spaces.Box, capacity: int, *, gamma: float, goals: int
) -> HindsightReplay:
    """A replay for the task's goals.

    Raises:
        UnsupportedTaskError: the observations have no goals, or the environment does not tell their rewards.
    """
    if not has_goals(task.observation_space):
        raise UnsupportedTaskError(
            f"agent.her needs observations that are a Dict of {', '.join(GOAL_KEYS)}; these are "
            f"{task.observation_space}. Train without --agent.her, or on an environment with goals"
        )
    if task.compute_reward is None:
        raise UnsupportedTaskError(
            "agent.her needs the environment's compute_reward(achieved, desired, info), in this process and without "
            "wrappers that change observations or rewards: leave out --wrap and --vector process, or --agent.her"
        )
    return HindsightReplay(
        task.observation_space, action_space, capacity, task.num_envs,
        gamma=gamma, compute_reward=task.compute_reward, goals=goals,
    )  # fmt: skip


def _goal(obs: Obs, key: str) -> Array:
    assert isinstance(obs, dict)
    goal = obs[key]
    assert isinstance(goal, np.ndarray)
    return goal
