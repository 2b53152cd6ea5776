"""What a value becomes when a time limit is taken for something else: three ways to bootstrap, exactly and measured.

State A gives 1 at every step and goes on for ever, so v(A) = 1 / (1 - γ) = 10. Episodes in A are truncated after five
steps. In the first problem the next one starts in A again; in the second half of all episodes start in B, which gives
-10 once and terminates: v(B) = -10. Where an episode of A is truncated, targets can bootstrap from

- the true next observation, A, and end the trace: what rlkit does (`rlkit.ops.advantages.gae`);
- nothing, as if A had terminated: CleanRL's PPO, whose done is `terminated or truncated`;
- the first state of the next episode, with the trace running on into it: PPO of skrl, whose advantages stop at
  `terminated` alone and take the next row's value (its `compute_gae`, read at commit 1a32596 of 2023).

The agent does not see the time, so A has one value.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from rlkit.ops.advantages import gae
from textbook_figures.figure import Check, Floats, Result, Scale, band, figure, near, tidy

GAMMA, LIMIT = 0.9, 5
REWARDS = np.array([1.0, -10.0])
"""Of a step in A and in B."""
PROBLEMS = {"all episodes start in A": 0.0, "half of them start in B": 0.5}
"""Share of episodes that start in B."""
WAYS = {"true next_obs": "C0", "as termination": "C1", "next episode's state": "C3"}
LAMBDAS = (0.0, 0.5, 0.95, 1.0)
SHOWN = 0.95
"""λ of the learning curves, PPO's usual one."""
STEPS, ENVS, ROLLOUTS, RATE = 500, 8, 160, 0.5
"""Rollouts are long because their end cuts the trace too, which the linear algebra does not know."""
Key: TypeAlias = tuple[str, str, float]
"""Problem, way, λ."""


