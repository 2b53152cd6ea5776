"""TD3, SAC and TQC against stable-baselines3 and sb3-contrib: losses, gradients and whole updates.

From the same weights, batch and noise. What is compared is what their own `train` computes: gradients are read where
their optimisers would take their step.
Their SAC adds 1e-6 inside the logarithm of its density; here it is zero, as the paper and our stable form have it.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import TQC as Sb3TQC
from stable_baselines3 import SAC as Sb3SAC
from stable_baselines3 import TD3 as Sb3TD3
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor, nn

from rlkit.agents.sac import SAC, SACConfig
from rlkit.agents.td3 import TD3, TD3Config
from rlkit.agents.tqc import TQC, TQCConfig
from rlkit.data.replay import Batch
from rlkit.nn.mlp import MLP
from rlkit.types import Task

OBS, ACTIONS, BATCH, HIDDEN = 17, 6, 256, (256, 256)
# Of both Adams: with 1e-8 a gradient of 1e-9, which is rounding, would move a weight by half the step size.
EPSILON = 1e-5


class SpacesOnly(gym.Env[Any, Any]):
    """An environment that is only asked for its spaces."""

    observation_space = spaces.Box(-np.inf, np.inf, (OBS,), np.float64)
    action_space = spaces.Box(-2.0, 2.0, (ACTIONS,), np.float32)


class Twins:
    """Both agents with the same weights; their targets differ from their networks, as they do in training."""

    def __init__(self, name: str, learned_temperature: bool = True) -> None:
        env, task = DummyVecEnv([SpacesOnly]), Task(SpacesOnly.observation_space, SpacesOnly.action_space)
        policy = {"net_arch": list(HIDDEN), "optimizer_kwargs": {"eps": EPSILON}}
        shared: dict[str, Any] = {"buffer_size": 1000, "seed": 1, "policy_kwargs": policy}
        if name == "td3":
            self.ours: Any = TD3(TD3Config(buffer_size=1000, target_noise=0.3, target_noise_clip=0.35), task)
            shared |= {"target_policy_noise": 0.3, "target_noise_clip": 0.35}
            self.theirs: Any = Sb3TD3("MlpPolicy", env, **shared)
            self.actors = [
                (self.ours.actor, layers(self.theirs.actor.mu)),
                (self.ours.target_actor, layers(self.theirs.actor_target.mu)),
            ]
        else:
            options = {"buffer_size": 1000, "initial_temperature": 0.4}
            options |= {} if learned_temperature else {"temperature": 0.2}
            ent_coef = "auto_0.4" if learned_temperature else 0.2
            if name == "sac":
                self.ours = SAC(SACConfig.model_validate(options), task)
                self.theirs = Sb3SAC("MlpPolicy", env, ent_coef=ent_coef, **shared)
            else:
                policy |= {"n_critics": 3}
                self.ours = TQC(TQCConfig.model_validate(options | {"critics": 3, "dropped_quantiles": 4}), task)
                self.theirs = Sb3TQC("MlpPolicy", env, ent_coef=ent_coef, top_quantiles_to_drop_per_net=4, **shared)
            self.theirs.actor.action_dist.epsilon = 0.0
            their_actor = self.theirs.actor
            self.actors = [(self.ours.actor, [*layers(their_actor.latent_pi), two_heads(their_actor)])]
        networks = [critic.q_networks for critic in (self.theirs.critic, self.theirs.critic_target)]
        self.critics = [
            (ensemble, [layers(network) for network in each])
            for ensemble, each in zip((self.ours.critics, self.ours.target_critics), networks, strict=True)
        ]
        for optimizer in self.ours.optimizers.values():
            optimizer.eps = EPSILON if optimizer.parameter.dim() else optimizer.eps  # their temperature has torch's
        self.copy_weights()
        self.theirs.set_logger(Logger(folder=None, output_formats=[]))

    def copy_weights(self) -> None:
        generator = torch.Generator().manual_seed(3)
        targets = [self.theirs.critic_target] + ([self.theirs.actor_target] if len(self.actors) == 2 else [])
        with torch.no_grad():
            for parameter in (parameter for target in targets for parameter in target.parameters()):
                parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
        for network, their_layers in self.pairs():
            network.load_layers([joined_heads(layer) for layer in their_layers])

    def pairs(self) -> Iterator[tuple[MLP, list[Any]]]:
        yield from self.actors
        for ensemble, networks in self.critics:
            yield from zip(ensemble.members, networks, strict=True)

    def distance(self) -> float:
        """Largest difference of any weight of any network."""
        gaps = []
        for network, their_layers in self.pairs():
            for ours, layer in zip(network.layer_views(), their_layers, strict=True):
                gaps += [float((a - b).abs().max()) for a, b in zip(ours, joined_heads(layer), strict=True)]
        return max(gaps)


def layers(network: nn.Module) -> list[Any]:
    return [layer for layer in network.modules() if isinstance(layer, nn.Linear)]


def two_heads(actor: Any) -> tuple[nn.Linear, nn.Linear]:
    return actor.mu, actor.log_std


def joined_heads(layer: Any) -> tuple[Tensor, Tensor]:
    """Weight and bias of a layer; their mean and log standard deviation are two layers, ours is one."""
    parts = layer if isinstance(layer, tuple) else (layer,)
    return torch.cat([part.weight for part in parts]).detach(), torch.cat([part.bias for part in parts]).detach()


def gradients(network_layers: list[Any]) -> Tensor:
    """Their gradients in our layout."""
    found = []
    for layer in network_layers:
        parts = layer if isinstance(layer, tuple) else (layer,)
        found += [part.weight.grad.reshape(-1) for part in parts] + [part.bias.grad for part in parts]
    return torch.cat(found)


@pytest.fixture
def batch() -> Batch:
    rng = np.random.default_rng(0)
    terminated = rng.random(BATCH) < 0.1
    return Batch(
        obs=rng.standard_normal((BATCH, OBS)).astype(np.float32),
        action=rng.uniform(-1, 1, (BATCH, ACTIONS)).astype(np.float32),
        reward=rng.standard_normal(BATCH).astype(np.float32),
        next_obs=rng.standard_normal((BATCH, OBS)).astype(np.float32),
        terminated=terminated,
        discount=np.where(terminated, 0.0, 0.99).astype(np.float32),
    )


def their_batch(batch: Batch) -> SimpleNamespace:
    column = {name: torch.from_numpy(getattr(batch, name)).float()[:, None] for name in ("reward", "terminated")}
    return SimpleNamespace(
        observations=torch.from_numpy(batch.obs), actions=torch.from_numpy(batch.action),
        next_observations=torch.from_numpy(batch.next_obs), rewards=column["reward"], dones=column["terminated"],
        discounts=None,
    )  # fmt: skip


def noises(name: str, updates: int) -> list[Tensor]:
    """The noise that their `train` draws after `torch.manual_seed(5)`, in the order in which ours asks for it."""
    torch.manual_seed(5)
    drawn: list[Tensor] = []
    for _ in range(updates):
        if name == "td3":
            drawn.append(torch.empty(BATCH, ACTIONS).normal_(0, 0.3) / 0.3)
        else:
            acting, following = (torch.normal(torch.zeros(BATCH, ACTIONS), 1.0) for _ in range(2))
            drawn += [following, acting]
    return drawn


def run_both(twins: Twins, name: str, batch: Batch, updates: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Both learn from the same batch and noise; our metrics of the last update."""
    monkeypatch.setattr(twins.theirs.replay_buffer, "sample", lambda *_, **__: their_batch(batch))
    upcoming = iter(noises(name, updates))
    monkeypatch.setattr(twins.ours, "normal_noise", lambda rows: next(upcoming))
    metrics: dict[str, float] = {}
    for _ in range(updates):
        metrics |= twins.ours.learn(batch)
    torch.manual_seed(5)
    twins.theirs.train(gradient_steps=updates, batch_size=BATCH)
    assert next(upcoming, None) is None
    return metrics


