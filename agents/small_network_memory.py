"""`network-mc` and `network-sarsa` with a core: the same targets, for values of all that was seen in the episode.

- `network-mc` unrolls a whole episode from nothing when it has ended, and moves every value towards its return.
- `network-sarsa` unrolls the last `core_steps` steps of every environment from the memory that they began with, and
  moves every value towards its semi-gradient target (truncated backpropagation through time; Hausknecht and Stone
  2015, https://arxiv.org/abs/1507.06527). Its update sees the very values that acting had.

Both make one step of plain gradient descent on the mean of (target - value)² / 2 over these steps, each of which is
used once. By the mean a step size that suits one transition suits any number of them: the curvature of a mean is at
most the largest of its terms'. Acting carries the memory: a recurrent state that older weights made is kept until its
episode ends, a transformer's keys are made anew after each update.

Differences from the methods without a memory
- Weights stand still between two updates. The last step before one does not wait for its next action: like a step at a
  time limit, it bootstraps with the expected value of the ε-greedy policy.
- By the mean every episode counts alike in `network-mc`, whatever its length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from rlkit import seeding
from rlkit.agents.core_options import core_of
from rlkit.agents.small_network_parts import (
    Episodes,
    GivenPolicy,
    NetworkMCConfig,
    NetworkSarsaConfig,
    SmallNetwork,
    epsilon_greedy,
    expected_value,
)
from rlkit.data.sequences import SequenceRollout, with_successors
from rlkit.mdp import Integers
from rlkit.nn.cores import Memory
from rlkit.nn.mlp import MLP
from rlkit.nn.on_core import OnCore, Steps, StepsTrace
from rlkit.nn.recurrent_actor_critic import Sequences
from rlkit.types import Array, Bools, Carry, Floats, Metrics, Obs, State, Task, Transition


class Recollection(NamedTuple):
    """The carry: what the core remembers, and how many updates its weights had when they made it."""

    memory: Memory
    updates: int


class _Remembering(SmallNetwork):
    """A network of values on a core."""

    def __init__(self, config: Any, task: Task) -> None:
        super().__init__(config, task)
        weights = seeding.torch_generator(task.seed, "weights")
        core = core_of(config, len(self._low), weights)
        head = MLP(core.size, config.hidden, self._outputs(), generator=weights)
        self.network = OnCore(core, head)
        self._prepare(task)

    def _outputs(self) -> int:
        """How many values."""
        return self.num_actions

    def _prepare(self, task: Task) -> None:
        """What the method needs besides."""
        raise NotImplementedError

    def _chosen(self, obs: Obs, values: Floats, explore: bool, rng: np.random.Generator) -> Integers:
        """Actions [N] from 0."""
        raise NotImplementedError

    def initial_carry(self, num_envs: int) -> Carry:
        """Nothing remembered."""
        return Recollection(self.network.core.empty(num_envs), self._updates)

    def reset_carry(self, carry: Carry, ended: Bools) -> Carry:
        """Rows whose episode ended remember nothing."""
        memory, updates = carry
        return Recollection(self.network.core.reset(memory, torch.from_numpy(ended)), updates)

    def act(
        self, obs: Obs, carry: Carry, *, explore: bool, rng: np.random.Generator, action_mask: Bools | None = None
    ) -> tuple[Array, Carry, Mapping[str, Array]]:
        """Actions [N], without exploration the first of the best ones; the carry remembers one step more."""
        values, carry = self.values(obs, carry)
        return self.to_environment(self._chosen(obs, values, explore, rng)), carry, {}

    def values(self, obs: Obs, carry: Carry) -> tuple[Floats, Carry]:
        """V [N, 1], or Q of all actions [N, A], after what is remembered and these observations; and the next carry."""
        memory, updates = carry
        if updates != self._updates:
            with torch.inference_mode():
                memory = self.network.core.refreshed(memory)
        features, memory = self.network.step(self.inputs(obs), memory)
        return self.network.numpy_forward(features), Recollection(memory, self._updates)

    def trace(self, sequences: Sequences) -> StepsTrace:
        """Values [B · T, outputs] of all steps, row after row, with what their gradient needs."""
        return self.network.trace(Steps(sequences, torch.arange(sequences.is_first.numel())))

    def move(self, trace: StepsTrace, gradient: Floats) -> None:
        """One step of gradient descent, given a loss's gradient by the values of the trace."""
        by_weights = trace.weight_gradient(torch.from_numpy(gradient))
        with torch.no_grad():
            self.network.flat.sub_(by_weights, alpha=self.learning_rate)
        self._updates += 1

    @torch.inference_mode()
    def attention_maps(self, episode: Sequence[Obs]) -> Mapping[str, Array]:
        """What the core attends to at each of T steps, from observations [1, *O]; empty if to nothing."""
        x = torch.from_numpy(np.concatenate([self.inputs(obs) for obs in episode]))
        return {name: weights.numpy() for name, weights in self.network.core.attention_maps(x).items()}

    def policy_state(self) -> State:
        """Weights, and how far the schedules are."""
        return {"weights": self.network.flat, "step": self._step}

    def load_policy_state(self, state: State) -> None:
        """Restore `policy_state`."""
        self.network.flat.copy_(state["weights"])
        self._step = state["step"]


