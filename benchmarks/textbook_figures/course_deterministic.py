"""Zhao (2025), section 10.4: the deterministic actor-critic, on a linear-quadratic problem with a known answer.

This is NOT the course's grid: a deterministic actor needs continuous actions, which the grid does not have. Taken
instead: s' = 0.9 s + 0.5 u + noise with reward -(s² + 0.5 u²) and γ = 0.9, where the best actor is u = -K s. K and its
action values come from the discounted Riccati equation, so both actor and critic have exact answers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from textbook_figures.figure import Floats, Result, Scale, band, between, figure, near, tidy

A, B, STATE_COST, ACTION_COST, GAMMA = 0.9, 0.5, 1.0, 0.5, 0.9
NOISE, RESTART = 0.1, 10
"""Standard deviation of the noise in s'; steps after which the state is drawn anew from [-1, 1]."""
ACTOR_RATE, CRITIC_RATE = 0.01, 0.05
STEPS, LOOKS = 20_000, 100
EXPLORATION = {"exploring, from K = 0": (0.5, 0.0), "exploring, from K = 2": (0.5, 2.0), "no exploration": (0.0, 0.0)}
"""Standard deviation of the behaviour's actions around the actor's, and the first K."""
WEIGHTS = ("s²", "2 s u", "u²", "1")


