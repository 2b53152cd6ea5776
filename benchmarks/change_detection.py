"""When to declare a change: trained agents beside the best rule there is, and a tuned CUSUM.

`rlkit/ChangeDetection-v0` with its default arguments: samples of N(0, 1) become N(1, 1) at a geometric time (0.05 a
sample), a false alarm costs 1, each wait after the change 0.05. The least expected cost is known from dynamic
programming (`rlkit.ops.change_detection`). One JSON per finished run under `benchmarks/results/change_detection/`, so
the table adds up over several sittings:

    python benchmarks/change_detection.py run --seeds 0-2
    python benchmarks/change_detection.py run --methods ppo --seeds 3-9
    python benchmarks/change_detection.py table

Agents are trained by `rlkit.train` on the posterior, which is all that a policy needs, and evaluated greedily. All
methods of a seed are evaluated on the same episodes, and what a method costs more than the optimal rule is measured on
them in pairs, so that 20,000 episodes resolve half a percent. CUSUM's threshold is tuned on other streams.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"  # before numpy loads its BLAS

import numpy as np
import numpy.typing as npt
from agents_learning import seed_list

Floats: TypeAlias = npt.NDArray[np.float64]
Rule: TypeAlias = Callable[[Any, Floats], tuple[Any, Floats]]
"""Observations [N, O] and what is remembered of each stream [N] -> actions [N], and what to remember."""

RESULTS = Path(__file__).parent / "results" / "change_detection"
ENV = "rlkit/ChangeDetection-v0"
HAZARD, SHIFT, FALSE_ALARM_COST, DELAY_COST = 0.05, 1.0, 1.0, 0.05
GATE = 0.05
"""Part of the least cost that a trained agent may cost more."""
AT_ONCE = 1000  # environments played side by side


class Training(NamedTuple):
    """Arguments of `rlkit.train`; found on seeds from 100 on."""

    agent: str
    total_steps: int
    num_envs: int
    wrap: tuple[str, ...]
    settings: dict[str, Any]


AGENTS = {
    "monte-carlo": Training(
        "monte-carlo", 400_000, 1, ("discretize:bins=20",),
        # Few random actions, because an ε-soft policy is best with a lower threshold. Values begin at 0, above all
        # returns, and small steps keep them there for long, so that waiting is tried everywhere.
        {"gamma": 1.0, "epsilon": 0.02, "learning_rate": 0.005, "learning_rate_schedule": "linear"},
    ),
    "mc-off-policy": Training(
        "mc-off-policy", 200_000, 1, ("discretize:bins=20",), {"gamma": 1.0, "epsilon": 0.1},
    ),
    "linear-sarsa-lambda": Training(
        "linear-sarsa-lambda", 300_000, 1, (),
        {"gamma": 1.0, "epsilon": 0.1, "epsilon_schedule": "linear", "final_epsilon": 0.01, "epsilon_steps": 150_000,
         "features": "tiles", "num_tilings": 8, "tiles": (8,), "lam": 0.9, "learning_rate": 0.05,
         "learning_rate_schedule": "linear"},
    ),
    "ppo": Training(
        "ppo", 100_000, 16, (),
        {"gamma": 1.0, "gae_lambda": 0.95, "n_steps": 128, "batch_size": 256, "epochs": 10, "learning_rate": 1e-3,
         "learning_rate_schedule": "linear", "hidden": (32, 32)},
    ),
}  # fmt: skip
METHODS = ("shiryaev", "cusum", *AGENTS)


def run(methods: Sequence[str], seeds: Sequence[int], episodes: int) -> None:
    """Train and evaluate what has no result yet."""
    for seed in seeds:
        missing = [method for method in methods if not target_of(method, seed).exists()]
        if not missing:
            continue
        best = evaluated(shiryaev_rule(), "posterior", (), seed, episodes)
        for method in missing:
            start = time.perf_counter()
            found, facts = (best, {}) if method == "shiryaev" else measured(method, seed, episodes)
            store(method, seed, scores(found, best), {**facts, "seconds": round(time.perf_counter() - start, 1)})


def target_of(method: str, seed: int) -> Path:
    """Where a result lies."""
    return RESULTS / f"{method}-s{seed}.json"


def measured(method: str, seed: int, episodes: int) -> tuple[dict[str, Floats], dict[str, Any]]:
    """What each evaluation episode of a method was like, and facts of the method."""
    if method == "cusum":
        threshold = tuned_cusum_threshold(seed)
        return evaluated(cusum_rule(threshold), "sample", (), seed, episodes), {"threshold": threshold}
    import rlkit

    training = AGENTS[method]
    with tempfile.TemporaryDirectory() as folder:
        result = rlkit.train(
            training.agent, ENV, total_steps=training.total_steps, run_dir=Path(folder) / "run", preset="none",
            seed=seed, num_envs=training.num_envs, wrap=training.wrap, agent_config=training.settings, eval_every=0,
            checkpoint_every=training.total_steps, device="cpu",
        )  # fmt: skip
        if result.steps < training.total_steps:  # a signal ends a run early, with a checkpoint
            raise SystemExit(f"{method} seed {seed} ended after {result.steps} steps: {result.status}")
        policy = rlkit.load(result.run_dir)
        found = evaluated(lambda obs, memory: (policy.predict(obs), memory), "posterior", training.wrap, seed, episodes)
    facts = {"total_steps": training.total_steps, "num_envs": training.num_envs, "wrap": training.wrap,
             "settings": training.settings, "training_seconds": round(result.seconds, 1)}  # fmt: skip
    return found, facts


# The rules that know the laws.


def stopping() -> Any:
    """The optimal rule and its cost."""
    from rlkit.ops.change_detection import gaussian_cells, optimal_stopping

    return optimal_stopping(gaussian_cells(np.array([0.0, SHIFT]), 1.0), HAZARD, FALSE_ALARM_COST, DELAY_COST)


def shiryaev_rule() -> Rule:
    """Declare when the posterior reaches the optimal threshold."""
    threshold = stopping().threshold
    return lambda obs, memory: ((obs[:, 0] >= threshold).astype(np.int64), memory)


def cusum_rule(threshold: float) -> Rule:
    """Declare when Page's statistic of the samples reaches the threshold."""

    def act(obs: Any, memory: Floats) -> tuple[Any, Floats]:
        statistic = np.maximum(0.0, memory + SHIFT * (obs[:, 0] - SHIFT / 2))
        return (statistic >= threshold).astype(np.int64), statistic

    return act


