"""`rlkit export-dataset`: episodes of a run's policy as a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from rlkit.api import export_dataset
from rlkit.errors import UsageError


@dataclass(frozen=True)
class ExportOptions:
    """Play the policy of a run on its own environment and write the episodes into a dataset."""

    run: Annotated[Path, tyro.conf.Positional]
    """the run's folder"""
    episodes: int = 100
    """episodes to play"""
    out: Path | None = None
    """the dataset's folder, new or empty; by default dataset in the run's folder"""
    append: bool = False
    """add to the dataset that is there"""
    seed: int | None = None
    """seed of the first episode; by default the run's own evaluation seed"""
    stochastic: bool = False
    """explore as in training"""
    checkpoint: Literal["latest", "best"] = "latest"
    """which policy of the run"""


def run(arguments: list[str]) -> int:
    """Write, and say where and what."""
    options = tyro.cli(ExportOptions, args=arguments, prog="rlkit export-dataset")
    if options.episodes < 1:
        raise UsageError(f"--episodes is {options.episodes}, it must be at least 1")
    dataset = export_dataset(
        options.run, options.out, episodes=options.episodes, append=options.append, seed=options.seed,
        explore=options.stochastic, checkpoint=options.checkpoint,
    )  # fmt: skip
    new = dataset.returns[-options.episodes :]
    print(f"{dataset.folder}: {len(new)} episodes of mean return {new.mean():.2f}")
    if len(dataset) > len(new):
        print(f"  with those before {len(dataset)} episodes of mean return {dataset.returns.mean():.2f}")
    print(f"  {dataset.lengths.sum():,} steps, best return {dataset.returns.max():.2f}")
    return 0
