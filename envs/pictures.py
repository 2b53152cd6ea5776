"""Pictures of small worlds: coloured cells with the agent on one of them, as pixels or as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from rlkit.errors import UsageError
from rlkit.mdp import Integers

Colour: TypeAlias = tuple[int, int, int]
"""Red, green and blue, 0 … 255."""
Pixels: TypeAlias = npt.NDArray[np.uint8]

PALETTE: dict[str, Colour] = {
    ".": (246, 245, 240),  # free
    "#": (74, 82, 96),  # wall
    "S": (196, 217, 236),  # start
    "T": (158, 203, 160),  # target, end
    "F": (240, 196, 150),  # forbidden
}
"""What a character looks like where an environment does not say otherwise."""

AGENT: Colour = (44, 95, 158)
AGENT_CHARACTER = "@"
_LINE: Colour = (214, 213, 206)


@dataclass(frozen=True, eq=False)
class GridShape:
    """Where the states of an environment lie on a grid, for heat maps and arrows.

    `cell` int64 [S] is row · columns + column of each state; `walls` bool [rows · columns] marks cells that no agent
    enters.
    """

    rows: int
    columns: int
    cell: Integers
    walls: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Picture:
    """A grid of cells, one character each; rows are equally long.

    `colours` adds to `PALETTE` or overrides it; `agent` is its row and column; the caption appears in the text only.

    >>> print(Picture(("S.", "#T"), agent=(0, 1), caption="step 1").text())
    S @
    # T
    step 1
    """

    cells: tuple[str, ...]
    colours: Mapping[str, Colour] = field(default_factory=dict)
    agent: tuple[int, int] | None = None
    caption: str = ""
    cell_size: int = 32  # pixels

    def rgb(self) -> Pixels:
        """Pixels, uint8 [rows · cell_size + 1, columns · cell_size + 1, 3]."""
        size, palette = self.cell_size, PALETTE | dict(self.colours)
        colours = np.array([[palette[character] for character in row] for row in self.cells], dtype=np.uint8)
        inside = colours.repeat(size, axis=0).repeat(size, axis=1)
        pixels: Pixels = np.empty((inside.shape[0] + 1, inside.shape[1] + 1, 3), dtype=np.uint8)
        pixels[:-1, :-1] = inside
        pixels[::size], pixels[:, ::size] = _LINE, _LINE
        if self.agent is not None:
            _paint_disk(pixels, (self.agent[0] + 0.5) * size, (self.agent[1] + 0.5) * size, 0.32 * size)
        return pixels

    def text(self) -> str:
        """The characters, `@` where the agent is, and the caption below."""
        rows = [list(row) for row in self.cells]
        if self.agent is not None:
            rows[self.agent[0]][self.agent[1]] = AGENT_CHARACTER
        lines = [" ".join(row) for row in rows]
        return "\n".join([*lines, self.caption] if self.caption else lines)


METADATA: dict[str, Any] = {"render_modes": ["rgb_array", "ansi"], "render_fps": 4}
"""gymnasium's `metadata` of an environment that has a picture."""


def checked_render_mode(render_mode: str | None) -> str | None:
    """The same render mode.

    Raises:
        UsageError: pictures are not drawn that way.
    """
    if render_mode not in (None, *METADATA["render_modes"]):
        raise UsageError(f"render_mode is {render_mode!r}, allowed: None, 'rgb_array', 'ansi'")
    return render_mode


def rendered(draw: Callable[[], Picture], render_mode: str | None) -> Pixels | str | None:
    """What an environment's `render` returns: pixels uint8 [H, W, 3], text, or None without a render mode."""
    if render_mode is None:
        return None
    return draw().rgb() if render_mode == "rgb_array" else draw().text()


def chain_picture(
    cells: str, position: int, caption: str, colours: Mapping[str, Colour] | None = None, width: int = 26
) -> Picture:
    """Picture of states in a row, folded into lines of `width` where there are more."""
    columns = min(width, len(cells))
    lines = [cells[begin : begin + columns] for begin in range(0, len(cells), columns)]
    padded = tuple(line.ljust(columns) for line in lines)
    outside: dict[str, Colour] = {" ": (255, 255, 255)}
    return Picture(padded, outside | dict(colours or {}), divmod(position, columns), caption)


def bar_picture(heights: Sequence[float], low: float, high: float, levels: int, marked: int | None) -> Picture:
    """Picture of upright bars from 0 to each height, on a scale from low to high; the agent is above bar `marked`."""
    edges = np.linspace(high, low, levels + 1)
    middles = (edges[:-1] + edges[1:]) / 2
    rows = []
    for middle in middles:
        within = [min(0.0, height) <= middle <= max(0.0, height) for height in heights]
        rows.append("".join("o" if inside else "." for inside in within))
    caption = " ".join(f"{height:+.1f}" for height in heights)
    agent = None if marked is None else (0, marked)
    return Picture(tuple(rows), {"o": (158, 188, 218)}, agent, caption)


def _paint_disk(pixels: Pixels, row: float, column: float, radius: float) -> None:
    rows, columns = np.ogrid[: pixels.shape[0], : pixels.shape[1]]
    pixels[(rows - row) ** 2 + (columns - column) ** 2 <= radius**2] = AGENT
