"""Drawings of value tables, arrays in, matplotlib's figure out: grids with arrows, Blackjack's surfaces, lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rlkit.cli.pictures import new_figure
from rlkit.envs.grids import GridView
from rlkit.mdp import Floats64, Integers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLACKJACK_SHAPE = (32, 11, 2)
"""Player's sum, dealer's card, usable ace: gymnasium's observation."""
_FEW_CELLS = 150  # with more, numbers cannot be read
_MAP = "viridis"  # readable by the colour-blind, and in grey
_BLUE, _ORANGE, _INK, _WALL, _ENDED = "#1f6feb", "#d1570a", "#1c2430", "#39414d", "#ffffff"
_HIT, _STICK = "#cfe0f5", "#f6d3b4"
_SUMS, _CARDS = slice(12, 22), slice(1, 11)  # what figures 5.1 and 5.2 of Sutton and Barto (2018) show


def grid_figure(values: Floats64, view: GridView, actions: Integers | None, title: str) -> Figure:
    """V [S] as a heat map, an arrow for each of `actions` [S], walls dark, cells where an episode is over white.

    Numbers stand in the cells where there are at most 150.
    """
    few = view.rows * view.columns <= _FEW_CELLS
    size = float(np.clip((10.2 if few else 7.5) / view.columns, 0.2, 0.85))  # inches
    figure = new_figure(max(view.columns * size, 3.0) + 1.2, max(view.rows * size, 1.5) + 0.8)
    axes: Any = figure.subplots()
    shown = np.full(view.rows * view.columns, np.nan)
    shown[view.cell] = values
    shown[view.walls | view.ended] = np.nan
    ink = _paint_cells(axes, shown, view)
    _outline(axes, view)
    _write_letters(axes, view, ink)
    arrows = None if actions is None or view.arrows is None else view.arrows[actions]
    if arrows is not None:
        _draw_arrows(axes, view, arrows, ink, np.isfinite(shown))
    if few:
        _write_numbers(axes, shown, view.columns, ink, 0.0 if arrows is None else 0.27)
    axes.set_title(title, loc="left", fontsize=10)
    return figure


def _paint_cells(axes: Any, shown: Floats64, view: GridView) -> npt.NDArray[np.str_]:
    """Colour the cells; the colour [rows · columns] in which one can write on each."""
    import matplotlib as mpl
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize, to_rgba

    found = shown[np.isfinite(shown)]
    low, high = (float(found.min()), float(found.max())) if len(found) else (0.0, 1.0)
    if high - low < 1e-12:
        low, high = low - 0.5, high + 0.5
    scale = ScalarMappable(Normalize(low, high), mpl.colormaps[_MAP])
    colours = scale.to_rgba(np.nan_to_num(shown))
    colours[view.walls], colours[view.ended] = to_rgba(_WALL), to_rgba(_ENDED)
    axes.imshow(colours.reshape(view.rows, view.columns, 4))
    bar = axes.figure.colorbar(scale, ax=axes, shrink=0.9, aspect=24, pad=0.02)
    bar.outline.set_visible(False)
    bar.set_label("V(s)")
    light = colours[:, :3] @ np.array([0.299, 0.587, 0.114]) > 0.47
    return np.where(light, _INK, "#ffffff")


def _outline(axes: Any, view: GridView) -> None:
    """Thin lines around the cells, and no ticks (where major ones stand, matplotlib leaves out the lines)."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xticks(np.arange(1, view.columns) - 0.5, minor=True)
    axes.set_yticks(np.arange(1, view.rows) - 0.5, minor=True)
    axes.grid(which="minor", color="#c9ced6", linewidth=0.8)
    axes.tick_params(which="both", length=0, labelbottom=False, labelleft=False)
    for spine in axes.spines.values():
        spine.set_color("#c9ced6")


def _write_letters(axes: Any, view: GridView, ink: npt.NDArray[np.str_]) -> None:
    """The letter of a cell: large where an episode is over and there is no value, else small in the corner."""
    for cell, letter in enumerate("".join(view.letters)):
        row, column = divmod(cell, view.columns)
        if letter == "." or view.walls[cell]:
            continue
        if view.ended[cell]:
            axes.text(column, row, letter, ha="center", va="center", fontsize=14, fontweight="bold", color=_INK)
        else:
            axes.text(column - 0.42, row - 0.42, letter, ha="left", va="top", fontsize=8, color=ink[cell])


def _draw_arrows(
    axes: Any, view: GridView, arrows: Integers, ink: npt.NDArray[np.str_], has_value: npt.NDArray[np.bool_]
) -> None:
    """An arrow in the middle of each cell with a value; a dot where the action stays."""
    row, column = np.divmod(view.cell, view.columns)
    length = np.hypot(arrows[:, 0], arrows[:, 1])
    moves, stays = (length > 0) & has_value[view.cell], (length == 0) & has_value[view.cell]
    unit = 0.46 * arrows / np.maximum(length, 1.0)[:, None]
    lift = 0.1 if view.rows * view.columns <= _FEW_CELLS else 0.0
    colours = ink[view.cell]
    axes.quiver(
        column[moves], row[moves] - lift, unit[moves, 1], unit[moves, 0], color=colours[moves], pivot="mid",
        angles="xy", scale_units="xy", scale=1.0, units="xy", width=0.045, headwidth=4.5, headlength=4.5,
        headaxislength=4.0,
    )  # fmt: skip
    axes.scatter(column[stays], row[stays] - lift, s=32, color=colours[stays], linewidths=0.0)


def _write_numbers(axes: Any, shown: Floats64, columns: int, ink: npt.NDArray[np.str_], drop: float) -> None:
    """Three digits of each value, in the cell's lower part where `drop` makes room for an arrow."""
    cells = np.flatnonzero(np.isfinite(shown))
    largest = float(np.abs(shown[cells]).max(initial=0.0))
    decimals = int(np.clip(2 - np.floor(np.log10(max(largest, 1e-9))), 0, 3))
    for cell in cells:
        row, column = divmod(int(cell), columns)
        text = f"{shown[cell]:.{decimals}f}"
        axes.text(column, row + drop, text, ha="center", va="center", fontsize=8.5, color=ink[cell])


