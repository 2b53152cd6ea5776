"""Returns that can be reached without velocities and without memory, and Pendulum's best with everything seen.

    python benchmarks/no_velocity_returns.py

What `rlkit.envs.known_returns` calls `found` for the two tasks without velocities. Memoryless policies are networks
with one hidden layer of 8, stochastic (CartPole: a probability; Pendulum: mean and deviation of a torque), sought by
the cross-entropy method (de Boer et al. 2005): 128 from a normal distribution, 16 episodes each, the 16 best give the
next distribution. The last mean is measured on 2,000 episodes that the search did not see; there are three searches
each. Pendulum's best is value iteration backward over its 200 steps, on a grid of 241 angles, 161 velocities and 41
torques with linear interpolation. Some two minutes on one core.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"  # before numpy loads its BLAS

import numpy as np
from steps_a_second import circumstances

from rlkit.envs.make import make

RESULT = Path(__file__).parent / "results" / "no_velocity_returns" / "returns.json"
SEEN = {"CartPole-v1": [0, 2], "Pendulum-v1": [0, 1]}
SCALE = {"CartPole-v1": np.array([2.4, 0.2095]), "Pendulum-v1": np.ones(2)}  # of what is seen, to about 1
LIMIT = {"CartPole-v1": 500, "Pendulum-v1": 200}
HIDDEN, POPULATION, ELITE, EPISODES, FINAL = 8, 128, 16, 16, 2_000
SIZE = 3 * HIDDEN + 2 * (HIDDEN + 1)
Act = Callable[[Any, int], Any]


def network(weights: Any, seen: Any) -> Any:
    """Two outputs [P, E, 2] of P networks [P, SIZE] for E observations each [P, E, 2]."""
    first, bias, second, last = np.split(weights, np.cumsum([2 * HIDDEN, HIDDEN, 2 * HIDDEN]), axis=1)
    hidden = np.tanh(seen @ first.reshape(-1, 2, HIDDEN) + bias[:, None])
    return hidden @ second.reshape(-1, HIDDEN, 2) + last[:, None]


def memoryless(env_id: str, weights: Any, rng: np.random.Generator) -> Act:
    """Actions of the networks, one after the other over the rows."""

    def act(obs: Any, step: int) -> Any:
        seen = (obs[:, SEEN[env_id]] / SCALE[env_id]).reshape(len(weights), -1, 2)
        main, noise = np.moveaxis(network(weights, seen), -1, 0).reshape(2, -1)
        if env_id == "CartPole-v1":
            return (rng.random(main.shape) < 1 / (1 + np.exp(-10 * main.clip(-50, 50)))).astype(np.int64)
        torque = 2 * main + np.exp(noise.clip(-10, 2)) * rng.standard_normal(main.shape)
        return torque.clip(-2, 2)[:, None].astype(np.float32)

    return act


def returns(env_id: str, act: Act, rows: int, seed: int) -> Any:
    """Return of one episode of every row, [rows]."""
    envs = make(env_id, rows, vector="compiled")
    obs, _ = envs.reset(seed)
    total, alive = np.zeros(rows), np.ones(rows, np.bool_)
    for step in range(LIMIT[env_id]):
        result = envs.step(act(obs, step))
        total += np.where(alive, result.reward, 0.0)
        alive &= ~(result.terminated | result.truncated)
        obs = result.obs
        if not alive.any():
            break
    return total


def search(env_id: str, generations: int, seed: int) -> tuple[float, float]:
    """Mean return of the policy that one search ends with, and its standard error."""
    rng = np.random.default_rng(seed)
    mean, deviation = np.zeros(SIZE), np.ones(SIZE)
    for generation in range(generations):
        weights = mean + deviation * rng.standard_normal((POPULATION, SIZE))
        weights[0] = mean
        found = returns(env_id, memoryless(env_id, weights, rng), POPULATION * EPISODES, 1000 * seed + generation)
        best = weights[np.argsort(found.reshape(POPULATION, EPISODES).mean(1))[-ELITE:]]
        mean, deviation = best.mean(0), best.std(0) + 0.1 * 0.95**generation  # no early collapse
    final = returns(env_id, memoryless(env_id, mean[None], rng), FINAL, 10**6 + seed)
    return float(final.mean()), float(final.std() / FINAL**0.5)


def pendulum_values() -> Any:
    """Values [200 + 1, angles, velocities] of every time step."""
    angles, velocities = np.linspace(-np.pi, np.pi, 241), np.linspace(-8, 8, 161)
    values = np.zeros((LIMIT["Pendulum-v1"] + 1, 241, 161), np.float32)
    angle, velocity = (grid[..., None] for grid in np.meshgrid(angles, velocities, indexing="ij"))
    reward, place = moved(angle, velocity, np.linspace(-2, 2, 41))
    for step in reversed(range(LIMIT["Pendulum-v1"])):
        values[step] = (reward + between(values[step + 1], *place)).max(-1)
    return values


def moved(angle: Any, velocity: Any, torque: Any) -> tuple[Any, tuple[Any, Any]]:
    """Reward, and the next angle and velocity as places on the grid (gymnasium's equations: g 10, m 1, l 1)."""
    reward = -(angle**2 + 0.1 * velocity**2 + 0.001 * torque**2)
    faster = np.clip(velocity + (15 * np.sin(angle) + 3 * torque) * 0.05, -8, 8)
    later = (angle + faster * 0.05 + np.pi) % (2 * np.pi)
    return reward, (later / (2 * np.pi) * 240, (faster + 8) / 16 * 160)


def between(values: Any, row: Any, column: Any) -> Any:
    """Values on the grid, interpolated."""
    top, left = np.minimum(row.astype(np.int64), 239), np.minimum(column.astype(np.int64), 159)
    down, right = row - top, column - left
    upper = values[top, left] * (1 - right) + values[top, left + 1] * right
    lower = values[top + 1, left] * (1 - right) + values[top + 1, left + 1] * right
    return upper * (1 - down) + lower * down


def pendulum_best() -> tuple[float, float]:
    """Mean return of the torques that the values advise, and its standard error."""
    values = pendulum_values()
    torques = np.linspace(-2, 2, 161)

    def act(obs: Any, step: int) -> Any:
        angle, velocity = np.arctan2(obs[:, 1], obs[:, 0])[:, None].astype(np.float64), obs[:, 2:].astype(np.float64)
        reward, place = moved(angle, velocity, torques)
        return torques[(reward + between(values[step + 1], *place)).argmax(1)][:, None].astype(np.float32)

    final = returns("Pendulum-v1", act, FINAL, 10**6)
    return float(final.mean()), float(final.std() / FINAL**0.5)


def main() -> None:
    """Measure, print, and keep."""
    found: dict[str, Any] = {"circumstances": circumstances()}
    for env_id, generations in (("CartPole-v1", 40), ("Pendulum-v1", 60)):
        tries = [search(env_id, generations, seed) for seed in range(3)]
        found[f"{env_id}, memoryless, no velocity"] = {"mean and standard error of each search": tries}
    found["Pendulum-v1, value iteration"] = {"mean and standard error": pendulum_best()}
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    print(RESULT.read_text())


if __name__ == "__main__":
    main()
