"""Chapter 6: temporal-difference learning, on the 5-state walk, along the cliff, and where maximisation misleads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numba import njit

from rlkit.agents.monte_carlo import MCPrediction
from rlkit.agents.q_learning import DoubleQLearning, QLearning
from rlkit.agents.sarsa import ExpectedSarsa, Sarsa
from rlkit.agents.td import TD0
from rlkit.mdp import FiniteMDP
from rlkit.tabular.engine import CompiledLoop
from rlkit.tabular.planning import policy_values
from rlkit.tabular.rules import double_q_target, q_learning_target
from rlkit.tabular.seeds import SeedRuns, run_seeds
from rlkit.types import Task
from textbook_figures.figure import (
    Floats,
    Result,
    Scale,
    band,
    between,
    confidence,
    figure,
    near,
    task_for,
    tidy,
)

EPISODES = 100
TD_STEP_SIZES, MC_STEP_SIZES = (0.05, 0.1, 0.15), (0.01, 0.02, 0.03, 0.04)
BLUES, ORANGES = ("#9ecae1", "#4292c6", "#08519c"), ("#fdbe85", "#fd8d3c", "#d94701", "#7f2704")
CLIFF_STEP_SIZES = np.round(np.arange(0.1, 1.01, 0.1), 1)
CLIFF_AGENTS: dict[str, Any] = {"Sarsa": Sarsa, "expected Sarsa": ExpectedSarsa, "Q-learning": QLearning}


def _walk() -> tuple[Task, Floats]:
    """The 5-state walk and its true values 1/6 … 5/6; NaN at the ends, which do not count."""
    task = task_for("rlkit/RandomWalk5-v0")
    assert task.model is not None
    truth = policy_values(task.model, 1.0, np.ones((7, 1)))
    truth[[0, -1]] = np.nan
    return task, truth


@figure("6.2-left", "TD(0) on the 5-state walk: estimates after 0, 1, 10 and 100 episodes")
def td_estimates(scale: Scale) -> Result:
    """One run, as in the book (example 6.2, left), with α = 0.1."""
    task, truth = _walk()
    trained: Any = TD0(TD0.Config(gamma=1.0, learning_rate=0.1, initial_value=0.5), replace(task, seed=0))
    assert isinstance(trained, CompiledLoop)
    estimates, seen = {0: trained.state_values()[1:-1].copy()}, 0
    for episodes in (1, 10, 100):
        trained.advance(1_000_000, episodes - seen)
        estimates[episodes], seen = trained.state_values()[1:-1].copy(), episodes
    change = np.abs(estimates[1] - estimates[0])
    error = float(np.sqrt(np.mean((estimates[100] - truth[1:-1]) ** 2)))

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        for episodes, values in estimates.items():
            axes.plot(list("ABCDE"), values, marker="o", markersize=3, label=f"after {episodes}", linewidth=1.4)
        axes.plot(list("ABCDE"), truth[1:-1], color="black", linestyle="--", label="true values")
        tidy(axes, "TD(0), 5-state walk, one run, α = 0.1", "state", "estimated value")

    return Result(
        [
            near("states changed by the first episode", 1, int((change > 0).sum()), 0, "example 6.2"),
            near("size of that change", 0.05, change.max(), 1e-9, "α/2, exercise 6.3"),
            between("RMS error after 100 episodes", 0.0, 0.1, error, "example 6.2: close to the true values"),
        ],
        draw,
        {"seed": 0, "step size": 0.1, "initial value": 0.5},
        {"true": _short(truth[1:-1])} | {str(episodes): _short(values) for episodes, values in estimates.items()},
    )


@figure("6.2-right", "TD(0) and constant-α Monte Carlo on the 5-state walk: RMS error by episode")
def td_and_monte_carlo(scale: Scale) -> Result:
    """Means of 1000 runs (the book's 100 leave ± 0.008); Monte Carlo is every-visit (example 6.2, right)."""
    task, truth = _walk()
    seeds = scale.runs(1000)
    errors: dict[str, Floats] = {}
    shared: dict[str, Any] = {"gamma": 1.0, "initial_value": 0.5, "learning_rate_schedule": "constant"}

    def measure(agent: Any, config: Any) -> Floats:
        runs = run_seeds(agent, config, task, seeds, episodes=EPISODES, reference=truth, threads=scale.threads)
        before = np.full((len(seeds), 1), np.sqrt(np.nanmean((truth - 0.5) ** 2)))
        return np.hstack([before, runs.errors])

    for alpha in TD_STEP_SIZES:
        errors[f"TD α={alpha}"] = measure(TD0, TD0.Config(learning_rate=alpha, **shared))
    for alpha in MC_STEP_SIZES:
        config = MCPrediction.Config(learning_rate=alpha, visits="every", **shared)
        errors[f"MC α={alpha}"] = measure(MCPrediction, config)
    means = {name: runs.mean(axis=0) for name, runs in errors.items()}
    worst_td = max(means[f"TD α={alpha}"].min() for alpha in TD_STEP_SIZES)
    best_mc = min(means[f"MC α={alpha}"].min() for alpha in MC_STEP_SIZES)

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        for (name, runs), colour in zip(errors.items(), BLUES + ORANGES, strict=True):
            band(axes, np.arange(EPISODES + 1), runs, name, colour)
        axes.set_ylim(0, 0.25)
        tidy(axes, f"5-state walk, {len(seeds)} runs", "episodes", "RMS error over states")

    return Result(
        [
            near("TD α = .05 after 100", 0.037, means["TD α=0.05"][-1], 0.006, "example 6.2"),
            near("TD α = .1 after 100", 0.05, means["TD α=0.1"][-1], 0.008, "example 6.2"),
            near("TD α = .15 after 100", 0.07, means["TD α=0.15"][-1], 0.01, "example 6.2"),
            near("MC α = .02 after 100", 0.085, means["MC α=0.02"][-1], 0.01, "example 6.2"),
            near("MC α = .04 after 100", 0.11, means["MC α=0.04"][-1], 0.015, "example 6.2"),
            between(
                "lowest MC error less the highest of TD's lowest", 0, 1, best_mc - worst_td, "TD is better at every α"
            ),
        ],
        draw,
        {"seeds": len(seeds), "episodes": EPISODES, "initial value": 0.5, "visits": "every"},
        {name: _short(mean[::5]) for name, mean in means.items()} | {"episodes": list(range(0, EPISODES + 1, 5))},
    )


@figure("6.2", "batch TD(0) and batch Monte Carlo on the 5-state walk")
def batch_training(scale: Scale) -> Result:
    """After every episode all of them are presented again and again until the values settle (figure 6.2)."""
    task, truth = _walk()
    assert task.model is not None
    seeds = scale.runs(100)
    transitions, returns = _walk_batches(task.model, len(seeds), EPISODES)
    settled = {"batch TD": _batch_td(transitions), "batch MC": _batch_monte_carlo(transitions, returns)}
    errors = {
        name: np.sqrt(np.mean((values[:, :, 1:-1] - truth[1:-1]) ** 2, axis=2)) for name, values in settled.items()
    }
    gap = errors["batch MC"].mean(axis=0) - errors["batch TD"].mean(axis=0)

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        for name, runs in errors.items():
            band(axes, np.arange(1, EPISODES + 1), runs, name)
        axes.set_ylim(0, 0.25)
        tidy(axes, f"batch training, 5-state walk, {len(seeds)} runs", "episodes", "RMS error over states")

    return Result(
        [
            near("largest difference after one episode", 0.0, abs(gap[0]), 1e-5, "both give every state its outcome"),
            between("smallest MC − TD from 2 episodes on", 0.0, 1.0, gap[1:].min(), "example 6.3: TD is better"),
            between("TD after 100 episodes", 0.02, 0.05, errors["batch TD"][:, -1].mean(), "figure 6.2, read off"),
            between("MC after 100 episodes", 0.035, 0.07, errors["batch MC"][:, -1].mean(), "figure 6.2, read off"),
        ],
        draw,
        {"seed": 0, "runs": len(seeds), "episodes": EPISODES, "initial value": 0.5, "settled": "sum below 1e-8"},
        {name: _short(runs.mean(axis=0)[::3]) for name, runs in errors.items()}
        | {"episodes": list(range(1, EPISODES + 1, 3))},
    )


def _walk_batches(model: FiniteMDP, runs: int, episodes: int) -> tuple[Floats, Floats]:
    """Of the first e episodes: transitions counted [R, E, S, S], and returns summed by the state they follow [R, E, S].

    Only the right end pays, so the return from every state of an episode is 1 if it ended there.
    """
    rng = np.random.default_rng(0)
    states, start = model.num_states, int(model.start.argmax())
    transitions = np.zeros((runs, episodes, states, states))
    returns = np.zeros((runs, episodes, states))
    for run in range(runs):
        for episode in range(episodes):
            counts, state = transitions[run, episode], start
            while 0 < state < states - 1:
                following = state + (1 if rng.random() < 0.5 else -1)
                counts[state, following] += 1
                state = following
            returns[run, episode] = counts.sum(axis=1) * (state == states - 1)
    return transitions.cumsum(axis=1), returns.cumsum(axis=1)


def _batch_td(transitions: Floats) -> Floats:
    """Values [R, E, S] on which the batch sums Σ α (R + V(S') - V(S)) settle."""
    rewards = transitions[..., -1]
    going_on = transitions.copy()
    going_on[..., [0, -1]] = 0.0  # the ends are worth nothing
    visits = transitions.sum(axis=3)
    return _settle(
        np.full(visits.shape, 0.5),
        visits,
        lambda values, run, now: (
            rewards[run, now] + np.einsum("rst,rt->rs", going_on[run, now], values) - visits[run, now] * values
        ),
    )


def _batch_monte_carlo(transitions: Floats, returns: Floats) -> Floats:
    """Values [R, E, S] on which the batch sums Σ α (G - V(S)) settle."""
    visits = transitions.sum(axis=3)
    return _settle(
        np.full(visits.shape, 0.5),
        visits,
        lambda values, run, now: returns[run, now] - visits[run, now] * values,
    )


def _settle(values: Floats, visits: Floats, increment: Callable[[Floats, Any, int], Floats]) -> Floats:
    """Add α times the batch sum again and again until it is below 1e-8; each batch begins with the last one's values.

    α is one over the visits of the state seen most, small enough for all.
    """
    current = values[:, 0].copy()
    for episode in range(values.shape[1]):
        alpha = 1.0 / visits[:, episode].max(axis=1, keepdims=True)
        change = np.inf
        while change > 1e-8:
            step = alpha * increment(current, slice(None), episode)
            current += step
            change = float(np.abs(step).max())
        values[:, episode] = current
    return values


@figure("6.3", "Sarsa, expected Sarsa and Q-learning on the cliff: interim and asymptotic performance by α")
def cliff_by_step_size(scale: Scale) -> Result:
    """Mean return per episode: of the first 100 (1000 runs; the book 50,000), of 100,000 (10 runs)."""
    task = task_for("rlkit/Cliff-v0")
    seeds, few = scale.runs(1000), scale.runs(10)
    long = max(1000, round(100_000 * scale.factor))

    def measure(agent: Any, runs: range, episodes: int) -> Floats:
        configs = [agent.Config(gamma=1.0, epsilon=0.1, learning_rate=float(alpha)) for alpha in CLIFF_STEP_SIZES]
        return np.array(
            [
                run_seeds(agent, config, task, runs, episodes=episodes, threads=scale.threads).returns.mean(axis=1)
                for config in configs
            ]
        ).T

    interim = {name: measure(agent, seeds, 100) for name, agent in CLIFF_AGENTS.items()}
    asymptotic = {name: measure(agent, few, long) for name, agent in CLIFF_AGENTS.items()}
    first = {name: runs.mean(axis=0) for name, runs in interim.items()}
    last = {name: runs.mean(axis=0) for name, runs in asymptotic.items()}
    best_others = np.maximum(first["Sarsa"], first["Q-learning"])

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        for i, name in enumerate(CLIFF_AGENTS):
            band(axes, CLIFF_STEP_SIZES, asymptotic[name], f"{name}, {long:,} episodes", f"C{i}")
            mean, half = confidence(interim[name])
            axes.plot(CLIFF_STEP_SIZES, mean, f"C{i}--", linewidth=1.4, label=f"{name}, first 100")
            axes.fill_between(CLIFF_STEP_SIZES, mean - half, mean + half, color=f"C{i}", alpha=0.2, linewidth=0)
        axes.set_ylim(-160, 0)
        tidy(axes, "cliff walking, ε = 0.1", "step size α", "return per episode")

    return Result(
        [
            between("expected Sarsa asymptotic, lowest over α", -26, -20, last["expected Sarsa"].min(), "figure 6.3"),
            between("its spread over α", 0, 3, np.ptp(last["expected Sarsa"]), "figure 6.3: the same for every α"),
            near("Q-learning asymptotic, mean over α", -50, last["Q-learning"].mean(), 4, "figure 6.3"),
            between(
                "expected Sarsa less Sarsa, asymptotic, α = 1",
                20,
                10_000,
                last["expected Sarsa"][-1] - last["Sarsa"][-1],
                "figure 6.3: Sarsa needs a small α",
            ),
            between("Sarsa asymptotic at α = .1", -30, -20, last["Sarsa"][0], "figure 6.3: as expected Sarsa"),
            between(
                "expected Sarsa less the better other, interim, lowest over α",
                -0.5,
                100,
                (first["expected Sarsa"] - best_others).min(),
                "figure 6.3: expected Sarsa dominates",
            ),
        ],
        draw,
        {"seeds interim": len(seeds), "seeds asymptotic": len(few), "episodes asymptotic": long, "epsilon": 0.1},
        {"step_size": CLIFF_STEP_SIZES.tolist()}
        | {f"{name}, interim": _short(first[name]) for name in CLIFF_AGENTS}
        | {f"{name}, asymptotic": _short(last[name]) for name in CLIFF_AGENTS},
    )


@figure("6.4", "Sarsa and Q-learning on the cliff: sum of rewards during an episode (example 6.6)")
def cliff(scale: Scale) -> Result:
    """500 episodes with ε = 0.1 and α = 0.5, means of 1000 runs, and the greedy paths that were learned."""
    task = task_for("rlkit/Cliff-v0")
    assert task.model is not None
    seeds = scale.runs(1000)
    agents: dict[str, Any] = {"Sarsa": Sarsa, "Q-learning": QLearning}
    runs: dict[str, SeedRuns] = {}
    for name, agent in agents.items():
        config = agent.Config(gamma=1.0, epsilon=0.1, learning_rate=0.5)
        runs[name] = run_seeds(agent, config, task, seeds, episodes=500, threads=scale.threads)
    online = {name: float(done.returns[:, 100:].mean()) for name, done in runs.items()}
    paths = {name: [_greedy_return(task.model, agent) for agent in done.agents] for name, done in runs.items()}
    common = {name: _most_common(found) for name, found in paths.items()}

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        for name, done in runs.items():
            band(axes, np.arange(1, 501), done.returns, name)
        axes.set_ylim(-100, 0)
        tidy(axes, f"cliff walking, ε = 0.1, α = 0.5, {len(seeds)} runs", "episodes", "sum of rewards during episode")

    return Result(
        [
            near("Sarsa online, episodes 101-500", -25, online["Sarsa"], 4, "example 6.6"),
            near("Q-learning online, episodes 101-500", -50, online["Q-learning"], 4, "example 6.6"),
            near("Q-learning's most common greedy path", -13, common["Q-learning"], 0, "the optimal path"),
            near("Sarsa's most common greedy path", -17, common["Sarsa"], 0, "the safe path"),
        ],
        draw,
        {"seeds": len(seeds), "episodes": 500, "epsilon": 0.1, "step size": 0.5},
        {"episodes": list(range(1, 501, 5))}
        | {name: _short(done.returns.mean(axis=0)[::5]) for name, done in runs.items()}
        | {f"{name}, greedy returns": _tally(found) for name, found in paths.items()},
    )


def _greedy_return(model: FiniteMDP, agent: CompiledLoop) -> float:
    """Sum of rewards of the learned greedy policy from the start; -inf where it goes round in circles."""
    values = agent.tables.values.sum(axis=0)
    state, total = int(model.start.argmax()), 0.0
    for _ in range(model.num_states):
        outcome = model.first[state * model.num_actions + int(values[state].argmax())]
        total += float(model.reward[outcome])
        if model.terminated[outcome]:
            return total
        state = int(model.next_state[outcome])
    return -np.inf


def _most_common(values: list[float]) -> float:
    return max(set(values), key=values.count)


def _tally(values: list[float]) -> dict[str, int]:
    return {f"{value:g}": values.count(value) for value in sorted(set(values), reverse=True)}


@figure("6.5", "maximisation bias: left actions of Q-learning and double Q-learning")
def maximisation_bias(scale: Scale) -> Result:
    """10,000 runs of 300 episodes of the book's MDP (two actions in A, ten in B), and of the registered environment."""
    seeds, few = scale.runs(10_000), scale.runs(1000)
    exact = {
        name: 100 * _left_choices(double, len(seeds), 300, np.random.default_rng(0))
        for name, double in (("Q-learning", False), ("double Q-learning", True))
    }
    task = task_for("rlkit/MaximizationBias-v0")
    registered = {}
    for name, agent in (("Q-learning", QLearning), ("double Q-learning", DoubleQLearning)):
        config: Any = agent.Config(gamma=1.0, epsilon=0.1, learning_rate=0.1)
        runs = run_seeds(agent, config, task, few, episodes=300, threads=scale.threads)
        registered[name] = 100 * (runs.lengths == 2)
    share = {name: runs.mean(axis=0) for name, runs in exact.items()}

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        for i, name in enumerate(exact):
            band(axes, np.arange(1, 301), exact[name], name, f"C{i}")
            smooth = registered[name].reshape(len(few), 60, 5).mean(axis=2)
            band(axes, np.arange(3, 301, 5), smooth, f"{name}, 10 actions in A", f"C{i + 2}")
        axes.axhline(5, color="black", linestyle=":", label="optimal, 5 %")
        axes.set_ylim(0, 100)
        tidy(axes, "maximisation bias, ε = α = 0.1", "episodes", "% left actions from A")

    return Result(
        [
            near("Q-learning's peak, %", 94, share["Q-learning"].max(), 4, "figure 6.5, read off a reproduction"),
            near("Q-learning at the end, %", 13, share["Q-learning"][-20:].mean(), 2, "figure 6.5"),
            near("double Q-learning at the end, %", 7, share["double Q-learning"][-20:].mean(), 1.5, "figure 6.5"),
            near("first episode of both, %", 50, share["Q-learning"][0], 2, "nothing is known yet"),
        ],
        draw,
        {"seed": 0, "runs": len(seeds), "seeds of the registered environment": len(few), "epsilon": 0.1, "alpha": 0.1},
        {"episodes": list(range(1, 301, 5))}
        | {name: _short(mean[::5]) for name, mean in share.items()}
        | {
            f"{name}, registered environment": _short(runs.mean(axis=0).reshape(60, 5).mean(axis=1))
            for name, runs in registered.items()
        },
    )


def _left_choices(double: bool, runs: int, episodes: int, rng: np.random.Generator) -> Floats:
    """Whether left was chosen in A, [runs, episodes] of 0 and 1."""
    left = np.zeros((runs, episodes))
    for run in range(runs):
        tables = np.zeros((2, 2, 10))
        tables[:, 0, 2:] = -np.inf  # A has two actions
        _run_bias(double, tables, left[run], rng)
    return left


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _run_bias(double: bool, tables: Floats, left: Floats, rng: np.random.Generator) -> None:
    """One run of example 6.7; `tables` [2, 2, 10] of A and B, of which Q-learning uses the first."""
    for episode in range(len(left)):
        action = _epsilon_greedy(tables[0, 0] + tables[1, 0], 2, rng)
        left[episode] = action == 0
        if action == 1:
            _learn_pair(double, tables, 0, action, 0.0, 0.0, rng)
            continue
        _learn_pair(double, tables, 0, action, 0.0, 1.0, rng)
        action = _epsilon_greedy(tables[0, 1] + tables[1, 1], 10, rng)
        _learn_pair(double, tables, 1, action, rng.normal(-0.1, 1.0), 0.0, rng)


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _learn_pair(
    double: bool, tables: Floats, state: int, action: int, reward: float, discount: float, rng: np.random.Generator
) -> None:
    """One update with α = 0.1; what comes next is B."""
    learning = int(rng.random() * 2) if double else 0
    if double:
        target = double_q_target(reward, discount, tables[learning, 1], tables[1 - learning, 1])
    else:
        target = q_learning_target(reward, discount, tables[0, 1])
    tables[learning, state, action] += 0.1 * (target - tables[learning, state, action])


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _epsilon_greedy(values: Floats, actions: int, rng: np.random.Generator) -> int:
    """ε = 0.1; equals are drawn from evenly."""
    if rng.random() < 0.1:
        return int(rng.random() * actions)
    best = np.flatnonzero(values == values.max())
    return int(best[int(rng.random() * len(best))])


def _short(values: Floats) -> list[float]:
    """For the JSON file."""
    rounded: list[float] = np.round(values, 4).tolist()
    return rounded
