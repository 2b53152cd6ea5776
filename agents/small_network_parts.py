"""What `network-mc` and `network-sarsa` are with and without a memory: options, inputs, and how actions are chosen."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from pydantic import Field

from rlkit.agents.core_options import CoreOptions
from rlkit.errors import EnvironmentFault
from rlkit.linear.observations import Observations, linear_reason
from rlkit.linear.policies import policy_rows
from rlkit.mdp import Floats64, Integers
from rlkit.ops.schedules import scheduled_epsilon
from rlkit.tabular.rules import drawn_action
from rlkit.types import Array, Floats, Obs, State, Task


class NetworkConfig(CoreOptions):
    """What both methods have."""

    gamma: float = Field(0.99, ge=0.0, le=1.0)
    """discount of the next value"""
    hidden: tuple[int, ...] = (32, 32)
    """widths of the hidden layers, with ReLU; with a core they stand on it"""
    learning_rate: float | None = Field(None, gt=0.0)
    """step size α of gradient descent; by default 0.001, with a core 0.01, for the mean over a sequence's steps"""


class NetworkMCConfig(NetworkConfig):
    """Options of Monte Carlo prediction."""

    policy: str = "uniform"
    """uniform, always-K, probabilities such as 0.25,0.75; for finite observations also optimal or a run's folder"""
    max_episode_steps: int = Field(10_000, ge=1)
    """longest episode; a longer one is an error, because nothing can be learned before it ends"""


class NetworkSarsaConfig(NetworkConfig):
    """Options of Sarsa."""

    epsilon: float = Field(0.1, ge=0.0, le=1.0)
    """probability of a random action (its initial value, where it changes)"""
    final_epsilon: float | None = Field(None, ge=0.0, le=1.0)
    """ε at the end of the run, to which it falls linearly; by default it stays"""
    core_steps: int = Field(16, ge=1)
    """with a core: steps of every environment between two updates, through which gradients go back"""

    def epsilon_at(self, step: int, total_steps: int) -> float:
        """ε after so many of the run's env steps."""
        final = self.epsilon if self.final_epsilon is None else self.final_epsilon
        return scheduled_epsilon(1, self.epsilon, final, float(total_steps), step, 0)


class SmallNetwork:
    """An agent for listed actions whose network takes the observation's numbers."""

    Config: ClassVar[Any] = NetworkConfig

    @classmethod
    def supports(cls, task: Task) -> str | None:
        """None for Discrete actions and observations of numbers, else the reason."""
        return linear_reason(task)

    def __init__(self, config: Any, task: Task) -> None:
        assert isinstance(task.action_space, spaces.Discrete)
        self.config = config
        self.learning_rate: float = config.learning_rate or (1e-3 if config.core == "none" else 1e-2)
        self.observations = Observations(task.observation_space)
        low, high = self.observations.low, self.observations.high
        self._is_bounded = np.isfinite(low) & np.isfinite(high) & (low < high)
        self._low = np.where(self._is_bounded, low, 0.0)
        self._span = np.where(self._is_bounded, high, 1.0) - self._low
        self.num_actions, self._first_action = int(task.action_space.n), int(task.action_space.start)
        self._action_type = task.action_space.dtype
        self._num_envs, self._total_steps = task.num_envs, max(task.total_steps, 1)
        self._step, self._updates = 0, 0

    @property
    def gamma(self) -> float:
        """Discount γ of the values."""
        return float(self.config.gamma)

    def scaled(self, numbers: Floats64) -> Floats:
        """Numbers [N, O] of observations as the network takes them."""
        bounded = 2.0 * (numbers - self._low) / self._span - 1.0
        return np.where(self._is_bounded, bounded, 2.0 / np.pi * np.arctan(numbers)).astype(np.float32)

    def inputs(self, obs: Obs) -> Floats:
        """What the network takes, [N, O]."""
        return self.scaled(self.observations(obs))

    def to_environment(self, chosen: Integers) -> Array:
        """Actions in the environment's numbers."""
        return (chosen + self._first_action).astype(self._action_type)


class Episodes:
    """What the network took and what was gained in the unfinished episodes of N rows."""

    def __init__(self, num_envs: int, longest: int) -> None:
        self._longest = longest
        self.inputs: list[list[Floats]] = [[] for _ in range(num_envs)]
        self.rewards: list[list[float]] = [[] for _ in range(num_envs)]

    def add(self, row: int, inputs: Floats, reward: float) -> None:
        """One step of a row. Raises EnvironmentFault where its episode is too long."""
        self.inputs[row].append(inputs)
        self.rewards[row].append(reward)
        if len(self.rewards[row]) > self._longest:
            raise EnvironmentFault(
                "an episode has not ended within --agent.max-episode-steps, and only whole ones teach this agent; "
                "give the environment a time limit (--wrap time-limit:max_episode_steps=1000), or raise it"
            )

    def forget(self, row: int) -> None:
        """Begin the row's next episode."""
        self.inputs[row], self.rewards[row] = [], []

    def state(self, width: int) -> State:
        """All of it, for inputs of this width."""
        inputs = [np.array(each, np.float32).reshape(len(each), width) for each in self.inputs]
        return {"inputs": inputs, "rewards": [np.array(each) for each in self.rewards]}

    def restore(self, state: State) -> None:
        """Restore `state`."""
        self.inputs = [list(np.array(each)) for each in state["inputs"]]
        self.rewards = [each.tolist() for each in state["rewards"]]


class GivenPolicy:
    """The policy that is evaluated, the same everywhere or a line for each finite observation."""

    def __init__(self, name: str, task: Task, observations: Observations, gamma: float) -> None:
        self._observations = observations
        self._rows = policy_rows(name, task, observations, gamma)

    def of_observations(self, obs: Obs, rng: np.random.Generator) -> Integers:
        """Actions [N] from 0."""
        numbers, digits = self._observations(obs), self._observations.digits
        if len(self._rows) == 1:
            return self.of_states(np.zeros(len(numbers), np.int64), rng)
        return self.of_states(((numbers - digits[:, 2]) @ digits[:, 0]).astype(np.int64), rng)

    def of_states(self, states: Integers, rng: np.random.Generator) -> Integers:
        """The same for rows of a finite observation space."""
        rows = states if len(self._rows) > 1 else np.zeros_like(states)
        drawn = rng.random(len(rows))
        return np.array([drawn_action(self._rows[s], u) for s, u in zip(rows, drawn, strict=True)], np.int64)

    def table(self, num_actions: int) -> Floats64:
        """Probabilities [S, A] for every row of a finite observation space."""
        return np.broadcast_to(self._rows, (self._observations.num_rows, num_actions))


def epsilon_greedy(values: Floats, epsilon: float, rng: np.random.Generator) -> Integers:
    """Actions [N] from 0 for values [N, A]; among equal ones the first."""
    best: Integers = values.argmax(axis=1)
    explores = rng.random(len(best)) < epsilon
    return np.where(explores, rng.integers(values.shape[1], size=len(best)), best)


def expected_value(values: Floats, epsilon: float) -> Floats:
    """What an ε-greedy action is worth, [...] for values [..., A]."""
    expected: Floats = (1.0 - epsilon) * values.max(axis=-1) + epsilon * values.mean(axis=-1)
    return expected
