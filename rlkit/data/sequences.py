"""A rollout for agents that remember: where episodes begin, and from what memory its steps went on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from rlkit.data.rollout import Evaluated, Indices, Rollout
from rlkit.types import Array, Bools, Floats, State

Beginning: TypeAlias = tuple[Any, ...]
"""What rows go on from, torch tensors [N, ...]."""
SequenceValues: TypeAlias = Callable[[Array, Bools, Beginning | None], Floats]
"""V(s) [N, T] of observations [N, T, O] of which these are first in their episodes, after a beginning."""


@dataclass(frozen=True, slots=True)
class SequenceBatch:
    """T steps of B rows as an update needs them."""

    obs: Array  # [B, T, O]
    is_first: Bools  # [B, T]
    action: Array  # [B, T, K] raw
    log_prob: Floats  # [B, T] when they were taken
    advantage: Floats  # [B, T]
    target: Floats  # [B, T] for the values
    value: Floats  # [B, T] when the rollout ended
    action_mask: Bools | None = None  # [B, T, A]
    next_obs: Array | None = None  # [B, T, O] true successors, where somebody learns from them
    beginning: Beginning | None = None  # tensors [B, ...]

    def __len__(self) -> int:
        """B · T."""
        return self.log_prob.size

    def take(self, rows: Indices) -> SequenceBatch:
        """Some of the rows."""
        beginning = None if self.beginning is None else tuple(part[rows] for part in self.beginning)
        arrays = {name: array[rows] for name, array in self._arrays().items()}
        return replace(self, **arrays, beginning=beginning)

    def apart(self) -> SequenceBatch:
        """Every step a row of its own, in the order of time, for networks that remember nothing."""
        arrays = {name: array.swapaxes(0, 1).reshape(-1, 1, *array.shape[2:]) for name, array in self._arrays().items()}
        return replace(self, **arrays, beginning=None)

    def keep(self, wanted: Bools) -> SequenceBatch:
        """The steps wanted [T, B], which begin with an episode's first in every row, packed into one row.

        Of steps that are apart, those wanted.
        """
        if self.log_prob.shape[1] == 1:
            return self.take(np.flatnonzero(wanted))
        packed = {name: array[wanted.T][None] for name, array in self._arrays().items()}
        return replace(self, **packed, beginning=None)

    def minibatches(self, size: int, rng: np.random.Generator) -> Iterator[SequenceBatch]:
        """Every row once in random order, as many at a time as have `size` steps, at least one."""
        rows, steps = self.log_prob.shape
        order, each = rng.permutation(rows), max(size // steps, 1)
        for start in range(0, rows, each):
            yield self.take(order[start : start + each])

    def _arrays(self) -> dict[str, Array]:
        found = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "beginning"}
        return {name: array for name, array in found.items() if array is not None}


class WithSuccessors(NamedTuple):
    """Steps of B rows with true successors put in where the next step is none."""

    obs: Array  # [B, L, O]; rows that need fewer steps end in zeros
    is_first: Bools  # [B, L]
    cut: Bools  # [B, T] where a successor was put in: the episode goes on, the row does not
    place: Indices  # [B, T] of each step within its longer row
    next_place: Indices  # [B, T] of its true successor; of no meaning where it terminated


def with_successors(obs: Array, next_obs: Array, is_first: Bools, terminated: Bools) -> WithSuccessors:
    """T steps of B rows [B, T, O] as longer ones, in which a memory meets every step's true successor.

    A step that was truncated, or after which the episode was lost, is followed by its successor within its own episode;
    so is the last step of a row. Nothing comes after that successor in its episode, so no other step hears of it.
    """
    cut = ~terminated
    cut[:, :-1] &= is_first[:, 1:]
    place = np.arange(cut.shape[1]) + np.cumsum(cut, axis=1) - cut
    length = int((place[:, -1] + cut[:, -1]).max()) + 1
    row = np.arange(len(cut))[:, None]
    longer = np.zeros((len(cut), length, obs.shape[2]), obs.dtype)
    begins = np.zeros((len(cut), length), np.bool_)
    longer[row, place], begins[row, place] = obs, is_first
    at_row, at_time = np.nonzero(cut)
    longer[at_row, place[at_row, at_time] + 1] = next_obs[at_row, at_time]
    return WithSuccessors(longer, begins, cut, place, np.minimum(place + 1, length - 1))


class SequenceRollout(Rollout):
    """A `Rollout` that knows which steps are the first of their episodes."""

    def __init__(
        self, length: int, num_envs: int, obs_size: int, action_size: int, action_dtype: np.dtype[Any], mask_size: int,
        obs_dtype: npt.DTypeLike = np.float32,
    ) -> None:  # fmt: skip
        super().__init__(length, num_envs, obs_size, action_size, action_dtype, mask_size, obs_dtype)
        self.beginning: Beginning | None = None
        """Memory before the first step held; None: none of it belongs to an episode that goes on."""
        self._ended = np.ones(num_envs, np.bool_)  # whether the newest step of each environment ended its episode
        self._expected: Array = np.zeros((num_envs, obs_size), obs_dtype)  # what follows it if not

    def _allocate(self, length: int) -> None:
        super()._allocate(length)
        self.is_first = np.zeros((length, self._widths[0]), np.bool_)

    def add(
        self, obs: Array, action: Array, log_prob: Floats, reward: Floats, next_obs: Array,
        terminated: Bools, truncated: Bools, action_mask: Bools | None,
    ) -> None:  # fmt: skip
        """As of the rollout; an environment that lost its episode begins one too."""
        now = len(self)
        super().add(obs, action, log_prob, reward, next_obs, terminated, truncated, action_mask)
        self.is_first[now] = self._ended | (obs != self._expected).any(axis=1)
        self._ended, self._expected = terminated | truncated, next_obs.copy()

    def begin_with(self, beginning: Beginning) -> None:
        """Begin the next rollout with the memory that acting goes on with."""
        self.clear()
        self.beginning = beginning

    def forget(self, steps: int) -> None:
        """Drop the oldest steps; what is held then begins with nothing."""
        super().forget(steps)
        if steps:
            self.beginning = None

    def evaluate_sequences(self, values: SequenceValues, first: int = 0) -> Evaluated:
        """As `evaluate`; each cut step's true successor is valued as the step after it in its own episode."""
        held = slice(first, len(self))
        obs, next_obs = (array[held].swapaxes(0, 1) for array in (self.obs, self.next_obs))
        is_first, terminated = (array[held].swapaxes(0, 1) for array in (self.is_first, self.terminated))
        longer = with_successors(obs, next_obs, is_first, terminated)
        found = values(longer.obs, longer.is_first, self.beginning if first == 0 else None)
        row = np.arange(len(found))[:, None]
        value, next_value = found[row, longer.place].T, found[row, longer.next_place].T
        return Evaluated(self.reward[held], value, next_value, self.terminated[held], longer.cut.T)

    def sequences(self, value: Floats, advantage: Floats, *, with_next: bool = False) -> SequenceBatch:
        """The newest T steps, rows first, given values and advantages [T, N]; true successors where wanted."""
        first = len(self) - len(advantage)
        held = slice(first, len(self))
        by_row = {
            "obs": self.obs[held], "is_first": self.is_first[held], "action": self.action[held],
            "log_prob": self.log_prob[held], "advantage": advantage, "target": advantage + value, "value": value,
        }  # fmt: skip
        if self.action_mask is not None:
            by_row["action_mask"] = self.action_mask[held]
        if with_next:
            by_row["next_obs"] = self.next_obs[held]
        arrays: dict[str, Any] = {name: array.swapaxes(0, 1) for name, array in by_row.items()}
        return SequenceBatch(**arrays, beginning=self.beginning if first == 0 else None)

    def state(self) -> State:
        """Copies of the steps held, and what they and the next one go on from."""
        return {
            "steps": super().state(),
            "beginning": self.beginning,
            "ended": self._ended.copy(),
            "expected": self._expected.copy(),
        }

    @staticmethod
    def length_of(state: State) -> int:
        """Time steps that a stored rollout holds."""
        return Rollout.length_of(state["steps"])

    def restore(self, state: State) -> None:
        """Take over what `state` returned. Raises CheckpointError where it does not fit."""
        super().restore(state["steps"])
        beginning = state["beginning"]
        self.beginning = None if beginning is None else tuple(beginning)
        self._ended, self._expected = state["ended"].copy(), state["expected"].copy()

    def _arrays(self) -> dict[str, Array]:
        return super()._arrays() | {"is_first": self.is_first}