def tuned_cusum_threshold(seed: int, streams: int = 20_000, length: int = 250) -> float:
    """The best of a grid of thresholds on streams of their own."""
    from rlkit.ops.change_detection import alarm_times, cusum, stopping_costs

    rng = np.random.default_rng([seed, 1])
    change = rng.geometric(HAZARD, streams) - 1
    x = rng.standard_normal((streams, length)) + SHIFT * (np.arange(length) >= change[:, None])
    statistic = cusum(SHIFT * (x - SHIFT / 2))
    thresholds = np.arange(0.5, 5.0, 0.05)
    costs = [
        stopping_costs(alarm_times(statistic, threshold), change, FALSE_ALARM_COST, DELAY_COST).mean()
        for threshold in thresholds
    ]
    return round(float(thresholds[np.argmin(costs)]), 2)


# Evaluation.


def evaluated(rule: Rule, observation: str, wrap: Sequence[str], seed: int, episodes: int) -> dict[str, Floats]:
    """Cost, false alarm and delay of each episode, [episodes] each; episode i of a seed is the same for every rule."""
    from rlkit.envs.make import make_single
    from rlkit.envs.wrapper_names import resolve_wrapper

    wrappers = [resolve_wrapper(name) for name in wrap]
    arguments = {"observation": observation}
    envs = [make_single(ENV, wrappers, arguments) for _ in range(min(AT_ONCE, episodes))]
    found = {name: np.zeros(episodes) for name in ("cost", "false_alarm", "delay")}
    first_seed = 1_000_000_000 + seed * 1_000_000
    for begin in range(0, episodes, len(envs)):
        playing = list(range(begin, min(begin + len(envs), episodes)))
        obs = [envs[episode - begin].reset(seed=first_seed + episode)[0] for episode in playing]
        memory = np.zeros(len(playing))
        while playing:
            actions, memory = rule(np.stack(obs), memory)
            going_on, obs = [], []
            for place, episode in enumerate(playing):
                seen, reward, terminated, truncated, info = envs[episode - begin].step(actions[place])
                found["cost"][episode] -= float(reward)
                if terminated or truncated:
                    found["false_alarm"][episode], found["delay"][episode] = info["false_alarm"], info["delay"]
                else:
                    going_on.append(place)
                    obs.append(seen)
            playing, memory = [playing[place] for place in going_on], memory[going_on]
    return found


