"""The 5×5 grid of Zhao (2025) as the course figures share it: tasks, ε-greedy policies, value tables with arrows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rlkit.mdp import FiniteMDP
from rlkit.tabular.planning import greedy_probabilities
from rlkit.types import Task
from textbook_figures.figure import Floats, task_for

GAMMA = 0.9
SIDE = 5
FORBIDDEN = ((1, 1), (1, 2), (2, 2), (3, 1), (3, 3), (4, 1))
TARGET = (3, 2)
TARGET_STATE = TARGET[0] * SIDE + TARGET[1]
_ARROWS = ((0.0, -1.0), (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0))
"""Of up, right, down and left on axes that count rows downwards; the fifth move, stay, is a ring."""
_LONGEST = 0.3


def course_task(total_steps: int = 100_000, **arguments: Any) -> Task:
    """The task of `rlkit/CourseGrid-v0`."""
    return task_for("rlkit/CourseGrid-v0", total_steps, **arguments)


def course_model(**arguments: Any) -> FiniteMDP:
    """Its transitions."""
    model = course_task(**arguments).model
    assert model is not None
    return model


def softened(policy: Floats, epsilon: float) -> Floats:
    """The ε-greedy version of a policy [S, A]: with probability ε an action drawn evenly."""
    return (1.0 - epsilon) * policy + epsilon / policy.shape[1]


def first_greedy(values: Floats) -> Floats:
    """The greedy policy [S, A] of action values [S, A]; the first of equally good actions."""
    return np.eye(values.shape[1])[greedy_probabilities(values).argmax(axis=1)]


def outcome_of(model: FiniteMDP) -> tuple[npt.NDArray[np.int64], Floats]:
    """Next state and reward of every state and action, [S, A]: nothing in this grid is random."""
    shape = (model.num_states, model.num_actions)
    return model.next_state.reshape(shape), model.reward.reshape(shape)


def show(axes: Any, values: Floats, policy: Floats | None = None, title: str = "", *, form: str = "{:.1f}") -> None:
    """The grid with state values [S] and, in grey, the actions of `policy` [S, A]; forbidden orange, target blue."""
    for row in range(SIDE):
        for column in range(SIDE):
            cell = (row, column)
            colour = "#f7d9b0" if cell in FORBIDDEN else "#b9d7ee" if cell == TARGET else "white"
            axes.add_patch(_square(column, row, colour))
            if policy is not None:
                _actions(axes, column, row, policy[row * SIDE + column])
            low = row if policy is None else row + 0.34
            axes.text(column, low, form.format(values[row * SIDE + column] + 0.0), ha="center", va="center", fontsize=7)
    axes.set(xlim=(-0.5, SIDE - 0.5), ylim=(SIDE - 0.5, -0.5), xticks=[], yticks=[], aspect="equal")
    axes.set_title(title, fontsize=9)
    axes.spines[:].set_visible(False)


def heat(axes: Any, table: Floats, title: str, **options: Any) -> Any:
    """A table [S, A] as an image with states in rows; the image, for its colour bar."""
    image = axes.imshow(table, aspect="auto", interpolation="nearest", **options)
    axes.set(xticks=range(5), yticks=range(0, SIDE * SIDE, SIDE), ylabel="state")
    axes.set_xticklabels(["↑", "→", "↓", "←", "○"], fontsize=8)
    axes.set_title(title, fontsize=9)
    return image


def _square(column: int, row: int, colour: str) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=colour, edgecolor="0.75", linewidth=0.8)


def _actions(axes: Any, column: int, row: int, probabilities: Floats) -> None:
    """An arrow of every move, longer where it is likelier, and a ring for staying."""
    middle = row - 0.13
    for (right, down), probability in zip(_ARROWS, probabilities[:4], strict=True):
        if probability > 0.01:
            length = _LONGEST * probability**0.5
            arrow = {"arrowstyle": "->", "color": "0.4", "linewidth": 1.0, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", (column + right * length, middle + down * length), (column, middle), arrowprops=arrow)
    if probabilities[4] > 0.01:
        size = 13 * probabilities[4] ** 0.5
        axes.plot(column, middle, "o", markersize=size, markerfacecolor="none", color="0.4")
