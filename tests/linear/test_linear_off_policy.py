"""Off-policy prediction does not diverge where semi-gradient TD does, and other ways to give features and policies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import rlkit
from rlkit import registry
from rlkit.data import memory
from rlkit.errors import ConfigError, MemoryBudgetError, UsageError
from rlkit.linear.agent import LinearAgent
from rlkit.types import Floats, Obs, Task

BEHAVIOUR = "0.857142857142857,0.142857142857143"


@pytest.fixture
def baird_features(tmp_path: Path) -> str:
    matrix = np.hstack([np.diag([2.0] * 6 + [1.0]), np.array([[1.0]] * 6 + [[2.0]])])
    np.savetxt(tmp_path / "baird.csv", matrix, delimiter=",")
    return str(tmp_path / "baird.csv")


def largest_value(name: str, features: str, steps: int, **config: Any) -> float:
    agent = rlkit.make(
        name, "rlkit/Baird-v0", features="given", feature_file=features, gamma=0.99, policy="always-1",
        behaviour=BEHAVIOUR, initial_weights=(1.0,) * 6 + (10.0, 1.0), **config,
    )  # fmt: skip
    agent.advance(steps, steps)
    return float(np.abs(agent.state_values()).max())


@pytest.mark.slow
def test_tdc_and_gtd2_stay_bounded_on_bairds_counterexample(baird_features: str) -> None:
    first = 12.0  # the value of the lower state at the beginning
    assert largest_value("tdc", baird_features, 20_000, learning_rate=0.005, second_learning_rate=0.05) < first
    assert largest_value("gtd2", baird_features, 20_000, learning_rate=0.005, second_learning_rate=0.05) < first


def test_semi_gradient_q_learning_diverges_on_bairds_counterexample(baird_features: str) -> None:
    agent = rlkit.make(
        "linear-q-learning", "rlkit/Baird-v0", features="given", feature_file=baird_features, gamma=0.99,
        behaviour=BEHAVIOUR, learning_rate=0.01, initial_weights=(1.0,) * 6 + (10.0, 1.0),
    )  # fmt: skip
    agent.advance(20_000, 20_000)
    assert np.abs(agent.weights).max() > 1e3


def test_followed_and_evaluated_policy_may_be_the_same() -> None:
    """On-policy ρ is 1, and where γ is 0 the emphasis is 1 too: emphatic TD is then TD(0)."""
    agents = [
        rlkit.make(
            name, "rlkit/RandomWalk19-v0", features="one-hot", gamma=0.0, learning_rate=0.1, policy="uniform", **more
        )
        for name, more in (("linear-td", {}), ("emphatic-td", {"behaviour": "uniform"}))
    ]
    for agent in agents:
        agent.advance(2_000, 2_000)
    assert agents[0].state_values() == pytest.approx(agents[1].state_values(), abs=1e-12)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("0.5,0.6", "2 probabilities"),
        ("always-7", "actions are 0"),
        ("optimal", "where observations are no finite set"),
    ],
)
def test_policies_that_do_not_fit_are_named(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        rlkit.make("linear-td", "CartPole-v1", policy=name)


@pytest.mark.parametrize("name", ["tdc", "gtd2", "emphatic-td"])
def test_policies_that_do_what_is_never_tried_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"takes action 1 .* such as uniform"):
        rlkit.make(name, "CartPole-v1", policy="uniform", behaviour="always-0")
    rlkit.make(name, "CartPole-v1", policy="always-0", behaviour="0.9,0.1")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lspi", {"features": "fourier", "order": 1, "capacity": 10**13}),
        ("linear-n-step-sarsa", {"features": "fourier", "order": 16, "n": 10_000}),
        ("gradient-mc", {"max_episode_steps": 10_000_000}),
        ("linear-sarsa-lambda", {"hash_size": 9_000_000}),
    ],
)
def test_memory_that_does_not_fit_is_refused_first(
    name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 100_000_000)
    with pytest.raises(MemoryBudgetError, match=r"needs [\d.,]+ [MG]B, 100 MB are available"):
        rlkit.make(name, "CartPole-v1", **options)


def test_a_run_in_which_lspi_would_never_improve_is_refused() -> None:
    few = {"features": "fourier", "order": 1, "improve_every": 1_000}
    with pytest.raises(ConfigError, match=r"improve_every is 1,000[\s\S]*1 … 999"):
        rlkit.make("lspi", "CartPole-v1", total_steps=999, **few)
    rlkit.make("lspi", "CartPole-v1", total_steps=1_000, **few)


class Halves:
    """Offers two features: the first two numbers, halved."""

    feature_size = 2

    def features(self, obs: Obs) -> Floats:
        return np.asarray(obs)[:, :2] / 2


class OfPairs(Halves):
    """Takes a Dict."""

    def features(self, obs: Obs) -> Floats:
        assert not isinstance(obs, tuple)
        return np.asarray(obs["pair"])


def encoder_task(actor: Any) -> Task:
    env = gym.make("CartPole-v1")
    return Task(env.observation_space, env.action_space, total_steps=100, load_actor=lambda run: actor)


def test_features_of_a_trained_run_take_the_place_of_the_observation() -> None:
    kind = registry.agent_class("linear-sarsa")
    options = {"features": "encoder", "encoder": "runs/one", "bias": True, "initial_weights": (2.0, 4.0, 1.0)}
    config = registry.config_class(kind)(**options)
    agent = kind(config, encoder_task(Halves()))
    assert isinstance(agent, LinearAgent)
    values = agent.values(np.array([[1.0, 0.5, 9.0, 9.0]], np.float32))
    assert values.tolist() == [[2.0 * 0.5 + 4.0 * 0.25 + 1.0] * 2]
    with pytest.raises(UsageError, match="offers no features"):
        kind(config, encoder_task(object()))
    with pytest.raises(UsageError, match=r"takes other observations than this environment's Box"):
        kind(config, encoder_task(OfPairs()))
    with pytest.raises(UsageError, match="engine step"):
        kind(config.model_copy(update={"engine": "compiled"}), encoder_task(Halves()))
