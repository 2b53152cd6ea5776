"""Proximal policy optimisation (Schulman et al. 2017, https://arxiv.org/abs/1707.06347).

N environments collect T steps (algorithm 1); then several epochs of minibatches climb the clipped surrogate objective
(equation 7) with generalised advantages (equation 11), beside a squared value loss and an entropy bonus (equation 9).

Deviations from the paper
- Networks share nothing and start orthogonal; Adam's epsilon is 1e-5; gradients are cut to length 0.5; advantages
  are normalised in each minibatch: what its authors' code and stable-baselines3 do (Huang et al. 2022,
  https://iclr-blog-track.github.io/2022/03/25/ppo-implementation-details).
- Truncated episodes bootstrap from the true last observation.
- `target_kl` stops the epochs early, `value_clip_range` clips values as stable-baselines3 does; both are off.
- Learning rate and clip range are constant unless told to fall linearly (paper: both fall on Atari).
"""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor

from rlkit import seeding
from rlkit.agents.on_policy import OnPolicyAgent, policy_actor, scheduled, warn_of_short_run
from rlkit.agents.policy_config import PolicyConfig, Schedule
from rlkit.agents.policy_network import RolloutTensors
from rlkit.data.rollout import RolloutBatch
from rlkit.nn.actor_critic import ActorCritic
from rlkit.nn.compiled_ppo import Losses, Weights, compiled_ppo
from rlkit.nn.optim import Adam
from rlkit.ops import policy_gradient as ops
from rlkit.ops.advantages import explained_variance
from rlkit.types import Carry, Metrics, State, Task, Transition


class PPOConfig(PolicyConfig):
    """Defaults: Schulman et al. 2017, table 3 (MuJoCo), unless a field says otherwise."""

    learning_rate: float = Field(3e-4, gt=0)
    """step size of Adam"""
    n_steps: int = Field(2048, ge=1)
    """steps of each environment between two updates"""
    batch_size: int = Field(64, ge=1)
    """steps in one minibatch"""
    epochs: int = Field(10, ge=1)
    """passes over a rollout"""
    gae_lambda: float = Field(0.95, ge=0, le=1)
    """λ of the generalised advantages"""
    clip_range: float = Field(0.2, gt=0)
    """how far a probability ratio counts, ε of equation 7"""
    clip_range_schedule: Schedule = "constant"
    """linear: falls to zero at the end of the run"""
    value_clip_range: float | None = Field(None, gt=0)
    """how far a value may move from what it was in the rollout, in units of the return; null: no limit"""
    value_coefficient: float = Field(0.5, ge=0)
    """weight of the value loss (stable-baselines3; paper: 1 on Atari)"""
    normalize_advantage: bool = True
    """advantages of each minibatch get mean 0 and standard deviation 1 (stable-baselines3)"""
    target_kl: float | None = Field(None, gt=0)
    """stop the epochs where the policy has moved 1.5 times as far (KL divergence in nats); null: never"""


