"""Tabular Q-learning, double Q-learning and Watkins's Q(λ): off-policy control by temporal differences.

Watkins (1989), Sutton and Barto (2018) section 6.5; van Hasselt (2010), section 6.7; Watkins's Q(λ), section 12.10.
The updates are `rlkit.ops.td`, the loops `rlkit.tabular.one_step` and `rlkit.tabular.eligibility`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rlkit.tabular.eligibility import TRACE_KINDS, WATKINS, eligibility
from rlkit.tabular.engine import TabularAgent
from rlkit.tabular.given import policy_table
from rlkit.tabular.learner import Learner
from rlkit.tabular.one_step import DOUBLE_Q, Q_LEARNING, one_step
from rlkit.tabular.options import ControlConfig, new_tables
from rlkit.types import Task


class QLearningConfig(ControlConfig):
    """Options of Q-learning."""

    behaviour: str | None = None
    """policy to follow instead of the ε-greedy one: uniform, always-K, stick-K, optimal, or a run's folder"""


class QLearning(TabularAgent):
    """Q-learning, ε-greedy or from the experience of any other policy."""

    Config = QLearningConfig

    def _build(self, config: QLearningConfig, task: Task) -> Learner:
        followed = None if config.behaviour is None else policy_table(config.behaviour, task, config.gamma)
        shape = (1, self.index.num_states, self.num_actions)
        return one_step(new_tables(config, task, shape, self.num_actions, policy=followed), Q_LEARNING, task.num_envs)


class DoubleQLearning(TabularAgent):
    """Double Q-learning: one table selects the next action, the other says what it is worth."""

    Config = ControlConfig

    def _build(self, config: ControlConfig, task: Task) -> Learner:
        shape = (2, self.index.num_states, self.num_actions)
        return one_step(new_tables(config, task, shape, self.num_actions), DOUBLE_Q, task.num_envs)


class WatkinsConfig(ControlConfig):
    """Options of Watkins's Q(λ)."""

    lam: float = Field(0.9, ge=0.0, le=1.0)
    """trace decay λ"""
    traces: Literal["accumulating", "replacing", "dutch"] = "replacing"
    """kind of eligibility trace"""


class WatkinsQLambda(TabularAgent):
    """Q-learning with traces that an exploratory action cuts."""

    Config = WatkinsConfig

    def _build(self, config: WatkinsConfig, task: Task) -> Learner:
        shape = (1, self.index.num_states, self.num_actions)
        tables = new_tables(config, task, shape, self.num_actions)
        return eligibility(tables, WATKINS, TRACE_KINDS.index(config.traces), config.lam, task.num_envs)
