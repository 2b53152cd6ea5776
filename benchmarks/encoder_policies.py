"""What an encoder learned without rewards does for DQN from pixels, beside scratch and augmentation alone.

A small MiniGrid room, seen whole, in grey, eight pixels a cell, two frames. The same steps for every way:

    scratch      the Nature network, learned by the values alone
    shifted      the same on randomly shifted pictures: the control that every claim needs
    auxiliary    the encoder learns by CURL besides (`--aux curl`; ATC's successive pictures exclude 3-step returns)
    frozen       features of an encoder pretrained with ATC on 5,000 pictures of random actions (`--encoder RUN`)
    finetuned    the agent's network begins with that encoder (`--encoder RUN --finetune`)

One JSON per finished run under `benchmarks/results/encoder_policies/`; no run's time counts pretraining:

    python benchmarks/encoder_policies.py run --task empty --seeds 0-5
    python benchmarks/encoder_policies.py table
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"  # before numpy loads its BLAS

from agents_learning import bootstrapped_iqm, evaluation_seed, interval, seed_list
from pixels import PIXELS, SETTINGS, circumstances, points

RESULTS = Path(__file__).parent / "results" / "encoder_policies"
EPISODES = 100
PICTURES, PRETRAINING = 5_000, 1_000  # pictures and updates of the encoder
METHOD, AUXILIARY = "atc", "curl"
ENV_ARGS = ("render_mode=rgb_array", "tile_size=8")


class PolicyTask(NamedTuple):
    """A MiniGrid environment and a budget of env steps."""

    env: str
    total_steps: int


# Few enough that ways differ: within 6,000 steps all of them solve it.
TASKS = {"empty": PolicyTask("MiniGrid-Empty-Random-6x6-v0", 2_500)}
WAYS = ("scratch", "shifted", "auxiliary", "frozen", "finetuned")


def target_of(task: str, way: str, seed: int) -> Path:
    """Where a result lies."""
    return RESULTS / task / f"{way}-s{seed}.json"


def run(name: str, ways: Sequence[str], seeds: Sequence[int]) -> None:
    """Train what has no result yet."""
    import rlkit

    task = TASKS[name]
    for seed in seeds:
        missing = [way for way in ways if not target_of(name, way, seed).exists()]
        with tempfile.TemporaryDirectory() as folder:
            encoder = Path(folder) / "encoder"
            if {"frozen", "finetuned"} & set(missing):
                rlkit.pretrain(
                    METHOD, run_dir=encoder, env=task.env, env_args=ENV_ARGS, wrap=PIXELS, frames=PICTURES,
                    updates=PRETRAINING, seed=1000 + seed, method_config={"batch_size": 64}, device="cpu", eval_every=0,
                )  # fmt: skip
            for way in missing:
                store(name, way, seed, trained(task, way, seed, encoder, Path(folder) / way))


def trained(task: PolicyTask, way: str, seed: int, encoder: Path, folder: Path) -> dict[str, Any]:
    """Train and evaluate once."""
    import rlkit

    options: dict[str, Any] = {}
    settings: dict[str, Any] = {**SETTINGS, "hidden": (128,)}
    if way in ("frozen", "finetuned"):
        options = {"encoder": str(encoder), "finetune": way == "finetuned"}
    elif way == "auxiliary":
        options = {"aux": AUXILIARY}
        settings["encoder"] = "nature"
    else:
        settings |= {"encoder": "nature", "shift": 4 if way == "shifted" else 0}
    result = rlkit.train(
        "dqn", task.env, total_steps=task.total_steps, run_dir=folder, preset="none", seed=seed, agent_config=settings,
        eval_every=0, checkpoint_every=task.total_steps, device="cpu", env_args=ENV_ARGS, wrap=PIXELS, **options,
    )  # fmt: skip
    if result.status != "done":
        sys.exit(f"interrupted by {result.status}: nothing is kept of this run")
    evaluation = rlkit.evaluate(result.run_dir, episodes=EPISODES, seed=evaluation_seed(seed))
    return {
        "settings": settings, "options": {key: value for key, value in options.items() if key != "encoder"},
        "mean_return": evaluation.mean, "training_seconds": round(result.seconds, 1),
        "curve": points(result.run_dir, "rollout/ep_rew_mean"),
    }  # fmt: skip


def store(name: str, way: str, seed: int, found: dict[str, Any]) -> None:
    """Keep one result."""
    task = TASKS[name]
    record = {"task": name, "way": way, "seed": seed, **task._asdict(), **found, **circumstances()}
    target = target_of(name, way, seed)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    partial.write_text(json.dumps(record) + "\n")
    partial.rename(target)
    print(f"{name} {way} seed {seed}: {found['mean_return']:.3f}, {found['training_seconds']} s", flush=True)


def table() -> str:
    """A row for each task and way: return without exploration, and of the last training episodes."""
    import numpy as np

    heads = (
        "task",
        "way",
        "env steps",
        "by seed",
        "mean return [95 % of the IQM]",
        "last 100 training episodes",
        "seconds",
    )
    rows = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for name, task in TASKS.items():
        for way in WAYS:
            found = [json.loads(path.read_text()) for path in sorted((RESULTS / name).glob(f"{way}-s*.json"))]
            if not found:
                continue
            scores = [record["mean_return"] for record in found]
            resampled = bootstrapped_iqm(scores, np.random.default_rng(0))
            low, high = interval(resampled)
            cells = (
                task.env, way, f"{task.total_steps:,}", ", ".join(f"{score:.3f}" for score in scores),
                f"{np.mean(scores):.3f} [{low:.3f}, {high:.3f}]",
                f"{np.mean([record['curve'][-1][1] for record in found]):.3f}",
                f"{np.mean([record['training_seconds'] for record in found]):.0f}",
            )  # fmt: skip
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def main() -> None:
    """Parse and go."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="train what has no result yet")
    running.add_argument("--task", choices=TASKS, required=True)
    running.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    running.add_argument("--seeds", type=seed_list, default=[0])
    commands.add_parser("table", help="print the table and write it beside the results")
    arguments = parser.parse_args()
    if arguments.command == "run":
        run(arguments.task, arguments.ways, arguments.seeds)
    else:
        text = table()
        print(text)
        (RESULTS / "table.md").write_text(text)


if __name__ == "__main__":
    main()
