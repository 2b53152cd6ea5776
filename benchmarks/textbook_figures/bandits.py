"""Chapter 2: the 10-armed testbed, 2000 problems of 1000 steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rlkit.agents.bandits import EpsilonGreedyBandit, GradientBandit, UCBBandit
from rlkit.types import Task
from textbook_figures.figure import Floats, Result, Scale, band, between, confidence, figure, near, task_for, tidy

_STEPS = 1000
_SINGLE = 40
"""Steps looked at one by one, because optimism and UCB spike when every arm has been tried; the others by tens."""
STOPS = np.concatenate([np.arange(1, _SINGLE + 1), np.arange(_SINGLE + 10, _STEPS + 1, 10)])
_MIDDLES = (STOPS + np.concatenate([[0], STOPS[:-1]]) + 1) / 2
_KEPT = np.unique(np.concatenate([np.arange(_SINGLE), np.arange(_SINGLE, len(STOPS), 4), [len(STOPS) - 1]]))
"""Points written to the JSON."""

_BY_NUMPY = {
    "α = 0.1, with baseline": 86.4,
    "α = 0.4, with baseline": 74.7,
    "α = 0.1, without baseline": 49.9,
    "α = 0.4, without baseline": 28.2,
}
"""Figure 2.5's last 50 steps in %, from equation 2.12 in twenty lines of numpy without rlkit, 2000 problems."""


@dataclass(frozen=True)
class _Runs:
    """Of K problems, by intervals between stops, [K, X]: mean reward, and share of the best arm in %."""

    rewards: Floats
    optimal: Floats


@figure("2.2", "ε-greedy on the 10-armed testbed: reward and % optimal action")
def epsilon_greedy(scale: Scale) -> Result:
    """ε = 0, 0.01 and 0.1 with sample averages."""
    configs = {f"ε = {epsilon:g}": EpsilonGreedyBandit.Config(epsilon=epsilon) for epsilon in (0.0, 0.01, 0.1)}
    runs = {label: _run(EpsilonGreedyBandit, config, 0.0, scale) for label, config in configs.items()}
    reward = {label: _end(run.rewards) for label, run in runs.items()}
    optimal = {label: _end(run.optimal) for label, run in runs.items()}
    checks = [
        between("reward at the end, ε = 0.1", 1.35, 1.45, reward["ε = 0.1"], "figure 2.2"),
        between("reward at the end, ε = 0.01", 1.2, 1.4, reward["ε = 0.01"], "figure 2.2"),
        between("reward at the end, greedy", 0.95, 1.1, reward["ε = 0"], "section 2.3: about 1"),
        between("% optimal at the end, ε = 0.1", 76, 84, optimal["ε = 0.1"], "figure 2.2: about 80"),
        between("% optimal at the end, greedy", 30, 40, optimal["ε = 0"], "section 2.3: about a third"),
        between(
            "steps ε = 0.1 leads ε = 0.01 by reward, %", 90, 100, _lead(runs["ε = 0.1"], runs["ε = 0.01"]), "figure 2.2"
        ),
    ]

    def draw(canvas: Any) -> None:
        upper, lower = canvas.subplots(2, sharex=True)
        _draw_rewards(upper, runs)
        _draw_optimal(lower, runs)
        tidy(upper, "ε-greedy on the 10-armed testbed", "", "average reward", legend=False)
        tidy(lower, "", "step", "% optimal action")

    return Result(checks, draw, _settings(scale, mean=0.0), _curves(runs))


@figure("2.3", "optimistic initial values on the 10-armed testbed: % optimal action")
def optimistic(scale: Scale) -> Result:
    """Greedy from Q = 5 against ε-greedy from Q = 0, both with step size 0.1."""
    optimist, realist = "optimistic: Q₁ = 5, ε = 0", "realistic: Q₁ = 0, ε = 0.1"
    config = EpsilonGreedyBandit.Config(learning_rate=0.1, learning_rate_schedule="constant")
    configs = {
        optimist: config.model_copy(update={"initial_value": 5.0, "epsilon": 0.0}),
        realist: config.model_copy(update={"initial_value": 0.0, "epsilon": 0.1}),
    }
    runs = {label: _run(EpsilonGreedyBandit, config, 0.0, scale) for label, config in configs.items()}
    shares = {label: run.optimal.mean(axis=0) for label, run in runs.items()}
    checks = [
        between("% optimal at the end, optimistic", 80, 90, _end(runs[optimist].optimal), "figure 2.3: about 85"),
        between("% optimal at the end, ε-greedy", 73, 80, _end(runs[realist].optimal), "figure 2.3: 75 to 80"),
        between("step of the optimist's early spike", 11, 11, STOPS[:30][shares[optimist][:30].argmax()], "ex. 2.6"),
        between("optimist's lead in steps 21 … 40, % points", -100, 0, _early(shares[optimist] - shares[realist])),
    ]

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        _draw_optimal(axes, runs)
        tidy(axes, "Optimistic initial values, α = 0.1", "step", "% optimal action")

    return Result(checks, draw, _settings(scale, mean=0.0), _curves(runs))


