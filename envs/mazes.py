"""The mazes of Sutton and Barto (2018), chapter 8: one that stays, one that closes a path, one that opens another.

Reward 1 at the goal, which ends the episode, 0 elsewhere. Actions up, right, down, left.
"""

from __future__ import annotations

from typing import Any

from rlkit.envs.grid_world import MOVES, GridEnv, GridRules, GridWorld, Layout, grid_model
from rlkit.errors import UsageError
from rlkit.mdp import FiniteMDP, table_dynamics

DYNA_MAZE = ".......#T\n..#....#.\nS.#....#.\n..#......\n.....#...\n........."
_ABOVE, _BELOW = "........T\n.........\n.........\n", "\n.........\n...S....."
LEFT_OPEN = _ABOVE + ".########" + _BELOW
"""Figures 8.4 (after) and 8.5 (before): the wall leaves the left open; 16 steps to the goal."""
RIGHT_OPEN = _ABOVE + "########." + _BELOW
"""Figure 8.4 (before): the wall leaves the right open; 10 steps to the goal."""
BOTH_OPEN = _ABOVE + ".#######." + _BELOW
"""Figure 8.5 (after): both sides are open; 10 steps to the goal."""


class DynaMaze(GridWorld):
    """The maze of example 8.1 (figure 8.2), 6×9: 14 steps from the start to the goal.

    Args:
        render_mode: None, `rgb_array` or `ansi`.
    """

    def __init__(self, *, render_mode: str | None = None) -> None:
        super().__init__(DYNA_MAZE, render_mode=render_mode)


class ChangingMaze(GridEnv):
    """A maze that becomes another one after `change_at` env steps, counted over all episodes.

    `before` and `after` are the two models; `transition_model()` is the one that the next step follows. An agent that
    stands where a wall comes up can walk away. `stationary` is False, and the compiled engine has no dynamics for it.

    Args:
        before: layout of the first steps, as `GridWorld` has it.
        after: layout of the others, of the same size.
        change_at: env steps in the first layout.
        render_mode: None, `rgb_array` or `ansi`.

    Raises:
        UsageError: the layouts differ in size, or `change_at` is negative.
    """

    stationary = False

    def __init__(self, before: str, after: str, change_at: int, *, render_mode: str | None = None) -> None:
        layouts = Layout.parse(before, ".#ST"), Layout.parse(after, ".#ST")
        sizes = [(layout.rows, layout.columns) for layout in layouts]
        if sizes[0] != sizes[1]:
            raise UsageError(f"the layouts have {sizes[0]} and {sizes[1]} rows and columns; give both the same")
        if change_at < 0:
            raise UsageError(f"change_at is {change_at}, it must be at least 0 env steps")
        rules = GridRules(MOVES["four"])
        self.before: FiniteMDP = grid_model(layouts[0], rules)
        self.after: FiniteMDP = grid_model(layouts[1], rules, also_left=~layouts[0].is_any("#T"))
        self.change_at = change_at
        super().__init__(self.before, layouts[0], rules.moves, render_mode)
        self._layouts = layouts
        self._tables = table_dynamics(self.before), table_dynamics(self.after)
        self._count_to(0)

    def dynamics(self) -> None:  # type: ignore[override]  # the engine steps models that stay as they are
        """None: the compiled engine does not count steps."""

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """One transition of the layout of this moment."""
        result = super().step(action)
        self._count_to(self._steps + 1)
        return result

    def get_state(self) -> dict[str, Any]:
        """What continues this environment exactly, besides its generator."""
        return {"state": self.state, "last_action": self._last_action, "steps": self._steps}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from what `get_state` returned."""
        self.state, self._last_action = state["state"], state["last_action"]
        self._count_to(state["steps"])

    def _count_to(self, steps: int) -> None:
        self._steps, changed = steps, int(steps >= self.change_at)
        self._model, self._dynamics = (self.before, self.after)[changed], self._tables[changed]
        self._layout = self._layouts[changed]


class BlockingMaze(ChangingMaze):
    """The path on the right closes after `change_at` env steps, a longer one opens (example 8.2, figure 8.4).

    Args:
        change_at: env steps until then.
        render_mode: None, `rgb_array` or `ansi`.
    """

    def __init__(self, *, change_at: int = 1000, render_mode: str | None = None) -> None:
        super().__init__(RIGHT_OPEN, LEFT_OPEN, change_at, render_mode=render_mode)


class ShortcutMaze(ChangingMaze):
    """A shorter path opens after `change_at` env steps, the old one remains (example 8.3, figure 8.5).

    Args:
        change_at: env steps until then.
        render_mode: None, `rgb_array` or `ansi`.
    """

    def __init__(self, *, change_at: int = 3000, render_mode: str | None = None) -> None:
        super().__init__(LEFT_OPEN, BOTH_OPEN, change_at, render_mode=render_mode)
