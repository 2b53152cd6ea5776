"""What every linear learner holds: weights, features, clocks, the policy it follows and the one it learns about.

The counterpart of `rlkit.tabular.tables`: a state is a slot that holds an encoded observation. C columns are A for
action values and 1 for state values, F features, K of them active. All functions here are compiled.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlkit.linear.features import Features, Slots, row_of_digits, slot_of_incoming, write_digits
from rlkit.linear.rules import sparse_add, sparse_add_rated, sparse_dot
from rlkit.mdp import Dynamics, Floats64, Integers
from rlkit.tabular.compiled import compiled, compiled_apart
from rlkit.tabular.handles import Handle
from rlkit.tabular.learner import Learner, Memory
from rlkit.tabular.rules import drawn_action, scheduled_epsilon, scheduled_step_size
from rlkit.tabular.stepping import EnvState
from rlkit.tabular.tables import Exploration, StepSize


class Linear(NamedTuple):
    """Common part of every linear learner.

    `weights` [C, F]; `rates` [F] factors of each weight's step size, or none; `clock` [2]: env steps and finished
    episodes; `updates` [1] how many. `policy` [P, A] is followed and `target` [P, A] learned about: P is the number of
    rows of a finite observation space, or 1 for a policy that is the same everywhere, or 0 where the ε-greedy policy of
    the values takes its place. `step_size` is divided by the active features of binary codes already. `encoder` points
    to the features and slots beside it.
    """

    weights: Floats64
    rates: Floats64
    clock: Integers
    updates: Integers
    policy: Floats64
    target: Floats64
    num_actions: int
    discount: float
    exploration: Exploration
    step_size: StepSize
    features: Features
    scratch: Slots
    encoder: Handle


@compiled
def _slot_of_env(learner: Learner, dynamics: Dynamics, env: EnvState, row: int, kept: int) -> int:
    linear = learner.linear
    incoming = linear.scratch.incoming
    if len(env.observation) > 0:
        for i in range(len(incoming)):
            incoming[i] = env.observation[i]
        return slot_of_incoming(linear.encoder, row, 0, kept)
    write_digits(linear.features, env.position[1], incoming)
    return slot_of_incoming(linear.encoder, row, env.position[1], kept)


@compiled
def _slot_of_given(learner: Learner, observations: Floats64, row: int, kept: int) -> int:
    linear = learner.linear
    state = row_of_digits(linear.features, observations[row])
    if state < 0:
        return -1
    for i in range(len(linear.scratch.incoming)):
        linear.scratch.incoming[i] = observations[row, i]
    return slot_of_incoming(linear.encoder, row, state, kept)


@compiled
def _count(learner: Learner, ended: bool) -> None:
    learner.linear.clock[0] += 1
    learner.linear.clock[1] += ended


@compiled_apart
def error(learner: Learner, reference: Floats64) -> float:
    """Root mean square error of the values over finitely many observations."""
    linear = learner.linear
    total, counted = 0.0, 0
    for state in range(len(reference)):
        if not np.isnan(reference[state]):
            total += (state_value(linear, slot_of_row(linear, state)) - reference[state]) ** 2
            counted += 1
    return np.sqrt(total / max(counted, 1))


WEIGHTS = Memory(_slot_of_env, _slot_of_given, _count, error)
"""For learners with a `linear` field: a state is a slot."""


@compiled
def slot_of_row(linear: Linear, state: int) -> int:
    """The slot that encodes row `state` of a finite observation space: one of the spare pair."""
    write_digits(linear.features, state, linear.scratch.incoming)
    return slot_of_incoming(linear.encoder, -1, state, -1)


@compiled
def value(linear: Linear, column: int, slot: int) -> float:
    """w_column · x."""
    return sparse_dot(linear.weights[column], linear.scratch.indices[slot], linear.scratch.values[slot])


@compiled
def state_value(linear: Linear, slot: int) -> float:
    """V(s), or max_a Q(s, a)."""
    best = value(linear, 0, slot)
    for column in range(1, linear.weights.shape[0]):
        best = max(best, value(linear, column, slot))
    return best


@compiled
def add(linear: Linear, column: int, indices: Integers, values: Floats64, amount: float) -> None:
    """w_column ← w_column + amount x, each weight at its own rate, where there are rates."""
    if len(linear.rates) > 0:
        sparse_add_rated(linear.weights[column], indices, values, amount, linear.rates)
    else:
        sparse_add(linear.weights[column], indices, values, amount)


@compiled
def move(linear: Linear, column: int, slot: int, amount: float) -> None:
    """Move the value of `column` in a slot along its gradient."""
    add(linear, column, linear.scratch.indices[slot], linear.scratch.values[slot], amount)


@compiled
def epsilon_now(linear: Linear) -> float:
    """ε at this step."""
    plan, clock = linear.exploration, linear.clock
    return scheduled_epsilon(plan.kind, plan.initial, plan.final, plan.horizon, clock[0], clock[1])


@compiled
def count_update(linear: Linear) -> float:
    """Count one update; its step size."""
    linear.updates[0] += 1
    plan = linear.step_size
    size = scheduled_step_size(plan.kind, 1.0, plan.exponent, plan.horizon, linear.updates[0], linear.clock[0])
    return plan.initial * size


@compiled
def fill_action_values(linear: Linear, slot: int) -> float:
    """Q(s, ·) into `scratch.action_values`; the greatest of them."""
    found = linear.scratch.action_values
    best = value(linear, 0, slot)
    found[0] = best
    for action in range(1, linear.num_actions):
        found[action] = value(linear, action, slot)
        best = max(best, found[action])
    return best


@compiled
def _count_ties(linear: Linear, best: float) -> int:
    ties = 0
    for action in range(linear.num_actions):
        ties += linear.scratch.action_values[action] == best
    return ties


@compiled
def greedy_choice(linear: Linear, slot: int, rng: np.random.Generator) -> int:
    """A greedy action; among equals one drawn uniformly."""
    best = fill_action_values(linear, slot)
    ties = _count_ties(linear, best)
    nth = int(rng.random() * ties) if ties > 1 else 0
    for action in range(linear.num_actions):
        if linear.scratch.action_values[action] == best:
            if nth == 0:
                return action
            nth -= 1
    return 0


@compiled
def policy_row(linear: Linear, policy: Floats64, slot: int) -> int:
    """Which row of a policy [P, A] holds in a slot."""
    return linear.scratch.rows[slot] if policy.shape[0] > 1 else 0


@compiled
def choose_action(linear: Linear, slot: int, rng: np.random.Generator) -> int:
    """An action of the followed policy: the given one, or ε-greedy."""
    if linear.policy.shape[0] > 0:
        return drawn_action(linear.policy[policy_row(linear, linear.policy, slot)], rng.random())
    if rng.random() < epsilon_now(linear):
        return int(rng.random() * linear.num_actions)
    return greedy_choice(linear, slot, rng)


@compiled
def best_action(linear: Linear, slot: int) -> int:
    """The first of the greedy actions."""
    best = fill_action_values(linear, slot)
    for action in range(linear.num_actions):
        if linear.scratch.action_values[action] == best:
            return action
    return 0


@compiled
def behaviour_probability(linear: Linear, slot: int, action: int) -> float:
    """b(a | s) of a given followed policy."""
    return linear.policy[policy_row(linear, linear.policy, slot), action]


@compiled
def target_probability(linear: Linear, slot: int, action: int) -> float:
    """π(a | s) of the policy that is learned about, the followed one where no other is given."""
    if linear.target.shape[0] > 0:
        return linear.target[policy_row(linear, linear.target, slot), action]
    return behaviour_probability(linear, slot, action)


@compiled
def expected_value(linear: Linear, slot: int) -> float:
    """V(s), or Σ_a π(a | s) Q(s, a) under the followed policy; equally good actions share its greedy part."""
    if linear.weights.shape[0] == 1:
        return value(linear, 0, slot)
    best = fill_action_values(linear, slot)
    found = linear.scratch.action_values
    if linear.policy.shape[0] > 0:
        row, expected = policy_row(linear, linear.policy, slot), 0.0
        for action in range(linear.num_actions):
            expected += linear.policy[row, action] * found[action]
        return expected
    total, greedy, ties, epsilon = 0.0, 0.0, 0, epsilon_now(linear)
    for action in range(linear.num_actions):
        total += found[action]
        if found[action] == best:
            greedy += found[action]
            ties += 1
    if ties == 0:
        return best  # NaN: the run stops with the metric's name
    return epsilon * total / linear.num_actions + (1.0 - epsilon) * greedy / ties


@compiled
def keep(linear: Linear, slot: int, place: int, kept_indices: Integers, kept_values: Floats64) -> None:
    """Copy a slot's code to row `place` of arrays [M, K], because slots do not outlive the next step."""
    for k in range(linear.scratch.indices.shape[1]):
        kept_indices[place, k] = linear.scratch.indices[slot, k]
        kept_values[place, k] = linear.scratch.values[slot, k]
