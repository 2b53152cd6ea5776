"""Prediction with linear state values: gradient Monte Carlo, semi-gradient TD, and TD that is safe off-policy.

Sutton and Barto (2018), chapters 9, 11 and 12; features are `rlkit.linear.features`. Loops: `rlkit.linear.episodes`,
`rlkit.linear.one_step`, `rlkit.linear.n_step`, `rlkit.linear.eligibility` and `rlkit.linear.gradient_td`.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from rlkit.linear.agent import LinearPrediction
from rlkit.linear.eligibility import TRACE_KINDS, eligibility
from rlkit.linear.episodes import TRUNCATIONS, episodes
from rlkit.linear.gradient_td import EMPHATIC, GTD2, TDC, gradient_td
from rlkit.linear.n_step import EXPECTED as N_STEP_EXPECTED
from rlkit.linear.n_step import n_step
from rlkit.linear.one_step import EXPECTED, one_step
from rlkit.linear.options import LinearPredictionConfig, TracesConfig, step_size
from rlkit.tabular.learner import Learner
from rlkit.types import Task


class GradientMCConfig(LinearPredictionConfig):
    """Options of gradient Monte Carlo."""

    max_episode_steps: int = Field(10_000, ge=1, le=10_000_000)
    """longest episode; a longer one is an error, because nothing can be learned before it ends"""
    on_truncation: Literal["bootstrap", "end", "drop"] = "bootstrap"
    """an episode cut by a time limit: go on with the agent's own value, take it as ended there, or leave it out"""


class GradientMC(LinearPrediction):
    """Gradient Monte Carlo: values move towards the returns of whole episodes (section 9.3)."""

    Config: ClassVar[Any] = GradientMCConfig

    def _build(self, config: GradientMCConfig, task: Task) -> Learner:
        longest = config.max_episode_steps if task.total_steps else 1
        kind = TRUNCATIONS.index(config.on_truncation)
        return episodes(self._predicted(config, task), kind, task.num_envs, longest)


class LinearTD(LinearPrediction):
    """Semi-gradient TD(0) (section 9.3)."""

    Config: ClassVar[Any] = LinearPredictionConfig

    def _build(self, config: LinearPredictionConfig, task: Task) -> Learner:
        return one_step(self._predicted(config, task), EXPECTED, task.num_envs)


class LinearNStepTDConfig(LinearPredictionConfig):
    """Options of n-step TD."""

    n: int = Field(4, ge=1, le=10_000)
    """rewards in a return"""


class LinearNStepTD(LinearPrediction):
    """Semi-gradient n-step TD (section 9.4)."""

    Config: ClassVar[Any] = LinearNStepTDConfig

    def _build(self, config: LinearNStepTDConfig, task: Task) -> Learner:
        return n_step(self._predicted(config, task), N_STEP_EXPECTED, config.n, task.num_envs)


class LinearTDLambdaConfig(LinearPredictionConfig, TracesConfig):
    """Options of TD(λ)."""


class LinearTDLambda(LinearPrediction):
    """TD(λ) with accumulating, replacing or dutch traces, the last of which is true online TD(λ) (12.2 and 12.5)."""

    Config: ClassVar[Any] = LinearTDLambdaConfig

    def _build(self, config: LinearTDLambdaConfig, task: Task) -> Learner:
        kind = TRACE_KINDS.index(config.traces)
        return eligibility(self._predicted(config, task), kind, config.lam, task.num_envs)


class OffPolicyConfig(LinearPredictionConfig):
    """Options of off-policy prediction."""

    behaviour: str = "uniform"
    """policy that is followed, named like `policy`, which is evaluated"""


class GradientTDConfig(OffPolicyConfig):
    """Options of TDC and GTD2."""

    second_learning_rate: float | None = Field(None, gt=0.0)
    """step size β of the second weights, with the same rules and default as the learning rate"""


class _GradientTD(LinearPrediction):
    """Two weight vectors, by a rule of `rlkit.linear.gradient_td`."""

    Config: ClassVar[Any] = GradientTDConfig
    rule: int

    def _build(self, config: GradientTDConfig, task: Task) -> Learner:
        linear = self._predicted(config, task, followed=config.behaviour)
        second = step_size(config.second_learning_rate, linear.features, linear.rates)
        return gradient_td(linear, self.rule, second, task.num_envs)


class LinearTDC(_GradientTD):
    """TD with gradient correction, also called GTD(0) (section 11.7)."""

    rule = TDC


class LinearGTD2(_GradientTD):
    """GTD2 (section 11.7)."""

    rule = GTD2


class EmphaticTDConfig(OffPolicyConfig):
    """Options of emphatic TD."""

    interest: float = Field(1.0, gt=0.0)
    """interest I of every state"""


class EmphaticTD(LinearPrediction):
    """One-step emphatic TD (section 11.8)."""

    Config: ClassVar[Any] = EmphaticTDConfig

    def _build(self, config: EmphaticTDConfig, task: Task) -> Learner:
        linear = self._predicted(config, task, followed=config.behaviour)
        return gradient_td(linear, EMPHATIC, 0.0, task.num_envs, config.interest)
