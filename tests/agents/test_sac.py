"""SAC's own promises: the entropy in its targets, its temperature, the smaller of two critics, and that it learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from control_tasks import SMALL, TASK, OneReward, Quadratic, transitions

import rlkit
from rlkit.agents.off_policy import Tensors
from rlkit.agents.sac import SAC, SACConfig
from rlkit.config import AgentConfig


def small(**options: object) -> SACConfig:
    return SACConfig.model_validate(SMALL | options)


def random_tensors(rows: int = 8) -> Tensors:
    generator = torch.Generator().manual_seed(0)
    obs, action, next_obs = torch.randn(3, rows, 2, generator=generator)
    return Tensors(obs, action.clamp(-1, 1), torch.randn(rows, generator=generator), next_obs, torch.full((rows,), 0.9))


def learning(agent: SAC, updates: int) -> dict[str, float]:
    """Metrics of the last of some updates on random transitions."""
    for step in transitions(40):
        agent.observe(step, ())
    metrics: dict[str, float] = {}
    for _ in range(updates):
        metrics = dict(agent.learn(agent.replay.sample(32, agent.rng)))
    return metrics


def test_targets_are_the_smaller_critic_plus_the_weighted_entropy() -> None:
    """With a standard deviation of 1 and a mean of 0, at its mode the density is (2π)^(-1/2) per dimension."""
    agent, batch = SAC(small(), TASK), random_tensors()
    agent.actor.flat.data.zero_()
    for values in ((1.0, 3.0), (3.0, 1.0)):
        agent.target_critics.flat.zero_()
        for member, value in zip(agent.target_critics.members, values, strict=True):
            member.layer_views()[-1][1].fill_(value)
        target = agent.target(batch, torch.zeros(8, 2), torch.tensor(0.5))
        entropy = np.log(2 * np.pi)  # -log density in two dimensions
        torch.testing.assert_close(target, batch.reward + 0.9 * (1.0 + 0.5 * float(entropy)))


def test_the_learned_temperature_follows_the_entropy() -> None:
    """It falls while the entropy is above its target, rises while it is below, and a fixed one stays."""
    assert SAC(small(), TASK).target_entropy == -2.0
    for target_entropy, falls in ((-50.0, True), (50.0, False)):
        agent = SAC(small(target_entropy=target_entropy, initial_temperature=0.5), TASK)
        temperature = learning(agent, 20)["train/temperature"]
        assert temperature < 0.499 if falls else temperature > 0.501
    fixed = SAC(small(temperature=0.3), TASK)
    assert learning(fixed, 20)["train/temperature"] == pytest.approx(0.3)


def test_the_entropy_is_held_at_its_target() -> None:
    agent = SAC(small(target_entropy=-1.0, learning_rate=1e-2, gamma=0.0), TASK)
    assert learning(agent, 600)["train/entropy"] == pytest.approx(-1.0, abs=0.3)


def test_a_higher_temperature_keeps_the_policy_wider() -> None:
    options = {"learning_rate": 1e-2, "gamma": 0.0}
    agents = [SAC(small(temperature=temperature, **options), TASK) for temperature in (0.01, 1.0)]
    low, high = (learning(agent, 400)["train/entropy"] for agent in agents)
    assert high > low + 0.5


def test_it_acts_by_the_mean_and_explores_by_draws_within_bounds() -> None:
    agent = SAC(small(learning_starts=0), TASK)
    agent.actor.flat.data.zero_()
    agent.actor.layer_views()[-1][1].copy_(torch.tensor([0.5, -0.5, 0.0, 3.0]))  # means, log deviations: 1 and e²
    obs, rng = np.zeros((1, 2), np.float32), np.random.default_rng(0)
    best = agent.act(obs, (), explore=False, rng=rng)[0][0]
    np.testing.assert_allclose(best, [1 + 2 * np.tanh(0.5), 5 - 5 * np.tanh(0.5)], rtol=1e-6)
    drawn = np.array([agent.act(obs, (), explore=True, rng=rng)[0][0] for _ in range(2000)])
    assert all(TASK.action_space.contains(action) for action in drawn)
    assert np.arctanh((drawn[:, 0] - 1) / 2).std() == pytest.approx(1.0, rel=0.1)
    assert np.median(np.abs(drawn[:, 1] - 5)) > 4.9  # a deviation of e² = 7.4 before tanh, not e³ and not 1


def test_the_temperature_is_part_of_the_training_state() -> None:
    agent = SAC(small(), TASK)
    learning(agent, 5)
    twin = SAC(small(), TASK)
    twin.load_training_state(agent.training_state())
    assert twin.log_temperature.item() == agent.log_temperature.item() != 0.0


@pytest.mark.parametrize(("terminates", "first_value"), [(True, 4.0951), (False, 10.0)])
def test_the_critics_find_the_known_value_with_either_end(terminates: bool, first_value: float, tmp_path: Path) -> None:
    """With gamma 0.9: 1 + .9 + … + .9^4 = 4.0951 where the fifth step terminates, 1 / (1 - .9) where it truncates."""
    config = small(learning_rate=3e-3, tau=0.05, gamma=0.9, temperature=1e-3).model_dump()
    result = rlkit.train(
        "sac", lambda: OneReward(terminates), total_steps=2500, run_dir=tmp_path / "run", preset="none",
        agent_config=config, eval_every=0,
    )  # fmt: skip
    for value in result.agent.critics(torch.zeros(1, 3)):
        assert value.item() == pytest.approx(first_value, rel=0.1)


def test_it_finds_the_best_action_of_a_one_step_task(tmp_path: Path) -> None:
    """Random actions return -5.3 on average, the best constant one -0.7."""
    config = small(learning_rate=3e-3, learning_starts=200).model_dump()
    result = rlkit.train(
        "sac", Quadratic, total_steps=2500, run_dir=tmp_path / "run", preset="none", agent_config=config, eval_every=0
    )
    assert rlkit.evaluate(result.agent, Quadratic, episodes=100).mean > -0.1


def test_every_default_is_explained() -> None:
    assert issubclass(SACConfig, AgentConfig)
    assert all(field.description for field in SACConfig.model_fields.values())


@pytest.mark.slow
def test_it_swings_up_the_pendulum(tmp_path: Path) -> None:
    """10,000 steps reach what random actions never do (about -1200)."""
    result = rlkit.train("sac", "Pendulum-v1", total_steps=10_000, run_dir=tmp_path / "run", seed=0, eval_every=0)
    assert rlkit.evaluate(result.run_dir, episodes=20, seed=1).mean > -300
