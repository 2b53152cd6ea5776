"""Chapter 5: Monte Carlo methods, on Blackjack and where importance sampling has infinite variance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numba
import numpy as np

from rlkit.agents.monte_carlo import MCExploringStarts, MCOffPolicyPrediction, MCPrediction
from rlkit.tabular.rules import importance_ratio, incremental_mean, weighted_mean
from textbook_figures.figure import Floats, Result, Scale, band, between, figure, near, task_for, tidy

_SUMS, _DEALER = np.arange(12, 22), np.arange(1, 11)
_DEALER_NAMES = ("A", *(str(card) for card in range(2, 11)))
_CHANCE = {card: (4 if card == 10 else 1) / 13 for card in range(1, 11)}
_STICK_21 = (0.638, 0.882, 0.885, 0.889, 0.892, 0.903, 0.926, 0.931, 0.939, 0.889)
_THRESHOLDS = {False: (17, 13, 13, 12, 12, 12, 17, 17, 17, 17), True: (19, 18, 18, 18, 18, 18, 18, 18, 19, 19)}
"""Least sum at which sticking is optimal, by the dealer's card and whether there is a usable ace."""
_EVERYTHING = 1_000_000_000
_GAMES = "400,000 games of gymnasium's Blackjack"


@figure("5.1", "Blackjack, stick at 20: first-visit Monte Carlo after 10,000 and 500,000 episodes")
def blackjack_prediction(scale: Scale) -> Result:
    """State values of one run as surfaces; checks on 100."""
    task = task_for("Blackjack-v1")
    config = MCPrediction.Config(gamma=1.0, policy="stick-20", visits="first")
    seeds, tables = scale.runs(100), []
    for seed in seeds:
        agent: Any = MCPrediction(config, replace(task, seed=seed))
        agent.advance(_EVERYTHING, 10_000)
        few = _grid(agent.tables.values[0, :, 0])
        agent.advance(_EVERYTHING, 490_000)
        many = _grid(agent.tables.values[0, :, 0])
        tables.append((few, many))
    runs = np.array(tables)
    exact = np.array([[[value(s, d, ace, _sticks_at_20) for d in _DEALER] for s in _SUMS] for ace in (True, False)])
    errors = np.sqrt(np.nanmean((runs - _without_naturals(exact)) ** 2, axis=(0, 2, 3, 4)))
    mean = runs[:, 1].mean(axis=0)

    def draw(canvas: Any) -> None:
        canvas.set_size_inches(8.0, 6.4)
        for row, ace in enumerate(("usable ace", "no usable ace")):
            for column, episodes in enumerate(("10,000", "500,000")):
                axes = canvas.add_subplot(2, 2, 2 * row + column + 1, projection="3d")
                _draw_values(axes, runs[0, column, row], f"{ace}, {episodes} episodes")

    return Result(
        [
            near("V(13, usable ace, dealer 2) in theory", -0.2772, exact[0, 1, 1], 5e-6, "3e [calc]"),
            near("V(13, usable ace, dealer 2), mean of runs", -0.2772, mean[0, 1, 1], 0.012, "3e; 3 errors"),
            between("V(21, no usable ace, ·), farthest", 0, 0.005, np.abs(mean[1, -1] - _STICK_21).max(), "3e [calc]"),
            between("root mean square error, 10,000 episodes", 0.05, 0.4, errors[0], "theory; figure 5.1 is rough"),
            between("root mean square error, 500,000 episodes", 0.0, 0.03, errors[1], "theory; figure 5.1 is smooth"),
        ],
        draw,
        {"seeds": f"{seeds[0]} … {seeds[-1]}, 0 is drawn", "policy": "stick-20", "env": "Blackjack-v1"},
        {"usable ace, mean of runs": mean[0].round(4).tolist(), "no usable ace": mean[1].round(4).tolist()},
    )


