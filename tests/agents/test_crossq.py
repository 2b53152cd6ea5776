"""CrossQ: losses and gradients of sb3-contrib, no targets, a delayed actor, statistics that are kept, and learning."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from control_tasks import SMALL, TASK, Quadratic, transitions
from gymnasium import spaces
from pydantic import ValidationError
from sb3_contrib import CrossQ as Sb3CrossQ
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor, nn

import rlkit
from rlkit.agents.crossq import CrossQ, CrossQConfig
from rlkit.data.replay import Batch
from rlkit.types import Task

OBS, ACTIONS, BATCH, HIDDEN = 5, 2, 64, (64, 48)


class SpacesOnly(gym.Env[Any, Any]):
    """An environment that is only asked for its spaces."""

    observation_space = spaces.Box(-np.inf, np.inf, (OBS,), np.float32)
    action_space = spaces.Box(-2.0, 2.0, (ACTIONS,), np.float32)


def small(**options: object) -> CrossQConfig:
    return CrossQConfig.model_validate(SMALL | {"critic_hidden": (32,)} | options)


def tensors_of(network: nn.Module, heads: list[nn.Linear] | None = None) -> list[Tensor]:
    """Their parameters in the order of ours: weights and biases, then scales, then shifts."""
    parts = list(network)
    linear = [part for part in parts if isinstance(part, nn.Linear)]
    norms = [part for part in parts if not isinstance(part, (nn.Linear, nn.ReLU))]
    layers = [tensor for part in linear for tensor in (part.weight, part.bias)]
    if heads:
        layers += [torch.cat([head.weight for head in heads]), torch.cat([head.bias for head in heads])]
    return [*layers, *(norm.scale for norm in norms), *(norm.bias for norm in norms)]


def test_losses_and_gradients_equal_sb3_contrib(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"hidden": HIDDEN, "critic_hidden": HIDDEN, "policy_delay": 1, "buffer_size": 100}
    ours = CrossQ(CrossQConfig.model_validate(options), Task(SpacesOnly.observation_space, SpacesOnly.action_space))
    theirs = Sb3CrossQ(
        "MlpPolicy", DummyVecEnv([SpacesOnly]), policy_delay=1, buffer_size=100, seed=1,
        policy_kwargs={"net_arch": list(HIDDEN)},
    )  # fmt: skip
    theirs.actor.action_dist.epsilon = 0.0
    theirs.set_logger(Logger(folder=None, output_formats=[]))
    heads = [theirs.actor.mu, theirs.actor.log_std]
    with torch.no_grad():
        for head in heads:  # their density is infinite where tanh rounds to one
            head.weight.mul_(0.1)
    pairs = [(ours.actor, tensors_of(theirs.actor.latent_pi, heads))]
    pairs += [(our, tensors_of(their)) for our, their in zip(ours.critics, theirs.critic.q_networks, strict=True)]
    with torch.no_grad():
        for network, parts in pairs:
            for parameter, part in zip(network.parameters(), parts, strict=True):
                parameter.copy_(part)

    rng = np.random.default_rng(0)
    batch = Batch(
        obs=rng.standard_normal((BATCH, OBS)).astype(np.float32),
        action=rng.uniform(-1, 1, (BATCH, ACTIONS)).astype(np.float32),
        reward=rng.standard_normal(BATCH).astype(np.float32),
        next_obs=rng.standard_normal((BATCH, OBS)).astype(np.float32),
        terminated=np.zeros(BATCH, np.bool_),
        discount=np.full(BATCH, 0.99, np.float32),
    )
    obs, action, next_obs, reward = map(torch.from_numpy, (batch.obs, batch.action, batch.next_obs, batch.reward))
    given = SimpleNamespace(
        observations=obs, actions=action, next_observations=next_obs, rewards=reward[:, None],
        dones=torch.zeros(BATCH, 1), discounts=None,
    )  # fmt: skip
    monkeypatch.setattr(theirs.replay_buffer, "sample", lambda *_, **__: given)
    torch.manual_seed(5)
    upcoming = iter([torch.normal(torch.zeros(BATCH, ACTIONS), 1.0) for _ in range(2)])
    monkeypatch.setattr(ours, "normal_noise", lambda rows: next(upcoming))
    found: dict[str, Tensor] = {}
    for part, optimizer in ours.optimizers.items():  # nobody takes a step, so that all weights stay the same
        monkeypatch.setattr(optimizer, "step", lambda gradient, part=part: found.update({part: gradient}))
    kept: list[Tensor] = []  # before the actor's loss is added to the critics' gradients, as theirs is
    critic_parts = [part for _, parts in pairs[1:] for part in parts]
    monkeypatch.setattr(theirs.actor.optimizer, "step", lambda: None)
    monkeypatch.setattr(
        theirs.critic.optimizer, "step", lambda: kept.extend(part.grad.clone().reshape(-1) for part in critic_parts)
    )
    metrics = ours.learn(batch)
    torch.manual_seed(5)
    theirs.train(gradient_steps=1, batch_size=BATCH)

    assert (found["critics"] - torch.cat(kept)).abs().max() <= 1e-6
    parts = [part.grad for part in tensors_of(theirs.actor.latent_pi)]
    layers = 2 * len(HIDDEN)
    head = [torch.cat([layer.weight.grad for layer in heads]), torch.cat([layer.bias.grad for layer in heads])]
    their_actor = [part.reshape(-1) for part in (*parts[:layers], *head, *parts[layers:])]
    assert (found["actor"] - torch.cat(their_actor)).abs().max() <= 1e-6
    for loss in ("train/actor_loss", "train/critic_loss"):
        assert metrics[loss] == pytest.approx(theirs.logger.name_to_value[loss], rel=1e-6, abs=1e-6), loss
    norm = theirs.critic.q_networks[0][0]
    expected = torch.stack((norm.ra_mean, norm.ra_var))
    torch.testing.assert_close(ours.critics[0].statistics[:, : OBS + ACTIONS], expected, rtol=0, atol=1e-6)


def learning(agent: CrossQ, updates: int) -> None:
    for step in transitions(40):
        agent.observe(step, ())
    for _ in range(updates):
        agent.learn(agent.replay.sample(32, agent.rng))


def test_there_are_no_targets_and_the_actor_is_delayed() -> None:
    agent = CrossQ(small(policy_delay=3), TASK)
    assert not any("target" in name for name in agent.vectors)
    moved = []
    learning(agent, 0)
    for _ in range(6):
        before = agent.vectors["actor"].clone()
        agent.learn(agent.replay.sample(32, agent.rng))
        moved.append(not torch.equal(agent.vectors["actor"], before))
    assert moved == [False, False, True, False, False, True]


def test_the_delay_goes_on_where_training_stopped() -> None:
    agent, twin = CrossQ(small(policy_delay=3), TASK), CrossQ(small(policy_delay=3), TASK)
    learning(agent, 1)
    twin.load_training_state(agent.training_state())
    batch = agent.replay.sample(32, agent.rng)
    assert ["train/actor_loss" in twin.learn(batch) for _ in range(2)] == [False, True]


def test_a_batch_of_one_transition_is_refused_because_two_rows_are_the_fewest_with_a_variance() -> None:
    with pytest.raises(ValidationError, match="batch_size"):
        small(batch_size=1)
    agent = CrossQ(small(batch_size=2), TASK)
    learning(agent, 0)
    metrics = [agent.learn(agent.replay.sample(2, agent.rng)) for _ in range(3)][-1]
    assert np.isfinite(list(metrics.values())).all()


def test_a_policy_is_its_weights_and_its_statistics() -> None:
    agent, twin = CrossQ(small(), TASK), CrossQ(small(), TASK)
    learning(agent, 30)
    twin.load_policy_state(agent.policy_state())
    obs, rng = np.ones((1, 2), np.float32), np.random.default_rng(0)
    assert (agent.act(obs, (), explore=False, rng=rng)[0] == twin.act(obs, (), explore=False, rng=rng)[0]).all()
    twin.vectors["actor_statistics"].zero_()
    assert (agent.act(obs, (), explore=False, rng=rng)[0] != twin.act(obs, (), explore=False, rng=rng)[0]).any()


@pytest.mark.slow
def test_it_finds_the_best_action_of_a_one_step_task(tmp_path: Path) -> None:
    """Random actions return -5.3 on average, the best constant one -0.7."""
    config = small(learning_rate=3e-3, learning_starts=200).model_dump()
    result = rlkit.train(
        "crossq", Quadratic, total_steps=1500, run_dir=tmp_path / "run", preset="none", agent_config=config,
        eval_every=0,
    )  # fmt: skip
    assert rlkit.evaluate(result.agent, Quadratic, episodes=100).mean > -0.15


def test_every_default_is_explained() -> None:
    assert all(field.description for field in CrossQConfig.model_fields.values())
