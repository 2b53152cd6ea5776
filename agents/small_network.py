"""Between linear and deep: gradient Monte Carlo and semi-gradient Sarsa with a small network.

The methods of Sutton and Barto (2018), sections 9.3 and 10.1, as they stand: every transition is used once, when it
comes, by one step of plain gradient descent; no replay, no target network, no optimiser. So what DQN adds can be
measured. Observations enter as numbers scaled to [-1, 1]; dimensions without bounds by 2/π arctan(x).

With `core` the network remembers, and learns from sequences: `rlkit.agents.small_network_memory`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from rlkit import seeding
from rlkit.agents.small_network_parts import (
    Episodes,
    GivenPolicy,
    NetworkConfig,
    NetworkMCConfig,
    NetworkSarsaConfig,
    SmallNetwork,
    epsilon_greedy,
    expected_value,
)
from rlkit.mdp import Floats64, Integers
from rlkit.nn.mlp import MLP
from rlkit.types import Array, Bools, Carry, Floats, Metrics, Obs, State, Task, Transition

_METRICS_EVERY = 50


class _Memoryless(SmallNetwork):
    """A network of values, one for each action or one for the state, moved towards targets."""

    def __new__(cls, config: NetworkConfig, task: Task) -> Any:
        """One without a memory, or where the options name a core its namesake with one."""
        return object.__new__(cls) if config.core == "none" else cls._remembering(config, task)

    @classmethod
    def _remembering(cls, config: Any, task: Task) -> Any:
        """The same method with a memory, which has no value for a state alone."""
        raise NotImplementedError

    def __init__(self, config: Any, task: Task) -> None:
        super().__init__(config, task)
        weights = seeding.torch_generator(task.seed, "weights")
        self.network = MLP(len(self._low), config.hidden, self._outputs(), generator=weights)
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
        return self.to_environment(self._chosen(obs, explore, rng)), carry, {}

    def values(self, obs: Obs) -> Floats:
        """V(s) [N, 1], or Q(s, ·) [N, A], of observations."""
        return self.network.numpy_forward(self.inputs(obs))

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
            self.network.flat.sub_(trace.weight_gradient(torch.from_numpy(gradient)), alpha=self.learning_rate)
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


class NetworkMC(_Memoryless):
    """Gradient Monte Carlo prediction; an episode that was cut is bootstrapped with the value of its last state."""

    Config = NetworkMCConfig

    @classmethod
    def _remembering(cls, config: Any, task: Task) -> Any:
        from rlkit.agents.small_network_memory import RememberingMC

        return RememberingMC(config, task)

    def _outputs(self) -> int:
        return 1

    def _prepare(self, task: Task) -> None:
        self._policy = GivenPolicy(self.config.policy, task, self.observations, self.config.gamma)
        self._episodes = Episodes(task.num_envs, self.config.max_episode_steps)

    def _chosen(self, obs: Obs, explore: bool, rng: np.random.Generator) -> Integers:
        return self._policy.of_observations(obs, rng)

    def greedy_actions(self, states: Integers, rng: np.random.Generator) -> Integers:
        """What the evaluated policy does in rows of a finite observation space."""
        return self._policy.of_states(states, rng)

    def evaluated_policy(self) -> Floats64 | None:
        """The policy [S, A] whose values are predicted."""
        return self._policy.table(self.num_actions)

    def observe(self, step: Transition, carry: Carry) -> None:
        """Add the transition to the episode of every row."""
        inputs = self.inputs(step.obs)
        for row in range(self._num_envs):
            self._episodes.add(row, inputs[row], float(step.reward[row]))
        self._newest = step
        self._step += self._num_envs

    def update(self) -> Metrics:
        """Learn from the episodes that ended, step by step."""
        errors: list[float] = []
        for row in np.flatnonzero(self._newest.ended).tolist():
            is_cut = not self._newest.terminated[row]
            target = float(self.values(self._newest.next_obs)[row, 0]) if is_cut else 0.0
            returns = []
            for reward in reversed(self._episodes.rewards[row]):
                target = reward + self.config.gamma * target
                returns.append(target)
            for inputs, value in zip(self._episodes.inputs[row], reversed(returns), strict=True):
                errors.append(self.move(inputs[None], np.zeros(1, np.int64), np.array([value])))
            self._episodes.forget(row)
        return {"train/value_error": float(np.mean(errors))} if errors else {}

    def training_state(self) -> State:
        """The unfinished episodes."""
        return {**self._episodes.state(len(self._low)), "updates": self._updates}

    def load_training_state(self, state: State) -> None:
        """Restore `training_state`."""
        self._episodes.restore(state)
        self._updates = state["updates"]


class NetworkSarsa(_Memoryless):
    """Semi-gradient Sarsa; at a time limit it bootstraps with the expected value, because no action follows."""

    Config = NetworkSarsaConfig

    @classmethod
    def _remembering(cls, config: Any, task: Task) -> Any:
        from rlkit.agents.small_network_memory import RememberingSarsa

        return RememberingSarsa(config, task)

    def _prepare(self, task: Task) -> None:
        self._has_pending = np.zeros(task.num_envs, np.bool_)
        self._pending_inputs = np.zeros((task.num_envs, len(self._low)), np.float32)
        self._pending_action, self._pending_reward = np.zeros(task.num_envs, np.int64), np.zeros(task.num_envs)

    def epsilon(self) -> float:
        """ε at this step."""
        return float(self.config.epsilon_at(self._step, self._total_steps))

    def _chosen(self, obs: Obs, explore: bool, rng: np.random.Generator) -> Integers:
        return epsilon_greedy(self.values(obs), self.epsilon() if explore else 0.0, rng)

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
        inputs = self.inputs(step.obs)
        action = np.asarray(step.action, np.int64) - self._first_action
        ready, ended, error = np.flatnonzero(self._has_pending), np.flatnonzero(step.ended), 0.0
        if len(ready):
            following = self.network.numpy_forward(inputs)[ready, action[ready]]
            targets = self._pending_reward[ready] + gamma * following
            error = self.move(self._pending_inputs[ready], self._pending_action[ready], targets)
        if len(ended):
            values = self.values(step.next_obs)[ended]
            expected = expected_value(values, self.epsilon())
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
