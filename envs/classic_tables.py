"""Tables of Sutton and Barto (2018): the gambler and Jack's car rental (chapter 4), access control (example 10.2)."""

from __future__ import annotations

import math

import numpy as np

from rlkit.envs.finite import FiniteMDPEnv
from rlkit.envs.pictures import GridShape, Picture, chain_picture
from rlkit.errors import UsageError
from rlkit.mdp import FiniteMDP, Floats64, Integers, Outcome

_GOAL = 100
_CAPACITY, _MOST_MOVED = 20, 5
_LOTS = _CAPACITY + 1  # numbers of cars that a location can hold, 0 … 20
_PRICE, _MOVING = 10.0, 2.0
_REQUESTS, _RETURNS = (3.0, 4.0), (3.0, 2.0)
_NEGLIGIBLE = 1e-12
_SERVERS, _FREED = 10, 0.06
_PRIORITIES = (1, 2, 4, 8)


class Gambler(FiniteMDPEnv):
    """Stakes on the flips of a coin until the capital is 0 or 100 (example 4.3).

    The state is the capital, the action the stake, 1 … 50; a stake beyond min(capital, 100 - capital) is lowered to it.
    Reward 1 on reaching 100, 0 otherwise. The first capital is 1 … 99, evenly.

    Args:
        p_h: probability of heads, which wins the stake.
        render_mode: None, `rgb_array` or `ansi`.

    Raises:
        UsageError: the probability is not between 0 and 1.
    """

    def __init__(self, *, p_h: float = 0.4, render_mode: str | None = None) -> None:
        if not 0.0 <= p_h <= 1.0:
            raise UsageError(f"p_h is {p_h}, a probability must be between 0 and 1")
        outcomes = [[_flip(capital, stake, p_h) for stake in range(1, _GOAL // 2 + 1)] for capital in range(_GOAL + 1)]
        start = np.full(_GOAL + 1, 1.0 / (_GOAL - 1))
        start[[0, _GOAL]] = 0.0
        super().__init__(FiniteMDP.from_outcomes(outcomes, start), render_mode, first_action=1)

    def picture(self) -> Picture:
        """The capitals in folded rows."""
        stake = "" if self._last_action is None else f", last stake {self._last_action}"
        cells = "T" + "." * (_GOAL - 1) + "T"
        return chain_picture(cells, self.state, f"capital {self.state}{stake}", width=20)


class CarRental(FiniteMDPEnv):
    """Jack's car rental (example 4.2): cars moved overnight between two locations with random requests and returns.

    State 21 · i + j: i cars at the first, j at the second location in the evening, at most 20 each. Action a,
    -5 … 5, moves a cars from the first to the second (negative: back) for 2 dollars each; it is lowered to the cars
    there and to the room at the other end. Then Poisson requests (means 3 and 4) rent cars for 10 dollars each, and
    Poisson returns (means 3 and 2), which can be rented the next day, come in; cars beyond 20 leave. No end; the book
    discounts with 0.9.

    The reward of a transition is its expectation, given both states: values are the book's, single rewards are not.

    Args:
        render_mode: None, `rgb_array` or `ansi`.
    """

    def __init__(self, *, render_mode: str | None = None) -> None:
        super().__init__(_car_rental_model(), render_mode, first_action=-_MOST_MOVED)

    def grid(self) -> GridShape:
        """As figure 4.2: upwards the cars at the first location, to the right those at the second."""
        first, second = np.divmod(np.arange(_LOTS**2), _LOTS)
        return GridShape(_LOTS, _LOTS, (_CAPACITY - first) * _LOTS + second, np.zeros(_LOTS**2, dtype=np.bool_))

    def picture(self) -> Picture:
        """The numbers of cars, laid out as in figure 4.2."""
        first, second = divmod(self.state, _LOTS)
        moved = "" if self._last_action is None else f", last moved {self._last_action}"
        caption = f"{first} cars at the first location, {second} at the second{moved}"
        return Picture(("." * _LOTS,) * _LOTS, agent=(_CAPACITY - first, second), caption=caption, cell_size=16)


class AccessControl(FiniteMDPEnv):
    """Customers of four priorities ask for one of ten servers (example 10.2); no end: the average reward counts.

    Observed are the number of free servers, 0 … 10, and the priority of the customer at the head of the queue, 0 … 3
    for rewards of 1, 2, 4, 8: MultiDiscrete([11, 4]), state 4 · free + priority. Action 1 accepts: the customer pays
    and occupies a server; where none is free, and with action 0, the customer is sent away without reward. Then every
    busy server, the one just taken among them, becomes free with probability 0.06, and the next customer is of any
    priority, evenly. All servers are free at first, which the book does not say.

    Args:
        render_mode: None, `rgb_array` or `ansi`.
    """

    def __init__(self, *, render_mode: str | None = None) -> None:
        kinds = len(_PRIORITIES)
        outcomes = [
            [_served(free, kind, accepts) for accepts in (False, True)]
            for free in range(_SERVERS + 1)
            for kind in range(kinds)
        ]
        start = np.zeros(len(outcomes))
        start[-kinds:] = 1.0 / kinds
        super().__init__(FiniteMDP.from_outcomes(outcomes, start), render_mode, shape=(_SERVERS + 1, kinds))

    def grid(self) -> GridShape:
        """As figure 10.5: upwards the priorities, to the right the free servers."""
        free, kind = np.divmod(np.arange(self._model.num_states), len(_PRIORITIES))
        cell = (len(_PRIORITIES) - 1 - kind) * (_SERVERS + 1) + free
        return GridShape(len(_PRIORITIES), _SERVERS + 1, cell, np.zeros(len(cell), dtype=np.bool_))

    def picture(self) -> Picture:
        """Free servers and the customer, laid out as in figure 10.5."""
        free, kind = divmod(self.state, len(_PRIORITIES))
        done = "" if self._last_action is None else ", accepted" if self._last_action else ", rejected"
        caption = f"{free} servers free, priority {_PRIORITIES[kind]}{done}"
        cells = ("." * (_SERVERS + 1),) * len(_PRIORITIES)
        return Picture(cells, agent=(len(_PRIORITIES) - 1 - kind, free), caption=caption)


def _served(free: int, kind: int, accepts: bool) -> list[Outcome]:
    """What follows on a customer: how many of the busy servers become free, and who comes next."""
    paid = accepts and free > 0
    busy = _SERVERS - free + paid
    reward, kinds = float(_PRIORITIES[kind]) if paid else 0.0, len(_PRIORITIES)
    return [
        (_binomial(busy, freed) / kinds, (_SERVERS - busy + freed) * kinds + following, reward, False)
        for freed in range(busy + 1)
        for following in range(kinds)
    ]


def _binomial(trials: int, successes: int) -> float:
    return math.comb(trials, successes) * _FREED**successes * (1.0 - _FREED) ** (trials - successes)


def _flip(capital: int, stake: int, p_h: float) -> list[Outcome]:
    if capital in (0, _GOAL):
        return [(1.0, capital, 0.0, True)]
    stake = min(stake, capital, _GOAL - capital)
    won, lost = capital + stake, capital - stake
    return [(p_h, won, float(won == _GOAL), won == _GOAL), (1.0 - p_h, lost, 0.0, lost == 0)]


def _poisson_tails(mean: float) -> tuple[Floats64, Floats64]:
    """P(N = n) and P(N ≥ n) for n = 0 … 20."""
    ratios = np.concatenate([[1.0], mean / np.arange(1, _LOTS)])
    exactly: Floats64 = np.exp(-mean) * np.cumprod(ratios)
    at_least: Floats64 = 1.0 - np.concatenate([[0.0], np.cumsum(exactly)[:-1]])
    return exactly, at_least


def _one_location(requests: float, returns: float) -> tuple[Floats64, Floats64]:
    """A day at one location: p(next | cars), and p(next | cars) · E[rented | cars, next], both [21, 21]."""
    (asked, asked_at_least), (back, back_at_least) = _poisson_tails(requests), _poisson_tails(returns)
    probability, rented_mass = np.zeros((_LOTS, _LOTS)), np.zeros((_LOTS, _LOTS))
    for cars in range(_LOTS):
        for rented in range(cars + 1):
            chance = asked_at_least[rented] if rented == cars else asked[rented]
            left = cars - rented
            reached = chance * np.append(back[: _CAPACITY - left], back_at_least[_CAPACITY - left])
            probability[cars, left:] += reached
            rented_mass[cars, left:] += rented * reached
    return probability, rented_mass


def _car_rental_model() -> FiniteMDP:
    (p_1, rented_1), (p_2, rented_2) = (_one_location(*means) for means in zip(_REQUESTS, _RETURNS, strict=True))
    probability = np.kron(p_1, p_2).astype(np.float64)  # [morning, evening], both 21 · i + j
    reward = _PRICE * (np.kron(rented_1, p_2) + np.kron(p_1, rented_2)) / np.maximum(probability, 1e-300)
    kept = probability >= _NEGLIGIBLE
    probability = np.where(kept, probability, 0.0)
    probability /= probability.sum(axis=1, keepdims=True)

    morning, moved = _after_moving()
    pair, next_state = np.nonzero(kept[morning])
    counts = np.bincount(pair, minlength=len(morning))
    return FiniteMDP(
        2 * _MOST_MOVED + 1,
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        probability[morning[pair], next_state],
        next_state.astype(np.int64),
        reward[morning[pair], next_state] - _MOVING * moved[pair],
        np.zeros(len(pair), dtype=np.bool_),
        np.full(_LOTS**2, 1.0 / _LOTS**2),
    )


def _after_moving() -> tuple[Integers, Integers]:
    """State in the morning and number of cars moved, both by evening state and action, [S · A]."""
    first, second = np.divmod(np.arange(_LOTS**2)[:, None], _LOTS)
    wanted = np.arange(-_MOST_MOVED, _MOST_MOVED + 1)
    moved = np.clip(wanted, np.maximum(-second, first - _CAPACITY), np.minimum(first, _CAPACITY - second))
    morning = (first - moved) * _LOTS + second + moved
    return morning.ravel(), np.abs(moved).ravel()
