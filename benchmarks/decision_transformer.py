"""What the decision transformer gets for what it is asked, beside behaviour cloning, from mixed CartPole episodes.

One JSON per finished run under `benchmarks/results/decision_transformer/`, so the table adds up over several sittings:

    python benchmarks/decision_transformer.py run --seeds 0-2
    python benchmarks/decision_transformer.py table

For each seed the script makes a dataset with rlkit itself: random episodes, and episodes of PPO after few and after
many steps, exploring, about as many steps of each. From it learn the decision transformer and behaviour cloning, which
is the same network with the return's tokens set to zero. Each return is asked for in as many fresh episodes, which
begin alike for all; the most probable action is taken.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"  # before numpy loads its BLAS

import numpy as np
from agents_learning import evaluation_seed, seed_list

RESULTS = Path(__file__).parent / "results" / "decision_transformer"
ENV = "CartPole-v1"
# agent, env steps of its training, episodes for the dataset: about 10,000 steps of each
PLAYERS = (("random", 1, 450), ("ppo", 8_000, 100), ("ppo", 100_000, 22))
ASKED = (25.0, 50.0, 100.0, 200.0, 300.0, 500.0)
EPISODES = 50
UPDATES = 1_500
# smaller than the paper's network and with a larger step, so that a seed takes minutes on a processor
SETTINGS: dict[str, Any] = {"width": 64, "layers": 2, "context": 10, "learning_rate": 1e-3, "warmup_updates": 100}
METHODS = {"decision transformer": {"use_returns": True}, "behaviour cloning": {"use_returns": False}}


def make_dataset(folder: Path, seed: int) -> Path:
    """The mixed episodes of one seed."""
    import rlkit

    for place, (agent, steps, episodes) in enumerate(PLAYERS):
        run = rlkit.train(agent, ENV, total_steps=steps, seed=seed, run_dir=folder / f"run{place}", eval_every=0)
        rlkit.export_dataset(
            run.run_dir, folder / "dataset", episodes=episodes, append=True, seed=1000 * seed + place, explore=True
        )
    return folder / "dataset"


def returns_when_asked(agent: Any, asked: float, seed: int) -> list[float]:
    """Returns of the first episode of each of `EPISODES` environments."""
    from rlkit.envs.make import make

    envs, rng = make(ENV, EPISODES), np.random.default_rng(seed)
    agent.target_return = asked
    obs, _ = envs.reset(evaluation_seed(seed))
    carry = agent.initial_carry(EPISODES)
    returns, is_over = np.zeros(EPISODES), np.zeros(EPISODES, np.bool_)
    while not is_over.all():
        action, carry, _ = agent.act(obs, carry, explore=False, rng=rng)
        step = envs.step(action)
        returns += np.where(is_over, 0.0, step.env_reward)
        is_over |= step.ended
        obs, carry = step.obs, agent.reset_carry(agent.rewarded(carry, step.env_reward), step.ended)
    envs.close()
    return [float(value) for value in returns]


def run(seeds: Sequence[int]) -> None:
    """Train and measure what has no result file yet."""
    import rlkit
    from rlkit.data.datasets import EpisodeDataset

    for seed in seeds:
        missing = {method: target(method, seed) for method in METHODS if not target(method, seed).exists()}
        if not missing:
            continue
        with tempfile.TemporaryDirectory() as work:
            dataset = EpisodeDataset(make_dataset(Path(work), seed))
            for method, file in missing.items():
                start, settings = time.process_time(), SETTINGS | METHODS[method]
                config = settings | {"dataset": str(dataset.folder)}
                trained = rlkit.train(
                    "decision-transformer", ENV, total_steps=UPDATES, seed=seed, run_dir=Path(work) / method,
                    preset="none", eval_every=0, device="cpu", agent_config=config,
                )  # fmt: skip
                if trained.steps < UPDATES:  # a signal ends a run early, with a checkpoint
                    raise SystemExit(f"seed {seed} ended after {trained.steps} updates: {trained.status}")
                asked = {f"{value:g}": returns_when_asked(trained.agent, value, seed) for value in ASKED}
                record = {
                    "method": method, "seed": seed, "env": ENV, "updates": UPDATES, "settings": settings,
                    "players": PLAYERS, "dataset_returns": dataset.returns.tolist(), "returns_by_asked": asked,
                    "cpu_seconds": round(time.process_time() - start, 1), "threads": 1, "machine": platform.platform(),
                    "versions": {name: version(name) for name in ("torch", "numpy", "gymnasium")},
                    "command": " ".join(["python", *sys.argv]),
                }  # fmt: skip
                file.parent.mkdir(parents=True, exist_ok=True)
                partial = file.with_suffix(".partial")
                partial.write_text(json.dumps(record))
                partial.rename(file)
                means = ", ".join(f"{name}: {np.mean(values):.0f}" for name, values in asked.items())
                print(f"{method} seed {seed}: {means} in {record['cpu_seconds']} s", flush=True)


def target(method: str, seed: int) -> Path:
    """Where a result lies."""
    return RESULTS / f"{method.replace(' ', '-')}-s{seed}.json"


def table() -> str:
    """A row for each return asked for: mean over the seeds, with the least and the greatest seed."""
    records = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    seeds = sorted({record["seed"] for record in records})
    heads = ("asked for", *METHODS)
    rows = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for asked in (f"{value:g}" for value in ASKED):
        cells = [asked]
        for method in METHODS:
            means = [np.mean(record["returns_by_asked"][asked]) for record in records if record["method"] == method]
            cells.append(f"{np.mean(means):.0f} [{min(means):.0f}–{max(means):.0f}]" if means else "")
        rows.append(f"| {' | '.join(cells)} |")
    data = {record["seed"]: record["dataset_returns"] for record in records}
    mean, best = (np.mean([of(values) for values in data.values()]) for of in (np.mean, max))
    heading = f"{ENV}, {len(seeds)} seeds, mean return of {EPISODES} episodes [least–greatest seed]. "
    return f"{heading}Episodes of the dataset: mean return {mean:.0f}, best {best:.0f}.\n\n" + "\n".join(rows) + "\n"


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    runner = commands.add_parser("run", help="train the seeds that have no result yet")
    runner.add_argument("--seeds", type=seed_list, required=True)
    commands.add_parser("table", help="print the table and write it beside the results")
    arguments = parser.parse_args()
    if arguments.command == "run":
        run(arguments.seeds)
        return
    (RESULTS / "table.md").write_text(table())
    print(table())


if __name__ == "__main__":
    main()
