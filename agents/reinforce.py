"""REINFORCE with networks (Williams 1992, https://doi.org/10.1007/BF00992696; Sutton and Barto 2018, 13.3 and 13.4).

After whole episodes the policy climbs log π(a|s) times the discounted return G from there, less a learned baseline
V(s), which follows G by its squared error. `tabular-reinforce` is the same with a table.

Deviations from the sources
- The mean over the steps of some episodes, by Adam, instead of the sum over one by plain ascent.
- The factor γ^t of the book (13.8) is left out, as everybody does: later steps count as much as early ones.
- Truncated episodes bootstrap from the baseline at the true last observation; without a baseline their return ends
  there as if they had terminated, which is wrong by what would have followed.
- An entropy bonus is possible, and gradients can be cut.
"""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from rlkit.agents.on_policy import OnPolicyAgent, policy_actor, scheduled
from rlkit.agents.policy_config import PolicyConfig
from rlkit.agents.policy_gradient import policy_gradient_step
from rlkit.agents.policy_network import RolloutTensors
from rlkit.data.rollout import RolloutBatch
from rlkit.nn.optim import Adam
from rlkit.ops.advantages import explained_variance
from rlkit.types import Carry, Metrics, State, Task, Transition

_FIRST_LENGTH = 256  # steps there is place for at first; doubled where an episode is longer


class REINFORCEConfig(PolicyConfig):
    """Defaults are ours: the sources fix no networks."""

    learning_rate: float = Field(1e-3, gt=0)
    """step size of Adam"""
    episodes: int = Field(8, ge=1)
    """whole episodes, of all environments together, in one update (Williams 1992: 1)"""
    baseline: bool = True
    """subtract a learned value from the return"""
    value_coefficient: float = Field(0.5, ge=0)
    """weight of the baseline's loss (as in A2C)"""


class REINFORCE(OnPolicyAgent):
    """Policy gradient from the returns of whole episodes."""

    Config = REINFORCEConfig

    def __init__(self, config: REINFORCEConfig, task: Task) -> None:
        self.config = config
        self._num_envs, self._total_steps = task.num_envs, max(task.total_steps, 1)
        self.actor = policy_actor(config, task)
        self.optimizer = Adam(self.actor.weights, config.learning_rate)
        self.rollout = self.actor.rollout(_FIRST_LENGTH, task)
        # of each environment, times in the rollout: what was learned, then whole episodes, then the running one
        self._learned_until = np.zeros(task.num_envs, np.int64)
        self._running_since = np.zeros(task.num_envs, np.int64)
        self._episodes = 0
        self._env_steps = 0

    def observe(self, step: Transition, carry: Carry) -> None:
        """Store one step of N environments, and note which episodes are whole."""
        if self.rollout.is_full:
            self.rollout.lengthen(2 * len(self.rollout))
        self.actor.store(self.rollout, step, carry)
        self._env_steps += self._num_envs
        ended = step.ended
        if ended.any():
            self._running_since[ended] = len(self.rollout)
            self._episodes += int(ended.sum())

    def update(self) -> Metrics:
        """One update when enough episodes are whole; only what is still running is kept."""
        config = self.config
        if self._episodes < config.episodes:
            return {}
        schedule = config.learning_rate_schedule
        self.optimizer.learning_rate = scheduled(schedule, config.learning_rate, self._env_steps, self._total_steps)
        batch = self._whole_episodes()
        metrics = self.learn(batch)
        self._forget()
        extra = {"train/explained_variance": explained_variance(batch.value, batch.target)} if config.baseline else {}
        return {**metrics, **self.actor.mean_std(), **extra, "train/learning_rate": self.optimizer.learning_rate}

    def _whole_episodes(self) -> RolloutBatch:
        """Steps of whole episodes that were not learned from yet, with their returns."""
        # what came before is of episodes that still run, perhaps for long: it is not valued with every update
        first = int(self._learned_until[self._learned_until < self._running_since].min())
        batch = self.actor.batch(
            self.rollout, self.config.gamma, gae_lambda=1.0, valued=self.config.baseline, first=first
        )
        time = np.arange(first, len(self.rollout))[:, None]
        is_whole = (self._learned_until <= time) & (time < self._running_since)  # [T, N]
        whole: RolloutBatch = batch.keep(is_whole)
        return whole

    def _forget(self) -> None:
        oldest = int(self._running_since.min())
        self.rollout.forget(oldest)
        self._running_since -= oldest
        self._learned_until[:] = self._running_since
        self._episodes = 0

    @torch.inference_mode()
    def learn(self, batch: RolloutBatch) -> Metrics:
        """Exactly one update of the policy, and of the baseline where there is one."""
        metrics, gradient = self.losses_and_gradient(self.actor.tensors(batch))
        others = self.actor.descend(self.optimizer, gradient, batch, self.config.max_grad_norm)
        return {**metrics, **others}

    @torch.inference_mode()
    def losses_and_gradient(self, batch: RolloutTensors) -> tuple[Metrics, Tensor]:
        """Losses of policy, baseline and entropy, and the gradient of their sum."""
        config = self.config
        value_coefficient = config.value_coefficient if config.baseline else 0.0
        return policy_gradient_step(
            self.actor.network, batch, batch.advantage, value_coefficient, config.entropy_coefficient
        )

    def training_state(self) -> State:
        """Baseline, optimiser, steps not learned from yet, and counters."""
        return {
            **self.actor.training_state(),
            "optimizer": self.optimizer.state(),
            "rollout": self.rollout.state(),
            "learned_until": self._learned_until,
            "running_since": self._running_since,
            "episodes": self._episodes,
            "env_steps": self._env_steps,
        }

    def load_training_state(self, state: State) -> None:
        """Restore what `training_state` returned."""
        self.actor.load_training_state(state)
        self.optimizer.load_state(state["optimizer"])
        self.rollout.lengthen(max(_FIRST_LENGTH, self.rollout.length_of(state["rollout"])))
        self.rollout.restore(state["rollout"])
        self._learned_until[:] = state["learned_until"]
        self._running_since[:] = state["running_since"]
        self._episodes = state["episodes"]
        self._env_steps = state["env_steps"]
