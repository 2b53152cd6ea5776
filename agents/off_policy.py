"""What the off-policy actor-critics share (DDPG, TD3, SAC, TQC, CrossQ, DrQ-v2): everything around their one update.

Observations as vectors, actions in [-1, 1], replay, a uniformly random warm-up, noise to explore with, when an update
is due, and the state of all of it. An agent adds its networks, how it acts and `learn`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from pydantic import Field
from torch import Tensor

from rlkit import seeding
from rlkit.config import AgentConfig
from rlkit.data.flatten import ObservationFlattener
from rlkit.data.hindsight import hindsight_replay
from rlkit.data.replay import Batch, ReplayBuffer, require_rows
from rlkit.data.store import TransitionStore
from rlkit.errors import UsageError
from rlkit.nn.optim import Adam
from rlkit.ops.noise import gaussian_noise, ornstein_uhlenbeck_step
from rlkit.spaces import continuous_control_reason, from_unit, to_unit
from rlkit.types import Array, Bools, Carry, Floats, Metrics, Obs, State, Task, Transition


class OffPolicyConfig(AgentConfig):
    """Defaults: Fujimoto et al. 2018 (https://arxiv.org/abs/1802.09477 and their code), and so Haarnoja et al. 2018."""

    gamma: float = Field(0.99, ge=0, le=1)
    """discount factor"""
    batch_size: int = Field(256, ge=1)
    """transitions in one update"""
    buffer_size: int = Field(1_000_000, ge=1)
    """transitions kept in replay"""
    learning_starts: int = Field(1_000, ge=0)
    """uniformly random env steps before learning (Fujimoto 2018: 1,000; 10,000 for HalfCheetah and Ant)"""
    update_to_data_ratio: float = Field(1.0, gt=0)
    """updates per env step"""
    n_step: int = Field(1, ge=1)
    """rewards summed before bootstrapping"""
    her: bool = False
    """hindsight experience replay, for environments with goals (Andrychowicz 2017)"""
    her_goals: int = Field(4, ge=1)
    """transitions with a goal reached later for each real one (Andrychowicz 2017, k of strategy "future")"""


class NoiseConfig(OffPolicyConfig):
    """Of agents that explore by noise on their actions."""

    noise: Literal["none", "gaussian", "ornstein-uhlenbeck"] = "gaussian"
    """kind of exploration noise"""
    noise_sigma: float = Field(0.1, ge=0)
    """scale of the noise, where actions span [-1, 1] (Lillicrap 2016: 0.2)"""
    noise_theta: float = Field(0.15, ge=0)
    """pull towards zero of Ornstein-Uhlenbeck noise (Lillicrap 2016)"""


class Tensors(NamedTuple):
    """A batch of B transitions as an update needs it."""

    obs: Any  # [B, O]; `Steps` for networks on a core
    action: Tensor  # [B, A] in [-1, 1]
    reward: Tensor  # [B]
    next_obs: Any  # as `obs`
    discount: Tensor  # [B]


class OffPolicyAgent(ABC):
    """Acts, stores and learns when it is due; for bounded continuous actions.

    A subclass fills `vectors` with the tensors that training changes and `optimizers` with their optimisers, by the
    name that checkpoints know them under. Those in `policy_names` are the policy.
    """

    policy_names: tuple[str, ...] = ("actor",)

    def __init__(self, config: OffPolicyConfig, task: Task) -> None:
        assert isinstance(task.action_space, spaces.Box)
        self.device = torch.device(task.device)
        self.flatten = ObservationFlattener(task.observation_space)
        self.obs_size, self.action_size = self.flatten.size, int(np.prod(task.action_space.shape))
        self.vectors: dict[str, Tensor] = {}
        self.optimizers: dict[str, Adam] = {}
        self.replay: TransitionStore = self.new_replay(config, task)
        self.rng = seeding.generator(task.seed, "replay")
        self._num_envs = task.num_envs
        self._low, self._high = task.action_space.low, task.action_space.high
        self._batch_size, self._update_to_data_ratio = config.batch_size, config.update_to_data_ratio
        self._learning_starts = config.learning_starts
        self._warm_up = config.learning_starts if task.total_steps else 0  # an agent that only acts has learned
        self._env_steps = 0
        self._updates_due = 0.0

    @classmethod
    def supports(cls, task: Task) -> str | None:
        """None for bounded Box actions and observations that flatten into a vector, else the reason."""
        return continuous_control_reason(task.observation_space, task.action_space)

    @abstractmethod
    def unit_action(
        self, features: Floats, carry: Carry, *, explore: bool, rng: np.random.Generator
    ) -> tuple[Floats, Carry]:
        """Actions [N, A] in [-1, 1] for observations [N, O], and the next carry."""

    @abstractmethod
    def learn(self, batch: Batch) -> Metrics:
        """Exactly one update."""

    def new_replay(self, config: OffPolicyConfig, task: Task) -> TransitionStore:
        """An empty store of whole observations."""
        return _replay(config, task, self.action_size)

    def prepare(self, obs: Obs) -> Array:
        """Observations as the networks take them, float32 [N, O]."""
        return self.flatten(obs)

    def initial_carry(self, num_envs: int) -> Carry:
        """Nothing to remember."""
        return ()

    def reset_carry(self, carry: Carry, ended: Bools) -> Carry:
        """Nothing to forget."""
        return carry

    def act(
        self, obs: Obs, carry: Carry, *, explore: bool, rng: np.random.Generator, action_mask: Bools | None = None
    ) -> tuple[Array, Carry, Mapping[str, Array]]:
        """`unit_action` in the environment's units; uniformly random ones while exploring before `learning_starts`."""
        return self.act_on(self.prepare(obs), carry, explore=explore, rng=rng)

    def act_on(
        self, features: Array, carry: Carry, *, explore: bool, rng: np.random.Generator
    ) -> tuple[Array, Carry, Mapping[str, Array]]:
        """As `act`, for prepared observations."""
        if explore and self._env_steps < self._warm_up:
            unit = rng.uniform(-1.0, 1.0, (len(features), self.action_size)).astype(np.float32)
        else:
            unit, carry = self.unit_action(features, carry, explore=explore, rng=rng)
        action = from_unit(unit.reshape(len(unit), *self._low.shape), self._low, self._high)
        return action.astype(self._low.dtype), carry, {}

    def observe(self, step: Transition, carry: Carry) -> None:
        """Store one step of N environments, actions scaled to [-1, 1]."""
        require_rows(step, self._num_envs)
        unit = to_unit(step.action, self._low, self._high).reshape(self._num_envs, self.action_size)
        self.replay.add(replace(step, action=unit))  # float32 in the ring
        self._env_steps += self._num_envs
        if self._env_steps > self._learning_starts:
            self._updates_due += self._update_to_data_ratio * self._num_envs

    def update(self) -> Metrics:
        """As many updates as are due; the latest of each metric."""
        metrics: dict[str, float] = {}
        while self._updates_due >= 1.0:
            self._updates_due -= 1.0
            metrics |= self.learn(self.replay.sample(self._batch_size, self.rng))
        return metrics

    def normal_noise(self, rows: int) -> Tensor:
        """Standard normal noise [B, A] for an update, from the generator that checkpoints keep."""
        noise = self.rng.standard_normal((rows, self.action_size), dtype=np.float32)
        return torch.from_numpy(noise).to(self.device)

    def tensors(self, batch: Batch) -> Tensors:
        """The batch on the agent's device, observations as vectors."""
        arrays = (self.prepare(batch.obs), batch.action, batch.reward, self.prepare(batch.next_obs), batch.discount)
        return Tensors(*(torch.from_numpy(array).to(self.device) for array in arrays))

    def policy_state(self) -> State:
        """The actor's weights."""
        return {name: self.vectors[name] for name in self.policy_names}

    def load_policy_state(self, state: State) -> None:
        """Restore the actor's weights."""
        with torch.no_grad():
            for name in self.policy_names:
                self.vectors[name].copy_(state[name])

    def training_state(self) -> State:
        """Everything else that learns, replay, counters and generator."""
        return {
            **{name: vector for name, vector in self.vectors.items() if name not in self.policy_names},
            **{f"{name}_optimizer": optimizer.state() for name, optimizer in self.optimizers.items()},
            "replay": self.replay,
            "rng": self.rng.bit_generator.state,
            "env_steps": self._env_steps,
            "updates_due": self._updates_due,
        }

    def load_training_state(self, state: State) -> None:
        """Restore what `training_state` returned."""
        with torch.no_grad():
            for name, vector in self.vectors.items():
                if name not in self.policy_names:
                    vector.copy_(state[name])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state(state[f"{name}_optimizer"])
        self.replay.restore(state["replay"])
        self.rng.bit_generator.state = state["rng"]
        self._env_steps = state["env_steps"]
        self._updates_due = state["updates_due"]


def _replay(config: OffPolicyConfig, task: Task, action_size: int) -> ReplayBuffer:
    """The ring of transitions; the smallest possible for an agent that only acts."""
    actions = unit_box(action_size)
    if config.her and config.n_step > 1:
        raise UsageError(f"agent.n_step is {config.n_step}; with agent.her it must be 1")
    if config.her and task.total_steps:
        return hindsight_replay(task, actions, config.buffer_size, gamma=config.gamma, goals=config.her_goals)
    capacity = config.buffer_size if task.total_steps else task.num_envs * (config.n_step + 1)
    return ReplayBuffer(
        task.observation_space, actions, capacity, task.num_envs, n_step=config.n_step, gamma=config.gamma
    )


def unit_box(action_size: int) -> spaces.Box:
    """The space of actions as replay stores them."""
    return spaces.Box(-1.0, 1.0, (action_size,))


def joined(obs: Any, action: Tensor) -> Any:
    """What a critic takes, [B, O + A]; on a core, `Steps` with actions."""
    return torch.cat((obs, action), dim=1) if isinstance(obs, Tensor) else obs.with_action(action)


class ExplorationNoise:
    """Noise on actions; what it remembers lives in the carry."""

    def __init__(self, config: NoiseConfig, action_size: int) -> None:
        self.config = config
        self.action_size = action_size

    def initial_carry(self, num_envs: int) -> Carry:
        """State of Ornstein-Uhlenbeck noise, float32 [N, A]; nothing for other kinds."""
        if self.config.noise != "ornstein-uhlenbeck":
            return ()
        return np.zeros((num_envs, self.action_size), dtype=np.float32)

    def reset_carry(self, carry: Carry, ended: Bools) -> Carry:
        """Noise starts from zero in a fresh episode."""
        return np.where(ended[:, None], np.float32(0.0), carry) if len(carry) else carry

    def added(self, unit: Floats, carry: Carry, rng: np.random.Generator) -> tuple[Floats, Carry]:
        """Actions [N, A] with noise, clipped to [-1, 1], and the next carry."""
        if self.config.noise == "none":
            return unit, carry
        noise, carry = self._step(unit.shape, carry, rng)
        noisy: Floats = np.clip(unit + noise, -1.0, 1.0)
        return noisy, carry

    def _step(self, shape: tuple[int, ...], carry: Carry, rng: np.random.Generator) -> tuple[Floats, Carry]:
        config = self.config
        if config.noise == "gaussian":
            return gaussian_noise(shape, config.noise_sigma, rng), carry
        noise = ornstein_uhlenbeck_step(carry, rng, sigma=config.noise_sigma, theta=config.noise_theta)
        return noise, noise