def blackjack_figure(values: Floats64, actions: Integers | None, title: str) -> Figure:
    """V [S] as surfaces above player's sum and dealer's card, as figure 5.1 of Sutton and Barto (2018).

    With `actions` [S] (0 stick, 1 hit) the policy stands on the left, as in figure 5.2.
    """
    surfaces = values.reshape(BLACKJACK_SHAPE)[_SUMS, _CARDS]
    has_policy = actions is not None
    figure = new_figure(9.0, 7.6) if has_policy else new_figure(9.4, 4.3)
    rows, columns = (2, 2) if has_policy else (1, 2)
    grid = figure.add_gridspec(rows, columns, width_ratios=(1.0, 1.35) if has_policy else None)
    for index, (ace, name) in enumerate(((1, "usable ace"), (0, "no usable ace"))):
        place = grid[index, 1] if has_policy else grid[0, index]
        axes = figure.add_subplot(place, projection="3d")
        _draw_surface(axes, surfaces[:, :, ace], f"value, {name}")
        if actions is not None:
            hits = actions.reshape(BLACKJACK_SHAPE)[_SUMS, _CARDS, ace] == 1
            _draw_choices(figure.add_subplot(grid[index, 0]), hits, f"policy, {name}")
    figure.suptitle(title, fontsize=11, x=0.02, ha="left")
    return figure


def _draw_surface(axes: Any, heights: Floats64, title: str) -> None:
    cards, sums = np.meshgrid(np.arange(1, 11), np.arange(12, 22))
    axes.plot_surface(
        cards, sums, heights, cmap=_MAP, vmin=-1.0, vmax=1.0, rstride=1, cstride=1, edgecolor="white", linewidth=0.4
    )
    axes.set(xlim=(1, 10), ylim=(12, 21), zlim=(-1, 1), xlabel="dealer shows", ylabel="player's sum")
    axes.set_xticks([1, 4, 7, 10], ["A", "4", "7", "10"])
    axes.set_yticks([12, 15, 18, 21])
    axes.set_zticks([-1, 0, 1])
    axes.view_init(elev=28, azim=-130)
    axes.set_box_aspect((1.0, 1.0, 0.62), zoom=1.05)
    axes.set_title(title, fontsize=10)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color((1.0, 1.0, 1.0, 0.0))


def _draw_choices(axes: Any, hits: npt.NDArray[np.bool_], title: str) -> None:
    """Where the policy hits and where it sticks, each named once."""
    from matplotlib.colors import ListedColormap

    axes.imshow(
        hits, cmap=ListedColormap([_STICK, _HIT]), vmin=0, vmax=1, origin="lower", extent=(0.5, 10.5, 11.5, 21.5)
    )
    axes.set_xticks(np.arange(1.5, 10), minor=True)
    axes.set_yticks(np.arange(12.5, 21), minor=True)
    axes.grid(which="minor", color="white", linewidth=0.8)
    axes.tick_params(which="both", length=0)
    axes.set_xticks(range(1, 11), ["A", *map(str, range(2, 11))])
    axes.set_yticks(range(12, 22))
    for region, name in ((hits, "HIT"), (~hits, "STICK")):
        cells = np.argwhere(region)
        if len(cells):
            row, column = cells[np.abs(cells - cells.mean(axis=0)).sum(axis=1).argmin()]
            axes.text(column + 1, row + 12, name, ha="center", va="center", fontweight="bold", color=_INK)
    axes.set(xlabel="dealer shows", ylabel="player's sum")
    axes.set_title(title, fontsize=10)
    axes.spines[:].set_visible(False)


def line_figure(values: Floats64, truth: Floats64 | None, title: str) -> Figure:
    """V [S] over the states, with the true values where known; NaN is left out.

    States that lie in no row give no line one could read: they become dots, in the order of their true values.
    """
    figure = new_figure(7.0, 4.0)
    axes: Any = figure.subplots()
    states = np.flatnonzero(np.isfinite(values))
    smooth = _is_smooth(values[states] if truth is None else truth[states])
    if truth is not None and not smooth:
        states = states[np.argsort(truth[states], kind="stable")]
    place = states if smooth or truth is None else np.arange(len(states))
    if truth is not None:
        axes.plot(place, truth[states], color=_ORANGE, linewidth=4.0, alpha=0.5, label="true values")
    if smooth:
        axes.plot(place, values[states], color=_BLUE, label="the run's", marker="o" if len(states) <= 60 else None)
    else:
        axes.plot(place, values[states], color=_BLUE, label="the run's", marker=".", linewidth=0.0, alpha=0.6)
    ordered = truth is not None and not smooth
    axes.set(xlabel="states, in the order of their true values" if ordered else "state", ylabel="V(s)")
    axes.set_title(title, loc="left", fontsize=10)
    axes.locator_params(axis="x", integer=True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    if truth is not None:
        axes.legend(frameon=False, loc="best")
    return figure


def _is_smooth(values: Floats64) -> bool:
    """Whether a line through the values goes up and down less than ten times their range."""
    return len(values) < 3 or float(np.abs(np.diff(values)).sum()) <= 10.0 * float(np.ptp(values))
