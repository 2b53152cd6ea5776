"""Between linear and deep: gradient Monte Carlo and semi-gradient Sarsa with a small network.

The methods of Sutton and Barto (2018), sections 9.3 and 10.1, as they stand: every transition is used once, when it
comes, by one step of plain gradient descent; no replay, no target network, no optimiser. So what DQN adds can be
measured. Observations enter as numbers scaled to [-1, 1]; dimensions without bounds by 2/π arctan(x).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from pydantic import Field

from rlkit import seeding
from rlkit.config import AgentConfig
from rlkit.errors import EnvironmentFault
from rlkit.linear.observations import Observations, linear_reason
from rlkit.linear.policies import policy_rows
from rlkit.mdp import Floats64, Integers
from rlkit.nn.mlp import MLP
from rlkit.ops.schedules import scheduled_epsilon
from rlkit.tabular.rules import drawn_action
from rlkit.types import Array, Bools, Carry, Floats, Metrics, Obs, State, Task, Transition

_METRICS_EVERY = 50


class NetworkConfig(AgentConfig):
    """What both methods have."""

    gamma: float = Field(0.99, ge=0.0, le=1.0)
    """discount of the next value"""
    hidden: tuple[int, ...] = (32, 32)
    """widths of the hidden layers, with ReLU"""
    learning_rate: float = Field(1e-3, gt=0.0)
    """step size α of gradient descent"""


class _SmallNetwork:
    """A network of values, one for each action or one for the state, moved towards targets."""

    Config: ClassVar[Any] = NetworkConfig

    @classmethod
    def supports(cls, task: Task) -> str | None:
        """None for Discrete actions and observations of numbers, else the reason."""
        return linear_reason(task)

    def __init__(self, config: Any, task: Task) -> None:
        assert isinstance(task.action_space, spaces.Discrete)
        self.config = config
        self.observations = Observations(task.observation_space)
        low, high = self.observations.low, self.observations.high
        self._is_bounded = np.isfinite(low) & np.isfinite(high) & (low < high)
        self._low = np.where(self._is_bounded, low, 0.0)
        self._span = np.where(self._is_bounded, high, 1.0) - self._low
        self.num_actions, self._first_action = int(task.action_space.n), int(task.action_space.start)
        self._action_type = task.action_space.dtype
        self._num_envs, self._total_steps = task.num_envs, max(task.total_steps, 1)
        self._step, self._updates = 0, 0
        self.network = MLP(
            len(low), config.hidden, self._outputs(), generator=seeding.torch_generator(task.seed, "weights")
        )
        self._prepare(task)

    def _outputs(self) -> int:
        """How many values."""
        return self.num_actions

    def _prepare(self, task: Task) -> None:
        """What the method needs besides."""
        raise NotImplementedError

    def _chosen(self, obs: Obs, explore: bool, rng: np.random.Generator) -> Integers:
        """Actions [N] from 0."""
        raise NotImplementedError

    @property
    def gamma(self) -> float:
        """Discount γ of the values."""
        return float(self.config.gamma)

    def initial_carry(self, num_envs: int) -> Carry:
        """Nothing to remember."""
        return ()

    def reset_carry(self, carry: Carry, ended: Bools) -> Carry:
        """Nothing to forget."""
        return carry

    def act(
        self, obs: Obs, carry: Carry, *, explore: bool, rng: np.random.Generator, action_mask: Bools | None = None
    ) -> tuple[Array, Carry, Mapping[str, Array]]:
        """Actions [N]; without exploration the first of the best ones."""
        chosen = self._chosen(obs, explore, rng) + self._first_action
        return chosen.astype(self._action_type), carry, {}

    def scaled(self, numbers: Floats64) -> Floats:
        """Numbers [N, O] of observations as the network takes them."""
        bounded = 2.0 * (numbers - self._low) / self._span - 1.0
        return np.where(self._is_bounded, bounded, 2.0 / np.pi * np.arctan(numbers)).astype(np.float32)

    def values(self, obs: Obs) -> Floats:
        """V(s) [N, 1], or Q(s, ·) [N, A], of observations."""
        return self.network.numpy_forward(self.scaled(self.observations(obs)))

    def state_values(self) -> Floats64:
        """V(s), or the value of the best action, of every row [S] of a finite observation space; else [0]."""
        rows = np.arange(self.observations.num_rows if self.observations.is_finite else 0)
        return (
            np.array([values.max() for values in self._values_of_rows(rows)], np.float64) if len(rows) else np.zeros(0)
        )

    def _values_of_rows(self, rows: Integers) -> Floats:
        return self.network.numpy_forward(self.scaled(self.observations.of_rows(rows)))

    def move(self, inputs: Floats, columns: Integers, targets: Floats64) -> float:
        """One step of gradient descent on Σ (target - value)² / 2 over rows; the mean absolute error before it."""
        trace = self.network.trace(torch.from_numpy(inputs))
        rows = np.arange(len(columns))
        errors = trace.output.numpy()[rows, columns] - targets
        gradient = np.zeros(trace.output.shape, np.float32)
        gradient[rows, columns] = errors
        with torch.no_grad():
            self.network.flat.sub_(trace.weight_gradient(torch.from_numpy(gradient)), alpha=self.config.learning_rate)
        self._updates += 1
        return float(np.abs(errors).mean())

    def policy_state(self) -> State:
        """Weights, and how far the schedules are."""
        return {"weights": self.network.flat.detach(), "step": self._step}

    def load_policy_state(self, state: State) -> None:
        """Restore `policy_state`."""
        with torch.no_grad():
            self.network.flat.copy_(state["weights"])
        self._step = state["step"]


class NetworkMCConfig(NetworkConfig):
    """Options of Monte Carlo prediction."""

    policy: str = "uniform"
    """uniform, always-K, probabilities such as 0.25,0.75; for finite observations also optimal or a run's folder"""
    max_episode_steps: int = Field(10_000, ge=1)
    """longest episode; a longer one is an error, because nothing can be learned before it ends"""


