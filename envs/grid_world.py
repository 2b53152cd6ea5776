"""Grid worlds drawn as text, and the 5×5 world of Zhao's course."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from rlkit.envs.finite import FiniteMDPEnv
from rlkit.envs.pictures import Colour, GridShape, Picture
from rlkit.errors import UsageError
from rlkit.mdp import FiniteMDP, Floats64, Outcome

Moves: TypeAlias = Literal["four", "five", "king", "king-stay"]
Observed: TypeAlias = Literal["state", "coordinates"]


class Move(NamedTuple):
    """An action of a grid: how many rows down and columns to the right it aims."""

    name: str
    rows: int
    columns: int


_FOUR = (Move("up", -1, 0), Move("right", 0, 1), Move("down", 1, 0), Move("left", 0, -1))
_DIAGONAL = (Move("up-right", -1, 1), Move("down-right", 1, 1), Move("down-left", 1, -1), Move("up-left", -1, -1))
_STAY = Move("stay", 0, 0)
MOVES: dict[str, tuple[Move, ...]] = {
    "four": _FOUR,
    "five": (*_FOUR, _STAY),
    "king": _FOUR + _DIAGONAL,
    "king-stay": (*_FOUR, *_DIAGONAL, _STAY),
}
"""Moves by name of the set, in the order of the actions."""

SMALL_WORLD = "S..#...\n.#.#.F.\n.#...F.\n.#.#.F.\n...#..T"
"""Layout of `GridWorld` where none is given: walls, a forbidden strip, one start, one target."""


@dataclass(frozen=True)
class Layout:
    """A rectangle of characters, rows from the top."""

    cells: tuple[str, ...]

    @classmethod
    def parse(cls, text: str, allowed: str) -> Layout:
        """From rows separated by newlines, or by `/` as the command line has it.

        Raises:
            UsageError: rows of different lengths, or a character that is not allowed.

        >>> Layout.parse("S./#T", ".#ST").cells
        ('S.', '#T')
        """
        cells = tuple(row.strip() for row in text.replace("/", "\n").split("\n") if row.strip())
        lengths = {len(row) for row in cells}
        if len(lengths) != 1:
            raise UsageError(
                f"the layout's rows have {sorted(lengths) or 'no'} cells; write rows of one length, as in 'S..\\n.#T'"
            )
        unknown = set("".join(cells)) - set(allowed)
        if unknown:
            listed = " ".join(sorted(unknown))
            raise UsageError(f"the layout has the characters {listed}, allowed: {' '.join(allowed)}")
        return cls(cells)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.cells)

    @property
    def columns(self) -> int:
        """Number of columns."""
        return len(self.cells[0])

    def at(self, row: int, column: int) -> str:
        """Character of a cell; `#` outside."""
        inside = 0 <= row < self.rows and 0 <= column < self.columns
        return self.cells[row][column] if inside else "#"

    def is_any(self, characters: str) -> npt.NDArray[np.bool_]:
        """Whether each cell holds one of `characters`, bool [rows · columns]."""
        return np.array([character in characters for character in "".join(self.cells)], dtype=np.bool_)


class GridEnv(FiniteMDPEnv):
    """A finite MDP whose state s is cell s of a rectangle, counted row by row.

    Args:
        model: its transitions.
        layout: its cells.
        moves: its actions, for captions.
        render_mode: None, `rgb_array` or `ansi`.
        solid: characters of cells that nobody enters.
        colours: of characters, besides `rlkit.envs.pictures.PALETTE`.
        observation: `state`, or `coordinates`: row and column, MultiDiscrete.
    """

    def __init__(
        self,
        model: FiniteMDP,
        layout: Layout,
        moves: Sequence[Move],
        render_mode: str | None = None,
        *,
        solid: str = "#",
        colours: Mapping[str, Colour] | None = None,
        observation: Observed = "state",
    ) -> None:
        apart = one_of("observation", observation, ("state", "coordinates")) == "coordinates"
        super().__init__(model, render_mode, shape=(layout.rows, layout.columns) if apart else None)
        self._layout, self._moves, self._solid, self._colours = layout, tuple(moves), solid, dict(colours or {})

    def grid(self) -> GridShape:
        """Where the states lie."""
        cell = np.arange(self._layout.rows * self._layout.columns)
        return GridShape(self._layout.rows, self._layout.columns, cell, self._layout.is_any(self._solid))

    def picture(self) -> Picture:
        """The cells, the agent, and its last move."""
        caption = "" if self._last_action is None else self._moves[self._last_action].name
        return Picture(self._layout.cells, self._colours, divmod(self.state, self._layout.columns), caption)


@dataclass(frozen=True)
class GridRules:
    """What happens in a grid world; see `GridWorld`."""

    moves: tuple[Move, ...]
    reward_boundary: float = 0.0
    reward_forbidden: float = 0.0
    reward_target: float = 1.0
    reward_other: float = 0.0
    target_ends: bool = True
    forbidden_blocks: bool = False

    @property
    def solid(self) -> str:
        """Characters of cells that nobody enters."""
        return "#F" if self.forbidden_blocks else "#"

    def outcome(self, layout: Layout, row: int, column: int, move: Move) -> Outcome:
        """Where a move leads, and its reward."""
        aim = (row + move.rows, column + move.columns)
        seen = layout.at(*aim)
        if seen in self.solid:
            aim = (row, column)
        rewards = {"#": self.reward_boundary, "F": self.reward_forbidden, "T": self.reward_target}
        ends = self.target_ends and layout.at(*aim) == "T"
        return 1.0, aim[0] * layout.columns + aim[1], rewards.get(seen, self.reward_other), ends


def grid_model(layout: Layout, rules: GridRules, also_left: npt.NDArray[np.bool_] | None = None) -> FiniteMDP:
    """Transitions of a grid world, one state for each cell.

    Cells that nobody enters, and targets that end the episode, stay as they are, ended and without reward, except
    those in `also_left`, bool [S]: an agent that stands where a wall has come up can walk away.
    """
    over = layout.is_any(rules.solid + ("T" if rules.target_ends else ""))
    if also_left is not None:
        over = over & ~also_left
    outcomes: list[list[list[Outcome]]] = []
    for state in range(layout.rows * layout.columns):
        row, column = divmod(state, layout.columns)
        if over[state]:
            outcomes.append([[(1.0, state, 0.0, True)]] * len(rules.moves))
        else:
            outcomes.append([[rules.outcome(layout, row, column, move)] for move in rules.moves])
    return FiniteMDP.from_outcomes(outcomes, start_of(layout, rules))


def start_of(layout: Layout, rules: GridRules) -> Floats64:
    """Distribution of the first state: even over the `S`, or over all cells where an episode can go on.

    Raises:
        UsageError: there is no such cell.
    """
    marked = layout.is_any("S")
    free = marked if marked.any() else ~layout.is_any(rules.solid + ("T" if rules.target_ends else ""))
    if not free.any():
        raise UsageError("the layout has no cell to start in; mark one with S, or leave one free (.)")
    start: Floats64 = free / free.sum()
    return start


class GridWorld(GridEnv):
    """A grid world drawn as text.

    `.` is a free cell, `#` a wall, `S` a start (several: one of them, evenly; none: any cell where an episode can go
    on), `T` a target, `F` a forbidden cell. Every cell is a state, row · columns + column; nobody enters walls, whose
    states are over at once. A move out of the grid or into a wall stays in place.

    Args:
        layout: its rows, separated by newlines or `/`.
        actions: `four` (up, right, down, left), `five` (these and stay), `king` (these four, then up-right, down-right,
            down-left, up-left) or `king-stay`.
        reward_boundary: for a move out of the grid or into a wall, wherever it is made.
        reward_forbidden: for a move into a forbidden cell, also where it is blocked, and for staying there.
        reward_target: for a move into a target, and for staying there.
        reward_other: for any other move.
        target: `terminal`, or `continuing`: the agent can stay and collect.
        forbidden: `enter`, or `block`: forbidden cells are walls with a reward of their own.
        observation: the `state`, or its `coordinates`: row and column, MultiDiscrete.
        render_mode: None, `rgb_array` or `ansi`.

    Raises:
        UsageError: an argument is not one of these, or the layout is no rectangle.
    """

    def __init__(
        self,
        layout: str = SMALL_WORLD,
        actions: Moves = "four",
        *,
        reward_boundary: float = 0.0,
        reward_forbidden: float = -1.0,
        reward_target: float = 1.0,
        reward_other: float = 0.0,
        target: Literal["terminal", "continuing"] = "terminal",
        forbidden: Literal["enter", "block"] = "enter",
        observation: Observed = "state",
        render_mode: str | None = None,
    ) -> None:
        cells = Layout.parse(layout, ".#STF")
        rules = GridRules(
            MOVES[one_of("actions", actions, MOVES)],
            reward_boundary,
            reward_forbidden,
            reward_target,
            reward_other,
            one_of("target", target, ("terminal", "continuing")) == "terminal",
            one_of("forbidden", forbidden, ("enter", "block")) == "block",
        )
        super().__init__(
            grid_model(cells, rules), cells, rules.moves, render_mode, solid=rules.solid, observation=observation
        )


class CourseGrid(GridWorld):
    """The 5×5 world of Zhao (2025), Mathematical Foundations of Reinforcement Learning, chapters 1 to 10.

    Five moves, six forbidden cells, one target. By default as in chapters 2 to 6 and 8: forbidden cells can be entered,
    the target does not end the episode. The path finding of chapter 7 is `start="corner", target="terminal",
    reward_target=0, reward_forbidden=-10, reward_boundary=-10, reward_other=-1`.

    Args:
        reward_boundary: for a move out of the grid.
        reward_forbidden: for a move into a forbidden cell, and for staying there.
        reward_target: for a move into the target, and for staying there.
        reward_other: for any other move.
        target: `continuing` or `terminal`.
        forbidden: `enter` or `block`.
        start: `anywhere` an episode can go on, evenly, or the top left `corner`.
        observation: the `state`, or its `coordinates`: row and column, MultiDiscrete.
        render_mode: None, `rgb_array` or `ansi`.
    """

    def __init__(
        self,
        *,
        reward_boundary: float = -1.0,
        reward_forbidden: float = -1.0,
        reward_target: float = 1.0,
        reward_other: float = 0.0,
        target: Literal["terminal", "continuing"] = "continuing",
        forbidden: Literal["enter", "block"] = "enter",
        start: Literal["anywhere", "corner"] = "anywhere",
        observation: Observed = "state",
        render_mode: str | None = None,
    ) -> None:
        corner = "S" if one_of("start", start, ("anywhere", "corner")) == "corner" else "."
        super().__init__(
            f"{corner}....\n.FF..\n..F..\n.FTF.\n.F...",
            "five",
            reward_boundary=reward_boundary,
            reward_forbidden=reward_forbidden,
            reward_target=reward_target,
            reward_other=reward_other,
            target=target,
            forbidden=forbidden,
            observation=observation,
            render_mode=render_mode,
        )


def one_of(name: str, value: str, allowed: Sequence[str] | Mapping[str, object]) -> str:
    """`value`, where it is allowed.

    Raises:
        UsageError: it is not.
    """
    if value not in allowed:
        raise UsageError(f"{name} is {value!r}, allowed: {', '.join(allowed)}")
    return value
