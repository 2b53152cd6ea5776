"""Chapters 3 and 4: values by planning with a known model."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlkit.mdp import FiniteMDP, Integers
from rlkit.tabular.planning import (
    action_values,
    greedy_probabilities,
    improve,
    model_of,
    optimal_action_values,
    optimality_sweep,
    policy_sweep,
    policy_values,
)
from textbook_figures.figure import Check, Floats, Result, Scale, between, figure, near, task_for, tidy

_RANDOM_5X5 = (
    (3.31, 8.79, 4.43, 5.32, 1.49),
    (1.52, 2.99, 2.25, 1.91, 0.55),
    (0.05, 0.74, 0.67, 0.36, -0.40),
    (-0.97, -0.44, -0.35, -0.59, -1.18),
    (-1.86, -1.35, -1.23, -1.42, -1.98),
)
_PRINTED_5X5 = (
    (3.3, 8.8, 4.4, 5.3, 1.5),
    (1.5, 3.0, 2.3, 1.9, 0.5),
    (0.1, 0.7, 0.7, 0.4, -0.4),
    (-1.0, -0.4, -0.4, -0.6, -1.2),
    (-1.9, -1.3, -1.2, -1.4, -2.0),
)
_OPTIMAL_5X5 = {0: (21.98, 24.42, 21.98, 19.42, 17.48), 4: (14.42, 16.02, 14.42, 12.98, 11.68)}
_OPTIMAL_MOVES = (  # figure 3.5, right; up, right, down, left
    ("R", "URDL", "L", "URDL", "L"),
    ("UR", "U", "UL", "L", "L"),
    ("UR", "U", "UL", "UL", "UL"),
    ("UR", "U", "UL", "UL", "UL"),
    ("UR", "U", "UL", "UL", "UL"),
)
_MOVES = ((0.0, -1.0), (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0))
"""Columns to the right and rows down, of up, right, down, left."""
_RANDOM_4X4 = {  # figure 4.1, which cuts -1.75 to -1.7
    0: np.zeros((4, 4)),
    1: np.array([[0, -1, -1, -1], [-1, -1, -1, -1], [-1, -1, -1, -1], [-1, -1, -1, 0]]),
    2: np.array([[0, -1.7, -2, -2], [-1.7, -2, -2, -2], [-2, -2, -2, -1.7], [-2, -2, -1.7, 0]]),
    3: np.array([[0, -2.4, -2.9, -3], [-2.4, -2.9, -3, -2.9], [-2.9, -3, -2.9, -2.4], [-3, -2.9, -2.4, 0]]),
    10: np.array([[0, -6.1, -8.4, -9], [-6.1, -7.7, -8.4, -8.4], [-8.4, -8.4, -7.7, -6.1], [-9, -8.4, -6.1, 0]]),
}
_LIMIT_4X4 = np.array([[0, -14, -20, -22], [-14, -18, -20, -20], [-20, -20, -18, -14], [-22, -20, -14, 0]])


@figure("3.2", "gridworld: values of the random policy")
def random_gridworld(scale: Scale) -> Result:
    """γ = 0.9, solved exactly."""
    model = _model("rlkit/Gridworld5x5-v0")
    values = policy_values(model, 0.9, np.full((25, 4), 0.25))
    equations = np.abs(_random_walk_5x5(values) - values).max()

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        _draw_grid(axes, values.reshape(5, 5), "Gridworld, random policy, γ = 0.9")

    return Result(
        [
            _farthest("farthest from the same with 2 decimals", values, np.array(_RANDOM_5X5), 0.0051, "3e [calc]"),
            _farthest("farthest from figure 3.2 as printed", values, np.array(_PRINTED_5X5), 0.0501, "1 decimal"),
            between("error of the Bellman equations, written out again", 0, 1e-8, equations, "equation 3.14"),
        ],
        draw,
        {"gamma": 0.9, "policy": "uniform", "seeds": "none, nothing is random"},
        {"values": values.reshape(5, 5).round(4).tolist()},
    )


@figure("3.5", "gridworld: optimal values and policy")
def optimal_gridworld(scale: Scale) -> Result:
    """γ = 0.9, by value iteration."""
    model = _model("rlkit/Gridworld5x5-v0")
    optimal = optimal_action_values(model, 0.9)
    values, greedy = optimal.max(axis=1).reshape(5, 5), greedy_probabilities(optimal, 1e-6) > 0.0
    wanted = np.array([[letter in cell for letter in "URDL"] for row in _OPTIMAL_MOVES for cell in row])
    closed = 10.0 / (1.0 - 0.9**5)  # from A through A' and four moves up to A again

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        _draw_grid(axes, values, "Gridworld, optimal values and all optimal moves, γ = 0.9", greedy)

    return Result(
        [
            *(
                _farthest(f"farthest from figure 3.5, row {row + 1}", values[row], np.array(numbers), 0.0051, "3e")
                for row, numbers in _OPTIMAL_5X5.items()
            ),
            near("v*(A)", closed, values[0, 1], 1e-8, "10 / (1 - γ⁵)"),
            near("moves unlike figure 3.5", 0, float((greedy != wanted).sum()), 0, "of 100"),
        ],
        draw,
        {"gamma": 0.9, "seeds": "none, nothing is random"},
        {"values": values.round(4).tolist()},
    )


@figure("4.1", "4×4 gridworld: iterative policy evaluation of the random policy")
def policy_evaluation(scale: Scale) -> Result:
    """After 0, 1, 2, 3, 10 sweeps and in the limit, from zero, two arrays."""
    model, policy = _model("rlkit/Gridworld4x4-v0"), np.full((16, 4), 0.25)
    exact = policy_values(model, 1.0, policy).reshape(4, 4)
    after: dict[int, Floats] = {}
    values, new = np.zeros(16), np.zeros(16)
    sweeps = 0
    while sweeps == 0 or np.abs(new - values).max() > 1e-12:
        values, new = new, values
        after[sweeps] = values.reshape(4, 4).copy()
        policy_sweep(model_of(model, 1.0), values, policy, new)
        sweeps += 1
    limit = values.reshape(4, 4).copy()

    def draw(canvas: Any) -> None:
        for axes, k in zip(canvas.subplots(2, 3).flat, (0, 1, 2, 3, 10, None), strict=True):
            shown = limit if k is None else after[k]
            greedy = greedy_probabilities(action_values(model, 1.0, shown.ravel()), 1e-6) > 0.0
            greedy[[0, -1]] = False
            _draw_grid(axes, shown, f"k = {'∞' if k is None else k}", greedy, decimals=1, low=-22, high=0)

    return Result(
        [
            # the book cuts some numbers to one decimal and rounds others, so up to 0.05 of each is its own
            *(_farthest(f"farthest from figure 4.1, k = {k}", after[k], _RANDOM_4X4[k], 0.0501) for k in _RANDOM_4X4),
            _farthest("farthest from figure 4.1, k = ∞", limit, _LIMIT_4X4, 1e-8),
            _farthest("… and from linear algebra", limit, exact, 1e-8),
        ],
        draw,
        {"gamma": 1.0, "policy": "uniform", "sweeps until nothing moves by 1e-12": sweeps, "seeds": "none"},
        {f"k = {k}": after[k].round(4).tolist() for k in (1, 2, 3, 10)} | {"k = ∞": limit.round(4).tolist()},
    )


@figure("4.2", "Jack's car rental: policy iteration")
def car_rental(scale: Scale) -> Result:
    """γ = 0.9, from the policy that moves no cars."""
    mdp, gamma = _model("rlkit/CarRental-v0"), 0.9
    chosen: Integers = np.full(mdp.num_states, 5)
    policies, changed = [_cars_moved(chosen)], 1
    while changed:
        values = policy_values(mdp, gamma, np.eye(mdp.num_actions)[chosen])
        changed = improve(model_of(mdp, gamma), values, chosen)
        if (_cars_moved(chosen) != policies[-1]).any():
            policies.append(_cars_moved(chosen))
    independent = _car_rental_values(policies[-1], gamma)
    surface = values.reshape(21, 21)

    def draw(canvas: Any) -> None:
        canvas.set_size_inches(9.0, 6.0)
        for place, policy in enumerate(policies[:5], start=1):
            _draw_policy(canvas.add_subplot(2, 3, place), policy, f"$\\pi_{{{place - 1}}}$")
        _draw_surface(canvas.add_subplot(2, 3, 6, projection="3d"), surface)

    return Result(
        [
            near("improvements until the policy is stable", 4, len(policies) - 1, 0, "figure 4.2: π₄ is optimal"),
            near("most cars moved from first to second", 5, policies[-1].max(), 0, "figure 4.2"),
            near("most cars moved from second to first", 4, -policies[-1].min(), 0, "figure 4.2"),
            between("lowest value", 421, 422, surface.min(), "policy_iteration_car_rental on GitHub: 421"),
            between("highest value", 636, 637, surface.max(), "the same: 636"),
            _farthest("farthest from a model written again", surface, independent, 1e-5, "numpy; ours drops p < 1e-12"),
        ],
        draw,
        {"gamma": gamma, "first policy": "moves nothing", "seeds": "none, nothing is random"},
        {
            "cars moved by π4, by cars at the first (rows) and second location": policies[-1].tolist(),
            "values": surface[::5, ::5].round(3).tolist(),
        },
    )


@figure("4.3", "the gambler's problem: value iteration")
def gambler(scale: Scale) -> Result:
    """Heads with probability 0.4; sweeps in place as in the book's algorithm."""
    mdp = _model("rlkit/Gambler-v0")
    model, values = model_of(mdp, 1.0), np.zeros(101)
    after: dict[int, Floats] = {}
    change, sweeps = 1.0, 0
    while change > 1e-14:
        change = optimality_sweep(model, values, values)
        sweeps += 1
        after[sweeps] = values.copy()
    stakes = _smallest_stakes(action_values(mdp, 1.0, values))
    bold = _bold_play(0.4)

    def draw(canvas: Any) -> None:
        upper, lower = canvas.subplots(2, sharex=True)
        capital = np.arange(1, 100)
        for k in (1, 2, 3, 32):
            upper.plot(capital, after[min(k, sweeps)][1:-1], linewidth=1.2, label=f"sweep {k}")
        upper.plot(capital, values[1:-1], linewidth=1.2, color="black", label=f"final (sweep {sweeps})")
        lower.step(capital, stakes[1:-1], where="mid", linewidth=1.2, color="black")
        tidy(upper, "The gambler's problem, p = 0.4", "", "value estimate")
        tidy(lower, "", "capital", "smallest best stake", legend=False)

    return Result(
        [
            *(near(f"v*({s})", v, values[s], 1e-8, "3e") for s, v in ((25, 0.16), (50, 0.4), (75, 0.64))),
            _farthest("farthest from bold play, by linear algebra", values[1:-1], bold[1:-1], 1e-8),
            *(near(f"stake at {s}", a, stakes[s], 0, "figure 4.3") for s, a in ((25, 25), (50, 50), (51, 1), (75, 25))),
            near("stakes unlike figure 4.3's teeth", 0, (stakes[1:-1] != _teeth()).sum(), 0, "of 99"),
        ],
        draw,
        {"p_h": 0.4, "gamma": 1.0, "sweeps until nothing moves by 1e-14": sweeps, "seeds": "none"},
        {"values": values[1:-1].round(5).tolist(), "stakes": stakes[1:-1].tolist()},
    )


