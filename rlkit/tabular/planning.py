"""Planning with a known model, compiled: sweeps of expected updates, and exact answers to compare with."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlkit.errors import ModelError
from rlkit.mdp import FiniteMDP, Floats64, Integers
from rlkit.ops import dp
from rlkit.tabular.compiled import compiled
from rlkit.tabular.streams import Stream, generator_of
from rlkit.types import Array

_action_value = compiled(dp.action_value)
MAX_SWEEPS = 1_000_000
_MAX_UPDATES = 1_000_000_000  # outcomes looked at for one exact answer: some seconds
_DENSE_STATES = 3_000


class Model(NamedTuple):
    """A FiniteMDP's arrays and the discount, as compiled code reads them."""

    first: Integers
    probability: Floats64
    next_state: Integers
    reward: Floats64
    terminated: Array
    discount: float
    num_actions: int


def model_of(mdp: FiniteMDP, gamma: float) -> Model:
    """The arrays of `mdp` with discount `gamma`."""
    return Model(mdp.first, mdp.probability, mdp.next_state, mdp.reward, mdp.terminated, gamma, mdp.num_actions)


@compiled
def expected_update(model: Model, values: Floats64, state: int, action: int) -> float:
    """q(s, a) of the values: one expected update."""
    return _action_value(
        model.first, model.probability, model.next_state, model.reward, model.terminated, values, model.discount,
        state * model.num_actions + action,
    )  # fmt: skip


@compiled
def greatest_update(model: Model, values: Floats64, state: int) -> float:
    """max_a q(s, a)."""
    best = expected_update(model, values, state, 0)
    for action in range(1, model.num_actions):
        best = max(best, expected_update(model, values, state, action))
    return best


@compiled
def policy_update(model: Model, values: Floats64, policy: Floats64, state: int) -> float:
    """Σ_a π(a | s) q(s, a); `policy` [S, A]."""
    total = 0.0
    for action in range(model.num_actions):
        if policy[state, action] > 0.0:
            total += policy[state, action] * expected_update(model, values, state, action)
    return total


@compiled
def optimality_sweep(model: Model, values: Floats64, out: Floats64) -> float:
    """Every state's greatest update of `values` into `out` (the same array: in place); the greatest change."""
    change = 0.0
    for state in range(len(values)):
        new = greatest_update(model, values, state)
        change = max(change, abs(new - values[state]))
        out[state] = new
    return change


@compiled
def policy_sweep(model: Model, values: Floats64, policy: Floats64, out: Floats64) -> float:
    """Every state's update under `policy` [S, A] into `out` (the same array: in place); the greatest change."""
    change = 0.0
    for state in range(len(values)):
        new = policy_update(model, values, policy, state)
        change = max(change, abs(new - values[state]))
        out[state] = new
    return change


@compiled
def all_action_values(model: Model, values: Floats64, out: Floats64) -> None:
    """Q [S, A] of the values [S]."""
    for state in range(out.shape[0]):
        for action in range(out.shape[1]):
            out[state, action] = expected_update(model, values, state, action)


def action_values(mdp: FiniteMDP, gamma: float, values: Floats64) -> Floats64:
    """q(s, a) = Σ p (r + γ v(s')) of state values [S], as [S, A]."""
    out = np.empty((mdp.num_states, mdp.num_actions))
    all_action_values(model_of(mdp, gamma), values, out)
    return out


