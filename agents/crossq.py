"""CrossQ, soft actor-critic without target networks (Bhatt et al. 2024, https://arxiv.org/abs/1902.05605).

Critics see (s, a) and (s', a') in one batch, so that both are normalised by the statistics of their mixture; then the
target r + γ (min_i Q_i(s', a') - α log π(a'|s')) may come from the critics themselves (section 3.2).

Deviations from the paper
- Batch renormalisation as in the authors' code, with the unbiased variance, as in sb3-contrib.
- n-step returns and more or fewer than one update a step are possible.
- Truncated episodes bootstrap from the true last observation.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from rlkit import seeding
from rlkit.agents.off_policy import OffPolicyAgent, OffPolicyConfig, Tensors, joined
from rlkit.agents.sac import drawn, unit_draw
from rlkit.data.replay import Batch
from rlkit.nn.flat import flat_gradient, flatten_parameters
from rlkit.nn.optim import Adam
from rlkit.nn.renorm_mlp import RenormMLP
from rlkit.ops import soft_actor_critic as soft
from rlkit.ops.squashed_gaussian import squashed_gaussian_gradient
from rlkit.ops.value_learning import td_target
from rlkit.types import Carry, Floats, Metrics, State, Task


class CrossQConfig(OffPolicyConfig):
    """Defaults: Bhatt et al. 2024, table of hyperparameters in the appendix, and the authors' code."""

    batch_size: int = Field(256, ge=2)
    """transitions in one update; one alone has no variance to be normalised by"""
    learning_rate: float = Field(1e-3, gt=0)
    """step size of Adam for actor, critics and temperature"""
    adam_beta: float = Field(0.5, ge=0, lt=1)
    """decay of the mean of the gradient in Adam, for actor and critics"""
    policy_delay: int = Field(3, ge=1)
    """updates of the critics for one of the actor and the temperature"""
    temperature: float | None = Field(None, gt=0)
    """fixed weight α of the entropy; by default it is learned"""
    initial_temperature: float = Field(1.0, gt=0)
    """α at the beginning, where it is learned"""
    target_entropy: float | None = None
    """entropy in nats that a learned α aims at; by default minus the number of action dimensions"""
    renorm_momentum: float = Field(0.01, gt=0, le=1)
    """weight of a new batch in the running statistics"""
    renorm_warm_up: int = Field(100_000, ge=0)
    """batches that are normalised by their own statistics alone"""
    hidden: tuple[int, ...] = (256, 256)
    """widths of the hidden layers of the actor"""
    critic_hidden: tuple[int, ...] = (2048, 2048)
    """widths of the hidden layers of each critic (SAC's 256x256 takes a thirtieth of the time)"""


