"""Soft actor-critic (Haarnoja et al. 2018b, https://arxiv.org/abs/1812.05905).

A stochastic actor climbs the value plus α times its own entropy; two critics learn from y = r + γ (min_i Q'_i(s', a') -
α log π(a'|s')) (equations 3, 5 and 9), and α holds the entropy at a target (equation 18). Actions are Gaussian,
squashed by tanh (appendix C).

Deviations from the paper
- α learns by its logarithm, as in the authors' code, so that it stays positive; `temperature` fixes it.
- log σ is clamped to [-20, 2], as in the authors' code.
- Noise can be added to the drawn actions (`noise`), for tasks where independent draws get nowhere.
- n-step returns and more or fewer than one update a step are possible; n-step returns carry no entropy in between.
- Truncated episodes bootstrap from the true last observation.
- Pictures go through convolutions first, see `rlkit.agents.picture_control`.
"""

from __future__ import annotations

import math
from typing import Any, Literal, cast

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from rlkit import seeding
from rlkit.agents.observations import EncoderName
from rlkit.agents.off_policy import OffPolicyConfig, Tensors, joined, unit_box
from rlkit.agents.picture_control import pictures_of
from rlkit.agents.sequence_control import SequenceConfig, SequenceControl
from rlkit.data.replay import Batch
from rlkit.data.store import TransitionStore
from rlkit.nn.backbones import Backbone
from rlkit.nn.ensemble import Ensemble
from rlkit.nn.mlp import MLP
from rlkit.nn.on_core import OnCore
from rlkit.nn.optim import Adam
from rlkit.ops import soft_actor_critic as soft
from rlkit.ops.squashed_gaussian import (
    HIGHEST_LOG_STD,
    LOWEST_LOG_STD,
    SquashedSample,
    squashed_gaussian,
    squashed_gaussian_gradient,
)
from rlkit.ops.value_learning import td_target
from rlkit.perception.ssl.auxiliary import Auxiliary, AuxiliaryDesign
from rlkit.types import Array, Carry, Floats, Metrics, Obs, State, Task, TunesEncoder


class SACConfig(SequenceConfig):
    """Defaults: Haarnoja et al. 2018b, table 1, unless a field says otherwise."""

    learning_rate: float = Field(3e-4, gt=0)
    """step size of Adam for actor, critics and temperature"""
    noise: Literal["none", "gaussian", "ornstein-uhlenbeck"] = "none"
    """noise on the drawn actions while exploring (Haarnoja 2018b: none)"""
    tau: float = Field(0.005, gt=0, le=1)
    """fraction of the way that the target critics move with each update"""
    temperature: float | None = Field(None, gt=0)
    """fixed weight α of the entropy; by default it is learned"""
    initial_temperature: float = Field(1.0, gt=0)
    """α at the beginning, where it is learned (the authors' code)"""
    target_entropy: float | None = None
    """entropy in nats that a learned α aims at; by default minus the number of action dimensions"""
    hidden: tuple[int, ...] = (256, 256)
    """widths of the hidden layers of actor and critics"""
    encoder: EncoderName = "auto"
    """auto: for pictures DrQ-v2's convolutions (impala with --aux), else mlp; attention: parts see each other first"""
    trunk: int = Field(50, ge=1)
    """features that networks get of pictures (Yarats 2021)"""
    shift: int = Field(4, ge=0)
    """pixels by which pictures are shifted at most to be learned from (Yarats 2021); 0 switches it off"""