AGENTS = [("td3", True), ("sac", True), ("sac", False), ("tqc", True)]


@pytest.mark.parametrize(("name", "learned_temperature"), AGENTS)
def test_losses_and_gradients_equal_sb3_from_the_same_weights_batch_and_noise(
    name: str, learned_temperature: bool, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    twins = Twins(name, learned_temperature)
    found: dict[str, Tensor] = {}
    for part, optimizer in twins.ours.optimizers.items():  # nobody takes a step, so that all weights stay the same
        monkeypatch.setattr(optimizer, "step", lambda gradient, part=part: found.update({part: gradient}))
    for optimizer in (twins.theirs.actor.optimizer, twins.theirs.critic.optimizer):
        monkeypatch.setattr(optimizer, "step", lambda: None)
    if name == "td3":
        twins.theirs.policy_delay = 1
        twins.ours.config = twins.ours.config.model_copy(update={"policy_delay": 1})
    actor_gradient: list[Tensor] = []
    monkeypatch.setattr(
        twins.theirs.actor.optimizer, "step", lambda: actor_gradient.append(gradients(twins.actors[0][1]))
    )
    critic_gradient: list[Tensor] = []
    monkeypatch.setattr(
        twins.theirs.critic.optimizer, "step",
        lambda: critic_gradient.append(torch.cat([gradients(network) for network in twins.critics[0][1]])),
    )  # fmt: skip
    metrics = run_both(twins, name, batch, 1, monkeypatch)

    assert (found["actor"] - actor_gradient[0]).abs().max() <= 1e-6
    assert (found["critics"] - critic_gradient[0]).abs().max() <= 1e-6
    assert actor_gradient[0].abs().max() > 1e-3
    for loss in ("train/actor_loss", "train/critic_loss"):
        assert metrics[loss] == pytest.approx(twins.theirs.logger.name_to_value[loss], rel=1e-6, abs=1e-6), loss
    if name != "td3" and learned_temperature:
        assert found["temperature"].item() == pytest.approx(twins.theirs.log_ent_coef.grad.item(), rel=1e-6)
        assert metrics["train/temperature"] == pytest.approx(twins.theirs.logger.name_to_value["train/ent_coef"])
    else:
        assert "temperature" not in found


@pytest.mark.parametrize(("name", "learned_temperature"), AGENTS)
def test_six_whole_updates_stay_with_sb3(
    name: str, learned_temperature: bool, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    twins = Twins(name, learned_temperature)
    assert twins.distance() == 0.0
    before = twins.ours.actor.flat.detach().clone()
    run_both(twins, name, batch, 6, monkeypatch)
    assert twins.distance() <= 1e-5
    assert (twins.ours.actor.flat - before).abs().max() > 1e-3
    if name != "td3" and learned_temperature:
        assert twins.ours.log_temperature.item() == pytest.approx(twins.theirs.log_ent_coef.item(), abs=1e-6)


def test_the_compared_targets_are_no_copies_of_the_networks() -> None:
    """The premise of the comparison: were targets and networks alike, confusing them would go unseen."""
    twins = Twins("td3")
    assert (twins.ours.critics.flat - twins.ours.target_critics.flat).abs().max() > 0.01
