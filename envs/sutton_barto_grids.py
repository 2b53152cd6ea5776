"""The grids of Sutton and Barto (2018): examples 3.5, 4.1, 6.5 (windy) and 6.6 (cliff).

State s is cell s, counted row by row from the top left.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from rlkit.envs.grid_world import MOVES, GridEnv, GridRules, GridWorld, Layout, one_of
from rlkit.mdp import FiniteMDP, Outcome

_WIND = (0, 0, 0, 1, 1, 1, 2, 2, 1, 0)
_WINDY_ROWS, _WINDY_START, _WINDY_GOAL = 7, (3, 0), (3, 7)
_COLOURS = {
    "A": (158, 203, 160),
    "a": (216, 234, 214),
    "B": (158, 188, 218),
    "b": (214, 227, 239),
    "C": (232, 150, 132),
    "1": (226, 236, 240),
    "2": (202, 221, 229),
}


class Gridworld5x5(GridEnv):
    """Example 3.5 (figure 3.2): 5×5, no end.

    Actions up, right, down, left. A move off the grid stays and costs 1; every action in A (top row, second column)
    earns 10 and leads to A' (bottom row), in B (top row, fourth column) 5 and to B' (third row); other moves earn
    nothing. The first state is any, evenly.

    Args:
        render_mode: None, `rgb_array` or `ansi`.
    """

    def __init__(self, *, render_mode: str | None = None) -> None:
        layout = Layout((".A.B.", ".....", "...b.", ".....", ".a..."))
        rules = GridRules(MOVES["four"], reward_boundary=-1.0)
        jumps = {1: (21, 10.0), 3: (13, 5.0)}
        outcomes: list[list[list[Outcome]]] = []
        for state in range(25):
            if state in jumps:
                outcomes.append([[(1.0, *jumps[state], False)]] * 4)
            else:
                outcomes.append([[rules.outcome(layout, *divmod(state, 5), move)] for move in rules.moves])
        model = FiniteMDP.from_outcomes(outcomes, np.full(25, 1 / 25))
        super().__init__(model, layout, rules.moves, render_mode, colours=_COLOURS)


class Gridworld4x4(GridWorld):
    """Example 4.1 (figure 4.1): 4×4, every move costs 1, the episode ends in the top left or bottom right corner.

    Actions up, right, down, left. The book counts the two corners as one state; here they are states 0 and 15. The
    first state is any other, evenly.

    Args:
        render_mode: None, `rgb_array` or `ansi`.
    """

    def __init__(self, *, render_mode: str | None = None) -> None:
        super().__init__(
            "T...\n....\n....\n...T",
            reward_boundary=-1.0,
            reward_target=-1.0,
            reward_other=-1.0,
            render_mode=render_mode,
        )


class Cliff(GridEnv):
    """Example 6.6: 4×12, from bottom left to bottom right along a cliff.

    Actions up, right, down, left. Every move costs 1; a move onto the cliff, the cells between start and goal, costs
    100 and leads back to the start, without an end. The cliff's cells are states that nobody enters.

    Args:
        render_mode: None, `rgb_array` or `ansi`.
    """

    def __init__(self, *, render_mode: str | None = None) -> None:
        layout = Layout(("." * 12, "." * 12, "." * 12, "S" + "C" * 10 + "T"))
        rules = GridRules(MOVES["four"], -1.0, reward_target=-1.0, reward_other=-1.0)
        start = 36
        outcomes: list[list[list[Outcome]]] = []
        for state in range(48):
            row, column = divmod(state, 12)
            if layout.at(row, column) in "CT":
                outcomes.append([[(1.0, state, 0.0, True)]] * 4)
                continue
            falls = [layout.at(row + move.rows, column + move.columns) == "C" for move in rules.moves]
            outcomes.append(
                [
                    [(1.0, start, -100.0, False) if fall else rules.outcome(layout, row, column, move)]
                    for fall, move in zip(falls, rules.moves, strict=True)
                ]
            )
        model = FiniteMDP.from_outcomes(outcomes, layout.is_any("S"))
        super().__init__(model, layout, rules.moves, render_mode, solid="C", colours=_COLOURS)


class WindyGrid(GridEnv):
    """Example 6.5: 7×10 with a wind that lifts the agent by 0 0 0 1 1 1 2 2 1 0 rows, by the column it moves from.

    Every move costs 1, the episode ends in the goal. Moves and wind that lead off the grid stop at its edge.

    Args:
        moves: `four` (up, right, down, left), `king` (exercise 6.9) or `king-stay` (its second half).
        stochastic: the wind, where there is any, is one row weaker or stronger with probability 1/3 each
            (exercise 6.10).
        render_mode: None, `rgb_array` or `ansi`.

    Raises:
        UsageError: there are no such moves.
    """

    def __init__(
        self,
        *,
        moves: Literal["four", "king", "king-stay"] = "four",
        stochastic: bool = False,
        render_mode: str | None = None,
    ) -> None:
        chosen = MOVES[one_of("moves", moves, ("four", "king", "king-stay"))]
        outcomes = [
            [_windy_outcomes(state, move.rows, move.columns, stochastic) for move in chosen]
            for state in range(_WINDY_ROWS * len(_WIND))
        ]
        layout = _windy_layout()
        model = FiniteMDP.from_outcomes(outcomes, layout.is_any("S"))
        super().__init__(model, layout, chosen, render_mode, colours=_COLOURS)


def _windy_outcomes(state: int, rows: int, columns: int, stochastic: bool) -> list[Outcome]:
    goal = _WINDY_GOAL[0] * len(_WIND) + _WINDY_GOAL[1]
    if state == goal:
        return [(1.0, state, 0.0, True)]
    row, column = divmod(state, len(_WIND))
    wind = _WIND[column]
    winds = (wind - 1, wind, wind + 1) if stochastic and wind else (wind,)
    outcomes: list[Outcome] = []
    for lift in winds:
        next_row = min(max(row + rows - lift, 0), _WINDY_ROWS - 1)
        next_column = min(max(column + columns, 0), len(_WIND) - 1)
        reached = next_row * len(_WIND) + next_column
        outcomes.append((1.0 / len(winds), reached, -1.0, reached == goal))
    return outcomes


def _windy_layout() -> Layout:
    rows = [["." if wind == 0 else str(wind) for wind in _WIND] for _ in range(_WINDY_ROWS)]
    rows[_WINDY_START[0]][_WINDY_START[1]] = "S"
    rows[_WINDY_GOAL[0]][_WINDY_GOAL[1]] = "T"
    return Layout(tuple("".join(row) for row in rows))