class PPO(OnPolicyAgent):
    """On-policy actor-critic that learns from each rollout several times."""

    Config = PPOConfig

    def __init__(self, config: PPOConfig, task: Task) -> None:
        self.config = config
        self._num_envs, self._total_steps = task.num_envs, max(task.total_steps, 1)
        self.actor = policy_actor(config, task)
        self.optimizer = Adam(self.actor.weights, config.learning_rate, eps=1e-5)
        network = self.actor.network
        self._compiled = compiled_ppo(network) if isinstance(network, ActorCritic) else None
        warn_of_short_run(config.n_steps, task)
        self.rollout = self.actor.rollout(config.n_steps, task)
        self._rng = seeding.generator(task.seed, "minibatches")
        self._env_steps = 0

    def observe(self, step: Transition, carry: Carry) -> None:
        """Store one step of N environments."""
        self.actor.store(self.rollout, step, carry)
        self._env_steps += self._num_envs

    def update(self) -> Metrics:
        """When the rollout is full: all epochs over it; mean metrics of their minibatches."""
        if not self.rollout.is_full:
            return {}
        config = self.config
        schedule = config.learning_rate_schedule
        self.optimizer.learning_rate = scheduled(schedule, config.learning_rate, self._env_steps, self._total_steps)
        batch = self.actor.batch(self.rollout, config.gamma, config.gae_lambda)
        found = self._learn_epochs(batch)
        self.actor.begin_rollout(self.rollout)
        return {
            **_means(found),
            **self.actor.mean_std(),
            "train/explained_variance": explained_variance(batch.value, batch.target),
            "train/learning_rate": self.optimizer.learning_rate,
            "train/clip_range": self.clip_range(),
        }

    def _learn_epochs(self, batch: RolloutBatch) -> list[Metrics]:
        found: list[Metrics] = []
        for _ in range(self.config.epochs):
            for minibatch in self.actor.minibatches(batch, self.config.batch_size, self._rng):
                found.append(self.learn(minibatch))
                if self._moved_too_far(found[-1]["train/approx_kl"]):
                    return found
        return found

    def clip_range(self) -> float:
        """ε now."""
        config = self.config
        return scheduled(config.clip_range_schedule, config.clip_range, self._env_steps, self._total_steps)

    @torch.inference_mode()
    def learn(self, batch: RolloutBatch) -> Metrics:
        """Exactly one update of both networks; none where the policy has already moved too far."""
        if self._compiled is None:
            losses, gradient = self.losses_and_gradient(self.actor.tensors(batch))
        else:
            losses, gradient = self._compiled.losses_and_gradient(batch, self._weights())
        others: Metrics = {}
        if not self._moved_too_far(losses.approximate_kl):
            others = self.actor.descend(self.optimizer, gradient, batch, self.config.max_grad_norm)
        return {**self.metrics(losses), **others}

    def _moved_too_far(self, approximate_kl: float) -> bool:
        target_kl = self.config.target_kl
        return target_kl is not None and approximate_kl > 1.5 * target_kl

    def _weights(self) -> Weights:
        config = self.config
        limit = math.inf if config.value_clip_range is None else config.value_clip_range
        return Weights(
            self.clip_range(), limit, config.value_coefficient, config.entropy_coefficient, config.normalize_advantage
        )

    def metrics(self, losses: Losses) -> Metrics:
        """The terms of equation 9 and their sum, by their names in the log."""
        config = self.config
        return {
            "train/loss": losses.policy
            + config.value_coefficient * losses.value
            - config.entropy_coefficient * losses.entropy,
            "train/policy_gradient_loss": losses.policy,
            "train/value_loss": losses.value,
            "train/entropy_loss": -losses.entropy,
            "train/approx_kl": losses.approximate_kl,
            "train/clip_fraction": losses.clip_fraction,
        }

    @torch.inference_mode()
    def losses_and_gradient(self, batch: RolloutTensors) -> tuple[Losses, Tensor]:
        """The terms of equation 9, and the gradient of their sum in the layout of `actor.network.flat`."""
        config, clip_range = self.config, self.clip_range()
        advantage = ops.normalised(batch.advantage) if config.normalize_advantage else batch.advantage
        trace = self.actor.network.trace(batch.obs, batch.action, batch.action_mask)
        log_ratio = trace.distribution.log_prob - batch.log_prob
        ratio = log_ratio.exp()

        policy_loss = ops.clipped_surrogate_loss(ratio, advantage, clip_range)
        value_loss, by_value = self._value_loss(trace.value, batch)
        entropy = trace.distribution.entropy.mean()

        gradient = trace.gradient(
            ops.clipped_surrogate_loss_gradient(ratio, advantage, clip_range),
            -config.entropy_coefficient / len(ratio),
            by_value.mul_(config.value_coefficient),
        )
        moved = ops.approximate_kl(log_ratio), ops.clip_fraction(ratio, clip_range)
        return Losses(*torch.stack((policy_loss, value_loss, entropy, *moved)).tolist()), gradient

    def _value_loss(self, value: Tensor, batch: RolloutTensors) -> tuple[Tensor, Tensor]:
        """The value loss and its gradient by each value, [B]."""
        clip_range = self.config.value_clip_range
        if clip_range is None:
            return ops.value_loss(value, batch.target), ops.value_loss_gradient(value, batch.target)
        clipped = ops.clipped_value(value, batch.value, clip_range)
        by_value = ops.value_loss_gradient(clipped, batch.target)
        return ops.value_loss(clipped, batch.target), by_value.mul_(ops.value_within(value, batch.value, clip_range))

    def training_state(self) -> State:
        """Value network, optimiser, the rollout so far, generator and env steps."""
        return {
            **self.actor.training_state(),
            "optimizer": self.optimizer.state(),
            "rollout": self.rollout.state(),
            "rng": self._rng.bit_generator.state,
            "env_steps": self._env_steps,
        }

    def load_training_state(self, state: State) -> None:
        """Restore what `training_state` returned."""
        self.actor.load_training_state(state)
        self.optimizer.load_state(state["optimizer"])
        self.rollout.restore(state["rollout"])
        self._rng.bit_generator.state = state["rng"]
        self._env_steps = state["env_steps"]


def _means(found: list[Metrics]) -> Metrics:
    """Of each metric over the minibatches that have it: the objective besides leaves some out."""
    names = dict.fromkeys(name for each in found for name in each)
    values = {name: [each[name] for each in found if name in each] for name in names}
    return {name: sum(each) / len(each) for name, each in values.items()}