class RememberingMC(_Remembering):
    """Gradient Monte Carlo prediction; an episode that was cut is bootstrapped with the value of its last state."""

    Config = NetworkMCConfig

    def _outputs(self) -> int:
        return 1

    def _prepare(self, task: Task) -> None:
        self._policy = GivenPolicy(self.config.policy, task, self.observations, self.config.gamma)
        self._episodes = Episodes(task.num_envs, self.config.max_episode_steps)
        self._expected = np.zeros((task.num_envs, len(self._low)), np.float32)

    def _chosen(self, obs: Obs, values: Floats, explore: bool, rng: np.random.Generator) -> Integers:
        return self._policy.of_observations(obs, rng)

    def observe(self, step: Transition, carry: Carry) -> None:
        """Add the transition to the episode of every row; what came before an episode was lost is dropped."""
        inputs = self.inputs(step.obs)
        for row, is_lost in enumerate((inputs != self._expected).any(axis=1)):
            if is_lost:
                self._episodes.forget(row)
            self._episodes.add(row, inputs[row], float(step.reward[row]))
        self._expected = self.inputs(step.next_obs)
        self._newest = step
        self._step += self._num_envs

    def update(self) -> Metrics:
        """Learn from the episodes that ended, one after the other."""
        ends = zip(self._newest.ended, self._newest.terminated, strict=True)
        errors = [self._learn(row, is_cut=not terminated) for row, (ended, terminated) in enumerate(ends) if ended]
        return {"train/value_error": float(np.mean(errors))} if errors else {}

    def _learn(self, row: int, *, is_cut: bool) -> float:
        """Learn from the episode of a row and forget it; the mean absolute error before."""
        rewards, inputs = self._episodes.rewards[row], self._episodes.inputs[row] + [self._expected[row]] * is_cut
        obs = torch.from_numpy(np.stack(inputs)[None])
        trace = self.trace(Sequences(obs, torch.arange(len(inputs))[None] == 0, None))
        values = trace.output.numpy()[:, 0]
        target, gradient = float(values[-1]) if is_cut else 0.0, np.zeros((len(values), 1), np.float32)
        for t in reversed(range(len(rewards))):
            target = rewards[t] + self.config.gamma * target
            gradient[t] = values[t] - target
        self.move(trace, gradient / np.float32(len(rewards)))
        self._episodes.forget(row)
        return float(np.abs(gradient).sum() / len(rewards))

    def training_state(self) -> State:
        """The unfinished episodes."""
        return {**self._episodes.state(len(self._low)), "expected": self._expected, "updates": self._updates}

    def load_training_state(self, state: State) -> None:
        """Restore `training_state`."""
        self._episodes.restore(state)
        self._expected, self._updates = np.array(state["expected"]), state["updates"]


class RememberingSarsa(_Remembering):
    """Semi-gradient Sarsa; where no next action is known it bootstraps with the expected value."""

    Config = NetworkSarsaConfig

    def _prepare(self, task: Task) -> None:
        length = self.config.core_steps if task.total_steps else 1
        self.rollout = SequenceRollout(length, task.num_envs, len(self._low), 1, np.dtype(np.int64), 0)
        self._no_log_prob = np.zeros(task.num_envs, np.float32)

    def epsilon(self) -> float:
        """ε at this step."""
        return float(self.config.epsilon_at(self._step, self._total_steps))

    def _chosen(self, obs: Obs, values: Floats, explore: bool, rng: np.random.Generator) -> Integers:
        return epsilon_greedy(values, self.epsilon() if explore else 0.0, rng)

    def observe(self, step: Transition, carry: Carry) -> None:
        """Add one step of N environments to the sequences."""
        action = np.asarray(step.action, np.int64)[:, None] - self._first_action
        self.rollout.add(
            self.inputs(step.obs), action, self._no_log_prob, step.reward, self.inputs(step.next_obs), step.terminated,
            step.truncated, None,
        )  # fmt: skip
        self._newest: Memory = carry[0]
        self._step += self._num_envs

    def update(self) -> Metrics:
        """Learn once `core_steps` steps are there; the next ones go on from what is remembered now."""
        if not self.rollout.is_full:
            return {}
        error = self._learn()
        self.rollout.begin_with(self.network.core.beginning(self._newest))
        return {"train/value_error": error, "train/epsilon": self.epsilon()}

    def _learn(self) -> float:
        """Learn from the sequences; the mean absolute error before."""
        held = self.rollout
        obs, next_obs = held.obs.swapaxes(0, 1), held.next_obs.swapaxes(0, 1)
        is_first, terminated = held.is_first.swapaxes(0, 1), held.terminated.swapaxes(0, 1)
        reward, action = held.reward.T, held.action[..., 0].T
        longer = with_successors(obs, next_obs, is_first, terminated)
        began = Sequences(torch.from_numpy(longer.obs), torch.from_numpy(longer.is_first), held.beginning)
        trace = self.trace(began)
        values = trace.output.numpy().reshape(*longer.is_first.shape, -1)  # [N, L, A]

        row = np.arange(self._num_envs)[:, None]
        taken = (row, longer.place, action)
        following = values[row, longer.next_place]  # [N, T, A]
        after = np.take_along_axis(following, np.roll(action, -1, axis=1)[..., None], axis=2)[..., 0]
        after = np.where(longer.cut, expected_value(following, self.epsilon()), after)
        target = reward + self.config.gamma * np.where(terminated, 0.0, after)

        gradient, error = np.zeros_like(values), values[taken] - target
        gradient[taken] = error / error.size  # of the mean of error² / 2
        self.move(trace, gradient.reshape(-1, self.num_actions))
        return float(np.abs(error).mean())

    def training_state(self) -> State:
        """The unfinished sequences."""
        return {"rollout": self.rollout.state(), "updates": self._updates}

    def load_training_state(self, state: State) -> None:
        """Restore `training_state`."""
        self.rollout.restore(state["rollout"])
        self._updates = state["updates"]
