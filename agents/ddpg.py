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

from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from rlkit import seeding
from rlkit.agents.off_policy import Tensors, joined
from rlkit.agents.sequence_control import SequenceControl, VectorConfig
from rlkit.data.replay import Batch
from rlkit.nn.mlp import MLP
from rlkit.nn.optim import Adam
from rlkit.ops import dpg
from rlkit.ops.value_learning import td_target
from rlkit.types import Carry, Floats, Metrics, Task


class DDPGConfig(VectorConfig):
    """Defaults: Fujimoto et al. 2018 (their code's 256x256 networks and batch), unless a field says otherwise."""

    learning_rate: float = Field(1e-3, gt=0)
    """step size of Adam for the actor, and for the critic unless it has its own"""
    critic_learning_rate: float | None = Field(None, gt=0)
    """step size of Adam for the critic (Lillicrap 2016: 1e-3 beside 1e-4 for the actor)"""
    critic_weight_decay: float = Field(0.0, ge=0)
    """L2 penalty on the critic's weights (Lillicrap 2016: 1e-2)"""
    tau: float = Field(0.005, gt=0, le=1)
    """fraction of the way that the targets move with each update (Lillicrap 2016: 1e-3)"""
    hidden: tuple[int, ...] = (256, 256)
    """widths of the hidden layers of actor and critic"""
    final_init: float | None = Field(None, gt=0)
    """bound of the uniform initial weights of the output layers; by default PyTorch's (Lillicrap 2016: 3e-3)"""


class DDPG(SequenceControl):
    """Off-policy actor-critic for bounded continuous actions."""

    Config = DDPGConfig

    def __init__(self, config: DDPGConfig, task: Task) -> None:
        super().__init__(config, task)
        self.config = config

        feature_size, action_size = self.feature_size, self.action_size
        weights = seeding.torch_generator(task.seed, "weights")
        self.actor = self._network(feature_size, action_size, "tanh", weights)
        self.critic = self._network(feature_size + action_size, 1, "linear", weights)
        self.target_actor = self._network(feature_size, action_size, "tanh", weights)
        self.target_critic = self._network(feature_size + action_size, 1, "linear", weights)
        self.target_actor.copy_from(self.actor)
        self.target_critic.copy_from(self.critic)
        critic_learning_rate = config.critic_learning_rate or config.learning_rate
        self.actor_optimizer = Adam(self.actor.flat, config.learning_rate)
        self.critic_optimizer = Adam(self.critic.flat, critic_learning_rate, weight_decay=config.critic_weight_decay)

        self.vectors = {
            "actor": self.actor.flat,
            "critic": self.critic.flat,
            "target_actor": self.target_actor.flat,
            "target_critic": self.target_critic.flat,
        }
        self.optimizers = {"actor": self.actor_optimizer, "critic": self.critic_optimizer}

    def _network(self, inputs: int, outputs: int, output: Literal["linear", "tanh"], weights: torch.Generator) -> MLP:
        config = self.config
        network = MLP(inputs, config.hidden, outputs, output=output, generator=weights, final_init=config.final_init)
        return self.remembering(network.to(self.device), weights)

    def unit_action(
        self, features: Floats, carry: Carry, *, explore: bool, rng: np.random.Generator
    ) -> tuple[Floats, Carry]:
        """μ(s), with noise where `explore`."""
        unit = self.actor.numpy_forward(features)
        return self.noise.added(unit, carry, rng) if explore else (unit, carry)

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
        next_value = self.target_critic(joined(batch.next_obs, self.target_actor(batch.next_obs)))
        target = td_target(batch.reward, batch.discount, next_value.squeeze(1))

        critic = self.critic.trace(joined(batch.obs, batch.action))
        value = critic.output.squeeze(1)  # [B]
        gradient = critic.weight_gradient(dpg.critic_loss_gradient(value, target)[:, None])
        return dpg.critic_loss(value, target), gradient

    @torch.inference_mode()
    def actor_gradient(self, batch: Tensors) -> tuple[Tensor, Tensor]:
        """Minus the mean of Q(s, μ(s)), and its gradient by the actor's weights: ∇_a Q times ∇_θ μ (equation 6)."""
        actor = self.actor.trace(batch.obs)
        critic = self.critic.trace(joined(batch.obs, actor.output))
        value = critic.output.squeeze(1)  # [B]

        by_value = dpg.deterministic_policy_loss_gradient(value)[:, None]
        by_action = critic.input_gradient(by_value, self.feature_size)  # [B, A]
        return dpg.deterministic_policy_loss(value), actor.weight_gradient(by_action)
