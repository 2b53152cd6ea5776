"""Zhao (2025), chapter 10: QAC, A2C and the off-policy actor-critic on the course grid, with tables.

The target goes on; on-policy methods start again anywhere after 25 steps, or they would stay in the target and learn
nothing more about the way to it. That ends no episode: targets bootstrap from the true next state.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from rlkit.mdp import FiniteMDP
from rlkit.tabular.planning import action_values, policy_values
from textbook_figures.course_grid import GAMMA, course_model, outcome_of, show
from textbook_figures.course_policies import (
    BEST,
    MODELS,
    best_mean,
    drawn,
    greedy,
    log_gradient,
    optimum,
    softmax,
    values_of,
)
from textbook_figures.figure import Floats, Result, Scale, band, between, figure, near, tidy

STEPS, LOOKS, RESTART = 200_000, 50, 25
RATES = {"QAC": (0.05, 0.1), "A2C": (0.05, 0.1), "with ratio": (0.1, 0.05), "without ratio": (0.02, 0.05)}
"""Step sizes of actor and critic, ours; QAC's and A2C's are the same. QAC's greedy policies lose the less the smaller
its actor's step size: 0.10 on average with 0.1, 0.07 with 0.05, 0.05 with 0.03."""
COINS, COIN = 200, 0.8
"""Draws of the example in section 10.3: +1 with probability 0.8, else -1; wanted is the mean with 0.5 and 0.5."""


class Learned(NamedTuple):
    """What K seeds learned: θ on the way [L, K, S, A], state values of the critic on the way [L, K, S]."""

    preferences: Floats
    critic: Floats