def optimal_action_values(mdp: FiniteMDP, gamma: float, tolerance: float = 1e-12) -> Floats64:
    """q* [S, A] by value iteration in place, until no value changes by more than `tolerance`.

    Raises:
        ModelError: it does not settle, because γ is 1 and some policy collects reward for ever, or it takes too long.
    """
    model, values = model_of(mdp, gamma), np.zeros(mdp.num_states)
    for _ in range(min(MAX_SWEEPS, _MAX_UPDATES // len(mdp.probability))):
        change = optimality_sweep(model, values, values)
        if change <= tolerance * max(1.0, float(np.abs(values).max())):
            return action_values(mdp, gamma, values)
        if not np.isfinite(change) or np.abs(values).max() > 1e12:
            break
    raise ModelError("the optimal values do not settle in a few seconds; with gamma near 1 they may never: lower gamma")


def policy_values(mdp: FiniteMDP, gamma: float, policy: Floats64) -> Floats64:
    """v_π [S]: the solution of the Bellman equation (4.4) for the policy [S, A], by linear algebra.

    Raises:
        ModelError: γ is 1 and the policy never ends in some state.
    """
    from scipy.sparse import csr_matrix, identity
    from scipy.sparse.linalg import spsolve

    pairs = mdp.pair_of_outcome()
    weight = mdp.probability * policy.reshape(-1)[pairs]
    expected = np.bincount(pairs // mdp.num_actions, weights=weight * mdp.reward, minlength=mdp.num_states)
    going_on = np.where(mdp.terminated, 0.0, weight)
    shape = (mdp.num_states, mdp.num_states)
    matrix = csr_matrix((going_on, (pairs // mdp.num_actions, mdp.next_state)), shape=shape)
    if gamma == 1.0:
        _require_ending(matrix, mdp)
    system = identity(mdp.num_states, format="csc") - gamma * matrix.tocsc()
    if mdp.num_states <= _DENSE_STATES:
        solved: Floats64 = np.linalg.solve(system.toarray(), expected)
        return solved
    sparse: Floats64 = spsolve(system, expected)
    return sparse


def _require_ending(matrix: Array, mdp: FiniteMDP) -> None:
    """With γ = 1 every state must have a way to the end, or the linear system has no solution."""
    leaks = np.asarray(matrix.sum(axis=1)).ravel() < 1.0 - 1e-12
    reaching = leaks
    for _ in range(mdp.num_states):
        wider = reaching | (np.asarray(matrix @ reaching.astype(np.float64)).ravel() > 0.0)
        if (wider == reaching).all():
            break
        reaching = wider
    if not reaching.all():
        state = int(np.argmin(reaching))
        raise ModelError(f"with gamma 1 the policy never ends an episode from state {state}; use gamma below 1")


def greedy_probabilities(values: Floats64, tolerance: float = 1e-9) -> Floats64:
    """The greedy policy [S, A] of action values [S, A]; actions within `tolerance` of the best share it equally."""
    best = values.max(axis=1, keepdims=True)
    ties = values >= best - tolerance * np.maximum(1.0, np.abs(best))
    shared: Floats64 = ties / ties.sum(axis=1, keepdims=True)
    return shared


@compiled
def improve(model: Model, values: Floats64, chosen: Integers) -> int:
    """Let `chosen` int64 [S] be greedy; how many states changed. An action stays while no other is better."""
    changed = 0
    for state in range(len(values)):
        before = chosen[state]
        best = expected_update(model, values, state, before)
        margin = 1e-9 * max(1.0, abs(best))
        for action in range(model.num_actions):
            value = expected_update(model, values, state, action)
            if value > best + margin:
                best, chosen[state] = value, action
        changed += chosen[state] != before
    return changed


@compiled
def random_updates(model: Model, values: Floats64, stream: Stream, count: int) -> None:
    """`count` updates in place, of states drawn uniformly."""
    rng = generator_of(stream)
    for _ in range(count):
        state = int(rng.random() * len(values))
        values[state] = greatest_update(model, values, state)


class Sweeping(NamedTuple):
    """What prioritized sweeping keeps.

    `priority` float64 [S]: how much an update would change each value; `predecessor` int64 [K] lists the states that
    lead to s in the entries `first[s]` … `first[s + 1]`.
    """

    priority: Floats64
    first: Integers
    predecessor: Integers


def new_sweeping(mdp: FiniteMDP, model: Model, values: Floats64) -> Sweeping:
    """Priorities of the values, and who leads where."""
    edges = np.unique(np.stack([mdp.next_state, mdp.pair_of_outcome() // mdp.num_actions], axis=1), axis=0)
    first = np.searchsorted(edges[:, 0], np.arange(mdp.num_states + 1))
    out = np.empty_like(values)
    optimality_sweep(model, values, out)
    return Sweeping(np.abs(out - values), first.astype(np.int64), np.ascontiguousarray(edges[:, 1]))


@compiled
def prioritized_updates(model: Model, sweeping: Sweeping, values: Floats64, count: int, tolerance: float) -> float:
    """`count` updates in place, each of the state of greatest priority; the greatest priority that is left."""
    priority = sweeping.priority
    for _ in range(count):
        state = _greatest(priority)
        if priority[state] < tolerance:
            return priority[state]
        values[state] = greatest_update(model, values, state)
        priority[state] = 0.0
        for edge in range(sweeping.first[state], sweeping.first[state + 1]):
            other = sweeping.predecessor[edge]
            priority[other] = abs(greatest_update(model, values, other) - values[other])
    return priority[_greatest(priority)]


@compiled
def _greatest(priority: Floats64) -> int:
    best = 0
    for state in range(1, len(priority)):
        if priority[state] > priority[best]:
            best = state
    return best