def _model(env: str) -> FiniteMDP:
    model = task_for(env).model
    assert model is not None
    return model


def _farthest(what: str, measured: Floats, expected: Any, tolerance: float, source: str = "") -> Check:
    distance = float(np.abs(np.asarray(measured).ravel() - np.asarray(expected).ravel()).max())
    return between(what, 0.0, tolerance, distance, source)


def _random_walk_5x5(values: Floats) -> Floats:
    """One sweep of example 3.5 written out from the book's words, to compare with the environment."""
    grid, new = values.reshape(5, 5), np.zeros((5, 5))
    for row in range(5):
        for column in range(5):
            for right, down in _MOVES:
                reached = row + int(down), column + int(right)
                inside = min(reached) >= 0 and max(reached) < 5
                outcome = 0.9 * grid[reached] if inside else -1.0 + 0.9 * grid[row, column]
                new[row, column] += 0.25 * outcome
    new[0, 1], new[0, 3] = 10.0 + 0.9 * grid[4, 1], 5.0 + 0.9 * grid[2, 3]
    return new.ravel()


def _cars_moved(chosen: Integers) -> Integers:
    """Cars that really move, [21, 21]: no more than are there, or than there is room for."""
    first, second = np.indices((21, 21))
    wanted = chosen.reshape(21, 21) - 5
    moved: Integers = np.clip(wanted, np.maximum(-second, first - 20), np.minimum(first, 20 - second))
    return moved


