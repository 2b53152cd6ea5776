"""Steps per second of tabular control: rlkit compiled, rlkit through its loop, and two Python loops written here.

    python benchmarks/tabular_speed.py run --rounds 5
    python benchmarks/tabular_speed.py table

The tutorial loop is what introductions to the field print: a numpy table, `np.argmax`, gymnasium's `env.step`. The lean
loop is the same with lists and without gymnasium's wrappers around the environment. All take turns in one process, one
thread; ratios are medians of the ratios within a round. `rlkit` is `rlkit.train` as users call it, with logging and
checkpoints, without evaluation; imports and compilation are not timed (`compile_or_load_seconds` says what they cost).
The second half is the ordinary loop on environments whose transitions rlkit cannot know: CartPole cut into bins, and
FrozenLake behind a wrapper that hides them. The tutorial loop runs on the very same environment objects.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"  # before numpy loads its BLAS

import gymnasium as gym
import numpy as np
from steps_a_second import circumstances, main, ratio, write

import rlkit
from rlkit.envs.wrappers import Discretize

RESULTS = Path(__file__).parent / "results" / "tabular_speed"
ALPHA, GAMMA, EPSILON = 0.1, 0.99, 0.1
PYTHON_STEPS, LOOP_STEPS, COMPILED_STEPS = 100_000, 400_000, 100_000_000
TASKS = [
    *((agent, env) for env in ("FrozenLake-v1", "CliffWalking-v1", "Taxi-v4") for agent in ("q-learning", "sarsa")),
    ("monte-carlo", "Blackjack-v1"),
]


LOOP_TASKS = [(agent, env) for env in ("CartPole-v1", "FrozenLake-v1") for agent in ("q-learning", "sarsa")]
CARTPOLE_BINS = {"bins": 8, "low": (-2.4, -3.0, -0.21, -3.0), "high": (2.4, 3.0, 0.21, 3.0)}


class Opaque(gym.Wrapper[Any, Any, Any, Any]):
    """Changes nothing, but who could know?"""


def without_model(env: str) -> gym.Env[Any, Any]:
    """The environment as rlkit must step it: CartPole in bins, anything else with its model out of sight."""
    made = gym.make(env, disable_env_checker=True)
    return Discretize(made, **CARTPOLE_BINS) if env == "CartPole-v1" else Opaque(made)


def tutorial_td(env: gym.Env[Any, Any], steps: int, rng: np.random.Generator, sarsa: bool) -> None:
    """Q-learning or Sarsa as tutorials print it."""
    space: Any = env.observation_space
    sizes = (space.n,) if isinstance(space, gym.spaces.Discrete) else tuple(space.nvec)
    q = np.zeros((*sizes, env.action_space.n))  # type: ignore[attr-defined]

    def key(obs: Any) -> Any:
        return obs if len(sizes) == 1 else tuple(obs)

    def choose(state: Any) -> int:
        return env.action_space.sample() if rng.random() < EPSILON else int(np.argmax(q[state]))

    state = key(env.reset(seed=0)[0])
    action = choose(state)
    for _ in range(steps):
        if not sarsa:
            action = choose(state)
        obs, reward, terminated, truncated, _ = env.step(action)
        next_state = key(obs)
        if sarsa:
            next_action = choose(next_state)
            target = reward + GAMMA * q[next_state][next_action] * (not terminated)
        else:
            target = reward + GAMMA * np.max(q[next_state]) * (not terminated)
        q[state][action] += ALPHA * (target - q[state][action])
        state = next_state
        if sarsa:
            action = next_action
        if terminated or truncated:
            state = key(env.reset()[0])
            action = choose(state)


def tutorial_mc(env: gym.Env[Any, Any], steps: int, rng: np.random.Generator, sarsa: bool) -> None:
    """First-visit Monte Carlo control of Blackjack as tutorials print it: dictionaries of state tuples."""
    q: dict[Any, Any] = defaultdict(lambda: np.zeros(env.action_space.n))  # type: ignore[attr-defined]
    counts: dict[Any, Any] = defaultdict(lambda: np.zeros(env.action_space.n))  # type: ignore[attr-defined]
    taken = 0
    env.reset(seed=0)
    while taken < steps:
        episode, (state, _), done = [], env.reset(), False
        while not done:
            action = env.action_space.sample() if rng.random() < EPSILON else int(np.argmax(q[state]))
            next_state, reward, terminated, truncated, _ = env.step(action)
            episode.append((state, action, reward))
            state, done = next_state, terminated or truncated
            taken += 1
        total = 0.0
        for position in reversed(range(len(episode))):
            state, action, reward = episode[position]
            total = GAMMA * total + float(reward)
            if (state, action) not in [(s, a) for s, a, _ in episode[:position]]:
                counts[state][action] += 1
                q[state][action] += (total - q[state][action]) / counts[state][action]


def lean_td(env: gym.Env[Any, Any], steps: int, rng: np.random.Generator, sarsa: bool) -> None:
    """Q-learning or Sarsa with lists, local names and the bare environment."""
    bare: Any = env.unwrapped
    limit = env.spec.max_episode_steps or steps if env.spec else steps
    actions = int(bare.action_space.n)
    q = [[0.0] * actions for _ in range(int(bare.observation_space.n))]
    random, step, reset = rng.random, bare.step, bare.reset

    def choose(state: int) -> int:
        if random() < EPSILON:
            return int(random() * actions)
        row = q[state]
        return row.index(max(row))

    state, _ = reset(seed=0)
    action, length = choose(state), 0
    for _ in range(steps):
        next_state, reward, terminated, _, _ = step(action)
        length += 1
        next_action = choose(next_state)
        following = q[next_state][next_action] if sarsa else max(q[next_state])
        row = q[state]
        row[action] += ALPHA * (reward + (0.0 if terminated else GAMMA * following) - row[action])
        state, action = next_state, next_action
        if terminated or length == limit:
            state, _ = reset()
            action, length = choose(state), 0


def lean_mc(env: gym.Env[Any, Any], steps: int, rng: np.random.Generator, sarsa: bool) -> None:
    """Monte Carlo control of Blackjack with lists and the bare environment; no state comes twice in a game."""
    bare: Any = env.unwrapped
    q: dict[Any, list[float]] = {}
    counts: dict[Any, list[int]] = {}
    taken, random = 0, rng.random
    bare.reset(seed=0)
    while taken < steps:
        (state, _), done, episode = bare.reset(), False, []
        while not done:
            row = q.setdefault(state, [0.0, 0.0])
            action = int(random() * 2) if random() < EPSILON else int(row[1] > row[0])
            next_state, reward, done, _, _ = bare.step(action)
            episode.append((state, action))
            state = next_state
            taken += 1
        total = float(reward)
        for state, action in reversed(episode):
            count = counts.setdefault(state, [0, 0])
            count[action] += 1
            q[state][action] += (total - q[state][action]) / count[action]
            total *= GAMMA


def python_seconds(loop: Callable[..., None], env: gym.Env[Any, Any], agent: str, steps: int) -> float:
    """Seconds that a Python loop takes."""
    rng = np.random.default_rng(0)
    started = time.perf_counter()
    loop(env, steps, rng, agent == "sarsa")
    return time.perf_counter() - started


def rlkit_seconds(agent: str, env: Any, engine: str, steps: int) -> float:
    """Seconds of training as `rlkit.train` counts them: hooks, logs and checkpoints included."""
    config: dict[str, Any] = {"engine": engine, "gamma": GAMMA, "epsilon": EPSILON}
    if agent != "monte-carlo":
        config["learning_rate"] = ALPHA
    with tempfile.TemporaryDirectory() as folder:
        result = rlkit.train(
            agent, env, total_steps=steps, run_dir=Path(folder) / "run", preset="none", eval_every=0,
            agent_config=config,
        )  # fmt: skip
    assert result.steps == steps
    return result.seconds


def measure(agent: str, env: str) -> dict[str, float]:
    """Steps per second of every contestant, in turns."""
    tutorial, lean = (tutorial_mc, lean_mc) if agent == "monte-carlo" else (tutorial_td, lean_td)
    return {
        "tutorial": PYTHON_STEPS
        / python_seconds(tutorial, gym.make(env, disable_env_checker=True), agent, PYTHON_STEPS),
        "lean": PYTHON_STEPS / python_seconds(lean, gym.make(env), agent, PYTHON_STEPS),
        "rlkit": COMPILED_STEPS / rlkit_seconds(agent, env, "compiled", COMPILED_STEPS),
    }


def measure_loop(agent: str, env: str) -> dict[str, float]:
    """Steps per second through the ordinary loop and of the tutorial loop, on an environment without a model."""
    return {
        "tutorial": PYTHON_STEPS / python_seconds(tutorial_td, without_model(env), agent, PYTHON_STEPS),
        "rlkit": LOOP_STEPS / rlkit_seconds(agent, lambda: without_model(env), "step", LOOP_STEPS),
    }


def run(rounds: int, results: Path) -> None:
    """Measure every task `rounds` times, in turns, and write one JSON a task."""
    results.mkdir(parents=True, exist_ok=True)
    for agent, env in TASKS:
        started = time.perf_counter()
        rlkit_seconds(agent, env, "compiled", 1000)
        seconds = time.perf_counter() - started
        rows = [measure(agent, env) for _ in range(rounds)]
        _write(results / f"{agent}-{env}.json", agent, env, rows, seconds)
    for agent, env in LOOP_TASKS:
        started = time.perf_counter()
        rlkit_seconds(agent, lambda env=env: without_model(env), "step", 1000)
        seconds = time.perf_counter() - started
        rows = [measure_loop(agent, env) for _ in range(rounds)]
        _write(results / f"loop-{agent}-{env}.json", agent, env, rows, seconds)


def _write(path: Path, agent: str, env: str, rows: list[dict[str, float]], compile_seconds: float) -> None:
    record = {
        "agent": agent,
        "env": env,
        "command": f"python benchmarks/tabular_speed.py run --rounds {len(rows)}",
        "steps_per_second": [{name: round(value) for name, value in row.items()} for row in rows],
        "compile_or_load_seconds": round(compile_seconds, 2),
        "steps": {"python": PYTHON_STEPS, "loop": LOOP_STEPS, "compiled": COMPILED_STEPS},
    }
    write(path, record | circumstances())
    print(path.stem, ", ".join(f"{name} {median(row[name] for row in rows):,.0f}" for name in rows[0]), flush=True)


def table(results: Path) -> str:
    """All results as Markdown."""
    lines = ["| compiled | tutorial loop | lean loop | rlkit | × tutorial | × lean |", "|---|---|---|---|---|---|"]
    for agent, env in TASKS:
        rows = json.loads((results / f"{agent}-{env}.json").read_text())["steps_per_second"]
        middle = {name: median(row[name] for row in rows) for name in rows[0]}
        tutorial, lean = (ratio(rows, "rlkit", other) for other in ("tutorial", "lean"))
        lines.append(
            f"| {agent}, {env} | {middle['tutorial']:,.0f} | {middle['lean']:,.0f} "
            f"| {middle['rlkit'] / 1e6:.1f} million | {tutorial} | {lean} |"
        )
    lines += ["", "| through the loop, no model | tutorial loop | rlkit | × tutorial |", "|---|---|---|---|"]
    for agent, env in LOOP_TASKS:
        rows = json.loads((results / f"loop-{agent}-{env}.json").read_text())["steps_per_second"]
        middle = {name: median(row[name] for row in rows) for name in rows[0]}
        shown = "CartPole-v1 in 8⁴ bins" if env == "CartPole-v1" else f"{env}, hidden"
        against = ratio(rows, "rlkit", "tutorial")
        lines.append(f"| {agent}, {shown} | {middle['tutorial']:,.0f} | {middle['rlkit']:,.0f} | {against} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(__doc__, RESULTS, run, table)