@figure("course-deterministic-actor-critic", "Deterministic actor-critic finds the gain of the Riccati equation")
def deterministic_actor_critic(scale: Scale) -> Result:
    """K by step from two starts; and without exploration, where the critic cannot tell what other actions give."""
    best, truth, seeds = *riccati(), len(scale.runs(20))
    runs = {name: _learned(*settings, seeds) for name, settings in EXPLORATION.items()}
    gains = {name: found[0] for name, found in runs.items()}
    start, far, blind = EXPLORATION
    weights = runs[start][1].mean(axis=0)
    checks = [
        near("K, exact", _searched(), best, 1e-3, "search over the cost of every K, beside the Riccati equation"),
        near("exploring, from K = 0: K", round(best, 4), gains[start][:, -1].mean(), 0.02, "Riccati equation"),
        near("exploring, from K = 2: K", round(best, 4), gains[far][:, -1].mean(), 0.02, "Riccati equation"),
        *(near(f"critic's weight of {name}", round(float(exact), 3), measured, 0.05, "Riccati equation")
          for name, exact, measured in zip(WEIGHTS[:3], truth[:3], weights[:3], strict=True)),
        near("critic's constant", round(float(truth[3]), 3), weights[3], 0.05, "-γ P noise² / (1 - γ)"),
        between("cost of the learned actors over the least", 1.0, 1.001,
                _cost(gains[start][:, -1]).mean() / _cost(best), "1 is optimal"),
        near("no exploration: K", 0.0, gains[blind][:, -1].mean(), 1e-9, "u = 0 is all the critic sees: no slope"),
    ]  # fmt: skip

    def draw(canvas: Any) -> None:
        canvas.set_size_inches(9.5, 3.8)
        left, right = canvas.subplots(1, 2)
        x = np.linspace(0, STEPS, LOOKS + 1)
        for name, found in gains.items():
            band(left, x, found, name)
        left.axhline(best, color="0.4", linestyle="--", linewidth=1.0, label=f"K = {best:.3f}, Riccati")
        for i, name in enumerate(WEIGHTS):
            band(right, x, runs[start][2][:, :, i], name, f"C{i}")
            right.axhline(truth[i], color=f"C{i}", linestyle="--", linewidth=0.9)
        tidy(left, f"K of u = -K s; linear-quadratic, not the grid ({seeds} seeds)", "step", "")
        tidy(right, "weights of the critic (dashed: exact)", "step", "")
        right.legend(frameon=False, fontsize=8, loc="center right", bbox_to_anchor=(1.0, 0.42))
        for axes in (left, right):
            axes.set_xticks(range(0, STEPS + 1, STEPS // 4))
            axes.title.set_fontsize(10)

    settings = {
        "seeds": seeds, "problem": "s' = 0.9 s + 0.5 u + noise, reward -(s² + 0.5 u²): not the course's grid",
        "gamma": GAMMA, "noise": NOISE, "restart every": RESTART, "steps": STEPS, "actor_rate": ACTOR_RATE,
        "critic_rate": CRITIC_RATE, "exploration and first K": EXPLORATION, "exact K": best,
    }  # fmt: skip
    return Result(
        checks, draw, settings, {name: np.round(found.mean(axis=0), 4).tolist() for name, found in gains.items()}
    )


def riccati() -> tuple[float, Floats]:
    """Best gain K, and weights of q(s, u) on s², 2 s u, u² and 1.

    v(s) = -P s² + c with P = Q + γ a² P - (γ a b P)² / (R + γ b² P), K = γ a b P / (R + γ b² P),
    q(s, u) = -(Q s² + R u²) - γ P ((a s + b u)² + σ²) + γ c, c = -γ P σ² / (1 - γ).
    """
    p = 0.0
    for _ in range(1000):
        p = STATE_COST + GAMMA * A**2 * p - (GAMMA * A * B * p) ** 2 / (ACTION_COST + GAMMA * B**2 * p)
    cross, curvature = GAMMA * A * B * p, ACTION_COST + GAMMA * B**2 * p
    constant = -GAMMA * p * NOISE**2 / (1 - GAMMA)
    return cross / curvature, np.array([-(STATE_COST + GAMMA * A**2 * p), -cross, -curvature, constant])


def _cost(gain: Any) -> Any:
    """P of u = -K s: discounted cost from s = 1, without noise."""
    return (STATE_COST + ACTION_COST * gain**2) / (1.0 - GAMMA * (A - B * gain) ** 2)


def _searched() -> float:
    gains = np.linspace(0.0, 2.0, 20_001)
    return float(gains[_cost(gains).argmin()])


def _learned(exploration: float, first: float, seeds: int) -> tuple[Floats, Floats, Floats]:
    """K on the way [K, LOOKS + 1], weights at the end [K, 4] and on the way [K, LOOKS + 1, 4].

    With μ(s) = -K s, u from the behaviour and q(s, u) = w·φ(s, u):
    δ = r + γ q(s', μ(s')) - q(s, u), K ← K + α_K ∂μ/∂K ∂q/∂u at u = μ(s), w ← w + α_w δ φ(s, u).
    No importance ratio: the next action is the actor's, whatever the behaviour did.
    """
    rng, w, gain = np.random.default_rng(0), np.zeros((seeds, 4)), np.full(seeds, first)
    gains, weights = [gain.copy()], [w.copy()]
    s = rng.uniform(-1.0, 1.0, seeds)
    for step in range(1, STEPS + 1):
        u = -gain * s + exploration * rng.standard_normal(seeds)
        r = -(STATE_COST * s**2 + ACTION_COST * u**2)
        following = A * s + B * u + NOISE * rng.standard_normal(seeds)
        features = _features(s, u)
        delta = r + GAMMA * (w * _features(following, -gain * following)).sum(axis=1) - (w * features).sum(axis=1)
        slope = 2.0 * w[:, 1] * s + 2.0 * w[:, 2] * (-gain * s)
        gain += ACTOR_RATE * -s * slope
        w += CRITIC_RATE * delta[:, None] * features
        s = rng.uniform(-1.0, 1.0, seeds) if step % RESTART == 0 else following
        if step % (STEPS // LOOKS) == 0:
            gains.append(gain.copy())
            weights.append(w.copy())
    return np.array(gains).T, w, np.array(weights).transpose(1, 0, 2)


def _features(s: Floats, u: Floats) -> Floats:
    return np.stack([s**2, 2.0 * s * u, u**2, np.ones_like(s)], axis=1)
