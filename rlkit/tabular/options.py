"""Options that tabular agents share, and the tables built from them."""

from __future__ import annotations

from typing import Literal, Self, TypeAlias

import numpy as np
from pydantic import Field, model_validator

from rlkit.config import AgentConfig
from rlkit.mdp import Floats64
from rlkit.ops.schedules import EXPLORATION_KINDS, STEP_SIZE_KINDS
from rlkit.tabular.tables import Exploration, StepSize, Tables
from rlkit.types import Task

Engine: TypeAlias = Literal["auto", "compiled", "step"]


class TabularConfig(AgentConfig):
    """What every tabular agent has."""

    engine: Engine = "auto"
    """compiled: the whole loop in machine code, one environment with a known model; step: through the environment"""
    gamma: float = Field(0.99, ge=0.0, le=1.0)
    """discount of the next value"""


class StepSizeConfig(TabularConfig):
    """Also a step size for each update."""

    learning_rate: float = Field(0.1, gt=0.0, le=1.0)
    """step size α (its initial value, where it changes)"""
    learning_rate_schedule: Literal["constant", "sample-average", "robbins-monro", "linear"] = "constant"
    """constant; 1/n by visits; learning_rate/n^exponent by visits; linear to zero over the run"""
    learning_rate_exponent: float = Field(1.0, gt=0.5, le=1.0)
    """ω of robbins-monro; sums of squares are finite only above 1/2"""
    initial_value: float = 0.0
    """every estimate before the first visit; high ones are optimistic and explore"""


class ExplorationConfig(TabularConfig):
    """Also ε-greedy exploration (Sutton and Barto 2018, section 2.2)."""

    epsilon: float = Field(0.1, ge=0.0, le=1.0)
    """probability of a random action (its initial value, where it changes)"""
    epsilon_schedule: Literal["constant", "linear", "exponential", "inverse"] = "constant"
    """constant; linear or exponential to final_epsilon; epsilon/k in the k-th episode, not below final_epsilon"""
    final_epsilon: float = Field(0.01, ge=0.0, le=1.0)
    """lowest ε of the schedules that fall"""
    epsilon_steps: int | None = Field(None, ge=1)
    """env steps in which ε falls; by default the whole run"""

    @model_validator(mode="after")
    def _exponents_need_positive_ends(self) -> Self:
        if self.epsilon_schedule == "exponential" and min(self.epsilon, self.final_epsilon) <= 0.0:
            raise ValueError(
                f"epsilon is {self.epsilon:g} and final_epsilon {self.final_epsilon:g}: an exponential schedule needs "
                "both above 0; use linear to reach 0"
            )
        return self


class ControlConfig(ExplorationConfig, StepSizeConfig):
    """Both."""


class PredictionConfig(StepSizeConfig):
    """Also the policy whose values are learned."""

    policy: str = "uniform"
    """uniform, always-K (action K), stick-K (Blackjack: hit below K), optimal (needs a model), or a run's folder"""


def new_tables(
    config: TabularConfig,
    task: Task,
    shape: tuple[int, int, int],
    num_actions: int,
    *,
    policy: Floats64 | None = None,
    target: Floats64 | None = None,
    greedy_target: bool = False,
) -> Tables:
    """Tables of `shape` [K, S, C]; `policy` [S, A] is followed instead of the ε-greedy one, `target` learned about."""
    none = np.zeros((0, num_actions))
    horizon = float(max(task.total_steps, 1))
    initial_value = config.initial_value if isinstance(config, StepSizeConfig) else 0.0
    return Tables(
        np.full(shape, initial_value, dtype=np.float64),
        np.zeros((shape[0] * shape[1], shape[2]), np.int64),
        np.zeros(2, np.int64),
        none if policy is None else policy,
        none.copy() if target is None else target,
        greedy_target,
        num_actions,
        config.gamma,
        exploration_of(config, horizon),
        step_size_of(config, horizon),
    )


def exploration_of(config: TabularConfig, horizon: float) -> Exploration:
    """ε by the options; none where there are none. `horizon` in env steps."""
    if not isinstance(config, ExplorationConfig):
        return Exploration(0, 0.0, 0.0, 1.0)
    kind = EXPLORATION_KINDS.index(config.epsilon_schedule)
    return Exploration(kind, config.epsilon, config.final_epsilon, float(config.epsilon_steps or horizon))


def step_size_of(config: TabularConfig, horizon: float) -> StepSize:
    """α by the options. `horizon` in env steps."""
    if not isinstance(config, StepSizeConfig):
        return StepSize(0, 1.0, 1.0, horizon)
    kind = STEP_SIZE_KINDS.index(config.learning_rate_schedule)
    return StepSize(kind, config.learning_rate, config.learning_rate_exponent, horizon)
