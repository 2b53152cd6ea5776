"""Many seeds in one call: the same compiled agent from scratch for every seed, on as many cores as asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rlkit.errors import UnsupportedTaskError
from rlkit.mdp import Floats64
from rlkit.tabular.engine import CompiledLoop
from rlkit.types import Task


@dataclass(frozen=True)
class SeedRuns:
    """What the runs of K seeds gave; E episodes each.

    `returns`, `lengths`, `errors` float64 [K, E]: of every episode, and the error of the values after it (zero without
    a reference); NaN where a run was over before. `agents`: the K trained agents.
    """

    returns: Floats64
    lengths: Floats64
    errors: Floats64
    agents: tuple[CompiledLoop, ...]


def run_seeds(
    agent: Callable[[Any, Task], Any],
    config: Any,
    task: Task,
    seeds: Sequence[int],
    *,
    episodes: int,
    max_steps: int = 1_000_000_000,
    reference: Floats64 | None = None,
    threads: int = 1,
) -> SeedRuns:
    """Train `agent(config, task)` for `episodes` episodes, at most `max_steps` env steps, with every seed.

    The whole run of a seed is one compiled call, which holds no interpreter lock, so `threads` of them run at once.
    `reference` [S] are the true values, NaN for states that do not count.

    Raises:
        UnsupportedTaskError: the environment tells no dynamics that the compiled engine could step.
    """

    def run_one(seed: int) -> tuple[Floats64, CompiledLoop]:
        trained = agent(config, replace(task, seed=seed))
        if not isinstance(trained, CompiledLoop):
            raise UnsupportedTaskError("many seeds in one call need an environment whose transitions are known")
        outcomes = np.full((episodes, 3), np.nan)
        finished = trained.advance(max_steps, episodes, reference)
        outcomes[: len(finished)] = finished
        return outcomes, trained

    with ThreadPoolExecutor(threads) as pool:
        results = list(pool.map(run_one, seeds))
    outcomes = np.array([result[0] for result in results])
    return SeedRuns(outcomes[:, :, 0], outcomes[:, :, 1], outcomes[:, :, 2], tuple(result[1] for result in results))
