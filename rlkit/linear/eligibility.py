"""Methods with eligibility traces: TD(λ) and Sarsa(λ), accumulating, replacing, or true online with dutch traces.

Sutton and Barto (2018), sections 12.2, 12.5 and 12.7; van Seijen et al. (2016). A trace is a vector z beside the
weights. Replacing traces are for binary features: the trace of an active feature becomes 1 (section 12.5), and those of
the other actions there may be cleared (Singh and Sutton 1996).

Traces are kept divided by a common scale, which alone decays in a step: writing all of them took half of its time.
Deviation of rounding only: now and then they are multiplied out, and those below 1e-16 dropped. Few weights are gone
through in order, which processors do fast; of many weights only those with a trace, by a list.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlkit.data.memory import check_budget
from rlkit.linear.rules import sparse_dot
from rlkit.linear.weights import WEIGHTS, Linear, add, choose_action, count_update, expected_value, keep, value
from rlkit.mdp import Floats64, Integers
from rlkit.tabular.arrays import aligned_zeros
from rlkit.tabular.compiled import compiled
from rlkit.tabular.learner import OK, family, no_start
from rlkit.tabular.rules import accumulating_trace, bootstrap_target, replacing_trace

TRACE_KINDS = ("accumulating", "replacing", "dutch")
_ACCUMULATING, _REPLACING, _DUTCH = 0, 1, 2
_NOTHING = 1e-16
_SMALLEST_SCALE = 1e-8
"""Below it traces are multiplied out."""
_FEW_WEIGHTS = 4096
"""Up to so many, or where all features are active at a time, all traces are gone through in order (measured)."""


class LinearEligibility(NamedTuple):
    """Traces of each environment.

    The traces are `scale` [N] times `trace` [N, C, F]; `active` int64 [N, C·F, 2] lists the columns and features with
    a trace, `active_count` int64 [N] says how many (neither is used where `in_order`); `pending` int64 [N, 4]: whether
    a transition awaits its update, its action, terminated, ended; `scratch_arrived` int64 [N, 5] the newest: slot,
    action, next slot, terminated, ended; `rewards` [N, 2] of both; `pending_indices` int64, `pending_values` [N, K] the
    code of the pending state; `old_value` [N] for dutch traces.
    """

    linear: Linear
    kind: int
    lam: float
    clears: bool
    in_order: bool
    scale: Floats64
    trace: Floats64
    active: Integers
    active_count: Integers
    pending: Integers
    scratch_arrived: Integers
    rewards: Floats64
    pending_indices: Integers
    pending_values: Floats64
    old_value: Floats64


def eligibility(linear: Linear, kind: int, lam: float, num_envs: int, clears: bool = False) -> LinearEligibility:
    """A learner with traces of `kind` (its number in TRACE_KINDS); `clears` the other actions' replacing traces.

    Raises:
        MemoryBudgetError: the traces do not fit into memory.
    """
    columns, size = linear.weights.shape
    code = (num_envs, linear.features.active)
    in_order = columns * size <= _FEW_WEIGHTS or linear.features.active == size
    listed = 0 if in_order else columns * size
    remedy = "Use fewer features or environments, or a method without traces."
    check_budget("memory of eligibility traces", 8 * num_envs * (columns * size + 2 * listed), remedy)
    return LinearEligibility(
        linear, kind, lam, clears, in_order, np.ones(num_envs), aligned_zeros((num_envs, columns, size)),
        np.zeros((num_envs, listed, 2), np.int64),
        np.zeros(num_envs, np.int64), np.zeros((num_envs, 4), np.int64), np.zeros((num_envs, 5), np.int64),
        np.zeros((num_envs, 2)), np.zeros(code, np.int64), np.zeros(code), np.zeros(num_envs),
    )  # fmt: skip


@compiled
def _choose(learner: LinearEligibility, state: int, is_first: bool, rng: np.random.Generator) -> int:
    return choose_action(learner.linear, state, rng)


@compiled
def _store(
    learner: LinearEligibility,
    row: int,
    state: int,
    action: int,
    reward: float,
    next_state: int,
    terminated: bool,
    ended: bool,
) -> None:
    arrived = learner.scratch_arrived
    arrived[row, 0], arrived[row, 1], arrived[row, 2] = state, action, next_state
    arrived[row, 3], arrived[row, 4] = terminated, ended
    learner.rewards[row, 1] = reward


@compiled
def _learn(learner: LinearEligibility, row: int, rng: np.random.Generator) -> int:
    linear, arrived, pending = learner.linear, learner.scratch_arrived, learner.pending
    control = linear.weights.shape[0] > 1
    slot = arrived[row, 0]
    if pending[row, 0] == 1:
        _update(learner, row, value(linear, arrived[row, 1], slot))
    pending[row, 0], pending[row, 1] = 1, arrived[row, 1]
    pending[row, 2], pending[row, 3] = arrived[row, 3], arrived[row, 4]
    learner.rewards[row, 0] = learner.rewards[row, 1]
    keep(linear, slot, row, learner.pending_indices, learner.pending_values)
    ended = arrived[row, 4] == 1
    if ended or not control:
        _update(learner, row, expected_value(linear, arrived[row, 2]))
    if ended:
        _forget(learner, row)
        learner.old_value[row] = 0.0
    return OK


@compiled
def _forget(learner: LinearEligibility, row: int) -> None:
    trace, active = learner.trace[row], learner.active[row]
    if learner.in_order:
        for column in range(trace.shape[0]):
            for feature in range(trace.shape[1]):
                trace[column, feature] = 0.0
    for i in range(learner.active_count[row]):
        trace[active[i, 0], active[i, 1]] = 0.0
    learner.active_count[row] = 0
    learner.scale[row] = 1.0


@compiled
def _update(learner: LinearEligibility, row: int, next_value: float) -> None:
    """Update by the pending transition; `next_value` is what it bootstraps with, unless it terminated."""
    linear, pending = learner.linear, learner.pending
    column = pending[row, 1] if linear.weights.shape[0] > 1 else 0
    indices, values = learner.pending_indices[row], learner.pending_values[row]
    next_value = 0.0 if pending[row, 2] == 1 else next_value
    own = sparse_dot(linear.weights[column], indices, values)
    error = bootstrap_target(learner.rewards[row, 0], linear.discount, next_value) - own
    step_size = count_update(linear)
    _mark(learner, row, column, step_size)
    correction = own - learner.old_value[row] if learner.kind == _DUTCH else 0.0
    amount = step_size * (error + correction) * learner.scale[row]
    if learner.in_order:
        _add_all_traces(learner, row, amount)
    else:
        _add_listed_traces(learner, row, amount)
    _decay(learner, row)
    if learner.kind == _DUTCH:
        add(linear, column, indices, values, -step_size * correction)
    learner.old_value[row] = next_value
    pending[row, 0] = 0


@compiled
def _mark(learner: LinearEligibility, row: int, column: int, step_size: float) -> None:
    """Raise the traces of the features just active, which have decayed by γλ already.

    Dutch traces: z ← z + (1 - z · (α ∘ x)) x, equation 12.11 with a step size for each weight.
    """
    indices, values = learner.pending_indices[row], learner.pending_values[row]
    trace, rates, scale = learner.trace[row], learner.linear.rates, learner.scale[row]
    raised = 1.0
    if learner.kind == _DUTCH:
        for k in range(len(indices)):
            rate = rates[indices[k]] if len(rates) > 0 else 1.0
            raised -= step_size * rate * scale * trace[column, indices[k]] * values[k]
    for k in range(len(indices)):
        feature = indices[k]
        if values[k] == 0.0:
            continue
        if not learner.in_order and trace[column, feature] == 0.0:
            entry = learner.active_count[row]
            learner.active[row, entry, 0], learner.active[row, entry, 1] = column, feature
            learner.active_count[row] += 1
        if learner.kind == _ACCUMULATING:
            trace[column, feature] += accumulating_trace(0.0) * values[k] / scale
        elif learner.kind == _REPLACING:
            trace[column, feature] = replacing_trace(0.0) * values[k] / scale
        else:
            trace[column, feature] += raised * values[k] / scale
    if learner.clears:
        for other in range(len(trace)):
            for k in range(len(indices)):
                if other != column:
                    trace[other, indices[k]] = 0.0


@compiled
def _add_all_traces(learner: LinearEligibility, row: int, amount: float) -> None:
    """Add amount · trace to the weights, in their order."""
    linear = learner.linear
    for column in range(linear.weights.shape[0]):
        weights, trace = linear.weights[column], learner.trace[row, column]
        if len(linear.rates) > 0:
            for i in range(len(weights)):
                weights[i] += amount * linear.rates[i] * trace[i]
        else:
            for i in range(len(weights)):
                weights[i] += amount * trace[i]


@compiled
def _add_listed_traces(learner: LinearEligibility, row: int, amount: float) -> None:
    """The same for the weights of the list, which those whose trace was cleared leave."""
    linear, trace, active, kept = learner.linear, learner.trace[row], learner.active[row], 0
    for i in range(learner.active_count[row]):
        column, feature = active[i, 0], active[i, 1]
        rate = linear.rates[feature] if len(linear.rates) > 0 else 1.0
        linear.weights[column, feature] += amount * rate * trace[column, feature]
        active[kept, 0], active[kept, 1] = column, feature
        kept += trace[column, feature] != 0.0
    learner.active_count[row] = kept


@compiled
def _decay(learner: LinearEligibility, row: int) -> None:
    """Let all traces decay by γλ."""
    learner.scale[row] *= learner.linear.discount * learner.lam
    if learner.scale[row] < _SMALLEST_SCALE:
        _multiply_out(learner, row)


@compiled
def _multiply_out(learner: LinearEligibility, row: int) -> None:
    """Go on with a scale of 1, without the traces that have become nothing."""
    trace, active, scale = learner.trace[row], learner.active[row], learner.scale[row]
    if learner.in_order:
        for column in range(trace.shape[0]):
            for feature in range(trace.shape[1]):
                trace[column, feature] = _kept(trace[column, feature] * scale)
    kept = 0
    for i in range(learner.active_count[row]):
        column, feature = active[i, 0], active[i, 1]
        trace[column, feature] = _kept(trace[column, feature] * scale)
        active[kept, 0], active[kept, 1] = column, feature
        kept += trace[column, feature] != 0.0
    learner.active_count[row] = kept
    learner.scale[row] = 1.0


@compiled
def _kept(trace: float) -> float:
    return trace if abs(trace) >= _NOTHING else 0.0


family(LinearEligibility, choose=_choose, store=_store, learn=_learn, next_start=no_start, memory=WEIGHTS)
