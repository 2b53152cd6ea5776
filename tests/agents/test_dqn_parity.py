"""DQN against stable-baselines3 and sb3-contrib from the same weights on the same batch: loss, gradient and updates.

What is compared is what their own `train` computes: the gradient is read where their optimiser would take its step.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import QRDQN as Sb3QRDQN
from stable_baselines3 import DQN as Sb3DQN
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor, nn

from rlkit.agents.dqn import DQN, DQNConfig
from rlkit.agents.rainbow import QRDQN, QRDQNConfig
from rlkit.data.replay import Batch
from rlkit.nn.action_values import PerceptronValues
from rlkit.types import Task

OBS, ACTIONS, BATCH, HIDDEN, QUANTILES = 5, 3, 128, (64, 48), 50
LEARNING_RATE = 1e-3


class SpacesOnly(gym.Env):
    """An environment that is only asked for its spaces."""

    observation_space = spaces.Box(-np.inf, np.inf, (OBS,), np.float32)
    action_space = spaces.Discrete(ACTIONS)


class Twins:
    """Both agents with the same weights; their target network differs from their network, as it does in training."""

    def __init__(self, name: str, max_grad_norm: float | None) -> None:
        env = DummyVecEnv([SpacesOnly])
        shared: dict[str, Any] = {"buffer_size": 1000, "learning_rate": LEARNING_RATE, "max_grad_norm": max_grad_norm}
        # sb3-contrib's default for Adam's epsilon is not torch's
        policy = {"net_arch": list(HIDDEN), "optimizer_class": torch.optim.Adam}
        task = Task(SpacesOnly.observation_space, SpacesOnly.action_space)
        if name == "dqn":
            self.outputs = 1
            self.ours = DQN(DQNConfig(hidden=HIDDEN, loss="huber", **shared), task)
            shared["max_grad_norm"] = float("inf") if max_grad_norm is None else max_grad_norm  # None is not allowed
            self.theirs: Any = Sb3DQN("MlpPolicy", env, policy_kwargs=policy, seed=1, **shared)
            self.their_networks = self.theirs.q_net.q_net, self.theirs.q_net_target.q_net
        else:
            self.outputs = QUANTILES
            self.ours = QRDQN(QRDQNConfig(hidden=HIDDEN, quantiles=QUANTILES, adam_epsilon=1e-8, **shared), task)
            self.theirs = Sb3QRDQN(
                "MlpPolicy", env, policy_kwargs=policy | {"n_quantiles": QUANTILES}, seed=1, **shared
            )
            their_nets = self.theirs.quantile_net, self.theirs.quantile_net_target
            self.their_networks = tuple(net.quantile_net for net in their_nets)
        self.theirs.set_logger(Logger(folder=None, output_formats=[]))
        self._give_their_weights()

    def _give_their_weights(self) -> None:
        online, target = self.their_networks
        generator = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for parameter in target.parameters():
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
        for our, their in ((self.ours.network, online), (self.ours.target_network, target)):
            assert isinstance(our, PerceptronValues)
            layers = [(layer.weight.data, layer.bias.data) for layer in their if isinstance(layer, nn.Linear)]
            our.mlp.load_layers([*layers[:-1], tuple(self._in_our_order(part) for part in layers[-1])])

    def _in_our_order(self, rows: Tensor) -> Tensor:
        """Rows of the last layer: theirs go quantile by quantile, ours action by action."""
        return rows.view(self.outputs, ACTIONS, -1).transpose(0, 1).reshape(rows.shape)

    def flat(self, layers: list[Tensor]) -> Tensor:
        """Their weights and biases, or their gradients, in the layout of our flat vector."""
        return torch.cat([part.reshape(-1) for part in (*layers[:-2], *map(self._in_our_order, layers[-2:]))])

    def train_theirs(self, batch: Batch, steps: int, monkeypatch: pytest.MonkeyPatch) -> float:
        """Their mean loss over `steps` updates on this batch."""
        column = {name: torch.from_numpy(getattr(batch, name)).float()[:, None] for name in ("reward", "terminated")}
        # in theirs gamma^n comes beside `dones`
        discount = np.where(batch.terminated, 0.99, batch.discount).astype(np.float32)
        data = SimpleNamespace(
            observations=torch.from_numpy(batch.obs), actions=torch.from_numpy(batch.action)[:, None],
            next_observations=torch.from_numpy(batch.next_obs), rewards=column["reward"], dones=column["terminated"],
            discounts=torch.from_numpy(discount)[:, None],
        )  # fmt: skip
        monkeypatch.setattr(self.theirs.replay_buffer, "sample", lambda *_, **__: data)
        self.theirs.train(gradient_steps=steps, batch_size=BATCH)
        return float(self.theirs.logger.name_to_value["train/loss"])


@pytest.fixture
def batch() -> Batch:
    rng = np.random.default_rng(0)
    terminated = rng.random(BATCH) < 0.1
    return Batch(
        obs=rng.standard_normal((BATCH, OBS)).astype(np.float32),
        action=rng.integers(ACTIONS, size=BATCH),
        reward=(2 * rng.standard_normal(BATCH)).astype(np.float32),  # TD errors on both sides of Huber's threshold
        next_obs=rng.standard_normal((BATCH, OBS)).astype(np.float32),
        terminated=terminated,
        discount=np.where(terminated, 0.0, 0.99 ** rng.integers(1, 4, BATCH)).astype(np.float32),
    )


@pytest.mark.parametrize("name", ["dqn", "qr-dqn"])
def test_loss_and_gradient_equal_those_of_their_train(name: str, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    twins = Twins(name, max_grad_norm=None)
    monkeypatch.setattr(twins.theirs.policy.optimizer, "step", lambda: None)
    expected_loss = twins.train_theirs(batch, 1, monkeypatch)
    gradients = [parameter.grad for parameter in twins.their_networks[0].parameters()]
    assert all(gradient is not None for gradient in gradients)
    expected = twins.flat([gradient for gradient in gradients if gradient is not None])

    loss, gradient, _ = twins.ours.loss_and_gradient(twins.ours.tensors(batch))
    assert expected.abs().max() > 1e-2  # far above what is compared
    assert loss.item() == pytest.approx(expected_loss, rel=1e-6)
    assert (gradient - expected).abs().max() <= 1e-6


@pytest.mark.parametrize("max_grad_norm", [None, 0.05])
@pytest.mark.parametrize("name", ["dqn", "qr-dqn"])
def test_ten_updates_stay_with_theirs(
    name: str, max_grad_norm: float | None, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    twins = Twins(name, max_grad_norm)
    before = twins.ours.network.flat.clone()
    for _ in range(10):
        twins.ours.learn(batch)
    twins.train_theirs(batch, 10, monkeypatch)
    expected = twins.flat([parameter.detach() for parameter in twins.their_networks[0].parameters()])
    assert (expected - before).abs().max() > 5 * LEARNING_RATE
    assert (twins.ours.network.flat - expected).abs().max() <= 1e-6


def test_the_gradient_is_longer_than_the_limit_under_which_updates_are_compared(batch: Batch) -> None:
    for name in ("dqn", "qr-dqn"):
        _, gradient, _ = (ours := Twins(name, None).ours).loss_and_gradient(ours.tensors(batch))
        assert torch.linalg.vector_norm(gradient) > 0.1
