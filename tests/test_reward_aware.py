"""Actors that act by their rewards hear of them wherever they act."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

import rlkit
from rlkit.envs.make import make
from rlkit.errors import UsageError
from rlkit.types import RewardAware, State, Task, Transition


class Paying(gym.Env[Any, Any]):
    """Pays 1, 2 and 3, then ends; whether it was told so far is what the agent below answers."""

    observation_space, action_space = spaces.Box(0, 9, (1,)), spaces.Box(0, 99, (1,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.steps, self.seen = 0, np.zeros(1)
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        assert action[0] == sum(range(self.steps + 1)), f"told {action[0]} in step {self.steps}"
        self.steps += 1
        self.seen += self.steps
        info = {"step": self.steps, "seen": self.seen, "late": {}} | ({"end": True} if self.steps == 3 else {})
        return np.full(1, self.steps, np.float32), float(self.steps), self.steps == 3, False, info


class Adding:
    """Answers with the sum of the rewards of its episode."""

    def __init__(self, config: Any, task: Task) -> None:
        self.task = task

    def initial_carry(self, num_envs: int) -> Any:
        return np.zeros(num_envs)

    def reset_carry(self, carry: Any, ended: Any) -> Any:
        return np.where(ended, 0.0, carry)

    def rewarded(self, carry: Any, reward: Any) -> Any:
        return carry + reward

    def act(
        self, obs: Any, carry: Any, *, explore: bool, rng: Any, action_mask: Any = None
    ) -> tuple[Any, Any, Mapping[str, Any]]:
        return carry[:, None].astype(np.float32), carry, {}

    def observe(self, step: Transition, carry: Any) -> None:
        pass

    def update(self) -> dict[str, float]:
        return {}

    def policy_state(self) -> State:
        return {}

    training_state = policy_state

    def load_policy_state(self, state: State) -> None:
        pass

    load_training_state = load_policy_state


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that failed unless the loop told two rows their own rewards; scaled rewards are not the environment's."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    agent = Adding(None, Task(Paying.observation_space, Paying.action_space))
    wrap = ("normalize-reward",)
    rlkit.train(agent, Paying, total_steps=20, num_envs=2, run_dir=folder, eval_every=0, wrap=wrap)
    return folder


def test_the_loop_and_evaluations_tell_the_rewards(run: Path) -> None:
    assert isinstance(Adding(None, None), RewardAware)
    assert rlkit.evaluate(Adding(None, None), Paying, episodes=3).returns == (6.0, 6.0, 6.0)
    assert rlkit.load(run, env=Paying).evaluate(episodes=2).returns == (6.0, 6.0)


def test_predict_takes_the_reward_of_the_last_action(run: Path) -> None:
    policy = rlkit.load(run, env=Paying)
    obs = np.zeros(1, np.float32)
    assert policy.predict(obs, reward=50.0) == [0], "no action was before it"
    assert policy.predict(obs, reward=2.0) == [2]
    assert policy.predict(obs, reward=np.float32(3)) == [5]
    with pytest.raises(UsageError, match="reset\\(\\)"):
        policy.predict(obs)
    policy.reset()
    assert policy.predict(obs) == [0]
    rows = np.zeros((2, 1), np.float32)
    assert policy.predict(rows).ravel().tolist() == [0, 0]
    assert policy.predict(rows, reward=np.array([1.0, 2.0])).ravel().tolist() == [1, 2]
    for wrong in (1.0, np.ones(3), np.array([1.0, np.nan])):
        with pytest.raises(UsageError, match="2 finite numbers"):
            policy.predict(rows, reward=wrong)


def test_other_policies_make_nothing_of_a_reward(tmp_path: Path) -> None:
    rlkit.train("random", "CartPole-v1", total_steps=10, run_dir=tmp_path / "run", eval_every=0)
    policy = rlkit.load(tmp_path / "run")
    obs, _ = make("CartPole-v1").reset(0)
    assert policy.predict(obs, reward=np.ones(7)).shape == (1,)


def test_recorded_episodes_hold_what_was_seen_done_got_and_told(run: Path) -> None:
    first, second = rlkit.load(run, env=Paying).episodes(2)
    for episode in (first, second):
        assert np.ravel(episode.observations).tolist() == [0, 1, 2, 3]
        assert np.ravel(episode.actions).tolist() == [0, 1, 3]
        assert episode.rewards.tolist() == [1, 2, 3]
        assert (episode.terminated, episode.truncated) == (True, False)
        told = {key: value.ravel().tolist() for key, value in episode.infos.items()}
        assert told == {"step": [1, 2, 3], "seen": [1, 3, 6]}, "though the environment uses one array again and again"
