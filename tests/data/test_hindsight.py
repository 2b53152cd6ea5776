"""Hindsight replay: goals come from the same episode and not from before, with the rewards that belong to them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from rlkit.data.hindsight import HindsightReplay
from rlkit.errors import UsageError
from rlkit.types import GoalReward, Transition

GOAL = spaces.Box(-np.inf, np.inf, (1,), np.float32)
SPACE = spaces.Dict(observation=GOAL, achieved_goal=GOAL, desired_goal=GOAL)
FAR = 1e6


def reward(achieved: Any, desired: Any, info: Any) -> Any:
    return -(np.abs(achieved - desired) > 0.5).astype(np.float32)[..., 0]


def replay(
    capacity: int = 400, num_envs: int = 2, goals: int = 4, compute_reward: GoalReward = reward
) -> HindsightReplay:
    action = spaces.Box(-1.0, 1.0, (1,))
    return HindsightReplay(SPACE, action, capacity, num_envs, gamma=0.9, compute_reward=compute_reward, goals=goals)


def observed(episode: Any, time: Any) -> dict[str, Any]:
    """What was achieved tells episode and time: 1000 * episode + time."""
    achieved = (1000.0 * np.asarray(episode) + np.asarray(time)).astype(np.float32)[:, None]
    return {"observation": achieved, "achieved_goal": achieved, "desired_goal": np.full_like(achieved, FAR)}


def fill(buffer: HindsightReplay, steps: int, lengths: tuple[int, ...] = (7, 11), *, told: bool = True) -> None:
    """Episodes of these lengths in each environment, numbered apart; `told`: their ends are marked."""
    time, episode = np.zeros(len(lengths), int), np.arange(len(lengths))
    for _ in range(steps):
        over = time + 1 == np.array(lengths)
        count = len(lengths)
        buffer.add(
            Transition(
                observed(episode, time), np.zeros((count, 1), np.float32), np.full(count, -1.0, np.float32),
                observed(episode, time + 1), np.zeros(count, np.bool_), over & told,
            )
        )  # fmt: skip
        time = np.where(over, 0, time + 1)
        episode = np.where(over, episode + count, episode)


@pytest.mark.parametrize(("capacity", "told"), [(400, True), (60, True), (60, False)])
def test_goals_were_achieved_later_in_the_same_episode(capacity: int, told: bool) -> None:
    """Also after the ring has gone round, and where an episode was lost without an end."""
    buffer = replay(capacity)
    fill(buffer, 100, told=told)
    batch = buffer.sample(4000, np.random.default_rng(0))
    goals, reached = batch.next_obs["desired_goal"][:, 0], batch.next_obs["achieved_goal"][:, 0]
    np.testing.assert_array_equal(batch.obs["desired_goal"][:, 0], goals)
    relabelled = goals != FAR
    assert relabelled.mean() == pytest.approx(0.8, abs=0.03)
    ahead = (goals - reached)[relabelled]
    np.testing.assert_array_equal(goals[relabelled] // 1000, batch.obs["achieved_goal"][relabelled, 0] // 1000)
    assert ahead.min() == 0
    assert ahead.max() == 10  # from the first step of an episode of eleven to its last
    np.testing.assert_array_equal(batch.reward, np.where(goals == reached, 0.0, -1.0))


def test_real_transitions_stay_in_the_ring() -> None:
    buffer = replay()
    fill(buffer, 20)
    before = {name: rows.copy() for name, rows in buffer.rows(0, 20).items()}
    buffer.sample(100, np.random.default_rng(0))
    assert all((rows == before[name]).all() for name, rows in buffer.rows(0, 20).items())


@pytest.mark.parametrize("capacity", [400, 60])
def test_a_restored_replay_gives_the_same_samples(capacity: int) -> None:
    buffer, twin = replay(capacity), replay(capacity)
    fill(buffer, 100)
    twin.restore(buffer)
    for each in (buffer, twin):  # and goes on alike
        fill(each, 5, (20, 3))
    one, other = (each.sample(500, np.random.default_rng(1)) for each in (buffer, twin))
    np.testing.assert_array_equal(one.next_obs["desired_goal"], other.next_obs["desired_goal"])
    np.testing.assert_array_equal(one.reward, other.reward)


def test_rewards_that_the_goals_do_not_give_are_refused() -> None:
    buffer = replay(num_envs=1)
    one = np.zeros(1, np.bool_)
    step = Transition(
        observed([0], [0]), np.zeros((1, 1), np.float32), np.full(1, 5.0, np.float32), observed([0], [1]), one, one
    )
    with pytest.raises(UsageError, match="without --agent"):
        buffer.add(step)


@pytest.mark.parametrize("num_envs", [1, 2])
def test_a_reward_of_single_goals_is_refused_with_the_first_step(num_envs: int) -> None:
    """Its norm is over the whole batch: right for one environment, but one number for many goals."""

    def single(achieved: Any, desired: Any, info: Any) -> Any:
        return -float(np.linalg.norm(achieved - desired) > 0.5)

    buffer = replay(num_envs=num_envs, compute_reward=single)
    with pytest.raises(UsageError, match=r"accept batches \[B, \*G\]"):
        fill(buffer, 1, (7,) * num_envs)