def scores(found: dict[str, Floats], best: dict[str, Floats]) -> dict[str, float]:
    """Of a method's episodes beside those of the optimal rule; errors are standard errors."""
    optimal, count = stopping().start_cost, len(found["cost"])
    more = (found["cost"] - best["cost"]) / optimal
    detected = found["false_alarm"] == 0.0
    return {
        "episodes": count,
        "optimal_cost": optimal,
        "cost": float(found["cost"].mean()),
        "cost_error": float(found["cost"].std() / count**0.5),
        "excess": float(more.mean()),
        "excess_error": float(more.std() / count**0.5),
        "false_alarms": float(1.0 - detected.mean()),
        "mean_delay": float(found["delay"][detected].mean()) if detected.any() else 0.0,
    }


def store(method: str, seed: int, found: dict[str, float], facts: dict[str, Any]) -> None:
    """Keep one result."""
    record = {
        "method": method, "seed": seed, "env": ENV, **found, **facts, "threads": 1, "machine": platform.platform(),
        "versions": {name: version(name) for name in ("torch", "numpy", "gymnasium")},
        "command": shlex.join(["python", *sys.argv]),
    }  # fmt: skip
    target = target_of(method, seed)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    partial.write_text(json.dumps(record))
    partial.rename(target)
    print(
        f"{method} seed {seed}: cost {found['cost']:.4f}, {found['excess']:+.2%} ± {found['excess_error']:.2%} of the "
        f"optimum, in {facts['seconds']} s",
        flush=True,
    )


def table() -> str:
    """A row for each method: means over seeds, and the largest excess of a seed against the gate."""
    heads = ("method", "seeds", "steps", "cost", "above the optimum [least, greatest seed]", "false alarms", "delay",
             f"within {GATE:.0%}")  # fmt: skip
    rows = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    records = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    for method in METHODS:
        found = [record for record in records if record["method"] == method]
        if not found:
            continue
        excess = [record["excess"] for record in found]
        means = {name: np.mean([record[name] for record in found]) for name in ("cost", "false_alarms", "mean_delay")}
        steps = f"{found[0]['total_steps']:,}" if "total_steps" in found[0] else ""
        cells = (
            method, len(found), steps, f"{means['cost']:.4f}",
            f"{np.mean(excess):+.2%} [{min(excess):+.2%}, {max(excess):+.2%}]", f"{means['false_alarms']:.3f}",
            f"{means['mean_delay']:.2f}", "yes" if max(excess) <= GATE else "no",
        )  # fmt: skip
        rows.append(f"| {' | '.join(map(str, cells))} |")
    optimum = f"Least expected cost, by dynamic programming: {records[0]['optimal_cost']:.4f}.\n\n" if records else ""
    return optimum + "\n".join(rows) + "\n"


def main() -> None:
    """Parse and go."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="train and evaluate what has no result yet")
    running.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    running.add_argument("--seeds", type=seed_list, default=[0, 1, 2])
    running.add_argument("--episodes", type=int, default=20_000)
    commands.add_parser("table", help="print the table and write it beside the results")
    arguments = parser.parse_args()
    if arguments.command == "run":
        run(arguments.methods, arguments.seeds, arguments.episodes)
    else:
        text = table()
        print(text)
        (RESULTS / "table.md").write_text(text)


if __name__ == "__main__":
    main()
