"""REINFORCE with a softmax over a table of preferences (Williams 1992; Sutton and Barto 2018, 13.3 and 13.4)."""

from __future__ import annotations

from pydantic import Field

from rlkit.mdp import Floats64
from rlkit.tabular.engine import TabularAgent
from rlkit.tabular.learner import Learner
from rlkit.tabular.options import StepSizeConfig, new_tables
from rlkit.tabular.preferences import preferences
from rlkit.types import Task


class TabularReinforceConfig(StepSizeConfig):
    """Options of tabular REINFORCE."""

    learning_rate: float = Field(0.01, gt=0.0)
    """step size of the preferences"""
    baseline_learning_rate: float = Field(0.0, ge=0.0, le=1.0)
    """step size of the baseline V(s); 0: no baseline"""
    max_episode_steps: int = Field(10_000, ge=1, le=10_000_000)
    """longest episode; a longer one is an error, because nothing can be learned before it ends"""


class TabularReinforce(TabularAgent):
    """Policy gradient from whole episodes; an episode cut by a time limit is bootstrapped with the baseline."""

    Config = TabularReinforceConfig

    def _build(self, config: TabularReinforceConfig, task: Task) -> Learner:
        shape = (1, self.index.num_states, self.num_actions)
        tables = new_tables(config, task, shape, self.num_actions)
        max_length = config.max_episode_steps if task.total_steps else 1
        return preferences(tables, config.baseline_learning_rate, task.num_envs, max_length)

    def state_values(self) -> Floats64:
        """The baseline V(s), [S]."""
        values: Floats64 = self.learner.baseline
        return values
