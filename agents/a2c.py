"""Advantage actor-critic (Mnih et al. 2016, https://arxiv.org/abs/1602.01783), the synchronous one.

N environments collect a few steps; then one update climbs log π(a|s) times the advantage, beside a squared value loss
and an entropy bonus (algorithm S3 and section 4).

Deviations from the paper
- One learner waits for all environments instead of many that update without waiting.
- Policy and value networks share nothing and start orthogonal; gradients are cut to length 0.5.
- Advantages are generalised ones: with the default λ of 1 those of the paper, n-step returns minus values.
- Truncated episodes bootstrap from the true last observation.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from rlkit.agents.on_policy import OnPolicyAgent, policy_actor, scheduled, warn_of_short_run
from rlkit.agents.policy_config import PolicyConfig
from rlkit.agents.policy_gradient import policy_gradient_step
from rlkit.agents.policy_network import RolloutTensors
from rlkit.data.rollout import RolloutBatch
from rlkit.nn.optim import Adam
from rlkit.nn.rmsprop import RMSProp
from rlkit.ops import policy_gradient as ops
from rlkit.ops.advantages import explained_variance
from rlkit.types import Carry, Metrics, State, Task, Transition


class A2CConfig(PolicyConfig):
    """Defaults: stable-baselines3's, which follow Mnih et al. 2016, unless a field says otherwise."""

    learning_rate: float = Field(7e-4, gt=0)
    """step size of the optimiser"""
    n_steps: int = Field(5, ge=1)
    """steps of each environment between two updates (Mnih 2016)"""
    gae_lambda: float = Field(1.0, ge=0, le=1)
    """λ of the generalised advantages (Mnih 2016 has none, which is 1)"""
    value_coefficient: float = Field(0.5, ge=0)
    """weight of the value loss"""
    normalize_advantage: bool = False
    """advantages of each update get mean 0 and standard deviation 1"""
    optimizer: Literal["rmsprop", "adam"] = "rmsprop"
    """RMSProp (Mnih 2016) or Adam"""
    rmsprop_decay: float = Field(0.99, ge=0, lt=1)
    """decay of the squared gradient (Mnih 2016)"""
    optimizer_epsilon: float = Field(1e-5, gt=0)
    """added to the denominator (Mnih 2016, section 8: 0.1, under the root)"""


class A2C(OnPolicyAgent):
    """On-policy actor-critic that learns from each rollout once."""

    Config = A2CConfig

    def __init__(self, config: A2CConfig, task: Task) -> None:
        self.config = config
        self._num_envs, self._total_steps = task.num_envs, max(task.total_steps, 1)
        self.actor = policy_actor(config, task)
        self.optimizer = self._optimizer(self.actor.weights)
        warn_of_short_run(config.n_steps, task)
        self.rollout = self.actor.rollout(config.n_steps, task)
        self._env_steps = 0

    def _optimizer(self, parameters: Tensor) -> RMSProp | Adam:
        config = self.config
        if config.optimizer == "adam":
            return Adam(parameters, config.learning_rate, eps=config.optimizer_epsilon)
        return RMSProp(parameters, config.learning_rate, decay=config.rmsprop_decay, eps=config.optimizer_epsilon)

    def observe(self, step: Transition, carry: Carry) -> None:
        """Store one step of N environments."""
        self.actor.store(self.rollout, step, carry)
        self._env_steps += self._num_envs

    def update(self) -> Metrics:
        """One update when the rollout is full."""
        if not self.rollout.is_full:
            return {}
        config = self.config
        schedule = config.learning_rate_schedule
        self.optimizer.learning_rate = scheduled(schedule, config.learning_rate, self._env_steps, self._total_steps)
        batch = self.actor.batch(self.rollout, config.gamma, config.gae_lambda)
        metrics = self.learn(batch)
        self.actor.begin_rollout(self.rollout)
        return {
            **metrics,
            **self.actor.mean_std(),
            "train/explained_variance": explained_variance(batch.value, batch.target),
            "train/learning_rate": self.optimizer.learning_rate,
        }

    @torch.inference_mode()
    def learn(self, batch: RolloutBatch) -> Metrics:
        """Exactly one update of both networks."""
        metrics, gradient = self.losses_and_gradient(self.actor.tensors(batch))
        others = self.actor.descend(self.optimizer, gradient, batch, self.config.max_grad_norm)
        return {**metrics, **others}

    @torch.inference_mode()
    def losses_and_gradient(self, batch: RolloutTensors) -> tuple[Metrics, Tensor]:
        """Losses of policy, value and entropy, and the gradient of their sum in the layout of `actor.network.flat`."""
        config = self.config
        advantage = ops.normalised(batch.advantage) if config.normalize_advantage else batch.advantage
        return policy_gradient_step(
            self.actor.network, batch, advantage, config.value_coefficient, config.entropy_coefficient
        )

    def training_state(self) -> State:
        """Value network, optimiser, the rollout so far and env steps."""
        return {
            **self.actor.training_state(),
            "optimizer": self.optimizer.state(),
            "rollout": self.rollout.state(),
            "env_steps": self._env_steps,
        }

    def load_training_state(self, state: State) -> None:
        """Restore what `training_state` returned."""
        self.actor.load_training_state(state)
        self.optimizer.load_state(state["optimizer"])
        self.rollout.restore(state["rollout"])
        self._env_steps = state["env_steps"]
