"""REINFORCE's own promises: whole episodes only, discounted returns, with and without a baseline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

import rlkit
from rlkit.agents.reinforce import REINFORCE, REINFORCEConfig
from rlkit.data.rollout import RolloutBatch
from rlkit.types import Task, Transition

TASK = Task(spaces.Box(-1.0, 1.0, (2,), np.float32), spaces.Discrete(3), num_envs=2, total_steps=400)


class Recorder(REINFORCE):
    """Keeps what it learned from."""

    def __init__(self, **options: Any) -> None:
        super().__init__(REINFORCEConfig(**{"gamma": 0.5, "hidden": (16,)} | options), TASK)
        self.seen: list[RolloutBatch] = []

    def learn(self, batch: RolloutBatch) -> Any:
        self.seen.append(batch)
        return super().learn(batch)

    def step(self, time: int, terminated: tuple[bool, bool], truncated: tuple[bool, bool] = (False, False)) -> bool:
        """Rewards are the time, and ten times it in the second environment; whether it learned."""
        obs = np.array([[time, 0], [time, 1]], np.float32)
        action, _, extras = self.act(obs, (), explore=True, rng=np.random.default_rng(time))
        reward = np.array([time, 10 * time], np.float32)
        next_obs = obs + np.array([1, 0], np.float32)
        ends = np.array(terminated), np.array(truncated)
        self.observe(Transition(obs, action, reward, next_obs, *ends, extras=extras), ())
        return bool(self.update())


def returns(batch: RolloutBatch) -> dict[tuple[int, int], float]:
    """Returns by time and environment."""
    return {(int(time), int(row)): value for (time, row), value in zip(batch.obs, batch.target, strict=True)}


def test_it_learns_from_whole_episodes_and_keeps_the_running_ones() -> None:
    """The first environment ends after times 1 and 4, the second after time 3; returns by hand with gamma 1/2."""
    agent = Recorder(episodes=2, baseline=False)
    learned = [agent.step(time, (time in (1, 4), time == 3)) for time in range(6)]
    assert learned == [False, False, False, True, False, False]
    (batch,) = agent.seen
    expected = {(0, 0): 0.5, (1, 0): 1.0, (0, 1): 0 + 5 + 5 + 3.75, (1, 1): 10 + 10 + 7.5, (2, 1): 20 + 15, (3, 1): 30}
    assert returns(batch) == pytest.approx(expected)
    np.testing.assert_array_equal(batch.advantage, batch.target)

    assert agent.step(6, (False, True))  # the first environment's episode from time 2 on, the second's from 4 on
    expected = {(2, 0): 2 + 1.5 + 1, (3, 0): 3 + 2, (4, 0): 4, (4, 1): 40 + 25 + 15, (5, 1): 50 + 30, (6, 1): 60}
    assert returns(agent.seen[1]) == pytest.approx(expected)
    assert len(agent.rollout) == 2  # times 5 and 6 of the first environment


@pytest.mark.parametrize("baseline", [True, False])
def test_a_truncated_return_goes_on_with_the_baseline_where_there_is_one(baseline: bool) -> None:
    agent = Recorder(episodes=2, baseline=baseline)
    values = agent.actor.network.values(np.array([[2, 0], [2, 1]], np.float32))
    agent.step(0, (False, False))
    assert agent.step(1, (False, False), (True, True))
    (batch,) = agent.seen
    added = values if baseline else np.zeros(2)
    np.testing.assert_allclose(batch.target[batch.obs[:, 0] == 1], [1, 10] + 0.5 * added, rtol=1e-5)
    np.testing.assert_allclose(batch.target[batch.obs[:, 0] == 0], [0.5, 5] + 0.25 * added, rtol=1e-5)
    assert (batch.value == 0).all() != baseline


def test_without_a_baseline_the_value_network_stays_as_it_is() -> None:
    for baseline in (True, False):
        agent = Recorder(episodes=1, baseline=baseline)
        before = agent.actor.network.flat.clone()
        size = agent.actor.network.value.flat.numel()
        agent.step(1, (True, True))
        changed = agent.actor.network.flat != before
        assert changed[-size:].any() == baseline
        assert changed[:-size].any()


def test_a_long_episode_is_valued_when_it_ends_and_not_with_every_update_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second environment's episodes last ten steps, the first one's a hundred; numbers as if all were valued."""
    agent = Recorder(episodes=1)
    values, learn = agent.actor.network.values, agent.learn
    valued: list[int] = []

    def checked(batch: RolloutBatch) -> Any:
        counted = list(valued)
        everything = returns(agent.actor.batch(agent.rollout, 0.5, gae_lambda=1.0))
        valued[:] = counted
        found = returns(batch)
        assert found == pytest.approx({step: everything[step] for step in found}, rel=1e-5)
        return learn(batch)

    monkeypatch.setattr(agent, "learn", checked)
    monkeypatch.setattr(agent.actor.network, "values", lambda obs: valued.append(len(obs)) or values(obs))
    for time in range(100):
        agent.step(time, (time == 99, time % 10 == 9))
    steps = [{(int(time), int(row)) for time, row in batch.obs} for batch in agent.seen]
    assert steps[:9] == [{(time, 1) for time in range(start, start + 10)} for start in range(0, 90, 10)]
    assert steps[9] == {(time, 0) for time in range(100)} | {(time, 1) for time in range(90, 100)}
    assert sum(valued[:-1]) <= 9 * 22  # ten steps of both, and at most one successor of each
    assert len(agent.rollout) == 0


def test_longer_episodes_than_there_is_place_for_are_kept() -> None:
    agent = Recorder(episodes=1, gamma=1.0, baseline=False)
    assert not any(agent.step(time, (False, False)) for time in range(700))
    assert agent.step(700, (True, False))
    assert len(agent.seen[0]) == 701
    assert agent.seen[0].target[0] == 700 * 701 / 2


def test_a_restored_agent_has_the_running_episodes() -> None:
    agent = Recorder(episodes=2)
    for time in range(300):
        agent.step(time, (time == 5, False))
    twin = Recorder(episodes=2)
    twin.load_policy_state(agent.policy_state())
    twin.load_training_state(agent.training_state())
    for each in (agent, twin):
        assert each.step(300, (False, True))
    np.testing.assert_array_equal(agent.seen[0].target, twin.seen[0].target)
    assert (agent.actor.network.flat == twin.actor.network.flat).all()


def test_it_learns_to_keep_the_pole_up(tmp_path: Path) -> None:
    result = rlkit.train("reinforce", "CartPole-v1", total_steps=50_000, run_dir=tmp_path / "run", seed=0, eval_every=0)
    assert rlkit.evaluate(result.run_dir, episodes=20, seed=1).mean > 150