@figure("truncation", "Truncation: bootstrapping from next_obs, from nothing, and from the next episode")
def truncation(scale: Scale) -> Result:
    """Values of A learned with λ-returns (advantages of `gae` plus values), beside their exact fixed points."""
    seeds = scale.runs(10)
    exact = {(problem, way, lambda_): fixed_point(share, way, lambda_)[0]
             for problem, share in PROBLEMS.items() for way in WAYS for lambda_ in LAMBDAS}  # fmt: skip
    learned = {problem: [_learned(share, seed) for seed in seeds] for problem, share in PROBLEMS.items()}
    runs = {key: np.array([curves[key[1:]] for curves in learned[key[0]]]) for key in exact}
    reached = {key: float(found[:, -ROLLOUTS // 4 :].mean()) for key, found in runs.items()}
    return Result(
        _checks(exact, reached),
        lambda canvas: _draw(canvas, runs, reached),
        {
            "seeds": len(seeds), "gamma": GAMMA, "limit": LIMIT, "rewards": REWARDS.tolist(), "steps": STEPS,
            "envs": ENVS, "rollouts": ROLLOUTS, "learning_rate": RATE,
            "exact": {", ".join(map(str, key)): round(value, 4) for key, value in exact.items()},
        },
        {", ".join(map(str, key)): round(value, 4) for key, value in reached.items()},
    )  # fmt: skip


def _checks(exact: dict[Key, float], reached: dict[Key, float]) -> list[Check]:
    same, other = PROBLEMS
    right, terminated, leaked = WAYS
    by_hand = np.mean([(1 - GAMMA**left) / (1 - GAMMA) for left in range(1, LIMIT + 1)])
    checks = [
        near("as termination, λ = 1: exact value", by_hand, exact[same, terminated, 1.0], 1e-9,
             "mean of 1 + γ + … over the steps that are left"),
        near("as termination, λ = 0: exact value", 1 / (1 - GAMMA * 4 / 5), exact[same, terminated, 0.0], 1e-9,
             "v = 1 + γ 4/5 v"),
        near("next episode's state is B half of the time, λ = 0: exact value", 0.1 / 0.19, exact[other, leaked, 0.0],
             1e-9, "v = 1 + γ (4/5 v + 1/5 (v - 10) / 2)"),
    ]  # fmt: skip
    for problem, way, lambda_ in reached:
        if lambda_ in (0.0, SHOWN):
            source = "v(A) = 1 / (1 - γ)" if way == right else "linear algebra"
            expected = 1 / (1 - GAMMA) if way == right else round(exact[problem, way, lambda_], 3)
            checks.append(near(f"{problem}, {way}, λ = {lambda_:g}: v(A)", expected, reached[problem, way, lambda_],
                               0.15, source))  # fmt: skip
    wrong = max(reached[same, terminated, SHOWN], reached[other, terminated, SHOWN], reached[other, leaked, SHOWN])
    lost = 1 / (1 - GAMMA) - wrong
    return [*checks, near(f"least loss of a wrong way, λ = {SHOWN}", 7.311, lost, 0.15, "10 - 2.689")]


def fixed_point(share: float, way: str, lambda_: float) -> Floats:
    """Values of A and B that equal the mean of their own λ-returns, by linear algebra.

    Rows are the five steps of an episode of A and the one of B. Expected λ-returns are
    G = r + γ (N V + λ C (G - V)), where N leads to the state bootstrapped from, C to the row the trace goes on to; in
    the rows of `C V` every row has its state's value. V = M G, where M averages the rows of a state.
    """
    rows = LIMIT + 1
    state = np.zeros((rows, 2))
    state[:LIMIT, 0] = state[LIMIT, 1] = 1.0
    bootstrap, trace = np.zeros((rows, 2)), np.zeros((rows, rows))
    bootstrap[: LIMIT - 1, 0] = 1.0
    trace[np.arange(LIMIT - 1), np.arange(1, LIMIT)] = 1.0
    if way == "true next_obs":
        bootstrap[LIMIT - 1, 0] = 1.0
    if way == "next episode's state":
        bootstrap[LIMIT - 1] = trace[LIMIT - 1, [0, LIMIT]] = (1.0 - share, share)
    mean = state.T / state.sum(axis=0)[:, None]
    ahead = np.linalg.inv(np.eye(rows) - GAMMA * lambda_ * trace)
    matrix = mean @ ahead @ (GAMMA * (bootstrap - lambda_ * trace @ state))
    values: Floats = np.linalg.solve(np.eye(2) - matrix, mean @ ahead @ state @ REWARDS)
    return values


def _learned(share: float, seed: int) -> dict[tuple[str, float], list[float]]:
    """v(A) after each rollout, for each way and λ, all from the same rollouts.

    V(s) ← V(s) + α times the mean advantage of the steps in s.
    """
    rng = np.random.default_rng(seed)
    values = {(way, lambda_): np.zeros(2) for way in WAYS for lambda_ in LAMBDAS}
    curves: dict[tuple[str, float], list[float]] = {key: [0.0] for key in values}
    state, step = np.zeros(ENVS, np.int64), rng.integers(LIMIT, size=ENVS)
    for _ in range(ROLLOUTS):
        states, truncated, step = _rollout(share, state, step, rng)
        state = states[-1]
        for (way, lambda_), v in values.items():
            advantages = _advantages(states, truncated, v, way, lambda_)
            for s in np.unique(states[:-1]):
                v[s] += RATE * advantages[states[:-1] == s].mean()
            curves[way, lambda_].append(float(v[0]))
    return curves


def _rollout(share: float, state: Any, step: Any, rng: np.random.Generator) -> tuple[Any, Any, Any]:
    """States [T + 1, N] as reset environments show them, and where an episode of A was truncated, [T, N]."""
    states, truncated = np.zeros((STEPS + 1, ENVS), np.int64), np.zeros((STEPS, ENVS), np.bool_)
    starts = rng.random((STEPS, ENVS)) < share
    states[0] = state
    for t in range(STEPS):
        truncated[t] = (states[t] == 0) & (step == LIMIT - 1)
        over = truncated[t] | (states[t] == 1)
        step = np.where(over, 0, step + 1)
        states[t + 1] = np.where(over, starts[t], states[t])
    return states, truncated, step


def _advantages(states: Any, truncated: Any, values: Floats, way: str, lambda_: float) -> Any:
    """What `gae` gives [T, N], where the ends of A are told to it in one way or another."""
    now, terminated, never = states[:-1], states[:-1] == 1, np.zeros_like(truncated)
    following = values[states[1:]]
    if way == "true next_obs":
        following, cut = values[now], truncated  # A goes on to A; what follows B does not count
    elif way == "as termination":
        terminated, cut = terminated | truncated, never
    else:
        cut = never
    return gae(REWARDS[now], values[now], following, terminated, cut, gamma=GAMMA, lambda_=lambda_)


def _draw(canvas: Any, runs: dict[Key, Floats], reached: dict[Key, float]) -> None:
    canvas.set_size_inches(11.0, 3.8)
    *curves, right = canvas.subplots(1, 3, sharey=True)
    grid = np.linspace(0.0, 1.0, 51)
    for axes, (problem, share) in zip(curves, PROBLEMS.items(), strict=True):
        for way, colour in WAYS.items():
            band(axes, np.arange(ROLLOUTS + 1), runs[problem, way, SHOWN], way, colour)
            axes.axhline(fixed_point(share, way, SHOWN)[0], color=colour, linestyle="--", linewidth=0.9)
        axes.set_xlim(0, ROLLOUTS // 2)
        tidy(axes, f"{problem}, λ = {SHOWN}", "rollout", "v(A)" if share == 0.0 else "", legend=share == 0.0)
    other, share = list(PROBLEMS.items())[-1]
    for way, colour in WAYS.items():
        right.plot(grid, [fixed_point(share, way, lambda_)[0] for lambda_ in grid], color=colour, label=way)
        right.plot(LAMBDAS, [reached[other, way, lambda_] for lambda_ in LAMBDAS], "o", color=colour, markersize=4)
    tidy(right, f"{other} (lines: exact)", "λ", "", legend=False)