def _car_rental_values(moved: Integers, gamma: float) -> Floats:
    """Values [21, 21] of a policy, from example 4.2's words: Poisson sums, and iteration until nothing moves."""
    rented, reached = zip(*(_day(*means) for means in ((3.0, 3.0), (4.0, 2.0))), strict=True)
    first, second = np.indices((21, 21))
    morning = first - moved, second + moved
    earned = 10.0 * (rented[0][morning[0]] + rented[1][morning[1]]) - 2.0 * np.abs(moved)
    values = np.zeros((21, 21))
    for _ in range(400):
        values = earned + gamma * (reached[0] @ values @ reached[1].T)[morning]
    return values


def _day(requests: float, returns: float) -> tuple[Floats, Floats]:
    """Cars rented on average [21], and probabilities of the cars in the evening [21, 21], by cars in the morning."""
    from scipy.stats import poisson

    asking, coming = (poisson.pmf(np.arange(40), mean) for mean in (requests, returns))
    rented, reached = np.zeros(21), np.zeros((21, 21))
    for cars in range(21):
        for asked, back in np.ndindex(40, 40):
            chance = asking[asked] * coming[back]
            rented[cars] += chance * min(asked, cars)
            reached[cars, min(cars - min(asked, cars) + back, 20)] += chance
    return rented, reached


