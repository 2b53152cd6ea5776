"""What linear prediction does in expectation, from a model: fixed points, best approximations, expected updates.

Sutton and Barto (2018), sections 9.2 to 9.4 and 11.2 to 11.8. Samples only add noise to these, which figures and tests
compare with. Updates use the rules of `rlkit.ops.gradient_td`, with the expectation of ρ, which is 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlkit.errors import ModelError
from rlkit.mdp import FiniteMDP, Floats64
from rlkit.ops.gradient_td import correction_error, tdc_amounts
from rlkit.types import Array


@dataclass(frozen=True)
class Problem:
    """A policy's values to be found with features.

    `features` [S, F]; `transition` [S, S] under the policy that is evaluated, only while the episode goes on; `reward`
    [S] expected; `gamma`; `distribution` [S] of the states where updates are made.
    """

    features: Floats64
    transition: Floats64
    reward: Floats64
    gamma: float
    distribution: Floats64

    def errors(self, weights: Floats64) -> Floats64:
        """Expected TD error δ̄(s) of every state, [S]."""
        values: Floats64 = self.features @ weights
        errors: Floats64 = self.reward + self.gamma * (self.transition @ values) - values
        return errors

    def fixed_point(self) -> Floats64:
        """Weights [F] at which TD(0) settles: A⁻¹ b with A = Xᵀ D (X - γ P X), b = Xᵀ D r, equation 9.12."""
        weighted = self.features.T * self.distribution
        matrix = weighted @ (self.features - self.gamma * self.transition @ self.features)
        solution: Floats64 = np.linalg.lstsq(matrix, weighted @ self.reward, rcond=None)[0].astype(np.float64)
        return solution

    def best(self, values: Floats64) -> Floats64:
        """Weights [F] of the least mean square error from `values` [S], at which gradient Monte Carlo settles."""
        root = np.sqrt(self.distribution)
        weighted = self.features * root[:, None]
        solution: Floats64 = np.linalg.lstsq(weighted, values * root, rcond=None)[0].astype(np.float64)
        return solution

    def rmse(self, weights: Floats64, values: Floats64) -> float:
        """Square root of the mean square value error, weighted by the distribution, equation 9.1."""
        return float(np.sqrt(self.distribution @ (self.features @ weights - values) ** 2))


def problem(
    model: FiniteMDP, features: Floats64, policy: Floats64, gamma: float, distribution: Floats64 | None = None
) -> Problem:
    """The problem of evaluating `policy` [S, A]; by default states count as often as it visits them."""
    transition = np.einsum("sa,sat->st", policy, model.transition_matrix(going_on=True))
    reward = (policy * model.expected_reward()).sum(axis=1)
    seen = on_policy_distribution(model, policy) if distribution is None else distribution
    return Problem(features, transition, reward, gamma, seen)


def on_policy_distribution(model: FiniteMDP, policy: Floats64) -> Floats64:
    """How often each state is seen, [S], of sum 1: in episodes that end (section 9.2), or else in the long run.

    Raises:
        ModelError: neither is well defined, because the policy gets stuck in several places.
    """
    going_on = np.einsum("sa,sat->st", policy, model.transition_matrix(going_on=True))
    states = model.num_states
    if np.einsum("sa,sat->st", policy, model.transition_matrix()).sum() - going_on.sum() < 1e-12:
        equations = np.vstack([going_on.T - np.eye(states), np.ones(states)])
        solved, _, rank, _ = np.linalg.lstsq(equations, np.append(np.zeros(states), 1.0), rcond=None)
        if rank < states:
            raise ModelError("under this policy the long-run distribution of states depends on the first state")
        distribution: Floats64 = solved
        return distribution
    visits = np.linalg.solve(np.eye(states) - going_on.T, model.start)
    visits[model.terminal_states()] = 0.0
    return visits / visits.sum()


def dynamic_programming_sweep(task: Problem, weights: Floats64, step_size: float) -> Floats64:
    """Weights after one sweep of semi-gradient dynamic programming, all states at once, equation 11.9."""
    change: Floats64 = (task.distribution * task.errors(weights)) @ task.features
    return weights + step_size * change


def tdc_sweep(task: Problem, weights: Floats64, second: Floats64, step_size: float, second_rate: float) -> None:
    """One sweep of expected TDC, state by state, in place: w and the second weights v (section 11.7)."""
    for state, features in enumerate(task.features):
        expected_next = task.transition[state] @ task.features
        error = float(task.reward[state] + task.gamma * expected_next @ weights - features @ weights)
        correction, often = float(second @ features), float(task.distribution[state])
        along, along_next = tdc_amounts(1.0, error, correction, task.gamma)
        weights += step_size * often * (along * features + along_next * expected_next)
        second += second_rate * often * correction_error(1.0, error, correction) * features


def emphatic_sweep(task: Problem, weights: Floats64, emphasis: Floats64, step_size: float) -> None:
    """One step of expected emphatic TD, all states at once, in place (section 11.8).

    `emphasis` [S] is how often a state is seen times its expected followon trace: f ← d + γ Pᵀ f.
    """
    emphasis[:] = task.distribution + task.gamma * task.transition.T @ emphasis
    change: Array = (emphasis * task.errors(weights)) @ task.features
    weights += step_size * change
