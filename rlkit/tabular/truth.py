"""How far a table is from the truth, where the model is known: value error, and what the greedy policy gives away."""

from __future__ import annotations

import logging
from typing import Protocol, runtime_checkable

import numpy as np

from rlkit.errors import ModelError
from rlkit.mdp import FiniteMDP, Floats64, Integers
from rlkit.tabular.planning import optimal_action_values, policy_values
from rlkit.types import Bools, Metrics

_LOG = logging.getLogger(__name__)
_SLOW = 100_000
"""Outcomes from which on exact values take noticeable time."""


@runtime_checkable
class ValueTable(Protocol):
    """An agent that holds a value for every state, discounted by the gamma of its options."""

    @property
    def gamma(self) -> float:
        """Discount γ."""

    def state_values(self) -> Floats64:
        """V(s) [S]."""

    def evaluated_policy(self) -> Floats64 | None:
        """The policy [S, A] whose values these are to be; None where they aim at the optimal ones."""

    def greedy_actions(self, states: Integers, rng: np.random.Generator) -> Integers:
        """What it would do in `states` without exploration, int64 [N] from 0."""


class Truth:
    """Compares value tables with the exact values of a model, which are computed at the first comparison."""

    def __init__(self, model: FiniteMDP, gamma: float) -> None:
        self._model = model
        self._gamma = gamma
        self._counted = reachable_states(model) & ~model.terminal_states()
        self._exact: Floats64 | None = None
        self._is_unknown = False

    def metrics(self, table: ValueTable) -> Metrics:
        """`eval/value_rmse`, over the states that can be reached and are not terminal; `eval/policy_gap` for control.

        The gap is how much discounted return, from the start states, the greedy policy gives away against the optimal
        one; it is left out where γ is 1 and the greedy policy never ends an episode.
        """
        if self._exact is None and not self._is_unknown:
            self._exact = self._exact_values(table.evaluated_policy())
        if self._exact is None:
            return {}
        errors = (table.state_values() - self._exact)[self._counted]
        metrics = {"eval/value_rmse": float(np.sqrt(np.mean(errors**2)))}
        if table.evaluated_policy() is None:
            gap = self._gap(table)
            metrics |= {} if gap is None else {"eval/policy_gap": gap}
        return metrics

    def _exact_values(self, policy: Floats64 | None) -> Floats64 | None:
        if len(self._model.probability) > _SLOW:
            _LOG.info("computing the true values once, to compare with; --eval-every 0 leaves that out")
        try:
            if policy is not None:
                return policy_values(self._model, self._gamma, policy)
            best: Floats64 = optimal_action_values(self._model, self._gamma).max(axis=1)
            return best
        except ModelError as error:
            _LOG.warning("the true values are not logged: %s", error)
            self._is_unknown = True
            return None

    def _gap(self, table: ValueTable) -> float | None:
        assert self._exact is not None
        actions = table.greedy_actions(np.arange(self._model.num_states), np.random.default_rng(0))
        try:
            values = policy_values(self._model, self._gamma, np.eye(self._model.num_actions)[actions])
        except ModelError:
            return None
        return float(self._model.start @ (self._exact - values))


def reachable_states(model: FiniteMDP) -> Bools:
    """States that some policy reaches from the start states, bool [S]."""
    reached = model.start > 0
    sources = model.pair_of_outcome() // model.num_actions
    possible = (model.probability > 0) & ~model.terminated
    while True:
        found = reached.copy()
        found[model.next_state[possible & reached[sources]]] = True
        if (found == reached).all():
            return found
        reached = found
