"""Finite Markov decision processes as arrays: what planners read; and all that the compiled engine steps.

Sparse, because real tables are: the racetrack has 10⁴ states and 9 actions, but two outcomes for each pair.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from rlkit.errors import ModelError

Floats64: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]
Outcome: TypeAlias = tuple[float, int, float, bool]
"""Probability, next state, reward, and whether the episode terminates: gymnasium's toy text order."""


@dataclass(frozen=True, eq=False)
class FiniteMDP:
    """Outcomes of every state and action of a finite MDP (Sutton and Barto 2018, equation 3.2).

    The outcomes of action a in state s are the K entries from `first[s·A + a]` to `first[s·A + a + 1]`.

    Shapes: `first` int64 [S·A + 1]; `probability`, `reward` float64 [K]; `next_state` int64 [K]; `terminated` bool [K];
    `start` float64 [S], the distribution of the first state. All are read-only.

    Raises:
        ModelError: probabilities that do not sum to 1, a next state outside 0 … S-1, shapes that do not fit.
    """

    num_actions: int
    first: Integers
    probability: Floats64
    next_state: Integers
    reward: Floats64
    terminated: npt.NDArray[np.bool_]
    start: Floats64

    def __post_init__(self) -> None:
        for array in (self.first, self.probability, self.next_state, self.reward, self.terminated, self.start):
            array.flags.writeable = False
        _check(self)

    @property
    def num_states(self) -> int:
        """S."""
        return len(self.start)

    @classmethod
    def from_outcomes(
        cls, outcomes: Sequence[Sequence[Sequence[Outcome]]] | Mapping[int, Mapping[int, Any]], start: npt.ArrayLike
    ) -> FiniteMDP:
        """From `outcomes[state][action]`, a list of outcomes, as gymnasium's toy text environments hold in `P`.

        >>> FiniteMDP.from_outcomes([[[(0.5, 0, 1.0, False), (0.5, 0, 0.0, True)]]], [1.0]).expected_reward()
        array([[0.5]])
        """
        num_states, num_actions = len(outcomes), len(outcomes[0])
        if any(len(outcomes[state]) != num_actions for state in range(num_states)):
            raise ModelError("every state needs the same number of actions; let an impossible one do nothing")
        pairs = [outcomes[state][action] for state in range(num_states) for action in range(num_actions)]
        flat = [outcome for pair in pairs for outcome in pair]
        return cls(
            num_actions,
            np.cumsum([0, *(len(pair) for pair in pairs)], dtype=np.int64),
            np.array([outcome[0] for outcome in flat], dtype=np.float64),
            np.array([outcome[1] for outcome in flat], dtype=np.int64),
            np.array([outcome[2] for outcome in flat], dtype=np.float64),
            np.array([outcome[3] for outcome in flat], dtype=np.bool_),
            np.array(start, dtype=np.float64),
        )

    @classmethod
    def from_arrays(
        cls,
        probability: npt.ArrayLike,
        reward: npt.ArrayLike,
        terminal: npt.ArrayLike | None = None,
        start: npt.ArrayLike | None = None,
    ) -> FiniteMDP:
        """From a `(P, R)` pair.

        Args:
            probability: [S, A, S'].
            reward: [S, A] or [S, A, S'].
            terminal: bool [S']; entering these states ends the episode. None of them by default.
            start: [S] distribution of the first state; by default uniform over the states that are not terminal.
        """
        p = np.asarray(probability, dtype=np.float64)
        if p.ndim != 3 or p.shape[0] != p.shape[2]:
            raise ModelError(f"the transition probabilities have shape {p.shape}, they need [S, A, S]")
        r = np.asarray(reward, dtype=np.float64)
        if r.shape not in (p.shape[:2], p.shape):
            raise ModelError(f"the rewards have shape {r.shape}, allowed: {p.shape[:2]} or {p.shape}")
        r = np.broadcast_to(r if r.ndim == 3 else r[:, :, None], p.shape)
        ends = np.zeros(len(p), dtype=np.bool_) if terminal is None else np.asarray(terminal, dtype=np.bool_)
        if ends.shape != (len(p),):
            raise ModelError(f"terminal has shape {ends.shape}, it needs one flag for each of the {len(p)} states")
        state, action, successor = np.nonzero(p)
        counts = np.bincount(state * p.shape[1] + action, minlength=p.shape[0] * p.shape[1])
        chosen = np.flatnonzero(~ends)
        uniform = np.zeros(len(p))
        uniform[chosen] = 1.0 / max(len(chosen), 1)
        return cls(
            p.shape[1],
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            p[state, action, successor],
            successor.astype(np.int64),
            r[state, action, successor],
            ends[successor],
            uniform if start is None else np.array(start, dtype=np.float64),
        )

    def expected_reward(self) -> Floats64:
        """r(s, a), [S, A]."""
        return self._sum_over_outcomes(self.probability * self.reward)

    def transition_matrix(self, *, going_on: bool = False) -> Floats64:
        """p(s' | s, a), [S, A, S]; with `going_on` only transitions after which the episode goes on."""
        matrix = np.zeros((self.num_states * self.num_actions, self.num_states))
        weight = np.where(self.terminated, 0.0, self.probability) if going_on else self.probability
        np.add.at(matrix, (self.pair_of_outcome(), self.next_state), weight)
        return matrix.reshape(self.num_states, self.num_actions, self.num_states)

    def pair_of_outcome(self) -> Integers:
        """s·A + a of every outcome, [K]."""
        pairs: Integers = np.repeat(np.arange(len(self.first) - 1), np.diff(self.first))
        return pairs

    def terminal_states(self) -> npt.NDArray[np.bool_]:
        """States from which every outcome stays, ended, without reward: where episodes are over, bool [S]."""
        states = self.pair_of_outcome() // self.num_actions
        stays = self.terminated & (self.next_state == states) & (self.reward == 0.0)
        leaves = np.bincount(states[~stays], minlength=self.num_states)
        terminal: npt.NDArray[np.bool_] = leaves == 0
        return terminal

    def _sum_over_outcomes(self, values: Floats64) -> Floats64:
        sums: Floats64 = np.bincount(self.pair_of_outcome(), weights=values, minlength=len(self.first) - 1).astype(
            np.float64
        )
        return sums.reshape(self.num_states, self.num_actions)


