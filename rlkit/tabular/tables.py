"""What every tabular learner holds: values, visit counts, clocks, the policy it follows and the one it learns about.

A learner is a named tuple of arrays, so that Python and compiled code read the same memory. N rows are parallel
environments, S states, A actions; C columns are A for action values and 1 for state values. All functions here are
compiled, and take a state's index in the table.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlkit.mdp import Floats64, Integers
from rlkit.tabular.compiled import compiled
from rlkit.tabular.rules import drawn_action, expected_target, scheduled_epsilon, scheduled_step_size


class Exploration(NamedTuple):
    """ε of an ε-greedy policy; `kind` counts in `ops.schedules.EXPLORATION_KINDS`."""

    kind: int
    initial: float
    final: float
    horizon: float


class StepSize(NamedTuple):
    """α of the updates; `kind` counts in `ops.schedules.STEP_SIZE_KINDS`."""

    kind: int
    initial: float
    exponent: float
    horizon: float


class Tables(NamedTuple):
    """Common part of every learner.

    `values` [K, S, C]: K is 2 for double learning, whose acting values are the sum. `visits` [K·S, C] counts
    updates.
    `clock` [2]: env steps and finished episodes. `policy` [S, A] is what is followed and `target` [S, A] what is
    learned about; either has no rows where the ε-greedy policy of the values takes its place. With `greedy_target` the
    greedy policy of the values is learned about, whatever is followed.
    """

    values: Floats64
    visits: Integers
    clock: Integers
    policy: Floats64
    target: Floats64
    greedy_target: bool
    num_actions: int
    discount: float
    exploration: Exploration
    step_size: StepSize


@compiled
def epsilon_now(tables: Tables) -> float:
    """ε at this step."""
    plan = tables.exploration
    return scheduled_epsilon(plan.kind, plan.initial, plan.final, plan.horizon, tables.clock[0], tables.clock[1])


@compiled
def count_update(tables: Tables, table: int, state: int, column: int) -> float:
    """Count one update of an entry; its step size."""
    row = table * tables.values.shape[1] + state
    tables.visits[row, column] += 1
    plan = tables.step_size
    return scheduled_step_size(
        plan.kind, plan.initial, plan.exponent, plan.horizon, tables.visits[row, column], tables.clock[0]
    )


@compiled
def acting_value(tables: Tables, state: int, action: int) -> float:
    """What greediness compares: Q, or Q₁ + Q₂ in double learning."""
    value = tables.values[0, state, action]
    if tables.values.shape[0] == 2:
        value += tables.values[1, state, action]
    return value


@compiled
def best_value(tables: Tables, state: int) -> float:
    """Greatest acting value."""
    best = acting_value(tables, state, 0)
    for action in range(1, tables.num_actions):
        best = max(best, acting_value(tables, state, action))
    return best


@compiled
def count_ties(tables: Tables, state: int, best: float) -> int:
    """How many actions have the greatest acting value."""
    ties = 0
    for action in range(tables.num_actions):
        ties += acting_value(tables, state, action) == best
    return ties


@compiled
def greedy_choice(tables: Tables, state: int, rng: np.random.Generator) -> int:
    """A greedy action; among equals one drawn uniformly, so that no direction is preferred before anything is known."""
    best = best_value(tables, state)
    ties = count_ties(tables, state, best)
    nth = int(rng.random() * ties) if ties > 1 else 0
    for action in range(tables.num_actions):
        if acting_value(tables, state, action) == best:
            if nth == 0:
                return action
            nth -= 1
    return 0


@compiled
def choose_action(tables: Tables, state: int, rng: np.random.Generator) -> int:
    """An action of the followed policy: the given one, or ε-greedy."""
    if tables.policy.shape[0] > 0:
        return drawn_action(tables.policy[state], rng.random())
    if rng.random() < epsilon_now(tables):
        return int(rng.random() * tables.num_actions)
    return greedy_choice(tables, state, rng)


@compiled
def greedy_mix(tables: Tables, state: int, action: int, epsilon: float) -> float:
    """Probability of `action` under the ε-greedy policy of the values; equals share the greedy part."""
    best = best_value(tables, state)
    probability = epsilon / tables.num_actions
    if acting_value(tables, state, action) == best:
        probability += (1.0 - epsilon) / count_ties(tables, state, best)
    return probability


@compiled
def behaviour_probability(tables: Tables, state: int, action: int) -> float:
    """b(a | s) of the followed policy."""
    if tables.policy.shape[0] > 0:
        return tables.policy[state, action]
    return greedy_mix(tables, state, action, epsilon_now(tables))


@compiled
def target_probability(tables: Tables, state: int, action: int) -> float:
    """π(a | s) of the policy that is learned about."""
    if tables.target.shape[0] > 0:
        return tables.target[state, action]
    if tables.greedy_target:
        return greedy_mix(tables, state, action, 0.0)
    return behaviour_probability(tables, state, action)


@compiled
def expected_value(tables: Tables, table: int, state: int) -> float:
    """V(s), or Σ_a π(a | s) Q(s, a) under the policy that is learned about."""
    if tables.values.shape[2] == 1:
        return tables.values[table, state, 0]
    if tables.target.shape[0] > 0:
        return expected_target(0.0, 1.0, tables.target[state], tables.values[table, state])
    if tables.greedy_target:
        return _greedy_mix_value(tables, table, state, 0.0)
    if tables.policy.shape[0] > 0:
        return expected_target(0.0, 1.0, tables.policy[state], tables.values[table, state])
    return _greedy_mix_value(tables, table, state, epsilon_now(tables))


@compiled
def _greedy_mix_value(tables: Tables, table: int, state: int, epsilon: float) -> float:
    """Σ_a π(a | s) Q(s, a) of an ε-greedy policy, in one pass."""
    best = best_value(tables, state)
    total, greedy, ties = 0.0, 0.0, 0
    for action in range(tables.num_actions):
        value = tables.values[table, state, action]
        total += value
        if acting_value(tables, state, action) == best:
            greedy += value
            ties += 1
    return epsilon * total / tables.num_actions + (1.0 - epsilon) * greedy / ties


@compiled
def value_error(tables: Tables, reference: Floats64) -> float:
    """Root mean square of V(s), or max_a Q(s, a), minus `reference` [S], over states where that is not NaN."""
    total, count = 0.0, 0
    for state in range(len(reference)):
        if not np.isnan(reference[state]):
            value = best_value(tables, state) if tables.values.shape[2] > 1 else tables.values[0, state, 0]
            total += (value - reference[state]) ** 2
            count += 1
    return np.sqrt(total / max(count, 1))


@compiled
def count_step(tables: Tables, ended: bool) -> None:
    """Advance the clocks by one env step."""
    tables.clock[0] += 1
    tables.clock[1] += ended