@figure("course-actor-critic", "QAC and A2C on the course grid: learned policies beside v*")
def actor_critic(scale: Scale) -> Result:
    """200,000 steps with rewards of -1 and of -10 for wrong steps; values of the softmax policies are exact."""
    seeds = len(scale.runs(20))
    runs = {(rewards, name): learned(rewards, name, seeds) for rewards in MODELS for name in ("QAC", "A2C")}
    means = {(rewards, name): _means(rewards, found) for (rewards, name), found in runs.items()}
    early = runs["mild", "A2C"].preferences[LOOKS // 10]
    noise = {name: float(np.mean([_gradient_variance(name, theta) for theta in early])) for name in ("QAC", "A2C")}
    checks = [optimum("mild"), optimum("harsh")]
    for name in ("QAC", "A2C"):
        final, wrong = means["mild", name][:, -1], _critic_error("mild", runs["mild", name])
        checks += [
            near(f"{name}, mild: mean v of the learned policy", BEST["mild"], final.mean(), 0.15, "v*"),
            between(f"{name}, mild: loss of its greedy policy", 0.0, 0.1, _greedy_loss("mild", runs["mild", name]),
                    "0 is optimal"),
            between(f"{name}, mild: RMSE of the critic from v of its policy", 0.0, 0.2, wrong, "0 at convergence"),
        ]  # fmt: skip
    checks += [
        between("A2C less QAC, mild, mean v after 4,000 steps", 0.5, 8.0,
                (means["mild", "A2C"] - means["mild", "QAC"])[:, 1].mean(), "ours: with a baseline it is faster"),
        between("variance of A2C's gradient over QAC's, exact", 0.0, 0.5, noise["A2C"] / noise["QAC"],
                "section 10.2: v is nearly the best baseline"),
        between("A2C, harsh: share of seeds within 0.1 of v*", 0.0, 0.9,
                _share_best("harsh", means["harsh", "A2C"]), "ours: exploration dies with the policy"),
    ]  # fmt: skip

    def draw(canvas: Any) -> None:
        canvas.set_size_inches(11.0, 3.6)
        left, middle, right = canvas.subplots(1, 3, width_ratios=(1.3, 1.3, 1))
        for axes, rewards, low in ((left, "mild", 5.0), (middle, "harsh", -10.0)):
            for name in ("QAC", "A2C"):
                band(axes, np.linspace(0, STEPS, LOOKS + 1), means[rewards, name], name)
            axes.axhline(best_mean(rewards), color="0.4", linestyle="--", linewidth=1.0, label="v*")
            axes.set_ylim(low, 8.2)
        tidy(left, f"mean v, wrong steps -1, {seeds} seeds", "step", "")
        tidy(middle, "wrong steps -10", "step", "", legend=False)
        _show_seed(right, runs["mild", "A2C"], "A2C's critic and actor (seed 0), -1")

    return Result(checks, draw, _settings(seeds, ("QAC", "A2C"), means), _curves(means))


@figure("course-off-policy-actor-critic", "Off-policy actor-critic from uniform steps, with and without the ratio")
def off_policy(scale: Scale) -> Result:
    """With π / β actor and critic learn about π; without it the critic learns v of β, and the actor improves β once."""
    seeds = len(scale.runs(20))
    names = ("with ratio", "without ratio")
    runs = {(rewards, name): learned(rewards, name, seeds) for rewards in MODELS for name in names}
    means = {(rewards, name): _means(rewards, found) for (rewards, name), found in runs.items()}
    critics = {key: found.critic.mean(axis=2).T for key, found in runs.items()}
    on_policy = _means("mild", learned("mild", "A2C", seeds))[:, -1].mean()
    corrected, biased = (means["mild", name][:, -1].mean() for name in names)
    uniform, improved = _behaviour()
    plain, weighted = _coins(len(scale.runs(200)))
    checks = [
        near("example: mean of the draws", COIN - (1 - COIN), plain[:, -1].mean(), 0.03, "0.8 - 0.2"),
        near("example: mean of draws times ratio", 0.0, weighted[:, -1].mean(), 0.03, "0.5 - 0.5"),
        near("with ratio, mild: mean v of the learned policy", BEST["mild"], corrected, 0.05, "v*"),
        near("the same less on-policy A2C", 0.0, corrected - on_policy, 0.15, "same values"),
        between("with ratio, mild: loss of its greedy policy", 0.0, 0.03, _greedy_loss("mild", runs["mild", names[0]]),
                "0 is optimal"),
        between("with ratio: RMSE of the critic from v of its policy", 0.0, 0.05,
                _critic_error("mild", runs["mild", names[0]]), "0 at convergence"),
        near("without ratio: mean v of the critic", round(uniform, 3), critics["mild", names[1]][:, -1].mean(), 0.1,
             "v of the uniform policy, linear algebra"),
        near("without ratio: mean v of the learned policy", round(improved, 3), biased, 0.2,
             "softmax of α t d(s) β A of the uniform policy, exact"),
        near("with ratio, harsh: share of seeds within 0.1 of v*", 1.0, _share_best("harsh", means["harsh", names[0]]),
             0.0, "the behaviour explores for ever"),
        near("with ratio, harsh: loss of its greedy policy", 0.0, _greedy_loss("harsh", runs["harsh", names[0]]), 1e-6,
             "optimal"),
    ]  # fmt: skip

    def draw(canvas: Any) -> None:
        canvas.set_size_inches(11.5, 3.6)
        left, middle, right = canvas.subplots(1, 3)
        steps = np.linspace(0, STEPS, LOOKS + 1)
        for name, colour in zip(names, ("C0", "C1"), strict=True):
            band(left, steps, means["mild", name], name, colour)
            band(middle, steps, critics["mild", name], name, colour)
        for axes, wrong, told in ((left, improved, "β, improved once"), (middle, uniform, "v of β")):
            axes.axhline(best_mean("mild"), color="0.4", linestyle="--", linewidth=1.0, label="v*")
            axes.axhline(wrong, color="C1", linestyle=":", linewidth=1.2, label=told)
        band(right, np.arange(1, COINS + 1), weighted, "draw times ratio", "C0")
        band(right, np.arange(1, COINS + 1), plain, "draw", "C1")
        right.axhline(0.0, color="0.4", linestyle="--", linewidth=1.0)
        right.axhline(2 * COIN - 1, color="C1", linestyle=":", linewidth=1.2)
        tidy(left, f"mean v of the actor, {seeds} seeds", "step", "")
        tidy(middle, "mean v of the critic", "step", "")
        tidy(right, "example: mean of ±1 draws", "draw", "")
        right.set_ylim(-0.3, 0.9)

    return Result(checks, draw, _settings(seeds, names, means), _curves(means))


@cache
def learned(rewards: str, name: str, seeds: int) -> Learned:
    """Train that many seeds side by side with one generator; QAC has a critic of action values, the others of states.

    QAC: θ ← θ + α_θ q(s, a) ∇ ln π(a | s), q(s, a) ← q(s, a) + α (r + γ q(s', a') - q(s, a)).
    Others, with δ = r + γ v(s') - v(s): θ ← θ + α_θ ρ δ ∇ ln π(a | s), v(s) ← v(s) + α ρ δ,
    where ρ = π(a | s) / β(a | s) where it is asked for, else 1.
    """
    model = course_model(**MODELS[rewards])
    next_states, all_rewards = outcome_of(model)
    (actor_rate, critic_rate), rng, k = RATES[name], np.random.default_rng(0), np.arange(seeds)
    theta, v = np.zeros((seeds, *next_states.shape)), np.zeros((seeds, model.num_states))
    q, follows_policy = np.zeros_like(theta), name in ("QAC", "A2C")
    looks: tuple[list[Floats], list[Floats]] = ([theta.copy()], [v.copy()])
    s = rng.integers(model.num_states, size=seeds)
    a = rng.integers(model.num_actions, size=seeds)
    for step in range(1, STEPS + 1):
        r, following, pi = all_rewards[s, a], next_states[s, a], softmax(theta[k, s])
        following_a = drawn(softmax(theta[k, following]), rng) if follows_policy else rng.integers(5, size=seeds)
        if name == "QAC":
            theta[k, s] += actor_rate * q[k, s, a][:, None] * log_gradient(pi, a)
            q[k, s, a] += critic_rate * (r + GAMMA * q[k, following, following_a] - q[k, s, a])
        else:
            rho = pi[k, a] / 0.2 if name == "with ratio" else np.ones(seeds)
            delta = r + GAMMA * v[k, following] - v[k, s]
            theta[k, s] += actor_rate * (rho * delta)[:, None] * log_gradient(pi, a)
            v[k, s] += critic_rate * rho * delta
        if follows_policy and step % RESTART == 0:
            following = rng.integers(model.num_states, size=seeds)
            following_a = drawn(softmax(theta[k, following]), rng)
        s, a = following, following_a
        if step % (STEPS // LOOKS) == 0:
            looks[0].append(theta.copy())
            looks[1].append((softmax(theta) * q).sum(axis=2) if name == "QAC" else v.copy())
    return Learned(np.array(looks[0]), np.array(looks[1]))


def _gradient_variance(name: str, theta: Floats) -> float:
    """Variance of one step's q ∇ ln π (QAC) or A ∇ ln π (A2C) with true values, mean over states.

    E|g|² - |E g|², where E g is the same for both.
    """
    model, policy = course_model(), softmax(theta)
    q = action_values(model, GAMMA, values_of(model, policy))
    weight = q if name == "QAC" else q - (policy * q).sum(axis=1, keepdims=True)
    score = np.eye(model.num_actions)[None] - policy[:, None, :]
    square = (policy * weight**2 * (score**2).sum(axis=2)).sum(axis=1)
    mean = np.einsum("sa,sa,sab->sb", policy, weight, score)
    return float((square - (mean**2).sum(axis=1)).mean())


def _behaviour() -> tuple[float, float]:
    """Mean v of the uniform policy, and of the policy that an actor without the ratio ends in.

    With δ of v of β the expected step of θ(s, a) is α β(a | s) A(s, a): the term with π(a | s) has the factor
    Σ β A = 0. The uniform policy visits all states evenly, 1 / 25.
    """
    model = course_model()
    uniform = np.full((model.num_states, model.num_actions), 1.0 / model.num_actions)
    values = policy_values(model, GAMMA, uniform)
    advantages = action_values(model, GAMMA, values) - values[:, None]
    theta = RATES["without ratio"][0] * STEPS / uniform.size * advantages
    return float(values.mean()), float(values_of(model, softmax(theta)).mean())


def _coins(runs: int) -> tuple[Floats, Floats]:
    """Running means [runs, COINS] of draws, and of draws weighted with their importance ratio."""
    draws = np.where(np.random.default_rng(0).random((runs, COINS)) < COIN, 1.0, -1.0)
    ratio = np.where(draws > 0, 0.5 / COIN, 0.5 / (1 - COIN))
    count = np.arange(1, COINS + 1)
    return draws.cumsum(axis=1) / count, (ratio * draws).cumsum(axis=1) / count


def _means(rewards: str, found: Learned) -> Floats:
    """Mean v of the softmax policies on the way, exactly, [K, LOOKS + 1]."""
    means: Floats = values_of(_model(rewards), softmax(found.preferences)).mean(axis=2).T
    return means


def _greedy_loss(rewards: str, found: Learned) -> float:
    """By how much v of the greedy policies at the end falls short of v*, mean over states and seeds."""
    return best_mean(rewards) - float(values_of(_model(rewards), greedy(found.preferences[-1])).mean())


def _critic_error(rewards: str, found: Learned) -> float:
    """Root mean square difference of the critic from v of its actor's policy, at the end."""
    truth = values_of(_model(rewards), softmax(found.preferences[-1]))
    return float(np.sqrt(np.mean((found.critic[-1] - truth) ** 2)))


def _share_best(rewards: str, means: Floats) -> float:
    return float((best_mean(rewards) - means[:, -1] < 0.1).mean())


def _model(rewards: str) -> FiniteMDP:
    return course_model(**MODELS[rewards])


def _show_seed(axes: Any, found: Learned, title: str) -> None:
    show(axes, found.critic[-1, 0], softmax(found.preferences[-1, 0]), title)


def _settings(seeds: int, names: tuple[str, ...], means: dict[tuple[str, str], Floats]) -> dict[str, Any]:
    shares = {", ".join(key): _share_best(key[0], found) for key, found in means.items()}
    rates = {name: RATES[name] for name in names}
    return {
        "seeds": seeds, "steps": STEPS, "restart every": RESTART, "gamma": GAMMA, "step sizes": rates,
        "share of seeds within 0.1 of v*": shares,
    }  # fmt: skip


def _curves(means: dict[tuple[str, str], Floats]) -> dict[str, Any]:
    return {", ".join(key): np.round(found.mean(axis=0), 3).tolist() for key, found in means.items()}
