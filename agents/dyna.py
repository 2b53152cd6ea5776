"""Dyna-Q and Dyna-Q+: Q-learning that also learns from imagined transitions (Sutton 1990; Sutton and Barto 8.2)."""

from __future__ import annotations

from pydantic import Field

from rlkit.tabular.dyna import dyna
from rlkit.tabular.engine import TabularAgent
from rlkit.tabular.learner import Learner
from rlkit.tabular.options import ControlConfig, new_tables
from rlkit.types import Task


class DynaQConfig(ControlConfig):
    """Options of Dyna-Q."""

    planning_steps: int = Field(10, ge=0)
    """updates from the learned model after each real one"""


class DynaQ(TabularAgent):
    """Q-learning with planning from a learned model of the last outcomes; it trusts an environment not to change."""

    Config = DynaQConfig

    def _build(self, config: DynaQConfig, task: Task) -> Learner:
        shape = (1, self.index.num_states, self.num_actions)
        return dyna(new_tables(config, task, shape, self.num_actions), config.planning_steps, 0.0, task.num_envs)


class DynaQPlusConfig(DynaQConfig):
    """Options of Dyna-Q+."""

    kappa: float = Field(1e-3, gt=0.0)
    """κ of the bonus κ√τ for pairs not tried for τ env steps"""


class DynaQPlus(TabularAgent):
    """Dyna-Q with a bonus for what has not been tried for long, so that a changed environment is found out."""

    Config = DynaQPlusConfig

    def _build(self, config: DynaQPlusConfig, task: Task) -> Learner:
        shape = (1, self.index.num_states, self.num_actions)
        tables = new_tables(config, task, shape, self.num_actions)
        return dyna(tables, config.planning_steps, config.kappa, task.num_envs)
