"""DQN with a core: its switches, its acting and its learning, against walks step by step and finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

import rlkit
from rlkit import registry
from rlkit.data.sequence_replay import ReplayedSequences
from rlkit.errors import UsageError
from rlkit.nn.values_on_core import ValuesOnCore
from rlkit.types import Task, Transition

CORES: dict[str, dict[str, Any]] = {
    "gru": {"core": "gru", "core_width": 8},
    "lstm": {"core": "lstm", "core_width": 8},
    "transformer": {"core": "transformer", "core_width": 8, "core_heads": 2, "core_context": 40},
}
SWITCHES: dict[str, dict[str, Any]] = {
    "plain": {},
    "double": {"double": True},
    "dueling": {"dueling": True},
    "categorical": {"distribution": "categorical", "atoms": 5},
    "quantile": {"distribution": "quantile", "quantiles": 4},
    "munchausen": {"munchausen": True},
}
every_core = pytest.mark.parametrize("core", CORES)
every_switch = pytest.mark.parametrize("switch", SWITCHES)
ENVS, OBS, ACTIONS = 2, 3, 4


def agent_of(core: str, **options: Any) -> Any:
    small: dict[str, Any] = {
        "hidden": (8, 8), "batch_size": 36, "buffer_size": 300, "learning_starts": 10_000, "sequence_length": 6,
        "burn_in": 3,
    }  # fmt: skip
    agent_class: Any = registry.agent_class("dqn")
    task = Task(
        spaces.Box(-1, 1, (OBS,)), spaces.Discrete(ACTIONS), num_envs=ENVS, total_steps=20_000, seed=1, device="cpu"
    )
    return agent_class(agent_class.Config(**{**small, **CORES[core], **options}), task)


def walked(agent: Any, steps: int = 40) -> ReplayedSequences:
    """Sequences of random episodes, with masks of what is allowed."""
    rng = np.random.default_rng(0)
    obs, carry, mask = rng.standard_normal((ENVS, OBS)).astype(np.float32), agent.initial_carry(ENVS), None
    for _ in range(steps):
        following, fresh = rng.standard_normal((2, ENVS, OBS)).astype(np.float32)
        mask, next_mask = rng.random((2, ENVS, ACTIONS)) < 0.6
        mask[:, 0] = next_mask[:, 0] = True
        action, carry, _ = agent.act(obs, carry, explore=True, rng=rng, action_mask=mask)
        assert mask[np.arange(ENVS), action].all()
        terminated, truncated = rng.random((2, ENVS)) < 0.1
        reward = rng.standard_normal(ENVS).astype(np.float32)
        carry = agent.reset_carry(carry, terminated | truncated)
        agent.observe(Transition(obs, action, reward, following, terminated, truncated, mask, next_mask), carry)
        agent.update()
        obs = np.where((terminated | truncated)[:, None], fresh, following)
    batch = agent.replay.sample(36, np.random.default_rng(1))
    assert isinstance(batch, ReplayedSequences)
    return batch


@every_core
def test_values_are_those_of_a_walk_step_by_step(core: str) -> None:
    agent = agent_of(core)
    batch = walked(agent)
    network, (count, steps) = agent.network, batch.is_first.shape
    assert isinstance(network, ValuesOnCore)
    obs, next_obs = (np.array(part).reshape(count, steps, OBS) for part in (batch.obs, batch.next_obs))
    memory, here, following = network.core.empty(count), [], []
    for now in range(steps):
        memory = network.core.reset(memory, torch.from_numpy(batch.is_first[:, now]))
        features, memory = network.step(obs[:, now], memory)
        here.append(network.act_outputs(features))
        after, _ = network.step(next_obs[:, now], tuple(part.clone() for part in memory))
        following.append(network.act_outputs(after))
    tensors = agent.tensors(batch)
    found = network.outputs(tensors.obs), network.outputs(tensors.next_obs)
    wanted = (np.stack(part, 1)[:, 3:].reshape(-1, ACTIONS, 1) for part in (here, following))
    goes_on = (tensors.discount > 0).numpy()
    for one, other, rows in zip(found, wanted, (slice(None), goes_on), strict=True):
        np.testing.assert_allclose(one.numpy()[rows], other[rows], rtol=0, atol=1e-5)
    masks = np.array(batch.next_action_mask).reshape(count, steps, ACTIONS)[:, 3:].reshape(-1, ACTIONS)
    assert np.array_equal(tensors.next_action_mask.numpy(), masks)


@every_core
@every_switch
def test_gradients_are_those_of_the_loss(switch: str, core: str) -> None:
    agent = agent_of(core, loss="squared", **SWITCHES[switch])
    tensors = agent.tensors(walked(agent))
    flat, (_, gradient, _) = agent.network.flat, agent.loss_and_gradient(tensors)
    in_core = torch.arange(len(flat)) < sum(part.numel() for part in agent.network.core.parameters())
    target, generator = agent.target(tensors), torch.Generator().manual_seed(0)
    agent.target = lambda _: target  # double selects by the network itself; the target is none of the gradient's
    for which in (in_core, ~in_core):
        direction = torch.randn(flat.shape, generator=generator) * which
        direction /= direction.norm()
        begin, losses = flat.clone(), []
        for shift in (3e-3, -3e-3):
            flat.copy_(begin + shift * direction)
            losses.append(float(agent.loss_and_gradient(tensors)[0]))
        flat.copy_(begin)
        assert float(gradient @ direction) == pytest.approx((losses[0] - losses[1]) / 6e-3, rel=5e-2, abs=2e-3)


@every_switch
def test_updates_are_made(switch: str) -> None:
    agent = agent_of("gru", **{**SWITCHES[switch], "learning_starts": 40, "train_every": 2})
    before = agent.network.flat.clone()
    walked(agent)
    assert not torch.equal(agent.network.flat, before)
    assert bool(agent.network.flat.isfinite().all())


def test_noisy_and_implicit_networks_stand_on_a_core_too() -> None:
    for options in ({"noisy": True}, {"distribution": "implicit", "quantiles": 4}):
        agent = agent_of("gru", **options, learning_starts=40)
        before = agent.network.flat.clone()
        walked(agent)
        assert not torch.equal(agent.network.flat, before)


@every_core
def test_acting_changes_nothing_but_the_carry(core: str) -> None:
    agent = agent_of(core, learning_starts=0)
    walked(agent, 5)
    obs, carry, weights = np.zeros((ENVS, OBS), np.float32), agent.initial_carry(ENVS), agent.network.flat.clone()
    found = [agent.act(obs, carry, explore=True, rng=np.random.default_rng(3)) for _ in range(2)]
    assert np.array_equal(found[0][0], found[1][0])
    assert all(torch.equal(one, other) for one, other in zip(found[0][1], found[1][1], strict=True))
    assert torch.equal(agent.network.flat, weights)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_step": 3}, "agent.n_step is 3, it must be 1"),
        ({"prioritized": True}, "agent.prioritized must be off"),
        ({"buffer_size": 10}, "agent.buffer_size is 10.*at least 18"),
    ],
)
def test_options_that_do_not_go_with_a_core_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        agent_of("gru", **options)


def test_pictures_and_frozen_features_are_refused() -> None:
    agent_class: Any = registry.agent_class("dqn")
    pictures = Task(spaces.Box(0, 255, (36, 36), np.uint8), spaces.Discrete(2))
    with pytest.raises(UsageError, match="vectors"):
        agent_class(agent_class.Config(core="gru", buffer_size=200), pictures)
    with pytest.raises(UsageError, match="depend on what came before"):
        agent_of("gru").features(np.zeros((1, OBS), np.float32))


def test_what_a_transformer_attends_to_is_told() -> None:
    episode = list(np.random.default_rng(0).standard_normal((7, 1, OBS)).astype(np.float32))
    maps = agent_of("transformer").attention_maps(episode)
    assert {weights.shape for weights in maps.values()} == {(7, 7)}
    assert agent_of("gru").attention_maps(episode) == {}


@pytest.mark.parametrize("core", ["gru", "transformer"])
def test_a_resumed_run_is_the_same_run(core: str, tmp_path: Any) -> None:
    options = {"hidden": (8,), "batch_size": 12, "buffer_size": 200, "learning_starts": 30, "sequence_length": 6}
    train: dict[str, Any] = {
        # ε stands still: its fall keeps the horizon of the shorter run
        "agent_config": {**CORES[core], **options, "burn_in": 2, "epsilon": 0.2, "final_epsilon": 0.2}, "num_envs": 2,
        "preset": "none", "eval_every": 0, "checkpoint_every": 70, "log_every": 10,
    }  # fmt: skip
    env = "rlkit/RepeatPrevious-v0"
    whole = rlkit.train("dqn", env, total_steps=300, run_dir=tmp_path / "whole", **train)
    rlkit.train("dqn", env, total_steps=140, run_dir=tmp_path / "part", **train)
    again = rlkit.resume(tmp_path / "part", total_steps=300)
    assert torch.equal(again.agent.network.flat, whole.agent.network.flat)
    assert rlkit.evaluate(again.run_dir, episodes=2).returns == rlkit.evaluate(whole.run_dir, episodes=2).returns


@pytest.mark.slow
def test_with_a_memory_it_repeats_what_it_saw_four_steps_ago(tmp_path: Any) -> None:
    """Every answer right is 1; no memoryless policy expects more than -0.5 (docs/memory-environments.md)."""
    options: dict[str, Any] = {
        "core": "gru", "core_width": 32, "hidden": (32,), "batch_size": 128, "sequence_length": 16, "burn_in": 6,
        "learning_starts": 500, "learning_rate": 2e-3, "target_update_every": 200, "gamma": 0.5, "double": True,
    }  # fmt: skip
    result = rlkit.train(
        "dqn", "rlkit/RepeatPrevious-v0", total_steps=20_000, num_envs=4, run_dir=tmp_path / "run", preset="none",
        agent_config=options, eval_every=0,
    )  # fmt: skip
    assert rlkit.evaluate(result.run_dir, episodes=20, seed=1).mean > 0.9
