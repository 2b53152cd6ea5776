"""Least squares: LSTD(λ) for prediction, LSPI for control.

LSTD (Bradtke and Barto 1996; Boyan 2002; Sutton and Barto 2018, section 9.8) sums A = Σ z (x - γ x')ᵀ and b = Σ z R,
and solves (A + ridge · I) w = b when values are asked for. LSPI (Lagoudakis and Parr 2003) keeps samples, and now and
then iterates: values of the greedy policy by LSTD over all of them, then the policy that is greedy for these.

Deviation: `ridge` is added to the diagonal, so that there is a solution before every feature has been seen.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlkit.data.memory import check_budget
from rlkit.linear.features import slot_of_incoming
from rlkit.linear.rules import solve_in_place
from rlkit.linear.weights import WEIGHTS, Linear, best_action, choose_action, count_update
from rlkit.linear.weights import error as error_of_weights
from rlkit.mdp import Floats64, Integers
from rlkit.tabular.compiled import compiled, compiled_apart
from rlkit.tabular.learner import OK, family, no_start


class LeastSquares(NamedTuple):
    """Sums of LSTD(λ).

    `matrix` [F, F] is A, `vector` [F] is b, `trace` [N, F] is z; `scratch_transition` int64 [N, 4]: slot, next slot,
    terminated, ended; `reward` [N]; `scratch` [F, F] what solving uses up.
    """

    linear: Linear
    lam: float
    ridge: float
    matrix: Floats64
    vector: Floats64
    trace: Floats64
    scratch_transition: Integers
    reward: Floats64
    scratch: Floats64


def least_squares(linear: Linear, lam: float, ridge: float, num_envs: int) -> LeastSquares:
    """A learner of the state values of the policy that `linear` follows."""
    size = linear.weights.shape[1]
    return LeastSquares(
        linear, lam, ridge, np.zeros((size, size)), np.zeros(size), np.zeros((num_envs, size)),
        np.zeros((num_envs, 4), np.int64), np.zeros(num_envs), np.zeros((size, size)),
    )  # fmt: skip


@compiled
def _choose(learner: LeastSquares, state: int, is_first: bool, rng: np.random.Generator) -> int:
    return choose_action(learner.linear, state, rng)


@compiled
def _store(
    learner: LeastSquares,
    row: int,
    state: int,
    action: int,
    reward: float,
    next_state: int,
    terminated: bool,
    ended: bool,
) -> None:
    stored = learner.scratch_transition
    stored[row, 0], stored[row, 1], stored[row, 2], stored[row, 3] = state, next_state, terminated, ended
    learner.reward[row] = reward


@compiled
def _learn(learner: LeastSquares, row: int, rng: np.random.Generator) -> int:
    linear, stored, trace = learner.linear, learner.scratch_transition, learner.trace[row]
    slots, slot = linear.scratch, stored[row, 0]
    discount = 0.0 if stored[row, 2] == 1 else linear.discount
    for k in range(slots.indices.shape[1]):
        trace[slots.indices[slot, k]] += slots.values[slot, k]
    for i in range(len(trace)):
        if trace[i] != 0.0:
            learner.vector[i] += trace[i] * learner.reward[row]
            _add_row(learner.matrix[i], slots.indices[slot], slots.values[slot], trace[i])
            _add_row(
                learner.matrix[i], slots.indices[stored[row, 1]], slots.values[stored[row, 1]], -discount * trace[i]
            )
            trace[i] *= 0.0 if stored[row, 3] == 1 else linear.discount * learner.lam
    count_update(linear)
    return OK


@compiled
def _add_row(row_of_matrix: Floats64, indices: Integers, values: Floats64, amount: float) -> None:
    for k in range(len(indices)):
        row_of_matrix[indices[k]] += amount * values[k]


@compiled_apart
def solve(learner: LeastSquares) -> None:
    """Weights from the sums so far; they stay as they are where there is no solution."""
    weights, matrix = learner.linear.weights[0], learner.scratch
    for i in range(len(weights)):
        for j in range(len(weights)):
            matrix[i, j] = learner.matrix[i, j]
        matrix[i, i] += learner.ridge
        weights[i] = learner.vector[i]
    solve_in_place(matrix, weights)


@compiled_apart
def _error(learner: LeastSquares, reference: Floats64) -> float:
    solve(learner)
    return error_of_weights(learner, reference)


family(
    LeastSquares, choose=_choose, store=_store, learn=_learn, next_start=no_start,
    memory=WEIGHTS._replace(error=_error),
)  # fmt: skip


class PolicyIteration(NamedTuple):
    """Samples of LSPI, the newest M of them, and how often it iterates.

    `observations`, `next_observations` [M, O]; `rows` int64 [M, 4]: row, next row, action, terminated; `rewards` [M];
    `progress` int64 [2]: samples seen, iterations of the last improvement; `scratch` [A·F, A·F + 1]: the system that is
    solved, its right side in the last column.
    """

    linear: Linear
    every: int
    iterations: int
    tolerance: float
    ridge: float
    observations: Floats64
    next_observations: Floats64
    rows: Integers
    rewards: Floats64
    progress: Integers
    scratch: Floats64


def policy_iteration(
    linear: Linear, *, every: int, iterations: int, tolerance: float, ridge: float, capacity: int
) -> PolicyIteration:
    """A learner that improves its policy `every` env steps, by at most `iterations`, from `capacity` samples.

    Raises:
        MemoryBudgetError: the samples do not fit into memory.
    """
    shape, size = (capacity, len(linear.features.low)), linear.weights.size
    check_budget(
        f"memory of {capacity:,} samples", 8 * capacity * (2 * shape[1] + 5), "Use a smaller --agent.capacity."
    )
    return PolicyIteration(
        linear, every, iterations, tolerance, ridge, np.zeros(shape), np.zeros(shape),
        np.zeros((capacity, 4), np.int64), np.zeros(capacity), np.zeros(2, np.int64), np.zeros((size, size + 1)),
    )  # fmt: skip


@compiled
def _choose_sample(learner: PolicyIteration, state: int, is_first: bool, rng: np.random.Generator) -> int:
    return choose_action(learner.linear, state, rng)


@compiled
def _store_sample(
    learner: PolicyIteration,
    row: int,
    state: int,
    action: int,
    reward: float,
    next_state: int,
    terminated: bool,
    ended: bool,
) -> None:
    slots, place = learner.linear.scratch, learner.progress[0] % len(learner.rewards)
    for i in range(slots.observations.shape[1]):
        learner.observations[place, i] = slots.observations[state, i]
        learner.next_observations[place, i] = slots.observations[next_state, i]
    rows = learner.rows
    rows[place, 0], rows[place, 1], rows[place, 2], rows[place, 3] = (
        slots.rows[state], slots.rows[next_state], action, terminated,
    )  # fmt: skip
    learner.rewards[place] = reward
    learner.progress[0] += 1


@compiled
def _learn_samples(learner: PolicyIteration, row: int, rng: np.random.Generator) -> int:
    if (learner.linear.clock[0] + 1) % learner.every == 0:
        learner.progress[1] = 0
        for _ in range(learner.iterations):
            learner.progress[1] += 1
            _sum_samples(learner)
            if _solved_change(learner) <= learner.tolerance:
                break
        count_update(learner.linear)
    return OK


@compiled_apart
def _sum_samples(learner: PolicyIteration) -> None:
    """The system of the greedy policy's values, from all samples."""
    linear, system, slots = learner.linear, learner.scratch, learner.linear.scratch
    size = linear.weights.shape[1]
    for i in range(system.shape[0]):
        for j in range(system.shape[1]):
            system[i, j] = 0.0
        system[i, i] = learner.ridge
    for sample in range(min(learner.progress[0], len(learner.rewards))):
        rows = learner.rows[sample]
        slot = _slot_of(linear, learner.observations[sample], rows[0], -1)
        next_slot = _slot_of(linear, learner.next_observations[sample], rows[1], slot)
        own, following = rows[2] * size, best_action(linear, next_slot) * size
        discount = 0.0 if rows[3] == 1 else linear.discount
        for k in range(slots.indices.shape[1]):
            line, amount = system[own + slots.indices[slot, k]], slots.values[slot, k]
            if amount == 0.0:
                continue
            for j in range(slots.indices.shape[1]):
                line[own + slots.indices[slot, j]] += amount * slots.values[slot, j]
                line[following + slots.indices[next_slot, j]] -= discount * amount * slots.values[next_slot, j]
            line[system.shape[0]] += amount * learner.rewards[sample]


@compiled
def _slot_of(linear: Linear, observation: Floats64, row: int, kept: int) -> int:
    for i in range(len(observation)):
        linear.scratch.incoming[i] = observation[i]
    return slot_of_incoming(linear.encoder, -1, row, kept)


@compiled_apart
def _solved_change(learner: PolicyIteration) -> float:
    """New weights; the greatest change of one. They stay as they are where there is no solution."""
    linear, system = learner.linear, learner.scratch
    size, change = linear.weights.shape[1], 0.0
    if not solve_in_place(system[:, : system.shape[0]], system[:, system.shape[0]]):
        return 0.0
    for i in range(system.shape[0]):
        column, feature = i // size, i % size
        change = max(change, abs(system[i, system.shape[0]] - linear.weights[column, feature]))
        linear.weights[column, feature] = system[i, system.shape[0]]
    return change


family(PolicyIteration, choose=_choose_sample, store=_store_sample, learn=_learn_samples, next_start=no_start,
       memory=WEIGHTS)  # fmt: skip
