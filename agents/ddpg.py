"""Deep deterministic policy gradient (Lillicrap et al. 2016, https://arxiv.org/abs/1509.02971).

A critic Q(s, a) learns from y = r + γ Q'(s', μ'(s')) (equations 4 and 5); an actor μ(s) climbs Q (equation 6); both
have slowly moving target copies. Defaults are those of TD3's authors (Fujimoto et al. 2018, https://arxiv.org/abs/
1802.09477, "our DDPG"); `configs/ddpg_paper.yaml` has the paper's.

Deviations from the paper
- Networks 256x256 with the action entering at the first layer (paper: 400x300, action at the second layer).
- No batch normalisation; observations can be normalised with `--wrap normalize-observation`.
- Exploration is Gaussian by default (paper: Ornstein-Uhlenbeck, `noise: ornstein-uhlenbeck`), after
  `learning_starts` uniformly random steps (paper: none).
- Truncated episodes bootstrap from the true last observation.
- n-step returns and more or fewer than one update a step are possible (Barth-Maron et al. 2018 use n = 5).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from pydantic import Field
from torch import Tensor

from rlkit import seeding
from rlkit.config import AgentConfig
from rlkit.data.flatten import ObservationFlattener
from rlkit.data.replay import Batch, ReplayBuffer
from rlkit.nn.mlp import MLP
from rlkit.nn.optim import Adam
from rlkit.ops import dpg
from rlkit.ops.noise import gaussian_noise, ornstein_uhlenbeck_step
from rlkit.ops.value_learning import td_target
from rlkit.spaces import continuous_control_reason, from_unit, to_unit
from rlkit.types import Array, Bools, Carry, Metrics, Obs, State, Task, Transition


class DDPGConfig(AgentConfig):
    """Defaults: Fujimoto et al. 2018 (their code's 256x256 networks and batch), unless a field says otherwise."""

    learning_rate: float = Field(1e-3, gt=0)
    """step size of Adam for the actor, and for the critic unless it has its own"""
    critic_learning_rate: float | None = Field(None, gt=0)
    """step size of Adam for the critic (Lillicrap 2016: 1e-3 beside 1e-4 for the actor)"""
    critic_weight_decay: float = Field(0.0, ge=0)
    """L2 penalty on the critic's weights (Lillicrap 2016: 1e-2)"""
    gamma: float = Field(0.99, ge=0, le=1)
    """discount factor"""
    tau: float = Field(0.005, gt=0, le=1)
    """fraction of the way that the targets move with each update (Lillicrap 2016: 1e-3)"""
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
    noise: Literal["gaussian", "ornstein-uhlenbeck"] = "gaussian"
    """kind of exploration noise"""
    noise_sigma: float = Field(0.1, ge=0)
    """scale of the noise, where actions span [-1, 1] (Lillicrap 2016: 0.2)"""
    noise_theta: float = Field(0.15, ge=0)
    """pull towards zero of Ornstein-Uhlenbeck noise (Lillicrap 2016)"""
    hidden: tuple[int, ...] = (256, 256)
    """widths of the hidden layers of actor and critic"""
    final_init: float | None = Field(None, gt=0)
    """bound of the uniform initial weights of the output layers; by default PyTorch's (Lillicrap 2016: 3e-3)"""


class Tensors(NamedTuple):
    """A batch of B transitions as an update needs it."""

    obs: Tensor  # [B, O]
    action: Tensor  # [B, A] in [-1, 1]
    reward: Tensor  # [B]
    next_obs: Tensor  # [B, O]
    discount: Tensor  # [B]


class DDPG:
    """Off-policy actor-critic for bounded continuous actions."""

    Config = DDPGConfig

    @classmethod
    def supports(cls, task: Task) -> str | None:
        """None for bounded Box actions and observations that flatten into a vector, else the reason."""
        return continuous_control_reason(task.observation_space, task.action_space)

    def __init__(self, config: DDPGConfig, task: Task) -> None:
        assert isinstance(task.action_space, spaces.Box)
        self.config = config
        self.device = torch.device(task.device)
        self._num_envs = task.num_envs
        self._low, self._high = task.action_space.low, task.action_space.high
        self._flatten = ObservationFlattener(task.observation_space)
        obs_size, self._action_size = self._flatten.size, int(np.prod(task.action_space.shape))

        weights = seeding.torch_generator(task.seed, "weights")
        self.actor = self._network(obs_size, self._action_size, "tanh", weights)
        self.critic = self._network(obs_size + self._action_size, 1, "linear", weights)
        self.target_actor = self._network(obs_size, self._action_size, "tanh", weights)
        self.target_critic = self._network(obs_size + self._action_size, 1, "linear", weights)
        self.target_actor.copy_from(self.actor)
        self.target_critic.copy_from(self.critic)
        critic_learning_rate = config.critic_learning_rate or config.learning_rate
        self.actor_optimizer = Adam(self.actor.flat, config.learning_rate)
        self.critic_optimizer = Adam(self.critic.flat, critic_learning_rate, weight_decay=config.critic_weight_decay)

        self.replay = ReplayBuffer(
            task.observation_space,
            spaces.Box(-1.0, 1.0, (self._action_size,)),
            config.buffer_size if task.total_steps else task.num_envs * (config.n_step + 1),
            task.num_envs,
            n_step=config.n_step,
            gamma=config.gamma,
        )
        self._rng = seeding.generator(task.seed, "replay")
        self._warm_up = config.learning_starts if task.total_steps else 0  # an agent that only acts has learned
        self._env_steps = 0
        self._updates_due = 0.0

    def _network(self, inputs: int, outputs: int, output: Literal["linear", "tanh"], weights: torch.Generator) -> MLP:
        config = self.config
        return MLP(inputs, config.hidden, outputs, output=output, generator=weights, final_init=config.final_init).to(
            self.device
        )

    def initial_carry(self, num_envs: int) -> Carry:
        """State of the Ornstein-Uhlenbeck noise, float32 [N, A]; nothing for Gaussian noise."""
        if self.config.noise == "gaussian":
            return ()
        return np.zeros((num_envs, self._action_size), dtype=np.float32)

    def reset_carry(self, carry: Carry, ended: Bools) -> Carry:
        """Noise starts from zero in a fresh episode."""
        return np.where(ended[:, None], np.float32(0.0), carry) if len(carry) else carry

    def act(
        self, obs: Obs, carry: Carry, *, explore: bool, rng: np.random.Generator, action_mask: Bools | None = None
    ) -> tuple[Array, Carry, Mapping[str, Array]]:
        """μ(s), with noise where `explore`; uniformly random before `learning_starts`."""
        features = self._flatten(obs)
        if explore and self._env_steps < self._warm_up:
            unit = rng.uniform(-1.0, 1.0, (len(features), self._action_size)).astype(np.float32)
            return self._env_action(unit), carry, {}
        unit = self.actor.numpy_forward(features)
        if explore:
            noise, carry = self._noise(unit.shape, carry, rng)
            unit = np.clip(unit + noise, -1.0, 1.0)
        return self._env_action(unit), carry, {}

    def _noise(self, shape: tuple[int, ...], carry: Carry, rng: np.random.Generator) -> tuple[Array, Carry]:
        if self.config.noise == "gaussian":
            return gaussian_noise(shape, self.config.noise_sigma, rng), carry
        noise = ornstein_uhlenbeck_step(carry, rng, sigma=self.config.noise_sigma, theta=self.config.noise_theta)
        return noise, noise

    def _env_action(self, unit: Array) -> Array:
        action = from_unit(unit.reshape(len(unit), *self._low.shape), self._low, self._high)
        return action.astype(self._low.dtype)

    def observe(self, step: Transition, carry: Carry) -> None:
        """Store one step of N environments, actions scaled to [-1, 1]."""
        unit = to_unit(step.action, self._low, self._high).reshape(self._num_envs, self._action_size)
        self.replay.add(replace(step, action=unit))  # float32 in the ring
        self._env_steps += self._num_envs
        if self._env_steps > self.config.learning_starts:
            self._updates_due += self.config.update_to_data_ratio * self._num_envs

    def update(self) -> Metrics:
        """As many updates as are due; the metrics of the last."""
        metrics: Metrics = {}
        while self._updates_due >= 1.0:
            self._updates_due -= 1.0
            metrics = self.learn(self.replay.sample(self.config.batch_size, self._rng))
        return metrics

    @torch.inference_mode()
    def learn(self, batch: Batch) -> Metrics:
        """Exactly one update of critic, actor and targets."""
        tensors = self.tensors(batch)

        critic_loss, gradient = self.critic_gradient(tensors)
        self.critic_optimizer.step(gradient)

        actor_loss, gradient = self.actor_gradient(tensors)
        self.actor_optimizer.step(gradient)

        self.target_critic.polyak_(self.critic, self.config.tau)
        self.target_actor.polyak_(self.actor, self.config.tau)
        return {"train/critic_loss": critic_loss.item(), "train/actor_loss": actor_loss.item()}

    @torch.inference_mode()
    def critic_gradient(self, batch: Tensors) -> tuple[Tensor, Tensor]:
        """Loss against y = r + γ Q'(s', μ'(s')) (equations 4 and 5), and its gradient by the critic's weights."""
        next_value = self.target_critic(_joined(batch.next_obs, self.target_actor(batch.next_obs)))
        target = td_target(batch.reward, batch.discount, next_value.squeeze(1))

        critic = self.critic.trace(_joined(batch.obs, batch.action))
        value = critic.output.squeeze(1)  # [B]
        gradient = critic.weight_gradient(dpg.critic_loss_gradient(value, target)[:, None])
        return dpg.critic_loss(value, target), gradient

    @torch.inference_mode()
    def actor_gradient(self, batch: Tensors) -> tuple[Tensor, Tensor]:
        """Minus the mean of Q(s, μ(s)), and its gradient by the actor's weights: ∇_a Q times ∇_θ μ (equation 6)."""
        actor = self.actor.trace(batch.obs)
        critic = self.critic.trace(_joined(batch.obs, actor.output))
        value = critic.output.squeeze(1)  # [B]

        by_input = critic.input_gradient(dpg.deterministic_policy_loss_gradient(value)[:, None])
        by_action = by_input[:, self._flatten.size :]  # [B, A]
        return dpg.deterministic_policy_loss(value), actor.weight_gradient(by_action)

    def tensors(self, batch: Batch) -> Tensors:
        """The batch on the agent's device, observations as vectors."""
        arrays = (self._flatten(batch.obs), batch.action, batch.reward, self._flatten(batch.next_obs), batch.discount)
        return Tensors(*(torch.from_numpy(array).to(self.device) for array in arrays))

    def policy_state(self) -> State:
        """The actor's weights."""
        return {"actor": self.actor.flat}

    def load_policy_state(self, state: State) -> None:
        """Restore the actor's weights."""
        with torch.no_grad():
            self.actor.flat.copy_(state["actor"])

    def training_state(self) -> State:
        """Critic, targets, optimisers, replay, counters and generator."""
        return {
            "critic": self.critic.flat,
            "target_actor": self.target_actor.flat,
            "target_critic": self.target_critic.flat,
            "actor_optimizer": self.actor_optimizer.state(),
            "critic_optimizer": self.critic_optimizer.state(),
            "replay": self.replay,
            "rng": self._rng.bit_generator.state,
            "env_steps": self._env_steps,
            "updates_due": self._updates_due,
        }

    def load_training_state(self, state: State) -> None:
        """Restore what `training_state` returned."""
        with torch.no_grad():
            for name in ("critic", "target_actor", "target_critic"):
                getattr(self, name).flat.copy_(state[name])
        self.actor_optimizer.load_state(state["actor_optimizer"])
        self.critic_optimizer.load_state(state["critic_optimizer"])
        self.replay.restore(state["replay"])
        self._rng.bit_generator.state = state["rng"]
        self._env_steps = state["env_steps"]
        self._updates_due = state["updates_due"]


def _joined(obs: Tensor, action: Tensor) -> Tensor:
    return torch.cat((obs, action), dim=1)
