"""The small networks learn what tables and linear values learn, by one step of gradient descent for each transition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import rlkit
from rlkit.agents.small_network import NetworkMC, NetworkSarsa
from rlkit.envs.make import make
from rlkit.types import Transition

NEVER = np.zeros(1, np.bool_)


def value_and_gradient(agent: Any, obs: Any, column: int) -> tuple[float, Any]:
    agent.network.flat.grad = None
    value = agent.network(torch.from_numpy(agent.scaled(agent.observations(obs))))[0, column]
    value.backward()
    return float(value.detach()), agent.network.flat.grad.numpy().copy()


def test_sarsa_moves_the_weights_along_the_gradient_when_the_next_action_is_known() -> None:
    agent = rlkit.make("network-sarsa", "CartPole-v1", gamma=0.9, learning_rate=0.1, hidden=(8,))
    assert isinstance(agent, NetworkSarsa)
    obs = [np.array([[x, -x, 2 * x, 0.1]], np.float32) for x in (0.1, 0.2, 0.3)]
    value, gradient = value_and_gradient(agent, obs[0], 1)
    following, _ = value_and_gradient(agent, obs[1], 0)
    before = agent.network.flat.detach().numpy().copy()
    reward = np.ones(1, np.float32)
    agent.observe(Transition(obs[0], np.array([1]), reward, obs[1], NEVER, NEVER), ())
    agent.update()
    assert (agent.network.flat.detach().numpy() == before).all()
    agent.observe(Transition(obs[1], np.array([0]), reward, obs[2], NEVER, NEVER), ())
    agent.update()
    expected = before + 0.1 * (1.0 + 0.9 * following - value) * gradient
    assert agent.network.flat.detach().numpy() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("terminated", [True, False])
def test_monte_carlo_moves_each_value_towards_its_return(terminated: bool) -> None:
    agent = rlkit.make("network-mc", "CartPole-v1", gamma=0.5, learning_rate=0.1, hidden=(8,))
    assert isinstance(agent, NetworkMC)
    obs = [np.array([[x, -x, 2 * x, 0.1]], np.float32) for x in (0.1, 0.2, 0.3)]
    tail = 0.0 if terminated else value_and_gradient(agent, obs[2], 0)[0]
    returns = [1.0 + 0.5 * (2.0 + 0.5 * tail), 2.0 + 0.5 * tail]
    twin = rlkit.make("network-mc", "CartPole-v1", gamma=0.5, learning_rate=0.1, hidden=(8,))
    for start, target in zip(obs, returns, strict=False):
        value, gradient = value_and_gradient(twin, start, 0)
        with torch.no_grad():
            twin.network.flat += 0.1 * (target - value) * torch.from_numpy(gradient)
    ends = np.array([terminated]), np.array([not terminated])
    for t in range(2):
        end = ends if t else (NEVER, NEVER)
        agent.observe(Transition(obs[t], np.array([0]), np.array([1.0 + t], np.float32), obs[t + 1], *end), ())
        agent.update()
    assert agent.network.flat.detach().numpy() == pytest.approx(twin.network.flat.detach().numpy(), abs=1e-6)


def test_monte_carlo_learns_the_values_of_the_random_walk() -> None:
    agent = rlkit.make("network-mc", "rlkit/RandomWalk5-v0", gamma=1.0, learning_rate=0.01, hidden=(16,))
    envs = make("rlkit/RandomWalk5-v0", 1)
    rng, (obs, _) = np.random.default_rng(0), envs.reset(0)
    for _ in range(10_000):
        action, carry, _ = agent.act(obs, (), explore=True, rng=rng)
        step = envs.step(action)
        reward = step.reward.astype(np.float32)
        agent.observe(Transition(obs, action, reward, step.next_obs, step.terminated, step.truncated), carry)
        agent.update()
        obs = step.obs
    true = np.arange(1, 6) / 6
    assert np.sqrt(np.mean((agent.state_values()[1:-1] - true) ** 2)) < 0.1


def test_without_a_core_the_weights_are_those_of_before_there_were_cores() -> None:
    """The numbers are those of the commit before."""
    found = []
    for name, env, options in (
        ("network-sarsa", "CartPole-v1", {"num_envs": 2, "final_epsilon": 0.0}),
        ("network-mc", "CartPole-v1", {"policy": "0.4,0.6"}),
    ):
        envs = make(env, num_envs := int(options.get("num_envs", 1)))
        agent = rlkit.make(name, env, seed=3, total_steps=1000, **options)
        rng, (obs, _) = np.random.default_rng(5), envs.reset(7)
        for _ in range(150):
            action, carry, _ = agent.act(obs, agent.initial_carry(num_envs), explore=True, rng=rng)
            step = envs.step(action)
            reward = step.reward.astype(np.float32)
            agent.observe(Transition(obs, action, reward, step.next_obs, step.terminated, step.truncated), carry)
            agent.update()
            obs = step.obs
        weights = agent.network.flat.detach().numpy().astype(np.float64)
        found += [np.abs(weights).sum(), weights @ np.arange(1, len(weights) + 1)]
    expected = [139.67204920634686, -1649.2976656816609, 142.60864961681364, 7000.369259076921]
    assert found == pytest.approx(expected, rel=1e-5)
