"""The racetrack of Sutton and Barto (2018), exercise 5.12."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlkit.envs.finite import FiniteMDPEnv
from rlkit.envs.grid_world import Layout
from rlkit.envs.pictures import Picture
from rlkit.errors import UnknownNameError, UsageError
from rlkit.mdp import FiniteMDP, Floats64, Integers

_SPEEDS = 5  # 0 … 4 in each component
_VELOCITIES = _SPEEDS**2
_ACTIONS = 9
_CRASH, _FINISH = -1, -2  # where a path can lead besides a cell of the road


def _course(width: int, finish_rows: int, rows: tuple[tuple[int, int, int], ...], starts: int) -> str:
    """Layout of rows from the top: how many, first and last column of the road; starts in the row below them."""
    lines = [
        "#" * first + "." * (last - first + 1) + "#" * (width - 1 - last)
        for count, first, last in rows
        for _ in range(count)
    ]
    lines = [line[:-1] + "T" if row < finish_rows else line for row, line in enumerate(lines)]
    first = rows[-1][1]
    return "\n".join([*lines, "#" * first + "S" * starts + "#" * (width - first - starts)])


_TURN = ((1, 3, 16), (2, 2, 16), (1, 1, 16), (2, 0, 16), (1, 0, 9), (7, 0, 8), (8, 1, 8), (7, 2, 8), (2, 3, 8))
_SLANT = tuple((1, first, 22) for first in range(11, 0, -1))
_WIDE_TURN = (
    *((1, 16, 31), (1, 13, 31), (1, 12, 31), (4, 11, 31), (1, 12, 31), (1, 13, 31)),
    *((1, 14, 29), (1, 14, 26), (1, 14, 25), (1, 14, 23), (1, 14, 22), (1, 13, 22), (1, 12, 22)),
    *_SLANT,
    (2, 0, 22),
)
COURSES = {"right-turn": _course(17, 6, _TURN, 6), "wide-right-turn": _course(32, 9, _WIDE_TURN, 23)}
"""Figure 5.5, left and right: `.` road, `#` off the road, `S` starting line, `T` finish."""


class Racetrack(FiniteMDPEnv):
    """A car that accelerates up and to the right, around a turn and over the finish line, as soon as possible.

    State 25 · c + 5 · u + r: the car is on the c-th cell of the road, counted row by row, and moves u cells up and r to
    the right each step, 0 … 4; the last state is the end. Action 3 · (1 + y) + 1 + x adds y to u and x to r, -1 … 1.
    Both components are kept within 0 … 4. Both cannot be zero except on the starting line; elsewhere, an action that
    would stop the car keeps its velocity. With probability `noise` the velocity stays as it is in any case.

    Every step costs 1. The car's path is the straight line, as the cell nearest to it in each of max(u, r) equal parts.
    If it first meets the finish, the episode ends; if it leaves the road, the car is put on a random cell of the
    starting line with velocity zero.

    Args:
        course: `right-turn`, `wide-right-turn`, or a layout with characters as in `COURSES`.
        noise: probability that the action does nothing.
        render_mode: None, `rgb_array` or `ansi`.

    Raises:
        UsageError: there is no such course, it lacks a start or a finish, or the noise is not between 0 and 1.
    """

    def __init__(self, *, course: str = "right-turn", noise: float = 0.1, render_mode: str | None = None) -> None:
        if not 0.0 <= noise <= 1.0:
            raise UsageError(f"noise is {noise}, a probability must be between 0 and 1")
        self._track = _track(course)
        super().__init__(_model(self._track, noise), render_mode)

    def picture(self) -> Picture:
        """The course, the car, and its velocity; no car after the end, which has no place of its own."""
        layout, cell = self._track.layout, self.state // _VELOCITIES
        if cell == len(self._track.cells):
            return Picture(layout.cells, agent=self._middle_of_finish(), caption="finished", cell_size=16)
        up, right = divmod(self.state % _VELOCITIES, _SPEEDS)
        row, column = self._track.cells[cell].tolist()
        return Picture(layout.cells, agent=(row, column), caption=f"velocity {up} up, {right} right", cell_size=16)

    def _middle_of_finish(self) -> tuple[int, int]:
        finish = np.flatnonzero(self._track.layout.is_any("T"))
        return divmod(int(finish[len(finish) // 2]), self._track.layout.columns)


class _Track(NamedTuple):
    layout: Layout
    cells: Integers  # [C, 2] row and column of the road's cells
    number: Integers  # [rows, columns] number of a cell of the road, _FINISH, or _CRASH
    starts: Integers  # numbers of the cells of the starting line


def _track(course: str) -> _Track:
    if course not in COURSES and not set(course) & set("\n/"):
        raise UnknownNameError(
            "course", course, COURSES, hint="or a layout of . # S T, rows separated by newlines or /"
        )
    layout = Layout.parse(COURSES.get(course, course), ".#ST")
    road, finish, start = (layout.is_any(characters) for characters in (".S", "T", "S"))
    if not start.any() or not finish.any():
        raise UsageError("the course has no start (S) or no finish (T); draw at least one cell of each")
    number = np.where(finish, _FINISH, _CRASH)
    number[road] = np.arange(road.sum())
    where = np.flatnonzero(road)
    cells = np.stack(np.divmod(where, layout.columns), axis=1)
    return _Track(layout, cells, number.reshape(layout.rows, layout.columns), number[start])


def _landing(track: _Track) -> Integers:
    """Cell that each path ends on, _FINISH or _CRASH, [C, 25]."""
    up, right = np.divmod(np.arange(_VELOCITIES), _SPEEDS)
    parts = np.maximum(up, right)
    reached = np.repeat(np.arange(len(track.cells))[:, None], _VELOCITIES, axis=1)
    for part in range(1, _SPEEDS):
        share = part / np.maximum(parts, 1)
        row = track.cells[:, :1] - np.floor(up * share + 0.5).astype(np.int64)
        column = track.cells[:, 1:] + np.floor(right * share + 0.5).astype(np.int64)
        inside = (row >= 0) & (column < track.layout.columns)
        seen = np.where(inside, track.number[row * inside, column * inside], _CRASH)
        reached = np.where((reached >= 0) & (part <= parts), seen, reached)
    return reached


def _velocity_after(track: _Track) -> Integers:
    """Velocity after each action, without noise, [C, 25, 9]."""
    up, right = np.divmod(np.arange(_VELOCITIES)[:, None], _SPEEDS)
    more_up, more_right = np.divmod(np.arange(_ACTIONS), 3)
    faster = np.clip(up + more_up - 1, 0, _SPEEDS - 1) * _SPEEDS + np.clip(right + more_right - 1, 0, _SPEEDS - 1)
    kept = np.broadcast_to(np.arange(_VELOCITIES)[:, None], faster.shape)
    on_start = np.isin(np.arange(len(track.cells)), track.starts)
    after: Integers = np.where((faster == 0) & ~on_start[:, None, None], kept, faster)
    return after


def _model(track: _Track, noise: float) -> FiniteMDP:
    cells = len(track.cells)
    end = cells * _VELOCITIES
    velocity = np.stack([_velocity_after(track), np.zeros((cells, _VELOCITIES, _ACTIONS), np.int64)], axis=-1)
    velocity[..., 1] = np.arange(_VELOCITIES)[:, None]  # the noise keeps it
    place = _landing(track)[np.arange(cells)[:, None, None, None], velocity]
    chance = np.broadcast_to([1.0 - noise, noise], place.shape).copy()
    same = (place[..., 0] == place[..., 1]) & ((place[..., 0] < 0) | (velocity[..., 0] == velocity[..., 1]))
    chance[same] = (1.0, 0.0)

    # A crash has one outcome for each cell of the starting line, everything else has one.
    place, velocity, chance = place.reshape(-1, 2), velocity.reshape(-1, 2), chance.reshape(-1, 2)
    counts = np.where(place == _CRASH, len(track.starts), 1) * (chance > 0.0)
    branch = np.repeat(np.arange(counts.size), counts.ravel())
    within = np.arange(len(branch)) - np.repeat(np.cumsum(counts) - counts.ravel(), counts.ravel())
    landed, moving = place.ravel()[branch], velocity.ravel()[branch]
    restart = track.starts[within * (landed == _CRASH)] * _VELOCITIES
    next_state = np.select([landed == _CRASH, landed == _FINISH], [restart, end], landed * _VELOCITIES + moving)
    return _with_end(counts, (chance / np.maximum(counts, 1)).ravel()[branch], next_state, end, track)


def _with_end(counts: Integers, probability: Floats64, next_state: Integers, end: int, track: _Track) -> FiniteMDP:
    """The model of these outcomes and of the last state, which is over."""
    sizes = np.concatenate([[0], counts.sum(axis=1), np.ones(_ACTIONS, np.int64)])
    next_state = np.concatenate([next_state, np.full(_ACTIONS, end)])
    reward = np.concatenate([np.full(len(probability), -1.0), np.zeros(_ACTIONS)])
    start = np.zeros(end + 1)
    start[track.starts * _VELOCITIES] = 1.0 / len(track.starts)
    return FiniteMDP(
        _ACTIONS,
        np.cumsum(sizes),
        np.concatenate([probability, np.ones(_ACTIONS)]),
        next_state,
        reward,
        next_state == end,
        start,
    )
