"""`rlkit evaluate`: returns of a run's policy, with intervals."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from rlkit.api import load
from rlkit.errors import UsageError


@dataclass(frozen=True)
class EvaluateOptions:
    """Evaluate the policy of a run on its own environment."""

    run: Annotated[Path, tyro.conf.Positional]
    """the run's folder"""
    episodes: int = 100
    """evaluation episodes"""
    seed: int | None = None
    """seed of the first episode; by default the run's own evaluation seed"""
    stochastic: bool = False
    """explore as in training"""
    checkpoint: Literal["latest", "best"] = "latest"
    """which policy of the run"""
    env: str | None = None
    """another environment than the run's"""
    json: bool = False
    """print one JSON object"""


def run(arguments: list[str]) -> int:
    """Evaluate and print."""
    options = tyro.cli(EvaluateOptions, args=arguments, prog="rlkit evaluate")
    if options.episodes < 1:
        raise UsageError(f"--episodes is {options.episodes}, it must be at least 1")
    policy = load(options.run, env=options.env, checkpoint=options.checkpoint)
    result = policy.evaluate(episodes=options.episodes, seed=options.seed, explore=options.stochastic)
    summary = result.summary() | {"step": policy.step}
    if options.json:
        print(json.dumps(summary))
        return 0
    low, high = summary["ci95"]  # type: ignore[misc]
    print(f"{options.run}, {options.checkpoint} policy (env step {policy.step:,})")
    print(f"  mean return          {summary['mean']:.2f} ± {summary['std']:.2f} (standard deviation)")
    print(f"  interquartile mean   {summary['iqm']:.2f}  95 % interval [{low:.2f}, {high:.2f}]")
    print(f"  episodes             {summary['episodes']}, mean length {summary['mean_length']:.1f}, seed {result.seed}")
    return 0
