"""Twin delayed deep deterministic policy gradient (Fujimoto et al. 2018, https://arxiv.org/abs/1802.09477).

DDPG with three changes against overestimated values (algorithm 1): two critics learn from the smaller of their targets,
y = r + γ min_i Q'_i(s', ã) (section 4.2); ã is the target action with clipped noise (section 5.3); the actor, which
climbs the first critic, and all targets move at every second update only.

Deviations from the paper
- Networks 256x256 and batches of 256, as in the authors' later code (paper: 400x300, 100).
- Ornstein-Uhlenbeck noise to explore with (`noise: ornstein-uhlenbeck`), n-step returns and more or fewer than one
  update a step are possible.
- Truncated episodes bootstrap from the true last observation.
"""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from rlkit import seeding
from rlkit.agents.off_policy import Tensors, joined
from rlkit.agents.sequence_control import SequenceControl, VectorConfig
from rlkit.data.replay import Batch
from rlkit.nn.ensemble import Ensemble
from rlkit.nn.mlp import MLP
from rlkit.nn.optim import Adam
from rlkit.ops import dpg
from rlkit.ops.value_learning import td_target
from rlkit.types import Carry, Floats, Metrics, State, Task


class TD3Config(VectorConfig):
    """Defaults: Fujimoto et al. 2018, section 6.1, unless a field says otherwise."""

    learning_rate: float = Field(1e-3, gt=0)
    """step size of Adam for actor and critics (the authors' later code: 3e-4)"""
    tau: float = Field(0.005, gt=0, le=1)
    """fraction of the way that the targets move each time"""
    policy_delay: int = Field(2, ge=1)
    """updates of the critics for one of the actor and the targets"""
    target_noise: float = Field(0.2, ge=0)
    """standard deviation of the noise on target actions, where actions span [-1, 1]; 0 switches smoothing off"""
    target_noise_clip: float = Field(0.5, ge=0)
    """bound of that noise"""
    twin: bool = True
    """two critics and the smaller of their values; False: one critic"""
    hidden: tuple[int, ...] = (256, 256)
    """widths of the hidden layers of actor and critics"""


class TD3(SequenceControl):
    """Off-policy actor-critic with a deterministic actor and twin critics."""

    Config = TD3Config

    def __init__(self, config: TD3Config, task: Task) -> None:
        super().__init__(config, task)
        self.config = config

        weights = seeding.torch_generator(task.seed, "weights")
        self.actor, self.target_actor = self._actor(weights), self._actor(weights)
        self.critics, self.target_critics = self._critics(weights), self._critics(weights)
        self.target_actor.copy_from(self.actor)
        self.target_critics.copy_from(self.critics)
        self.actor_optimizer = Adam(self.actor.flat, config.learning_rate)
        self.critics_optimizer = Adam(self.critics.flat, config.learning_rate)

        self.vectors = {
            "actor": self.actor.flat,
            "critics": self.critics.flat,
            "target_actor": self.target_actor.flat,
            "target_critics": self.target_critics.flat,
        }
        self.optimizers = {"actor": self.actor_optimizer, "critics": self.critics_optimizer}
        self._updates = 0

    def _actor(self, weights: torch.Generator) -> MLP:
        network = MLP(self.feature_size, self.config.hidden, self.action_size, output="tanh", generator=weights)
        return self.remembering(network.to(self.device), weights)

    def _critics(self, weights: torch.Generator) -> Ensemble:
        count, inputs = 2 if self.config.twin else 1, self.feature_size + self.action_size
        critics = (MLP(inputs, self.config.hidden, 1, generator=weights) for _ in range(count))
        return self.remembering(Ensemble([critic.to(self.device) for critic in critics]), weights)

    def unit_action(
        self, features: Floats, carry: Carry, *, explore: bool, rng: np.random.Generator
    ) -> tuple[Floats, Carry]:
        """μ(s), with noise where `explore`."""
        unit = self.actor.numpy_forward(features)
        return self.noise.added(unit, carry, rng) if explore else (unit, carry)

    @torch.inference_mode()
    def learn(self, batch: Batch) -> Metrics:
        """Exactly one update of the critics; every `policy_delay`-th time of actor and targets too."""
        tensors = self.tensors(batch)
        critic_loss, gradient = self.critic_gradient(tensors, self.normal_noise(len(tensors.reward)))
        self.critics_optimizer.step(gradient)
        metrics = {"train/critic_loss": critic_loss.item()}

        self._updates += 1
        if self._updates % self.config.policy_delay == 0:
            actor_loss, gradient = self.actor_gradient(tensors)
            self.actor_optimizer.step(gradient)
            self.target_critics.polyak_(self.critics, self.config.tau)
            self.target_actor.polyak_(self.actor, self.config.tau)
            metrics["train/actor_loss"] = actor_loss.item()
        return metrics

    @torch.inference_mode()
    def critic_gradient(self, batch: Tensors, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Loss against y = r + γ min_i Q'_i(s', ã), and its gradient by the critics' weights, given noise [B, A]."""
        target = self.target(batch, noise)
        critics = self.critics.trace(joined(batch.obs, batch.action))
        values = critics.output.squeeze(2)  # [K, B]
        gradient = critics.weight_gradient(dpg.critics_loss_gradient(values, target)[:, :, None])
        return dpg.critics_loss(values, target), gradient

    @torch.inference_mode()
    def target(self, batch: Tensors, noise: Tensor) -> Tensor:
        """What the critics should say, [B] (algorithm 1)."""
        config = self.config
        next_action = self.target_actor(batch.next_obs)
        next_action = dpg.smoothed_action(next_action, noise, config.target_noise, config.target_noise_clip)
        next_values = self.target_critics(joined(batch.next_obs, next_action)).squeeze(2)  # [K, B]
        return td_target(batch.reward, batch.discount, dpg.clipped_value(next_values))

    @torch.inference_mode()
    def actor_gradient(self, batch: Tensors) -> tuple[Tensor, Tensor]:
        """Minus the mean of Q_1(s, μ(s)), and its gradient by the actor's weights."""
        actor = self.actor.trace(batch.obs)
        critic = self.critics.members[0].trace(joined(batch.obs, actor.output))
        value = critic.output.squeeze(1)  # [B]
        by_value = dpg.deterministic_policy_loss_gradient(value)[:, None]
        by_action = critic.input_gradient(by_value, self.feature_size)  # [B, A]
        return dpg.deterministic_policy_loss(value), actor.weight_gradient(by_action)

    def training_state(self) -> State:
        """What every off-policy agent keeps, and the updates so far."""
        return {**super().training_state(), "updates": self._updates}

    def load_training_state(self, state: State) -> None:
        """Restore what `training_state` returned."""
        super().load_training_state(state)
        self._updates = state["updates"]
