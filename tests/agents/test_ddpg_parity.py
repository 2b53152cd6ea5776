"""DDPG against stable-baselines3 from the same weights on the same batch: losses, gradients and targets."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DDPG as Sb3DDPG
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn

from rlkit.agents.ddpg import DDPG, DDPGConfig
from rlkit.data.replay import Batch
from rlkit.types import Task

OBS, ACTIONS, BATCH = 17, 6, 256


class SpacesOnly:
    """An environment that is only asked for its spaces."""

    metadata = {"render_modes": []}  # noqa: RUF012
    render_mode = None
    observation_space = spaces.Box(-np.inf, np.inf, (OBS,), np.float64)
    action_space = spaces.Box(-2.0, 2.0, (ACTIONS,), np.float32)


@pytest.fixture
def twins() -> tuple[DDPG, Sb3DDPG, Batch]:
    task = Task(SpacesOnly.observation_space, SpacesOnly.action_space)
    ours = DDPG(DDPGConfig(buffer_size=1000), task)
    import gymnasium as gym

    env = type("Env", (gym.Env,), dict(vars(SpacesOnly)))
    theirs = Sb3DDPG("MlpPolicy", DummyVecEnv([env]), buffer_size=1000, policy_kwargs={"net_arch": [256, 256]}, seed=1)
    for our, their in _network_pairs(ours, theirs):
        our.load_layers([(layer.weight, layer.bias) for layer in their if isinstance(layer, nn.Linear)])
    rng = np.random.default_rng(0)
    terminated = rng.random(BATCH) < 0.1
    batch = Batch(
        obs=rng.standard_normal((BATCH, OBS)).astype(np.float32),
        action=rng.uniform(-1, 1, (BATCH, ACTIONS)).astype(np.float32),
        reward=rng.standard_normal(BATCH).astype(np.float32),
        next_obs=rng.standard_normal((BATCH, OBS)).astype(np.float32),
        terminated=terminated,
        discount=np.where(terminated, 0.0, 0.99).astype(np.float32),
    )
    return ours, theirs, batch


def _network_pairs(ours: DDPG, theirs: Sb3DDPG) -> list[tuple]:
    return [
        (ours.actor, theirs.actor.mu),
        (ours.target_actor, theirs.actor_target.mu),
        (ours.critic, theirs.critic.q_networks[0]),
        (ours.target_critic, theirs.critic_target.q_networks[0]),
    ]


def _their_batch(batch: Batch) -> SimpleNamespace:
    column = {name: torch.from_numpy(getattr(batch, name)).float()[:, None] for name in ("reward", "terminated")}
    return SimpleNamespace(
        observations=torch.from_numpy(batch.obs),
        actions=torch.from_numpy(batch.action),
        next_observations=torch.from_numpy(batch.next_obs),
        rewards=column["reward"],
        dones=column["terminated"],
        discounts=None,
    )


def _their_losses_and_gradients(theirs: Sb3DDPG, batch: SimpleNamespace) -> dict[str, torch.Tensor]:
    """What SB3's TD3.train computes for DDPG (policy_delay 1, one critic, no target noise)."""
    next_action = theirs.actor_target(batch.next_observations)
    next_value = theirs.critic_target(batch.next_observations, next_action)[0].detach()
    target = batch.rewards + (1 - batch.dones) * theirs.gamma * next_value
    critic_loss = nn.functional.mse_loss(theirs.critic(batch.observations, batch.actions)[0], target)
    critic_gradient = torch.autograd.grad(critic_loss, list(theirs.critic.parameters()))
    actor_loss = -theirs.critic.q1_forward(batch.observations, theirs.actor(batch.observations)).mean()
    actor_gradient = torch.autograd.grad(actor_loss, list(theirs.actor.parameters()))
    flat = {"critic": critic_gradient, "actor": actor_gradient}
    return {
        "critic_loss": critic_loss.detach(),
        "actor_loss": actor_loss.detach(),
        **{name: torch.cat([part.reshape(-1) for part in gradient]) for name, gradient in flat.items()},
    }


def test_losses_and_gradients_equal_sb3_from_the_same_weights_and_batch(twins) -> None:
    ours, theirs, batch = twins
    expected = _their_losses_and_gradients(theirs, _their_batch(batch))
    tensors = ours.tensors(batch)
    found = dict(zip(("critic_loss", "critic"), ours.critic_gradient(tensors), strict=True))
    found |= dict(zip(("actor_loss", "actor"), ours.actor_gradient(tensors), strict=True))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}")
        assert (found[name] - value).abs().max() <= 1e-6, name


def test_ten_updates_stay_with_sb3(twins, monkeypatch) -> None:
    ours, theirs, batch = twins
    monkeypatch.setattr(theirs.replay_buffer, "sample", lambda *_, **__: _their_batch(batch))
    theirs.set_logger(Logger(folder=None, output_formats=[]))
    for _ in range(10):
        ours.learn(batch)
    theirs.train(gradient_steps=10, batch_size=BATCH)
    for our, their in _network_pairs(ours, theirs):
        expected = torch.cat([value.detach().reshape(-1) for value in their.parameters()])
        assert (our.flat - expected).abs().max() <= 5e-5
