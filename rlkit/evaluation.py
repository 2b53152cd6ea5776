"""Evaluation: episodes of a fixed policy, and statistics that say how sure they are."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rlkit import seeding
from rlkit.envs.masks import first_mask
from rlkit.types import Actor, Array, Obs, RewardAware, Task, VectorEnv, VectorStep

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """Undiscounted returns and lengths (env steps) of the evaluation episodes."""

    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    seed: int
    cut: int = 0
    """episodes that were cut because they were too long"""

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(np.mean(self.returns))

    def summary(self) -> dict[str, float | int | list[float]]:
        """What `rlkit evaluate --json` prints, without the step."""
        return {
            "mean": self.mean,
            "std": float(np.std(self.returns)),
            "iqm": interquartile_mean(self.returns),
            "ci95": list(bootstrap_interval(self.returns)),
            "mean_length": float(np.mean(self.lengths)),
            "episodes": len(self.returns),
            "seed": self.seed,
        }


def evaluation_limit(limit: int | None, task: Task) -> int:
    """Steps after which an evaluation episode is cut: `limit`, or a default that suits the task.

    Finite MDPs often have no end, or a greedy policy that walks in circles long before it is good.
    """
    if limit is not None:
        return limit
    return 100_000 if task.model is None and task.dynamics is None else 1_000


class PlayedStep(NamedTuple):
    """One step of one environment, as a fixed policy played it."""

    obs: Obs  # [1, *O] what was acted on
    action: Array  # [1, *A]
    step: VectorStep
    is_last: bool  # of its episode
    was_cut: bool  # the last one only because the episode became too long


def played_steps(
    actor: Actor,
    envs: VectorEnv,
    *,
    seed: int,
    explore: bool = False,
    max_episode_steps: int = 100_000,
    seen: Callable[[Obs], Obs] = lambda obs: obs,
) -> Iterator[PlayedStep]:
    """Step after step of `actor` on the first row of `envs` (which must have one environment), without end.

    The actor is not changed; the environments are reset with `seed`, so the same call gives the same steps. Episodes
    are cut after `max_episode_steps`, so that a policy that walks in circles does not hang. `seen` is what the actor
    is shown of an observation.
    """
    rng = seeding.generator(seed, "evaluation")
    rewarded = actor.rewarded if isinstance(actor, RewardAware) else None
    obs, infos = envs.reset(seed)
    mask = first_mask(envs, obs, infos)
    carry = actor.initial_carry(1)
    length, episodes = 0, 0
    while True:
        action, carry, _ = actor.act(seen(obs), carry, explore=explore, rng=rng, action_mask=mask)
        step, acted_on = envs.step(action), obs
        obs, mask, length = step.obs, step.action_mask, length + 1
        if rewarded is not None:
            carry = rewarded(carry, step.env_reward)
        has_ended = bool(step.ended[0])
        was_cut = not has_ended and length >= max_episode_steps
        if was_cut:
            obs, infos = envs.reset(seed + episodes + 1)
            mask = first_mask(envs, obs, infos)
        if has_ended or was_cut:
            carry = actor.reset_carry(carry, np.ones(1, dtype=np.bool_))
            length, episodes = 0, episodes + 1
        yield PlayedStep(acted_on, action, step, has_ended or was_cut, was_cut)


def evaluate(
    actor: Actor,
    envs: VectorEnv,
    *,
    episodes: int,
    seed: int,
    explore: bool = False,
    max_episode_steps: int = 100_000,
) -> Evaluation:
    """Run `episodes` episodes of `played_steps`; those that were cut are counted."""
    returns: list[float] = []
    lengths: list[int] = []
    total, length, cut = 0.0, 0, 0
    steps = played_steps(actor, envs, seed=seed, explore=explore, max_episode_steps=max_episode_steps)
    while len(returns) < episodes:
        played = next(steps)
        total, length = total + float(played.step.env_reward[0]), length + 1
        if played.is_last:
            cut += played.was_cut
            returns.append(total)
            lengths.append(length)
            total, length = 0.0, 0
    return Evaluation(tuple(returns), tuple(lengths), seed, cut)


def warn_about_cuts(result: Evaluation) -> None:
    """Say that episodes were cut."""
    if result.cut:
        longest, count = max(result.lengths), len(result.lengths)
        _LOG.warning("%d of %d evaluation episodes were cut after %d steps", result.cut, count, longest)


def interquartile_mean(scores: Sequence[float]) -> float:
    """Mean of the middle half of the scores (Agarwal et al. 2021, section 4.3).

    >>> interquartile_mean([0.0, 1.0, 3.0, 100.0])
    2.0
    """
    from scipy.stats import trim_mean

    return float(trim_mean(np.asarray(scores, dtype=np.float64), 0.25))


def bootstrap_interval(scores: Sequence[float], *, resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the interquartile mean (Agarwal et al. 2021)."""
    from scipy.stats import trim_mean

    values = np.asarray(scores, dtype=np.float64)
    draws = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    low, high = np.percentile(trim_mean(values[draws], 0.25, axis=1), [2.5, 97.5])
    return float(low), float(high)
