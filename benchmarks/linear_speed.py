"""Steps per second of linear control with tile coding: rlkit compiled, rlkit through its loop, and two Python loops.

    python benchmarks/linear_speed.py run --rounds 5
    python benchmarks/linear_speed.py table

The tutorial loop is built as the field's well-known tile-coding software is: a table gives out a number for the tile of
each tiling, by a call for each, and a function lists them for a state and an action, called for the value of every
action; numpy weights; gymnasium's `env.step`; with traces, two numpy operations on all weights. The lean loop computes
the tiles of a state once and without a table. All have 8 tilings of 8 x 8 tiles, step size 0.5/8 and no exploration.
They take turns in one process, one thread; ratios are medians of the ratios within a round. `rlkit` is `rlkit.train` as
users call it, with logging and checkpoints, without evaluation; imports and compilation are not timed. One JSON a task;
a task that has its rounds is not run again.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"  # before numpy loads its BLAS

import gymnasium as gym
import numpy as np
from steps_a_second import circumstances, main, ratio, write

import rlkit

RESULTS = Path(__file__).parent / "results" / "linear_speed"
TILINGS, TILES, ALPHA, LAM = 8, 8, 0.5, 0.9
PYTHON_STEPS, LOOP_STEPS, COMPILED_STEPS = 50_000, 100_000, 10_000_000
AGENTS = ("linear-sarsa", "linear-sarsa-lambda")


class IndexTable:
    """Numbers of tiles, given out in the order of first use, as long as there are some."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.numbers: dict[tuple[int, ...], int] = {}

    def index(self, coordinates: list[int]) -> int:
        """The number of a tile."""
        key = tuple(coordinates)
        if key in self.numbers:
            return self.numbers[key]
        count = len(self.numbers)
        if count >= self.size:
            return hash(key) % self.size
        self.numbers[key] = count
        return count