@figure("5.2", "Blackjack: optimal policy and values by Monte Carlo with exploring starts")
def blackjack_control(scale: Scale) -> Result:
    """50 million steps; 4 runs, of which the first is drawn."""
    task = task_for("Blackjack-v1")
    steps, seeds = round(50_000_000 * scale.factor), range(4)
    tables = []
    for seed in seeds:
        agent: Any = MCExploringStarts(MCExploringStarts.Config(gamma=1.0), replace(task, seed=seed))
        for _ in range(50):  # the outcomes of all episodes at once would fill the memory
            agent.advance(steps // 50, steps // 50)
        tables.append(np.stack([_grid(agent.tables.values[0, :, action]) for action in (0, 1)], axis=-1))
    runs = np.array(tables)  # [run, ace, sum, dealer, action]
    thresholds = np.array([[[_threshold(table[:, d]) for d in range(10)] for table in run] for run in runs])
    wanted = np.array([_THRESHOLDS[True], _THRESHOLDS[False]])
    gap = np.array([[[_gap(s, d, ace) for d in _DEALER] for s in _SUMS] for ace in (True, False)])
    wrong = (runs[..., 0] > runs[..., 1]) != (gap > 0.0)
    exact = np.array([[[value(s, d, ace, _sticks_best) for d in _DEALER] for s in _SUMS] for ace in (True, False)])
    errors = np.abs(runs.max(axis=-1) - _without_naturals(exact))

    def draw(canvas: Any) -> None:
        canvas.set_size_inches(8.0, 6.4)
        for row, ace in enumerate(("usable ace", "no usable ace")):
            _draw_decisions(canvas.add_subplot(2, 2, 2 * row + 1), runs[0, row], f"$\\pi_*$, {ace}")
            axes = canvas.add_subplot(2, 2, 2 * row + 2, projection="3d")
            _draw_values(axes, runs[0, row].max(axis=-1), f"$v_*$, {ace}")

    return Result(
        [
            near("thresholds in theory unlike figure 5.2", 0, (wanted != _best_thresholds()).sum(), 0, "of 20, 3e"),
            between("thresholds like figure 5.2, worst run", 18, 20, (thresholds == wanted).sum((1, 2)).min(), "3e"),
            between("worst loss by a wrong decision", 0, 0.005, np.where(wrong, np.abs(gap), 0).max(), "theory"),
            between("root mean square error of the values", 0, 0.02, np.sqrt(np.nanmean(errors**2)), "theory"),
        ],
        draw,
        {
            "seeds": "0 … 3, 0 is drawn",
            "steps": steps,
            "thresholds like figure 5.2, of 20, by run": (thresholds == wanted).sum((1, 2)).tolist(),
            "near ties (less than 0.01 between hit and stick)": _names(np.abs(gap) < 0.01, gap),
            "decided otherwise in some run": _names(wrong.any(axis=0), gap),
        },
        {"stick from, usable ace": thresholds[:, 0].tolist(), "stick from, no usable ace": thresholds[:, 1].tolist()},
    )


@figure("5.3", "Blackjack: ordinary and weighted importance sampling of one state's value")
def importance_sampling(scale: Scale) -> Result:
    """Every episode begins with a usable ace, sum 13, dealer 2; a coin decides, sticking at 20 is evaluated."""
    seeds, episodes = scale.runs(2000), 10_000
    estimates = np.array([_estimates(np.random.default_rng(seed), episodes) for seed in seeds])
    truth = value(13, 2, True, _sticks_at_20)
    variance = _weighted_square(13, 2, True) - truth**2
    points = np.unique(np.round(np.geomspace(1, episodes, 120)).astype(np.int64))
    squares = (estimates[:, points - 1] - truth) ** 2  # [K, X, 2]
    ordinary, weighted = squares.mean(axis=0).T
    ratio = (ordinary * points / variance)[points >= 10].mean()
    five, ten = (int(np.flatnonzero(points >= n)[0]) for n in (5, 10))

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        band(axes, points, squares[:, :, 0], "ordinary importance sampling")
        band(axes, points, squares[:, :, 1], "weighted importance sampling")
        axes.plot(points, variance / points, "k:", linewidth=1, label="ordinary in theory: variance / n")
        axes.set(xscale="log", xlim=(1, episodes), ylim=(0, 5))
        tidy(axes, "One state of Blackjack, off-policy", "episodes (log scale)", "mean square error")

    return Result(
        [
            near("ordinary, one episode: variance in theory", 10.28, variance, 0.4, _GAMES + "; figure 5.3: > 5"),
            near("ordinary, after 10 episodes", 1.2, ordinary[ten], 0.4, "figure 5.3"),
            near("ordinary · n / variance in theory, n ≥ 10", 1, ratio, 0.1),
            near("weighted, greatest", 0.515, weighted.max(), 0.04, _GAMES + "; figure 5.3: about 0.5"),
            between("weighted / ordinary, after 5 episodes", 0, 0.3, weighted[five] / ordinary[five], "figure 5.3"),
            between("ordinary, after 1000 episodes", 0, 0.05, ordinary[points >= 1000][0], "figure 5.3: near 0"),
            between("weighted, after 1000 episodes", 0, 0.01, weighted[points >= 1000][0], "figure 5.3: near 0"),
            near("weighted estimate after 10,000 episodes", -0.2772, estimates[:, -1, 1].mean(), 0.005, "3e [calc]"),
        ],
        draw,
        {"seeds": f"0 … {seeds[-1]} (100 runs in the book)", "variance of one ordinary estimate": round(variance, 4)},
        {
            "episodes": points[::3].tolist(),
            "ordinary": ordinary[::3].round(5).tolist(),
            "weighted": weighted[::3].round(6).tolist(),
        },
    )


@figure("5.4", "infinite variance: ordinary importance sampling does not settle")
def infinite_variance(scale: Scale) -> Result:
    """10 runs of ordinary importance sampling; always left is evaluated, a coin decides."""
    task = task_for("rlkit/InfiniteVariance-v0")
    last = _EPISODES_5_4 * max(scale.factor, 1e-3)
    seeds, points = range(10), np.unique(np.round(np.geomspace(1, last, 200)).astype(np.int64))
    config = MCOffPolicyPrediction.Config(gamma=1.0, policy="always-0", behaviour="uniform", weighting="ordinary")
    agents = [MCOffPolicyPrediction(config, replace(task, seed=seed)) for seed in seeds]
    with ThreadPoolExecutor(scale.threads) as pool:
        ordinary = np.array(list(pool.map(partial(_estimates_along, points=points), agents)))
    weighted = [_weighted_jumps(config.model_copy(update={"weighting": "weighted"}), task, seed) for seed in seeds]
    spread = np.median(np.abs(ordinary - np.median(ordinary, axis=0)), axis=0)
    thousand, decade = (int(np.flatnonzero(points >= n)[0]) for n in (1000, points[-1] / 10))
    shrinks, moves = spread[-1] / spread[thousand], np.ptp(ordinary[:, decade:], axis=1)
    theory = _ordinary_in_theory(int(points[-1]))
    low, high = np.quantile(theory, (0.025, 0.975))
    inside = ((ordinary[:, -1] > low) & (ordinary[:, -1] < high)).sum()

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        for run in ordinary:
            axes.plot(points, run, linewidth=0.9)
        axes.axhline(1.0, color="black", linewidth=1, linestyle="--", label="truth; weighted from its first return on")
        axes.set(xscale="log", xlim=(1, points[-1]), ylim=(0, 4))
        tidy(axes, "Ordinary importance sampling, 10 runs", "episodes (log scale)", "estimate of v(s)")

    return Result(
        [
            near("weighted: values in use other than 0 and 1", 0, sum(jump[0] for jump in weighted), 0, "example 5.5"),
            near("weighted: runs that end at 1", 10, sum(jump[1] == 1.0 for jump in weighted), 0, "example 5.5"),
            between("ordinary: widest move in the last nine tenths", 0.1, 99, moves.max(), "figure 5.4 still jumps"),
            between("ordinary: runs at the end in the middle 95 % of theory", 8, 10, inside, "counts of lengths drawn"),
            near("ordinary: median at the end", np.median(theory), np.median(ordinary[:, -1]), 0.04, "theory, below 1"),
            between(f"ordinary: spread at the end / after {points[thousand]}", 0.05, 2, shrinks, "√n: 0.003"),
        ],
        draw,
        {"seeds": "0 … 9", "episodes": int(points[-1])},
        {"episodes": points[::4].tolist(), "estimates": ordinary[:, ::4].round(4).tolist()},
    )


_EPISODES_5_4 = 100_000_000
_AT_ONCE = 1_000_000
"""Episodes of one call, which holds the outcomes of all of them."""


def _ordinary_in_theory(episodes: int) -> Floats:
    """20,000 estimates without an environment: left k times and the end has probability 0.05 · 0.45^(k-1), ratio 2^k.

    Such a tail has index log 2.2 / log 2 = 1.15, so that means spread as n^(-0.13), not n^(-0.5).
    """
    lengths = np.arange(1, 60)
    counts = np.random.default_rng(0).poisson(episodes * 0.05 * 0.45 ** (lengths - 1), size=(20_000, 59))
    estimates: Floats = (counts * 2.0**lengths).sum(axis=1) / episodes
    return estimates


def _estimates_along(agent: Any, points: Any) -> Floats:
    """The start's value after these numbers of episodes."""
    estimates = []
    for episodes in np.diff(points, prepend=0):
        for begin in range(0, int(episodes), _AT_ONCE):
            agent.advance(_EVERYTHING, min(_AT_ONCE, int(episodes) - begin))
        estimates.append(agent.tables.values[0, 0, 0])
    return np.array(estimates)


def _weighted_jumps(config: Any, task: Any, seed: int) -> tuple[int, float]:
    """How often the estimate was neither 0, before the first return of 1, nor 1, in 1000 episodes; and the last one."""
    agent: Any = MCOffPolicyPrediction(config, replace(task, seed=seed))
    after = agent.advance(_EVERYTHING, 1000, np.array([0.0, np.nan]))[:, 2]
    return int((~np.isin(after, (0.0, 1.0))).sum()) + int((np.diff(after) < 0.0).sum()), float(after[-1])


@numba.njit
def _estimates(rng: np.random.Generator, episodes: int) -> Floats:
    """Ordinary and weighted estimates after each episode, [E, 2]."""
    estimates = np.empty((episodes, 2))
    ordinary, weighted, total_weight = 0.0, 0.0, 0.0
    for episode in range(episodes):
        outcome, ratio = _off_policy_episode(rng)
        ordinary = incremental_mean(ordinary, ratio * outcome, 1.0 / (episode + 1))
        if ratio > 0.0:
            total_weight += ratio
            weighted = weighted_mean(weighted, outcome, ratio, total_weight)
        estimates[episode, 0], estimates[episode, 1] = ordinary, weighted
    return estimates


@numba.njit
def _off_policy_episode(rng: np.random.Generator) -> tuple[float, float]:
    """Return and importance ratio of a game from ace and 2 against 2."""
    total, ace, ratio = 13, True, 1.0
    while True:
        hits = rng.random() < 0.5
        agrees = hits == (total < 20)
        ratio *= importance_ratio(1.0 if agrees else 0.0, 0.5)
        if not hits:
            break
        total, ace = _after(total, ace, _card(rng))
        if total > 21:
            return -1.0, ratio
    dealer, dealers_ace = 2, False
    while dealer < 17:
        dealer, dealers_ace = _after(dealer, dealers_ace, _card(rng))
    if dealer > 21 or total > dealer:
        return 1.0, ratio
    return (0.0 if total == dealer else -1.0), ratio


@numba.njit
def _card(rng: np.random.Generator) -> int:
    """A card from an endless deck."""
    return min(int(rng.random() * 13) + 1, 10)


@numba.njit
def _after(total: int, ace: bool, card: int) -> tuple[int, bool]:
    """Sum, and whether an ace counts 11, after a card."""
    if card == 1 and total <= 10:
        return total + 11, True
    if total + card > 21 and ace:
        return total + card - 10, False
    return total + card, ace


@cache
def _dealer_ends(total: int, ace: bool) -> Mapping[int, float]:
    """Probabilities of the dealer's last sum; 0 for more than 21."""
    if total >= 17:
        return {total if total <= 21 else 0: 1.0}
    ends: dict[int, float] = {}
    for card, chance in _CHANCE.items():
        for end, probability in _dealer_ends(*_after(total, ace, card)).items():
            ends[end] = ends.get(end, 0.0) + chance * probability
    return ends


@cache
def _outcomes(total: int, dealer: int) -> Mapping[int, float]:
    """Probabilities of reward -1, 0 and 1 after sticking, without the rule about naturals."""
    ends = _dealer_ends(*_after(0, False, dealer))
    wins = sum(chance for end, chance in ends.items() if end < total)
    return {1: wins, 0: ends.get(total, 0.0), -1: 1.0 - wins - ends.get(total, 0.0)}


def _stick(total: int, dealer: int) -> float:
    chances = _outcomes(total, dealer)
    return chances[1] - chances[-1]


def _hit(total: int, dealer: int, ace: bool, policy: Callable[[int, int, bool], bool]) -> float:
    expected = 0.0
    for card, chance in _CHANCE.items():
        reached, usable = _after(total, ace, card)
        expected += chance * (-1.0 if reached > 21 else value(reached, dealer, usable, policy))
    return expected


@cache
def value(total: int, dealer: int, ace: bool, sticks: Callable[[int, int, bool], bool]) -> float:
    """Exact value of a state of Blackjack under a policy that says where it sticks."""
    return _stick(total, dealer) if sticks(total, dealer, ace) else _hit(total, dealer, ace, sticks)


def _sticks_at_20(total: int, dealer: int, ace: bool) -> bool:
    return total >= 20


@cache
def _sticks_best(total: int, dealer: int, ace: bool) -> bool:
    return _gap(total, dealer, ace) > 0.0


@cache
def _gap(total: int, dealer: int, ace: bool) -> float:
    """What sticking is better by than hitting, both followed by the best."""
    return _stick(total, dealer) - _hit(total, dealer, ace, _sticks_best)


@cache
def _weighted_square(total: int, dealer: int, ace: bool) -> float:
    """Mean of (ratio · return)² under a coin that decides: each agreeing decision has probability 1/2 and ratio 2."""
    if total >= 20:
        chances = _outcomes(total, dealer)
        return 2.0 * (chances[1] + chances[-1])
    expected = 0.0
    for card, chance in _CHANCE.items():
        reached, usable = _after(total, ace, card)
        expected += chance * (1.0 if reached > 21 else _weighted_square(reached, dealer, usable))
    return 2.0 * expected


def _best_thresholds() -> Any:
    return np.array([[min(s for s in _SUMS if _gap(s, d, ace) > 0) for d in _DEALER] for ace in (True, False)])


def _grid(values: Floats) -> Floats:
    """Of the table's rows (sum, dealer, ace): [ace first, sums 12 … 21, dealer A … 10]."""
    cube: Floats = values.reshape(32, 11, 2)[12:22, 1:11].transpose(2, 0, 1)[::-1].copy()
    return cube


def _without_naturals(exact: Floats) -> Floats:
    """NaN for 21 with a usable ace: two cards that make 21 win more often there, which the exact values leave out."""
    masked = exact.copy()
    masked[0, -1] = np.nan
    return masked


def _threshold(values: Floats) -> int:
    """Least sum from which on all sums stick; values [10, 2]."""
    hits = np.flatnonzero(values[:, 1] >= values[:, 0])
    return int(_SUMS[0] + (hits[-1] + 1 if len(hits) else 0))


def _names(chosen: Any, gap: Floats) -> list[str]:
    return [
        f"{'usable ace' if ace == 0 else 'no usable ace'}, {_SUMS[s]}, dealer {_DEALER_NAMES[d]}: "
        f"stick - hit = {gap[ace, s, d]:+.4f}"
        for ace, s, d in np.argwhere(chosen)
    ]


def _draw_values(axes: Any, values: Floats, title: str) -> None:
    dealer, sums = np.meshgrid(_DEALER, _SUMS)
    axes.plot_surface(dealer, sums, values, cmap="YlGnBu_r", vmin=-1, vmax=1, linewidth=0.3, edgecolor="grey")
    axes.set_xlabel("dealer shows", fontsize=8, labelpad=-4)
    axes.set_ylabel("player's sum", fontsize=8, labelpad=-4)
    axes.set(zlim=(-1, 1), zticks=(-1, 0, 1), yticks=(12, 15, 18, 21))
    axes.set_xticks((1, 4, 7, 10), ("A", "4", "7", "10"))
    axes.set_title(title, fontsize=10)
    axes.tick_params(labelsize=7, pad=-2)
    axes.view_init(elev=32, azim=-52)


def _draw_decisions(axes: Any, values: Floats, title: str) -> None:
    sticks = values[..., 0] > values[..., 1]
    axes.imshow(
        sticks, origin="lower", cmap="Blues", vmin=-0.4, vmax=2.2, extent=(0.5, 10.5, 11.5, 21.5), aspect="auto"
    )
    axes.text(5.5, 20, "stick", ha="center", va="center")
    axes.text(9, 12.3, "hit", ha="center", va="center")
    axes.set(xlabel="dealer shows", ylabel="player's sum", yticks=_SUMS)
    axes.set_xticks(_DEALER, _DEALER_NAMES)
    axes.set_title(title, fontsize=10)
