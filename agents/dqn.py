"""Deep Q-networks (Mnih et al. 2015, https://doi.org/10.1038/nature14236) and their improvements, each by a switch.

Q(s, a) learns from y = r + γ max_a' Q'(s', a') with a target copy Q' and replayed transitions (algorithm 1). Switches:
`double` (van Hasselt et al. 2016), `dueling` (Wang et al. 2016), `prioritized` (Schaul et al. 2016), `n_step` (Sutton
1988; Hessel et al. 2018), `noisy` (Fortunato et al. 2018), `distribution` (Bellemare et al. 2017; Dabney et al. 2018)
and `munchausen` (Vieillard et al. 2020). `rlkit.agents.rainbow` combines them. With a `core` the network remembers,
and learns from replayed sequences (Kapturowski et al. 2019, https://openreview.net/forum?id=r1lyTjAqYX); the encoder
`attention` lets entities and the parts of a Dict attend to each other (`rlkit.nn.attention_encoder`).

Deviations from the papers
- Adam instead of RMSProp, gradients clipped by norm; networks for vectors are fully connected.
- Truncated episodes bootstrap from the true last observation.
- The first `learning_starts` steps are uniformly random, also with noisy networks, of which only the layers after the
  encoder are noisy (Fortunato et al.: all fully connected ones).
- IQN acts by the mean over evenly spaced levels instead of drawn ones, so that acting repeats itself.
- With a core: those of `rlkit.agents.sequence_control`; no rescaled values, n-step returns or priorities (Kapturowski:
  all three).
- Dueling streams share the encoder without the gradient scaling by 1/√2 of Wang et al.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rlkit import seeding
from rlkit.agents.dqn_config import DQNConfig
from rlkit.agents.dqn_parts import auxiliary_of, compiled_update, return_head, value_networks, value_replay
from rlkit.agents.observations import ObservationTensors
from rlkit.agents.picture_control import randomly_shifted
from rlkit.agents.random import uniform_action
from rlkit.agents.replayed_steps import replayed_steps
from rlkit.data.replay import Batch
from rlkit.data.sequence_replay import ReplayedSequences
from rlkit.nn.action_values import NO_DRAWS, Draws, of_action, to_action
from rlkit.nn.encoders import to_channels
from rlkit.nn.optim import Adam, clip_norm
from rlkit.nn.values_on_core import ValuesOnCore
from rlkit.ops.distributional import quantile_midpoints
from rlkit.ops.schedules import scheduled_epsilon
from rlkit.ops.value_learning import allowed, log_policy, munchausen_bonus, soft_value
from rlkit.spaces import discrete_control_reason
from rlkit.types import Array, Bools, Carry, Floats, Metrics, Obs, State, Task, Transition, TunesEncoder


class Tensors(NamedTuple):
    """A batch of B transitions as an update needs it."""

    obs: Any  # [B, *O]; `Steps` for a network on a core
    action: Tensor  # [B] from 0
    reward: Tensor  # [B]
    next_obs: Any  # as `obs`
    discount: Tensor  # [B]
    action_mask: Tensor | None  # [B, A]
    next_action_mask: Tensor | None  # [B, A]
    weights: Tensor | None  # [B]


class DQN(TunesEncoder):
    """Off-policy value learning for discrete actions."""

    Config: type[DQNConfig] = DQNConfig

    @classmethod
    def supports(cls, task: Task) -> str | None:
        """None for Discrete actions and observations that are pictures or flatten into a vector, else the reason."""
        return discrete_control_reason(task.observation_space, task.action_space)

    def __init__(self, config: DQNConfig, task: Task) -> None:
        assert isinstance(task.action_space, spaces.Discrete)
        self.config = config
        self.device = torch.device(task.device)
        self._action_space = task.action_space
        self._num_envs, self._total_steps = task.num_envs, max(task.total_steps, 1)
        self._prepare = ObservationTensors(task.observation_space, config.encoder, self.device)
        self.head = return_head(config, self.device)

        weights = seeding.torch_generator(task.seed, "weights")
        self.network, self.target_network = value_networks(config, task, self._prepare, self.head.size, weights)
        self.target_network.flat.copy_(self.network.flat)
        self.optimizer = Adam(self.network.flat, config.learning_rate, eps=config.adam_epsilon)
        self._compiled = compiled_update(config, self.network, self.target_network, self.optimizer)

        self.auxiliary = auxiliary_of(config, task, self.network)
        self.replay = value_replay(config, task)
        self._rng = seeding.generator(task.seed, "replay")
        self._env_steps = 0
        self._updates_due = 0
        self._target_updates_due = 0

    def initial_carry(self, num_envs: int) -> Carry:
        """Nothing to remember; with a core nothing remembered."""
        return self.network.core.empty(num_envs) if isinstance(self.network, ValuesOnCore) else ()

    def reset_carry(self, carry: Carry, ended: Bools) -> Carry:
        """Nothing to forget; with a core rows whose episode ended remember nothing."""
        if not isinstance(self.network, ValuesOnCore):
            return carry
        return self.network.core.reset(carry, torch.from_numpy(ended).to(self.device))

    def act(
        self, obs: Obs, carry: Carry, *, explore: bool, rng: np.random.Generator, action_mask: Bools | None = None
    ) -> tuple[Array, Carry, Mapping[str, Array]]:
        """The best actions; while exploring random ones with probability ε, drawn for each environment, or noise."""
        features = self._prepare.array(obs)
        if isinstance(self.network, ValuesOnCore):
            features, carry = self.network.step(features, carry)
        count = len(features)
        if not explore:
            return self._best_actions(features, NO_DRAWS, action_mask), carry, {}
        explores = rng.random(count) < self.epsilon()
        exploring = np.count_nonzero(explores)
        if exploring == count:
            return uniform_action(self._action_space, count, rng, action_mask), carry, {}
        best = self._best_actions(features, Draws(noise=self.network.draw_noise(rng)), action_mask)
        if exploring:
            best = np.where(explores, uniform_action(self._action_space, count, rng, action_mask), best)
        return best, carry, {}

    def epsilon(self) -> float:
        """Probability of a random action now."""
        config = self.config
        if self._env_steps < config.learning_starts:
            return 1.0
        if config.noisy:
            return 0.0
        horizon = config.epsilon_fraction * self._total_steps
        return scheduled_epsilon(1, config.epsilon, config.final_epsilon, max(horizon, 1.0), self._env_steps, 0)

    def _best_actions(self, features: Array, draws: Draws, mask: Bools | None) -> Array:
        """Greedy actions [N] in the environment's numbers."""
        outputs = self.network.act_outputs(features, self._at_midpoints(draws, len(features)))
        values = self.head.act_values(outputs)
        best = (values if mask is None else np.where(mask, values, -np.inf)).argmax(axis=1)
        actions: Array = (best + self._action_space.start).astype(self._action_space.dtype, copy=False)
        return actions

    def _at_midpoints(self, draws: Draws, count: int) -> Draws:
        """The same draws with evenly spaced levels, where quantiles are implicit."""
        if self.config.distribution != "implicit":
            return draws
        return draws._replace(levels=quantile_midpoints(self.head.size).to(self.device).expand(count, -1))

    def observe(self, step: Transition, carry: Carry) -> None:
        """Store one step of N environments."""
        config, before = self.config, self._env_steps
        if config.dataset_steps is None or before < config.dataset_steps:
            start = self._action_space.start
            self.replay.add(replace(step, action=step.action - start) if start else step)
        now = self._env_steps = before + self._num_envs
        if now > config.learning_starts:
            self._updates_due += config.gradient_steps * (now // config.train_every - before // config.train_every)
        self._target_updates_due += now // config.target_update_every - before // config.target_update_every

    def update(self) -> Metrics:
        """As many updates as are due; the metrics of the last."""
        metrics: Metrics = {}
        if self._target_updates_due:
            moved = 1.0 - (1.0 - self.config.tau) ** self._target_updates_due
            self.target_network.flat.lerp_(self.network.flat, moved)
            self._target_updates_due = 0
        if not len(self.replay):  # stacked frames: the first transition is complete after the second step
            self._updates_due = 0
        while self._updates_due:
            self._updates_due -= 1
            metrics = self.learn(self.replay.sample(self.config.batch_size, self._rng, beta=self._beta()))
        return metrics

    def _beta(self) -> float:
        """Exponent of the importance weights, from priority_beta to 1 over the run."""
        start = self.config.priority_beta
        return start + (1.0 - start) * min(self._env_steps / self._total_steps, 1.0)

    @torch.no_grad()
    def learn(self, batch: Batch) -> Metrics:
        """Exactly one update of the network; tells the replay how wrong it was."""
        loss, error, others = self._learn_compiled(batch) if self._compiled else self._learn_by_torch(batch)
        if self.config.prioritized and batch.indices is not None and math.isfinite(loss):  # else the run stops anyway
            self.replay.update(batch.indices, error)
        return {"train/loss": loss, "train/td_error": float(error.mean()), "train/epsilon": self.epsilon(), **others}

    def _learn_by_torch(self, batch: Batch) -> tuple[float, Floats, Metrics]:
        tensors = self.tensors(batch)
        loss, gradient, error = self.loss_and_gradient(tensors)
        others: Metrics = {}
        if self.auxiliary is not None:
            others = self.auxiliary.add_gradient_(gradient, tensors.obs, tensors.action, tensors.next_obs)
        if self.config.max_grad_norm is not None:
            clip_norm(gradient, self.config.max_grad_norm)
        self.optimizer.step(gradient)
        if self.auxiliary is not None:
            self.auxiliary.after_update()
        return loss.item(), error.cpu().numpy(), others

    def _learn_compiled(self, batch: Batch) -> tuple[float, Floats, Metrics]:
        assert self._compiled is not None
        obs, next_obs = self._prepare.array(batch.obs), self._prepare.array(batch.next_obs)
        loss, error = self._compiled.update(
            obs, batch.action, batch.reward, next_obs, batch.discount, batch.next_action_mask, batch.weights
        )
        return loss, error, {}

    @torch.no_grad()
    def loss_and_gradient(self, batch: Tensors) -> tuple[Tensor, Tensor, Tensor]:
        """Weighted mean loss, its gradient in the layout of `network.flat`, and the error [B] of each transition."""
        target = self.target(batch)
        draws = self._draws(len(batch.reward))
        trace = self.network.trace(batch.obs, draws)
        outputs = trace.output  # [B, A, K]

        loss, by_taken, error = self.head.loss(of_action(outputs, batch.action), target, draws.levels)
        if batch.weights is not None:
            loss, by_taken = batch.weights * loss, batch.weights[:, None] * by_taken
        by_output = to_action(by_taken / len(loss), batch.action, like=outputs)
        return loss.mean(), trace.weight_gradient(by_output), error

    @torch.no_grad()
    def target(self, batch: Tensors) -> Tensor:
        """What the outputs of the actions taken should become, [B, K]."""
        count = len(batch.reward)
        next_outputs = self.target_network.outputs(batch.next_obs, self._draws(count))  # [B, A, K]
        next_values = allowed(self.head.values(next_outputs), batch.next_action_mask)  # [B, A]
        if self.config.munchausen:
            return self._munchausen_target(batch, next_outputs, next_values)
        if self.config.double:
            online = self.network.outputs(batch.next_obs, self._draws(count))
            next_values = allowed(self.head.values(online), batch.next_action_mask)
        best = next_values.argmax(dim=1)
        return self.head.target(batch.reward, batch.discount, of_action(next_outputs, best))

    def _munchausen_target(self, batch: Tensors, next_outputs: Tensor, next_values: Tensor) -> Tensor:
        """Target r + α [τ log π(a|s)] + γ Σ π(a'|s') (Z(s', a') - τ log π(a'|s')) for its softmax policy π."""
        config, temperature = self.config, self.config.munchausen_temperature
        values = self.head.values(self.target_network.outputs(batch.obs, self._draws(len(batch.reward))))
        log_pi = log_policy(allowed(values, batch.action_mask), temperature).gather(1, batch.action[:, None])[:, 0]
        bonus = munchausen_bonus(log_pi, temperature, config.munchausen_alpha, config.munchausen_lowest)
        following = soft_value(next_outputs, log_policy(next_values, temperature), temperature)
        return self.head.target(batch.reward + bonus, batch.discount, following)

    def _draws(self, count: int) -> Draws:
        """Noise and levels for one pass over `count` rows."""
        levels = None
        if self.config.distribution == "implicit":
            drawn = self._rng.random((count, self.head.size), dtype=np.float32)
            levels = torch.from_numpy(drawn).to(self.device)
        return Draws(self.network.draw_noise(self._rng), levels)

    def tensors(self, batch: Batch) -> Tensors:
        """The batch on the agent's device, observations prepared for the network; of sequences what follows burn-in."""
        send: Callable[[Array], Tensor] = self._on_device
        obs: Any
        next_obs: Any
        if isinstance(batch, ReplayedSequences):
            steps = replayed_steps(batch, self._prepare.array, self.device)
            obs, next_obs, send = steps.here, steps.following, steps.kept
        else:
            obs, next_obs = self._seen(batch.obs), self._seen(batch.next_obs)
        action, reward, discount = (send(part) for part in (batch.action, batch.reward, batch.discount))
        optional = (batch.action_mask, batch.next_action_mask, batch.weights)
        mask, next_mask, weights = (None if part is None else send(part) for part in optional)
        return Tensors(obs, action.long(), reward, next_obs, discount, mask, next_mask, weights)

    def _seen(self, obs: Obs) -> Tensor:
        """Observations as the network takes them; pictures shifted, if asked for (DrQ, Yarats et al. 2021)."""
        prepared = self._prepare.tensor(obs)
        if not self.config.shift or self._prepare.image is None:
            return prepared
        return randomly_shifted(to_channels(prepared), self.config.shift, self._rng)

    def _on_device(self, values: Array) -> Tensor:
        return torch.from_numpy(values).to(self.device)

    @property
    def feature_size(self) -> int:
        """D, the width of `features`."""
        return self.network.feature_size

    def features(self, obs: Obs) -> Floats:
        """What the last layer is given, float32 [N, D]: frozen features for another agent."""
        found: Floats = self.network.features(self._prepare.tensor(obs)).cpu().numpy()
        return found

    @torch.inference_mode()
    def attention_maps(self, episode: Sequence[Obs]) -> Mapping[str, Array]:
        """Weights [T, T] of a core's heads, [T, tokens] of an encoder's, from observations [1, *O] of T steps."""
        x = torch.cat([self._prepare.tensor(obs) for obs in episode])
        return {name: weights.cpu().numpy() for name, weights in self.network.attention_maps(x).items()}

    def policy_state(self) -> State:
        """The network, and the env steps that ε depends on."""
        return {"network": self.network.flat, "env_steps": self._env_steps}

    def load_policy_state(self, state: State) -> None:
        """Restore `policy_state`."""
        self.network.flat.copy_(state["network"])
        self._env_steps = state["env_steps"]

    def training_state(self) -> State:
        """Target network, optimiser, replay, what is due, and the generator."""
        return {
            "target_network": self.target_network.flat,
            "optimizer": self.optimizer.state(),
            "replay": self.replay.stored(),
            "rng": self._rng.bit_generator.state,
            "auxiliary": None if self.auxiliary is None else self.auxiliary.state(),
            "updates_due": self._updates_due,
            "target_updates_due": self._target_updates_due,
        }

    def load_training_state(self, state: State) -> None:
        """Restore `training_state`."""
        self.target_network.flat.copy_(state["target_network"])
        self.optimizer.load_state(state["optimizer"])
        self.replay.restore(state["replay"])
        self._rng.bit_generator.state = state["rng"]
        if self.auxiliary is not None:
            self.auxiliary.load_state(state["auxiliary"])
        self._updates_due, self._target_updates_due = state["updates_due"], state["target_updates_due"]