@figure("2.4", "upper confidence bounds on the 10-armed testbed: average reward")
def upper_confidence(scale: Scale) -> Result:
    """UCB with c = 2 against ε-greedy with ε = 0.1, both with sample averages."""
    bound, greedy = "UCB, c = 2", "ε-greedy, ε = 0.1"
    runs = {
        bound: _run(UCBBandit, UCBBandit.Config(confidence=2.0), 0.0, scale),
        greedy: _run(EpsilonGreedyBandit, EpsilonGreedyBandit.Config(epsilon=0.1), 0.0, scale),
    }
    mean = runs[bound].rewards.mean(axis=0)
    checks = [
        between("reward at the end, UCB", 1.43, 1.55, _end(runs[bound].rewards), "figure 2.4: about 1.5"),
        between("reward at the end, ε-greedy", 1.35, 1.45, _end(runs[greedy].rewards), "figure 2.4"),
        between("step of UCB's spike", 11, 11, STOPS[:20][mean[:20].argmax()], "exercise 2.8"),
        between("rise of the reward at step 11", 0.5, 2.0, mean[10] - mean[9], "exercise 2.8"),
        between("fall of the reward at step 12", 0.0, 2.0, mean[10] - mean[11], "exercise 2.8"),
    ]

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        _draw_rewards(axes, runs)
        tidy(axes, "Upper confidence bounds", "step", "average reward")

    return Result(checks, draw, _settings(scale, mean=0.0), _curves(runs))


@figure("2.5", "gradient bandits with and without baseline: % optimal action")
def gradient(scale: Scale) -> Result:
    """α = 0.1 and 0.4 where the true means are near 4."""
    configs = {
        f"α = {step_size:g}, {'with' if baseline else 'without'} baseline": GradientBandit.Config(
            learning_rate=step_size, baseline=baseline
        )
        for baseline in (True, False)
        for step_size in (0.1, 0.4)
    }
    runs = {label: _run(GradientBandit, config, 4.0, scale) for label, config in configs.items()}
    end = {label: _end(run.optimal) for label, run in runs.items()}
    checks = [
        near(f"% optimal at the end, {label}", number, end[label], 4, "numpy") for label, number in _BY_NUMPY.items()
    ]
    checks += [
        between("baseline gains at α = 0.1, % points", 0, 100, _gain(end, "0.1"), "figure 2.5, the sign"),
        between("baseline gains at α = 0.4, % points", 0, 100, _gain(end, "0.4"), "figure 2.5, the sign"),
    ]

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        _draw_optimal(axes, runs)
        tidy(axes, "Gradient bandits, true means near 4", "step", "% optimal action")

    return Result(checks, draw, _settings(scale, mean=4.0), _curves(runs))


def _run(agent: Callable[[Any, Task], Any], config: Any, mean: float, scale: Scale) -> _Runs:
    """The same problems for every agent: the seed decides about the arms."""
    # one step more than is looked at, for the agent forgets a problem when it ends
    task = task_for("rlkit/Bandit-v0", mean=mean, max_episode_steps=_STEPS + 1)
    outcomes = [_one_problem(agent(config, replace(task, seed=seed))) for seed in scale.runs(2000, least=20)]
    rewards, optimal = np.array(outcomes).transpose(1, 0, 2)
    return _Runs(rewards, 100 * optimal)


def _one_problem(agent: Any) -> Floats:
    """Mean reward and share of the best arm in each interval, [2, X]."""
    sums = np.zeros((2, len(STOPS) + 1))
    for i, steps in enumerate(np.diff(STOPS, prepend=0), start=1):
        agent.advance(int(steps), 1)
        numbers = agent._env.numbers  # the return so far, then the true means
        sums[:, i] = numbers[0], agent.tables.visits[0, numbers[1:].argmax()]
    means: Floats = np.diff(sums) / np.diff(STOPS, prepend=0)
    return means


def _end(runs: Floats) -> float:
    """Mean of the last 50 steps."""
    return float(runs[:, -5:].mean())


def _early(curve: Floats) -> float:
    return float(curve[20:_SINGLE].mean())


def _lead(one: _Runs, other: _Runs) -> float:
    """Share of the steps after the first 40 in which `one` earns more, in %."""
    return 100.0 * float((one.rewards.mean(axis=0) > other.rewards.mean(axis=0))[_SINGLE:].mean())


def _gain(end: Mapping[str, float], step_size: str) -> float:
    return end[f"α = {step_size}, with baseline"] - end[f"α = {step_size}, without baseline"]


def _draw_rewards(axes: Any, runs: Mapping[str, _Runs]) -> None:
    for label, run in runs.items():
        band(axes, _MIDDLES, run.rewards, label)


def _draw_optimal(axes: Any, runs: Mapping[str, _Runs]) -> None:
    for label, run in runs.items():
        band(axes, _MIDDLES, run.optimal, label)
    axes.set_ylim(0, 100)


def _settings(scale: Scale, mean: float) -> dict[str, Any]:
    problems = len(scale.runs(2000, least=20))
    return {"seeds": f"0 … {problems - 1}, one problem each", "steps": _STEPS, "mean of the true means": mean}


def _curves(runs: Mapping[str, _Runs]) -> dict[str, Any]:
    curves: dict[str, Any] = {"step": _MIDDLES[_KEPT].tolist()}
    for label, run in runs.items():
        (reward, reward_half), (share, share_half) = confidence(run.rewards), confidence(run.optimal)
        curves[label] = {
            "reward": np.round(reward[_KEPT], 3).tolist(),
            "reward ±": float(np.round(reward_half.mean(), 3)),
            "% optimal": np.round(share[_KEPT], 1).tolist(),
            "% optimal ±": float(np.round(share_half.mean(), 1)),
        }
    return curves
