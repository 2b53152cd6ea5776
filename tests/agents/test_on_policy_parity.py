"""PPO and A2C against stable-baselines3, and masked PPO against sb3-contrib, from the same weights on the same batch.

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
from sb3_contrib import MaskablePPO
from stable_baselines3 import A2C as Sb3A2C
from stable_baselines3 import PPO as Sb3PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn

from rlkit.agents.a2c import A2C, A2CConfig
from rlkit.agents.ppo import PPO, PPOConfig
from rlkit.data.rollout import RolloutBatch
from rlkit.ops.advantages import gae
from rlkit.types import Task

OBS, BATCH = 5, 64
BOX = spaces.Box(-np.inf, np.inf, (OBS,), np.float32)
ACTIONS: dict[str, Any] = {
    "discrete": spaces.Discrete(3),
    "multi": spaces.MultiDiscrete([3, 2]),
    "box": spaces.Box(-1.0, 1.0, (2,), np.float32),
}
SHARED: dict[str, Any] = {"learning_rate": 1e-3, "gamma": 0.98}


class Twins:
    """Both agents with the same weights, which are not those of a fresh network."""

    def __init__(self, name: str, actions: str, max_grad_norm: float | None = None, **options: Any) -> None:
        space = ACTIONS[actions]
        env = DummyVecEnv([lambda: _with_spaces(space)])
        task = Task(BOX, space, total_steps=1000)
        longest = float("inf") if max_grad_norm is None else max_grad_norm  # None is not allowed in theirs
        theirs = {"ent_coef": options.get("entropy_coefficient", 0.0), "max_grad_norm": longest, "seed": 1, **SHARED}
        ours = {"max_grad_norm": max_grad_norm, **SHARED, **options}
        self.ours: Any
        self.theirs: Any
        if name == "a2c":
            use_rms_prop = options.get("optimizer", "rmsprop") == "rmsprop"
            self.ours = A2C(A2CConfig(**ours), task)
            policy = {} if use_rms_prop else {"optimizer_kwargs": {"eps": 1e-5}}
            self.theirs = Sb3A2C(
                "MlpPolicy", env, use_rms_prop=use_rms_prop, device="cpu", policy_kwargs=policy, **theirs
            )
        else:
            self.ours = PPO(PPOConfig(**ours), task)
            theirs |= {"clip_range_vf": options.get("value_clip_range"), "n_epochs": 1, "n_steps": BATCH}
            theirs |= {"batch_size": BATCH, "target_kl": options.get("target_kl"), "device": "cpu"}
            self.theirs = (MaskablePPO if name == "maskable" else Sb3PPO)("MlpPolicy", env, **theirs)
        self.theirs.set_logger(Logger(folder=None, output_formats=[]))
        self._give_their_weights()

    def _give_their_weights(self) -> None:
        generator = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for parameter in self.theirs.policy.parameters():
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
        network, policy = self.ours.actor.network, self.theirs.policy
        pairs = (
            (network.policy, policy.mlp_extractor.policy_net, policy.action_net),
            (network.value, policy.mlp_extractor.value_net, policy.value_net),
        )
        for our, hidden, last in pairs:
            layers = [layer for layer in (*hidden, last) if isinstance(layer, nn.Linear)]
            our.load_layers([(layer.weight.data, layer.bias.data) for layer in layers])
        if network.log_std.numel():
            network.log_std.data.copy_(policy.log_std.data)

    def flat(self, part: Any) -> torch.Tensor:
        """Their parameters, or what `part` takes of them, in the layout of our flat vector."""
        policy = self.theirs.policy
        log_std = [policy.log_std] if self.ours.actor.network.log_std.numel() else []
        extractor = policy.mlp_extractor
        order = [
            *extractor.policy_net.parameters(), *policy.action_net.parameters(), *log_std,
            *extractor.value_net.parameters(), *policy.value_net.parameters(),
        ]  # fmt: skip
        return torch.cat([part(parameter).reshape(-1) for parameter in order])

    def train_theirs(self, batches: list[RolloutBatch], monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
        """Their metrics over one pass through the batches."""
        data = [_their_batch(batch) for batch in batches]
        monkeypatch.setattr(self.theirs.rollout_buffer, "get", lambda *_, **__: data)
        self.theirs.train()
        return dict(self.theirs.logger.name_to_value)


def _with_spaces(action_space: Any) -> gym.Env:
    env = gym.Env()
    env.observation_space, env.action_space = BOX, action_space
    return env


def _their_batch(batch: RolloutBatch) -> SimpleNamespace:
    return SimpleNamespace(
        observations=torch.from_numpy(batch.obs), actions=torch.from_numpy(batch.action).float(),
        old_values=torch.from_numpy(batch.value), old_log_prob=torch.from_numpy(batch.log_prob),
        advantages=torch.from_numpy(batch.advantage), returns=torch.from_numpy(batch.target),
        action_masks=None if batch.action_mask is None else torch.from_numpy(batch.action_mask),
    )  # fmt: skip


def batch_of(ours: Any, seed: int, masked: bool = False) -> RolloutBatch:
    """Random steps whose log-probabilities are near those of the policy, on both sides of the clip range."""
    rng = np.random.default_rng(seed)
    obs, advantage, target, noise = (
        rng.standard_normal(shape).astype(np.float32) for shape in ((BATCH, OBS), BATCH, BATCH, BATCH)
    )
    mask = None
    if masked:
        mask = rng.random((BATCH, 3)) < 0.6
        mask[:, 1] = True
    network = ours.actor.network
    _, raw, log_prob = network.act(obs, rng, mask)
    value = network.values(obs) + np.float32(0.3) * noise
    return RolloutBatch(obs, raw, log_prob + np.float32(0.2) * noise, advantage, target, value, mask)


CASES = [
    ("ppo", "discrete", {"entropy_coefficient": 0.01}),
    ("ppo", "multi", {"entropy_coefficient": 0.01}),
    ("ppo", "box", {"entropy_coefficient": 0.01}),
    ("ppo", "box", {"value_clip_range": 0.2}),
    ("maskable", "discrete", {"entropy_coefficient": 0.01}),
    ("a2c", "discrete", {"entropy_coefficient": 0.01}),
    ("a2c", "multi", {"entropy_coefficient": 0.01}),
    ("a2c", "box", {"entropy_coefficient": 0.01}),
]
NAMES = ["-".join((name, actions, *options)) for name, actions, options in CASES]


@pytest.mark.parametrize(("name", "actions", "options"), CASES, ids=NAMES)
def test_losses_and_gradient_equal_those_of_their_train(
    name: str, actions: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    twins = Twins(name, actions, **options)
    monkeypatch.setattr(twins.theirs.policy.optimizer, "step", lambda: None)
    batch = batch_of(twins.ours, 0, masked=name == "maskable")
    theirs = twins.train_theirs([batch], monkeypatch)
    expected = twins.flat(lambda parameter: parameter.grad)

    found, gradient = twins.ours.losses_and_gradient(twins.ours.actor.tensors(batch))
    metrics = found if name == "a2c" else twins.ours.metrics(found)
    assert expected.abs().max() > 1e-2  # far above what is compared
    for key, value in metrics.items():
        assert value == pytest.approx(theirs[key], abs=1e-6), key
    assert (gradient - expected).abs().max() <= 1e-6


UPDATES = [
    *(("ppo", actions, {}, max_grad_norm) for actions in ACTIONS for max_grad_norm in (None, 0.5)),
    *(("a2c", actions, {}, max_grad_norm) for actions in ACTIONS for max_grad_norm in (None, 0.5)),
    ("a2c", "discrete", {"optimizer": "adam"}, 0.5),
    ("a2c", "discrete", {"normalize_advantage": True}, 0.5),
]


@pytest.mark.parametrize(("name", "actions", "options", "max_grad_norm"), UPDATES)
def test_ten_updates_stay_with_theirs(
    name: str, actions: str, options: dict[str, Any], max_grad_norm: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    twins = Twins(name, actions, max_grad_norm, **options)
    if "normalize_advantage" in options:
        twins.theirs.normalize_advantage = True
    before = twins.flat(lambda parameter: parameter.detach()).clone()
    batches = [batch_of(twins.ours, seed) for seed in range(10)]
    for batch in batches:
        twins.ours.learn(batch)
    for given in [batches] if name == "ppo" else [[batch] for batch in batches]:
        twins.train_theirs(given, monkeypatch)
    after = twins.flat(lambda parameter: parameter.detach())
    assert (after - before).abs().max() > 5 * SHARED["learning_rate"]
    assert (twins.ours.actor.network.flat - after).abs().max() <= 1e-5


def test_the_target_kl_stops_at_the_same_minibatch(monkeypatch: pytest.MonkeyPatch) -> None:
    twins = Twins("ppo", "discrete", target_kl=0.03)
    monkeypatch.setattr("rlkit.agents.on_policy.minibatches", lambda batch, size, rng: batches)
    batches = [batch_of(twins.ours, 0)] * 100
    before = twins.ours.actor.network.flat.clone()
    found = twins.ours._learn_epochs(batches[0])
    theirs = twins.train_theirs(batches, monkeypatch)
    assert 2 < len(found) < 100
    assert found[-1]["train/approx_kl"] > 1.5 * 0.03
    assert np.mean([each["train/approx_kl"] for each in found]) == pytest.approx(theirs["train/approx_kl"], rel=1e-3)
    assert (twins.ours.actor.network.flat - twins.flat(lambda p: p.detach())).abs().max() <= 1e-5
    assert (twins.ours.actor.network.flat - before).abs().max() > 1e-3


@pytest.mark.parametrize("lambda_", [0.0, 0.9, 1.0])
def test_advantages_equal_those_of_their_rollout_buffer(lambda_: float) -> None:
    """Without truncation; with it theirs adds the value to the reward, which is the same up to rounding."""
    rng, steps, envs = np.random.default_rng(0), 40, 3
    reward, value = rng.standard_normal((2, steps, envs)).astype(np.float32)
    last_value = rng.standard_normal(envs).astype(np.float32)
    terminated = rng.random((steps, envs)) < 0.15
    buffer = RolloutBuffer(steps, BOX, ACTIONS["discrete"], device="cpu", gae_lambda=lambda_, gamma=0.97, n_envs=envs)
    begins = np.concatenate([np.ones((1, envs)), terminated[:-1]])
    for time in range(steps):
        values, log_prob = torch.from_numpy(value[time]), torch.zeros(envs)
        buffer.add(np.zeros((envs, OBS)), np.zeros(envs), reward[time], begins[time], values, log_prob)
    buffer.compute_returns_and_advantage(torch.from_numpy(last_value), terminated[-1])
    next_value = np.concatenate([value[1:], last_value[None]])
    found = gae(reward, value, next_value, terminated, terminated & False, gamma=0.97, lambda_=lambda_)
    np.testing.assert_allclose(found, buffer.advantages, atol=1e-5)
    np.testing.assert_allclose(found + value, buffer.returns, atol=1e-5)
