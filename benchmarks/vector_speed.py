"""Env steps per second of N classic control environments: compiled, serial, and gymnasium's SyncVectorEnv.

    python benchmarks/vector_speed.py run --rounds 5
    python benchmarks/vector_speed.py table

Random actions, drawn beforehand; resets are part of it. All take turns in one process, one thread; ratios are medians
of the ratios within a round. Imports and compilation are not timed. One JSON an environment; one that has its rounds is
not run again.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from statistics import median
from typing import Any

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"  # before numpy loads its BLAS

import gymnasium as gym
import numpy as np
from steps_a_second import circumstances, main, ratio, write

from rlkit.envs.classic_vector import CLASSICS
from rlkit.envs.make import make

RESULTS = Path(__file__).parent / "results" / "vector_speed"
NUMBERS = (1, 8, 64)
VECTOR_STEPS = {"serial": 4_000, "sync": 4_000, "compiled": 40_000}
Rows = list[dict[str, int]]


def steps_per_second(envs: Any, actions: list[Any], vector_steps: int) -> int:
    """Env steps of all rows together."""
    envs.reset(seed=0)
    for action in actions[:10]:
        envs.step(action)
    began = time.perf_counter()
    for number in range(vector_steps):
        envs.step(actions[number % len(actions)])
    return round(vector_steps * len(actions[0]) / (time.perf_counter() - began))


def measure(env_id: str, number: int) -> dict[str, int]:
    """One round."""
    same_step = gym.vector.AutoresetMode.SAME_STEP
    kinds: dict[str, Any] = {
        "serial": make(env_id, number),
        "sync": gym.vector.SyncVectorEnv([lambda: gym.make(env_id)] * number, autoreset_mode=same_step),
        "compiled": make(env_id, number, vector="compiled"),
    }
    space = kinds["serial"].single_action_space
    actions = [np.array([space.sample() for _ in range(number)]) for _ in range(100)]
    counts = {name: max(VECTOR_STEPS[name] // number, 400) for name in kinds}
    return {name: steps_per_second(envs, actions, counts[name]) for name, envs in kinds.items()}


def run(rounds: int, results: Path) -> None:
    """Measure every environment `rounds` times, in turns."""
    results.mkdir(parents=True, exist_ok=True)
    for env_id in CLASSICS:
        path = results / f"{env_id}.json"
        rows: dict[str, Rows] = json.loads(path.read_text())["steps_per_second"] if path.exists() else {}
        while len(rows.get("1", [])) < rounds:
            for number in NUMBERS:
                rows.setdefault(str(number), []).append(measure(env_id, number))
            _write(path, env_id, rows)
            print(env_id, {number: of_number[-1] for number, of_number in rows.items()}, flush=True)


def _write(path: Path, env_id: str, rows: dict[str, Rows]) -> None:
    record = {
        "env": env_id,
        "command": f"python benchmarks/vector_speed.py run --rounds {len(rows['1'])}",
        "steps_per_second": rows,
    }
    write(path, record | circumstances())


def table(results: Path) -> str:
    """All results as Markdown."""
    lines = [
        "| env steps a second | N | serial | SyncVectorEnv | compiled | × serial | × SyncVectorEnv |",
        "|---|---|---|---|---|---|---|",
    ]
    for env_id in CLASSICS:
        by_number = json.loads((results / f"{env_id}.json").read_text())["steps_per_second"]
        for number, rows in by_number.items():
            middle = [f"{median(row[name] for row in rows):,.0f}" for name in VECTOR_STEPS]
            cells = [env_id, number, *middle, ratio(rows, "compiled", "serial"), ratio(rows, "compiled", "sync")]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(__doc__, RESULTS, run, table)
