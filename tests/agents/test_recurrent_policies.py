"""PPO, A2C and REINFORCE with a core: they learn from exactly what they saw when they acted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

import rlkit
from rlkit import registry
from rlkit.agents.on_policy import LOG_PROB
from rlkit.agents.sequence_policy import SequenceActor
from rlkit.data.sequences import SequenceRollout
from rlkit.errors import CheckpointError
from rlkit.nn.paired_core import PairedCore, halves
from rlkit.nn.recurrent_actor_critic import Sequences
from rlkit.types import Task, Transition

CORES: dict[str, dict[str, Any]] = {
    "gru": {"core": "gru", "core_width": 8},
    "lstm": {"core": "lstm", "core_width": 8},
    "transformer": {"core": "transformer", "core_width": 8, "core_heads": 2, "core_context": 5},
    "gated": {"core": "transformer", "core_width": 8, "core_heads": 2, "core_context": 40, "core_gate": "gru"},
    "shared": {"core": "transformer", "core_width": 8, "core_heads": 2, "core_context": 5, "share_core": True},
}
every_core = pytest.mark.parametrize("core", CORES)
SPACES = {"discrete": spaces.Discrete(3), "box": spaces.Box(-1, 1, (2,))}
ENVS = 3


class Walk:
    """An agent driven through random episodes of which some terminate and some are truncated."""

    def __init__(self, name: str, core: str, action: str = "discrete", **options: Any) -> None:
        chosen = registry.agent_class(name)
        config = registry.config_class(chosen)(hidden=(8,), **CORES[core], **options)
        task = Task(
            observation_space=spaces.Box(-1, 1, (4,)), action_space=SPACES[action], num_envs=ENVS, total_steps=10_000,
            seed=3, device="cpu",
        )  # fmt: skip
        self.agent = chosen(config, task)
        self.rng = np.random.default_rng(0)
        self.carry = self.agent.initial_carry(ENVS)
        self.obs = self._draw(4)

    def _draw(self, *shape: int) -> Any:
        return self.rng.standard_normal((ENVS, *shape)).astype(np.float32)

    def step(self) -> dict[str, float]:
        agent = self.agent
        action, carry, extras = agent.act(self.obs, self.carry, explore=True, rng=self.rng)
        terminated, truncated = self.rng.random((2, ENVS)) < 0.1
        following, fresh, ended = self._draw(4), self._draw(4), terminated | truncated
        if ended.any():
            carry = agent.reset_carry(carry, ended)
        agent.observe(
            Transition(self.obs, action, self._draw(), following, terminated, truncated, None, None, extras), carry
        )
        self.obs, self.carry = np.where(ended[:, None], fresh, following), carry
        return dict(agent.update())


@every_core
@pytest.mark.parametrize("action", SPACES)
@pytest.mark.parametrize("name", ["ppo", "a2c"])
def test_the_first_update_of_a_rollout_sees_what_acting_saw(
    name: str, action: str, core: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # after large updates memory of older weights shows in every block; with a Gaussian, rounding would show too
    large: dict[str, Any] = {"learning_rate": 3e-2} if action == "discrete" else {}
    walk = Walk(name, core, action, n_steps=13, **large)
    agent, ratios = walk.agent, []
    learn = agent.learn

    def watched(batch: Any) -> Any:
        tensors = agent.actor.tensors(batch)
        if not ratios or agent.actor.updates != ratios[-1][0]:
            trace = agent.actor.network.trace(tensors.obs, tensors.action, tensors.action_mask)
            first = agent.actor.updates == agent.began
            ratio = (trace.distribution.log_prob - tensors.log_prob).exp()
            ratios.append((agent.actor.updates, first, ratio, tensors.log_prob))
        return learn(batch)

    monkeypatch.setattr(agent, "learn", watched)
    agent.began = 0
    for _ in range(5 * 13):
        if agent.rollout.is_full or len(agent.rollout) == 0:
            agent.began = agent.actor.updates
        walk.step()
    fresh = [(ratio, log_prob) for _, first, ratio, log_prob in ratios if first]
    assert len(fresh) >= 5
    for ratio, log_prob in fresh:
        # log-probabilities above 4, as of a Gaussian or after A2C's large steps here, are 5e-7 apart in float32
        rounding = 0.0 if (name, action) == ("ppo", "discrete") else 2 * float(np.spacing(log_prob.abs().max().numpy()))
        torch.testing.assert_close(ratio, torch.ones_like(ratio), rtol=0, atol=1e-6 + rounding)


@every_core
def test_reinforce_learns_from_whole_episodes_as_they_were_seen(core: str, monkeypatch: pytest.MonkeyPatch) -> None:
    walk = Walk("reinforce", core, episodes=6)
    agent, seen = walk.agent, []
    learn = agent.learn

    def watched(batch: Any) -> Any:
        tensors = agent.actor.tensors(batch)
        assert tensors.obs.obs.shape[0] == 1
        assert int(tensors.obs.is_first.sum()) >= 6
        if not seen:  # later ones hold episodes that began with older weights
            trace = agent.actor.network.trace(tensors.obs, tensors.action, tensors.action_mask)
            torch.testing.assert_close(trace.distribution.log_prob, tensors.log_prob, rtol=0, atol=1e-5)
        seen.append(len(batch))
        return learn(batch)

    monkeypatch.setattr(agent, "learn", watched)
    while len(seen) < 3:
        walk.step()
    assert min(seen) > 0


@every_core
def test_values_are_those_of_a_step_by_step_walk(core: str) -> None:
    """Also of the true successors of truncated steps, which come after the step in its own episode."""
    walk = Walk("ppo", core, n_steps=30)
    agent = walk.agent
    network, actor = agent.actor.network, agent.actor
    memory, found, successors = network.core.empty(ENVS), [], []
    while len(agent.rollout) < 29:
        obs = walk.obs
        with torch.inference_mode():
            features, memory = network.core.step(torch.from_numpy(obs), memory)
            found.append(network.value(features[:, network.value_columns].contiguous())[:, 0])
        walk.step()
        now = len(agent.rollout) - 1
        ended = torch.from_numpy(agent.rollout.terminated[now] | agent.rollout.truncated[now])
        with torch.inference_mode():
            copied = tuple(part.clone() for part in memory)
            after, _ = network.core.step(torch.from_numpy(agent.rollout.next_obs[now]), copied)
            successors.append(network.value(after[:, network.value_columns].contiguous())[:, 0])
            memory = network.core.reset(memory, ended)
    evaluated = agent.rollout.evaluate_sequences(actor._values)
    np.testing.assert_allclose(evaluated.value, torch.stack(found).numpy(), rtol=0, atol=1e-5)
    alive = ~evaluated.terminated
    assert evaluated.truncated.sum() > ENVS
    np.testing.assert_allclose(evaluated.next_value[alive], torch.stack(successors).numpy()[alive], rtol=0, atol=1e-5)


@every_core
def test_policy_and_value_have_a_core_each_unless_they_share_one(core: str) -> None:
    """No loss of the value reaches the policy's core; only acting that explores, as training does, steps its own."""
    walk = Walk("ppo", core, n_steps=9)
    agent, network = walk.agent, walk.agent.actor.network
    while not agent.rollout.is_full:
        agent.actor.store(agent.rollout, *transition_of(walk))
    tensors = agent.actor.tensors(agent.actor.batch(agent.rollout, 0.9, 0.9))
    nothing = torch.zeros_like(tensors.log_prob)
    trace = network.trace(tensors.obs, tensors.action, None)
    gradient = trace.gradient(nothing, 0.0, torch.ones_like(nothing))
    if core == "shared":
        assert not isinstance(network.core, PairedCore)
        return
    of_policy = sum(part.numel() for part in network.core.policy.parameters())
    of_both = sum(part.numel() for part in network.core.parameters())
    assert gradient[:of_policy].count_nonzero() == 0
    assert gradient[of_policy:of_both].count_nonzero() > 0

    obs, mask = walk.obs, None
    memory = agent.initial_carry(ENVS).memory
    copies = [tuple(part.clone() for part in memory) for _ in range(2)]
    best, _, _, after = network.act(obs, copies[0], None, mask)
    _, _, _, explored = network.act(obs, copies[1], np.random.default_rng(0), mask)
    with torch.inference_mode():
        features, _ = network.core.step(torch.from_numpy(obs), tuple(part.clone() for part in memory))
    outputs = network.policy.numpy_forward(np.ascontiguousarray(features.numpy()[:, network.policy_columns]))
    assert best.tolist() == network.head.to_environment(network.head.mode(outputs, mask)).tolist()
    (first, second), (first_explored, second_explored) = halves(after), halves(explored)
    assert all(torch.equal(a, b) for a, b in zip(first, first_explored, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(second, halves(memory)[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(second, second_explored, strict=True))


@every_core
def test_the_gradient_is_that_of_the_loss(core: str) -> None:
    walk = Walk("ppo", core, "box", n_steps=9, entropy_coefficient=0.1, normalize_advantage=False)
    agent = walk.agent
    while not agent.rollout.is_full:
        agent.actor.store(agent.rollout, *transition_of(walk))
    batch = agent.actor.batch(agent.rollout, 0.9, 0.9)
    tensors = agent.actor.tensors(batch)
    _, gradient = agent.losses_and_gradient(tensors)
    flat = agent.actor.network.flat
    direction = torch.randn(flat.shape, generator=torch.Generator().manual_seed(0)) / flat.numel() ** 0.5
    begin, losses = flat.clone(), []
    for shift in (1e-2, -1e-2):
        flat.copy_(begin + shift * direction)
        found, _ = agent.losses_and_gradient(tensors)
        losses.append(found.policy + 0.5 * found.value - 0.1 * found.entropy)
    flat.copy_(begin)
    assert float(gradient @ direction) == pytest.approx((losses[0] - losses[1]) / 2e-2, rel=2e-2, abs=1e-4)


def transition_of(walk: Walk) -> tuple[Transition, Any]:
    action, walk.carry, extras = walk.agent.act(walk.obs, walk.carry, explore=True, rng=walk.rng)
    never = np.zeros(ENVS, bool)
    following = walk._draw(4)
    step = Transition(walk.obs, action, walk._draw(), following, never, never, None, None, extras)
    walk.obs = following
    return step, walk.carry


@every_core
def test_acting_changes_nothing_but_the_carry(core: str) -> None:
    walk = Walk("ppo", core, n_steps=50)
    for _ in range(12):
        walk.step()
    actions = [
        walk.agent.act(walk.obs, walk.carry, explore=True, rng=np.random.default_rng(1))[2][LOG_PROB] for _ in range(3)
    ]
    assert np.array_equal(actions[0], actions[1])
    assert np.array_equal(actions[0], actions[2])


def test_an_environment_that_lost_its_episode_begins_one() -> None:
    rollout = SequenceRollout(4, 2, 1, 1, np.dtype(np.int64), 2)
    zero, never = np.zeros((2, 1), np.float32), np.zeros(2, bool)
    nothing = np.zeros(2, np.float32)
    for obs, next_obs in ((0.0, 1.0), (1.0, 2.0), (9.0, 3.0)):
        rollout.add(zero + obs, zero.astype(np.int64), nothing, nothing, zero + next_obs, never, never, None)
    assert rollout.is_first[:3].tolist() == [[True, True], [False, False], [True, True]]


def test_packed_episodes_go_one_after_the_other() -> None:
    walk = Walk("ppo", "gru", n_steps=20)
    while len(walk.agent.rollout) < 19:
        walk.step()
    batch = walk.agent.actor.batch(walk.agent.rollout, 0.9, 1.0)
    wanted = np.zeros((19, ENVS), bool)
    wanted[:5, 1], wanted[3:7, 2] = True, True
    packed = batch.keep(wanted)
    assert packed.obs.shape == (1, 9, 4)
    np.testing.assert_array_equal(packed.obs[0], np.concatenate((batch.obs[1, :5], batch.obs[2, 3:7])))
    assert len(packed) == 9


@pytest.mark.parametrize("name", ["ppo", "a2c", "reinforce"])
@every_core
def test_a_resumed_run_is_the_same_run(name: str, core: str, tmp_path: Any) -> None:
    options = {"ppo": {"n_steps": 16, "batch_size": 32, "epochs": 2}, "a2c": {}, "reinforce": {"episodes": 3}}[name]
    train: dict[str, Any] = {
        "agent_config": {**CORES[core], "hidden": (8,), **options}, "num_envs": 2, "preset": "none", "eval_every": 0,
        "checkpoint_every": 70, "log_every": 10,
    }  # fmt: skip
    whole = rlkit.train(name, "CartPole-v1", total_steps=300, run_dir=tmp_path / "whole", **train)
    rlkit.train(name, "CartPole-v1", total_steps=140, run_dir=tmp_path / "part", **train)
    again = rlkit.resume(tmp_path / "part", total_steps=300)
    assert torch.equal(whole.agent.actor.network.flat, again.agent.actor.network.flat)
    assert rlkit.evaluate(again.run_dir, episodes=2).returns == rlkit.evaluate(whole.run_dir, episodes=2).returns


def test_a_loaded_policy_remembers_until_it_is_reset(tmp_path: Any) -> None:
    result = rlkit.train(
        "ppo", "rlkit/RepeatPrevious-v0", total_steps=64, run_dir=tmp_path / "run", preset="none", eval_every=0,
        agent_config={**CORES["gru"], "n_steps": 16, "batch_size": 16},
    )  # fmt: skip
    policy = rlkit.load(result.run_dir)
    env = gym.make("rlkit/RepeatPrevious-v0")
    obs, _ = env.reset(seed=0)
    network = policy.agent.actor.network
    policy.predict(obs)
    first = policy._carry[1][0][0].clone()
    policy.predict(obs)
    assert not torch.equal(policy._carry[1][0][0], first)
    policy.reset()
    policy.predict(obs)
    assert torch.equal(policy._carry[1][0][0], first)
    assert isinstance(policy.agent.actor, SequenceActor)
    assert network.core.size == 16
    assert Sequences._fields == ("obs", "is_first", "beginning")


def test_weights_that_do_not_fit_the_options_are_told(tmp_path: Path) -> None:
    options = {"core": "gru", "core_width": 8, "hidden": (8,), "n_steps": 16, "share_core": True}
    run = rlkit.train(
        "ppo", "CartPole-v1", total_steps=16, run_dir=tmp_path / "run", preset="none", eval_every=0,
        agent_config=options,
    ).run_dir  # fmt: skip
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("share_core: true", "share_core: false"))
    with pytest.raises(CheckpointError, match=r"does not fit the agent.*config\.yaml was changed"):
        rlkit.load(run)
