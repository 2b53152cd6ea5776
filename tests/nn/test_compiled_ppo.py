"""The compiled losses of PPO and their gradient against the ordinary ones."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rlkit.agents.ppo import PPO, PPOConfig
from rlkit.data.rollout import RolloutBatch
from rlkit.nn.action_heads import action_head
from rlkit.nn.actor_critic import ActorCritic
from rlkit.nn.compiled_mlp import WIDEST
from rlkit.nn.compiled_ppo import compiled_ppo
from rlkit.types import Task

OBS, ROWS = 4, 61
ACTIONS: dict[str, Any] = {
    "discrete": spaces.Discrete(3),
    "multi": spaces.MultiDiscrete([3, 2]),
    "box": spaces.Box(-1.0, 1.0, (2,), np.float32),
}


def agent_for(actions: str, **options: Any) -> PPO:
    task = Task(spaces.Box(-1.0, 1.0, (OBS,), np.float32), ACTIONS[actions], total_steps=1000)
    agent = PPO(PPOConfig(**{"hidden": (16, 9)} | options), task)
    flat = agent.actor.network.flat
    flat.add_(0.2 * torch.randn(flat.shape, generator=torch.Generator().manual_seed(0)))
    return agent


def batch_of(agent: PPO, rows: int = ROWS, masked: bool = False) -> RolloutBatch:
    rng = np.random.default_rng(rows)
    obs, advantage, target, noise = (
        rng.standard_normal(shape).astype(np.float32) for shape in ((rows, OBS), rows, rows, rows)
    )
    network, mask = agent.actor.network, None
    if masked:
        mask = rng.random((rows, network.head.size)) < 0.5
        mask[:, [0, -1]] = True
    _, raw, log_prob = network.act(obs, rng, mask)
    assert log_prob is not None
    value = network.values(obs) + np.float32(0.3) * noise
    return RolloutBatch(obs, raw, log_prob + np.float32(0.2) * noise, advantage, target, value, mask)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"entropy_coefficient": 0.1},
    {"value_clip_range": 0.2},
    {"activation": "relu"},
    {"normalize_advantage": False},
]
CASES = [*((name, False) for name in ACTIONS), ("discrete", True), ("multi", True)]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("actions", "masked"), CASES)
def test_losses_and_gradient_equal_those_of_torch(actions: str, masked: bool, options: dict[str, Any]) -> None:
    agent = agent_for(actions, **options)
    assert agent._compiled is not None
    for rows in (ROWS, 7, 1):
        batch = batch_of(agent, rows, masked)
        wanted, gradient = agent.losses_and_gradient(agent.actor.tensors(batch))
        found, compiled_gradient = agent._compiled.losses_and_gradient(batch, agent._weights())
        assert found == pytest.approx(wanted, abs=2e-6)
        assert gradient.abs().max() > 1e-2
        torch.testing.assert_close(compiled_gradient, gradient, atol=2e-6, rtol=1e-5)


def test_several_updates_stay_with_those_of_torch() -> None:
    ours, plain = (agent_for("discrete", learning_rate=1e-3, entropy_coefficient=0.01) for _ in range(2))
    plain._compiled = None
    for rows in range(20, 40):
        batch = batch_of(ours, rows)
        found, wanted = ours.learn(batch), plain.learn(batch)
        assert found == pytest.approx(wanted, abs=1e-5)
    assert (ours.actor.network.flat - plain.actor.network.flat).abs().max() < 1e-5


def test_nan_is_not_hidden() -> None:
    agent = agent_for("discrete")
    agent.actor.network.flat.fill_(math.nan)
    assert agent._compiled is not None
    found, gradient = agent._compiled.losses_and_gradient(batch_of(agent_for("discrete")), agent._weights())
    assert math.isnan(found.policy)
    assert math.isnan(found.value)
    assert gradient.isnan().any()


@pytest.mark.parametrize(("width", "dtype", "there"), [(64, torch.float32, True), (WIDEST + 1, torch.float32, False),
                                                        (64, torch.float64, False)])  # fmt: skip
def test_it_is_there_where_it_is_faster(width: int, dtype: torch.dtype, there: bool) -> None:
    torch.set_default_dtype(dtype)
    try:
        network = ActorCritic(
            3, (width,), action_head(ACTIONS["discrete"]), activation="tanh", log_std=0.0,
            generator=torch.Generator().manual_seed(0), device=torch.device("cpu"),
        )  # fmt: skip
    finally:
        torch.set_default_dtype(torch.float32)
    assert (compiled_ppo(network) is not None) == there
