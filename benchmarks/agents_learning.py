"""Learning curves end points: rlkit against a peer on the same environments, seeds, steps and settings.

One JSON per finished run under `benchmarks/results/learning/`, so the table adds up over several sittings:

    python benchmarks/agents_learning.py run --library sb3 --task ddpg_pendulum --seeds 0-9
    python benchmarks/agents_learning.py run --library rlkit --task ddpg_pendulum --seeds 0-9
    python benchmarks/agents_learning.py table

Each run is one thread, trains from scratch and is evaluated without exploration on fresh episodes whose seeds
depend on the run's seed only; they begin alike in every library. The score of a seed is its mean evaluation return.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"  # before numpy loads its BLAS

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from learning_peers import sb3_returns
from learning_tasks import TASKS, LearningTask, published
from scipy.stats import trim_mean

Floats: TypeAlias = npt.NDArray[np.float64]
RESULTS = Path(__file__).parent / "results" / "learning"


def evaluation_seed(seed: int) -> int:
    """Seed of the first evaluation episode; later episodes continue the environment's own generator."""
    return 10_000 + seed


def rlkit_returns(task: LearningTask, seed: int, evaluation_seed: int) -> list[float]:
    """Train rlkit's agent; return its evaluation returns."""
    import rlkit

    with tempfile.TemporaryDirectory() as folder:
        result = rlkit.train(
            task.agent, task.env, total_steps=task.total_steps, run_dir=Path(folder) / "run", preset="none", seed=seed,
            num_envs=task.num_envs, wrap=task.wrap, agent_config=task.settings, eval_every=0,
            checkpoint_every=task.total_steps, device="cpu",
        )  # fmt: skip
        if result.steps < task.total_steps:  # a signal ends a run early, with a checkpoint
            raise SystemExit(f"seed {seed} ended after {result.steps} steps: {result.status}")
        return episode_returns(rlkit.load(result.run_dir), task, evaluation_seed)


def episode_returns(policy: Any, task: LearningTask, seed: int) -> list[float]:
    """Returns of episodes that begin as those of stable-baselines3's `evaluate_policy`: seeded once, then resets."""
    env = gym.make(task.env)
    obs, _ = env.reset(seed=seed)
    returns, total = [], 0.0
    while len(returns) < task.eval_episodes:
        obs, reward, terminated, truncated, _ = env.step(policy.predict(obs))
        total += float(reward)
        if terminated or truncated:
            returns.append(total)
            total = 0.0
            policy.reset()
            obs, _ = env.reset()
    env.close()
    return returns


LIBRARIES = {"rlkit": rlkit_returns, "sb3": sb3_returns}


def seed_list(text: str) -> list[int]:
    """`0-9` or `0,3,5` as a list of seeds."""
    first, dash, last = text.partition("-")
    return list(range(int(first), int(last) + 1)) if dash else [int(part) for part in text.split(",")]


def run(library: str, task_name: str, seeds: list[int]) -> None:
    """Train every seed that has no result file yet."""
    task = TASKS[task_name]
    for seed in seeds:
        target = RESULTS / task_name / f"{library}-s{seed}.json"
        if target.exists():
            continue
        start = time.perf_counter()
        returns = LIBRARIES[library](task, seed, evaluation_seed(seed))
        packages = ["torch", "numpy", "gymnasium", "stable-baselines3", *task.packages]
        record = {
            "task": task_name, "library": library, "seed": seed, "env": task.env, "total_steps": task.total_steps,
            "settings": task.settings, "mean_return": sum(returns) / len(returns), "returns": returns,
            "seconds": round(time.perf_counter() - start, 1), "threads": 1, "machine": platform.platform(),
            "versions": {name: version(name) for name in packages}, "command": " ".join(["python", *sys.argv]),
        }  # fmt: skip
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".partial")
        partial.write_text(json.dumps(record))
        partial.rename(target)
        print(f"{task_name} {library} seed {seed}: {record['mean_return']:.1f} in {record['seconds']} s", flush=True)


def interval(samples: Floats) -> tuple[float, float]:
    """95 % percentile interval of bootstrap samples."""
    low, high = np.percentile(samples, [2.5, 97.5])
    return float(low), float(high)


def bootstrapped_iqm(scores: Sequence[float], rng: np.random.Generator) -> Floats:
    """10,000 resamples over seeds of the interquartile mean (Agarwal et al. 2021)."""
    draws = rng.integers(len(scores), size=(10_000, len(scores)))
    return trim_mean(np.asarray(scores)[draws], 0.25, axis=1)


def scores_of(task: str) -> dict[str, dict[int, float]]:
    """For each library the scores there are, by seed."""
    records = [json.loads(path.read_text()) for path in sorted((RESULTS / task).glob("*.json"))]
    return {
        library: {record["seed"]: record["mean_return"] for record in records if record["library"] == library}
        for library in LIBRARIES
    }


def table() -> str:
    """A row for each task and library, and the interval of rlkit minus its peer on the seeds both have."""
    heads = (
        "task",
        "library",
        "seeds",
        "IQM of mean returns [95 %]",
        "worst seed",
        "rlkit - peer, IQM [95 %]",
        "published",
    )
    rows = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for name, task in TASKS.items():
        scores = scores_of(name)
        for library, by_seed in scores.items():
            if not by_seed:
                continue
            values = [by_seed[seed] for seed in sorted(by_seed)]
            low, high = interval(bootstrapped_iqm(values, np.random.default_rng(0)))
            digits = 3 if max(map(abs, values)) <= 2 else 1
            spread = f"{trim_mean(values, 0.25):.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
            against = "" if library == "rlkit" else difference(scores["rlkit"], by_seed)
            if task.beside:
                peer, peer_library = task.beside
                against = f"{difference(by_seed, scores_of(peer)[peer_library])} to {peer_library} on {peer}"
            cells = name, library, len(values), spread, f"{min(values):.{digits}f}", against, published(name)
            rows.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(rows) + "\n"


def difference(ours: Mapping[int, float], theirs: Mapping[int, float]) -> str:
    """IQM of rlkit minus IQM of the peer over the common seeds, both resampled independently."""
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return "no common seeds"
    rng = np.random.default_rng(0)
    own, other = [ours[seed] for seed in seeds], [theirs[seed] for seed in seeds]
    low, high = interval(bootstrapped_iqm(own, rng) - bootstrapped_iqm(other, rng))
    digits = 3 if max(map(abs, own + other)) <= 2 else 1
    return f"{trim_mean(own, 0.25) - trim_mean(other, 0.25):+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    runner = commands.add_parser("run", help="train the seeds that have no result yet")
    runner.add_argument("--library", choices=sorted(LIBRARIES), required=True)
    runner.add_argument("--task", choices=sorted(TASKS), required=True)
    runner.add_argument("--seeds", type=seed_list, required=True)
    commands.add_parser("table", help="print the table and write it beside the results")
    arguments = parser.parse_args()
    if arguments.command == "table":
        text = table()
        (RESULTS / "table.md").write_text(text)
        print(text)
        return
    run(arguments.library, arguments.task, arguments.seeds)


if __name__ == "__main__":
    main()
