"""The rollout: true successors are valued where they must be, minibatches cover it, and it resumes in the middle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rlkit.codec import copy_tree
from rlkit.data.rollout import Rollout, minibatches
from rlkit.errors import CheckpointError, MemoryBudgetError, UsageError

T, N, ACTIONS = 6, 2, 3
INTEGERS = np.dtype(np.int64)


def empty(length: int = T) -> Rollout:
    return Rollout(length, N, 1, 1, INTEGERS, ACTIONS)


def add(rollout: Rollout, time: int, **changes: Any) -> None:
    """A step from observation `time` to `time + 1`, 100 more in the second environment."""
    obs = np.array([[time], [100 + time]], np.float32)
    never = np.zeros(N, np.bool_)
    step: dict[str, Any] = {
        "obs": obs, "action": np.full((N, 1), time), "log_prob": np.full(N, -time, np.float32),
        "reward": np.full(N, time, np.float32), "next_obs": obs + 1, "terminated": never, "truncated": never,
        "action_mask": None,
    }  # fmt: skip
    rollout.add(**step | changes)


class Values:
    """V(s) is ten times the observation; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[float]] = []

    def __call__(self, obs: Any) -> Any:
        self.asked.append(obs[:, 0].tolist())
        return 10 * obs[:, 0]


def test_only_successors_that_are_no_row_are_valued_and_they_are_the_true_ones() -> None:
    """Row 0 terminates in step 1, row 1 is truncated in step 2 and loses its episode after step 4."""
    rollout, values = empty(), Values()
    for time in range(T):
        end = {1: {"terminated": np.array([True, False])}, 2: {"truncated": np.array([False, True])}}.get(time, {})
        if time == 2:
            end["next_obs"] = np.array([[3.0], [555.0]], np.float32)
        if time == 4:
            end["next_obs"] = np.array([[5.0], [777.0]], np.float32)
        add(rollout, time, **end)
    found = rollout.evaluate(values)
    assert sorted(values.asked[1]) == [6.0, 106.0, 555.0, 777.0]
    np.testing.assert_array_equal(found.value[:, 1], 1000 + 10 * np.arange(T))
    np.testing.assert_array_equal(found.next_value[:, 0], [10, 20, 30, 40, 50, 60])
    np.testing.assert_array_equal(found.next_value[:, 1], [1010, 1020, 5550, 1040, 7770, 1060])
    np.testing.assert_array_equal(found.terminated[:, 0], np.arange(T) == 1)
    np.testing.assert_array_equal(found.truncated[:, 0], np.arange(T) == 5)
    np.testing.assert_array_equal(found.truncated[:, 1], np.isin(np.arange(T), [2, 4, 5]))


def test_a_truncation_counts_also_where_the_next_episode_begins_where_the_last_one_stopped() -> None:
    rollout = empty(3)
    for time in range(3):
        add(rollout, time, truncated=np.array([time == 0, False]))
    np.testing.assert_array_equal(rollout.evaluate(Values()).truncated, [[True, False], [False, False], [True, True]])


def test_a_rollout_whose_last_steps_terminate_has_nothing_more_to_value() -> None:
    rollout, values = empty(1), Values()
    add(rollout, 0, terminated=np.ones(N, np.bool_))
    assert not rollout.evaluate(values).truncated.any()
    assert len(values.asked) == 1


def test_minibatches_hold_every_step_once_and_belong_together() -> None:
    rollout = empty()
    for time in range(T):
        add(rollout, time)
    value = np.arange(T * N, dtype=np.float32).reshape(T, N)
    batch = rollout.batch(value, value + 1)
    parts = list(minibatches(batch, 5, np.random.default_rng(0)))
    assert [len(part) for part in parts] == [5, 5, 2]
    np.testing.assert_array_equal(sorted(np.concatenate([part.value for part in parts])), np.arange(T * N))
    for part in parts:
        np.testing.assert_array_equal(part.advantage, part.value + 1)
        np.testing.assert_array_equal(part.target, 2 * part.value + 1)
        np.testing.assert_array_equal(part.action[:, 0], part.value // N)
        np.testing.assert_array_equal(part.log_prob, -(part.value // N))
        np.testing.assert_array_equal(part.obs[:, 0], part.value // N + 100 * (part.value % N))
        assert part.action_mask is None
    again = list(minibatches(batch, 5, np.random.default_rng(0)))
    np.testing.assert_array_equal(again[0].value, parts[0].value)
    assert (parts[0].value != np.arange(5)).any()


def test_masks_are_kept_from_the_first_on_and_what_came_before_allows_everything() -> None:
    rollout = empty(3)
    add(rollout, 0)
    add(rollout, 1, action_mask=np.array([[True, False, True], [False, True, True]]))
    add(rollout, 2)
    mask = rollout.batch(rollout.reward, rollout.reward).action_mask
    assert mask is not None
    np.testing.assert_array_equal(~mask, [[0, 0, 0], [0, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]])
    rollout.clear()
    add(rollout, 0)
    assert rollout.batch(rollout.reward[:1], rollout.reward[:1]).action_mask is None


@pytest.mark.parametrize("masked", [False, True])
def test_a_restored_rollout_goes_on_where_it_was(masked: bool) -> None:
    options = {"action_mask": np.array([[True, False, True]] * N)} if masked else {}
    first, second = empty(), empty()
    add(second, 3)  # overwritten
    for time in range(4):
        add(first, time, **options)
    second.restore(copy_tree(first.state()))
    assert len(second) == 4
    for rollout in (first, second):
        add(rollout, 4, **options)
        add(rollout, 5)
        assert rollout.is_full
    for name, array in first.state().items():
        np.testing.assert_array_equal(second.state()[name], array)


def test_an_empty_rollout_restores_an_empty_one() -> None:
    rollout = empty()
    add(rollout, 0)
    rollout.restore(empty().state())
    assert len(rollout) == 0


def test_a_rollout_grows_and_forgets() -> None:
    rollout = empty(2)
    for time in range(5):
        if rollout.is_full:
            rollout.lengthen(2 * len(rollout))
        add(rollout, time, **({"action_mask": np.array([[True, False, True]] * N)} if time == 3 else {}))
    rollout.forget(2)
    batch = rollout.batch(rollout.reward[:3], rollout.reward[:3])
    np.testing.assert_array_equal(batch.obs[:, 0], [2, 102, 3, 103, 4, 104])
    assert batch.action_mask is not None
    np.testing.assert_array_equal(batch.action_mask.all(axis=1), [True, True, False, False, True, True])
    found = rollout.evaluate(Values())
    np.testing.assert_array_equal(found.next_value[:, 0], [30, 40, 50])
    np.testing.assert_array_equal(found.truncated[:, 0], [False, False, True])


def test_mistakes_are_named() -> None:
    rollout = empty(1)
    add(rollout, 0)
    with pytest.raises(UsageError, match="clear it"):
        add(rollout, 1)
    with pytest.raises(CheckpointError, match="n_steps"):
        rollout.restore(Rollout(1, N + 1, 1, 1, INTEGERS, ACTIONS).state())
    with pytest.raises(MemoryBudgetError, match="n_steps"):
        Rollout(10**9, 10**4, 100, 1, INTEGERS, ACTIONS)
