"""Sarsa and its family: control that learns about the policy it follows, in one step, in n steps, with traces.

Rummery and Niranjan (1994); Sutton and Barto (2018) sections 6.4, 6.6, 7.2, 7.5, 7.6 and 12.7. Updates are
`rlkit.ops.td`, loops `rlkit.tabular.one_step`, `rlkit.tabular.n_step` and `rlkit.tabular.eligibility`, where their
deviations stand.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from rlkit.tabular.eligibility import ON_POLICY, TRACE_KINDS, eligibility
from rlkit.tabular.engine import TabularAgent
from rlkit.tabular.given import policy_table
from rlkit.tabular.learner import Learner
from rlkit.tabular.n_step import EXPECTED as N_STEP_EXPECTED
from rlkit.tabular.n_step import Q_SIGMA, TREE_BACKUP, n_step
from rlkit.tabular.n_step import SARSA as N_STEP_SARSA
from rlkit.tabular.one_step import EXPECTED, SARSA, one_step
from rlkit.tabular.options import ControlConfig, new_tables
from rlkit.tabular.tables import Tables
from rlkit.types import Task


class _SarsaFamily(TabularAgent):
    """One table of action values."""

    Config: ClassVar[type[ControlConfig]] = ControlConfig

    def _tables(self, config: ControlConfig, task: Task) -> Tables:
        return new_tables(config, task, (1, self.index.num_states, self.num_actions), self.num_actions)


class Sarsa(_SarsaFamily):
    """Sarsa: bootstraps with the action that is taken next."""

    def _build(self, config: ControlConfig, task: Task) -> Learner:
        return one_step(self._tables(config, task), SARSA, task.num_envs)


class ExpectedSarsa(_SarsaFamily):
    """Expected Sarsa: bootstraps with the mean over the actions that could be taken next."""

    def _build(self, config: ControlConfig, task: Task) -> Learner:
        return one_step(self._tables(config, task), EXPECTED, task.num_envs)


class NStepSarsaConfig(ControlConfig):
    """Options of n-step Sarsa."""

    n: int = Field(4, ge=1, le=10_000)
    """rewards in a return"""
    expected: bool = False
    """end the return with the mean over actions (n-step expected Sarsa)"""


class NStepSarsa(_SarsaFamily):
    """n-step Sarsa (section 7.2)."""

    Config = NStepSarsaConfig

    def _build(self, config: NStepSarsaConfig, task: Task) -> Learner:
        rule = N_STEP_EXPECTED if config.expected else N_STEP_SARSA
        return n_step(self._tables(config, task), rule, config.n, task.num_envs)


class SarsaLambdaConfig(ControlConfig):
    """Options of Sarsa(λ)."""

    lam: float = Field(0.9, ge=0.0, le=1.0)
    """trace decay λ"""
    traces: Literal["accumulating", "replacing", "dutch"] = "replacing"
    """kind of eligibility trace; dutch: true online Sarsa(λ)"""


class SarsaLambda(_SarsaFamily):
    """Sarsa(λ) with eligibility traces (section 12.7)."""

    Config = SarsaLambdaConfig

    def _build(self, config: SarsaLambdaConfig, task: Task) -> Learner:
        kind = TRACE_KINDS.index(config.traces)
        return eligibility(self._tables(config, task), ON_POLICY, kind, config.lam, task.num_envs)


class TreeBackupConfig(ControlConfig):
    """Options of the tree backup."""

    n: int = Field(4, ge=1, le=10_000)
    """steps of the tree"""
    target: Literal["epsilon-greedy", "greedy"] = "epsilon-greedy"
    """policy that is learned about"""
    behaviour: str | None = None
    """policy to follow instead of the ε-greedy one: uniform, always-K, stick-K, optimal, or a run's folder"""


class TreeBackup(TabularAgent):
    """n-step tree backup: off-policy without importance sampling (section 7.5)."""

    Config = TreeBackupConfig

    def _build(self, config: TreeBackupConfig, task: Task) -> Learner:
        return n_step(_off_policy_tables(self, config, task), TREE_BACKUP, config.n, task.num_envs)


class QSigmaConfig(TreeBackupConfig):
    """Options of Q(σ)."""

    sigma: float = Field(0.5, ge=0.0, le=1.0)
    """1: sample the next action as Sarsa does; 0: take the mean as the tree backup does"""


class QSigma(TabularAgent):
    """n-step Q(σ), between Sarsa and the tree backup (De Asis et al. 2018; section 7.6)."""

    Config = QSigmaConfig

    def _build(self, config: QSigmaConfig, task: Task) -> Learner:
        return n_step(_off_policy_tables(self, config, task), Q_SIGMA, config.n, task.num_envs, config.sigma)


def _off_policy_tables(agent: TabularAgent, config: TreeBackupConfig, task: Task) -> Tables:
    followed = None if config.behaviour is None else policy_table(config.behaviour, task, config.gamma)
    shape = (1, agent.index.num_states, agent.num_actions)
    greedy = config.target == "greedy" or config.behaviour is not None
    return new_tables(config, task, shape, agent.num_actions, policy=followed, greedy_target=greedy)
