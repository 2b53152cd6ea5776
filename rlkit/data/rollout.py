"""A rollout: T steps of N environments, from which an on-policy agent learns once, and its minibatches.

Values are not stored while acting: the weights stand still during a rollout, so one pass over all of it at its end
gives the same numbers for less. The true successor of every step is kept, but only valued where it is no row of the
rollout: where an episode was truncated, where the environment lost one, and after the last step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from rlkit.data.memory import check_budget
from rlkit.errors import CheckpointError, UsageError
from rlkit.types import Array, Bools, Floats, State

Values: TypeAlias = Callable[[Array], Floats]
"""V(s) [M] of observations [M, O]."""
Indices: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RolloutBatch:
    """B steps of a rollout as an update needs them."""

    obs: Array  # [B, O]
    action: Array  # [B, K] raw
    log_prob: Floats  # [B] when they were taken
    advantage: Floats  # [B]
    target: Floats  # [B] for the values
    value: Floats  # [B] when the rollout ended
    action_mask: Bools | None = None  # [B, A]

    def __len__(self) -> int:
        """B."""
        return len(self.obs)

    def take(self, rows: Indices | slice) -> RolloutBatch:
        """The steps `rows`."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: part[rows] for name, part in parts.items() if part is not None})

    def keep(self, wanted: Bools) -> RolloutBatch:
        """The steps wanted, [T, N]."""
        return self.take(np.flatnonzero(wanted))


class Evaluated(NamedTuple):
    """What advantages are computed from, each [T, N]."""

    reward: Floats
    value: Floats
    next_value: Floats  # of the true successor
    terminated: Bools
    truncated: Bools  # the trace ends here without termination


