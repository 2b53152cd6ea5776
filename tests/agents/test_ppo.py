"""PPO's own promises: minibatches and epochs, its schedules, when it stops, and that it learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

import rlkit
from rlkit.agents.ppo import PPO, PPOConfig
from rlkit.data.rollout import RolloutBatch
from rlkit.errors import UsageError
from rlkit.types import Task, Transition

TASK = Task(spaces.Box(-1.0, 1.0, (2,), np.float32), spaces.Discrete(3), num_envs=2, total_steps=400)


def small(**options: Any) -> PPOConfig:
    return PPOConfig(**{"n_steps": 50, "batch_size": 30, "epochs": 3, "hidden": (16,)} | options)


def one_rollout(agent: PPO) -> dict[str, float]:
    """Metrics of one update after random steps."""
    rng = np.random.default_rng(0)
    for _ in range(agent.config.n_steps):
        obs, next_obs = rng.standard_normal((2, 2, 2)).astype(np.float32)
        action, _, extras = agent.act(obs, (), explore=True, rng=rng)
        never = np.zeros(2, np.bool_)
        agent.observe(
            Transition(obs, action, (action == 1).astype(np.float32), next_obs, ~never, never, extras=extras), ()
        )
    return dict(agent.update())


def test_every_epoch_goes_through_the_rollout_in_minibatches(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = PPO(small(), TASK)
    seen: list[RolloutBatch] = []
    learn = agent.learn
    monkeypatch.setattr(agent, "learn", lambda batch: [learn(batch), seen.append(batch)][0])
    one_rollout(agent)
    assert [len(batch) for batch in seen] == [30, 30, 30, 10] * 3
    for epoch in range(3):
        rows = np.concatenate([batch.obs[:, 0] for batch in seen[4 * epoch : 4 * epoch + 4]])
        assert len(np.unique(rows)) == 100
    assert (seen[0].obs != seen[4].obs).any()


@pytest.mark.parametrize("name", ["ppo", "a2c", "reinforce", "sac", "td3"])
def test_steps_of_another_number_of_environments_are_refused(name: str, tmp_path: Path) -> None:
    agent = rlkit.make(name, "Pendulum-v1", num_envs=3, total_steps=600)
    with pytest.raises(UsageError, match="made for 3 environments and is given steps of 1"):
        rlkit.train(agent, "Pendulum-v1", total_steps=600, run_dir=tmp_path / "run", eval_every=0)


@pytest.mark.parametrize(("n_steps", "is_told"), [(200, False), (201, True)])
def test_a_run_shorter_than_a_rollout_is_told(n_steps: int, is_told: bool, caplog: pytest.LogCaptureFixture) -> None:
    PPO(small(n_steps=n_steps), TASK)
    assert ("it will learn nothing" in caplog.text) == is_told


def test_a_run_extended_beyond_its_schedules_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = small(n_steps=20, clip_range_schedule="linear").model_dump()
    run = rlkit.train("ppo", "CartPole-v1", total_steps=40, run_dir=tmp_path / "run", preset="none", eval_every=0,
                      agent_config=config).run_dir  # fmt: skip
    assert "nothing more is learned" not in caplog.text
    rlkit.resume(run, total_steps=60)
    assert (
        "clip_range_schedule: linear over the first 40 env steps, then zero, so nothing more is learned" in caplog.text
    )


def test_an_epsilon_that_has_fallen_is_no_reason_to_warn(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It ends at its final value, and learning goes on."""
    run = rlkit.train("q-learning", "FrozenLake-v1", total_steps=40, run_dir=tmp_path / "run", preset="none",
                      eval_every=0, agent_config={"epsilon_schedule": "linear"}).run_dir  # fmt: skip
    rlkit.resume(run, total_steps=60)
    assert "nothing more is learned" not in caplog.text


def test_it_stops_before_the_update_that_follows_too_far_a_move(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = PPO(small(target_kl=0.01, learning_rate=0.05), TASK)
    flats: list[torch.Tensor] = []
    learn = agent.learn
    monkeypatch.setattr(agent, "learn", lambda batch: [learn(batch), flats.append(agent.actor.network.flat.clone())][0])
    one_rollout(agent)
    assert 1 < len(flats) < 12
    assert torch.equal(flats[-1], flats[-2])
    if len(flats) > 2:
        assert not torch.equal(flats[-2], flats[-3])


def test_learning_rate_and_clip_range_fall_to_zero_at_the_end_of_the_run() -> None:
    agent = PPO(small(learning_rate_schedule="linear", clip_range_schedule="linear", clip_range=0.4), TASK)
    rates = [one_rollout(agent) for _ in range(4)]
    assert [rate["train/learning_rate"] for rate in rates] == pytest.approx([2.25e-4, 1.5e-4, 0.75e-4, 0.0])
    assert [rate["train/clip_range"] for rate in rates] == pytest.approx([0.3, 0.2, 0.1, 0.0])


def test_an_update_makes_better_actions_more_probable() -> None:
    agent = PPO(small(gamma=0.0, learning_rate=1e-2), TASK)
    rng = np.random.default_rng(1)
    obs = rng.standard_normal((1000, 2)).astype(np.float32)
    before = (agent.act(obs, (), explore=True, rng=rng)[0] == 1).mean()
    for _ in range(3):
        one_rollout(agent)
    assert (agent.act(obs, (), explore=True, rng=rng)[0] == 1).mean() > before + 0.3


def test_metrics_have_stable_baselines3_names_and_continuous_actions_log_their_deviation() -> None:
    discrete = one_rollout(PPO(small(), TASK))
    assert {"train/approx_kl", "train/clip_fraction", "train/explained_variance", "train/loss"} <= set(discrete)
    assert "train/std" not in discrete
    task = Task(TASK.observation_space, spaces.Box(-1.0, 1.0, (1,)), num_envs=2, total_steps=400)
    agent = PPO(small(initial_log_std=-1.0, learning_rate=1e-6), task)
    rng = np.random.default_rng(0)
    obs, ends = np.zeros((2, 2), np.float32), np.zeros(2, np.bool_)
    metrics: dict[str, float] = {}
    for _ in range(50):
        action, _, extras = agent.act(obs, (), explore=True, rng=rng)
        agent.observe(Transition(obs, action, np.ones(2, np.float32), obs, ends, ends, extras=extras), ())
        metrics |= agent.update()
    assert metrics["train/std"] == pytest.approx(np.exp(-1.0), rel=1e-3)


def test_it_balances_the_pole(tmp_path: Path) -> None:
    result = rlkit.train("ppo", "CartPole-v1", total_steps=40_000, run_dir=tmp_path / "run", seed=0, eval_every=0)
    assert rlkit.evaluate(result.run_dir, episodes=20, seed=1).mean > 450


@pytest.mark.slow
def test_it_swings_up_the_pendulum(tmp_path: Path) -> None:
    result = rlkit.train("ppo", "Pendulum-v1", total_steps=100_000, run_dir=tmp_path / "run", seed=0, eval_every=0)
    assert rlkit.evaluate(result.run_dir, episodes=20, seed=1).mean > -400
