"""The small networks with a core: acting is what learning sees, and learning is gradient descent on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

import rlkit
from rlkit import registry
from rlkit.agents.small_network_memory import RememberingMC, RememberingSarsa
from rlkit.errors import UsageError
from rlkit.tabular.truth import ValueTable
from rlkit.types import Task, Transition

CORES: dict[str, dict[str, Any]] = {
    "gru": {"core": "gru", "core_width": 8},
    "lstm": {"core": "lstm", "core_width": 8},
    "transformer": {"core": "transformer", "core_width": 8, "core_heads": 2, "core_context": 5},
}
every_core = pytest.mark.parametrize("core", CORES)
ENVS, OBS, ACTIONS, STEPS = 3, 2, 3, 7
NEVER = np.zeros(1, np.bool_)


class Walk:
    """An agent driven through random episodes of which some terminate and some are truncated."""

    def __init__(self, name: str, core: str, envs: int = ENVS, **options: Any) -> None:
        chosen = registry.agent_class(name)
        space = spaces.Box(-3, 3, (OBS,))
        task = Task(space, spaces.Discrete(ACTIONS), num_envs=envs, total_steps=10_000, seed=3, device="cpu")
        self.agent: Any = chosen(registry.config_class(chosen)(hidden=(8,), **CORES[core], **options), task)
        self.rng, self.envs = np.random.default_rng(0), envs
        self.carry = self.agent.initial_carry(envs)
        self.obs = self.draw(OBS)
        self.values: list[Any] = []

    def draw(self, *shape: int) -> Any:
        return self.rng.standard_normal((self.envs, *shape)).astype(np.float32).clip(-3, 3)

    def step(self) -> dict[str, float]:
        agent = self.agent
        self.values.append(agent.values(self.obs, self.carry)[0])
        action, carry, _ = agent.act(self.obs, self.carry, explore=True, rng=self.rng)
        terminated, truncated = self.rng.random((2, self.envs)) < 0.1
        following, fresh, ended = self.draw(OBS), self.draw(OBS), terminated | truncated
        if ended.any():
            carry = agent.reset_carry(carry, ended)
        agent.observe(Transition(self.obs, action, self.draw(), following, terminated, truncated), carry)
        self.obs, self.carry = np.where(ended[:, None], fresh, following), carry
        return dict(agent.update())


@every_core
def test_an_update_of_sarsa_sees_the_values_that_acting_had(core: str, monkeypatch: pytest.MonkeyPatch) -> None:
    walk = Walk("network-sarsa", core, core_steps=STEPS, learning_rate=0.3)  # so that stale memory shows
    agent, seen, crossed = walk.agent, [], 0
    traced = agent.trace

    def watched(sequences: Any) -> Any:
        trace = traced(sequences)
        seen.append(trace.output.numpy().reshape(*sequences.is_first.shape, ACTIONS).copy())
        return trace

    monkeypatch.setattr(agent, "trace", watched)
    for update in range(8):
        for _ in range(STEPS - 1):
            assert walk.step() == {}
        rollout = agent.rollout
        goes_on = ~rollout.is_first[0]
        assert "train/value_error" in walk.step()
        first, ends = rollout.is_first[:STEPS].T, (rollout.terminated | rollout.truncated)[:STEPS].T
        crossed += int(goes_on.any() and update > 0) + int(first[:, 1:].any())
        # where a truncated step's successor was put in, later steps move by one
        place = np.arange(STEPS) + np.cumsum(ends & ~rollout.terminated[:STEPS].T, axis=1)
        place -= ends & ~rollout.terminated[:STEPS].T
        found = seen[-1][np.arange(ENVS)[:, None], place]
        np.testing.assert_allclose(found, np.stack(walk.values[-STEPS:], 1), rtol=0, atol=1e-5)
    assert crossed > 8


@every_core
def test_monte_carlo_sees_the_values_that_acting_had(core: str, monkeypatch: pytest.MonkeyPatch) -> None:
    walk = Walk("network-mc", core, envs=1, learning_rate=0.03)
    agent, seen, begin = walk.agent, [], 0
    traced = agent.trace

    def watched(sequences: Any) -> Any:
        seen.append(trace := traced(sequences))
        return trace

    monkeypatch.setattr(agent, "trace", watched)
    while len(seen) < 8:
        episodes = len(seen)
        walk.step()
        if len(seen) > episodes:
            acted = np.concatenate(walk.values[begin:])
            np.testing.assert_allclose(seen[-1].output.numpy()[: len(acted)], acted, rtol=0, atol=1e-5)
            begin = len(walk.values)


class Independent(nn.Module):
    """A gated recurrent unit and a perceptron in float64, with torch's own modules and the agent's weights."""

    def __init__(self, agent: Any) -> None:
        super().__init__()
        self.cell = nn.GRU(OBS, 8, batch_first=True).double()
        outputs = agent.network.head.widths[-1]
        self.head = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, outputs)).double()
        nn.utils.vector_to_parameters(agent.network.flat.double(), self.parameters())

    def forward(self, obs: Any) -> torch.Tensor:
        scaled = torch.from_numpy(np.stack(obs)).double() / 3.0  # bounds are -3 and 3
        values: torch.Tensor = self.head(self.cell(scaled[None])[0][0])
        return values

    def moved(self, loss: torch.Tensor, learning_rate: float) -> Any:
        gradient = torch.cat([part.reshape(-1) for part in torch.autograd.grad(loss, list(self.parameters()))])
        return (nn.utils.parameters_to_vector(self.parameters()) - learning_rate * gradient).detach().numpy()


def episode_of(walk: Walk, steps: int) -> tuple[list[Any], Any, Any]:
    """Observations, actions and rewards."""
    obs = [walk.draw(OBS)[0] for _ in range(steps + 1)]
    return obs, walk.rng.integers(ACTIONS, size=steps), walk.rng.standard_normal(steps).astype(np.float32)


def observe_all(agent: Any, obs: Any, action: Any, reward: Any, *, terminated: bool, truncated: bool) -> None:
    carry = agent.initial_carry(1)
    for t, (act, gain) in enumerate(zip(action, reward, strict=True)):
        is_last = t == len(action) - 1
        _, carry = agent.values(obs[t][None], carry)
        ends = np.array([terminated and is_last]), np.array([truncated and is_last])
        agent.observe(Transition(obs[t][None], np.array([act]), np.array([gain]), obs[t + 1][None], *ends), carry)
        agent.update()


@pytest.mark.parametrize("terminated", [True, False])
def test_monte_carlo_descends_the_gradient_of_the_mean_over_an_episode(terminated: bool) -> None:
    walk = Walk("network-mc", "gru", envs=1, gamma=0.8, learning_rate=0.5)
    assert isinstance(walk.agent, RememberingMC)
    obs, action, reward = episode_of(walk, 6)
    network = Independent(walk.agent)
    value = network(obs)[:, 0]
    target, targets = 0.0 if terminated else float(value[-1].detach()), []
    for gain in reward[::-1]:
        target = float(gain) + 0.8 * target
        targets.insert(0, target)
    expected = network.moved(((torch.tensor(targets) - value[:6]) ** 2).mean() / 2, 0.5)
    observe_all(walk.agent, obs, action, reward, terminated=terminated, truncated=not terminated)
    assert walk.agent.network.flat.numpy() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("end", ["terminated", "truncated", "none"])
def test_sarsa_descends_the_semi_gradient_of_the_mean_over_a_sequence(end: str) -> None:
    walk = Walk("network-sarsa", "gru", envs=1, gamma=0.8, learning_rate=0.5, core_steps=6, epsilon=0.3)
    assert isinstance(walk.agent, RememberingSarsa)
    obs, action, reward = episode_of(walk, 6)
    network = Independent(walk.agent)
    values = network(obs)
    following = values.detach().numpy()[1:]
    after = following[np.arange(6), np.append(action[1:], 0)]
    after[-1] = 0.0 if end == "terminated" else 0.7 * following[-1].max() + 0.3 * following[-1].mean()
    error = torch.from_numpy(reward + 0.8 * after) - values[np.arange(6), action]
    expected = network.moved((error**2).mean() / 2, 0.5)
    observe_all(walk.agent, obs, action, reward, terminated=end == "terminated", truncated=end == "truncated")
    assert walk.agent.network.flat.numpy() == pytest.approx(expected, abs=1e-6)


@every_core
@pytest.mark.parametrize("name", ["network-mc", "network-sarsa"])
def test_acting_changes_nothing_but_the_carry(name: str, core: str) -> None:
    walk = Walk(name, core)
    walk.step()
    agent, weights = walk.agent, walk.agent.network.flat.clone()
    found = [agent.act(walk.obs, walk.carry, explore=True, rng=np.random.default_rng(3)) for _ in range(2)]
    assert np.array_equal(found[0][0], found[1][0])
    assert torch.equal(agent.network.flat, weights)
    assert not isinstance(agent, ValueTable)  # a state alone has no value


@every_core
@pytest.mark.parametrize(("name", "env"), [("network-mc", "rlkit/RandomWalk19-v0"), ("network-sarsa", "CartPole-v1")])
def test_a_resumed_run_is_the_same_run(name: str, env: str, core: str, tmp_path: Any) -> None:
    train: dict[str, Any] = {
        "agent_config": {**CORES[core], "hidden": (8,), "learning_rate": 0.05}, "num_envs": 2, "preset": "none",
        "eval_every": 100, "eval_episodes": 1, "checkpoint_every": 70,
    }  # fmt: skip
    whole = rlkit.train(name, env, total_steps=300, run_dir=tmp_path / "whole", **train)
    rlkit.train(name, env, total_steps=150, run_dir=tmp_path / "part", **train)
    again = rlkit.resume(tmp_path / "part", total_steps=300)
    assert torch.equal(again.agent.network.flat, whole.agent.network.flat)
    assert rlkit.evaluate(again.run_dir, episodes=2).returns == rlkit.evaluate(whole.run_dir, episodes=2).returns


def test_monte_carlo_drops_what_came_before_an_episode_was_lost() -> None:
    walk = Walk("network-mc", "gru", envs=1)
    obs, action, reward = episode_of(walk, 4)
    twin = Walk("network-mc", "gru", envs=1)
    lost = Transition(obs[-1][None], np.zeros(1, np.int64), np.ones(1, np.float32), obs[2][None], NEVER, NEVER)
    walk.agent.observe(lost, walk.carry)
    for agent in (walk.agent, twin.agent):
        observe_all(agent, obs, action, reward, terminated=True, truncated=False)
    assert torch.equal(walk.agent.network.flat, twin.agent.network.flat)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(UsageError, match="heads"):
        rlkit.make("network-sarsa", "CartPole-v1", core="transformer", core_width=10, core_heads=4)


def test_with_a_memory_sarsa_repeats_what_it_saw_a_step_ago(tmp_path: Any) -> None:
    """Every answer right is 1; answers by chance are worth 0 (two symbols)."""
    common: dict[str, Any] = {"gamma": 0.0, "epsilon": 0.3}
    memory = {"core": "gru", "core_width": 16, "core_steps": 2, "hidden": (), "learning_rate": 1.0}
    means = []
    for number, options in enumerate((memory, {"learning_rate": 0.02})):
        result = rlkit.train(
            "network-sarsa", "rlkit/RepeatPrevious-v0", env_args=["k=1", "symbols=2", "length=12"], total_steps=8000,
            num_envs=4, run_dir=tmp_path / str(number), preset="none", eval_every=0, agent_config=common | options,
        )  # fmt: skip
        means.append(rlkit.evaluate(result.run_dir, episodes=50, seed=1).mean)
    assert means[0] > 0.95
    assert means[1] < 0.3