class NetworkMC(_SmallNetwork):
    """Gradient Monte Carlo prediction; an episode that was cut is bootstrapped with the value of its last state."""

    Config = NetworkMCConfig

    def _outputs(self) -> int:
        return 1

    def _prepare(self, task: Task) -> None:
        self._policy = policy_rows(self.config.policy, task, self.observations, self.config.gamma)
        self._inputs: list[list[Floats]] = [[] for _ in range(task.num_envs)]
        self._rewards: list[list[float]] = [[] for _ in range(task.num_envs)]

    def _chosen(self, obs: Obs, explore: bool, rng: np.random.Generator) -> Integers:
        numbers, digits = self.observations(obs), self.observations.digits
        if len(self._policy) == 1:
            return self.greedy_actions(np.zeros(len(numbers), np.int64), rng)
        return self.greedy_actions(((numbers - digits[:, 2]) @ digits[:, 0]).astype(np.int64), rng)

    def greedy_actions(self, states: Integers, rng: np.random.Generator) -> Integers:
        """What the evaluated policy does in rows of a finite observation space."""
        rows = states if len(self._policy) > 1 else np.zeros_like(states)
        drawn = rng.random(len(rows))
        return np.array([drawn_action(self._policy[s], u) for s, u in zip(rows, drawn, strict=True)], np.int64)

    def evaluated_policy(self) -> Floats64 | None:
        """The policy [S, A] whose values are predicted."""
        return np.broadcast_to(self._policy, (self.observations.num_rows, self.num_actions))

    def observe(self, step: Transition, carry: Carry) -> None:
        """Add the transition to the episode of every row."""
        inputs = self.scaled(self.observations(step.obs))
        for row in range(self._num_envs):
            self._inputs[row].append(inputs[row])
            self._rewards[row].append(float(step.reward[row]))
            if len(self._rewards[row]) > self.config.max_episode_steps:
                raise EnvironmentFault(
                    "an episode has not ended within --agent.max-episode-steps, and only whole ones teach this agent; "
                    "give the environment a time limit (--wrap time-limit:max_episode_steps=1000), or raise it"
                )
        self._newest = step
        self._step += self._num_envs

    def update(self) -> Metrics:
        """Learn from the episodes that ended, step by step."""
        errors: list[float] = []
        for row in np.flatnonzero(self._newest.ended):
            is_cut = not self._newest.terminated[row]
            target = float(self.values(self._newest.next_obs)[row, 0]) if is_cut else 0.0
            returns = []
            for reward in reversed(self._rewards[row]):
                target = reward + self.config.gamma * target
                returns.append(target)
            for inputs, value in zip(self._inputs[row], reversed(returns), strict=True):
                errors.append(self.move(inputs[None], np.zeros(1, np.int64), np.array([value])))
            self._inputs[row], self._rewards[row] = [], []
        return {"train/value_error": float(np.mean(errors))} if errors else {}

    def training_state(self) -> State:
        """The unfinished episodes."""
        inputs = [np.array(each, np.float32).reshape(len(each), len(self._low)) for each in self._inputs]
        return {"inputs": inputs, "rewards": [np.array(each) for each in self._rewards], "updates": self._updates}

    def load_training_state(self, state: State) -> None:
        """Restore `training_state`."""
        self._inputs = [list(np.array(each)) for each in state["inputs"]]
        self._rewards = [each.tolist() for each in state["rewards"]]
        self._updates = state["updates"]


