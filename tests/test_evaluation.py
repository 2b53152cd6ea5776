"""Evaluation and its statistics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

import rlkit
from rlkit.envs.make import make
from rlkit.errors import UsageError
from rlkit.evaluation import bootstrap_interval, evaluate, interquartile_mean, warn_about_cuts


def test_the_interquartile_mean_is_that_of_the_middle_half() -> None:
    assert interquartile_mean([100.0, 1.0, 2.0, 3.0, 4.0, -50.0, 2.5, 3.5]) == pytest.approx((2 + 2.5 + 3 + 3.5) / 4)
    assert interquartile_mean([7.0]) == 7.0


def test_the_interval_holds_the_mean_and_narrows_with_more_scores() -> None:
    rng = np.random.default_rng(0)
    few, many = rng.normal(5, 1, 10), rng.normal(5, 1, 1000)
    narrow, wide = bootstrap_interval(many.tolist()), bootstrap_interval(few.tolist())
    assert narrow[0] < 5 < narrow[1]
    assert narrow[1] - narrow[0] < (wide[1] - wide[0]) / 3
    assert bootstrap_interval([2.0, 2.0]) == (2.0, 2.0)
    assert bootstrap_interval(few.tolist()) == wide


def test_the_same_evaluation_gives_the_same_numbers() -> None:
    agent = rlkit.make("random", "Pendulum-v1")
    first, second, other = (evaluate(agent, make("Pendulum-v1"), episodes=3, seed=seed) for seed in (1, 1, 2))
    assert first == second
    assert first.returns != other.returns
    assert len(set(first.returns)) == 3
    assert first.lengths == (200, 200, 200)
    assert set(first.summary()) == {"mean", "std", "iqm", "ci95", "mean_length", "episodes", "seed"}


class Endless(gym.Env[Any, Any]):
    observation_space, action_space = spaces.Box(-1, 1, (1,)), spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        return np.zeros(1, np.float32), 1.0, False, False, {}


def test_an_endless_episode_is_cut_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    result = evaluate(rlkit.make("random", Endless), make(Endless), episodes=2, seed=0, max_episode_steps=50)
    assert result.lengths == (50, 50)
    assert result.cut == 2
    warn_about_cuts(result)
    assert "2 of 2 evaluation episodes were cut after 50 steps" in caplog.text


def test_the_limit_of_a_run_cuts_its_evaluations(tmp_path: Any) -> None:
    result = rlkit.train("random", Endless, total_steps=10, run_dir=tmp_path / "run", eval_max_episode_steps=7)
    assert rlkit.load(result.run_dir, env=Endless).evaluate(episodes=1).lengths == (7,)


@pytest.mark.parametrize("env", ["Pendulum-v1", Endless])
def test_predict_takes_one_observation_or_many(env: Any, tmp_path: Any) -> None:
    result = rlkit.train("random", env, total_steps=10, run_dir=tmp_path / "run", preset="none", eval_every=0)
    policy = rlkit.load(result.run_dir, env=env)
    space = gym.make(env).observation_space if isinstance(env, str) else env.observation_space
    obs = space.sample()
    assert policy.predict(obs).shape == policy.agent._space.shape
    assert len(policy.predict(np.stack([obs] * 4))) == 4


def test_predict_explains_observations_of_another_shape(tmp_path: Path) -> None:
    policy = rlkit.load(rlkit.train("random", "CartPole-v1", total_steps=10, run_dir=tmp_path / "run").run_dir)
    for wrong in (np.zeros(3), np.zeros((2, 3)), np.zeros((1, 1, 4)), np.float32(1)):
        with pytest.raises(UsageError, match=r"has the shape \(.*\), allowed: \(4,\), or \('N', 4\) for N of them"):
            policy.predict(wrong)
    assert policy.predict(np.zeros(4)).shape == ()


def test_predict_explains_parts_that_are_missing_or_of_one_row_among_many(tmp_path: Path) -> None:
    class Parts(gym.Env[Any, Any]):
        observation_space = gym.spaces.Dict(a=gym.spaces.Box(-1, 1, (2,)), b=gym.spaces.Box(-1, 1, (3,)))
        action_space = gym.spaces.Discrete(2)

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            return {"a": np.zeros(2, np.float32), "b": np.zeros(3, np.float32)}, {}

        def step(self, action: Any) -> Any:
            return self.reset()[0], 0.0, True, False, {}

    run = rlkit.train("random", Parts, total_steps=10, run_dir=tmp_path / "run", eval_every=0).run_dir
    policy = rlkit.load(run, env=Parts)
    with pytest.raises(UsageError, match="the observation has no b"):
        policy.predict({"a": np.zeros(2)})
    with pytest.raises(UsageError, match="some parts of the observation have a batch axis"):
        policy.predict({"a": np.zeros(2), "b": np.zeros((1, 3))})
