"""Least squares: LSTD(λ) prediction (Sutton and Barto 2018, section 9.8) and LSPI control (Lagoudakis and Parr 2003).

Loops: `rlkit.linear.least_squares`. Both solve a system as large as the features, so these must be few.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from rlkit.errors import ConfigError, UnsupportedTaskError
from rlkit.linear.agent import LinearAgent, LinearPrediction
from rlkit.linear.least_squares import least_squares, policy_iteration, solve
from rlkit.linear.options import LinearControlConfig, LinearPredictionConfig
from rlkit.linear.weights import Linear
from rlkit.mdp import Floats64
from rlkit.tabular.learner import Learner
from rlkit.types import Metrics, Obs, State, Task

MAX_UNKNOWNS = 2_000
"""Largest system: 32 MB, and some seconds for each solution."""


class LSTDConfig(LinearPredictionConfig):
    """Options of LSTD(λ); it has no step size, so `learning_rate` is not used."""

    lam: float = Field(0.0, ge=0.0, le=1.0)
    """trace decay λ"""
    ridge: float = Field(1e-6, gt=0.0)
    """added to the diagonal of A; more is smoother and more biased towards 0"""


class LSTD(LinearPrediction):
    """LSTD(λ): the weights at which TD(λ) would settle on the experience so far, solved when they are asked for."""

    Config: ClassVar[Any] = LSTDConfig

    def _build(self, config: LSTDConfig, task: Task) -> Learner:
        linear = self._predicted(config, task)
        _refuse_too_many(linear)
        return least_squares(linear, config.lam, config.ridge, task.num_envs)

    @property
    def weights(self) -> Floats64:
        """[1, F], solved now."""
        solve(self.learner)
        return self.linear.weights

    def state_values(self) -> Floats64:
        """V(s) of every row [S] of a finite observation space; else [0]."""
        solve(self.learner)
        return super().state_values()

    def values(self, obs: Obs) -> Floats64:
        """V(s) [N, 1] of observations."""
        solve(self.learner)
        return super().values(obs)

    def policy_state(self) -> State:
        """Solved weights, and features."""
        solve(self.learner)
        return super().policy_state()

    def _is_prediction(self) -> bool:
        return True

    def metrics(self) -> Metrics:
        """Nothing that needs a solution."""
        return {"train/largest_sum": float(np.abs(self.learner.matrix).max())}


class LSPIConfig(LinearControlConfig):
    """Options of LSPI; it has no step size, so `learning_rate` is not used."""

    epsilon: float = Field(1.0, ge=0.0, le=1.0)
    """probability of a random action; samples of a random policy serve, because learning is off-policy"""
    improve_every: int = Field(1_000, ge=1)
    """env steps between two improvements of the policy"""
    max_iterations: int = Field(20, ge=1)
    """iterations of one improvement"""
    tolerance: float = Field(1e-5, ge=0.0)
    """greatest change of a weight at which an improvement is done"""
    capacity: int = Field(10_000, ge=1)
    """samples kept, the newest ones"""
    ridge: float = Field(1e-3, gt=0.0)
    """added to the diagonal of A"""


class LSPI(LinearAgent):
    """Least-squares policy iteration: from the same samples, the values of one greedy policy after another."""

    Config = LSPIConfig

    def _build(self, config: LSPIConfig, task: Task) -> Learner:
        linear = self._linear(config, task)
        _refuse_too_many(linear)
        if 0 < task.total_steps < config.improve_every:
            raise ConfigError(
                [f"improve_every is {config.improve_every:,}, but the run has {task.total_steps:,} env steps, so the "
                 f"policy would never be improved; allowed are 1 … {task.total_steps:,}"]
            )  # fmt: skip
        return policy_iteration(
            linear, every=config.improve_every, iterations=config.max_iterations, tolerance=config.tolerance,
            ridge=config.ridge, capacity=config.capacity if task.total_steps else 1,
        )  # fmt: skip

    def metrics(self) -> Metrics:
        """Also how many iterations the last improvement took."""
        return {**super().metrics(), "train/iterations": float(self.learner.progress[1])}


def _refuse_too_many(linear: Linear) -> None:
    if linear.weights.size > MAX_UNKNOWNS:
        raise UnsupportedTaskError(
            f"least squares would solve for {linear.weights.size:,} weights at once; allowed: {MAX_UNKNOWNS:,}. Use "
            "fewer features, for instance --agent.features fourier --agent.order 2, or tiles with --agent.hash-size 256"
        )