class Tutorial:
    """Values of state and action by tiles in a table."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        space: Any = env.observation_space
        self.scale = [TILES / float(span) for span in space.high - space.low]
        self.table = IndexTable(4096)
        self.weights = np.zeros(4096)
        self.trace = np.zeros(4096)

    def tiles(self, state: Any, action: int) -> list[int]:
        """Number of the tile in each tiling, given out in the order of first use."""
        found = []
        parts = [math.floor(x * scale * TILINGS) for x, scale in zip(state, self.scale, strict=True)]
        for tiling in range(TILINGS):
            coordinates = [tiling]
            displacement = tiling
            for part in parts:
                coordinates.append((part + displacement) // TILINGS)
                displacement += 2 * tiling
            coordinates.append(action)
            found.append(self.table.index(coordinates))
        return found

    def value(self, state: Any, action: int) -> float:
        """Q(s, a)."""
        return float(np.sum(self.weights[self.tiles(state, action)]))

    def choose(self, state: Any) -> int:
        """The best action."""
        return int(np.argmax([self.value(state, action) for action in range(3)]))

    def learn(self, state: Any, action: int, target: float, traces: bool) -> None:
        """Move Q(s, a) towards the target."""
        error = ALPHA / TILINGS * (target - self.value(state, action))
        tiles = self.tiles(state, action)
        if traces:
            self.trace *= LAM
            self.trace[tiles] = 1.0
            self.weights += error * self.trace
        else:
            self.weights[tiles] += error


class Lean:
    """Values of state and action by one vector of weights an action; the tiles of a state are found once."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        space: Any = env.observation_space
        self.low = [float(x) for x in space.low]
        self.scale = [TILES * TILINGS / float(span) for span in space.high - space.low]
        self.weights = np.zeros((3, TILINGS * (TILES + 1) ** 2))
        self.trace = np.zeros_like(self.weights)
        self.known: Any = None
        self.found: list[int] = []

    def tiles(self, state: Any) -> list[int]:
        """Indices of the tile of each tiling."""
        if state is not self.known:
            x, y = (int((v - low) * scale) for v, low, scale in zip(state, self.low, self.scale, strict=True))
            side = TILES + 1
            self.known, self.found = (
                state,
                [(t * side + (x + t) // TILINGS) * side + (y + 3 * t % TILINGS) // TILINGS for t in range(TILINGS)],
            )
        return self.found

    def value(self, state: Any, action: int) -> float:
        """Q(s, a)."""
        return float(self.weights[action][self.tiles(state)].sum())

    def choose(self, state: Any) -> int:
        """The best action."""
        return int(self.weights[:, self.tiles(state)].sum(axis=1).argmax())

    def learn(self, state: Any, action: int, target: float, traces: bool) -> None:
        """Move Q(s, a) towards the target."""
        tiles = self.tiles(state)
        error = ALPHA / TILINGS * (target - float(self.weights[action][tiles].sum()))
        if traces:
            self.trace *= LAM
            self.trace[action][tiles] = 1.0
            self.weights += error * self.trace
        else:
            self.weights[action][tiles] += error


def python_seconds(kind: type[Tutorial] | type[Lean], agent: str) -> float:
    """Seconds of semi-gradient Sarsa, or Sarsa(λ) with replacing traces, in a Python loop."""
    env = gym.make("MountainCar-v0", disable_env_checker=True)
    learner, traces = kind(env), agent == "linear-sarsa-lambda"
    started = time.perf_counter()
    state, _ = env.reset(seed=0)
    action = learner.choose(state)
    for _ in range(PYTHON_STEPS):
        next_state, reward, terminated, truncated, _ = env.step(action)
        next_action = learner.choose(next_state)
        following = 0.0 if terminated else learner.value(next_state, next_action)
        learner.learn(state, action, float(reward) + following, traces)
        state, action = next_state, next_action
        if terminated or truncated:
            state, _ = env.reset()
            action = learner.choose(state)
            learner.trace[:] = 0.0
    return time.perf_counter() - started


def rlkit_seconds(agent: str, env: str, engine: str, steps: int) -> float:
    """Seconds of training as `rlkit.train` counts them: hooks, logs and checkpoints included."""
    config: dict[str, Any] = {"engine": engine, "gamma": 1.0, "epsilon": 0.0, "learning_rate": ALPHA}
    if agent == "linear-sarsa-lambda":
        config |= {"lam": LAM, "traces": "replacing"}
    with tempfile.TemporaryDirectory() as folder:
        result = rlkit.train(
            agent, env, total_steps=steps, run_dir=Path(folder) / "run", preset="none", eval_every=0,
            agent_config=config,
        )  # fmt: skip
    assert result.steps == steps
    return result.seconds


def measure(agent: str) -> dict[str, float]:
    """Steps per second of every contestant, in turns."""
    return {
        "tutorial": PYTHON_STEPS / python_seconds(Tutorial, agent),
        "lean": PYTHON_STEPS / python_seconds(Lean, agent),
        "loop": LOOP_STEPS / rlkit_seconds(agent, "MountainCar-v0", "step", LOOP_STEPS),
        "compiled": COMPILED_STEPS / rlkit_seconds(agent, "rlkit/MountainCar-v0", "compiled", COMPILED_STEPS),
    }


def run(rounds: int, results: Path) -> None:
    """Measure every agent `rounds` times, in turns, and write one JSON an agent, after every round."""
    results.mkdir(parents=True, exist_ok=True)
    for agent in AGENTS:
        path = results / f"{agent}.json"
        rows: list[dict[str, float]] = json.loads(path.read_text())["steps_per_second"] if path.exists() else []
        if len(rows) >= rounds:
            continue
        rlkit_seconds(agent, "MountainCar-v0", "step", 1000)
        rlkit_seconds(agent, "rlkit/MountainCar-v0", "compiled", 1000)
        while len(rows) < rounds:
            rows.append({name: round(value) for name, value in measure(agent).items()})
            _write(path, agent, rows)
            print(agent, rows[-1], flush=True)


def _write(path: Path, agent: str, rows: list[dict[str, float]]) -> None:
    record = {
        "agent": agent,
        "command": f"python benchmarks/linear_speed.py run --rounds {len(rows)}",
        "steps_per_second": rows,
        "steps": {"python": PYTHON_STEPS, "loop": LOOP_STEPS, "compiled": COMPILED_STEPS},
    }
    write(path, record | circumstances())


def table(results: Path) -> str:
    """All results as Markdown."""
    lines = [
        "| steps a second | tutorial loop | lean loop | rlkit, gymnasium's car | × tutorial | × lean "
        "| rlkit, its own car | × tutorial | × lean |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for agent in AGENTS:
        rows = json.loads((results / f"{agent}.json").read_text())["steps_per_second"]
        middle = {name: median(row[name] for row in rows) for name in rows[0]}
        loop, compiled = ([ratio(rows, name, other) for other in ("tutorial", "lean")] for name in ("loop", "compiled"))
        lines.append(
            f"| {agent} | {middle['tutorial']:,.0f} | {middle['lean']:,.0f} | {middle['loop']:,.0f} | {loop[0]} "
            f"| {loop[1]} | {middle['compiled'] / 1e6:.2f} million | {compiled[0]} | {compiled[1]} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main(__doc__, RESULTS, run, table)