class NetworkSarsaConfig(NetworkConfig):
    """Options of Sarsa."""

    epsilon: float = Field(0.1, ge=0.0, le=1.0)
    """probability of a random action (its initial value, where it changes)"""
    final_epsilon: float | None = Field(None, ge=0.0, le=1.0)
    """ε at the end of the run, to which it falls linearly; by default it stays"""


class NetworkSarsa(_SmallNetwork):
    """Semi-gradient Sarsa; at a time limit it bootstraps with the expected value, because no action follows."""

    Config = NetworkSarsaConfig

    def _prepare(self, task: Task) -> None:
        self._has_pending = np.zeros(task.num_envs, np.bool_)
        self._pending_inputs = np.zeros((task.num_envs, len(self._low)), np.float32)
        self._pending_action, self._pending_reward = np.zeros(task.num_envs, np.int64), np.zeros(task.num_envs)

    def epsilon(self) -> float:
        """ε at this step."""
        final = self.config.epsilon if self.config.final_epsilon is None else self.config.final_epsilon
        return scheduled_epsilon(1, self.config.epsilon, final, float(self._total_steps), self._step, 0)

    def _chosen(self, obs: Obs, explore: bool, rng: np.random.Generator) -> Integers:
        best: Integers = self.values(obs).argmax(axis=1)
        explores = rng.random(len(best)) < (self.epsilon() if explore else 0.0)
        return np.where(explores, rng.integers(self.num_actions, size=len(best)), best)

    def greedy_actions(self, states: Integers, rng: np.random.Generator) -> Integers:
        """The best actions in rows of a finite observation space."""
        best: Integers = self._values_of_rows(states).argmax(axis=1)
        return best

    def evaluated_policy(self) -> Floats64 | None:
        """None: control aims at the best."""
        return None

    def observe(self, step: Transition, carry: Carry) -> None:
        """Keep the transition of every row for `update`."""
        self._newest = step
        self._step += self._num_envs

    def update(self) -> Metrics:
        """Learn from the transitions before, whose next action is known now, and from those that ended."""
        step, gamma = self._newest, self.config.gamma
        inputs = self.scaled(self.observations(step.obs))
        action = np.asarray(step.action, np.int64) - self._first_action
        ready, ended, error = np.flatnonzero(self._has_pending), np.flatnonzero(step.ended), 0.0
        if len(ready):
            following = self.network.numpy_forward(inputs)[ready, action[ready]]
            targets = self._pending_reward[ready] + gamma * following
            error = self.move(self._pending_inputs[ready], self._pending_action[ready], targets)
        if len(ended):
            values = self.values(step.next_obs)[ended]
            expected = (1.0 - self.epsilon()) * values.max(axis=1) + self.epsilon() * values.mean(axis=1)
            targets = step.reward[ended] + gamma * np.where(step.terminated[ended], 0.0, expected)
            self.move(inputs[ended], action[ended], targets.astype(np.float64))
        self._has_pending[:] = ~step.ended
        self._pending_inputs[:], self._pending_action[:], self._pending_reward[:] = inputs, action, step.reward
        if self._updates % _METRICS_EVERY:
            return {}
        return {"train/value_error": error, "train/epsilon": self.epsilon()}

    def training_state(self) -> State:
        """Transitions that await their next action."""
        return {
            "has_pending": self._has_pending, "inputs": self._pending_inputs, "action": self._pending_action,
            "reward": self._pending_reward, "updates": self._updates,
        }  # fmt: skip

    def load_training_state(self, state: State) -> None:
        """Restore `training_state`."""
        self._has_pending[:], self._pending_inputs[:] = state["has_pending"], state["inputs"]
        self._pending_action[:], self._pending_reward[:] = state["action"], state["reward"]
        self._updates = state["updates"]