class SAC(SequenceControl, TunesEncoder):
    """Off-policy actor-critic with a stochastic actor and twin critics."""

    Config: type[SACConfig] = SACConfig

    def __init__(self, config: SACConfig, task: Task) -> None:
        self.pictures = pictures_of(config.encoder, config.core, config.trunk, config.shift, task)
        super().__init__(config, task)
        self.config = config
        if self.pictures is not None:
            self.feature_size = config.trunk
        self.target_entropy = -float(self.action_size) if config.target_entropy is None else config.target_entropy

        weights = seeding.torch_generator(task.seed, "weights")
        self.actor = self._actor(weights)  # gives mean and log standard deviation
        self.critics, self.target_critics = self._critics(weights), self._critics(weights)
        self.target_critics.copy_from(self.critics)
        first = config.initial_temperature if config.temperature is None else config.temperature
        self.log_temperature = torch.tensor(math.log(first), device=self.device)
        self.actor_optimizer = Adam(self.actor.flat, config.learning_rate)
        self.critics_optimizer = Adam(self.critics.flat, config.learning_rate)
        self.temperature_optimizer = Adam(self.log_temperature, config.learning_rate)

        self.vectors = {
            "actor": self.actor.flat,
            "critics": self.critics.flat,
            "target_critics": self.target_critics.flat,
            "log_temperature": self.log_temperature,
        }
        self.optimizers = {
            "actor": self.actor_optimizer,
            "critics": self.critics_optimizer,
            "temperature": self.temperature_optimizer,
        }
        self.auxiliary: Auxiliary | None = None
        if self.pictures is not None:
            self._begin_with_pictures(config, task)

    def _begin_with_pictures(self, config: SACConfig, task: Task) -> None:
        """Make the critics' encoder a part of the policy, and let an objective besides ask something of it."""
        critics, whole = self._on_encoder(), self.critics.flat
        size = whole.numel() - critics.head.flat.numel()
        self.vectors |= {"encoder": whole[:size], "critics": whole[size:]}
        self.policy_names = ("encoder", "actor")
        assert isinstance(critics.core, torch.nn.Module)
        encoder = next((each for each in critics.core.modules() if isinstance(each, Backbone)), None)
        if isinstance(task.auxiliary, AuxiliaryDesign) and encoder is not None:
            told = {"pictures": config.buffer_size, "n_step": config.n_step}
            objective = task.auxiliary.objective(encoder, task, actions=unit_box(self.action_size), **told)
            self.auxiliary = Auxiliary(task.auxiliary, objective, whole, task.total_steps)

    def _on_encoder(self) -> OnCore[Ensemble]:
        return cast(OnCore[Ensemble], self.critics)

    def _actor(self, weights: torch.Generator) -> MLP:
        network = MLP(self.feature_size, self.config.hidden, 2 * self.action_size, generator=weights)
        return self.remembering(network.to(self.device), weights)

    def _critics(self, weights: torch.Generator) -> Ensemble:
        return self.ensemble(2, 1, weights)

    def ensemble(self, count: int, outputs: int, weights: torch.Generator) -> Ensemble:
        """So many critics of observation and action with so many outputs."""
        inputs = self.feature_size + self.action_size
        critics = (MLP(inputs, self.config.hidden, outputs, generator=weights) for _ in range(count))
        found = Ensemble([critic.to(self.device) for critic in critics])
        if self.pictures is not None:
            return cast(Ensemble, OnCore(self.pictures.core(weights), found))
        return self.remembering(found, weights)

    def new_replay(self, config: OffPolicyConfig, task: Task) -> TransitionStore:
        """An empty store, of single frames where pictures are stacked."""
        if self.pictures is not None:
            return self.pictures.replay(config, self.action_size)
        return super().new_replay(config, task)

    def prepare(self, obs: Obs) -> Array:
        """Observations as vectors; pictures as they are."""
        return super().prepare(obs) if self.pictures is None else np.asarray(obs)

    def unit_action(
        self, features: Array, carry: Carry, *, explore: bool, rng: np.random.Generator
    ) -> tuple[Floats, Carry]:
        """A drawn action where `explore`, else tanh of the mean."""
        if self.pictures is not None:
            with torch.inference_mode():
                features = self._on_encoder().core.step(self.pictures.rows(features), ())[0].cpu().numpy()
        unit = unit_draw(self.actor.numpy_forward(features), rng if explore else None)
        return self.noise.added(unit, carry, rng) if explore else (unit, carry)

    def update(self) -> Metrics:
        """As many updates as are due; the latest of each metric."""
        if self.pictures is not None and not len(self.replay):  # stacked frames: complete after the second step
            self._updates_due = 0.0
        return super().update()

    def tensors(self, batch: Batch) -> Tensors:
        """As of `SequenceControl`; pictures are shifted, and sequences of one step each."""
        found = super().tensors(batch)
        if self.pictures is None:
            return found
        shifted = self.pictures.shifted
        return found._replace(obs=shifted(found.obs, self.rng), next_obs=shifted(found.next_obs, self.rng))

    def actors_view(self, obs: Any) -> tuple[Any, Ensemble]:
        """What the actor sees of a batch's observations, and critics of the same.

        Of pictures features, through which it sends no gradient.
        """
        if self.pictures is None:
            return obs, self.critics
        critics = self._on_encoder()
        return critics.core.unroll(*obs.sequences).flatten(0, 1), critics.head

    @torch.inference_mode()
    def learn(self, batch: Batch) -> Metrics:
        """Exactly one update of critics, actor, temperature and targets."""
        tensors = self.tensors(batch)
        rows = len(tensors.reward)
        temperature = self.log_temperature.exp()

        critic_loss, gradient = self.critic_gradient(tensors, self.normal_noise(rows), temperature)
        others = self._with_objective_(gradient, tensors)
        self.critics_optimizer.step(gradient)
        if self.auxiliary is not None:
            self.auxiliary.after_update()

        actor_loss, gradient, log_prob = self.actor_gradient(tensors, self.normal_noise(rows), temperature)
        self.actor_optimizer.step(gradient)

        if self.config.temperature is None:
            self.temperature_optimizer.step(soft.temperature_loss_gradient(log_prob, self.target_entropy))

        self.target_critics.polyak_(self.critics, self.config.tau)
        return {
            "train/critic_loss": critic_loss.item(),
            "train/actor_loss": actor_loss.item(),
            "train/temperature": temperature.item(),
            "train/entropy": -log_prob.mean().item(),
            **others,
        }

    def _with_objective_(self, gradient: Tensor, batch: Tensors) -> Metrics:
        """Add to the critics' gradient what an objective besides asks of their encoder."""
        if self.auxiliary is None or self.pictures is None:
            return {}
        here, following = self.pictures.of(batch.obs), self.pictures.of(batch.next_obs)
        return self.auxiliary.add_gradient_(gradient, here, batch.action, following)

    @torch.inference_mode()
    def critic_gradient(self, batch: Tensors, noise: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
        """Loss against the targets, and its gradient by the critics' weights, given noise [B, A]."""
        target = self.target(batch, noise, temperature)
        critics = self.critics.trace(joined(batch.obs, batch.action))
        loss, by_output = self.critic_loss(critics.output, target)
        return loss, critics.weight_gradient(by_output)

    @torch.inference_mode()
    def target(self, batch: Tensors, noise: Tensor, temperature: Tensor) -> Tensor:
        """What the critics should say, y = r + γ V(s'), [B] (equation 3 of the next state)."""
        following = drawn(self.actor(self.actors_view(batch.next_obs)[0]), noise)
        next_values = self.target_critics(joined(batch.next_obs, following.action)).squeeze(2)  # [K, B]
        next_value = soft.soft_value(next_values, following.log_prob, temperature)
        return td_target(batch.reward, batch.discount, next_value)

    def critic_loss(self, outputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of equation 5, and its gradient by the critics' outputs, [K, B, 1]."""
        values = outputs.squeeze(2)
        return soft.soft_critics_loss(values, target), soft.soft_critics_loss_gradient(values, target)[:, :, None]

    def value(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """What the actor climbs, [B], and its gradient by the critics' outputs, [K, B, 1]."""
        value, by_value = soft.least_value(outputs.squeeze(2))
        return value, by_value[:, :, None]

    @torch.inference_mode()
    def actor_gradient(self, batch: Tensors, noise: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Loss of equation 9, its gradient by the actor's weights, and log π(a|s) [B] of the actions drawn."""
        rows = len(noise)
        obs, critics_of = self.actors_view(batch.obs)
        actor = self.actor.trace(obs)
        sample = drawn(actor.output, noise)
        critics = critics_of.trace(joined(obs, sample.action))
        value, by_output = self.value(critics.output)
        loss = soft.soft_policy_loss(value, sample.log_prob, temperature)

        by_action = critics.input_gradient(by_output.div_(-rows), self.feature_size)  # [B, A]
        by_log_prob = (temperature / rows).expand(rows)
        by_actor = torch.cat(squashed_gaussian_gradient(sample, by_action, by_log_prob), dim=1)  # [B, 2A]
        return loss, actor.weight_gradient(by_actor), sample.log_prob

    def training_state(self) -> State:
        """What every off-policy agent keeps, and an objective besides where there is one."""
        return {**super().training_state(), "auxiliary": None if self.auxiliary is None else self.auxiliary.state()}

    def load_training_state(self, state: State) -> None:
        """Restore what `training_state` returned."""
        super().load_training_state(state)
        if self.auxiliary is not None:
            self.auxiliary.load_state(state["auxiliary"])


def unit_draw(output: Floats, rng: np.random.Generator | None) -> Floats:
    """The action [N, A] that the actor's output [N, 2A] makes, in numpy: drawn, or without `rng` tanh of the mean."""
    before, log_std = np.split(output, 2, axis=1)
    if rng is not None:
        noise = rng.standard_normal(before.shape, dtype=np.float32)
        before += np.exp(np.clip(log_std, LOWEST_LOG_STD, HIGHEST_LOG_STD)) * noise
    return np.tanh(before)


def drawn(output: Tensor, noise: Tensor) -> SquashedSample:
    """The action that the actor's output [B, 2A] and standard normal noise [B, A] make."""
    mean, log_std = output.chunk(2, dim=1)
    return squashed_gaussian(mean, log_std, noise)
