"""Bandit agents (Sutton and Barto 2018, chapter 2). Every episode is a new problem; nothing is carried over."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rlkit.tabular.bandit import EPSILON_GREEDY, GRADIENT, UCB, bandit
from rlkit.tabular.engine import TabularAgent
from rlkit.tabular.indexing import table_reason
from rlkit.tabular.learner import Learner
from rlkit.tabular.options import ControlConfig, StepSizeConfig, new_tables
from rlkit.types import Task

_Schedule = Literal["constant", "sample-average", "robbins-monro", "linear"]


class _BanditAgent(TabularAgent):
    """Learns what each action pays at once; what follows it does not count."""

    @classmethod
    def supports(cls, task: Task) -> str | None:
        """None for one environment with finitely many observations and actions, else the reason."""
        if task.num_envs > 1:
            return f"a bandit agent learns one problem at a time, not {task.num_envs} side by side"
        return table_reason(task)


class EpsilonGreedyBanditConfig(ControlConfig):
    """Options of the ε-greedy bandit; optimistic where `initial_value` is high (section 2.6)."""

    learning_rate_schedule: _Schedule = "sample-average"
    """1/n by visits; constant; learning_rate/n^exponent by visits; linear to zero over the run"""


class EpsilonGreedyBandit(_BanditAgent):
    """ε-greedy over mean rewards (section 2.2), optimistic with a high initial value (section 2.6)."""

    Config = EpsilonGreedyBanditConfig

    def _build(self, config: EpsilonGreedyBanditConfig, task: Task) -> Learner:
        tables = new_tables(config, task, (1, self.index.num_states, self.num_actions), self.num_actions)
        return bandit(tables, EPSILON_GREEDY, config.initial_value)


class UCBBanditConfig(StepSizeConfig):
    """Options of the upper-confidence-bound bandit."""

    learning_rate_schedule: _Schedule = "sample-average"
    """1/n by visits; constant; learning_rate/n^exponent by visits; linear to zero over the run"""
    confidence: float = Field(2.0, ge=0.0)
    """c of the bound (section 2.7)"""


class UCBBandit(_BanditAgent):
    """The action whose reward could be highest (Auer et al. 2002; section 2.7)."""

    Config = UCBBanditConfig

    def _build(self, config: UCBBanditConfig, task: Task) -> Learner:
        tables = new_tables(config, task, (1, self.index.num_states, self.num_actions), self.num_actions)
        return bandit(tables, UCB, config.initial_value, confidence=config.confidence)


class GradientBanditConfig(StepSizeConfig):
    """Options of the gradient bandit."""

    baseline: bool = True
    """compare rewards with their mean (section 2.8)"""


class GradientBandit(_BanditAgent):
    """Softmax over preferences, climbing the expected reward (section 2.8)."""

    Config = GradientBanditConfig

    def _build(self, config: GradientBanditConfig, task: Task) -> Learner:
        tables = new_tables(config, task, (1, self.index.num_states, self.num_actions), self.num_actions)
        return bandit(tables, GRADIENT, config.initial_value, uses_baseline=config.baseline)
