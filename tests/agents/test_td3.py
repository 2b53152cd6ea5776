"""TD3's own promises: smoothed targets, the smaller of two critics, a delayed actor, and that it learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from control_tasks import SMALL, TASK, OneReward, Quadratic, transitions

import rlkit
from rlkit.agents.off_policy import Tensors
from rlkit.agents.td3 import TD3, TD3Config
from rlkit.config import AgentConfig


def small(**options: object) -> TD3Config:
    return TD3Config.model_validate(SMALL | options)


def random_tensors(rows: int = 8) -> Tensors:
    generator = torch.Generator().manual_seed(0)
    obs, action, next_obs = torch.randn(3, rows, 2, generator=generator)
    return Tensors(obs, action.clamp(-1, 1), torch.randn(rows, generator=generator), next_obs, torch.full((rows,), 0.9))


def constant_critics(agent: TD3, *values: float) -> None:
    """Target critics that say the same everywhere."""
    agent.target_critics.flat.zero_()
    for member, value in zip(agent.target_critics.members, values, strict=True):
        member.layer_views()[-1][1].fill_(value)


def test_targets_bootstrap_from_the_smaller_critic() -> None:
    agent, batch, noise = TD3(small(), TASK), random_tensors(), torch.zeros(8, 2)
    for values in ((1.0, 3.0), (3.0, 1.0)):
        constant_critics(agent, *values)
        torch.testing.assert_close(agent.target(batch, noise), batch.reward + 0.9)
    alone = TD3(small(twin=False), TASK)
    constant_critics(alone, 3.0)
    torch.testing.assert_close(alone.target(batch, noise), batch.reward + 2.7)


def test_target_actions_are_smoothed_by_clipped_noise() -> None:
    """Noise of 9 standard deviations moves the target action by the clip, and not beyond the bounds."""
    batch, noise = random_tensors(), torch.full((8, 2), 9.0)
    agent = TD3(small(target_noise=0.2, target_noise_clip=0.5), TASK)
    moved = (agent.target_actor(batch.next_obs) + 0.5).clamp(-1, 1)
    values = agent.target_critics(torch.cat((batch.next_obs, moved), dim=1)).squeeze(2)
    torch.testing.assert_close(agent.target(batch, noise), batch.reward + 0.9 * torch.minimum(values[0], values[1]))
    assert not torch.allclose(agent.target(batch, noise), agent.target(batch, 0 * noise), atol=1e-3)
    rough = TD3(small(target_noise=0.0), TASK)
    assert torch.equal(rough.target(batch, noise), rough.target(batch, 0 * noise))


@pytest.mark.parametrize("delay", [1, 2, 3])
def test_actor_and_targets_move_with_every_delayed_update_only(delay: int) -> None:
    agent = TD3(small(policy_delay=delay, learning_starts=0), TASK)
    names = ("actor", "target_actor", "target_critics")
    agent.observe(transitions(1)[0], ())
    moved = []
    for _ in range(6):
        before = {name: vector.detach().clone() for name, vector in agent.vectors.items()}
        metrics = agent.learn(agent.replay.sample(32, agent.rng))
        changed = {name for name, vector in agent.vectors.items() if not torch.equal(vector, before[name])}
        assert changed in ({"critics"}, {"critics", *names})
        assert ("train/actor_loss" in metrics) == (len(changed) > 1)
        moved.append(len(changed) > 1)
    assert moved == [number % delay == 0 for number in range(1, 7)]


def test_the_delay_goes_on_where_training_stopped() -> None:
    agent = TD3(small(policy_delay=3, learning_starts=0), TASK)
    agent.observe(transitions(1)[0], ())
    agent.update()
    twin = TD3(small(policy_delay=3, learning_starts=0), TASK)
    twin.load_training_state(agent.training_state())
    batch = agent.replay.sample(32, agent.rng)
    assert ["train/actor_loss" in twin.learn(batch) for _ in range(2)] == [False, True]


def test_actions_stay_within_bounds_however_loud_the_noise() -> None:
    agent = TD3(small(learning_starts=0, noise_sigma=50.0), TASK)
    obs, rng = np.zeros((1, 2), np.float32), np.random.default_rng(0)
    drawn = np.array([agent.act(obs, (), explore=True, rng=rng)[0][0] for _ in range(50)])
    assert all(TASK.action_space.contains(action) for action in drawn)
    assert {*drawn[:, 1]} >= {0.0, 10.0}


@pytest.mark.parametrize(("terminates", "first_value"), [(True, 4.0951), (False, 10.0)])
def test_the_critics_find_the_known_value_with_either_end(terminates: bool, first_value: float, tmp_path: Path) -> None:
    """With gamma 0.9: 1 + .9 + … + .9^4 = 4.0951 where the fifth step terminates, 1 / (1 - .9) where it truncates."""
    config = small(learning_rate=3e-3, tau=0.1, gamma=0.9).model_dump()
    result = rlkit.train(
        "td3", lambda: OneReward(terminates), total_steps=2500, run_dir=tmp_path / "run", preset="none",
        agent_config=config, eval_every=0,
    )  # fmt: skip
    for value in result.agent.critics(torch.zeros(1, 3)):
        assert value.item() == pytest.approx(first_value, rel=0.1)


def test_it_finds_the_best_action_of_a_one_step_task(tmp_path: Path) -> None:
    """Random actions return -5.3 on average, the best constant one -0.7."""
    config = small(learning_rate=3e-3, learning_starts=200).model_dump()
    result = rlkit.train(
        "td3", Quadratic, total_steps=2500, run_dir=tmp_path / "run", preset="none", agent_config=config, eval_every=0
    )
    assert rlkit.evaluate(result.agent, Quadratic, episodes=100).mean > -0.1


def test_every_default_is_explained() -> None:
    assert issubclass(TD3Config, AgentConfig)
    assert all(field.description for field in TD3Config.model_fields.values())


@pytest.mark.slow
def test_it_swings_up_the_pendulum(tmp_path: Path) -> None:
    """10,000 steps reach what random actions never do (about -1200)."""
    result = rlkit.train("td3", "Pendulum-v1", total_steps=10_000, run_dir=tmp_path / "run", seed=0, eval_every=0)
    assert rlkit.evaluate(result.run_dir, episodes=20, seed=1).mean > -300