class Rollout:
    """Steps of `num_envs` environments until there are `length`.

    Args:
        length: T, steps of each environment.
        num_envs: N.
        obs_size: Width of an observation.
        action_size: Numbers in one raw action.
        action_dtype: Their type.
        mask_size: Width of the masks of allowed actions; memory for them is claimed with the first.
        obs_dtype: Type of an observation's numbers.

    Raises:
        MemoryBudgetError: the rollout would not fit.
    """

    def __init__(
        self, length: int, num_envs: int, obs_size: int, action_size: int, action_dtype: np.dtype[Any], mask_size: int,
        obs_dtype: npt.DTypeLike = np.float32,
    ) -> None:  # fmt: skip
        self._widths = (num_envs, obs_size, action_size, mask_size)
        self._action_dtype, self._obs_dtype = action_dtype, np.dtype(obs_dtype)
        self._allocate(length)

    def _allocate(self, length: int) -> None:
        """Arrays for `length` steps, none of them taken."""
        num_envs, obs_size, action_size, mask_size = self._widths
        shape, bytes_each = (length, num_envs), self._action_dtype.itemsize * action_size + 10
        bytes_each += 2 * self._obs_dtype.itemsize * obs_size
        steps = length * num_envs
        check_budget(
            f"a rollout of {steps:,} steps", steps * bytes_each, "Choose a smaller n_steps or shorter episodes."
        )
        self._mask_shape = (*shape, mask_size)
        self._steps = 0
        self.obs: Array = np.zeros((*shape, obs_size), self._obs_dtype)
        self.next_obs: Array = np.zeros((*shape, obs_size), self._obs_dtype)
        self.action = np.zeros((*shape, action_size), self._action_dtype)
        self.reward = np.zeros(shape, np.float32)
        self.terminated = np.zeros(shape, np.bool_)
        self.truncated = np.zeros(shape, np.bool_)
        self.log_prob = np.zeros(shape, np.float32)
        self.action_mask: Bools | None = None

    def __len__(self) -> int:
        """Time steps held."""
        return self._steps

    @property
    def is_full(self) -> bool:
        """Whether all T steps are there."""
        return self._steps == len(self.reward)

    def add(
        self, obs: Array, action: Array, log_prob: Floats, reward: Floats, next_obs: Array,
        terminated: Bools, truncated: Bools, action_mask: Bools | None,
    ) -> None:  # fmt: skip
        """Append one step: observations [N, O], raw actions [N, K], masks [N, A] or None, the rest [N]."""
        if self.is_full:
            raise UsageError(f"the rollout holds all its {self._steps} steps: learn from it and clear it")
        now = self._steps
        self.obs[now] = obs
        self.next_obs[now] = next_obs
        self.action[now] = action
        self.reward[now] = reward
        self.terminated[now] = terminated
        self.truncated[now] = truncated
        self.log_prob[now] = log_prob
        if action_mask is not None:
            self._masks()[now] = action_mask
        elif self.action_mask is not None:
            self.action_mask[now] = True
        self._steps += 1

    def _masks(self) -> Bools:
        if self.action_mask is None:
            self.action_mask = np.ones(self._mask_shape, np.bool_)
        return self.action_mask

    def clear(self) -> None:
        """Begin the next rollout."""
        self._steps = 0
        self.action_mask = None

    def lengthen(self, length: int) -> None:
        """Make place for `length` steps and keep those held."""
        state = self.state()
        self._allocate(length)
        self.restore(state)

    def forget(self, steps: int) -> None:
        """Drop the oldest `steps`."""
        if steps == 0:
            return
        for array in self._arrays().values():
            array[: self._steps - steps] = array[steps : self._steps].copy()
        self._steps -= steps

    def evaluate(self, values: Values, first: int = 0) -> Evaluated:
        """Values of every step held from `first` on and of its true successor; the trace of the last one is cut."""
        held = slice(first, self._steps)
        obs, next_obs = self.obs[held], self.next_obs[held]
        truncated = ~self.terminated[held]
        truncated[:-1] &= self.truncated[held][:-1] | (obs[1:] != next_obs[:-1]).any(axis=2)

        value = values(obs.reshape(-1, obs.shape[2])).reshape(truncated.shape)
        next_value = np.zeros_like(value)
        next_value[:-1] = value[1:]
        if truncated.any():
            next_value[truncated] = values(next_obs[truncated])
        return Evaluated(self.reward[held], value, next_value, self.terminated[held], truncated)

    def batch(self, value: Floats, advantage: Floats) -> RolloutBatch:
        """The newest T steps as one batch [T · N], given values and advantages [T, N]; row t · N + n is step t of n."""
        held, rows = slice(self._steps - len(advantage), self._steps), advantage.size
        mask = self.action_mask
        return RolloutBatch(
            obs=self.obs[held].reshape(rows, -1),
            action=self.action[held].reshape(rows, -1),
            log_prob=self.log_prob[held].reshape(rows),
            advantage=advantage.reshape(rows),
            target=(advantage + value).reshape(rows),
            value=value.reshape(rows),
            action_mask=None if mask is None else mask[held].reshape(rows, -1),
        )

    def state(self) -> State:
        """Copies of the steps held, for a checkpoint."""
        return {name: array[: self._steps].copy() for name, array in self._arrays().items()}

    @staticmethod
    def length_of(state: State) -> int:
        """Time steps that a stored rollout holds."""
        return len(state["reward"])

    def restore(self, state: State) -> None:
        """Take over what `state` returned. Raises CheckpointError where it does not fit."""
        if "action_mask" in state:
            self._masks()
        else:
            self.action_mask = None
        for name, array in self._arrays().items():
            found = state[name]
            if found.shape[1:] != array.shape[1:] or len(found) > len(array) or found.dtype != array.dtype:
                raise CheckpointError(
                    f"the stored rollout's {name} is {found.dtype}{list(found.shape)}, this one takes up to "
                    f"{array.dtype}{list(array.shape)}; resume with the n_steps and number of environments it had"
                )
            array[: len(found)] = found
            self._steps = len(found)

    def _arrays(self) -> dict[str, Array]:
        arrays: dict[str, Array] = {
            "obs": self.obs, "next_obs": self.next_obs, "action": self.action, "reward": self.reward,
            "terminated": self.terminated, "truncated": self.truncated, "log_prob": self.log_prob,
        }  # fmt: skip
        return arrays if self.action_mask is None else arrays | {"action_mask": self.action_mask}


def minibatches(batch: RolloutBatch, size: int, rng: np.random.Generator) -> Iterator[RolloutBatch]:
    """Every step once in random order, `size` at a time; the last may be smaller."""
    shuffled = batch.take(rng.permutation(len(batch)))
    for start in range(0, len(batch), size):
        yield shuffled.take(slice(start, start + size))