class CrossQ(OffPolicyAgent):
    """Off-policy actor-critic without target networks."""

    Config = CrossQConfig
    policy_names = ("actor", "actor_statistics")

    def __init__(self, config: CrossQConfig, task: Task) -> None:
        super().__init__(config, task)
        self.config = config
        self.target_entropy = -float(self.action_size) if config.target_entropy is None else config.target_entropy

        weights = seeding.torch_generator(task.seed, "weights")
        inputs = self.obs_size + self.action_size
        self.actor = self._network(self.obs_size, config.hidden, 2 * self.action_size, weights)
        self.critics = tuple(self._network(inputs, config.critic_hidden, 1, weights) for _ in range(2))
        self._both_critics = nn.ModuleList(self.critics)
        self.log_temperature = torch.tensor(
            math.log(config.temperature or config.initial_temperature), device=self.device
        )
        betas = (config.adam_beta, 0.999)
        self.actor_optimizer = Adam(flatten_parameters(self.actor), config.learning_rate, betas=betas)
        self.critics_optimizer = Adam(flatten_parameters(self._both_critics), config.learning_rate, betas=betas)
        self.temperature_optimizer = Adam(self.log_temperature, config.learning_rate)

        first, second = self.critics
        self.vectors = {
            "actor": self.actor_optimizer.parameter,
            "actor_statistics": self.actor.statistics,
            "actor_batches": self.actor.batches,
            "critics": self.critics_optimizer.parameter,
            "first_critic_statistics": first.statistics,
            "first_critic_batches": first.batches,
            "second_critic_statistics": second.statistics,
            "second_critic_batches": second.batches,
            "log_temperature": self.log_temperature,
        }
        self.optimizers = {
            "actor": self.actor_optimizer,
            "critics": self.critics_optimizer,
            "temperature": self.temperature_optimizer,
        }
        self._updates = 0

    def _network(self, inputs: int, hidden: tuple[int, ...], outputs: int, weights: torch.Generator) -> RenormMLP:
        config = self.config
        network = RenormMLP(
            inputs, hidden, outputs, generator=weights, momentum=config.renorm_momentum, warm_up=config.renorm_warm_up
        )
        return network.to(self.device)

    def unit_action(
        self, features: Floats, carry: Carry, *, explore: bool, rng: np.random.Generator
    ) -> tuple[Floats, Carry]:
        """A drawn action where `explore`, else tanh of the mean."""
        return unit_draw(self.actor.numpy_forward(features), rng if explore else None), carry

    def learn(self, batch: Batch) -> Metrics:
        """Exactly one update of the critics; every `policy_delay`-th time of actor and temperature too."""
        tensors, rows = self.tensors(batch), len(batch.reward)
        temperature = self.log_temperature.exp()

        critic_loss, gradient = self.critic_gradient(tensors, self.normal_noise(rows), temperature)
        self.critics_optimizer.step(gradient)
        metrics = {"train/critic_loss": critic_loss.item(), "train/temperature": temperature.item()}

        self._updates += 1
        if self._updates % self.config.policy_delay == 0:
            actor_loss, gradient, log_prob = self.actor_gradient(tensors, self.normal_noise(rows), temperature)
            self.actor_optimizer.step(gradient)
            if self.config.temperature is None:
                self.temperature_optimizer.step(soft.temperature_loss_gradient(log_prob, self.target_entropy))
            metrics |= {"train/actor_loss": actor_loss.item(), "train/entropy": -log_prob.mean().item()}
        return metrics

    def critic_gradient(self, batch: Tensors, noise: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
        """Loss against r + γ V(s'), and its gradient by the critics' weights, given noise [B, A]."""
        with torch.no_grad():
            following = drawn(self.actor(batch.next_obs, trains=False), noise)
        both = torch.cat((joined(batch.obs, batch.action), joined(batch.next_obs, following.action)))  # [2B, O + A]
        values, next_values = self._values(both, trains=True).chunk(2, dim=1)  # [K, B]

        next_value = soft.soft_value(next_values.detach(), following.log_prob, temperature)
        target = td_target(batch.reward, batch.discount, next_value)
        by_value = soft.soft_critics_loss_gradient(values.detach(), target)
        return soft.soft_critics_loss(values.detach(), target), flat_gradient(values, self._both_critics, by_value)

    def actor_gradient(self, batch: Tensors, noise: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean of α log π - min_i Q_i, its gradient by the actor's weights, and log π(a|s) [B] of the actions drawn."""
        rows = len(noise)
        output = self.actor(batch.obs, trains=True)
        sample = drawn(output.detach(), noise)
        action = sample.action.requires_grad_()
        values = self._values(joined(batch.obs, action), trains=False)  # [K, B]
        value, by_value = soft.least_value(values.detach())
        loss = soft.soft_policy_loss(value, sample.log_prob, temperature)

        (by_action,) = torch.autograd.grad(values, action, by_value.div_(-rows))
        with torch.no_grad():
            by_log_prob = (temperature / rows).expand(rows)
            by_output = torch.cat(squashed_gaussian_gradient(sample, by_action, by_log_prob), dim=1)  # [B, 2A]
        return loss, flat_gradient(output, self.actor, by_output), sample.log_prob

    def _values(self, rows: Tensor, *, trains: bool) -> Tensor:
        """Both critics' values [K, B] of rows [B, O + A]."""
        return torch.stack([critic(rows, trains=trains).squeeze(1) for critic in self.critics])

    def training_state(self) -> State:
        """What every off-policy agent keeps, and the updates so far."""
        return {**super().training_state(), "updates": self._updates}

    def load_training_state(self, state: State) -> None:
        """Restore what `training_state` returned."""
        super().load_training_state(state)
        self._updates = state["updates"]
