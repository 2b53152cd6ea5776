"""Control with linear action values: semi-gradient Sarsa and its family, Q-learning, differential Sarsa.

Sutton and Barto (2018), chapters 10 and 12; features are `rlkit.linear.features`. Updates are `rlkit.ops.td`, loops
`rlkit.linear.one_step`, `rlkit.linear.n_step` and `rlkit.linear.eligibility`, where their deviations stand.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from rlkit.linear.agent import LinearAgent
from rlkit.linear.eligibility import TRACE_KINDS, eligibility
from rlkit.linear.n_step import EXPECTED as N_STEP_EXPECTED
from rlkit.linear.n_step import SARSA as N_STEP_SARSA
from rlkit.linear.n_step import n_step
from rlkit.linear.one_step import DIFFERENTIAL, EXPECTED, Q_LEARNING, SARSA, one_step
from rlkit.linear.options import LinearControlConfig, TracesConfig
from rlkit.linear.policies import policy_rows
from rlkit.tabular.learner import Learner
from rlkit.types import Metrics, Task


class LinearSarsa(LinearAgent):
    """Semi-gradient Sarsa (section 10.1)."""

    Config = LinearControlConfig

    def _build(self, config: LinearControlConfig, task: Task) -> Learner:
        return one_step(self._linear(config, task), SARSA, task.num_envs)


class LinearExpectedSarsa(LinearAgent):
    """Semi-gradient expected Sarsa: bootstraps with the mean over the actions that could be taken next."""

    Config = LinearControlConfig

    def _build(self, config: LinearControlConfig, task: Task) -> Learner:
        return one_step(self._linear(config, task), EXPECTED, task.num_envs)


class LinearNStepSarsaConfig(LinearControlConfig):
    """Options of n-step Sarsa."""

    n: int = Field(4, ge=1, le=10_000)
    """rewards in a return"""
    expected: bool = False
    """end the return with the mean over actions (n-step expected Sarsa)"""


class LinearNStepSarsa(LinearAgent):
    """Semi-gradient n-step Sarsa (section 10.2)."""

    Config = LinearNStepSarsaConfig

    def _build(self, config: LinearNStepSarsaConfig, task: Task) -> Learner:
        rule = N_STEP_EXPECTED if config.expected else N_STEP_SARSA
        return n_step(self._linear(config, task), rule, config.n, task.num_envs)


class LinearSarsaLambdaConfig(LinearControlConfig, TracesConfig):
    """Options of Sarsa(λ)."""

    clear_traces: bool = False
    """replacing traces: also clear the traces of the actions not taken (Singh and Sutton 1996)"""


class LinearSarsaLambda(LinearAgent):
    """Sarsa(λ) with accumulating, replacing or dutch traces, the last of which is true online Sarsa(λ) (12.7)."""

    Config: ClassVar[type[LinearSarsaLambdaConfig]] = LinearSarsaLambdaConfig

    def _build(self, config: LinearSarsaLambdaConfig, task: Task) -> Learner:
        kind = TRACE_KINDS.index(config.traces)
        clears = config.clear_traces and config.traces == "replacing"
        return eligibility(self._linear(config, task), kind, config.lam, task.num_envs, clears)


class LinearQLearningConfig(LinearControlConfig):
    """Options of Q-learning."""

    behaviour: str | None = None
    """policy to follow instead of the ε-greedy one: uniform, always-K, probabilities such as 0.25,0.75, …"""


class LinearQLearning(LinearAgent):
    """Semi-gradient Q-learning. Off-policy, bootstrapped and approximate at once, it may diverge (section 11.3)."""

    Config = LinearQLearningConfig

    def _build(self, config: LinearQLearningConfig, task: Task) -> Learner:
        name, observations = config.behaviour, self.observations
        followed = None if name is None else policy_rows(name, task, observations, config.gamma)
        return one_step(self._linear(config, task, policy=followed), Q_LEARNING, task.num_envs)


class DifferentialSarsaConfig(LinearControlConfig):
    """Options of differential Sarsa."""

    gamma: float = Field(1.0, ge=0.0, le=1.0)
    """discount; the average-reward setting has none, so 1"""
    average_learning_rate: float = Field(0.01, gt=0.0)
    """step size β of the average reward"""


class DifferentialSarsa(LinearAgent):
    """Sarsa for the average reward of a task without end (section 10.3): values are rewards above the average."""

    Config = DifferentialSarsaConfig

    def _build(self, config: DifferentialSarsaConfig, task: Task) -> Learner:
        return one_step(self._linear(config, task), DIFFERENTIAL, task.num_envs, config.average_learning_rate)

    def metrics(self) -> Metrics:
        """Also the average reward."""
        return {**super().metrics(), "train/average_reward": float(self.learner.average[0])}