class TableDynamics(NamedTuple):
    """A finite MDP as the compiled engine steps it; every outcome is drawn with one uniform number.

    `cumulative` [K] holds running sums of the probabilities of each pair, `start` [S] those of the first state, both
    added up as gymnasium's toy text does. `observation` [S] is the table's row of each state (several states may share
    one), `max_steps` the time limit (0: none).
    """

    num_actions: int
    first: Integers
    cumulative: Floats64
    next_state: Integers
    reward: Floats64
    terminated: npt.NDArray[np.bool_]
    start: Floats64
    observation: Integers
    max_steps: int


class BlackjackDynamics(NamedTuple):
    """Gymnasium's Blackjack, card by card; `sab` and `natural` are its rules."""

    natural: bool
    sab: bool
    max_steps: int


class BanditDynamics(NamedTuple):
    """The k-armed testbed (Sutton and Barto 2018, section 2.3): every reset draws new means."""

    num_actions: int
    mean: float
    max_steps: int


class MountainCarDynamics(NamedTuple):
    """The mountain car (Sutton and Barto 2018, example 10.1), which moves by `mountain_car_motion`. It is no table."""

    num_actions: int
    max_steps: int


CAR_LEFT, CAR_GOAL, CAR_SPEED = -1.2, 0.5, 0.07
"""Of the mountain car: the wall on the left, the position that ends the episode, and the largest velocity."""


def mountain_car_motion(position: float, velocity: float, action: int) -> tuple[float, float]:
    """Position and velocity one step later, equations of Sutton and Barto (2018), example 10.1.

    Environment and compiled engine run this same function. Action 0 pushes to the left, 1 does nothing, 2 to the right.
    """
    velocity += (action - 1) * 0.001 - 0.0025 * math.cos(3.0 * position)
    velocity = min(max(velocity, -CAR_SPEED), CAR_SPEED)
    position = min(max(position + velocity, CAR_LEFT), CAR_GOAL)
    return position, 0.0 if position == CAR_LEFT else velocity


Dynamics: TypeAlias = TableDynamics | BlackjackDynamics | BanditDynamics | MountainCarDynamics
"""What `rlkit.tabular.stepping` can reset and step without Python in between."""


def table_dynamics(model: FiniteMDP, observation: Integers | None = None, max_steps: int = 0) -> TableDynamics:
    """The dynamics of a model; `observation` [S] where agents do not see the state itself."""
    cumulative = np.empty_like(model.probability)
    for begin, end in zip(model.first[:-1], model.first[1:], strict=True):
        cumulative[begin:end] = np.cumsum(model.probability[begin:end])
    start = np.cumsum(model.start)
    seen = np.arange(model.num_states) if observation is None else np.array(observation, dtype=np.int64)
    for array in (cumulative, start, seen):
        array.flags.writeable = False
    return TableDynamics(
        model.num_actions,
        model.first,
        cumulative,
        model.next_state,
        model.reward,
        model.terminated,
        start,
        seen,
        max_steps,
    )


def _check(model: FiniteMDP) -> None:
    states, outcomes = model.num_states, len(model.probability)
    if model.num_actions < 1 or states < 1:
        raise ModelError(f"a model needs at least one state and one action, got {states} and {model.num_actions}")
    if len(model.first) != states * model.num_actions + 1 or model.first[-1] != outcomes:
        raise ModelError(f"`first` must have S·A + 1 entries and end at {outcomes}, the number of outcomes")
    if any(len(array) != outcomes for array in (model.next_state, model.reward, model.terminated)):
        raise ModelError("probability, next_state, reward and terminated must be equally long")
    if (np.diff(model.first) < 1).any():
        pair = int(np.argmin(np.diff(model.first)))
        raise ModelError(f"action {pair % model.num_actions} in state {pair // model.num_actions} has no outcome")
    if (model.next_state < 0).any() or (model.next_state >= states).any():
        raise ModelError(f"a next state lies outside 0 … {states - 1}")
    sums = np.bincount(model.pair_of_outcome(), weights=model.probability)
    wrong = ~(np.abs(sums - 1.0) <= 1e-6)  # so that NaN is wrong too
    if not (model.probability >= 0).all() or wrong.any():
        pair = int(wrong.argmax())
        raise ModelError(
            f"the outcomes of action {pair % model.num_actions} in state {pair // model.num_actions} have "
            f"probabilities that sum to {sums[pair]:g}; they must be at least 0 and sum to 1"
        )
    if not ((model.start >= 0).all() and abs(model.start.sum() - 1.0) <= 1e-6):
        raise ModelError(f"the start probabilities sum to {model.start.sum():g}, they must be at least 0 and sum to 1")
    if not np.isfinite(model.reward).all():
        raise ModelError("a reward is not finite")
