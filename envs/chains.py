"""Small problems of Sutton and Barto (2018) whose states lie in a row: examples 5.5, 6.2, 6.7, 7.1, 9.1, 11.1, 13.1."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from rlkit.envs.finite import FiniteMDPEnv
from rlkit.envs.pictures import Picture, chain_picture
from rlkit.errors import UsageError
from rlkit.mdp import FiniteMDP, Floats64, Outcome


class RandomWalk(FiniteMDPEnv):
    """Left or right with probability 1/2 each, from the middle until an end (examples 6.2 and 7.1).

    A Markov reward process: there is one action. States 1 … n are the walk's, 0 and n + 1 its ends.

    Args:
        states: n, odd.
        left_reward: on reaching state 0; the 19-state walk of example 7.1 has -1.
        right_reward: on reaching state n + 1.
        render_mode: None, `rgb_array` or `ansi`.

    Raises:
        UsageError: there is no middle state.
    """

    def __init__(
        self,
        *,
        states: int = 5,
        left_reward: float = 0.0,
        right_reward: float = 1.0,
        render_mode: str | None = None,
    ) -> None:
        if states < 1 or states % 2 == 0:
            raise UsageError(f"states is {states}, it must be odd and positive, so that there is a middle to start in")
        model = _walk(states, 1, (states + 1) // 2, left_reward, right_reward)
        super().__init__(model, render_mode)

    def picture(self) -> Picture:
        """The states in a row."""
        return _row_of_states(self.state, self._model)


class LongRandomWalk(FiniteMDPEnv):
    """From each state to one of `reach` neighbours on either side, evenly (example 9.1, the 1000-state walk).

    Neighbours beyond an end are the end: its probability is larger near it. -1 on the left, 1 on the right. A Markov
    reward process: there is one action. States 1 … n are the walk's, 0 and n + 1 its ends.

    Args:
        states: n.
        reach: neighbours on each side.
        start: first state.
        render_mode: None, `rgb_array` or `ansi`.

    Raises:
        UsageError: the first state is not one of the walk's, or there are no neighbours.
    """

    def __init__(
        self, *, states: int = 1000, reach: int = 100, start: int = 500, render_mode: str | None = None
    ) -> None:
        if reach < 1 or not 1 <= start <= states:
            raise UsageError(f"reach is {reach}, start is {start}; reach must be at least 1, start 1 … {states}")
        super().__init__(_walk(states, reach, start, -1.0, 1.0), render_mode)

    def picture(self) -> Picture:
        """The states in folded rows."""
        return _row_of_states(self.state, self._model)


class ShortCorridor(FiniteMDPEnv):
    """Three states that look alike, the second of which swaps the actions (example 13.1).

    Actions left (0) and right (1); every step costs 1; the episode ends right of the third state. Left of the first
    state is a wall. Agents observe 0 in the three states and 1 at the end, so that only a stochastic policy is good:
    best is right with probability 2 - √2 ≈ 0.586, worth -11.66.

    Args:
        render_mode: None, `rgb_array` or `ansi`.
    """

    def __init__(self, *, render_mode: str | None = None) -> None:
        targets = ((0, 1), (2, 0), (1, 3))
        outcomes: list[list[list[Outcome]]] = [[[(1.0, s, -1.0, s == 3)] for s in pair] for pair in targets]
        outcomes.append([[(1.0, 3, 0.0, True)]] * 2)
        model = FiniteMDP.from_outcomes(outcomes, [1.0, 0.0, 0.0, 0.0])
        super().__init__(model, render_mode, observation=np.array([0, 0, 0, 1]))

    def picture(self) -> Picture:
        """The corridor."""
        return chain_picture("S%.T", self.state, f"state {self.state}", {"%": (240, 196, 150)})


class MaximizationBias(FiniteMDPEnv):
    """Left looks good while its rewards are noise around -0.1 (example 6.7).

    From A (state 0), right ends the episode without reward, left leads to B (state 1) without reward. From B every
    action ends it with a reward of mean -0.1 and variance 1. Agents that take the largest of several estimates go left
    too often. State 2 is the end.

    Two deviations from the book, because a finite MDP has finitely many rewards and as many actions in every state:
    the normal reward is 101 equally likely quantiles, scaled to variance 1; and in A, even actions go left and odd ones
    right. Exploration still goes left half of the time, but each of A's two choices is learned as actions / 2 values.

    Args:
        actions: of every state, even.
        render_mode: None, `rgb_array` or `ansi`.

    Raises:
        UsageError: the number of actions is odd.
    """

    def __init__(self, *, actions: int = 10, render_mode: str | None = None) -> None:
        if actions < 2 or actions % 2:
            raise UsageError(f"actions is {actions}, it must be even: in A, half of them go left")
        left: list[Outcome] = [(1.0, 1, 0.0, False)]
        right: list[Outcome] = [(1.0, 2, 0.0, True)]
        rewards = _normal_quantiles(101, -0.1)
        noise: list[Outcome] = [(1.0 / len(rewards), 2, float(reward), True) for reward in rewards]
        over: list[Outcome] = [(1.0, 2, 0.0, True)]
        outcomes = [[left, right] * (actions // 2), [noise] * actions, [over] * actions]
        super().__init__(FiniteMDP.from_outcomes(outcomes, [1.0, 0.0, 0.0]), render_mode)

    def picture(self) -> Picture:
        """B, A and the end, from left to right, as in figure 6.5."""
        return chain_picture("BAT", (1, 0, 2)[self.state], "BAT"[(1, 0, 2)[self.state]], {"A": _START, "B": _NOISE})


class InfiniteVariance(FiniteMDPEnv):
    """One state in which importance sampling has infinite variance (example 5.5).

    Action left (0) stays with probability 0.9 and ends the episode with reward 1 otherwise; right (1) ends it without
    reward. Always left is worth 1; episodes of a policy that goes right now and then estimate it badly. State 1 is the
    end.

    Args:
        render_mode: None, `rgb_array` or `ansi`.
    """

    def __init__(self, *, render_mode: str | None = None) -> None:
        left: list[Outcome] = [(0.9, 0, 0.0, False), (0.1, 1, 1.0, True)]
        over: list[Outcome] = [(1.0, 1, 0.0, True)]
        super().__init__(FiniteMDP.from_outcomes([[left, over], [over, over]], [1.0, 0.0]), render_mode)

    def picture(self) -> Picture:
        """The state and the end."""
        return chain_picture("ST", self.state, f"state {self.state}")


class Baird(FiniteMDPEnv):
    """Baird's counterexample: off-policy learning with linear features diverges here (example 11.1, figure 11.1).

    Seven states, first of all any, evenly; no end and no reward, so that every value is 0. Action 0 (dashed) leads to
    one of the states 0 … 5, evenly, action 1 (solid) to state 6. In the book the behaviour policy takes the dashed
    action with probability 6/7, the policy to evaluate always the solid one, and γ is 0.99; its features are the
    agent's matter: 2 w_i + w_8 in each of the upper states, w_7 + 2 w_8 in the lower one.

    Args:
        render_mode: None, `rgb_array` or `ansi`.
    """

    def __init__(self, *, render_mode: str | None = None) -> None:
        dashed: list[Outcome] = [(1.0 / 6.0, state, 0.0, False) for state in range(6)]
        solid: list[Outcome] = [(1.0, 6, 0.0, False)]
        model = FiniteMDP.from_outcomes([[dashed, solid]] * 7, np.full(7, 1.0 / 7.0))
        super().__init__(model, render_mode)

    def picture(self) -> Picture:
        """The upper six states, and the lower one at the right end."""
        return chain_picture("......S", self.state, f"state {self.state}")


_START = (196, 217, 236)
_NOISE = (240, 196, 150)


def _walk(states: int, reach: int, start: int, left_reward: float, right_reward: float) -> FiniteMDP:
    """Walk over 1 … states between the ends 0 and states + 1, to `reach` neighbours on either side, evenly."""
    here = np.arange(1, states + 1)
    offsets = np.concatenate([np.arange(-reach, 0), np.arange(1, reach + 1)])
    targets = np.clip(here[:, None] + offsets, 0, states + 1)
    probability = np.zeros((states + 2, 1, states + 2))
    np.add.at(probability[:, 0], (here[:, None], targets), 1.0 / len(offsets))
    probability[0, 0, 0] = probability[-1, 0, -1] = 1.0
    reward = np.zeros_like(probability)
    reward[1:-1, :, 0], reward[1:-1, :, -1] = left_reward, right_reward
    ends, first = np.zeros(states + 2, dtype=np.bool_), np.zeros(states + 2)
    ends[[0, -1]], first[start] = True, 1.0
    return FiniteMDP.from_arrays(probability, reward, ends, first)


def _row_of_states(state: int, model: FiniteMDP) -> Picture:
    marked = ["S" if probability else "." for probability in model.start]
    marked[0] = marked[-1] = "T"
    return chain_picture("".join(marked), state, f"state {state}")


def _normal_quantiles(count: int, mean: float) -> Floats64:
    """Equally likely values with this mean and variance 1, spread as a normal distribution's quantiles."""
    normal = NormalDist()
    spread = np.array([normal.inv_cdf((index + 0.5) / count) for index in range(count)])
    spread -= spread.mean()
    values: Floats64 = mean + spread / spread.std()
    return values