def _smallest_stakes(values: Floats) -> Integers:
    """The least of the best stakes, as in the book's figure, [101]."""
    stakes: Integers = greedy_probabilities(values, 1e-10).argmax(axis=1) + 1
    return stakes


def _teeth() -> Integers:
    """Figure 4.3's final policy for 1 … 99: the distance to a multiple of 25, and peaks at 25, 50 and 75."""
    over = np.arange(1, 100) % 25
    stakes: Integers = np.minimum(over, 25 - over)
    stakes[[24, 49, 74]] = 25, 50, 25
    return stakes


def _bold_play(p: float) -> Floats:
    """Values of staking all that helps, which is optimal for p < 1/2 (Dubins and Savage 1965), [101]."""
    matrix, constant = np.eye(101), np.zeros(101)
    constant[100] = 1.0
    for capital in range(1, 100):
        stake = min(capital, 100 - capital)
        matrix[capital, capital + stake] -= p
        matrix[capital, capital - stake] -= 1.0 - p
    solved: Floats = np.linalg.solve(matrix, constant)
    return solved


def _draw_grid(
    axes: Any,
    values: Floats,
    title: str,
    greedy: Any = None,
    decimals: int = 2,
    low: float | None = None,
    high: float | None = None,
) -> None:
    """A heat map with numbers, and arrows from the middle of each cell for `greedy` [S, 4]."""
    axes.imshow(values, cmap="YlGnBu_r", vmin=low, vmax=high, alpha=0.55)
    for (row, column), value in np.ndenumerate(values):
        middle = row if greedy is None else row + 0.28
        axes.text(column, middle, f"{value:.{decimals}f}", ha="center", va="center", fontsize=8)
    for state, action in np.argwhere(greedy) if greedy is not None else ():
        row, column = divmod(int(state), values.shape[1])
        right, down = _MOVES[action]
        arrow = {"arrowstyle": "-|>", "linewidth": 0.9, "color": "black", "shrinkA": 0, "shrinkB": 0}
        tail, head = (column, row - 0.15), (column + 0.28 * right, row - 0.15 + 0.28 * down)
        axes.annotate("", head, tail, arrowprops=arrow)
    axes.set(title=title, xticks=[], yticks=[])


def _draw_policy(axes: Any, policy: Integers, title: str) -> None:
    """Cars moved, as areas of one colour with their number, like the book."""
    image = axes.imshow(policy, origin="lower", cmap="RdBu", vmin=-5.5, vmax=5.5)
    axes.contour(policy, levels=np.arange(-4.5, 5), colors="black", linewidths=0.4, linestyles="solid")
    for moved in np.unique(policy):
        spots = np.argwhere(policy == moved)
        row, column = spots[np.abs(spots - np.median(spots, axis=0)).sum(axis=1).argmin()]
        axes.text(column, row, str(moved), ha="center", va="center", fontsize=7)
    axes.set(title=title, xticks=(0, 10, 20), yticks=(0, 10, 20))
    axes.set_xlabel("cars at the second", fontsize=8)
    axes.set_ylabel("cars at the first", fontsize=8)
    image.set_alpha(0.7)


def _draw_surface(axes: Any, surface: Floats) -> None:
    first, second = np.indices(surface.shape)
    axes.plot_surface(second, first, surface, cmap="YlGnBu_r", linewidth=0.2, edgecolor="grey")
    axes.set(title="value of $\\pi_4$", xlabel="second", ylabel="first", xticks=(0, 10, 20), yticks=(0, 10, 20))
    axes.tick_params(labelsize=7)
    axes.view_init(elev=28, azim=-125)
