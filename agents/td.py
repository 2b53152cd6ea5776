"""TD prediction: the state values of a given policy, in one step, in n steps, with traces.

Sutton (1988); Sutton and Barto (2018) sections 6.1, 7.1, 12.2 and 12.5.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from rlkit.tabular.eligibility import ON_POLICY, TRACE_KINDS, eligibility
from rlkit.tabular.engine import TabularAgent
from rlkit.tabular.given import policy_table
from rlkit.tabular.learner import Learner
from rlkit.tabular.n_step import EXPECTED as N_STEP_EXPECTED
from rlkit.tabular.n_step import n_step
from rlkit.tabular.one_step import EXPECTED, one_step
from rlkit.tabular.options import PredictionConfig, new_tables
from rlkit.tabular.tables import Tables
from rlkit.types import Task


class _Prediction(TabularAgent):
    """A table of state values, and the policy that is followed and evaluated."""

    Config: ClassVar[type[PredictionConfig]] = PredictionConfig

    def _tables(self, config: PredictionConfig, task: Task) -> Tables:
        followed = policy_table(config.policy, task, config.gamma)
        return new_tables(config, task, (1, self.index.num_states, 1), self.num_actions, policy=followed)


class TD0(_Prediction):
    """TD(0): each value moves towards the reward and the next value."""

    def _build(self, config: PredictionConfig, task: Task) -> Learner:
        return one_step(self._tables(config, task), EXPECTED, task.num_envs)


class NStepTDConfig(PredictionConfig):
    """Options of n-step TD."""

    n: int = Field(4, ge=1, le=10_000)
    """rewards in a return"""


class NStepTD(_Prediction):
    """n-step TD (section 7.1)."""

    Config = NStepTDConfig

    def _build(self, config: NStepTDConfig, task: Task) -> Learner:
        return n_step(self._tables(config, task), N_STEP_EXPECTED, config.n, task.num_envs)


class TDLambdaConfig(PredictionConfig):
    """Options of TD(λ)."""

    lam: float = Field(0.9, ge=0.0, le=1.0)
    """trace decay λ"""
    traces: Literal["accumulating", "replacing", "dutch"] = "accumulating"
    """kind of eligibility trace; dutch: true online TD(λ)"""


class TDLambda(_Prediction):
    """TD(λ) with eligibility traces (sections 12.2 and 12.5)."""

    Config = TDLambdaConfig

    def _build(self, config: TDLambdaConfig, task: Task) -> Learner:
        kind = TRACE_KINDS.index(config.traces)
        return eligibility(self._tables(config, task), ON_POLICY, kind, config.lam, task.num_envs)
